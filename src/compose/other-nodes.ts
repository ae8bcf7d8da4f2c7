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
import type { Logger } from '../runtime/logger.ts'

/** What a node knows of the others, and asks of them. */
export class OtherNodes {
  readonly registry: PeerRegistry
  readonly donors: Donors
  readonly watch: PeerWatch
  readonly reads: RemoteReads
  readonly #catalogue: Catalogue

  constructor(given: { config: LoadedNodeConfig; databases: Databases; catalogue: Catalogue; logger: Logger }) {
    const { config, databases, catalogue } = given
    const { datacenter } = config
    this.#catalogue = catalogue
    const logger = given.logger.child({ part: 'peers' })
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
    this.reads = new RemoteReads({
      peers: () => this.watch.usable,
      secret: () => this.registry.secret,
      withVersions: () => catalogue.baseWatermark === undefined,
      logger,
    })
  }

  /** Where clients' reads go. */
  route(own: LocalReads, applier: Applier): RoutedReads {
    return new RoutedReads({
      own,
      remote: this.reads,
      namespaces: this.#catalogue,
      log: applier.log,
      lastHorizon: () => applier.horizon,
    })
  }

  close(): void {
    this.watch.stop()
    this.registry.close()
    this.donors.close()
    this.reads.close()
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
