import type { Databases, DatabaseProbe } from '../adapters/databases.ts'
import type { WritableCatalogue } from '../domain/catalogue.ts'
import type { ContentsAccess, HeldContents } from '../domain/contents-access.ts'
import type { Contents, Refills, ServedContents, StaleItem } from '../domain/donation.ts'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import type { NodeState } from '../domain/node-state.ts'
import { covers, formatPosition, joinPositions, type Position } from '../domain/position.ts'
import type { Logger } from '../runtime/logger.ts'
import type { ContentsWatch } from '../adapters/near-cache.ts'
import { Apply, ApplyCounters } from './apply.ts'
import { DatabaseClock } from './database-clock.ts'
import { FollowedPosition } from './followed-position.ts'
import { replayLongerLog } from './longer-log.ts'
import { followLog, type LogChunk } from './log-stream.ts'
import { ContentsGone, lockMemcached, MemcachedSession } from './memcached-session.ts'
import { MemcachedRestart } from './memcached-restart.ts'
import { firstCondition, type NodeEvent, stateOf, stepNode } from './node-machine.ts'
import { describeRefill, rebuild, type RebuildProgress } from './rebuild.ts'
import { pause, Scout } from './scout.ts'

export interface ApplierOptions {
  readonly databases: Databases
  readonly catalogue: WritableCatalogue
  /** Where items come from that this memcached has lost. */
  readonly refills: Refills
  readonly memcached: { readonly host: string; readonly port: number; readonly restartCommand?: string | undefined }
  readonly dataDirectory: string
  /** Two ids that no other reader of the log has: the applier's and the scout's. */
  readonly serverIds: { readonly applier: number; readonly scout: number }
  readonly heartbeatMilliseconds: number
  readonly batchItemsMax: number
  readonly batchBytesMax: number
  readonly readAheadBytesMax: number
  readonly memcachedTimeoutMilliseconds: number
  /** Above it the node does not serve; undefined: whatever its lag. */
  readonly maxLagSeconds: number | undefined
  /** Told of all that is written to memcached. */
  readonly watch?: ContentsWatch | undefined
  /** Positions from before are of no use: the primary never had them. */
  readonly onRewind: () => void
  readonly logger: Logger
}

export interface LastRebuild {
  readonly seconds: number
  /** Of the log. */
  readonly entries: number
  /** Who gave its items, and how many. */
  readonly peer: string | undefined
  readonly keys: number
  /** From a log that did not reach back to its beginning: some keys may be lost. */
  readonly truncated: boolean
}

/**
 * Keeps this node's memcached a function of the log. Its states are those of node-machine.ts.
 *
 * It serves once it has applied everything up to the state item's "may contain", the source's end when it connected, the catalogue's
 * own position, what clients may have seen when it served last, and whatever the scout acknowledged meanwhile.
 */
export class Applier implements ServedContents, HeldContents {
  readonly log = new FollowedPosition()
  readonly counters = new ApplyCounters()
  readonly clock = new DatabaseClock()
  readonly #given: ApplierOptions
  readonly #scout: Scout
  readonly #restart: MemcachedRestart
  #condition = firstCondition
  #interruptedBy: string | undefined
  #applied: Position | undefined
  #servedHorizon: Position | undefined
  #source: DatabaseProbe | undefined
  #failure: string | undefined
  #lastAppliedSeconds = 0
  #targets: Position[] = []
  /** What the state item of this life of the connection said at first that memcached may contain; a MariaDB position forgets what came before. */
  #begunWith: readonly Position[] = []
  #rebuilds = 0
  #rewinds = 0
  /** Grows with each rewind, and never falls below that of the peer whose items were taken. */
  #epoch = 0
  #lock: { release(): void } | undefined
  #rebuild:
    | { readonly since: number; readonly entriesBefore: number; peer?: string; keys: number; truncated: boolean }
    | undefined
  #lastRebuild: LastRebuild | undefined
  #apply: { readonly apply: Apply; readonly session: MemcachedSession } | undefined
  #life = 0

