import { describeError } from '../domain/errors.ts'
import type { FollowedLog } from '../domain/followed-log.ts'
import type { ItemKey } from '../domain/key.ts'
import type { CachedItem, ExaminedItem, ItemQuestion, LocalReads, ReadSink } from '../domain/local-reads.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { Namespaces } from '../domain/namespaces.ts'
import type { Logger } from '../runtime/logger.ts'
import { cachedItemOf, examinedItemOf } from './peer-items.ts'
import type { PeerReadAnswer } from './read-run.ts'
import type { RemoteReads } from './remote-reads.ts'

export interface SecondLookOptions {
  readonly reads: LocalReads
  /** Of its own: its floor is not that of reads while the node does not serve. */
  readonly remote: Pick<RemoteReads, 'ask' | 'available' | 'floor' | 'raise'>
  readonly namespaces: Namespaces & { readonly baseWatermark: number | undefined }
  readonly log: FollowedLog
  readonly limitMilliseconds: number
  readonly logger: Logger
}

/** Looks on their way; with more, a miss is a miss. */
const looksMax = 1000

interface Slot {
  answer: { readonly item: CachedItem | undefined; readonly error: Error | undefined } | undefined
}

/**
 * `onMiss: peer`: before a client is told of a miss, one healthy peer is asked, for its memcached may have kept what this one has evicted. A peer that
 * does not answer in time leaves a miss.
 *
 * Nobody may see the past. So the peer answers only where it has applied all that this node has (the floor of the question); and where it is
 * further, its answer waits until this node has applied as much: else the next read, of this memcached again, could show an older value.
 *
 * A client's answers stay in the order of its questions: behind a look, what else was asked for the same sink waits.
 */
export class SecondLook implements LocalReads {
  readonly figures = { found: 0, missed: 0, unanswered: 0 }
  readonly #options: SecondLookOptions
  readonly #lines = new Map<ReadSink, Slot[]>()
  #looks = 0

  constructor(options: SecondLookOptions) {
    this.#options = options
  }

  get serving(): boolean {
    return this.#options.reads.serving
  }

  get servingItself(): boolean {
    return this.#options.reads.servingItself
  }

  fetch(key: ItemKey, sink: ReadSink): void {
    this.#options.reads.fetch(key, (item, error) => {
      const looks = item === undefined && error === undefined && this.#mayLook
      const line = this.#lines.get(sink)
      if (line === undefined && !looks) return sink(item, error)
      const slot: Slot = { answer: looks ? undefined : { item, error } }
      if (line === undefined) this.#lines.set(sink, [slot])
      else line.push(slot)
      if (looks) void this.#fetchAgain(key, slot).then(() => this.#drain(sink))
    })
  }

  recall(key: ItemKey): CachedItem | undefined {
    return this.#options.reads.recall?.(key)
  }

  async examine(namespaceId: NamespaceId, key: ItemKey, question: ItemQuestion): Promise<ExaminedItem | undefined> {
    const found = await this.#options.reads.examine(namespaceId, key, question)
    // A lease is this node's own: who asks for one gets it.
    if (found !== undefined || question.vivify !== undefined || !this.#mayLook) return found
    const { recacheBelow: _, ...plain } = question
    const answer = await this.#look({ kind: 'examine', namespaceId, key, question: plain })
    const item = answer?.kind === 'examined' ? answer.item : undefined
    return item === undefined ? undefined : examinedItemOf(item, this.#keepsVersions)
  }

  describe(namespaceId: NamespaceId, key: ItemKey): Promise<string | undefined> {
    return this.#options.reads.describe(namespaceId, key)
  }

  statistics(): Promise<ReadonlyMap<string, string>> {
    return this.#options.reads.statistics()
  }

  get #mayLook(): boolean {
    return this.servingItself && this.#options.remote.available && this.#looks < looksMax
  }

  get #keepsVersions(): boolean {
    return this.#options.namespaces.baseWatermark === undefined
  }

  async #fetchAgain(key: ItemKey, slot: Slot): Promise<void> {
    const namespace = this.#options.namespaces.byName(key.slice(0, key.indexOf(':')))
    const answer =
      namespace === undefined ? undefined : await this.#look({ kind: 'fetch', namespaceId: namespace.id, key })
    const item = answer?.kind === 'fetched' ? answer.item : undefined
    slot.answer = { item: item === undefined ? undefined : cachedItemOf(item, this.#keepsVersions), error: undefined }
  }

  /** Never rejects: without an answer in time it is the miss that it was. */
  async #look(read: Parameters<RemoteReads['ask']>[0]): Promise<PeerReadAnswer | undefined> {
    const { remote, log, limitMilliseconds, logger } = this.#options
    this.#looks++
    let timer: NodeJS.Timeout | undefined
    const tooLate = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('the peer took too long')), limitMilliseconds)
    })
    try {
      remote.raise(log.position)
      const answer = await Promise.race([this.#askAndWait(read), tooLate])
      const found = 'item' in answer && answer.item !== undefined
      this.figures[found ? 'found' : 'missed']++
      return answer
    } catch (error) {
      this.figures.unanswered++
      logger.debug({ reason: describeError(error) }, 'no peer answered for a miss')
      return undefined
    } finally {
      clearTimeout(timer)
      this.#looks--
    }
  }

  async #askAndWait(read: Parameters<RemoteReads['ask']>[0]): Promise<PeerReadAnswer> {
    const { remote, log, limitMilliseconds } = this.#options
    const answer = await remote.ask(read)
    // The answer's own position is in it by now.
    if (remote.floor !== undefined) await log.whenReached(remote.floor, limitMilliseconds)
    return answer
  }

  #drain(sink: ReadSink): void {
    const line = this.#lines.get(sink)
    if (line === undefined) return
    for (let slot = line[0]; slot?.answer !== undefined; slot = line[0]) {
      line.shift()
      if (line.length === 0) this.#lines.delete(sink)
      sink(slot.answer.item, slot.answer.error)
    }
  }
}
