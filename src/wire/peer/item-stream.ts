import type { ItemKey } from '../../domain/key.ts'
import type { ItemCas } from '../../domain/local-reads.ts'
import type { RefillHead } from '../../domain/donation.ts'
import { type Dialect, formatPosition, parsePosition, type Position } from '../../domain/position.ts'

/**
 * The items of one node's memcached on their way to another's. A stream is frames, each `length of the rest (32 bits) | kind (8 bits) |
 * …`, big-endian:
 *
 *     head  JSON: what the stream is, and the position that it begins at
 *     items cursor (64 bits, where a broken stream may be taken up again) | item | item | …
 *     alive nothing: the giver is there, and busy
 *     end   JSON: the position that whoever takes must reach before it serves
 *
 * An item: `marks (8) | length of key (8) | end (64, floating point) | flags (32) | length of value (32) | CAS (64) | key | value`. Its end in
 * Unix seconds by the databases' clock, 0 never; with a fraction, for the giver's memcached counts its seconds from other places than theirs.
 */
export const itemStreamFormat = 2

export interface StreamHead extends RefillHead {
  readonly format: number
  /** Names what is given, for taking it up again. */
  readonly dump: string
  /** The CAS of an item is its version. */
  readonly versions: boolean
  readonly keysExpected: number
}

export interface StreamEnd {
  readonly position: Position
  readonly epoch: number
  /** How many items were sent, from the cursor that this stream began at. */
  readonly keys: number
}

export type StreamFrame =
  | { readonly kind: 'head'; readonly head: StreamHead }
  | { readonly kind: 'items'; readonly cursor: number; readonly piece: Buffer }
  | { readonly kind: 'alive' }
  | { readonly kind: 'end'; readonly end: StreamEnd }

const kinds = { head: 1, items: 2, alive: 3, end: 4 } as const
const itemHeadBytes = 26
const itemsHeadBytes = 4 + 1 + 8
const staleMark = 1
/** memcached's largest item is far smaller. */
const frameBytesMax = 256 * 1024 * 1024

export function formatHead({ position, ...head }: StreamHead): Buffer {
  const text = { ...head, dialect: position.dialect, position: formatPosition(position) }
  return jsonFrame(kinds.head, text)
}

export function formatEnd({ position, ...end }: StreamEnd): Buffer {
  return jsonFrame(kinds.end, { ...end, dialect: position.dialect, position: formatPosition(position) })
}

export function formatAlive(): Buffer {
  return Buffer.from([0, 0, 0, 1, kinds.alive])
}

export interface StreamedItem extends ItemCas {
  readonly key: ItemKey
  readonly stale: boolean
  readonly endSeconds: number
  readonly flags: number
  readonly value: Buffer
}

/** Hot path: gathers items into one frame (bench/rebuild.ts). */
export class ItemsFrame {
  #buffer: Buffer
  #length = itemsHeadBytes
  #count = 0

  constructor(bytes = 320 * 1024) {
    this.#buffer = Buffer.allocUnsafeSlow(bytes)
  }

  get count(): number {
    return this.#count
  }

  get bytes(): number {
    return this.#length
  }

  add({ key, stale, endSeconds, flags, casHigh, casLow, value }: StreamedItem): void {
    this.#reserve(itemHeadBytes + key.length + value.length)
    const buffer = this.#buffer
    let at = this.#length
    buffer[at] = stale ? staleMark : 0
    buffer[at + 1] = key.length
    buffer.writeDoubleBE(endSeconds, at + 2)
    buffer.writeUInt32BE(flags, at + 10)
    buffer.writeUInt32BE(value.length, at + 14)
    // Two halves of 31 and 33 bits become two of 32.
    const above = casLow >= 2 ** 32
    buffer.writeUInt32BE(casHigh * 2 + (above ? 1 : 0), at + 18)
    buffer.writeUInt32BE(above ? casLow - 2 ** 32 : casLow, at + 22)
    at += itemHeadBytes
    at += buffer.write(key, at, 'latin1')
    at += value.copy(buffer, at)
    this.#length = at
    this.#count++
  }

