import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { open, unlink, type FileHandle } from 'node:fs/promises'
import { createConnection, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { WhiteholeError } from '../domain/errors.ts'
import type { ItemKey } from '../domain/key.ts'
import type { ItemCas } from '../domain/local-reads.ts'
import { versionLowBits } from '../domain/version.ts'
import { parseCasText } from '../wire/memcached/item-cas.ts'
import { decodeItemKey } from '../wire/memcached/item-key-text.ts'

export interface DumpedItem extends ItemCas {
  readonly key: ItemKey
  /** The line behind the key: `exp=-1 la=… cas=… fetch=no cls=1 size=60`; expiry and last access in Unix seconds. */
  readonly details: string
}

export interface DumpOptions {
  readonly signal?: AbortSignal
  /** Where the listing is kept until it is read: about 110 bytes an item, in a file that has no name. Default: the system's. */
  readonly folder?: string
  /** Longest silence of memcached within the listing. */
  readonly silenceMilliseconds?: number
  /** How long a crawler that is at other work is asked again. */
  readonly busyMilliseconds?: number
}

const command = 'lru_crawler metadump hash\r\n'
const end = Buffer.from('END\r\n')

/**
 * Every item of a memcached that it knows to be neither expired nor flushed by its own `flush_all`, in pieces. An item that is there from the
 * beginning to the end of the dump is in it; others may be.
 *
 * The listing goes to a file first, as fast as memcached gives it, and is read from there. Reading it at one's own pace stops the
 * memcached: 1.6.18's crawler waits for its client with a bucket of the hash table locked, and the thread that serves a `get` of a
 * key in that bucket waits with it, together with all its connections. Whoever reads items while the dump waits would wait
 * for himself. (1.6.45 waits between buckets.) Kept in this process's memory the listing would grow with the number of keys.
 *
 * @throws WhiteholeError `memcached-away`
 */
export async function* dumpItems(
  address: DumpAddress,
  options: DumpOptions = {},
): AsyncGenerator<readonly DumpedItem[]> {
  const dump = await ItemDump.take(address, options)
  try {
    for await (const { items } of dump.read()) yield items
  } finally {
    await dump.close()
  }
}

type DumpAddress = { readonly host: string; readonly port: number }

/** A listing that is kept, so that it can be read from any of its places, and again. */
export class ItemDump {
  readonly #file: FileHandle

  private constructor(file: FileHandle) {
    this.#file = file
  }

  /** Everything that is there by now is in it; see `dumpItems`. @throws WhiteholeError `memcached-away` */
  static async take(address: DumpAddress, options: DumpOptions = {}): Promise<ItemDump> {
    const name = join(options.folder ?? tmpdir(), `whitehole-dump-${randomUUID()}`)
    const file = await open(name, 'wx+', 0o600)
    try {
      await unlink(name)
      await spoolOnceIdle(address, file, options)
      return new ItemDump(file)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** From a `cursor` on that was given with items: those before it were all given by then. */
  async *read(cursor = 0): AsyncGenerator<{ readonly items: readonly DumpedItem[]; readonly cursor: number }> {
    let rest = ''
    let read = cursor
    const options = { start: cursor, autoClose: false, encoding: 'latin1', highWaterMark: 64 * 1024 } as const
    for await (const text of this.#file.createReadStream(options) as AsyncIterable<string>) {
      // One character a byte.
      read += text.length
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      const items = lines.map(parseLine).filter((item) => item !== undefined)
      if (items.length > 0) yield { items, cursor: read - rest.length }
    }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

/** The crawler does one thing at a time: memcached's own housekeeping, a sweep, another dump. */
async function spoolOnceIdle(address: DumpAddress, file: FileHandle, options: DumpOptions): Promise<void> {
  const deadline = performance.now() + (options.busyMilliseconds ?? 30_000)
  for (let wait = 20; ; wait = Math.min(wait * 2, 1000)) {
    options.signal?.throwIfAborted()
    const refusal = await spool(address, file, options)
    if (refusal === undefined) return
    if (!/^BUSY|^ERROR locked/.test(refusal) || performance.now() > deadline) {
      throw new WhiteholeError('memcached-away', `memcached lists no items: ${JSON.stringify(refusal.slice(0, 200))}`)
    }
    await delay(wait, undefined, options.signal === undefined ? {} : { signal: options.signal })
  }
}

/** Resolves with memcached's refusal, if it refused. */
async function spool(address: DumpAddress, file: FileHandle, options: DumpOptions): Promise<string | undefined> {
  const silence = options.silenceMilliseconds ?? 10_000
  const socket = createConnection({ host: address.host, port: address.port })
  socket.on('error', () => {})
  const abort = (): void => void socket.destroy(options.signal?.reason as Error | undefined)
  options.signal?.addEventListener('abort', abort, { once: true })
  socket.setTimeout(silence, () => socket.destroy(new Error(`memcached was silent for ${silence} ms`)))
  try {
    await once(socket, 'connect')
    socket.write(command)
    return await receive(socket, file)
  } catch (cause) {
    options.signal?.throwIfAborted()
    throw new WhiteholeError('memcached-away', `the dump of memcached at ${address.host}:${address.port} failed`, {
      cause,
    })
  } finally {
    options.signal?.removeEventListener('abort', abort)
    socket.destroy()
  }
}

async function receive(socket: Socket, file: FileHandle): Promise<string | undefined> {
  let position = 0
  let tail: Buffer = Buffer.alloc(0)
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    await file.write(chunk, 0, chunk.length, position)
    position += chunk.length
    tail = chunk.length > 512 ? chunk.subarray(chunk.length - 512) : Buffer.concat([tail, chunk]).subarray(-512)
    const whole = position === tail.length ? tail.toString('latin1') : undefined
    if (whole?.endsWith('\n') && !/^(key=|END|EN|OK)/.test(whole)) {
      // NOTSTARTED: there is nothing to list.
      if (!whole.startsWith('NOTSTARTED')) return whole.trimEnd()
      await file.truncate(0)
      return undefined
    }
    // A line of an item begins with `key=`, and its key is percent-encoded: no item looks like the end.
    if (tail.subarray(-end.length).equals(end) && (tail.length === end.length || tail.at(-end.length - 1) === 0x0a)) {
      await file.truncate(position)
      return undefined
    }
  }
  throw new Error('the listing was cut off')
}

/** `key=… exp=-1 la=… cas=7 fetch=no cls=1 size=63`; memcached 1.6.45 has more fields behind these. Hot path of a rebuild (bench/rebuild.ts). */
function parseLine(line: string): DumpedItem | undefined {
  if (!line.startsWith('key=')) return undefined
  const space = line.indexOf(' ')
  const cas = line.indexOf(' cas=', space)
  const casEnd = cas < 0 ? -1 : line.indexOf(' ', cas + 5)
  if (space < 0 || casEnd < 0) {
    throw new WhiteholeError('memcached-away', `memcached lists an item as ${JSON.stringify(line.slice(0, 300))}`)
  }
  const { casHigh, casLow } = parseListedCas(line.slice(cas + 5, casEnd))
  return { key: decodeItemKey(line.slice(4, space)), details: line.slice(space + 1), casHigh, casLow }
}

function parseListedCas(text: string): ItemCas {
  if (text.length > 15) return parseCasText(text)
  const whole = Number(text)
  if (!Number.isSafeInteger(whole)) throw new WhiteholeError('memcached-away', `memcached lists a CAS as ${text}`)
  const casHigh = Math.floor(whole / lowLimit)
  return { casHigh, casLow: whole - casHigh * lowLimit }
}

const lowLimit = 2 ** versionLowBits

/** Of a listed item: when it ends by memcached's own clock, in Unix seconds (0 never), and about what it takes there. */
export function lifeOf({ details }: DumpedItem): { readonly expires: number; readonly bytes: number } {
  const expires = Number.parseInt(details.slice(details.indexOf('exp=') + 4), 10)
  const bytes = Number.parseInt(details.slice(details.indexOf(' size=') + 6), 10)
  return { expires: expires < 0 ? 0 : expires, bytes: Number.isNaN(bytes) ? 0 : bytes }
}
