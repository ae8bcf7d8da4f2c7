import { existsSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Apply, ApplyCounters } from '../../src/applier/apply.ts'
import { FollowedPosition } from '../../src/applier/followed-position.ts'
import { lockMemcached, MemcachedSession, ContentsGone } from '../../src/applier/memcached-session.ts'
import type { LogChunk } from '../../src/applier/log-stream.ts'
import { formatStateItem } from '../../src/applier/state-item.ts'
import { Catalogue } from '../../src/catalogue/catalogue.ts'
import { keyFromBytes, keyFromText } from '../../src/domain/key.ts'
import { isLive } from '../../src/domain/local-reads.ts'
import type { LogEntry } from '../../src/domain/log-entry.ts'
import { formatPosition, parsePosition, type Position } from '../../src/domain/position.ts'
import { parseCasText } from '../../src/wire/memcached/item-cas.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { dialogue, Memcached } from '../support/memcached.ts'
import { removeFolder, temporaryFolder, until } from '../support/processes.ts'

/** The applier's half that speaks to memcached, on real ones; the log is made by hand. */
const binaries = ['/usr/bin/memcached', ...(existsSync(newerMemcachedPath) ? [newerMemcachedPath] : [])]

const at = (sequence: number): Position => parsePosition('mariadb', `0-1-${sequence}`)

let sequence = 0
let versions = 0
function transaction(...entries: LogEntry[]): LogChunk {
  sequence++
  const gtid = { dialect: 'mariadb', domain: 0, server: 1, sequence } as const
  const bytes = entries.reduce((sum, entry) => sum + (entry.kind === 'set' ? entry.value.length : 50), 0)
  return {
    gtid,
    after: at(sequence),
    entries,
    bytes,
    first: true,
    last: true,
    timestampSeconds: Math.floor(Date.now() / 1000),
  }
}

function store(key: string, value: string | Buffer, more: Partial<LogEntry & { kind: 'set' }> = {}): LogEntry {
  return {
    kind: 'set',
    namespaceId: 1,
    key: keyFromText(key),
    generation: 1,
    expiry: 0,
    // The generation stands above the low 33 bits.
    versionHigh: (more.generation ?? 1) * 2,
    versionLow: ++versions,
    flags: '0',
    value: Buffer.from(value),
    ...more,
  }
}

const flushTo = (generation: number): LogEntry => ({
  kind: 'namespace',
  namespaceId: 1,
  name: 'a',
  generation,
  begins: true,
  dropped: false,
  flushDue: 0,
})

