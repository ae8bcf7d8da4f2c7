import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Client } from '../support/client.ts'
import { until } from '../support/processes.ts'
import { World } from '../support/world.ts'

const writeTimeoutMilliseconds = 1500
/** A busy machine may be late, but not by orders of magnitude. */
const boundMilliseconds = writeTimeoutMilliseconds + 4000

async function timed<T>(action: Promise<T>): Promise<{ value: T; milliseconds: number }> {
  const from = performance.now()
  const value = await action
  return { value, milliseconds: performance.now() - from }
}

describe('a single database with one node', () => {
  let world: World
  beforeAll(async () => {
    world = await World.start({ topology: 'single', nodes: 1, writer: { writeTimeoutMilliseconds } })
  })
  afterAll(async () => world?.remove())

  test('§6.7 with no database reachable reads go on, writes fail within a bounded time, and it recovers by itself', async () => {
    const node = world.node(1)
    await node.set('k', 'v')
    await world.primary.stop('SIGKILL')
    expect(await node.get('k')).toBe('v')
    const { value, milliseconds } = await timed(node.set('k', 'w'))
    expect(value).toMatch(/^SERVER_ERROR (not written|outcome unknown)/)
    expect(milliseconds).toBeLessThan(boundMilliseconds)
    expect(await node.ask('gets k\r\n', /\r\n$/)).toMatch(/^SERVER_ERROR/)
    expect(await node.get('k')).toBe('v')
    expect((await node.status()).state).toBe('serving')
    await world.primary.launch()
    await world.primary.query('SET GLOBAL read_only=0')
    await until('writes to work again', async () => (await node.set('k', 'again')) === 'STORED\r\n')
    expect(await node.get('k')).toBe('again')
  })

  test('a primary that hangs (SIGSTOP) gives a bounded error, and each write happens at most once afterwards', async () => {
    const node = world.node(1)
    await node.set('n', '1')
    world.primary.program.signal('SIGSTOP')
    await until('all its threads to stand still', () => world.primary.program.standsStill)
    const { value, milliseconds } = await timed(node.set('n', '2'))
    world.primary.program.signal('SIGCONT')
    expect(value).toMatch(/^SERVER_ERROR/)
    expect(milliseconds).toBeLessThan(boundMilliseconds)
    await until('writes to work again', async () => (await node.set('n', '3')) === 'STORED\r\n')
    await world.settled()
    // Whatever became of 2: never after the acknowledged 3.
    expect(await node.get('n')).toBe('3')
  })

  test('§6.8 a transaction larger than the bound is streamed through', async () => {
    const node = world.node(1)
    const sql = await world.primary.connect()
    const id = await world.namespaceId('default')
    await sql.query('START TRANSACTION')
    for (let n = 0; n < 40; n++)
      await sql.query('CALL memcached.set_key(?, ?, REPEAT(?, 1000000), 0)', [id, `big${n}`, 'x'])
    expect(await node.get('big0')).toBeUndefined()
    await sql.query('COMMIT')
    await until('the last key of it', async () => (await node.get('big39'))?.length === 1_000_000)
    expect((await node.get('big0'))?.length).toBe(1_000_000)
    sql.destroy()
  })

  test('F23: a node that was away while its log was purged rebuilds from what is retained, and never serves what it had', async () => {
    const node = world.node(1)
    await node.set('stale', 'old')
    await node.kill()
    const sql = await world.primary.connect()
    await sql.query("CALL memcached.set_key(memcached.ns('default'), 'stale', 'new', 0)")
    await sql.query('FLUSH BINARY LOGS')
    await sql.query("CALL memcached.set_key(memcached.ns('default'), 'kept', 'yes', 0)")
    const [files] = await sql.query('SHOW BINARY LOGS')
    const last = (files as { Log_name: string }[]).at(-1)?.Log_name
    // A file that the dead node's reader still has open stays.
    await until('the log to be purged', async () => {
      await sql.query('PURGE BINARY LOGS TO ?', [last])
      return ((await sql.query('SHOW BINARY LOGS'))[0] as unknown[]).length === 1
    })
    node.start()
    await node.serving()
    expect(await node.get('stale')).toBeUndefined()
    expect(await node.get('kept')).toBe('yes')
    expect(await node.metric('whitehole_rebuilds_total')).toBe(1)
    sql.destroy()
  })

  test('clients on a unix socket, and a node that is told to stop finishes what it has', async () => {
    const node = world.node(1)
    const client = await Client.connect(node.unixSocket)
    expect(await client.ask('set u 0 0 1\r\nx\r\nget u\r\n', /END\r\n$/)).toBe('STORED\r\nVALUE u 0 1\r\nx\r\nEND\r\n')
    const replies = client.ask(
      Array.from({ length: 200 }, (_, n) => `set u${n} 0 0 1\r\nx\r\n`).join(''),
      /(STORED\r\n){200}/,
    )
    await until(
      'the first of them to be on their way',
      async () => (await node.metric('whitehole_writer_batches_total')) > 0,
    )
    node.program.signal('SIGTERM')
    await replies
    await until('the node to be gone', () => !node.program.running)
    expect(node.program.child.exitCode).toBe(0)
    node.start()
    await node.serving()
    // The state item had caught up before it left: nothing was rebuilt.
    expect(await node.metric('whitehole_rebuilds_total')).toBe(0)
    expect(await node.get('u199')).toBe('x')
  })

  test('F24: other files and another server id change nothing; a log that was reset is another history: nothing from before is served', async () => {
    const node = world.node(1)
    await node.set('reset', 'before')
    await world.primary.query('FLUSH BINARY LOGS')
    await world.primary.query('SET GLOBAL server_id = 4242')
    // Of a session that has it.
    const sql = await world.primary.connect()
    await sql.query("CALL memcached.set_key(memcached.ns('default'), 'other-id', 'yes', 0)")
    await until('it to be applied', async () => (await node.get('other-id')) === 'yes')
    expect((await node.status()).position).toContain('0-4242-')
    expect(await node.get('reset')).toBe('before')
    const rebuilds = await node.metric('whitehole_rebuilds_total')

    await world.primary.query('RESET MASTER')
    await until('the node to notice', async () => (await node.metric('whitehole_rewinds_total')) > 0)
    await until('it to serve', async () => (await node.status()).state === 'serving')
    expect(await node.metric('whitehole_rebuilds_total')).toBeGreaterThan(rebuilds)
    expect(await node.get('reset')).toBeUndefined()
    await until('a write', async () => (await node.set('reset', 'after')) === 'STORED\r\n')
    expect(await node.get('reset')).toBe('after')
    sql.destroy()
  })

  test('TRUNCATE of the log table stops the node with a clear error, and it says so', async () => {
    const node = world.node(1)
    await world.primary.query('TRUNCATE TABLE memcached.mc_storage')
    await until('the node to stop', async () => (await node.status()).state === 'stopped')
    expect((await node.status()).failure).toMatch(/mc_storage/)
    expect(await node.ask('get u\r\n')).toMatch(/^SERVER_ERROR/)
    expect((await fetch(`http://127.0.0.1:${node.ports.http}/healthz`)).status).toBe(200)
    expect((await fetch(`http://127.0.0.1:${node.ports.http}/readyz`)).status).toBe(503)
  })
})

