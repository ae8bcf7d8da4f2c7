import type { Dialect } from '../domain/position.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { Assumed } from './assumptions.ts'
import type { BatchKey, Decision, DirectoryWrite, LogRow } from './decision.ts'

/**
 * The SQL text of a lane. Everything that comes from a client stands in it as a hexadecimal literal or as a number: no character
 * set, no `sql_mode` and no escaping rule can change its meaning.
 */
export interface LanePlace {
  readonly lane: string
  readonly incarnation: number
  /** The row stands here before the batch. */
  readonly sequence: number
}

const keyColumns = 'mc_key, version, expire, flags, size, checksum, number'
const namespaceColumns = 'ns_id, generation, default_ttl, max_ttl, max_value_bytes'

/**
 * What every session of a lane starts with. Lock waits are short, and a session that says nothing for five seconds is ended by
 * the server: the next incarnation must not wait for a dead client's locks (sql.md).
 */
export function sessionSettings(): string {
  const settings = [
    'autocommit=1',
    "sql_mode='STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'",
    `wait_timeout=${waitTimeoutSeconds}`,
    'innodb_lock_wait_timeout=1',
    'lock_wait_timeout=2',
    'net_read_timeout=10',
    'net_write_timeout=10',
  ]
  return (
    `SET SESSION ${settings.join(', ')};` +
    'SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED;' +
    'SELECT CONNECTION_ID(), @@server_id, @@max_allowed_packet;' +
    "SHOW GLOBAL STATUS LIKE 'Uptime'"
  )
}

/** Idle sessions say something at least three times as often. */
export const waitTimeoutSeconds = 5

/** Sets the lane's incarnation: waits for the end of a former incarnation's open transaction, which holds the row's lock. */
export function bump(lane: string, incarnation: number): string {
  return (
    `INSERT INTO mc_lanes (lane, incarnation, seq) VALUES (${literal(lane)}, ${incarnation}, 0) ` +
    `ON DUPLICATE KEY UPDATE incarnation=${incarnation}, seq=0`
  )
}

export function endThread(dialect: Dialect, threadId: number): string {
  // A plain KILL of a MariaDB session that waits for the standby makes its rows visible; SOFT doesn't (semisync.md).
  return dialect === 'mariadb' ? `KILL SOFT CONNECTION ${threadId}` : `KILL CONNECTION ${threadId}`
}

/** The first round trip of a batch (docs/adr/0006-batches.md). Keys sorted: two batches lock in one order. */
export function lockAndRead(dialect: Dialect, place: LanePlace, { namespaces, keys }: Wanted): string {
  const ids = namespaces.join(',')
  const parts = [
    moveLane(place),
    `SELECT ${namespaceColumns} FROM mc_namespaces WHERE ns_id IN (${ids}) ${share(dialect)}`,
    // Rows that the former left out: held by somebody's open transaction, or not there?
    `SELECT ns_id FROM mc_namespaces WHERE ns_id IN (${ids})`,
    'SELECT UNIX_TIMESTAMP(NOW(6))',
  ]
  for (const [id, list] of keys) {
    const lookUp = lookUpKeys(dialect, id, list)
    const lock = dialect === 'mariadb' ? 'FOR UPDATE SKIP LOCKED' : 'FOR UPDATE OF directory SKIP LOCKED'
    parts.push(`SELECT ${keyColumns} FROM ${lookUp} ${lock}`)
  }
  return parts.join(';')
}

/**
 * Asked for keys that the first round trip did not find: held by somebody, or not there? A dirty read (READ UNCOMMITTED): it sees rows
 * that somebody inserted and has not committed (races.md R24).
 */
export function readDirty(dialect: Dialect, keys: KeysByNamespace): string {
  return [...keys].map(([id, list]) => `SELECT mc_key FROM ${lookUpKeys(dialect, id, list)}`).join(';')
}

export type KeysByNamespace = ReadonlyMap<NamespaceId, readonly BatchKey[]>

/** What a batch's first round trip locks: all its namespaces, and the keys that are to be read. */
export interface Wanted {
  readonly namespaces: readonly NamespaceId[]
  readonly keys: KeysByNamespace
}

/** MySQL's shortest lock wait is a second. */
export function canRefuseToWait(dialect: Dialect): boolean {
  return dialect === 'mariadb'
}

/**
 * A batch that need not read, in one round trip (docs/adr/0006-batches.md): what it was decided upon is looked up under the locks that it
 * would have been read under. Where that is not so, or where the lane's row stands elsewhere, the first row of the directory gets a
 * version of NULL, which fails the statement (1048) and keeps the COMMIT behind it from being executed.
 */
