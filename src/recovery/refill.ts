import { setTimeout as delay } from 'node:timers/promises'
import type { DonorPeer, DonorPeers, RefillEnd, RefillProgress, Refills, RefillSink } from '../domain/donation.ts'
import { describeError } from '../domain/errors.ts'
import { formatPosition } from '../domain/position.ts'
import type { Logger } from '../runtime/logger.ts'
import {
  ItemStreamParser,
  itemStreamFormat,
  type StreamEnd,
  type StreamFrame,
  type StreamHead,
} from '../wire/peer/item-stream.ts'

export interface RefillOptions {
  readonly peers: DonorPeers
  readonly logger: Logger
  /** How long a peer that will serve soon, or gives to others, is waited for. */
  readonly patienceMilliseconds?: number
  /** Before another try of the same; longer with each. */
  readonly retryMilliseconds?: number
}

const patienceMillisecondsDefault = 15_000
const retryMillisecondsDefault = 250
/** A peer that is lost so often in a row, without a piece in between, is given up. */
const attemptsMax = 4
/** Tries of all peers, where one serves and its stream can't be had whole. */
const roundsMax = 3
const logMilliseconds = 5000

/**
 * Takes the items of the best peer. A lost connection goes on where it was; a lost peer is followed by the next one, from nothing, since its
 * position is another.
 */
export class Refill implements Refills {
  readonly #options: RefillOptions
  #progress: RefillProgress | undefined

  constructor(options: RefillOptions) {
    this.#options = options
  }

  get progress(): RefillProgress | undefined {
    return this.#progress
  }

  async run(sink: RefillSink, signal: AbortSignal): Promise<RefillEnd | undefined> {
    const { patienceMilliseconds = patienceMillisecondsDefault, retryMilliseconds = retryMillisecondsDefault } =
      this.#options
    const patientUntil = performance.now() + patienceMilliseconds
    try {
      for (let rounds = 0; ;) {
        const peers = await this.#options.peers.find(signal)
        signal.throwIfAborted()
        const serving = peers.filter(({ state }) => state === 'serving')
        const taken = await this.#takeFrom(serving, sink, signal)
        if (taken.kind === 'whole') return taken.end
        const soon = taken.kind === 'busy' || peers.some(({ state }) => state === 'catching-up')
        if (!soon && (serving.length === 0 || ++rounds >= roundsMax)) return undefined
        if (soon && performance.now() > patientUntil) return undefined
        await delay(retryMilliseconds, undefined, { signal })
      }
    } finally {
      this.#progress = undefined
    }
  }

  async #takeFrom(peers: readonly DonorPeer[], sink: RefillSink, signal: AbortSignal): Promise<Taken> {
    const { logger, retryMilliseconds = retryMillisecondsDefault } = this.#options
    const note = (progress: RefillProgress): void => {
      this.#progress = progress
    }
    let kind: 'lost' | 'busy' = 'lost'
    for (const peer of peers) {
      const taken = await new Taking(peer, sink, { logger, retryMilliseconds, note }).run(signal)
      if (taken.kind === 'whole') return taken
      if (taken.kind === 'busy') kind = 'busy'
    }
    return { kind }
  }
}

const ahead = 'it is ahead of the primary'

type Taken = { readonly kind: 'whole'; readonly end: RefillEnd } | { readonly kind: 'busy' } | { readonly kind: 'lost' }

interface TakingOptions {
  readonly logger: Logger
  readonly retryMilliseconds: number
  readonly note: (progress: RefillProgress) => void
}

/** From one peer. */
class Taking {
  readonly #peer: DonorPeer
  readonly #sink: RefillSink
  readonly #options: TakingOptions
  readonly #since = performance.now()
  #loggedAt = performance.now()
  #head: StreamHead | undefined
  #cursor = 0
  #keys = 0
  #bytes = 0
  /** What the sink threw: not the peer's fault. */
  #sinkFailure: { readonly error: unknown } | undefined

  constructor(peer: DonorPeer, sink: RefillSink, options: TakingOptions) {
    this.#peer = peer
    this.#sink = sink
    this.#options = options
  }

