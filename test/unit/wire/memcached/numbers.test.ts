import { describe, expect, it } from 'vitest'
import {
  exptimeNumber,
  flagsNumber,
  strictInt32,
  strictUint32,
  strictUint64,
  valueLength,
} from '../../../../src/wire/memcached/numbers.ts'

describe('numbers of the text protocol, as memcached 1.6.45 reads them', () => {
  it.each([
    ['0', 0],
    ['-0', 0],
    ['-', 0],
    ['', 0],
    ['2147483647', 2147483647],
    ['2147483648', undefined],
    ['-2147483648', -2147483648],
    ['-2147483649', undefined],
    ['00000000001', 1],
    ['000000000001', undefined],
    ['1x', undefined],
    ['+1', undefined],
    [' 1', undefined],
  ])('a strict 32-bit number %s is %s', (text, value) => expect(strictInt32(text)).toBe(value))

  it.each([
    ['2147483645', 2147483645],
    ['2147483646', undefined],
    ['-1', undefined],
  ])('a length %s is %s', (text, value) => expect(valueLength(text)).toBe(value))

  it.each([
    ['4294967295', 4294967295],
    ['4294967296', undefined],
    ['-1', undefined],
    ['', undefined],
  ])('a strict unsigned number %s is %s', (text, value) => expect(strictUint32(text)).toBe(value))

  it.each([
    ['18446744073709551615', 18446744073709551615n],
    ['18446744073709551616', undefined],
    ['abc', undefined],
  ])('a 64-bit number %s is %s', (text, value) => expect(strictUint64(text)).toBe(value))

  it.each([
    ['0', 0],
    ['4294967295', 4294967295],
    ['4294967301', 5],
    ['18446744073709551615', 4294967295],
    ['18446744073709551616', undefined],
    ['-1', undefined],
    ['-18446744073709551615', 1],
    ['+7', 7],
    ['\t7', 7],
    ['7\tx', 7],
    ['7\0x', 7],
    ['7x', undefined],
    ['-', undefined],
    ['', undefined],
    ['9'.repeat(5000), undefined],
  ])('flags %s are %s', (text, value) => expect(flagsNumber(text)).toBe(value))

  it.each([
    ['-1', -1],
    ['2592001', 2592001],
    ['2147483648', -2147483648],
    ['4294967296', 0],
    ['9223372036854775807', -1],
    ['9223372036854775808', undefined],
    ['-9223372036854775808', 0],
    ['abc', undefined],
  ])('an expiry %s is %s', (text, value) => expect(exptimeNumber(text)).toBe(value))
})
