import { describe, expect, test } from 'vitest'
import {
  composeItemKey,
  keyFromBytes,
  keyFromText,
  keyToBytes,
  needsBase64,
  printableKey,
} from '../../../src/domain/key.ts'
import { absoluteExpiry, expiryGone, isExpired } from '../../../src/domain/mutation.ts'
import { generationMax } from '../../../src/domain/namespace.ts'
import { composeVersion, generationOf, generationOfHigh32, versionFromNumber } from '../../../src/domain/version.ts'

describe('an item key', () => {
  test('is the namespace and the key while both fit into 250 bytes', () => {
    expect(composeItemKey('sessions', keyFromText('abc'))).toBe('sessions:abc')
    const longest = keyFromText('k'.repeat(241))
    expect(composeItemKey('sessions', longest)).toBe(`sessions:${longest}`)
  })

  test('is a hash where they do not, and never too long', () => {
    const key = composeItemKey('n'.repeat(64), keyFromText('k'.repeat(250)))
    expect(key).toMatch(/^n{64}:~[0-9a-f]{64}$/)
  })

  test("of a client's key that begins with ~ is a hash: nobody can name another key's hashed form", () => {
    const long = keyFromText('k'.repeat(250))
    const forged = keyFromText(composeItemKey('sessions', long).slice('sessions:'.length))
    expect(composeItemKey('sessions', forged)).not.toBe(composeItemKey('sessions', long))
  })

  test('carries every byte, and says where the text protocol would break it', () => {
    const bytes = Buffer.from(Array.from({ length: 250 }, (_, index) => index))
    expect(keyToBytes(keyFromBytes(bytes))).toEqual(bytes)
    expect(needsBase64(composeItemKey('a', keyFromText('b c')))).toBe(true)
    expect(needsBase64(composeItemKey('a', keyFromText('b\nc')))).toBe(true)
    expect(needsBase64(composeItemKey('a', keyFromText('ümlaut\u007f')))).toBe(false)
    expect(printableKey(keyFromText('a\r\nb ü'))).toBe('a\\r\\nb ü')
  })
})

describe('a version', () => {
  test('carries its generation, is never 0 and below 2^63', () => {
    for (const generation of [1, 5, 2 ** 20 + 3, generationMax]) {
      for (const random of [0, 0.5, 1 - 2 ** -53]) {
        const version = composeVersion(generation, random)
        expect(generationOf(version)).toBe(generation)
        expect(version & ((1n << 33n) - 1n)).toBeGreaterThan(0n)
        expect(versionFromNumber(version)).toBe(version)
        expect(generationOfHigh32(Number(version >> 32n))).toBe(generation)
      }
    }
    expect(() => versionFromNumber(0n)).toThrow(/no version/)
  })
})

describe('an expiry', () => {
  test('is decided by the clock that is given', () => {
    const now = 1_795_423_168.7
    expect(absoluteExpiry(0, now)).toBe(0)
    expect(absoluteExpiry(-1, now)).toBe(expiryGone)
    expect(absoluteExpiry(1, now)).toBe(1_795_423_169)
    expect(absoluteExpiry(2_592_000, now)).toBe(1_795_423_168 + 2_592_000)
    expect(absoluteExpiry(2_592_001, now)).toBe(expiryGone)
    expect(absoluteExpiry(1_795_423_168, now)).toBe(expiryGone)
    expect(absoluteExpiry(1_795_423_169, now)).toBe(1_795_423_169)
    expect(isExpired(2_592_001, now)).toBe(true)
    expect(isExpired(0, now)).toBe(false)
    expect(isExpired(1_795_423_169, now)).toBe(false)
  })
})
