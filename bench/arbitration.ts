import { load, type LoadResult, median } from './support/load.ts'
import { milliseconds, perSecond, type Question, type Row } from './support/result.ts'
import { BenchSandbox } from './support/sandbox.ts'

const rounds = 3
const seconds = 4
const connections = 200

/** Commands that are decided once for the whole cluster, through one node of a whole `pair` sandbox with two nodes. */
export const question: Question = {
  name: 'arbitration',
  title: 'Commands decided by the directory: incr and add',
  text: `A whole \`pair\` sandbox and the load on the same machine, ${connections} connections that wait for each reply. incr: 1,000 counters, all known. add: keys that are new each time. set beside them for comparison. Goal: 8,000/s each.`,
  run: async (progress) => {
    const sandbox = await BenchSandbox.start()
    try {
      const port = sandbox.node(1)
      const counters = { port, connections: 50, seconds: 2, replyEnd: 'STORED\r\n' }
      await load({
        ...counters,
        request: (connection, number) => `set c${(connection * 20 + number) % 1000} 0 0 1\r\n0\r\n`,
      })
      const contestants: [string, (connection: number, number: number, round: number) => string, string][] = [
        [
          'set',
          (connection, number) => `set s${(connection * 7919 + number * 104_729) % 100_000} 0 0 1\r\n0\r\n`,
          'STORED\r\n',
        ],
        ['incr', (connection, number) => `incr c${(connection * 7919 + number * 104_729) % 1000} 1\r\n`, '\r\n'],
        ['add', (connection, number, round) => `add a${round}-${connection}-${number} 0 0 1\r\n0\r\n`, 'STORED\r\n'],
      ]
      const results = new Map<string, LoadResult[]>()
      for (let round = 0; round < rounds; round++) {
        for (const [name, request, replyEnd] of contestants) {
          const result = await load({
            port,
            connections,
            seconds,
            replyEnd,
            request: (connection, number) => request(connection, number, round),
          })
          results.set(name, [...(results.get(name) ?? []), result])
          progress(`round ${round + 1}: ${name} ${perSecond(result.perSecond)}`)
        }
      }
      return [...results].map(([contestant, list]): Row => ({
        contestant,
        figures: {
          rate: perSecond(median(list.map((one) => one.perSecond))),
          p50: milliseconds(median(list.map((one) => one.p50Milliseconds))),
          p99: milliseconds(median(list.map((one) => one.p99Milliseconds))),
        },
      }))
    } finally {
      await sandbox.remove()
    }
  },
}
