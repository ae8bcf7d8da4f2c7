import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Client } from '../support/client.ts'
import { until } from '../support/processes.ts'
import { World } from '../support/world.ts'

const clientCount = 1000
const setsPerClient = 10

describe('nodes beside clients that mean no good', () => {
  let world: World
  const sockets: Socket[] = []
  beforeAll(async () => {
    world = await World.start({
      topology: 'single',
      nodes: 2,
      node: { gateway: { connectionsMax: clientCount + 100, stallTimeoutSeconds: 2 } },
    })
  })
  afterAll(async () => world?.remove())
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy()
  })

  async function connect(n: number): Promise<Socket> {
    const socket = createConnection({ port: world.node(n).ports.main, host: '127.0.0.1', noDelay: true })
    sockets.push(socket)
    socket.on('error', () => {})
    await once(socket, 'connect')
    return socket
  }

  test('F35: of a flood of connections those above the limit are told so and closed, and all is well right after', async () => {
    let refused = 0
    for (let n = 0; n < clientCount + 300; n++) {
      const socket = await connect(1)
      socket.on('data', (chunk: Buffer) => {
        if (chunk.toString() === 'ERROR Too many open connections\r\n') refused++
      })
    }
    await until('the refusals', () => refused >= 200)
    expect(await world.node(2).set('beside', 'x')).toBe('STORED\r\n')
    for (const socket of sockets.splice(0)) socket.destroy()
    await until('room', async () => (await world.node(1).ask('mn\r\n', /\r\n$/)) === 'MN\r\n')
    expect(await world.node(1).set('after', 'x')).toBe('STORED\r\n')
  })

  test('F34: clients that never end their requests are closed, others are served meanwhile', async () => {
    const slow = await Promise.all(Array.from({ length: 300 }, () => connect(1)))
    let closed = 0
    for (const [n, socket] of slow.entries()) {
      socket.on('close', () => closed++)
      socket.write(n % 2 === 0 ? `set slow${n} 0 0 1000\r\nx` : `get slow${n}`)
    }
    expect(await world.node(1).set('good', 'x')).toBe('STORED\r\n')
    expect(await world.node(1).get('good')).toBe('x')
    await until('all of them to be closed', () => closed === slow.length)
    expect(await world.node(1).get('slow0')).toBeUndefined()
  })

  test('F32: requests of 10,000 keys and of two hundred large values leave the others their turn', async () => {
    const node = world.node(2)
    const large = 'v'.repeat(900_000)
    for (let n = 0; n < 10; n++) expect(await node.set(`large${n}`, large)).toBe('STORED\r\n')
    const other = await Client.connect(node.ports.main)
    await other.ask('set other 0 0 1\r\nx\r\n', /STORED\r\n$/)
    const many = `get ${Array.from({ length: 10_000 }, (_, n) => (n % 100 === 0 ? 'other' : `absent${n}`)).join(' ')}\r\n`
    const heavy = `get ${Array.from({ length: 200 }, (_, n) => `large${n % 10}`).join(' ')}\r\n`
    // Counted, not timed: on a busy machine a time says more of the others on it.
    for (const [request, turnsMin] of [
      [many, 3],
      [heavy, 20],
    ] as const) {
      const socket = await connect(2)
      let tail = ''
      socket.on('data', (chunk: Buffer) => (tail = (tail + chunk.toString('latin1')).slice(-20)))
      const first = once(socket, 'data')
      socket.write(`${request}mn\r\n`)
      if (request === heavy) await first
      let turns = 0
      let longest = 0
      for (; !tail.endsWith('END\r\nMN\r\n'); turns++) {
        const begun = performance.now()
        expect(await other.ask('get other\r\n', /END\r\n$/)).toContain('x')
        longest = Math.max(longest, performance.now() - begun)
      }
      console.log(`${turns} turns of another client meanwhile, the longest ${longest.toFixed(0)} ms`)
      expect(turns).toBeGreaterThanOrEqual(turnsMin)
      socket.destroy()
    }
    other.close()
  })

  test('F31: a node that is killed with a thousand clients mid-pipeline leaves whole values, and nothing acknowledged is lost', async () => {
    const value = (client: number, n: number): string => `${client}:${n}:`.padEnd(200, 'v')
    const acknowledged = Array.from({ length: clientCount }, () => 0)
    let replies = 0
    const clients = await Promise.all(Array.from({ length: clientCount }, () => connect(1)))
    for (const [client, socket] of clients.entries()) {
      let text = ''
      socket.on('data', (chunk: Buffer) => {
        text += chunk.toString()
        acknowledged[client] = text.split('STORED\r\n').length - 1
        replies++
      })
    }
    for (const [client, socket] of clients.entries()) {
      const sets = Array.from(
        { length: setsPerClient },
        (_, n) => `set p${client}-${n} 0 0 200\r\n${value(client, n)}\r\n`,
      )
      socket.write(sets.join(''))
    }
    await until('some answers', () => replies > 50)
    await world.node(1).kill()
    const acknowledgedCount = acknowledged.reduce((sum, count) => sum + count, 0)
    expect(acknowledgedCount).toBeLessThan(clientCount * setsPerClient)
    expect(await world.node(2).set('unaffected', 'x')).toBe('STORED\r\n')
    world.node(1).start()
    await world.node(1).serving()
    await world.settled()
    for (const node of world.nodes) {
      const found = await getAll(node.ports.main)
      for (let index = 0; index < clientCount * setsPerClient; index++) {
        const client = Math.floor(index / setsPerClient)
        const n = index % setsPerClient
        const held = found.get(`p${client}-${n}`)
        if (held !== undefined || n < (acknowledged[client] ?? 0)) expect(held).toBe(value(client, n))
      }
      const { namespaces } = (await node.verify()) as { namespaces: Record<string, unknown>[] }
      for (const one of namespaces) expect(one).toMatchObject({ missing: 0, diverged: 0, orphan: 0 })
    }
  })

  async function getAll(port: number): Promise<Map<string, string>> {
    const found = new Map<string, string>()
    const node = world.nodes.find(({ ports }) => ports.main === port)
    for (let client = 0; client < clientCount; client += 50) {
      const keys = Array.from(
        { length: 50 * setsPerClient },
        (_, i) => `p${client + Math.floor(i / setsPerClient)}-${i % setsPerClient}`,
      )
      const reply = (await node?.ask(`get ${keys.join(' ')}\r\n`, /END\r\n$/)) ?? ''
      for (const [, key = '', body = ''] of reply.matchAll(/VALUE (\S+) 0 \d+\r\n([^\r]*)\r\n/g)) found.set(key, body)
    }
    return found
  }
})
