import { createConnection, type Socket } from 'node:net'
import { once } from 'node:events'
import { WhiteholeError } from '../domain/errors.ts'
import type { ItemKey } from '../domain/key.ts'
import type { CachedItem, ReadSink } from '../domain/local-reads.ts'
import { formatClassicGet, formatMetaGet, formatMetaPeek, formatTimedMetaGet } from '../wire/memcached/meta-key.ts'
import { type ReplyHandler, ReplyParser } from '../wire/memcached/reply-parser.ts'

export interface MemcachedReply {
  /** The first line, latin1, without its end: `HD c77`, `VA 5 f0`, `STORED`, `SERVER_ERROR …`. */
  readonly line: string
  readonly value: Buffer | undefined
}

export interface MemcachedConnectionOptions {
  /** Longest silence while a reply is due, and longest wait for the connection itself. */
  readonly timeoutMilliseconds?: number
}

type Waiting =
  /** Hot path: a get is its sink and nothing else. */
  | ReadSink
  | { kind: 'request'; bytes: number; resolve: (reply: MemcachedReply) => void; reject: (error: Error) => void }
  | Gathering

interface Gathering {
  kind: 'bulk' | 'lines'
  bytes: number
  gathered: string[]
  place: (line: string) => Place
  resolve: (lines: readonly string[]) => void
  reject: (error: Error) => void
}

/** What a line is to a listing. */
type Place = 'inside' | 'noise' | 'end' | 'refusal'

/** What a get stands for in `backlogBytes`: a guess that keeps the hot path free of counting. */
const bytesOfGet = 64
/** Up to here a buffer is copied into the text around it: cheaper than a segment of its own. */
const inlineBytesMax = 2048

/**
 * One pipelined connection to a memcached over TCP. Replies come in the order of the requests. What is asked during one turn of
 * the event loop goes out in one write. A connection that fails answers everything in flight with `memcached-away`; it
 * does not connect again.
 */
export class MemcachedConnection implements ReplyHandler {
  readonly localPort: number
  /** Resolves when the connection is gone: with the reason, or undefined after `destroy()`. */
  readonly closed: Promise<Error | undefined>
  readonly #socket: Socket
  readonly #parser = new ReplyParser(this)
  readonly #timeoutMilliseconds: number
  readonly #watch: NodeJS.Timeout
  #resolveClosed: (error: Error | undefined) => void = () => {}
  #ended = false
  /** In the order sent: `#waiting[#head]` gets the next reply. Emptied in one go whenever all are answered. */
  #waiting: Waiting[] = []
  #head = 0
  #unansweredBytes = 0
  #unansweredGets = 0
  #outgoing: (string | Buffer)[] = []
  #outgoingText = ''
  #flushScheduled = false
  /** When bytes last came or went, or the first request began to wait. */
  #progressAt = 0

