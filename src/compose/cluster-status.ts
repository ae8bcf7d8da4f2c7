import type { Connection, RowDataPacket } from 'mysql2/promise'
import { z } from 'zod'
import { askHttp, type HttpEndpoint } from './http-client.ts'

/** `whitehole status --json`: a contract with scripts outside of the project (DESIGN §10). */
export interface ClusterStatus {
  readonly ready: boolean
  readonly topology: string
  readonly mode: string
  readonly epoch: number
  readonly databases: readonly DatabaseStatus[]
  readonly nodes: readonly NodeEntry[]
  readonly monitors: readonly { name: string; http: string; pid: number | null; acting: boolean }[]
  readonly namespaces: readonly NamespaceEntry[]
  /** What no rule of the monitors decides, and what a person can do about it. */
  readonly stuck?: { readonly why: string; readonly cure: string } | null
}

export interface DatabaseStatus {
  readonly name: string
  readonly engine: string
  readonly datacenter: string
  readonly address: string
  readonly socket: string | null
  readonly role: 'primary' | 'standby' | 'relay' | 'member' | 'unknown'
  readonly position: string | null
  readonly pid: number | null
}

export interface NodeEntry {
  readonly name: string
  readonly datacenter: string
  readonly state: string
  readonly pid: number | null
  readonly http: string
  readonly memcached: {
    readonly address: string
    readonly version: string | null
    readonly pid: number | null
    /** At 100 it evicts. */
    readonly usedPercent?: number | null | undefined
    readonly evicted?: number | null | undefined
    readonly evictedByNamespace?: Readonly<Record<string, number>> | undefined
  }
  readonly listeners: readonly ListenerEntry[]
  readonly source: string | null
  readonly position: string | null
  readonly lagSeconds: number | null
  readonly rebuild: RebuildEntry | null
}

/** How far a rebuild is. Numbers are null where nobody can tell them. */
export interface RebuildEntry {
  readonly from: 'peer' | 'log'
  readonly peer: string | null
  readonly keys: number
  readonly keysExpected: number | null
  readonly percent: number | null
  readonly keysPerSecond: number
  readonly remainingSeconds: number | null
}

export type ListenerEntry =
  { readonly address: string; readonly namespace: string } | { readonly address: string; readonly namespaceFrom: 'key' }

export interface NamespaceEntry {
  readonly id: number
  readonly name: string
  readonly generation: number
  /** Live keys of the directory; null where no database could be asked. */
  readonly keys: number | null
}

const nodeStatusSchema = z.object({
  name: z.string(),
  datacenter: z.string(),
  state: z.string(),
  failure: z.string().nullish(),
  pid: z.number(),
  memcached: z.object({
    address: z.string(),
    version: z.string().nullable(),
    pid: z.number().nullable(),
    usedPercent: z.number().nullish(),
    evicted: z.number().nullish(),
    evictedByNamespace: z.record(z.string(), z.number()).optional(),
  }),
  listeners: z.array(
    z.union([
      z.object({ address: z.string(), namespace: z.string() }),
      z.object({ address: z.string(), namespaceFrom: z.literal('key') }),
    ]),
  ),
  source: z.string().nullable(),
  position: z.string().nullable(),
  lagSeconds: z.number().nullable(),
  rebuild: z
    .object({
      from: z.enum(['peer', 'log']),
      peer: z.string().nullable(),
      keys: z.number(),
      keysExpected: z.number().nullable(),
      percent: z.number().nullable(),
      keysPerSecond: z.number(),
      remainingSeconds: z.number().nullable(),
    })
    .nullish(),
  namespaces: z.array(z.object({ id: z.number(), name: z.string(), generation: z.number() })),
})

export type NodeReport = z.output<typeof nodeStatusSchema>

const monitorReportSchema = z.object({
  acting: z.boolean(),
  ready: z.boolean(),
  mode: z.string().nullable(),
  epoch: z.number(),
  primary: z.string().nullable(),
  databases: z.array(z.object({ name: z.string(), role: z.string() })).optional(),
  stuck: z.object({ why: z.string(), cure: z.string() }).nullable(),
})

export type MonitorReport = z.output<typeof monitorReportSchema>

const monitorAnswerMilliseconds = 2000

/** Undefined where the monitor does not answer. */
export async function askMonitor(endpoint: HttpEndpoint): Promise<MonitorReport | undefined> {
  try {
    const { status, body } = await askHttp(endpoint, {
      method: 'GET',
      path: '/v1/cluster',
      timeoutMilliseconds: monitorAnswerMilliseconds,
    })
    return status === 200 ? monitorReportSchema.parse(body) : undefined
  } catch {
    return undefined
  }
}

const nodeAnswerMilliseconds = 3000

/** Undefined where the node does not answer. */
export async function askNode(endpoint: HttpEndpoint): Promise<NodeReport | undefined> {
  try {
    const { status, body } = await askHttp(endpoint, {
      method: 'GET',
      path: '/v1/status',
      timeoutMilliseconds: nodeAnswerMilliseconds,
    })
    return status === 200 ? nodeStatusSchema.parse(body) : undefined
  } catch {
    return undefined
  }
}

/** Live keys: of the namespace's generation (the version's high bits) and not expired by the database's clock. */
const namespacesQuery = `
  SELECT n.ns_id AS id, n.ns_name AS name, n.generation AS generation,
    (SELECT COUNT(*) FROM memcached.mc_stored_keys k
      WHERE k.ns_id = n.ns_id AND k.version >> 33 = n.generation AND (k.expire = 0 OR k.expire > UNIX_TIMESTAMP())) AS \`keys\`
  FROM memcached.mc_namespaces n ORDER BY n.ns_name`

export async function readNamespaces(connection: Pick<Connection, 'query'>): Promise<NamespaceEntry[]> {
  const [rows] = await connection.query<RowDataPacket[]>(namespacesQuery)
  return rows.map((row) => ({
    id: Number(row['id']),
    name: String(row['name']),
    generation: Number(row['generation']),
    keys: Number(row['keys']),
  }))
}

export async function readEpoch(connection: Pick<Connection, 'query'>): Promise<number> {
  const [rows] = await connection.query<RowDataPacket[]>("SELECT value FROM memcached.mc_meta WHERE name = 'epoch'")
  return Number(rows[0]?.['value'] ?? 0)
}
