import { setTimeout as sleep } from 'node:timers/promises'
import type { Connection } from 'mysql2/promise'
import { fill } from './support/fill.ts'
import { load, median } from './support/load.ts'
import { milliseconds, perSecond, type Question, ratio, type Row } from './support/result.ts'
import { BenchSandbox } from './support/sandbox.ts'

const million = 1_000_000
const thousand = 1000

/**
 * Three questions that want a million keys, on one filling: how fast is the retained log replayed, what does a flush cost as keys
 * grow, and does the node's memory grow with them.
 */
export const question: Question = {
  name: 'log',
  title: 'A million keys: replay, flush, memory',
  text: 'A `single` sandbox with one node. Keys are written by SQL, 5,000 to a transaction, 100-byte values. Replay: the node and its memcached are killed; timed from the node’s start of the rebuild to `serving`, over the entries in the log. Flush: `flush_all` until its reply, in turn on a namespace of 1,000 keys and one of 1,000,000. Memory: resident size of a freshly started node after a million entries, once for 10,000 keys and once for 1,000,000, and five seconds of gets. Goals: 300,000 entries/s; flush within 50 ms of each other; memory within 20 %.',
  run: async (progress) => {
    const sandbox = await BenchSandbox.start(['--topology', 'single', '--nodes', '1', '--memory', '1024'])
    try {
      const sql = await sandbox.primary()
      // As many entries as below, but of few keys: what grows then grows with the traffic.
      await fill(sql, 'sessions', million, thousand * 10)
      await settle(sandbox, { port: sandbox.prefixed(1), key: `sessions:k${thousand * 10 - 1}` })
      await touchNode(sandbox)
      const small = await nodeMemory(sandbox)
      progress(`memory with 10,000 keys: ${small.toFixed(0)} MiB`)
      await sandbox.whitehole('sandbox', 'stop', 'node1')
      await sandbox.whitehole('sandbox', 'start', 'node1')
      await fill(sql, 'default', million)
      await settle(sandbox, { port: sandbox.node(1), key: `k${million - 1}` })
      const large = await nodeMemory(sandbox)
      progress(`memory with 1,000,000 keys: ${large.toFixed(0)} MiB`)
      const replays: number[] = []
      for (let round = 0; round < 3; round++) {
        replays.push(await replay(sandbox))
        progress(`replay ${round + 1}: ${perSecond(replays.at(-1) ?? 0)}`)
      }
      const flushes = await flushRounds(sandbox, sql, progress)
      sql.destroy()
      return [
        {
          contestant: 'replay of the retained log',
          figures: { figure: perSecond(median(replays)), goal: '300,000/s' },
        },
        ...flushes,
        { contestant: 'memory, 10,000 keys', figures: { figure: `${small.toFixed(0)} MiB`, goal: '' } },
        {
          contestant: 'memory, 1,000,000 keys',
          figures: { figure: `${large.toFixed(0)} MiB`, goal: `≤ 1.20 ×: ${ratio(large / small)}` },
        },
      ]
    } finally {
      await sandbox.remove()
    }
  },
}

/** Resolves once the node answers with everything that was written. */
async function settle(sandbox: BenchSandbox, last: { port: number; key: string }): Promise<void> {
  for (;;) {
    const status = (await (await fetch(`${sandbox.http(1)}/v1/status`)).json()) as {
      state: string
      lagSeconds: number | null
    }
    const seen = await once(last.port, `get ${last.key}\r\n`)
    if (status.state === 'serving' && status.lagSeconds === 0 && seen.includes('VALUE')) return
    await sleep(200)
  }
}

async function touchNode(sandbox: BenchSandbox): Promise<void> {
  await load({
    port: sandbox.node(1),
    connections: 50,
    seconds: 5,
    request: (_, n) => `get k${n}\r\n`,
    replyEnd: 'END\r\n',
  })
}

async function nodeMemory(sandbox: BenchSandbox): Promise<number> {
  await touchNode(sandbox)
  const { nodes } = await sandbox.status()
  const samples: number[] = []
  for (let n = 0; n < 10; n++) {
    samples.push(await sandbox.memoryMiB(nodes[0]?.pid ?? 0))
    await sleep(300)
  }
  return median(samples)
}

async function metric(sandbox: BenchSandbox, name: string): Promise<number> {
  const text = await (await fetch(`${sandbox.http(1)}/metrics`)).text()
  return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? ([\\d.e+]+)$`, 'm').exec(text)?.[1] ?? 0)
}

/** @returns entries a second */
async function replay(sandbox: BenchSandbox): Promise<number> {
  await sandbox.whitehole('sandbox', 'kill', 'memcached1')
  await sandbox.whitehole('sandbox', 'kill', 'node1')
  await sandbox.whitehole('sandbox', 'start', 'memcached1')
  await sandbox.whitehole('sandbox', 'start', 'node1')
  for (;;) {
    const state = await fetch(`${sandbox.http(1)}/readyz`).then(
      (answer) => answer.status,
      () => 0,
    )
    if (state === 200) break
    await sleep(20)
  }
  return (
    (await metric(sandbox, 'whitehole_last_rebuild_entries')) /
    (await metric(sandbox, 'whitehole_last_rebuild_seconds'))
  )
}

async function flushRounds(sandbox: BenchSandbox, sql: Connection, progress: (line: string) => void): Promise<Row[]> {
  const times: Record<string, number[]> = { '1,000 keys': [], '1,000,000 keys': [] }
  for (let round = 0; round < 3; round++) {
    for (const [label, keys] of [
      ['1,000 keys', thousand],
      ['1,000,000 keys', million],
    ] as const) {
      await fill(sql, 'default', keys)
      await settle2(sandbox, keys)
      const from = performance.now()
      await once(sandbox.node(1), 'flush_all\r\n')
      times[label]?.push(performance.now() - from)
      progress(`flush of ${label}: ${milliseconds(times[label]?.at(-1) ?? 0)}`)
    }
  }
  return Object.entries(times).map(([label, list]) => ({
    contestant: `flush of ${label}`,
    figures: { figure: milliseconds(median(list)), goal: 'within 50 ms' },
  }))
}

async function settle2(sandbox: BenchSandbox, keys: number): Promise<void> {
  while (!(await once(sandbox.node(1), `get k${keys - 1}\r\n`)).includes('VALUE')) await sleep(50)
}

async function once(port: number, request: string): Promise<string> {
  const { connect } = await import('node:net')
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(request))
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      if (!/(END|OK|ERROR.*)\r\n$/.test(text)) return
      socket.destroy()
      resolve(text)
    })
    socket.on('error', reject)
  })
}