describe.each(binaries)('%s', (binary) => {
  let memcached: Memcached
  let folder: string
  let session: MemcachedSession
  let catalogue: Catalogue
  let log: FollowedPosition
  let counters: ApplyCounters
  let clockShiftSeconds: number

  beforeEach(async () => {
    sequence = 0
    clockShiftSeconds = 0
    memcached = await Memcached.start([], binary)
    folder = await temporaryFolder()
  })
  afterEach(async () => {
    session?.close()
    await memcached.stop()
    await removeFolder(folder)
  })

  const open = (timeoutMilliseconds = 5000): Promise<MemcachedSession> =>
    MemcachedSession.open({
      address: { host: '127.0.0.1', port: memcached.port },
      dataDirectory: folder,
      timeoutMilliseconds,
      signal: new AbortController().signal,
    })

  async function rebuild(): Promise<Apply> {
    session = await open()
    catalogue = new Catalogue()
    await session.beginAnew((base) => {
      catalogue.reset(base, [{ id: 1, name: 'a', generation: 1, flushDue: 0 }])
      return formatStateItem({
        contains: at(0),
        mayContain: at(0),
        epoch: 0,
        baseWatermark: base,
        staleItems: false,
        namespaces: catalogue.all(),
      })
    })
    return applyFrom(at(0), at(0))
  }

  function applyFrom(contains: Position, mayContain: Position): Apply {
    log = new FollowedPosition()
    counters = new ApplyCounters()
    const clock = {
      databaseNowSeconds: () => Date.now() / 1000 + clockShiftSeconds,
      memcachedNowSeconds: () => session.nowSeconds(),
    }
    return new Apply({
      session,
      catalogue,
      clock,
      log,
      counters,
      contains,
      mayContain,
      epoch: 0,
      batchItemsMax: 1000,
      batchBytesMax: 4_000_000,
    })
  }

  /** As a node's reader sees it: a dead item is a miss. */
  async function read(key: string): Promise<string | undefined> {
    const { line, value } = await session.connection.request(`mg ${key} v c`)
    const cas = / c(\d+)/.exec(line)?.[1]
    const namespace = catalogue.byId(1)
    if (cas === undefined || namespace === undefined) return undefined
    return isLive(parseCasText(cas), namespace) ? value?.toString() : undefined
  }

  test('entries arrive in the order of the log, and the writer is told afterwards', async () => {
    const apply = await rebuild()
    const told: string[] = []
    log.watchLane('n/0', (change) => told.push(JSON.stringify(change)))
    const lane = { kind: 'lane', lane: 'n/0', incarnation: 7, sequence: 1 } as const
    await apply.apply([
      transaction(lane, store('k', 'one'), store('k', 'two')),
      transaction(store('gone', 'x')),
      transaction({ kind: 'delete', namespaceId: 1, key: keyFromText('gone') }),
    ])
    expect(await read('a:k')).toBe('two')
    expect(await read('a:gone')).toBeUndefined()
    expect(told).toEqual([expect.stringContaining('"incarnation":7,"sequence":1')])
    expect(formatPosition(apply.contains)).toBe('0-1-3')
  })

  test('applying twice equals applying once', async () => {
    const apply = await rebuild()
    const chunks = [
      transaction(store('k', 'one', { flags: '7' })),
      transaction(store('l', 'x')),
      transaction({ kind: 'delete', namespaceId: 1, key: keyFromText('l') }),
    ]
    await apply.apply(chunks)
    await applyFrom(at(0), at(3)).apply(chunks)
    expect(await read('a:k')).toBe('one')
    expect(await read('a:l')).toBeUndefined()
  })

  test('a flush is in force at its place: what was before is a miss, what follows is not', async () => {
    const apply = await rebuild()
    await apply.apply([
      transaction(store('before', 'x')),
      transaction(flushTo(2)),
      transaction(store('after', 'y', { generation: 2 }), store('late', 'z', { generation: 1 })),
    ])
    expect(await read('a:before')).toBeUndefined()
    expect(await read('a:after')).toBe('y')
    expect(await read('a:late')).toBeUndefined()
    expect(counters).toMatchObject({ flushes: 1, dead: 1 })
  })

  test('R13: half a batch applied: the state item says so, and the mark is the end of the batch', async () => {
    const apply = await rebuild()
    await apply.apply([transaction(store('k', 'v4'))])
    await apply.settle()
    // The node dies after it handed a batch to memcached: the mark stands, the end does not.
    await apply.apply([transaction(store('k', 'v5')), transaction(store('l', 'w'))])
    session.close()
    session = await open()
    const found = await session.readState()
    expect(formatPosition(found?.contains ?? at(99))).toBe('0-1-1')
    expect(formatPosition(found?.mayContain ?? at(99))).toBe('0-1-3')
  })

  test('R13: a batch that ends before what a former life may have left, or a peer left out, takes nothing back from the mark', async () => {
    await rebuild()
    const apply = applyFrom(at(0), at(5))
    await apply.apply([transaction(store('k', 'v'))])
    expect(formatPosition((await session.readState())?.mayContain ?? at(99))).toBe('0-1-5')
    await apply.settle()
    const found = await session.readState()
    expect(formatPosition(found?.contains ?? at(99))).toBe('0-1-1')
    expect(formatPosition(found?.mayContain ?? at(99))).toBe('0-1-5')
  })

  test('the state item carries watermarks and catalogue over a restart of the node', async () => {
    const apply = await rebuild()
    await apply.apply([
      transaction(store('before', 'x')),
      transaction(flushTo(2)),
      transaction(store('after', 'y', { generation: 2 })),
    ])
    await apply.settle()
    session.close()
    session = await open()
    const found = await session.readState()
    expect(formatPosition(found?.contains ?? at(99))).toBe('0-1-3')
    catalogue = new Catalogue()
    catalogue.reset(found?.baseWatermark, found?.namespaces ?? [])
    expect(await read('a:before')).toBeUndefined()
    expect(await read('a:after')).toBe('y')
  })

  test('R14: a memcached that restarted empty is not trusted: the state item is not created by its replacement', async () => {
    const apply = await rebuild()
    await apply.apply([transaction(store('k', 'v'))])
    await memcached.restart()
    await session.connection.closed
    session = await open()
    expect(await session.readState()).toBeUndefined()
    await expect(applyFrom(at(1), at(1)).apply([transaction(store('l', 'w'))])).resolves.toBeUndefined()
  })

  test('a flush_all by somebody else is noticed with the next batch', async () => {
    const apply = await rebuild()
    await apply.apply([transaction(store('k', 'v'))])
    await dialogue(memcached.port, 'flush_all\r\n', /OK/)
    // memcached before 1.6.25 compares in whole seconds where it can: the item of this very second may live on.
    await until(
      'the state item to be gone',
      async () => (await session.connection.request('mg ~whitehole')).line === 'EN',
    )
    await expect(apply.apply([transaction(store('l', 'w'))])).rejects.toThrow(ContentsGone)
  })

  test('R15: a new connection writes nothing while a stalled memcached still holds the former one', async () => {
    const apply = await rebuild()
    await apply.apply([transaction(store('k', 'v3'))])
    memcached.program.signal('SIGSTOP')
    void session.connection.bulk(['ms a:k 2 q\r\nv4\r\n']).catch(() => {})
    await new Promise((resolve) => setImmediate(resolve))
    await new Promise((resolve) => setImmediate(resolve))
    session.close()
    const opened = open(20_000)
    memcached.program.signal('SIGCONT')
    session = await opened
    await applyFrom(at(1), at(1)).apply([transaction(store('k', 'v8'))])
    const listed = await session.connection.lines('stats conns')
    expect(
      listed.filter((line) => line.includes(':addr tcp:127.0.0.1:') && !line.endsWith(`:${memcached.port}`)),
    ).toHaveLength(1)
    expect(await read('a:k')).toBe('v8')
  })

  test('R15: a former connection that lives on, also of another process, keeps the new one out', async () => {
    const apply = await rebuild()
    await apply.apply([transaction(store('k', 'v3'))])
    await expect(open(200)).rejects.toThrow(/still holds the former connection/)
    session.close()
    session = await open()
    expect((await session.connection.request('mg a:k v')).value?.toString()).toBe('v3')
  })

  test('R20: expiry follows memcached’s own clock, whatever the wall clocks say', async () => {
    const apply = await rebuild()
    // The database's clock runs an hour ahead of this machine's.
    clockShiftSeconds = 3600
    const databaseNow = Date.now() / 1000 + clockShiftSeconds
    const far = 60 * 60 * 24 * 40
    await apply.apply([
      transaction(
        store('minute', 'x', { expiry: Math.floor(databaseNow) + 60 }),
        store('far', 'x', { expiry: Math.floor(databaseNow) + far }),
        store('over', 'x', { expiry: Math.floor(databaseNow) - 1 }),
        store('ever', 'x'),
      ),
      transaction({
        kind: 'touch',
        namespaceId: 1,
        key: keyFromText('ever'),
        generation: 1,
        expiry: Math.floor(databaseNow) + 100,
      }),
    ])
    const ttl = async (key: string): Promise<number> =>
      Number(/t(-?\d+)/.exec((await session.connection.request(`mg ${key} t`)).line)?.[1])
    expect(Math.abs((await ttl('a:minute')) - 60)).toBeLessThanOrEqual(2)
    expect(Math.abs((await ttl('a:far')) - far)).toBeLessThanOrEqual(2)
    expect(Math.abs((await ttl('a:ever')) - 100)).toBeLessThanOrEqual(2)
    expect(await read('a:over')).toBeUndefined()
  })

  test('binary keys, large values and 64-bit flags pass', async () => {
    const apply = await rebuild()
    const key = keyFromBytes(Buffer.from([1, 10, 13, 32, 0, 255]))
    const large = Buffer.alloc(1_048_507, 'x')
    await apply.apply([
      transaction(
        store('', 'bin', { key, flags: '12' }),
        store('large', large),
        store('flags', 'f', { flags: '4294967295' }),
      ),
    ])
    const encoded = Buffer.concat([Buffer.from('a:'), Buffer.from(key, 'latin1')]).toString('base64')
    expect((await session.connection.request(`mg ${encoded} b v f`)).line).toContain('f12')
    expect((await read('a:large'))?.length).toBe(large.length)
    await apply.apply([
      transaction({ kind: 'touch', namespaceId: 1, key, generation: 1, expiry: Math.floor(Date.now() / 1000) + 1000 }),
      transaction({ kind: 'delete', namespaceId: 1, key }),
    ])
    expect((await session.connection.request(`mg ${encoded} b v f`)).line).toBe('EN')
    expect(counters.refused).toBe(0)
  })

  test('one node process a memcached', async () => {
    const address = { host: '127.0.0.1', port: memcached.port }
    const lock = await lockMemcached(address)
    await expect(lockMemcached(address)).rejects.toThrow(/already fills memcached/)
    lock.release()
    const again = await until('the lock to be free', () => lockMemcached(address))
    again.release()
  })
})

