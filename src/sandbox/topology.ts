import { z } from 'zod'
import type { Dialect } from '../domain/position.ts'

/** What a sandbox is made of, kept in its folder: a later `up` resumes with the same. */
export const sandboxSettingsSchema = z.strictObject({
  format: z.literal(1),
  basePort: z
    .int()
    .min(1024)
    .max(65_535 - 200),
  nodes: z.int().min(1).max(9),
  topology: z.enum(['pair', 'single']),
  /** `mariadb` is the installed one; `mysql:` goes before the path of a mysqld. */
  engine: z
    .string()
    .regex(/^(mariadb|mysql:\/.+)$/, 'must be mariadb or mysql:<absolute path of mysqld>')
    .default('mariadb'),
  /** Of each memcached. */
  memoryMebibytes: z.int().min(8).max(1_000_000),
  datacenters: z.int().min(1).max(2).default(1),
  /** Of each byte between the data centres, each way. */
  linkDelayMilliseconds: z.int().min(0).max(10_000).default(0),
})

export type SandboxSettings = z.output<typeof sandboxSettingsSchema>

export const defaultSettings: SandboxSettings = {
  format: 1,
  basePort: 22_100,
  nodes: 2,
  topology: 'pair',
  engine: 'mariadb',
  memoryMebibytes: 64,
  datacenters: 1,
  linkDelayMilliseconds: 0,
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
  /** Between two data centres; undefined where there is one. */
  readonly link: LinkPlan | undefined
}

/** Carries what crosses from one data centre to the other, save what nodes ask each other. */
export interface LinkPlan {
  readonly name: string
  readonly routes: readonly { readonly port: number; readonly to: number }[]
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
  readonly isRelay: boolean
  /** The same two as the other data centre reaches them. */
  readonly farPort: number
  readonly farExtraPort: number
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

/** How far the ports of the second data centre are from those of the first. */
const step = 100

export function planOf(settings: SandboxSettings): SandboxPlan {
  const { basePort, nodes, topology, datacenters } = settings
  const homeDatabases = topology === 'pair' ? 2 : 1
  const isDouble = datacenters === 2
  const databases = [
    ...numbers(homeDatabases).map((number) => databasePlan(basePort, { number, slot: number, isRelay: false })),
    ...(isDouble ? [databasePlan(basePort, { number: homeDatabases + 1, slot: 1, isRelay: true })] : []),
  ]
  const nodePlans = [
    ...numbers(nodes).map((slot) => nodePlan(basePort, { number: slot, slot, datacenter: 'dc1' })),
    ...(isDouble
      ? numbers(nodes).map((slot) => nodePlan(basePort + step, { number: nodes + slot, slot, datacenter: 'dc2' }))
      : []),
  ]
  return {
    databases,
    memcacheds: nodePlans.map(({ memcachedName, memcachedPort }) => ({ name: memcachedName, port: memcachedPort })),
    nodes: nodePlans,
    monitors: topology === 'pair' ? [{ name: 'monitor', httpPort: basePort }] : [],
    link: isDouble ? { name: 'link', routes: databases.flatMap(routesTo) } : undefined,
  }
}

function databasePlan(basePort: number, given: { number: number; slot: number; isRelay: boolean }): DatabasePlan {
  const { number, slot, isRelay } = given
  const own = isRelay ? basePort + step : basePort
  const far = isRelay ? basePort : basePort + step
  return {
    name: `db${number}`,
    datacenter: isRelay ? 'dc2' : 'dc1',
    serverId: number,
    port: own + 40 + slot,
    extraPort: own + 50 + slot,
    isRelay,
    farPort: far + 80 + slot,
    farExtraPort: far + 90 + slot,
  }
}

/** Only the monitor uses the second one, and it is at home. */
function routesTo({ isRelay, port, extraPort, farPort, farExtraPort }: DatabasePlan): LinkPlan['routes'] {
  const usual = { port: farPort, to: port }
  return isRelay ? [usual, { port: farExtraPort, to: extraPort }] : [usual]
}

function nodePlan(base: number, given: { number: number; slot: number; datacenter: string }): NodePlan {
  const { number, slot, datacenter } = given
  return {
    name: `node${number}`,
    datacenter,
    mainPort: base + 10 + slot,
    httpPort: base + 20 + slot,
    memcachedName: `memcached${number}`,
    memcachedPort: base + 30 + slot,
    keyPrefixPort: base + 60 + slot,
    sessionsPort: base + 70 + slot,
  }
}

/** Who decides about the primary: two nodes and the monitor, so that each of the three may be away; with one node the monitor alone. */
export function voterNodes({ nodes, monitors }: SandboxPlan): readonly NodePlan[] {
  const home = nodes.filter(({ datacenter }) => datacenter === 'dc1')
  return monitors.length === 0 || home.length < 2 ? [] : home.slice(0, 2)
}

/** Which process listens on which port. */
export function portsOf(plan: SandboxPlan): readonly { readonly port: number; readonly name: string }[] {
  return [
    ...plan.databases.flatMap(({ name, port, extraPort }) => [
      { name, port },
      { name, port: extraPort },
    ]),
    ...plan.monitors.map(({ name, httpPort }) => ({ name, port: httpPort })),
    ...(plan.link?.routes.map(({ port }) => ({ name: 'link', port })) ?? []),
    ...plan.memcacheds.map(({ name, port }) => ({ name, port })),
    ...plan.nodes.flatMap(({ name, mainPort, httpPort, keyPrefixPort, sessionsPort }) =>
      [mainPort, httpPort, keyPrefixPort, sessionsPort].map((port) => ({ name, port })),
    ),
  ]
}

export function processNames(plan: SandboxPlan): readonly string[] {
  const { databases, monitors, memcacheds, nodes, link } = plan
  return [...databases, ...(link === undefined ? [] : [link]), ...monitors, ...memcacheds, ...nodes].map(
    ({ name }) => name,
  )
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1)
}
