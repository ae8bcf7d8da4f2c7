import { afterAll, beforeAll, expect, test } from 'vitest'
import { Client } from './client.ts'
import { judge } from './linearizability.ts'
import { until } from './processes.ts'
import { History, RecordingClient } from './recording-client.ts'
import { type NodeProcess, World } from './world.ts'

/** Never serve the past: what clients of a node are told while its memcached is away. */
export function readThroughPeers(memcachedPath: string): void {
  let world: World
  beforeAll(async () => {
    world = await World.start({
      topology: 'pair',
      nodes: 2,
      memcachedPath,
      node: { applier: { maxLagSeconds: 3 }, gateway: { drainSeconds: 1 } },
    })
    await Promise.all(world.nodes.map(peerUp))
  })
  afterAll(async () => world?.remove())

  async function peerUp(node: NodeProcess): Promise<void> {
    await until('the peer to be up', async () => (await node.metric('whitehole_peer_up')) === 1)
  }

  test('reads go to the peer, with every command that reads: a miss there is a miss, a token from there is good', async () => {
    const node = world.node(1)
    await node.ask('set a 7 0 3\r\none\r\n')
    await node.set('timed', 'x', 600)
    await node.memcached.stop()
    try {
      await until('the node to notice', async () => (await node.status()).state === 'starting')
      expect(await node.ask('get a\r\n')).toBe('VALUE a 7 3\r\none\r\nEND\r\n')
      expect(await node.ask('get nothing a nothing2\r\n')).toBe('VALUE a 7 3\r\none\r\nEND\r\n')
      expect(await node.ask('mg a v f s\r\n', /\r\none\r\n$/)).toBe('VA 3 f7 s3\r\none\r\n')
      expect(await node.ask('mg nothing v\r\n', /\r\n$/)).toBe('EN\r\n')
      const left = Number(/ t(\d+)/.exec(await node.ask('mg timed t\r\n', /\r\n$/))?.[1])
      expect(left).toBeGreaterThan(580)
      expect(await node.ask('me a\r\n', /\r\n$/)).toMatch(/^ME a exp=/)
      const token = / (\d+)\r\n/.exec((await node.ask('gets a\r\n')).replace(/^VALUE a 7 3/, ''))?.[1]
      expect(await node.ask(`cas a 7 0 3 ${token}\r\ntwo\r\n`)).toBe('STORED\r\n')
      // R17: its own write, acknowledged a moment ago.
      expect(await node.get('a')).toBe('two')
      expect(await node.ask('delete a\r\n')).toBe('DELETED\r\n')
      expect(await node.get('a')).toBeUndefined()
      expect((await fetch(`http://127.0.0.1:${node.ports.http}/readyz`)).status).toBe(503)
      expect(await node.metric('whitehole_peer_reads_total')).toBeGreaterThan(8)
    } finally {
      await node.memcached.restart()
    }
    await node.serving()
    expect(await node.get('timed')).toBe('x')
  })

  test('R17, R18, R29: through losses of memcached no client goes back in time, or misses what it was told', async () => {
    const history = new History()
    const clients = await Promise.all(
      [1, 2].flatMap((node) =>
        [0, 1, 2, 3].map((n) =>
          RecordingClient.connect(world.node(node).ports.main, {
            node,
            name: `${node}-${n}`,
            history,
            dialect: n % 2 === 0 ? 'text' : 'meta',
          }),
        ),
      ),
    )
    const stop = new AbortController()
    let done = 0
    const play = async (client: RecordingClient, index: number): Promise<void> => {
      for (let n = 0; !stop.signal.aborted; n++) {
        const key = `k${(n * 5 + index) % 40}`
        const value = `${client.name}:${n}`
        const kind = n % 8
        if (kind < 2) await client.ask(key, { kind: 'set', value })
        else if (kind === 2) await client.ask(key, { kind: 'add', value })
        else if (kind === 3) await client.ask(key, { kind: 'delete' })
        else await client.ask(key, { kind: 'get' })
        done++
      }
    }
    const playing = clients.map(play)
    try {
      for (const n of [1, 2, 1, 2]) {
        const node = world.node(n)
        const from = done
        await until('traffic', () => done > from + 100)
        await node.memcached.stop()
        const without = done
        await until('traffic without it', () => done > without + 200)
        await node.memcached.restart()
        await node.serving()
        await peerUp(world.node(3 - n))
      }
    } finally {
      stop.abort()
      await Promise.allSettled(playing)
    }
    await world.settled()
    const reads = history.operations.filter(({ change }) => change.kind === 'get')
    const failed = reads.filter(({ answer }) => answer?.kind === 'failed')
    for (let n = 0; n < 40; n++) {
      for (const client of [0, 4]) await clients[client]?.ask(`k${n}`, { kind: 'get', strict: true })
    }
    for (const client of clients) client.close()
    expect(judge(history.operations)).toEqual([])
    // Those that were under way when it died, and no more.
    expect(failed.length).toBeLessThan(reads.length / 50)
  })

  test('nobody can answer: SERVER_ERROR, on both', async () => {
    await Promise.all(world.nodes.map((node) => node.memcached.stop()))
    try {
      for (const node of world.nodes) {
        await until('reads to be refused', async () => (await node.ask('get x\r\n')).startsWith('SERVER_ERROR'))
        expect(await node.ask('mg x v\r\n', /\r\n$/)).toMatch(/^SERVER_ERROR/)
      }
    } finally {
      await Promise.all(world.nodes.map((node) => node.memcached.restart()))
    }
    await Promise.all(world.nodes.map((node) => node.serving()))
    await Promise.all(world.nodes.map(peerUp))
  })

  test('too far behind the primary a node leaves the service by itself, and comes back', async () => {
    const { standby, primary } = world
    const node = world.node(1)
    if (standby === undefined) throw new Error('there is no standby')
    await standby.query('STOP SLAVE SQL_THREAD')
    try {
      await primary.query("CALL memcached.set_key(memcached.ns('default'), 'late', 'x', 0)")
      await until('the node to leave', async () => (await node.status()).state === 'catching-up', 20_000)
      expect((await node.status()).lagSeconds).toBeGreaterThan(3)
      expect((await fetch(`http://127.0.0.1:${node.ports.http}/readyz`)).status).toBe(503)
    } finally {
      await standby.query('START SLAVE SQL_THREAD')
    }
    await Promise.all(world.nodes.map((one) => one.serving()))
    expect(await node.get('late')).toBe('x')
    await Promise.all(world.nodes.map(peerUp))
  })

  test('SIGTERM: first /readyz says so, and clients are still served; then what was asked is answered', async () => {
    const node = world.node(2)
    await node.set('drained', 'x')
    const client = await Client.connect(node.ports.main)
    node.program.signal('SIGTERM')
    await until('readyz to say so', async () => {
      const { status } = await fetch(`http://127.0.0.1:${node.ports.http}/readyz`)
      return status === 503
    })
    expect((await node.status()).state).toBe('draining')
    expect(await client.ask('get drained\r\n', /END\r\n$/)).toContain('VALUE drained')
    expect(await node.get('drained')).toBe('x')
    await until('it to end', () => !node.program.running)
    expect(node.program.child.exitCode).toBe(0)
    client.close()
    node.start()
    await node.serving()
  })

  test('R17: a peer that is behind is waited for, never believed', async () => {
    const [one, two] = [world.node(1), world.node(2)]
    const links = await world.putBehindLinks(2)
    try {
      await two.serving()
      await peerUp(one)
      for (const link of links) link.delay(100)
      await one.memcached.stop()
      await until('the node to notice', async () => (await one.status()).state === 'starting')
      for (let n = 0; n < 15; n++) {
        expect(await one.set('own', String(n))).toBe('STORED\r\n')
        expect(await one.get('own')).toBe(String(n))
      }
    } finally {
      for (const link of links) link.delay(0)
      await one.memcached.restart()
      await one.serving()
      for (const link of links) await link.stop()
    }
  })
}
