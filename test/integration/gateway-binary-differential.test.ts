import * as fc from 'fast-check'
import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { opcode } from '../../src/wire/memcached/binary-frame.ts'
import { BinaryClient, type Frame } from '../support/binary-client.ts'
import {
  arithmeticExtras,
  encodeRequest,
  exptimeExtras,
  type Sent,
  storageExtras,
} from '../support/binary-transcripts.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { dialogue, Memcached } from '../support/memcached.ts'
import { MemoryGateway } from '../support/memory-gateway.ts'
import { type Cut, play } from '../support/transcripts.ts'

/** A request whose token is that of the last reply with one, or another, if it says so. */
interface Step extends Sent {
  readonly token: 'none' | 'last' | 'wrong' | 'strange'
}

const key = fc.constantFrom('a', 'b', 'c', 'k'.repeat(250), 'a b\r\n\0', '\xff', ':', '~a')
const value = fc.oneof(
  fc.string({ maxLength: 20, unit: 'binary-ascii' }),
  fc.constantFrom('', '0', '7', '18446744073709551615', ' 12', '12 ', 'abc', 'x'.repeat(1500), 'v'.repeat(1048600)),
)
const exptime = fc.constantFrom(0, 100, 2592000, 2592001, 0x7fffffff, 0xffffffff)
const flags = fc.constantFrom(0, 1, 0xffffffff)
const token = fc.constantFrom<Step['token'][]>('none', 'none', 'none', 'last', 'last', 'wrong', 'strange')
const delta = fc.constantFrom(0n, 1n, 7n, (1n << 64n) - 1n)

const oneOf = (...codes: number[]): fc.Arbitrary<number> => fc.constantFrom(...codes)

const storing = fc.record({
  opcode: oneOf(opcode.set, opcode.set, opcode.add, opcode.replace, opcode.setQ, opcode.addQ, opcode.replaceQ),
  key,
  value,
  extras: fc.tuple(flags, exptime).map(([f, e]) => storageExtras(f, e)),
  token,
})
const joining = fc.record({
  opcode: oneOf(opcode.append, opcode.prepend, opcode.appendQ, opcode.prependQ),
  key,
  value: value.filter((text) => text.length < 10_000),
  token,
})
const counting = fc.record({
  opcode: oneOf(opcode.increment, opcode.decrement, opcode.incrementQ, opcode.decrementQ),
  key,
  extras: fc.tuple(delta, delta, exptime).map((given) => arithmeticExtras(...given)),
  token,
})
const reading = fc.record({
  opcode: oneOf(opcode.get, opcode.getQ, opcode.getK, opcode.getKQ),
  key,
  token: fc.constant<Step['token']>('none'),
})
const touching = fc.record({
  opcode: oneOf(opcode.touch, opcode.gat, opcode.gatQ, opcode.gatK, opcode.gatKQ),
  key,
  extras: exptime.map((seconds) => exptimeExtras(seconds)),
  token,
})
const deleting = fc.record({ opcode: oneOf(opcode.delete, opcode.deleteQ), key, token })
const flushing = fc.record({ opcode: oneOf(opcode.flush, opcode.flushQ), token })
const rest = fc.record({
  opcode: oneOf(opcode.version, opcode.noop, opcode.verbosity, opcode.saslListMechanisms, 0x1f, 0x30, 0xff),
  token,
})
const lying = fc.record(
  {
    opcode: fc.nat(0x24),
    key: fc.constantFrom('', 'a', 'k'.repeat(251)),
    // As long as what follows is complete, memcached answers; and it ends with the connection.
    extras: fc.constantFrom(0, 3, 4, 8, 20).map((length) => Buffer.alloc(length)),
    token,
    bodyBytes: fc.constantFrom(0, 2, 0x7fffffff, 0xffffffff),
    magic: fc.constantFrom(0x80, 0x81, 0x67),
  },
  { requiredKeys: ['opcode', 'key', 'extras', 'token', 'bodyBytes'] },
)

