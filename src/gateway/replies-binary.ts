import { type ErrorCode, replyOf, WhiteholeError } from '../domain/errors.ts'
import type { Outcome } from '../domain/mutation.ts'
import {
  type Failure,
  failures,
  formatFrame,
  opcode,
  type ReplyFrame,
  uint32,
  uint64,
} from '../wire/memcached/binary-frame.ts'
import type { BinaryForm } from '../wire/memcached/request.ts'
import type { Dialect } from './dialect.ts'
import type { Reply } from './replies.ts'

/** The binary protocol: success is silent where the command is quiet, a failure never, a miss only of a quiet retrieval. */
export const binaryDialect: Dialect = {
  item(reply, key, { flags, value }, cas) {
    const form = formOf(reply)
    const withValue = form.opcode !== opcode.touch
    add(reply, {
      cas: cas ?? unknownToken,
      extras: uint32(Number(flags)),
      key: form.echoesKey ? key : '',
      valueBytes: withValue ? value.length : 0,
    })
    if (withValue) reply.addValue(value)
  },
  endItems(reply, missed) {
    const form = formOf(reply)
    if (missed !== undefined && !form.quiet) {
      if (form.echoesKey) add(reply, { status: failures['not-found'].status, key: missed })
      else addFailure(reply, 'not-found')
    }
    reply.finish()
  },
  outcome(reply, _key, { outcome }) {
    const failure = failureOf(outcome, formOf(reply).opcode)
    if (failure !== undefined) {
      addFailure(reply, failure)
      reply.finish()
    } else if (outcome.kind === 'stored') {
      const number = outcome.number === undefined ? '' : uint64(outcome.number)
      succeed(reply, number, outcome.version)
    } else {
      succeed(reply)
    }
  },
  done(reply) {
    succeed(reply)
  },
  noop(reply) {
    succeed(reply)
  },
  version(reply, version) {
    succeed(reply, version)
  },
  stat(reply, name, value) {
    const text = latin1(String(value))
    add(reply, { key: name, valueBytes: text.length })
    reply.add(text)
  },
  endStats(reply) {
    add(reply, {})
    reply.finish()
  },
  refuse(reply, line, status) {
    // Whatever memcached does not know of its statistics is not found.
    if (status !== undefined) answer(reply, status, line)
    else if (formOf(reply).opcode === opcode.stat) answerFailure(reply, 'not-found')
    else answer(reply, failures['invalid-arguments'].status, withoutKind(line))
  },
  fail(reply, error) {
    if (!(error instanceof WhiteholeError)) answer(reply, internalError, withoutKind(replyOf(error)))
    else if (error.code === 'value-too-large') answerFailure(reply, 'too-large')
    else answer(reply, statuses[error.code], withoutKind(error.reply))
  },
}

/**
 * The token of an item whose version nobody can tell at the moment (no database answers, and this memcached keeps no versions): no
 * version is like it, so that a change that compares with it is refused. Not 0: that would mean "in any case".
 */
export const unknownToken = (1n << 64n) - 1n

/** Of the protocol's own table, though memcached sends none of them. */
const notSupported = 0x83
const internalError = 0x84
const busy = 0x85
const temporaryFailure = 0x86

/** Temporary: nothing was written, or nothing was asked to. */
const statuses: Readonly<Record<ErrorCode, number>> = {
  'key-too-long': failures['invalid-arguments'].status,
  'value-too-large': failures['too-large'].status,
  'unknown-namespace': failures['invalid-arguments'].status,
  'not-supported': notSupported,
  'not-written': temporaryFailure,
  'outcome-unknown': internalError,
  'queue-full': busy,
  'not-serving': temporaryFailure,
  'database-away': temporaryFailure,
  'memcached-away': temporaryFailure,
  'item-away': temporaryFailure,
  contended: busy,
  'log-unreadable': temporaryFailure,
  'log-purged': temporaryFailure,
  'log-diverged': temporaryFailure,
  'log-gap': temporaryFailure,
  'bad-configuration': internalError,
  'bad-schema': internalError,
}

function failureOf(outcome: Outcome, code: number): Failure | undefined {
  switch (outcome.kind) {
    case 'exists':
    case 'not-found':
    case 'not-a-number':
      return outcome.kind
    case 'not-stored':
      return notStored.get(code) ?? 'not-stored'
    case 'stored':
    case 'deleted':
    case 'touched':
    case 'flushed':
      return undefined
  }
}

/** memcached has words of its own for each command that did not store. */
const notStored: ReadonlyMap<number, Failure> = new Map([
  [opcode.add, 'exists'],
  [opcode.addQ, 'exists'],
  [opcode.replace, 'not-found'],
  [opcode.replaceQ, 'not-found'],
])

function succeed(reply: Reply, body = '', cas = 0n): void {
  if (!formOf(reply).quiet) {
    add(reply, { cas, valueBytes: body.length })
    reply.add(body)
  }
  reply.finish()
}

function answerFailure(reply: Reply, failure: Failure): void {
  answer(reply, failures[failure].status, failures[failure].text)
}

/** In place of whatever was written before. */
function answer(reply: Reply, status: number, text: string): void {
  reply.clear()
  const body = latin1(text)
  add(reply, { status, valueBytes: body.length })
  reply.add(body)
  reply.finish()
}

function addFailure(reply: Reply, failure: Failure): void {
  const { status, text } = failures[failure]
  add(reply, { status, valueBytes: text.length })
  reply.add(text)
}

function add(reply: Reply, frame: Omit<ReplyFrame, 'opcode' | 'opaque'>): void {
  const { opcode: code, opaque } = formOf(reply)
  reply.add(formatFrame({ ...frame, opcode: code, opaque }))
}

function formOf(reply: Reply): BinaryForm {
  return reply.form as BinaryForm
}

/** One character a byte. */
function latin1(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1')
}

function withoutKind(line: string): string {
  return line.replace(/^(?:CLIENT_ERROR|SERVER_ERROR) /, '')
}
