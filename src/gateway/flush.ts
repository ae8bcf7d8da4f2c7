import { type Outcome, relativeExptimeMaxSeconds } from '../domain/mutation.ts'
import type { FlushRequest } from '../wire/memcached/request.ts'
import { answerWithoutNamespace } from './change.ts'
import type { Conversation } from './conversation.ts'
import type { NamespaceCounters } from './counters.ts'
import { done, fail, refuse } from './dialects.ts'
import type { Reply } from './replies.ts'

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
  const mutation = { kind: 'flush', namespaceId: namespace.id, delaySeconds } as const
  void answer(conversation.mutations.submit(mutation), reply, services.counters.of(namespace.name))
}

async function answer(outcome: Promise<Outcome>, reply: Reply, counters: NamespaceCounters): Promise<void> {
  try {
    await outcome
    counters.cmd_flush++
    done(reply)
  } catch (error) {
    fail(reply, error)
  }
}

/** Over 30 days it is an absolute time, as everywhere in the protocol. */
function delayOf(exptime: number, nowSeconds: number): number {
  const delay = exptime > relativeExptimeMaxSeconds ? exptime - Math.floor(nowSeconds) : exptime
  return Math.max(0, delay)
}
