import { PeerHttp } from '../adapters/peer-http.ts'
import { describeError } from '../domain/errors.ts'
import type { FollowedLog } from '../domain/followed-log.ts'
import type { Key } from '../domain/key.ts'
import type { Namespace } from '../domain/namespace.ts'
import type { PeerAnswer, PeerFinding, PeerReads } from '../domain/peer-reads.ts'
import { type Version, versionLowBits } from '../domain/version.ts'
import type { Logger } from '../runtime/logger.ts'
import { endpointOf } from './endpoint.ts'
import { formatQuestion } from './question.ts'
import type { PeerRegistry, Registration } from './registry.ts'

export interface PeersOptions {
  readonly registry: Pick<PeerRegistry, 'others' | 'secret'>
  readonly log: FollowedLog
  readonly logger: Logger
  /** For all of it: the list of nodes and their answers. */
  readonly timeoutMilliseconds?: number
}

const timeoutMillisecondsDefault = 500
/** Questions at a time; one more is answered `unknown` at once, which is safe. */
const questionsMax = 256

/** Asks every other node that is registered, all at once. */
export class Peers implements PeerReads {
  readonly #options: PeersOptions
  readonly #http = new PeerHttp()
  #questions = 0

  constructor(options: PeersOptions) {
    this.#options = options
  }

  /** Never rejects. */
  async find(namespace: Namespace, key: Key, version: Version): Promise<PeerAnswer> {
    // This node has applied the version; whoever is not as far can't say that it is gone.
    const { position } = this.#options.log
    if (position === undefined || this.#questions >= questionsMax) return { kind: 'unknown' }
    this.#questions++
    const over = new AbortController()
    const timer = setTimeout(() => over.abort(), this.#options.timeoutMilliseconds ?? timeoutMillisecondsDefault)
    try {
      const question = formatQuestion({ namespaceId: namespace.id, key, version, position })
      const finding = await Promise.race([this.#ask(question, over.signal), aborted(over.signal)])
      if (finding.kind !== 'held') return finding
      const { flags, value, stale = false } = finding
      return { kind: 'held', item: { ...casOf(version), flags, value }, stale }
    } catch (error) {
      this.#options.logger.debug({ reason: describeError(error) }, 'the peers could not be asked')
      return { kind: 'unknown' }
    } finally {
      clearTimeout(timer)
      // Whoever has not answered by now is not waited for.
      over.abort()
      this.#questions--
    }
  }

  close(): void {
    this.#http.close()
  }

  /** One that holds it is enough; that it is gone all must say. */
  async #ask(question: string, signal: AbortSignal): Promise<PeerFinding> {
    const { registry } = this.#options
    const others = await registry.others()
    const { secret } = registry
    if (secret === undefined) return { kind: 'unknown' }
    return new Promise((resolve) => {
      let silent = false
      let waiting = others.length
      const take = (finding: PeerFinding): void => {
        waiting--
        silent ||= finding.kind === 'unknown'
        if (finding.kind === 'held') resolve(finding)
        else if (waiting === 0) resolve({ kind: silent ? 'unknown' : 'gone' })
      }
      if (waiting === 0) resolve({ kind: 'gone' })
      for (const peer of others) void this.#askOne(peer, { secret, question, signal }).then(take)
    })
  }

  async #askOne(
    peer: Registration,
    given: { secret: string; question: string; signal: AbortSignal },
  ): Promise<PeerFinding> {
    try {
      return await this.#http.ask(endpointOf(peer), given)
    } catch (error) {
      this.#options.logger.debug({ peer: peer.name, reason: describeError(error) }, 'a peer did not answer')
      return { kind: 'unknown' }
    }
  }
}

function casOf(version: Version): { casHigh: number; casLow: number } {
  return {
    casHigh: Number(version >> BigInt(versionLowBits)),
    casLow: Number(BigInt.asUintN(versionLowBits, version)),
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(new Error('not all peers answered in time')), { once: true })
  })
}
