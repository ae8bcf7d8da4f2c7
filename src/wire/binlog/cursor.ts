/** The bytes of an event don't have the form that its type promises. */
export class MalformedEvent extends Error {
  override readonly name = 'MalformedEvent'
}

/** The bytes of an event are not those that the database wrote (length or checksum): reading them again may help. */
export class DamagedEvent extends Error {
  override readonly name = 'DamagedEvent'
}

/**
 * Reads little-endian values one after the other. Every read is checked against the end, so that a wrong length is an error,
 * never a value out of the neighbouring bytes.
 */
export class Cursor {
  readonly #bytes: Buffer
  readonly #end: number
  #offset: number

  constructor(bytes: Buffer, start = 0, end = bytes.length) {
    if (start < 0 || end > bytes.length || start > end)
      throw new MalformedEvent('the event is shorter than its header says')
    this.#bytes = bytes
    this.#offset = start
    this.#end = end
  }

  get remaining(): number {
    return this.#end - this.#offset
  }

  u8(): number {
    return this.#bytes[this.#take(1)] as number
  }

  u16(): number {
    const at = this.#take(2)
    const b = this.#bytes
    return (b[at] as number) | ((b[at + 1] as number) << 8)
  }

  u24(): number {
    const at = this.#take(3)
    const b = this.#bytes
    return (b[at] as number) | ((b[at + 1] as number) << 8) | ((b[at + 2] as number) << 16)
  }

  u32(): number {
    const at = this.#take(4)
    const b = this.#bytes
    return (
      ((b[at] as number) |
        ((b[at + 1] as number) << 8) |
        ((b[at + 2] as number) << 16) |
        ((b[at + 3] as number) << 24)) >>>
      0
    )
  }

  i32(): number {
    return this.u32() | 0
  }

  u48(): number {
    return this.u32() + this.u16() * 2 ** 32
  }

  /** 64 bits as a number; beyond 2^53-1 it would be another number, so that is an error. */
  u64(): number {
    const low = this.u32()
    const high = this.u32()
    if (high >= 2 ** 21) throw new MalformedEvent('a 64-bit number is larger than 2^53-1')
    return high * 2 ** 32 + low
  }

  /** 64 bits in decimal, whatever their size. */
  u64Decimal(): string {
    const low = this.u32()
    const high = this.u32()
    if (high === 0) return low < smallNumbers.length ? (smallNumbers[low] as string) : String(low)
    if (high < 2 ** 21) return String(high * 2 ** 32 + low)
    return String((BigInt(high) << 32n) | BigInt(low))
  }

  /** A length-encoded number, as MySQL's protocol has it. */
  lengthEncoded(): number {
    const first = this.u8()
    if (first < 0xfb) return first
    if (first === 0xfc) return this.u16()
    if (first === 0xfd) return this.u24()
    if (first === 0xfe) return this.u64()
    throw new MalformedEvent(`0x${first.toString(16)} begins no length-encoded number`)
  }

  /** A view of the next bytes, not a copy. */
  bytes(length: number): Buffer {
    const at = this.#take(length)
    return this.#bytes.subarray(at, at + length)
  }

  latin1(length: number): string {
    const at = this.#take(length)
    return this.#bytes.toString('latin1', at, at + length)
  }

  skip(length: number): void {
    this.#take(length)
  }

  /** Everything up to the end. */
  rest(): Buffer {
    return this.bytes(this.remaining)
  }

  #take(length: number): number {
    const at = this.#offset
    if (length < 0 || length > this.#end - at) {
      throw new MalformedEvent(`${length} bytes expected where ${this.#end - at} are left`)
    }
    this.#offset = at + length
    return at
  }
}

/** Most flags are small: their text is made once. */
const smallNumbers = Array.from({ length: 1024 }, (_, number) => String(number))
