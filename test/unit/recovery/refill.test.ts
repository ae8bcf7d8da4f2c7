import { expect, test } from 'vitest'
import type { DonationAnswer, DonorPeer, RefillHead, RefillSink } from '../../../src/domain/donation.ts'
import type { ItemKey } from '../../../src/domain/key.ts'
import type { NodeState } from '../../../src/domain/node-state.ts'
import { formatPosition, parsePosition, type Position } from '../../../src/domain/position.ts'
import { Refill } from '../../../src/recovery/refill.ts'
import { silentLogger } from '../../../src/runtime/logger.ts'
import {
  formatEnd,
  formatHead,
  ItemsFrame,
  itemStreamFormat,
  readItems,
  type StreamHead,
} from '../../../src/wire/peer/item-stream.ts'

const at = (sequence: number) => parsePosition('mariadb', `0-1-${sequence}`)

/** Keys that were written since the last `begin`. */
class Sink implements RefillSink {
  readonly needsVersions: boolean = false
  keys: string[] = []
  begins: RefillHead[] = []
  /** Positions that the primary never had. */
  lost: string[] = []
  failure: Error | undefined

  async refuses(position: Position): Promise<boolean> {
    return this.lost.includes(formatPosition(position))
  }

  async begin(head: RefillHead): Promise<void> {
    this.begins.push(head)
    this.keys = []
  }

  async items(piece: Buffer): Promise<number> {
    if (this.failure !== undefined) throw this.failure
    return readItems(piece, ({ key }) => this.keys.push(key))
  }

  async settle(): Promise<void> {}
}

interface Script {
  readonly state?: NodeState
  /** What each request is answered with; the last one stays. */
  readonly answers: readonly ((request: { dump?: string; cursor?: number }) => DonationAnswer)[]
}

function peer(name: string, { state = 'serving', answers }: Script): DonorPeer & { requests: object[] } {
  const requests: object[] = []
  return {
    name,
    state,
    requests,
    give: async (request) => {
      requests.push(request)
      const answer = answers[Math.min(requests.length, answers.length) - 1]
      if (answer === undefined) throw new Error('nobody there')
      return answer(request)
    },
  }
}

function headOf(dump: string, more: Partial<StreamHead> = {}): Buffer {
  return formatHead({
    format: itemStreamFormat,
    dump,
    versions: false,
    staleItems: false,
    keysExpected: 2,
    clockSeconds: 0,
    epoch: 1,
    position: at(10),
    namespaces: [],
    ...more,
  })
}

function items(keys: readonly string[], cursor: number): Buffer {
  const frame = new ItemsFrame()
  for (const key of keys) {
    const value = Buffer.from(key)
    frame.add({ key: key as ItemKey, stale: false, endSeconds: 0, flags: 0, casHigh: 0, casLow: 1, value })
  }
  return frame.take(cursor)
}

function stream(...frames: readonly (Buffer | Error)[]): DonationAnswer {
  return {
    kind: 'stream',
    chunks: (async function* () {
      for (const frame of frames) {
        if (frame instanceof Error) throw frame
        yield frame
      }
    })(),
  }
}

const lost = new Error('connection lost')
const endOf = (keys: number, epoch = 1): Buffer => formatEnd({ position: at(20), epoch, keys })

function run(peers: readonly DonorPeer[], sink: RefillSink = new Sink(), signal = new AbortController().signal) {
  const given = { logger: silentLogger, patienceMilliseconds: 300, retryMilliseconds: 5 }
  const refill = new Refill({ peers: { find: async () => peers }, ...given })
  return refill.run(sink, signal)
}

test('a stream that breaks off goes on from the last whole piece of the same listing', async () => {
  const sink = new Sink()
  const one = peer('one', {
    answers: [
      () => stream(headOf('d'), items(['a', 'b'], 100), lost),
      () => stream(headOf('d'), items(['c'], 200), endOf(1)),
    ],
  })
  const taken = await run([one], sink)
  expect(one.requests[1]).toEqual({ format: itemStreamFormat, dump: 'd', cursor: 100 })
  expect(sink.begins).toHaveLength(1)
  expect(sink.keys).toEqual(['a', 'b', 'c'])
  expect(taken).toMatchObject({ peer: 'one', keys: 3, position: at(20), head: { position: at(10) } })
})

