import { WhiteholeError } from '../domain/errors.ts'
import { composeItemKey } from '../domain/key.ts'
import { type CachedItem, isLease, isLive, itemCasIsVersion, leaseToken, versionOf } from '../domain/local-reads.ts'
import { type Exptime, relativeExptimeMaxSeconds } from '../domain/mutation.ts'
import type { CataloguedNamespace } from '../domain/namespaces.ts'
import type { Version } from '../domain/version.ts'
import type { RequestKey, RetrievalRequest } from '../wire/memcached/request.ts'
import { binaryGet } from './binary-get.ts'
import { answerWithoutNamespace } from './change.ts'
import type { Conversation } from './conversation.ts'
import type { Dialect } from './dialect.ts'
import { dialectOf, fail } from './dialects.ts'
import type { Reply } from './replies.ts'

/**
 * Keys of one request that are asked for at a time. All clients share one connection to memcached, and whoever asks next waits for what was asked
 * before: so, as far as the sizes are known by those that came, no more than so many bytes; and few before the first has come.
 */
const windowKeys = { first: 8, most: 64 }
const windowBytes = 1024 * 1024
/** A long list's reply goes out in pieces of about this size; up to here an error can still replace it. */
const pieceBytes = 256 * 1024

export type Versions = readonly (Version | undefined)[]

/** `get gets gat gats`, binary `GET GAT` and their variants. */
export function retrieve(conversation: Conversation, request: RetrievalRequest): void {
  const reply = conversation.begin(request.form)
  const { keys, withCas, touch } = request
  const { services, naming } = conversation
  if (!services.reads.serving) {
    fail(reply, notServing)
    return
  }
  const first = withCas ? naming.find(keys[0] ?? '') : undefined
  const itemsTell = !withCas || (first !== undefined && itemCasIsVersion(first))
  if (touch === undefined && itemsTell) new Retrieval(conversation, { reply, keys, withCas, counted: true }).start()
  else if (touch === undefined && request.form.dialect === 'binary') binaryGet(conversation, reply, keys[0] ?? '')
  else void retrieveSlowly(conversation, reply, request)
}

const notServing = new WhiteholeError('not-serving', 'the contents are not to be trusted')

/** What asks the directory or the writer first. */
async function retrieveSlowly(conversation: Conversation, reply: Reply, request: RetrievalRequest): Promise<void> {
  const { keys, withCas, touch } = request
  try {
    for (const key of keys) {
      if (conversation.naming.find(key) !== undefined) continue
      answerWithoutNamespace(conversation, reply)
      return
    }
    if (touch !== undefined && isOver(touch, conversation.services.nowSeconds())) {
      await retrieveLast(conversation, reply, request)
      return
    }
    const touched = touch === undefined ? undefined : await touchAll(conversation, keys, touch)
    const present = touched?.keys ?? keys
    const versions = touched?.versions ?? (withCas ? await directoryVersions(conversation, present) : undefined)
    const missed = present.length === 0 ? keys[0] : undefined
    new Retrieval(conversation, {
      reply,
      keys: present,
      withCas,
      versions,
      missed,
      counted: touch === undefined,
    }).start()
  } catch (error) {
    breakOff(conversation, reply, error)
  }
}

function breakOff(conversation: Conversation, reply: Reply, error: unknown): void {
  // Items have gone out: nothing that could follow says that some are missing.
  if (reply.committed) conversation.abort()
  fail(reply, error)
}

/** Whether an item with this expiry is gone at once. */
export function isOver(exptime: Exptime, nowSeconds: number): boolean {
  return exptime < 0 || (exptime > relativeExptimeMaxSeconds && exptime <= nowSeconds)
}

/**
 * Touches first, since only the directory can tell whether the key lives; then what was touched is read. The touch tells the version
 * too, and is applied here before: the order that races.md R23 wants.
 */
async function touchAll(
  conversation: Conversation,
  keys: readonly RequestKey[],
  exptime: Exptime,
): Promise<{ keys: readonly RequestKey[]; versions: Versions }> {
  const versions = await Promise.all(keys.map((key) => touchOne(conversation, key, exptime)))
  return {
    keys: keys.filter((_key, index) => versions[index] !== undefined),
    versions: versions.filter((version) => version !== undefined),
  }
}

