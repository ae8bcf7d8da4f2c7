import { afterEach, beforeEach, expect, test } from 'vitest'
import { Apply, ApplyCounters } from '../../src/applier/apply.ts'
import { FollowedPosition } from '../../src/applier/followed-position.ts'
import type { LogChunk } from '../../src/applier/log-stream.ts'
import type { Databases } from '../../src/adapters/databases.ts'
import { DatabaseClock } from '../../src/applier/database-clock.ts'
import type { MemcachedSession } from '../../src/applier/memcached-session.ts'
import { rebuildFromPeer } from '../../src/applier/rebuild.ts'
import { formatStateItem, parseStateItem } from '../../src/applier/state-item.ts'
import { Catalogue } from '../../src/catalogue/catalogue.ts'
import type { ContentsAccess } from '../../src/domain/contents-access.ts'
import { composeItemKey, keyFromText } from '../../src/domain/key.ts'
import { covers, formatPosition, parsePosition, type Position } from '../../src/domain/position.ts'
import { Refill } from '../../src/recovery/refill.ts'
import { armFailpoint, type FailpointName } from '../../src/runtime/failpoints.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { Sweeper } from '../../src/upkeep/sweeper.ts'
import { VirtualClock } from './virtual-clock.ts'
import { keys, ModelLog } from './model-log.ts'
import { ModelDonor } from './model-donor.ts'
import { ModelMemcached, ModelSession, stateKey } from './model-memcached.ts'

/**
 * The applier, the sweep, repairs and rebuilds from a peer against models of the log, of memcached and of the peer, under a virtual clock: connections break, with
 * bytes that arrive late; the process dies at named places; memcached comes back empty; and it all begins again from the state item. One
 * number, the seed, decides everything. WHITEHOLE_RUNS=1000 for more.
 */
const runs = Number(process.env['WHITEHOLE_RUNS'] ?? 200)
const firstSeed = Number(process.env['WHITEHOLE_SEED'] ?? Math.floor(Math.random() * 1e9))

const places: readonly FailpointName[] = [
  'before-apply',
  'after-mark-before-apply',
  'mid-apply',
  'after-apply-before-state',
  'mid-flush',
  'after-flush-before-sweep',
  'mid-sweep',
  'mid-snapshot',
  'after-snapshot-before-log',
]

let clock: VirtualClock
beforeEach(() => {
  clock = new VirtualClock()
})
afterEach(() => {
  armFailpoint(undefined)
  clock.restore()
})

test(
  `a node shows each key as the log has it, never goes back, and ends with the log's contents (seeds from ${firstSeed})`,
  async () => {
    console.log(`first seed ${firstSeed}`)
    const deaths = new Map<FailpointName, number>()
    const sum = { lives: 0, rebuilds: 0, fromPeers: 0, reads: 0, repairs: 0, freed: 0 }
    for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
      const simulation = new Simulation(seed, deaths)
      await simulation.run()
      for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += simulation.figures[name]
    }
    if (runs < 100) return
    // A simulation in which nothing happens proves nothing.
    for (const place of places) expect(deaths.get(place), place).toBeGreaterThan(runs / 50)
    expect(sum.lives).toBeGreaterThan(runs * 3)
    expect(sum.rebuilds).toBeGreaterThan(runs)
    expect(sum.fromPeers).toBeGreaterThan(runs / 5)
    expect(sum.reads).toBeGreaterThan(runs * 200)
    expect(sum.repairs).toBeGreaterThan(runs / 5)
    expect(sum.freed).toBeGreaterThan(runs)
  },
  60_000 + runs * 200,
)

class Crash extends Error {}

