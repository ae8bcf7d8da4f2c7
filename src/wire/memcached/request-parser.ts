import { CR, LF } from './bytes.ts'
import { refused, type Request, type StorageRequest } from './request.ts'
import type { RequestLimits, RequestSource } from './request-source.ts'
import { parseTextLine } from './text-commands.ts'

/**
 * The text protocol: lines → requests.
 *
 *     line ⇄ value      (a body that a request waits for)
 *     line ⇄ swallow    (a body behind a refused header)
 *     line → ended      (quit, HTTP, too long a line)
 */
export class RequestParser implements RequestSource {
  readonly #limits: RequestLimits
  #state: 'line' | 'value' | 'swallow' | 'ended' = 'line'
  /** What has come and is not parsed: `#window` from `#at`. */
  #window: Buffer = nothing
  #at = 0
  /** Begin of a line whose end has not come; grows by doubling, so that byte by byte costs no more than at once. */
  #line: Buffer = nothing
  #lineBytes = 0
  /** In `value`: the body with its two bytes of line end, and how much of it is here. */
  #value: Buffer = nothing
  #valueFilled = 0
  #waiting: StorageRequest | undefined
  /** In `swallow`: bytes still to be thrown away. */
  #swallowBytes = 0

  constructor(limits: RequestLimits) {
    this.#limits = limits
  }

  /** The chunk is not copied: it must not change afterwards. */
  feed(chunk: Buffer): void {
    if (this.#state === 'ended') return
    this.#window = this.#at === this.#window.length ? chunk : Buffer.concat([this.#window.subarray(this.#at), chunk])
    this.#at = 0
  }

  /** The next request that is complete. */
  next(): Request | undefined {
    for (;;) {
      if (this.#at === this.#window.length) return undefined
      switch (this.#state) {
        case 'ended':
          return undefined
        case 'line': {
          const request = this.#readLine()
          if (request !== undefined) return request
          break
        }
        case 'value': {
          const request = this.#readValue()
          if (request !== undefined) return request
          break
        }
        case 'swallow': {
          const skipped = Math.min(this.#swallowBytes, this.#window.length - this.#at)
          this.#at += skipped
          this.#swallowBytes -= skipped
          if (this.#swallowBytes === 0) this.#state = 'line'
          break
        }
      }
    }
  }

  /** Whether a request has begun and not ended: a client may rest between requests, but not within one for long. */
  get midRequest(): boolean {
    return this.#lineBytes > 0 || this.#state === 'value' || this.#state === 'swallow'
  }

  get ended(): boolean {
    return this.#state === 'ended'
  }

  /** Undefined where the line is not complete, or a body follows. */
  #readLine(): Request | undefined {
    const lineFeed = this.#window.indexOf(LF, this.#at)
    if (lineFeed < 0) {
      this.#keepLine(this.#window.length)
      return lineFits(this.#line, 0, this.#lineBytes) ? undefined : this.#tooLong(this.#line, 0)
    }
    let bytes = this.#window
    let start = this.#at
    let end = lineFeed
    if (this.#lineBytes > 0) {
      this.#keepLine(lineFeed)
      bytes = this.#line
      start = 0
      end = this.#lineBytes
      this.#lineBytes = 0
      this.#line = nothing
    }
    this.#at = lineFeed + 1
    if (!lineFits(bytes, start, end)) return this.#tooLong(bytes, start)
    const stop = end > start && bytes[end - 1] === CR ? end - 1 : end
    const result = parseTextLine(bytes.toString('latin1', start, stop), end - start + 1, this.#limits)
    switch (result.kind) {
      case 'value':
        this.#state = 'value'
        this.#waiting = result.request
        // A large one is not touched before its bytes come: a header alone takes no memory.
        this.#value = Buffer.allocUnsafe(result.bytes + 2)
        this.#valueFilled = 0
        return undefined
      case 'swallow':
        this.#state = 'swallow'
        this.#swallowBytes = result.bytes
        return result.request
      case 'quit':
        return this.#end(result)
      default:
        return result
    }
  }

  #keepLine(until: number): void {
    const bytes = this.#lineBytes + until - this.#at
    if (bytes > this.#line.length) {
      const larger = Buffer.allocUnsafe(Math.max(256, bytes * 2))
      this.#line.copy(larger, 0, 0, this.#lineBytes)
      this.#line = larger
    }
    this.#window.copy(this.#line, this.#lineBytes, this.#at, until)
    this.#lineBytes = bytes
    this.#at = until
  }

  #readValue(): Request | undefined {
    const copied = this.#window.copy(this.#value, this.#valueFilled, this.#at)
    this.#at += copied
    this.#valueFilled += copied
    if (this.#valueFilled < this.#value.length || this.#waiting === undefined) return undefined
    const header = this.#waiting
    const size = this.#value.length - 2
    const value = this.#value.subarray(0, size)
    const well = this.#value[size] === CR && this.#value[size + 1] === LF
    this.#value = nothing
    this.#waiting = undefined
    this.#state = 'line'
    if (!well) return refused('CLIENT_ERROR bad data chunk', header.form)
    header.value = value
    return header
  }

  /** memcached closes without a word, save that it takes endless lines of keys: there we say why we don't. */
  #tooLong(bytes: Buffer, start: number): Request {
    const line = takesManyKeys(bytes, start) ? 'CLIENT_ERROR line too long' : undefined
    return this.#end({ kind: 'quit', line })
  }

  #end(request: Request): Request {
    this.#state = 'ended'
    this.#window = nothing
    this.#at = 0
    this.#line = nothing
    this.#lineBytes = 0
    return request
  }
}

const nothing = Buffer.alloc(0)

/** As memcached: a client that sends so much without a line end speaks another protocol. */
const lineBytesMax = 2048
const keysLineBytesMax = 1024 * 1024

function lineFits(bytes: Buffer, start: number, end: number): boolean {
  if (end - start <= lineBytesMax) return true
  return takesManyKeys(bytes, start) && end - start <= keysLineBytesMax
}

function takesManyKeys(bytes: Buffer, start: number): boolean {
  return /^g(?:et|at)s? /.test(bytes.toString('latin1', start, start + 5))
}
