import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { failures, opcode } from '../../../../src/wire/memcached/binary-frame.ts'
import { BinaryParser } from '../../../../src/wire/memcached/binary-parser.ts'
import { itemBytesMaxDefault } from '../../../../src/wire/memcached/item-size.ts'
import type { Request } from '../../../../src/wire/memcached/request.ts'
import type { RequestLimits } from '../../../../src/wire/memcached/request-source.ts'
import {
  arithmeticExtras,
  encodeRequest,
  exptimeExtras,
  type Sent,
  storageExtras,
} from '../../../support/binary-transcripts.ts'

const bound: RequestLimits = { itemBytesMax: itemBytesMaxDefault, keysMax: 10_000, prefixedKeys: false }
const prefixed: RequestLimits = { ...bound, prefixedKeys: true }

function parse(pieces: readonly Buffer[], limits = bound): Request[] {
  const parser = new BinaryParser(limits)
  const requests: Request[] = []
  for (const piece of pieces) {
    parser.feed(piece)
    for (let request = parser.next(); request !== undefined; request = parser.next()) requests.push(request)
  }
  return requests
}

/** All of them as text, which compares faster. */
function told(requests: readonly Request[]): string {
  return JSON.stringify(requests, (_name, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value))
}

function parseOne(sent: Sent, limits = bound): Request | undefined {
  return parse([encodeRequest(sent)], limits)[0]
}

function kinds(pieces: readonly Buffer[], limits = bound): string[] {
  return parse(pieces, limits).map((request) => (request.kind === 'refused' ? request.line : request.kind))
}

const set = (key: string, value: string, more: Partial<Sent> = {}): Buffer =>
  encodeRequest({ opcode: opcode.set, key, value, extras: storageExtras(5, 100), ...more })
const noop = encodeRequest({ opcode: opcode.noop, opaque: 9 })
const invalid = failures['invalid-arguments'].text
const unknown = failures['unknown-command'].text

const dialogue = Buffer.concat([
  noop,
  set('a', 'hello'),
  set('b', ''),
  encodeRequest({ opcode: opcode.getKQ, key: 'k'.repeat(250), opaque: 0xffffffff }),
  encodeRequest({ opcode: 0x1f, key: 'junk', value: 'thrown away', extras: Buffer.alloc(3) }),
  encodeRequest({ opcode: opcode.increment, key: 'n', extras: arithmeticExtras(1n, 2n, 3), cas: 1n << 63n }),
  set('big', 'v'.repeat(300)),
  encodeRequest({ opcode: opcode.append, key: 'a', value: '\0\r\n' }),
  encodeRequest({ opcode: opcode.gat, key: 'a', extras: exptimeExtras(10), value: 'ignored' }),
  encodeRequest({ opcode: opcode.stat, key: 'settings' }),
  encodeRequest({ opcode: opcode.flush, extras: exptimeExtras(10) }),
  encodeRequest({ opcode: opcode.quitQ }),
])

