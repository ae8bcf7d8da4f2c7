import { WhiteholeError } from '../domain/errors.ts'
import { composeItemKey, type ItemKey, type Key } from '../domain/key.ts'
import { type CachedItem, casNumber, isLive } from '../domain/local-reads.ts'
import type { CataloguedNamespace } from '../domain/namespaces.ts'
import type { RequestKey } from '../wire/memcached/request.ts'
import { answerWithoutNamespace } from './change.ts'
import type { Conversation } from './conversation.ts'
import { dialectOf, fail } from './dialects.ts'
import type { Reply } from './replies.ts'

/**
 * `GET` and its variants over a memcached that keeps no versions: the token comes from what is remembered, else from the directory, else
 * (no database answers) there is none that any change could win with. A read itself never fails for want of a token.
 */
export function binaryGet(conversation: Conversation, reply: Reply, requestKey: RequestKey): void {
  const { naming } = conversation
  const namespace = naming.find(requestKey)
  if (namespace === undefined) {
    answerWithoutNamespace(conversation, reply)
    return
  }
  const key = naming.keyOf(requestKey)
  const wanted = { conversation, reply, requestKey, namespace, key, itemKey: composeItemKey(namespace.name, key) }
  fetch(wanted, (item) => {
    const known = item === undefined ? undefined : conversation.tokens.of(wanted.itemKey, casNumber(item))
    if (item === undefined || known !== undefined || !conversation.tokens.askable) answer(wanted, item, known)
    else void askDirectory(wanted, item)
  })
}

interface Wanted {
  readonly conversation: Conversation
  readonly reply: Reply
  readonly requestKey: RequestKey
  readonly namespace: CataloguedNamespace
  readonly key: Key
  readonly itemKey: ItemKey
}

/**
 * Answers with the item that was read first, so that a read which was sent later never shows an older one. Its token is the directory's
 * version where the item has not changed until the log had reached the directory's position (races.md R23: an old value must not go
 * out with a new token); where it has, its own version is gone already, so no token could win.
 */
async function askDirectory(wanted: Wanted, first: CachedItem): Promise<void> {
  const { conversation, itemKey, namespace, key } = wanted
  const { directory, reads } = conversation.services
  const casBefore = casNumber(first)
  const asked = await directory.versions(namespace.id, [key]).catch(() => undefined)
  if (asked === undefined) conversation.tokens.failed()
  if (!reads.serving) {
    fail(wanted.reply, notServing)
    return
  }
  fetch(wanted, (item) => {
    const version = asked?.[0]
    // The directory knows of no such key: then the item lives only by this memcached's clock.
    if (asked !== undefined && version === undefined) {
      answer(wanted, undefined, undefined)
      return
    }
    const unchanged = item !== undefined && casNumber(item) === casBefore
    if (unchanged && version !== undefined) conversation.tokens.remember(itemKey, casBefore, version)
    answer(wanted, first, unchanged ? version : undefined)
  })
}

/** Ends the reply by itself where nothing could be read; `undefined`: a miss. */
function fetch(wanted: Wanted, sink: (item: CachedItem | undefined) => void): void {
  const { conversation, reply, requestKey, itemKey } = wanted
  const { reads } = conversation.services
  reads.fetch(itemKey, (item, error) => {
    const now = conversation.naming.find(requestKey)
    if (error !== undefined) fail(reply, error)
    else if (!reads.serving) fail(reply, notServing)
    else sink(item !== undefined && now !== undefined && isLive(item, now) ? item : undefined)
  })
}

function answer(wanted: Wanted, item: CachedItem | undefined, token: bigint | undefined): void {
  const { conversation, reply, requestKey, namespace } = wanted
  const counters = conversation.services.counters.of(namespace.name)
  counters.cmd_get++
  if (item === undefined) counters.get_misses++
  else counters.get_hits++
  const dialect = dialectOf(reply)
  if (item !== undefined) dialect.item(reply, requestKey, item, token)
  dialect.endItems(reply, item === undefined ? requestKey : undefined)
}

const notServing = new WhiteholeError('not-serving', 'the contents are not to be trusted')
