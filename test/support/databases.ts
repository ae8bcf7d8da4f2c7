import { existsSync } from 'node:fs'
import { cp, mkdir } from 'node:fs/promises'
import { execFile } from 'node:child_process'
import { homedir, userInfo } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Connection, createConnection, type ConnectionOptions } from 'mysql2/promise'
import { mariadbArguments, mysqlArguments } from '../../src/config/database-settings.ts'
import { here, type Place } from './network.ts'
import { freePort, Program, removeFolder, temporaryFolder, until } from './processes.ts'

const run = promisify(execFile)

export type Engine = 'mariadb' | 'mysql'

const engines = process.env['WHITEHOLE_ENGINES'] ?? join(homedir(), '.cache/whitehole-engines')
export const mysqldPath = join(engines, 'bin/mysqld')
export const newerMemcachedPath = join(engines, 'bin/memcached')

/** MySQL is unpacked by scripts/engines.sh; where that can't run, its tests are skipped, save where WHITEHOLE_REQUIRE_ENGINES is set. */
export const haveMysql = existsSync(mysqldPath) || process.env['WHITEHOLE_REQUIRE_ENGINES'] !== undefined
export const engineList: readonly Engine[] = haveMysql ? ['mariadb', 'mysql'] : ['mariadb']

/** A real database server of the test's own, on free ports, in a temporary folder. Root has no password on its socket and on loopback. */
export class Database {
  readonly engine: Engine
  readonly folder: string
  readonly port: number
  readonly extraPort: number
  readonly serverId: number
  readonly #options: readonly string[]
  readonly #place: Place
  #program: Program | undefined
  #connections = new Set<Connection>()

  private constructor(given: {
    engine: Engine
    folder: string
    port: number
    extraPort: number
    serverId: number
    options: readonly string[]
    place: Place
  }) {
    this.engine = given.engine
    this.folder = given.folder
    this.port = given.port
    this.extraPort = given.extraPort
    this.serverId = given.serverId
    this.#options = given.options
    this.#place = given.place
  }

  /**
   * Starts one, writable. `options` are further server options; they win.
   * @param more `diskMebibytes`: its folder is a disk of that size, in memory (root alone can make one)
   */
  static async start(
    engine: Engine = 'mariadb',
    options: readonly string[] = [],
    more: { place?: Place | undefined; diskMebibytes?: number | undefined } = {},
  ): Promise<Database> {
    const folder = await temporaryFolder()
    const { place = here, diskMebibytes } = more
    if (diskMebibytes !== undefined)
      await run('mount', ['-t', 'tmpfs', '-o', `size=${diskMebibytes}m`, 'tmpfs', folder])
    await copyTemplate(engine, join(folder, 'data'))
    const database = new Database({
      engine,
      folder,
      port: await freePort(),
      extraPort: await freePort(),
      serverId: nextServerId++,
      options,
      place,
    })
    await database.launch()
    await database.query('SET GLOBAL read_only=0')
    return database
  }

  get socket(): string {
    return join(this.folder, 'sock')
  }

  get address(): string {
    return `${this.#place.host}:${this.port}`
  }

