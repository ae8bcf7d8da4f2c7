import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { headerBytes, opcode, readHeader } from '../../src/wire/memcached/binary-frame.ts'

/**
 * Dialogues in the binary protocol as text files, to read and to replay:
 *
 *     == what it shows
 *     ! why memcached 1.6.45 answers otherwise      (then it is not asked)
 *     !18 how 1.6.18 differs                        (then it is not asked)
 *     > set key=a value=b flags=5 exptime=10        a request; also opaque= cas= delta= initial= extras=<hex>, and what the header
 *                                                   is to say against the truth: magic= keyBytes= extrasBytes= bodyBytes=
 *     >| text that is sent as it is
 *     < set cas=$1                                  a reply; also status= opaque= flags= number= key= value= extras=<hex>
 *     <closed                                       the server closes by itself
 *
 * `\r \n \0 \\ \s \xNN` are bytes, `{x*300}` is 300 times x. A token that a reply carries is called $1, $2, … by its first appearance, so that
 * the same token has the same name; a request that names one waits for it.
 */
export interface BinaryScene {
  readonly title: string
  readonly notLike145: string | undefined
  readonly notLike118: string | undefined
  readonly sentLines: readonly string[]
  /** As the file has them. */
  readonly replies: readonly string[]
  readonly closed: boolean
}

export function parseBinaryTranscript(text: string): BinaryScene[] {
  return text
    .split(/^== /m)
    .slice(1)
    .map((block) => {
      const [title = '', ...lines] = block.split('\n')
      const of = (mark: string): string | undefined =>
        lines.find((line) => line.startsWith(`${mark} `))?.slice(mark.length + 1)
      return {
        title,
        notLike145: of('!'),
        notLike118: of('!18'),
        sentLines: lines.filter((line) => line.startsWith('>')),
        replies: lines.filter((line) => line.startsWith('< ') || line.startsWith('<| ')),
        closed: lines.includes('<closed'),
      }
    })
}

export function formatBinaryScene(scene: BinaryScene): string {
  const lines = [`== ${scene.title}`]
  if (scene.notLike145 !== undefined) lines.push(`! ${scene.notLike145}`)
  if (scene.notLike118 !== undefined) lines.push(`!18 ${scene.notLike118}`)
  lines.push(...scene.sentLines, ...scene.replies)
  if (scene.closed) lines.push('<closed')
  return `${lines.join('\n')}\n`
}

/** How bytes are cut into packets. */
export type Cut = (bytes: Buffer) => readonly Buffer[]
const whole: Cut = (bytes) => [bytes]

/** The replies as the file would have them. */
export async function playBinary(port: number, scene: BinaryScene, cut: Cut = whole): Promise<string[]> {
  const socket = createConnection({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true })
  await once(socket, 'connect')
  const replies = new ReplyReader(socket)
  const timer = setTimeout(() => socket.destroy(new Error('no end')), 20_000)
  for (const line of scene.sentLines) {
    const token = /\bcas=\$(\d+)/.exec(line)
    const cas = token === null ? 0n : await replies.token(Number(token[1]))
    if (replies.ended) break
    for (const piece of cut(encodeSent(line, cas))) {
      if (!replies.ended) await new Promise<void>((resolve) => socket.write(piece, () => setImmediate(resolve)))
    }
  }
  if (!scene.closed && !replies.ended) socket.end()
  await replies.end
  clearTimeout(timer)
  socket.destroy()
  return replies.lines
}

class ReplyReader {
  readonly end: Promise<void>
  ended = false
  #bytes: Buffer = Buffer.alloc(0)
  readonly lines: string[] = []
  readonly #tokens: bigint[] = []
  #wake: (() => void)[] = []

