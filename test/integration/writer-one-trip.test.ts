import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { LaneSession } from '../../src/writer/lane-session.ts'
import type { Writer } from '../../src/writer/writer.ts'
import { ChaosProxy } from '../support/chaos-proxy.ts'
import { until } from '../support/processes.ts'
import { ending, set, touch, WritingWorld } from '../support/writing.ts'

/** Plain sets on MariaDB ask nothing before they write: what they are decided upon was read by former batches (ADR 6). */
describe('batches of plain sets, in one round trip', () => {
  let world: WritingWorld
  let proxy: ChaosProxy | undefined
  let number = 0
  let asked: string[] = []
  beforeAll(async () => {
    world = await WritingWorld.start('mariadb')
  })
  afterEach(async () => {
    await world?.closeWriters()
    await proxy?.stop()
    proxy = undefined
  })
  afterAll(async () => world?.stop())

  const key = (text: string): string => `${text}${number}`
  const values = (text: string): (string | undefined)[] => world.log.entriesOf(key(text)).map(({ value }) => value)

  /** Its main lane has read once what it needs to know. */
  const readWriter = async (
    given: Parameters<WritingWorld['writer']>[1] = {},
    spoil: (session: LaneSession) => void = () => {},
  ): Promise<Writer> => {
    number += 1
    asked = []
    const writer = world.writer(`one-trip${number}`, {
      ...given,
      onSession: (session) => {
        for (const name of ['lockKeys', 'write', 'writeAtOnce'] as const) note(session, name)
        spoil(session)
      },
    })
    await writer.openSession().submit(set(key('first')))
    expect(asked).toEqual(['lockKeys', 'write'])
    asked = []
    return writer
  }
  const note = (session: LaneSession, name: 'lockKeys' | 'write' | 'writeAtOnce'): void => {
    const method = session[name].bind(session) as (...args: unknown[]) => Promise<never>
    session[name] = async (...args: unknown[]) => {
      asked.push(name)
      return method(...args)
    }
  }

  it('ask nothing first, for keys that are new or not, with and without an expiry', async () => {
    const session = (await readWriter()).openSession()
    await session.submit(set(key('a'), '1'))
    await session.submit(set(key('a'), '2'))
    expect(asked).toEqual(['writeAtOnce', 'writeAtOnce'])
    expect(values('a')).toEqual(['1', '2'])
    await session.submit({ ...set(key('b')), exptime: 100 })
    const [clock] = await world.database.query<{ now: number }>('SELECT UNIX_TIMESTAMP() AS now')
    expect((await world.row(key('b')))?.expire).toBeGreaterThanOrEqual((clock?.now ?? 0) + 95)
    expect((await world.row(key('b')))?.expire).toBeLessThanOrEqual((clock?.now ?? 0) + 100)
    await session.submit(touch(key('b'), 0))
    expect(asked.slice(-2)).toEqual(['lockKeys', 'write'])
  })

  it('read again where somebody flushed or changed the limits meanwhile, and are written under what is in force (R5)', async () => {
    const session = (await readWriter()).openSession()
    const generation = await world.generation()
    await world.database.query('CALL memcached.flush_namespace(1)')
    expect(await ending(session.submit(set(key('a'))))).toBe('stored')
    expect(asked).toEqual(['writeAtOnce', 'lockKeys', 'write'])
    expect(await world.row(key('a'))).toMatchObject({ generation: generation + 1, live: 1 })
    asked = []
    await world.database.query('UPDATE memcached.mc_namespaces SET default_ttl = 50 WHERE ns_id = 1')
    try {
      expect(await ending(session.submit(set(key('a'))))).toBe('stored')
      expect(asked).toEqual(['writeAtOnce', 'lockKeys', 'write'])
      expect((await world.row(key('a')))?.expire).toBeGreaterThan(0)
    } finally {
      await world.database.query('UPDATE memcached.mc_namespaces SET default_ttl = 0 WHERE ns_id = 1')
    }
  })

  it('hold the namespace until their commit: a flush comes before or after, never in between (R5)', async () => {
    const writer = await readWriter()
    const ours = `one-trip${number}/0`
    // A lane's row is waited for a second at most: on a machine that is too busy for that once more.
    await until('both to wait, the set for its lane and the flush for the set', async () => {
      const [theirs, flusher] = await Promise.all([world.database.connect(), world.database.connect()])
      try {
        await theirs.query('START TRANSACTION; SELECT seq FROM memcached.mc_lanes WHERE lane = ? FOR UPDATE', [ours])
        const stored = ending(writer.openSession().submit(set(key('a'))))
        let isStored = false
        void stored.then(() => (isStored = true))
        await until('the set to wait', async () => isStored || (await world.lockWaits()) === 1)
        const flushed = flusher.query('CALL memcached.flush_namespace(1)')
        const bothWait = await until('the flush to wait', async () =>
          isStored ? 'no' : (await world.lockWaits()) === 2 && 'yes',
        )
        await theirs.query('ROLLBACK')
        expect(await stored).toBe('stored')
        await flushed
        return bothWait === 'yes'
      } finally {
        theirs.destroy()
        flusher.destroy()
      }
    })
  })

  it('a flush that waits for its commit holds up its namespace, and no other', async () => {
    const writer = await readWriter()
    await writer.openSession().submit({ ...set(key('a')), namespaceId: 2 })
    const theirs = await world.database.connect({ database: 'memcached' })
    try {
      await theirs.query('START TRANSACTION; CALL flush_namespace(1)')
      const held = writer.openSession().submit(set(key('b')))
      await until('the write to be found waiting', () => writer.metrics.contended > 0)
      expect(await ending(writer.openSession().submit({ ...set(key('a')), namespaceId: 2 }))).toBe('stored')
      await theirs.query('COMMIT')
      expect(await ending(held)).toBe('stored')
      expect(await world.row(key('b'))).toMatchObject({ live: 1 })
    } finally {
      theirs.destroy()
    }
  })

  it.each(['never arrives', 'is executed and never answered'])(
    'happen exactly once where the only packet %s',
    async (fate) => {
      proxy = await ChaosProxy.start(world.database.port)
      const link = proxy
      let isSpoilt = false
      const writer = await readWriter({ port: link.port }, (session) => {
        const writeAtOnce = session.writeAtOnce.bind(session)
        session.writeAtOnce = async (...given) => {
          if (isSpoilt) return writeAtOnce(...given)
          isSpoilt = true
          const seen = world.log.transactions.length
          link.silence(fate === 'never arrives' ? 'toServer' : 'toClient')
          const written = writeAtOnce(...given)
          written.catch(() => {})
          if (fate !== 'never arrives') {
            await until('the COMMIT to be in the log', () => world.log.transactions.length > seen)
          }
          link.speak()
          link.cut()
          return written
        }
      })
      const session = writer.openSession()
      const told = [session.submit(set(key('k'), '1')), session.submit(set(key('k'), '2'))].map(ending)
      expect(await Promise.all(told)).toEqual(['stored', 'stored'])
      expect(await ending(session.submit(set(key('k'), '3')))).toBe('stored')
      expect(writer.metrics.recoveries).toBeGreaterThan(0)
      expect(values('k')).toEqual(['1', '2', '3'])
    },
  )

  it('are refused by the database once their client has been told that the outcome is unknown', async () => {
    const settings = { writeTimeoutMilliseconds: 700 }
    const session = (await readWriter({ settings })).openSession()
    const { program } = world.database
    // A ping may just have been on its way: then no COMMIT is.
    await until('a set to be on its way into a server that stands still', async () => {
      program.signal('SIGSTOP')
      let told: string
      try {
        await until('all its threads to stand still', () => program.standsStill)
        told = await ending(session.submit(set(key('late'), 'ours')))
      } finally {
        program.signal('SIGCONT')
      }
      // What lay in its socket has been dealt with then: the lane has a new incarnation, seen in the log.
      await until('writes to succeed', async () => (await ending(session.submit(set(key('other'))))) === 'stored')
      return told === 'outcome-unknown'
    })
    await until('its session to be gone', async () => {
      const sessions = await world.database.query("SELECT 1 FROM information_schema.processlist WHERE user = 'node'")
      return sessions.length <= 2
    })
    expect(values('late')).toEqual([])
  })
})
