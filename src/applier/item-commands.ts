import { composeItemKey, type ItemKey, keyToBytes, needsBase64 } from '../domain/key.ts'
import type { DeleteEntry, StaleEntry, StoreEntry, TouchEntry } from '../domain/log-entry.ts'
import { type Expiry, expiryNever, relativeExptimeMaxSeconds } from '../domain/mutation.ts'
import type { ReceivedItem } from '../wire/peer/item-stream.ts'

/**
 * Hot path: log entries → quiet memcached commands in one buffer (bench/replay.ts measures it). The frequent ones are silent on
 * success, the others say HD or NF; the connection closes the run with `mn`.
 */
export class ItemCommands {
  readonly #withVersions: boolean
  #buffer: Buffer
  #length = 0
  #count = 0

  /** @param withVersions memcached knows the flag E: the item's CAS is its version (docs/adr/0009-item-cas.md) */
  constructor(withVersions: boolean, bytes = 64 * 1024) {
    this.#withVersions = withVersions
    this.#buffer = Buffer.allocUnsafe(bytes)
  }

  get count(): number {
    return this.#count
  }

  get bytes(): number {
    return this.#length
  }

  /** The commands so far; the writer goes on with a buffer of its own, since the socket may hold this one for a while. */
  take(): Buffer {
    const taken = this.#buffer.subarray(0, this.#length)
    this.#buffer = Buffer.allocUnsafe(Math.max(64 * 1024, Math.min(this.#length * 2, 1024 * 1024)))
    this.#length = 0
    this.#count = 0
    return taken
  }

  /** @param exptime as memcached takes it: see memcachedExptime */
  store(namespaceName: string, entry: StoreEntry, exptime: number): void {
    const flags = entry.flags === '0' ? '' : ` F${flags32(entry.flags)}`
    this.#store(composeItemKey(namespaceName, entry.key), entry, { exptime, flags })
  }

  /** A peer's item. */
  fill(item: ReceivedItem, exptime: number): void {
    const { key } = item
    this.#store(key, item, { exptime, flags: item.flags === 0 ? '' : ` F${item.flags}` })
    if (item.stale) this.#line(`md ${needsBase64(key) ? `${base64(key)} b` : key} q I${this.#version(item)}\r\n`)
  }

  #store(key: ItemKey, entry: Versioned & { readonly value: Buffer }, given: { exptime: number; flags: string }): void {
    const { exptime, flags } = given
    const plain = !needsBase64(key)
    const time = exptime === 0 ? '' : ` T${exptime}`
    const version = this.#version(entry)
    const line = `ms ${plain ? key : base64(key)} ${entry.value.length}${plain ? '' : ' b'} q${version}${time}${flags}\r\n`
    this.#reserve(line.length + entry.value.length + 2)
    this.#text(line)
    entry.value.copy(this.#buffer, this.#length)
    this.#length += entry.value.length
    this.#buffer[this.#length++] = 13
    this.#buffer[this.#length++] = 10
    this.#count++
  }

  /** `md … q` tells a miss, `delete … noreply` nothing; but that one takes no binary key. */
  delete(namespaceName: string, entry: Pick<DeleteEntry, 'key'>): void {
    this.deleteItem(composeItemKey(namespaceName, entry.key))
  }

  deleteItem(key: ItemKey): void {
    this.#line(needsBase64(key) ? `md ${base64(key)} b q\r\n` : `delete ${key} noreply\r\n`)
  }

  /** `mg … T` with q is silent on a miss alone, `touch … noreply` always; but that one takes no binary key. */
  touch(namespaceName: string, entry: TouchEntry, exptime: number): void {
    const key = composeItemKey(namespaceName, entry.key)
    this.#line(needsBase64(key) ? `mg ${base64(key)} b q T${exptime}\r\n` : `touch ${key} ${exptime} noreply\r\n`)
  }

  /** The next reader of the meta protocol wins the right to refill it; where there is none it tells a miss, with q too. */
  stale(namespaceName: string, entry: StaleEntry, exptime: number): void {
    const key = composeItemKey(namespaceName, entry.key)
    const name = needsBase64(key) ? `${base64(key)} b` : key
    this.#line(`md ${name} q I T${exptime}${this.#version(entry)}\r\n`)
  }

