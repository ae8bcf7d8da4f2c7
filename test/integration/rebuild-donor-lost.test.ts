import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { until } from '../support/processes.ts'
import { type NodeProcess, World } from '../support/world.ts'

const keyCount = 6000

describe('a donor that dies while it gives', () => {
  let world: World
  beforeAll(async () => {
    // Slow enough to be killed on the way: 6 MB in two seconds.
    world = await World.start({
      topology: 'single',
      nodes: 3,
      memcachedOptions: ['-m', '256'],
      node: { rebuild: { sendBytesPerSecondMax: 3_000_000 } },
    })
    const value = 'v'.repeat(1000)
    const sets = Array.from({ length: keyCount }, (_, n) => `set k${n} 0 0 1000 noreply\r\n${value}\r\n`)
    await world.node(1).ask(`${sets.join('')}set last 0 0 1\r\nx\r\n`)
    await world.settled()
  })
  afterAll(async () => world?.remove())

  interface Rebuilding {
    readonly rebuild: { readonly from: string; readonly peer: string | null; readonly keys: number } | null
  }

  /** Resolves with who gives, some items being there and most of them not. */
  async function donorOf(receiver: NodeProcess, not?: NodeProcess): Promise<NodeProcess> {
    const name = await until('a donor', async () => {
      const { rebuild } = (await receiver.status()) as unknown as Rebuilding
      if (rebuild?.from !== 'peer' || rebuild.peer === not?.name || rebuild.keys < 200) return undefined
      expect(rebuild.keys).toBeLessThan(keyCount)
      return rebuild.peer ?? undefined
    })
    const donor = world.nodes.find((node) => node.name === name)
    if (donor === undefined) throw new Error(`nobody is called ${name}`)
    return donor
  }

  async function expectWhole(receiver: NodeProcess): Promise<void> {
    await receiver.serving()
    for (const n of [0, 3000, keyCount - 1]) expect(await receiver.get(`k${n}`)).toHaveLength(1000)
    const { namespaces } = (await receiver.verify()) as { namespaces: Record<string, unknown>[] }
    for (const one of namespaces) expect(one).toMatchObject({ missing: 0, diverged: 0, orphan: 0 })
  }

  test('is followed by the next peer, and where that dies too, by the log', async () => {
    const receiver = world.node(3)
    await receiver.memcached.restart()
    const first = await donorOf(receiver)
    await first.kill()
    const second = await donorOf(receiver, first)
    expect(second).not.toBe(first)
    await expectWhole(receiver)
    expect(receiver.program.output).toMatch(new RegExp(`"peer":"${second.name}".*took a peer`))

    await receiver.memcached.restart()
    const last = await donorOf(receiver)
    expect(last).toBe(second)
    await last.kill()
    await expectWhole(receiver)
    expect(receiver.program.output).toContain('no peer gives its items')
  })
})
