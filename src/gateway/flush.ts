import { relativeExptimeMaxSeconds } from '../domain/mutation.ts'
import type { FlushRequest } from '../wire/memcached/request.ts'
import type { Conversation } from './conversation.ts'
import { done, fail, refuse } from './dialects.ts'
import { answerWithoutNamespace } from './change.ts'

/** `flush_all`: of the listener's namespace, never of others. */
export function flush(conversation: Conversation, request: FlushRequest): void {
  const reply = conversation.begin(request.form)
  const { naming, services } = conversation
  if (naming.bound === undefined) {
    refuse(reply, 'CLIENT_ERROR flush_all needs a listener that is bound to one namespace')
    return
  }
  const namespace = naming.find('')
  if (namespace === undefined) {
    answerWithoutNamespace(conversation, reply)
    return
  }
  const delaySeconds = delayOf(request.exptime, services.nowSeconds())
  conversation.mutations.submit({ kind: 'flush', namespaceId: namespace.id, delaySeconds }).then(
    () => {
      services.counters.of(namespace.name).cmd_flush++
      done(reply)
    },
    (error: unknown) => fail(reply, error),
  )
}

/** Over 30 days it is an absolute time, as everywhere in the protocol. */
function delayOf(exptime: number, nowSeconds: number): number {
  const delay = exptime > relativeExptimeMaxSeconds ? exptime - Math.floor(nowSeconds) : exptime
  return Math.max(0, delay)
}
