import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { HttpAddress } from '../admin/listen-http.ts'
import { listenBalancerAgent } from '../admin/balancer-agent.ts'
import { listenNodeHttp } from '../admin/node-http.ts'
import { createRegistry } from '../admin/node-metrics.ts'
import { type DatabaseAccess, Databases } from '../adapters/databases.ts'
import { SqlDirectoryReads } from '../adapters/directory-reads.ts'
import { dumpItems } from '../adapters/memcached-dump.ts'
import { MemcachedReads } from '../adapters/memcached-reads.ts'
import { NearCache } from '../adapters/near-cache.ts'
import { Applier } from '../applier/applier.ts'
import { Catalogue } from '../catalogue/catalogue.ts'
import type { Address } from '../config/address.ts'
import type { LoadedNodeConfig } from '../config/load.ts'
import { describeError } from '../domain/errors.ts'
import type { LocalReads } from '../domain/local-reads.ts'
import { GatewayCounters } from '../gateway/counters.ts'
import { Gateway } from '../gateway/gateway.ts'
import { weightPercent } from '../domain/balancer-weight.ts'
import type { NodeState } from '../domain/node-state.ts'
import { armFailpoint } from '../runtime/failpoints.ts'
import { Donor } from '../recovery/donor.ts'
import { Refill } from '../recovery/refill.ts'
import { withGone } from '../recovery/verification.ts'
import { createLogger, type Logger } from '../runtime/logger.ts'
import { serviceManager } from '../runtime/service-manager.ts'
import { Desk } from '../peers/desk.ts'
import { Peers } from '../peers/peers.ts'
import { DueFlushes } from '../writer/due-flushes.ts'
import { LaneDatabases } from '../writer/lane-session.ts'
import { Arbitration } from '../writer/arbitration.ts'
import { Writer } from '../writer/writer.ts'
import { applyReload, daemonSignals } from './daemon.ts'
import { FilteredRelayWatch } from './filtered-relay-watch.ts'
import { DrainMark } from './drain.ts'
import { NodeVoter } from './node-voter.ts'
import { nodeFigures } from './node-figures.ts'
import { OtherNodes } from './other-nodes.ts'
import { relaysOf } from './configured-cluster.ts'
import { PrimaryWatch } from './primary-watch.ts'
import { Upkeep } from './upkeep.ts'
import { NodeReporter } from './node-reporter.ts'

/**
 * Runs a node until it is told to stop. Resolves once everything of it is closed.
 * @param reload reads the configuration again, at SIGHUP
 */
export async function runNode(config: LoadedNodeConfig, reload: () => LoadedNodeConfig): Promise<void> {
  const logger = createLogger({ level: config.log.level, name: config.name })
  armFailpoint(process.env['WHITEHOLE_FAILPOINT'])
  const manager = serviceManager(process.env)
  const node = new Node(config, logger)
  const signals = daemonSignals(() => {
    manager.reloading()
    config = applyReload({ logger, running: config, load: reload, apply: (changed) => node.reload(changed) })
    manager.reloaded()
  })
  try {
    await node.start()
    manager.ready(() => node.state)
    await signals.stop
    logger.info({}, 'stopping')
    manager.stopping()
  } finally {
    signals.release()
    await node.stop()
    manager.close()
    logger.info({}, 'stopped')
  }
}

/** The parts of a node, wired. The order of `start` and `stop` is what matters here. */
class Node {
  readonly #logger: Logger
  readonly #catalogue = new Catalogue()
  readonly #counters = new GatewayCounters()
  readonly #applier: Applier
  readonly #writer: Writer
  readonly #laneDatabases: LaneDatabases
  readonly #near: NearCache
  readonly #reads: MemcachedReads
  readonly #directory: SqlDirectoryReads
  readonly #others: OtherNodes
  readonly #peers: Peers
  readonly #routedReads: LocalReads
  readonly #donor: Donor
  readonly #arbitration: Arbitration
  readonly #gateway: Gateway
  readonly #dueFlushes: DueFlushes
  readonly #primaryWatch: PrimaryWatch
  readonly #relayWatch: FilteredRelayWatch
  readonly #reporter: NodeReporter
  readonly #upkeep: Upkeep
  readonly #config: LoadedNodeConfig
  readonly #databases: Databases
  readonly #drained: DrainMark
  readonly #abort = new AbortController()
  #http: { close(): Promise<void> } | undefined
  #agent: { close(): Promise<void> } | undefined
  #voter: NodeVoter | undefined
  #applying: Promise<void> = Promise.resolve()

