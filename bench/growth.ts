import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { load, type LoadResult, median } from './support/load.ts'
import { milliseconds, perSecond, type Question, type Row } from './support/result.ts'
import { BenchSandbox } from './support/sandbox.ts'

const rounds = 3
const seconds = 2
const idleConnections = 10_000
const keys = 20_000

/** Where the knees are: throughput against connections, size of values and number of nodes; memory against idle connections. */
export const question: Question = {
  name: 'growth',
  title: 'Cost as work grows',
  text: `A whole \`pair\` sandbox and the load on the same machine; gets and sets through node 1 in a closed loop, of 100 B and from 50 connections where nothing else is said; medians of ${rounds} rounds. Nodes: sandboxes of 1, 2, 4 and 8, all sets through node 1, each node applies them. Idle connections: resident memory of node 1 with ${idleConnections.toLocaleString('en')} of them less that without, each. Goal: at most 20 KiB.`,
  run: async (progress) => {
    const rows: Row[] = []
    const sandbox = await BenchSandbox.start(['--memory', '1024'])
    try {
      for (const connections of [1, 10, 50, 200, 1000, 5000]) {
        rows.push(await measure(`${connections} connections`, { port: sandbox.node(1), connections, bytes: 100 }))
        progress(tell(rows))
      }
      for (const bytes of [10, 100, 1000, 10_000, 100_000, 1_000_000]) {
        const connections = bytes >= 100_000 ? 10 : 50
        const name = `${bytes.toLocaleString('en')} B, ${connections} connections`
        rows.push(await measure(name, { port: sandbox.node(1), connections, bytes }))
        progress(tell(rows))
      }
      rows.push(await idle(sandbox))
      progress(tell(rows))
    } finally {
      await sandbox.remove()
    }
    for (const nodes of [1, 2, 4, 8]) {
      const many = await BenchSandbox.start(['--nodes', String(nodes)])
      try {
        rows.push(await measure(`${nodes} nodes`, { port: many.node(1), connections: 50, bytes: 100 }))
        progress(tell(rows))
      } finally {
        await many.remove()
      }
    }
    return rows
  },
}

async function measure(
  contestant: string,
  { port, connections, bytes }: { port: number; connections: number; bytes: number },
): Promise<Row> {
  const value = 'x'.repeat(bytes)
  // Large values would else push each other out.
  const count = Math.max(10, Math.min(keys, Math.floor(100_000_000 / bytes)))
  const key = (connection: number, number: number): string => `k${(connection * 7919 + number * 104_729) % count}`
  const sets: LoadResult[] = []
  const gets: LoadResult[] = []
  for (let round = 0; round < rounds; round++) {
    const request = (connection: number, number: number): string =>
      `set ${key(connection, number)} 0 0 ${bytes}\r\n${value}\r\n`
    sets.push(await load({ port, connections, seconds, request, replyEnd: 'STORED\r\n' }))
    gets.push(
      await load({ port, connections, seconds, request: (c, n) => `get ${key(c, n)}\r\n`, replyEnd: 'END\r\n' }),
    )
  }
  const of = (all: readonly LoadResult[], figure: keyof LoadResult): number => median(all.map((one) => one[figure]))
  return {
    contestant,
    figures: {
      sets: perSecond(of(sets, 'perSecond')),
      'p99 of sets': milliseconds(of(sets, 'p99Milliseconds')),
      gets: perSecond(of(gets, 'perSecond')),
      'p99 of gets': milliseconds(of(gets, 'p99Milliseconds')),
    },
  }
}

async function idle(sandbox: BenchSandbox): Promise<Row> {
  const { nodes } = await sandbox.status()
  const pid = nodes[0]?.pid ?? 0
  const before = await sandbox.memoryMiB(pid)
  const sockets: Socket[] = []
  try {
    while (sockets.length < idleConnections) {
      const some = Array.from({ length: 500 }, () => connect({ port: sandbox.node(1), host: '127.0.0.1' }))
      sockets.push(...some)
      await Promise.all(some.map(async (socket) => once(socket, 'connect')))
    }
    // Each has asked once: what a connection needs only when it speaks is there.
    await Promise.all(
      sockets.map(async (socket) => {
        socket.write('get nothing\r\n')
        await once(socket, 'data')
      }),
    )
    const each = ((await sandbox.memoryMiB(pid)) - before) * (1024 / idleConnections)
    return {
      contestant: `${idleConnections.toLocaleString('en')} idle connections`,
      figures: { 'memory each': `${each.toFixed(1)} KiB` },
    }
  } finally {
    for (const socket of sockets) socket.destroy()
  }
}

function tell(rows: readonly Row[]): string {
  const last = rows.at(-1)
  const figures = Object.entries(last?.figures ?? {}).map(([name, value]) => `${name} ${value}`)
  return `${last?.contestant}: ${figures.join(', ')}`
}
