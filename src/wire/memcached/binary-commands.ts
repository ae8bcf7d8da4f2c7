import { keyBytesMax } from '../../domain/key.ts'
import type { Exptime } from '../../domain/mutation.ts'
import { type Failure, failures, type FrameHeader, opcode } from './binary-frame.ts'
import { itemBytes } from './item-size.ts'
import type { BinaryForm, RefusedRequest, Request, StorageMode, StorageRequest } from './request.ts'
import type { RequestLimits } from './request-source.ts'

/** Where a frame leads to. What is left of its body behind extras and key is the value. */
export type FrameResult =
  /** A value that nobody wants is left out. */
  | { readonly kind: 'request'; readonly request: Request }
  | { readonly kind: 'value'; readonly request: StorageRequest }
  /** memcached answers, and closes: what follows can't be trusted. */
  | { readonly kind: 'fatal'; readonly request: Request }

/** @param extras as many as the command wants; `key` latin1 */
type Make = (frame: Frame, limits: RequestLimits) => FrameResult

interface Frame {
  readonly header: FrameHeader
  readonly form: BinaryForm
  readonly extras: Buffer
  readonly key: string
  readonly valueBytes: number
}

interface Command {
  /** Lengths of extras that it takes. */
  readonly extras: readonly number[]
  readonly key: 'wanted' | 'allowed' | 'none'
  /** `ignored`: memcached does not look whether there is one. We swallow it. */
  readonly value: 'wanted' | 'ignored' | 'none'
  readonly quiet: boolean
  readonly echoesKey: boolean
  readonly make: Make
}

/** Names with a namespace in front: 64 bytes and a colon. */
const prefixBytesMax = 65
/** memcached takes no more, whatever its item limit; a body up to here is swallowed where it is not wanted. */
const bodyBytesMax = 1024 ** 3
/** An expiry beyond is as good as this one: the log, like the text protocol, counts to 2^31-1 (the year 2038). */
const exptimeMax = 2 ** 31 - 1
/** As expiry of a counter: it is not to be created. */
const neverCreated = 0xffffffff

const plain = { extras: [0], key: 'none', value: 'none', quiet: false, echoesKey: false } as const
const keyed = { ...plain, key: 'wanted' } as const
const stored = { ...keyed, extras: [8], value: 'wanted' } as const
const joined = { ...keyed, value: 'wanted' } as const
const counted = { ...keyed, extras: [20] } as const
const touched = { ...keyed, extras: [4], value: 'ignored' } as const
const quiet = { quiet: true } as const
const echoing = { echoesKey: true } as const

