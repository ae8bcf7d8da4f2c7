import { keyBytesMax } from '../../domain/key.ts'
import { adminCommands } from './admin-commands.ts'
import { itemBytes } from './item-size.ts'
import { metaCommands } from './meta-commands.ts'
import { exptimeNumber, flagsNumber, strictInt32, strictUint32, strictUint64, valueLength } from './numbers.ts'
import {
  loud,
  refused,
  type Request,
  type RequestKey,
  silent,
  type StorageMode,
  type StorageRequest,
  type TextForm,
} from './request.ts'
import type { RequestLimits } from './request-source.ts'

/** What a command line leads to. */
export type LineResult =
  | Request
  /** A value follows; the request gets it. */
  | { readonly kind: 'value'; readonly bytes: number; readonly request: StorageRequest }
  /** A value follows that nobody wants: it is read and thrown away, line end included, never executed as commands. */
  | { readonly kind: 'swallow'; readonly bytes: number; readonly request: Request }

const badFormat = 'CLIENT_ERROR bad command line format'
const badExptime = 'CLIENT_ERROR invalid exptime argument'
const badDeletion = 'CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]'

const noValue = Buffer.alloc(0)

/** memcached looks at no more words of a line than these, `noreply` at the end among them. */
const wordsMax = 23

export type Command = (words: readonly string[], form: TextForm, limits: RequestLimits) => LineResult

const storageModes: ReadonlyMap<string, StorageMode> = new Map([
  ['set', 'set'],
  ['cas', 'set'],
  ['add', 'add'],
  ['replace', 'replace'],
  ['append', 'append'],
  ['prepend', 'prepend'],
])

/** Commands by their first word, save for storage, which has bodies, and for lists of keys, which have no limit of words. */
const commands: ReadonlyMap<string, Command> = new Map<string, Command>([
  ...['get', 'gets', 'gat', 'gats'].map((name): [string, Command] => [name, () => refused(badFormat)]),
  ['delete', deletion],
  ['touch', touch],
  ['incr', arithmetic],
  ['decr', arithmetic],
  ['flush_all', flush],
  ['stats', (words) => ({ kind: 'stats', topic: words.slice(1), form: loud })],
  ['version', () => ({ kind: 'version', form: loud })],
  ['verbosity', verbosity],
  ['mn', () => ({ kind: 'noop', form: loud })],
  ['quit', () => ({ kind: 'quit', line: undefined })],
  ...metaCommands,
  ...adminCommands,
])

/**
 * @param line latin1, without its end
 * @param bytes length with its end, as memcached counts it
 */
export function parseTextLine(line: string, bytes: number, limits: RequestLimits): LineResult {
  if (bytes < 4) return refused(badFormat)
  if (line.startsWith('get ')) return retrieval(line, 4, false, limits)
  if (line.startsWith('gets ')) return retrieval(line, 5, true, limits)
  const allWords = splitWords(line)
  if (line.startsWith('gat ')) return getAndTouch(allWords, false, limits)
  if (line.startsWith('gats ')) return getAndTouch(allWords, true, limits)
  const words = allWords.length > wordsMax ? allWords.slice(0, wordsMax) : allWords
  const space = line.indexOf(' ')
  const name = space < 0 ? line : line.slice(0, space)
  const form = words.at(-1) === 'noreply' ? silent : loud
  const mode = storageModes.get(name)
  if (mode !== undefined) return storage(mode, words, form, limits)
  const command = commands.get(name)
  if (command !== undefined) return command(words, form, limits)
  // A browser made to speak to us: what follows may hold commands (a cross-protocol attack).
  if (line.includes(' HTTP/')) return { kind: 'quit', line: undefined }
  return refused('ERROR', form)
}

/** Length of the key itself, without the name of its namespace. */
export function keyLength(key: RequestKey, limits: RequestLimits): number {
  return limits.prefixedKeys ? key.length - key.indexOf(':') - 1 : key.length
}

function isKey(key: RequestKey, limits: RequestLimits): boolean {
  const length = keyLength(key, limits)
  return length > 0 && length <= keyBytesMax
}

/** Hot path. Any number of keys, unlike the words of other commands. */
function retrieval(line: string, from: number, withCas: boolean, limits: RequestLimits): LineResult {
  let keys: RequestKey[]
  if (line.indexOf(' ', from) < 0) {
    keys = [from < line.length ? line.slice(from) : '']
  } else {
    keys = line.slice(from).split(' ')
    if (keys.includes('')) keys = keys.filter((key) => key !== '')
  }
  if (keys.length === 0 || keys[0] === '') return refused(badFormat)
  return retrieve(keys, { withCas, touch: undefined }, limits)
}

