import type { Databases } from '../adapters/databases.ts'
import type { Applier } from '../applier/applier.ts'
import type { Catalogue } from '../catalogue/catalogue.ts'
import { formatAddress } from '../config/address.ts'
import type { LoadedNodeConfig } from '../config/load.ts'
import type { LocalReads } from '../domain/local-reads.ts'
import { Donors } from '../peers/donors.ts'
import { PeerWatch } from '../peers/peer-watch.ts'
import { PeerRegistry, type Registration } from '../peers/registry.ts'
import { RemoteReads } from '../peers/remote-reads.ts'
import { RoutedReads } from '../peers/routed-reads.ts'
import { SecondLook } from '../peers/second-look.ts'
import type { Logger } from '../runtime/logger.ts'

/** What a node knows of the others, and asks of them. */
export class OtherNodes {
  readonly registry: PeerRegistry
  readonly donors: Donors
  readonly watch: PeerWatch
  readonly reads: RemoteReads
  readonly #catalogue: Catalogue
  readonly #gateway: LoadedNodeConfig['gateway']
  readonly #logger: Logger
  #missReads: RemoteReads | undefined
  #secondLook: SecondLook | undefined
  readonly #databases: Databases

  constructor(given: { config: LoadedNodeConfig; databases: Databases; catalogue: Catalogue; logger: Logger }) {
    const { config, databases, catalogue } = given
    const { datacenter } = config
    this.#catalogue = catalogue
    this.#gateway = config.gateway
    this.#databases = databases
    const logger = given.logger.child({ part: 'peers' })
    this.#logger = logger
    const self = registrationOf(config)
    this.registry = new PeerRegistry({ databases, self, logger, timeoutMilliseconds: listMilliseconds })
    this.donors = new Donors({ registry: this.registry, datacenter, logger })
    this.watch = new PeerWatch({
      registry: this.registry,
      datacenter,
      namespace: () => {
        for (const { name } of catalogue.all()) return name
        return undefined
      },
      logger,
    })
    this.reads = this.#remoteReads()
  }

  /** Where clients' reads go. */
  route(own: LocalReads, applier: Applier): LocalReads {
    const routed = new RoutedReads({
      own,
      remote: this.reads,
      namespaces: this.#catalogue,
      log: applier.log,
      lastHorizon: () => applier.horizon,
      isLost: async (position) => (await this.#databases.lost([position])) === true,
    })
    const { onMiss, onMissMilliseconds } = this.#gateway
    if (onMiss === 'miss') return routed
    this.#missReads = this.#remoteReads(onMissMilliseconds)
    this.#secondLook = new SecondLook({
      reads: routed,
      remote: this.#missReads,
      namespaces: this.#catalogue,
      log: applier.log,
      limitMilliseconds: onMissMilliseconds,
      logger: this.#logger,
    })
    return this.#secondLook
  }

  /** What peers answered may be of a log that is not the primary's. */
  forgetFloors(): void {
    this.reads.forgetFloor()
    this.#missReads?.forgetFloor()
  }

  /** Undefined where a miss is a miss. */
  get secondLooks(): SecondLook['figures'] | undefined {
    return this.#secondLook?.figures
  }

  #remoteReads(timeoutMilliseconds?: number): RemoteReads {
    return new RemoteReads({
      peers: () => this.watch.usable,
      secret: () => this.registry.secret,
      withVersions: () => this.#catalogue.baseWatermark === undefined,
      logger: this.#logger,
      ...(timeoutMilliseconds === undefined ? {} : { timeoutMilliseconds }),
    })
  }

  close(): void {
    this.watch.stop()
    this.registry.close()
    this.donors.close()
    this.reads.close()
    this.#missReads?.close()
  }
}

/** For a read of two small tables. */
const listMilliseconds = 2000

function registrationOf({ name, datacenter, listeners, http }: LoadedNodeConfig): Registration {
  const prefixed = listeners.find(({ kind }) => kind === 'key-prefix')
  return {
    name,
    datacenter,
    listener: prefixed === undefined ? '' : formatAddress(prefixed.advertise),
    http: formatAddress(http.advertise),
  }
}
