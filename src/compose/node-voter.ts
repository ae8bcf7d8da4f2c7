import { join } from 'node:path'
import { DatabasePulse } from '../adapters/database-pulse.ts'
import type { DatabaseAddress, Databases } from '../adapters/databases.ts'
import { DurableFile } from '../adapters/durable-file.ts'
import type { LoadedNodeConfig } from '../config/load.ts'
import type { Position } from '../domain/position.ts'
import { Desk } from '../monitor/desk.ts'
import { timingsDefault } from '../monitor/machine-state.ts'
import { Voter } from '../monitor/voter.ts'
import { parseAcceptorState } from '../monitor/voter-messages.ts'

const pulseEveryMilliseconds = 250
const pulseTimeoutMilliseconds = 600

interface WatchedDatabase {
  readonly name: string
  readonly pulse: DatabasePulse
}

/** What makes a node a voter: a vote on its disk, a look at each database, and what it may have acknowledged. */
export class NodeVoter {
  readonly desk: Desk
  readonly #voter: Voter
  readonly #pulses: readonly WatchedDatabase[]
  readonly #timers = new Set<NodeJS.Timeout>()
  #stopped = false

  private constructor(voter: Voter, secret: string, pulses: readonly WatchedDatabase[]) {
    this.#voter = voter
    this.desk = new Desk(voter, secret)
    this.#pulses = pulses
  }

  /** Undefined where the configuration makes it none. @throws where its former vote can't be read */
  static async open(
    config: LoadedNodeConfig,
    parts: {
      databases: Databases
      acknowledged: () => Position | undefined
      /** It was made writable. */
      primaryOpened: (address: DatabaseAddress) => void
    },
  ): Promise<NodeVoter | undefined> {
    const { voter: given, voterSecret, dataDirectory, name } = config
    if (given === undefined || voterSecret === undefined) return undefined
    const voter = await Voter.open({
      name,
      store: new DurableFile(join(dataDirectory, 'vote.json'), parseAcceptorState),
      limits: timingsDefault,
      actingMilliseconds: timingsDefault.actingSilentMilliseconds,
      acknowledged: parts.acknowledged,
      now: () => performance.now(),
      onAccepted: ({ stage, primary, epoch }) => {
        if (stage === 'steady') parts.databases.expectEpoch(epoch)
        const opened = given.databases.find((database) => database.name === primary)
        // Voters hear of `steady` once it is writable.
        if (stage === 'steady' && opened !== undefined) parts.primaryOpened(opened.address)
      },
    })
    // Only what was opened counts: an opening that one voter took may never have been decided.
    const known = voter.state.accepted?.record
    if (known?.stage === 'steady') parts.databases.expectEpoch(known.epoch)
    const pulses = given.databases.map((database) => ({
      name: database.name,
      pulse: new DatabasePulse(parts.databases, database.address),
    }))
    return new NodeVoter(voter, voterSecret, pulses)
  }

  start(): void {
    for (const { name, pulse } of this.#pulses) void this.#watch(name, pulse)
  }

  stop(): void {
    this.#stopped = true
    for (const timer of this.#timers) clearTimeout(timer)
    for (const { pulse } of this.#pulses) pulse.close()
  }

  async #watch(name: string, pulse: DatabasePulse): Promise<void> {
    while (!this.#stopped) {
      const startedAt = performance.now()
      const result = await pulse.feel(pulseTimeoutMilliseconds)
      const at = performance.now()
      this.#voter.observe(name, { startedAt, at, result })
      await this.#sleep(Math.max(10, pulseEveryMilliseconds - (at - startedAt)))
    }
  }

  #sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#timers.delete(timer)
        resolve()
      }, milliseconds)
      this.#timers.add(timer)
    })
  }
}
