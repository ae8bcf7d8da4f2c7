import type { Exptime } from '../../domain/mutation.ts'
import { keyBytesMax } from '../../domain/key.ts'
import { decodeBase64Key } from './base64.ts'
import { itemBytes } from './item-size.ts'
import { strictInt32, strictUint32, strictUint64, valueLength } from './numbers.ts'
import {
  type InvalidationRequest,
  type MetaForm,
  refused,
  type RequestKey,
  type StorageMode,
  type StorageRequest,
} from './request.ts'
import type { RequestLimits } from './request-source.ts'
import type { Command, LineResult } from './text-commands.ts'

/** `mg ms md ma me`; `mn` has nothing to parse. What is wrong is told in the order in which memcached 1.6.45 finds it. */
export const metaCommands: readonly [name: string, Command][] = [
  ['mg', (words, _form, limits) => keyed(words, limits, metaGet)],
  ['ms', metaSet],
  ['md', (words, _form, limits) => keyed(words, limits, metaDelete)],
  ['ma', (words, _form, limits) => keyed(words, limits, metaArithmetic)],
  ['me', metaDebug],
]

const badFormat = 'CLIENT_ERROR bad command line format'
const badToken = 'CLIENT_ERROR bad token in command line format'

/** Command, key and flags together. */
const wordsMax = 20
/** With the letter O. */
const opaqueBytesMax = 32

/** What the words behind the key say. */
interface MetaFlags {
  readonly form: MetaForm
  readonly key: RequestKey
  readonly letters: ReadonlySet<string>
  readonly vivify: Exptime | undefined
  readonly exptime: Exptime | undefined
  readonly recacheBelow: Exptime | undefined
  readonly clientFlags: number
  readonly compare: bigint | undefined
  /** First character behind `M`; a blank where there is none. */
  readonly mode: string | undefined
  readonly initial: bigint
  readonly delta: bigint
}

function keyed(words: readonly string[], limits: RequestLimits, command: (flags: MetaFlags) => LineResult): LineResult {
  if (words.length < 2 || !beginReadably(words, 2)) return refused(badFormat)
  const flags = parseFlags(words, 2, limits)
  // As memcached: it has but one text for `ma`.
  if (typeof flags === 'string') return refused(words[0] === 'ma' ? 'CLIENT_ERROR invalid or duplicate flag' : flags)
  return opaqueFits(flags) ? command(flags) : refused(opaqueTooLong)
}

function metaGet(flags: MetaFlags): LineResult {
  const { key, letters, compare, exptime, vivify, recacheBelow, form } = flags
  return {
    kind: 'meta-get',
    key,
    withValue: letters.has('v'),
    withCas: letters.has('c') || compare !== undefined,
    unlessCas: compare,
    touch: exptime,
    vivify,
    recacheBelow,
    form,
  }
}

function metaDelete(flags: MetaFlags): LineResult {
  const { key, letters, compare, exptime, form } = flags
  const stale = letters.has('I')
  const dropsValue = letters.has('x')
  if (!stale && !dropsValue) return { kind: 'deletion', key, compare, form }
  // Without its value the item is made anew, and lives as long as T says: without end where it says nothing.
  const lives = dropsValue ? (exptime ?? 0) : exptime
  return { kind: 'invalidation', key, compare, stale, dropsValue, exptime: lives, form } satisfies InvalidationRequest
}

function metaArithmetic(flags: MetaFlags): LineResult {
  const { key, compare, exptime, vivify, initial, delta, mode, form } = flags
  const direction = arithmeticModes.get(mode ?? 'I')
  if (direction === undefined) return refused('CLIENT_ERROR invalid mode for ma M token')
  const create = vivify === undefined ? undefined : { initial, exptime: exptimeOfCreated(flags, vivify) }
  // A token of 0 compares with nothing here.
  return {
    kind: 'arithmetic',
    direction,
    key,
    delta,
    compare: compare === 0n ? undefined : compare,
    create,
    exptime,
    form,
  }
}

