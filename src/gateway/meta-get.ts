import { WhiteholeError } from '../domain/errors.ts'
import { composeItemKey, type ItemKey } from '../domain/key.ts'
import {
  type ExaminedItem,
  isLease,
  isLive,
  itemCasIsVersion,
  type ItemQuestion,
  leaseToken,
  versionOf,
} from '../domain/local-reads.ts'
import { type Exptime, relativeExptimeMaxSeconds } from '../domain/mutation.ts'
import type { CataloguedNamespace } from '../domain/namespaces.ts'
import type { Version } from '../domain/version.ts'
import { encodeBase64Key } from '../wire/memcached/base64.ts'
import type { MetaDebugRequest, MetaGetRequest } from '../wire/memcached/request.ts'
import { answerWithoutNamespace } from './change.ts'
import type { Conversation } from './conversation.ts'
import { fail } from './dialects.ts'
import type { Reply } from './replies.ts'
import { answerMetaItem, answerMetaMiss, type MetaAnswer } from './replies-meta.ts'
import { isOver, touchOne } from './retrieval.ts'

/** `mg`. Only `T` goes through the log; leases (N, R, a stale item's) are won and held on this node alone. */
export function metaGet(conversation: Conversation, request: MetaGetRequest): void {
  const reply = conversation.begin(request.form)
  const namespace = findServed(conversation, reply, request)
  if (namespace === undefined || answerAtOnce(conversation, { request, namespace, reply })) return
  const steps = new MetaGet(conversation, request, namespace)
  steps.run().then(
    (answer) => {
      if (answer === undefined) answerMetaMiss(reply, request.key)
      else answerMetaItem(reply, request.key, answer)
    },
    (error: unknown) => fail(reply, error),
  )
}

/** What only memcached itself can tell, or do. */
const memcachedsFlags = new Set('thlNRTE')

/** A hot item that is asked for nothing that only memcached knows. */
function answerAtOnce(
  conversation: Conversation,
  given: { readonly request: MetaGetRequest; readonly namespace: CataloguedNamespace; readonly reply: Reply },
): boolean {
  const { request, namespace, reply } = given
  const { naming, services } = conversation
  if (!conversation.soleRequest || (request.withCas && !itemCasIsVersion(namespace))) return false
  for (const flag of request.form.flags) if (memcachedsFlags.has(flag[0] ?? '')) return false
  const item = services.reads.recall?.(composeItemKey(namespace.name, naming.keyOf(request.key)))
  if (item === undefined || !isLive(item, namespace)) return false
  const counters = services.counters.of(namespace.name)
  counters.cmd_get++
  counters.get_hits++
  const cas = request.withCas ? versionOf(item, namespace) : undefined
  const wanted = request.withValue && (request.unlessCas === undefined || request.unlessCas !== cas)
  const value = item.text ?? item.value
  const told = { ...neverTold, casHigh: item.casHigh, casLow: item.casLow, flags: item.flags, sizeBytes: value.length }
  answerMetaItem(reply, request.key, {
    item: { ...told, value: undefined },
    value: wanted ? value : undefined,
    cas,
    remainingSeconds: -1,
    before: told,
  })
  return true
}

/** Whoever asks for these is answered by memcached; a lease and a stale item are never kept. */
const neverTold = { remainingSeconds: -1, hitBefore: true, idleSeconds: 0, won: false, stale: false, leased: false }

/** `me` */
export function metaDebug(conversation: Conversation, request: MetaDebugRequest): void {
  const reply = conversation.begin(request.form)
  const namespace = findServed(conversation, reply, request)
  if (namespace === undefined) return
  const key = composeItemKey(namespace.name, conversation.naming.keyOf(request.key))
  conversation.services.counters.of(namespace.name).cmd_meta++
  conversation.services.reads.describe(namespace.id, key).then(
    (description) => {
      const shown = request.form.base64 ? encodeBase64Key(request.key) : request.key
      reply.answer(description === undefined ? 'EN' : `ME ${shown} ${description}`)
    },
    (error: unknown) => fail(reply, error),
  )
}

function findServed(
  conversation: Conversation,
  reply: Reply,
  { key }: MetaGetRequest | MetaDebugRequest,
): CataloguedNamespace | undefined {
  const namespace = conversation.naming.find(key)
  if (namespace === undefined) answerWithoutNamespace(conversation, reply)
  else if (conversation.services.reads.serving) return namespace
  else fail(reply, notServing)
  return undefined
}

const notServing = new WhiteholeError('not-serving', 'the contents are not to be trusted')

/** The steps of one `mg`, each only where a flag wants it. */
class MetaGet {
  readonly #conversation: Conversation
  readonly #request: MetaGetRequest
  readonly #namespace: CataloguedNamespace
  readonly #itemKey: ItemKey
  readonly #letters: readonly string[]

  constructor(conversation: Conversation, request: MetaGetRequest, namespace: CataloguedNamespace) {
    this.#conversation = conversation
    this.#request = request
    this.#namespace = namespace
    this.#itemKey = composeItemKey(namespace.name, conversation.naming.keyOf(request.key))
    this.#letters = request.form.flags.map((flag) => flag.charAt(0))
  }

