import { createConnection, type Connection } from 'mysql2/promise'
import { crc32 } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Balancer, haveHaproxy } from '../support/balancer.ts'
import { managedAccounts } from '../support/managed.ts'
import { MonitoredPair, startAsStandby } from '../support/monitored-pair.ts'
import { freePort, until } from '../support/processes.ts'

/** 20 with WHITEHOLE_SQL_TAKEOVERS=20 (about three minutes). */
const takeovers = Number(process.env['WHITEHOLE_SQL_TAKEOVERS'] ?? 2)

/** Like an application with a connection: writes one value after the other, and connects anew after any error. */
class SqlClient {
  readonly acknowledged = new Map<string, string>()
  readonly #port: number
  #stopped = false
  #connection: Connection | undefined
  #broken: Promise<never> | undefined
  #errors = 0
  /** Values of the key that every write overwrites: the last that was acknowledged, and those after it whose outcome nobody knows. */
  last = { acknowledged: '', open: [] as string[] }
  readonly done: Promise<void>

  constructor(port: number) {
    this.#port = port
    this.done = this.#run()
  }

  get errors(): number {
    return this.#errors
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#connection?.destroy()
    await this.done
  }

  async #run(): Promise<void> {
    for (let n = 1; !this.#stopped; n++) {
      const value = `value ${n} ${'x'.repeat(n % 50)}`
      this.last.open.push(value)
      try {
        await this.#set(`key${n}`, value)
        this.acknowledged.set(`key${n}`, value)
        await this.#set('last', value)
        this.last = { acknowledged: value, open: [] }
      } catch {
        this.#errors += 1
        this.#connection?.destroy()
        this.#connection = undefined
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
  }

  async #set(key: string, value: string): Promise<void> {
    const { user, password } = managedAccounts.application
    if (this.#connection === undefined) {
      const connection = await createConnection({
        host: '127.0.0.1',
        port: this.#port,
        user,
        password,
        database: 'memcached',
        connectTimeout: 2000,
      })
      connection.on('error', () => {})
      // mysql2 leaves a question open whose connection was destroyed on this side.
      this.#broken = new Promise<never>((_, reject) => {
        connection.once('end', () => reject(new Error('the connection ended')))
      })
      this.#broken.catch(() => {})
      this.#connection = connection
    }
    const asked = this.#connection.query("CALL set_key(ns('default'), ?, ?, 0)", [key, value])
    asked.catch(() => {})
    await Promise.race([asked, this.#broken])
  }
}

describe.skipIf(!haveHaproxy)('SQL clients behind HAProxy', () => {
  let world: MonitoredPair
  let balancer: Balancer

  beforeAll(async () => {
    world = await MonitoredPair.start()
    await world.paired()
    const { first, second } = world.pair
    balancer = await Balancer.start({
      databases: [first.database.port, second.database.port],
      // Two of the three monitors are down.
      monitors: [await freePort(), world.port, await freePort()],
    })
  })

  afterAll(async () => {
    await balancer?.remove()
    await world?.remove()
  })

  const whoAnswers = async (port: number): Promise<number> => {
    const { user, password } = managedAccounts.application
    const connection = await createConnection({ host: '127.0.0.1', port, user, password, connectTimeout: 2000 })
    try {
      const [rows] = await connection.query('SELECT @@port AS port')
      return Number((rows as { port: number }[])[0]?.port)
    } finally {
      connection.destroy()
    }
  }

  test('find the primary on one port and the standby on the other', async () => {
    await until('the primary', async () => (await whoAnswers(balancer.ports.writers)) === world.primary.database.port)
    await until('the standby', async () => (await whoAnswers(balancer.ports.readers)) === world.standby.database.port)
  })

  test(
    `survive ${takeovers} takeovers with nothing but errors or truth`,
    { timeout: 60_000 + takeovers * 20_000 },
    async () => {
      const client = new SqlClient(balancer.ports.writers)
      try {
        for (let n = 1; n <= takeovers; n++) {
          await world.paired()
          const before = client.acknowledged.size
          await until('writes to go through', () => client.acknowledged.size > before + 20)
          const { primary } = world
          const epoch = world.monitor.record?.epoch ?? 0
          // Killed, or still there and silent: then HAProxy must cut who waits at it.
          if (n % 2 === 1) await primary.database.stop('SIGKILL')
          else primary.database.program.signal('SIGSTOP')
          await world.takenOver(epoch)
          const after = client.acknowledged.size
          await until('writes to go through again', () => client.acknowledged.size > after + 20)
          if (n % 2 === 1) await startAsStandby(primary)
          else primary.database.program.signal('SIGCONT')
        }
        await world.paired()
      } finally {
        await client.stop()
      }
      const rows = await world.primary.database.query<{ name: string; size: number; checksum: number }>(
        'SELECT CAST(mc_key AS CHAR) AS name, size, checksum FROM memcached.mc_stored_keys',
      )
      const stored = new Map(rows.map(({ name, size, checksum }) => [name, `${size} ${checksum}`]))
      const mark = (value: string): string => `${Buffer.byteLength(value)} ${crc32(value)}`
      const lost = [...client.acknowledged].filter(([key, value]) => stored.get(key) !== mark(value))
      expect(lost).toEqual([])
      expect([client.last.acknowledged, ...client.last.open].map(mark)).toContain(stored.get('last'))
      expect(client.errors).toBeGreaterThan(0)
    },
  )

  test('get no primary from a monitor that knows none, and are told at once', async () => {
    world.monitor.stop()
    const lonely = await Balancer.start({
      databases: [world.pair.first.database.port, world.pair.second.database.port],
      monitors: [await freePort(), await freePort(), await freePort()],
    })
    try {
      await until('the writers to be refused', () =>
        whoAnswers(lonely.ports.writers).then(
          () => false,
          () => true,
        ),
      )
    } finally {
      await lonely.remove()
    }
  })
})
