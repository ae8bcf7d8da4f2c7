import { expect, test } from 'vitest'
import type { MemcachedConnection } from '../../../src/adapters/memcached-connection.ts'
import type { DumpedItem } from '../../../src/adapters/memcached-dump.ts'
import type { Contents } from '../../../src/domain/donation.ts'
import type { ItemKey } from '../../../src/domain/key.ts'
import type { ReadSink } from '../../../src/domain/local-reads.ts'
import type { CataloguedNamespace } from '../../../src/domain/namespaces.ts'
import { DonorItems } from '../../../src/recovery/donor-items.ts'
import { readItems } from '../../../src/wire/peer/item-stream.ts'

const now = 5000

/** What is listed, and what a read of it then finds: the same CAS unless said otherwise. */
interface Item {
  readonly key: string
  readonly cas: number
  readonly casNow?: number
  readonly value?: string
  readonly expires?: number
}

async function given(items: readonly Item[], watermark: number | undefined, generation = 1): Promise<string[]> {
  const namespace: CataloguedNamespace = { id: 1, name: 'a', generation, watermark, flushDue: 0 }
  const high = (cas: number): number => (watermark === undefined ? cas : 0)
  const low = (cas: number): number => (watermark === undefined ? 1 : cas)
  const listed = items.map(({ key, cas, expires = -1 }): DumpedItem => ({
    key: key as ItemKey,
    casHigh: high(cas),
    casLow: low(cas),
    details: `exp=${expires} la=0 cas=${cas} fetch=no cls=1 size=60`,
  }))
  const memcached = {
    metaPeek: (key: ItemKey, sink: ReadSink) => {
      const { cas, casNow = cas, value = 'x' } = items.find((item) => item.key === key) as Item
      queueMicrotask(() =>
        sink({ casHigh: high(casNow), casLow: low(casNow), flags: '0', value: Buffer.from(value) }, undefined),
      )
    },
  } as unknown as MemcachedConnection
  const donor = new DonorItems({
    memcached,
    namespaces: {
      staleItems: false,
      byId: () => namespace,
      byName: (name) => (name === 'a' ? namespace : undefined),
      all: () => [namespace],
    },
    now: () => ({ databaseNowSeconds: 9000.25, memcachedNowSeconds: now }) as Contents,
    giveBack: async () => {},
  })
  const sent: string[] = []
  const listing = (async function* () {
    yield { items: listed, cursor: 1 }
  })()
  for await (const { frame } of donor.frames(listing)) {
    readItems(frame.subarray(13), ({ key, endSeconds }) =>
      sent.push(endSeconds === 0 ? key : `${key} until ${endSeconds}`),
    )
  }
  return sent
}

test('what was flushed and not swept yet is not given: on a receiver that counts its CAS anew it would live again', async () => {
  expect(
    await given(
      [
        { key: 'a:flushed', cas: 10 },
        { key: 'a:live', cas: 11 },
      ],
      10,
    ),
  ).toEqual(['a:live'])
  expect(
    await given(
      [
        { key: 'a:flushed', cas: 1 },
        { key: 'a:live', cas: 2 },
      ],
      undefined,
      2,
    ),
  ).toEqual(['a:live'])
})

test('R31: a lease is not given', async () => {
  expect(
    await given(
      [
        { key: 'a:lease', cas: 2 + 2 ** 30, value: '' },
        { key: 'a:live', cas: 2 },
      ],
      undefined,
      2,
    ),
  ).toEqual(['a:live'])
})

test('what was stored anew since it was listed is not given: it is in the receiver’s log', async () => {
  expect(
    await given(
      [
        { key: 'a:anew', cas: 11, casNow: 12 },
        { key: 'a:same', cas: 13 },
      ],
      10,
    ),
  ).toEqual(['a:same'])
})

test('an item’s end is told by the databases’ clock, and what has ended is not given', async () => {
  const items = [
    { key: 'a:ended', cas: 11, expires: now },
    { key: 'a:ends', cas: 12, expires: now + 60 },
  ]
  expect(await given(items, 10)).toEqual(['a:ends until 9060.25'])
})

test('items of no namespace that is known are left', async () => {
  expect(
    await given(
      [
        { key: 'b:x', cas: 11 },
        { key: '~whitehole', cas: 12 },
      ],
      10,
    ),
  ).toEqual([])
})