function getAndTouch(words: readonly string[], withCas: boolean, limits: RequestLimits): LineResult {
  if (words.length < 3) return refused(badFormat)
  const exptime = strictInt32(words[1] ?? '')
  if (exptime === undefined) return refused(badExptime)
  return retrieve(words.slice(2), { withCas, touch: exptime }, limits)
}

function retrieve(
  keys: readonly RequestKey[],
  how: { readonly withCas: boolean; readonly touch: number | undefined },
  limits: RequestLimits,
): LineResult {
  if (keys.length > limits.keysMax) return refused(`CLIENT_ERROR too many keys: at most ${limits.keysMax}`)
  for (const key of keys) if (!isKey(key, limits)) return refused(badFormat)
  return { kind: 'retrieval', keys, withCas: how.withCas, touch: how.touch, form: loud }
}

function storage(mode: StorageMode, words: readonly string[], form: TextForm, limits: RequestLimits): LineResult {
  const bytes = words.length < 5 ? undefined : valueLength(words[4] ?? '')
  // Without a length nobody can tell where the body ends: it is read as commands, by memcached too.
  if (bytes === undefined) return refused(badFormat)
  const key = words[1] ?? ''
  const flags = flagsNumber(words[2] ?? '')
  const exptime = exptimeNumber(words[3] ?? '')
  const compare = words[0] === 'cas' ? strictUint64(words[5] ?? '') : undefined
  const badCompare = words[0] === 'cas' && compare === undefined
  if (!isKey(key, limits) || flags === undefined || exptime === undefined || badCompare) {
    return { kind: 'swallow', bytes: bytes + 2, request: refused(badFormat, form) }
  }
  if (itemBytes(keyLength(key, limits), flags, bytes) > limits.itemBytesMax) {
    const takesOldAlong = words[0] === 'set'
    return { kind: 'swallow', bytes: bytes + 2, request: { kind: 'oversize', key, takesOldAlong, form } }
  }
  const request: StorageRequest = {
    kind: 'storage',
    mode,
    key,
    flags,
    exptime,
    compare,
    vivify: undefined,
    staleOnMismatch: false,
    value: noValue,
    form,
  }
  return { kind: 'value', bytes, request }
}

/** What follows the key is looked at as memcached 1.6.18 does: libmemcached's conformance suite wants its usage error. */
function deletion(words: readonly string[], form: TextForm, limits: RequestLimits): LineResult {
  if (words.length < 2) return refused(badFormat)
  const legacyTime = words[2] === '0'
  const valid =
    words.length === 2 ||
    (words.length === 3 && (legacyTime || form.quiet)) ||
    (words.length === 4 && legacyTime && form.quiet)
  if (!valid) return refused(badDeletion, form)
  const key = words[1] ?? ''
  return isKey(key, limits) ? { kind: 'deletion', key, compare: undefined, form } : refused(badFormat, form)
}

function touch(words: readonly string[], form: TextForm, limits: RequestLimits): LineResult {
  if (words.length < 3) return refused(badFormat)
  const key = words[1] ?? ''
  if (!isKey(key, limits)) return refused(badFormat, form)
  const exptime = strictInt32(words[2] ?? '')
  return exptime === undefined ? refused(badExptime, form) : { kind: 'touch', key, exptime, form }
}

function arithmetic(words: readonly string[], form: TextForm, limits: RequestLimits): LineResult {
  if (words.length < 3) return refused(badFormat)
  const key = words[1] ?? ''
  if (!isKey(key, limits)) return refused(badFormat, form)
  const delta = strictUint64(words[2] ?? '')
  if (delta === undefined) return refused('CLIENT_ERROR invalid numeric delta argument', form)
  const direction = words[0] === 'incr' ? 'incr' : 'decr'
  return { kind: 'arithmetic', direction, key, delta, compare: undefined, create: undefined, exptime: undefined, form }
}

function flush(words: readonly string[], form: TextForm): LineResult {
  if (words.length === (form.quiet ? 2 : 1)) return { kind: 'flush', exptime: 0, form }
  const exptime = strictInt32(words[1] ?? '')
  return exptime === undefined ? refused(badExptime, form) : { kind: 'flush', exptime, form }
}

function verbosity(words: readonly string[], form: TextForm): LineResult {
  return strictUint32(words[1] ?? '') === undefined ? refused(badFormat, form) : { kind: 'verbosity', form }
}

function splitWords(line: string): readonly string[] {
  const words = line.split(' ')
  return words.includes('') ? words.filter((word) => word !== '') : words
}
