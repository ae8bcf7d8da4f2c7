import * as fc from 'fast-check'
import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newerMemcachedPath } from '../support/databases.ts'
import { dialogue, Memcached } from '../support/memcached.ts'
import { MemoryGateway } from '../support/memory-gateway.ts'
import { type Cut, play } from '../support/transcripts.ts'

const key = fc.constantFrom(
  'a',
  'b',
  'c',
  'noreply',
  'k'.repeat(250),
  'k'.repeat(251),
  'a\tb',
  '\x01',
  '\xff',
  ':',
  '~a',
)
const exptime = fc.constantFrom('0', '100', '-1', '2592000', '2592001', '99999999999', 'abc', '', '1x')
const flags = fc.constantFrom('0', '1', '4294967295', '4294967296', '-1', 'abc')
const tail = fc.constantFrom('', '', '', ' noreply', ' ', ' junk')
const value = fc.oneof(
  fc.string({ maxLength: 20, unit: 'binary-ascii' }),
  fc.constantFrom('', '\r\n', 'get a\r\n', 'x'.repeat(1500)),
)
/** How far the announced length is from the real one. */
const skew = fc.constantFrom(0, 0, 0, 0, 0, 0, 1, -1, 3)

const command = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(key, flags, exptime, value, skew, tail).map(([k, f, e, v, s, t]) => {
      const length = Math.max(0, v.length + s)
      return `set ${k} ${f} ${e} ${length}${t}\r\n${v}\r\n`
    }),
  },
  {
    weight: 6,
    arbitrary: fc
      .array(
        key.filter((k) => k.length <= 250),
        { minLength: 1, maxLength: 4 },
      )
      .map((keys) => `get ${keys.join(' ')}\r\n`),
  },
  fc
    .tuple(
      exptime,
      fc.array(
        key.filter((k) => k.length <= 250),
        { maxLength: 3 },
      ),
    )
    .map(([e, keys]) => `gat ${[e, ...keys].join(' ')}\r\n`),
  fc.tuple(key, fc.constantFrom('', '', ' noreply')).map(([k, t]) => `delete ${k}${t}\r\n`),
  fc.tuple(key, exptime, tail).map(([k, e, t]) => `touch ${k} ${e}${t}\r\n`),
  fc.constantFrom(
    'flush_all\r\n',
    'flush_all noreply\r\n',
    'flush_all abc\r\n',
    'mn\r\n',
    'verbosity 1\r\n',
    'foo\r\n',
    '\r\n',
    'ERROR\r\n',
    'get\r\n',
    'a\r\n',
    'gets zzz\r\n',
  ),
)

/** Ends in lines: memcached forgets its last replies where the connection ends within a body. */
const dialogues = fc
  .array(command, { minLength: 1, maxLength: 30 })
  .map((commands) => `${commands.join('')}\r\nfoo\r\nmn\r\n`)

describe.runIf(existsSync(newerMemcachedPath))('a listener and memcached 1.6.45', () => {
  let memcached: Memcached
  let gateway: MemoryGateway
  beforeAll(async () => {
    memcached = await Memcached.start(['-I', '1m'], newerMemcachedPath)
    gateway = await MemoryGateway.start()
  })
  afterAll(async () => {
    await memcached.stop()
    await gateway.stop()
  })

  it('answer random dialogues byte for byte alike, however they are cut', async () => {
    const cuts = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 5 })
    await fc.assert(
      fc.asyncProperty(dialogues, cuts, async (text, sizes) => {
        const send = Buffer.from(text, 'latin1')
        for (const port of [memcached.port, gateway.port]) await dialogue(port, 'flush_all\r\n', /OK\r\n$/)
        const theirs = await play(memcached.port, { send, closed: false })
        const ours = await play(gateway.port, { send, closed: false }, cutInto(sizes))
        expect(ours.reply).toBe(theirs.reply)
      }),
      { numRuns: 150 },
    )
  })
})

function cutInto(sizes: readonly number[]): Cut {
  return (bytes) => {
    const pieces: Buffer[] = []
    for (let at = 0, index = 0; at < bytes.length; index++) {
      const size = sizes[index % sizes.length] ?? 1
      pieces.push(bytes.subarray(at, at + size))
      at += size
    }
    return pieces
  }
}
