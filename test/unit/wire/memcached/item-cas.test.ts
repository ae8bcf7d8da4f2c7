import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decimal64 } from '../../../../src/applier/item-commands.ts'
import {
  casNumber,
  casText,
  isLease,
  isLeaseToken,
  isLive,
  leaseCas,
  leaseToken,
  versionOf,
} from '../../../../src/domain/local-reads.ts'
import type { CataloguedNamespace } from '../../../../src/domain/namespaces.ts'
import { composeVersion, generationOf } from '../../../../src/domain/version.ts'
import { parseCasText } from '../../../../src/wire/memcached/item-cas.ts'

const any64 = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  // Around the powers of two and ten, where halves carry.
  fc
    .tuple(fc.integer({ min: 0, max: 63 }), fc.integer({ min: -3, max: 3 }))
    .map(([bits, by]) => BigInt.asUintN(64, (1n << BigInt(bits)) + BigInt(by))),
  fc
    .tuple(fc.integer({ min: 9, max: 19 }), fc.integer({ min: -3, max: 3 }))
    .map(([zeros, by]) => 10n ** BigInt(zeros) + BigInt(by)),
)

const versioned: CataloguedNamespace = { id: 1, name: 'a', generation: 7, flushDue: 0, watermark: undefined }
const counted: CataloguedNamespace = { ...versioned, watermark: 500 }

describe('the CAS of an item', () => {
  it('comes back from its halves, whatever its size', () => {
    fc.assert(
      fc.property(any64, (cas) => {
        const parsed = parseCasText(String(cas))
        expect(parsed).toEqual({ casHigh: Number(cas >> 33n), casLow: Number(cas & ((1n << 33n) - 1n)) })
        expect(casText(parsed)).toBe(String(cas))
      }),
      { numRuns: 2000 },
    )
  })

  it('is written from the halves of a version, whatever its size', () => {
    fc.assert(
      fc.property(any64, (any) => {
        const version = BigInt.asUintN(63, any)
        expect(decimal64(Number(version >> 32n), Number(BigInt.asUintN(32, version)))).toBe(String(version))
      }),
      { numRuns: 2000 },
    )
  })

  it.each(['x', '12x', '1234567890123456x', '18446744073709551616', '123456789012345678901'])('is not %s', (text) =>
    expect(() => parseCasText(text)).toThrow(),
  )

  it('is a version where memcached takes one: live by its generation alone', () => {
    for (const random of [0, 0.5, 0.999_999_999_99]) {
      const version = composeVersion(7, random)
      const item = parseCasText(String(version))
      expect(isLive(item, versioned)).toBe(true)
      expect(isLive(item, { ...versioned, generation: 8 })).toBe(false)
      expect(isLive(item, { ...versioned, generation: 6 })).toBe(false)
      expect(versionOf(item, versioned)).toBe(version)
      expect(generationOf(version)).toBe(7)
    }
    // Somebody else's, from memcached's own counter.
    expect(isLive(parseCasText('1234'), versioned)).toBe(false)
  })

  it('is a counter elsewhere: live above the watermark, and no version', () => {
    expect(isLive(parseCasText('500'), counted)).toBe(false)
    expect(isLive(parseCasText('501'), counted)).toBe(true)
    expect(casNumber(parseCasText('9007199254740991'))).toBe(9_007_199_254_740_991)
    expect(versionOf(parseCasText('501'), counted)).toBeUndefined()
    expect(isLease(parseCasText('501'), counted)).toBe(false)
  })

  it('of a lease is no version, lives with its generation, and gives a token that no version is', () => {
    const lease = parseCasText(String(leaseCas(7, 0.25)))
    expect(isLease(lease, versioned)).toBe(true)
    expect(isLive(lease, versioned)).toBe(true)
    expect(isLive(lease, { ...versioned, generation: 8 })).toBe(false)
    expect(versionOf(lease, versioned)).toBeUndefined()
    expect(isLeaseToken(leaseToken(lease))).toBe(true)
    expect(String(leaseToken(lease))).toBe(casText(lease))
    expect(isLeaseToken(leaseToken(parseCasText('501')))).toBe(true)
    expect(isLeaseToken(composeVersion(2 ** 30 - 1, 0.999))).toBe(false)
  })
})
