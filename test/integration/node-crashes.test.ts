import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Client } from '../support/client.ts'
import { engineList } from '../support/databases.ts'
import { until } from '../support/processes.ts'
import { World } from '../support/world.ts'

/**
 * Processes die under load. Writers write growing numbers to keys of their own; readers on both nodes may never see a smaller one after
 * a larger one on the same connection's node, and in the end every node holds the last acknowledged number, or one whose outcome was
 * unknown.
 */
describe.each(engineList)('under load on a pair of %s with two nodes', (engine) => {
  let world: World
  const rounds = engine === 'mariadb' ? { nodes: 3, memcacheds: 2 } : { nodes: 1, memcacheds: 1 }
  beforeAll(async () => {
    world = await World.start({ engine, topology: 'pair', nodes: 2 })
  })
  afterAll(async () => world?.remove())

  test('a node is killed and started again: nothing acknowledged is lost, nobody reads an older value after a newer one', async () => {
    const load = new Load(world, 'n')
    await load.warm()
    for (let round = 0; round < rounds.nodes; round++) {
      await world.node(1).kill()
      await load.progress(2, 200)
      world.node(1).start()
      await world.node(1).serving()
      await load.progress(1, 200)
    }
    await load.check()
  })

  test('a memcached is killed: its node rebuilds before it serves, and writes go on meanwhile', async () => {
    const load = new Load(world, 'm')
    await load.warm()
    const rebuildsBefore = await world.node(1).metric('whitehole_rebuilds_total')
    for (let round = 0; round < rounds.memcacheds; round++) {
      await world.node(1).memcached.restart()
      await world.node(1).serving()
      await load.progress(1, 200)
    }
    expect(await world.node(1).metric('whitehole_rebuilds_total')).toBe(rebuildsBefore + rounds.memcacheds)
    await load.check()
  })

  test('while its memcached is away a node acknowledges what is seen in the log, and the floor holds', async () => {
    const node = world.node(1)
    await node.memcached.stop()
    await until('the node to notice', async () => (await node.status()).state === 'starting')
    expect((await node.status()).state).not.toBe('serving')
    const ready = await fetch(`http://127.0.0.1:${node.ports.http}/readyz`)
    expect(ready.status).toBe(503)
    await until('a write to be acknowledged', async () => (await node.set('away', 'yes')) === 'STORED\r\n')
    expect(await node.get('away')).toBe('yes')
    await node.memcached.restart()
    await node.serving()
    expect(await node.get('away')).toBe('yes')
  })

  test('R14: a memcached that was flushed behind the back of its node is rebuilt', async () => {
    const node = world.node(2)
    await node.set('kept', 'x')
    const before = await node.metric('whitehole_rebuilds_total')
    await (await Client.connect(node.memcached.port)).finish('flush_all\r\n', /OK/)
    await until('the rebuild', async () => {
      await world.node(1).set('poke', 'x')
      return (await node.metric('whitehole_rebuilds_total')) > before
    })
    await node.serving()
    expect(await node.get('kept')).toBe('x')
  })

  test('F28: a stalled memcached (SIGSTOP) takes the node out of service, and it comes back by itself', async () => {
    const node = world.node(2)
    node.memcached.program.signal('SIGSTOP')
    await until('the node to notice', async () => (await node.status()).state !== 'serving', 30_000)
    node.memcached.program.signal('SIGCONT')
    await node.serving()
    await node.set('after', 'stall')
    expect(await node.get('after')).toBe('stall')
  })
})

class Load {
  readonly #world: World
  readonly #prefix: string
  readonly #keys = 20
  /** By key: what was last acknowledged, and what may have been written after it. */
  readonly #acknowledged: number[]
  readonly #attempted: number[]
  readonly #problems: string[] = []
  readonly #seen: { reads: number[]; writes: number[] } = { reads: [0, 0, 0], writes: [0, 0, 0] }
  #running = true
  readonly #tasks: Promise<void>[] = []

