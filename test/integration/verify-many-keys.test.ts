import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MemcachedConnection } from '../../src/adapters/memcached-connection.ts'
import type { ItemKey } from '../../src/domain/key.ts'
import type { VerifyProgress } from '../../src/recovery/verify.ts'
import { VerifyWorld } from '../support/verify-world.ts'

const keys = 200_000

describe('verify of many keys', () => {
  let world: VerifyWorld

  beforeAll(async () => {
    world = await VerifyWorld.start('mariadb', ['-m', '256'])
    const { generation } = await world.createNamespace(7, 'sessions')
    await world.root.query(
      `INSERT INTO mc_stored_keys (ns_id, mc_key, version, size, checksum)
       SELECT 7, CONCAT('key-', seq), (? << 33) | seq, LENGTH(CONCAT('value-', seq)), CRC32(CONCAT('value-', seq))
       FROM seq_1_to_${keys}`,
      [generation],
    )
    for (let from = 1; from <= keys; from += 1000) {
      const chunks = Array.from({ length: 1000 }, (_, i) => {
        const value = `value-${from + i}`
        return `ms sessions:key-${from + i} ${value.length} q\r\n${value}\r\n`
      })
      expect(await world.connection.bulk(chunks)).toEqual([])
    }
  })
  afterAll(async () => {
    await world?.stop()
  })

  it('keeps to constant memory, leaves the memcached to its clients, and finds the few that differ', async () => {
    await world.removeItem(7, 'key-77777')
    await world.item(7, 'key-123456', { value: 'wrong' })
    await world.item(7, 'key-0')
    const reader = await Reader.start(world.memcached.port)
    const memory = new MemorySamples()
    const started = performance.now()
    const found = await world.verifyOne('sessions', { progress: (progress) => memory.sample(progress) })
    const seconds = (performance.now() - started) / 1000
    await reader.stop()
    console.log(
      `${Math.round((2 * keys) / seconds)} keys and items/s, ${reader.reads} reads beside it, the slowest ${reader.slowestMilliseconds.toFixed(1)} ms; ` +
        `megabytes ${memory.megabytes.map((number) => number.toFixed(1)).join(' ')}`,
    )
    expect(found).toMatchObject({ keys, present: keys - 2, missing: 1, diverged: 1, orphan: 1, unsettled: 0 })
    expect(found.examples.map(({ key }) => key)).toEqual(['key-123456', 'key-77777', 'key-0'])
    expect(memory.megabytes.length).toBeGreaterThan(10)
    expect(memory.growthMegabytes).toBeLessThan(8)
    expect(reader.reads).toBeGreaterThan(50)
  })
})

const gc = (() => {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
})()

/** What is in use after a garbage collection, each 20,000 keys. */
class MemorySamples {
  readonly megabytes: number[] = []
  #next = 20_000
  #phase = 'directory'

  get growthMegabytes(): number {
    return Math.max(...this.megabytes) - (this.megabytes[0] ?? 0)
  }

  sample({ phase, seen }: VerifyProgress): void {
    if (phase !== this.#phase) this.#next = 20_000
    this.#phase = phase
    if (seen < this.#next) return
    this.#next += 20_000
    gc()
    const { heapUsed, external } = process.memoryUsage()
    this.megabytes.push((heapUsed + external) / 2 ** 20)
  }
}

/** A client of the same memcached. */
class Reader {
  reads = 0
  slowestMilliseconds = 0
  #stopping = false
  readonly #connection: MemcachedConnection
  #running: Promise<void> = Promise.resolve()

  private constructor(connection: MemcachedConnection) {
    this.#connection = connection
  }

  static async start(port: number): Promise<Reader> {
    const reader = new Reader(await MemcachedConnection.connect({ host: '127.0.0.1', port }))
    reader.#running = reader.#read()
    return reader
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await this.#running
    this.#connection.destroy()
  }

  async #read(): Promise<void> {
    while (!this.#stopping) {
      const started = performance.now()
      await new Promise<void>((resolve, reject) => {
        const key = `sessions:key-${1000 + this.reads}` as ItemKey
        this.#connection.get(key, (item, error) => (item === undefined ? reject(error ?? new Error(key)) : resolve()))
      })
      this.reads++
      this.slowestMilliseconds = Math.max(this.slowestMilliseconds, performance.now() - started)
      await delay(1)
    }
  }
}
