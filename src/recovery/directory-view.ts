import type { Connection } from 'mysql2/promise'
import { positionStatements, serverPosition } from '../adapters/server-position.ts'
import { composeItemKey, type ItemKey, type Key, keyBytesMax, keyFromBytes, keyToBytes } from '../domain/key.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { Dialect, Position } from '../domain/position.ts'
import { versionLowBits } from '../domain/version.ts'

/** A row of the directory, as far as it says what a memcached should hold. */
export interface DirectoryRow {
  readonly key: Key
  readonly generation: number
  /** In decimal: a bigint a row costs more than the comparison is worth. */
  readonly version: string
  /** Seconds left by the database's clock; Infinity: never expires; below 0: expired, or deleted. */
  readonly secondsLeft: number
  /** As it is stored: absolute Unix seconds by the primary's clock, 0 never, 1 deleted. */
  readonly expiry: number
  readonly flags: string
  readonly size: number
  readonly checksum: number
  /** In decimal: what the value counts from, where it is a number. It may be written otherwise there ("007"). */
  readonly number: string | undefined
}

/** Rows and generations of one instant: one statement, hence one snapshot. */
export interface DirectorySnapshot {
  readonly rows: ReadonlyMap<ItemKey, DirectoryRow>
  readonly generations: ReadonlyMap<NamespaceId, number>
}

/** What a row is looked up by. A hashed item key does not tell the client's key: its row is found by the digest. */
export interface Subject {
  readonly namespaceId: NamespaceId
  readonly namespaceName: string
  readonly itemKey: ItemKey
  readonly by: { readonly key: Key } | { readonly digest: string }
}

const expiryLeft = 'IF(expire = 0, NULL, CAST(expire AS DECIMAL(20, 0)) - UNIX_TIMESTAMP(NOW(6)))'
const columns = `mc_key, version >> ${versionLowBits} AS generation, CAST(version AS CHAR) AS version, ${expiryLeft} AS secondsLeft, expire AS expiry,
  CAST(flags AS CHAR) AS flags, size, checksum, CAST(number AS CHAR) AS number`

/**
 * The directory of the database that a node follows, over one connection of its own (not a pool: `dirty` speaks of the next
 * statement). Reads only: SELECT on mc_namespaces and mc_stored_keys is all it needs.
 */
export class DirectoryView {
  readonly dialect: Dialect
  readonly #connection: Pick<Connection, 'query'>

  private constructor(connection: Pick<Connection, 'query'>, dialect: Dialect) {
    this.#connection = connection
    this.dialect = dialect
  }

  static async open(connection: Pick<Connection, 'query'>): Promise<DirectoryView> {
    const [rows] = await connection.query('SELECT VERSION() AS version')
    const version = String((rows as { version: string }[])[0]?.version)
    return new DirectoryView(connection, /mariadb/i.test(version) ? 'mariadb' : 'mysql')
  }