  #version({ versionHigh, versionLow }: Versioned): string {
    return this.#withVersions ? ` E${decimal64(versionHigh, versionLow)}` : ''
  }

  #line(line: string): void {
    this.#reserve(line.length)
    this.#text(line)
    this.#count++
  }

  #text(line: string): void {
    this.#length += this.#buffer.write(line, this.#length, 'latin1')
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes
    if (needed <= this.#buffer.length) return
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2))
    this.#buffer.copy(larger, 0, 0, this.#length)
    this.#buffer = larger
  }
}

type Versioned = Pick<StoreEntry, 'versionHigh' | 'versionLow'>

/**
 * The log's absolute expiry as memcached takes it (docs/adr/0004-expiry.md). Up to 30 days it is a relative one: memcached then counts whole
 * seconds from its own last tick, as it does for a client of its own.
 *
 * @param committedSeconds the second of the primary's clock in which the entry was written
 * @returns 0 never (nor before 2038), undefined already over, else seconds
 */
export function memcachedExptime(expiry: Expiry, committedSeconds: number, clock: ExpiryClock): number | undefined {
  if (expiry === expiryNever) return 0
  const now = clock.databaseNowSeconds()
  const remaining = remainingSeconds(expiry, committedSeconds, now)
  if (remaining <= 0) return undefined
  if (remaining <= relativeExptimeMaxSeconds) return remaining
  const exptime = Math.floor(clock.memcachedNowSeconds() + expiry - now)
  return exptime > exptimeMax ? 0 : exptime
}

/**
 * What a peer's memcached has left of an item's time, as an absolute time by this one's clock: rounded once, so it ends within half a second of the
 * peer's (and what the two clocks are known by). Relative seconds would count from this memcached's last tick, up to a second ago.
 *
 * @param endSeconds by the databases' clock, with its fraction
 * @returns undefined already over, else seconds
 */
export function streamedExptime(endSeconds: number, clock: ExpiryClock): number | undefined {
  if (endSeconds === expiryNever) return 0
  const now = clock.memcachedNowSeconds()
  const exptime = Math.round(now + endSeconds - clock.databaseNowSeconds())
  if (exptime <= now) return undefined
  return exptime > exptimeMax ? 0 : exptime
}

/**
 * Whole seconds. A fresh entry gets back the number that its client gave: the primary counted it from the beginning of its second, and to take off
 * what has gone of that second would end an item of one second at once, more often than not.
 */
function remainingSeconds(expiry: Expiry, committedSeconds: number, nowSeconds: number): number {
  const isFresh = nowSeconds < committedSeconds + freshSeconds
  if (!isFresh) return Math.ceil(expiry - nowSeconds)
  // Counted from the second before the one that the log tells: the write was under way when the clock ticked.
  if (expiry === committedSeconds) return 1
  return expiry - committedSeconds
}

/** The second itself, and half a one for the way. */
const freshSeconds = 1.5

/** memcached refuses a later one or takes it for another (tried): what ends after it does not end in this memcached's life. */
const exptimeMax = 2 ** 31 - 1

export interface ExpiryClock {
  databaseNowSeconds(): number
  memcachedNowSeconds(): number
}

/**
 * Both halves of a version in decimal. No BigInt: 10^10 is 2^10 times an odd number, so with the low ten bits set aside
 * every step stays below 2^53, exact.
 */
export function decimal64(high: number, low: number): string {
  if (high < 2 ** 21) return String(high * 2 ** 32 + low)
  const upper = high * 2 ** 22 + (low >>> 10)
  const rest = upper % tenToTheTenth
  return `${(upper - rest) / tenToTheTenth}${String(rest * 1024 + (low & 1023)).padStart(10, '0')}`
}

/** In units of 2^10. */
const tenToTheTenth = 10 ** 10 / 1024

/** memcached keeps 32 bits; 1.6.18 cuts longer ones off by itself, 1.6.45 refuses them (tried). */
function flags32(flags: string): string {
  return flags.length < 10 ? flags : BigInt.asUintN(32, BigInt(flags)).toString()
}

function base64(key: ItemKey): string {
  return keyToBytes(key).toString('base64')
}
