import { createHash } from 'node:crypto'

/**
 * A client's key: 1 to 250 bytes, held as a string with one character a byte (latin1). Strings compare, hash and
 * concatenate faster than buffers, and a latin1 string carries every byte unchanged.
 */
export type Key = string & { readonly __brand: 'Key' }

/** The key of an item in a node's memcached: at most 250 bytes, `<namespace>:<key>` or `<namespace>:~<sha256>`. */
export type ItemKey = string & { readonly __brand: 'ItemKey' }

export const keyBytesMax = 250
/** memcached's limit holds for the base64 form that it is given: 187 bytes make 252 characters, 186 make 248. */
const binaryKeyBytesMax = 186

export function keyFromBytes(bytes: Buffer): Key {
  return bytes.toString('latin1') as Key
}

/** A key out of text that a person typed: its UTF-8 bytes. */
export function keyFromText(text: string): Key {
  return keyFromBytes(Buffer.from(text, 'utf8'))
}

export function keyToBytes(key: Key | ItemKey): Buffer {
  return Buffer.from(key, 'latin1')
}

/** For people: the key as UTF-8 text with control characters escaped, so that a log line stays one line. */
export function printableKey(key: Key | ItemKey): string {
  return JSON.stringify(keyToBytes(key).toString('utf8')).slice(1, -1)
}

/**
 * Stable over restarts and flushes, so that a client with a key prefix may read a node's memcached directly (DESIGN §4).
 * A client key that begins with `~` is hashed too: else it could name another key's hashed form.
 */
export function composeItemKey(namespaceName: string, key: Key): ItemKey {
  const length = namespaceName.length + 1 + key.length
  const fits = length <= binaryKeyBytesMax || (length <= keyBytesMax && !needsBase64(key))
  if (fits && key.charCodeAt(0) !== tilde) return `${namespaceName}:${key}` as ItemKey
  return `${namespaceName}:~${createHash('sha256').update(key, 'latin1').digest('hex')}` as ItemKey
}

/** True where the text protocol would take a byte of the key for a delimiter: then the meta commands' base64 form is needed. */
export function needsBase64(key: ItemKey | Key): boolean {
  return delimiters.test(key)
}

const tilde = 0x7e
// eslint-disable-next-line no-control-regex
const delimiters = /[\0\t\n\v\f\r ]/
