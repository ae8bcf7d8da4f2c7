import { existsSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { MemcachedReads } from '../../src/adapters/memcached-reads.ts'
import { Apply, ApplyCounters } from '../../src/applier/apply.ts'
import { FollowedPosition } from '../../src/applier/followed-position.ts'
import type { LogChunk } from '../../src/applier/log-stream.ts'
import { MemcachedSession } from '../../src/applier/memcached-session.ts'
import { formatStateItem } from '../../src/applier/state-item.ts'
import { Catalogue } from '../../src/catalogue/catalogue.ts'
import { composeItemKey, type ItemKey, keyFromBytes, keyFromText } from '../../src/domain/key.ts'
import {
  type CachedItem,
  casText,
  type ExaminedItem,
  isLease,
  isLive,
  type ItemQuestion,
  versionOf,
} from '../../src/domain/local-reads.ts'
import type { LogEntry } from '../../src/domain/log-entry.ts'
import type { CataloguedNamespace } from '../../src/domain/namespaces.ts'
import { parsePosition, type Position } from '../../src/domain/position.ts'
import { parseCasText } from '../../src/wire/memcached/item-cas.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { dialogue, Memcached } from '../support/memcached.ts'
import { removeFolder, temporaryFolder, until } from '../support/processes.ts'

/** What the applier writes and what reads make of it, on real memcached: one that takes versions, one that counts. */
const binaries = [
  { name: 'memcached 1.6.18, which counts', path: '/usr/bin/memcached', takesVersions: false },
  { name: 'memcached 1.6.45, which takes versions', path: newerMemcachedPath, takesVersions: true },
].filter(({ path }) => existsSync(path))

const at = (sequence: number): Position => parsePosition('mariadb', `0-1-${sequence}`)
const far = Math.floor(Date.now() / 1000) + 10_000_000

/** docs/adr/0002-versions.md */
function halves(generation: number, low: number): { versionHigh: number; versionLow: number } {
  return { versionHigh: generation * 2 + Math.floor(low / 2 ** 32), versionLow: low % 2 ** 32 }
}

function set(key: string, value: string, given: { generation?: number; low?: number; expiry?: number } = {}): LogEntry {
  const { generation = 1, low = 8_589_934_591, expiry = 0 } = given
  const version = halves(generation, low)
  return {
    kind: 'set',
    namespaceId: 1,
    key: keyFromText(key),
    generation,
    expiry,
    ...version,
    flags: '5',
    value: Buffer.from(value),
  }
}

function stale(key: string, given: { generation?: number; low?: number; expiry?: number } = {}): LogEntry {
  const { generation = 1, low = 77, expiry = 0 } = given
  return {
    kind: 'stale',
    namespaceId: 1,
    key: keyFromText(key),
    generation,
    ...halves(generation, low),
    expiry,
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

const plain: ItemQuestion = { withValue: true, noBump: false }

describe.each(binaries)('$name', ({ path, takesVersions }) => {
  let memcached: Memcached
  let folder: string
  let session: MemcachedSession
  let reads: MemcachedReads
  let catalogue: Catalogue
  let counters: ApplyCounters
  let apply: Apply
  let sequence = 0

  beforeEach(async () => {
    sequence = 0
    memcached = await Memcached.start([], path)
    folder = await temporaryFolder()
    catalogue = new Catalogue()
    const address = { host: '127.0.0.1', port: memcached.port }
    reads = new MemcachedReads({
      address,
      namespaces: catalogue,
      staleItems: () => catalogue.staleItems,
      serving: () => true,
    })
    session = await open()
    await rebuild()
    await until('the connection of the reads', () => reads.connected)
  })
  afterEach(async () => {
    reads.close()
    session.close()
    await memcached.stop()
    await removeFolder(folder)
  })

  const open = (): Promise<MemcachedSession> =>
    MemcachedSession.open({
      address: { host: '127.0.0.1', port: memcached.port },
      dataDirectory: folder,
      timeoutMilliseconds: 5000,
      signal: new AbortController().signal,
    })

  async function rebuild(): Promise<void> {
    await session.beginAnew((baseWatermark) => {
      catalogue.reset(baseWatermark, [{ id: 1, name: 'a', generation: 1, flushDue: 0 }])
      const marks = { contains: at(0), mayContain: at(0), epoch: 0 }
      return formatStateItem({ ...marks, baseWatermark, staleItems: catalogue.staleItems, namespaces: catalogue.all() })
    })
    counters = new ApplyCounters()
    apply = new Apply({
      session,
      catalogue,
      clock: { databaseNowSeconds: () => Date.now() / 1000, memcachedNowSeconds: () => session.nowSeconds() },
      log: new FollowedPosition(),
      counters,
      contains: at(0),
      mayContain: at(0),
      epoch: 0,
      batchItemsMax: 1000,
      batchBytesMax: 4_000_000,
    })
  }

  function transaction(...entries: LogEntry[]): LogChunk {
    sequence++
    const gtid = { dialect: 'mariadb', domain: 0, server: 1, sequence } as const
    return { gtid, after: at(sequence), entries, bytes: 100, first: true, last: true, timestampSeconds: 0 }
  }

  const namespace = (): CataloguedNamespace => catalogue.byId(1) as CataloguedNamespace
  const itemKey = (key: string): ItemKey => composeItemKey('a', keyFromText(key))
  const examine = (key: string, question: Partial<ItemQuestion> = {}): Promise<ExaminedItem | undefined> =>
    reads.examine(1, itemKey(key), { ...plain, ...question })

  async function fetchLive(key: string): Promise<CachedItem | undefined> {
    const item = await new Promise<CachedItem | undefined>((resolve, reject) => {
      reads.fetch(itemKey(key), (found, error) => (error === undefined ? resolve(found) : reject(error)))
    })
    return item !== undefined && isLive(item, namespace()) ? item : undefined
  }

  test('is found out by trying, and the state item says of which kind its contents are', async () => {
    expect(session.itemCasIsVersion).toBe(takesVersions)
    const found = await session.readState()
    expect(found?.baseWatermark === undefined).toBe(takesVersions)
    // Contents of the other kind, in a form that parses: a CAS there means something else.
    const other = { baseWatermark: takesVersions ? 12 : undefined, staleItems: false, namespaces: [] }
    const marks = { contains: at(0), mayContain: at(0), epoch: 0 }
    await session.writeState(formatStateItem({ ...marks, ...other }))
    expect(await session.readState()).toBeUndefined()
  })

  test('R22: an item has its version as its CAS where that is possible, and touch keeps it', async () => {
    const version = 2n ** 33n + 8_589_934_591n
    await apply.apply([transaction(set('k', 'v'))])
    const before = await fetchLive('k')
    expect(before).toMatchObject({ flags: '5', value: Buffer.from('v') })
    expect(before && versionOf(before, namespace())).toBe(takesVersions ? version : undefined)
    await apply.apply([
      transaction({ kind: 'touch', namespaceId: 1, key: keyFromText('k'), generation: 1, expiry: far }),
    ])
    const after = await examine('k')
    expect(after?.remainingSeconds).toBeGreaterThan(1_000_000)
    expect(after && casText(after)).toBe(before && casText(before))
  })

  test('keys of any bytes and versions of any size come back', async () => {
    const key = keyFromBytes(Buffer.from([1, 32, 0, 10, 255]))
    const largest = 2 ** 30 - 1
    await apply.apply([transaction(flushTo(largest))])
    const entry = set('', 'x', { generation: largest, low: 2 ** 33 - 1 })
    await apply.apply([transaction({ ...entry, key } as LogEntry)])
    const item = await reads.examine(1, composeItemKey('a', key), plain)
    expect(item?.value?.toString()).toBe('x')
    expect(item && versionOf(item, namespace())).toBe(takesVersions ? 2n ** 63n - 1n : undefined)
    await apply.apply([transaction(set('text', 'x', { generation: largest }))])
    expect(await reads.describe(1, itemKey('text'))).toMatch(/^exp=-1 la=\d+ cas=\d+ fetch=no cls=\d+ size=\d+$/)
    // memcached 1.6.45 finds no item by the base64 form here (tried), so nobody is told of one.
    const described = await reads.describe(1, composeItemKey('a', key))
    if (takesVersions) expect(described).toBeUndefined()
    else expect(described).toMatch(/^exp=-1 /)
    expect(counters.refused).toBe(0)
  })

  test('a flush makes misses of what was, though it is there, and of nothing else', async () => {
    await apply.apply([
      transaction(set('k', 'old'), set('l', 'old')),
      transaction(flushTo(2), set('l', 'new', { generation: 2 })),
    ])
    expect(await fetchLive('k')).toBeUndefined()
    expect((await fetchLive('l'))?.value.toString()).toBe('new')
    expect(namespace().watermark === undefined).toBe(takesVersions)
    expect(counters).toMatchObject({ flushes: 1, stores: 3, dead: 0 })
  })

  test('a dead item answers no question and stands in the way of no lease', async () => {
    await apply.apply([transaction(set('k', 'old'), set('l', 'old')), transaction(flushTo(2))])
    expect(await reads.describe(1, itemKey('k'))).toBeUndefined()
    expect(await examine('k')).toBeUndefined()
    expect((await session.connection.request('mg a:k')).line).toBe('EN')
    const lease = await examine('l', { vivify: 30 })
    expect(lease).toMatchObject({ won: true, sizeBytes: 0, remainingSeconds: 30, flags: '0' })
    expect(lease && isLive(lease, namespace())).toBe(true)
  })

  test('a lease is won once, is no content, and goes with its generation', async () => {
    const [first, second] = [await examine('k', { vivify: 30 }), await examine('k', { vivify: 30 })]
    expect(first).toMatchObject({ won: true, leased: false })
    expect(second).toMatchObject({ won: false, leased: true })
    // races.md R31: what is streamed to a rebuilt node leaves leases out.
    expect(first && isLease(first, namespace())).toBe(takesVersions)
    expect(first && versionOf(first, namespace())).toBeUndefined()
    await apply.apply([transaction(flushTo(2))])
    expect(await examine('k')).toBeUndefined()
    expect(await examine('k', { vivify: 30 })).toMatchObject({ won: true })
    await apply.apply([transaction(set('k', 'filled', { generation: 2 }))])
    expect(await examine('k', { vivify: 30 })).toMatchObject({ won: false, leased: false, sizeBytes: 6 })
  })

  test('a delete takes a lease away (races.md R19)', async () => {
    await examine('k', { vivify: 30 })
    await apply.apply([transaction({ kind: 'delete', namespaceId: 1, key: keyFromText('k') })])
    expect(await examine('k')).toBeUndefined()
  })

  test('questions tell hits, idle time and what remains, and leave no trace where they shall not', async () => {
    await apply.apply([transaction(set('k', 'v', { expiry: Math.floor(Date.now() / 1000) + 100 }))])
    expect(await examine('k', { noBump: true, withValue: false })).toMatchObject({
      hitBefore: false,
      value: undefined,
      sizeBytes: 1,
    })
    expect(await examine('k')).toMatchObject({ hitBefore: false, stale: false, won: false })
    expect(await examine('k')).toMatchObject({ hitBefore: true, value: Buffer.from('v') })
    expect(await examine('k', { recacheBelow: 200 })).toMatchObject({ won: true })
    expect(await examine('k', { recacheBelow: 200 })).toMatchObject({ won: false, leased: true })
  })

  test('a stale item is served, its version is new, and one reader wins the right to fill it', async () => {
    await apply.apply([transaction(set('k', 'v')), transaction(stale('k', { expiry: far }))])
    const first = await examine('k')
    expect(first).toMatchObject({ stale: true, won: true, leased: false, value: Buffer.from('v'), flags: '5' })
    expect(first?.remainingSeconds).toBeGreaterThan(1_000_000)
    expect(first && versionOf(first, namespace())).toBe(takesVersions ? 2n ** 33n + 77n : undefined)
    expect(await examine('k')).toMatchObject({ stale: true, won: false, leased: true })
    await apply.apply([transaction(set('k', 'w'))])
    expect(await examine('k')).toMatchObject({ stale: false, won: false, leased: false })
    expect(counters.stales).toBe(1)
  })

  test('a plain read of a stale item leaves the right to fill it to whoever asks for it', async () => {
    await apply.apply([transaction(set('k', 'v')), transaction(stale('k'))])
    expect((await fetchLive('k'))?.value.toString()).toBe('v')
    expect(await examine('k')).toMatchObject({ won: true })
    // Nobody knows of it anew after a restart of the node, but for the state item.
    expect((await session.readState())?.staleItems).toBe(true)
  })

  test('a stale entry of an older generation, of a missing key, or expired by now leaves nothing behind', async () => {
    await apply.apply([
      transaction(set('k', 'v'), set('over', 'v')),
      transaction(stale('missing'), stale('over', { expiry: 1 })),
      transaction(flushTo(2), stale('k')),
    ])
    expect(await examine('missing')).toBeUndefined()
    expect(await examine('over')).toBeUndefined()
    expect(await examine('k')).toBeUndefined()
    expect(counters).toMatchObject({ stales: 2, dead: 1 })
  })

  test('applying twice equals applying once', async () => {
    const chunks = [transaction(set('k', 'v'), set('l', 'v')), transaction(stale('k'), set('l', 'w', { low: 9 }))]
    await apply.apply(chunks)
    const once = [await fetchLive('k'), await fetchLive('l')]
    await apply.apply(chunks)
    const twice = [await fetchLive('k'), await fetchLive('l')]
    expect(twice.map((item) => item?.value.toString())).toEqual(['v', 'w'])
    if (takesVersions) expect(twice).toEqual(once)
  })

  test('a rebuild leaves nothing of what was there, used in that very second or not, and loses nothing of its own', async () => {
    for (let round = 0; round < 3; round++) {
      const entries = Array.from({ length: 2000 }, (_, n) => set(`k${n}`, 'of a former life', { low: n + 1 }))
      await apply.apply([transaction(...entries)])
      // Beside it: readers of memcached itself, who keep items young, and items of all kinds of other people.
      await session.connection.bulk([`ms a:foreign 1 q\r\nx\r\n`])
      await dialogue(memcached.port, `${Array.from({ length: 200 }, (_, n) => `get a:k${n}\r\n`).join('')}mn\r\n`, /MN/)
      await rebuild()
      await apply.apply([transaction(set('own', 'x'))])
      const left = await Promise.all(entries.map((_, n) => fetchLive(`k${n}`)))
      expect(left.filter((item) => item !== undefined)).toEqual([])
      expect(await fetchLive('foreign')).toBeUndefined()
      expect((await fetchLive('own'))?.value.toString()).toBe('x')
      expect(await session.readState()).toBeDefined()
    }
  })
})

describe.each(binaries)('$name, which lets nobody flush it', ({ path }) => {
  test('is emptied by a rebuild all the same', async () => {
    const memcached = await Memcached.start(['-F'], path)
    const folder = await temporaryFolder()
    let session: MemcachedSession | undefined
    try {
      session = await MemcachedSession.open({
        address: { host: '127.0.0.1', port: memcached.port },
        dataDirectory: folder,
        timeoutMilliseconds: 5000,
        signal: new AbortController().signal,
      })
      const withVersion = session.itemCasIsVersion ? ` E${2n ** 33n + 5n}` : ''
      const binary = Buffer.from('a:\0\n').toString('base64')
      await session.connection.bulk([`ms a:k 1 q${withVersion}\r\nx\r\n`, `ms ${binary} 1 b q${withVersion}\r\nx\r\n`])
      const catalogue = new Catalogue()
      await session.beginAnew((baseWatermark) => {
        catalogue.reset(baseWatermark, [{ id: 1, name: 'a', generation: 1, flushDue: 0 }])
        const marks = { contains: at(0), mayContain: at(0), epoch: 0 }
        return formatStateItem({
          ...marks,
          baseWatermark,
          staleItems: catalogue.staleItems,
          namespaces: catalogue.all(),
        })
      })
      for (const key of ['a:k', `${binary} b`]) {
        const { line } = await session.connection.request(`mg ${key} c`)
        const cas = / c(\d+)/.exec(line)?.[1]
        expect(cas !== undefined && isLive(parseCasText(cas), catalogue.byId(1) as CataloguedNamespace)).toBe(false)
      }
    } finally {
      session?.close()
      await memcached.stop()
      await removeFolder(folder)
    }
  })
})
