import { setTimeout as delay } from 'node:timers/promises'
import { probeListener } from '../adapters/listener-probe.ts'
import { PeerHttp } from '../adapters/peer-http.ts'
import { parseAddress } from '../config/address.ts'
import { describeError } from '../domain/errors.ts'
import type { Logger } from '../runtime/logger.ts'
import { endpointOf } from './endpoint.ts'
import { judgePeer, parseHealth, type PeerHealth, type PeerView, type ProbeResult, type Thresholds } from './health.ts'
import type { PeerRegistry, Registration } from './registry.ts'

export interface PeerWatchOptions {
  readonly registry: Pick<PeerRegistry, 'known' | 'secret'>
  readonly datacenter: string
  /** Names a namespace that is there, for a key to ask for; undefined where none is known. */
  readonly namespace: () => string | undefined
  readonly logger: Logger
  readonly thresholds?: Thresholds
  readonly periodMilliseconds?: number
}

/** What a node knows of another one, for status and metrics. */
export interface WatchedPeer {
  readonly name: string
  readonly datacenter: string
  readonly up: boolean
  readonly state: PeerHealth['state'] | null
  readonly lagSeconds: number | null
}

const thresholdsDefault: Thresholds = { rise: 2, fall: 3 }
const periodMillisecondsDefault = 1000
const probeMilliseconds = 800
/** The list is read so often; a node that is new is seen by then. */
const listMilliseconds = 10_000
const listRetryMilliseconds = 1000

/**
 * How the other nodes are: each is asked about once a second, over HTTP for its state and its lag, and through its own listener with a real `mg`.
 * The pauses are random, so that many nodes do not ask one at the same instant.
 */
export class PeerWatch {
  readonly #options: PeerWatchOptions
  readonly #http = new PeerHttp()
  readonly #views = new Map<string, { readonly peer: Registration; view: PeerView | undefined }>()
  readonly #abort = new AbortController()
  #usable: readonly Registration[] = []

  constructor(options: PeerWatchOptions) {
    this.#options = options
  }

  /** Those that are up: own data centre first, then the least behind. */
  get usable(): readonly Registration[] {
    return this.#usable
  }

  get all(): readonly WatchedPeer[] {
    return [...this.#views.values()].map(({ peer: { name, datacenter }, view }) => ({
      name,
      datacenter,
      up: view?.up ?? false,
      state: view?.health?.state ?? null,
      lagSeconds: view?.health?.lagSeconds ?? null,
    }))
  }

  start(): void {
    void this.#watchList()
  }

  stop(): void {
    this.#abort.abort()
    this.#http.close()
  }

  async #watchList(): Promise<void> {
    const { signal } = this.#abort
    while (!signal.aborted) {
      let pause = listRetryMilliseconds
      try {
        const peers = await this.#options.registry.known(signal)
        if (this.#options.registry.secret !== undefined) {
          this.#take(peers)
          pause = listMilliseconds
        }
      } catch (error) {
        this.#options.logger.debug({ reason: describeError(error) }, 'the list of nodes cannot be read')
      }
      await this.#pause(pause)
    }
  }

  #take(peers: readonly Registration[]): void {
    const names = new Set(peers.map(({ name }) => name))
    for (const name of this.#views.keys()) if (!names.has(name)) this.#views.delete(name)
    for (const peer of peers) {
      const known = this.#views.get(peer.name)
      const same = known !== undefined && known.peer.http === peer.http && known.peer.listener === peer.listener
      if (same) continue
      this.#views.set(peer.name, { peer, view: undefined })
      void this.#watch(peer)
    }
    this.#sort()
  }

  /** Until it is taken off the list, or has another address. */
  async #watch(peer: Registration): Promise<void> {
    const { thresholds = thresholdsDefault, periodMilliseconds = periodMillisecondsDefault, logger } = this.#options
    while (!this.#abort.signal.aborted) {
      const entry = this.#views.get(peer.name)
      if (entry?.peer !== peer) return
      const result = await this.#probe(peer)
      if (this.#abort.signal.aborted || this.#views.get(peer.name) !== entry) return
      const before = entry.view?.up
      entry.view = judgePeer(entry.view, result, thresholds)
      const { up, health } = entry.view
      if (before !== up) logger.info({ peer: peer.name, up, state: health?.state }, 'peer')
      this.#sort()
      await this.#pause(periodMilliseconds * (0.8 + Math.random() * 0.4))
    }
  }

  async #probe(peer: Registration): Promise<ProbeResult> {
    const { registry, namespace, logger } = this.#options
    const { secret } = registry
    if (secret === undefined) return undefined
    const signal = AbortSignal.timeout(probeMilliseconds)
    try {
      const health = parseHealth(await this.#http.health(endpointOf(peer), { secret, signal }))
      const address = parseAddress(peer.listener)
      if (health.state === 'serving' && address !== undefined) {
        const target = address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port }
        await probeListener(target, `${namespace() ?? 'default'}:~whitehole-probe`, signal)
      }
      return health
    } catch (error) {
      logger.debug({ peer: peer.name, reason: describeError(error) }, 'a peer does not answer')
      return undefined
    }
  }

  #sort(): void {
    const { datacenter } = this.#options
    const rank = ({ peer, view }: { peer: Registration; view: PeerView | undefined }): number =>
      (peer.datacenter === datacenter ? 0 : 1e9) + Math.min(view?.health?.lagSeconds ?? 0, 1e6)
    this.#usable = [...this.#views.values()]
      .filter(({ view }) => view?.up === true)
      .sort((a, b) => rank(a) - rank(b))
      .map(({ peer }) => peer)
  }

  #pause(milliseconds: number): Promise<void> {
    return delay(milliseconds, undefined, { signal: this.#abort.signal, ref: false }).catch(() => {})
  }
}
