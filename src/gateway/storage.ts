import { replyOf } from '../domain/errors.ts'
import type { Mutation, Outcome } from '../domain/mutation.ts'
import type { CataloguedNamespace } from '../domain/namespaces.ts'
import type {
  DeletionRequest,
  OversizeRequest,
  ReplyForm,
  RequestKey,
  StorageRequest,
  TouchRequest,
} from '../wire/memcached/request.ts'
import { notSupported } from '../wire/memcached/text-commands.ts'
import { type Conversation, unknownNamespace } from './conversation.ts'
import type { NamespaceCounters } from './counters.ts'

/** `set` */
export function store(conversation: Conversation, request: StorageRequest): void {
  if (request.mode !== 'set') {
    conversation.begin(request.form).answer(notSupported(request.mode))
    return
  }
  const { flags, exptime, value } = request
  change(conversation, request, {
    heldBytes: value.length,
    mutation: (namespaceId, key) => ({
      kind: 'set',
      namespaceId,
      key,
      value,
      flags: flags === 0 ? 0n : BigInt(flags),
      exptime,
    }),
    lineFor: (_outcome, counters) => {
      counters.cmd_set++
      counters.total_items++
      return 'STORED'
    },
  })
}

/** A `set` that can't be kept must not leave the older value behind, on any node. */
export function refuseOversize(conversation: Conversation, request: OversizeRequest): void {
  const line = 'SERVER_ERROR object too large for cache'
  if (request.mode !== 'set') {
    conversation.begin(request.form).answer(line)
    return
  }
  change(conversation, request, {
    mutation: (namespaceId, key) => ({ kind: 'delete', namespaceId, key }),
    lineFor: (_outcome, counters) => {
      counters.store_too_large++
      return line
    },
  })
}

export function remove(conversation: Conversation, request: DeletionRequest): void {
  change(conversation, request, {
    mutation: (namespaceId, key) => ({ kind: 'delete', namespaceId, key }),
    lineFor: (outcome, counters) => {
      if (outcome === 'not-found') counters.delete_misses++
      else counters.delete_hits++
      return outcome === 'not-found' ? 'NOT_FOUND' : 'DELETED'
    },
  })
}

export function touch(conversation: Conversation, request: TouchRequest): void {
  const { exptime } = request
  change(conversation, request, {
    mutation: (namespaceId, key) => ({ kind: 'touch', namespaceId, key, exptime }),
    lineFor: (outcome, counters) => {
      counters.cmd_touch++
      if (outcome === 'not-found') counters.touch_misses++
      else counters.touch_hits++
      return outcome === 'not-found' ? 'NOT_FOUND' : 'TOUCHED'
    },
  })
}

type NamespacedKey = Extract<Mutation, { kind: 'set' }>['key']

interface Change {
  readonly heldBytes?: number
  readonly mutation: (namespaceId: number, key: NamespacedKey) => Mutation
  /** Counts, and gives the reply's line. */
  readonly lineFor: (outcome: Outcome, counters: NamespaceCounters) => string
}

/** One mutation of one key. */
function change(
  conversation: Conversation,
  request: { readonly key: RequestKey; readonly form: ReplyForm },
  { heldBytes, mutation, lineFor }: Change,
): void {
  const reply = conversation.begin(request.form, heldBytes)
  const namespace = conversation.naming.find(request.key)
  if (namespace === undefined) {
    reply.answer(lineWithoutNamespace(conversation))
    return
  }
  const counters = countersOf(conversation, namespace)
  conversation.mutations.submit(mutation(namespace.id, conversation.naming.keyOf(request.key))).then(
    (outcome) => reply.answer(lineFor(outcome, counters)),
    (error: unknown) => reply.answer(replyOf(error)),
  )
}

function countersOf(conversation: Conversation, namespace: CataloguedNamespace): NamespaceCounters {
  return conversation.services.counters.of(namespace.name)
}

/** A node that has not caught up yet may simply not know the namespace. */
export function lineWithoutNamespace(conversation: Conversation): string {
  return conversation.services.reads.serving ? unknownNamespace : 'SERVER_ERROR this node is not serving'
}
