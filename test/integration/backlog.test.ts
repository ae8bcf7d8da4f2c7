import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fill } from '../../bench/support/fill.ts'
import { until } from '../support/processes.ts'
import { type NodeProcess, World } from '../support/world.ts'

/** WHITEHOLE_MILLION=1: a million entries wait; else so many. */
const entryCount = process.env['WHITEHOLE_MILLION'] === '1' ? 1_000_000 : 60_000
const keyCount = entryCount / 20
const memoryGrowthMaxMiB = 200

describe(`a node that finds ${entryCount} entries in the log`, () => {
  let world: World
  beforeAll(async () => {
    world = await World.start({ topology: 'single', nodes: 2, memcachedOptions: ['-m', '512'] })
    await world.node(1).ask('set before 0 0 1\r\nx\r\n', /\r\n$/, world.node(1).ports.sessions)
    await world.settled()
    await world.node(2).kill()
    const sql = await world.primary.connect()
    await sql.query('USE memcached')
    // Each key twenty times over.
    await fill(sql, 'default', entryCount, keyCount)
    sql.destroy()
  }, 300_000)
  afterAll(async () => world?.remove())

  test('F39, F40: applies them in bounded memory, faster than they come, in order, and says how far behind it is; a flush meanwhile is one entry, and touches no other namespace', async () => {
    const [one, back] = [world.node(1), world.node(2)]
    const sessions = one.ports.sessions
    const generation = await generationOf('sessions')
    back.start()
    await until('the node to be up', async () => (await back.status()).state !== 'serving')
    const writing = new AbortController()
    let written = 0
    const writer = (async () => {
      for (; !writing.signal.aborted; written++) {
        expect(await one.set(`during${written % 50}`, String(written))).toBe('STORED\r\n')
      }
    })()
    let memoryMiB = 0
    let behindSeconds = 0
    try {
      const begun = performance.now()
      expect(await one.ask('flush_all\r\n', /\r\n$/, sessions)).toBe('OK\r\n')
      expect(performance.now() - begun).toBeLessThan(5000)
      await until(
        'the node to serve',
        async () => {
          const { state, lagSeconds } = await back.status()
          memoryMiB = Math.max(memoryMiB, residentMiB(back))
          behindSeconds = Math.max(behindSeconds, lagSeconds ?? 0)
          return state === 'serving'
        },
        240_000,
      )
      // Never shown again from the moment on at which the flush was acknowledged.
      expect(await back.get('before', back.ports.sessions)).toBeUndefined()
    } finally {
      writing.abort()
      await writer
    }
    await world.settled()
    expect(await generationOf('sessions')).toBe(generation + 1)
    // A short log may be applied before anybody has looked at the primary.
    if (entryCount >= 1_000_000) expect(behindSeconds).toBeGreaterThan(0)
    const applied = await back.metric('whitehole_applied_entries_total')
    console.log(
      `${applied} entries, ${memoryMiB.toFixed(0)} MiB, ${behindSeconds} s behind, ${written} written meanwhile`,
    )
    expect(applied).toBeGreaterThan(written)
    expect(memoryMiB - residentMiB(one)).toBeLessThan(memoryGrowthMaxMiB)
    for (const node of world.nodes) {
      expect(await node.get(`during${(written - 1) % 50}`)).toBe(String(written - 1))
      expect(await node.get(`k${keyCount - 1}`)).toHaveLength(100)
      const { namespaces } = (await node.verify()) as { namespaces: Record<string, unknown>[] }
      for (const some of namespaces) expect(some).toMatchObject({ missing: 0, diverged: 0, orphan: 0 })
    }
  }, 300_000)

  async function generationOf(name: string): Promise<number> {
    const [row] = await world.primary.query<{ generation: number }>(
      'SELECT generation FROM memcached.mc_namespaces WHERE ns_name = ?',
      [name],
    )
    return Number(row?.generation)
  }
})

function residentMiB(node: NodeProcess): number {
  const status = readFileSync(`/proc/${node.program.pid}/status`, 'latin1')
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024
}
