import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import type { MonitorConfigInput } from '../../src/config/monitor-config.ts'
import type { NodeConfigInput } from '../../src/config/node-config.ts'
import type { ClusterReport } from '../../src/domain/cluster-report.ts'
import { covers, parsePosition } from '../../src/domain/position.ts'
import { serverAccountStatements } from '../../src/schema/accounts.ts'
import { copyDatabase } from '../../src/schema/copy-database.ts'
import { initializeSchema } from '../../src/schema/initialize.ts'
import { Database, type Engine } from './databases.ts'
import { managedAccounts } from './managed.ts'
import { Memcached } from './memcached.ts'
import { here, type Network, type Place } from './network.ts'
import { freePort, Program, removeFolder, temporaryFolder, until } from './processes.ts'
import { NodeProcess } from './world.ts'

export interface ManagedWorldOptions {
  readonly engine?: Engine
  readonly monitors?: number
  readonly nodes?: number
  readonly timings?: MonitorConfigInput['timings']
  readonly writer?: NodeConfigInput['writer']
  /** Each process at the place of its name (`db1`, `node1`, `monitor1`); else all on loopback. */
  readonly network?: Network
  /** A former primary with more than its successor is filled anew; else it is left to a person. */
  readonly rebuilds?: boolean
  /** Each database's disk. */
  readonly diskMebibytes?: number
}

const names = ['db1', 'db2'] as const
const token = 'test-token'

/** A managed pair as it is run in earnest: databases, monitors, and nodes that vote, all processes of the test's own. */
export class ManagedWorld {
  readonly folder: string
  readonly engine: Engine
  readonly databases: Readonly<Record<string, Database>>
  readonly monitors: MonitorProcess[] = []
  readonly nodes: NodeProcess[] = []
  readonly #options: ManagedWorldOptions
  #removed = false

  private constructor(folder: string, options: ManagedWorldOptions, databases: readonly [Database, Database]) {
    this.folder = folder
    this.#options = options
    this.engine = options.engine ?? 'mariadb'
    this.databases = { db1: databases[0], db2: databases[1] }
  }

  /** Resolves once it is paired and every node serves. */
  static async start(options: ManagedWorldOptions = {}): Promise<ManagedWorld> {
    const folder = await temporaryFolder()
    const start = async (name: string): Promise<Database> => {
      const { diskMebibytes, network } = options
      return Database.start(options.engine, [], { diskMebibytes, place: network?.place(name) })
    }
    const databases = await Promise.all([start('db1'), start('db2')])
    const world = new ManagedWorld(folder, options, [databases[0], databases[1]])
    try {
      await world.#prepare()
      return world
    } catch (error) {
      const told = world.monitors.map(({ output }) => output).join('\n')
      await world.remove()
      throw new Error(`the managed world did not start: ${told}`, { cause: error })
    }
  }

  database(name: string): Database {
    const database = this.databases[name]
    if (database === undefined) throw new Error(`there is no ${name}`)
    return database
  }

  node(n: number): NodeProcess {
    const node = this.nodes[n - 1]
    if (node === undefined) throw new Error(`there is no node ${n}`)
    return node
  }

  monitor(n: number): MonitorProcess {
    const monitor = this.monitors[n - 1]
    if (monitor === undefined) throw new Error(`there is no monitor ${n}`)
    return monitor
  }

  /** As the monitor says that acts. */
  async report(): Promise<ClusterReport> {
    const reports = await Promise.all(this.monitors.map((one) => one.report().catch(() => undefined)))
    const acting = reports.find((report) => report?.acting === true)
    if (acting === undefined) throw new Error('no monitor acts')
    return acting
  }

  async untilReport(what: string, condition: (report: ClusterReport) => boolean): Promise<ClusterReport> {
    let last: ClusterReport | undefined
    try {
      return await until(what, async () => {
        last = await this.report()
        return condition(last) ? last : undefined
      })
    } catch (cause) {
      const told = this.monitors.map(({ output }) => output).join('\n')
      throw new Error(`${JSON.stringify(last)}\n${told}`, { cause })
    }
  }

  paired(): Promise<ClusterReport> {
    return this.untilReport('the pair to be whole', ({ ready }) => ready)
  }

