import type { WritableCatalogue } from '../domain/catalogue.ts'
import type { RefillHead, RefillSink } from '../domain/donation.ts'
import { WhiteholeError } from '../domain/errors.ts'
import type { Position } from '../domain/position.ts'
import { failpoint, failpointArmed } from '../runtime/failpoints.ts'
import { readItems } from '../wire/peer/item-stream.ts'
import type { ApplyCounters } from './apply.ts'
import { type ExpiryClock, ItemCommands, streamedExptime } from './item-commands.ts'
import type { MemcachedSession } from './memcached-session.ts'

export interface MemcachedRefillOptions {
  readonly session: MemcachedSession
  readonly catalogue: WritableCatalogue
  readonly clock: ExpiryClock
  readonly counters: ApplyCounters
  /** Of the databases' clock. */
  readonly sampleClock: (clockSeconds: number, sampledAtMilliseconds: number) => void
  /** Is the primary without something of it? */
  readonly isLost: (position: Position) => Promise<boolean>
}

/** Pieces that memcached has not confirmed: it works on one while the next is made. */
const inFlightMax = 2

/**
 * A peer's items → this node's memcached. Until the end the state item says nothing that parses, so a node that dies on the way begins
 * anew (docs/adr/0013-rebuild.md).
 */
export class MemcachedRefill implements RefillSink {
  readonly #given: MemcachedRefillOptions
  readonly #commands: ItemCommands
  #inFlight: Promise<void>[] = []

  constructor(options: MemcachedRefillOptions) {
    this.#given = options
    this.#commands = new ItemCommands(options.session.itemCasIsVersion)
  }

  get needsVersions(): boolean {
    return this.#given.session.itemCasIsVersion
  }

  async refuses(position: Position): Promise<boolean> {
    return this.#given.isLost(position)
  }

  async begin(head: RefillHead): Promise<void> {
    const { session, catalogue, sampleClock } = this.#given
    // As it arrived, not when all of this is done.
    sampleClock(head.clockSeconds, performance.now())
    await this.settle()
    const base = await session.empty()
    catalogue.reset(base, head.namespaces, head.staleItems)
  }

  async items(piece: Buffer): Promise<number> {
    const { clock } = this.#given
    const count = readItems(piece, (item) => {
      const exptime = streamedExptime(item.endSeconds, clock)
      if (exptime !== undefined) this.#commands.fill(item, exptime)
    })
    const sent = this.#send()
    sent.catch(() => {})
    this.#inFlight.push(sent)
    if (this.#inFlight.length >= inFlightMax) await this.#inFlight.shift()
    if (failpointArmed('mid-snapshot')) {
      await this.settle()
      failpoint('mid-snapshot', () => count > 0)
    }
    return count
  }

  async settle(): Promise<void> {
    const waiting = this.#inFlight
    this.#inFlight = []
    await Promise.all(waiting)
  }

  async #send(): Promise<void> {
    if (this.#commands.count === 0) return
    const { session, counters } = this.#given
    const complaints = await session.connection.bulk([this.#commands.take()])
    for (const line of complaints) {
      if (line.startsWith('SERVER_ERROR')) counters.refused++
      else if (line !== 'HD' && line !== 'NF')
        throw new WhiteholeError('memcached-away', `memcached did not understand the refill: ${line}`)
    }
  }
}
