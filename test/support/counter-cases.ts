/** One character a byte. Every C blank, signs, the limits of 64 bits, and what might be taken for a blank or a digit. */
const blanks = [' ', '\t', '\n', '\v', '\f', '\r']
const limits = ['9223372036854775807', '9223372036854775808', '18446744073709551615', '18446744073709551616']
const atoms = ['', ...blanks, '\0', '+', '-', '0', '7', '12', '000', 'a', '.', '\x80', '\xa0', '\x1c', ...limits]
const odd = ['99999999999999999999', '9223372036854775808 -x', '-18446744073709551615 x', '12 34', '1e3', '0x10']
const long = ['000000000000000000001', `${'0'.repeat(1000)}5`, '5'.padEnd(1024), '5'.padStart(1024)]

/**
 * Values that are numbers to memcached's `incr`, or nearly: all of three atoms, and some more. Without values of blanks and signs
 * alone: there memcached reads on into the bytes behind its value.
 */
export function counterCases(): string[] {
  const cases = new Set([...odd, ...long])
  for (const a of atoms) for (const b of atoms) for (const c of atoms) cases.add(a + b + c)
  return [...cases].filter((value) => !/^[ \t\n\v\f\r]*[+-]?$/.test(value))
}
