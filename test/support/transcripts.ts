import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { until } from './processes.ts'

/**
 * Dialogues with a memcached as text files, to read and to replay:
 *
 *     == what it shows
 *     ! why memcached 1.6.45 answers otherwise      (then it is not asked)
 *     !18 how 1.6.18 differs                        (then it is not asked)
 *     > a line that is sent, \r\n is appended
 *     >| bytes that are sent as they are
 *     < a line of the reply
 *     <closed                                       the server closes by itself
 *
 * `\r \n \0 \\ \xNN` are bytes, `{x*300}` is 300 times x. `{cas 2}` is the second CAS token that the scene's replies told: in what is
 * sent it waits for that reply.
 */
export interface Scene {
  readonly title: string
  readonly notLike145: string | undefined
  readonly notLike118: string | undefined
  readonly send: Buffer
  /** What is sent, latin1, with `{cas N}` where a token stands. */
  readonly text: string
  readonly reply: string
  readonly closed: boolean
  /** The file's own lines of what is sent, to write it again. */
  readonly sentLines: readonly string[]
}

export function parseTranscript(text: string): Scene[] {
  return text
    .split(/^== /m)
    .slice(1)
    .map((block) => parseScene(block.split('\n')))
}

function parseScene([title = '', ...lines]: readonly string[]): Scene {
  const of = (mark: string): string[] =>
    lines.filter((line) => line.startsWith(`${mark} `)).map((line) => line.slice(mark.length + 1))
  const sentLines = lines.filter((line) => line.startsWith('>'))
  const sent = sentLines.map((line) => (line.startsWith('>|') ? decode(line.slice(3)) : `${decode(line.slice(2))}\r\n`))
  return {
    title,
    notLike145: of('!')[0],
    notLike118: of('!18')[0],
    send: Buffer.from(sent.join(''), 'latin1'),
    text: sent.join(''),
    reply: of('<')
      .map((line) => `${decode(line)}\r\n`)
      .join(''),
    closed: lines.includes('<closed'),
    sentLines,
  }
}

export function formatScene(scene: Scene): string {
  const lines = [`== ${scene.title}`]
  if (scene.notLike145 !== undefined) lines.push(`! ${scene.notLike145}`)
  if (scene.notLike118 !== undefined) lines.push(`!18 ${scene.notLike118}`)
  lines.push(...scene.sentLines)
  if (scene.reply !== '')
    lines.push(
      ...scene.reply
        .replace(/\r\n$/, '')
        .split('\r\n')
        .map((line) => `< ${encode(line)}`),
    )
  if (scene.closed) lines.push('<closed')
  return `${lines.join('\n')}\n`
}

function decode(text: string): string {
  return text
    .replace(/\{(.)\*(\d+)\}/g, (_all, character: string, count: string) => character.repeat(Number(count)))
    .replace(/\\(?:x([0-9a-f]{2})|(.))/g, (_all, hex: string | undefined, letter: string) =>
      hex === undefined
        ? ({ r: '\r', n: '\n', 0: '\0', t: '\t' }[letter] ?? letter)
        : String.fromCharCode(parseInt(hex, 16)),
    )
}

function encode(line: string): string {
  return line
    .replace(/\\/g, '\\\\')
    .replace(/[^ -~]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
    .replace(/([a-z0-9])\1{39,}/g, (run, character: string) => `{${character}*${run.length}}`)
}

export interface Answer {
  readonly reply: string
  /** The server closed before the client did. */
  readonly closed: boolean
}

/** How a dialogue's bytes are cut into packets. */
export type Cut = (bytes: Buffer) => readonly Buffer[]
export const whole: Cut = (bytes) => [bytes]
export const byteByByte: Cut = (bytes) => Array.from(bytes, (_byte, at) => bytes.subarray(at, at + 1))

/** Sends a scene over a connection of its own and returns all that comes back. Where it is to stay open, our end is closed at last. */
export async function play(
  port: number,
  scene: Pick<Scene, 'send' | 'closed'> & { readonly text?: string },
  cut: Cut = whole,
): Promise<Answer> {
  const socket = createConnection({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true })
  await once(socket, 'connect')
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  let ended = false
  const end = new Promise<void>((resolve) => {
    for (const event of ['end', 'close', 'error']) {
      socket.on(event, () => {
        ended = true
        resolve()
      })
    }
  })
  const received = (): string => Buffer.concat(chunks).toString('latin1')
  for await (const part of partsOf(scene, received, () => ended)) {
    for (const piece of cut(part)) {
      if (ended) break
      await write(socket, piece)
    }
  }
  if (!scene.closed && !ended) socket.end()
  await end
  socket.destroy()
  return { reply: received(), closed: scene.closed }
}

/** What can be sent at once; behind it, what needs a token of a reply. */
async function* partsOf(
  scene: { readonly send: Buffer; readonly text?: string },
  received: () => string,
  ended: () => boolean,
): AsyncGenerator<Buffer> {
  const texts = scene.text?.split(/(?<=\n)(?=[^\n]*\{cas \d+\})/) ?? []
  if (texts.length < 2) {
    yield scene.send
    return
  }
  for (const text of texts) {
    const wanted = Math.max(0, ...[...text.matchAll(/\{cas (\d+)\}/g)].map((match) => Number(match[1])))
    await until(`${wanted} tokens`, () => ended() || tokensIn(received()).length >= wanted)
    const tokens = tokensIn(received())
    const filled = text.replace(/\{cas (\d+)\}/g, (_all, number: string) => tokens[Number(number) - 1] ?? '')
    yield Buffer.from(filled, 'latin1')
  }
}

/** CAS tokens in a reply, each once: of `gets`, of meta `c`, of `me`. */
const token = /^(VALUE [^ \r]+ \d+ \d+ |(?:HD|VA)[^\r]*? c|ME [^\r]*? cas=)([1-9]\d*)(?=[ \r])/gm

function tokensIn(reply: string): string[] {
  return [...new Set([...reply.matchAll(token)].map((match) => match[2] ?? ''))]
}

/**
 * What differs from run to run is made alike: tokens by their order; times that count down, up to the full ten; how long ago something was
 * read, up to two seconds; slab classes and sizes, which are of the item's whole key.
 */
export function normalized(reply: string): string {
  const tokens = tokensIn(reply)
  const full = (seconds: string): number => Math.ceil(Number(seconds) / 10) * 10
  return reply
    .replace(token, (_all, before: string, cas: string) => `${before}{cas ${tokens.indexOf(cas) + 1}}`)
    .replace(/^((?:HD|VA)[^\r]*? t)(\d+)(?=[ \r])/gm, (_all, before: string, time: string) => before + full(time))
    .replace(/^((?:HD|VA)[^\r]*? l)[12](?=[ \r])/gm, '$10')
    .replace(/^ME [^\r]*/gm, (line) =>
      line
        .replace(/ exp=(\d+)/, (_all, time: string) => ` exp=${full(time)}`)
        .replace(/ la=[12] /, ' la=0 ')
        .replace(/ cls=\d+ size=\d+/, ' cls=1 size=1'),
    )
    .replace(/VERSION \d+\.\d+\.\d+/g, 'VERSION 1.6.45')
}

function write(socket: Socket, piece: Buffer): Promise<void> {
  return new Promise((resolve) => {
    // A turn of the event loop in between, so that each piece is a packet.
    socket.write(piece, () => setImmediate(resolve))
  })
}
