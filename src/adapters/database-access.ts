import { WhiteholeError } from '../domain/errors.ts'
import type { History } from '../domain/history.ts'
import type { Dialect, Position } from '../domain/position.ts'

export interface DatabaseAddress {
  readonly host: string
  readonly port: number
}

/**
 * Who decides which database is the primary, and so where a node may read the log: `pair` is managed by whitehole (nodes follow a
 * replica, never the primary), `single` has one database, `external` is looked after by somebody else.
 */
export type DatabaseTopology = 'pair' | 'single' | 'external'

export interface RelayAddress extends DatabaseAddress {
  /** In this node's data centre: followed before all others. One elsewhere is followed only where it is the primary that acknowledges alone. */
  readonly own: boolean
  /** It replicates our database alone: its sequence of GTIDs has gaps by right. */
  readonly filtered: boolean
}

export interface DatabaseAccess {
  readonly addresses: readonly DatabaseAddress[]
  readonly user: string
  readonly password: string
  /** The schema's database, `memcached`. */
  readonly database: string
  readonly topology: DatabaseTopology
  /** Of a pair: replicas in other data centres, beside `addresses`. */
  readonly relays?: readonly RelayAddress[]
  /** Bounds a connection attempt with its handshake, and each question of a probe. */
  readonly connectTimeoutMilliseconds?: number
}

/** What a database says of itself. */
export interface DatabaseProbe {
  readonly address: DatabaseAddress
  readonly dialect: Dialect
  readonly version: string
  readonly serverId: number
  readonly writable: boolean
  /** It is configured as a replica, whether or not its replication runs. */
  readonly replica: boolean
  /** Its commits wait for a standby: it is the primary of a pair in `paired`. */
  readonly semiSyncPrimary: boolean
  /** Everything in its own binlog: MariaDB `gtid_binlog_pos`, MySQL `gtid_executed`. */
  readonly position: Position
  /** At or beyond everything that a reader of its log could have seen before it was asked. */
  readonly history: History
  /** Its clock, in Unix seconds with a fraction … */
  readonly clockSeconds: number
  /** … at this reading of `performance.now()`: the middle of the question's round trip. */
  readonly clockSampledAtMilliseconds: number
}

export interface ProbeResult {
  readonly address: DatabaseAddress
  readonly probe?: DatabaseProbe
  readonly error?: Error
}

/** `host:port`, `[ipv6]:port`. */
export function parseDatabaseAddress(text: string): DatabaseAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match === null || port < 1 || port > 65_535) {
    throw new WhiteholeError('bad-configuration', `"${text}" is no address of a database: expected host:port`)
  }
  return { host: match[1] ?? match[2] ?? '', port }
}

export function formatDatabaseAddress({ host, port }: DatabaseAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** Writable without waiting for a standby: `solo`. */
export function acknowledgesAlone({ writable, semiSyncPrimary }: DatabaseProbe): boolean {
  return writable && !semiSyncPrimary
}

export function sameAddress(a: DatabaseProbe, b: DatabaseProbe): boolean {
  return formatDatabaseAddress(a.address) === formatDatabaseAddress(b.address)
}

export function reason(address: DatabaseAddress, text: string): string {
  return `${formatDatabaseAddress(address)}: ${text}`
}