  async namespaces(): Promise<{ id: NamespaceId; name: string }[]> {
    const rows = await this.#query<{ id: Numeric; name: string }>(
      'SELECT ns_id AS id, ns_name AS name FROM mc_namespaces ORDER BY ns_id',
    )
    return rows.map(({ id, name }) => ({ id: Number(id), name }))
  }

  /** The next rows of a namespace in the order of their keys, dead ones too, so that a statement never walks further than `limit`. */
  async chunk(
    namespaceId: NamespaceId,
    after: Key | undefined,
    limit: number,
  ): Promise<{ rows: DirectoryRow[]; generation: number | undefined }> {
    const rows = await this.#query<RawRow & { current: Numeric | null }>(
      `SELECT ${columns}, (SELECT generation FROM mc_namespaces WHERE ns_id = ?) AS current FROM mc_stored_keys
       WHERE ns_id = ? AND mc_key > ? ORDER BY mc_key LIMIT ?`,
      [namespaceId, namespaceId, after === undefined ? '' : keyToBytes(after), limit],
    )
    const current = rows[0]?.current
    return {
      rows: rows.map(parseRow),
      generation: current === null || current === undefined ? undefined : Number(current),
    }
  }

  /**
   * The subjects' rows as committed; or, `dirty`, as they stand, changes of open transactions included. A row's change is there for
   * a dirty read from the moment it is made, so before its transaction reaches the log: recheck.ts needs that.
   */
  async lookUp(subjects: readonly Subject[], reading: 'committed' | 'dirty' = 'committed'): Promise<DirectorySnapshot> {
    const names = new Map<NamespaceId, string>()
    for (const subject of subjects) names.set(subject.namespaceId, subject.namespaceName)
    const rows = new Map<ItemKey, DirectoryRow>()
    const generations = new Map<NamespaceId, number>()
    if (subjects.length === 0) return { rows, generations }
    const { condition, values } = whereOf(subjects)
    // Holds for one transaction: the next statement.
    if (reading === 'dirty') await this.#connection.query('SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED')
    const found = await this.#query<RawRow & { id: Numeric }>(
      `SELECT ns_id AS id, NULL AS mc_key, generation, NULL AS version, NULL AS secondsLeft, NULL AS expiry, NULL AS flags, NULL AS size,
         NULL AS checksum, NULL AS number FROM mc_namespaces WHERE ns_id IN (?)
       UNION ALL SELECT ns_id AS id, ${columns} FROM mc_stored_keys WHERE ${condition}`,
      [[...names.keys()], ...values],
    )
    for (const raw of found) {
      const id = Number(raw.id)
      if (raw.mc_key === null) generations.set(id, Number(raw.generation))
      else rows.set(composeItemKey(names.get(id) ?? '', keyFromBytes(raw.mc_key)), parseRow(raw))
    }
    return { rows, generations }
  }

  /** Covers every transaction whose change was visible to a read before this one. */
  async position(): Promise<Position> {
    const texts: string[] = []
    for (const statement of positionStatements(this.dialect)) {
      const [row] = await this.#query<{ position: string }>(statement)
      texts.push(row?.position ?? '')
    }
    return serverPosition(this.dialect, texts)
  }

  async #query<Row>(sql: string, values: unknown[] = []): Promise<Row[]> {
    const [rows] = await this.#connection.query(sql, values)
    return rows as Row[]
  }
}

/** As text where the connection is told so, or where it would not fit a number. */
type Numeric = number | string

interface RawRow {
  readonly mc_key: Buffer | null
  readonly generation: Numeric
  readonly version: string
  readonly secondsLeft: Numeric | null
  readonly expiry: Numeric
  readonly flags: string
  readonly size: Numeric
  readonly checksum: Numeric
  readonly number: string | null
}

function parseRow(raw: RawRow): DirectoryRow {
  return {
    key: keyFromBytes(raw.mc_key ?? Buffer.alloc(0)),
    generation: Number(raw.generation),
    version: raw.version,
    secondsLeft: raw.secondsLeft === null ? Infinity : Number(raw.secondsLeft),
    expiry: Number(raw.expiry),
    flags: raw.flags,
    size: Number(raw.size),
    checksum: Number(raw.checksum),
    number: raw.number ?? undefined,
  }
}

function whereOf(subjects: readonly Subject[]): { condition: string; values: unknown[] } {
  const keys = new Map<NamespaceId, Buffer[]>()
  const digests = new Map<NamespaceId, string[]>()
  const longest = new Map<NamespaceId, number>()
  for (const { namespaceId, namespaceName, by } of subjects) {
    if ('key' in by) append(keys, namespaceId, keyToBytes(by.key))
    else append(digests, namespaceId, by.digest)
    longest.set(namespaceId, keyBytesMax - 1 - namespaceName.length)
  }
  const conditions: string[] = []
  const values: unknown[] = []
  for (const [id, list] of keys) {
    conditions.push('(ns_id = ? AND mc_key IN (?))')
    values.push(id, list)
  }
  for (const [id, list] of digests) {
    // There is no index: this walks the namespace, once for all its digests.
    conditions.push("(ns_id = ? AND (LENGTH(mc_key) > ? OR LEFT(mc_key, 1) = '~') AND SHA2(mc_key, 256) IN (?))")
    values.push(id, longest.get(id), list)
  }
  return { condition: conditions.join(' OR '), values }
}

function append<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key)
  if (list === undefined) map.set(key, [value])
  else list.push(value)
}
