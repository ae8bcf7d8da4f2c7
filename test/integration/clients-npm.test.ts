import { Memcache, MemcacheNode } from 'memcache'
import { createRequire } from 'node:module'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { ChaosProxy } from '../support/chaos-proxy.ts'
import { dialogue, Memcached } from '../support/memcached.ts'
import { World } from '../support/world.ts'

/** What memjs, which brings no types, is asked here. */
interface MemjsClient {
  get(key: string): Promise<{ value: Buffer | null; flags: Buffer | null }>
  set(key: string, value: string | Buffer, options: { expires?: number }): Promise<boolean>
  add(key: string, value: string, options: object): Promise<boolean>
  replace(key: string, value: string, options: object): Promise<boolean>
  delete(key: string): Promise<boolean>
  increment(key: string, amount: number, options: object): Promise<{ success: boolean; value: number }>
  decrement(key: string, amount: number, options: object): Promise<{ success: boolean; value: number }>
  append(key: string, value: string): Promise<boolean>
  prepend(key: string, value: string): Promise<boolean>
  touch(key: string, expires: number): Promise<boolean>
  flush(): Promise<Record<string, boolean>>
  stats(callback: (error: unknown, server: string, stats: Record<string, string>) => void): void
  close(): void
}
const memjs = createRequire(import.meta.url)('memjs') as {
  Client: { create(servers: string, options: object): MemjsClient }
}

/** A memcached goes first: what is expected here is what it answers, not what we think. */
const targets = ['memcached', 'a node', 'a node, one byte a packet', 'a node, 20 ms away'] as const

