/**
 * What `incr` and `decr` take for a number, and what they leave in the value: as memcached has it (docs/adr/0007-counters.md). The SQL
 * routines decide by the same rule (`mc_number` in sql/0004-conditions.sql).
 */
export const counterMax = 2n ** 64n - 1n

/** memcached has no such limit; ours keeps what a counter writes into the log with each step small. */
export const counterBytesMax = 1024

/** Blanks as C's isspace() has them, a sign, digits; behind them nothing, or a blank or NUL and then whatever. */
// eslint-disable-next-line no-control-regex
const leadingNumber = /^[ \t\n\v\f\r]*([+-]?)([0-9]+)(?![^ \t\n\v\f\r\0])/

/** The number that `incr` and `decr` find in a value; undefined where it is none. */
export function counterOf(value: Buffer): bigint | undefined {
  if (value.length > counterBytesMax || !mayBeginNumber(value[0])) return undefined
  const match = leadingNumber.exec(value.toString('latin1'))
  if (match === null) return undefined
  const magnitude = BigInt(match[2] ?? '')
  if (magnitude > counterMax) return undefined
  if (match[1] !== '-') return magnitude
  // As strtoull: a minus wraps around, so that -18446744073709551615 is 1. What lies above the middle then was meant to be negative.
  const wrapped = BigInt.asUintN(64, -magnitude)
  return wrapped < 2n ** 63n ? wrapped : undefined
}

/** The value after `incr` or `decr`: in decimal, blanks behind it where it got shorter than the value was. */
export function counterText(number: bigint, sizeBytes: number): string {
  return String(number).padEnd(sizeBytes, ' ')
}

/** Nearly every value that is no number is told by its first byte. */
function mayBeginNumber(byte: number | undefined): boolean {
  if (byte === undefined) return false
  return (
    (byte >= 0x30 && byte <= 0x39) || byte === 0x20 || (byte >= 0x09 && byte <= 0x0d) || byte === 0x2b || byte === 0x2d
  )
}
