/** Frames of memcached's binary protocol: numbers are big-endian. As memcached 1.6.45 reads and writes them. */

export const requestMagic = 0x80
const responseMagic = 0x81

export const headerBytes = 24

export const opcode = {
  get: 0x00,
  set: 0x01,
  add: 0x02,
  replace: 0x03,
  delete: 0x04,
  increment: 0x05,
  decrement: 0x06,
  quit: 0x07,
  flush: 0x08,
  getQ: 0x09,
  noop: 0x0a,
  version: 0x0b,
  getK: 0x0c,
  getKQ: 0x0d,
  append: 0x0e,
  prepend: 0x0f,
  stat: 0x10,
  setQ: 0x11,
  addQ: 0x12,
  replaceQ: 0x13,
  deleteQ: 0x14,
  incrementQ: 0x15,
  decrementQ: 0x16,
  quitQ: 0x17,
  flushQ: 0x18,
  appendQ: 0x19,
  prependQ: 0x1a,
  /** Never implemented by memcached: answered as any unknown one. */
  verbosity: 0x1b,
  touch: 0x1c,
  gat: 0x1d,
  gatQ: 0x1e,
  saslListMechanisms: 0x20,
  saslAuthenticate: 0x21,
  saslStep: 0x22,
  gatK: 0x23,
  gatKQ: 0x24,
} as const

/** What a reply's status says, with the text that memcached sends in its body. */
export const failures = {
  'not-found': { status: 0x01, text: 'Not found' },
  exists: { status: 0x02, text: 'Data exists for key.' },
  'too-large': { status: 0x03, text: 'Too large.' },
  'invalid-arguments': { status: 0x04, text: 'Invalid arguments' },
  'not-stored': { status: 0x05, text: 'Not stored.' },
  'not-a-number': { status: 0x06, text: 'Non-numeric server-side value for incr or decr' },
  'not-allowed': { status: 0x20, text: 'Auth failure.' },
  'unknown-command': { status: 0x81, text: 'Unknown command' },
} as const

export type Failure = keyof typeof failures

export interface FrameHeader {
  readonly magic: number
  readonly opcode: number
  readonly keyBytes: number
  readonly extrasBytes: number
  /** Extras, key and value together. */
  readonly bodyBytes: number
  /** Copied into the reply. */
  readonly opaque: number
  /** 0: none is given. */
  readonly cas: bigint
}

/** @param bytes 24 at least; the data type and the reserved field are not looked at, as in memcached */
export function readHeader(bytes: Buffer): FrameHeader {
  const casHigh = bytes.readUInt32BE(16)
  const casLow = bytes.readUInt32BE(20)
  return {
    magic: bytes[0] ?? 0,
    opcode: bytes[1] ?? 0,
    keyBytes: bytes.readUInt16BE(2),
    extrasBytes: bytes[4] ?? 0,
    bodyBytes: bytes.readUInt32BE(8),
    opaque: bytes.readUInt32BE(12),
    cas: casHigh === 0 && casLow === 0 ? 0n : (BigInt(casHigh) << 32n) | BigInt(casLow),
  }
}

/** What a reply's header says. */
export interface ReplyFrame {
  readonly opcode: number
  readonly opaque: number
  readonly status?: number
  readonly cas?: bigint
  /** latin1, one character a byte, as all parts. */
  readonly extras?: string
  readonly key?: string
  readonly valueBytes?: number
}

/** A reply's header, extras and key, one character a byte; its value follows. Built as a string: replies are joined as text. */
export function formatFrame(frame: ReplyFrame): string {
  const { extras = '', key = '', valueBytes = 0, cas = 0n } = frame
  return (
    String.fromCharCode(
      responseMagic,
      frame.opcode,
      key.length >> 8,
      key.length & 0xff,
      extras.length,
      0,
      (frame.status ?? 0) >> 8,
      (frame.status ?? 0) & 0xff,
    ) +
    uint32(extras.length + key.length + valueBytes) +
    uint32(frame.opaque) +
    (cas === 0n ? noCas : uint64(cas)) +
    extras +
    key
  )
}

export function uint32(value: number): string {
  return String.fromCharCode((value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff)
}

export function uint64(value: bigint): string {
  return uint32(Number(value >> 32n)) + uint32(Number(value & 0xffffffffn))
}

const noCas = '\0'.repeat(8)
