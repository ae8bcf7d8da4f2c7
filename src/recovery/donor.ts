import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { MemcachedConnection } from '../adapters/memcached-connection.ts'
import { ItemDump } from '../adapters/memcached-dump.ts'
import type { Contents, Donations, DonationStart, ServedContents } from '../domain/donation.ts'
import { describeError } from '../domain/errors.ts'
import type { Namespaces } from '../domain/namespaces.ts'
import type { Logger } from '../runtime/logger.ts'
import { formatAlive, formatEnd, formatHead, itemStreamFormat, type StreamHead } from '../wire/peer/item-stream.ts'
import { DonorItems } from './donor-items.ts'
import { DonorPace, type DonorPaceOptions } from './donor-pace.ts'

export interface DonorOptions {
  readonly address: { readonly host: string; readonly port: number }
  /** Where the listing is kept meanwhile, about 110 bytes an item. */
  readonly folder: string
  readonly served: ServedContents
  readonly namespaces: Namespaces & { readonly staleItems: boolean; readonly baseWatermark: number | undefined }
  readonly pace: DonorPaceOptions
  readonly logger: Logger
}

/** Given at a time. Each takes a file and a share of this node's time. */
const donationsMax = 2
/** How long a donation whose receiver is gone can be taken up again. */
const keptMilliseconds = 60_000
const aliveMilliseconds = 1000

/** What one receiver is given. */
interface Donation {
  readonly head: StreamHead
  readonly life: number
  /** Resolves with the listing. */
  readonly dump: Promise<ItemDump>
  taken: boolean
  forget: NodeJS.Timeout | undefined
}

/**
 * Gives this node's items to another that rebuilds, in constant memory: the listing goes to a file, values are read in small runs, and
 * nothing more is read while the receiver does not take.
 *
 * Position first, then the listing, then the values (docs/adr/0013-rebuild.md): an item that the listing has and that is still the same
 * when it is read is sent; another one was written after the position, so the receiver's log has it.
 */
export class Donor implements Donations {
  readonly #options: DonorOptions
  readonly #donations = new Map<string, Donation>()
  #keysSent = 0
  #bytesSent = 0

  constructor(options: DonorOptions) {
    this.#options = options
  }

