import { PeerHttp } from '../adapters/peer-http.ts'
import type { DonationAnswer, DonorPeer, DonorPeers } from '../domain/donation.ts'
import { describeError } from '../domain/errors.ts'
import type { Logger } from '../runtime/logger.ts'
import { endpointOf } from './endpoint.ts'
import type { PeerRegistry, Registration } from './registry.ts'
import { parseHealth, type PeerHealth } from './health.ts'

export interface DonorsOptions {
  readonly registry: Pick<PeerRegistry, 'known' | 'secret'>
  readonly datacenter: string
  readonly logger: Logger
}

const healthMilliseconds = 1500

interface Found {
  readonly peer: Registration
  readonly health: PeerHealth
}

/** Where a rebuild may take items: asks every other node that is registered, at that moment. */
export class Donors implements DonorPeers {
  readonly #options: DonorsOptions
  readonly #http = new PeerHttp()

  constructor(options: DonorsOptions) {
    this.#options = options
  }

  async find(signal: AbortSignal): Promise<readonly DonorPeer[]> {
    const { registry, logger, datacenter } = this.#options
    const others = await registry.known(signal)
    const { secret } = registry
    if (secret === undefined) return []
    const asked = others.map(async (peer): Promise<Found | undefined> => {
      try {
        const over = AbortSignal.any([signal, AbortSignal.timeout(healthMilliseconds)])
        return { peer, health: parseHealth(await this.#http.health(endpointOf(peer), { secret, signal: over })) }
      } catch (error) {
        logger.debug({ peer: peer.name, reason: describeError(error) }, 'a peer does not tell how it is')
        return undefined
      }
    })
    const found = (await Promise.all(asked)).filter((one) => one !== undefined)
    const rank = ({ peer, health }: Found): number =>
      (peer.datacenter === datacenter ? 0 : 1e9) + Math.min(health.lagSeconds ?? 1e6, 1e6)
    found.sort((a, b) => rank(a) - rank(b))
    return found.map(({ peer, health }) => ({
      name: peer.name,
      state: health.state,
      give: (request, over) => this.#give(peer, { secret, request, signal: over }),
    }))
  }

  close(): void {
    this.#http.close()
  }

  #give(peer: Registration, given: { secret: string; request: object; signal: AbortSignal }): Promise<DonationAnswer> {
    return this.#http.give(endpointOf(peer), given)
  }
}
