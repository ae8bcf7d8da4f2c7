import type { ItemCas } from '../../domain/local-reads.ts'
import { versionLowBits } from '../../domain/version.ts'

/**
 * A CAS of up to 64 bits, in decimal, out of a reply: its two halves without a BigInt on the hot path (bench/gets.ts). Up to 2^63 the
 * first digits are taken apart from the last ten: 10^10 is 2^10 times an odd number, so each step stays below 2^53, exact.
 * @throws RangeError on what is no such number
 */
export function parseCas(bytes: Buffer, start: number, end: number): ItemCas {
  const split = end - 10
  if (end - start <= 15) {
    const whole = digits(bytes, start, end)
    const casHigh = Math.floor(whole / lowLimit)
    return { casHigh, casLow: whole - casHigh * lowLimit }
  }
  const leading = digits(bytes, start, split)
  if (leading > leadingMax || end - start > 20) return parseLarge(bytes.toString('latin1', start, end))
  // In units of 2^10.
  const upper = leading * (10 ** 10 / 1024)
  const upperRest = upper % 2 ** (versionLowBits - 10)
  const lower = upperRest * 1024 + digits(bytes, split, end)
  const carried = Math.floor(lower / lowLimit)
  return {
    casHigh: (upper - upperRest) / 2 ** (versionLowBits - 10) + carried,
    casLow: lower - carried * lowLimit,
  }
}

export function parseCasText(text: string): ItemCas {
  return parseCas(Buffer.from(text, 'latin1'), 0, text.length)
}

function parseLarge(text: string): ItemCas {
  const cas = BigInt(text)
  if (cas >= 1n << 64n) throw new RangeError('a CAS has more than 64 bits')
  return {
    casHigh: Number(cas >> BigInt(versionLowBits)),
    casLow: Number(BigInt.asUintN(versionLowBits, cas)),
  }
}

function digits(bytes: Buffer, start: number, end: number): number {
  let value = 0
  for (let at = start; at < end; at++) {
    const digit = (bytes[at] as number) - 0x30
    if (digit < 0 || digit > 9) throw new RangeError('a CAS has a character that is no digit')
    value = value * 10 + digit
  }
  return value
}

const lowLimit = 2 ** versionLowBits
/** The first digits of 2^63. */
const leadingMax = 922_337_202
