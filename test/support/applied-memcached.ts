import { existsSync } from 'node:fs'
import { dumpItems } from '../../src/adapters/memcached-dump.ts'
import { Apply, ApplyCounters } from '../../src/applier/apply.ts'
import { FollowedPosition } from '../../src/applier/followed-position.ts'
import { MemcachedSession } from '../../src/applier/memcached-session.ts'
import type { LogChunk } from '../../src/applier/log-stream.ts'
import { formatStateItem } from '../../src/applier/state-item.ts'
import { Catalogue } from '../../src/catalogue/catalogue.ts'
import type { HeldContents } from '../../src/domain/contents-access.ts'
import { type ItemKey, keyFromText } from '../../src/domain/key.ts'
import type { LogEntry, NamespaceEntry, StoreEntry } from '../../src/domain/log-entry.ts'
import { parsePosition, type Position } from '../../src/domain/position.ts'
import { newerMemcachedPath } from './databases.ts'
import { dialogue, Memcached } from './memcached.ts'
import { removeFolder, temporaryFolder } from './processes.ts'

export const memcachedPaths = ['/usr/bin/memcached', ...(existsSync(newerMemcachedPath) ? [newerMemcachedPath] : [])]

/** The applier's half that speaks to memcached, on a real one; the log is made by hand. Namespace 1 is `a`, 2 is `b`, of generation 1. */
export class AppliedMemcached implements HeldContents {
  readonly catalogue = new Catalogue()
  readonly counters = new ApplyCounters()
  readonly log = new FollowedPosition()
  readonly memcached: Memcached
  readonly folder: string
  #session: MemcachedSession | undefined
  #apply: Apply | undefined
  #sequence = 0
  #versions = 0

  private constructor(memcached: Memcached, folder: string) {
    this.memcached = memcached
    this.folder = folder
  }

  static async start(path: string): Promise<AppliedMemcached> {
    const applied = new AppliedMemcached(await Memcached.start([], path), await temporaryFolder())
    await applied.begin()
    return applied
  }

  get access(): Apply {
    if (this.#apply === undefined) throw new Error('it was not begun')
    return this.#apply
  }

  get address(): { host: string; port: number } {
    return { host: '127.0.0.1', port: this.memcached.port }
  }

  /** A new life of the connection, with empty contents. */
  async begin(): Promise<void> {
    this.end()
    const session = await MemcachedSession.open({
      address: this.address,
      dataDirectory: this.folder,
      timeoutMilliseconds: 5000,
      signal: new AbortController().signal,
    })
    this.#session = session
    const marks = { contains: this.#at, mayContain: this.#at, epoch: 0 }
    await session.beginAnew((baseWatermark) => {
      const namespaces = ['a', 'b'].map((name, index) => ({ id: index + 1, name, generation: 1, flushDue: 0 }))
      this.catalogue.reset(baseWatermark, namespaces)
      return formatStateItem({ ...marks, baseWatermark, staleItems: false, namespaces: this.catalogue.all() })
    })
    const nowSeconds = (): number => session.nowSeconds()
    this.#apply = new Apply({
      session,
      catalogue: this.catalogue,
      clock: { databaseNowSeconds: nowSeconds, memcachedNowSeconds: nowSeconds },
      log: this.log,
      counters: this.counters,
      ...marks,
      batchItemsMax: 1000,
      batchBytesMax: 1 << 20,
    })
  }

  end(): void {
    this.#apply?.end()
    this.#session?.close()
  }

  /** One transaction. */
  apply(...entries: LogEntry[]): Promise<void> {
    this.#sequence++
    const gtid = { dialect: 'mariadb', domain: 0, server: 1, sequence: this.#sequence } as const
    const chunk: LogChunk = {
      gtid,
      after: this.#at,
      entries,
      bytes: 100,
      first: true,
      last: true,
      timestampSeconds: Math.floor(Date.now() / 1000),
    }
    return this.access.apply([chunk])
  }

  store(key: string, value: string, more: Partial<StoreEntry> = {}): StoreEntry {
    const generation = more.generation ?? 1
    return {
      kind: 'set',
      namespaceId: 1,
      key: keyFromText(key),
      generation,
      expiry: 0,
      // The generation stands above the low 33 bits.
      versionHigh: generation * 2,
      versionLow: ++this.#versions,
      flags: '0',
      value: Buffer.from(value),
      ...more,
    }
  }

  /** What memcached holds under the namespace's key, dead or alive; undefined where it holds nothing. */
  async held(itemKey: string): Promise<string | undefined> {
    const reply = await dialogue(this.memcached.port, `get ${itemKey}\r\n`, /END\r\n$/)
    return /^VALUE \S+ \d+ \d+\r\n([^]*)\r\nEND\r\n$/.exec(reply)?.[1]
  }

  /** All item keys but the state item's. */
  async keys(): Promise<ItemKey[]> {
    const keys: ItemKey[] = []
    for await (const items of dumpItems(this.address)) keys.push(...items.map(({ key }) => key))
    return keys.filter((key) => !key.startsWith('~')).sort()
  }

  async remove(): Promise<void> {
    this.end()
    await this.memcached.stop()
    await removeFolder(this.folder)
  }

  get #at(): Position {
    return parsePosition('mariadb', `0-1-${this.#sequence}`)
  }
}

export function flushTo(generation: number, namespaceId = 1): NamespaceEntry {
  const name = namespaceId === 1 ? 'a' : 'b'
  return { kind: 'namespace', namespaceId, name, generation, begins: true, dropped: false, flushDue: 0 }
}
