import { type Connection, createConnection, type RowDataPacket } from 'mysql2/promise'
import { load, type LoadResult } from './support/load.ts'
import { memcaslap } from './support/memcaslap.ts'
import { Peers } from './support/peers.ts'
import { milliseconds, perSecond, type Question, ratio, type Row } from './support/result.ts'
import { type Contestant, inTurn, toOther } from './support/rounds.ts'
import { BenchSandbox } from './support/sandbox.ts'

const rounds = 5
const seconds = 4
const value = 'x'.repeat(100)
const keys = 100_000
const redisName = 'Redis, appendfsync always, WAIT 1'
const seedName = "the seed's way"
const ourName = 'whitehole'
const slapName = 'whitehole, load from memcaslap'

/** Replicated, durable sets of 100 bytes through one node of a whole `pair` sandbox with two nodes. */
export const question: Question = {
  name: 'sets',
  title: 'Sets through one node, acknowledged through the standby',
  text: `A whole \`pair\` sandbox (two databases, two memcached, two nodes) and the load on the same machine; 100-byte values, ${keys.toLocaleString('en')} keys; each connection waits for its reply. The load is a Node process, about a sixth of all the work; once more that of memcaslap, which is written in C. Redis: a server and a replica, both \`appendfsync always\`, each SET followed by \`WAIT 1\`. The seed's way is one \`CALL set_key\` a connection and write, committed on both databases by semi-sync, not waiting for any memcached, from 150 connections at most. ${rounds} rounds in turn. Goals: 15,000/s from 200 connections; 1.0 × Redis; 10 × the seed's way.`,
  run: async (progress) => {
    const sandbox = await BenchSandbox.start()
    const peers = await Peers.make()
    try {
      const redis = await peers.redisPair()
      for (const lack of peers.missing) progress(`left out: ${lack}`)
      const rows: Row[] = []
      for (const connections of [50, 200]) {
        progress(`${connections} connections`)
        const contestants: Contestant[] = [
          {
            name: ourName,
            once: async () =>
              figuresOf(
                await load({
                  port: sandbox.node(1),
                  connections,
                  seconds,
                  request: (connection, number) =>
                    `set ${keyOf(connection, number)} 0 0 ${value.length}\r\n${value}\r\n`,
                  replyEnd: 'STORED\r\n',
                }),
              ),
          },
          {
            name: slapName,
            once: async () => {
              const { sets } = await memcaslap({
                port: sandbox.node(1),
                connections,
                seconds,
                valueBytes: value.length,
                gets: 0,
              })
              return { rate: sets }
            },
          },
          { name: seedName, once: async () => figuresOf(await seedsWay(sandbox, Math.min(connections, 150))) },
        ]
        if (redis !== undefined) {
          const request = (connection: number, number: number): string =>
            `SET ${keyOf(connection, number)} ${value}\r\nWAIT 1 1000\r\n`
          const options = { port: redis.port, connections, seconds, request, replyEnd: ':1\r\n' }
          contestants.push({ name: redisName, once: async () => figuresOf(await load(options)) })
        }
        const standings = await inTurn(contestants, rounds, progress)
        for (const { name, figures } of standings) {
          const to = (other: string): string => {
            const found = toOther(standings, 'rate', name, other)
            // Under one load alone they can be compared.
            return Number.isNaN(found) || name === slapName ? '' : ratio(found)
          }
          rows.push({
            contestant: `${connections} connections: ${name}`,
            figures: {
              sets: perSecond(figures['rate'] ?? 0),
              p50: time(figures['p50']),
              p99: time(figures['p99']),
              "to the seed's way": to(seedName),
              'to Redis': to(redisName),
            },
          })
        }
      }
      return rows
    } finally {
      await peers.stop()
      await sandbox.remove()
    }
  },
}

/** memcaslap tells none. */
function time(found: number | undefined): string {
  return found === undefined ? '' : milliseconds(found)
}

function keyOf(connection: number, number: number): string {
  return `k${(connection * 7919 + number * 104_729) % keys}`
}

function figuresOf({ perSecond: rate, p50Milliseconds, p99Milliseconds }: LoadResult): Record<string, number> {
  return { rate, p50: p50Milliseconds, p99: p99Milliseconds }
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
        await connection.query('CALL set_key(?, ?, ?, 0)', [id, keyOf(index, number), value])
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
