import type { Connection } from 'mysql2/promise'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { LaneSession } from '../../src/writer/lane-session.ts'
import { ChaosProxy } from '../support/chaos-proxy.ts'
import { engineList } from '../support/databases.ts'
import { until } from '../support/processes.ts'
import { ending, endings, flush, remove, set, touch, WritingWorld } from '../support/writing.ts'

describe.each(engineList)('with faults between a node and %s', (engine) => {
  let world: WritingWorld
  let proxy: ChaosProxy
  let holder: Connection | undefined
  let number = 0
  beforeAll(async () => {
    world = await WritingWorld.start(engine)
  })
  afterEach(async () => {
    world?.log.release()
    holder?.destroy()
    await world?.closeWriters()
    await proxy?.stop()
  })
  afterAll(async () => world?.stop())

  /** Names of its own for each test. */
  const name = (text: string): string => `${text}${number}`
  const writerBehindProxy = async (given: Parameters<WritingWorld['writer']>[1] = {}) => {
    number += 1
    proxy = await ChaosProxy.start(world.database.port)
    const writer = world.writer(name('node'), { port: proxy.port, ...given })
    await until('the lanes to be ready', () => [...writer.states.values()].every((state) => state === 'idle'))
    return writer
  }
  const values = (key: string): (string | undefined)[] => world.log.entriesOf(key).map(({ value }) => value)

  /** At which point of a batch the connection breaks, and how much of what was sent then arrives. */
  const cuts: [string, (session: LaneSession, cut: () => void) => void][] = [
    [
      'before the first packet',
      (session, cut) => {
        const lockKeys = session.lockKeys.bind(session)
        session.lockKeys = async (...given) => {
          cut()
          return lockKeys(...given)
        }
      },
    ],
    [
      'between the packets',
      (session, cut) => {
        const lockKeys = session.lockKeys.bind(session)
        session.lockKeys = async (...given) => {
          const locked = await lockKeys(...given)
          cut()
          return locked
        }
      },
    ],
    [
      'with the COMMIT on its way, which never arrives',
      (session, cut) => {
        const write = session.write.bind(session)
        session.write = async (...given) => {
          proxy.silence('toServer')
          setTimeout(() => {
            proxy.speak()
            cut()
          }, 50)
          await write(...given)
        }
      },
    ],
    [
      'with the COMMIT executed, whose answer never arrives',
      (session, cut) => {
        const write = session.write.bind(session)
        const seen = world.log.transactions.length
        session.write = async (...given) => {
          proxy.silence('toClient')
          const written = write(...given)
          written.catch(() => {})
          await until('the COMMIT to be in the log', () => world.log.transactions.length > seen)
          proxy.speak()
          cut()
          await written
        }
      },
    ],
    [
      'after the COMMIT, before it is seen in the log',
      (session, cut) => {
        const write = session.write.bind(session)
        session.write = async (...given) => {
          world.log.hold()
          await write(...given)
          cut()
          setTimeout(() => world.log.release(), 100)
        }
      },
    ],
  ]

  it.each(cuts)('a batch whose connection breaks %s happens exactly once', async (_, spoil) => {
    let spoilt = false
    const writer = await writerBehindProxy({
      onSession: (session) => {
        const setIncarnation = session.setIncarnation.bind(session)
        session.setIncarnation = async (lane, incarnation) => {
          if (lane.endsWith('/0') && !spoilt) {
            spoilt = true
            spoil(session, () => proxy.cut())
          }
          return setIncarnation(lane, incarnation)
        }
      },
    })
    for (let round = 0; round < 2; round++) {
      const session = writer.openSession()
      const outcomes = await endings([
        session.submit(set(name('k'), `${round}-1`)),
        session.submit(set(name('k'), `${round}-2`)),
        session.submit(touch(name('nothing'), 5)),
        session.submit(remove(name('gone'))),
        session.submit(set(name('k'), `${round}-3`)),
      ])
      expect(outcomes).toEqual(['stored', 'stored', 'not-found', 'not-found', 'stored'])
      await session.submit(flush(0, 2))
    }
    expect(writer.metrics.recoveries).toBeGreaterThan(0)
    expect(values(name('k'))).toEqual(['0-1', '0-2', '0-3', '1-1', '1-2', '1-3'])
    expect(world.log.entriesOf(name('gone'))).toHaveLength(2)
    expect(await world.row(name('k'))).toMatchObject({
      version: String(world.log.entriesOf(name('k')).at(-1)?.version),
    })
  })

  it.each(['ROLLBACK', 'COMMIT'])(
    'a batch left waiting for a lock on the server never comes after a later one, whether that lock ends in %s (R1)',
    async (end) => {
      let spoilt = false
      const writer = await writerBehindProxy({
        forgetful: true,
        onSession: (session) => {
          const write = session.write.bind(session)
          session.write = async (...given) => {
            if (spoilt) return write(...given)
            spoilt = true
            // In the instant between read and INSERT: what no read could show.
            holder = await world.database.connect({ database: 'memcached' })
            await holder.query(`START TRANSACTION; CALL set_key(1, '${name('c')}', 'theirs', 0)`)
            const written = write(...given)
            written.catch(() => {})
            await until('the batch to wait for the lock', async () => (await world.lockWaits()) > 0)
            proxy.cut()
            return written
          }
        },
      })
      const session = writer.openSession()
      // An `add` has to know of the row: a plain set would not wait for it.
      const added = { ...set(name('c'), 'ours'), mode: 'add' as const }
      const first = endings([session.submit(added), session.submit(set(name('d'), '1'))])
      await until('the connection to break', () => writer.metrics.recoveries > 0)
      const later = session.submit(set(name('d'), '2'))
      await holder?.query(end)
      expect(await first).toEqual([end === 'COMMIT' ? 'not-stored' : 'stored', 'stored'])
      expect(await ending(later)).toBe('stored')
      expect(values(name('d'))).toEqual(['1', '2'])
      expect(values(name('c'))).toEqual(end === 'COMMIT' ? ['theirs'] : ['ours'])
      const [last] = world.log.entriesOf(name('d')).slice(-1)
      expect(await world.row(name('d'))).toMatchObject({ version: String(last?.version) })
    },
  )

  it('neither an outcome nor a refusal is told before the followed log shows it (R2)', async () => {
    const writer = await writerBehindProxy()
    const before = world.log.transactions.length
    world.log.hold()
    const session = writer.openSession()
    let told = 0
    const promises = [
      session.submit(touch(name('absent'), 5)),
      session.submit({ ...set(name('x')), namespaceId: 77 }),
      session.submit(set(name('x'))),
    ].map(async (promise) => ending(promise).finally(() => (told += 1)))
    await until('the batch to be committed', () => world.log.transactions.length > before)
    expect(world.log.transactions.at(-1)?.lanes).toHaveLength(1)
    const committed = writer.metrics.batches
    await until('more to be committed while the log is silent', async () => {
      void ending(writer.openSession().submit(remove(name('y'))))
      return writer.metrics.batches > committed
    })
    expect(told).toBe(0)
    world.log.release()
    expect(await Promise.all(promises)).toEqual(['not-found', 'unknown-namespace', 'stored'])
  })

  it('a log that is silent too long gives outcome-unknown, and the next write is in order', async () => {
    const writer = await writerBehindProxy({ settings: { writeTimeoutMilliseconds: 700 } })
    const session = writer.openSession()
    world.log.hold()
    const startedAt = performance.now()
    expect(await ending(session.submit(set(name('u'), '1')))).toBe('outcome-unknown')
    expect(performance.now() - startedAt).toBeLessThan(2000)
    world.log.release()
    await until(
      'a write to be acknowledged again',
      async () => (await ending(session.submit(set(name('u'), '2')))) === 'stored',
    )
    expect(values(name('u'))[0]).toBe('1')
    expect(values(name('u')).at(-1)).toBe('2')
  })

  it('a stopped primary fails writes within the time, for certain where none was sent, and later ones succeed', async () => {
    const writer = await writerBehindProxy({ settings: { writeTimeoutMilliseconds: 1000 } })
    const session = writer.openSession()
    await session.submit(set(name('s'), 'before'))
    world.database.program.signal('SIGSTOP')
    await until('all its threads to stand still', () => world.database.program.standsStill)
    const answers: string[] = []
    try {
      for (let round = 0; round < 3; round++) {
        const startedAt = performance.now()
        answers.push(await ending(session.submit(set(name('s'), `stopped${round}`))))
        expect(performance.now() - startedAt).toBeLessThan(2500)
      }
    } finally {
      world.database.program.signal('SIGCONT')
    }
    // The signal may find the first one's COMMIT on its way.
    expect(['not-written', 'outcome-unknown']).toContain(answers[0])
    expect(answers.slice(1)).toEqual(['not-written', 'not-written'])
    await until('writes to succeed', async () => (await ending(session.submit(set(name('s'), 'after')))) === 'stored')
    for (const [round, told] of answers.entries()) {
      if (told === 'not-written') expect(values(name('s'))).not.toContain(`stopped${round}`)
    }
    expect(values(name('s')).at(-1)).toBe('after')
  })

  it('a write that arrives after its client was told that the outcome is unknown does not overwrite what was acknowledged since', async () => {
    let late: Promise<void> | undefined
    let otherDone: () => void = () => {}
    const other = new Promise<void>((resolve) => (otherDone = resolve))
    const writer = await writerBehindProxy({
      settings: { writeTimeoutMilliseconds: 1000 },
      onSession: (session) => {
        const write = session.write.bind(session)
        session.write = async (...given) => {
          if (late !== undefined) return write(...given)
          // On its way for so long; the transaction is open meanwhile.
          late = other.then(async () => write(...given))
          return late
        }
      },
    })
    expect(await ending(writer.openSession().submit(set(name('w'), 'early')))).toBe('outcome-unknown')
    const elsewhere = world.writer(name('other')).openSession()
    // Where rows are locked first (MySQL) it is this one that waits, or it finds no row that the early one could overwrite.
    expect(await ending(elsewhere.submit(set(name('w'), 'later')))).toBe('stored')
    otherDone()
    await late?.catch(() => {})
    expect(await ending(writer.openSession().submit(set(name('marker'))))).toBe('stored')
    await until('the marker', () => values(name('marker')).length > 0)
    expect(values(name('w'))).toEqual(['later'])
  })

  it('a primary that became read-only is left, and found again once it is writable', async () => {
    const writer = await writerBehindProxy({ settings: { writeTimeoutMilliseconds: 1500 } })
    const session = writer.openSession()
    await session.submit(set(name('r'), '1'))
    await world.database.query('SET GLOBAL read_only = 1')
    try {
      expect(await ending(session.submit(set(name('r'), '2')))).toBe('not-written')
    } finally {
      await world.database.query('SET GLOBAL read_only = 0')
    }
    await until('writes to succeed', async () => (await ending(session.submit(set(name('r'), '3')))) === 'stored')
    expect(values(name('r'))[0]).toBe('1')
    expect(values(name('r'))).not.toContain('2')
  })

  it('what waits is bounded in items and bytes: more is refused at once, and nothing of it is written', async () => {
    const writer = await writerBehindProxy({ settings: { queueItemsMax: 10, queueBytesMax: 100_000 } })
    world.log.hold()
    const session = writer.openSession()
    const accepted = Array.from({ length: 10 }, async (_, index) => session.submit(set(name(`q${index}-`))))
    expect(await ending(session.submit(set(name('over'))))).toBe('queue-full')
    world.log.release()
    await Promise.all(accepted)
    world.log.hold()
    const large = session.submit(set(name('large'), Buffer.alloc(90_000)))
    expect(await ending(session.submit(set(name('over'), Buffer.alloc(90_000))))).toBe('queue-full')
    world.log.release()
    await large
    expect(values(name('over'))).toEqual([])
    expect([writer.metrics.queuedItems, writer.metrics.queuedBytes]).toEqual([0, 0])
  })

  it('closing finishes what is there, takes nothing new, and leaves no connection', async () => {
    const writer = await writerBehindProxy()
    const session = writer.openSession()
    const last = session.submit(set(name('z')))
    const closed = writer.close()
    expect(await ending(session.submit(set(name('z'))))).toBe('not-written')
    expect(await ending(last)).toBe('stored')
    await closed
    await until('the connections to be gone', () => proxy.connections === 0)
    expect([...writer.states.values()].every((state) => state === 'stopped')).toBe(true)
  })
})
