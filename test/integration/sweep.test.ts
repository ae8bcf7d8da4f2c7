import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type DumpedItem, dumpItems } from '../../src/adapters/memcached-dump.ts'
import { composeItemKey, keyFromText } from '../../src/domain/key.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { Sweeper } from '../../src/upkeep/sweeper.ts'
import { AppliedMemcached, flushTo, memcachedPaths } from '../support/applied-memcached.ts'
import { dialogue } from '../support/memcached.ts'
import { until } from '../support/processes.ts'

const { signal } = new AbortController()

describe.each(memcachedPaths)('%s', (path) => {
  let applied: AppliedMemcached
  beforeEach(async () => {
    applied = await AppliedMemcached.start(path)
  })
  afterEach(async () => applied?.remove())

  const sweeper = (list = (): AsyncIterable<readonly DumpedItem[]> => dumpItems(applied.address)): Sweeper =>
    new Sweeper({
      contents: applied,
      namespaces: applied.catalogue,
      list,
      itemsPerSecondMax: 1e6,
      pauseMilliseconds: 10,
      logger: silentLogger,
    })

  test('a sweep frees what a flush has ended, and nothing else', async () => {
    const many = Array.from({ length: 1200 }, (_, n) => applied.store(`old${n}`, 'x'))
    await applied.apply(...many, applied.store('other', 'lives', { namespaceId: 2 }))
    await applied.apply(flushTo(2))
    await applied.apply(applied.store('new', 'lives', { generation: 2 }))
    const swept = sweeper()
    expect(await swept.sweep(signal)).toBe(1200)
    expect(swept.figures).toMatchObject({ sweeps: 1, freed: 1200 })
    expect(await applied.keys()).toEqual(['a:new', 'b:other'])
    expect(await applied.held('~whitehole')).toContain('whitehole-state')
    expect(await swept.sweep(signal)).toBe(0)
  })

  test('items of keys that are hashed, or have bytes that text commands do not take, are freed too', async () => {
    const keys = ['with blank', 'é\u0000', 'x'.repeat(250), '~tilde'].map(keyFromText)
    await applied.apply(...keys.map((key) => applied.store('', 'x', { key })))
    expect((await applied.keys()).length).toBe(4)
    await applied.apply(flushTo(2))
    await sweeper().sweep(signal)
    expect(await applied.keys()).toEqual([])
  })

  test('the items of a dropped namespace are freed', async () => {
    await applied.apply(applied.store('gone', 'x', { namespaceId: 2 }), applied.store('kept', 'x'))
    await applied.apply({ ...flushTo(1, 2), begins: false, dropped: true })
    await sweeper().sweep(signal)
    expect(await applied.keys()).toEqual(['a:kept'])
  })

  test('an item that is stored anew after it was listed as dead stays', async () => {
    await applied.apply(applied.store('k', 'old'), applied.store('l', 'old'))
    await applied.apply(flushTo(2))
    async function* listThenStore(): AsyncGenerator<readonly DumpedItem[]> {
      for await (const items of dumpItems(applied.address)) {
        await applied.apply(applied.store('k', 'new', { generation: 2 }))
        yield items
      }
    }
    await sweeper(listThenStore).sweep(signal)
    expect(await applied.held('a:k')).toBe('new')
    expect(await applied.keys()).toEqual(['a:k'])
  })

  test('a sweep writes nothing once the connection that it listed for is over', async () => {
    await applied.apply(applied.store('k', 'old'))
    await applied.apply(flushTo(2))
    async function* listThenEnd(): AsyncGenerator<readonly DumpedItem[]> {
      for await (const items of dumpItems(applied.address)) {
        applied.end()
        yield items
      }
    }
    await expect(sweeper(listThenEnd).sweep(signal)).rejects.toMatchObject({ code: 'not-serving' })
    expect(await applied.held('a:k')).toBe('old')
  })

  test('a sweep follows each flush by itself, and none comes where nothing changed', async () => {
    const swept = sweeper()
    swept.start()
    try {
      await until('the first look', () => swept.figures.sweeps === 1)
      await applied.apply(applied.store('k', 'x'))
      await applied.apply(flushTo(2))
      await until('the sweep', () => swept.figures.sweeps === 2)
      expect(await applied.keys()).toEqual([])
      await applied.apply(applied.store('k', 'x', { generation: 2 }))
      await new Promise((resolve) => setTimeout(resolve, 100))
      expect(swept.figures.sweeps).toBe(2)
    } finally {
      swept.stop()
    }
  })

  test("somebody else's item without a namespace's form is left alone", async () => {
    await dialogue(applied.memcached.port, 'set plain 0 0 1\r\nx\r\n', /STORED\r\n$/)
    await applied.apply(flushTo(2))
    await sweeper().sweep(signal)
    expect(await applied.keys()).toEqual(['plain'])
  })
})

test('the hashed form is what the tests above take it for', () => {
  expect(composeItemKey('a', keyFromText('~tilde'))).toMatch(/^a:~[0-9a-f]{64}$/)
})
