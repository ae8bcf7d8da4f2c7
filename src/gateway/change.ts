import { WhiteholeError } from '../domain/errors.ts'
import type { Key } from '../domain/key.ts'
import type { Outcome } from '../domain/mutation.ts'
import type { CataloguedNamespace } from '../domain/namespaces.ts'
import type { ReplyForm, RequestKey } from '../wire/memcached/request.ts'
import { type Conversation, unknownNamespace } from './conversation.ts'
import type { NamespaceCounters } from './counters.ts'
import type { ChangeResult } from './dialect.ts'
import { dialectOf, fail, refuse } from './dialects.ts'
import type { Reply } from './replies.ts'

/** A key in its namespace, as it was found when the request came. */
export interface ChangedKey {
  readonly namespace: CataloguedNamespace
  readonly key: Key
}

export interface Change {
  /** What the request occupies until it is answered. */
  readonly heldBytes?: number
  readonly submit: (at: ChangedKey) => Promise<Outcome>
  /** Counts how it ended, and gives what the reply tells beyond it. */
  readonly conclude?: (
    outcome: Outcome,
    counters: NamespaceCounters,
    at: ChangedKey,
  ) => Omit<ChangeResult, 'outcome'> | Promise<Omit<ChangeResult, 'outcome'>> | void
}

/** One change of one key. */
export function change(
  conversation: Conversation,
  request: { readonly key: RequestKey; readonly form: ReplyForm },
  { heldBytes, submit, conclude }: Change,
): void {
  const reply = conversation.begin(request.form, heldBytes)
  const namespace = conversation.naming.find(request.key)
  if (namespace === undefined) {
    answerWithoutNamespace(conversation, reply)
    return
  }
  const at = { namespace, key: conversation.naming.keyOf(request.key) }
  const answer = async (): Promise<void> => {
    try {
      const outcome = await submit(at)
      const counters = conversation.services.counters.of(namespace.name)
      const more = conclude?.(outcome, counters, at)
      const told = more instanceof Promise ? await more : more
      dialectOf(reply).outcome(reply, request.key, { outcome, ...told })
    } catch (error) {
      fail(reply, error)
    }
  }
  // Submits before this returns: the order of a connection's writes is that of these calls.
  void answer()
}

/** A node that has not caught up yet may simply not know the namespace. */
export function answerWithoutNamespace(conversation: Conversation, reply: Reply): void {
  if (conversation.services.reads.servingItself) refuse(reply, unknownNamespace)
  else fail(reply, new WhiteholeError('not-serving', 'the catalogue may be behind'))
}