  constructor(world: World, prefix: string) {
    this.#world = world
    this.#prefix = prefix
    this.#acknowledged = Array.from({ length: this.#keys }, () => 0)
    this.#attempted = Array.from({ length: this.#keys }, () => 0)
    // Each key has one writer, on one of the nodes.
    for (let key = 0; key < this.#keys; key++) this.#tasks.push(this.#write(key, (key % 2) + 1))
    for (const node of [1, 2]) for (let reader = 0; reader < 2; reader++) this.#tasks.push(this.#read(node))
  }

  async warm(): Promise<void> {
    await this.progress(1, 100)
    await this.progress(2, 100)
  }

  /** Resolves once so many more writes were acknowledged and reads answered through the node. */
  async progress(node: number, count: number): Promise<void> {
    const { reads, writes } = this.#seen
    const from = { reads: reads[node] ?? 0, writes: writes[node] ?? 0 }
    await until(
      `${count} more reads and writes on node ${node}`,
      () => (reads[node] ?? 0) >= from.reads + count && (writes[node] ?? 0) >= from.writes + count,
    )
  }

  async check(): Promise<void> {
    this.#running = false
    await Promise.all(this.#tasks)
    await this.#world.settled()
    expect(this.#problems).toEqual([])
    for (const node of this.#world.nodes) {
      for (let key = 0; key < this.#keys; key++) {
        const value = Number(await node.get(`${this.#prefix}${key}`))
        expect(value, `${node.name} key ${key}`).toBeGreaterThanOrEqual(this.#acknowledged[key] ?? 0)
        expect(value, `${node.name} key ${key}`).toBeLessThanOrEqual(this.#attempted[key] ?? 0)
      }
      const verified = (await node.verify()) as { namespaces: { missing: number; diverged: number; orphan: number }[] }
      for (const namespace of verified.namespaces)
        expect(namespace).toMatchObject({ missing: 0, diverged: 0, orphan: 0 })
    }
  }

  async #write(key: number, node: number): Promise<void> {
    await this.#reconnecting(node, async (client) => {
      const number = (this.#attempted[key] ?? 0) + 1
      this.#attempted[key] = number
      const text = String(number)
      const reply = await client.ask(`set ${this.#prefix}${key} 0 0 ${text.length}\r\n${text}\r\n`, /\r\n$/)
      if (reply === 'STORED\r\n') {
        this.#acknowledged[key] = number
        this.#seen.writes[node] = (this.#seen.writes[node] ?? 0) + 1
      } else if (!reply.startsWith('SERVER_ERROR')) {
        this.#problems.push(`a set was answered ${reply}`)
      }
    })
  }

  async #read(node: number): Promise<void> {
    const highest = Array.from({ length: this.#keys }, () => 0)
    let key = 0
    // Also over reconnects: nobody may see an older value than he has seen before.
    await this.#reconnecting(node, async (client) => {
      key = (key + 1) % this.#keys
      // A reply of this node tells of all that its other clients were told before we asked.
      const floor = key % 2 === node - 1 ? (this.#acknowledged[key] ?? 0) : (highest[key] ?? 0)
      const reply = await client.ask(`get ${this.#prefix}${key}\r\n`, /(END|ERROR[^\r\n]*)\r\n$/)
      if (reply.startsWith('SERVER_ERROR')) return pause()
      const value = Number(/\r\n(\d+)\r\n/.exec(reply)?.[1] ?? 0)
      if (value < floor) this.#problems.push(`node ${node} key ${key}: ${value} after ${floor}`)
      highest[key] = Math.max(value, highest[key] ?? 0)
      this.#seen.reads[node] = (this.#seen.reads[node] ?? 0) + 1
    })
  }

  /** Repeats the step on one connection; the outcome of a step during which the node dies is unknown. */
  async #reconnecting(node: number, step: (client: Client) => Promise<void>): Promise<void> {
    while (this.#running) {
      const client = await Client.connect(this.#world.node(node).ports.main).catch(() => undefined)
      if (client !== undefined) await this.#repeat(async () => step(client)).catch(() => 'the node died')
      client?.close()
      await pause()
    }
  }

  async #repeat(step: () => Promise<void>): Promise<void> {
    while (this.#running) await step()
  }
}

async function pause(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 5))
}
