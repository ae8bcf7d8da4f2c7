import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import type { NodeConfigInput } from '../../src/config/node-config.ts'
import { dumpItems } from '../../src/adapters/memcached-dump.ts'
import { covers, parsePosition } from '../../src/domain/position.ts'
import { initializeSchema } from '../../src/schema/initialize.ts'
import { ChaosProxy } from './chaos-proxy.ts'
import { Database, type Engine, pairUp, waitForNobody } from './databases.ts'
import { dialogue, Memcached } from './memcached.ts'
import { here, type Place } from './network.ts'
import { freePort, Program, removeFolder, temporaryFolder, until } from './processes.ts'

export interface WorldOptions {
  /** `external`: a primary and a replica that it does not wait for. */
  readonly topology: 'pair' | 'single' | 'external'
  readonly nodes: number
  readonly engine?: Engine
  readonly memcachedOptions?: readonly string[]
  readonly memcachedPath?: string
  readonly databaseOptions?: readonly string[]
  readonly writer?: NodeConfigInput['writer']
  readonly gateway?: NodeConfigInput['gateway']
  /** Of the n-th node. */
  readonly upkeep?: (n: number) => NodeConfigInput['upkeep']
  /** More of each node's configuration. */
  readonly node?: Partial<NodeConfigInput>
}

/** A whole deployment of the test's own: databases, memcached and nodes as processes. */
export class World {
  readonly folder: string
  readonly primary: Database
  readonly standby: Database | undefined
  readonly nodes: NodeProcess[] = []

  private constructor(folder: string, primary: Database, standby: Database | undefined) {
    this.folder = folder
    this.primary = primary
    this.standby = standby
  }

  static async start(options: WorldOptions): Promise<World> {
    const folder = await temporaryFolder()
    const primary = await Database.start(options.engine, options.databaseOptions)
    const standby =
      options.topology !== 'single' ? await Database.start(options.engine, options.databaseOptions) : undefined
    const world = new World(folder, primary, standby)
    try {
      if (standby !== undefined) await pairUp(primary, standby)
      if (options.topology === 'external') await waitForNobody(primary)
      await world.#schema()
      for (let n = 1; n <= options.nodes; n++) await world.#addNode(n, options)
      await Promise.all(world.nodes.map((node) => node.serving()))
      return world
    } catch (error) {
      await world.remove()
      throw error
    }
  }

  node(n: number): NodeProcess {
    const node = this.nodes[n - 1]
    if (node === undefined) throw new Error(`there is no node ${n}`)
    return node
  }

  async namespaceId(name: string): Promise<number> {
    const [row] = await this.primary.query<{ id: number }>('SELECT memcached.ns(?) AS id', [name])
    return row?.id ?? 0
  }

  /** From now on a node reaches its databases through proxies; the caller stops them. */
  async putBehindLinks(n: number): Promise<ChaosProxy[]> {
    const node = this.node(n)
    await node.kill()
    const file = join(this.folder, node.name, 'config.yaml')
    let config = await readFile(file, 'utf8')
    const links: ChaosProxy[] = []
    for (const database of [this.primary, this.standby]) {
      if (database === undefined) continue
      const link = await ChaosProxy.start(database.port)
      links.push(link)
      config = config.replaceAll(database.address, `127.0.0.1:${link.port}`)
    }
    await writeFile(file, config, { mode: 0o600 })
    node.start()
    await node.serving()
    return links
  }

  /** Resolves once every node has applied all that the primary has. */
  async settled(): Promise<void> {
    const [row] = await this.primary.query<{ position: string }>(
      this.primary.engine === 'mariadb' ? 'SELECT @@gtid_binlog_pos AS position' : 'SELECT @@gtid_executed AS position',
    )
    const target = parsePosition(this.primary.engine, row?.position ?? '')
    for (const node of this.nodes) {
      await until(`${node.name} to reach ${row?.position}`, async () => {
        const status = await node.status()
        // It may be further by now: a lane's own changes come at any time.
        const applied = parsePosition(this.primary.engine, status.position ?? '')
        return status.state === 'serving' && covers(applied, target)
      })
    }
  }

  async remove(): Promise<void> {
    await Promise.allSettled(this.nodes.map((node) => node.remove()))
    await Promise.allSettled([this.primary.remove(), this.standby?.remove()])
    await removeFolder(this.folder)
  }