  async run(signal: AbortSignal): Promise<Taken> {
    const { name } = this.#peer
    const { logger, retryMilliseconds } = this.#options
    for (let attempts = 0; attempts < attemptsMax; attempts++) {
      const cursor = this.#cursor
      try {
        const ended = await this.#stream(signal)
        if (typeof ended !== 'string') return { kind: 'whole', end: ended }
        if (ended === 'busy') return { kind: 'busy' }
        logger.info({ peer: name, reason: ended }, 'a peer does not give its items')
        if (ended !== 'unknown-dump' || this.#head === undefined) return { kind: 'lost' }
        // It is another process by now, or its contents are other ones: from nothing.
        this.#head = undefined
        this.#cursor = 0
      } catch (error) {
        signal.throwIfAborted()
        if (this.#sinkFailure !== undefined) throw this.#sinkFailure.error
        logger.warn({ peer: name, keys: this.#keys, reason: describeError(error) }, 'the stream of items broke off')
        if (this.#cursor > cursor) attempts = 0
      }
      await delay(retryMilliseconds * (1 + attempts), undefined, { signal })
    }
    return { kind: 'lost' }
  }

  /** @returns the end, or why the peer refused */
  async #stream(signal: AbortSignal): Promise<RefillEnd | string> {
    const resumed = this.#head === undefined ? {} : { dump: this.#head.dump, cursor: this.#cursor }
    const answer = await this.#peer.give({ format: itemStreamFormat, ...resumed }, signal)
    if (answer.kind === 'refused') return answer.reason
    const parser = new ItemStreamParser()
    const keysBefore = this.#keys
    for await (const chunk of answer.chunks) {
      for (const frame of parser.feed(chunk)) {
        const ended = await this.#take(frame, keysBefore)
        if (ended !== undefined) return ended
      }
    }
    throw new Error('the stream ended before its end')
  }

  async #take(frame: StreamFrame, keysBefore: number): Promise<RefillEnd | string | undefined> {
    switch (frame.kind) {
      case 'head':
        if (this.#sink.needsVersions && !frame.head.versions) return 'its items carry no versions'
        if (await this.#sink.refuses(frame.head.position)) return ahead
        await this.#begin(frame.head)
        return undefined
      case 'items':
        await this.#items(frame.piece, frame.cursor)
        return undefined
      case 'alive':
        return undefined
      case 'end':
        return this.#end(frame.end, keysBefore)
    }
  }

  async #begin(head: StreamHead): Promise<void> {
    if (this.#head !== undefined) {
      if (this.#head.dump !== head.dump) throw new Error('the peer goes on with something else')
      return
    }
    this.#keys = 0
    this.#bytes = 0
    await this.#into(() => this.#sink.begin(head))
    this.#head = head
    const from = formatPosition(head.position)
    this.#options.logger.info({ peer: this.#peer.name, from, keys: head.keysExpected }, 'taking the items of a peer')
    this.#tell()
  }

  async #items(piece: Buffer, cursor: number): Promise<void> {
    if (this.#head === undefined) throw new Error('items without a head')
    this.#keys += await this.#into(() => this.#sink.items(piece))
    this.#bytes += piece.length
    this.#cursor = cursor
    this.#tell()
  }

  async #end(end: StreamEnd, keysBefore: number): Promise<RefillEnd | string> {
    const head = this.#head
    if (head === undefined) throw new Error('an end without a head')
    if (this.#keys - keysBefore !== end.keys)
      throw new Error(`${end.keys} items were sent, ${this.#keys - keysBefore} came`)
    // It went back in time while it gave: what came before is of a past that never was.
    if (end.epoch !== head.epoch) throw new Error('the peer was rewound')
    // Asked once it has told all: it may have gone ahead while it gave.
    if (await this.#sink.refuses(end.position)) return ahead
    await this.#into(() => this.#sink.settle())
    return { head, peer: this.#peer.name, position: end.position, keys: this.#keys }
  }

  async #into<T>(write: () => Promise<T>): Promise<T> {
    try {
      return await write()
    } catch (error) {
      this.#sinkFailure = { error }
      throw error
    }
  }

  #tell(): void {
    const now = performance.now()
    const seconds = (now - this.#since) / 1000
    const keysExpected = Math.max(this.#head?.keysExpected ?? 0, this.#keys)
    this.#options.note({ peer: this.#peer.name, keys: this.#keys, keysExpected, bytes: this.#bytes, seconds })
    if (now - this.#loggedAt < logMilliseconds) return
    this.#loggedAt = now
    const keysPerSecond = Math.round(this.#keys / seconds)
    this.#options.logger.info({ peer: this.#peer.name, keys: this.#keys, keysExpected, keysPerSecond }, 'rebuilding')
  }
}
