import { load, median } from './support/load.ts'
import { milliseconds, perSecond, type Question, ratio, type Row } from './support/result.ts'
import { BenchSandbox } from './support/sandbox.ts'

const rounds = 3
const seconds = 3

/** Reads through a node against reads of the same memcached directly. */
export const question: Question = {
  name: 'gets',
  title: 'Gets through a node, and straight from its memcached',
  text: 'One node of a `single` sandbox, 10,000 keys of 100 bytes, 90 % hits, 50 connections of one generator that waits for each reply. The generator is a Node process and shares the two cores: the ratio is what counts.',
  run: async (progress) => {
    const sandbox = await BenchSandbox.start(['--topology', 'single', '--nodes', '1'])
    try {
      await fill(sandbox, 10_000)
      const results: Record<string, { rate: number[]; p99: number[] }> = {}
      for (let round = 0; round < rounds; round++) {
        for (const [contestant, port, prefix] of [
          ['memcached alone', sandbox.memcached(1), 'default:'],
          ['whitehole', sandbox.node(1), ''],
        ] as const) {
          const request = (connection: number, number: number): string =>
            `get ${prefix}k${(connection * 7919 + number * 104_729) % 11_111}\r\n`
          const result = await load({ port, connections: 50, seconds, request, replyEnd: 'END\r\n' })
          const entry = (results[contestant] ??= { rate: [], p99: [] })
          entry.rate.push(result.perSecond)
          entry.p99.push(result.p99Milliseconds)
          progress(`round ${round + 1}: ${contestant} ${perSecond(result.perSecond)}`)
        }
      }
      const base = median(results['memcached alone']?.rate ?? [])
      return Object.entries(results).map(([contestant, { rate, p99 }]): Row => ({
        contestant,
        figures: {
          gets: perSecond(median(rate)),
          p99: milliseconds(median(p99)),
          'to memcached alone': ratio(median(rate) / base),
        },
      }))
    } finally {
      await sandbox.remove()
    }
  },
}

async function fill(sandbox: BenchSandbox, keys: number): Promise<void> {
  const value = 'x'.repeat(100)
  // Each of the 50 connections writes its share, in order; half a second is enough for many times as many.
  const request = (connection: number, number: number): string =>
    `set k${(connection + number * 50) % keys} 0 0 100\r\n${value}\r\n`
  await load({ port: sandbox.node(1), connections: 50, seconds: 3, request, replyEnd: 'STORED\r\n' })
}