test('a stream that just ends is no whole one', async () => {
  const sink = new Sink()
  const one = peer('one', {
    answers: [() => stream(headOf('d'), items(['a'], 100)), () => stream(headOf('d'), items(['b'], 200), endOf(1))],
  })
  expect((await run([one], sink))?.keys).toBe(2)
})

test('a piece that got lost on the way is noticed at the end', async () => {
  const one = peer('one', { answers: [() => stream(headOf('d'), items(['a'], 100), endOf(2))] })
  expect(await run([one])).toBeUndefined()
})

test('a peer that is lost for good is followed by the next, from nothing', async () => {
  const sink = new Sink()
  const one = peer('one', { answers: [() => stream(headOf('d'), items(['a'], 100), lost), () => stream(lost)] })
  const two = peer('two', { answers: [() => stream(headOf('e', { position: at(12) }), items(['b'], 50), endOf(1))] })
  expect(await run([one, two], sink)).toMatchObject({ peer: 'two', head: { position: at(12) } })
  expect(sink.begins).toHaveLength(2)
  expect(sink.keys).toEqual(['b'])
})

test('a peer that began anew meanwhile is begun anew with, too', async () => {
  const sink = new Sink()
  const one = peer('one', {
    answers: [
      () => stream(headOf('d'), items(['a'], 100), lost),
      () => ({ kind: 'refused', reason: 'unknown-dump' }),
      (request) => {
        expect(request.dump).toBeUndefined()
        return stream(headOf('e'), items(['x'], 10), endOf(1))
      },
    ],
  })
  expect((await run([one], sink))?.keys).toBe(1)
  expect(sink.keys).toEqual(['x'])
})

test('R29: a peer that was rewound while it gave is not believed', async () => {
  const one = peer('one', { answers: [() => stream(headOf('d'), items(['a'], 100), endOf(1, 2))] })
  expect(await run([one])).toBeUndefined()
})

test('nobody serves: the answer comes at once; somebody who will soon is waited for, not for ever', async () => {
  expect(await run([peer('one', { state: 'rebuilding', answers: [] })])).toBeUndefined()
  const since = performance.now()
  expect(await run([peer('one', { state: 'catching-up', answers: [] })])).toBeUndefined()
  expect(performance.now() - since).toBeGreaterThan(290)
  expect(await run([peer('one', { answers: [() => ({ kind: 'refused', reason: 'busy' })] })])).toBeUndefined()
})

test('who needs versions takes only items that have some', async () => {
  const sink = new (class extends Sink {
    override readonly needsVersions = true
  })()
  const one = peer('one', { answers: [() => stream(headOf('d'), endOf(0))] })
  const two = peer('two', { answers: [() => stream(headOf('e', { versions: true }), endOf(0))] })
  expect((await run([one, two], sink))?.peer).toBe('two')
})

test('what the own memcached throws ends it, and is not held against the peer', async () => {
  const sink = new Sink()
  sink.failure = new Error('memcached is away')
  const one = peer('one', { answers: [() => stream(headOf('d'), items(['a'], 1), endOf(1))] })
  await expect(run([one], sink)).rejects.toBe(sink.failure)
  expect(one.requests).toHaveLength(1)
})

test('it ends when it is told to', async () => {
  const abort = new AbortController()
  const one = peer('one', { answers: [() => ({ kind: 'refused', reason: 'busy' })] })
  const running = run([one], new Sink(), abort.signal)
  abort.abort(new Error('stopping'))
  await expect(running).rejects.toThrow()
})

test('R11: a peer that has seen what the primary never had gives nothing, also where it goes ahead while it gives', async () => {
  const ahead = peer('ahead', {
    answers: [() => stream(headOf('d', { position: at(15) }), items(['x'], 100), endOf(1))],
  })
  const later = peer('later', {
    answers: [() => stream(headOf('e'), items(['y'], 100), formatEnd({ position: at(15), epoch: 1, keys: 1 }))],
  })
  const sink = new Sink()
  sink.lost = ['0-1-15']
  expect(await run([ahead, later], sink)).toBeUndefined()
  const fine = peer('fine', { answers: [() => stream(headOf('f'), items(['a'], 100), endOf(1))] })
  expect(await run([ahead, later, fine], sink)).toMatchObject({ peer: 'fine' })
  expect(sink.keys).toEqual(['a'])
})
