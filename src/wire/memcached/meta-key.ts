import { type ItemKey, type Key, keyToBytes, needsBase64 } from '../../domain/key.ts'
import { casText, type ItemCas } from '../../domain/local-reads.ts'

/** What a plain read asks: the hot path. */
export function formatMetaGet(key: ItemKey): string {
  return needsBase64(key) ? `mg ${base64Key(key)} v f c b\r\n` : `mg ${key} v f c\r\n`
}

/** The same, and the time that is left to it. */
export function formatTimedMetaGet(key: ItemKey): string {
  return needsBase64(key) ? `mg ${base64Key(key)} v f c t b\r\n` : `mg ${key} v f c t\r\n`
}

/** The same as the first, neither bumped nor counted as hit: for whoever reads everything once. */
export function formatMetaPeek(key: ItemKey): string {
  return needsBase64(key) ? `mg ${base64Key(key)} v f c u b\r\n` : `mg ${key} v f c u\r\n`
}

/**
 * The same where items may be stale: `mg` takes the right to refill such a one, which belongs to whoever asks by the meta protocol. A key
 * that the classic commands can't name is asked by `mg` all the same: then so be it.
 */
export function formatClassicGet(key: ItemKey): string {
  return needsBase64(key) ? formatMetaGet(key) : `gets ${key}\r\n`
}

/** The key as a meta command names it; with `binary` the command also wants the flag `b`. */
export function metaKey(key: ItemKey | Key): { readonly text: string; readonly binary: boolean } {
  return needsBase64(key) ? { text: base64Key(key), binary: true } : { text: key, binary: false }
}

/** A quiet command with its line end: the item goes if it is still this very one. */
export function deleteByCas(item: ItemCas & { readonly key: ItemKey }): string {
  const { text, binary } = metaKey(item.key)
  return `md ${text}${binary ? ' b' : ''} q C${casText(item)}\r\n`
}

function base64Key(key: ItemKey | Key): string {
  return keyToBytes(key).toString('base64')
}
