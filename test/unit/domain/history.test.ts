import { expect, test } from 'vitest'
import { holds, parseHistory, strays } from '../../../src/domain/history.ts'
import { covers, parsePosition } from '../../../src/domain/position.ts'

const one = '43cb4bb3-0000-11f0-8000-000000000001'
const two = '43cb4bb3-0000-11f0-8000-000000000002'

test('MariaDB: a position is lost although the new primary has gone beyond its number', () => {
  const promoted = parseHistory('mariadb', '0-1-99,0-2-105')
  const ahead = parsePosition('mariadb', '0-1-100')
  expect(covers(parsePosition('mariadb', '0-2-105'), ahead)).toBe(true)
  expect(holds(promoted, ahead)).toBe(false)
  expect(holds(promoted, parsePosition('mariadb', '0-1-99'))).toBe(true)
  expect(holds(promoted, parsePosition('mariadb', '0-2-101'))).toBe(true)
  expect(holds(promoted, parsePosition('mariadb', '0-2-106'))).toBe(false)
  expect(holds(promoted, parsePosition('mariadb', '0-1-99,1-1-1'))).toBe(false)
})

test('MariaDB: a database that was made from a copy and has logged nothing yet holds what it was made of', () => {
  expect(holds(parseHistory('mariadb', ',0-1-99'), parsePosition('mariadb', '0-1-99'))).toBe(true)
  expect(holds(parseHistory('mariadb', '0-1-90,0-1-99'), parsePosition('mariadb', '0-1-95'))).toBe(true)
})

test('MySQL: every transaction counts, also behind later ones', () => {
  const promoted = parseHistory('mysql', `${one}:1-99:101,${two}:1-5`)
  expect(holds(promoted, parsePosition('mysql', `${one}:1-99`))).toBe(true)
  expect(holds(promoted, parsePosition('mysql', `${one}:1-100`))).toBe(false)
  expect(holds(promoted, parsePosition('mysql', `${two}:1-6`))).toBe(false)
})

test('positions of another dialect are never held', () => {
  expect(holds(parseHistory('mariadb', '0-1-9'), parsePosition('mysql', `${one}:1`))).toBe(false)
  expect(holds(parseHistory('mysql', `${one}:1`), parsePosition('mariadb', '0-1-9'))).toBe(false)
})

test('a former primary with a tail of its own has strayed, a replica that lags or knows older servers has not', () => {
  const promoted = parseHistory('mariadb', '0-1-99,0-2-105')
  expect(strays(parseHistory('mariadb', '0-1-100'), promoted)).toBe(true)
  expect(strays(parseHistory('mariadb', '0-1-98'), promoted)).toBe(false)
  expect(strays(parseHistory('mariadb', '0-7-50,0-1-99,0-2-101'), promoted)).toBe(false)
  expect(strays(parseHistory('mysql', `${one}:1-100`), parseHistory('mysql', `${one}:1-99,${two}:1-5`))).toBe(true)
  expect(strays(parseHistory('mysql', `${one}:1-99`), parseHistory('mysql', `${one}:1-99,${two}:1-5`))).toBe(false)
})