  /** The frame so far. Whoever adds goes on with a buffer of its own: the socket may hold this one for a while. */
  take(cursor: number): Buffer {
    const taken = this.#buffer.subarray(0, this.#length)
    taken.writeUInt32BE(this.#length - 4, 0)
    taken[4] = kinds.items
    taken.writeBigUInt64BE(BigInt(cursor), 5)
    this.#buffer = Buffer.allocUnsafeSlow(320 * 1024)
    this.#length = itemsHeadBytes
    this.#count = 0
    return taken
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes
    if (needed <= this.#buffer.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2))
    this.#buffer.copy(larger, 0, 0, this.#length)
    this.#buffer = larger
  }
}

export interface ReceivedItem {
  readonly key: ItemKey
  readonly stale: boolean
  readonly endSeconds: number
  readonly flags: number
  readonly versionHigh: number
  readonly versionLow: number
  /** A view. */
  readonly value: Buffer
}

/** @returns how many there were. @throws RangeError where the piece is cut */
export function readItems(piece: Buffer, visit: (item: ReceivedItem) => void): number {
  let at = 0
  let count = 0
  while (at < piece.length) {
    const keyLength = piece.readUInt8(at + 1)
    const valueLength = piece.readUInt32BE(at + 14)
    const keyAt = at + itemHeadBytes
    const valueAt = keyAt + keyLength
    const next = valueAt + valueLength
    if (next > piece.length || keyLength === 0) throw new RangeError('an item of the stream is cut')
    visit({
      key: piece.toString('latin1', keyAt, valueAt) as ItemKey,
      stale: piece[at] === staleMark,
      endSeconds: piece.readDoubleBE(at + 2),
      flags: piece.readUInt32BE(at + 10),
      versionHigh: piece.readUInt32BE(at + 18),
      versionLow: piece.readUInt32BE(at + 22),
      value: piece.subarray(valueAt, next),
    })
    at = next
    count++
  }
  return count
}

/** Fed with chunks as they come; holds one frame at most. */
export class ItemStreamParser {
  #head = Buffer.alloc(4)
  #headFilled = 0
  #frame: Buffer | undefined
  #filled = 0

  /** @throws RangeError on what is no such stream */
  feed(chunk: Buffer): readonly StreamFrame[] {
    const frames: StreamFrame[] = []
    let at = 0
    while (at < chunk.length) {
      if (this.#frame === undefined) {
        const copied = chunk.copy(this.#head, this.#headFilled, at)
        this.#headFilled += copied
        at += copied
        if (this.#headFilled < 4) break
        const length = this.#head.readUInt32BE(0)
        if (length === 0 || length > frameBytesMax) throw new RangeError(`a frame of ${length} bytes`)
        this.#frame = Buffer.allocUnsafeSlow(length)
        this.#filled = 0
        this.#headFilled = 0
      }
      const copied = chunk.copy(this.#frame, this.#filled, at)
      this.#filled += copied
      at += copied
      if (this.#filled < this.#frame.length) break
      const whole = this.#frame
      this.#frame = undefined
      frames.push(parseFrame(whole))
    }
    return frames
  }
}

function parseFrame(frame: Buffer): StreamFrame {
  switch (frame[0]) {
    case kinds.head:
      return { kind: 'head', head: parseHead(frame) }
    case kinds.items:
      return { kind: 'items', cursor: Number(frame.readBigUInt64BE(1)), piece: frame.subarray(9) }
    case kinds.alive:
      return { kind: 'alive' }
    case kinds.end: {
      const { dialect, position, epoch, keys } = parseJson(frame)
      return {
        kind: 'end',
        end: { position: readPosition(dialect, position), epoch: Number(epoch), keys: Number(keys) },
      }
    }
    default:
      throw new RangeError(`a frame of kind ${frame[0]}`)
  }
}

function parseHead(frame: Buffer): StreamHead {
  const text = parseJson(frame)
  const { dialect, position, namespaces } = text
  if (text['format'] !== itemStreamFormat) throw new RangeError(`a stream of format ${String(text['format'])}`)
  if (typeof text['dump'] !== 'string' || !Array.isArray(namespaces)) throw new RangeError('a head that lacks a part')
  return {
    format: itemStreamFormat,
    dump: text['dump'],
    versions: text['versions'] === true,
    staleItems: text['staleItems'] === true,
    keysExpected: Number(text['keysExpected']),
    clockSeconds: Number(text['clockSeconds']),
    epoch: Number(text['epoch']),
    position: readPosition(dialect, position),
    namespaces: (namespaces as Record<string, unknown>[]).map(({ id, name, generation, flushDue }) => ({
      id: Number(id),
      name: String(name),
      generation: Number(generation),
      flushDue: Number(flushDue),
    })),
  }
}

function readPosition(dialect: unknown, position: unknown): Position {
  if ((dialect !== 'mariadb' && dialect !== 'mysql') || typeof position !== 'string')
    throw new RangeError('a frame without a position')
  return parsePosition(dialect satisfies Dialect, position)
}

function parseJson(frame: Buffer): Record<string, unknown> {
  const parsed: unknown = JSON.parse(frame.toString('utf8', 1))
  if (typeof parsed !== 'object' || parsed === null) throw new RangeError('a frame that is no object')
  return parsed as Record<string, unknown>
}

function jsonFrame(kind: number, content: object): Buffer {
  const text = Buffer.from(JSON.stringify(content))
  const frame = Buffer.allocUnsafe(5 + text.length)
  frame.writeUInt32BE(text.length + 1, 0)
  frame[4] = kind
  text.copy(frame, 5)
  return frame
}