const arithmeticModes: ReadonlyMap<string, 'incr' | 'decr'> = new Map([
  ['I', 'incr'],
  ['+', 'incr'],
  ['D', 'decr'],
  ['-', 'decr'],
])

/** T and N both set the expiry of a created number: the later one stays. */
function exptimeOfCreated({ form, exptime }: MetaFlags, vivify: Exptime): Exptime {
  if (exptime === undefined) return vivify
  const letters = form.flags.map((flag) => flag[0])
  return letters.indexOf('T') > letters.indexOf('N') ? exptime : vivify
}

function metaSet(words: readonly string[], _form: unknown, limits: RequestLimits): LineResult {
  const bytes = words.length < 3 ? undefined : valueLength(words[2] ?? '')
  // Without a length nobody can tell where the body ends: it is read as commands, by memcached too.
  if (bytes === undefined) return refused(badFormat)
  const refuse = (line: string): LineResult => ({ kind: 'swallow', bytes: bytes + 2, request: refused(line) })
  if (!beginReadably(words, 3)) return refuse(badFormat)
  const flags = parseFlags(words, 3, limits)
  if (typeof flags === 'string') return refuse(flags)
  const mode = storageModes.get(flags.mode ?? 'S')
  if (mode === undefined) return refuse('CLIENT_ERROR invalid mode for ms M token')
  const { key, clientFlags, exptime, compare, form, letters } = flags
  if (itemBytes(ownLength(key, limits), clientFlags, bytes) > limits.itemBytesMax) {
    return { kind: 'swallow', bytes: bytes + 2, request: { kind: 'oversize', key, takesOldAlong: true, form } }
  }
  if (!opaqueFits(flags)) return refuse(opaqueTooLong)
  const joins = mode === 'append' || mode === 'prepend'
  const request: StorageRequest = {
    kind: 'storage',
    mode,
    key,
    flags: clientFlags,
    exptime: exptime ?? 0,
    // An `add` looks at no token, and to join 0 is none.
    compare: mode === 'add' || (joins && compare === 0n) ? undefined : compare,
    vivify: joins ? flags.vivify : undefined,
    // A token of 0 is older than none.
    staleOnMismatch: letters.has('I') && (compare ?? 0n) !== 0n && (mode === 'set' || mode === 'replace'),
    value: noValue,
    form,
  }
  return { kind: 'value', bytes, request }
}

const storageModes: ReadonlyMap<string, StorageMode> = new Map([
  ['S', 'set'],
  ['E', 'add'],
  ['A', 'append'],
  ['P', 'prepend'],
  ['R', 'replace'],
])

const noValue = Buffer.alloc(0)

/** As protocol.txt has it: the one flag is `b`. (memcached 1.6.45 wants a further word behind it.) */
function metaDebug(words: readonly string[], _form: unknown, limits: RequestLimits): LineResult {
  const [, text = ''] = words
  if (words.length < 2 || !textFits(text, limits) || !beginReadably(words, 2)) return refused(badFormat)
  const base64 = words[2] === 'b'
  const key = base64 ? decodeBase64Key(text) : text
  if (key === undefined || !keyFits(key, limits)) return refused(badFormat)
  return {
    kind: 'meta-debug',
    key,
    form: { dialect: 'meta', command: 'me', quiet: false, flags: words.slice(2), base64 },
  }
}

/** memcached's own words go from `A` to `z`; with another character it gives the line up. */
function beginReadably(words: readonly string[], from: number): boolean {
  return words.slice(from).every((word) => /^[A-z0-9]/.test(word))
}