  async change(
    kind: 'switchover' | 'takeover',
    body: Record<string, unknown>,
  ): Promise<{ status: number; body: unknown }> {
    const { monitor } = await this.report()
    const process = this.monitors.find(({ name }) => name === monitor)
    const answer = await fetch(`${process?.url}/v1/${kind}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    return { status: answer.status, body: await answer.json() }
  }

  /** Once another one's promotion is recorded: whatever nobody acknowledged is cut off (MariaDB). */
  async launchAsStandby(name: string): Promise<void> {
    const role = this.engine === 'mariadb' ? ['--init-rpl-role=SLAVE', '--rpl-semi-sync-slave-enabled=1'] : []
    await this.database(name).launch(role)
  }

  /** Resolves once every node has applied all that the primary has. */
  async settled(): Promise<void> {
    const { primary } = await this.report()
    const [row] = await this.database(primary ?? '').query<{ position: string }>(
      this.engine === 'mariadb' ? 'SELECT @@gtid_binlog_pos AS position' : 'SELECT @@gtid_executed AS position',
    )
    const target = parsePosition(this.engine, row?.position ?? '')
    for (const node of this.nodes) {
      await until(`${node.name} to reach ${row?.position}`, async () => {
        const status = await node.status()
        return status.state === 'serving' && covers(parsePosition(this.engine, status.position ?? ''), target)
      })
    }
  }

  async remove(): Promise<void> {
    this.#removed = true
    await Promise.allSettled(this.nodes.map((node) => node.remove()))
    await Promise.allSettled(this.monitors.map((monitor) => monitor.kill()))
    await Promise.allSettled(Object.values(this.databases).map((database) => database.remove()))
    await removeFolder(this.folder)
  }

  async #prepare(): Promise<void> {
    const { monitors = 1, nodes = 2 } = this.#options
    for (const name of names) {
      const { monitor, replication } = this.#accounts
      for (const statement of serverAccountStatements(this.engine, { monitor, replication }))
        await this.database(name).query(`SET sql_log_bin = 0; ${statement}`)
      const variable = this.engine === 'mariadb' ? 'read_only' : 'super_read_only'
      await this.database(name).query(`SET GLOBAL ${variable} = 1`)
    }
    const voters: { name: string; kind: 'monitor' | 'node'; http: string; port: number }[] = []
    for (let n = 1; n <= monitors; n++) voters.push(await voter(`monitor${n}`, 'monitor', this.#place(`monitor${n}`)))
    for (let n = 1; n <= nodes; n++) voters.push(await voter(`node${n}`, 'node', this.#place(`node${n}`)))
    await writeFile(join(this.folder, 'secret'), 'voters-secret', { mode: 0o600 })
    await writeFile(join(this.folder, 'token'), token, { mode: 0o600 })
    await writeFile(join(this.folder, 'password'), managedAccounts.monitor.password, { mode: 0o600 })
    await writeFile(join(this.folder, 'replication'), managedAccounts.replication.password, { mode: 0o600 })
    void this.#serveRestarts()
    for (const { name, kind, port } of voters) {
      if (kind === 'monitor') await this.#addMonitor(name, port, voters)
      else await this.#addNode(name, port)
    }
    const { primary } = await this.untilReport('a primary', ({ stage }) => stage === 'steady')
    const root = await this.database(primary ?? '').connect()
    await initializeSchema(root, { accounts: this.#accounts })
    for (const name of ['default', 'sessions', 'catalog'])
      await root.query('CALL memcached.create_namespace(?)', [name])
    root.destroy()
    await this.paired()
    await Promise.all(this.nodes.map((node) => node.serving()))
  }

  async #addMonitor(
    name: string,
    port: number,
    voters: readonly { name: string; kind: 'monitor' | 'node'; http: string }[],
  ): Promise<void> {
    const config: MonitorConfigInput = {
      name,
      dataDirectory: join(this.folder, name),
      databases: {
        engine: this.engine,
        pair: names.map((database) => ({
          name: database,
          address: this.database(database).address,
          adminPort: this.database(database).extraPort,
          // Done by this process (#serveRestarts), which holds the server.
          restartCommand: this.#asked(`restart-${database}`),
          ...(this.#options.rebuilds === true ? { rebuildCommand: this.#asked(`rebuild-${database}`) } : {}),
        })),
        passwordFile: join(this.folder, 'password'),
        replicationPasswordFile: join(this.folder, 'replication'),
      },
      voters: voters.map((one) => ({ name: one.name, kind: one.kind, http: one.http })),
      secretFile: join(this.folder, 'secret'),
      tokenFile: join(this.folder, 'token'),
      http: { listen: `${this.#place(name).host}:${port}`, trusted: true },
      timings: this.#options.timings,
    }
    const file = join(this.folder, `${name}.yaml`)
    await writeFile(file, stringify(config), { mode: 0o600 })
    const monitor = new MonitorProcess(name, { port, configFile: file, place: this.#place(name) })
    this.monitors.push(monitor)
    monitor.start()
  }

  async #addNode(name: string, port: number): Promise<void> {
    const place = this.#place(name)
    const memcached = await Memcached.start([], undefined, place)
    const folder = join(this.folder, name)
    await mkdir(folder, { mode: 0o700 })
    const ports = { main: await freePort(), prefix: await freePort(), sessions: await freePort(), http: port }
    const config: NodeConfigInput = {
      name,
      dataDirectory: join(folder, 'data'),
      databases: {
        topology: 'pair',
        addresses: names.map((database) => this.database(database).address),
        user: managedAccounts.node.user,
        password: managedAccounts.node.password,
        heartbeatSeconds: 0.5,
      },
      voter: {
        databases: names.map((database) => ({ name: database, address: this.database(database).address })),
        secretFile: join(this.folder, 'secret'),
      },
      memcached: { address: memcached.address },
      listeners: [
        { listen: `${place.host}:${ports.main}`, namespace: 'default', trusted: true },
        { listen: `${place.host}:${ports.prefix}`, namespaceFrom: 'key', trusted: true },
        { listen: `${place.host}:${ports.sessions}`, namespace: 'sessions', trusted: true },
      ],
      http: { listen: `${place.host}:${ports.http}`, trusted: true },
      writer: this.#options.writer,
    }
    const file = join(folder, 'config.yaml')
    await writeFile(file, stringify(config), { mode: 0o600 })
    const node = new NodeProcess({
      name,
      configFile: file,
      unixSocket: join(folder, 'sock'),
      memcached,
      ports,
      place,
    })
    this.nodes.push(node)
    node.start()
  }

  #place(name: string): Place {
    return this.#options.network?.place(name) ?? here
  }

  get #accounts(): typeof managedAccounts {
    const { network } = this.#options
    if (network === undefined) return managedAccounts
    const host = `${network.subnet}.%`
    const { node, application, monitor, replication, relay } = managedAccounts
    return {
      node: { ...node, host },
      application: { ...application, host },
      monitor: { ...monitor, host },
      replication: { ...replication, host },
      relay: { ...relay, host },
    }
  }

