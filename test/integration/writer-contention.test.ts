import type { Connection } from 'mysql2/promise'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { engineList } from '../support/databases.ts'
import { until } from '../support/processes.ts'
import type { Outcome } from '../../src/domain/mutation.ts'
import { ending, flush, remove, set, WritingWorld } from '../support/writing.ts'

/** Somebody's open SQL transaction holds what a write needs. Each story of races.md is played with real locks. */
describe.each(engineList)('a lock in somebody’s open transaction on %s', (engine) => {
  let world: WritingWorld
  let holder: Connection
  let number = 0
  beforeAll(async () => {
    world = await WritingWorld.start(engine)
  })
  afterEach(async () => {
    holder?.destroy()
    await world?.closeWriters()
  })
  afterAll(async () => world?.stop())

  const open = async (...statements: string[]): Promise<Connection> => {
    holder = await world.database.connect({ database: 'memcached' })
    await holder.query('START TRANSACTION')
    for (const statement of statements) await holder.query(statement)
    return holder
  }
  /** Keys of their own for each test. */
  const key = (name: string): string => `${name}${number}`
  const node = (): string => `node${++number}`

  /** Ten rounds of other sessions' writes, none of which may wait for the lock. */
  const others = async (writer: ReturnType<WritingWorld['writer']>, prefix = 'free'): Promise<number> => {
    const startedAt = performance.now()
    for (let round = 0; round < 10; round++) {
      const sessions = Array.from({ length: 5 }, () => writer.openSession())
      await Promise.all(sessions.map(async (session, index) => session.submit(set(key(`${prefix}${round}-${index}-`)))))
    }
    return performance.now() - startedAt
  }

  it.each([
    ['on an existing row', async (name: string) => open(`CALL set_key(1, '${name}', 'theirs', 0)`), true],
    ['in an uncommitted insert (R24)', async (name: string) => open(`CALL set_key(1, '${name}', 'theirs', 0)`), false],
    [
      'on a deleted row',
      async (name: string) => open(`DELETE FROM mc_stored_keys WHERE ns_id = 1 AND mc_key = '${name}'`),
      true,
    ],
  ])('%s delays that key alone', async (_, lock, exists) => {
    const writer = world.writer(node())
    if (exists) await writer.openSession().submit(set(key('held'), 'first'))
    const theirs = await lock(key('held'))
    let done = false
    const ours = writer
      .openSession()
      .submit(set(key('held'), 'ours'))
      .finally(() => (done = true))
    // Found held, it leaves the main lane; where no read shows it (a deleted row), that takes the INSERT's lock wait.
    await until('the write to be found waiting', () => writer.metrics.contended > 0)
    await others(writer)
    expect(done).toBe(false)
    await theirs.query('COMMIT')
    expect(await ending(ours)).toBe('stored')
    expect(world.log.entriesOf(key('held')).at(-1)?.value).toBe('ours')
    expect(await world.row(key('held'))).toMatchObject({
      version: String(world.log.entriesOf(key('held')).at(-1)?.version),
    })
  })

  it('is met by a plain set that reads nothing before; for a while then all keys are read, until nobody is in the way', async () => {
    const readKeys: number[] = []
    const writer = world.writer(node(), {
      onSession: (session) => {
        const lockKeys = session.lockKeys.bind(session)
        session.lockKeys = async (place, wanted) => {
          readKeys.push([...wanted.keys.values()].flat().length)
          return lockKeys(place, wanted)
        }
        const writeAtOnce = session.writeAtOnce.bind(session)
        session.writeAtOnce = async (...given) => {
          readKeys.push(0)
          return writeAtOnce(...given)
        }
      },
    })
    // MySQL cannot refuse to wait: there every key is read first.
    const blind = engine === 'mariadb' ? 0 : 1
    const session = writer.openSession()
    await session.submit(set(key('held'), 'first'))
    expect(readKeys).toEqual([blind])
    const theirs = await open(`CALL set_key(1, '${key('held')}', 'theirs', 0)`)
    const ours = writer.openSession().submit(set(key('held'), 'ours'))
    await until('the write to be found waiting', () => writer.metrics.contended > 0)
    await session.submit(set(key('free')))
    expect(readKeys.at(-1)).toBe(1)
    await theirs.query('COMMIT')
    expect(await ending(ours)).toBe('stored')
    expect(world.log.entriesOf(key('held')).map(({ value }) => value)).toEqual(['first', 'theirs', 'ours'])
    for (let round = 0; round < 40; round++) await session.submit(set(key('free')))
    expect(readKeys.at(-1)).toBe(blind)
  })

  it('delays what follows in the session, and no other session (R26)', async () => {
    const writer = world.writer(node())
    const [first, second] = [writer.openSession(), writer.openSession()]
    await first.submit(set(key('a'), '0'))
    const theirs = await open(`SELECT * FROM mc_stored_keys WHERE ns_id = 1 AND mc_key = '${key('a')}' FOR UPDATE`)
    const told: string[] = []
    const note = async (name: string, promise: Promise<Outcome>): Promise<void> => {
      await promise
      told.push(name)
    }
    const waiting = [note('a1', first.submit(set(key('a'), '1')))]
    await until('it to be on the side lane', () => writer.metrics.contended > 0)
    waiting.push(note('b', first.submit(set(key('b'), 'first'))), note('a2', first.submit(set(key('a'), '2'))))
    waiting.push(note('second a', second.submit(set(key('a'), '3'))))
    const third = writer.openSession()
    await third.submit(set(key('b'), 'third'))
    expect(told).toEqual([])
    await theirs.query('ROLLBACK')
    waiting.push(note('a4', first.submit(set(key('a'), '4'))))
    await Promise.all(waiting)
    expect(world.log.entriesOf(key('a')).map(({ value }) => value)).toEqual(['0', '1', '2', '3', '4'])
    expect(world.log.entriesOf(key('b')).map(({ value }) => value)).toEqual(['third', 'first'])
    // With nothing left in the side lane the session is back on the main one.
    // (The log acknowledges a moment before the primary lets go of the row: a write at once may find it held.)
    await until('a write that waits for nobody', async () => {
      const { contended } = writer.metrics
      await first.submit(set(key('a'), '5'))
      return writer.metrics.contended === contended
    })
  })

  it('on the namespace, as of an open flush, delays that namespace alone, and what follows is of the new generation', async () => {
    const writer = world.writer(node())
    const before = await world.generation()
    const theirs = await open('CALL flush_namespace(1)')
    let done = false
    const session = writer.openSession()
    const ours = session.submit(set(key('n'))).finally(() => (done = true))
    await until('the write to be found waiting', () => writer.metrics.contended > 0)
    const other = writer.openSession()
    for (let round = 0; round < 10; round++) await other.submit({ ...set(key('other')), namespaceId: 2 })
    expect(done).toBe(false)
    await theirs.query('COMMIT')
    await ours
    expect(world.log.entriesOf(key('n')).map(({ generation }) => generation)).toEqual([before + 1])
  })

  it('on the namespace delays a flush, which then happens once', async () => {
    const writer = world.writer(node())
    const before = await world.generation()
    const theirs = await open('SELECT * FROM mc_namespaces WHERE ns_id = 1 FOR UPDATE')
    const ours = writer.openSession().submit(flush())
    const other = writer.openSession()
    for (let round = 0; round < 10; round++) await other.submit({ ...set(key('other')), namespaceId: 2 })
    await theirs.query('ROLLBACK')
    expect(await ending(ours)).toBe('flushed')
    expect(await world.generation()).toBe(before + 1)
  })

  it('ends in not-written at the deadline, for certain: the write never appears', async () => {
    const writer = world.writer(node(), { settings: { writeTimeoutMilliseconds: 1000 } })
    await writer.openSession().submit(set(key('late'), 'first'))
    const theirs = await open(`SELECT * FROM mc_stored_keys WHERE ns_id = 1 AND mc_key = '${key('late')}' FOR UPDATE`)
    const session = writer.openSession()
    expect(await ending(session.submit(set(key('late'), 'never')))).toBe('not-written')
    await theirs.query('ROLLBACK')
    await session.submit(set(key('late'), 'last'))
    expect(world.log.entriesOf(key('late')).map(({ value }) => value)).toEqual(['first', 'last'])
    expect(writer.metrics.queuedItems).toBe(0)
  })

  it('is not taken by a delete of an absent key: its neighbours can be written (R25)', async () => {
    const writer = world.writer(node())
    await writer.openSession().submit(set(key('gap-a')))
    await writer.openSession().submit(set(key('gap-z')))
    const theirs = await open(
      'SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ',
      `CALL delete_key(1, '${key('gap-m')}')`,
    )
    await others(writer, 'gap-')
    expect(await world.row(key('gap-0-0-'))).toMatchObject({ live: 1 })
    const ours = writer.openSession().submit(remove(key('gap-m')))
    await until('our delete to wait for theirs', () => writer.metrics.contended > 0)
    await theirs.query('COMMIT')
    // Theirs left a dead row: there was nothing to delete, and it is logged again (R19).
    expect(await ending(ours)).toBe('not-found')
    expect(world.log.entriesOf(key('gap-m')).map(({ kind }) => kind)).toEqual(['delete', 'delete'])
  })

  it('never overwrites what an uncommitted insert commits without seeing it (R24)', async () => {
    const writer = world.writer(node())
    const theirs = await open(`CALL set_key(1, '${key('new')}', 'theirs', 0)`)
    const ours = writer.openSession().submit(remove(key('new')))
    await until('our delete to wait for theirs', () => writer.metrics.contended > 0)
    await theirs.query('COMMIT')
    expect(await ending(ours)).toBe('deleted')
    expect(world.log.entriesOf(key('new')).map(({ kind }) => kind)).toEqual(['set', 'delete'])
  })
})
