import { existsSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { ChaosProxy } from '../support/chaos-proxy.ts'
import { Client } from '../support/client.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { World } from '../support/world.ts'

const binaries = ['/usr/bin/memcached', newerMemcachedPath].filter((path) => existsSync(path))
const line = /\r\n$/

/**
 * A lease is of one node alone (`mg … N`); its fill must not stand behind what another node has acknowledged since. Node 2 holds the leases and
 * hears of everything a fifth of a second late (docs/adr/0011-leases.md has the interleavings).
 */
describe.each(binaries)('a lease of a node that lags, over %s', (memcachedPath) => {
  let world: World
  let links: ChaosProxy[] = []
  let ahead: Client
  let behind: Client
  beforeAll(async () => {
    world = await World.start({ topology: 'pair', nodes: 2, memcachedPath })
    links = await world.putBehindLinks(2)
    ahead = await Client.connect(world.node(1).ports.main)
    behind = await Client.connect(world.node(2).ports.main)
  })
  afterEach(() => lag(0))
  afterAll(async () => {
    ahead?.close()
    behind?.close()
    await world?.remove()
    await Promise.all(links.map((link) => link.stop()))
  })

  function lag(milliseconds: number): void {
    // The standby's, where the log comes from; the way to the primary stays short.
    links[1]?.delay(milliseconds)
  }
  async function lease(key: string): Promise<string> {
    await world.settled()
    const token = / c(\d+) .*W/.exec(await behind.ask(`mg ${key} N30 c t\r\n`, line))?.[1]
    if (token === undefined) throw new Error('no lease')
    lag(200)
    return token
  }
  async function valueOf(client: Client, key: string): Promise<string> {
    return client.ask(`get ${key}\r\n`, /END\r\n$/)
  }

  test.each([
    { change: 'a delete', send: (key: string) => `delete ${key}\r\n`, told: 'NOT_FOUND\r\n' },
    { change: 'a flush', send: () => 'flush_all\r\n', told: 'OK\r\n' },
    {
      change: 'a store and a delete',
      send: (key: string) => `set ${key} 0 0 1\r\n1\r\ndelete ${key}\r\n`,
      told: 'STORED\r\nDELETED\r\n',
    },
  ])('R19: is filled no more once another node has acknowledged $change', async ({ change, send, told }) => {
    const key = change.replaceAll(' ', '-')
    const token = await lease(key)
    expect(await ahead.ask(send(key), new RegExp(`${told}$`))).toBe(told)
    expect(await behind.ask(`ms ${key} 3 C${token}\r\nold\r\n`, line)).toBe('NF\r\n')
    lag(0)
    await world.settled()
    expect(await valueOf(ahead, key)).toBe('END\r\n')
    expect(await valueOf(behind, key)).toBe('END\r\n')
  })

  test('F29: neither overwrites nor deletes what another node has stored', async () => {
    const token = await lease('stored')
    await ahead.ask('set stored 0 0 3\r\nnew\r\n', line)
    expect(await behind.ask(`ms stored 3 C${token}\r\nold\r\n`, line)).toBe('EX\r\n')
    expect(await behind.ask(`md stored C${token}\r\n`, line)).toBe('EX\r\n')
    expect(await valueOf(behind, 'stored')).toBe('VALUE stored 0 3\r\nnew\r\nEND\r\n')
  })

  test('is filled on every node where nobody came in between, once, and then redeems nothing', async () => {
    const token = await lease('free')
    expect(await behind.ask(`ms free 3 C${token}\r\nnew\r\n`, line)).toBe('HD\r\n')
    expect(await behind.ask(`ms free 3 C${token}\r\nold\r\n`, line)).toBe('EX\r\n')
    await world.settled()
    expect(await valueOf(ahead, 'free')).toBe('VALUE free 0 3\r\nnew\r\nEND\r\n')
  })

  test('is filled where the node had evicted the item that the others have', async () => {
    await ahead.ask('set evicted 0 0 3\r\none\r\n', line)
    await world.settled()
    const memcached = await Client.connect(world.node(2).memcached.port)
    await memcached.ask('delete default:evicted\r\n', line)
    memcached.close()
    const token = await lease('evicted')
    expect(await behind.ask(`ms evicted 3 C${token}\r\ntwo\r\n`, line)).toBe('HD\r\n')
    await world.settled()
    expect(await valueOf(ahead, 'evicted')).toBe('VALUE evicted 0 3\r\ntwo\r\nEND\r\n')
  })

  test('keeps its place among what is pipelined', async () => {
    const token = await lease('pipelined')
    const text = `ms pipelined 1 C${token}\r\n1\r\nset pipelined 0 0 1\r\n2\r\nget pipelined\r\n`
    expect(await behind.ask(text, /END\r\n$/)).toBe('HD\r\nSTORED\r\nVALUE pipelined 0 1\r\n2\r\nEND\r\n')
  })
})