  #asked(what: string): string {
    const file = join(this.folder, what)
    return `touch ${file}; while [ -e ${file} ]; do sleep 0.05; done`
  }

  /** The supervisor's part: a file `restart-db1` asks for a kill and a start as standby, `rebuild-db1` for a copy of the other one. */
  async #serveRestarts(): Promise<void> {
    while (!this.#removed) {
      const files = await readdir(this.folder).catch((): string[] => [])
      for (const name of names) {
        if (files.includes(`restart-${name}`)) await this.#restart(name, () => this.launchAsStandby(name))
        if (files.includes(`rebuild-${name}`)) await this.#restart(name, () => this.#rebuild(name))
      }
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  async #restart(name: string, start: () => Promise<void>): Promise<void> {
    await this.database(name).stop('SIGKILL')
    await start()
    for (const what of ['restart', 'rebuild']) await rm(join(this.folder, `${what}-${name}`), { force: true })
  }

  async #rebuild(name: string): Promise<void> {
    await this.database(name).launch()
    const other = this.database(name === 'db1' ? 'db2' : 'db1')
    const [locking, reading, into] = [await other.connect(), await other.connect(), await this.database(name).connect()]
    await copyDatabase({ locking, reading }, into)
    for (const connection of [locking, reading, into]) connection.destroy()
  }
}

async function voter(
  name: string,
  kind: 'monitor' | 'node',
  place: Place,
): Promise<{ name: string; kind: 'monitor' | 'node'; http: string; port: number }> {
  const port = await freePort()
  return { name, kind, http: `${place.host}:${port}`, port }
}

export class MonitorProcess {
  readonly name: string
  readonly port: number
  readonly #configFile: string
  readonly #place: Place
  #program: Program | undefined

  constructor(name: string, given: { port: number; configFile: string; place: Place }) {
    this.name = name
    this.port = given.port
    this.#configFile = given.configFile
    this.#place = given.place
  }

  get url(): string {
    return `http://${this.#place.host}:${this.port}`
  }

  get output(): string {
    return this.#program?.output ?? ''
  }

  get program(): Program {
    if (this.#program === undefined) throw new Error(`${this.name} was never started`)
    return this.#program
  }

  start(env: NodeJS.ProcessEnv = {}): void {
    const main = ['--import', 'tsx', 'src/main.ts', 'monitor', '--config', this.#configFile]
    const [command, args] = this.#place.command(process.execPath, main)
    this.#program = new Program(command, args, { env: { ...process.env, ...env } })
  }

  async kill(): Promise<void> {
    await this.#program?.stop('SIGKILL')
  }

  async report(): Promise<ClusterReport> {
    const answer = await fetch(`${this.url}/v1/cluster`, { signal: AbortSignal.timeout(3000) })
    return (await answer.json()) as ClusterReport
  }
}
