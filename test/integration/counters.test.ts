import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { counterBytesMax, counterOf, counterText } from '../../src/domain/counter.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { Memcached, dialogue } from '../support/memcached.ts'
import { counterCases } from '../support/counter-cases.ts'

const releases = ['/usr/bin/memcached', newerMemcachedPath].filter((path) => existsSync(path))

describe.each(releases)("what is a number, against memcached's own incr (%s)", (path) => {
  let memcached: Memcached
  let version: string

  beforeAll(async () => {
    memcached = await Memcached.start([], path)
    version = await dialogue(memcached.port, 'version\r\n', /\r\n$/)
  })
  afterAll(async () => {
    await memcached?.stop()
  })

  test('every case of blanks, signs, digits and bytes behind them is taken alike, and leaves the same value', async () => {
    const cases = counterCases()
    for (let at = 0; at < cases.length; at += 200) {
      const some = cases.slice(at, at + 200).filter((value) => !differsIn1618(value) || !version.includes(' 1.6.18'))
      const requests = some.map((value) => `set k 3 0 ${value.length}\r\n${value}\r\nincr k 0\r\nget k\r\n`)
      const expected = some.map((value) => {
        const number = counterOf(Buffer.from(value, 'latin1'))
        const after = number === undefined ? value : counterText(number, value.length)
        return `STORED\r\n${number ?? nonNumeric}\r\nVALUE k 3 ${after.length}\r\n${after}\r\nEND\r\n`
      })
      const replies = await dialogue(memcached.port, `${requests.join('')}mn\r\n`, /MN\r\n$/)
      expect(replies).toBe(`${expected.join('')}MN\r\n`)
    }
  })
})

test('a value over 1,024 bytes is no number, whatever it begins with', () => {
  expect(counterOf(Buffer.from('5'.padEnd(counterBytesMax)))).toBe(5n)
  expect(counterOf(Buffer.from('5'.padEnd(counterBytesMax + 1)))).toBeUndefined()
})

test('a value of blanks and signs alone is no number: memcached reads on behind it', () => {
  for (const value of ['', ' ', '\r\n', '+', ' -', '\0']) expect(counterOf(Buffer.from(value))).toBeUndefined()
})

const nonNumeric = 'CLIENT_ERROR cannot increment or decrement non-numeric value'

/** The one known difference: 1.6.18 also minds a minus that stands behind a number from 2^63 on. */
function differsIn1618(value: string): boolean {
  return (counterOf(Buffer.from(value, 'latin1')) ?? 0n) >= 2n ** 63n && value.includes('-')
}
