/** How much of a namespace a node holds as the directory has it. */
export interface ConsistencyCounts {
  readonly keys: number
  readonly missing: number
  readonly diverged: number
  readonly orphan: number
}

/**
 * 0 to 1: the part of its keys that a reader finds right; counted evictions aside, since a miss of those is no lie. An orphan counts as a key
 * that is wrong. 1 where there is nothing.
 */
export function consistencyOf({ keys, missing, diverged, orphan }: ConsistencyCounts): number {
  const all = keys + orphan
  return all === 0 ? 1 : 1 - (missing + diverged + orphan) / all
}

/** How many nines: 0.999 has three, 0.9995 too. Infinity for 1. */
export function ninesOf(consistency: number): number {
  return consistency >= 1 ? Infinity : Math.floor(-Math.log10(1 - consistency) + roundingError)
}

/** In percent, with as many digits as it takes to tell it from 100. */
export function describeConsistency(consistency: number): string {
  if (consistency >= 1) return '100 %'
  const nines = ninesOf(consistency)
  const digits = Math.max(2, nines)
  const factor = 10 ** digits
  // Never rounded up to what it is not.
  const percent = `${(Math.floor(consistency * 100 * factor) / factor).toFixed(digits)} %`
  return nines < 2 ? percent : `${percent} (${nines} nines)`
}

const roundingError = 1e-9
