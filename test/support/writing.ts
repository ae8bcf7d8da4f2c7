import { Databases } from '../../src/adapters/databases.ts'
import { keyFromText } from '../../src/domain/key.ts'
import type { ArithmeticMutation, Exptime, Outcome, SetMutation } from '../../src/domain/mutation.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { initializeSchema } from '../../src/schema/initialize.ts'
import { LaneDatabases, type LaneSession } from '../../src/writer/lane-session.ts'
import { Writer, type WriterSettings } from '../../src/writer/writer.ts'
import { Database, type Engine } from './databases.ts'
import { LaneLog } from './lane-log.ts'

export const writerSettings: WriterSettings = {
  lanes: 1,
  sideLaneRetryMilliseconds: 20,
  writeTimeoutMilliseconds: 10_000,
  queueItemsMax: 20_000,
  queueBytesMax: 128 * 1024 * 1024,
  batchItemsMax: 1000,
  batchBytesMax: 4 * 1024 * 1024,
  acknowledge: 'local',
}

/** A database with the schema and two namespaces, its log followed, and writers as nodes have them. */
export class WritingWorld {
  readonly database: Database
  readonly log: LaneLog
  readonly #writers = new Set<Writer>()

  private constructor(database: Database, log: LaneLog) {
    this.database = database
    this.log = log
  }

  static async start(engine: Engine = 'mariadb'): Promise<WritingWorld> {
    const database = await Database.start(engine)
    try {
      await initializeSchema(await database.connect(), {
        accounts: {
          node: { user: 'node', host: '127.0.0.1', password: 'secret' },
          application: { user: 'app', host: '127.0.0.1', password: 'secret' },
        },
      })
      await database.query("INSERT INTO memcached.mc_namespaces (ns_id, ns_name) VALUES (1, 'one'), (2, 'two')")
      return new WritingWorld(database, await LaneLog.follow(database))
    } catch (error) {
      await database.remove()
      throw error
    }
  }

  /** @param port another than the database's own: a proxy's */
  databases(port = this.database.port): Databases {
    return new Databases({
      addresses: [{ host: '127.0.0.1', port }],
      user: 'node',
      password: 'secret',
      database: 'memcached',
      topology: 'single',
    })
  }

  /** A node's writer, started. */
  writer(
    node: string,
    given: {
      settings?: Partial<WriterSettings>
      port?: number
      random?: () => number
      /** Sees each session of each lane, and may spoil its methods. */
      onSession?: (session: LaneSession) => void
      /** Former sessions are not ended, as where the server can't be told. */
      forgetful?: boolean
    } = {},
  ): Writer {
    const settings = { ...writerSettings, ...given.settings }
    const inner = new LaneDatabases(this.databases(given.port), settings.writeTimeoutMilliseconds)
    const writer = new Writer({
      node,
      database: {
        open: async (formers) => {
          const session = await inner.open(given.forgetful === true ? [] : formers)
          given.onSession?.(session)
          return session
        },
      },
      log: this.log,
      settings,
      logger: silentLogger,
      ...(given.random === undefined ? {} : { random: given.random }),
    })
    this.#writers.add(writer)
    writer.start()
    return writer
  }

  async closeWriters(): Promise<void> {
    await Promise.all([...this.#writers].map(async (writer) => writer.close(0)))
    this.#writers.clear()
  }

  /**
   * The directory's row of a key, numbers as text. Under a lock: the log shows a transaction a moment before InnoDB does, so a
   * plain read just after an acknowledgement may find the row as it was.
   */
  async row(key: string, namespaceId = 1): Promise<DirectoryColumns | undefined> {
    const [row] = await this.database.query<DirectoryColumns>(
      `SELECT CAST(version AS CHAR) AS version, version >> 33 AS generation, expire, CAST(flags AS CHAR) AS flags, size,
        checksum, CAST(number AS CHAR) AS number, expire = 0 OR expire > UNIX_TIMESTAMP() AS live
      FROM memcached.mc_stored_keys WHERE ns_id = ? AND mc_key = ? LOCK IN SHARE MODE`,
      [namespaceId, Buffer.from(key)],
    )
    return row
  }

  async generation(namespaceId = 1): Promise<number> {
    const [row] = await this.database.query<{ generation: number }>(
      'SELECT generation FROM memcached.mc_namespaces WHERE ns_id = ? LOCK IN SHARE MODE',
      [namespaceId],
    )
    return row?.generation ?? 0
  }

  /** Sessions that wait for a row's lock now. (information_schema.innodb_trx is a copy that isn't renewed while it is polled.) */
  async lockWaits(): Promise<number> {
    const [row] = await this.database.query<{ Value: string }>(
      "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'",
    )
    return Number(row?.Value)
  }

  async nowSeconds(): Promise<number> {
    const [row] = await this.database.query<{ now: number }>('SELECT UNIX_TIMESTAMP() AS now')
    return row?.now ?? 0
  }

  async stop(): Promise<void> {
    await this.closeWriters()
    this.log.stop()
    await this.database.remove()
  }
}

export interface DirectoryColumns {
  version: string
  generation: number
  expire: number
  flags: string
  size: number
  checksum: number
  number: string | null
  live: number
}

export function set(key: string, value: string | Buffer = 'v', exptime: Exptime = 0): SetMutation {
  return { kind: 'set', namespaceId: 1, key: keyFromText(key), value: Buffer.from(value), flags: 0n, exptime }
}

export function remove(key: string): { kind: 'delete'; namespaceId: number; key: ReturnType<typeof keyFromText> } {
  return { kind: 'delete', namespaceId: 1, key: keyFromText(key) }
}

export function touch(key: string, exptime: Exptime) {
  return { kind: 'touch', namespaceId: 1, key: keyFromText(key), exptime } as const
}

export function flush(delaySeconds = 0, namespaceId = 1) {
  return { kind: 'flush', namespaceId, delaySeconds } as const
}

/** The error's code, or the outcome's kind. */
export async function ending(promise: Promise<Outcome | string>): Promise<string> {
  return promise.then(
    (outcome) => (typeof outcome === 'string' ? outcome : outcome.kind),
    (error: unknown) => (error as { code?: string }).code ?? String(error),
  )
}

export async function endings(promises: readonly Promise<Outcome>[]): Promise<string[]> {
  return Promise.all(promises.map(ending))
}

export function add(key: string, value: string | Buffer = 'v', exptime: Exptime = 0): SetMutation {
  return { ...set(key, value, exptime), mode: 'add' }
}

export function compareAndSet(key: string, value: string | Buffer, compare: bigint): SetMutation {
  return { ...set(key, value), compare }
}

export function increment(key: string, delta = 1n): ArithmeticMutation {
  return { kind: 'arithmetic', namespaceId: 1, key: keyFromText(key), direction: 'incr', delta }
}
