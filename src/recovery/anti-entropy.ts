import type { FollowedLog } from '../domain/followed-log.ts'
import type { ContentsAccess, HeldContents } from '../domain/contents-access.ts'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import type { FoundValue, LogValues, WantedValue } from '../domain/log-values.ts'
import type { ItemKey } from '../domain/key.ts'
import type { Mutations, MutationSession } from '../domain/mutations.ts'
import type { PeerReads } from '../domain/peer-reads.ts'
import { Pace, type PaceLimits } from '../runtime/pace.ts'
import type { Logger } from '../runtime/logger.ts'
import { DirectoryView, type Subject } from './directory-view.ts'
import { tellGone } from './gone-keys.ts'
import { ItemReads } from './item-reads.ts'
import type { Rechecked } from './recheck.ts'
import { repair, repairBytes, type RepairPorts, type RepairResult, type Wanted } from './repair.ts'
import type { NodeVerification } from './verification.ts'
import { verifyNode, type VerifyOptions } from './verify.ts'

export interface AntiEntropyOptions {
  /** What a verification needs, opened for one pass; `close` lets go of it. */
  readonly open: () => Promise<AntiEntropyAccess>
  readonly contents: HeldContents
  readonly log: FollowedLog
  readonly peers: PeerReads
  /** Where the directory is told of keys that are gone. */
  readonly mutations: Mutations
  /** Undefined: a value that no peer has is not looked for. */
  readonly logValues: LogValues | undefined
  readonly pace: PaceLimits
  readonly logger: Logger
  readonly limits?: Partial<AntiEntropyLimits>
}

export type AntiEntropyAccess = Pick<
  VerifyOptions,
  'name' | 'directory' | 'memcached' | 'memcachedAddress' | 'namespaces' | 'limits'
> & { readonly close: () => void }

export interface AntiEntropyLimits {
  /** Keys that are repaired at once. */
  readonly repairKeys: number
  /** Keys whose peers are asked at once, after a replay: well below the questions that a node has under way at a time (peers.ts). */
  readonly goneKeys: number
  readonly lagMilliseconds: number
  /** Keys whose value is looked for in the log in one pass, and what their values may take, in bytes. */
  readonly searchKeys: number
  readonly searchBytes: number
  /** Versions that are known to be lost, so that they are not looked for again. */
  readonly lostVersions: number
}

const defaultLimits: AntiEntropyLimits = {
  repairKeys: 50,
  goneKeys: 100,
  lagMilliseconds: 30_000,
  searchKeys: 10_000,
  searchBytes: 16 * 1024 * 1024,
  lostVersions: 10_000,
}

export interface AntiEntropyFigures {
  passes: number
  lastPassSeconds: number
  /** Keys that were put right. */
  repairedFromPeers: number
  repairedFromLog: number
  removed: number
  /** Differences that were none any more, or that the log was about to put right. */
  superseded: number
  /** Keys whose value no peer has, nor the log. */
  lost: number
  /** Of those: told to the directory, so that they are no keys any more. */
  gone: number
  /** Counters that nobody had: the directory has their number. */
  restored: number
  /** Absences that were left alone, because memcached evicts: room for them would be another key's. */
  left: number
}

export interface PassOptions {
  /**
   * All of the log that there is was replayed into this memcached a moment ago: what it lacks is not searched for there, be it a million
   * keys.
   */
  readonly logReplayed: boolean
}

/**
 * A background pass over this node's memcached: verify, and repair what differs, from a peer, or where none has it, from the log.
 * One at a time, at a bounded cost.
 *
 * Absent keys are put back only while memcached does not evict: else each would drive out another, for ever. They are the
 * evicted ones then, and a miss of an evicted key is right. What nobody has any more, nor the log, is deleted from the directory (gone-keys.ts).
 */
export class AntiEntropy {
  readonly figures: AntiEntropyFigures = {
    passes: 0,
    lastPassSeconds: 0,
    repairedFromPeers: 0,
    repairedFromLog: 0,
    removed: 0,
    superseded: 0,
    lost: 0,
    gone: 0,
    restored: 0,
    left: 0,
  }
  /** Keys that the directory was told are gone since this process began, by the namespace's name. */
  readonly gone = new Map<string, number>()
  /** Lost ones of the last pass that a peer may still hold: it did not answer. */
  undecided = 0
  #busy = false
  readonly #options: AntiEntropyOptions
  readonly #limits: AntiEntropyLimits
  readonly #lost = new Set<string>()
  #last: NodeVerification | undefined

