import { afterEach, expect, test } from 'vitest'
import { watchEvictions } from '../../src/adapters/memcached-watch.ts'
import type { ItemKey } from '../../src/domain/key.ts'
import { memcachedPaths } from '../support/applied-memcached.ts'
import { dialogue, Memcached } from '../support/memcached.ts'
import { until } from '../support/processes.ts'

let memcached: Memcached | undefined
const abort = new AbortController()
afterEach(async () => {
  abort.abort()
  await memcached?.stop()
})

test.each(memcachedPaths)('F27: %s tells what it evicts, also keys of odd bytes', async (path) => {
  memcached = await Memcached.start(['-m', '4', '-I', '1m'], path)
  const { port } = memcached
  const watching = new AbortController()
  const seen: ItemKey[] = []
  const ended = watchEvictions({ host: '127.0.0.1', port }, (keys) => seen.push(...keys), watching.signal)
  ended.catch(() => {})
  await until('the watch', async () => /log_watchers 1/.test(await dialogue(port, 'stats\r\n', /END\r\n$/)))
  const body = 'x'.repeat(50_000)
  const odd = Buffer.from('a:é\u0001').toString('base64')
  await dialogue(port, `ms ${odd} ${body.length} b\r\n${body}\r\n`, /HD\r\n$/)
  for (let n = 0; n < 150; n++) await dialogue(port, `set a:k${n} 0 0 ${body.length}\r\n${body}\r\n`, /STORED\r\n$/)
  await until('the first ones', () => seen.includes('a:k0' as ItemKey))
  expect(seen).toContain(Buffer.from('a:é\u0001').toString('latin1'))
  await memcached.stop()
  await expect(ended).rejects.toMatchObject({ code: 'memcached-away' })
})
