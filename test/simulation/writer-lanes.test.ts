import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { LaneObserver } from '../../src/domain/followed-log.ts'
import { keyFromText } from '../../src/domain/key.ts'
import { generationOf } from '../../src/domain/version.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { LogRow } from '../../src/writer/decision.ts'
import { LaneTakenError, type LaneSession } from '../../src/writer/lane-session.ts'
import { Writer } from '../../src/writer/writer.ts'
import { writerSettings } from '../support/writing.ts'

/**
 * The lanes against a model of the database under a virtual clock: packets are lost or arrive late, connections break at any
 * point, a dead client's transaction goes on, the log is told late, others hold locks. One number, the seed, decides it all.
 */
const runs = Number(process.env['WHITEHOLE_RUNS'] ?? 60)
const firstSeed = Number(process.env['WHITEHOLE_SEED'] ?? Math.floor(Math.random() * 1e9))

describe('writer lanes under a virtual clock', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => {
    vi.useRealTimers()
    vi.restoreAllMocks()
  })

  it(`write each mutation at most once, in order, and tell no lie (seeds from ${firstSeed})`, async () => {
    console.log(`first seed ${firstSeed}`)
    let acknowledged = 0
    let recoveries = 0
    for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
      const simulation = new Simulation(seed)
      await simulation.run()
      simulation.check()
      acknowledged += simulation.writer.metrics.acknowledged
      recoveries += simulation.writer.metrics.recoveries
    }
    // A simulation in which nothing happens proves nothing.
    expect(acknowledged).toBeGreaterThan(runs * 30)
    expect(recoveries).toBeGreaterThan(runs)
  })
})

interface Told {
  readonly value: string
  readonly key: string
  readonly session: number
  ending: string | undefined
  /** Both count submissions and answers in the order in which they happened. */
  readonly sentAt: number
  answeredAt: number
}

class Simulation {
  readonly writer: Writer
  readonly #seed: number
  readonly #random: () => number
  readonly #server: ModelServer
  readonly #told: Told[] = []
  #events = 0

