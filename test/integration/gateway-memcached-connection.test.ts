import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { MemcachedConnection } from '../../src/adapters/memcached-connection.ts'
import { MemcachedReads } from '../../src/adapters/memcached-reads.ts'
import { Catalogue } from '../../src/catalogue/catalogue.ts'
import { composeItemKey, type ItemKey, keyFromBytes } from '../../src/domain/key.ts'
import type { CachedItem } from '../../src/domain/local-reads.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { Memcached } from '../support/memcached.ts'
import { until } from '../support/processes.ts'

const versions = [
  { name: "Debian's memcached", path: '/usr/bin/memcached' },
  ...(existsSync(newerMemcachedPath) ? [{ name: 'memcached 1.6.45', path: newerMemcachedPath }] : []),
]

describe.each(versions)('a connection to $name', ({ path }) => {
  let memcached: Memcached
  const connections: MemcachedConnection[] = []
  beforeAll(async () => {
    memcached = await Memcached.start([], path)
  })
  afterAll(() => memcached.stop())
  afterEach(() => {
    for (const connection of connections.splice(0)) connection.destroy()
  })

  async function connect(timeoutMilliseconds = 10_000): Promise<MemcachedConnection> {
    const address = { host: '127.0.0.1', port: memcached.port }
    const connection = await MemcachedConnection.connect(address, { timeoutMilliseconds })
    connections.push(connection)
    return connection
  }

  it('answers each request, in order, whatever kinds are mixed', async () => {
    const connection = await connect()
    const order: string[] = []
    const note = <T>(name: string, promise: Promise<T>): Promise<T> => promise.finally(() => order.push(name))
    const results = await Promise.all([
      note('set', connection.request('ms k 3 F7 c', Buffer.from('a\r\n'))),
      note(
        'bulk',
        connection.bulk(['ms a 1 q\r\nx\r\n', Buffer.from('ms b 1 MR q\r\nx\r\n'), 'md a q\r\n', 'md a q\r\n']),
      ),
      note('get', get(connection, 'k')),
      note('miss', get(connection, 'nothing')),
      note('lines', connection.lines('stats')),
      note('meta', connection.request('mg k v f t')),
      note('version', connection.request('version')),
    ])
    expect(order).toEqual(['set', 'bulk', 'get', 'miss', 'lines', 'meta', 'version'])
    expect(results[0].line).toMatch(/^HD c\d+$/)
    expect(results[1]).toEqual(['NS', 'NF'])
    expect(results[2]).toMatchObject({ flags: '7', value: Buffer.from('a\r\n') })
    expect(results[3]).toBeUndefined()
    expect(results[4].some((line) => line.startsWith('STAT pid '))).toBe(true)
    expect(results[5]).toEqual({ line: 'VA 3 f7 t-1', value: Buffer.from('a\r\n') })
    expect(results[6].line).toMatch(/^VERSION /)
    expect(connection.backlogBytes).toBe(0)
    expect(connection.pending).toBe(0)
  })

  it('is found by its port in stats conns', async () => {
    const connection = await connect()
    expect((await connection.lines('stats conns')).join('\n')).toContain(`127.0.0.1:${connection.localPort}`)
  })

  it('lists keys, also where there is none', async () => {
    const connection = await connect()
    await connection.request('flush_all')
    const empty = await connection.lines('lru_crawler metadump hash')
    expect(empty).toEqual([])
    await connection.request('ms listed 1', Buffer.from('x'))
    const lines = await connection.lines('lru_crawler metadump hash')
    expect(lines.map((line) => line.split(' ')[0])).toEqual(['key=listed'])
  })

  it('says why a listing is refused', async () => {
    const connection = await connect()
    await expect(connection.lines('stats nonsense')).rejects.toThrow(/ERROR/)
    expect((await connection.request('mn')).line).toBe('MN')
  })

  it('reads keys of any bytes, and the longest', async () => {
    const connection = await connect()
    const keys = [
      ...Array.from({ length: 256 }, (_key, byte) => Buffer.from([0x61, byte, 0x62])),
      Buffer.alloc(250, 0x20),
      Buffer.alloc(250, 0x6b),
      Buffer.from('~'),
    ].map((bytes) => composeItemKey('default', keyFromBytes(bytes)))
    for (const [index, key] of keys.entries()) {
      const text = Buffer.from(key, 'latin1').toString('base64')
      const value = Buffer.from(String(index))
      expect((await connection.request(`ms ${text} ${value.length} b`, value)).line).toBe('HD')
    }
    const items = await Promise.all(keys.map((key) => get(connection, key)))
    expect(items.map((item) => String(item?.value))).toEqual(keys.map((_key, index) => String(index)))
  })

  it('carries values of a megabyte among small ones', async () => {
    const connection = await connect()
    const large = Buffer.alloc(1_000_000, 'v')
    await Promise.all([
      connection.request('ms large 1000000', large),
      connection.request('ms small 1', Buffer.from('s')),
    ])
    const items = await Promise.all(
      Array.from({ length: 40 }, (_item, index) => get(connection, index % 2 ? 'large' : 'small')),
    )
    expect(items.map((item) => item?.value.length)).toEqual(items.map((_item, index) => (index % 2 ? 1_000_000 : 1)))
    expect(items[1]?.value.equals(large)).toBe(true)
  })

  it('tells its backlog, and takes a hundred thousand gets at once', async () => {
    const connection = await connect()
    await connection.request('ms k 1', Buffer.from('x'))
    let hits = 0
    for (let index = 0; index < 100_000; index++) {
      connection.get('k' as ItemKey, (item) => {
        if (item !== undefined) hits++
      })
    }
    expect(connection.backlogBytes).toBeGreaterThan(100_000)
    await connection.request('mn')
    expect(hits).toBe(100_000)
    expect(connection.backlogBytes).toBe(0)
  })

  it('answers everything in flight with memcached-away when memcached stalls', async () => {
    const connection = await connect(300)
    memcached.program.signal('SIGSTOP')
    await until('all its threads to stand still', () => allStopped(memcached.program.pid))
    try {
      const asked = [
        connection.request('mn'),
        connection.bulk(['md a q\r\n']),
        connection.lines('stats'),
        get(connection, 'a'),
      ]
      const ends = await Promise.all(asked.map((one) => one.catch((error: unknown) => error)))
      for (const end of ends) expect(end).toMatchObject({ code: 'memcached-away' })
      expect(await connection.closed).toMatchObject({ code: 'memcached-away' })
    } finally {
      memcached.program.signal('SIGCONT')
    }
    await expect(connection.request('mn')).rejects.toMatchObject({ code: 'memcached-away' })
    await expect(get(connection, 'a')).rejects.toMatchObject({ code: 'memcached-away' })
  })

  it('stays open in silence as long as nothing is asked', async () => {
    const connection = await connect(100)
    await new Promise((resolve) => setTimeout(resolve, 400))
    expect((await connection.request('mn')).line).toBe('MN')
  })

  it('ends in order when we close it', async () => {
    const connection = await connect()
    const asked = connection.request('mn').catch((error: unknown) => error)
    connection.destroy()
    expect(await asked).toMatchObject({ code: 'memcached-away' })
    expect(await connection.closed).toBeUndefined()
  })
})

