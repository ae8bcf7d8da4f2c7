import type { Socket } from 'node:net'
import type { ArbitratedSession } from '../domain/mutations.ts'
import { type AnswerableRequest, loud, type QuitRequest, type ReplyForm } from '../wire/memcached/request.ts'
import { BinaryParser } from '../wire/memcached/binary-parser.ts'
import { requestMagic } from '../wire/memcached/binary-frame.ts'
import { RequestParser } from '../wire/memcached/request-parser.ts'
import type { RequestLimits, RequestSource } from '../wire/memcached/request-source.ts'
import type { Conversation, GatewayServices, ServerFigures } from './conversation.ts'
import { type Company, companyOf, dispatch } from './dispatch.ts'
import { done } from './dialects.ts'
import type { ItemTokens } from './item-tokens.ts'
import type { Naming } from './naming.ts'
import { Replies, type Reply, type ReplyWriter } from './replies.ts'

export interface SessionLimits {
  /** Requests that may wait for their replies. */
  readonly requestsInFlightMax: number
  /** Replies that may wait for the client to read them. */
  readonly replyBytesMax: number
  /** A client that leaves its replies unread for so long is closed. */
  readonly unreadMilliseconds: number
  /** A request that has begun must be there within this time. */
  readonly requestMilliseconds: number
  /** Undefined: a client may idle for ever, as with memcached. */
  readonly idleMilliseconds: number | undefined
}

export interface SessionSetting {
  readonly services: GatewayServices
  readonly naming: Naming
  readonly tokens: ItemTokens
  /** Of all clients together: while it is high, each may have only little waiting. */
  readonly pressure: { readonly high: boolean }
  readonly limits: SessionLimits
  readonly requestLimits: RequestLimits
  describe(): ServerFigures
  /** Once, when the connection is gone and nothing of it is under way. */
  onGone(session: Session): void
}

/** Reads hold their values in memory until they are sent. */
const readsInFlightMax = 128
/** How long a client that we have said goodbye to may take to close its side. */
const lingerMilliseconds = 5000
/** Bodies of writes that wait for their reply. */
const heldBytesMax = 8 * 1024 * 1024
/** Of either, while all clients together have too much waiting. */
const pressedBytesMax = 64 * 1024

/**
 * One client's connection.
 *
 *     open → finishing   the client has sent its last byte, said quit, or the gateway closes: what is there is still answered
 *          → ended    the last reply is handed over; waits for the client to close its side
 *          → gone
 */
export class Session implements Conversation, ReplyWriter {
  readonly services: GatewayServices
  readonly naming: Naming
  readonly tokens: ItemTokens
  readonly remoteAddress: string
  /** Resolves when the connection is gone. */
  readonly gone: Promise<void>
  readonly #socket: Socket
  readonly #setting: SessionSetting
  /** By the connection's first byte; then for good. */
  #parser: RequestSource | undefined
  readonly #replies = new Replies(this)
  #state: 'open' | 'finishing' | 'ended' | 'gone' = 'open'
  #mutations: ArbitratedSession | undefined
  /** What those under way are; a request of other company waits in `#held` until they are answered. */
  #company: Company = 'any'
  #held: AnswerableRequest | undefined
  #inFlight = 0
  #heldBytes = 0
  /** The parser has nothing complete left. */
  #hungry = true
  #pulling = false
  #waitingForRoom: (() => void)[] = []
  // Times by the gateway's sweep, in milliseconds.
  #lastByteAt = performance.now()
  #requestBeganAt: number | undefined
  #unreadSince: number | undefined
  #flushedBytes = 0
  #endedAt = 0