  async run(): Promise<MetaAnswer | undefined> {
    const { touch } = this.#request
    if (touch === undefined) {
      // Without a wait where the item tells all: so that reads of one connection are asked in their order.
      const version = this.#needsDirectory() ? await this.#askDirectory() : undefined
      return this.#answer(await this.#examine(), version)
    }
    const ends = isOver(touch, this.#conversation.services.nowSeconds())
    return ends ? this.#readLast(touch) : this.#touchAndRead(touch)
  }

  /** What `h`, `l`, and a `t` in front of `T`, tell is from before the touch. */
  async #touchAndRead(touch: Exptime): Promise<MetaAnswer | undefined> {
    const before = this.#tellsOfBefore() ? await this.#look() : undefined
    const touched = await touchOne(this.#conversation, this.#request.key, touch)
    const version = await this.#askDirectory()
    const item = await this.#examine()
    if (item === undefined) return undefined
    const answer = this.#answer(item, version, before)
    if (answer === undefined || !touched) return answer
    return { ...answer, remainingSeconds: this.#timeTold(item, touch, before) }
  }

  /** The touch ends the item, so it is read before; what is read counts if the touch then found the key alive. */
  async #readLast(touch: Exptime): Promise<MetaAnswer | undefined> {
    const version = await this.#askDirectory()
    const item = await this.#examine()
    const touched = await touchOne(this.#conversation, this.#request.key, touch)
    return touched || item?.won === true ? this.#answer(item, version) : undefined
  }

  /** Where the item itself does not tell its version: asked before it is read (races.md R23). */
  async #askDirectory(): Promise<Version | undefined> {
    const { naming, services } = this.#conversation
    if (!this.#needsDirectory()) return undefined
    const [version] = await services.directory.versions(this.#namespace.id, [naming.keyOf(this.#request.key)])
    return version
  }

  #needsDirectory(): boolean {
    return this.#request.withCas && !itemCasIsVersion(this.#namespace)
  }

  #examine(): Promise<ExaminedItem | undefined> {
    const { withValue, vivify, recacheBelow, touch } = this.#request
    const lives = touch === undefined || vivify === undefined ? vivify : this.#later(touch, vivify)
    return this.#ask({
      withValue,
      noBump: this.#letters.includes('u'),
      ...(lives === undefined ? {} : { vivify: lives }),
      ...(recacheBelow === undefined ? {} : { recacheBelow }),
    })
  }

  /** T and N both set the time of what is created: the later one stays. */
  #later(touch: Exptime, vivify: Exptime): Exptime {
    return this.#letters.indexOf('T') > this.#letters.indexOf('N') ? touch : vivify
  }

  #look(): Promise<ExaminedItem | undefined> {
    return this.#ask({ withValue: false, noBump: true })
  }

  async #ask(question: ItemQuestion): Promise<ExaminedItem | undefined> {
    const { reads } = this.#conversation.services
    const item = await reads.examine(this.#namespace.id, this.#itemKey, question)
    // What was asked for while the contents were good may be answered after they were thrown away.
    if (!reads.serving) throw notServing
    return item
  }

  #answer(item: ExaminedItem | undefined, version: Version | undefined, before?: ExaminedItem): MetaAnswer | undefined {
    const cas = item === undefined ? undefined : this.#tokenOf(item, version)
    const hit = item !== undefined && (!this.#request.withCas || cas !== undefined)
    this.#count(hit)
    if (!hit) return undefined
    const { unlessCas, withValue } = this.#request
    const value = withValue && (unlessCas === undefined || unlessCas !== cas) ? item.value : undefined
    return { item, value, cas, remainingSeconds: item.remainingSeconds, before: before ?? item }
  }

  /** Undefined: the directory knows of no such key, so it lives only by this memcached's clock. */
  #tokenOf(item: ExaminedItem, version: Version | undefined): bigint | undefined {
    const namespace = this.#namespace
    if (itemCasIsVersion(namespace)) return isLease(item, namespace) ? leaseToken(item) : versionOf(item, namespace)
    const mayBeLease = item.sizeBytes === 0 && (item.won || item.leased)
    return version ?? (mayBeLease ? leaseToken(item) : undefined)
  }

  #count(hit: boolean): void {
    const counters = this.#conversation.services.counters.of(this.#namespace.name)
    // A touch was counted where it was made.
    if (this.#request.touch !== undefined) return
    counters.cmd_get++
    if (hit) counters.get_hits++
    else counters.get_misses++
  }

  #tellsOfBefore(): boolean {
    return this.#letters.includes('h') || this.#letters.includes('l') || this.#timeComesFirst()
  }

  #timeComesFirst(): boolean {
    const time = this.#letters.indexOf('t')
    return time >= 0 && time < this.#letters.indexOf('T')
  }

  /** A time that was just set is told as it was given, though the two clocks on its way may have taken a second off. */
  #timeTold(item: ExaminedItem, touch: Exptime, before: ExaminedItem | undefined): number {
    if (this.#timeComesFirst()) return before?.remainingSeconds ?? item.remainingSeconds
    if (touch === 0) return item.remainingSeconds
    const now = Math.floor(this.#conversation.services.nowSeconds())
    const given = touch > relativeExptimeMaxSeconds ? touch - now : touch
    return Math.abs(item.remainingSeconds - given) <= 1 ? given : item.remainingSeconds
  }
}