describe('local reads', () => {
  it('fail at once while memcached is down, and come back with it', async () => {
    const memcached = await Memcached.start()
    let serving = true
    const address = { host: '127.0.0.1', port: memcached.port }
    const reads = new MemcachedReads({
      address,
      namespaces: new Catalogue(),
      serving: () => serving,
      retryMillisecondsMax: 50,
    })
    try {
      await until('the connection', () => reads.serving)
      expect(await fetch(reads, 'a')).toBeUndefined()
      serving = false
      expect(reads.serving).toBe(false)
      await expect(fetch(reads, 'a')).rejects.toMatchObject({ code: 'not-serving' })
      serving = true
      await memcached.stop()
      await until('the end to be noticed', () => !reads.connected)
      expect(reads.serving).toBe(false)
      await expect(fetch(reads, 'a')).rejects.toMatchObject({ code: 'memcached-away' })
      await memcached.restart()
      await until('the connection', () => reads.serving)
      expect(await fetch(reads, 'a')).toBeUndefined()
    } finally {
      reads.close()
      await memcached.stop()
    }
    expect(reads.serving).toBe(false)
  })

  it('do not come up after they were closed', async () => {
    const memcached = await Memcached.start()
    try {
      const address = { host: '127.0.0.1', port: memcached.port }
      const reads = new MemcachedReads({ address, namespaces: new Catalogue(), serving: () => true })
      reads.close()
      await new Promise((resolve) => setTimeout(resolve, 200))
      expect(reads.connected).toBe(false)
    } finally {
      await memcached.stop()
    }
  })
})

/** A thread may run on for a moment after the signal. */
function allStopped(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((thread) =>
    /\) T /.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1')),
  )
}

function get(connection: MemcachedConnection, key: string): Promise<CachedItem | undefined> {
  return new Promise((resolve, reject) => {
    connection.get(key as ItemKey, (item, error) => {
      if (error === undefined) resolve(item)
      else reject(error)
    })
  })
}

function fetch(reads: MemcachedReads, key: string): Promise<CachedItem | undefined> {
  return new Promise((resolve, reject) => {
    reads.fetch(key as ItemKey, (item, error) => {
      if (error === undefined) resolve(item)
      else reject(error)
    })
  })
}