describe.each(targets)('%s', (target) => {
  let world: World | undefined
  let memcached: Memcached | undefined
  let proxy: ChaosProxy
  beforeAll(async () => {
    if (target === 'memcached') memcached = await Memcached.start(['-I', '1m'])
    else world = await World.start({ topology: 'single', nodes: 1 })
    proxy = await ChaosProxy.start(memcached?.port ?? world?.node(1).ports.main ?? 0)
    if (target === 'a node, one byte a packet') proxy.slice(1)
    if (target === 'a node, 20 ms away') proxy.delay(10)
  })
  afterAll(async () => {
    await proxy?.stop()
    await world?.remove()
    await memcached?.stop()
  })
  beforeEach(async () => {
    await dialogue(proxy.port, 'flush_all\r\n', /OK\r\n$/)
  })

  describe('answers the npm client memcache', () => {
    let client: Memcache
    beforeEach(() => {
      client = new Memcache(`127.0.0.1:${proxy.port}`)
      return () => client.disconnect()
    })

    it('in the text protocol', async () => {
      expect(await client.get('k')).toBeUndefined()
      expect(await client.add('k', '1')).toBe(true)
      expect(await client.add('k', '2')).toBe(false)
      expect(await client.replace('k', 'Grüße, Welt')).toBe(true)
      expect(await client.replace('none', '2')).toBe(false)
      expect(await client.append('k', '>')).toBe(true)
      expect(await client.prepend('k', '<')).toBe(true)
      expect(await client.get('k')).toBe('<Grüße, Welt>')
      expect(await client.set('empty', '')).toBe(true)
      expect(await client.gets(['k', 'none', 'empty'])).toEqual(
        new Map([
          ['k', '<Grüße, Welt>'],
          ['empty', ''],
        ]),
      )
      expect(await client.touch('k', 100)).toBe(true)
      expect(await client.touch('none', 100)).toBe(false)
      expect(await client.delete('k')).toBe(true)
      expect(await client.delete('k')).toBe(false)
    })

    it('that counts', async () => {
      await client.set('n', '99')
      expect(await client.incr('n', 1)).toBe(100)
      expect(await client.decr('n', 1)).toBe(99)
      expect(await client.decr('n', 1000)).toBe(0)
      expect(await client.incr('none', 1)).toBeUndefined()
      await client.set('n', 'text')
      // It swallows the error.
      expect(await client.incr('n', 1)).toBeUndefined()
    })

    it('that compares and sets', async () => {
      await client.set('k', 'first')
      const token = /VALUE k 0 5 (\d+)/.exec(await dialogue(proxy.port, 'gets k\r\n', /END\r\n$/))?.[1] ?? ''
      expect(await client.cas('k', 'second', token)).toBe(true)
      expect(await client.cas('k', 'third', token)).toBe(false)
      expect(await client.get('k')).toBe('second')
    })

    it('that pipelines', async () => {
      const keys = Array.from({ length: 200 }, (_none, index) => `key-${index}`)
      expect(await Promise.all(keys.map((key) => client.set(key, `of ${key}`)))).toEqual(keys.map(() => true))
      expect(await Promise.all(keys.map((key) => client.get(key)))).toEqual(keys.map((key) => `of ${key}`))
      expect((await client.gets(keys)).size).toBe(200)
      expect(await client.flush()).toBe(true)
      expect((await client.gets(keys)).size).toBe(0)
    })

    it('that asks for statistics and the version', async () => {
      await client.set('k', 'v')
      const [stats] = (await client.stats()).values()
      expect(Number(stats?.['curr_items'])).toBe(1)
      expect(Number(stats?.['pid'])).toBeGreaterThan(0)
      expect([...(await client.version()).values()][0]).toMatch(/^VERSION \d+\.\d+\.\d+$/)
    })

    it('in the binary protocol', async () => {
      const node = new MemcacheNode('127.0.0.1', proxy.port)
      await node.connect()
      expect(await node.binarySet('b', 'value', 100, 7)).toBe(true)
      expect(await node.binaryAdd('b', 'other')).toBe(false)
      expect(await node.binaryReplace('b', 'middle')).toBe(true)
      expect(await node.binaryAppend('b', '>')).toBe(true)
      expect(await node.binaryPrepend('b', '<')).toBe(true)
      expect(await node.binaryGet('b')).toBe('<middle>')
      expect(await node.binaryTouch('b', 100)).toBe(true)
      expect(await node.binaryIncr('c', 3, 5)).toBe(5)
      expect(await node.binaryIncr('c', 3)).toBe(8)
      expect(await node.binaryDecr('c', 10)).toBe(0)
      expect(await node.binaryDelete('b')).toBe(true)
      expect(await node.binaryGet('b')).toBeUndefined()
      expect(await node.binaryVersion()).toMatch(/^\d+\.\d+\.\d+$/)
      expect(Number((await node.binaryStats())['curr_items'])).toBe(1)
      expect(await node.binaryFlush()).toBe(true)
      expect(await node.binaryGet('c')).toBeUndefined()
      await node.disconnect()
    })
  })

  describe('answers memjs (binary)', () => {
    let client: MemjsClient
    beforeEach(() => {
      client = memjs.Client.create(`127.0.0.1:${proxy.port}`, { logger: { log: () => {} }, timeout: 10 })
      return () => client.close()
    })

    it('that stores and reads', async () => {
      expect((await client.get('k')).value).toBeNull()
      expect(await client.add('k', 'first', {})).toBe(true)
      expect(await client.add('k', 'second', {})).toBe(false)
      expect(await client.replace('none', 'x', {})).toBe(false)
      expect(await client.replace('k', 'third', {})).toBe(true)
      expect(await client.append('k', '>')).toBe(true)
      expect(await client.prepend('k', '<')).toBe(true)
      // It sends an append for a prepend.
      expect((await client.get('k')).value?.toString()).toBe('third><')
      const binary = Buffer.from([0x80, 0, 13, 10, 0xff])
      await client.set('bytes', binary, { expires: 100 })
      expect((await client.get('bytes')).value).toEqual(binary)
      expect(await client.touch('k', 100)).toBe(true)
      expect(await client.delete('k')).toBe(true)
      expect(await client.delete('k')).toBe(false)
    })

    it('that stores up to a mebibyte', async () => {
      const value = Buffer.alloc(target === 'a node, one byte a packet' ? 20_000 : 1_047_552, 'v')
      expect(await client.set('large', value, {})).toBe(true)
      expect((await client.get('large')).value?.equals(value)).toBe(true)
      if (target === 'a node, one byte a packet') return
      await expect(client.set('large', Buffer.alloc(1_048_577), {})).rejects.toThrow()
      expect((await client.get('large')).value).toBeNull()
    })

    it('that counts', async () => {
      expect((await client.increment('n', 1, { initial: 41 })).value).toBe(41)
      expect((await client.increment('n', 1, {})).value).toBe(42)
      expect((await client.decrement('n', 2, {})).value).toBe(40)
      expect((await client.get('n')).value?.toString()).toBe('40')
    })

    it('that flushes, and asks for statistics', async () => {
      await client.set('k', 'v', {})
      expect(Object.values(await client.flush())).toEqual([true])
      expect((await client.get('k')).value).toBeNull()
      const stats = await new Promise<Record<string, string>>((resolve, reject) => {
        client.stats((error, _server, answer) =>
          error === null ? resolve(answer) : reject(new Error('no statistics')),
        )
      })
      expect(stats['version']).toMatch(/^\d+\.\d+\.\d+$/)
    })
  })
})
