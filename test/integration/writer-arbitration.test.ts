import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { composeItemKey, type ItemKey, keyFromText } from '../../src/domain/key.ts'
import type { CachedItem, LocalReads } from '../../src/domain/local-reads.ts'
import type { Outcome } from '../../src/domain/mutation.ts'
import type { CataloguedNamespace } from '../../src/domain/namespaces.ts'
import type { PeerReads } from '../../src/domain/peer-reads.ts'
import type { Version } from '../../src/domain/version.ts'
import { Arbitration } from '../../src/writer/arbitration.ts'
import type { Writer } from '../../src/writer/writer.ts'
import { engineList } from '../support/databases.ts'
import { until } from '../support/processes.ts'
import { add, compareAndSet, ending, endings, increment, remove, set, touch, WritingWorld } from '../support/writing.ts'

const byText = (a = '', b = ''): number => a.localeCompare(b)

describe.each(engineList)('conditions are decided once for all nodes, on %s', (engine) => {
  let world: WritingWorld
  beforeAll(async () => {
    world = await WritingWorld.start(engine)
  })
  afterEach(async () => world?.closeWriters())
  afterAll(async () => world?.stop())

  const twoNodes = (lanes = 2): Writer[] => ['a', 'b'].map((node) => world.writer(node, { settings: { lanes } }))
  const versionIn = (outcome: Outcome): Version => {
    if (!('version' in outcome) || outcome.version === undefined) throw new Error(`no version in ${outcome.kind}`)
    return outcome.version
  }

  it('of adds that race for a key one wins, and all others are told its version', async () => {
    const sessions = twoNodes().flatMap((writer) => Array.from({ length: 6 }, () => writer.openSession()))
    for (let round = 0; round < 25; round++) {
      const outcomes = await Promise.all(
        sessions.map(async (session, index) => session.submit(add(`lock${round}`, `${index}`))),
      )
      const won = outcomes.flatMap((outcome, index) => (outcome.kind === 'stored' ? [index] : []))
      expect(won).toHaveLength(1)
      expect(new Set(outcomes.map(versionIn)).size).toBe(1)
      expect(world.log.entriesOf(`lock${round}`).map(({ value }) => value)).toEqual(won.map(String))
    }
  })

  it('each token wins one cas, and no step is lost', async () => {
    const keys = ['cas1', 'cas2']
    const values = new Map<Version, number>()
    const writers = twoNodes()
    const first = writers[0]?.openSession()
    for (const key of keys) values.set(versionIn((await first?.submit(set(key, '0'))) as Outcome), 0)
    const wins = new Map<string, number>()
    const clients = writers.flatMap((writer) =>
      Array.from({ length: 6 }, async (_, index) => {
        const session = writer.openSession()
        const key = keys[index % keys.length] as string
        let token = 1n
        for (let won = 0; won < 15;) {
          const value = (values.get(token as Version) ?? 0) + 1
          const outcome = await session.submit(compareAndSet(key, String(value), token))
          token = versionIn(outcome)
          if (outcome.kind === 'stored') {
            won += 1
            wins.set(key, (wins.get(key) ?? 0) + 1)
            values.set(outcome.version, value)
          } else {
            // The winner may not have heard of it yet.
            await until('the winner to be told', () => values.has(token as Version))
          }
        }
      }),
    )
    await Promise.all(clients)
    for (const key of keys) {
      expect(wins.get(key)).toBe(90)
      expect(world.log.entriesOf(key).at(-1)?.value).toBe('90')
      expect(world.log.entriesOf(key)).toHaveLength(91)
    }
  })

  it('increments from two nodes are all counted, each client is told a number of its own, and batches fold', async () => {
    const sessions = twoNodes().flatMap((writer) => Array.from({ length: 20 }, () => writer.openSession()))
    const create = { initial: 1n, exptime: 0 }
    const told = await Promise.all(
      sessions.map(async (session) => {
        const numbers: bigint[] = []
        for (let round = 0; round < 25; round++) {
          const outcome = await session.submit({ ...increment('hits'), create })
          if (outcome.kind === 'stored') numbers.push(outcome.number ?? -1n)
        }
        expect(numbers).toEqual(numbers.toSorted((a, b) => Number(a - b)))
        return numbers
      }),
    )
    const sorted = told.flat().toSorted((a, b) => Number(a - b))
    expect(sorted).toEqual(Array.from({ length: 1000 }, (_, index) => BigInt(index + 1)))
    expect(world.log.entriesOf('hits').at(-1)?.value).toBe('1000')
    expect(world.log.entriesOf('hits').length).toBeLessThan(500)
    await until('the row to be visible', async () => (await world.row('hits'))?.number === '1000')
  })

  it('an increment happens exactly once, however connections break', async () => {
    let questions = 0
    const writer = world.writer('breaking', {
      settings: { lanes: 2 },
      onSession: (session) => {
        const write = session.write.bind(session)
        session.write = async (decision, waits) => {
          questions += 1
          if (questions % 5 === 1) {
            session.sever()
            throw new Error('broken before the COMMIT')
          }
          await write(decision, waits)
          if (questions % 5 !== 3) return
          session.sever()
          throw new Error('broken behind the COMMIT')
        }
      },
    })
    const sessions = Array.from({ length: 10 }, () => writer.openSession())
    await sessions[0]?.submit(set('fragile', '0'))
    await Promise.all(
      sessions.map(async (session) => {
        for (let round = 0; round < 8; round++) expect((await session.submit(increment('fragile'))).kind).toBe('stored')
      }),
    )
    expect(world.log.entriesOf('fragile').at(-1)?.value).toBe('80')
    expect(writer.metrics.recoveries).toBeGreaterThan(3)
  })

  it('an add waits for somebody’s uncommitted insert: it never looks absent (R24)', async () => {
    const writer = world.writer('a')
    const session = writer.openSession()
    for (const end of ['COMMIT', 'ROLLBACK']) {
      const theirs = await world.database.connect({ database: 'memcached' })
      await theirs.query(`START TRANSACTION; CALL set_key(1, 'r24-${end}', 'theirs', 0)`)
      let done = false
      const ours = ending(session.submit(add(`r24-${end}`, 'ours'))).finally(() => (done = true))
      await writer.openSession().submit(set('other'))
      expect(done).toBe(false)
      await theirs.query(end)
      await theirs.end()
      expect(await ours).toBe(end === 'COMMIT' ? 'not-stored' : 'stored')
    }
  })

  it('a refusal is told only once the log shows what it rests on (R2, R18)', async () => {
    const [a, b] = twoNodes().map((writer) => writer.openSession())
    await a?.submit(set('warm'))
    await b?.submit(set('warm'))
    world.log.hold()
    const before = world.log.transactions.length
    let told = 0
    const promises = [a?.submit(add('r18', 'first')), b?.submit(set('r18-other'))]
    await until('the add to be in the log', () => world.log.transactions.length >= before + 2)
    promises.push(b?.submit(add('r18', 'second')), b?.submit(compareAndSet('r18', 'x', 1n)))
    for (const promise of promises) void promise?.finally(() => (told += 1))
    await until('the refusal to be in the log', () => world.log.transactions.length >= before + 3)
    expect(told).toBe(0)
    world.log.release()
    expect(await endings(promises as Promise<Outcome>[])).toEqual(['stored', 'stored', 'not-stored', 'exists'])
    expect(world.log.transactions.at(-1)?.entries).toEqual([])
  })

  it('a token from before a delete, a purge and a new add is of no use (R21); one from before a touch is (R22)', async () => {
    const session = world.writer('a').openSession()
    const stale = versionIn(await session.submit(set('r21', 'same')))
    await session.submit(remove('r21'))
    await world.database.query("DELETE FROM memcached.mc_stored_keys WHERE mc_key = 'r21'")
    const fresh = versionIn(await session.submit(add('r21', 'same')))
    expect(await session.submit(compareAndSet('r21', 'lost', stale))).toEqual({ kind: 'exists', version: fresh })
    expect(await session.submit(touch('r21', 50))).toEqual({ kind: 'touched', version: fresh })
    expect(await ending(session.submit(compareAndSet('r21', 'won', fresh)))).toBe('stored')
  })

  it('each kind of change stands in row and log as it was decided', async () => {
    const session = world.writer('a').openSession()
    const key = { namespaceId: 1, key: keyFromText('kinds') }
    const outcomes = await endings([
      session.submit(set('kinds', '10', 500)),
      session.submit({ kind: 'arithmetic', ...key, direction: 'decr', delta: 1n }),
      session.submit({ kind: 'invalidate', ...key, stale: true, dropsValue: false }),
      session.submit({ kind: 'arithmetic', ...key, direction: 'incr', delta: 2n ** 64n - 1n }),
      session.submit({ kind: 'invalidate', ...key, stale: true, dropsValue: true, exptime: 900 }),
      session.submit({ kind: 'arithmetic', ...key, direction: 'incr', delta: 1n }),
      session.submit({ ...compareAndSet('kinds', 'late', 5n), staleOnMismatch: true }),
      session.submit({ ...remove('kinds'), compare: 5n }),
      session.submit({ ...touch('kinds', 5), compare: 5n }),
    ])
    expect(outcomes).toEqual([
      'stored',
      'stored',
      'stored',
      'stored',
      'stored',
      'not-a-number',
      'stored',
      'exists',
      'exists',
    ])
    const entries = world.log.entriesOf('kinds')
    expect(entries.map(({ kind, value }) => [kind, value])).toEqual([
      ['set', '10'],
      ['set', '9 '],
      ['stale', undefined],
      ['set', '8 '],
      ['set', ''],
      ['stale', undefined],
      ['set', 'late'],
      ['stale', undefined],
    ])
    const versions = entries.map(({ version }) => version)
    expect(versions[4]).toBe(versions[5])
    expect(versions[6]).toBe(versions[7])
    expect(new Set(versions).size).toBe(6)
    await until('the row to be visible', async () => (await world.row('kinds'))?.version === String(versions[7]))
    expect(await world.row('kinds')).toMatchObject({ size: 4, number: null })
  })

  describe('with items that are evicted', () => {
    /** A node's memcached: what the log says, but for what it has evicted. */
    class Items {
      readonly evicted = new Set<bigint>()
      silent = false

      find(itemKey: ItemKey): CachedItem | undefined {
        const name = itemKey.slice(itemKey.indexOf(':') + 1)
        const last = world.log.entriesOf(name).findLast(({ kind }) => kind === 'set' || kind === 'delete')
        if (last === undefined || last.kind === 'delete' || this.evicted.has(last.version)) return undefined
        return {
          casHigh: Number(last.version >> 33n),
          casLow: Number(last.version & (2n ** 33n - 1n)),
          flags: last.flags,
          value: Buffer.from(last.value ?? '', 'latin1'),
        }
      }
    }

    async function start(): Promise<{ items: Items[]; nodes: Arbitration[] }> {
      const items = [new Items(), new Items()]
      const generation = await world.generation()
      const namespace: CataloguedNamespace = { id: 1, name: 'one', generation, watermark: undefined, flushDue: 0 }
      const nodes = twoNodes().map((mutations, index) => {
        const [own, other] = [items[index], items[1 - index]] as [Items, Items]
        const peers: PeerReads = {
          find: async (_namespace, key, version) => {
            if (other.silent) return { kind: 'unknown' }
            const item = other.find(composeItemKey('one', key))
            const held = item !== undefined && ((BigInt(item.casHigh) << 33n) | BigInt(item.casLow)) === version
            return held ? { kind: 'held', item } : { kind: 'gone' }
          },
        }
        const reads: LocalReads = {
          serving: true,
          servingItself: true,
          fetch: (itemKey, sink) => setImmediate(() => sink(own.find(itemKey))),
          examine: async () => undefined,
          describe: async () => undefined,
          statistics: async () => new Map(),
        }
        return new Arbitration({
          mutations,
          reads,
          peers,
          namespaces: { byId: () => namespace, byName: () => namespace, all: () => [namespace] },
          directory: { versions: async () => [], figures: async () => ({ keys: 0, bytes: 0 }) },
          writeTimeoutMilliseconds: 10_000,
        })
      })
      return { items, nodes }
    }

    it('an add wins only once its key is gone everywhere, for certain (R16)', async () => {
      const { items, nodes } = await start()
      const [a, b] = nodes.map((node) => node.openSession())
      const [mineA, mineB] = items as [Items, Items]
      const lock = versionIn((await a?.submit(add('r16', 'a'))) as Outcome)
      mineB.evicted.add(lock)
      expect(await b?.submit(add('r16', 'b'))).toEqual({ kind: 'not-stored', version: lock })
      mineA.evicted.add(lock)
      mineA.silent = true
      expect(await b?.submit(add('r16', 'b'))).toEqual({ kind: 'not-stored', version: lock })
      mineA.silent = false
      const outcomes = await Promise.all([a?.submit(add('r16', 'a again')), b?.submit(add('r16', 'b'))])
      expect(outcomes.map((outcome) => outcome?.kind).toSorted(byText)).toEqual(['not-stored', 'stored'])
      expect(new Set(outcomes.map((outcome) => versionIn(outcome as Outcome))).size).toBe(1)
    })

    it('appends and prepends from two nodes lose nothing, and an evicted item comes from the peer', async () => {
      const { items, nodes } = await start()
      const first = nodes[0]?.openSession()
      const version = versionIn((await first?.submit({ ...set('list', '|'), flags: 5n })) as Outcome)
      items[1]?.evicted.add(version)
      const pieces: string[] = []
      await Promise.all(
        nodes.flatMap((node, index) =>
          Array.from({ length: 4 }, async (_, client) => {
            const session = node.openSession()
            for (let round = 0; round < 5; round++) {
              const piece = `<${index}.${client}.${round}>`
              const side = client % 2 === 0 ? 'append' : 'prepend'
              const outcome = await session.concatenate({
                namespaceId: 1,
                key: keyFromText('list'),
                side,
                value: Buffer.from(piece),
              })
              expect(outcome.kind).toBe('stored')
              pieces.push(piece)
            }
          }),
        ),
      )
      const last = world.log.entriesOf('list').at(-1)
      expect(last?.flags).toBe('5')
      expect((last?.value ?? '').match(/<[^>]+>/g)?.toSorted()).toEqual(pieces.toSorted())
      // Each client's own stand in its order.
      expect((last?.value ?? '').match(/<0\.0\.\d>/g)).toEqual([0, 1, 2, 3, 4].map((round) => `<0.0.${round}>`))
      expect((last?.value ?? '').match(/<1\.1\.\d>/g)).toEqual([4, 3, 2, 1, 0].map((round) => `<1.1.${round}>`))
    })
  })
})