  constructor(config: LoadedNodeConfig, logger: Logger) {
    this.#config = config
    this.#logger = logger
    const databases = new Databases(accessOf(config), logger)
    this.#databases = databases
    this.#drained = new DrainMark(config)
    const { memcached, applier, writer } = config
    this.#others = new OtherNodes({ config, databases, catalogue: this.#catalogue, logger })
    this.#near = new NearCache(config.gateway.nearCacheBytes)
    this.#applier = this.#composeApplier(databases)
    this.#laneDatabases = new LaneDatabases(databases, writer.writeTimeoutMilliseconds)
    this.#writer = new Writer({
      node: config.name,
      database: this.#laneDatabases,
      log: this.#applier.log,
      settings: writer,
      logger: logger.child({ part: 'writer' }),
    })
    this.#reads = new MemcachedReads({
      address: memcached.address,
      namespaces: this.#catalogue,
      staleItems: () => this.#catalogue.staleItems,
      serving: () => this.#applier.serving,
      near: this.#near,
      timeoutMilliseconds: applier.memcachedTimeoutMilliseconds,
    })
    this.#directory = new SqlDirectoryReads({
      databases,
      log: this.#applier.log,
      timeoutMilliseconds: writer.writeTimeoutMilliseconds,
    })
    this.#donor = new Donor({
      address: memcached.address,
      folder: config.dataDirectory,
      served: this.#applier,
      namespaces: this.#catalogue,
      pace: { bytesPerSecondMax: config.rebuild.sendBytesPerSecondMax, clientBytes: () => this.#counters.bytesRead },
      logger: logger.child({ part: 'donor' }),
    })
    this.#routedReads = this.#others.route(this.#reads, this.#applier)
    this.#peers = new Peers({ registry: this.#others.registry, log: this.#applier.log, logger })
    this.#arbitration = new Arbitration({
      mutations: this.#writer,
      reads: this.#reads,
      namespaces: this.#catalogue,
      directory: this.#directory,
      peers: this.#peers,
      writeTimeoutMilliseconds: writer.writeTimeoutMilliseconds,
    })
    this.#primaryWatch = new PrimaryWatch({ databases, applier: this.#applier })
    this.#relayWatch = new FilteredRelayWatch({ databases, applier: this.#applier })
    this.#dueFlushes = new DueFlushes({
      namespaces: this.#catalogue,
      flushDue: async (namespaceId, due) => this.#writer.flushDue(namespaceId, due),
      clock: this.#applier.clock,
      logger,
    })
    this.#gateway = this.#composeGateway()
    const { lagSeconds } = this.#primaryWatch
    this.#reporter = new NodeReporter({
      config,
      databases,
      applier: this.#applier,
      catalogue: this.#catalogue,
      lagSeconds,
      peers: this.#others.watch,
      evictions: () => this.#upkeep.evictions,
    })
    this.#upkeep = new Upkeep({
      config,
      databases,
      applier: this.#applier,
      catalogue: this.#catalogue,
      peers: this.#peers,
      mutations: this.#writer,
      reporter: this.#reporter,
      searchServerId: readerServerId('log search', config.databases.serverId),
      logger,
    })
  }

  /** @throws WhiteholeError `bad-configuration` where an address is taken */
  async start(): Promise<void> {
    const { memcached } = this.#config
    this.#logger.info(
      { memcached: `${memcached.address.host}:${memcached.address.port}`, pid: process.pid },
      'starting',
    )
    const registry = createRegistry(this.#config.name, [
      ...this.#upkeep.figures(),
      ...nodeFigures({
        applier: this.#applier,
        donor: this.#donor,
        near: this.#near,
        peers: this.#others.watch,
        remoteReads: this.#others.reads,
        secondLooks: this.#others.secondLooks,
        evictions: this.#arbitration.figures,
        writer: this.#writer.metrics,
        gateway: this.#counters,
        lagSeconds: this.#primaryWatch.lagSeconds,
      }),
    ])
    this.#voter = await NodeVoter.open(this.#config, {
      databases: this.#databases,
      acknowledged: () => this.#applier.log.position,
      primaryOpened: (address) => this.#laneDatabases.leaveAllBut(address),
    })
    this.#http = await listenNodeHttp(httpAddress(this.#config.http.listen), {
      state: () => ({ state: this.state, failure: this.#applier.failure ?? null }),
      status: async () => ({ ...(await this.#reporter.status()), state: this.state }),
      metrics: registry,
      verify: async (signal) => {
        const verification = await this.#reporter.verify(AbortSignal.any([signal, this.#abort.signal]))
        return withGone(verification, this.#upkeep.gone)
      },
      peers: new Desk({
        log: this.#applier.log,
        reads: this.#reads,
        namespaces: this.#catalogue,
        directory: this.#directory,
        secret: () => this.#others.registry.secret,
        horizon: () => (this.#applier.serving ? this.#applier.horizon : undefined),
        health: () => ({ state: this.#applier.state, lagSeconds: this.#primaryWatch.lagSeconds() }),
      }),
      donations: this.#donor,
      voter: this.#voter?.desk,
    })
    await this.#tellBalancers()
    this.#voter?.start()
    await this.#applier.lock()
    await this.#gateway.start()
    this.#applying = this.#apply().catch((error: unknown) => {
      this.#logger.error({ reason: describeError(error) }, 'the applier failed')
    })
    this.#writer.start()
    this.#dueFlushes.start()
    this.#primaryWatch.start()
    this.#relayWatch.start()
    this.#others.watch.start()
    this.#upkeep.start()
    this.#drained.watch()
  }

  get state(): NodeState {
    return this.#drained.tell(this.#applier.state)
  }

  /** What can change while it runs. */
  reload({ databases }: LoadedNodeConfig): void {
    this.#databases.changePassword(databases.password)
  }

  /** It serves only once its peers can know of it: else they would take an item that it holds for gone. */
  async #apply(): Promise<void> {
    await this.#others.registry.register(this.#abort.signal)
    await this.#applier.run(this.#abort.signal)
  }

  /** Clients first, then what carries their writes, last what applies them: whatever was taken on is still answered. */
  async stop(): Promise<void> {
    this.#applier.drain()
    this.#drained.stop()
    this.#dueFlushes.stop()
    this.#primaryWatch.stop()
    this.#relayWatch.stop()
    this.#upkeep.stop()
    await delay(this.#config.gateway.drainSeconds * 1000)
    await this.#gateway.close()
    this.#others.watch.stop()
    await this.#writer.close()
    this.#directory.close()
    this.#others.close()
    this.#peers.close()
    this.#donor.close()
    this.#reads.close()
    this.#abort.abort()
    await this.#applying
    this.#applier.unlock()
    // Last: until then its voice counts.
    this.#voter?.stop()
    await this.#agent?.close()
    await this.#http?.close()
  }

  async #tellBalancers(): Promise<void> {
    const { balancerAgent, applier } = this.#config
    if (balancerAgent === undefined) return
    this.#agent = await listenBalancerAgent(balancerAgent.listen, () => ({
      percent: weightPercent({
        state: this.state,
        lagSeconds: this.#primaryWatch.lagSeconds(),
        maxLagSeconds: applier.maxLagSeconds,
        isDonor: this.#donor.figures.running > 0,
      }),
      failure: this.#applier.failure ?? null,
    }))
  }

  #composeApplier(databases: Databases): Applier {
    const { memcached, applier, databases: given, dataDirectory } = this.#config
    return new Applier({
      databases,
      catalogue: this.#catalogue,
      refills: new Refill({ peers: this.#others.donors, logger: this.#logger.child({ part: 'rebuild' }) }),
      memcached: {
        host: memcached.address.host,
        port: memcached.address.port,
        restartCommand: memcached.restartCommand,
      },
      dataDirectory,
      serverIds: { applier: given.serverId, scout: readerServerId('scout', given.serverId) },
      heartbeatMilliseconds: given.heartbeatSeconds * 1000,
      ...applier,
      maxLagSeconds: applier.maxLagSeconds,
      watch: this.#near,
      onRewind: () => this.#others.forgetFloors(),
      logger: this.#logger.child({ part: 'applier' }),
    })
  }

  #composeGateway(): Gateway {
    const { gateway, listeners, memcached, dataDirectory } = this.#config
    return new Gateway({
      listeners,
      services: {
        namespaces: this.#catalogue,
        reads: this.#routedReads,
        mutations: this.#arbitration,
        directory: this.#directory,
        counters: this.#counters,
        listing: () => dumpItems(memcached.address, { signal: this.#abort.signal, folder: dataDirectory }),
        nowSeconds: () => Date.now() / 1000,
      },
      limits: {
        connectionsMax: gateway.connectionsMax,
        requestsInFlightMax: gateway.requestsInFlightMax,
        replyBytesMax: gateway.replyBytesMax,
        unreadMilliseconds: gateway.stallTimeoutSeconds * 1000,
        requestMilliseconds: gateway.stallTimeoutSeconds * 1000,
        idleMilliseconds: gateway.idleTimeoutSeconds === 0 ? undefined : gateway.idleTimeoutSeconds * 1000,
      },
    })
  }
}

/** The database that all of this is about: its name is a part of the public interface (DESIGN §3). */
const databaseName = 'memcached'

function accessOf({ databases, datacenter }: LoadedNodeConfig): DatabaseAccess {
  return {
    addresses: databases.addresses.map(({ host, port }) => ({ host, port })),
    relays: relaysOf(databases.relays, datacenter),
    user: databases.user,
    password: databases.password,
    database: databaseName,
    topology: databases.topology,
    connectTimeoutMilliseconds: databases.connectTimeoutMilliseconds,
  }
}

/** Each of a node's readers of the log has an id: a server cuts off the elder of two with one id. */
function readerServerId(reader: 'scout' | 'log search', applierServerId: number): number {
  const hash = createHash('sha256').update(`${reader} of ${applierServerId}`).digest().readUInt32BE(0)
  return 1_000_000_000 + (hash % 3_000_000_000)
}

function httpAddress(address: Address): HttpAddress {
  return address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port }
}
