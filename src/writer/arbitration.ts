import { WhiteholeError } from '../domain/errors.ts'
import type { Mutation, Outcome } from '../domain/mutation.ts'
import type {
  ArbitratedMutations,
  ArbitratedSession,
  Concatenation,
  LeaseUse,
  Mutations,
  MutationSession,
} from '../domain/mutations.ts'
import type { Version } from '../domain/version.ts'
import { type ConcatenationPorts, Concatenator } from './concatenation.ts'
import { type Evictable, type EvictionFigures, EvictionRule, isEvictable, refusedBy } from './eviction.ts'
import { redeem } from './lease.ts'

export interface ArbitrationOptions extends ConcatenationPorts {
  readonly mutations: Mutations
  readonly writeTimeoutMilliseconds: number
  /** memcached's `-I`. */
  readonly itemBytesMax?: number
}

/** Sessions of the writer with what needs a look at items besides: the eviction rule, `append` and `prepend`. */
export class Arbitration implements ArbitratedMutations {
  readonly #mutations: Mutations
  readonly #rule: EvictionRule
  readonly #concatenator: Concatenator
  readonly #timeoutMilliseconds: number

  constructor(options: ArbitrationOptions) {
    this.#mutations = options.mutations
    this.#rule = new EvictionRule(options)
    this.#concatenator = new Concatenator(options)
    this.#timeoutMilliseconds = options.writeTimeoutMilliseconds
  }

  get figures(): Readonly<EvictionFigures> {
    return this.#rule.figures
  }

  openSession(): ArbitratedSession {
    return new OrderedSession({
      inner: this.#mutations.openSession(),
      rule: this.#rule,
      concatenator: this.#concatenator,
      timeoutMilliseconds: this.#timeoutMilliseconds,
    })
  }
}

/** What has to wait for its turn in a session. */
interface Waiting {
  /** Starts with nothing before it unanswered, and holds up what comes behind. */
  readonly alone: boolean
  /** By `performance.now()`. */
  readonly since: number
  start(): void
  refuse(error: WhiteholeError): void
}

/** Somebody else may take the place of an evicted version again and again; that is then as good a refusal as any. */
const roundsMax = 4

/**
 * One client connection's mutations in their order.
 *
 *   free:    each mutation is handed on at once, many unanswered
 *   looking: a refusal is looked at again (`#looks` > 0), or a concatenation or the use of a lease runs: new ones wait in `#waiting`
 */
class OrderedSession implements ArbitratedSession {
  readonly #inner: MutationSession
  readonly #rule: EvictionRule
  readonly #concatenator: Concatenator
  readonly #timeoutMilliseconds: number
  /** Counts what was handed on: whoever is to be submitted again must still be the last. */
  #ordinal = 0
  #unanswered = 0
  #looks = 0
  #waiting: Waiting[] = []

  constructor(given: {
    inner: MutationSession
    rule: EvictionRule
    concatenator: Concatenator
    timeoutMilliseconds: number
  }) {
    this.#inner = given.inner
    this.#rule = given.rule
    this.#concatenator = given.concatenator
    this.#timeoutMilliseconds = given.timeoutMilliseconds
  }

  async submit(mutation: Mutation): Promise<Outcome> {
    return this.#inTurn(false, async () => this.#arbitrate(mutation))
  }

  async concatenate(concatenation: Concatenation): Promise<Outcome> {
    return this.#inTurn(true, async () => this.#concatenator.run(this.#inner, concatenation))
  }

  async redeem(use: LeaseUse): Promise<Outcome> {
    return this.#inTurn(true, async () => redeem(this.#inner, use))
  }

  close(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const next of waiting) next.refuse(new WhiteholeError('not-written', 'the session is closed'))
    this.#inner.close()
  }

  /** @param work hands on its (first) mutation before it returns: order is made here */
  async #inTurn(alone: boolean, work: () => Promise<Outcome>): Promise<Outcome> {
    if (this.#waiting.length === 0 && this.#mayStart(alone)) return this.#run(alone, work)
    return new Promise<Outcome>((resolve, reject) => {
      const start = (): void => void this.#run(alone, work).then(resolve, reject)
      this.#waiting.push({ alone, since: performance.now(), start, refuse: reject })
    })
  }

  async #run(alone: boolean, work: () => Promise<Outcome>): Promise<Outcome> {
    this.#unanswered += 1
    if (alone) this.#looks += 1
    try {
      return await work()
    } finally {
      this.#unanswered -= 1
      if (alone) this.#looks -= 1
      this.#startWaiting()
    }
  }

  #mayStart(alone: boolean): boolean {
    return this.#looks === 0 && (!alone || this.#unanswered === 0)
  }

  #startWaiting(): void {
    for (let next = this.#waiting[0]; next !== undefined && this.#mayStart(next.alone); next = this.#waiting[0]) {
      this.#waiting.shift()
      // Its client was promised an answer within the time, and the time was others'.
      if (performance.now() - next.since <= this.#timeoutMilliseconds) next.start()
      else next.refuse(new WhiteholeError('not-written', 'what stood before it in its session took all the time'))
    }
  }

  async #arbitrate(mutation: Mutation): Promise<Outcome> {
    let ordinal = ++this.#ordinal
    let outcome = await this.#inner.submit(mutation)
    if (!isEvictable(mutation)) return outcome
    for (let round = 0; round < roundsMax; round++) {
      const version = refusedBy(mutation, outcome)
      if (version === undefined) break
      this.#looks += 1
      try {
        if (!(await this.#rule.isGone(mutation, version))) break
        if (ordinal !== this.#ordinal) {
          this.#bury(mutation, version)
          break
        }
        ordinal = ++this.#ordinal
        outcome = await this.#inner.submit({ ...mutation, evictedVersion: version })
      } finally {
        this.#looks -= 1
        this.#startWaiting()
      }
    }
    return outcome
  }

  /**
   * Later mutations are on their way already, so this one can't be submitted again in its place: the refusal stands, but the
   * next one shall not meet the dead row. No reader can tell when that happens, so it needs no place in the order.
   */
  #bury({ namespaceId, key }: Evictable, version: Version): void {
    this.#inner.submit({ kind: 'delete', namespaceId, key, compare: version }).catch(() => {})
  }
}
