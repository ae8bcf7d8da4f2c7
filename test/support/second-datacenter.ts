import type { NodeConfigInput } from '../../src/config/node-config.ts'
import { ChaosProxy } from './chaos-proxy.ts'
import { Database, type Engine } from './databases.ts'
import { until } from './processes.ts'
import { type NodeProcess, World } from './world.ts'

export interface SecondDatacenterOptions {
  readonly engine?: Engine
  /** The relay replicates our database alone. */
  readonly filtered?: boolean
  /** More of the configuration of each node of the second data centre, in their order. */
  readonly nodes: readonly Partial<Omit<NodeConfigInput, 'databases'>>[]
}

/** A pair with one node at home, and a relay of the standby with its nodes beyond a link that can be made slow or cut. */
export class SecondDatacenter {
  readonly world: World
  readonly relay: Database
  /** The way of the log: from the standby to the relay. */
  readonly relayLink: ChaosProxy
  /** The way of writes: from the nodes beyond to primary and standby. */
  readonly nodeLinks: readonly ChaosProxy[]

  private constructor(given: Pick<SecondDatacenter, 'world' | 'relay' | 'relayLink' | 'nodeLinks'>) {
    this.world = given.world
    this.relay = given.relay
    this.relayLink = given.relayLink
    this.nodeLinks = given.nodeLinks
  }

  static async start({
    engine = 'mariadb',
    filtered = false,
    nodes,
  }: SecondDatacenterOptions): Promise<SecondDatacenter> {
    const world = await World.start({ topology: 'pair', nodes: 1, engine })
    let relay: Database | undefined
    const links: ChaosProxy[] = []
    try {
      const { primary, standby } = world
      if (standby === undefined) throw new Error('the pair has no standby')
      relay = await Database.start(engine, filtered ? ['--replicate-do-db=memcached'] : [])
      for (const port of [standby.extraPort, primary.port, standby.port]) links.push(await ChaosProxy.start(port))
      const [relayLink, ...nodeLinks] = links
      if (relayLink === undefined) throw new Error('there is no link')
      const beyond = new SecondDatacenter({ world, relay, relayLink, nodeLinks })
      await followAsRelay(relay, standby, relayLink.port)
      for (const more of nodes) await beyond.#addNode({ engine, filtered, more })
      await Promise.all(beyond.nodes.map((node) => node.serving()))
      return beyond
    } catch (error) {
      await Promise.allSettled(links.map((link) => link.stop()))
      await relay?.remove()
      await world.remove()
      throw error
    }
  }

  get home(): NodeProcess {
    return this.world.node(1)
  }

  get nodes(): readonly NodeProcess[] {
    return this.world.nodes.slice(1)
  }

  node(n: number): NodeProcess {
    return this.world.node(n + 1)
  }

  /** Nothing passes between the data centres, and nobody is told so. */
  cut(): void {
    for (const link of this.#links) link.silence('toClient', 'toServer')
  }

  repair(): void {
    for (const link of this.#links) {
      link.speak()
      link.cut()
    }
  }

  async settled(): Promise<void> {
    const [row] = await this.world.primary.query<{ position: string }>(
      "SELECT value AS position FROM memcached.mc_meta WHERE name = 'marker'",
    )
    const marker = Number(row?.position ?? 0) + 1
    await this.world.primary.query("UPDATE memcached.mc_meta SET value = ? WHERE name = 'marker'", [marker])
    await this.world.settled()
  }

  async remove(): Promise<void> {
    await this.world.remove()
    await Promise.allSettled(this.#links.map((link) => link.stop()))
    await this.relay.remove()
  }

  get #links(): readonly ChaosProxy[] {
    return [this.relayLink, ...this.nodeLinks]
  }

  async #addNode(given: {
    engine: Engine
    filtered: boolean
    more: Partial<Omit<NodeConfigInput, 'databases'>>
  }): Promise<void> {
    const { engine, filtered, more } = given
    await this.world.addNode({
      topology: 'pair',
      nodes: 0,
      engine,
      node: {
        datacenter: 'dc2',
        ...more,
        databases: {
          topology: 'pair',
          addresses: this.nodeLinks.map(({ port }) => `127.0.0.1:${port}`),
          relays: [{ address: this.relay.address, datacenter: 'dc2', filtered }],
          user: 'whitehole_node',
          password: 'secret',
          heartbeatSeconds: 0.5,
        },
      },
    })
  }
}

/** An asynchronous replica of the standby, read-only, caught up. */
async function followAsRelay(relay: Database, standby: Database, port: number): Promise<void> {
  const isMariadb = relay.engine === 'mariadb'
  await standby.query(
    "SET sql_log_bin=0; CREATE USER relay@'127.0.0.1' IDENTIFIED BY 'relay'; GRANT REPLICATION SLAVE ON *.* TO relay@'127.0.0.1'" +
      (isMariadb ? '' : "; GRANT SERVICE_CONNECTION_ADMIN ON *.* TO relay@'127.0.0.1'"),
  )
  await relay.query(isMariadb ? 'SET GLOBAL read_only=1' : 'SET GLOBAL super_read_only=1')
  await relay.query(
    isMariadb
      ? `CHANGE MASTER TO master_host='127.0.0.1', master_port=${port}, master_user='relay', master_password='relay', master_use_gtid=slave_pos, master_connect_retry=1, master_heartbeat_period=0.5; START SLAVE`
      : `CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=${port}, SOURCE_USER='relay', SOURCE_PASSWORD='relay', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1, SOURCE_HEARTBEAT_PERIOD=0.5; START REPLICA`,
  )
  await until('the relay to have the schema', async () => {
    const [row] = await relay.query<{ n: number }>('SELECT COUNT(*) AS n FROM memcached.mc_namespaces')
    return Number(row?.n) >= 3
  })
}
