import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Databases, formatDatabaseAddress, parseDatabaseAddress } from '../../src/adapters/databases.ts'
import { WhiteholeError } from '../../src/domain/errors.ts'
import { formatGtid, formatPosition, type Position } from '../../src/domain/position.ts'
import { ChaosProxy } from '../support/chaos-proxy.ts'
import { Database, engineList, pairUp } from '../support/databases.ts'
import { beyond, endOfLog, Following, setSql } from '../support/following.ts'
import { createLogTables, databasesAt, follower } from '../support/log-tables.ts'
import { freePort, until } from '../support/processes.ts'

test('an address of a database is host:port or [ipv6]:port', () => {
  for (const text of ['127.0.0.1:3306', 'db1.example:1', '[::1]:65535']) {
    expect(formatDatabaseAddress(parseDatabaseAddress(text))).toBe(text)
  }
  for (const text of ['', 'db1', 'db1:', 'db1:0', 'db1:65536', '::1:3306', 'a b:1']) {
    expect(() => parseDatabaseAddress(text), text).toThrow(WhiteholeError)
  }
})

test('a log is sought often while no database has one, for writers wait for whichever comes first', async () => {
  const following = new Following(databasesAt([await freePort()]))
  try {
    // Six seconds would be seven attempts if each wait were twice as long as the one before.
    await until('fifteen attempts', () => following.disconnected.length >= 15, 6000)
  } finally {
    await following.stop()
  }
})

describe.each(engineList)('a single database of %s', (engine) => {
  let database: Database

  beforeAll(async () => {
    database = await Database.start(engine)
    await createLogTables(database)
  })
  afterAll(async () => database?.remove())

  test('is probed by an account without rights beyond those of a follower', async () => {
    const address = { host: '127.0.0.1', port: database.port }
    const probe = await databasesAt([database.port]).probe(address)
    expect(probe).toMatchObject({
      address,
      dialect: engine,
      serverId: database.serverId,
      writable: true,
      replica: false,
      clockSeconds: expect.closeTo(Date.now() / 1000, 0),
    })
    expect(probe.version).toMatch(engine === 'mariadb' ? /MariaDB/ : /^\d+\.\d+\.\d+/)
    expect(formatPosition(probe.position)).toBe(formatPosition(await endOfLog(database)))
    expect(Math.abs(probe.clockSampledAtMilliseconds - performance.now())).toBeLessThan(1000)
  })

  test('is found as primary and as source among addresses that do not answer', async () => {
    const databases = databasesAt([await freePort(), database.port])
    expect((await databases.findPrimary()).address.port).toBe(database.port)
    expect((await databases.findSource(undefined)).address.port).toBe(database.port)
  })

  test('is no primary while it is read-only, and the error gives the reason of each address', async () => {
    const dead = await freePort()
    await database.query('SET GLOBAL read_only = 1')
    try {
      const error = await databasesAt([dead, database.port])
        .findPrimary()
        .catch((reason: unknown) => reason)
      expect(error).toMatchObject({ code: 'database-away' })
      expect(String(error)).toMatch(new RegExp(`${dead}: connect ECONNREFUSED.*${database.port}: it is read-only`))
    } finally {
      await database.query('SET GLOBAL read_only = 0')
    }
  })

  test('is no source for a position of the other dialect, nor for one that it has not reached', async () => {
    const databases = databasesAt([database.port])
    const end = await endOfLog(database)
    expect((await databases.findSource(end)).address.port).toBe(database.port)
    // It is the primary: what it lacks nobody will ever have.
    await expect(databases.findSource(beyond(end, 3))).rejects.toMatchObject({ code: 'log-diverged' })
    expect(await databases.lost([end])).toBe(false)
    expect(await databases.lost([end, beyond(end, 3)])).toBe(true)
    await database.query('SET GLOBAL read_only = 1')
    try {
      // Where there may be another, a standby that has not reached it proves nothing.
      const external = databasesAt([database.port], 'external')
      await expect(external.findSource(beyond(end, 3))).rejects.toMatchObject({ code: 'database-away' })
      expect(await external.lost([beyond(end, 3)])).toBeUndefined()
    } finally {
      await database.query('SET GLOBAL read_only = 0')
    }
    const other: Position =
      engine === 'mariadb' ? { dialect: 'mysql', intervals: new Map() } : { dialect: 'mariadb', domains: new Map() }
    await expect(databases.findSource(other)).rejects.toThrow(/speaks/)
  })

  test('that stands still is given up within the time-out', async () => {
    const databases = new Databases({ ...databasesAt([database.port]).access, connectTimeoutMilliseconds: 300 })
    database.program.signal('SIGSTOP')
    await until('all its threads to stand still', () => database.program.standsStill)
    try {
      await expect(databases.findPrimary()).rejects.toMatchObject({ code: 'database-away' })
    } finally {
      database.program.signal('SIGCONT')
    }
  })

  test('stops answering in the middle of a probe: the probe ends, and its socket with it', async () => {
    const proxy = await ChaosProxy.start(database.port)
    try {
      const databases = new Databases({ ...databasesAt([proxy.port]).access, connectTimeoutMilliseconds: 500 })
      const connection = await databases.connect({ host: '127.0.0.1', port: proxy.port }, { database: '' })
      connection.destroy()
      proxy.cutAfter(400)
      await expect(databases.probe({ host: '127.0.0.1', port: proxy.port })).rejects.toThrow()
      await until('the sockets to be closed', () => proxy.connections === 0)
    } finally {
      await proxy.stop()
    }
  })
})

