import type { Connection, RowDataPacket } from 'mysql2/promise'
import { closeDatabaseConnection } from '../adapters/databases.ts'
import type { Cluster } from './cluster.ts'
import { type NamespaceEntry, readNamespaces } from './cluster-status.ts'

/** What can be set on a namespace, with its column. Seconds and bytes; 0 is "none". */
export const namespaceSettings = {
  'default-ttl': 'default_ttl',
  'max-ttl': 'max_ttl',
  'max-value-bytes': 'max_value_bytes',
  'quota-bytes': 'quota_bytes',
} as const

export type NamespaceSetting = keyof typeof namespaceSettings

export interface NamespaceDetails extends NamespaceEntry {
  readonly settings: Readonly<Record<NamespaceSetting, number>>
}

/** Beyond it the primary most likely waits for its standby. */
const answerMilliseconds = 10_000

/** Namespaces through the SQL routines, on the writable database. */
export class NamespaceAccess {
  readonly #connection: Connection

  private constructor(connection: Connection) {
    this.#connection = connection
  }

  static async use<T>(cluster: Cluster, work: (access: NamespaceAccess) => Promise<T>): Promise<T> {
    const connection = await cluster.connectPrimary()
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () =>
          reject(
            new Error(
              `the primary did not answer within ${answerMilliseconds / 1000} s, so it is not known whether it was done: is its standby away?`,
            ),
          ),
        answerMilliseconds,
      )
    })
    try {
      return await Promise.race([work(new NamespaceAccess(connection)), late])
    } catch (error) {
      throw plain(error)
    } finally {
      clearTimeout(timer)
      closeDatabaseConnection(connection)
    }
  }

  async list(): Promise<NamespaceEntry[]> {
    return readNamespaces(this.#connection)
  }

  /** Undefined where there is none of that name. */
  async show(name: string): Promise<NamespaceDetails | undefined> {
    const entry = (await this.list()).find((namespace) => namespace.name === name)
    if (entry === undefined) return undefined
    const columns = Object.entries(namespaceSettings).map(([setting, column]) => `${column} AS \`${setting}\``)
    const [rows] = await this.#connection.query<RowDataPacket[]>(
      `SELECT ${columns.join(', ')} FROM memcached.mc_namespaces WHERE ns_id = ?`,
      [entry.id],
    )
    const settings = Object.fromEntries(Object.entries(rows[0] ?? {}).map(([key, value]) => [key, Number(value)]))
    return { ...entry, settings: settings as Record<NamespaceSetting, number> }
  }

  /** @param id chosen by the caller, or the next one that is free */
  async create(name: string, id?: number): Promise<void> {
    if (id === undefined) await this.#connection.query('CALL memcached.create_namespace(?)', [name])
    else await this.#connection.query('INSERT INTO memcached.mc_namespaces (ns_id, ns_name) VALUES (?, ?)', [id, name])
  }

  async set(name: string, settings: Partial<Record<NamespaceSetting, number>>): Promise<void> {
    const given = Object.entries(settings)
    const changes = given.map(([setting]) => `${namespaceSettings[setting as NamespaceSetting]} = ?`)
    await this.#connection.query(`UPDATE memcached.mc_namespaces SET ${changes.join(', ')} WHERE ns_id = ?`, [
      ...given.map(([, value]) => value),
      await this.#id(name),
    ])
  }

  async flush(name: string): Promise<void> {
    await this.#connection.query('CALL memcached.flush_namespace(?)', [await this.#id(name)])
  }

  async drop(name: string): Promise<void> {
    await this.#connection.query('CALL memcached.drop_namespace(?)', [await this.#id(name)])
  }

  async #id(name: string): Promise<number> {
    const [rows] = await this.#connection.query<RowDataPacket[]>(
      'SELECT ns_id AS id FROM memcached.mc_namespaces WHERE ns_name = ?',
      [name],
    )
    const id: unknown = rows[0]?.['id']
    if (id === undefined) throw new Error(`there is no namespace "${name}": see "whitehole ns list"`)
    return Number(id)
  }
}

/** Our own refusals say what is wrong; their prefix is for SQL users. */
function plain(error: unknown): unknown {
  return error instanceof Error && error.message.startsWith('whitehole: ') ? new Error(error.message.slice(11)) : error
}
