/**
 * A place in the log: everything up to it has happened. MariaDB gives one GTID a replication domain, MySQL a set of intervals a
 * server. Immutable; text forms are the servers' own.
 */
export type Position = MariadbPosition | MysqlPosition

/** The identity of one transaction in the log. Sequence numbers of a lost tail are used again: never compare `sequence` alone. */
export type Gtid = MariadbGtid | MysqlGtid

export interface MariadbGtid {
  readonly dialect: 'mariadb'
  readonly domain: number
  readonly server: number
  /** Up to 2^53-1 here; the server's limit is 2^64-1. */
  readonly sequence: number
}

export interface MysqlGtid {
  readonly dialect: 'mysql'
  /** The server's UUID, lower case. */
  readonly source: string
  readonly sequence: number
}

export type Dialect = Position['dialect']

export interface MariadbPosition {
  readonly dialect: 'mariadb'
  readonly domains: ReadonlyMap<number, MariadbGtid>
}

export interface MysqlPosition {
  readonly dialect: 'mysql'
  /** Sorted, disjoint, never adjacent, both ends included. */
  readonly intervals: ReadonlyMap<string, readonly Interval[]>
}

export interface Interval {
  readonly first: number
  readonly last: number
}

export function emptyPosition(dialect: Dialect): Position {
  return dialect === 'mariadb' ? { dialect, domains: new Map() } : { dialect, intervals: new Map() }
}

/** @throws RangeError on text that no server writes */
export function parsePosition(dialect: Dialect, text: string): Position {
  const parts = text
    .replace(/\s/g, '')
    .split(',')
    .filter((part) => part !== '')
  return dialect === 'mariadb' ? parseMariadb(parts) : parseMysql(parts)
}

export function formatPosition(position: Position): string {
  if (position.dialect === 'mariadb') {
    return [...position.domains.values()]
      .sort((a, b) => a.domain - b.domain)
      .map((gtid) => formatGtid(gtid))
      .join(',')
  }
  return [...position.intervals]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([source, intervals]) => [source, ...intervals.map(formatInterval)].join(':'))
    .join(',')
}

export function formatGtid(gtid: Gtid): string {
  return gtid.dialect === 'mariadb'
    ? `${gtid.domain}-${gtid.server}-${gtid.sequence}`
    : `${gtid.source}:${gtid.sequence}`
}

/** The position once the transaction is included. */
export function advance(position: Position, gtid: Gtid): Position {
  if (position.dialect === 'mariadb' && gtid.dialect === 'mariadb') {
    return { dialect: 'mariadb', domains: new Map(position.domains).set(gtid.domain, gtid) }
  }
  if (position.dialect === 'mysql' && gtid.dialect === 'mysql') {
    const intervals = new Map(position.intervals)
    const added = { first: gtid.sequence, last: gtid.sequence }
    intervals.set(gtid.source, normalize([...(intervals.get(gtid.source) ?? []), added]))
    return { dialect: 'mysql', intervals }
  }
  throw new TypeError(`a ${gtid.dialect} transaction can't advance a ${position.dialect} position`)
}

/** True where whoever is at `position` has everything that `other` has. */
export function covers(position: Position, other: Position): boolean {
  if (position.dialect === 'mariadb' && other.dialect === 'mariadb') {
    return [...other.domains.values()].every((gtid) => coversMariadb(position, gtid))
  }
  if (position.dialect === 'mysql' && other.dialect === 'mysql') {
    return [...other.intervals].every(([source, intervals]) => {
      const mine = position.intervals.get(source) ?? []
      return intervals.every((wanted) => mine.some((have) => have.first <= wanted.first && have.last >= wanted.last))
    })
  }
  return false
}

/** The least position that covers both: what whoever has seen either must find. */
export function joinPositions(a: Position, b: Position): Position {
  if (a.dialect === 'mariadb' && b.dialect === 'mariadb') {
    const domains = new Map(a.domains)
    for (const [domain, gtid] of b.domains) {
      if ((domains.get(domain)?.sequence ?? -1) < gtid.sequence) domains.set(domain, gtid)
    }
    return { dialect: 'mariadb', domains }
  }
  if (a.dialect === 'mysql' && b.dialect === 'mysql') {
    const intervals = new Map(a.intervals)
    for (const [source, more] of b.intervals)
      intervals.set(source, normalize([...(intervals.get(source) ?? []), ...more]))
    return { dialect: 'mysql', intervals }
  }
  throw new TypeError(`a ${a.dialect} and a ${b.dialect} position have nothing in common`)
}

export function samePosition(a: Position, b: Position): boolean {
  return formatPosition(a) === formatPosition(b)
}

/** Two servers that both wrote the same sequence number of a domain have diverged. */
function coversMariadb(position: MariadbPosition, gtid: MariadbGtid): boolean {
  const mine = position.domains.get(gtid.domain)
  if (mine === undefined) return false
  return mine.sequence > gtid.sequence || (mine.sequence === gtid.sequence && mine.server === gtid.server)
}

function parseMariadb(parts: readonly string[]): MariadbPosition {
  const domains = new Map<number, MariadbGtid>()
  for (const part of parts) {
    const match = /^(\d+)-(\d+)-(\d+)$/.exec(part)
    if (match === null) throw new RangeError(`"${part}" is no MariaDB GTID: expected domain-server-sequence`)
    const domain = Number(match[1])
    domains.set(domain, { dialect: 'mariadb', domain, server: Number(match[2]), sequence: Number(match[3]) })
  }
  return { dialect: 'mariadb', domains }
}

function parseMysql(parts: readonly string[]): MysqlPosition {
  const intervals = new Map<string, readonly Interval[]>()
  for (const part of parts) {
    const [source = '', ...ranges] = part.toLowerCase().split(':')
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(source) || ranges.length === 0) {
      throw new RangeError(`"${part}" is no MySQL GTID set: expected uuid:first-last (tagged GTIDs are not supported)`)
    }
    intervals.set(source, normalize([...(intervals.get(source) ?? []), ...ranges.map(parseInterval)]))
  }
  return { dialect: 'mysql', intervals }
}

function parseInterval(text: string): Interval {
  const match = /^(\d+)(?:-(\d+))?$/.exec(text)
  if (match === null) throw new RangeError(`"${text}" is no interval of a MySQL GTID set`)
  return { first: Number(match[1]), last: Number(match[2] ?? match[1]) }
}

function formatInterval({ first, last }: Interval): string {
  return first === last ? `${first}` : `${first}-${last}`
}

function normalize(intervals: readonly Interval[]): readonly Interval[] {
  const result: Interval[] = []
  for (const next of intervals.toSorted((a, b) => a.first - b.first)) {
    const previous = result.at(-1)
    if (previous !== undefined && next.first <= previous.last + 1) {
      result[result.length - 1] = { first: previous.first, last: Math.max(previous.last, next.last) }
    } else {
      result.push(next)
    }
  }
  return result
}