test('R35: a state item that was evicted under memory pressure is created again, without a rebuild', async () => {
  const memcached = await Memcached.start(['-m', '8'])
  const folder = await temporaryFolder()
  try {
    sequence = 0
    const session = await MemcachedSession.open({
      address: { host: '127.0.0.1', port: memcached.port },
      dataDirectory: folder,
      timeoutMilliseconds: 5000,
      signal: new AbortController().signal,
    })
    const catalogue = new Catalogue()
    await session.beginAnew((base) => {
      catalogue.reset(base, [{ id: 1, name: 'a', generation: 1, flushDue: 0 }])
      return formatStateItem({
        contains: at(0),
        mayContain: at(0),
        epoch: 0,
        baseWatermark: base,
        staleItems: false,
        namespaces: catalogue.all(),
      })
    })
    const counters = new ApplyCounters()
    const clock = { databaseNowSeconds: () => Date.now() / 1000, memcachedNowSeconds: () => session.nowSeconds() }
    const apply = new Apply({
      session,
      catalogue,
      clock,
      log: new FollowedPosition(),
      counters,
      contains: at(0),
      mayContain: at(0),
      epoch: 0,
      batchItemsMax: 100_000,
      batchBytesMax: 64_000_000,
    })
    // Items of the state item's own slab class, more in one batch than memory holds.
    for (let round = 0; round < 5; round++) {
      const chunks = Array.from({ length: 1000 }, (_, n) =>
        transaction(...Array.from({ length: 50 }, (__, m) => store(`k${round}-${n}-${m}`, 'x'.repeat(60 + (m % 60))))),
      )
      await apply.apply(chunks)
    }
    await apply.settle()
    const found = await session.readState()
    expect(formatPosition(found?.contains ?? at(0))).toBe('0-1-5000')
    const evictions = (await session.connection.lines('stats')).find((line) => line.startsWith('STAT evictions'))
    expect(Number(evictions?.split(' ')[2])).toBeGreaterThan(1000)
    session.close()
  } finally {
    await memcached.stop()
    await removeFolder(folder)
  }
})

