import { describe, expect, it } from 'vitest'
import { type CachedItem, casText } from '../../../../src/domain/local-reads.ts'
import { type ReplyHandler, ReplyParser } from '../../../../src/wire/memcached/reply-parser.ts'

class Recorder implements ReplyHandler {
  readonly seen: unknown[] = []
  readonly items: boolean

  constructor(items: boolean) {
    this.items = items
  }
  expectsItem(): boolean {
    return this.items
  }
  onLine(line: string): void {
    this.seen.push(line)
  }
  onValue(line: string, value: Buffer): void {
    this.seen.push([line, value.toString('latin1')])
  }
  onItem(item: CachedItem): void {
    this.seen.push({ flags: item.flags, cas: casText(item), value: item.value.toString('latin1') })
  }
}

function parse(pieces: readonly string[], items = true): unknown[] {
  const recorder = new Recorder(items)
  const parser = new ReplyParser(recorder)
  for (const piece of pieces) parser.feed(Buffer.from(piece, 'latin1'))
  return recorder.seen
}

const replies =
  'HD c7\r\nVA 5 f0 c12\r\nhello\r\nEN\r\nVA 2 f4294967295 c9007199254740991\r\n\r\n\r\nVA 0 f10 c1\r\n\r\nMN\r\nSTAT a b\r\n' +
  'VALUE default:END 0 3 17179869191\r\nEND\r\nEND\r\nEND\r\nVALUE k 5 0 9223372036854775807\r\n\r\nEND\r\nVERSION 1\r\n'
const expected = [
  'HD c7',
  { flags: '0', cas: '12', value: 'hello' },
  'EN',
  { flags: '4294967295', cas: '9007199254740991', value: '\r\n' },
  { flags: '10', cas: '1', value: '' },
  'MN',
  'STAT a b',
  { flags: '0', cas: '17179869191', value: 'END' },
  'END',
  { flags: '5', cas: '9223372036854775807', value: '' },
  'VERSION 1',
]

describe('the reply parser', () => {
  it('reads lines and items', () => expect(parse([replies])).toEqual(expected))

  it('reads the same cut at every byte', () => {
    for (let cut = 1; cut < replies.length; cut++) {
      expect(parse([replies.slice(0, cut), replies.slice(cut)])).toEqual(expected)
    }
  })

  it('reads the same byte by byte', () => expect(parse(replies.split(''))).toEqual(expected))

  it('hands over the whole first line where it is asked to', () => {
    expect(parse(['VA 2 s2 O1 kmk f9 t-1\r\nhi\r\n'], false)).toEqual([['VA 2 s2 O1 kmk f9 t-1', 'hi']])
  })

  it('skips flags of an item that it does not know', () => {
    expect(parse(['VA 2 t30 f5 kmk c8 W\r\nhi\r\n'])).toEqual([{ flags: '5', cas: '8', value: 'hi' }])
  })

  it('reads a value over many chunks', () => {
    const value = 'x'.repeat(1_000_000)
    const text = `VA 1000000 f0 c3\r\n${value}\r\nEN\r\n`
    const pieces = Array.from({ length: Math.ceil(text.length / 65_536) }, (_piece, index) =>
      text.slice(index * 65_536, (index + 1) * 65_536),
    )
    expect(parse(pieces)).toEqual([{ flags: '0', cas: '3', value }, 'EN'])
  })

  it('keeps values valid when more comes', () => {
    const values: Buffer[] = []
    const recorder = new Recorder(true)
    recorder.onItem = ({ value }) => values.push(value)
    const parser = new ReplyParser(recorder)
    parser.feed(Buffer.from('VA 3 f0 c1\r\none\r\nVA 3 f0 c2\r\nt'))
    parser.feed(Buffer.from('wo\r\nVA 3 f0 c3\r\nsix\r\n'))
    expect(values.map(String)).toEqual(['one', 'two', 'six'])
  })

  it.each([
    ['a value that goes on beyond its length', 'VA 2 f0 c1\r\nabc\r\n'],
    ['a length that is none', 'VA x f0 c1\r\n'],
    ['a CAS that is none', 'VA 1 f0 cx\r\na\r\n'],
    ['a length beyond all limits', 'VA 99999999999 f0 c1\r\n'],
    ['an item of a gets with too few parts', 'VALUE k 0 1\r\na\r\nEND\r\n'],
    ['an item of a gets without its end', 'VALUE k 0 1 7\r\na\r\nMN\r\n'],
    ['an item of a gets with a length that is none', 'VALUE k 0 x 7\r\na\r\nEND\r\n'],
    ['a line without end', 'x'.repeat(10_000)],
  ])('refuses %s', (_what, text) => expect(() => parse([text])).toThrow())
})
