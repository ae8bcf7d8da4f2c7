import { expect, test } from 'vitest'
import { DonorPace } from '../../../src/recovery/donor-pace.ts'

/** Works for so long, and tells how long it then had to rest, in milliseconds. */
async function restAfter(pace: DonorPace, workMilliseconds: number, bytes = 0): Promise<number> {
  const begun = performance.now()
  while (performance.now() - begun < workMilliseconds);
  const worked = performance.now()
  await pace.rest(1, bytes)
  return performance.now() - worked
}

/** Clients that send so much a second. */
function clients(bytesPerSecond: number): () => number {
  return () => (performance.now() / 1000) * bytesPerSecond
}

test('a donation works a quarter of the time beside clients, and all of it where there are none', async () => {
  const busy = new DonorPace({ bytesPerSecondMax: 0, clientBytes: clients(100_000) })
  await restAfter(busy, 25)
  expect(await restAfter(busy, 25)).toBeGreaterThan(3 * 25 - 5)
  const idle = new DonorPace({ bytesPerSecondMax: 0, clientBytes: clients(1000) })
  await restAfter(idle, 25)
  expect(await restAfter(idle, 25)).toBeLessThan(25)
})

test('and never gives more than the configured rate', async () => {
  const pace = new DonorPace({ bytesPerSecondMax: 1_000_000, clientBytes: clients(0) })
  expect(await restAfter(pace, 0, 100_000)).toBeGreaterThan(90)
})