/** Undefined: there is nothing to touch. */
export async function touchOne(
  conversation: Conversation,
  key: RequestKey,
  exptime: Exptime,
): Promise<Version | undefined> {
  const namespace = conversation.naming.find(key)
  if (namespace === undefined) throw new WhiteholeError('unknown-namespace', 'dropped meanwhile')
  const mutation = {
    kind: 'touch',
    namespaceId: namespace.id,
    key: conversation.naming.keyOf(key),
    exptime,
  } as const
  const outcome = await conversation.mutations.submit(mutation)
  const counters = conversation.services.counters.of(namespace.name)
  counters.cmd_touch++
  if (outcome.kind === 'touched') counters.touch_hits++
  else counters.touch_misses++
  return outcome.kind === 'touched' ? outcome.version : undefined
}

/**
 * `gat -1`: the touch ends the item, so it is read before; what is read counts if the touch then found the key alive. A set from
 * elsewhere in between is ended too and its value not seen: no one entry of the log could do both.
 */
async function retrieveLast(conversation: Conversation, reply: Reply, request: RetrievalRequest): Promise<void> {
  const { keys, withCas, touch = 0 } = request
  const dialect = dialectOf(reply)
  const versions = withCas ? await directoryVersions(conversation, keys) : undefined
  let hits = 0
  for (const [index, key] of keys.entries()) {
    const item = await fetchOne(conversation, key)
    if ((await touchOne(conversation, key, touch)) === undefined || item === undefined) continue
    const namespace = conversation.naming.find(key)
    const cas = withCas && namespace !== undefined ? tokenOf(item, namespace, versions?.[index]) : undefined
    if (withCas && cas === undefined) continue
    dialect.item(reply, key, item, cas)
    hits++
    if (reply.bytes >= pieceBytes) reply.commit()
    if (conversation.blocked) await new Promise<void>((resolve) => conversation.whenWritable(resolve))
  }
  dialect.endItems(reply, hits === 0 ? keys[0] : undefined)
}

function fetchOne(conversation: Conversation, key: RequestKey): Promise<CachedItem | undefined> {
  const { naming, services } = conversation
  const namespace = naming.find(key)
  if (namespace === undefined) return Promise.resolve(undefined)
  return new Promise((resolve, reject) => {
    services.reads.fetch(composeItemKey(namespace.name, naming.keyOf(key)), (item, error) => {
      const now = naming.find(key)
      if (error !== undefined) reject(error)
      else if (!services.reads.serving) reject(notServing)
      else resolve(item !== undefined && now !== undefined && isLive(item, now) ? item : undefined)
    })
  })
}

/** The token that a client is given for an item. Undefined: the directory knows of no such key, so it is a miss. */
export function tokenOf(
  item: CachedItem,
  namespace: CataloguedNamespace,
  asked: Version | undefined,
): bigint | undefined {
  if (!itemCasIsVersion(namespace)) return asked
  return isLease(item, namespace) ? leaseToken(item) : versionOf(item, namespace)
}

/**
 * Where the items themselves don't tell: asked before they are read, since the other way round an old value would go out with a new token
 * (races.md R23).
 */
async function directoryVersions(
  conversation: Conversation,
  keys: readonly RequestKey[],
): Promise<Versions | undefined> {
  const namespace = conversation.naming.find(keys[0] ?? '')
  return namespace === undefined || itemCasIsVersion(namespace) ? undefined : await versionsOf(conversation, keys)
}

export async function versionsOf(conversation: Conversation, keys: readonly RequestKey[]): Promise<Versions> {
  const { naming, services } = conversation
  const indexes = new Map<number, number[]>()
  for (const [index, key] of keys.entries()) {
    const id = naming.find(key)?.id
    if (id === undefined) continue
    const list = indexes.get(id)
    if (list === undefined) indexes.set(id, [index])
    else list.push(index)
  }
  const versions: (Version | undefined)[] = Array.from({ length: keys.length })
  const questions = [...indexes].map(async ([id, list]) => {
    const asked = list.map((index) => naming.keyOf(keys[index] ?? ''))
    const answers = await services.directory.versions(id, asked)
    for (const [at, index] of list.entries()) versions[index] = answers[at]
  })
  await Promise.all(questions)
  return versions
}