  constructor(socket: Socket, setting: SessionSetting) {
    this.#socket = socket
    this.#setting = setting
    this.services = setting.services
    this.naming = setting.naming
    this.tokens = setting.tokens
    this.remoteAddress = socket.remotePort === undefined ? 'unix' : `tcp:${socket.remoteAddress}:${socket.remotePort}`
    this.gone = new Promise((resolve) => {
      socket.on('close', () => {
        this.#onClose()
        resolve()
      })
    })
    socket.on('data', (chunk: Buffer) => this.#receive(chunk))
    socket.on('end', () => this.finish())
    socket.on('drain', () => this.#onRoom())
    socket.on('error', () => socket.destroy())
  }

  get mutations(): ArbitratedSession {
    this.#mutations ??= this.services.mutations.openSession()
    return this.#mutations
  }

  get blocked(): boolean {
    const { limits, pressure } = this.#setting
    return this.#unsentBytes >= (pressure.high ? pressedBytesMax : limits.replyBytesMax)
  }

  /** Replies that the client has not taken, and bodies of its writes. */
  get waitingBytes(): number {
    return this.#unsentBytes + this.#heldBytes
  }

  get #unsentBytes(): number {
    return this.#socket.writableLength + this.#replies.bytes
  }

  get closed(): boolean {
    return this.#state === 'ended' || this.#state === 'gone'
  }

  get soleRequest(): boolean {
    return this.#inFlight === 1
  }

  get idleSeconds(): number {
    return Math.floor((performance.now() - this.#lastByteAt) / 1000)
  }

  begin(form: ReplyForm, heldBytes = 0): Reply {
    this.#inFlight++
    this.#heldBytes += heldBytes
    return this.#replies.begin(form, heldBytes)
  }

  whenWritable(callback: () => void): void {
    this.#waitingForRoom.push(callback)
  }

  abort(): void {
    this.#socket.destroy()
  }

  describe(): ServerFigures {
    return this.#setting.describe()
  }

  /** No more bytes are taken; what is complete is still answered, then the connection is closed. */
  finish(): void {
    if (this.#state !== 'open') return
    this.#state = 'finishing'
    this.#pull()
  }

  /** Called by the gateway every second or so: closes a client that is too slow. True where it was. */
  sweep(now: number): boolean {
    const { limits } = this.#setting
    if (this.#state === 'ended' && now - this.#endedAt > lingerMilliseconds) this.#socket.destroy()
    const unread = this.#unreadFor(now)
    const request = this.#requestBeganAt === undefined ? 0 : now - this.#requestBeganAt
    const idle = this.#inFlight === 0 ? now - this.#lastByteAt : 0
    const slow =
      unread > limits.unreadMilliseconds ||
      request > limits.requestMilliseconds ||
      idle > (limits.idleMilliseconds ?? Infinity)
    if (slow) this.#socket.destroy()
    return slow
  }

  writeText(text: string): void {
    this.services.counters.bytesWritten += text.length
    if (this.#socket.destroyed) return
    this.#socket.write(text, 'latin1')
    this.#afterWrite()
  }

  write(parts: readonly (string | Buffer)[], bytes: number): void {
    this.services.counters.bytesWritten += bytes
    if (this.#socket.destroyed) return
    this.#socket.cork()
    for (const part of parts) {
      if (typeof part === 'string') this.#socket.write(part, 'latin1')
      else this.#socket.write(part)
    }
    this.#socket.uncork()
    this.#afterWrite()
  }

  onReply(reply: Reply): void {
    this.#inFlight--
    this.#heldBytes -= reply.heldBytes
    if (this.#state === 'gone') this.#closeMutations()
    else if (!this.#hungry || this.#held !== undefined || this.#state === 'finishing') this.#pull()
  }

  #receive(chunk: Buffer): void {
    if (this.closed) return
    this.services.counters.bytesRead += chunk.length
    this.#lastByteAt = performance.now()
    this.#parser ??= this.#parserFor(chunk)
    this.#parser.feed(chunk)
    this.#hungry = false
    this.#pull()
  }

  #parserFor(chunk: Buffer): RequestSource {
    const { requestLimits } = this.#setting
    return chunk[0] === requestMagic ? new BinaryParser(requestLimits) : new RequestParser(requestLimits)
  }

  /** Where the kernel took all at once there is no `drain`. */
  #afterWrite(): void {
    const waiting = this.#waitingForRoom.length > 0 || this.#held !== undefined || !this.#hungry
    if (waiting && !this.blocked) this.#onRoom()
  }

  #onRoom(): void {
    this.#unreadSince = undefined
    const waiting = this.#waitingForRoom
    this.#waitingForRoom = []
    for (const callback of waiting) callback()
    this.#pull()
  }

  /** Takes what the parser has as long as it may be taken. Not reentrant: replies may be finished before `dispatch` returns. */
  #pull(): void {
    if (this.#pulling || this.closed) return
    this.#pulling = true
    while (this.#mayTake()) {
      const request = this.#held ?? this.#parser?.next()
      if (request === undefined) {
        this.#hungry = true
        break
      }
      this.#requestBeganAt = undefined
      if (request.kind === 'quit') {
        this.#quit(request)
      } else if (this.#fits(request)) {
        this.#held = undefined
        dispatch(this, request)
      } else {
        this.#held = request
        break
      }
    }
    this.#pulling = false
    this.#afterPull()
  }

  #mayTake(): boolean {
    const most = this.#company === 'read' ? readsInFlightMax : this.#setting.limits.requestsInFlightMax
    const held = this.#setting.pressure.high ? pressedBytesMax : heldBytesMax
    return this.#inFlight < most && this.#heldBytes < held && !this.blocked && !this.closed
  }

  #fits(request: AnswerableRequest): boolean {
    const company = companyOf(request, this.naming)
    if (company === 'any') return true
    if (this.#inFlight > 0 && (company !== this.#company || company === 'alone')) return false
    this.#company = company
    return true
  }

  /** The parser has ended: nothing follows. */
  #quit({ line, form }: QuitRequest): void {
    if (form !== undefined) done(this.begin(form))
    else if (line !== undefined) this.begin(loud).answer(line)
    if (this.#state === 'open') this.#state = 'finishing'
  }

  #afterPull(): void {
    const full = !this.#hungry || this.#held !== undefined
    this.#requestBeganAt =
      full || this.#parser?.midRequest !== true ? undefined : (this.#requestBeganAt ?? performance.now())
    if (this.#state === 'finishing' && !full && this.#inFlight === 0) {
      this.#end()
    } else if (full && !this.#socket.isPaused()) {
      this.#socket.pause()
    } else if (!full && this.#socket.isPaused()) {
      this.#socket.resume()
    }
  }

  #end(): void {
    this.#state = 'ended'
    this.#endedAt = performance.now()
    this.#replies.flush()
    this.#socket.end()
    // What it still sends is read and thrown away, else its last replies could be lost to a reset.
    this.#socket.resume()
  }

  #unreadFor(now: number): number {
    // What the kernel has taken: bytes written also counts what waits in the socket.
    const flushed = this.#socket.bytesWritten - this.#socket.writableLength
    if (this.#socket.writableLength === 0 || flushed !== this.#flushedBytes) this.#unreadSince = undefined
    else this.#unreadSince ??= now
    this.#flushedBytes = flushed
    return this.#unreadSince === undefined ? 0 : now - this.#unreadSince
  }

  #onClose(): void {
    this.#state = 'gone'
    this.#held = undefined
    this.#waitingForRoom = []
    this.#closeMutations()
    this.#setting.onGone(this)
  }

  /** Writes that were taken are executed, whether or not their client is still there. */
  #closeMutations(): void {
    if (this.#inFlight > 0 || this.#mutations === undefined) return
    this.#mutations.close()
    this.#mutations = undefined
  }
}
