import type { Connection } from 'mysql2/promise'
import { closeDatabaseConnection } from '../adapters/databases.ts'
import type { ServerFacts } from '../adapters/control-sql.ts'
import { formatPosition } from '../domain/position.ts'
import { askControl, type ProcessReport } from '../sandbox/control.ts'
import { DatabaseLink } from '../sandbox/database-link.ts'
import { SandboxFolder } from '../sandbox/folder.ts'
import { SandboxError } from '../sandbox/sandbox-error.ts'
import {
  type DatabasePlan,
  dialectOf,
  type NodePlan,
  planOf,
  type SandboxPlan,
  type SandboxSettings,
} from '../sandbox/topology.ts'
import type { Cluster } from './cluster.ts'
import {
  askMonitor,
  askNode,
  type ClusterStatus,
  type DatabaseStatus,
  type MonitorReport,
  type NamespaceEntry,
  type NodeEntry,
  readEpoch,
  readNamespaces,
} from './cluster-status.ts'
import { formatEndpoint, type HttpEndpoint } from './http-client.ts'

/** A sandbox on this machine: processes from its control socket, databases over their unix sockets, nodes over HTTP. */
export class SandboxCluster implements Cluster {
  readonly #folder: SandboxFolder
  readonly #settings: SandboxSettings
  readonly #plan: SandboxPlan
  readonly #links: ReadonlyMap<string, DatabaseLink>

  private constructor(folder: SandboxFolder, settings: SandboxSettings) {
    this.#folder = folder
    this.#settings = settings
    this.#plan = planOf(settings)
    this.#links = new Map(
      this.#plan.databases.map(({ name }) => [
        name,
        new DatabaseLink({ name, dialect: dialectOf(settings), socketPath: folder.databaseSocket(name) }),
      ]),
    )
  }

  /** @throws SandboxError where there is none, or it does not run */
  static async open(path: string): Promise<SandboxCluster> {
    const folder = SandboxFolder.open(path)
    const { settings } = folder
    if (settings === undefined) throw new SandboxError(`${path} holds no sandbox`)
    const cluster = new SandboxCluster(folder, settings)
    await cluster.#processes()
    return cluster
  }

  get nodes(): { name: string; http: HttpEndpoint }[] {
    return this.#plan.nodes.map((node) => ({ name: node.name, http: endpointOf(node) }))
  }

  async status(): Promise<ClusterStatus> {
    const processes = await this.#processes()
    const pidOf = (name: string): number | null => processes.find((process) => process.name === name)?.pid ?? null
    const reports = await Promise.all(this.#plan.monitors.map(({ httpPort }) => askMonitor(localEndpoint(httpPort))))
    const report = reports.find((one) => one !== undefined)
    const [databases, nodes] = await Promise.all([
      Promise.all(this.#plan.databases.map((database) => this.#database(database, pidOf(database.name), report))),
      Promise.all(this.#plan.nodes.map((node) => nodeEntry(node, pidOf))),
    ])
    if (databases.every(({ position }) => position === null) && nodes.every(({ pid }) => pid === null)) {
      throw new SandboxError(
        `nothing of the sandbox in ${this.#folder.path} answers: see its logs, or "whitehole down" and "whitehole up"`,
      )
    }
    const { namespaces, epoch } = await this.#fromDirectory(databases)
    const settled = databases.filter(({ role }) => role === 'primary').length === 1
    return {
      ready:
        settled &&
        databases.every(({ role }) => role !== 'unknown') &&
        reports.every((one) => one?.ready === true) &&
        nodes.every(({ state }) => state === 'serving') &&
        namespaces.length > 0,
      topology: this.#settings.topology,
      mode: this.#settings.topology === 'pair' ? (report?.mode ?? 'unknown') : 'single',
      epoch: report?.epoch ?? epoch,
      databases,
      nodes,
      monitors: this.#plan.monitors.map(({ name, httpPort }, index) => ({
        name,
        http: formatEndpoint(localEndpoint(httpPort)),
        pid: pidOf(name),
        acting: reports[index]?.acting ?? false,
      })),
      stuck: report?.stuck ?? null,
      namespaces,
    }
  }

  async connectPrimary(): Promise<Connection> {
    const { databases } = await this.status()
    const primary = databases.find(({ role }) => role === 'primary')
    const link = primary === undefined ? undefined : this.#links.get(primary.name)
    if (link !== undefined) return link.connect()
    throw new SandboxError('no database is writable at the moment: see "whitehole status"')
  }

  close(): void {
    for (const link of this.#links.values()) link.close()
  }

  async #processes(): Promise<readonly ProcessReport[]> {
    const reply = await askControl(this.#folder.controlSocket, { command: 'processes' })
    if (reply === undefined) {
      throw new SandboxError(
        `the sandbox in ${this.#folder.path} does not run: start it with "whitehole up --dir ${this.#folder.path}"`,
      )
    }
    if (!reply.ok) throw new SandboxError(reply.message)
    return reply.processes
  }

  async #database(plan: DatabasePlan, pid: number | null, report: MonitorReport | undefined): Promise<DatabaseStatus> {
    const link = this.#links.get(plan.name)
    const view = pid === null || link === undefined ? undefined : await look(link)
    return {
      name: plan.name,
      engine: dialectOf(this.#settings),
      datacenter: plan.datacenter,
      address: `127.0.0.1:${plan.port}`,
      socket: this.#folder.databaseSocket(plan.name),
      role: roleOf(plan.name, view, report),
      position: view === undefined ? null : formatPosition(view.position),
      pid,
    }
  }

  /** From the primary, else from any that answers. */
  async #fromDirectory(databases: readonly DatabaseStatus[]): Promise<{ namespaces: NamespaceEntry[]; epoch: number }> {
    const answering = databases.filter(({ position }) => position !== null)
    for (const { name } of answering.toSorted((a, b) => Number(b.role === 'primary') - Number(a.role === 'primary'))) {
      const connection = await this.#links
        .get(name)
        ?.connect()
        .catch(() => undefined)
      try {
        if (connection === undefined) continue
        return { namespaces: await readNamespaces(connection), epoch: await readEpoch(connection) }
      } catch {
        // The other one may answer; before the first init neither does.
      } finally {
        if (connection !== undefined) closeDatabaseConnection(connection)
      }
    }
    return { namespaces: [], epoch: 0 }
  }
}

