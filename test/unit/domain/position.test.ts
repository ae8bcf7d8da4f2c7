import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  advance,
  covers,
  emptyPosition,
  formatPosition,
  parsePosition,
  samePosition,
} from '../../../src/domain/position.ts'

const uuid = '43cb4bb3-0000-11f0-8000-000000000001'
const other = '43cb4bb3-0000-11f0-8000-000000000002'

describe('a MariaDB position', () => {
  test('comes back from its text', () => {
    expect(formatPosition(parsePosition('mariadb', '1-2-55,0-1-1234'))).toBe('0-1-1234,1-2-55')
    expect(formatPosition(parsePosition('mariadb', ''))).toBe('')
    expect(() => parsePosition('mariadb', '0-1')).toThrow(/domain-server-sequence/)
  })

  test('covers what lies behind it in every domain', () => {
    const here = parsePosition('mariadb', '0-1-10,1-1-5')
    expect(covers(here, parsePosition('mariadb', '0-1-9'))).toBe(true)
    expect(covers(here, parsePosition('mariadb', '0-1-10,1-1-5'))).toBe(true)
    expect(covers(here, parsePosition('mariadb', '0-1-11'))).toBe(false)
    expect(covers(here, parsePosition('mariadb', '2-1-1'))).toBe(false)
    expect(covers(parsePosition('mariadb', '0-1-9'), here)).toBe(false)
    expect(covers(here, emptyPosition('mariadb'))).toBe(true)
  })

  test('does not cover the same number of another server: the histories diverged', () => {
    expect(covers(parsePosition('mariadb', '0-2-10'), parsePosition('mariadb', '0-1-10'))).toBe(false)
    expect(covers(parsePosition('mariadb', '0-2-11'), parsePosition('mariadb', '0-1-10'))).toBe(true)
  })

  test('advances by one transaction', () => {
    const next = advance(parsePosition('mariadb', '0-1-10,1-1-5'), {
      dialect: 'mariadb',
      domain: 0,
      server: 2,
      sequence: 11,
    })
    expect(formatPosition(next)).toBe('0-2-11,1-1-5')
  })
})

describe('a MySQL position', () => {
  test('comes back from its text, merged', () => {
    expect(formatPosition(parsePosition('mysql', `${uuid}:1-5:6:9-11,\n${other}:3`))).toBe(
      `${uuid}:1-6:9-11,${other}:3`,
    )
    expect(() => parsePosition('mysql', `${uuid}:tag:1-5`)).toThrow(/interval|tagged/)
  })

  test('covers each interval, not only the highest number', () => {
    const here = parsePosition('mysql', `${uuid}:1-5:8-10`)
    expect(covers(here, parsePosition('mysql', `${uuid}:2-5:9`))).toBe(true)
    expect(covers(here, parsePosition('mysql', `${uuid}:1-6`))).toBe(false)
    expect(covers(here, parsePosition('mysql', `${other}:1`))).toBe(false)
  })

  test('advances in any order to the same set', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (numbers) => {
        const add = (list: number[]) =>
          list.reduce(
            (position, sequence) => advance(position, { dialect: 'mysql', source: uuid, sequence }),
            emptyPosition('mysql'),
          )
        const shuffled = add(numbers)
        const sorted = add(numbers.toSorted((a, b) => a - b))
        expect(samePosition(shuffled, sorted)).toBe(true)
        for (let n = 1; n <= 41; n++) {
          expect(covers(shuffled, parsePosition('mysql', `${uuid}:${n}`))).toBe(numbers.includes(n))
        }
      }),
    )
  })
})

test('positions of two dialects never cover each other', () => {
  expect(covers(emptyPosition('mysql'), emptyPosition('mariadb'))).toBe(false)
})
