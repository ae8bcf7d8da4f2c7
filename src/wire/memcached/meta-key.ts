import { type ItemKey, type Key, keyToBytes, needsBase64 } from '../../domain/key.ts'

/** `mg <key> v f c`: the one command of the hot path of reads. */
export function formatMetaGet(key: ItemKey): string {
  return needsBase64(key) ? `mg ${base64Key(key)} v f c b\r\n` : `mg ${key} v f c\r\n`
}

/** The key as a meta command names it; with `binary` the command also wants the flag `b`. */
export function metaKey(key: ItemKey | Key): { readonly text: string; readonly binary: boolean } {
  return needsBase64(key) ? { text: base64Key(key), binary: true } : { text: key, binary: false }
}

function base64Key(key: ItemKey | Key): string {
  return keyToBytes(key).toString('base64')
}
