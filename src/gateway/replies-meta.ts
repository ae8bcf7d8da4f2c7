import type { ExaminedItem } from '../domain/local-reads.ts'
import type { Outcome } from '../domain/mutation.ts'
import { encodeBase64Key } from '../wire/memcached/base64.ts'
import type { MetaForm, RequestKey } from '../wire/memcached/request.ts'
import type { ChangeResult, Dialect } from './dialect.ts'
import type { Reply } from './replies.ts'
import { notANumber, textDialect } from './replies-text.ts'

/** Changes by `ms md ma`. Errors are told whatever `q` says, in the text protocol's words; the rest never comes in this form. */
export const metaDialect: Dialect = {
  ...textDialect,
  outcome(reply, key, change) {
    const form = reply.form as MetaForm
    const { outcome } = change
    if (outcome.kind === 'not-a-number') {
      reply.answer(notANumber)
      return
    }
    const code = codeOf(outcome)
    if (form.quiet && code === 'HD') {
      reply.finish()
      return
    }
    const number = code === 'HD' && form.flags.includes('v') ? numberOf(outcome) : undefined
    const words = form.flags.map((flag) => changeWord(flag, form, { key, change })).join('')
    reply.answer(number === undefined ? `${code}${words}` : `VA ${number.length}${words}\r\n${number}`)
  },
}

/** A hit of `mg`. */
export function answerMetaItem(reply: Reply, key: RequestKey, answer: MetaAnswer): void {
  const form = reply.form as MetaForm
  const { item, value } = answer
  const words = form.flags.map((flag) => itemWord(flag, form, { key, answer })).join('')
  const lease = `${item.leased ? ' Z' : ''}${item.stale ? ' X' : ''}${item.won ? ' W' : ''}`
  if (value === undefined) {
    reply.add(`HD${words}${lease}\r\n`)
  } else {
    reply.add(`VA ${value.length}${words}${lease}\r\n`)
    reply.addValue(value)
    reply.add('\r\n')
  }
  reply.finish()
}

export function answerMetaMiss(reply: Reply, key: RequestKey): void {
  const form = reply.form as MetaForm
  if (form.quiet) reply.finish()
  else reply.answer(`EN${form.flags.map((flag) => echoWord(flag, form, key)).join('')}`)
}

export interface MetaAnswer {
  readonly item: ExaminedItem
  /** Undefined: not asked for, or held back since the client has it. As text: a character a byte. */
  readonly value: Buffer | string | undefined
  readonly cas: bigint | undefined
  /** Before a touch of the same request, where its flag stands behind `t`. */
  readonly remainingSeconds: number
  readonly before: Pick<ExaminedItem, 'hitBefore' | 'idleSeconds'>
}

function itemWord(flag: string, form: MetaForm, given: { key: RequestKey; answer: MetaAnswer }): string {
  const { item, cas, remainingSeconds, before } = given.answer
  switch (flag[0]) {
    case 's':
      return ` s${item.sizeBytes}`
    case 't':
      return ` t${remainingSeconds}`
    case 'c':
      return ` c${cas ?? 0}`
    case 'f':
      return ` f${item.flags}`
    case 'l':
      return ` l${before.idleSeconds}`
    case 'h':
      return before.hitBefore ? ' h1' : ' h0'
    default:
      return echoWord(flag, form, given.key)
  }
}

function changeWord(flag: string, form: MetaForm, given: { key: RequestKey; change: ChangeResult }): string {
  const { outcome, sizeBytes, remainingSeconds } = given.change
  const stored = outcome.kind === 'stored'
  switch (flag[0]) {
    case 'c':
      if (form.command === 'ms') return ` c${stored ? outcome.version : 0}`
      return form.command === 'ma' && stored ? ` c${outcome.version}` : ''
    case 's':
      return form.command === 'ms' ? ` s${sizeBytes ?? 0}` : ''
    case 't':
      return form.command === 'ma' && stored ? ` t${remainingSeconds ?? -1}` : ''
    default:
      return echoWord(flag, form, given.key)
  }
}

/** What comes back whatever happened. */
function echoWord(flag: string, form: MetaForm, key: RequestKey): string {
  if (flag[0] === 'O') return ` ${flag}`
  if (flag[0] !== 'k') return ''
  return form.base64 ? ` k${encodeBase64Key(key)} b` : ` k${key}`
}

function codeOf(outcome: Exclude<Outcome, { kind: 'not-a-number' }>): 'HD' | 'NS' | 'EX' | 'NF' {
  switch (outcome.kind) {
    case 'stored':
    case 'deleted':
    case 'touched':
    case 'flushed':
      return 'HD'
    case 'not-stored':
      return 'NS'
    case 'exists':
      return 'EX'
    case 'not-found':
      return 'NF'
  }
}

function numberOf(outcome: Outcome): string | undefined {
  return outcome.kind === 'stored' && outcome.number !== undefined ? String(outcome.number) : undefined
}