/** @returns memcached's complaint where something is wrong */
function parseFlags(words: readonly string[], from: number, limits: RequestLimits): MetaFlags | string {
  const text = words[1] ?? ''
  if (!textFits(text, limits)) return badFormat
  if (words.length > wordsMax) return 'CLIENT_ERROR options flags are too long'
  const flags = words.slice(from)
  const letters = new Set<string>()
  const tokens = new Map<string, bigint | number>()
  // A bad token lets memcached read on, and tell the last one; an unknown or a double flag ends it.
  let complaint: string | undefined
  let key: string | undefined = text
  for (const flag of flags) {
    const letter = flag.charAt(0)
    if (letters.has(letter)) return 'CLIENT_ERROR duplicate flag'
    letters.add(letter)
    const token = tokenFlags.get(letter)
    if (letter === 'b') {
      key = decodeBase64Key(text)
      if (key === undefined) complaint = 'CLIENT_ERROR error decoding key'
    } else if (token !== undefined) {
      const value = flag.length > 1 ? token.parse(flag.slice(1)) : undefined
      if (value === undefined) complaint = token.complaint ?? complaint ?? badFormat
      else tokens.set(letter, value)
    } else if (!plainFlags.has(letter)) {
      return 'CLIENT_ERROR invalid flag'
    }
  }
  if (complaint !== undefined) return complaint
  if (key === undefined || !keyFits(key, limits)) return badFormat
  const mode = flags.find((flag) => flag.startsWith('M'))
  return {
    form: {
      dialect: 'meta',
      command: words[0] as MetaForm['command'],
      quiet: letters.has('q'),
      flags,
      base64: letters.has('b'),
    },
    key,
    letters,
    vivify: tokens.get('N') as number | undefined,
    exptime: tokens.get('T') as number | undefined,
    recacheBelow: tokens.get('R') as number | undefined,
    clientFlags: (tokens.get('F') as number | undefined) ?? 0,
    compare: tokens.get('C') as bigint | undefined,
    mode: mode === undefined ? undefined : mode.charAt(1),
    initial: (tokens.get('J') as bigint | undefined) ?? 0n,
    delta: (tokens.get('D') as bigint | undefined) ?? 1n,
  }
}

interface TokenFlag {
  parse(text: string): bigint | number | undefined
  /** Undefined: memcached keeps what it found before. */
  readonly complaint: string | undefined
}

const tokenFlags: ReadonlyMap<string, TokenFlag> = new Map<string, TokenFlag>([
  ['N', { parse: strictInt32, complaint: badToken }],
  ['T', { parse: strictInt32, complaint: badToken }],
  ['R', { parse: strictInt32, complaint: badToken }],
  ['C', { parse: strictUint64, complaint: badToken }],
  // Looked at and ignored: our versions are the cluster's (docs/PROTOCOL.md).
  ['E', { parse: strictUint64, complaint: badToken }],
  ['J', { parse: strictUint64, complaint: 'CLIENT_ERROR invalid numeric initial value' }],
  ['D', { parse: strictUint64, complaint: 'CLIENT_ERROR invalid numeric delta value' }],
  ['F', { parse: strictUint32, complaint: undefined }],
])

/** Every command knows every flag, and ignores those that mean nothing to it. `P` and `L` are for proxies. */
const plainFlags: ReadonlySet<string> = new Set('OPLksctfvhluqxMI')

const opaqueTooLong = 'CLIENT_ERROR opaque token too long'

function opaqueFits({ form }: MetaFlags): boolean {
  return form.flags.every((flag) => !flag.startsWith('O') || flag.length <= opaqueBytesMax)
}

/** memcached's limit holds for what is sent; the name of a namespace in front does not count. */
function textFits(text: string, limits: RequestLimits): boolean {
  return limits.prefixedKeys ? text.length > 0 : text.length > 0 && text.length <= keyBytesMax
}

function keyFits(key: string, limits: RequestLimits): boolean {
  const length = ownLength(key, limits)
  return length > 0 && length <= keyBytesMax
}

function ownLength(key: string, limits: RequestLimits): number {
  return limits.prefixedKeys ? key.length - key.indexOf(':') - 1 : key.length
}
