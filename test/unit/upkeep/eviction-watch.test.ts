import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { ItemKey } from '../../../src/domain/key.ts'
import { Catalogue } from '../../../src/catalogue/catalogue.ts'
import type { Logger } from '../../../src/runtime/logger.ts'
import { EvictionWatch } from '../../../src/upkeep/eviction-watch.ts'

const warnings: string[] = []
const logger = {
  debug: () => {},
  info: () => {},
  warn: (_: object, text: string) => void warnings.push(text),
  error: () => {},
  child: () => logger,
} as unknown as Logger

let evictions: number
let usedChunks: number
let tell: (keys: readonly ItemKey[]) => void
let watch: EvictionWatch

beforeEach(() => {
  vi.useFakeTimers()
  warnings.length = 0
  evictions = 0
  usedChunks = 0
  const namespaces = new Catalogue()
  namespaces.reset(0, [{ id: 1, name: 'a', generation: 1, flushDue: 0 }])
  watch = new EvictionWatch({
    namespaces,
    watch: (evicted) => {
      tell = evicted
      return new Promise(() => {})
    },
    stats: async () => [
      ['STAT limit_maxbytes 104857600', `STAT evictions ${evictions}`],
      [
        'STAT 1:chunk_size 1048576',
        `STAT 1:used_chunks ${usedChunks}`,
        'STAT 1:free_chunks 0',
        'STAT total_malloced 0',
      ],
    ],
    warnPercent: 90,
    pauseMilliseconds: 1000,
    logger,
  })
  watch.start()
})
afterEach(() => {
  watch.stop()
  vi.useRealTimers()
})

async function look(): Promise<void> {
  await vi.advanceTimersByTimeAsync(1200)
}

test('a cache that fills up is warned of before it evicts, once, and again after it has been emptier', async () => {
  usedChunks = 89
  await look()
  expect(warnings).toEqual([])
  usedChunks = 90
  await look()
  await look()
  expect(warnings).toEqual(['capacity: 90 % of limit, first evictions expected'])
  usedChunks = 86
  await look()
  usedChunks = 91
  await look()
  expect(warnings.length).toBe(1)
  usedChunks = 84
  await look()
  usedChunks = 90
  await look()
  expect(warnings.length).toBe(2)
})

test('evictions are warned of once', async () => {
  evictions = 3
  await look()
  evictions = 9
  await look()
  expect(warnings).toEqual([expect.stringMatching(/no longer holds every key/)])
})

test('evictions are counted by namespace, those that memcached does not tell without one', async () => {
  tell(['a:x', 'a:y', 'unknown:z', 'plain'] as ItemKey[])
  evictions = 5
  await look()
  expect([...watch.evicted]).toEqual([['a', 2]])
  expect(watch.unattributed).toBe(3)
})

test('a memcached that was started again counts from nothing, and what was before stays counted', async () => {
  evictions = 5
  await look()
  evictions = 2
  await look()
  expect(watch.unattributed).toBe(7)
})
