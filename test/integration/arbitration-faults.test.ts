import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { randomChange, randomOf } from '../support/arbitration-races.ts'
import type { ChaosProxy } from '../support/chaos-proxy.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { judge } from '../support/linearizability.ts'
import { until } from '../support/processes.ts'
import { History, RecordingClient } from '../support/recording-client.ts'
import { World } from '../support/world.ts'

const binaries = ['/usr/bin/memcached', newerMemcachedPath].filter((path) => existsSync(path))
const keys = ['fault0', 'fault1', 'fault2', 'fault3']
const clientsPerNode = 4
/** Requests of one connection at a time. */
const pipelined = 3

/**
 * DESIGN §6.5 and §6.7 while things break: node 2 reaches its databases through links that are slow and break, node 1 is killed. Whatever
 * clients of both were told, there must have been one order of changes; what they were not told may have happened or not.
 */
describe.each(binaries)('nodes with %s, one behind a bad link, one killed', (memcachedPath) => {
  let world: World
  const links: ChaosProxy[] = []

  beforeAll(async () => {
    world = await World.start({ topology: 'pair', nodes: 2, memcachedPath })
    links.push(...(await world.putBehindLinks(2)))
  })
  afterAll(async () => {
    await world?.remove()
    await Promise.all(links.splice(0).map((link) => link.stop()))
  })

  test('what clients were told has one order', async () => {
    const seed = Date.now() % 1_000_000
    console.log(`seed ${seed}`)
    const load = new Load(world, seed)
    await load.progress(1, 100)
    await load.progress(2, 100)
    for (const milliseconds of [5, 30]) {
      for (const link of links) link.delay(milliseconds)
      await load.progress(2, 40)
    }
    for (const link of links) link.cut()
    await load.progress(2, 40)
    world.standby?.program.signal('SIGSTOP')
    await load.attempted(1, 4)
    world.standby?.program.signal('SIGCONT')
    await load.progress(1, 40)
    await world.node(1).kill()
    await load.progress(2, 60)
    world.node(1).start()
    await world.node(1).serving()
    await load.progress(1, 60)
    for (const link of links) link.delay(0)
    world.node(2).memcached.program.signal('SIGSTOP')
    await load.progress(1, 40)
    world.node(2).memcached.program.signal('SIGCONT')
    await load.progress(2, 60)

    const { operations } = await load.stop()
    await world.settled()
    const finals = await Promise.all(world.nodes.map((_, n) => load.connect(n + 1)))
    for (const key of keys) {
      for (const client of finals) await client.ask(key, { kind: 'get', strict: true })
    }
    for (const client of finals) client.close()
    const unknown = operations.filter(({ answer }) => answer === undefined)
    console.log(`${operations.length} operations, ${unknown.length} without an answer`)
    expect(unknown.length).toBeGreaterThan(0)
    expect(judge(operations)).toEqual([])
  })
})

/** Clients that ask at random and come back on a new connection when theirs ends. */
class Load {
  readonly #world: World
  readonly #history = new History()
  readonly #tokens = new Map<string, string>()
  readonly #answered = [0, 0, 0]
  readonly #asked = [0, 0, 0]
  readonly #tasks: Promise<void>[] = []
  #running = true
  #connections = 0
  #values = 100

  constructor(world: World, seed: number) {
    this.#world = world
    for (const node of [1, 2]) {
      for (let n = 0; n < clientsPerNode; n++) this.#tasks.push(this.#play(node, randomOf(seed + node * 100 + n)))
    }
  }

  async connect(node: number): Promise<RecordingClient> {
    const name = `connection${++this.#connections}`
    const dialect = this.#connections % 2 === 0 ? 'text' : 'meta'
    return RecordingClient.connect(this.#world.node(node).ports.main, { node, name, history: this.#history, dialect })
  }

  /** So many more were answered through the node, not by an error. */
  async progress(node: number, count: number): Promise<void> {
    const from = this.#answered[node] ?? 0
    await until(`${count} more answers of node ${node}`, () => (this.#answered[node] ?? 0) >= from + count)
  }

  async attempted(node: number, count: number): Promise<void> {
    const from = this.#asked[node] ?? 0
    await until(`${count} more requests to node ${node}`, () => (this.#asked[node] ?? 0) >= from + count)
  }

  async stop(): Promise<History> {
    this.#running = false
    await Promise.all(this.#tasks)
    return this.#history
  }

  async #play(node: number, random: () => number): Promise<void> {
    while (this.#running) {
      const client = await this.connect(node).catch(() => undefined)
      if (client !== undefined) {
        const streams = Array.from({ length: pipelined }, () => this.#ask(client, node, random))
        await Promise.all(streams)
        client.close()
      }
      await pause(10)
    }
  }

  async #ask(client: RecordingClient, node: number, random: () => number): Promise<void> {
    while (this.#running && client.open) {
      const key = keys[Math.floor(random() * keys.length)] as string
      this.#asked[node] = (this.#asked[node] ?? 0) + 1
      const { answer } = await client.ask(key, randomChange(random(), String(++this.#values), this.#tokens.get(key)))
      if (answer === undefined || answer.kind === 'failed') {
        await pause(20)
        continue
      }
      this.#answered[node] = (this.#answered[node] ?? 0) + 1
      if ('token' in answer && answer.token !== undefined) this.#tokens.set(key, answer.token)
    }
  }
}

async function pause(milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds))
}
