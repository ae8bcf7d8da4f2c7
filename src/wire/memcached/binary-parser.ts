import { type FrameResult, judgeHeader, readFrame } from './binary-commands.ts'
import { headerBytes, readHeader, requestMagic } from './binary-frame.ts'
import type { QuitRequest, Request, StorageRequest } from './request.ts'
import type { RequestLimits, RequestSource } from './request-source.ts'

/**
 * The binary protocol: frames → requests.
 *
 *     head ⇄ value                  (the value of a storage command)
 *     head ⇄ swallow                (what is left of a body that nobody wants)
 *     head → farewell → ended       (an answer and the end: lengths that can't be)
 *     head → ended                  (quit, bytes that are no frame)
 */
export class BinaryParser implements RequestSource {
  readonly #limits: RequestLimits
  #state: 'head' | 'value' | 'swallow' | 'farewell' | 'ended' = 'head'
  /** What has come and is not parsed: `#window` from `#at`. */
  #window: Buffer = nothing
  #at = 0
  /** Header, extras and key where they did not come in one piece. */
  #head: Buffer = nothing
  #headFilled = 0
  #value: Buffer = nothing
  #valueFilled = 0
  #waiting: StorageRequest | undefined
  #swallowBytes = 0

  constructor(limits: RequestLimits) {
    this.#limits = limits
  }

  feed(chunk: Buffer): void {
    if (this.#state === 'ended') return
    this.#window = this.#at === this.#window.length ? chunk : Buffer.concat([this.#window.subarray(this.#at), chunk])
    this.#at = 0
  }

  next(): Request | undefined {
    for (;;) {
      // Comes with the answer before it, without another byte.
      if (this.#state === 'farewell') return this.#end()
      if (this.#state === 'ended' || this.#at === this.#window.length) return undefined
      const request = this.#step()
      if (request !== undefined) return request
    }
  }

  get midRequest(): boolean {
    return this.#headFilled > 0 || this.#state === 'value' || this.#state === 'swallow'
  }

  get ended(): boolean {
    return this.#state === 'ended'
  }

  /** Takes at least a byte. Undefined where no request is complete by it. */
  #step(): Request | undefined {
    switch (this.#state) {
      case 'value':
        return this.#readValue()
      case 'swallow': {
        const skipped = Math.min(this.#swallowBytes, this.#window.length - this.#at)
        this.#at += skipped
        this.#swallowBytes -= skipped
        if (this.#swallowBytes === 0) this.#state = 'head'
        return undefined
      }
      default:
        return this.#readHead()
    }
  }

  #readHead(): Request | undefined {
    // Without waiting for a whole header: somebody may speak text and wait for an answer.
    if (this.#headFilled === 0 && this.#window[this.#at] !== requestMagic) return this.#end()
    const first = this.#gather(headerBytes)
    if (first === undefined) return undefined
    const header = readHeader(first)
    const judged = judgeHeader(header, this.#limits)
    if (judged !== undefined) {
      this.#take(headerBytes)
      return this.#follow(judged, header.bodyBytes)
    }
    const keyAt = headerBytes + header.extrasBytes
    const bytes = keyAt + header.keyBytes
    const head = this.#gather(bytes)
    if (head === undefined) return undefined
    const frame = { extras: head.subarray(headerBytes, keyAt), key: head.toString('latin1', keyAt, bytes) }
    const result = readFrame(header, frame, this.#limits)
    this.#take(bytes)
    return this.#follow(result, header.bodyBytes - header.extrasBytes - header.keyBytes)
  }

  /** @param restBytes of the body, still to come */
  #follow(result: FrameResult, restBytes: number): Request | undefined {
    switch (result.kind) {
      case 'fatal':
        this.#state = 'farewell'
        return result.request
      case 'value':
        if (restBytes === 0) return result.request
        this.#state = 'value'
        this.#waiting = result.request
        // A large one is not touched before its bytes come: a header alone takes no memory.
        this.#value = Buffer.allocUnsafe(restBytes)
        this.#valueFilled = 0
        return undefined
      case 'request':
        if (result.request.kind === 'quit') return this.#end(result.request)
        if (restBytes > 0) {
          this.#state = 'swallow'
          this.#swallowBytes = restBytes
        }
        return result.request
    }
  }

  #readValue(): Request | undefined {
    const copied = this.#window.copy(this.#value, this.#valueFilled, this.#at)
    this.#at += copied
    this.#valueFilled += copied
    if (this.#valueFilled < this.#value.length || this.#waiting === undefined) return undefined
    const request = this.#waiting
    request.value = this.#value
    this.#value = nothing
    this.#waiting = undefined
    this.#state = 'head'
    return request
  }

  /** The frame's first bytes, where so many are here; they stay until they are taken. Never more than 400. */
  #gather(bytes: number): Buffer | undefined {
    const here = this.#window.length - this.#at
    if (this.#headFilled === 0 && here >= bytes) return this.#window.subarray(this.#at, this.#at + bytes)
    if (this.#head.length < bytes) {
      const larger = Buffer.allocUnsafe(bytes)
      this.#head.copy(larger, 0, 0, this.#headFilled)
      this.#head = larger
    }
    const missing = Math.min(bytes - this.#headFilled, here)
    if (missing > 0) {
      this.#window.copy(this.#head, this.#headFilled, this.#at, this.#at + missing)
      this.#at += missing
      this.#headFilled += missing
    }
    return this.#headFilled >= bytes ? this.#head.subarray(0, bytes) : undefined
  }

  #take(bytes: number): void {
    if (this.#headFilled === 0) this.#at += bytes
    this.#headFilled = 0
  }

  #end(request: QuitRequest = { kind: 'quit', line: undefined }): Request {
    this.#state = 'ended'
    this.#window = nothing
    this.#at = 0
    this.#head = nothing
    this.#headFilled = 0
    return request
  }
}

const nothing = Buffer.alloc(0)