test('an entry that memcached refuses to store leaves no older value behind', async () => {
  const memcached = await Memcached.start(['-m', '8', '-M'])
  const folder = await temporaryFolder()
  try {
    sequence = 0
    const session = await MemcachedSession.open({
      address: { host: '127.0.0.1', port: memcached.port },
      dataDirectory: folder,
      timeoutMilliseconds: 5000,
      signal: new AbortController().signal,
    })
    const catalogue = new Catalogue()
    await session.beginAnew((base) => {
      catalogue.reset(base, [{ id: 1, name: 'a', generation: 1, flushDue: 0 }])
      return formatStateItem({
        contains: at(0),
        mayContain: at(0),
        epoch: 0,
        baseWatermark: base,
        staleItems: false,
        namespaces: catalogue.all(),
      })
    })
    const counters = new ApplyCounters()
    const clock = { databaseNowSeconds: () => Date.now() / 1000, memcachedNowSeconds: () => session.nowSeconds() }
    const apply = new Apply({
      session,
      catalogue,
      clock,
      log: new FollowedPosition(),
      counters,
      contains: at(0),
      mayContain: at(0),
      epoch: 0,
      batchItemsMax: 1000,
      batchBytesMax: 4_000_000,
    })
    await apply.apply([transaction(store('k', 'old'))])
    await apply.apply(Array.from({ length: 1000 }, (_, n) => transaction(store(`fill${n}`, 'x'.repeat(20_000)))))
    expect(counters.refused).toBeGreaterThan(100)
    const before = counters.refused
    await apply.apply([transaction(store('k', 'y'.repeat(20_000)))])
    expect(counters.refused).toBe(before + 1)
    expect((await session.connection.request('mg a:k v')).line).toBe('EN')
    session.close()
  } finally {
    await memcached.stop()
    await removeFolder(folder)
  }
})
