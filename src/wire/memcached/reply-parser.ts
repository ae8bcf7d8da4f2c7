import type { CachedItem } from '../../domain/local-reads.ts'
import { CR, LF, SPACE } from './bytes.ts'
import { parseCas } from './item-cas.ts'

/**
 * Replies of a memcached, as a node's own connections read them: lines, and `VA` or `VALUE` lines with the value behind them. Fed with
 * chunks as they come; holds only its state. The hot path of reads (bench/gateway-get.ts): an item that lies whole in a chunk is
 * parsed in place, without a copy.
 */
export interface ReplyHandler {
  /** Asked before a `VA` line is parsed: whether `onItem` shall get it, or `onValue`. A `VALUE` line is always an item's. */
  expectsItem(): boolean
  onLine(line: string): void
  /** A `VA` reply, with the whole first line. */
  onValue(line: string, value: Buffer): void
  /** A `VA` reply to `mg … v f c` (and `t`), or the one item of a `gets`: its `END` is not told. */
  onItem(item: CachedItem): void
}

export class ReplyError extends Error {}

/** Longest line of a reply: a key in a listing is percent-encoded, three characters a byte. */
const lineBytesMax = 8192
/** memcached's own limit of `-I` is 1 GiB; a node's is far below. */
const valueBytesMax = 1 << 30

export class ReplyParser {
  readonly #handler: ReplyHandler
  /** Begin of a line whose end has not come. */
  #rest: Buffer | undefined
  /** The value being read with its two bytes of line end; undefined between replies. */
  #value: Buffer | undefined
  #valueFilled = 0
  #valueIsItem = false
  /** The line behind the value of a `gets` has not come. */
  #endDue = false
  // What the last `VA` line said.
  #size = 0
  #flags = '0'
  #casHigh = 0
  #casLow = 0
  #remainingSeconds: number | undefined
  #line = ''

  constructor(handler: ReplyHandler) {
    this.#handler = handler
  }

  /**
   * Views into `chunk` are handed on, so it must not be used again by the caller.
   * @throws ReplyError on bytes that no memcached sends; the parser is unusable then
   */
  feed(chunk: Buffer): void {
    let bytes = chunk
    let at = 0
    if (this.#value !== undefined) {
      at = this.#fillValue(bytes, 0)
      if (this.#value !== undefined) return
    } else if (this.#rest !== undefined) {
      bytes = Buffer.concat([this.#rest, chunk])
      this.#rest = undefined
    }
    while (at < bytes.length) {
      const end = bytes.indexOf(LF, at)
      if (end < 0) {
        this.#keep(bytes, at)
        return
      }
      at = this.#reply(bytes, at, end)
    }
  }

  #keep(bytes: Buffer, at: number): void {
    if (bytes.length - at > lineBytesMax) throw new ReplyError('a line of a reply is too long')
    this.#rest = bytes.subarray(at)
  }

  /** One line, and the value behind it. Returns where the next reply begins. */
  #reply(bytes: Buffer, start: number, lineFeed: number): number {
    const end = lineFeed > start && bytes[lineFeed - 1] === CR ? lineFeed - 1 : lineFeed
    if (this.#endDue) {
      this.#endDue = false
      if (end - start !== 3 || bytes[start] !== 0x45) throw new ReplyError('an item is not followed by the end')
      return lineFeed + 1
    }
    if (bytes[start] !== 0x56 || bytes[start + 1] !== 0x41) {
      this.#handler.onLine(bytes.toString('latin1', start, end))
      return lineFeed + 1
    }
    if (bytes[start + 2] === SPACE) this.#parseMeta(bytes, start, end)
    else this.#parseClassic(bytes, start, end)
    const from = lineFeed + 1
    const total = this.#size + 2
    if (bytes.length - from >= total) {
      this.#deliver(bytes.subarray(from, from + total))
      return from + total
    }
    this.#value = Buffer.allocUnsafeSlow(total)
    this.#valueFilled = 0
    return this.#fillValue(bytes, from)
  }

  /** `VALUE <key> <flags> <bytes> <cas>`, from its end: the key, which is known, is passed over. */
  #parseClassic(bytes: Buffer, start: number, end: number): void {
    const beforeCas = spaceBefore(bytes, end, start)
    const beforeSize = spaceBefore(bytes, beforeCas, start)
    const beforeFlags = spaceBefore(bytes, beforeSize, start)
    let size = 0
    for (let at = beforeSize + 1; at < beforeCas; at++) size = size * 10 + digit(bytes[at] ?? 0)
    if (size > valueBytesMax) throw new ReplyError('a reply announces too long a value')
    this.#size = size
    this.#valueIsItem = true
    this.#endDue = true
    this.#remainingSeconds = undefined
    this.#takeFlags(bytes, beforeFlags + 1, beforeSize)
    this.#takeCas(bytes, beforeCas + 1, end)
  }

