import { keyFromText } from '../../src/domain/key.ts'
import type { LogEntry, StoreEntry } from '../../src/domain/log-entry.ts'

export const keys = ['k0', 'k1', 'k2', 'k3', 'k4']

/** The log, and what it says of each key after each of its transactions. */
export class ModelLog {
  readonly transactions: LogEntry[][] = []
  /** By key: its value after so many transactions. */
  readonly #states = new Map(keys.map((key) => [key, [undefined as string | undefined]]))
  readonly #stored = new Map<string, StoreEntry>()
  /** After so many transactions: what is there, and of which generation. */
  readonly #contents: LogContents[] = [{ generation: 1, stored: new Map() }]
  #generation = 1
  #values = 0

  get length(): number {
    return this.transactions.length
  }

  write(random: () => number): void {
    const entries: LogEntry[] = []
    const count = 1 + Math.floor(random() * 3)
    for (let n = 0; n < count; n++) entries.push(this.#entry(random))
    this.transactions.push(entries)
    for (const key of keys) this.#states.get(key)?.push(this.#stored.get(key)?.value.toString())
    this.#contents.push({ generation: this.#generation, stored: new Map(this.#stored) })
  }

  contentsAt(transactions: number): LogContents {
    return this.#contents[transactions] as LogContents
  }

  valueAt(key: string, transactions: number): string | undefined {
    return this.#states.get(key)?.[transactions]
  }

  entryNow(key: string): StoreEntry | undefined {
    return this.#stored.get(key)
  }

  #entry(random: () => number): LogEntry {
    const name = keys[Math.floor(random() * keys.length)] ?? 'k0'
    const key = keyFromText(name)
    const common = { namespaceId: 1, key, generation: this.#generation }
    const kind = random()
    if (kind < 0.08) {
      this.#generation++
      this.#stored.clear()
      return flushTo(this.#generation)
    }
    if (kind < 0.25) {
      this.#stored.delete(name)
      return { kind: 'delete', namespaceId: 1, key }
    }
    if (kind < 0.35) return { ...common, kind: 'touch', expiry: 0 }
    const id = ++this.#values
    const stored: StoreEntry = {
      ...common,
      kind: 'set',
      expiry: 0,
      flags: '0',
      versionHigh: this.#generation * 2,
      versionLow: id,
      value: Buffer.from(`v${id}`),
    }
    this.#stored.set(name, stored)
    return stored
  }
}

export interface LogContents {
  readonly generation: number
  readonly stored: ReadonlyMap<string, StoreEntry>
}

function flushTo(generation: number): LogEntry {
  return { kind: 'namespace', namespaceId: 1, name: 'a', generation, begins: true, dropped: false, flushDue: 0 }
}
