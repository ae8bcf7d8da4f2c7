import * as zlib from 'node:zlib'

/** In Node since 20.15; the type declarations for 20 don't have it yet. */
const crc32Of = (zlib as unknown as { crc32: (data: Uint8Array, value?: number) => number }).crc32

export const checksumBytes = 4

/** True where the last four bytes are the CRC-32 of those before. */
export function checksumFits(event: Buffer): boolean {
  if (event.length < checksumBytes) return false
  const end = event.length - checksumBytes
  return crc32Of(event.subarray(0, end)) === event.readUInt32LE(end)
}

export function crc32(bytes: Uint8Array): number {
  return crc32Of(bytes)
}
