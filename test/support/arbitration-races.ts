import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { judge, type Operation } from './linearizability.ts'
import { History, RecordingClient } from './recording-client.ts'
import { World } from './world.ts'

const nodes = [1, 2] as const
const connectionsPerNode = 6

/** DESIGN §6.5 from outside: clients on two nodes want the same few keys, 10,000 times, and what each was told is judged together. */
export function raceOnTwoNodes(memcachedPath: string): void {
  let world: World
  let history: History
  let clients: RecordingClient[] = []

  beforeAll(async () => {
    world = await World.start({ topology: 'pair', nodes: 2, memcachedPath })
  })
  beforeEach(async () => {
    history = new History()
    const connecting = nodes.flatMap((node) =>
      Array.from({ length: connectionsPerNode }, (_, n) =>
        RecordingClient.connect(world.node(node).ports.main, {
          node,
          name: `node${node}-${n}`,
          history,
          dialect: n % 2 === 0 ? 'text' : 'meta',
        }),
      ),
    )
    clients = await Promise.all(connecting)
  })
  afterEach(() => {
    for (const client of clients) client.close()
  })
  afterAll(async () => world?.remove())

  /** After quiet each node tells of the last change; then everything that was told must have had one order. */
  async function conclude(keys: readonly string[]): Promise<Map<string, string | undefined>> {
    await world.settled()
    const last = new Map<string, string | undefined>()
    const readers = [clients[0], clients[connectionsPerNode]] as [RecordingClient, RecordingClient]
    for (const key of keys) {
      const reads = await Promise.all(readers.map((client) => client.ask(key, { kind: 'get', strict: true })))
      const values = reads.map(valueOf)
      expect(values[1]).toBe(values[0])
      last.set(key, values[0])
    }
    expect(judge(history.operations)).toEqual([])
    return last
  }

  async function everybody(play: (client: RecordingClient, index: number) => Promise<void>): Promise<void> {
    await Promise.all(clients.map(play))
  }

  test('6,000 increments of three counters: none is lost, none is told twice', async () => {
    const keys = ['hits0', 'hits1', 'hits2']
    for (const key of keys) await clients[0]?.ask(key, { kind: 'set', value: '0' })
    await everybody(async (client) => {
      // Pipelined, ten at a time.
      for (let round = 0; round < 50; round++) {
        const batch = Array.from({ length: 10 }, (_, n) =>
          client.ask(keys[(round + n) % keys.length] as string, { kind: 'incr', delta: 1 }),
        )
        await Promise.all(batch)
        await client.ask(keys[round % keys.length] as string, { kind: 'get' })
      }
    })
    const last = await conclude(keys)
    let sum = 0
    for (const key of keys) {
      const told = history.operations
        .filter(({ change, ...operation }) => change.kind === 'incr' && operation.key === key)
        .map((operation) => Number(valueOf(operation)))
      expect(told.toSorted((a, b) => a - b)).toEqual(Array.from({ length: told.length }, (_, n) => n + 1))
      expect(last.get(key)).toBe(String(told.length))
      sum += told.length
    }
    expect(sum).toBe(connectionsPerNode * nodes.length * 500)
  })

  test('1,200 adds of a hundred locks, all at once: each has exactly one winner, and is his', async () => {
    const locks = Array.from({ length: 100 }, (_, n) => `lock${n}`)
    await everybody(async (client) => {
      for (let from = 0; from < locks.length; from += 10) {
        const some = locks.slice(from, from + 10)
        await Promise.all(some.map((lock) => client.ask(lock, { kind: 'add', value: client.name })))
      }
    })
    for (const lock of locks) {
      const won = history.operations.filter(({ key, answer }) => key === lock && answer?.kind === 'stored')
      expect(won).toHaveLength(1)
    }
    const owners = new Map(
      history.operations
        .filter(({ answer }) => answer?.kind === 'stored')
        .map(({ key, connection }) => [key, connection]),
    )
    expect(await conclude(locks)).toEqual(new Map(locks.map((lock) => [lock, owners.get(lock)])))
  })

  test('a lock that is taken by add and given back by delete has one holder at a time', async () => {
    const locks = ['mutex0', 'mutex1']
    const inside = new Map<string, number>()
    let held = 0
    await everybody(async (client, index) => {
      const lock = locks[index % locks.length] as string
      for (let n = 0; n < 100; n++) {
        const taken = await client.ask(lock, { kind: 'add', value: `${client.name}-${n}` })
        if (taken.answer?.kind !== 'stored') continue
        const among = (inside.get(lock) ?? 0) + 1
        inside.set(lock, among)
        expect(among).toBe(1)
        held += 1
        expect(valueOf(await client.ask(lock, { kind: 'get' }))).toBe(`${client.name}-${n}`)
        inside.set(lock, 0)
        expect((await client.ask(lock, { kind: 'delete' })).answer?.kind).toBe('deleted')
      }
    })
    expect(held).toBeGreaterThan(40)
    await conclude(locks)
  })

  test('1,500 compare-and-sets of two values with tokens read anywhere: no update is lost', async () => {
    const keys = ['shared0', 'shared1']
    for (const key of keys) await clients[1]?.ask(key, { kind: 'set', value: '0 of nobody' })
    const won = new Map(keys.map((key) => [key, 0]))
    let left = 1500
    await everybody(async (client, index) => {
      const key = keys[index % keys.length] as string
      const other = clients[(index + connectionsPerNode) % clients.length] as RecordingClient
      while (left-- > 0) {
        const turn = left
        // Every other time the token comes from the other node.
        const { answer } = await (turn % 2 === 0 ? client : other).ask(key, { kind: 'get' })
        if (answer?.kind !== 'found' || answer.token === undefined) throw new Error('the value is gone')
        const value = `${Number.parseInt(answer.value, 10) + 1} of ${index}-${turn}`
        const stored = await client.ask(key, { kind: 'cas', value, token: answer.token })
        if (stored.answer?.kind === 'stored') won.set(key, (won.get(key) ?? 0) + 1)
        else expect(stored.answer?.kind).toBe('exists')
      }
    })
    const last = await conclude(keys)
    for (const key of keys) {
      expect(won.get(key)).toBeGreaterThan(30)
      expect(Number.parseInt(last.get(key) ?? '', 10)).toBe(won.get(key))
    }
  })

  test('everything at once on three keys has one order for all', async () => {
    const seed = Date.now() % 1_000_000
    console.log(`seed ${seed}`)
    const keys = ['mixed0', 'mixed1', 'mixed2']
    const tokens = new Map<string, string>()
    await everybody(async (client, index) => {
      const random = randomOf(seed + index)
      for (let n = 0; n < 20; n++) {
        const batch = Array.from({ length: 4 }, async (_, m) => {
          const key = keys[Math.floor(random() * keys.length)] as string
          const operation = await client.ask(key, randomChange(random(), `${1 + index}${n + 100}${m}`, tokens.get(key)))
          if (operation.answer !== undefined && 'token' in operation.answer)
            tokens.set(key, operation.answer.token ?? '')
        })
        await Promise.all(batch)
      }
    })
    await conclude(keys)
    const kinds = new Set(history.operations.map(({ change, answer }) => `${change.kind} ${answer?.kind}`))
    for (const kind of ['add stored', 'add not-stored', 'replace stored', 'cas stored', 'cas exists', 'incr stored']) {
      expect(kinds).toContain(kind)
    }
  })
}

function valueOf({ answer }: Operation): string | undefined {
  return answer?.kind === 'found' || answer?.kind === 'stored' ? answer.value : undefined
}

/** @param number unique; every value is one */
export function randomChange(random: number, number: string, token: string | undefined): Operation['change'] {
  if (random < 0.25) return { kind: 'get' }
  if (random < 0.35) return { kind: 'set', value: number }
  if (random < 0.5) return { kind: 'add', value: number }
  if (random < 0.6) return { kind: 'replace', value: number }
  if (random < 0.75) return { kind: 'cas', value: number, token: token ?? '1' }
  if (random < 0.85) return { kind: 'incr', delta: 1_000_000 }
  return { kind: 'delete' }
}

/** A generator that a seed repeats. */
export function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0
    return (state >>> 0) / 2 ** 32
  }
}