export function writeAtOnce(place: LanePlace, assumed: Assumed, { updates, log }: Decision): string {
  const second = assumed.second === undefined ? '' : ` AND FLOOR(UNIX_TIMESTAMP(NOW(6)))=${assumed.second}`
  const checks = assumed.namespaces.map(([id, row], index) => {
    const { generation, defaultTtlSeconds, maxTtlSeconds, maxValueBytes } = row
    const found = index === 0 ? '@found:=COUNT(*)' : '@found:=@found+COUNT(*)'
    return (
      `SELECT UNIX_TIMESTAMP(NOW(6)), ${found} FROM mc_namespaces WHERE ns_id=${id} AND generation=${generation} AND ` +
      `default_ttl=${defaultTtlSeconds} AND max_ttl=${maxTtlSeconds} AND max_value_bytes=${maxValueBytes}${second} ` +
      'LOCK IN SHARE MODE NOWAIT'
    )
  })
  return [
    'START TRANSACTION',
    ...checks,
    `${moveLaneRow(place)} AND @found=${checks.length}`,
    withoutWaiting + upsert('mariadb', updates, 'IF(ROW_COUNT()=1, ?, NULL)'),
    insertIntoLog(log, assumed),
    'COMMIT',
  ].join(';')
}

const withoutWaiting = 'SET STATEMENT innodb_lock_wait_timeout=0 FOR '

/**
 * Of a transaction that upserts rows which it has not locked before. It waits for no lock: who knows what would have happened meanwhile. Nor
 * is it committed later than this, by the primary's clock, in seconds: its clients are told then that the outcome is unknown, and what
 * was acknowledged to somebody after that must not be overwritten. Whoever locked the rows in a first round trip is safe from both.
 */
export interface Unlocked {
  readonly notAfterSeconds: number
}

/** The second round trip. A statement that fails keeps the COMMIT behind it from being executed. */
export function writeAndCommit(dialect: Dialect, decision: Decision, unlocked: Unlocked | undefined): string {
  const parts: string[] = []
  const { inserts, updates, touches, log } = decision
  if (inserts.length > 0) parts.push(insertInto(inserts))
  if (updates.length > 0) parts.push((unlocked === undefined ? '' : withoutWaiting) + upsert(dialect, updates))
  if (touches.length > 0) parts.push(touch(dialect, touches))
  if (log.length > 0) parts.push(insertIntoLog(log, unlocked))
  parts.push('COMMIT')
  return parts.join(';')
}

/** The first round trip of a flush: it waits for batches that hold the row shared, one second at most. */
export function lockNamespace(place: LanePlace, id: NamespaceId): string {
  return (
    `${moveLane(place)};SELECT flush_due FROM mc_namespaces ` +
    `WHERE ns_id=${id} FOR UPDATE;SELECT UNIX_TIMESTAMP(NOW(6))`
  )
}

export function flushAndCommit(id: NamespaceId, change: FlushChange): string {
  switch (change.kind) {
    case 'none':
      return 'COMMIT'
    case 'now':
      return `UPDATE mc_namespaces SET generation=generation+1, flush_due=0 WHERE ns_id=${id};COMMIT`
    case 'later':
      return `UPDATE mc_namespaces SET flush_due=${change.dueSeconds} WHERE ns_id=${id};COMMIT`
    default:
      throw new TypeError(`no change of a namespace: ${JSON.stringify(change satisfies never)}`)
  }
}

export type FlushChange = { kind: 'none' } | { kind: 'now' } | { kind: 'later'; dueSeconds: number }

function moveLane(place: LanePlace): string {
  return `START TRANSACTION;${moveLaneRow(place)}`
}

function moveLaneRow({ lane, incarnation, sequence }: LanePlace): string {
  return (
    `UPDATE mc_lanes SET seq=${sequence + 1} ` +
    `WHERE lane=${literal(lane)} AND incarnation=${incarnation} AND seq=${sequence}`
  )
}

function share(dialect: Dialect): string {
  return dialect === 'mariadb' ? 'LOCK IN SHARE MODE SKIP LOCKED' : 'FOR SHARE SKIP LOCKED'
}

/**
 * One look-up a key by the primary key, whatever the statistics say. A list, `ns_id = 1 AND mc_key IN (…)`, is but a proposal: where
 * it is long and the statistics lag behind, either server reads (and locks on the way) the whole namespace instead, in spite
 * of FORCE INDEX (writer-batches.test.ts shows the plans).
 */