  #takeFlags(bytes: Buffer, from: number, to: number): void {
    this.#flags = to - from === 1 && bytes[from] === 0x30 ? '0' : bytes.toString('latin1', from, to)
  }

  #takeCas(bytes: Buffer, from: number, to: number): void {
    const { casHigh, casLow } = parseCas(bytes, from, to)
    this.#casHigh = casHigh
    this.#casLow = casLow
  }

  #parseMeta(bytes: Buffer, start: number, end: number): void {
    this.#valueIsItem = this.#handler.expectsItem()
    let at = start + 3
    let size = 0
    for (; at < end && bytes[at] !== SPACE; at++) size = size * 10 + digit(bytes[at] ?? 0)
    if (size > valueBytesMax) throw new ReplyError('a reply announces too long a value')
    this.#size = size
    if (!this.#valueIsItem) {
      this.#line = bytes.toString('latin1', start, end)
      return
    }
    this.#flags = '0'
    this.#casHigh = 0
    this.#casLow = 0
    this.#remainingSeconds = undefined
    while (at < end) {
      const letter = bytes[++at]
      const from = ++at
      while (at < end && bytes[at] !== SPACE) at++
      if (letter === 0x66) this.#takeFlags(bytes, from, at)
      else if (letter === 0x63) this.#takeCas(bytes, from, at)
      else if (letter === 0x74) this.#remainingSeconds = remaining(bytes, from, at)
    }
  }

  #fillValue(bytes: Buffer, from: number): number {
    const value = this.#value
    if (value === undefined) return from
    const copied = bytes.copy(value, this.#valueFilled, from)
    this.#valueFilled += copied
    if (this.#valueFilled === value.length) {
      this.#value = undefined
      this.#deliver(value)
    }
    return from + copied
  }

  #deliver(withEnd: Buffer): void {
    const size = withEnd.length - 2
    if (withEnd[size] !== CR || withEnd[size + 1] !== LF) throw new ReplyError('a value does not end where it should')
    const value = withEnd.subarray(0, size)
    if (this.#valueIsItem) {
      this.#handler.onItem({
        flags: this.#flags,
        casHigh: this.#casHigh,
        casLow: this.#casLow,
        value,
        remainingSeconds: this.#remainingSeconds,
      })
    } else this.#handler.onValue(this.#line, value)
  }
}

/** @throws ReplyError where there is none behind `start` */
function spaceBefore(bytes: Buffer, end: number, start: number): number {
  let at = end - 1
  while (at > start && bytes[at] !== SPACE) at--
  if (at <= start) throw new ReplyError('a line of an item lacks a part')
  return at
}

/** Without end it is -1. */
function remaining(bytes: Buffer, from: number, to: number): number {
  if (bytes[from] === 0x2d) return -1
  let seconds = 0
  for (let at = from; at < to; at++) seconds = seconds * 10 + digit(bytes[at] ?? 0)
  return seconds
}

function digit(byte: number): number {
  if (byte < 0x30 || byte > 0x39) throw new ReplyError('a number in a reply has a character that is no digit')
  return byte - 0x30
}