describe('a pair', () => {
  let primary: Database
  let standby: Database
  let following: Following | undefined

  beforeAll(async () => {
    ;[primary, standby] = await Promise.all([Database.start(), Database.start()])
    await pairUp(primary, standby)
    await createLogTables(primary)
  })
  afterAll(async () => {
    await Promise.all([primary?.remove(), standby?.remove()])
  })
  afterEach(async () => {
    await following?.stop()
    following = undefined
  })

  const pair = (): Databases => databasesAt([primary.port, standby.port], 'pair')

  test('has its writable database as primary, and its standby alone as source', async () => {
    await until('the standby to have the account', async () => (await pair().probeAll()).every(({ probe }) => probe))
    expect((await pair().findPrimary()).address.port).toBe(primary.port)
    const source = await pair().findSource(undefined)
    expect(source).toMatchObject({ address: { port: standby.port }, writable: false, replica: true })
    const external = databasesAt([primary.port, standby.port], 'external')
    expect((await external.findSource(undefined)).address.port).toBe(standby.port)
    const avoiding = await external.findSource(undefined, new Set([`127.0.0.1:${standby.port}`]))
    expect(avoiding.address.port).toBe(primary.port)
  })

  test("gives the same transactions under the same GTIDs from the standby's log as from the primary's", async () => {
    const start = await endOfLog(primary)
    await primary.query(
      `${setSql('a')}; BEGIN; ${setSql('b')}; INSERT INTO memcached.mc_lanes VALUES ('l', 1, 1); COMMIT`,
    )
    await primary.query(setSql('end'))
    await until(
      'the standby to have it',
      async () => formatPosition(await endOfLog(standby)) === formatPosition(await endOfLog(primary)),
    )
    const ofPrimary = new Following(databasesAt([primary.port]), { start })
    following = new Following(pair(), { start })
    try {
      await Promise.all([ofPrimary.key('end'), following.key('end')])
      const told = ({ chunks }: Following): unknown => chunks.map(({ gtid, entries }) => [formatGtid(gtid), entries])
      expect(told(following)).toEqual(told(ofPrimary))
      expect(following.connected[0]?.probe.address.port).toBe(standby.port)
    } finally {
      await ofPrimary.stop()
    }
  })

  test('is not followed from its primary while the standby is away, and goes on where it was once that is back', async () => {
    following = new Following(pair(), { start: await endOfLog(standby) })
    await primary.query(setSql('one'))
    await following.key('one')
    await standby.stop('SIGKILL')
    // It waits for the standby, and is in the primary's log meanwhile.
    const waiting = primary.query(setSql('two'))
    await until('a refusal of the primary', () =>
      following?.disconnected.some(({ message }) => message.includes('it is the primary')),
    )
    expect(following.keys).toEqual(['one'])
    await standby.launch()
    await standby.query('SET GLOBAL rpl_semi_sync_slave_enabled = 1; START SLAVE')
    await following.key('two')
    await waiting
    expect(following.keys).toEqual(['one', 'two'])
    expect(following.connected.every(({ probe }) => probe.address.port === standby.port)).toBe(true)
  })

  test('is followed from its primary while that acknowledges alone, and from its standby once it waits for that again', async () => {
    following = new Following(pair(), { start: await endOfLog(standby) })
    await primary.query(setSql('three'))
    await following.key('three')
    const source = (): number | undefined => following?.connected.at(-1)?.probe.address.port
    expect(source()).toBe(standby.port)
    await standby.query('STOP SLAVE')
    await primary.query('SET GLOBAL rpl_semi_sync_master_enabled = 0')
    await primary.query(setSql('four'))
    await following.key('four')
    expect(source()).toBe(primary.port)
    await standby.query('START SLAVE')
    await primary.query('SET GLOBAL rpl_semi_sync_master_enabled = 1')
    await until('the reader to be back at the standby', () => source() === standby.port)
    await primary.query(setSql('five'))
    await following.key('five')
    expect(following.keys).toEqual(['three', 'four', 'five'])
  })

  test('has the primary that is opened while it waits for a silent one', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    await primary.query('SET GLOBAL read_only = 1')
    try {
      const found = databasesAt([(silent.address() as AddressInfo).port, primary.port], 'pair').findPrimary()
      await new Promise((resolve) => setTimeout(resolve, 300))
      await primary.query('SET GLOBAL read_only = 0')
      expect((await found).address.port).toBe(primary.port)
    } finally {
      silent.close()
      await primary.query('SET GLOBAL read_only = 0')
    }
  })

  test('waits for no silent database once the epoch that voters have recorded is found', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    await primary.query(
      `CREATE TABLE memcached.mc_meta (name VARCHAR(64) PRIMARY KEY, value VARCHAR(64));
       INSERT INTO memcached.mc_meta VALUES ('epoch', '3'); GRANT SELECT ON memcached.mc_meta TO ${follower.user}@'127.0.0.1'`,
    )
    const databases = databasesAt([(silent.address() as AddressInfo).port, primary.port], 'pair')
    const quickest = async (): Promise<number> => {
      const times: number[] = []
      for (let n = 0; n < 5; n++) {
        const since = performance.now()
        expect((await databases.findPrimary()).address.port).toBe(primary.port)
        times.push(performance.now() - since)
      }
      return Math.min(...times)
    }
    try {
      expect(await quickest()).toBeGreaterThan(190)
      databases.expectEpoch(3)
      expect(await quickest()).toBeLessThan(190)
      // Then this one was replaced, and its successor is late: who wrote here would wait in vain.
      databases.expectEpoch(4)
      await expect(databases.findPrimary()).rejects.toThrow(/earlier epoch/)
    } finally {
      silent.close()
      await primary.query('DROP TABLE memcached.mc_meta')
    }
  })

  test('tells nothing of the log by a primary of an earlier epoch than voters have on their disks', async () => {
    await primary.query(
      `CREATE TABLE memcached.mc_meta (name VARCHAR(64) PRIMARY KEY, value VARCHAR(64));
       INSERT INTO memcached.mc_meta VALUES ('epoch', '3'); GRANT SELECT ON memcached.mc_meta TO ${follower.user}@'127.0.0.1'`,
    )
    try {
      const never = beyond(await endOfLog(primary), 5)
      const databases = pair()
      databases.expectEpoch(3)
      expect(await databases.lost([never])).toBe(true)
      databases.expectEpoch(4)
      expect(await databases.lost([never])).toBeUndefined()
    } finally {
      await primary.query('DROP TABLE memcached.mc_meta')
    }
  })

  test('of which both are writable has no primary', async () => {
    await standby.query('SET GLOBAL read_only = 0')
    try {
      await expect(pair().findPrimary()).rejects.toThrow(/more than one database is writable/)
    } finally {
      await standby.query('SET GLOBAL read_only = 1')
    }
  })

  test('keeps a reader whose part of the log was purged on one database going from the other that still has it', async () => {
    const start = await endOfLog(primary)
    await primary.query(setSql('x1'))
    await primary.query(setSql('x2'))
    await until(
      'the standby to have it',
      async () => formatPosition(await endOfLog(standby)) === formatPosition(await endOfLog(primary)),
    )
    await standby.query('FLUSH BINARY LOGS')
    // A file stays as long as the server believes that the former reader still reads it.
    await until('the older files to be purged', async () => {
      const files = await standby.query<{ Log_name: string }>('SHOW BINARY LOGS')
      await standby.query(`PURGE BINARY LOGS TO '${files.at(-1)?.Log_name}'`)
      return files.length === 1
    })
    following = new Following(databasesAt([primary.port, standby.port], 'external'), { start })
    await following.key('x2')
    expect(following.keys).toEqual(['x1', 'x2'])
    expect(following.connected.at(-1)?.probe.address.port).toBe(primary.port)
    await following.stop()
    following = new Following(pair(), { start })
    expect(await following.failure()).toMatchObject({ code: 'log-purged' })
    expect(String(following.error)).not.toContain(follower.password)
  })
})
