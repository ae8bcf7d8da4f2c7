import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Mutation } from '../../src/domain/mutation.ts'
import { engineList } from '../support/databases.ts'
import { until } from '../support/processes.ts'
import { ending, endings, flush, remove, set, touch, WritingWorld } from '../support/writing.ts'

describe.each(engineList)('two nodes and SQL users write to %s', (engine) => {
  let world: WritingWorld
  beforeAll(async () => {
    world = await WritingWorld.start(engine)
  })
  afterEach(async () => world?.closeWriters())
  afterAll(async () => world?.stop())

  it('a set through a node that has not heard of a flush is of the new generation (R5)', async () => {
    const [a, b] = [world.writer('a').openSession(), world.writer('b').openSession()]
    const before = await world.generation()
    await b.submit(set('r5', 'old'))
    expect(await ending(a.submit(flush()))).toBe('flushed')
    expect(await ending(b.submit(remove('r5')))).toBe('not-found')
    expect(await ending(b.submit(set('r5', 'new')))).toBe('stored')
    expect(world.log.entriesOf('r5').map(({ generation }) => generation)).toEqual([before, before + 1, before + 1])
    await world.database.query('CALL memcached.flush_namespace(1)')
    await b.submit(set('r5', 'newer'))
    expect(world.log.entriesOf('r5').at(-1)?.generation).toBe(before + 2)
  })

  it('a delete is logged where the directory’s row has expired by the primary’s clock (R19)', async () => {
    const session = world.writer('a').openSession()
    await session.submit(set('r19', 'v', 1))
    await until('it to expire', async () => (await world.row('r19'))?.live === 0)
    expect(await ending(session.submit(touch('r19', 100)))).toBe('not-found')
    expect(await ending(session.submit(remove('r19')))).toBe('not-found')
    expect(world.log.entriesOf('r19').map(({ kind }) => kind)).toEqual(['set', 'delete'])
  })

  it('a delete of an absent key and a set by another are in one order in log and directory (R34)', async () => {
    const [a, b] = [world.writer('a').openSession(), world.writer('b').openSession()]
    for (let round = 0; round < 40; round++) {
      const key = `r34-${round}`
      await Promise.all([a.submit(remove(key)), b.submit(set(key))])
      const last = world.log.entriesOf(key).at(-1)
      // The log has a write a moment before other sessions see it.
      await until(
        'the commit to be visible',
        async () => (await world.row(key))?.version === String(last?.version),
        2000,
      )
      expect(await world.row(key)).toMatchObject({ live: last?.kind === 'set' ? 1 : 0 })
    }
  })

  it('log and directory agree in the end, and each acknowledged write stands in the log once', async () => {
    const seed = Math.floor(Math.random() * 2 ** 31)
    console.log(`seed ${seed}`)
    const random = mulberry(seed)
    const pick = (count: number): number => Math.floor(random() * count)
    const writers = [world.writer('a', { settings: { lanes: 2 } }), world.writer('b')]
    const first = world.log.transactions.length
    const stored: string[] = []
    const plan = Array.from({ length: 24 }, (_client, index) =>
      Array.from({ length: 40 }, (_, step): Mutation => {
        const key = `mix${pick(30)}`
        const chance = pick(100)
        if (chance < 60) return set(key, `${index}.${step}`, pick(2) * 1000)
        if (chance < 80) return remove(key)
        if (chance < 99) return touch(key, 500 + pick(100))
        return flush()
      }),
    )
    const clients = plan.map(async (steps, index) => {
      const session = (writers[index % 2] as (typeof writers)[0]).openSession()
      await Promise.all(
        steps.map(async (mutation) => {
          if ((await ending(session.submit(mutation))) === 'stored' && mutation.kind === 'set')
            stored.push(mutation.value.toString())
        }),
      )
    })
    const sql = Array.from({ length: 3 }, async (_, index) => {
      const connection = await world.database.connect({ database: 'memcached' })
      for (let step = 0; step < 40; step++) {
        const key = `mix${(index * 7 + step * 3) % 30}`
        const call = step % 3 === 0 ? `delete_key(1, '${key}')` : `set_key(1, '${key}', 'sql${index}.${step}', 0)`
        // A SQL user meets deadlocks with the nodes' batches as with anybody's, and tries again.
        await until(call, async () => connection.query(`CALL ${call}`).then(() => true))
      }
      connection.destroy()
    })
    await Promise.all([...clients, ...sql])
    await expectAgreement(first)
    const logged = world.log.transactions.slice(first).flatMap(({ entries }) => entries)
    const values = logged.flatMap(({ value }) => (value === undefined || value.startsWith('sql') ? [] : [value]))
    expect(values.toSorted()).toEqual(stored.toSorted())
    for (const [index, steps] of plan.entries()) expectInOrder(values, index, steps)
    expect(writers.map(({ metrics }) => metrics.errors)).toEqual([{}, {}])
  })

  it('a batch that loses a deadlock is tried again, behind the winner', async () => {
    let winner: Promise<unknown> | undefined
    const writer = world.writer('a', {
      onSession: (session) => {
        const write = session.write.bind(session)
        session.write = async (...given) => {
          if (winner !== undefined || given[0].inserts.length !== 1) return write(...given)
          const theirs = await world.database.connect({ database: 'memcached' })
          // Of two in a deadlock the one that has changed less is rolled back.
          const many = Array.from({ length: 50 }, (_, index) => `CALL set_key(1, 'dead-${index}', 'theirs', 0)`).join(
            ';',
          )
          await theirs.query(`START TRANSACTION; ${many}; CALL set_key(1, 'dead-y', 'theirs', 0)`)
          // Ours holds x and wants y, theirs holds y and wants x.
          winner = theirs.query("CALL set_key(1, 'dead-x', 'theirs', 0); COMMIT")
          await until('theirs to wait', async () => (await world.lockWaits()) > 0)
          return write(...given)
        }
      },
    })
    const session = writer.openSession()
    await Promise.all([session.submit(set('dead-x', 'first')), session.submit(set('dead-w', 'first'))])
    // The log shows a write before its locks are free: ours must not be found contended.
    await world.database.query(
      "SELECT 1 FROM memcached.mc_stored_keys WHERE ns_id = 1 AND mc_key = 'dead-x' FOR UPDATE",
    )
    // Neither is a plain set, which waits for nobody.
    const replaced = session.submit({ ...set('dead-x', 'ours'), mode: 'replace' })
    const added = session.submit({ ...set('dead-y', 'ours'), mode: 'add' })
    expect(await endings([replaced, added])).toEqual(['stored', 'not-stored'])
    await winner
    expect(writer.metrics.deadlocks).toBe(1)
    const values = (key: string): unknown[] => world.log.entriesOf(key).map(({ value }) => value)
    expect(values('dead-x')).toEqual(['first', 'theirs', 'ours'])
    expect(values('dead-y')).toEqual(['theirs'])
  })

  /** Of each key: the last entry of the log is what the directory says. */
  async function expectAgreement(first: number): Promise<void> {
    const generation = await world.generation()
    // Once this is acknowledged, everything before it has been seen.
    await world.writer('mark').openSession().submit(set('mark', 'sql-mark'))
    const last = new Map<string, { version: bigint; expiry: number; kind: string; generation: number }>()
    for (const { entries } of world.log.transactions.slice(first)) {
      for (const entry of entries) if (entry.namespaceId === 1) last.set(entry.key, entry)
    }
    expect(last.size).toBeGreaterThan(20)
    for (const [key, entry] of last) {
      const row = await world.row(key)
      expect({ key, version: row?.version, expire: row?.expire }).toEqual({
        key,
        version: String(entry.version),
        expire: entry.expiry,
      })
      expect(entry.generation).toBeLessThanOrEqual(generation)
    }
  }

  function expectInOrder(values: readonly string[], index: number, steps: readonly Mutation[]): void {
    const mine = values.filter((value) => value.startsWith(`${index}.`))
    const sent = steps.flatMap((mutation) => (mutation.kind === 'set' ? [mutation.value.toString()] : []))
    expect(mine).toEqual(sent)
  }
})

function mulberry(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
