import type { Databases } from '../adapters/databases.ts'
import type { ItemKey, Key } from '../domain/key.ts'
import type { LogEntry, StaleEntry, StoreEntry } from '../domain/log-entry.ts'
import type { FoundValue, LogValues, WantedValue } from '../domain/log-values.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import { covers } from '../domain/position.ts'
import type { Logger } from '../runtime/logger.ts'
import { Pace } from '../runtime/pace.ts'
import { decimal64 } from './item-commands.ts'
import { followLog } from './log-stream.ts'

export interface LogSearchOptions {
  readonly databases: Databases
  /** That no other reader of the log has. */
  readonly serverId: number
  readonly logger: Logger
  readonly heartbeatMilliseconds: number
}

/** Of the time that a search takes: clients come first. */
const timeShareMax = 0.2
const quietMilliseconds = 3000
/** What may be found and kept in one search, in bytes of values. */
const foundBytesMax = 32 * 1024 * 1024

/** Finds values in the log, from its oldest entry on: for keys whose value no node has any more. */
export class LogSearch implements LogValues {
  readonly #options: LogSearchOptions

  constructor(options: LogSearchOptions) {
    this.#options = options
  }

  async find(wanted: readonly WantedValue[], signal: AbortSignal): Promise<ReadonlyMap<ItemKey, FoundValue>> {
    const { databases, serverId, logger, heartbeatMilliseconds } = this.#options
    const sought = new Sought(wanted)
    const { position: end } = await databases.findSource(undefined)
    const pace = new Pace({ perSecondMax: Number.MAX_SAFE_INTEGER, timeShareMax })
    const stop = new AbortController()
    const log = followLog({
      databases,
      serverId,
      start: 'oldest',
      signal: AbortSignal.any([signal, stop.signal]),
      logger,
      heartbeatMilliseconds,
      foreignStatements: 'skip',
      // A log may end without an entry of ours. What was received is fetched at once, so by then nothing waits to be.
      onHeartbeat: () => {
        if (!looking && performance.now() - lookedAt > quietMilliseconds) stop.abort()
      },
    })
    let looking = false
    let lookedAt = performance.now()
    for await (const chunks of log) {
      looking = true
      pace.begin()
      for (const { entries } of chunks) for (const entry of entries) sought.see(entry)
      if (chunks.some(({ last, after }) => last && covers(after, end))) break
      await pace.done(1, signal)
      looking = false
      lookedAt = performance.now()
    }
    signal.throwIfAborted()
    return sought.found
  }
}

/** A stale mark has a version of its own and no value: that is the one of the entry before it. */
class Sought {
  readonly found = new Map<ItemKey, FoundValue>()
  readonly #wanted = new Map<string, WantedValue>()
  readonly #last = new Map<string, StoreEntry>()
  #bytes = 0

  constructor(wanted: readonly WantedValue[]) {
    for (const one of wanted) this.#wanted.set(nameOf(one.namespaceId, one.key), one)
  }

  see(entry: LogEntry): void {
    if (entry.kind !== 'set' && entry.kind !== 'stale') return
    const name = nameOf(entry.namespaceId, entry.key)
    const wanted = this.#wanted.get(name)
    if (wanted === undefined) return
    const stored = entry.kind === 'set' ? entry : this.#last.get(name)
    if (entry.kind === 'set') this.#keep(name, entry)
    if (stored === undefined || versionOf(entry) !== wanted.version) return
    const { flags, value } = stored
    this.found.set(wanted.itemKey, {
      version: wanted.version,
      flags,
      value: Buffer.from(value),
      stale: entry !== stored,
    })
  }

  #keep(name: string, entry: StoreEntry): void {
    this.#bytes += entry.value.length - (this.#last.get(name)?.value.length ?? 0)
    if (this.#bytes > foundBytesMax) {
      this.#bytes -= entry.value.length
      this.#last.delete(name)
      return
    }
    // A copy: what the log gave is a view of a larger buffer.
    this.#last.set(name, { ...entry, value: Buffer.from(entry.value) })
  }
}

function nameOf(namespaceId: NamespaceId, key: Key): string {
  return `${namespaceId}:${key}`
}

function versionOf({ versionHigh, versionLow }: StoreEntry | StaleEntry): string {
  return decimal64(versionHigh, versionLow)
}
