import * as fc from 'fast-check'
import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { converse } from '../support/converse.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { dialogue, Memcached } from '../support/memcached.ts'
import { MemoryGateway } from '../support/memory-gateway.ts'
import { dialogues, expiringDialogues, reader, sizedDialogue, sizes } from '../support/random-dialogues.ts'
import { byteByByte } from '../support/transcripts.ts'

describe.runIf(existsSync(newerMemcachedPath))('a listener and memcached 1.6.45', () => {
  let memcached: Memcached
  beforeAll(async () => {
    memcached = await Memcached.start(['-I', '1m'], newerMemcachedPath)
  })
  afterAll(() => memcached.stop())

  it.each([
    { itemCasIsVersion: true, cuts: 'whole' },
    { itemCasIsVersion: false, cuts: 'byte by byte' },
  ])('answer random dialogues byte for byte alike, $cuts', async ({ itemCasIsVersion, cuts }) => {
    const gateway = await MemoryGateway.start({ node: { itemCasIsVersion } })
    const cut = cuts === 'whole' ? (bytes: Buffer) => [bytes] : byteByByte
    try {
      await fc.assert(
        fc.asyncProperty(dialogues, async (commands) => {
          for (const port of [memcached.port, gateway.port]) await dialogue(port, 'flush_all\r\n', /OK\r\n$/)
          const theirs = await converse(memcached.port, commands, (bytes) => [bytes])
          const ours = await converse(gateway.port, commands, cut)
          expect(ours).toEqual(theirs)
        }),
        { numRuns: cuts === 'whole' ? 1000 : 150 },
      )
    } finally {
      await gateway.stop()
    }
  })

  it('take and refuse values about the item limit alike', async () => {
    const gateway = await MemoryGateway.start()
    try {
      await fc.assert(
        fc.asyncProperty(sizes, async (given) => {
          const commands = sizedDialogue(given)
          const theirs = await converse(memcached.port, commands, (bytes) => [bytes])
          const ours = await converse(gateway.port, commands, (bytes) => [bytes])
          expect(ours.map(shortened)).toEqual(theirs.map(shortened))
        }),
        { numRuns: 40 },
      )
    } finally {
      await gateway.stop()
    }
  })

  it('forget what lives shortly alike', async () => {
    const gateway = await MemoryGateway.start({ node: { itemCasIsVersion: true } })
    const seed = Math.floor(Math.random() * 2 ** 31)
    const [commands = []] = fc.sample(expiringDialogues, { numRuns: 1, seed })
    const ports = [memcached.port, gateway.port]
    const results: string[][] = []
    try {
      for (const port of ports) await dialogue(port, 'flush_all\r\n', /OK\r\n$/)
      for (const port of ports) await converse(port, commands, (bytes) => [bytes])
      // The longest of the short times is a second, and clocks count whole ones.
      await new Promise((resolve) => setTimeout(resolve, 2200))
      for (const port of ports) results.push(await converse(port, reader, (bytes) => [bytes]))
    } finally {
      await gateway.stop()
    }
    expect(results[1], `seed ${seed}`).toEqual(results[0])
    const misses = results[0]?.filter((reply) => reply.startsWith('END')).length ?? 0
    expect(misses).toBeGreaterThan(5)
    expect(misses).toBeLessThan(reader.length - 5)
  })
})

/** A difference of megabytes would not be readable. */
function shortened(reply: string): string {
  return reply.replace(/v{100,}/g, (run) => `{v*${run.length}}`)
}
