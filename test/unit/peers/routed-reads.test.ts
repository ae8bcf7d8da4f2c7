import { expect, test } from 'vitest'
import { FollowedPosition } from '../../../src/applier/followed-position.ts'
import { Catalogue } from '../../../src/catalogue/catalogue.ts'
import { WhiteholeError } from '../../../src/domain/errors.ts'
import type { ItemKey } from '../../../src/domain/key.ts'
import { type CachedItem, isLive, type LocalReads, type ReadSink } from '../../../src/domain/local-reads.ts'
import { formatPosition, joinPositions, parsePosition, type Position } from '../../../src/domain/position.ts'
import type { PeerRead, PeerReadAnswer } from '../../../src/peers/read-run.ts'
import type { RemoteReads } from '../../../src/peers/remote-reads.ts'
import { RoutedReads } from '../../../src/peers/routed-reads.ts'

const at = (sequence: number): Position => parsePosition('mariadb', `0-1-${sequence}`)
const key = (name: string): ItemKey => `one:${name}` as ItemKey
const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 3))

/** A node whose own memcached and whose peer answer when the test says so. */
class Setting {
  readonly catalogue = new Catalogue()
  readonly log = new FollowedPosition()
  own = { serving: true, waiting: [] as { key: string; sink: ReadSink }[] }
  peer = {
    available: true,
    waiting: [] as {
      read: PeerRead
      floor: string
      resolve: (a: PeerReadAnswer) => void
      reject: (e: Error) => void
    }[],
  }
  floor: Position | undefined
  horizon: Position | undefined
  /** What the primary never had. */
  lost: string | undefined
  told: string[] = []
  readonly reads: RoutedReads

  constructor() {
    const { own, peer } = this
    this.catalogue.reset(0, [{ id: 1, name: 'one', generation: 1, flushDue: 0 }])
    this.log.reached(at(10), [])
    const local: LocalReads = {
      get serving() {
        return own.serving
      },
      get servingItself() {
        return own.serving
      },
      fetch: (asked, sink) => void own.waiting.push({ key: asked, sink }),
      examine: async () => {
        if (!own.serving) throw new WhiteholeError('not-serving', '')
        return undefined
      },
      describe: async () => undefined,
      statistics: async () => new Map(),
    }
    const of = (): Position | undefined => this.floor
    const set = (floor: Position | undefined): void => void (this.floor = floor)
    const remote = {
      get available() {
        return peer.available
      },
      get idle() {
        return peer.waiting.length === 0
      },
      get floor() {
        return of()
      },
      raise: (position: Position | undefined) => {
        const now = of()
        if (position !== undefined) set(now === undefined ? position : joinPositions(now, position))
      },
      forgetFloor: () => set(undefined),
      dropLostFloor: async (isLost: (position: Position) => Promise<boolean>) => {
        const floor = of()
        if (floor !== undefined && (await isLost(floor))) set(undefined)
      },
      ask: (read: PeerRead) =>
        new Promise<PeerReadAnswer>((resolve, reject) => {
          const floor = of()
          peer.waiting.push({ read, floor: floor === undefined ? '' : formatPosition(floor), resolve, reject })
        }),
    } as unknown as RemoteReads
    this.reads = new RoutedReads({
      own: local,
      remote,
      namespaces: this.catalogue,
      log: this.log,
      lastHorizon: () => this.horizon,
      isLost: async (position) => formatPosition(position) === this.lost,
    })
  }

  get(name: string): void {
    this.reads.fetch(key(name), (item, error) => {
      this.told.push(`${name}=${error === undefined ? (item?.value.toString() ?? 'miss') : 'error'}`)
    })
  }

  ownAnswers(value: string, error?: Error): void {
    const { sink } = this.own.waiting.shift() ?? expect.unreachable('nothing was asked of the own memcached')
    sink(error === undefined ? itemOf(value) : undefined, error)
  }

  peerAnswers(value: string): void {
    const { resolve } = this.peer.waiting.shift() ?? expect.unreachable('nothing was asked of the peer')
    const item = { cas: { casHigh: 0, casLow: 3 }, version: undefined, flags: '0', value: Buffer.from(value) }
    resolve({ kind: 'fetched', item })
  }
}