  get program(): Program {
    if (this.#program === undefined) throw new Error('the database is not running')
    return this.#program
  }

  /** Starts the server (again); it comes up read-only, as a managed database does. */
  async launch(more: readonly string[] = []): Promise<void> {
    const settings = {
      serverId: this.serverId,
      port: this.port,
      extraPort: this.extraPort,
      socket: this.socket,
      dataDirectory: join(this.folder, 'data'),
      pidFile: join(this.folder, 'pid'),
      errorLog: join(this.folder, 'error.log'),
      bindAddress: this.#place.host,
    }
    const user = userInfo().uid === 0 ? ['--user=root'] : []
    const args = this.engine === 'mariadb' ? mariadbArguments(settings) : mysqlArguments(settings)
    const path = this.engine === 'mariadb' ? '/usr/sbin/mariadbd' : mysqldPath
    const program = new Program(...this.#place.command(path, [...args, ...user, ...this.#options, ...more]))
    this.#program = program
    await until(`${this.engine} to answer (see ${settings.errorLog})`, async () => {
      if (!program.running) throw new Error(`it ended: ${program.output}`)
      await this.query('SELECT 1')
      return true
    })
  }

  /** A connection as root over the socket. Closed with the server, if not before. */
  async connect(options: ConnectionOptions = {}): Promise<Connection> {
    const connection = await createConnection({
      socketPath: this.socket,
      user: 'root',
      multipleStatements: true,
      supportBigNumbers: true,
      ...options,
    })
    connection.on('error', () => {})
    this.#connections.add(connection)
    return connection
  }

  /** A connection over TCP. */
  async connectTcp(options: ConnectionOptions): Promise<Connection> {
    const connection = await createConnection({
      host: this.#place.host,
      port: this.port,
      multipleStatements: true,
      supportBigNumbers: true,
      ...options,
    })
    connection.on('error', () => {})
    this.#connections.add(connection)
    return connection
  }

  /** One statement on a connection of its own. */
  async query<T = Record<string, unknown>>(sql: string, values: unknown[] = []): Promise<T[]> {
    const connection = await this.connect()
    try {
      const [rows] = await connection.query(sql, values)
      return rows as T[]
    } finally {
      this.#connections.delete(connection)
      connection.destroy()
    }
  }

  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    for (const connection of this.#connections) connection.destroy()
    this.#connections.clear()
    await this.#program?.stop(signal)
  }

  /** Stops the server and removes its folder. */
  async remove(): Promise<void> {
    await this.stop()
    // Where it is a disk of its own.
    await run('umount', ['-l', this.folder]).catch(() => {})
    await removeFolder(this.folder)
  }
}

let nextServerId = 100 + (process.pid % 10_000) * 100

/** A fresh data directory takes seconds to make: each engine's is made once for this version of the server, then copied. */
async function copyTemplate(engine: Engine, to: string): Promise<void> {
  const path = engine === 'mariadb' ? '/usr/sbin/mariadbd' : mysqldPath
  const { stdout } = await run(path, ['--no-defaults', '--version'])
  const version = /Ver (\S+)/.exec(stdout)?.[1] ?? 'unknown'
  const template = join(process.env['TMPDIR'] ?? '/tmp', `whitehole-template-${userInfo().uid}-${engine}-${version}`)
  if (!existsSync(template)) await makeTemplate(engine, template)
  await cp(template, to, { recursive: true })
}

async function makeTemplate(engine: Engine, template: string): Promise<void> {
  const fresh = `${template}.${process.pid}`
  await mkdir(fresh, { recursive: true, mode: 0o700 })
  const user = userInfo().uid === 0 ? ['--user=root'] : []
  if (engine === 'mariadb') {
    await run('mariadb-install-db', [
      '--no-defaults',
      `--datadir=${fresh}`,
      '--auth-root-authentication-method=normal',
      '--skip-test-db',
      `--tmpdir=${fresh}`,
      '--innodb-log-file-size=32M',
      ...user,
    ])
  } else {
    await run(mysqldPath, [
      '--no-defaults',
      '--initialize-insecure',
      '--mysqlx=0',
      `--datadir=${fresh}`,
      '--innodb-redo-log-capacity=32M',
      ...user,
    ])
    await removeFolder(join(fresh, 'auto.cnf'))
  }
  await rename(fresh, template)
}

/** Another process may have made the same template meanwhile: then theirs serves. */
async function rename(from: string, to: string): Promise<void> {
  const { rename: move } = await import('node:fs/promises')
  await move(from, to).catch(() => removeFolder(from))
}

/** Makes `standby` a semi-synchronous replica of `primary`, caught up, both as a managed pair runs them. */
export async function pairUp(primary: Database, standby: Database): Promise<void> {
  const words = pairWords[primary.engine]
  for (const statement of words.account) await primary.query(`SET sql_log_bin=0; ${statement}`)
  await standby.query(words.standby)
  await standby.query(words.follow(primary.extraPort))
  await until('the standby to be attached', async () => {
    const [row] = await primary.query<{ Value: string }>(`SHOW GLOBAL STATUS LIKE '${words.clients}'`)
    return row?.Value === '1'
  })
  await primary.query(words.primary)
}

/** From now on its commits are answered before a replica has them. */
export async function waitForNobody(primary: Database): Promise<void> {
  const word = primary.engine === 'mariadb' ? 'master' : 'source'
  await primary.query(`SET GLOBAL rpl_semi_sync_${word}_enabled=0`)
}

/** Starts a replica that was stopped as a primary: what the former one had beyond it is lost. */
export async function promoteStopped(replica: Database): Promise<void> {
  const isMariadb = replica.engine === 'mariadb'
  await replica.launch([isMariadb ? '--skip-slave-start' : '--skip-replica-start'])
  await replica.query(isMariadb ? 'STOP SLAVE; RESET SLAVE ALL' : 'STOP REPLICA; RESET REPLICA ALL')
  await replica.query('SET GLOBAL read_only=0')
}

const pairWords = {
  mariadb: {
    account: [
      "CREATE USER IF NOT EXISTS repl@'127.0.0.1' IDENTIFIED BY 'repl'",
      "GRANT REPLICATION SLAVE, CONNECTION ADMIN ON *.* TO repl@'127.0.0.1'",
    ],
    standby: 'SET GLOBAL read_only=1; SET GLOBAL rpl_semi_sync_slave_enabled=1',
    follow: (port: number) =>
      `CHANGE MASTER TO master_host='127.0.0.1', master_port=${port}, master_user='repl', master_password='repl', master_use_gtid=slave_pos, master_connect_retry=1; START SLAVE`,
    clients: 'Rpl_semi_sync_master_clients',
    primary: 'SET GLOBAL rpl_semi_sync_master_enabled=1',
  },
  mysql: {
    account: [
      "CREATE USER IF NOT EXISTS repl@'127.0.0.1' IDENTIFIED BY 'repl'",
      "GRANT REPLICATION SLAVE, CONNECTION_ADMIN, SERVICE_CONNECTION_ADMIN ON *.* TO repl@'127.0.0.1'",
    ],
    standby: 'SET GLOBAL super_read_only=1; SET GLOBAL rpl_semi_sync_replica_enabled=1',
    follow: (port: number) =>
      `CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=${port}, SOURCE_USER='repl', SOURCE_PASSWORD='repl', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=0; START REPLICA`,
    clients: 'Rpl_semi_sync_source_clients',
    primary: 'SET GLOBAL rpl_semi_sync_source_enabled=1',
  },
} as const
