import { crc32 } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MemcachedConnection } from '../../src/adapters/memcached-connection.ts'
import { composeItemKey, type ItemKey } from '../../src/domain/key.ts'
import type { LogEntry, StoreEntry } from '../../src/domain/log-entry.ts'
import type { PeerAnswer } from '../../src/domain/peer-reads.ts'
import { parsePosition } from '../../src/domain/position.ts'
import type { DirectoryRow, DirectorySnapshot, Subject } from '../../src/recovery/directory-view.ts'
import { ItemReads } from '../../src/recovery/item-reads.ts'
import { repair, type Repaired, type RepairPorts } from '../../src/recovery/repair.ts'
import { AppliedMemcached, flushTo, memcachedPaths } from '../support/applied-memcached.ts'
import { dialogue } from '../support/memcached.ts'

/** What a repair does, in this order; something else may happen before each of them, and behind the last. */
const steps = ['begin', 'committed', 'dirty', 'position', 'reached', 'items', 'peer', 'end'] as const
type Step = (typeof steps)[number]

const version = ({ versionHigh, versionLow }: StoreEntry): string =>
  String((BigInt(versionHigh) << 32n) | BigInt(versionLow))

interface Order {
  readonly change: 'delete' | 'set' | 'touch' | 'flush'
  /** Before which step the row is changed, the log's entry is applied, and the engine shows the row as committed. */
  readonly opened: number
  readonly logged: number
  readonly shown: number
  readonly spoiled: string | undefined
}

function* orders(): Generator<Order> {
  const all = [...steps.keys()]
  for (const change of ['delete', 'set', 'touch', 'flush'] as const) {
    const triples = all.flatMap((opened) => all.flatMap((logged) => all.map((shown) => ({ opened, logged, shown }))))
    for (const { opened, logged, shown } of triples) {
      if (logged < opened || shown < opened) continue
      yield { change, opened, logged, shown, spoiled: (opened + logged + shown) % 2 === 0 ? undefined : 'other' }
    }
  }
}

