import { WhiteholeError } from '../domain/errors.ts'
import { composeItemKey } from '../domain/key.ts'
import { isLeaseToken, leaseToken } from '../domain/local-reads.ts'
import type { Outcome, SetMutation } from '../domain/mutation.ts'
import type { Generation } from '../domain/namespace.ts'
import type {
  DeletionRequest,
  InvalidationRequest,
  OversizeRequest,
  StorageRequest,
  TouchRequest,
} from '../wire/memcached/request.ts'
import { change, type ChangedKey } from './change.ts'
import type { Conversation } from './conversation.ts'
import type { NamespaceCounters } from './counters.ts'
import { fail } from './dialects.ts'

/** `set add replace append prepend cas`, `ms`. */
export function store(conversation: Conversation, request: StorageRequest): void {
  const joins = request.mode === 'append' || request.mode === 'prepend'
  const { value, compare } = request
  change(conversation, request, {
    heldBytes: value.length,
    submit: (at) => {
      if (joins) return join(conversation, request, at)
      const mutation = mutationOf(request, at)
      if (mutation.compare === undefined || !isLeaseToken(mutation.compare))
        return conversation.mutations.submit(mutation)
      return conversation.mutations.redeem({ mutation, held: () => leaseHeld(conversation, at, compare) })
    },
    conclude: (outcome, counters, at) => {
      counters.cmd_set++
      if (outcome.kind === 'stored') counters.total_items++
      if (compare !== undefined) countCompared(outcome, counters)
      return joins && outcome.kind === 'stored' && wantsSize(request)
        ? sizeNow(conversation, at, value.length)
        : { sizeBytes: value.length }
    },
  })
}

function mutationOf(
  { mode, value, flags, exptime, compare, staleOnMismatch }: StorageRequest,
  at: ChangedKey,
): SetMutation {
  return {
    kind: 'set',
    namespaceId: at.namespace.id,
    key: at.key,
    value,
    flags: flags === 0 ? 0n : BigInt(flags),
    exptime,
    // As in memcached: a token makes a `replace` a `cas`, and an `add` looks at none.
    ...(mode === 'add' || (mode === 'replace' && compare === undefined) ? { mode } : {}),
    ...(compare === undefined || mode === 'add' ? {} : { compare }),
    ...(staleOnMismatch ? { staleOnMismatch } : {}),
  }
}

async function join(conversation: Conversation, request: StorageRequest, at: ChangedKey): Promise<Outcome> {
  const { mode, value, flags, compare, vivify } = request
  const concatenation = conversation.mutations.concatenate({
    namespaceId: at.namespace.id,
    key: at.key,
    side: mode === 'prepend' ? 'prepend' : 'append',
    value,
    ...(compare === undefined ? {} : { compare }),
    ...(vivify === undefined ? {} : { create: { flags: BigInt(flags), exptime: vivify } }),
  })
  try {
    const outcome = await concatenation
    // memcached has but one word for a key that can't be joined to.
    return outcome.kind === 'not-found' ? { kind: 'not-stored' } : outcome
  } catch (error) {
    if (error instanceof WhiteholeError && error.code === 'value-too-large') return { kind: 'not-stored' }
    throw error
  }
}

/** A token that this node gave out with a lease (`mg … N c`): there is no version behind it. */
async function leaseHeld(
  { services }: Conversation,
  { namespace: { id }, key }: ChangedKey,
  token: bigint | undefined,
): Promise<Generation | undefined> {
  // Before the lease is looked at: a flush in between ends it.
  const namespace = services.namespaces.byId(id)
  if (namespace === undefined) return undefined
  const question = { withValue: false, noBump: true }
  const item = await services.reads.examine(id, composeItemKey(namespace.name, key), question)
  return item !== undefined && leaseToken(item) === token ? namespace.generation : undefined
}

function wantsSize({ form }: StorageRequest): boolean {
  return form.dialect === 'meta' && form.flags.includes('s')
}

/** What is joined is known here once it is applied; another client's change in between shows, as it would in a `mg` behind it. */
async function sizeNow(
  conversation: Conversation,
  { namespace, key }: ChangedKey,
  otherwise: number,
): Promise<{ sizeBytes: number }> {
  const question = { withValue: false, noBump: true }
  const itemKey = composeItemKey(namespace.name, key)
  const item = await conversation.services.reads.examine(namespace.id, itemKey, question)
  return { sizeBytes: item?.sizeBytes ?? otherwise }
}

/** A `set` that can't be kept must not leave the older value behind, on any node. */
export function refuseOversize(conversation: Conversation, request: OversizeRequest): void {
  const tooLarge = new WhiteholeError('value-too-large', "over memcached's item limit")
  if (!request.takesOldAlong) {
    fail(conversation.begin(request.form), tooLarge)
    return
  }
  change(conversation, request, {
    submit: async ({ namespace, key }) => {
      await conversation.mutations.submit({ kind: 'delete', namespaceId: namespace.id, key })
      conversation.services.counters.of(namespace.name).store_too_large++
      throw tooLarge
    },
  })
}

/** `delete`, `md` */
export function remove(conversation: Conversation, request: DeletionRequest): void {
  const { compare } = request
  change(conversation, request, {
    submit: async ({ namespace, key }) => {
      const mutation = { kind: 'delete', namespaceId: namespace.id, key } as const
      if (compare === undefined) return conversation.mutations.submit(mutation)
      if (!isLeaseToken(compare)) return conversation.mutations.submit({ ...mutation, compare })
      const held = (): Promise<Generation | undefined> => leaseHeld(conversation, { namespace, key }, compare)
      return conversation.mutations.redeem({ mutation: { ...mutation, compare }, held })
    },
    conclude: (outcome, counters) => {
      if (outcome.kind === 'deleted') counters.delete_hits++
      else counters.delete_misses++
    },
  })
}

/** `md … I`, `md … x` */
export function invalidate(conversation: Conversation, request: InvalidationRequest): void {
  const { compare, stale, dropsValue, exptime } = request
  change(conversation, request, {
    submit: ({ namespace, key }) =>
      conversation.mutations.submit({
        kind: 'invalidate',
        namespaceId: namespace.id,
        key,
        stale,
        dropsValue,
        ...(compare === undefined ? {} : { compare }),
        ...(exptime === undefined ? {} : { exptime }),
      }),
    conclude: (outcome, counters) => {
      if (outcome.kind !== 'stored') counters.delete_misses++
      else if (!stale) counters.delete_hits++
    },
  })
}

export function touch(conversation: Conversation, request: TouchRequest): void {
  const { exptime } = request
  change(conversation, request, {
    submit: ({ namespace, key }) =>
      conversation.mutations.submit({ kind: 'touch', namespaceId: namespace.id, key, exptime }),
    conclude: (outcome, counters) => {
      counters.cmd_touch++
      if (outcome.kind === 'not-found') counters.touch_misses++
      else counters.touch_hits++
    },
  })
}

export function countCompared(outcome: Outcome, counters: NamespaceCounters): void {
  if (outcome.kind === 'stored') counters.cas_hits++
  else if (outcome.kind === 'exists') counters.cas_badval++
  else if (outcome.kind === 'not-found') counters.cas_misses++
}