describe('a pair', () => {
  let world: World
  beforeAll(async () => {
    world = await World.start({ topology: 'pair', nodes: 2, writer: { writeTimeoutMilliseconds } })
  })
  afterAll(async () => world?.remove())
  afterEach(() => {
    for (const node of world.nodes) if (node.memcached.program.running) node.memcached.program.signal('SIGCONT')
  })

  test('with the standby dead writes fail in bounded time, reads go on, and both recover when it is back', async () => {
    const node = world.node(1)
    const standby = world.standby
    if (standby === undefined) throw new Error('a pair has a standby')
    await node.set('p', '1')
    await standby.stop('SIGKILL')
    const { value, milliseconds } = await timed(node.set('p', '2'))
    expect(value).toMatch(/^SERVER_ERROR/)
    expect(milliseconds).toBeLessThan(boundMilliseconds)
    expect(await node.get('p')).toBe('1')
    await standby.launch()
    await standby.query('SET GLOBAL rpl_semi_sync_slave_enabled=1; START SLAVE')
    await until('the standby to be attached', async () => {
      const [row] = await world.primary.query<{ Value: string }>(
        "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'",
      )
      return row?.Value === '1'
    })
    await world.primary.query("UPDATE memcached.mc_meta SET value = value + 1 WHERE name = 'marker'")
    await until('writes to work again', async () => (await node.set('p', '3')) === 'STORED\r\n')
    await world.settled()
    expect(await node.get('p')).toBe('3')
    expect(await world.node(2).get('p')).toBe('3')
  })

  test('R5: a node that lags behind a flush still writes under the generation of the primary', async () => {
    const [one, two] = [world.node(1), world.node(2)]
    await two.set('before', 'x')
    two.memcached.program.signal('SIGSTOP')
    await until('all its threads to stand still', () => two.memcached.program.standsStill)
    expect(await one.ask('flush_all\r\n')).toBe('OK\r\n')
    // Node 2 knows nothing of the flush yet: its applier waits for its memcached.
    const late = two.set('after', 'y')
    await until('the write to be committed', async () => (await one.get('after')) === 'y')
    two.memcached.program.signal('SIGCONT')
    await late
    await world.settled()
    for (const node of world.nodes) {
      expect(await node.get('after')).toBe('y')
      expect(await node.get('before')).toBeUndefined()
    }
  })
})