const steps = fc
  .tuple(
    fc.array(
      fc.oneof(
        { weight: 6, arbitrary: storing },
        { weight: 3, arbitrary: joining },
        { weight: 4, arbitrary: counting },
        { weight: 6, arbitrary: reading },
        { weight: 3, arbitrary: touching },
        { weight: 2, arbitrary: deleting },
        flushing,
        rest,
      ),
      { minLength: 1, maxLength: 30 },
    ),
    fc.option(lying, { freq: 2 }),
  )
  .map(([well, last]): Step[] => (last === null ? well : [...well, last]))

const barrier = 0xfeedbeef

/** What a server answers to each step, tokens named by their first appearance. A noop behind each tells that nothing more comes. */
async function converse(port: number, all: readonly Step[]): Promise<string[]> {
  const client = await BinaryClient.connect(port)
  const told: string[] = []
  const tokens: bigint[] = [0n]
  let last = 0n
  const tell = (frame: Frame): void => {
    if (frame.cas !== 0n) last = frame.cas
    if (!tokens.includes(frame.cas)) tokens.push(frame.cas)
    told.push(JSON.stringify({ ...frame, cas: tokens.indexOf(frame.cas) }))
  }
  try {
    for (const step of all) {
      const cas = { none: 0n, last, wrong: last + (1n << 40n), strange: 0xfedcba9876543210n }[step.token]
      client.send({ ...step, cas, opaque: 7 }, { opcode: opcode.noop, opaque: barrier })
      // Behind the last one nothing comes, so that nobody waits for what a lying header promised.
      if (step === all.at(-1)) client.end()
      const frames = await client.readUntil(barrier)
      frames.forEach(tell)
    }
  } catch {
    told.push('closed')
  } finally {
    client.close()
  }
  return told
}

describe.runIf(existsSync(newerMemcachedPath))('a listener and memcached 1.6.45, in the binary protocol,', () => {
  let memcached: Memcached
  const gateways: MemoryGateway[] = []
  beforeAll(async () => {
    memcached = await Memcached.start(['-I', '1m'], newerMemcachedPath)
    for (const itemCasIsVersion of [true, false])
      gateways.push(await MemoryGateway.start({ node: { itemCasIsVersion } }))
  })
  afterAll(async () => {
    await memcached.stop()
    for (const gateway of gateways) await gateway.stop()
  })

  const empty = async (): Promise<void> => {
    for (const { port } of [memcached, ...gateways]) await dialogue(port, 'flush_all\r\n', /OK\r\n$/)
  }

  it('answer random dialogues byte for byte alike, tokens and all', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        await empty()
        const theirs = await converse(memcached.port, all)
        for (const { port } of gateways) expect(await converse(port, all)).toEqual(theirs)
      }),
      { numRuns: 150 },
    )
  })

  it('answer alike what comes in one packet, or cut anywhere', async () => {
    const plain = fc.oneof(storing, joining, deleting, rest).map((step) => encodeRequest({ ...step, opaque: 3 }))
    // The tokens are theirs; so only failures, and reads of nothing, are loud here.
    const quiet = plain.filter((frame) => ((frame[1] ?? 0) >= 0x11 && frame[1] !== 0x1f) || frame[1] === opcode.getQ)
    const cuts = fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 5 })
    await fc.assert(
      fc.asyncProperty(fc.array(quiet, { maxLength: 40 }), cuts, async (frames, sizes) => {
        await empty()
        const send = Buffer.concat([...frames, encodeRequest({ opcode: opcode.quit })])
        const theirs = await play(memcached.port, { send, closed: true })
        for (const { port } of gateways) {
          const ours = await play(port, { send, closed: true }, send.length > 100_000 ? undefined : cutInto(sizes))
          expect(Buffer.from(ours.reply, 'latin1').toString('hex')).toBe(
            Buffer.from(theirs.reply, 'latin1').toString('hex'),
          )
        }
      }),
      { numRuns: 100 },
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
