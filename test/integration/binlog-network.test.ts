import { createConnection } from 'mysql2/promise'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { formatGtid, formatPosition } from '../../src/domain/position.ts'
import { DamagedEvent } from '../../src/wire/binlog/cursor.ts'
import { ChaosProxy } from '../support/chaos-proxy.ts'
import { Database, engineList } from '../support/databases.ts'
import { endOfLog, Following, setSql, someServerId } from '../support/following.ts'
import { createLogTables, databasesAt, follower } from '../support/log-tables.ts'
import { until } from '../support/processes.ts'

/** Between a node and its source there is a network: what it does to the stream never changes what is read. */
describe.each(engineList)('following %s through a network that fails', (engine) => {
  let database: Database
  let proxy: ChaosProxy
  let following: Following | undefined

  beforeAll(async () => {
    database = await Database.start(engine)
    await createLogTables(database)
  })
  afterAll(async () => database?.remove())
  afterEach(async () => {
    await following?.stop()
    await proxy?.stop()
    following = undefined
  })

  const write = async (...keys: string[]): Promise<void> => {
    for (const key of keys) await database.query(setSql(key, key.repeat(20)))
  }

  test('an idle source is heard of each heartbeat', async () => {
    proxy = await ChaosProxy.start(database.port)
    following = new Following(databasesAt([proxy.port]), { start: await endOfLog(database) })
    await until('three heartbeats', () => (following?.heartbeats ?? 0) >= 3)
    expect(following.disconnected).toEqual([])
  })

  test('F21: a source that goes silent is given up after three heartbeats, and followed again once it speaks', async () => {
    proxy = await ChaosProxy.start(database.port)
    following = new Following(databasesAt([proxy.port]), { start: await endOfLog(database) })
    await write('a')
    await following.key('a')
    await until('a heartbeat', () => (following?.heartbeats ?? 0) > 0)
    const silentSince = performance.now()
    proxy.silence('toClient')
    await write('b')
    await until('the loss to be noticed', () =>
      following?.disconnected.some(({ message }) => message.includes('silent')),
    )
    expect(performance.now() - silentSince).toBeGreaterThan(500)
    proxy.speak()
    proxy.cut()
    await following.key('b')
    expect(following.keys).toEqual(['a', 'b'])
  })

  test('a database that accepts connections and says nothing does not hang the follower', async () => {
    proxy = await ChaosProxy.start(database.port)
    proxy.silence('toClient')
    following = new Following(databasesAt([proxy.port]), { start: await endOfLog(database) })
    await until('a refusal', () => (following?.disconnected.length ?? 0) > 0)
    await write('x')
    proxy.speak()
    proxy.cut()
    await following.key('x')
  })

  test('F22: a byte that changed on its way is noticed by the checksum, and the event read again', async () => {
    proxy = await ChaosProxy.start(database.port)
    following = new Following(databasesAt([proxy.port]), { start: await endOfLog(database) })
    await following.connectedTimes(1)
    proxy.corruptOnce((data) => {
      const at = data.indexOf('flipflipflip')
      if (at === -1) return data
      const copy = Buffer.from(data)
      copy[at + 30] = (copy[at + 30] ?? 0) ^ 0x10
      return copy
    })
    await write('a', 'flip', 'b')
    await following.key('b')
    expect(following.disconnected.some((error) => error instanceof DamagedEvent)).toBe(true)
    expect(following.keys).toEqual(['a', 'flip', 'b'])
    const values = following.entries.flatMap((entry) => (entry.kind === 'set' ? [entry.value.toString()] : []))
    expect(values).toEqual(['a'.repeat(20), 'flip'.repeat(20), 'b'.repeat(20)])
  })

  test('F22: a connection that is cut anywhere in a transaction delivers each transaction once and whole', async () => {
    proxy = await ChaosProxy.start(database.port)
    const start = await endOfLog(database)
    const pair = (n: number): string => `BEGIN; ${setSql(`x${n}`)}; ${setSql(`y${n}`, 'v'.repeat(300))}; COMMIT`
    for (let n = 0; n < 10; n++) await database.query(pair(n))
    following = new Following(databasesAt([proxy.port]), { start })
    // The handshakes of a probe and of the stream come first; then cut again and again, a little later each time.
    for (let cut = 0; cut < 6; cut++) {
      proxy.cutAfter(1500 + cut * 277)
      await database.query(pair(10 + cut))
      await until('the connection to be cut or everything to be there', () => {
        const done = following?.keys.includes(`y${10 + cut}`) === true
        return done || (following?.disconnected.length ?? 0) > cut
      })
    }
    proxy.cutAfter(Number.POSITIVE_INFINITY)
    await following.key('y15')
    const expected = Array.from({ length: 16 }, (_, n) => [`x${n}`, `y${n}`]).flat()
    expect(following.keys).toEqual(expected)
    expect(following.disconnected.length).toBeGreaterThan(2)
    for (const chunk of following.chunks) expect([0, 2]).toContain(chunk.entries.length)
  })

  test('F22: a large transaction that is cut after its first parts comes again from its beginning', async () => {
    proxy = await ChaosProxy.start(database.port)
    const start = await endOfLog(database)
    const inserts = Array.from({ length: 30 }, (_, n) => setSql(`p${n}`, 'x'.repeat(30_000)))
    await database.query(`BEGIN; ${inserts.join('; ')}; COMMIT; ${setSql('end')}`)
    proxy.cutAfter(500_000)
    following = new Following(databasesAt([proxy.port]), { start, transactionBytesMax: 100_000 })
    await following.key('end')
    expect(following.disconnected).toHaveLength(1)
    const parts = following.chunks.slice(0, -1)
    const begins = parts.flatMap(({ first }, index) => (first ? [index] : []))
    expect(begins).toHaveLength(2)
    expect(parts.filter(({ last }) => last)).toHaveLength(1)
    const again = parts
      .slice(begins[1])
      .flatMap(({ entries }) => entries.map((entry) => ('key' in entry ? entry.key : '')))
    expect(again).toEqual(Array.from({ length: 30 }, (_, n) => `p${n}`))
    expect(new Set(parts.map(({ gtid }) => formatGtid(gtid))).size).toBe(1)
  })

  test('a reader that does not fetch stops the source: what waits in memory stays bounded, and nothing is taken for silence', async () => {
    proxy = await ChaosProxy.start(database.port)
    const start = await endOfLog(database)
    const connection = await database.connect()
    for (let n = 0; n < 600; n += 10) {
      const rows = Array.from({ length: 10 }, (_, i) => `(1, 'k${n + i}', 1, 3 << 33 | 5, 0, 0, REPEAT('x', 100000))`)
      await connection.query(`INSERT INTO memcached.mc_storage VALUES ${rows.join(', ')}`)
    }
    following = new Following(databasesAt([proxy.port]), { start, bufferBytesMax: 1_000_000 })
    following.hold()
    await until('something to arrive', () => (following?.batches.length ?? 0) > 0)
    let before = -1
    await until('the source to stand still', async () => {
      const standing = proxy.bytesToClient === before
      before = proxy.bytesToClient
      await new Promise((resolve) => setTimeout(resolve, 700))
      return standing
    })
    // More than three heartbeats have passed. The kernel's socket buffers hold some megabytes of the sixty.
    expect(proxy.bytesToClient).toBeLessThan(40_000_000)
    expect(following.disconnected).toEqual([])
    following.release()
    await following.key('k599')
    expect(following.keys).toEqual(Array.from({ length: 600 }, (_, n) => `k${n}`))
    for (const batch of following.batches) {
      expect(batch.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThan(1_000_000 + 1_100_000)
    }
    expect(following.disconnected).toEqual([])
  })

  test('a slow network only delays', async () => {
    proxy = await ChaosProxy.start(database.port)
    proxy.delay(50)
    following = new Following(databasesAt([proxy.port]), { start: await endOfLog(database) })
    await write('a', 'b', 'c')
    await following.key('c')
    expect(following.disconnected).toEqual([])
  })

  test('two nodes with one server id throw each other out, and still both read everything', async () => {
    proxy = await ChaosProxy.start(database.port)
    const start = await endOfLog(database)
    const serverId = someServerId()
    following = new Following(databasesAt([database.port]), { start, serverId })
    await following.connectedTimes(1)
    const other = new Following(databasesAt([database.port]), { start, serverId })
    try {
      await until('the first to be thrown out', () => (following?.disconnected.length ?? 0) > 0)
      await write('a', 'b', 'c')
      await following.key('c')
      await other.key('c')
      expect(following.keys).toEqual(['a', 'b', 'c'])
      expect(other.keys).toEqual(['a', 'b', 'c'])
    } finally {
      await other.stop()
    }
  })

  test('a database that is killed and comes back is followed on from where it was', async () => {
    proxy = await ChaosProxy.start(database.port)
    following = new Following(databasesAt([proxy.port]), { start: await endOfLog(database) })
    await write('a')
    await following.key('a')
    await database.stop('SIGKILL')
    await until('the loss', () => (following?.disconnected.length ?? 0) > 0)
    await database.launch()
    await database.query('SET GLOBAL read_only = 0')
    await write('b')
    await following.key('b')
    expect(following.keys).toEqual(['a', 'b'])
    expect(formatPosition(following.position!)).toBe(formatPosition(await endOfLog(database)))
  })

  test('no connection is left on the server after the end', async () => {
    proxy = await ChaosProxy.start(database.port)
    following = new Following(databasesAt([proxy.port]), { start: await endOfLog(database) })
    await following.connectedTimes(1)
    await following.stop()
    await until('the proxy to see all connections closed', () => proxy.connections === 0)
  })

  test("mysql2's inner connection has what the binlog's command rests on", async () => {
    proxy = await ChaosProxy.start(database.port)
    const connection = await createConnection({ host: '127.0.0.1', port: database.port, ...follower })
    try {
      const { connection: raw } = connection as unknown as { connection: Record<string, unknown> }
      for (const name of ['addCommand', 'writePacket', '_resetSequenceId', 'pause', 'resume', 'destroy']) {
        expect(typeof raw[name], name).toBe('function')
      }
      expect(raw['stream']).toMatchObject({ bytesRead: expect.any(Number), destroy: expect.any(Function) })
      // A command is called first without a packet, then with one that knows its bytes; true ends it.
      const calls: unknown[] = []
      await new Promise<void>((resolve) => {
        const ping = {
          onResult: () => {},
          emit: () => {},
          stateName: () => 'ping',
          execute: (packet: { buffer: Buffer; offset: number; end: number; asError: unknown } | undefined) => {
            calls.push(packet && [typeof packet.asError, packet.buffer[packet.offset], packet.end - packet.offset])
            if (packet !== undefined) {
              resolve()
              return true
            }
            ;(raw['_resetSequenceId'] as () => void).call(raw)
            const buffer = Buffer.from([0, 0, 0, 0, 0x0e])
            const writeHeader = (sequence: number): void => {
              buffer.writeUIntLE(1, 0, 3)
              buffer[3] = sequence
            }
            ;(raw['writePacket'] as (packet: object) => void).call(raw, { buffer, length: () => 5, writeHeader })
            return false
          },
        }
        ;(raw['addCommand'] as (command: object) => void).call(raw, ping)
      })
      expect(calls).toEqual([undefined, ['function', 0, expect.any(Number)]])
      const [rows] = await connection.query('SELECT 1 AS one')
      expect(rows).toEqual([{ one: 1 }])
    } finally {
      connection.destroy()
    }
  })
})