describe('the binary parser', () => {
  it('finds the same requests wherever the bytes are split', () => {
    const requests = parse([dialogue])
    const whole = told(requests)
    expect(requests.map(({ kind }) => kind)).toEqual([
      'noop', 'storage', 'storage', 'retrieval', 'refused', 'arithmetic', 'storage', 'storage', 'retrieval', 'stats', 'flush', 'quit',
    ]) // prettier-ignore
    for (let at = 0; at <= dialogue.length; at++) {
      expect(told(parse([dialogue.subarray(0, at), dialogue.subarray(at)]))).toBe(whole)
    }
    expect(told(parse(Array.from(dialogue, (_byte, at) => dialogue.subarray(at, at + 1))))).toBe(whole)
  })

  it('reads flags, expiry, token, opaque, and a value that is its own', () => {
    const bytes = set('a', 'hello', { cas: 77n, opaque: 3 })
    const [request] = parse([bytes])
    bytes.fill(0)
    expect(request).toEqual({
      kind: 'storage',
      mode: 'set',
      key: 'a',
      flags: 5,
      exptime: 100,
      compare: 77n,
      vivify: undefined,
      staleOnMismatch: false,
      value: Buffer.from('hello'),
      form: { dialect: 'binary', opcode: opcode.set, opaque: 3, quiet: false, echoesKey: false },
    })
  })

  it('lets add and replace with a token compare and set', () => {
    const modes = [opcode.add, opcode.replace].flatMap((code) =>
      [0n, 5n].map((cas) => {
        const request = parseOne({ opcode: code, key: 'a', extras: storageExtras(0, 0), cas })
        return request?.kind === 'storage' ? request.mode : undefined
      }),
    )
    expect(modes).toEqual(['add', 'set', 'replace', 'set'])
  })

  it('creates no counter where the expiry is all ones, and takes other large ones for the last second of the log', () => {
    const create = [0, 100, 0x80000000, 0xffffffff].map((exptime) => {
      const request = parseOne({ opcode: opcode.increment, key: 'n', extras: arithmeticExtras(1n, 7n, exptime) })
      return request?.kind === 'arithmetic' ? request.create : 'no counter'
    })
    expect(create).toEqual([
      { initial: 7n, exptime: 0 },
      { initial: 7n, exptime: 100 },
      { initial: 7n, exptime: 2 ** 31 - 1 },
      undefined,
    ])
  })

  it('swallows a value over the item limit, and only a set takes the old one along', () => {
    const value = 'v'.repeat(itemBytesMaxDefault)
    const requests = [opcode.set, opcode.setQ, opcode.add, opcode.append].map((code) => {
      const extras = code === opcode.append ? Buffer.alloc(0) : storageExtras(0, 0)
      const [request, next] = parse([encodeRequest({ opcode: code, key: 'a', value, extras }), noop])
      return [request?.kind, request?.kind === 'oversize' && request.takesOldAlong, next?.kind]
    })
    expect(requests).toEqual([
      ['oversize', true, 'noop'],
      ['oversize', true, 'noop'],
      ['oversize', false, 'noop'],
      ['oversize', false, 'noop'],
    ])
  })

  it('needs no more than a header to refuse lengths that can not be, and reads nothing behind it', () => {
    const header = (more: Partial<Sent>): Buffer => encodeRequest({ opcode: opcode.set, ...more }).subarray(0, 24)
    const ends = (more: Partial<Sent>): string[] => kinds([header(more), noop])
    expect(ends({ keyBytes: 3, bodyBytes: 2 })).toEqual([unknown, 'quit'])
    expect(ends({ keyBytes: 3, extrasBytes: 8, bodyBytes: 10 })).toEqual([unknown, 'quit'])
    expect(ends({ keyBytes: 3, extrasBytes: 8, bodyBytes: 2 ** 30 + 1 })).toEqual([invalid, 'quit'])
    expect(ends({ keyBytes: 3, extrasBytes: 8, bodyBytes: 2 ** 32 - 1 })).toEqual([invalid, 'quit'])
    expect(ends({ keyBytes: 251, extrasBytes: 8, bodyBytes: 300 })).toEqual([invalid, 'quit'])
    expect(ends({ keyBytes: 65535, extrasBytes: 255, bodyBytes: 2 ** 29 })).toEqual([invalid, 'quit'])
    expect(ends({ opcode: opcode.get, keyBytes: 1, bodyBytes: 2 })).toEqual([invalid, 'quit'])
  })

  it('ends without a word at anything but a request, at its first byte', () => {
    expect(kinds([noop, Buffer.from('g')])).toEqual(['noop', 'quit'])
    expect(kinds([noop, Buffer.from([0x81])])).toEqual(['noop', 'quit'])
  })

  it('reserves no memory for a value before the header is complete and the limit is kept', () => {
    const parser = new BinaryParser(bound)
    const before = process.memoryUsage().arrayBuffers
    for (let n = 0; n < 100; n++) {
      parser.feed(set('a', '', { bodyBytes: 2 ** 30 }).subarray(0, 33))
      expect(parser.next()?.kind).toBe(n === 0 ? 'oversize' : undefined)
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024)
  })

  it('counts a key behind the name of its namespace', () => {
    const get = (key: string): string[] => kinds([encodeRequest({ opcode: opcode.get, key }), noop], prefixed)
    expect(get(`${'n'.repeat(64)}:${'k'.repeat(250)}`)).toEqual(['retrieval', 'noop'])
    expect(get(`n:${'k'.repeat(251)}`)).toEqual([invalid, 'quit'])
    expect(get('n:')).toEqual([invalid, 'quit'])
    expect(get('k'.repeat(250))).toEqual(['retrieval', 'noop'])
    expect(get('k'.repeat(251))).toEqual([invalid, 'quit'])
  })

  it('knows when a request has begun and not ended', () => {
    const parser = new BinaryParser(bound)
    const bytes = Buffer.concat([set('a', 'hi'), encodeRequest({ opcode: 0x1f, value: 'abc' })])
    const states = Array.from(bytes, (_byte, at) => {
      parser.feed(bytes.subarray(at, at + 1))
      while (parser.next() !== undefined);
      return parser.midRequest
    })
    const between = states.flatMap((mid, at) => (mid ? [] : [at + 1]))
    expect(between).toEqual([24 + 8 + 1 + 2, bytes.length])
  })

  it('survives any bytes, and splits show never', () => {
    const field = (max: number): fc.Arbitrary<number> =>
      fc.oneof(fc.constantFrom(0, 1, 4, 8, 20, 250, 251, max), fc.nat(max))
    const frame = fc
      .record({
        opcode: fc.oneof(fc.nat(0x26), fc.nat(255)),
        key: fc.string({ maxLength: 6 }),
        value: fc.string({ maxLength: 30, unit: 'binary-ascii' }),
        extras: fc.constantFrom(0, 4, 8, 20, 3).map((length) => Buffer.alloc(length)),
        opaque: fc.nat(0xffffffff),
        cas: fc.bigInt(0n, (1n << 64n) - 1n),
      })
      .chain((sent) =>
        fc
          .option(
            fc.record(
              { keyBytes: field(65535), extrasBytes: field(255), bodyBytes: field(0xffffffff), magic: field(255) },
              { requiredKeys: [] },
            ),
            { freq: 4, nil: {} },
          )
          .map((lies) => encodeRequest({ ...sent, ...lies })),
      )
    const bytes = fc.array(frame, { maxLength: 12 }).map((frames) => Buffer.concat(frames))
    const cuts = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(bytes, cuts, (all, sizes) => {
        const pieces: Buffer[] = []
        for (let at = 0, n = 0; at < all.length; n++) {
          const size = sizes[n % sizes.length] ?? 1
          pieces.push(all.subarray(at, at + size))
          at += size
        }
        expect(told(parse(pieces))).toBe(told(parse([all])))
      }),
      { numRuns: 2000 },
    )
  })
})
