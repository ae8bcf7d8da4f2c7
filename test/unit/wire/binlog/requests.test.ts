import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { type MysqlPosition, parsePosition } from '../../../../src/domain/position.ts'
import { dumpGtidRequest, dumpRequest, encodeGtidSet, registerRequest } from '../../../../src/wire/binlog/requests.ts'

test('the requests have the layout of the protocol', () => {
  const name = Buffer.from('whitehole').toString('hex')
  expect(registerRequest(0x01020304)).toEqual(
    hex('15', '04030201', '09', name, '00', '00', '0000', '00000000', '00000000'),
  )
  expect(dumpRequest(7)).toEqual(hex('12', '04000000', '0000', '07000000'))
  const empty = dumpGtidRequest(7, parsePosition('mysql', '') as MysqlPosition)
  expect(empty).toEqual(hex('1e', '0000', '07000000', '00000000', '0400000000000000', '08000000', '0000000000000000'))
})

test('a set of GTIDs is written with the ends of its intervals excluded', () => {
  const source = '00112233-4455-6677-8899-aabbccddeeff'
  const set = encodeGtidSet(parsePosition('mysql', `${source}:1-5:9`) as MysqlPosition)
  const uuid = source.replaceAll('-', '')
  const [one, two, six, nine, ten] = ['01', '02', '06', '09', '0a'].map((byte) => byte.padEnd(16, '0'))
  expect(set).toEqual(hex(one ?? '', uuid, two ?? '', one ?? '', six ?? '', nine ?? '', ten ?? ''))
})

test('each set can be read back', () => {
  const uuid = fc.uuid()
  const intervals = fc.array(fc.tuple(fc.nat({ max: 2 ** 40 }), fc.nat({ max: 1000 })), { minLength: 1, maxLength: 5 })
  fc.assert(
    fc.property(fc.array(fc.tuple(uuid, intervals), { maxLength: 5 }), (sources) => {
      const text = sources
        .map(([id, ranges]) => `${id}:${ranges.map(([a, n]) => `${a + 1}-${a + 1 + n}`).join(':')}`)
        .join(',')
      const position = parsePosition('mysql', text) as MysqlPosition
      expect(decode(encodeGtidSet(position))).toEqual(position)
    }),
  )
})

function decode(set: Buffer): MysqlPosition {
  let at = 0
  const u64 = (): number => Number(set.readBigUInt64LE((at += 8) - 8))
  const parts: string[] = []
  for (let sources = u64(); sources > 0; sources--) {
    const id = set.subarray(at, (at += 16)).toString('hex')
    const source = id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
    for (let ranges = u64(); ranges > 0; ranges--) parts.push(`${source}:${u64()}-${u64() - 1}`)
  }
  expect(at).toBe(set.length)
  return parsePosition('mysql', parts.join(',')) as MysqlPosition
}

function hex(...parts: string[]): Buffer {
  return Buffer.from(parts.join(''), 'hex')
}
