import { replyOf } from '../domain/errors.ts'
import type { Outcome } from '../domain/mutation.ts'
import type { Dialect } from './dialect.ts'

/** The classic text protocol. With `noreply` the reply itself keeps silent. */
export const textDialect: Dialect = {
  item(reply, key, item, cas) {
    const { flags, text: value = item.value } = item
    reply.add(`VALUE ${key} ${flags} ${value.length}${cas === undefined ? '' : ` ${cas}`}\r\n`)
    reply.addValue(value)
    reply.add('\r\n')
  },
  endItems(reply) {
    reply.add('END\r\n')
    reply.finish()
  },
  outcome(reply, _key, { outcome }) {
    reply.answer(lineOf(outcome))
  },
  done(reply) {
    reply.answer('OK')
  },
  noop(reply) {
    reply.answer('MN')
  },
  version(reply, version) {
    reply.answer(`VERSION ${version}`)
  },
  stat(reply, name, value) {
    reply.add(`STAT ${name} ${value}\r\n`)
  },
  endStats(reply) {
    reply.add('END\r\n')
    reply.finish()
  },
  refuse(reply, line) {
    reply.answer(line)
  },
  fail(reply, error) {
    reply.answer(replyOf(error))
  },
}

export const notANumber = 'CLIENT_ERROR cannot increment or decrement non-numeric value'

function lineOf(outcome: Outcome): string {
  switch (outcome.kind) {
    case 'stored':
      return outcome.number === undefined ? 'STORED' : String(outcome.number)
    case 'deleted':
      return 'DELETED'
    case 'touched':
      return 'TOUCHED'
    case 'not-stored':
      return 'NOT_STORED'
    case 'exists':
      return 'EXISTS'
    case 'not-found':
      return 'NOT_FOUND'
    case 'not-a-number':
      return notANumber
    case 'flushed':
      return 'OK'
  }
}