async function look(link: DatabaseLink): Promise<ServerFacts | undefined> {
  try {
    return await link.view()
  } catch {
    return undefined
  }
}

/**
 * A standby is one that replicates; a read-only database that does not is none. A former primary that was fenced while writers waited
 * shows as writable for as long as they wait.
 */
function roleOf(
  name: string,
  view: ServerFacts | undefined,
  report: MonitorReport | undefined,
): DatabaseStatus['role'] {
  if (view === undefined) return 'unknown'
  if (!view.readOnly) return (report?.primary ?? name) === name ? 'primary' : 'unknown'
  const { replication } = view
  if (replication?.receiver !== 'connected' || replication.applier !== 'running') return 'unknown'
  return report?.databases?.find((one) => one.name === name)?.role === 'relay' ? 'relay' : 'standby'
}

function localEndpoint(port: number): HttpEndpoint {
  return { host: '127.0.0.1', port }
}

function endpointOf(node: NodePlan): HttpEndpoint {
  return localEndpoint(node.httpPort)
}

async function nodeEntry(plan: NodePlan, pidOf: (name: string) => number | null): Promise<NodeEntry> {
  const pid = pidOf(plan.name)
  const report = pid === null ? undefined : await askNode(endpointOf(plan))
  const memcached = {
    address: `127.0.0.1:${plan.memcachedPort}`,
    version: report?.memcached.version ?? null,
    pid: pidOf(plan.memcachedName),
  }
  const known = { name: plan.name, datacenter: plan.datacenter, http: formatEndpoint(endpointOf(plan)), memcached }
  if (report === undefined) return { ...known, ...silent(plan, pid) }
  const { state, listeners, source, position, lagSeconds, rebuild = null } = report
  return { ...known, state, pid, listeners, source, position, lagSeconds, rebuild }
}

function silent(plan: NodePlan, pid: number | null): Omit<NodeEntry, 'name' | 'datacenter' | 'http' | 'memcached'> {
  return {
    state: pid === null ? 'stopped' : 'starting',
    pid,
    listeners: [
      { address: `127.0.0.1:${plan.mainPort}`, namespace: 'default' },
      { address: `127.0.0.1:${plan.keyPrefixPort}`, namespaceFrom: 'key' },
      { address: `127.0.0.1:${plan.sessionsPort}`, namespace: 'sessions' },
    ],
    source: null,
    position: null,
    lagSeconds: null,
    rebuild: null,
  }
}
