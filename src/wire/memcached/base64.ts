/**
 * A base64 key as memcached decodes it: characters that are none of base64's are skipped, what follows the padding is ignored. Undefined
 * where memcached says "error decoding key".
 */
export function decodeBase64Key(text: string): string | undefined {
  const symbols: number[] = []
  for (let at = 0; at < text.length; at++) {
    const value = valueOf(text.charCodeAt(at))
    if (value !== undefined) symbols.push(value)
  }
  if (symbols.length === 0 || symbols.length % 4 !== 0) return undefined
  let decoded = ''
  for (let at = 0; at < symbols.length; at += 4) {
    const block = symbols.slice(at, at + 4)
    const padding = block.filter((value) => value === pad).length
    if (padding > 2) return undefined
    const [a = 0, b = 0, c = 0, d = 0] = block.map((value) => (value === pad ? 0 : value))
    const bytes = [(a << 2) | (b >> 4), ((b & 15) << 4) | (c >> 2), ((c & 3) << 6) | d]
    decoded += String.fromCharCode(...bytes.slice(0, 3 - padding))
    if (padding > 0) break
  }
  return decoded
}

export function encodeBase64Key(key: string): string {
  return Buffer.from(key, 'latin1').toString('base64')
}

const pad = -1
const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
const equals = 0x3d

function valueOf(code: number): number | undefined {
  if (code === equals) return pad
  const value = alphabet.indexOf(String.fromCharCode(code))
  return value < 0 ? undefined : value
}