class Simulation {
  readonly figures = { lives: 0, rebuilds: 0, fromPeers: 0, reads: 0, repairs: 0, freed: 0 }
  readonly #seed: number
  readonly #random: () => number
  readonly #deaths: Map<FailpointName, number>
  readonly #log = new ModelLog()
  readonly #withVersions: boolean
  #memcached: ModelMemcached
  #catalogue = new Catalogue()
  #followed = new FollowedPosition()
  #former: ModelSession | undefined
  #serving: { readonly apply: Apply; readonly session: ModelSession } | undefined
  /** By key: the transactions after which it was as somebody has seen it. Nobody may see an earlier state. */
  #seen = new Map<string, number>()
  /** What somebody may have seen while this process served, lately; gone with the process, as are those who saw it. */
  #servedHorizon: Position | undefined
  #quiet = false

  constructor(seed: number, deaths: Map<FailpointName, number>) {
    this.#seed = seed
    this.#random = mulberry(seed)
    this.#deaths = deaths
    clock.random = this.#random
    this.#withVersions = this.#random() < 0.5
    this.#memcached = new ModelMemcached(this.#withVersions)
  }

  async run(): Promise<void> {
    const stop = new AbortController()
    const living = this.#live(stop.signal)
    for (let step = 0; step < 200; step++) {
      if (this.#random() < 0.4) this.#log.write(this.#random)
      this.#disturb()
      await clock.advance(Math.floor(this.#random() * 4))
      this.#look()
    }
    this.#quiet = true
    armFailpoint(undefined)
    await clock.advance(1500)
    this.#look()
    this.#checkEnd()
    stop.abort()
    this.#break()
    await clock.advance(100)
    await living
  }

  /** One life of the process after the other. */
  async #live(stop: AbortSignal): Promise<void> {
    const stopped = aborted(stop)
    while (!stop.aborted) {
      this.figures.lives++
      await this.#former?.closed
      const session = new ModelSession(this.#memcached, this.#random)
      this.#former = session
      const over = new AbortController()
      let apply: Apply | undefined
      try {
        if (!this.#quiet) this.#arm()
        apply = await this.#begin(session)
        await Promise.race([this.#follow(apply, session, over.signal), session.lost, stopped])
      } catch (error) {
        if (!(error instanceof Crash) && (error as { code?: string }).code !== 'memcached-away') throw error
        if (error instanceof Crash) {
          this.#followed = new FollowedPosition()
          this.#servedHorizon = undefined
        }
      } finally {
        this.#serving = undefined
        over.abort()
        apply?.end()
        session.break()
        armFailpoint(undefined)
      }
    }
  }

  #arm(): void {
    const place = places[Math.floor(this.#random() * places.length)] ?? 'mid-apply'
    armFailpoint(`${place}:${1 + Math.floor(this.#random() * 4)}`, (name) => {
      this.#deaths.set(name, (this.#deaths.get(name) ?? 0) + 1)
      // Whoever meets it, all of the process dies.
      this.#break()
      throw new Crash(name)
    })
  }

  /** Nobody reads from that moment on. */
  #break(): void {
    this.#servedHorizon = this.#serving?.apply.mayContain ?? this.#servedHorizon
    this.#serving = undefined
    this.#former?.break()
  }

  /** As the applier does at its start: from the state item, or anew. */
  async #begin(session: ModelSession): Promise<Apply> {
    const found = parseStateItem(this.#memcached.items.get(stateKey)?.value ?? '')
    const seconds = { databaseNowSeconds: () => 1000, memcachedNowSeconds: () => 1000 }
    this.#catalogue = new Catalogue()
    const shared = {
      session,
      catalogue: this.#catalogue,
      clock: seconds,
      log: this.#followed,
      counters: new ApplyCounters(),
    }
    const limits = { batchItemsMax: 1 + Math.floor(this.#random() * 6), batchBytesMax: 1e6, epoch: 0 }
    if (found !== undefined) {
      this.#catalogue.reset(found.baseWatermark, found.namespaces, found.staleItems)
      return new Apply({ ...shared, ...limits, contains: found.contains, mayContain: found.mayContain })
    }
    this.figures.rebuilds++
    // Process and memcached died both: nobody is left whom the state item could protect from the past.
    if (this.#servedHorizon === undefined) this.#seen.clear()
    const taken = await this.#takeFromPeer(session)
    if (taken !== undefined) return new Apply({ ...shared, ...limits, ...taken })
    const base = await session.empty()
    this.#catalogue.reset(base, [{ id: 1, name: 'a', generation: 1, flushDue: 0 }])
    const marks = { contains: at(0), mayContain: at(0), epoch: 0 }
    await session.writeState(
      formatStateItem({ ...marks, baseWatermark: base, staleItems: false, namespaces: this.#catalogue.all() }),
    )
    return new Apply({ ...shared, ...limits, contains: at(0), mayContain: at(0) })
  }

  async #takeFromPeer(session: ModelSession): Promise<{ contains: Position; mayContain: Position } | undefined> {
    const donor = new ModelDonor(this.#log, this.#random, pause)
    const taken = await rebuildFromPeer(
      {
        session: session as unknown as MemcachedSession,
        catalogue: this.#catalogue,
        databases: { lost: async () => false } as unknown as Databases,
        clock: new DatabaseClock(),
        counters: new ApplyCounters(),
        refills: new Refill({
          peers: { find: async () => (this.#random() < 0.6 ? [donor] : []) },
          logger: silentLogger,
        }),
        logger: silentLogger,
        epoch: 0,
      },
      new AbortController().signal,
    )
    if (taken !== undefined) this.figures.fromPeers++
    return taken === undefined ? undefined : { contains: taken.contains, mayContain: taken.mayContain }
  }

  async #follow(apply: Apply, session: ModelSession, over: AbortSignal): Promise<void> {
    // The database that it follows by now may be behind the one before.
    const ahead = this.#log.length - countOf(apply.contains)
    const behind = this.#random() < 0.5 ? ahead : Math.floor(this.#random() * ahead)
    const targets = [apply.mayContain, at(this.#log.length - behind)]
    if (this.#servedHorizon !== undefined) targets.push(this.#servedHorizon)
    // The floor: somebody was answered there.
    if (this.#followed.position !== undefined) targets.push(this.#followed.position)
    const sweeper = this.#sweeper(apply)
    let sweeping: Promise<void> = new Promise(() => {})
    let next = countOf(apply.contains)
    let served = false
    while (!over.aborted) {
      if (!served && !session.broken && targets.every((target) => covers(apply.contains, target))) {
        this.#followed.reached(apply.contains, [])
        served = true
        this.#serving = { apply, session }
        sweeping = this.#sweep(sweeper, over)
      }
      const chunks = this.#fetch(next)
      next += chunks.length
      // What a sweep dies of, the process dies of.
      if (chunks.length > 0) await Promise.race([apply.apply(chunks), sweeping])
      else await Promise.race([this.#idle(apply), sweeping])
    }
  }

  #fetch(from: number): LogChunk[] {
    const to = Math.min(this.#log.length, from + 1 + Math.floor(this.#random() * 8))
    return this.#log.transactions.slice(from, to).map((entries, index) => ({
      gtid: { dialect: 'mariadb', domain: 0, server: 1, sequence: from + index + 1 },
      after: at(from + index + 1),
      entries,
      bytes: 10,
      first: true,
      last: true,
      timestampSeconds: 1000,
    }))
  }

  async #idle(apply: Apply): Promise<void> {
    await pause(8)
    if (this.#random() < 0.5) await apply.settle()
  }

  #sweeper(access: ContentsAccess): Sweeper {
    const listed = (): ReturnType<ModelMemcached['list']> => this.#memcached.list()
    return new Sweeper({
      contents: { access },
      namespaces: this.#catalogue,
      // eslint-disable-next-line typescript/require-await
      list: async function* () {
        const items = listed()
        await pause(5)
        for (const item of items) yield [item]
      },
      itemsPerSecondMax: 1e9,
      pauseMilliseconds: 1,
      logger: silentLogger,
    })
  }

  async #sweep(sweeper: Sweeper, over: AbortSignal): Promise<void> {
    try {
      while (!over.aborted) {
        await pause(30)
        if (!over.aborted) await sweeper.sweep(over)
      }
    } finally {
      this.figures.freed += sweeper.figures.freed
    }
  }

  #disturb(): void {
    const what = this.#random()
    if (what < 0.02) this.#break()
    else if (what < 0.025) {
      // Another process on the same port, and empty.
      this.#break()
      this.#memcached = new ModelMemcached(this.#withVersions)
    } else if (what < 0.08) this.#repair()
  }

  /** Somebody read the row and the value a while ago (recovery/repair.ts steps 1 to 5). */
  #repair(): void {
    const { apply } = this.#serving ?? {}
    const key = keys[Math.floor(this.#random() * keys.length)] ?? 'k0'
    if (apply === undefined) return
    const itemKey = composeItemKey('a', keyFromText(key))
    const watch = apply.watch([{ namespaceId: 1, itemKey }])
    const entry = this.#log.entryNow(key)
    const rested = this.#log.length
    const later = async (): Promise<void> => {
      await this.#followed.whenReached(at(rested), 1000)
      await pause(Math.floor(this.#random() * 20))
      const entries = entry === undefined ? [{ kind: 'remove-item' as const, namespaceId: 1, itemKey }] : [entry]
      const [done] = await apply.repair(watch, entries)
      if (done === true) this.figures.repairs++
    }
    later()
      // With the connection that it belongs to.
      .catch(() => {})
      .finally(() => watch.close())
  }

  #look(): void {
    const namespace = this.#catalogue.byId(1)
    if (this.#serving === undefined || namespace === undefined) return
    const told = countOf(this.#followed.position ?? at(0))
    for (const key of keys) {
      this.figures.reads++
      const value = this.#memcached.read(`a:${key}`, namespace)
      const least = Math.max(told, this.#seen.get(key) ?? 0)
      // A miss may be of many states: of the earliest that it can be. Half a transaction may be seen, too.
      let found = least
      while (
        found <= this.#log.length &&
        this.#log.valueAt(key, found) !== value &&
        !this.#isWithin(key, value, found)
      ) {
        found++
      }
      if (found > this.#log.length) {
        const seen = this.#seen.get(key)
        throw new Error(
          `seed ${this.#seed}: ${key} is ${value}, with ${told} transactions told, ${seen} seen, of ${this.#log.length}`,
        )
      }
      this.#seen.set(key, found)
    }
  }

  /** While the transaction behind so many others is applied: it may change the key twice. */
  #isWithin(key: string, value: string | undefined, transactions: number): boolean {
    return (this.#log.transactions[transactions] ?? []).some((entry) => {
      if (entry.kind === 'namespace') return value === undefined
      if (!('key' in entry) || entry.key !== key || entry.kind === 'touch') return false
      return value === (entry.kind === 'set' ? entry.value.toString() : undefined)
    })
  }

  #checkEnd(): void {
    const name = `seed ${this.#seed}`
    expect(this.#serving, `${name}: it serves`).toBeDefined()
    const expected = keys.flatMap((key) => {
      const value = this.#log.valueAt(key, this.#log.length)
      return value === undefined ? [] : [[`a:${key}`, value] as const]
    })
    const held = [...this.#memcached.items]
      .filter(([key]) => key !== stateKey)
      .map(([key, { value }]) => [key, value] as const)
    // Dead ones have been swept by now.
    expect(new Map(held), name).toEqual(new Map(expected))
    const state = parseStateItem(this.#memcached.items.get(stateKey)?.value ?? '')
    expect(state?.contains, name).toEqual(at(this.#log.length))
  }
}

function at(count: number): Position {
  return parsePosition('mariadb', count === 0 ? '' : `0-1-${count}`)
}

function countOf(position: Position): number {
  return Number(formatPosition(position).split('-')[2] ?? 0)
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
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
