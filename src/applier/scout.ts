import type { Databases } from '../adapters/databases.ts'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import type { LaneEntry, LogEntry } from '../domain/log-entry.ts'
import type { Position } from '../domain/position.ts'
import type { Logger } from '../runtime/logger.ts'
import type { FollowedPosition } from './followed-position.ts'
import { followLog } from './log-stream.ts'

/**
 * While this node's memcached is away or catching up, its clients' writes go on: an entry that is *seen* in the followed log is
 * acknowledged (DESIGN §5). The scout follows the log's present end beside the applier, and tells lanes and position alone. The node
 * serves again only once it has applied all that the scout has seen: the floor of every connection.
 */
export class Scout {
  readonly #given: {
    databases: Databases
    serverId: number
    log: FollowedPosition
    logger: Logger
    heartbeatMilliseconds: number
    /** What it has seen is not in the primary's log. */
    diverged: () => void
  }
  #abort: AbortController | undefined

  constructor(given: {
    databases: Databases
    serverId: number
    log: FollowedPosition
    logger: Logger
    heartbeatMilliseconds: number
    diverged: () => void
  }) {
    this.#given = given
  }

  /** Does nothing where it runs already. */
  start(): void {
    if (this.#abort !== undefined) return
    const abort = new AbortController()
    this.#abort = abort
    void this.#run(abort.signal)
  }

  stop(): void {
    this.#abort?.abort()
    this.#abort = undefined
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#follow(signal)
      } catch (error) {
        const reason = describeError(error)
        if (signal.aborted) return
        if (error instanceof WhiteholeError && error.code === 'log-diverged') this.#given.diverged()
        this.#given.logger.debug({ reason }, 'the log cannot be watched while memcached is away')
      }
      await pause(500, signal)
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { databases, serverId, log, logger, heartbeatMilliseconds } = this.#given
    const start: Position = log.position ?? (await databases.findSource(undefined)).position
    for await (const chunks of followLog({
      databases,
      serverId,
      start,
      signal,
      logger,
      heartbeatMilliseconds,
      foreignStatements: 'skip',
    })) {
      for (const { last, after, entries } of chunks) {
        // Stopped meanwhile: the applier speaks now, and it alone.
        if (signal.aborted) return
        if (last) log.reached(after, entries.filter(isLane))
      }
    }
  }
}

function isLane(entry: LogEntry): entry is LaneEntry {
  return entry.kind === 'lane'
}

/** Resolves after the time, or at once when aborted. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, milliseconds)
    signal.addEventListener('abort', done)
  })
}