  constructor(options: AntiEntropyOptions) {
    this.#options = options
    this.#limits = { ...defaultLimits, ...options.limits }
  }

  /** What the last whole pass found, before its repairs. */
  get last(): NodeVerification | undefined {
    return this.#last
  }

  /** Tells its failures: rejects only where `signal` was aborted. @returns whether the pass came to its end */
  async round(signal: AbortSignal, given: PassOptions = { logReplayed: false }): Promise<boolean> {
    if (this.#options.contents.access === undefined || this.#busy) return false
    this.#busy = true
    try {
      await this.pass(signal, given)
      return true
    } catch (error) {
      signal.throwIfAborted()
      this.#options.logger.debug({ reason: describeError(error) }, 'a background verification was interrupted')
      return false
    } finally {
      this.#busy = false
    }
  }

  async pass(signal: AbortSignal, { logReplayed }: PassOptions = { logReplayed: false }): Promise<NodeVerification> {
    const begun = performance.now()
    // Before the pass's own connections are opened: if this life of memcached is over, so is the pass.
    const held = this.#options.contents.access
    if (held === undefined) throw new WhiteholeError('not-serving', 'there is nothing to verify yet')
    const access = await this.#options.open()
    const session = this.#options.mutations.openSession()
    let run: Pass | undefined
    try {
      run = await Pass.begin({
        options: this.#options,
        limits: this.#limits,
        access,
        signal,
        held,
        session,
        logReplayed,
      })
      const verification = await run.verify()
      await run.finish((wanted) => this.#isLost(wanted))
      this.figures.passes++
      this.figures.lastPassSeconds = (performance.now() - begun) / 1000
      this.#last = verification
      return verification
    } finally {
      session.close()
      access.close()
      if (run !== undefined) this.#account(run)
    }
  }

  #account(run: Pass): void {
    const { figures } = this
    this.#count(run.results)
    for (const wanted of run.lost) this.#note(wanted)
    figures.lost += run.lost.length
    figures.left += run.left
    figures.restored += run.restored
    this.undecided = run.undecided
    let gone = 0
    for (const [namespace, count] of run.gone) {
      gone += count
      this.gone.set(namespace, (this.gone.get(namespace) ?? 0) + count)
    }
    figures.gone += gone
    this.#tell(run.results.length + run.lost.length)
    if (gone === 0 && run.undecided === 0) return
    const of = {
      gone,
      restoredCounters: run.restored,
      undecided: run.undecided,
      namespaces: Object.fromEntries(run.gone),
    }
    this.#options.logger.warn(
      of,
      'nobody has the values of some keys, nor has the log: the directory was told which are gone',
    )
  }

  #count(results: readonly CountedResult[]): void {
    for (const { outcome, fromLog } of results) {
      if (outcome === 'repaired') this.figures[fromLog ? 'repairedFromLog' : 'repairedFromPeers']++
      else if (outcome !== 'away') this.figures[outcome]++
    }
  }

  #tell(differences: number): void {
    if (differences === 0) return
    this.#options.logger.warn({ differences, inAll: this.figures }, 'memcached differed from the directory')
  }

  #isLost({ row }: Wanted): boolean {
    return this.#lost.has(row.version)
  }

  #note({ row }: Wanted): void {
    if (this.#lost.size < this.#limits.lostVersions) this.#lost.add(row.version)
  }
}

interface CountedResult {
  readonly outcome: RepairResult['outcome']
  readonly fromLog: boolean
}

interface PassParts {
  readonly options: AntiEntropyOptions
  readonly limits: AntiEntropyLimits
  readonly access: AntiEntropyAccess
  readonly signal: AbortSignal
  /** The life of memcached that this pass is about. */
  readonly held: ContentsAccess
  readonly session: MutationSession
  readonly logReplayed: boolean
}

/** One pass's own memory. */
class Pass {
  readonly results: CountedResult[] = []
  left = 0
  /** Newly found to be lost. */
  readonly lost: Wanted[] = []
  readonly gone = new Map<string, number>()
  restored = 0
  undecided = 0
  readonly #parts: PassParts
  readonly #ports: RepairPorts
  readonly #items: ItemReads
  readonly #evictionsBefore: number
  readonly #wanted: Wanted[] = []
  readonly #pace: Pace
  #wantedBytes = 0
  #waiting: Subject[] = []

  private constructor(parts: PassParts, given: { ports: RepairPorts; items: ItemReads; evictions: number }) {
    this.#parts = parts
    this.#pace = new Pace(parts.options.pace)
    this.#ports = given.ports
    this.#items = given.items
    this.#evictionsBefore = given.evictions
  }

