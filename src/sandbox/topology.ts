import { z } from 'zod'
import type { Dialect } from '../domain/position.ts'

/** What a sandbox is made of, kept in its folder: a later `up` resumes with the same. */
export const sandboxSettingsSchema = z.strictObject({
  format: z.literal(1),
  basePort: z
    .int()
    .min(1024)
    .max(65_535 - 80),
  nodes: z.int().min(1).max(9),
  topology: z.enum(['pair', 'single']),
  /** `mariadb` is the installed one; `mysql:` goes before the path of a mysqld. */
  engine: z
    .string()
    .regex(/^(mariadb|mysql:\/.+)$/, 'must be mariadb or mysql:<absolute path of mysqld>')
    .default('mariadb'),
  /** Of each memcached. */
  memoryMebibytes: z.int().min(8).max(1_000_000),
})

export type SandboxSettings = z.output<typeof sandboxSettingsSchema>

export const defaultSettings: SandboxSettings = {
  format: 1,
  basePort: 22_100,
  nodes: 2,
  topology: 'pair',
  engine: 'mariadb',
  memoryMebibytes: 64,
}

export const namespacesAtStart = ['default', 'sessions', 'catalog'] as const

export function dialectOf({ engine }: Pick<SandboxSettings, 'engine'>): Dialect {
  return engine === 'mariadb' ? 'mariadb' : 'mysql'
}

/** Where the server program of the databases is; undefined for the installed one. */
export function mysqldOf({ engine }: Pick<SandboxSettings, 'engine'>): string | undefined {
  return engine === 'mariadb' ? undefined : engine.slice('mysql:'.length)
}

/** Every process of a sandbox with its ports (DESIGN §10). All listen on loopback alone. */
export interface SandboxPlan {
  readonly databases: readonly DatabasePlan[]
  readonly memcacheds: readonly MemcachedPlan[]
  readonly nodes: readonly NodePlan[]
  /** None where there is nothing to decide: one database. */
  readonly monitors: readonly MonitorPlan[]
}

export interface MonitorPlan {
  readonly name: string
  readonly httpPort: number
}

export interface DatabasePlan {
  readonly name: string
  readonly datacenter: string
  readonly serverId: number
  readonly port: number
  /** For replication and monitoring, so that waiting writers can't lock them out. */
  readonly extraPort: number
}

export interface MemcachedPlan {
  readonly name: string
  readonly port: number
}

export interface NodePlan {
  readonly name: string
  readonly datacenter: string
  readonly mainPort: number
  readonly httpPort: number
  readonly memcachedName: string
  readonly memcachedPort: number
  readonly keyPrefixPort: number
  readonly sessionsPort: number
}

const datacenter = 'dc1'

export function planOf({ basePort, nodes, topology }: SandboxSettings): SandboxPlan {
  return {
    databases: numbers(topology === 'pair' ? 2 : 1).map((number) => ({
      name: `db${number}`,
      datacenter,
      serverId: number,
      port: basePort + 40 + number,
      extraPort: basePort + 50 + number,
    })),
    memcacheds: numbers(nodes).map((number) => ({ name: `memcached${number}`, port: basePort + 30 + number })),
    nodes: numbers(nodes).map((number) => ({
      name: `node${number}`,
      datacenter,
      mainPort: basePort + 10 + number,
      httpPort: basePort + 20 + number,
      memcachedName: `memcached${number}`,
      memcachedPort: basePort + 30 + number,
      keyPrefixPort: basePort + 60 + number,
      sessionsPort: basePort + 70 + number,
    })),
    monitors: topology === 'pair' ? [{ name: 'monitor', httpPort: basePort }] : [],
  }
}

/** Who decides about the primary: two nodes and the monitor, so that each of the three may be away; with one node the monitor alone. */
export function voterNodes({ nodes, monitors }: SandboxPlan): readonly NodePlan[] {
  return monitors.length === 0 || nodes.length < 2 ? [] : nodes.slice(0, 2)
}

/** Which process listens on which port. */
export function portsOf(plan: SandboxPlan): readonly { readonly port: number; readonly name: string }[] {
  return [
    ...plan.databases.flatMap(({ name, port, extraPort }) => [
      { name, port },
      { name, port: extraPort },
    ]),
    ...plan.monitors.map(({ name, httpPort }) => ({ name, port: httpPort })),
    ...plan.memcacheds.map(({ name, port }) => ({ name, port })),
    ...plan.nodes.flatMap(({ name, mainPort, httpPort, keyPrefixPort, sessionsPort }) =>
      [mainPort, httpPort, keyPrefixPort, sessionsPort].map((port) => ({ name, port })),
    ),
  ]
}

export function processNames(plan: SandboxPlan): readonly string[] {
  return [...plan.databases, ...plan.monitors, ...plan.memcacheds, ...plan.nodes].map(({ name }) => name)
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1)
}