function itemOf(value: string): CachedItem {
  return { casHigh: 0, casLow: 9, flags: '0', value: Buffer.from(value) }
}

test('a node that serves asks nobody', () => {
  const setting = new Setting()
  setting.get('a')
  setting.ownAnswers('1')
  expect(setting.told).toEqual(['a=1'])
  expect(setting.peer.waiting).toHaveLength(0)
})

test('what was asked while the contents were good, and is answered after they were thrown away, is asked of a peer', async () => {
  const setting = new Setting()
  setting.get('a')
  setting.get('b')
  setting.own.serving = false
  setting.ownAnswers('old')
  setting.ownAnswers('', new WhiteholeError('memcached-away', ''))
  expect(setting.told).toEqual([])
  setting.peerAnswers('1')
  setting.peerAnswers('2')
  await turn()
  expect(setting.told).toEqual(['a=1', 'b=2'])
})

test('R17: a peer must have what was acknowledged here, and what may have been read here', () => {
  const setting = new Setting()
  setting.horizon = at(12)
  setting.own.serving = false
  setting.get('a')
  expect(setting.peer.waiting[0]?.floor).toBe('0-1-12')
  setting.log.reached(at(15), [])
  setting.get('b')
  expect(setting.peer.waiting[1]?.floor).toBe('0-1-15')
})

test('nobody can answer: an error', async () => {
  const setting = new Setting()
  setting.own.serving = false
  setting.peer.available = false
  expect(setting.reads.serving).toBe(false)
  setting.get('a')
  expect(setting.told).toEqual(['a=error'])
  await expect(setting.reads.examine(1, key('a'), { withValue: true, noBump: false })).rejects.toThrow(WhiteholeError)
})

test('on the way back nothing is read here before the last answer of a peer is here, and everything keeps its order', async () => {
  const setting = new Setting()
  setting.own.serving = false
  setting.get('a')
  setting.own.serving = true
  setting.get('b')
  setting.get('c')
  expect(setting.own.waiting).toHaveLength(0)
  // The peer was further than this node is.
  setting.floor = at(20)
  setting.peerAnswers('1')
  await turn()
  await turn()
  expect(setting.own.waiting).toHaveLength(0)
  setting.log.reached(at(20), [])
  await turn()
  expect(setting.own.waiting.map((one) => one.key)).toEqual(['one:b', 'one:c'])
  setting.ownAnswers('2')
  setting.ownAnswers('3')
  expect(setting.told).toEqual(['a=1', 'b=2', 'c=3'])
})

test('a node that can never reach the floor lets peers answer on', async () => {
  const setting = new Setting()
  setting.own.serving = false
  setting.get('a')
  setting.floor = at(99)
  setting.peerAnswers('1')
  await turn()
  setting.own.serving = true
  setting.get('b')
  await expect.poll(() => setting.peer.waiting.length, { timeout: 3000 }).toBe(1)
  setting.peerAnswers('2')
  setting.get('c')
  setting.peerAnswers('3')
  await turn()
  expect(setting.told).toEqual(['a=1', 'b=2', 'c=3'])
})

test('a floor that the primary never had is forgotten: the node returns to its own memcached', async () => {
  const setting = new Setting()
  setting.own.serving = false
  setting.get('a')
  setting.floor = at(99)
  setting.lost = formatPosition(at(99))
  setting.peerAnswers('1')
  await turn()
  setting.own.serving = true
  setting.get('b')
  // What is left is what was seen of the log since.
  await expect
    .poll(() => setting.floor !== undefined && formatPosition(setting.floor), { timeout: 3000 })
    .not.toBe(setting.lost)
})

test('a peer’s item is not measured by this node’s watermarks', () => {
  const setting = new Setting()
  setting.catalogue.reset(1000, [{ id: 1, name: 'one', generation: 1, flushDue: 0 }])
  const namespace = setting.catalogue.byName('one') ?? expect.unreachable()
  expect(isLive(itemOf('x'), namespace)).toBe(false)
  expect(isLive({ ...itemOf('x'), fromPeer: true }, namespace)).toBe(true)
})
