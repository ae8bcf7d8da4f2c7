import { composeItemKey, keyFromText } from '../../src/domain/key.ts'
import type { DonationAnswer, DonorPeer } from '../../src/domain/donation.ts'
import type { StoreEntry } from '../../src/domain/log-entry.ts'
import { parsePosition, type Position } from '../../src/domain/position.ts'
import { formatEnd, formatHead, ItemsFrame, itemStreamFormat } from '../../src/wire/peer/item-stream.ts'

/** What a peer has applied, after so many transactions of the log. */
export interface DonorLog {
  readonly length: number
  contentsAt(transactions: number): {
    readonly generation: number
    readonly stored: ReadonlyMap<string, StoreEntry>
  }
}

/**
 * A peer that goes on applying while it gives: it lists its items somewhere behind its position, reads each one later, and gives those that are
 * still the listed ones, as recovery/donor-items.ts does. Namespace 1 is `a`.
 */
export class ModelDonor implements DonorPeer {
  readonly name = 'donor'
  readonly state = 'serving'
  readonly #log: DonorLog
  readonly #random: () => number
  readonly #pause: (milliseconds: number) => Promise<void>
  #applied: number

  constructor(log: DonorLog, random: () => number, pause: (milliseconds: number) => Promise<void>) {
    this.#log = log
    this.#random = random
    this.#pause = pause
    // It may lag.
    this.#applied = Math.max(0, log.length - Math.floor(random() * 4))
  }

  async give(): Promise<DonationAnswer> {
    return { kind: 'stream', chunks: this.#chunks() }
  }

  async *#chunks(): AsyncGenerator<Buffer> {
    const { generation } = this.#log.contentsAt(this.#applied)
    yield formatHead({
      format: itemStreamFormat,
      dump: 'dump',
      versions: true,
      staleItems: false,
      keysExpected: 1,
      clockSeconds: 1000,
      epoch: 0,
      position: at(this.#applied),
      namespaces: [{ id: 1, name: 'a', generation, flushDue: 0 }],
    })
    await this.#goOn()
    const listed = [...this.#log.contentsAt(this.#applied).stored]
    const frame = new ItemsFrame()
    let keys = 0
    for (const [index, [name, entry]] of listed.entries()) {
      await this.#goOn()
      if (this.#log.contentsAt(this.#applied).stored.get(name) === entry) {
        frame.add(itemOf(name, entry))
        keys++
      }
      if (this.#random() < 0.6 && frame.count > 0) yield frame.take(index + 1)
    }
    yield frame.take(listed.length)
    yield formatEnd({ position: at(this.#applied), epoch: 0, keys })
  }

  async #goOn(): Promise<void> {
    await this.#pause(Math.floor(this.#random() * 4))
    const behind = this.#log.length - this.#applied
    this.#applied += Math.floor(this.#random() * (behind + 1))
  }
}

function itemOf(name: string, entry: StoreEntry): Parameters<ItemsFrame['add']>[0] {
  const { versionHigh, versionLow, value } = entry
  // 32 and 32 bits become 31 and 33.
  const casHigh = Math.floor(versionHigh / 2)
  const casLow = (versionHigh % 2) * 2 ** 32 + versionLow
  return { key: composeItemKey('a', keyFromText(name)), stale: false, endSeconds: 0, flags: 0, casHigh, casLow, value }
}

function at(count: number): Position {
  return parsePosition('mariadb', count === 0 ? '' : `0-1-${count}`)
}
