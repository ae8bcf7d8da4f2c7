import { readFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { judge } from '../support/linearizability.ts'
import { until } from '../support/processes.ts'
import { MixedTraffic } from '../support/mixed-traffic.ts'
import { World } from '../support/world.ts'

/** WHITEHOLE_MILLION=1: a million keys (some minutes, 6 GB of memory and disk); else a small part of it. */
const isLong = process.env['WHITEHOLE_MILLION'] === '1'
const keyCount = isLong ? 1_000_000 : 6000
const perRequest = 2000
const liveKeys = 60
const servingWithinSeconds = 60
/** Of two cores, and a test that keeps them busy. */
const busyLoad = 5
/** Of `endsApart`, in seconds, where its looks come late. */
const looksError = 0.25

/** From 100 bytes to a megabyte, most of them small. */
function sizeOf(n: number): number {
  if (n % 4000 === 0) return 100_000 + (n % 900_001)
  return n % 10 === 0 ? 1000 + (n % 3001) : 100 + (n % 201)
}

function valueOf(n: number): string {
  return `${n}:`.padEnd(sizeOf(n), 'v')
}

describe(`F26: ${keyCount} keys of mixed sizes on a pair with two nodes, traffic of all kinds on both`, () => {
  let world: World
  beforeAll(async () => {
    world = await World.start({ topology: 'pair', nodes: 2, memcachedOptions: ['-m', isLong ? '2000' : '256'] })
    for (let from = 0; from < keyCount; from += perRequest) {
      const sets = Array.from({ length: perRequest }, (_, i) => {
        const value = valueOf(from + i)
        return `set k${from + i} 0 0 ${value.length} noreply\r\n${value}\r\n`
      })
      expect(await world.node(1).ask(`${sets.join('')}set filled 0 0 1\r\nx\r\n`)).toBe('STORED\r\n')
    }
    await world.settled()
  }, 900_000)
  afterAll(async () => world?.remove())

  test(
    'a memcached that is killed is served from again within a minute: nothing older, nothing deleted, no other time to live',
    async () => {
      for (let n = 0; n < 50; n++) await world.node(1).set(`ttl${n}`, 'x', 600 + n)
      const flushing = async (signal: AbortSignal): Promise<void> => {
        for (let n = 0; !signal.aborted; n++) {
          const node = world.node(1 + (n % 2))
          await node.ask(`set s${n} 0 0 1\r\nx\r\n`, /\r\n$/, node.ports.sessions)
          if (n % 5 === 0) await node.ask('flush_all\r\n', /OK\r\n/, node.ports.sessions)
          await world.primary.query(`CALL memcached.set_key(memcached.ns('catalog'), 'sql', '${n}', 0)`)
        }
      }
      const traffic = await MixedTraffic.start(world, { nodes: [1, 2], perNode: 3, keys: liveKeys, beside: flushing })
      const back = world.node(2)
      let seconds = 0
      let cpu = 0
      try {
        await until('traffic', () => traffic.changes > 300)
        const rebuilds = await back.metric('whitehole_rebuilds_total')
        const killedAt = performance.now()
        await back.memcached.restart()
        const cpuBefore = cpuSeconds()
        await until(
          'the node to serve again',
          async () =>
            (await back.metric('whitehole_rebuilds_total')) > rebuilds && (await back.status()).state === 'serving',
          10 * 60_000,
        )
        seconds = (performance.now() - killedAt) / 1000
        cpu = cpuSeconds() - cpuBefore
        const seen = traffic.changes
        await until('more traffic', () => traffic.changes > seen + 300)
      } finally {
        await traffic.stop()
      }
      const { clients, history } = traffic
      console.log(
        `${keyCount} keys: node 2 served again after ${seconds.toFixed(1)} s, ${traffic.changes} operations meanwhile; all of ours used ${cpu.toFixed(1)} s of processor time, load average ${loadavg()[0]?.toFixed(1)}`,
      )
      await world.settled()
      for (let n = 0; n < liveKeys; n++) {
        for (const index of [0, 3]) await clients[index]?.ask(`live${n}`, { kind: 'get', strict: true })
      }
      for (const client of clients) client.close()
      expect(judge(history.operations)).toEqual([])
      // Where others keep the machine busy, the time that went by is theirs.
      expect((loadavg()[0] ?? 0) > busyLoad ? cpu : seconds).toBeLessThan(servingWithinSeconds)
      for (let n = 0; n < keyCount; n += keyCount / 100) expect(await back.get(`k${n}`)).toBe(valueOf(n))
      for (let n = 0; n < 50; n += 12) {
        expect(Math.abs(await endsApart(`ttl${n}`))).toBeLessThanOrEqual(1 + looksError)
      }
      for (const node of world.nodes) {
        const { namespaces } = (await node.verify()) as { namespaces: Record<string, unknown>[] }
        for (const one of namespaces) expect(one).toMatchObject({ missing: 0, diverged: 0, orphan: 0, evicted: 0 })
      }
    },
    15 * 60_000,
  )

  /** Of nodes, memcached and databases: on a machine that others use it says more than the time that went by. */
  function cpuSeconds(): number {
    const programs = world.nodes.flatMap((node) => [node.program, node.memcached.program])
    const pids = [...programs, world.primary.program, world.standby?.program].map((program) => program?.pid)
    return pids.reduce<number>((sum, pid) => {
      const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
        .replace(/^.*\) /, '')
        .split(' ')
      // utime and stime, in hundredths.
      return sum + (Number(fields[11]) + Number(fields[12])) / 100
    }, 0)
  }

  /** The nodes tell whole seconds, and each begins them elsewhere: what they differ by on average is what the ends do. */
  async function endsApart(key: string): Promise<number> {
    let sum = 0
    const looks = 20
    for (let look = 0; look < looks; look++) {
      const [one = 0, two = 0] = await Promise.all([1, 2].map((node) => secondsLeft(node, key)))
      sum += one - two
      await new Promise((resolve) => setTimeout(resolve, 1000 / looks))
    }
    return sum / looks
  }

  async function secondsLeft(node: number, key: string): Promise<number> {
    return Number(/ t(\d+)/.exec(await world.node(node).ask(`mg ${key} t\r\n`, /(HD|EN).*\r\n$/))?.[1])
  }
})
