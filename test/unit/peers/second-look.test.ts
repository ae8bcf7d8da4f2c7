import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Catalogue } from '../../../src/catalogue/catalogue.ts'
import type { ItemKey } from '../../../src/domain/key.ts'
import type { CachedItem, LocalReads, ReadSink } from '../../../src/domain/local-reads.ts'
import { parsePosition, type Position } from '../../../src/domain/position.ts'
import { FollowedPosition } from '../../../src/applier/followed-position.ts'
import type { PeerReadAnswer } from '../../../src/peers/read-run.ts'
import { SecondLook } from '../../../src/peers/second-look.ts'
import { silentLogger } from '../../../src/runtime/logger.ts'

const at = (sequence: number): Position => parsePosition('mariadb', `0-1-${sequence}`)
const item = (value: string): CachedItem => ({ casHigh: 1, casLow: 1, flags: '0', value: Buffer.from(value) })

describe('a second look before a miss', () => {
  let own: Map<string, string>
  let log: FollowedPosition
  let asked: { key: string; floor: Position | undefined; answer: (given: PeerReadAnswer | Error) => void }[]
  let peer: { floor: Position | undefined; available: boolean }
  let reads: SecondLook
  let told: string[]

  beforeEach(() => {
    vi.useFakeTimers()
    own = new Map()
    log = new FollowedPosition()
    log.reached(at(5), [])
    asked = []
    told = []
    peer = { floor: undefined, available: true }
    const namespaces = new Catalogue()
    namespaces.reset(undefined, [{ id: 1, name: 'a', generation: 1, flushDue: 0 }])
    const local: Partial<LocalReads> = {
      serving: true,
      servingItself: true,
      fetch: (key, sink) => {
        const value = own.get(key)
        sink(value === undefined ? undefined : item(value))
      },
      examine: async () => undefined,
    }
    reads = new SecondLook({
      reads: local as LocalReads,
      remote: {
        get available() {
          return peer.available
        },
        get floor() {
          return peer.floor
        },
        raise: (position) => void (peer.floor = position),
        ask: ({ key }) =>
          new Promise((resolve, reject) => {
            asked.push({
              key,
              floor: peer.floor,
              answer: (given) => (given instanceof Error ? reject(given) : resolve(given)),
            })
          }),
      },
      namespaces,
      log,
      limitMilliseconds: 100,
      logger: silentLogger,
    })
  })
  afterEach(() => void vi.useRealTimers())

  const sinkOf =
    (name: string): ReadSink =>
    (found, error) => {
      told.push(`${name} ${error?.message ?? found?.value.toString() ?? 'miss'}`)
    }
  const fetch = (key: string, sink: ReadSink): void => reads.fetch(`a:${key}` as ItemKey, sink)
  const held = (value: string): PeerReadAnswer => ({
    kind: 'fetched',
    item: { cas: { casHigh: 1, casLow: 1 }, version: undefined, flags: '0', value: Buffer.from(value) },
  })
  const later = (milliseconds = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(milliseconds)

  test('a hit is answered at once, and nobody is asked', () => {
    own.set('a:k', 'here')
    fetch('k', sinkOf('c'))
    expect(told).toEqual(['c here'])
    expect(asked).toEqual([])
  })

  test('a miss is asked of a peer that has applied as much as this node', async () => {
    fetch('k', sinkOf('c'))
    expect(asked.map(({ key, floor }) => [key, floor])).toEqual([['a:k', at(5)]])
    asked[0]?.answer(held('there'))
    await later()
    expect(told).toEqual(['c there'])
    expect(reads.figures).toEqual({ found: 1, missed: 0, unanswered: 0 })
  })

  test("a peer's answer from beyond this node's place waits until this node is there", async () => {
    fetch('k', sinkOf('c'))
    peer.floor = at(6)
    asked[0]?.answer(held('later'))
    await later(50)
    expect(told).toEqual([])
    log.reached(at(6), [])
    await later()
    expect(told).toEqual(['c later'])
  })

  test.each(['silent', 'failing', 'ahead for too long'])('a peer that is %s leaves a miss, in time', async (how) => {
    fetch('k', sinkOf('c'))
    if (how === 'failing') asked[0]?.answer(new Error('away'))
    if (how === 'ahead for too long') {
      peer.floor = at(9)
      asked[0]?.answer(held('later'))
    }
    await later(100)
    expect(told).toEqual(['c miss'])
    expect(reads.figures.unanswered).toBe(1)
  })

  test("answers for one sink keep their order, others' don't wait", async () => {
    own.set('a:here', 'here')
    const one = sinkOf('one')
    fetch('gone', one)
    fetch('here', one)
    fetch('gone too', one)
    fetch('here', sinkOf('two'))
    expect(told).toEqual(['two here'])
    asked[1]?.answer(held('third'))
    await later()
    expect(told).toEqual(['two here'])
    asked[0]?.answer({ kind: 'fetched', item: undefined })
    await later()
    expect(told).toEqual(['two here', 'one miss', 'one here', 'one third'])
    fetch('here', one)
    expect(told.at(-1)).toBe('one here')
  })

  test('without a healthy peer a miss is a miss', () => {
    peer.available = false
    fetch('k', sinkOf('c'))
    expect(told).toEqual(['c miss'])
  })

  test("a lease is this node's own: nobody else is asked", async () => {
    const question = { withValue: true, noBump: false }
    expect(await reads.examine(1, 'a:k' as ItemKey, { ...question, vivify: 30 })).toBeUndefined()
    expect(asked).toEqual([])
  })
})
