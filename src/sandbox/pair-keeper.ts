import { setTimeout as sleep } from 'node:timers/promises'
import { covers } from '../domain/position.ts'
import { describeError } from '../domain/errors.ts'
import { choosePrimary, divergence } from './choose-primary.ts'
import type { DatabaseLink } from './database-link.ts'
import { type DatabaseView, replicationUser } from './database-sql.ts'
import { MarkerCommits } from './marker-commits.ts'
import type { SandboxState } from './folder.ts'
import type { DatabasePlan } from './topology.ts'

export interface KeptDatabase extends DatabasePlan {
  readonly link: DatabaseLink
}

export interface PairKeeperOptions {
  readonly databases: readonly [KeptDatabase, KeptDatabase]
  readonly replicationPassword: string
  readonly recorded: () => SandboxState
  /** On disk before it returns: it happens before the database becomes writable. */
  readonly record: (state: SandboxState) => void
  readonly report: (message: string) => void
}

const tickMilliseconds = 500
const attachMilliseconds = 20_000
const drainSeconds = 20

/**
 * The smallest part of a monitor, for a pair on one machine: mode fixed `paired`. It looks at both databases and does what is
 * missing, so that it does not matter which of them restarted, when, and how often:
 *
 * 1. No database is writable (each one starts read-only): compare positions of both; the right one gets the standby attached,
 *    then semi-sync, then becomes writable. With one of them silent nothing becomes writable.
 * 2. The standby does not replicate: attach it again, unless it has what the primary lacks.
 * 3. The standby has reconnected: commit a marker, which releases writers whose acknowledgement was lost (races.md R32).
 */
export class PairKeeper {
  readonly #options: PairKeeperOptions
  readonly #markers: MarkerCommits
  readonly #told = new Map<string, string>()
  #stopping = new AbortController()
  #loop: Promise<void> | undefined
  #writable: string | undefined
  /** Reconnects of the standby that have had their marker. */
  #attachedSeen = new Set<string>()

  constructor(options: PairKeeperOptions) {
    this.#options = options
    this.#markers = new MarkerCommits(options.report)
  }

  /** The primary that is writable with its standby attached, as last seen. */
  get settledPrimary(): string | undefined {
    return this.#writable
  }

  start(): void {
    this.#loop = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#loop
    this.#markers.close()
  }

  async #run(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      await this.#tick().catch((error: unknown) => this.#tell('pair', describeError(error)))
      await sleep(tickMilliseconds, undefined, { signal: this.#stopping.signal }).catch(() => {})
    }
  }

