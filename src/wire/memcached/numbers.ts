/**
 * Numbers in the text protocol, with the quirks of memcached 1.6.45, which has two families: its own strict one, and the C library's for
 * flags and expiry of the storage commands. All return undefined where memcached says "bad".
 */

/** A signed 32-bit number (`mcmc_tokto32`): at most 11 characters; a minus sign alone is 0. */
export function strictInt32(text: string): number | undefined {
  if (text.length > 11) return undefined
  const negative = text.charCodeAt(0) === minus
  let value = 0
  for (let at = negative ? 1 : 0; at < text.length; at++) {
    const digit = text.charCodeAt(at) - zero
    if (digit < 0 || digit > 9) return undefined
    value = value * 10 + digit
  }
  if (negative) return value > 2 ** 31 ? undefined : 0 - value
  return value >= 2 ** 31 ? undefined : value
}

/** An unsigned 32-bit number (`mcmc_toktou32`). */
export function strictUint32(text: string): number | undefined {
  if (text.length > 11 || text === '' || !digitsOnly.test(text)) return undefined
  const value = Number(text)
  return value < 2 ** 32 ? value : undefined
}

/** An unsigned 64-bit number (`mcmc_toktou64`). */
export function strictUint64(text: string): bigint | undefined {
  if (text.length > 22 || text === '' || !digitsOnly.test(text)) return undefined
  const value = BigInt(text)
  return value < 1n << 64n ? value : undefined
}

/** A value's length: 0 to 2^31-3. */
export function valueLength(text: string): number | undefined {
  const length = strictInt32(text)
  return length === undefined || length < 0 || length > 2 ** 31 - 3 ? undefined : length
}

/** A client's flags (`safe_strtoul`): a 64-bit number of which the low 32 bits are kept. */
export function flagsNumber(text: string): number | undefined {
  const short = shortNumber(text)
  if (short !== undefined) return short
  const number = libraryNumber(text)
  if (number === undefined || number.value >= 1n << 64n) return undefined
  const unsigned = BigInt.asUintN(64, number.negative ? -number.value : number.value)
  if (number.negative && unsigned >= 1n << 63n) return undefined
  return Number(BigInt.asUintN(32, unsigned))
}

/** An expiry of a storage command (`safe_strtol`): a 64-bit number of which 32 bits are kept, with their sign. */
export function exptimeNumber(text: string): number | undefined {
  const short = shortNumber(text)
  if (short !== undefined) return short
  const number = libraryNumber(text)
  if (number === undefined) return undefined
  const signed = number.negative ? -number.value : number.value
  if (signed >= 1n << 63n || signed < -(1n << 63n)) return undefined
  return Number(BigInt.asIntN(32, signed))
}

/** The common case, up to nine digits, without more ado. */
function shortNumber(text: string): number | undefined {
  if (text.length > 9 || text === '') return undefined
  let value = 0
  for (let at = 0; at < text.length; at++) {
    const digit = text.charCodeAt(at) - zero
    if (digit < 0 || digit > 9) return undefined
    value = value * 10 + digit
  }
  return value
}

/** What strtol takes: blanks, a sign, digits, and then a blank, a NUL or the end. The text itself holds no space. */
function libraryNumber(text: string): { negative: boolean; value: bigint } | undefined {
  const match = libraryForm.exec(text)
  if (match === null) return undefined
  const digits = match[2] ?? ''
  // Beyond every range; a BigInt of a megabyte of digits would take minutes.
  if (digits.length > 2048) return undefined
  return { negative: match[1] === '-', value: BigInt(digits) }
}

const zero = 0x30
const minus = 0x2d
const digitsOnly = /^\d+$/
// eslint-disable-next-line no-control-regex
const libraryForm = /^[\t\n\v\f\r]*([+-]?)(\d+)(?:$|[\t\n\v\f\r\0])/
