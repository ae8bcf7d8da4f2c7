import type { Generation } from './namespace.ts'

/**
 * The cluster-wide CAS token: 64 bits, below 2^63, never 0. The namespace's generation in the high 30 bits, a random number in the
 * low 33 (docs/adr/0002-versions.md says why it is neither a counter nor a clock).
 */
export type Version = bigint & { readonly __brand: 'Version' }

export const versionLowBits = 33
const lowBits = BigInt(versionLowBits)
const lowLimit = 2 ** versionLowBits

/** @param random a number in [0, 1), from a good source: it decides how rarely a token comes back */
export function composeVersion(generation: Generation, random: number): Version {
  return ((BigInt(generation) << lowBits) | BigInt(Math.floor(random * (lowLimit - 1)) + 1)) as Version
}

export function generationOf(version: Version): Generation {
  return Number(version >> lowBits)
}

/** The generation of a version of which only the high 32 bits are read: no BigInt on the applier's hot path. */
export function generationOfHigh32(high32: number): Generation {
  return high32 >>> (versionLowBits - 32)
}

export function versionFromNumber(value: bigint): Version {
  if (value <= 0n || value >= 1n << 63n)
    throw new RangeError(`${value} is no version: it must lie between 1 and 2^63-1`)
  return value as Version
}