  async #schema(): Promise<void> {
    const connection = await this.primary.connect()
    const account = { user: 'whitehole_node', host: '127.0.0.1', password: 'secret' }
    await initializeSchema(connection, { accounts: { node: account } })
    for (const name of ['default', 'sessions', 'catalog'])
      await connection.query('CALL memcached.create_namespace(?)', [name])
    connection.destroy()
  }

  /** One more, which is started and not waited for. */
  async addNode(options: WorldOptions): Promise<NodeProcess> {
    const n = this.nodes.length + 1
    await this.#addNode(n, options)
    return this.node(n)
  }

  async #addNode(n: number, options: WorldOptions): Promise<void> {
    const memcached = await Memcached.start(options.memcachedOptions, options.memcachedPath)
    const folder = join(this.folder, `node${n}`)
    await mkdir(folder, { mode: 0o700 })
    const addresses = [this.primary, ...(this.standby === undefined ? [] : [this.standby])].map(
      ({ address }) => address,
    )
    const ports = {
      main: await freePort(),
      prefix: await freePort(),
      sessions: await freePort(),
      http: await freePort(),
    }
    const config: NodeConfigInput = {
      name: `node${n}`,
      dataDirectory: join(folder, 'data'),
      databases: {
        topology: options.topology,
        addresses,
        user: 'whitehole_node',
        password: 'secret',
        heartbeatSeconds: 0.5,
      },
      memcached: { address: memcached.address },
      listeners: [
        { listen: `127.0.0.1:${ports.main}`, namespace: 'default' },
        { listen: `127.0.0.1:${ports.prefix}`, namespaceFrom: 'key' },
        { listen: `127.0.0.1:${ports.sessions}`, namespace: 'sessions' },
        { listen: `unix:${join(folder, 'sock')}`, namespace: 'default' },
      ],
      http: { listen: `127.0.0.1:${ports.http}` },
      writer: options.writer,
      gateway: options.gateway,
      upkeep: options.upkeep?.(n),
      ...options.node,
    }
    const file = join(folder, 'config.yaml')
    await writeFile(file, stringify(config), { mode: 0o600 })
    const node = new NodeProcess({
      name: `node${n}`,
      configFile: file,
      unixSocket: join(folder, 'sock'),
      memcached,
      ports,
    })
    this.nodes.push(node)
    node.start()
  }
}

export interface NodeStatusAnswer {
  readonly state: string
  readonly failure: string | null
  readonly pid: number
  readonly source: string | null
  readonly position: string | null
  readonly lagSeconds: number | null
  readonly memcached: {
    readonly usedPercent: number | null
    readonly evicted: number | null
    readonly evictedByNamespace: Readonly<Record<string, number>>
  }
}

export class NodeProcess {
  readonly name: string
  readonly memcached: Memcached
  readonly ports: { readonly main: number; readonly prefix: number; readonly sessions: number; readonly http: number }
  readonly unixSocket: string
  readonly #configFile: string
  readonly #place: Place
  #program: Program | undefined

  constructor(
    given: Pick<NodeProcess, 'name' | 'memcached' | 'ports' | 'unixSocket'> & { configFile: string; place?: Place },
  ) {
    this.name = given.name
    this.memcached = given.memcached
    this.ports = given.ports
    this.unixSocket = given.unixSocket
    this.#configFile = given.configFile
    this.#place = given.place ?? here
  }

  get host(): string {
    return this.#place.host
  }

  get program(): Program {
    if (this.#program === undefined) throw new Error(`${this.name} was never started`)
    return this.#program
  }

  /** @param environment for instance `WHITEHOLE_FAILPOINT` */
  start(environment: NodeJS.ProcessEnv = {}): void {
    const main = ['--import', 'tsx', 'src/main.ts', 'node', '--config', this.#configFile]
    const [command, args] = this.#place.command(process.execPath, main)
    this.#program = new Program(command, args, { env: { ...process.env, ...environment } })
  }

  async kill(): Promise<void> {
    await this.#program?.stop('SIGKILL')
  }

  async status(): Promise<NodeStatusAnswer> {
    const answer = await fetch(`http://${this.host}:${this.ports.http}/v1/status`, {
      signal: AbortSignal.timeout(5000),
    })
    return (await answer.json()) as NodeStatusAnswer
  }

  async verify(): Promise<unknown> {
    const answer = await fetch(`http://${this.host}:${this.ports.http}/v1/verify`, { method: 'POST' })
    if (answer.status !== 200) throw new Error(`verify answered ${answer.status}: ${await answer.text()}`)
    return answer.json()
  }

  /** Items in its memcached, dead ones too, its own aside. */
  async items(): Promise<number> {
    let count = 0
    for await (const some of dumpItems({ host: '127.0.0.1', port: this.memcached.port })) {
      count += some.filter(({ key }) => !key.startsWith('~')).length
    }
    return count
  }

  async metric(name: string): Promise<number> {
    const text = await (await fetch(`http://${this.host}:${this.ports.http}/metrics`)).text()
    return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? ([-\\d.e+]+)$`, 'm').exec(text)?.[1] ?? Number.NaN)
  }

  async serving(): Promise<void> {
    await until(`${this.name} to serve`, async () => {
      if (!this.program.running) throw new Error(`it ended: ${this.program.output}`)
      const { state } = await this.status()
      if (state !== 'serving') throw new Error(`it is ${state}: ${this.program.output}`)
      return true
    })
  }

  /** One command and its reply, on a connection of its own to the listener of `default`. */
  async ask(
    command: string,
    end = /(END|STORED|DELETED|NOT_FOUND|TOUCHED|OK|ERROR[^\r\n]*)\r\n$/,
    port = this.ports.main,
  ): Promise<string> {
    return dialogue(port, command, end, this.host)
  }

  async set(key: string, value: string, exptime = 0): Promise<string> {
    return this.ask(`set ${key} 0 ${exptime} ${Buffer.byteLength(value)}\r\n${value}\r\n`)
  }

  /** The value, or undefined for a miss. Throws on an error reply. */
  async get(key: string, port = this.ports.main): Promise<string | undefined> {
    const reply = await this.ask(`get ${key}\r\n`, /(END|ERROR[^\r\n]*)\r\n$/, port)
    if (reply === 'END\r\n') return undefined
    const match = /^VALUE \S+ \d+ \d+\r\n([^]*)\r\nEND\r\n$/.exec(reply)
    if (match === null) throw new Error(`get ${key} was answered ${JSON.stringify(reply)}`)
    return match[1]
  }

  async remove(): Promise<void> {
    await this.kill()
    await this.memcached.stop()
  }
}
