import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { DeliveryQueue, type DeliveryOptions } from '../../../src/alerts/delivery-queue.ts'
import { Spool } from '../../../src/alerts/spool.ts'
import { silentLogger } from '../../../src/runtime/logger.ts'
import { until } from '../../support/processes.ts'

const folder = mkdtempSync(join(tmpdir(), 'whitehole-queue-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
let files = 0

function queueOf(deliver: (item: number) => Promise<void>, options: Partial<DeliveryOptions<number>> = {}) {
  return new DeliveryQueue<number>({
    name: 'test',
    deliver,
    itemsMax: 100,
    firstRetryMilliseconds: 1,
    retryMillisecondsMax: 4,
    giveUpMilliseconds: 60_000,
    logger: silentLogger,
    ...options,
  })
}

describe('a queue of deliveries', () => {
  test('delivers in order and tries again what failed, until it arrived', async () => {
    const arrived: number[] = []
    let tries = 0
    const queue = queueOf(async (item) => {
      tries += 1
      if (tries % 3 !== 0) throw new Error('not now')
      arrived.push(item)
    })
    for (let item = 1; item <= 5; item++) queue.add(item)
    await until('all to arrive', () => queue.counts.waiting === 0)
    expect(arrived).toEqual([1, 2, 3, 4, 5])
    expect(queue.counts).toEqual({ waiting: 0, delivered: 5, failed: 10, dropped: 0 })
  })

  test('takes what comes in the very moment in which it has become empty', async () => {
    const arrived: number[] = []
    const queue: DeliveryQueue<number> = queueOf(async (item) => {
      arrived.push(item)
      // After the queue has looked for the next one, and before it is at rest.
      if (item < 50) queueMicrotask(() => queueMicrotask(() => queueMicrotask(() => queue.add(item + 1))))
    })
    queue.add(1)
    await until('the last', () => arrived.at(-1) === 50)
  })

  test('is bounded: the oldest goes', async () => {
    let open: () => void = () => {}
    const gate = new Promise<void>((resolve) => (open = resolve))
    const arrived: number[] = []
    const queue = queueOf(
      async (item) => {
        await gate
        arrived.push(item)
      },
      { itemsMax: 3 },
    )
    for (let item = 1; item <= 10; item++) queue.add(item)
    open()
    await until('the rest to arrive', () => queue.counts.waiting === 0)
    // The first was under way when it was dropped.
    expect(arrived).toEqual([1, 8, 9, 10])
    expect(queue.counts.dropped).toBe(7)
  })

  test('gives up what nobody takes, and goes on with the next', async () => {
    let now = 0
    const arrived: number[] = []
    const queue = queueOf(
      async (item) => {
        now += 10
        if (item === 1) throw new Error('never')
        arrived.push(item)
      },
      { now: () => now, giveUpMilliseconds: 50 },
    )
    queue.add(1)
    await until('some tries', () => queue.counts.failed >= 2)
    queue.add(2)
    await until('the second to arrive', () => arrived.length === 1)
    expect(queue.counts.dropped).toBe(1)
  })

  test('leaves what waits to the next process, once and in order', async () => {
    const file = join(folder, 'spool.jsonl')
    const first = queueOf(() => Promise.reject(new Error('nobody there')), { spool: new Spool(file, silentLogger) })
    for (let item = 1; item <= 5; item++) first.add(item)
    await first.close()
    const arrived: number[] = []
    const second = queueOf(async (item) => void arrived.push(item), { spool: new Spool(file, silentLogger) })
    await until('all to arrive', () => arrived.length === 5)
    expect(arrived).toEqual([1, 2, 3, 4, 5])
    await second.close()
    const third = queueOf(async (item) => void arrived.push(item), { spool: new Spool(file, silentLogger) })
    expect(third.counts.waiting).toBe(0)
    await third.close()
  })

  test('starts with what it can read of a broken spool, and without one', async () => {
    const file = join(folder, `${files++}.jsonl`)
    writeFileSync(file, '{"since":0,"item":7}\n{"since":0,"it\nnonsense\n{"since":1,"item":8}\n')
    expect(new Spool<number>(file, silentLogger).load()).toEqual([
      { since: 0, item: 7 },
      { since: 1, item: 8 },
    ])
    expect(new Spool(join(folder, 'absent'), silentLogger).load()).toEqual([])
  })

  test('gives a delivery under way some time when it is closed', async () => {
    const arrived: number[] = []
    const queue = queueOf(async (item) => {
      await new Promise((resolve) => setTimeout(resolve, 30))
      arrived.push(item)
    })
    queue.add(1)
    queue.add(2)
    await queue.close(5000)
    expect(arrived).toEqual([1, 2])
  })
})