const commands: ReadonlyMap<number, Command> = new Map<number, Command>([
  [opcode.get, { ...keyed, make: retrieval }],
  [opcode.getQ, { ...keyed, ...quiet, make: retrieval }],
  [opcode.getK, { ...keyed, ...echoing, make: retrieval }],
  [opcode.getKQ, { ...keyed, ...quiet, ...echoing, make: retrieval }],
  [opcode.set, { ...stored, make: storage('set') }],
  [opcode.setQ, { ...stored, ...quiet, make: storage('set') }],
  [opcode.add, { ...stored, make: storage('add') }],
  [opcode.addQ, { ...stored, ...quiet, make: storage('add') }],
  [opcode.replace, { ...stored, make: storage('replace') }],
  [opcode.replaceQ, { ...stored, ...quiet, make: storage('replace') }],
  [opcode.append, { ...joined, make: storage('append') }],
  [opcode.appendQ, { ...joined, ...quiet, make: storage('append') }],
  [opcode.prepend, { ...joined, make: storage('prepend') }],
  [opcode.prependQ, { ...joined, ...quiet, make: storage('prepend') }],
  [opcode.delete, { ...keyed, make: deletion }],
  [opcode.deleteQ, { ...keyed, ...quiet, make: deletion }],
  [opcode.increment, { ...counted, make: arithmetic('incr') }],
  [opcode.incrementQ, { ...counted, ...quiet, make: arithmetic('incr') }],
  [opcode.decrement, { ...counted, make: arithmetic('decr') }],
  [opcode.decrementQ, { ...counted, ...quiet, make: arithmetic('decr') }],
  [opcode.touch, { ...touched, make: retrieval }],
  [opcode.gat, { ...touched, make: retrieval }],
  [opcode.gatQ, { ...touched, ...quiet, make: retrieval }],
  [opcode.gatK, { ...touched, ...echoing, make: retrieval }],
  [opcode.gatKQ, { ...touched, ...quiet, ...echoing, make: retrieval }],
  [opcode.flush, { ...plain, extras: [0, 4], make: flush }],
  [opcode.flushQ, { ...plain, extras: [0, 4], ...quiet, make: flush }],
  [opcode.quit, { ...plain, make: quit }],
  [opcode.quitQ, { ...plain, ...quiet, make: quit }],
  [opcode.noop, { ...plain, make: ({ form }) => ask({ kind: 'noop', form }) }],
  [opcode.version, { ...plain, make: ({ form }) => ask({ kind: 'version', form }) }],
  [opcode.stat, { ...plain, key: 'allowed', value: 'ignored', make: statistics }],
  // As memcached without -S.
  [opcode.saslListMechanisms, { ...plain, make: unknown }],
  [opcode.saslAuthenticate, { ...keyed, value: 'ignored', make: unknown }],
  [opcode.saslStep, { ...keyed, value: 'ignored', make: unknown }],
])

/**
 * What the header alone decides. Undefined: extras and key are wanted. memcached waits for those before it says what is wrong; we say it
 * at once.
 */
export function judgeHeader(header: FrameHeader, limits: RequestLimits): FrameResult | undefined {
  const { keyBytes, extrasBytes, bodyBytes } = header
  const command = commands.get(header.opcode)
  const form = formOf(header, command)
  if (keyBytes + extrasBytes > bodyBytes) return fatal('unknown-command', form)
  if (bodyBytes > bodyBytesMax) return fatal('invalid-arguments', form)
  if (keyBytes > keyBytesMax + (limits.prefixedKeys ? prefixBytesMax : 0)) return fatal('invalid-arguments', form)
  if (command === undefined) return ask(refusedAs('unknown-command', form))
  return hasShape(header, command) ? undefined : fatal('invalid-arguments', form)
}

/** @param frame a header that was judged well, with its extras and key */
export function readFrame(
  header: FrameHeader,
  { extras, key }: { readonly extras: Buffer; readonly key: string },
  limits: RequestLimits,
): FrameResult {
  const command = commands.get(header.opcode)
  const form = formOf(header, command)
  if (command === undefined) return ask(refusedAs('unknown-command', form))
  const ownBytes = keyLength(key, limits)
  if (command.key === 'wanted' && (ownBytes === 0 || ownBytes > keyBytesMax)) return fatal('invalid-arguments', form)
  const valueBytes = header.bodyBytes - header.extrasBytes - header.keyBytes
  return command.make({ header, form, extras, key, valueBytes }, limits)
}

function formOf({ opcode: code, opaque }: FrameHeader, command: Command | undefined): BinaryForm {
  return {
    dialect: 'binary',
    opcode: code,
    opaque,
    quiet: command?.quiet ?? false,
    echoesKey: command?.echoesKey ?? false,
  }
}

function hasShape({ keyBytes, extrasBytes, bodyBytes }: FrameHeader, command: Command): boolean {
  if (!command.extras.includes(extrasBytes)) return false
  if (command.key !== 'allowed' && (command.key === 'wanted') !== keyBytes > 0) return false
  return command.value !== 'none' || bodyBytes === keyBytes + extrasBytes
}

/** Of the key itself, without the name of its namespace. */
function keyLength(key: string, limits: RequestLimits): number {
  return limits.prefixedKeys ? key.length - key.indexOf(':') - 1 : key.length
}