  private constructor(socket: Socket, timeoutMilliseconds: number) {
    this.#socket = socket
    this.localPort = socket.localPort ?? 0
    this.#timeoutMilliseconds = timeoutMilliseconds
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve
    })
    socket.on('data', (chunk: Buffer) => this.#receive(chunk))
    socket.on('drain', () => {
      this.#progressAt = performance.now()
    })
    socket.on('error', (error) => this.#end(away('the connection to memcached failed', error)))
    socket.on('close', () => this.#end(away('memcached closed the connection')))
    this.#watch = setInterval(() => this.#checkProgress(), Math.max(10, timeoutMilliseconds / 4)).unref()
  }

  /** @throws WhiteholeError `memcached-away` */
  static async connect(
    address: { readonly host: string; readonly port: number },
    options: MemcachedConnectionOptions = {},
  ): Promise<MemcachedConnection> {
    const timeoutMilliseconds = options.timeoutMilliseconds ?? 5000
    const socket = createConnection({ host: address.host, port: address.port, noDelay: true })
    try {
      await once(socket, 'connect', { signal: AbortSignal.timeout(timeoutMilliseconds) })
    } catch (cause) {
      // A late error must find a listener.
      socket.on('error', () => {}).destroy()
      throw away(`no connection to memcached at ${address.host}:${address.port}`, cause)
    }
    return new MemcachedConnection(socket, timeoutMilliseconds)
  }

  get ended(): boolean {
    return this.#ended
  }

  /** About what is queued here, in the socket, or sent and not answered. */
  get backlogBytes(): number {
    return this.#unansweredBytes + this.#unansweredGets * bytesOfGet
  }

  /** Requests without their reply. */
  get pending(): number {
    return this.#waiting.length - this.#head
  }

  /** One command with exactly one reply; `command` without its line end. */
  request(command: Buffer | string, value?: Buffer): Promise<MemcachedReply> {
    return new Promise((resolve, reject) => {
      const bytes = command.length + 2 + (value === undefined ? 0 : value.length + 2)
      if (!this.#wait({ kind: 'request', bytes, resolve, reject })) return
      this.#write(command)
      this.#write('\r\n')
      if (value === undefined) return
      this.#write(value)
      this.#write('\r\n')
    })
  }

  /**
   * Quiet commands, formatted by the caller with line ends and values. An `mn` is appended; resolves at its reply with the lines that
   * came before: each is a complaint, in order, without saying which command made it.
   */
  bulk(chunks: readonly (Buffer | string)[]): Promise<readonly string[]> {
    return new Promise((resolve, reject) => {
      let bytes = 4
      for (const chunk of chunks) bytes += chunk.length
      if (!this.#wait({ kind: 'bulk', bytes, gathered: [], place: placeInBulk, resolve, reject })) return
      for (const chunk of chunks) this.#write(chunk)
      this.#write('mn\r\n')
    })
  }

  /**
   * `stats`, `stats conns`, `lru_crawler metadump …`: the lines up to the end of the listing, without that. memcached refuses a
   * `metadump` that comes in one packet behind other commands: it wants a connection of its own.
   * @throws Error with the line where memcached refuses the command
   */
  lines(command: string): Promise<readonly string[]> {
    const place = command.startsWith('lru_crawler') ? placeInCrawl : placeInListing
    return new Promise((resolve, reject) => {
      if (!this.#wait({ kind: 'lines', bytes: command.length, gathered: [], place, resolve, reject })) return
      this.#write(`${command}\r\n`)
    })
  }

  /** `sink` is called once, in the order of the requests. Leaves a stale item as it is. */
  get(key: ItemKey, sink: ReadSink): void {
    if (this.#wait(sink)) this.#outgoingText += formatClassicGet(key)
  }

  /** The same, up to twice as fast (docs/adr/0009-item-cas.md); of a stale item it takes the right to refill. */
  metaGet(key: ItemKey, sink: ReadSink): void {
    if (this.#wait(sink)) this.#outgoingText += formatMetaGet(key)
  }

  /** As `metaGet`, with the time that is left to the item. */
  timedMetaGet(key: ItemKey, sink: ReadSink): void {
    if (this.#wait(sink)) this.#outgoingText += formatTimedMetaGet(key)
  }

  /** As `metaGet`, leaving no trace of the read. */
  metaPeek(key: ItemKey, sink: ReadSink): void {
    if (this.#wait(sink)) this.#outgoingText += formatMetaPeek(key)
  }

  /** Everything in flight is answered with `memcached-away`. */
  destroy(): void {
    this.#end(undefined)
  }

  expectsItem(): boolean {
    return typeof this.#waiting[this.#head] === 'function'
  }

  onItem(item: CachedItem): void {
    const sink = this.#waiting[this.#head]
    if (typeof sink !== 'function') throw new Error('memcached sent an item that nobody asked for')
    this.#answered(sink)
    sink(item)
  }

  onLine(line: string): void {
    const waiting = this.#waiting[this.#head]
    if (waiting === undefined) throw new Error(`memcached sent a line that nobody asked for: ${printable(line)}`)
    if (typeof waiting === 'function') {
      this.#answered(waiting)
      if (line === 'END' || line === 'EN') waiting(undefined)
      else waiting(undefined, new WhiteholeError('memcached-away', `memcached refused a read: ${printable(line)}`))
    } else if (waiting.kind === 'request') {
      this.#answered(waiting)
      waiting.resolve({ line, value: undefined })
    } else {
      this.#gather(waiting, line)
    }
  }

  onValue(line: string, value: Buffer): void {
    const waiting = this.#waiting[this.#head]
    if (typeof waiting !== 'object' || waiting.kind !== 'request') {
      throw new Error(`memcached sent a value that nobody asked for: ${printable(line)}`)
    }
    this.#answered(waiting)
    waiting.resolve({ line, value })
  }

  #gather(waiting: Gathering, line: string): void {
    const place = waiting.place(line)
    if (place === 'inside') waiting.gathered.push(line)
    if (place === 'inside' || place === 'noise') return
    this.#answered(waiting)
    if (place === 'end') waiting.resolve(waiting.gathered)
    else waiting.reject(new Error(`memcached refused: ${printable(line)}`))
  }

  /** False where the connection is gone: then the answer has been given. */
  #wait(waiting: Waiting): boolean {
    if (this.#ended) {
      refuse(waiting, away('the connection to memcached is closed'))
      return false
    }
    if (this.#waiting.length === this.#head) this.#progressAt = performance.now()
    this.#waiting.push(waiting)
    if (typeof waiting === 'function') this.#unansweredGets++
    else this.#unansweredBytes += waiting.bytes
    if (!this.#flushScheduled) {
      this.#flushScheduled = true
      // After all sockets that are readable in this turn: their requests share one write.
      setImmediate(this.#flush)
    }
    return true
  }

  #answered(waiting: Waiting): void {
    this.#head++
    if (this.#head === this.#waiting.length) {
      this.#waiting = []
      this.#head = 0
    } else if (this.#head === 16_384) {
      // Under endless load the queue never empties: let go of what is answered.
      this.#waiting = this.#waiting.slice(this.#head)
      this.#head = 0
    }
    if (typeof waiting === 'function') this.#unansweredGets--
    else this.#unansweredBytes -= waiting.bytes
  }

  #write(chunk: Buffer | string): void {
    if (typeof chunk === 'string') {
      this.#outgoingText += chunk
    } else if (chunk.length <= inlineBytesMax) {
      this.#outgoingText += chunk.toString('latin1')
    } else {
      if (this.#outgoingText !== '') this.#outgoing.push(this.#outgoingText)
      this.#outgoingText = ''
      this.#outgoing.push(chunk)
    }
  }

  #flush = (): void => {
    this.#flushScheduled = false
    if (this.#ended) return
    if (this.#outgoing.length === 0) {
      this.#socket.write(this.#outgoingText, 'latin1')
      this.#outgoingText = ''
      return
    }
    this.#socket.cork()
    for (const chunk of this.#outgoing) {
      if (typeof chunk === 'string') this.#socket.write(chunk, 'latin1')
      else this.#socket.write(chunk)
    }
    if (this.#outgoingText !== '') this.#socket.write(this.#outgoingText, 'latin1')
    this.#outgoing = []
    this.#outgoingText = ''
    this.#socket.uncork()
  }

  #receive(chunk: Buffer): void {
    this.#progressAt = performance.now()
    try {
      this.#parser.feed(chunk)
    } catch (cause) {
      this.#end(away('memcached answered what could not be understood', cause))
    }
  }

  #checkProgress(): void {
    if (this.pending === 0) return
    const silence = performance.now() - this.#progressAt
    if (silence > this.#timeoutMilliseconds) {
      this.#end(away(`memcached did not answer for ${Math.round(silence)} ms`))
    }
  }

  #end(reason: Error | undefined): void {
    if (this.#ended) return
    this.#ended = true
    clearInterval(this.#watch)
    this.#socket.destroy()
    const waiting = this.#waiting.slice(this.#head)
    this.#waiting = []
    this.#head = 0
    this.#outgoing = []
    this.#outgoingText = ''
    this.#unansweredBytes = 0
    this.#unansweredGets = 0
    this.#resolveClosed(reason)
    const error = reason ?? away('the connection to memcached was closed by this node')
    for (const one of waiting) refuse(one, error)
  }
}

function refuse(waiting: Waiting, error: Error): void {
  if (typeof waiting === 'function') waiting(undefined, error)
  else waiting.reject(error)
}

const refusal = /^(ERROR|CLIENT_ERROR|SERVER_ERROR|BUSY)\b/

function placeInBulk(line: string): Place {
  return line === 'MN' ? 'end' : 'inside'
}

function placeInListing(line: string): Place {
  if (line === 'END' || line === 'EN' || line === 'OK' || line === 'RESET') return 'end'
  return refusal.test(line) ? 'refusal' : 'inside'
}

/** memcached 1.6.45 says OK before the listing. */
function placeInCrawl(line: string): Place {
  if (line === 'END' || line === 'EN') return 'end'
  if (line === 'OK') return 'noise'
  return refusal.test(line) ? 'refusal' : 'inside'
}

function away(message: string, cause?: unknown): WhiteholeError {
  return new WhiteholeError('memcached-away', message, cause === undefined ? undefined : { cause })
}

function printable(line: string): string {
  return JSON.stringify(line.slice(0, 200))
}