describe.each(memcachedPaths)('a repair of %s', (path) => {
  let applied: AppliedMemcached
  let connection: MemcachedConnection
  let keys = 0

  beforeAll(async () => {
    applied = await AppliedMemcached.start(path)
    connection = await MemcachedConnection.connect(applied.address)
  })
  afterAll(async () => {
    connection?.destroy()
    await applied?.remove()
  })

  /** One key, its row as somebody reads it, and what happens at which step. */
  class Story {
    readonly name = `k${keys++}`
    readonly v5: StoreEntry
    committed: DirectoryRow | undefined
    dirty: DirectoryRow | undefined
    generation = applied.catalogue.byId(1)?.generation ?? 0
    dirtyGeneration = this.generation
    peer: PeerAnswer
    /** Applies what the database has told by its position. */
    catchUp: () => Promise<void> = async () => {}
    readonly #events = new Map<Step, (() => Promise<void> | void)[]>()

    constructor() {
      this.v5 = applied.store(this.name, 'five', { generation: this.generation })
      this.committed = rowOf(this.v5)
      this.dirty = this.committed
      this.peer = {
        kind: 'held',
        item: { casHigh: 0, casLow: 0, flags: '0', value: this.v5.value },
      }
    }

    get itemKey(): ItemKey {
      return composeItemKey('a', this.v5.key)
    }

    get subject(): Subject {
      return { namespaceId: 1, namespaceName: 'a', itemKey: this.itemKey, by: { key: this.v5.key } }
    }

    at(step: Step, event: () => Promise<void> | void): void {
      this.#events.set(step, [...(this.#events.get(step) ?? []), event])
    }

    async reach(step: Step): Promise<void> {
      const events = this.#events.get(step) ?? []
      this.#events.delete(step)
      for (const event of events) await event()
    }

    async repair(): Promise<Repaired | undefined> {
      const items = new ItemReads(connection, applied.catalogue)
      const ports: RepairPorts = {
        contents: applied,
        directory: {
          lookUp: async (_, given) => {
            const reading = given ?? 'committed'
            await this.reach(reading)
            return this.#snapshot(reading)
          },
          position: async () => {
            await this.reach('position')
            return parsePosition('mariadb', '0-1-1')
          },
        },
        items: {
          read: async (...given) => {
            await this.reach('items')
            return items.read(...given)
          },
        },
        log: {
          position: undefined,
          whenReached: async () => {
            await this.reach('reached')
            await this.catchUp()
          },
          watchLane: () => () => {},
        },
        peers: {
          find: async () => {
            await this.reach('peer')
            return this.peer
          },
        },
        signal: new AbortController().signal,
        lagMilliseconds: 1000,
      }
      await this.reach('begin')
      const [result] = await repair([this.subject], ports)
      // A repair that gave up early has left some steps out.
      for (const step of steps) await this.reach(step)
      return result?.outcome
    }

    #snapshot(reading: 'committed' | 'dirty'): DirectorySnapshot {
      const row = reading === 'committed' ? this.committed : this.dirty
      const generation = reading === 'committed' ? this.generation : this.dirtyGeneration
      return {
        rows: new Map(row === undefined ? [] : [[this.itemKey, row]]),
        generations: new Map([[1, generation]]),
      }
    }

    /** As a client of the node would see it. */
    async read(): Promise<string | undefined> {
      const [seen] = await new ItemReads(connection, applied.catalogue).read([this.subject])
      return seen === undefined ? undefined : await applied.held(this.itemKey)
    }

    async secondsLeft(): Promise<number> {
      return Number(/t(-?\d+)/.exec(await dialogue(applied.memcached.port, `mg ${this.itemKey} t\r\n`, /\r\n$/))?.[1])
    }

    /** Behind the node's back. */
    async spoil(value: string | undefined): Promise<void> {
      const command =
        value === undefined ? `delete ${this.itemKey}\r\n` : `set ${this.itemKey} 0 0 ${value.length}\r\n${value}\r\n`
      await dialogue(applied.memcached.port, command, /\r\n$/)
    }
  }

  test.each([undefined, 'other'])('puts back what is missing or other (%s), from a peer', async (spoiled) => {
    const story = new Story()
    await applied.apply(story.v5)
    await story.spoil(spoiled)
    expect(await story.repair()).toBe('repaired')
    expect(await story.read()).toBe('five')
  })

  test('gives a repaired item the time that is left, its flags and its version', async () => {
    const story = new Story()
    const inAnHour = Math.floor(Date.now() / 1000) + 3600
    const row = { ...rowOf(story.v5), expiry: inAnHour, secondsLeft: 3600, flags: '77' }
    story.committed = story.dirty = row
    story.peer = { kind: 'held', item: { casHigh: 0, casLow: 0, flags: '77', value: story.v5.value } }
    expect(await story.repair()).toBe('repaired')
    const reply = await dialogue(applied.memcached.port, `mg ${story.itemKey} t f c\r\n`, /\r\n$/)
    const [, left, flags, cas] = /^HD t(\d+) f(\d+) c(\d+)/.exec(reply) ?? []
    expect(Number(left)).toBeGreaterThan(3590)
    expect(Number(left)).toBeLessThanOrEqual(3602)
    expect(flags).toBe('77')
    if (applied.catalogue.baseWatermark === undefined) expect(cas).toBe(version(story.v5))
  })

  test('removes an item that has no live row', async () => {
    const story = new Story()
    story.committed = story.dirty = undefined
    await applied.apply(story.v5)
    expect(await story.repair()).toBe('removed')
    expect(await applied.held(story.itemKey)).toBeUndefined()
  })

  test('puts back a stale item as stale', async () => {
    const story = new Story()
    story.peer = { kind: 'held', item: { casHigh: 0, casLow: 0, flags: '0', value: story.v5.value }, stale: true }
    expect(await story.repair()).toBe('repaired')
    expect(await dialogue(applied.memcached.port, `mg ${story.itemKey} v\r\n`, /five\r\n$/)).toContain(' W')
    expect(applied.catalogue.staleItems).toBe(true)
  })

  test('takes no value that is not what the row says, whoever gives it', async () => {
    const story = new Story()
    story.peer = { kind: 'held', item: { casHigh: 0, casLow: 0, flags: '0', value: Buffer.from('six!') } }
    expect(await story.repair()).toBe('away')
    expect(await applied.held(story.itemKey)).toBeUndefined()
  })

  test.each(['gone', 'unknown'] as const)('leaves the key as it is where the peers say %s', async (kind) => {
    const story = new Story()
    story.peer = { kind }
    expect(await story.repair()).toBe('away')
  })

  test('R30: waits for what the row rests on: an older value that is still to be applied must not follow the repaired one', async () => {
    const story = new Story()
    const v4 = applied.store(story.name, 'four', { generation: story.generation })
    story.catchUp = async () => {
      await applied.apply(v4)
      expect(await story.read()).toBe('four')
      await applied.apply(story.v5)
    }
    expect(await story.repair()).toBe('superseded')
    expect(await story.read()).toBe('five')
  })

  test('R30: whatever is written meanwhile, and whenever the engine shows it, the log has the last word', async () => {
    // Somebody changes the key: its row is changed, open at first; the log has it and this node applies it; the engine shows it. The second
    // and third in any order (the log may be first).
    let repaired = 0
    const schedules = [...orders()]
    for (const order of schedules) {
      const story = new Story()
      const expected = await prepare(story, order)
      const outcome = await story.repair()
      const { change, opened, logged, shown } = order
      const name = `${change}, opened before ${steps[opened]}, applied before ${steps[logged]}, shown before ${steps[shown]}: ${outcome}`
      expect(await story.read(), name).toBe(expected(outcome))
      if (outcome !== 'repaired') continue
      repaired++
      if (change === 'touch') expect(await story.secondsLeft(), name).toBeGreaterThan(900)
    }
    // Where the change comes last of all there is something to repair; else the test would prove nothing.
    expect(schedules.length).toBe(4 * 204)
    expect(repaired).toBeGreaterThan(40)
  })

  /** @returns what the node must show in the end */
  async function prepare(story: Story, given: Order): Promise<(outcome: Repaired | undefined) => string | undefined> {
    const { change, spoiled, opened, logged, shown } = given
    const stepOf = (index: number): Step => steps[index] ?? 'end'
    await applied.apply(story.v5)
    await story.spoil(spoiled)
    const { key } = story.v5
    const six = applied.store(story.name, 'six', { generation: story.generation })
    const expiry = Math.floor(Date.now() / 1000) + 1000
    const generation = story.generation + (change === 'flush' ? 1 : 0)
    const rows = {
      delete: { ...rowOf(six), expiry: 1, secondsLeft: -1 },
      set: rowOf(six),
      touch: { ...rowOf(story.v5), expiry, secondsLeft: 1000 },
      flush: rowOf(story.v5),
    }
    const entries: Record<typeof change, LogEntry> = {
      delete: { kind: 'delete', namespaceId: 1, key },
      set: six,
      touch: { kind: 'touch', namespaceId: 1, key, generation: story.generation, expiry },
      flush: flushTo(generation),
    }
    story.at(stepOf(opened), () => {
      story.dirty = rows[change]
      story.dirtyGeneration = generation
    })
    let isLogged = false
    let isShown = false
    const apply = async (): Promise<void> => {
      if (!isLogged) await applied.apply(entries[change])
      isLogged = true
    }
    story.at(stepOf(logged), apply)
    story.at(stepOf(shown), () => {
      story.committed = rows[change]
      story.generation = generation
      isShown = true
    })
    // What was shown by then is covered by the position that is waited for. (What is shown between the two may be, too: then it is applied.)
    story.catchUp = async () => {
      if (isShown) await apply()
    }
    if (change === 'set') return () => 'six'
    if (change !== 'touch') return () => undefined
    // A touch leaves the value alone: what was not repaired is a later pass's. (With versions as CAS what somebody else stored is dead.)
    const left = applied.catalogue.baseWatermark === undefined ? undefined : spoiled
    return (outcome) => (outcome === 'repaired' ? 'five' : left)
  }

  function rowOf(entry: StoreEntry): DirectoryRow {
    return {
      key: entry.key,
      generation: entry.generation,
      version: version(entry),
      secondsLeft: Infinity,
      expiry: 0,
      flags: '0',
      size: entry.value.length,
      checksum: crc32(entry.value),
      number: undefined,
    }
  }
})