function ask(request: Request): FrameResult {
  return { kind: 'request', request }
}

function refusedAs(failure: Failure, form: BinaryForm): RefusedRequest {
  const { text, status } = failures[failure]
  return { kind: 'refused', line: text, status, form }
}

function fatal(failure: Failure, form: BinaryForm): FrameResult {
  return { kind: 'fatal', request: refusedAs(failure, form) }
}

function unknown({ form }: Frame): FrameResult {
  return ask(refusedAs('unknown-command', form))
}

/** Also `TOUCH`, which is a `GAT` that keeps the value to itself. */
function retrieval({ key, extras, form }: Frame): FrameResult {
  const touch = extras.length === 4 ? exptimeAt(extras, 0) : undefined
  return ask({ kind: 'retrieval', keys: [key], withCas: true, touch, form })
}

function storage(mode: StorageMode): Make {
  const joins = mode === 'append' || mode === 'prepend'
  return ({ header, form, extras, key, valueBytes }, limits) => {
    const flags = joins ? 0 : extras.readUInt32BE(0)
    const exptime = joins ? 0 : exptimeAt(extras, 4)
    if (itemBytes(keyLength(key, limits), flags, valueBytes) > limits.itemBytesMax) {
      return ask({ kind: 'oversize', key, takesOldAlong: mode === 'set', form })
    }
    const compare = tokenOf(header)
    return {
      kind: 'value',
      request: {
        kind: 'storage',
        // With a token all three compare and set, `add` too.
        mode: joins || compare === undefined ? mode : 'set',
        key,
        flags,
        exptime,
        compare,
        vivify: undefined,
        staleOnMismatch: false,
        value: noValue,
        form,
      },
    }
  }
}

function deletion({ header, key, form }: Frame): FrameResult {
  return ask({ kind: 'deletion', key, compare: tokenOf(header), form })
}

function arithmetic(direction: 'incr' | 'decr'): Make {
  return ({ header, form, extras, key }) => {
    const initial = extras.readBigUInt64BE(8)
    const created = extras.readUInt32BE(16) !== neverCreated
    return ask({
      kind: 'arithmetic',
      direction,
      key,
      delta: extras.readBigUInt64BE(0),
      compare: tokenOf(header),
      create: created ? { initial, exptime: exptimeAt(extras, 16) } : undefined,
      exptime: undefined,
      form,
    })
  }
}

function flush({ extras, form }: Frame): FrameResult {
  return ask({ kind: 'flush', exptime: extras.length === 0 ? 0 : exptimeAt(extras, 0), form })
}

function quit({ form }: Frame): FrameResult {
  return ask({ kind: 'quit', line: undefined, form })
}

/** memcached takes some topics by their first letters, and the rest whole; `conns` it does not know here. */
function statistics({ key, form }: Frame): FrameResult {
  const topic = topicOf(key)
  return ask(topic === undefined ? refusedAs('not-found', form) : { kind: 'stats', topic, form })
}

function topicOf(key: string): readonly string[] | undefined {
  if (key === '') return []
  if (key.startsWith('reset')) return ['reset']
  if (key.startsWith('settings')) return ['settings']
  if (key.startsWith('detail')) {
    const what = [' dump', ' on', ' off'].find((word) => key.startsWith(word, 'detail'.length))
    return what === undefined ? undefined : ['detail', what.slice(1)]
  }
  return ['items', 'slabs', 'sizes'].includes(key) ? [key] : undefined
}

function tokenOf({ cas }: FrameHeader): bigint | undefined {
  return cas === 0n ? undefined : cas
}

/** Unsigned on the wire: no expiry is negative. */
function exptimeAt(extras: Buffer, at: number): Exptime {
  return Math.min(extras.readUInt32BE(at), exptimeMax)
}

const noValue = Buffer.alloc(0)