  async #tick(): Promise<void> {
    const [a, b] = this.#options.databases
    const [viewA, viewB] = await Promise.all([look(a), look(b)])
    const { primary: recorded } = this.#options.recorded()
    const [primary, standby] = recorded === b.name ? [b, a] : [a, b]
    const [primaryView, standbyView] = recorded === b.name ? [viewB, viewA] : [viewA, viewB]
    if (primaryView?.readOnly !== false) {
      this.#writable = undefined
      // A server that restarted counts its connections from the beginning.
      this.#attachedSeen.clear()
    }
    if (primaryView === undefined || standbyView === undefined) return
    if (!standbyView.readOnly) {
      // Never while its partner may be: two writable databases would diverge.
      await standby.link.query(standby.link.sql.makeReadOnly)
      this.#options.report(`${standby.name} was writable without being the primary: it is read-only again`)
      return
    }
    if (primaryView.readOnly) return this.#choose(primary, standby)
    await this.#attach(primary, primaryView, standby, standbyView)
    await this.#mark(primary)
    this.#writable = primary.name
    this.#told.clear()
  }

  async #choose(recorded: KeptDatabase, other: KeptDatabase): Promise<void> {
    let recordedView = await recorded.link.view()
    let otherView = await other.link.view()
    if (!covers(recordedView.position, otherView.position) || !receivedIsCovered(recordedView, otherView)) {
      // The other one has more than the recorded primary. What it received but did not apply yet counts: replication must not
      // restart before that is drained, or it would be thrown away.
      await drain(other)
      recordedView = await recorded.link.view()
      otherView = await other.link.view()
    }
    const choice = choosePrimary(
      { name: recorded.name, position: recordedView.position },
      { name: other.name, position: otherView.position },
    )
    if (choice.kind === 'diverged') return this.#tell('pair', choice.message)
    if (choice.warning !== undefined) this.#options.report(choice.warning)
    const [primary, standby] = choice.primary === recorded.name ? [recorded, other] : [other, recorded]
    if (choice.primary !== recorded.name) this.#options.record({ primary: primary.name, epochDue: true })
    await this.#promote(primary, standby)
  }

  async #promote(primary: KeptDatabase, standby: KeptDatabase): Promise<void> {
    const { sql } = primary.link
    await primary.link.query(sql.leavePair)
    await this.#attach(primary, await primary.link.view(), standby, await standby.link.view())
    const deadline = performance.now() + attachMilliseconds
    while ((await primary.link.view()).semiSyncClients !== 1) {
      const { replica } = await standby.link.view()
      if (performance.now() > deadline) {
        throw new Error(`${standby.name} does not attach to ${primary.name}: ${replica?.error || 'no error is told'}`)
      }
      await sleep(50, undefined, { signal: this.#stopping.signal })
    }
    if (this.#options.recorded().epochDue === true) await this.#raiseEpoch(primary)
    // Semi-sync before writable: from the first write on, an OK means that the standby has it.
    await primary.link.query(`${sql.enableSemiSync}; ${sql.makeWritable}`)
    this.#options.report(`${primary.name} is the primary, ${standby.name} its standby`)
  }

  /** A new primary begins a new epoch. Raised twice if this process dies in between, which does no harm. */
  async #raiseEpoch(primary: KeptDatabase): Promise<void> {
    await primary.link.query(primary.link.sql.admitRoot)
    await primary.link.query("UPDATE memcached.mc_meta SET value = value + 1 WHERE name = 'epoch'")
    this.#options.record({ primary: primary.name })
  }

  /** Makes the standby replicate from the primary, if it does not. */
  async #attach(
    primary: KeptDatabase,
    primaryView: DatabaseView,
    standby: KeptDatabase,
    standbyView: DatabaseView,
  ): Promise<void> {
    const { replica } = standbyView
    if (replica?.primaryPort === primary.extraPort && replica.ioRunning && replica.applying) return
    if (replica !== undefined && replica.error !== '' && this.#told.has(standby.name)) {
      // Told already: a person is needed, or the cause passes by itself. Try at leisure.
      await sleep(4 * tickMilliseconds, undefined, { signal: this.#stopping.signal })
    }
    if (replica !== undefined && replica.error !== '') {
      this.#tell(standby.name, `${standby.name} does not replicate: ${replica.error}`)
    }
    if (!covers(primaryView.position, standbyView.position)) {
      // The views are not of one instant: a running primary has moved on, so ask it again before it is called a divergence.
      const again = await primary.link.view()
      if (!covers(again.position, standbyView.position)) {
        throw new Error(
          divergence(
            { name: primary.name, position: again.position },
            { name: standby.name, position: standbyView.position },
          ),
        )
      }
    }
    const { replicationPassword } = this.#options
    await standby.link.follow({ port: primary.extraPort, user: replicationUser, password: replicationPassword })
  }

  async #mark(primary: KeptDatabase): Promise<void> {
    const { attached, semiSyncClients } = await primary.link.view()
    if (semiSyncClients === 0) return
    const fresh = attached.map((id) => `${primary.name} ${id}`).filter((id) => !this.#attachedSeen.has(id))
    if (fresh.length === 0) return
    this.#attachedSeen = new Set(attached.map((id) => `${primary.name} ${id}`))
    await this.#markers.commit(primary.link)
  }

  /** Once, until it changes or all is well. */
  #tell(about: string, message: string): void {
    if (this.#stopping.signal.aborted || this.#told.get(about) === message) return
    this.#told.set(about, message)
    this.#options.report(message)
  }
}

/** Undefined where it does not answer. */
async function look(database: KeptDatabase): Promise<DatabaseView | undefined> {
  try {
    return await database.link.view()
  } catch {
    return undefined
  }
}

function receivedIsCovered(primary: DatabaseView, standby: DatabaseView): boolean {
  return standby.replica === undefined || covers(primary.position, standby.replica.received)
}

/** Applies what the standby received, and receives no more. */
async function drain(standby: KeptDatabase): Promise<void> {
  const { replica } = await standby.link.view()
  if (replica === undefined) return
  await standby.link.drain(drainSeconds)
}
