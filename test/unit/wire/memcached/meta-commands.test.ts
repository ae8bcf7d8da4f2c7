import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeBase64Key, encodeBase64Key } from '../../../../src/wire/memcached/base64.ts'
import type { Request } from '../../../../src/wire/memcached/request.ts'
import { RequestParser } from '../../../../src/wire/memcached/request-parser.ts'
import type { RequestLimits } from '../../../../src/wire/memcached/request-source.ts'

const bound: RequestLimits = { itemBytesMax: 1024 * 1024, keysMax: 10_000, prefixedKeys: false }

function parse(text: string, limits = bound): Request[] {
  const parser = new RequestParser(limits)
  parser.feed(Buffer.from(text, 'latin1'))
  const requests: Request[] = []
  for (let request = parser.next(); request !== undefined; request = parser.next()) requests.push(request)
  return requests
}

function parseOne(text: string, limits = bound): Request | undefined {
  const requests = parse(text, limits)
  expect(requests).toHaveLength(1)
  return requests[0]
}

describe('a base64 key', () => {
  it('is decoded as it was encoded', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 250 }), (bytes) => {
        const key = Buffer.from(bytes).toString('latin1')
        expect(decodeBase64Key(encodeBase64Key(key))).toBe(key)
      }),
    )
  })

  it.each(['', 'A', 'AA', 'AAA', 'AA=A=', '!', 'A===', '===='])('is refused as %j', (text) => {
    expect(decodeBase64Key(text)).toBeUndefined()
  })

  it('is decoded though other characters stand between, and to its padding alone', () => {
    expect(decodeBase64Key('Zm-9_v')).toBe('foo')
    expect(decodeBase64Key('Zg==Zm9v')).toBe('f')
  })
})

describe('meta requests', () => {
  it('carry what their flags say', () => {
    expect(parseOne('mg a v c O7 k N30 R10 T0 C5 q\r\n')).toEqual({
      kind: 'meta-get',
      key: 'a',
      withValue: true,
      withCas: true,
      unlessCas: 5n,
      touch: 0,
      vivify: 30,
      recacheBelow: 10,
      form: {
        dialect: 'meta',
        command: 'mg',
        quiet: true,
        flags: ['v', 'c', 'O7', 'k', 'N30', 'R10', 'T0', 'C5', 'q'],
        base64: false,
      },
    })
    expect(parseOne('ms Zm9v 2 b F9 T5 C7 I\r\nab\r\n')).toMatchObject({
      kind: 'storage',
      mode: 'set',
      key: 'foo',
      flags: 9,
      exptime: 5,
      compare: 7n,
      staleOnMismatch: true,
      value: Buffer.from('ab'),
      form: { base64: true },
    })
    expect(parseOne('ma n MD D5 N30 J9 T60 C0\r\n')).toMatchObject({
      kind: 'arithmetic',
      direction: 'decr',
      delta: 5n,
      create: { initial: 9n, exptime: 60 },
      exptime: 60,
      compare: undefined,
    })
    expect(parseOne('ma n T60 N30\r\n')).toMatchObject({ delta: 1n, create: { initial: 0n, exptime: 30 } })
  })

  it('look at a token where memcached does', () => {
    expect(
      parse('ms a 1 ME C1\r\n1\r\nms a 1 MA C0\r\n1\r\nms a 1 MR C0\r\n1\r\nms a 1 ME C1 I\r\n1\r\n'),
    ).toMatchObject([
      { mode: 'add', compare: undefined },
      { mode: 'append', compare: undefined },
      { mode: 'replace', compare: 0n },
      { staleOnMismatch: false },
    ])
    expect(parse('md a C0\r\nmd a C1 I T9\r\nmd a x\r\nmd a x T9\r\nmd a T9\r\n')).toMatchObject([
      { kind: 'deletion', compare: 0n },
      { kind: 'invalidation', compare: 1n, stale: true, dropsValue: false, exptime: 9 },
      { kind: 'invalidation', stale: false, dropsValue: true, exptime: 0 },
      { kind: 'invalidation', dropsValue: true, exptime: 9 },
      { kind: 'deletion', compare: undefined },
    ])
  })

  it('swallow the body behind every header whose length parses', () => {
    for (const header of [
      'ms a 7 !',
      'ms a 7 v v',
      'ms a 7 Mx',
      `ms ${'k'.repeat(251)} 7`,
      'ms ! 7 b',
      'ms a 7 \x80',
    ]) {
      expect(parse(`${header}\r\nversion\r\nmn\r\n`).map(({ kind }) => kind)).toEqual(['refused', 'noop'])
    }
  })

  it('count the key behind the colon alone on a key-prefix listener, in base64 too', () => {
    const prefixed = { ...bound, prefixedKeys: true }
    const key = (bytes: number): string => `sessions:${'k'.repeat(bytes)}`
    const encoded = (bytes: number): string => encodeBase64Key(key(bytes))
    expect(parseOne(`mg ${key(250)}\r\n`, prefixed)).toMatchObject({ kind: 'meta-get', key: key(250) })
    expect(parseOne(`mg ${key(251)}\r\n`, prefixed)).toMatchObject({ kind: 'refused' })
    expect(parseOne(`mg ${encoded(250)} b\r\n`, prefixed)).toMatchObject({ kind: 'meta-get', key: key(250) })
    expect(parseOne(`mg ${encoded(251)} b\r\n`, prefixed)).toMatchObject({ kind: 'refused' })
    expect(parseOne(`me ${encoded(3)} b\r\n`, prefixed)).toMatchObject({ kind: 'meta-debug', key: key(3) })
  })

  it('come out the same for any bytes, cut anyhow', () => {
    const word = fc.constantFrom(
      'mg',
      'ms',
      'md',
      'ma',
      'me',
      'mn',
      ' a',
      ' 3',
      ' v',
      ' q',
      ' b',
      ' T5',
      ' MA',
      ' C9',
      ' !',
      '\r\n',
      'abc',
      '\r\n',
      ' ',
    )
    fc.assert(
      fc.property(fc.array(word, { maxLength: 60 }), fc.integer({ min: 1, max: 9 }), (words, size) => {
        const text = words.join('')
        const parser = new RequestParser(bound)
        const requests: Request[] = []
        for (let at = 0; at < text.length; at += size) {
          parser.feed(Buffer.from(text.slice(at, at + size), 'latin1'))
          for (let request = parser.next(); request !== undefined; request = parser.next()) requests.push(request)
        }
        expect(requests).toEqual(parse(text))
      }),
    )
  })
})
