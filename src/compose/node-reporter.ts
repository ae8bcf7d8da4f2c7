import type { ListenerStatus, NodeStatus } from '../admin/node-http.ts'
import { closeDatabaseConnection, type Databases, formatDatabaseAddress } from '../adapters/databases.ts'
import { MemcachedConnection } from '../adapters/memcached-connection.ts'
import type { Applier } from '../applier/applier.ts'
import type { Catalogue } from '../catalogue/catalogue.ts'
import { formatAddress } from '../config/address.ts'
import type { LoadedNodeConfig } from '../config/load.ts'
import { WhiteholeError } from '../domain/errors.ts'
import { formatPosition } from '../domain/position.ts'
import type { PeerWatch } from '../peers/peer-watch.ts'
import type { NodeVerification } from '../recovery/verification.ts'
import type { AntiEntropyAccess } from '../recovery/anti-entropy.ts'
import { verifyNode } from '../recovery/verify.ts'
import { version } from '../runtime/version.ts'
import type { EvictionWatch } from '../upkeep/eviction-watch.ts'

export interface NodeReporterParts {
  readonly config: LoadedNodeConfig
  readonly databases: Databases
  readonly applier: Applier
  readonly catalogue: Catalogue
  readonly lagSeconds: () => number | null
  readonly peers: Pick<PeerWatch, 'all'>
  readonly evictions: () => EvictionWatch
}

const memcachedAnswerMilliseconds = 1000

/** What a node tells of itself over HTTP. */
export class NodeReporter {
  readonly #parts: NodeReporterParts

  constructor(parts: NodeReporterParts) {
    this.#parts = parts
  }

  async status(): Promise<NodeStatus> {
    const { config, applier, catalogue, lagSeconds } = this.#parts
    const { position } = applier.log
    return {
      name: config.name,
      datacenter: config.datacenter,
      state: applier.state,
      failure: applier.failure ?? null,
      pid: process.pid,
      version,
      memcached: {
        address: formatAddress(config.memcached.address),
        ...(await this.#memcached()),
        ...describeEvictions(this.#parts.evictions()),
      },
      listeners: config.listeners.map((listener): ListenerStatus => {
        const address = formatAddress(listener.listen)
        return listener.kind === 'bound'
          ? { address, namespace: listener.namespace }
          : { address, namespaceFrom: 'key' }
      }),
      source: applier.source === undefined ? null : formatDatabaseAddress(applier.source.address),
      position: position === undefined ? null : formatPosition(position),
      lagSeconds: lagSeconds(),
      rebuild: applier.rebuildProgress ?? null,
      peers: this.#parts.peers.all,
      namespaces: [...catalogue.all()].map(({ id, name, generation }) => ({ id, name, generation })),
    }
  }

  /** Against the directory of the database that this node follows. */
  async verify(signal: AbortSignal): Promise<NodeVerification> {
    const { config, applier } = this.#parts
    if (!applier.serving || applier.source === undefined) {
      throw new WhiteholeError('not-serving', `${config.name} is ${applier.state}: only a serving node can be verified`)
    }
    const { close, ...access } = await this.openVerification()
    try {
      return await verifyNode({ ...access, log: applier.log, signal })
    } finally {
      close()
    }
  }

  /** Connections of its own to the database that this node follows, and to its memcached. */
  async openVerification(): Promise<AntiEntropyAccess> {
    const { config, applier, databases, catalogue } = this.#parts
    if (applier.source === undefined) throw new WhiteholeError('database-away', 'no database is followed yet')
    const memcachedAddress = config.memcached.address
    const directory = await databases.connect(applier.source.address)
    try {
      const memcached = await MemcachedConnection.connect(memcachedAddress)
      const close = (): void => {
        memcached.destroy()
        closeDatabaseConnection(directory)
      }
      const limits = { folder: config.dataDirectory }
      return { name: config.name, directory, memcached, memcachedAddress, namespaces: catalogue, limits, close }
    } catch (error) {
      closeDatabaseConnection(directory)
      throw error
    }
  }

  async #memcached(): Promise<{ version: string | null; pid: number | null }> {
    let connection: MemcachedConnection | undefined
    try {
      const { address } = this.#parts.config.memcached
      connection = await MemcachedConnection.connect(address, { timeoutMilliseconds: memcachedAnswerMilliseconds })
      const stats = new Map(
        (await connection.lines('stats')).map((line) => line.split(' ').slice(1, 3) as [string, string]),
      )
      return { version: stats.get('version') ?? null, pid: Number(stats.get('pid')) }
    } catch {
      return { version: null, pid: null }
    } finally {
      connection?.destroy()
    }
  }
}

function describeEvictions(watch: EvictionWatch): {
  usedPercent: number | null
  evicted: number | null
  evictedByNamespace: Record<string, number>
} {
  const { capacity, evicted } = watch
  const usedPercent = capacity === undefined ? null : Math.round(capacity.share * 1000) / 10
  return {
    usedPercent,
    evicted: capacity === undefined ? null : watch.total,
    evictedByNamespace: Object.fromEntries(evicted),
  }
}