  constructor(seed: number) {
    this.#seed = seed
    this.#random = mulberry(seed)
    // Waits are jittered by it.
    vi.spyOn(Math, 'random').mockImplementation(this.#random)
    this.#server = new ModelServer(this.#random)
    this.writer = new Writer({
      node: 'n',
      database: { open: async () => this.#server.open() },
      log: this.#server,
      settings: { ...writerSettings, lanes: 1 + Math.floor(this.#random() * 2), writeTimeoutMilliseconds: 3000 },
      logger: silentLogger,
      random: this.#random,
    })
  }

  async run(): Promise<void> {
    this.writer.start()
    const sessions = Array.from({ length: 5 }, () => this.writer.openSession())
    for (let step = 0; step < 60; step++) {
      const index = Math.floor(this.#random() * sessions.length)
      const key = `k${Math.floor(this.#random() * 6)}`
      const told: Told = {
        value: `${index}.${step}`,
        key,
        session: index,
        ending: undefined,
        sentAt: ++this.#events,
        answeredAt: 0,
      }
      this.#told.push(told)
      sessions[index]
        ?.submit({
          kind: 'set',
          namespaceId: 1,
          key: keyFromText(key),
          value: Buffer.from(told.value),
          flags: 0n,
          exptime: 0,
        })
        .then(
          (outcome) => this.#note(told, outcome.kind),
          (error: { code: string }) => this.#note(told, error.code),
        )
      if (this.#random() < 0.1) this.#server.lockForeign(key)
      if (this.#random() < 0.1) this.#server.generation += 1
      await vi.advanceTimersByTimeAsync(this.#random() < 0.5 ? 0 : this.#random() * 200)
    }
    await vi.advanceTimersByTimeAsync(4000)
    const closed = this.writer.close()
    await vi.advanceTimersByTimeAsync(20_000)
    await closed
  }

  #note(told: Told, ending: string): void {
    told.ending = ending
    told.answeredAt = ++this.#events
  }

  check(): void {
    const name = `seed ${this.#seed}`
    expect(vi.getTimerCount(), `${name}: timers left`).toBe(0)
    const logged = this.#server.log.flatMap(({ rows }) => rows)
    for (const { generation, flushedTo } of logged) expect(generation, `${name}: an old generation`).toBe(flushedTo)
    const places = new Map<string, number[]>()
    for (const [place, { value }] of logged.entries()) {
      places.set(value, [...(places.get(value) ?? []), place])
    }
    for (const { value, ending } of this.#told) {
      const count = places.get(value)?.length ?? 0
      expect(ending, `${name}: ${value} was never answered`).toBeDefined()
      if (ending === 'stored') expect(count, `${name}: ${value} was acknowledged`).toBe(1)
      if (ending === 'not-written') expect(count, `${name}: ${value} was told not to be written`).toBe(0)
      expect(count, `${name}: ${value} happened twice`).toBeLessThanOrEqual(1)
    }
    this.#checkOrder(name, places)
  }

  /**
   * A session's acknowledged writes in its order; and of one key whatever was sent after another's answer, even an unknown one,
   * behind that.
   */
  #checkOrder(name: string, places: ReadonlyMap<string, readonly number[]>): void {
    const place = ({ value }: Told): number => places.get(value)?.[0] ?? -1
    for (const [index, earlier] of this.#told.entries()) {
      if (place(earlier) < 0) continue
      for (const later of this.#told.slice(index + 1)) {
        if (later.ending !== 'stored') continue
        const isOrdered = later.session === earlier.session && earlier.ending === 'stored'
        const isAfterAnswer = later.key === earlier.key && later.sentAt > earlier.answeredAt
        if (isOrdered || isAfterAnswer) {
          expect(place(later), `${name}: ${later.value} before ${earlier.value}`).toBeGreaterThan(place(earlier))
        }
      }
    }
  }
}

interface Transaction {
  /** `flushedTo`: the namespace's generation at the commit. */
  readonly rows: { value: string; generation: number; flushedTo: number }[]
  readonly lane: { name: string; incarnation: number; sequence: number }
}

/** Lanes, keys, locks and a log: what of a database the lanes can see. */
class ModelServer {
  readonly log: Transaction[] = []
  readonly random: () => number
  readonly lanes = new Map<string, { incarnation: number; sequence: number }>()
  readonly keys = new Set<string>()
  /** Of the namespace's row. */
  readonly sharers = new Set<object>()
  #generation = 2
  /** Lane rows (`lane:…`) and keys, by their holder. */
  readonly locks = new Map<string, object>()
  readonly #observers = new Map<string, Set<LaneObserver>>()
  #told: Promise<void> = Promise.resolve()

  constructor(random: () => number) {
    this.random = random
  }

  /** Far ahead of the nodes'. */
  get nowSeconds(): number {
    return 1e9 + performance.now() / 1000
  }

  get generation(): number {
    return this.#generation
  }

  /** Not while somebody reckons with the one that is in force. */
  set generation(next: number) {
    if (this.sharers.size === 0) this.#generation = next
  }

  get position(): undefined {
    return undefined
  }

  async whenReached(): Promise<void> {}

  watchLane(lane: string, observer: LaneObserver): () => void {
    const observers = this.#observers.get(lane) ?? new Set()
    this.#observers.set(lane, observers.add(observer))
    return () => observers.delete(observer)
  }

  async open(): Promise<LaneSession> {
    await sleep(this.random() * 20)
    if (this.random() < 0.2) throw new Error('no primary')
    return new ModelSession(this)
  }

  /** Somebody's transaction: sometimes it ends in an insert, sometimes in a rollback. */
  lockForeign(key: string): void {
    const name = `1:${key}`
    if (this.locks.has(name)) return
    const holder = {}
    this.locks.set(name, holder)
    setTimeout(() => {
      if (this.random() < 0.5) this.keys.add(name)
      this.locks.delete(name)
    }, this.random() * 2500)
  }

  /** In order, mostly soon, now and then very late. */
  commit(transaction: Transaction): void {
    this.log.push(transaction)
    const { name, ...change } = transaction.lane
    const delay = this.random() < 0.03 ? this.random() * 4000 : this.random() * 20
    this.#told = this.#told.then(async () => {
      await sleep(delay)
      for (const observer of this.#observers.get(name) ?? []) observer(change)
      // A reader that reconnects tells some again.
      if (this.random() < 0.1) for (const observer of this.#observers.get(name) ?? []) observer(change)
    })
  }

  async lock(name: string, holder: object): Promise<void> {
    const until = performance.now() + 1000
    while ((this.locks.get(name) ?? holder) !== holder) {
      if (performance.now() > until) throw sqlError(1205)
      await sleep(10)
    }
    this.locks.set(name, holder)
  }

  unlock(holder: object): void {
    for (const [name, other] of this.locks) if (other === holder) this.locks.delete(name)
    this.sharers.delete(holder)
  }
}

class ModelSession implements LaneSession {
  readonly thread = { id: 1, serverId: 1, serverStartSeconds: 1 }
  readonly packetBytesMax = 64 * 1024 * 1024
  readonly canRefuseToWait = true
  onLost: (() => void) | undefined
  readonly #server: ModelServer
  #severed: ((error: Error) => void) | undefined
  #dead = false
  #lane: Transaction['lane'] | undefined

  constructor(server: ModelServer) {
    this.#server = server
  }

  async setIncarnation(lane: string, incarnation: number): Promise<void> {
    await this.#ask(async () => {
      await this.#server.lock(`lane:${lane}`, this)
      this.#server.lanes.set(lane, { incarnation, sequence: 0 })
      this.#server.commit({ rows: [], lane: { name: lane, incarnation, sequence: 0 } })
      this.#server.unlock(this)
    })
  }

  async lockKeys(...[place, { keys }]: Parameters<LaneSession['lockKeys']>): ReturnType<LaneSession['lockKeys']> {
    return this.#ask(async () => {
      await this.#server.lock(`lane:${place.lane}`, this)
      const row = this.#server.lanes.get(place.lane)
      if (row?.incarnation !== place.incarnation || row.sequence !== place.sequence) throw new LaneTakenError(place)
      this.#lane = { name: place.lane, incarnation: place.incarnation, sequence: place.sequence + 1 }
      const contendedKeys = new Set<string>()
      const rows = new Map()
      for (const { id } of [...keys.values()].flat()) {
        const holder = this.#server.locks.get(id)
        // An uncommitted insert is seen by the dirty read now and then; else it looks absent.
        const seen = this.#server.keys.has(id) || this.#server.random() < 0.8
        if (holder !== undefined && holder !== this) {
          if (seen) contendedKeys.add(id)
        } else if (this.#server.keys.has(id)) {
          this.#server.locks.set(id, this)
          rows.set(id, { version: 1n << 34n, expiry: 0, flags: 0n, number: undefined })
        }
      }
      this.#server.sharers.add(this)
      const namespaces = new Map([
        [1, { generation: this.#server.generation, defaultTtlSeconds: 0, maxTtlSeconds: 0, maxValueBytes: 0 }],
      ])
      return {
        nowSeconds: this.#server.nowSeconds,
        namespaces,
        rows,
        contendedKeys,
        contendedNamespaces: new Set<number>(),
      }
    })
  }

  async write(...[decision, unlocked]: Parameters<LaneSession['write']>): Promise<void> {
    await this.#ask(async () => {
      if (unlocked !== undefined && unlocked.notAfterSeconds < this.#server.nowSeconds) throw sqlError(1048)
      for (const { key } of decision.updates) {
        if (unlocked !== undefined && (this.#server.locks.get(key.id) ?? this) !== this) throw sqlError(1205)
        await this.#server.lock(key.id, this)
      }
      for (const { key } of decision.inserts) {
        await this.#server.lock(key.id, this)
        if (this.#server.keys.has(key.id)) throw sqlError(1062)
      }
      const lane = this.#lane
      if (lane === undefined) throw new Error('no transaction')
      for (const { key } of [...decision.inserts, ...decision.updates]) this.#server.keys.add(key.id)
      this.#commit(decision.log, lane)
    })
  }

  async writeAtOnce(...given: Parameters<LaneSession['writeAtOnce']>): ReturnType<LaneSession['writeAtOnce']> {
    const [place, assumed, decision] = given
    return this.#ask(async () => {
      const generation = assumed.namespaces[0]?.[1].generation
      this.#server.sharers.add(this)
      await this.#server.lock(`lane:${place.lane}`, this)
      const row = this.#server.lanes.get(place.lane)
      const isThere = row?.incarnation === place.incarnation && row.sequence === place.sequence
      const isLate = assumed.notAfterSeconds < this.#server.nowSeconds
      if (!isThere || isLate || generation !== this.#server.generation) throw sqlError(1048)
      for (const { key } of decision.updates) {
        if ((this.#server.locks.get(key.id) ?? this) !== this) throw sqlError(1205)
        this.#server.locks.set(key.id, this)
      }
      for (const { key } of decision.updates) this.#server.keys.add(key.id)
      this.#commit(decision.log, { name: place.lane, incarnation: place.incarnation, sequence: place.sequence + 1 })
      return this.#server.nowSeconds
    })
  }

  #commit(log: readonly LogRow[], lane: Transaction['lane']): void {
    const flushedTo = this.#server.generation
    const rows = log.map(({ value, version }) => ({
      value: String(value),
      generation: generationOf(version),
      flushedTo,
    }))
    this.#server.lanes.set(lane.name, lane)
    this.#server.commit({ rows, lane })
    this.#server.unlock(this)
  }

  async lockNamespace(): ReturnType<LaneSession['lockNamespace']> {
    throw new Error('no flush is simulated')
  }

  async flush(): Promise<void> {}

  async rollback(): Promise<void> {
    await this.#ask(async () => this.#server.unlock(this))
  }

  async ping(): Promise<void> {
    await this.#ask(async () => {})
  }

  close(): void {
    this.sever()
  }

  sever(): void {
    if (this.#dead) return
    this.#dead = true
    this.#severed?.(new Error('severed'))
    // The server hears of it at once, or when the session has been silent too long.
    if (this.#executing === 0) setTimeout(() => this.#server.unlock(this), this.#server.random() < 0.5 ? 0 : 2000)
  }

  #executing = 0

  /** The packet is lost, or arrives, also late; the answer is lost, or arrives. */
  async #ask<T>(execute: () => Promise<T>): Promise<T> {
    if (this.#dead) throw new Error('severed')
    const { random } = this.#server
    const chance = random()
    const fate = chance < 0.02 ? 'lost' : chance < 0.04 ? 'answer lost' : chance < 0.05 ? 'late' : 'fine'
    return new Promise<T>((resolve, reject) => {
      this.#severed = reject
      const timeout = setTimeout(() => {
        reject(new Error('no answer in time'))
        this.sever()
      }, 3000)
      const settle = (finish: () => void): void => {
        clearTimeout(timeout)
        finish()
      }
      if (fate === 'lost' || fate === 'answer lost') {
        setTimeout(() => {
          settle(() => reject(new Error('connection lost')))
          this.onLost?.()
          this.sever()
        }, random() * 30)
      }
      if (fate === 'lost') return
      this.#executing += 1
      void sleep(fate === 'late' ? random() * 6000 : random() * 10)
        .then(execute)
        .then(
          (value) => settle(() => resolve(value)),
          (error: Error) => settle(() => reject(error)),
        )
        .finally(() => {
          this.#executing -= 1
          // Nobody is there to go on with the transaction.
          if (this.#dead && this.#executing === 0) this.#server.unlock(this)
        })
    })
  }
}

function sqlError(errno: number): Error {
  return Object.assign(new Error(`error ${errno}`), { errno })
}

async function sleep(milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds))
}

function mulberry(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