/** Hot path: items of a list of keys, in its order, out of this node's memcached. */
class Retrieval {
  readonly #conversation: Conversation
  readonly #reply: Reply
  readonly #dialect: Dialect
  readonly #keys: readonly RequestKey[]
  readonly #withCas: boolean
  readonly #versions: Versions | undefined
  readonly #counted: boolean
  #missed: RequestKey | undefined
  #asked = 0
  #answered = 0
  #window = windowKeys.first
  #asking = false
  #over = false

  constructor(conversation: Conversation, given: RetrievalGiven) {
    this.#conversation = conversation
    this.#reply = given.reply
    this.#dialect = dialectOf(given.reply)
    this.#keys = given.keys
    this.#withCas = given.withCas
    this.#versions = given.versions
    this.#counted = given.counted
    this.#missed = given.missed
  }

  start(): void {
    if (this.#keys.length === 0) this.#end()
    else this.#ask()
  }

  /** A loop, not a recursion: answers may come before `fetch` returns. */
  #ask = (): void => {
    if (this.#asking) return
    this.#asking = true
    const { naming, services } = this.#conversation
    while (!this.#over && this.#asked < this.#keys.length && this.#asked - this.#answered < this.#window) {
      if (this.#conversation.blocked) {
        this.#conversation.whenWritable(this.#ask)
        break
      }
      const first = this.#asked === this.#answered && this.#conversation.soleRequest
      const key = this.#keys[this.#asked++] as RequestKey
      const namespace = naming.find(key)
      if (namespace === undefined) {
        this.#refuse()
        continue
      }
      const itemKey = composeItemKey(namespace.name, naming.keyOf(key))
      const recalled = first ? services.reads.recall?.(itemKey) : undefined
      if (recalled === undefined) services.reads.fetch(itemKey, this.#receive)
      else this.#receive(recalled, undefined)
    }
    this.#asking = false
  }

  #receive = (item: CachedItem | undefined, error: Error | undefined): void => {
    if (this.#over) return
    if (error !== undefined) {
      this.#fail(error)
      return
    }
    // What was asked for while the contents were good may be answered after they were thrown away.
    if (!this.#conversation.services.reads.serving) {
      this.#fail(notServing)
      return
    }
    const index = this.#answered++
    this.#window = nextWindow(this.#window, item?.text?.length ?? item?.value.length ?? 0)
    this.#take(this.#keys[index] as RequestKey, index, item)
    if (this.#answered === this.#keys.length) this.#end()
    else this.#ask()
  }

  #take(key: RequestKey, index: number, item: CachedItem | undefined): void {
    // At this instant: a flush that was applied while the item was on its way makes it a miss.
    const namespace = this.#conversation.naming.find(key)
    if (namespace === undefined) {
      this.#missed ??= key
      return
    }
    const live = item !== undefined && isLive(item, namespace)
    const cas = live && this.#withCas ? tokenOf(item, namespace, this.#versions?.[index]) : undefined
    // The directory knows of no such key: then the item lives only by this memcached's clock.
    const hit = live && (!this.#withCas || cas !== undefined)
    if (this.#counted) {
      const counters = this.#conversation.services.counters.of(namespace.name)
      counters.cmd_get++
      if (hit) counters.get_hits++
      else counters.get_misses++
      if (item !== undefined && !live) counters.get_flushed++
    }
    if (!hit) {
      this.#missed ??= key
      return
    }
    this.#dialect.item(this.#reply, key, item, cas)
    if (this.#reply.bytes >= pieceBytes && this.#keys.length > 1) this.#reply.commit()
  }

  #refuse(): void {
    this.#over = true
    if (this.#reply.committed) this.#conversation.abort()
    answerWithoutNamespace(this.#conversation, this.#reply)
  }

  #fail(error: unknown): void {
    this.#over = true
    breakOff(this.#conversation, this.#reply, error)
  }

  #end(): void {
    this.#over = true
    this.#dialect.endItems(this.#reply, this.#missed)
  }
}

/** Narrow at once where an item is large, wider by and by where they are small again. */
function nextWindow(window: number, bytes: number): number {
  const fitting = Math.max(1, Math.floor(windowBytes / Math.max(1, bytes)))
  return Math.min(fitting, windowKeys.most, window * 2)
}

interface RetrievalGiven {
  readonly reply: Reply
  readonly keys: readonly RequestKey[]
  readonly withCas: boolean
  readonly versions?: Versions | undefined
  readonly counted: boolean
  /** Of a `gat` that found nothing to touch. */
  readonly missed?: RequestKey | undefined
}
