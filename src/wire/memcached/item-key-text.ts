import type { ItemKey } from '../../domain/key.ts'

/** A key as memcached's listings and watchers write it, percent-encoded: one character a byte, as keys are held (decodeURIComponent would take the bytes for UTF-8). */
export function decodeItemKey(encoded: string): ItemKey {
  if (!encoded.includes('%')) return encoded as ItemKey
  const text = encoded.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
  return text as ItemKey
}