  static async begin(parts: PassParts): Promise<Pass> {
    const { access, options, limits, signal } = parts
    const directory = await DirectoryView.open(access.directory)
    const items = new ItemReads(access.memcached, access.namespaces)
    const { contents, log, peers } = options
    const ports = { contents, directory, items, log, peers, signal, lagMilliseconds: limits.lagMilliseconds }
    return new Pass(parts, { ports, items, evictions: await items.evictions() })
  }

  async verify(): Promise<NodeVerification> {
    const { options, access, signal } = this.#parts
    const { close: _, ...given } = access
    const verification = await verifyNode({
      ...given,
      log: options.log,
      signal,
      pace: (count) => this.#pace.done(count, signal),
      found: (difference) => this.#found(difference),
    })
    await this.#repairWaiting()
    return verification
  }

  /** Looks in the log for what no peer has, and tells the directory what is not there either. */
  async finish(isLost: (wanted: Wanted) => boolean): Promise<void> {
    const { options, limits, signal } = this.#parts
    const known: Wanted[] = []
    const wanted: Wanted[] = []
    for (const one of this.#wanted) (isLost(one) ? known : wanted).push(one)
    if (options.logValues === undefined) {
      this.lost.push(...wanted)
    } else if (wanted.length > 0) {
      const values = await options.logValues.find(wanted.map(valueOf), signal)
      for (const some of pieces(wanted, limits.repairKeys)) this.lost.push(...(await this.#repairFromLog(some, values)))
    }
    for (const some of pieces([...known, ...this.lost], limits.repairKeys)) await this.#tellGone(some)
  }

  async #tellGone(some: readonly Wanted[]): Promise<void> {
    const { options, session, held } = this.#parts
    const isServed = async (): Promise<boolean> => (await this.#items.hasState()) && !held.ended
    const told = await tellGone(some, { session, peers: options.peers, isServed })
    for (const [index, { subject }] of some.entries()) {
      if (told[index] === 'gone') this.gone.set(subject.namespaceName, (this.gone.get(subject.namespaceName) ?? 0) + 1)
      else if (told[index] === 'restored') this.restored++
      else if (told[index] === 'undecided') this.undecided++
    }
  }

  async #repairFromLog(some: readonly Wanted[], values: ReadonlyMap<ItemKey, FoundValue>): Promise<Wanted[]> {
    const repaired = await repair(
      some.map(({ subject }) => subject),
      this.#ports,
      values,
    )
    const lost: Wanted[] = []
    for (const { outcome, wanted } of repaired) {
      if (wanted !== undefined) lost.push(wanted)
      else this.results.push({ outcome, fromLog: true })
    }
    return lost
  }

  async #found({ subject, verdict }: Rechecked): Promise<void> {
    if (verdict === 'agrees' || verdict === 'unsettled') return
    if (verdict === 'absent' && (await this.#items.evictions()) > this.#evictionsBefore) {
      this.left++
      return
    }
    this.#waiting.push(subject)
    const { limits, logReplayed } = this.#parts
    if (this.#waiting.length >= (logReplayed ? limits.goneKeys : limits.repairKeys)) await this.#repairWaiting()
  }

  async #repairWaiting(): Promise<void> {
    const waiting = this.#waiting
    this.#waiting = []
    const away: Wanted[] = []
    for (const { outcome, wanted } of await repair(waiting, this.#ports)) {
      if (wanted !== undefined) away.push(wanted)
      else this.results.push({ outcome, fromLog: false })
    }
    if (!this.#parts.logReplayed) {
      for (const one of away) this.#want(one)
      return
    }
    await this.#tellGone(away)
    // Nearly all of it was waiting for others, one piece at a time: no work of this node that would have to be paid with a pause.
    if (away.length > 0) this.#pace.begin()
  }

  #want(wanted: Wanted): void {
    const { searchKeys, searchBytes } = this.#parts.limits
    if (this.#wanted.length >= searchKeys || this.#wantedBytes + repairBytes(wanted) > searchBytes) return
    this.#wanted.push(wanted)
    this.#wantedBytes += repairBytes(wanted)
  }
}

function valueOf({ subject: { namespaceId, itemKey }, row: { key, version } }: Wanted): WantedValue {
  return { namespaceId, itemKey, key, version }
}

function* pieces<T>(list: readonly T[], size: number): Generator<readonly T[]> {
  for (let from = 0; from < list.length; from += size) yield list.slice(from, from + size)
}
