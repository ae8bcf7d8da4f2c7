import type { Connection } from 'mysql2/promise'
import { closeDatabaseConnection, Databases, formatDatabaseAddress, type ProbeResult } from '../adapters/databases.ts'
import { type Address, formatAddress } from '../config/address.ts'
import { loadNodeConfig, type LoadedNodeConfig } from '../config/load.ts'
import { formatPosition } from '../domain/position.ts'
import type { Cluster } from './cluster.ts'
import {
  askNode,
  type ClusterStatus,
  type DatabaseStatus,
  type ListenerEntry,
  type NodeEntry,
  readEpoch,
  readNamespaces,
} from './cluster-status.ts'
import { formatEndpoint, type HttpEndpoint } from './http-client.ts'

/** What a node's own configuration tells of: its databases, with the node's account, and that one node. */
export class ConfiguredCluster implements Cluster {
  readonly #config: LoadedNodeConfig
  readonly #databases: Databases

  private constructor(config: LoadedNodeConfig) {
    this.#config = config
    this.#databases = new Databases(databaseAccess(config))
  }

  static async open(file: string): Promise<ConfiguredCluster> {
    return Promise.resolve(new ConfiguredCluster(loadNodeConfig(file)))
  }

  get nodes(): { name: string; http: HttpEndpoint }[] {
    return [{ name: this.#config.name, http: endpointOf(this.#config.http.listen) }]
  }

  async status(): Promise<ClusterStatus> {
    const [probes, node] = await Promise.all([this.#databases.probeAll(), this.#node()])
    const databases = probes.map((probe) => this.#database(probe))
    const { topology } = this.#config.databases
    const { namespaces, epoch } = await this.#fromDirectory()
    return {
      ready: node.state === 'serving' && databases.filter(({ role }) => role === 'primary').length === 1,
      topology,
      mode: topology === 'pair' ? 'paired' : topology,
      epoch,
      databases,
      nodes: [node],
      monitors: [],
      namespaces,
    }
  }

  async connectPrimary(): Promise<Connection> {
    const { address } = await this.#databases.findPrimary()
    return this.#databases.connect(address, { multipleStatements: true })
  }

  close(): void {}

  #database(result: ProbeResult): DatabaseStatus {
    const { databases, datacenter } = this.#config
    const text = formatDatabaseAddress(result.address)
    const relay = databases.relays.find(({ address }) => formatDatabaseAddress(address) === text)
    const status = databaseStatus(result, relay?.datacenter ?? datacenter)
    return relay !== undefined && status.role === 'standby' ? { ...status, role: 'relay' } : status
  }

  async #fromDirectory(): Promise<Pick<ClusterStatus, 'namespaces' | 'epoch'>> {
    const connection = await this.connectPrimary().catch(() => undefined)
    if (connection === undefined) return { namespaces: [], epoch: 0 }
    try {
      return { namespaces: await readNamespaces(connection), epoch: await readEpoch(connection) }
    } finally {
      closeDatabaseConnection(connection)
    }
  }

  async #node(): Promise<NodeEntry> {
    const { name, datacenter, memcached, listeners, http } = this.#config
    const report = await askNode(endpointOf(http.listen))
    return {
      name,
      datacenter,
      state: report?.state ?? 'stopped',
      pid: report?.pid ?? null,
      http: formatEndpoint(endpointOf(http.listen)),
      memcached: report?.memcached ?? { address: formatAddress(memcached.address), version: null, pid: null },
      listeners: report?.listeners ?? listeners.map(listenerEntry),
      source: report?.source ?? null,
      position: report?.position ?? null,
      lagSeconds: report?.lagSeconds ?? null,
      rebuild: report?.rebuild ?? null,
    }
  }
}

export function databaseAccess(config: LoadedNodeConfig): ConstructorParameters<typeof Databases>[0] {
  const { addresses, user, password, topology, connectTimeoutMilliseconds } = config.databases
  const relays = relaysOf(config.databases.relays, config.datacenter)
  return { addresses, relays, user, password, topology, connectTimeoutMilliseconds, database: 'memcached' }
}

/** As a node of that data centre sees them. */
export function relaysOf(
  relays: LoadedNodeConfig['databases']['relays'],
  datacenter: string,
): { host: string; port: number; own: boolean; filtered: boolean }[] {
  return relays.map(({ address: { host, port }, filtered, ...relay }) => ({
    host,
    port,
    own: relay.datacenter === datacenter,
    filtered,
  }))
}

export function endpointOf(address: Address): HttpEndpoint {
  return address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port }
}

function listenerEntry(listener: LoadedNodeConfig['listeners'][number]): ListenerEntry {
  const address = formatAddress(listener.listen)
  return listener.kind === 'bound' ? { address, namespace: listener.namespace } : { address, namespaceFrom: 'key' }
}

function databaseStatus({ address, probe }: ProbeResult, datacenter: string): DatabaseStatus {
  const text = formatDatabaseAddress(address)
  const role = probe === undefined ? 'unknown' : probe.writable ? 'primary' : probe.replica ? 'standby' : 'unknown'
  return {
    name: text,
    engine: probe?.dialect ?? 'unknown',
    datacenter,
    address: text,
    socket: null,
    role,
    position: probe === undefined ? null : formatPosition(probe.position),
    pid: null,
  }
}
