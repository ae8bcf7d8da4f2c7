import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { itemBytesMaxDefault } from '../../../../src/wire/memcached/item-size.ts'
import type { Request } from '../../../../src/wire/memcached/request.ts'
import { RequestParser } from '../../../../src/wire/memcached/request-parser.ts'
import type { RequestLimits } from '../../../../src/wire/memcached/request-source.ts'

const bound: RequestLimits = { itemBytesMax: itemBytesMaxDefault, keysMax: 10_000, prefixedKeys: false }

function parse(pieces: readonly (string | Buffer)[], limits = bound): Request[] {
  const parser = new RequestParser(limits)
  const requests: Request[] = []
  for (const piece of pieces) {
    parser.feed(typeof piece === 'string' ? Buffer.from(piece, 'latin1') : piece)
    for (let request = parser.next(); request !== undefined; request = parser.next()) requests.push(request)
  }
  return requests
}

function kinds(text: string, limits = bound): string[] {
  return parse([text], limits).map((request) => (request.kind === 'refused' ? request.line : request.kind))
}

const badFormat = 'CLIENT_ERROR bad command line format'

const dialogue = [
  'get a\r\nset a 1 0 5\r\nhe\r\no\r\n gets b  c\n',
  'gat 10 a b\r\nset b 0 0 3 noreply\r\nabcd\r\n',
  `set ${'k'.repeat(251)} 0 0 8\r\nget evil\r\n`,
  `set big 0 0 1048576\r\n${'v'.repeat(3000)}`,
].join('')
const rest = `${'v'.repeat(1_048_576 - 3000)}\r\ndelete a 0\r\ntouch a -1\r\nflush_all 5 noreply\r\nmn\r\n\r\nstats\r\nversion\r\nquit\r\nget a\r\n`