  get figures(): { readonly running: number; readonly keysSent: number; readonly bytesSent: number } {
    const running = [...this.#donations.values()].filter(({ taken }) => taken).length
    return { running, keysSent: this.#keysSent, bytesSent: this.#bytesSent }
  }

  begin(request: unknown): DonationStart {
    const { format, dump, cursor = 0 } = (request ?? {}) as Record<string, unknown>
    if (format !== itemStreamFormat) return { kind: 'refused', reason: 'format' }
    if (typeof cursor !== 'number' || !Number.isSafeInteger(cursor) || cursor < 0)
      throw new RangeError('the cursor is no place in a stream')
    const contents = this.#options.served.contents()
    if (contents === undefined) return { kind: 'refused', reason: 'not-serving' }
    if (typeof dump === 'string') return this.#goOn(dump, cursor, contents)
    // Those that nobody takes any more make room.
    for (const [id, donation] of this.#donations) {
      if (this.#donations.size >= donationsMax && !donation.taken) this.#drop(id)
    }
    if (this.#donations.size >= donationsMax) return { kind: 'refused', reason: 'busy' }
    return { kind: 'stream', chunks: this.#give(this.#open(contents), 0) }
  }

  close(): void {
    for (const id of this.#donations.keys()) this.#drop(id)
  }

  #goOn(id: string, cursor: number, contents: Contents): DonationStart {
    const donation = this.#donations.get(id)
    if (donation === undefined || donation.life !== contents.life) return { kind: 'refused', reason: 'unknown-dump' }
    if (donation.taken) return { kind: 'refused', reason: 'busy' }
    return { kind: 'stream', chunks: this.#give(donation, cursor) }
  }

  /** Position and namespaces in one turn, and before the listing. */
  #open(contents: Contents): Donation {
    const { address, folder, namespaces } = this.#options
    const head: StreamHead = {
      format: itemStreamFormat,
      dump: randomUUID(),
      versions: namespaces.baseWatermark === undefined,
      staleItems: namespaces.staleItems,
      keysExpected: 0,
      clockSeconds: contents.databaseNowSeconds,
      epoch: contents.epoch,
      position: contents.position,
      namespaces: [...namespaces.all()].map(({ id, name, generation, flushDue }) => ({
        id,
        name,
        generation,
        flushDue,
      })),
    }
    const dump = ItemDump.take(address, { folder })
    dump.catch(() => {})
    const donation: Donation = { head, life: contents.life, dump, taken: false, forget: undefined }
    this.#donations.set(head.dump, donation)
    return donation
  }

  #drop(id: string): void {
    const donation = this.#donations.get(id)
    if (donation === undefined) return
    this.#donations.delete(id)
    clearTimeout(donation.forget)
    donation.dump.then((dump) => dump.close()).catch(() => {})
  }

  /** Ends without an end frame where something is lost: then the receiver asks again. */
  async *#give(donation: Donation, cursor: number): AsyncGenerator<Buffer> {
    const { logger, address } = this.#options
    const id = donation.head.dump
    donation.taken = true
    clearTimeout(donation.forget)
    let memcached: MemcachedConnection | undefined
    let whole = false
    try {
      memcached = await MemcachedConnection.connect(address)
      const now = this.#still(donation)
      yield formatHead({
        ...donation.head,
        keysExpected: await itemCount(memcached),
        clockSeconds: now.databaseNowSeconds,
      })
      const dump = yield* this.#aliveUntil(donation.dump)
      whole = yield* this.#items(donation, { memcached, dump, cursor })
    } catch (error) {
      logger.warn({ reason: describeError(error) }, 'giving items to another node was interrupted')
    } finally {
      memcached?.destroy()
      donation.taken = false
      if (whole) this.#drop(id)
      else donation.forget = setTimeout(() => this.#drop(id), keptMilliseconds).unref()
    }
  }

  async *#items(
    donation: Donation,
    given: { memcached: MemcachedConnection; dump: ItemDump; cursor: number },
  ): AsyncGenerator<Buffer, boolean> {
    const { namespaces, served } = this.#options
    const items = new DonorItems({
      memcached: given.memcached,
      namespaces,
      now: () => this.#still(donation),
      giveBack: (stale) => served.giveBack(stale),
    })
    const pace = new DonorPace(this.#options.pace)
    let keys = 0
    for await (const { frame, count } of items.frames(given.dump.read(given.cursor))) {
      this.#still(donation)
      keys += count
      this.#keysSent += count
      this.#bytesSent += frame.length
      yield frame
      await pace.rest(count, frame.length)
    }
    // Last: whatever was read lies before it.
    const { horizon, epoch } = this.#still(donation)
    yield formatEnd({ position: horizon, epoch, keys })
    return true
  }

  /** @throws Error where this node no longer has what it began to give */
  #still(donation: Donation): Contents {
    const contents = this.#options.served.contents()
    if (contents === undefined || contents.life !== donation.life || contents.epoch !== donation.head.epoch) {
      throw new Error('this node does not serve what it began to give')
    }
    if (!this.#donations.has(donation.head.dump)) throw new Error('this node is stopping')
    return contents
  }

  async *#aliveUntil<T>(wanted: Promise<T>): AsyncGenerator<Buffer, T> {
    for (;;) {
      const timer = new AbortController()
      const tick = delay(aliveMilliseconds, undefined, { signal: timer.signal }).catch(() => undefined)
      const came = await Promise.race([wanted.then((value) => ({ value })), tick])
      timer.abort()
      if (came !== undefined) return came.value
      yield formatAlive()
    }
  }
}

async function itemCount(memcached: MemcachedConnection): Promise<number> {
  const line = (await memcached.lines('stats')).find((one) => one.startsWith('STAT curr_items '))
  return Number(line?.split(' ')[2] ?? 0)
}
