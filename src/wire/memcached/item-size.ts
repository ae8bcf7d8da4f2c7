/**
 * What an item weighs against memcached's item limit (`-I`), so that a value is refused where memcached would refuse it under the
 * client's own key. Tried on 1.6.18 and 1.6.45: with 1 MiB, key `k` takes 1,048,516 bytes, with flags 1,048,512.
 */
export function itemBytes(keyBytes: number, flags: number, valueBytes: number): number {
  return headerBytes + casBytes + keyBytes + 1 + (flags === 0 ? 0 : flagsBytes) + valueBytes + 2
}

/** memcached's default. */
export const itemBytesMaxDefault = 1024 * 1024

const headerBytes = 48
const casBytes = 8
const flagsBytes = 4