  constructor(options: ApplierOptions) {
    this.#given = options
    const { databases, serverIds, logger, heartbeatMilliseconds } = options
    this.#restart = new MemcachedRestart(options.memcached.restartCommand, logger)
    this.#scout = new Scout({
      databases,
      serverId: serverIds.scout,
      log: this.log,
      logger,
      heartbeatMilliseconds,
      diverged: () => this.#forgetSeen(),
    })
  }

  get state(): NodeState {
    return stateOf(this.#condition)
  }

  /** Are reads of memcached to be trusted? */
  get serving(): boolean {
    return this.#condition.phase === 'serving'
  }

  get access(): ContentsAccess | undefined {
    return this.serving ? this.#apply?.apply : undefined
  }

  /** Why the node stopped for good, for people. */
  get failure(): string | undefined {
    return this.#failure
  }

  get source(): DatabaseProbe | undefined {
    return this.#source
  }

  get rebuilds(): number {
    return this.#rebuilds
  }

  /** Times that this node had applied what the primary never had. */
  get rewinds(): number {
    return this.#rewinds
  }

  /** The last finished one: from its begin to serving. */
  get lastRebuild(): LastRebuild | undefined {
    return this.#lastRebuild
  }

  get rebuildProgress(): RebuildProgress | undefined {
    const running = this.#rebuild
    if (this.#condition.phase !== 'rebuilding' || running === undefined) return undefined
    const refill = this.#given.refills.progress
    if (refill !== undefined) return describeRefill(refill)
    const seconds = (performance.now() - running.since) / 1000
    const keys = this.counters.entries - running.entriesBefore
    return {
      from: running.peer === undefined ? 'log' : 'peer',
      peer: running.peer ?? null,
      keys: running.keys + keys,
      keysExpected: null,
      percent: null,
      keysPerSecond: Math.round((running.keys + keys) / seconds),
      remainingSeconds: null,
    }
  }

  /** What is in memcached, also while it is not served. */
  get applied(): Position | undefined {
    return this.#applied
  }

  /** Everything of ours that `target` has is in memcached. */
  hasApplied(target: Position): boolean {
    if (this.#applied === undefined) return false
    // Serving, the log that is followed is applied, what a filtered relay passes over included.
    return covers(this.#applied, target) || (this.serving && this.log.has(target))
  }

  /** Nothing beyond it was ever to be read in this memcached while it was served. */
  get horizon(): Position | undefined {
    if (!this.serving || this.#apply === undefined) return this.#servedHorizon
    const { mayContain } = this.#apply.apply
    return this.log.position === undefined ? mayContain : joinPositions(this.log.position, mayContain)
  }

  /** How far this node is behind the primary, told now and then: above the bound it does not serve. */
  noteLag(seconds: number): void {
    this.#step({ kind: 'lag', seconds })
    if (this.#apply !== undefined) this.#serveIfReached(this.#apply.apply)
  }

  contents(): Contents | undefined {
    const { position } = this.log
    if (!this.serving || this.#condition.draining || this.#apply === undefined || position === undefined)
      return undefined
    const { apply, session } = this.#apply
    return {
      life: this.#life,
      position,
      horizon: this.horizon ?? position,
      epoch: apply.epoch,
      databaseNowSeconds: this.clock.nowSeconds(),
      memcachedNowSeconds: session.nowSeconds(),
    }
  }

  /** When the last applied transaction was written, by the database's clock; 0 before the first. */
  get lastAppliedSeconds(): number {
    return this.#lastAppliedSeconds
  }

  async giveBack(item: StaleItem): Promise<void> {
    await this.#apply?.apply.giveBack(item)
  }

  /** @throws WhiteholeError `bad-configuration` where another node fills this memcached */
  async lock(): Promise<void> {
    this.#lock = await lockMemcached(this.#given.memcached)
  }

  unlock(): void {
    this.#lock?.release()
    this.#lock = undefined
  }

  /** Resolves when `signal` is aborted, or the log turns out to be unreadable. */
  async run(signal: AbortSignal): Promise<void> {
    if (this.#lock === undefined) throw new Error('the applier runs only under the lock of its memcached')
    try {
      let contents: 'as found' | 'untrusted' = 'as found'
      while (!signal.aborted && this.#failure === undefined) {
        contents = await this.#session(contents, signal)
        if (!signal.aborted && this.#failure === undefined) await pause(100, signal)
      }
    } finally {
      this.#scout.stop()
      this.#step({ kind: 'stopped' })
    }
  }

  /** Says that this node goes away; it applies and serves on until its signal is aborted. */
  drain(): void {
    this.#step({ kind: 'drain' })
  }

  /** One life of the connection to memcached. @returns what to think of the contents next time */
  async #session(contents: 'as found' | 'untrusted', signal: AbortSignal): Promise<'as found' | 'untrusted'> {
    const { logger } = this.#given
    let session: MemcachedSession | undefined
    const ended = new AbortController()
    let stopAsking = (): void => {}
    try {
      session = await this.#open(signal)
      void session.connection.closed.then(() => {
        // At once, not when the applier next looks: what now answers on that port may be empty.
        if (!signal.aborted) this.#step({ kind: 'interrupted' })
        ended.abort()
      })
      stopAsking = keepAsking(session)
      const apply = await this.#prepare(session, contents, AbortSignal.any([signal, ended.signal]))
      this.#apply = { apply, session }
      this.#applied = apply.contains
      await this.#follow(apply, AbortSignal.any([signal, ended.signal]))
      return 'as found'
    } catch (error) {
      if (signal.aborted) return 'as found'
      this.#step({ kind: 'interrupted' })
      if (error instanceof WhiteholeError && error.code === 'log-unreadable') {
        this.#failure = describeError(error)
        logger.error({ reason: this.#failure }, 'the log cannot be read: this node stops until a person has looked')
        return 'as found'
      }
      const purged = error instanceof WhiteholeError && error.code === 'log-purged'
      const rewound = error instanceof WhiteholeError && error.code === 'log-diverged' && (await this.#rewind())
      const untrusted = purged || rewound || error instanceof ContentsGone
      const reason = describeError(error)
      // Once a reason: memcached may be away for hours, and is looked for ten times a second.
      if (reason !== this.#interruptedBy)
        logger.warn({ reason, rebuild: untrusted }, 'following the log was interrupted')
      this.#interruptedBy = reason
      return untrusted ? 'untrusted' : 'as found'
    } finally {
      stopAsking()
      ended.abort()
      this.#apply?.apply.end()
      this.#apply = undefined
      session?.close()
    }
  }

  /**
   * The primary never had something that was seen here. Where that is in memcached, all of it is thrown away; a floor alone is forgotten.
   * @returns whether the contents are worth nothing
   */
  async #rewind(): Promise<boolean> {
    const apply = this.#apply?.apply
    this.#forgetSeen()
    if (apply === undefined) return false
    // Undefined: nobody can tell now; the state item says the same when it is asked again.
    const inMemcached = [...this.#begunWith, apply.contains, apply.mayContain]
    const lost = await this.#given.databases.lost(inMemcached).catch(() => undefined)
    if (lost !== true) return false
    this.#rewinds++
    this.#epoch = apply.epoch + 1
    const position = formatPosition(apply.mayContain)
    this.#given.logger.warn({ position, epoch: this.#epoch }, 'ahead of the primary: what it never had is thrown away')
    return true
  }

  /** Floors that can never be reached again, here and for what peers answered; the scout begins at the primary's present end. */
  #forgetSeen(): void {
    this.#scout.stop()
    this.#servedHorizon = undefined
    this.#targets = [...this.#begunWith]
    this.log.forget()
    this.#given.onRewind()
    if (!this.serving) this.#scout.start()
  }

  async #open(signal: AbortSignal): Promise<MemcachedSession> {
    this.#scout.start()
    const { memcached, dataDirectory, memcachedTimeoutMilliseconds: timeoutMilliseconds } = this.#given
    try {
      return await MemcachedSession.open({ address: memcached, dataDirectory, timeoutMilliseconds, signal })
    } catch (error) {
      this.#restart.run()
      throw error
    }
  }

  async #prepare(session: MemcachedSession, contents: 'as found' | 'untrusted', signal: AbortSignal): Promise<Apply> {
    const { catalogue, batchItemsMax, batchBytesMax, logger, watch } = this.#given
    this.#begunWith = []
    const found = contents === 'as found' ? await session.readState() : undefined
    const clock = {
      databaseNowSeconds: () => this.clock.nowSeconds(),
      memcachedNowSeconds: () => session.nowSeconds(),
    }
    const { log, counters } = this
    const shared = { session, catalogue, clock, log, counters, watch, batchItemsMax, batchBytesMax }
    this.#step({ kind: 'contents', found: found !== undefined })
    if (found !== undefined) {
      catalogue.reset(found.baseWatermark, found.namespaces, found.staleItems)
      this.#aim(found.mayContain)
      logger.info({ from: formatPosition(found.contains) }, 'catching up')
      return new Apply({ ...shared, contains: found.contains, mayContain: found.mayContain, epoch: found.epoch })
    }
    this.#rebuilds++
    this.#applied = undefined
    this.#life++
    this.#rebuild = { since: performance.now(), entriesBefore: this.counters.entries, keys: 0, truncated: false }
    logger.info({}, 'memcached does not say what it contains: rebuilding it')
    const { databases, refills } = this.#given
    const { clock: databaseClock } = this
    const rebuilt = await rebuild(
      { session, catalogue, databases, clock: databaseClock, counters, refills, logger, epoch: this.#epoch },
      signal,
    )
    const { contains, mayContain, epoch, peer, keys, longerLog, truncated } = rebuilt
    this.#epoch = epoch
    this.#rebuild = { ...this.#rebuild, keys, truncated, ...(peer === undefined ? {} : { peer }) }
    this.#aim(mayContain)
    const apply = new Apply({ ...shared, contains, mayContain, epoch })
    if (longerLog !== undefined) {
      const { serverIds } = this.#given
      await replayLongerLog(longerLog, { databases, apply, serverId: serverIds.applier, logger, signal })
    }
    return apply
  }

  async #follow(apply: Apply, signal: AbortSignal): Promise<void> {
    const { databases, serverIds, logger, heartbeatMilliseconds, readAheadBytesMax } = this.#given
    const stream = followLog({
      databases,
      serverId: serverIds.applier,
      start: apply.contains,
      claims: () => this.#seen(apply),
      signal,
      logger,
      heartbeatMilliseconds,
      bufferBytesMax: readAheadBytesMax,
      // A statement on somebody else's table can't have written to the cache: the routines refuse a session that does not log rows.
      foreignStatements: 'skip',
      onConnected: ({ probe }) => this.#connected(apply, probe),
    })
    const iterator = stream[Symbol.asyncIterator]()
    try {
      for (;;) {
        const next = iterator.next()
        await this.#settleWhenIdle(apply, next)
        const { value, done } = await next
        if (done === true) return
        await this.#applyChunks(apply, value)
      }
    } finally {
      if (signal.aborted) await apply.settle().catch(() => {})
      await iterator.return?.()
    }
  }

  /** All that must be in the primary's log. */
  #seen(apply: Apply): readonly Position[] {
    const more = [...this.#targets, this.#servedHorizon, this.log.position]
    return [...this.#begunWith, apply.mayContain, ...more.filter((position) => position !== undefined)]
  }

  /** Beside what was seen when this node served last. */
  #aim(target: Position): void {
    this.#begunWith = [target]
    this.#targets = this.#servedHorizon === undefined ? [target] : [target, this.#servedHorizon]
  }

  #connected(apply: Apply, probe: DatabaseProbe): void {
    this.#source = probe
    this.clock.sample(probe.clockSeconds, probe.clockSampledAtMilliseconds)
    if (this.serving) return
    this.#targets.push(probe.position)
    this.#serveIfReached(apply)
  }

  async #applyChunks(apply: Apply, chunks: readonly LogChunk[]): Promise<void> {
    await apply.apply(chunks)
    this.#applied = apply.contains
    this.#lastAppliedSeconds = chunks.at(-1)?.timestampSeconds ?? this.#lastAppliedSeconds
    if (!this.serving) this.#serveIfReached(apply)
  }

  #serveIfReached(apply: Apply): void {
    const { phase, lagging } = this.#condition
    if (lagging || (phase !== 'catching-up' && phase !== 'rebuilding') || this.#source === undefined) return
    // The scout's position is the floor: some client was acknowledged there.
    const floor = this.log.position
    const targets = floor === undefined ? this.#targets : [...this.#targets, floor]
    if (!targets.every((target) => covers(apply.contains, target))) return
    this.#scout.stop()
    this.log.reached(apply.contains, [])
    this.#targets = []
    if (phase === 'rebuilding' && this.#rebuild !== undefined) {
      const { since, entriesBefore, peer, keys, truncated } = this.#rebuild
      const entries = this.counters.entries - entriesBefore
      this.#lastRebuild = { seconds: (performance.now() - since) / 1000, entries, peer, keys, truncated }
      this.#given.logger.info(this.#lastRebuild, 'rebuilt')
    }
    this.#step({ kind: 'reached' })
    this.#interruptedBy = undefined
  }

  /** The log is quiet for a moment: the state item catches up, so that a restart finds nothing to repeat. */
  async #settleWhenIdle(apply: Apply, next: Promise<unknown>): Promise<void> {
    let idle: NodeJS.Timeout | undefined
    const quiet = new Promise<boolean>((resolve) => {
      idle = setTimeout(() => resolve(true), settleAfterMilliseconds)
      next.then(
        () => resolve(false),
        () => resolve(false),
      )
    })
    const isQuiet = await quiet
    clearTimeout(idle)
    if (isQuiet) await apply.settle()
  }

  #step(event: NodeEvent): void {
    const before = this.#condition
    const { maxLagSeconds, logger } = this.#given
    this.#condition = stepNode(before, event, { maxLagSeconds })
    const { phase } = this.#condition
    if (phase === before.phase) return
    logger.info({ from: before.phase, to: phase, because: event.kind }, 'state')
    if (before.phase === 'serving') this.#left()
    if (phase === 'starting') this.#scout.start()
  }

  /** Whatever a client may have seen here until now has to be applied again before this node serves again. */
  #left(): void {
    const seen = this.#apply?.apply.mayContain
    if (seen === undefined) return
    this.#servedHorizon = seen
    this.#targets.push(seen)
  }
}

/** A memcached that stalls is noticed on a quiet log too: the connection gives up a request that has no reply in time. */
function keepAsking(session: MemcachedSession): () => void {
  let asked = 0
  let timer: NodeJS.Timeout
  const ask = (): void => {
    session.ask().catch(() => {})
    timer = setTimeout(ask, ++asked < firstAsks ? firstAskMilliseconds : askMilliseconds)
  }
  timer = setTimeout(ask, firstAskMilliseconds)
  return () => clearTimeout(timer)
}

/** No whole second: so that the answers come from all places of memcached's second (memcached-clock.ts). */
const askMilliseconds = 700
/** A rebuild wants to know soon. */
const firstAsks = 12
const firstAskMilliseconds = 90
const settleAfterMilliseconds = 20