function lookUpKeys(dialect: Dialect, id: NamespaceId, keys: readonly BatchKey[]): string {
  const rows = keys.map(({ hex }) => (dialect === 'mariadb' ? `(X'${hex}')` : `ROW(X'${hex}')`)).join(',')
  // MariaDB names the column of a list of values after its first value, unless a WITH names it.
  const wanted =
    dialect === 'mariadb'
      ? `(WITH given (k) AS (VALUES ${rows}) SELECT k FROM given) wanted`
      : `(VALUES ${rows}) wanted (k)`
  return `${wanted} STRAIGHT_JOIN mc_stored_keys directory FORCE INDEX (PRIMARY) ON directory.ns_id=${id} AND directory.mc_key=wanted.k`
}

const directoryColumns = 'ns_id, mc_key, version, expire, flags, size, checksum, number'
const logColumns = 'ns_id, mc_key, op, version, expire, flags, mc_value'

/**
 * Behind the upsert, whose locks are held here: the place to look at the clock (SYSDATE: now, not at the statement's start). Whoever
 * writes one of the rows later stands behind. A version of NULL fails the statement (1048).
 */
function insertIntoLog(log: readonly LogRow[], unlocked: Unlocked | undefined): string {
  const values = log.map((row, index) => {
    if (index > 0 || unlocked === undefined) return logValues(row, String(row.version))
    const limit = Math.floor(unlocked.notAfterSeconds * 1000) / 1000
    return logValues(row, `IF(UNIX_TIMESTAMP(SYSDATE(6))<=${limit}, ${row.version}, NULL)`)
  })
  return `INSERT INTO mc_storage (${logColumns}) VALUES ${values.join(',')}`
}

/** @param firstVersion the first row's version, which takes the place of `?` in it */
function insertInto(rows: readonly DirectoryWrite[], firstVersion = '?'): string {
  const sorted = rows.toSorted((a, b) => compareKeys(a.key, b.key))
  const values = sorted.map((row, index) =>
    directoryValues(row, index === 0 ? firstVersion.replace('?', String(row.version)) : String(row.version)),
  )
  return `INSERT INTO mc_stored_keys (${directoryColumns}) VALUES ${values.join(',')}`
}

function upsert(dialect: Dialect, rows: readonly DirectoryWrite[], firstVersion?: string): string {
  const columns = ['version', 'expire', 'flags', 'size', 'checksum', 'number']
  return `${insertInto(rows, firstVersion)}${onDuplicate(dialect, columns)}, created=CURRENT_TIMESTAMP`
}

/** The rows are there and locked, so nothing is inserted. An UPDATE with a list of keys might read the whole namespace. */
function touch(dialect: Dialect, touches: Decision['touches']): string {
  const sorted = touches.toSorted((a, b) => compareKeys(a.key, b.key))
  const values = sorted.map(({ key, version, expiry }) => `(${key.namespaceId},X'${key.hex}',${version},${expiry})`)
  const into = 'INSERT INTO mc_stored_keys (ns_id, mc_key, version, expire)'
  return `${into} VALUES ${values.join(',')}${onDuplicate(dialect, ['expire'])}`
}

/** MySQL calls VALUES() deprecated, MariaDB has nothing else. */
function onDuplicate(dialect: Dialect, columns: readonly string[]): string {
  if (dialect === 'mariadb') {
    return ` ON DUPLICATE KEY UPDATE ${columns.map((column) => `${column}=VALUES(${column})`).join(', ')}`
  }
  return ` AS given ON DUPLICATE KEY UPDATE ${columns.map((column) => `${column}=given.${column}`).join(', ')}`
}

function directoryValues(row: DirectoryWrite, version: string): string {
  const { key, expiry, flags, sizeBytes, checksum, number } = row
  return `(${key.namespaceId},X'${key.hex}',${version},${expiry},${flags},${sizeBytes},${checksum},${number ?? 'NULL'})`
}

function logValues({ key, operation, expiry, flags, value }: LogRow, version: string): string {
  const text = value === undefined ? 'NULL' : `X'${value.toString('hex')}'`
  return `(${key.namespaceId},X'${key.hex}',${operation},${version},${expiry},${flags},${text})`
}

/** The order of the primary key. */
export function compareKeys(a: BatchKey, b: BatchKey): number {
  if (a.namespaceId !== b.namespaceId) return a.namespaceId - b.namespaceId
  return a.hex < b.hex ? -1 : Number(a.hex > b.hex)
}

function literal(text: string): string {
  return `X'${Buffer.from(text, 'utf8').toString('hex')}'`
}
