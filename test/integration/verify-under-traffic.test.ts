import { setTimeout as delay } from 'node:timers/promises'
import type { Connection } from 'mysql2/promise'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { engineList } from '../support/databases.ts'
import { until } from '../support/processes.ts'
import { VerifyWorld } from '../support/verify-world.ts'

const keys = 400

describe.each(engineList)('verify while traffic runs, on %s', (engine) => {
  let world: VerifyWorld

  beforeAll(async () => {
    world = await VerifyWorld.start(engine)
  })
  afterAll(async () => {
    await world?.stop()
  })
  beforeEach(async () => {
    await world.clear()
    await world.createNamespace(7, 'sessions')
    for (let i = 0; i < keys; i++) await world.both(7, keyOf(i))
  })

  it('gives no false alarm, and finds what differs all the same', async () => {
    const seed = Math.floor(Math.random() * 2 ** 32)
    console.log(`seed ${seed}`)
    // Nobody writes these four.
    await world.both(7, 'quiet')
    await world.item(7, 'damaged', { value: 'wrong' })
    await world.row(7, 'damaged')
    await world.row(7, 'lost')
    await world.item(7, 'orphan')
    const traffic = await Traffic.start(world, seed)
    try {
      await traffic.flowing()
      for (let round = 0; round < 4 || traffic.writes < 200; round++) {
        const found = await world.verifyOne('sessions', { limits: { chunkRows: 50 } })
        const expected = [
          { kind: 'diverged', key: 'damaged' },
          { kind: 'missing', key: 'lost' },
          { kind: 'orphan', key: 'orphan' },
        ]
        expect(found.examples.toSorted((a, b) => (a.key < b.key ? -1 : 1))).toEqual(expected)
        expect(found).toMatchObject({ missing: 1, diverged: 1, orphan: 1, evicted: 0, unsettled: 0 })
      }
    } finally {
      await traffic.stop()
    }
    // It had to look twice.
    expect(world.log.waits).toBeGreaterThan(10)
    expect(await world.verifyOne('sessions')).toMatchObject({ missing: 1, diverged: 1, orphan: 1, unsettled: 0 })
  })

  it('gives no false alarm across flushes', async () => {
    const traffic = await Traffic.start(world, 1, { flushEvery: 40 })
    try {
      await traffic.flowing()
      for (let round = 0; round < 4 || traffic.flushes < 3; round++) {
        const found = await world.verifyOne('sessions', { limits: { chunkRows: 50 } })
        expect(found).toMatchObject({ missing: 0, diverged: 0, orphan: 0, examples: [] })
      }
    } finally {
      await traffic.stop()
    }
    expect(await world.verifyOne('sessions')).toMatchObject({ missing: 0, diverged: 0, orphan: 0, unsettled: 0 })
  })

  it('does not call a key different that is written all the time', async () => {
    const traffic = await Traffic.start(world, 2, { keys: 1 })
    try {
      await traffic.flowing()
      const found = await world.verifyOne('sessions', { limits: { rounds: 4 } })
      expect(found).toMatchObject({ missing: 0, diverged: 0, orphan: 0 })
      expect(found.present + found.unsettled).toBe(found.keys)
    } finally {
      await traffic.stop()
    }
  })
})

function keyOf(i: number): string {
  return `key${i}`
}

/**
 * Writes rows and, some milliseconds behind, in their order, the items: a node that lags. Some items come before their row is
 * visible, as they do where a commit waits between the log and the engine.
 */
class Traffic {
  writes = 0
  flushes = 0
  readonly #world: VerifyWorld
  readonly #connection: Connection
  readonly #random: () => number
  readonly #options: TrafficOptions
  readonly #behind: { at: number; apply: () => Promise<void> }[] = []
  #stopping = false
  /** Only then nothing more is to be applied. */
  #written = false
  #running: Promise<unknown> = Promise.resolve()

  private constructor(world: VerifyWorld, connection: Connection, seed: number, options: TrafficOptions) {
    this.#world = world
    this.#connection = connection
    this.#random = generator(seed)
    this.#options = options
  }

  static async start(world: VerifyWorld, seed: number, options: TrafficOptions = {}) {
    const connection = await world.database.connect({ database: 'memcached' })
    const traffic = new Traffic(world, connection, seed, options)
    world.log.move(world.database.engine, await traffic.#position())
    traffic.#running = Promise.all([traffic.#write(), traffic.#apply()])
    traffic.#running.catch(() => {})
    return traffic
  }

  async flowing(): Promise<void> {
    const from = this.writes
    await until('traffic to flow', () => this.writes > from + 20)
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await this.#running
    this.#connection.destroy()
  }

  async #write(): Promise<void> {
    try {
      while (!this.#stopping) {
        this.writes++
        if (this.#options.flushEvery !== undefined && this.writes % this.#options.flushEvery === 0) await this.#flush()
        else await this.#writeKey(keyOf(Math.floor(this.#random() * (this.#options.keys ?? keys))))
        await delay(this.#random() * 2)
      }
    } finally {
      this.#written = true
    }
  }

  async #writeKey(key: string): Promise<void> {
    const world = this.#world
    const value = `value ${this.writes}`
    const deletes = this.#random() < 0.3
    const apply = deletes ? () => world.removeItem(7, key) : () => world.item(7, key, { value })
    const early = this.#random() < 0.3 && this.#behind.length === 0
    if (early) await this.#connection.query('START TRANSACTION')
    await world.row(7, key, { value, on: this.#connection, ...(deletes ? { expireSql: '1' } : {}) })
    if (!early) return this.#later(apply)
    await apply()
    await delay(this.#random() * 20)
    await this.#connection.query('COMMIT')
    await this.#later(async () => {})
  }

  async #flush(): Promise<void> {
    this.flushes++
    const known = this.#world.namespaces.byId(7)
    if (known === undefined) return
    const generation = known.generation
    // Rows that follow are of the new generation, though this "node" has not applied the flush yet.
    await this.#connection.query('UPDATE mc_namespaces SET generation = generation + 1 WHERE ns_id = 7')
    this.#world.namespaces.put({ ...known, generation: generation + 1 })
    await this.#later(async () => {
      const reply = await this.#world.connection.request('ms ~whitehole 1 c', Buffer.from('-'))
      const now = this.#world.namespaces.byId(7)
      if (now !== undefined) this.#world.namespaces.put({ ...now, watermark: Number(/ c(\d+)/.exec(reply.line)?.[1]) })
    })
  }

  async #later(apply: () => Promise<void>): Promise<void> {
    const position = await this.#position()
    const { engine } = this.#world.database
    this.#behind.push({
      at: performance.now() + this.#random() * 15,
      apply: async () => {
        await apply()
        this.#world.log.move(engine, position)
      },
    })
  }

  async #apply(): Promise<void> {
    while (!this.#written || this.#behind.length > 0) {
      const next = this.#behind[0]
      await delay(next === undefined ? 1 : Math.max(0, next.at - performance.now()))
      await next?.apply()
      if (next !== undefined) this.#behind.shift()
    }
  }

  async #position(): Promise<string> {
    const column = this.#world.database.engine === 'mariadb' ? 'gtid_binlog_pos' : 'gtid_executed'
    const [rows] = await this.#connection.query(`SELECT @@global.${column} AS position`)
    return (rows as { position: string }[])[0]?.position ?? ''
  }
}

interface TrafficOptions {
  readonly keys?: number
  /** In writes. */
  readonly flushEvery?: number
}

/** mulberry32 */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
