import type { Connection } from 'mysql2/promise'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Outcome } from '../../src/domain/mutation.ts'
import { engineList } from '../support/databases.ts'
import { add, compareAndSet, increment, set, WritingWorld } from '../support/writing.ts'

interface Answer {
  readonly outcome: string
  readonly version: string | null
  readonly number?: string | null
}

describe.each(engineList)('a node and SQL users who want the same key on %s', (engine) => {
  let world: WritingWorld
  let sql: Connection

  beforeAll(async () => {
    world = await WritingWorld.start(engine)
  })
  beforeEach(async () => {
    sql = await world.database.connect({ database: 'memcached', bigNumberStrings: true })
  })
  afterEach(async () => {
    sql?.destroy()
    await world?.closeWriters()
  })
  afterAll(async () => world?.stop())

  const call = async (statement: string, connection = sql): Promise<Answer> => {
    for (;;) {
      try {
        const [[[answer]]] = (await connection.query(`CALL ${statement}`)) as unknown as [[[Answer]]]
        return answer
      } catch (error) {
        // A deadlock or a lock wait: nothing was done.
        if (![1213, 1205].includes((error as { errno: number }).errno)) throw error
      }
    }
  }
  const numberOf = (outcome: Outcome): number => (outcome.kind === 'stored' ? Number(outcome.number) : Number.NaN)

  test('of an add through the node and an add from SQL exactly one wins', async () => {
    const session = world.writer('a').openSession()
    for (let round = 0; round < 40; round++) {
      const key = `add${round}`
      const [node, { outcome, version }] = await Promise.all([
        session.submit(add(key, 'node')),
        call(`add_key(1, '${key}', 'sql', 0)`),
      ])
      expect([node.kind, outcome].toSorted(), key).toEqual(
        node.kind === 'stored' ? ['not_stored', 'stored'] : ['not-stored', 'stored'],
      )
      const entries = world.log.entriesOf(key)
      expect(entries.map((entry) => String(entry.version))).toEqual([version])
    }
  })

  test('counting together they lose no step, and none is told twice', async () => {
    const sessions = [world.writer('a'), world.writer('b')].map((writer) => writer.openSession())
    await sessions[0]?.submit(set('n', '0'))
    const other = await world.database.connect({ database: 'memcached', bigNumberStrings: true })
    const numbers: number[] = []
    const steps = Array.from({ length: 50 })
    await Promise.all([
      ...sessions.flatMap((session) =>
        steps.map(async () => numbers.push(numberOf(await session.submit(increment('n'))))),
      ),
      ...[sql, other].map(async (connection) => {
        for (const _ of steps) numbers.push(Number((await call("incr_key(1, 'n', 1)", connection)).number))
      }),
    ])
    other.destroy()
    expect(numbers.toSorted((x, y) => x - y)).toEqual(Array.from({ length: 200 }, (_, index) => index + 1))
    expect(await world.row('n')).toMatchObject({ number: '200', size: 3 })
  })

  test("each takes the other's token once", async () => {
    const session = world.writer('a').openSession()
    const compare = async (token: string | null): Promise<Outcome> =>
      session.submit(compareAndSet('c', 'node', BigInt(token ?? 0)))
    const { version: first } = await call("add_key(1, 'c', 'sql', 0)")
    const stored = await compare(first)
    expect(stored.kind).toBe('stored')
    expect((await compare(first)).kind).toBe('exists')
    const second = stored.kind === 'stored' ? String(stored.version) : ''
    const { outcome, version: third } = await call(`cas_key(1, 'c', 'sql', 0, ${second})`)
    expect(outcome).toBe('stored')
    expect(await call(`cas_key(1, 'c', 'sql', 0, ${second})`)).toEqual({ outcome: 'exists', version: third })
    expect((await compare(second)).kind).toBe('exists')
    expect((await compare(third)).kind).toBe('stored')
  })

  test('what SQL stored is a number to the node, and the other way round', async () => {
    const session = world.writer('a').openSession()
    await sql.query("CALL set_key(1, 'm', ' 9', 0)")
    expect(numberOf(await session.submit(increment('m')))).toBe(10)
    await session.submit(set('m', '100 '))
    expect((await call("decr_key(1, 'm', 1)")).number).toBe('99')
    expect(await world.row('m')).toMatchObject({ number: '99', size: 4 })
    await session.submit(set('m', '12ab'))
    expect((await call("incr_key(1, 'm', 1)")).outcome).toBe('not_a_number')
  })

  test('a refusal in an open SQL transaction delays that key alone', async () => {
    const writer = world.writer('a')
    const [session, others] = [writer.openSession(), writer.openSession()]
    await sql.query("START TRANSACTION; CALL replace_key(1, 'held', 'v', 0)")
    let decided = false
    const held = session.submit(add('held', 'v')).finally(() => (decided = true))
    const free = await Promise.all(['hela', 'held1', 'hele'].map((key) => others.submit(add(key))))
    expect(free.map(({ kind }) => kind)).toEqual(['stored', 'stored', 'stored'])
    expect(decided).toBe(false)
    await sql.query('COMMIT')
    expect((await held).kind).toBe('stored')
  })
})