describe('the request parser', () => {
  it('reads each kind of request', () => {
    expect(kinds(dialogue + rest)).toEqual([
      'retrieval',
      'storage',
      'ERROR',
      'retrieval',
      'CLIENT_ERROR bad data chunk',
      badFormat,
      badFormat,
      'oversize',
      'deletion',
      'touch',
      'flush',
      'noop',
      badFormat,
      'stats',
      'version',
      'quit',
    ])
  })

  it('gives the same requests wherever the bytes are cut once', () => {
    const expected = parse([dialogue])
    for (let cut = 1; cut < dialogue.length - 2900; cut++) {
      expect(parse([dialogue.slice(0, cut), dialogue.slice(cut)])).toEqual(expected)
    }
  })

  it('gives the same requests byte by byte', () => {
    expect(parse(dialogue.split(''))).toEqual(parse([dialogue]))
  })

  it('gives the same requests for any bytes, cut anyhow', () => {
    const word = fc.constantFrom(
      'get',
      'set',
      'gets',
      'a',
      'b',
      ' ',
      ' ',
      '0',
      '1',
      '3',
      '\r\n',
      '\r\n',
      '\n',
      'noreply',
      '\0',
      'ms',
      '-1',
      'HTTP/1',
    )
    const bytes = fc.array(
      fc.oneof({ weight: 8, arbitrary: word }, { weight: 1, arbitrary: fc.string({ maxLength: 5 }) }),
      { maxLength: 80 },
    )
    fc.assert(
      fc.property(bytes, fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 6 }), (words, sizes) => {
        const text = words.join('')
        const pieces: string[] = []
        for (let at = 0, index = 0; at < text.length; index++) {
          const size = sizes[index % sizes.length] ?? 1
          pieces.push(text.slice(at, at + size))
          at += size
        }
        expect(parse(pieces)).toEqual(parse([text]))
      }),
      { numRuns: 500 },
    )
  })

  it('may be asked for a part of what it was fed', () => {
    const parser = new RequestParser(bound)
    parser.feed(Buffer.from('get a\r\nget b\r\nge'))
    expect(parser.next()).toMatchObject({ keys: ['a'] })
    parser.feed(Buffer.from('t c\r\n'))
    expect(parser.next()).toMatchObject({ keys: ['b'] })
    expect(parser.next()).toMatchObject({ keys: ['c'] })
    expect(parser.next()).toBeUndefined()
  })

  it('keeps a body apart from the bytes that it came in', () => {
    const chunk = Buffer.from('set a 0 0 5\r\nhello\r\n')
    const [request] = parse([chunk])
    chunk.fill(0)
    expect(request).toMatchObject({ value: Buffer.from('hello') })
  })

  it('takes keys of any byte but blank, line feed and a last carriage return', () => {
    for (let byte = 0; byte < 256; byte++) {
      if (byte === 0x20 || byte === 0x0a) continue
      const key = `a${String.fromCharCode(byte)}b`
      expect(parse([`get ${key}\r\n`])).toMatchObject([{ kind: 'retrieval', keys: [key] }])
    }
  })

  it('says that a request is under way only within one', () => {
    const parser = new RequestParser(bound)
    const states = ['g', 'et a\r\n', 'set a 0 0 1\r\n', 'x\r', '\n', 'set a x 0 2\r\n', 'ab\r\n'].map((piece) => {
      parser.feed(Buffer.from(piece))
      while (parser.next() !== undefined);
      return parser.midRequest
    })
    expect(states).toEqual([true, false, true, true, false, true, false])
  })

  it('takes the first byte of the binary protocol for any other once a connection speaks text', () => {
    expect(kinds('get a\r\n\x80\r\n')).toEqual(['retrieval', badFormat])
  })

  it('ends, without a word, at a line that is too long for anything but keys', () => {
    expect(kinds(`set ${'a'.repeat(2045)}`)).toEqual(['quit'])
    expect(kinds(`set ${'a'.repeat(2045)}\r\nget a\r\n`)).toEqual(['quit'])
    expect(kinds(`set ${'a'.repeat(2043)}\r\nget a\r\n`)).toEqual([badFormat, 'retrieval'])
  })

  it('takes a megabyte of keys, and refuses more with a reason', () => {
    const keys = (count: number): string => `get${' abcdefghi'.repeat(count)}`
    const limits = { ...bound, keysMax: 1_000_000 }
    expect(parse([`${keys(104_856)}\r\n`], limits)[0]).toMatchObject({ kind: 'retrieval' })
    expect(parse([keys(104_858)], limits)).toEqual([{ kind: 'quit', line: 'CLIENT_ERROR line too long' }])
  })

  it('takes as many keys as allowed, and stays usable beyond', () => {
    const keys = (count: number): string => Array.from({ length: count }, (_key, index) => `k${index}`).join(' ')
    expect(kinds(`get ${keys(10_000)}\r\ngets ${keys(10_001)}\r\nmn\r\n`)).toEqual([
      'retrieval',
      'CLIENT_ERROR too many keys: at most 10000',
      'noop',
    ])
  })

  it('reads a line of a megabyte byte by byte in about the time that it takes at once', () => {
    const line = Buffer.from(`get${' abcdefghi'.repeat(100_000)}\r\n`)
    const parser = new RequestParser({ ...bound, keysMax: 1_000_000 })
    const started = performance.now()
    let requests = 0
    for (let at = 0; at < line.length; at++) {
      parser.feed(line.subarray(at, at + 1))
      if (parser.next() !== undefined) requests++
    }
    expect(requests).toBe(1)
    // Quadratic, it would be minutes.
    expect(performance.now() - started).toBeLessThan(10_000)
  })

  describe('on a key-prefix listener', () => {
    const prefixed = { ...bound, prefixedKeys: true }

    it('counts the key behind the colon alone', () => {
      const name = 'n'.repeat(64)
      expect(kinds(`get ${name}:${'k'.repeat(250)}\r\n`, prefixed)).toEqual(['retrieval'])
      expect(kinds(`get ${name}:${'k'.repeat(251)}\r\n`, prefixed)).toEqual([badFormat])
      expect(kinds(`get a:b:c\r\nget a:\r\n`, prefixed)).toEqual(['retrieval', badFormat])
    })

    it('weighs an item by the key behind the colon', () => {
      const body = 'v'.repeat(1_048_516)
      expect(kinds(`set sessions:k 0 0 1048516\r\n${body}\r\n`, prefixed)).toEqual(['storage'])
      expect(kinds(`set sessions:kk 0 0 1048516\r\n${body}\r\n`, prefixed)).toEqual(['oversize'])
    })
  })
})
