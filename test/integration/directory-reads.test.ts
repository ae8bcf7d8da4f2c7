import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SqlDirectoryReads } from '../../src/adapters/directory-reads.ts'
import { keyFromText } from '../../src/domain/key.ts'
import { covers, parsePosition, type Position } from '../../src/domain/position.ts'
import type { FollowedLog } from '../../src/domain/followed-log.ts'
import { engineList } from '../support/databases.ts'
import { until } from '../support/processes.ts'
import { ending, set, WritingWorld } from '../support/writing.ts'

describe.each(engineList)('the directory on %s', (engine) => {
  let world: WritingWorld
  let reads: SqlDirectoryReads
  beforeAll(async () => {
    world = await WritingWorld.start(engine)
    reads = new SqlDirectoryReads({ databases: world.databases(), log: world.log, timeoutMilliseconds: 2000 })
  })
  afterAll(async () => {
    reads?.close()
    await world?.stop()
  })

  const versionOf = async (key: string): Promise<bigint | undefined> => (await reads.versions(1, [keyFromText(key)]))[0]

  it('gives the versions of live keys in the order asked, and undefined for all others', async () => {
    const session = world.writer('a').openSession()
    await session.submit({ ...set('flushed'), namespaceId: 2 })
    await session.submit({ kind: 'flush', namespaceId: 2, delaySeconds: 0 })
    await session.submit({ ...set('two'), namespaceId: 2 })
    await Promise.all([session.submit(set('one')), session.submit(set('gone')), session.submit(set('old', 'v', -1))])
    await session.submit({ kind: 'delete', namespaceId: 1, key: keyFromText('gone') })
    const logged = (key: string): bigint | undefined => world.log.entriesOf(key).at(-1)?.version
    const [ones, twos] = await Promise.all([
      reads.versions(1, ['one', 'gone', 'absent', 'old', 'two', 'one'].map(keyFromText)),
      reads.versions(2, ['two', 'flushed', 'one'].map(keyFromText)),
    ])
    expect(ones).toEqual([logged('one'), undefined, undefined, undefined, undefined, logged('one')])
    expect(twos).toEqual([logged('two'), undefined, undefined])
    expect(await reads.versions(1, [])).toEqual([])
  })

  it('answers only once the followed log has what the primary had then (R23)', async () => {
    const targets: unknown[] = []
    let reached: (() => void) | undefined
    const log: FollowedLog = {
      position: undefined,
      whenReached: async (target) => {
        targets.push(target)
        await new Promise<void>((resolve) => (reached = resolve))
      },
      watchLane: () => () => {},
    }
    const late = new SqlDirectoryReads({ databases: world.databases(), log, timeoutMilliseconds: 2000 })
    let done = false
    const asked = late.versions(1, [keyFromText('one')]).finally(() => (done = true))
    await until('the log to be asked', () => reached !== undefined)
    expect(done).toBe(false)
    reached?.()
    expect(await asked).toEqual([await versionOf('one')])
    expect(targets).toEqual([(await world.databases().findPrimary()).position])
    late.close()
  })

  it('gives the version of a write as soon as it is acknowledged', async () => {
    // The log may tell of it before the primary's other sessions see it.
    const session = world.writer('acknowledged').openSession()
    for (let round = 0; round < 150; round++) {
      const outcome = await session.submit(set(`round${round % 3}`, String(round)))
      expect(await versionOf(`round${round % 3}`)).toBe(outcome.kind === 'stored' ? outcome.version : 0n)
    }
  })

  it('gives the committed version, soon, while somebody’s open transaction changes the key', async () => {
    const committed = await versionOf('one')
    const theirs = await world.database.connect({ database: 'memcached' })
    await theirs.query("START TRANSACTION; CALL set_key(1, 'one', 'theirs', 0); CALL set_key(1, 'never', 'theirs', 0)")
    try {
      expect(await versionOf('one')).toBe(committed)
      expect(await versionOf('never')).toBeUndefined()
    } finally {
      await theirs.query('ROLLBACK')
      await theirs.end()
    }
  })

  it.runIf(engine === 'mysql')('counts in what MySQL has committed and not yet counted as executed', async () => {
    const targets: Position[] = []
    const log: FollowedLog = {
      position: undefined,
      whenReached: async (target) => void targets.push(target),
      watchLane: () => () => {},
    }
    const other = new SqlDirectoryReads({ databases: world.databases(), log, timeoutMilliseconds: 2000 })
    const theirs = await world.database.connect({ database: 'memcached' })
    const source = '3e11fa47-71ca-11e1-9e33-c80aa9429562'
    await theirs.query(`SET GTID_NEXT='${source}:7'; START TRANSACTION`)
    await other.versions(1, [keyFromText('one')])
    await theirs.query("ROLLBACK; SET GTID_NEXT='AUTOMATIC'")
    await other.versions(1, [keyFromText('one')])
    expect(targets.map((target) => covers(target, parsePosition('mysql', `${source}:7`)))).toEqual([true, false])
    other.close()
    theirs.destroy()
  })

  it('asks for everything that waits in one packet', async () => {
    const [before] = await world.database.query<{ Value: string }>("SHOW GLOBAL STATUS LIKE 'Com_select'")
    const all = await Promise.all(Array.from({ length: 500 }, async () => reads.versions(1, [keyFromText('one')])))
    const [after] = await world.database.query<{ Value: string }>("SHOW GLOBAL STATUS LIKE 'Com_select'")
    expect(new Set(all.flat()).size).toBe(1)
    expect(Number(after?.Value) - Number(before?.Value)).toBeLessThan(20)
  })

  it('counts the live keys of a namespace and their bytes', async () => {
    const session = world.writer('a').openSession()
    await session.submit({ kind: 'flush', namespaceId: 2, delaySeconds: 0 })
    await session.submit({ ...set('x', '12345'), namespaceId: 2 })
    await session.submit({ ...set('y', '123'), namespaceId: 2 })
    await session.submit({ ...set('z', '123', -1), namespaceId: 2 })
    expect(await reads.figures(2)).toEqual({ keys: 2, bytes: 8 })
    expect(await reads.figures(99)).toEqual({ keys: 0, bytes: 0 })
  })

  it('is away within the time while the database is stopped, and back afterwards', async () => {
    await versionOf('one')
    world.database.program.signal('SIGSTOP')
    await until('all its threads to stand still', () => world.database.program.standsStill)
    const startedAt = performance.now()
    try {
      expect(await ending(versionOf('one').then(String))).toBe('database-away')
      expect(await ending(reads.figures(1).then(String))).toBe('database-away')
      expect(performance.now() - startedAt).toBeLessThan(7000)
    } finally {
      world.database.program.signal('SIGCONT')
    }
    await until('the directory to answer', async () => (await versionOf('one')) !== undefined)
  })
})
