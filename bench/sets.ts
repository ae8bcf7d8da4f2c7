import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise'
import { load, median, type LoadResult } from './support/load.ts'
import { milliseconds, perSecond, type Question, ratio, type Row } from './support/result.ts'
import { BenchSandbox } from './support/sandbox.ts'

const rounds = 3
const seconds = 4
const value = 'x'.repeat(100)
const keys = 100_000

/** Replicated, durable sets of 100 bytes through one node of a whole `pair` sandbox with two nodes. */
export const question: Question = {
  name: 'sets',
  title: 'Sets through one node, acknowledged through the standby',
  text: `A whole \`pair\` sandbox (two databases, two memcached, two nodes) and the load on the same machine; 100-byte values, ${keys.toLocaleString('en')} keys; each connection waits for its reply. The seed's way is one \`CALL set_key\` a connection and write, committed on both databases by semi-sync, not waiting for any memcached. Goal: 15,000/s from 200 connections.`,
  run: async (progress) => {
    const sandbox = await BenchSandbox.start()
    try {
      const rows: Row[] = []
      for (const connections of [50, 200]) {
        const node: LoadResult[] = []
        const seed: LoadResult[] = []
        for (let round = 0; round < rounds; round++) {
          node.push(
            await load({ port: sandbox.node(1), connections, seconds, request: setRequest, replyEnd: 'STORED\r\n' }),
          )
          seed.push(await seedsWay(sandbox, Math.min(connections, 150)))
          progress(
            `${connections} connections, round ${round + 1}: node ${perSecond(node.at(-1)?.perSecond ?? 0)}, seed's way ${perSecond(seed.at(-1)?.perSecond ?? 0)}`,
          )
        }
        const base = median(seed.map((one) => one.perSecond))
        rows.push(
          row(`whitehole, ${connections} connections`, node, base),
          row(`the seed's way, ${Math.min(connections, 150)} connections`, seed, base),
        )
      }
      return rows
    } finally {
      await sandbox.remove()
    }
  },
}

function setRequest(connection: number, number: number): string {
  return `set k${(connection * 7919 + number * 104_729) % keys} 0 0 ${value.length}\r\n${value}\r\n`
}

function row(contestant: string, results: readonly LoadResult[], base: number): Row {
  const rate = median(results.map((one) => one.perSecond))
  return {
    contestant,
    figures: {
      sets: perSecond(rate),
      p50: milliseconds(median(results.map((one) => one.p50Milliseconds))),
      p99: milliseconds(median(results.map((one) => one.p99Milliseconds))),
      "to the seed's way": ratio(rate / base),
    },
  }
}

async function seedsWay(sandbox: BenchSandbox, connections: number): Promise<LoadResult> {
  const { databases } = await sandbox.status()
  const socketPath = databases.find(({ role }) => role === 'primary')?.socket ?? ''
  const pool = await Promise.all(
    Array.from({ length: connections }, () => createConnection({ socketPath, user: 'root', database: 'memcached' })),
  )
  const id = await namespaceId(pool)
  const latencies: number[] = []
  const begin = performance.now()
  const countFrom = begin + seconds * 200
  const until = countFrom + seconds * 1000
  await Promise.all(
    pool.map(async (connection, index) => {
      for (let number = 0; performance.now() < until; number++) {
        const from = performance.now()
        await connection.query('CALL set_key(?, ?, ?, 0)', [id, `k${(index * 7919 + number * 104_729) % keys}`, value])
        if (from >= countFrom) latencies.push(performance.now() - from)
      }
    }),
  )
  for (const connection of pool) connection.destroy()
  latencies.sort((a, b) => a - b)
  const at = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? 0
  return {
    operations: latencies.length,
    seconds,
    perSecond: latencies.length / seconds,
    p50Milliseconds: at(0.5),
    p99Milliseconds: at(0.99),
  }
}

async function namespaceId(pool: readonly Connection[]): Promise<number> {
  const [first] = pool
  if (first === undefined) throw new Error('at least one connection is needed')
  const [rows] = await first.query<RowDataPacket[]>("SELECT ns('default') AS id")
  return Number(rows[0]?.['id'])
}
