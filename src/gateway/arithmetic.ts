import { composeItemKey } from '../domain/key.ts'
import { relativeExptimeMaxSeconds } from '../domain/mutation.ts'
import type { ArithmeticRequest } from '../wire/memcached/request.ts'
import { change, type ChangedKey } from './change.ts'
import type { Conversation } from './conversation.ts'

/** `incr decr`, `ma` */
export function count(conversation: Conversation, request: ArithmeticRequest): void {
  const { direction, delta, compare, create, exptime } = request
  change(conversation, request, {
    submit: ({ namespace, key }) =>
      conversation.mutations.submit({
        kind: 'arithmetic',
        namespaceId: namespace.id,
        key,
        direction,
        delta,
        ...(compare === undefined ? {} : { compare }),
        ...(create === undefined ? {} : { create }),
        ...(exptime === undefined ? {} : { exptime }),
      }),
    conclude: (outcome, counters, at) => {
      if (outcome.kind === 'not-found') counters[`${direction}_misses`]++
      else if (outcome.kind === 'stored' && outcome.created !== true) counters[`${direction}_hits`]++
      if (outcome.kind !== 'stored' || !wantsTime(request)) return undefined
      const given = outcome.created === true ? create?.exptime : exptime
      return remainingSeconds(conversation, at, given)
    },
  })
}

function wantsTime({ form }: ArithmeticRequest): boolean {
  return form.dialect === 'meta' && form.flags.includes('t')
}

/** What the request set itself is told as it was given; else the node's memcached knows. */
async function remainingSeconds(
  conversation: Conversation,
  { namespace, key }: ChangedKey,
  given: number | undefined,
): Promise<{ remainingSeconds: number }> {
  if (given === 0) return { remainingSeconds: -1 }
  if (given !== undefined && given > 0) {
    const now = Math.floor(conversation.services.nowSeconds())
    return { remainingSeconds: given > relativeExptimeMaxSeconds ? given - now : given }
  }
  const question = { withValue: false, noBump: true }
  const itemKey = composeItemKey(namespace.name, key)
  const item = await conversation.services.reads.examine(namespace.id, itemKey, question)
  return { remainingSeconds: item?.remainingSeconds ?? 0 }
}
