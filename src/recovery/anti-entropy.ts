import type { FollowedLog } from '../domain/followed-log.ts'
import type { HeldContents } from '../domain/contents-access.ts'
import { describeError } from '../domain/errors.ts'
import type { FoundValue, LogValues } from '../domain/log-values.ts'
import type { ItemKey } from '../domain/key.ts'
import type { PeerReads } from '../domain/peer-reads.ts'
import { Pace, type PaceLimits } from '../runtime/pace.ts'
import type { Logger } from '../runtime/logger.ts'
import { DirectoryView, type Subject } from './directory-view.ts'
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
  readonly lagMilliseconds: number
  /** Keys whose value is looked for in the log in one pass, and what their values may take, in bytes. */
  readonly searchKeys: number
  readonly searchBytes: number
  /** Versions that are known to be lost, so that they are not looked for again. */
  readonly lostVersions: number
}

const defaultLimits: AntiEntropyLimits = {
  repairKeys: 50,
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
  /** Absences that were left alone, because memcached evicts: room for them would be another key's. */
  left: number
}

/**
 * A background pass over this node's memcached: verify, and repair what differs, from a peer, or where none has it, from the log.
 * One at a time, at a bounded cost.
 *
 * Absent keys are put back only while memcached does not evict: else each would drive out another, for ever. They are the
 * evicted ones then, and a miss of an evicted key is right.
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
    left: 0,
  }
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

  /** Tells its failures: rejects only where `signal` was aborted. */
  async round(signal: AbortSignal): Promise<void> {
    if (this.#options.contents.access === undefined) return
    try {
      await this.pass(signal)
    } catch (error) {
      signal.throwIfAborted()
      this.#options.logger.debug({ reason: describeError(error) }, 'a background verification was interrupted')
    }
  }

  async pass(signal: AbortSignal): Promise<NodeVerification> {
    const begun = performance.now()
    const access = await this.#options.open()
    try {
      const run = await Pass.begin({ options: this.#options, limits: this.#limits, access, signal })
      const verification = await run.verify()
      const away = await run.finish((wanted) => this.#isLost(wanted))
      for (const wanted of away) this.#note(wanted)
      this.#count(run.results)
      this.figures.lost += away.length
      this.figures.left += run.left
      this.figures.passes++
      this.figures.lastPassSeconds = (performance.now() - begun) / 1000
      this.#last = verification
      this.#tell(run.results.length + away.length)
      return verification
    } finally {
      access.close()
    }
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
}

/** One pass's own memory. */
class Pass {
  readonly results: CountedResult[] = []
  left = 0
  readonly #parts: PassParts
  readonly #ports: RepairPorts
  readonly #items: ItemReads
  readonly #evictionsBefore: number
  readonly #wanted: Wanted[] = []
  #wantedBytes = 0
  #waiting: Subject[] = []

  private constructor(parts: PassParts, given: { ports: RepairPorts; items: ItemReads; evictions: number }) {
    this.#parts = parts
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
    const pace = new Pace(options.pace)
    const { close: _, ...given } = access
    const verification = await verifyNode({
      ...given,
      log: options.log,
      signal,
      pace: (count) => pace.done(count, signal),
      found: (difference) => this.#found(difference),
    })
    await this.#repairWaiting()
    return verification
  }

  /** @returns what is lost: no peer has it, nor the log */
  async finish(isLost: (wanted: Wanted) => boolean): Promise<Wanted[]> {
    const { options, signal } = this.#parts
    const wanted = this.#wanted.filter((one) => !isLost(one))
    if (options.logValues === undefined || wanted.length === 0) return wanted
    const values = await options.logValues.find(
      wanted.map(({ subject, row }) => ({
        namespaceId: subject.namespaceId,
        itemKey: subject.itemKey,
        key: row.key,
        version: row.version,
      })),
      signal,
    )
    const lost: Wanted[] = []
    for (const some of pieces(wanted, this.#parts.limits.repairKeys)) {
      lost.push(...(await this.#repairFromLog(some, values)))
    }
    return lost
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
    if (this.#waiting.length >= this.#parts.limits.repairKeys) await this.#repairWaiting()
  }

  async #repairWaiting(): Promise<void> {
    const waiting = this.#waiting
    this.#waiting = []
    for (const { outcome, wanted } of await repair(waiting, this.#ports)) {
      if (wanted !== undefined) this.#want(wanted)
      else this.results.push({ outcome, fromLog: false })
    }
  }

  #want(wanted: Wanted): void {
    const { searchKeys, searchBytes } = this.#parts.limits
    if (this.#wanted.length >= searchKeys || this.#wantedBytes + repairBytes(wanted) > searchBytes) return
    this.#wanted.push(wanted)
    this.#wantedBytes += repairBytes(wanted)
  }
}

function* pieces<T>(list: readonly T[], size: number): Generator<readonly T[]> {
  for (let from = 0; from < list.length; from += size) yield list.slice(from, from + size)
}