  constructor(socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk])
      this.#read()
    })
    this.end = new Promise((resolve) => {
      for (const event of ['end', 'close', 'error']) {
        socket.on(event, () => {
          if (!this.ended && this.#bytes.length > 0) this.lines.push(`<| ${encodeText(this.#bytes.toString('latin1'))}`)
          this.ended = true
          this.#awaken()
          resolve()
        })
      }
    })
  }

  /** 0 where the connection ended before. */
  async token(name: number): Promise<bigint> {
    while (this.#tokens.length < name && !this.ended) {
      await new Promise<void>((resolve) => {
        this.#wake.push(resolve)
      })
    }
    return this.#tokens[name - 1] ?? 0n
  }

  #awaken(): void {
    const waiting = this.#wake
    this.#wake = []
    for (const wake of waiting) wake()
  }

  #read(): void {
    while (this.#bytes.length >= headerBytes && this.#bytes[0] === 0x81) {
      const length = headerBytes + this.#bytes.readUInt32BE(8)
      if (this.#bytes.length < length) break
      this.lines.push(this.#describe(this.#bytes.subarray(0, length)))
      this.#bytes = this.#bytes.subarray(length)
    }
    this.#awaken()
  }

  #describe(frame: Buffer): string {
    const header = readHeader(frame)
    const status = frame.readUInt16BE(6)
    const extras = frame.subarray(headerBytes, headerBytes + header.extrasBytes)
    const key = frame.toString(
      'latin1',
      headerBytes + header.extrasBytes,
      headerBytes + header.extrasBytes + header.keyBytes,
    )
    const value = frame.subarray(headerBytes + header.extrasBytes + header.keyBytes)
    const words = [`< ${nameOf(header.opcode)}`]
    if (status !== 0) words.push(`status=${status.toString(16)}`)
    if (header.opaque !== 0) words.push(`opaque=${header.opaque}`)
    if (header.cas !== 0n) words.push(`cas=$${this.#nameToken(header.cas)}`)
    if (frame[5] !== 0) words.push(`dataType=${frame[5]}`)
    if (extras.length === 4) words.push(`flags=${extras.readUInt32BE()}`)
    else if (extras.length > 0) words.push(`extras=${extras.toString('hex')}`)
    if (key !== '') words.push(`key=${encodeText(key)}`)
    if (isArithmetic(header.opcode) && value.length === 8 && status === 0)
      words.push(`number=${value.readBigUInt64BE()}`)
    else if (value.length > 0) words.push(`value=${encodeText(value.toString('latin1'))}`)
    return words.join(' ')
  }

  #nameToken(cas: bigint): number {
    if (!this.#tokens.includes(cas)) this.#tokens.push(cas)
    return this.#tokens.indexOf(cas) + 1
  }
}

const names = new Map<number, string>(Object.entries(opcode).map(([name, code]) => [code, name]))

function nameOf(code: number): string {
  return names.get(code) ?? `0x${code.toString(16).padStart(2, '0')}`
}

function isArithmetic(code: number): boolean {
  return [opcode.increment, opcode.incrementQ, opcode.decrement, opcode.decrementQ].includes(code as 5)
}

export interface Sent {
  readonly opcode: number
  readonly key?: string
  readonly value?: string
  readonly extras?: Buffer
  readonly opaque?: number
  readonly cas?: bigint
  /** What the header is to say against the truth. */
  readonly magic?: number
  readonly keyBytes?: number
  readonly extrasBytes?: number
  readonly bodyBytes?: number
}

export function encodeRequest(sent: Sent): Buffer {
  const key = Buffer.from(sent.key ?? '', 'latin1')
  const value = Buffer.from(sent.value ?? '', 'latin1')
  const extras = sent.extras ?? Buffer.alloc(0)
  const header = Buffer.alloc(headerBytes)
  header[0] = sent.magic ?? 0x80
  header[1] = sent.opcode
  header.writeUInt16BE(sent.keyBytes ?? key.length, 2)
  header[4] = sent.extrasBytes ?? extras.length
  header.writeUInt32BE(sent.bodyBytes ?? extras.length + key.length + value.length, 8)
  header.writeUInt32BE(sent.opaque ?? 0, 12)
  header.writeBigUInt64BE(sent.cas ?? 0n, 16)
  return Buffer.concat([header, extras, key, value])
}

