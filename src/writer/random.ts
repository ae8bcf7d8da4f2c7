import { randomFillSync, randomInt } from 'node:crypto'

/** Drawn from the system's source in blocks: one call of the kernel for some thousand versions. */
const pool = new Uint32Array(4096)
let next = pool.length

/** In [0, 1), with 53 random bits: versions need 33 of them from a good source (docs/adr/0002-versions.md). */
export function secureRandom(): number {
  if (next >= pool.length) {
    randomFillSync(pool)
    next = 0
  }
  const high = (pool[next++] ?? 0) >>> 5
  const low = (pool[next++] ?? 0) >>> 6
  return (high * 2 ** 26 + low) / 2 ** 53
}

/** 1 to 2^48-1. Random, not a counter: after a takeover that lost a tail a counter would come back to a number with a meaning. */
export function drawIncarnation(): number {
  return randomInt(1, 2 ** 48 - 1)
}

/** Between half of it and all of it, so that two nodes that failed together don't come back together. */
export function jittered(milliseconds: number): number {
  return milliseconds * (0.5 + Math.random() / 2)
}
