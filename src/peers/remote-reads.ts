import { PeerHttp } from '../adapters/peer-http.ts'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import { joinPositions, type Position } from '../domain/position.ts'
import type { Logger } from '../runtime/logger.ts'
import { endpointOf } from './endpoint.ts'
import { formatRun, parseAnswers, type PeerRead, type PeerReadAnswer, type ReadRun, readsMax } from './read-run.ts'
import type { Registration } from './registry.ts'

export interface RemoteReadsOptions {
  /** The healthy peers, the best first. */
  readonly peers: () => readonly Registration[]
  readonly secret: () => string | undefined
  readonly withVersions: () => boolean
  readonly logger: Logger
  readonly timeoutMilliseconds?: number
}

const timeoutMillisecondsDefault = 1000
/** More are refused at once. */
const waitingMax = 20_000

interface Waiting {
  readonly read: PeerRead
  readonly resolve: (answer: PeerReadAnswer) => void
  readonly reject: (error: Error) => void
}

/**
 * Reads of peers' memcached in place of this node's. One run is on its way at a time, and what comes meanwhile waits for the next: so
 * answers come in the order of the questions, and the floor of a question is at or above every answer before it.
 */
export class RemoteReads {
  readonly #options: RemoteReadsOptions
  readonly #http = new PeerHttp()
  #waiting: Waiting[] = []
  #running = false
  #floor: Position | undefined
  /** What the floor was raised to since it was last doubted. */
  #raisedSince: Position | undefined
  #answered = 0
  #failed = 0

  constructor(options: RemoteReadsOptions) {
    this.#options = options
  }

  get available(): boolean {
    return this.#options.secret() !== undefined && this.#options.peers().length > 0
  }

  /** Nothing is on its way. */
  get idle(): boolean {
    return !this.#running
  }

  /** What this node's clients may have seen: every answer so far, and what it was raised to. */
  get floor(): Position | undefined {
    return this.#floor
  }

  get figures(): { readonly answered: number; readonly failed: number } {
    return { answered: this.#answered, failed: this.#failed }
  }

  raise(position: Position | undefined): void {
    if (position === undefined) return
    this.#raisedSince = this.#raisedSince === undefined ? position : joinPositions(this.#raisedSince, position)
    this.#floor = this.#floor === undefined ? position : joinPositions(this.#floor, position)
  }

  /** This node's own memcached is above it. */
  forgetFloor(): void {
    this.#floor = undefined
    this.#raisedSince = undefined
  }

  /** A peer may have answered with what a takeover then lost: nobody can reach that. What came while it was asked stays. Never rejects. */
  async dropLostFloor(isLost: (position: Position) => Promise<boolean>): Promise<void> {
    const suspect = this.#floor
    if (suspect === undefined) return
    this.#raisedSince = undefined
    const lost = await isLost(suspect).catch(() => false)
    if (lost) this.#floor = this.#raisedSince
  }

  /** Answers come in the order of the calls. */
  ask(read: PeerRead): Promise<PeerReadAnswer> {
    return new Promise((resolve, reject) => this.#push({ read, resolve, reject }))
  }

  close(): void {
    this.#http.close()
  }

  #push(waiting: Waiting): void {
    if (this.#waiting.length >= waitingMax) {
      waiting.reject(new WhiteholeError('not-serving', 'too many reads wait for a peer'))
      return
    }
    this.#waiting.push(waiting)
    if (this.#running) return
    this.#running = true
    // What comes in the same turn of the event loop goes along.
    setImmediate(() => void this.#run())
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const some = this.#waiting.slice(0, readsMax)
      try {
        const answers = await this.#askSome(some.map(({ read }) => read))
        this.#waiting = this.#waiting.slice(answers.length)
        this.#answered += answers.length
        for (const [index, answer] of answers.entries()) some[index]?.resolve(answer)
      } catch (cause) {
        this.#waiting = this.#waiting.slice(some.length)
        this.#failed += some.length
        for (const { reject } of some) reject(new WhiteholeError('not-serving', 'no peer can be read', { cause }))
      }
    }
    this.#running = false
  }

  /** Of the first peer that can answer. */
  async #askSome(reads: readonly PeerRead[]): Promise<readonly PeerReadAnswer[]> {
    const { peers, secret, withVersions, logger, timeoutMilliseconds = timeoutMillisecondsDefault } = this.#options
    const known = secret()
    let failure: unknown
    for (const peer of peers()) {
      if (known === undefined) break
      const run: ReadRun = { floor: this.#floor, withVersions: withVersions(), reads }
      try {
        const signal = AbortSignal.timeout(timeoutMilliseconds)
        const bytes = await this.#http.read(endpointOf(peer), { secret: known, run: formatRun(run), signal })
        const { position, answers } = parseAnswers(bytes, run)
        this.raise(position)
        return answers
      } catch (error) {
        failure = error
        logger.debug({ peer: peer.name, reason: describeError(error) }, 'a peer could not be read')
      }
    }
    throw failure ?? new Error('no peer is known to serve')
  }
}