/** @param token what `cas=$n` stands for */
export function encodeSent(line: string, token: bigint): Buffer {
  if (line.startsWith('>|')) return Buffer.from(decodeText(line.slice(3)), 'latin1')
  const [name = '', ...words] = line.slice(2).split(' ')
  const given = new Map<string, string>()
  for (const word of words.filter((one) => one !== '')) {
    given.set(word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1))
  }
  const code = name.startsWith('0x') ? Number(name) : opcode[name as keyof typeof opcode]
  if (code === undefined) throw new Error(`there is no command ${name}`)
  const number = (word: string): { [key: string]: number } =>
    given.has(word) ? { [word]: Number(given.get(word)) } : {}
  const cas = given.get('cas') ?? '0'
  return encodeRequest({
    opcode: code,
    key: decodeText(given.get('key') ?? ''),
    value: decodeText(given.get('value') ?? ''),
    extras: extrasOf(code, given),
    cas: cas.startsWith('$') ? token + BigInt(cas.split('+')[1] ?? 0) : BigInt(cas),
    ...number('opaque'),
    ...number('magic'),
    ...number('keyBytes'),
    ...number('extrasBytes'),
    ...number('bodyBytes'),
  })
}

function extrasOf(code: number, given: ReadonlyMap<string, string>): Buffer {
  const hex = given.get('extras')
  if (hex !== undefined) return Buffer.from(hex === '-' ? '' : hex, 'hex')
  const exptime = Number(given.get('exptime') ?? 0)
  switch (code) {
    case opcode.set:
    case opcode.add:
    case opcode.replace:
    case opcode.setQ:
    case opcode.addQ:
    case opcode.replaceQ:
      return storageExtras(Number(given.get('flags') ?? 0), exptime)
    case opcode.increment:
    case opcode.decrement:
    case opcode.incrementQ:
    case opcode.decrementQ:
      return arithmeticExtras(BigInt(given.get('delta') ?? 1), BigInt(given.get('initial') ?? 0), exptime)
    case opcode.touch:
    case opcode.gat:
    case opcode.gatQ:
    case opcode.gatK:
    case opcode.gatKQ:
      return exptimeExtras(exptime)
    default:
      return given.has('exptime') ? exptimeExtras(exptime) : Buffer.alloc(0)
  }
}

export function storageExtras(flags: number, exptime: number): Buffer {
  const extras = Buffer.alloc(8)
  extras.writeUInt32BE(flags)
  extras.writeUInt32BE(exptime >>> 0, 4)
  return extras
}

export function arithmeticExtras(delta: bigint, initial: bigint, exptime: number): Buffer {
  const extras = Buffer.alloc(20)
  extras.writeBigUInt64BE(delta)
  extras.writeBigUInt64BE(initial, 8)
  extras.writeUInt32BE(exptime >>> 0, 16)
  return extras
}

export function exptimeExtras(exptime: number): Buffer {
  const extras = Buffer.alloc(4)
  extras.writeUInt32BE(exptime >>> 0)
  return extras
}

function decodeText(text: string): string {
  return text
    .replace(/\{(.)\*(\d+)\}/g, (_all, character: string, count: string) => character.repeat(Number(count)))
    .replace(/\\(?:x([0-9a-f]{2})|(.))/g, (_all, hex: string | undefined, letter: string) =>
      hex === undefined
        ? ({ r: '\r', n: '\n', 0: '\0', t: '\t', s: ' ' }[letter] ?? letter)
        : String.fromCharCode(parseInt(hex, 16)),
    )
}

function encodeText(text: string): string {
  return text
    .replace(/\\/g, '\\\\')
    .replace(/ /g, '\\s')
    .replace(/[^!-~]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
    .replace(/([a-zA-Z0-9])\1{39,}/g, (run, character: string) => `{${character}*${run.length}}`)
}
