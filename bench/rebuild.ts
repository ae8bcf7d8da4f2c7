import { setTimeout as sleep } from 'node:timers/promises'
import { fill } from './support/fill.ts'
import { load, median } from './support/load.ts'
import { perSecond, type Question, ratio } from './support/result.ts'
import { BenchSandbox } from './support/sandbox.ts'

const million = 1_000_000
const rounds = 3

/** How fast does a node get a million items back from a peer, and what do the peer's clients feel of it? */
export const question: Question = {
  name: 'rebuild',
  title: 'A million keys from a peer',
  text: 'A `single` sandbox with two nodes; 1,000,000 keys with 100-byte values, written by SQL. Rebuild: node 2’s memcached is killed; its own time from the begin of the rebuild to `serving`, over the items that it took. From the log: the same with the peer stopped. Reads of the donor: 50 connections, one get each at a time, for four seconds while node 2 rebuilds, over the mean of those right before and right after. Donor, receiver, both memcached, the database and the load share the machine’s cores; the processor time is that of both nodes and both memcached, an item: what else runs on the machine is hardly in it (150,000/s on two cores are 13.3 µs). Goals: 150,000 items/s; the donor keeps two thirds of its reads.',
  run: async (progress) => {
    const sandbox = await BenchSandbox.start(['--topology', 'single', '--nodes', '2', '--memory', '1024'])
    try {
      const sql = await sandbox.primary()
      await fill(sql, 'default', million)
      sql.destroy()
      for (const n of [1, 2]) await serving(sandbox, n, million)
      const rates: number[] = []
      const costs: number[] = []
      for (let round = 0; round < rounds; round++) {
        const before = await processorSeconds(sandbox, 'without')
        rates.push(await rebuild(sandbox, 2, 'keys'))
        costs.push((((await processorSeconds(sandbox, 'with')) - before) / million) * 1e6)
        progress(`from the peer ${round + 1}: ${perSecond(rates.at(-1) ?? 0)}, ${microseconds(costs.at(-1) ?? 0)}`)
      }
      const { alone, meanwhile, kept, busy } = await reads(sandbox, progress)
      await sandbox.whitehole('sandbox', 'stop', 'node1')
      const replays: number[] = []
      for (let round = 0; round < rounds; round++) {
        replays.push(await rebuild(sandbox, 2, 'entries'))
        progress(`from the log ${round + 1}: ${perSecond(replays.at(-1) ?? 0)}`)
      }
      const [peer, log] = [median(rates), median(replays)]
      return [
        { contestant: 'items from a peer', figures: { figure: perSecond(peer), ratio: '', goal: '150,000/s' } },
        {
          contestant: '… processor time an item',
          figures: { figure: microseconds(median(costs)), ratio: '', goal: '≤ 13.3 µs' },
        },
        { contestant: 'entries from the log', figures: { figure: perSecond(log), ratio: ratio(log / peer), goal: '' } },
        { contestant: 'donor’s reads, alone', figures: { figure: perSecond(alone), ratio: '', goal: '' } },
        {
          contestant: 'donor’s reads, while it gives',
          figures: { figure: perSecond(meanwhile), ratio: ratio(kept), goal: '≥ 0.67 ×' },
        },
        {
          contestant: 'items from a peer that is read',
          figures: { figure: perSecond(busy), ratio: ratio(busy / peer), goal: '' },
        },
      ]
    } finally {
      await sandbox.remove()
    }
  },
}

async function reads(
  sandbox: BenchSandbox,
  progress: (line: string) => void,
): Promise<{ alone: number; meanwhile: number; kept: number; busy: number }> {
  const alone: number[] = []
  const meanwhile: number[] = []
  const busy: number[] = []
  /** Each compared with what was there right before and right after: others use this machine. */
  const kept: number[] = []
  for (let round = 0; round < rounds; round++) {
    alone.push(await gets(sandbox, 4))
    progress(`donor alone: ${perSecond(alone.at(-1) ?? 0)}`)
    await sandbox.whitehole('sandbox', 'kill', 'memcached2')
    await sandbox.whitehole('sandbox', 'start', 'memcached2')
    while ((await metric(sandbox, 1, 'whitehole_donations')) === 0) await sleep(10)
    meanwhile.push(await gets(sandbox, 4))
    const stillGiving = (await metric(sandbox, 1, 'whitehole_donations')) > 0
    await serving(sandbox, 2)
    busy.push(await rateOf(sandbox, 2, 'keys'))
    const after = await gets(sandbox, 4)
    kept.push((meanwhile.at(-1) ?? 0) / (((alone.at(-1) ?? 0) + after) / 2))
    progress(
      `donor while it gives${stillGiving ? '' : ' (ended early)'}: ${perSecond(meanwhile.at(-1) ?? 0)}, ${ratio(kept.at(-1) ?? 0)}, and gives ${perSecond(busy.at(-1) ?? 0)}`,
    )
  }
  return { alone: median(alone), meanwhile: median(meanwhile), kept: median(kept), busy: median(busy) }
}

/** Of the nodes and their memcached; node 2's is a new process in each rebuild, so afterwards all of its time is counted, before none. */
async function processorSeconds(sandbox: BenchSandbox, memcached2: 'with' | 'without'): Promise<number> {
  const { nodes } = await sandbox.status()
  const counted = nodes.flatMap(({ name, pid, memcached }) =>
    name === 'node2' && memcached2 === 'without' ? [pid] : [pid, memcached.pid],
  )
  return sandbox.processorSeconds(counted)
}

function microseconds(value: number): string {
  return `${value.toFixed(1)} µs`
}

async function gets(sandbox: BenchSandbox, seconds: number): Promise<number> {
  const { perSecond: rate } = await load({
    port: sandbox.node(1),
    connections: 50,
    seconds,
    request: (connection, n) => `get k${(connection * 7919 + n * 131) % million}\r\n`,
    replyEnd: 'END\r\n',
  })
  return rate
}

async function rebuild(sandbox: BenchSandbox, n: number, what: 'keys' | 'entries'): Promise<number> {
  const before = await metric(sandbox, n, 'whitehole_rebuilds_total')
  await sandbox.whitehole('sandbox', 'kill', `memcached${n}`)
  await sandbox.whitehole('sandbox', 'start', `memcached${n}`)
  while ((await metric(sandbox, n, 'whitehole_rebuilds_total')) === before) await sleep(20)
  await serving(sandbox, n)
  return rateOf(sandbox, n, what)
}

async function rateOf(sandbox: BenchSandbox, n: number, what: 'keys' | 'entries'): Promise<number> {
  const count = await metric(sandbox, n, `whitehole_last_rebuild_${what}`)
  return count / (await metric(sandbox, n, 'whitehole_last_rebuild_seconds'))
}

async function serving(sandbox: BenchSandbox, n: number, keys?: number): Promise<void> {
  for (;;) {
    const ready = await fetch(`${sandbox.http(n)}/readyz`).then(
      (answer) => answer.status === 200,
      () => false,
    )
    if (ready && (keys === undefined || (await applied(sandbox, n)) >= keys)) return
    await sleep(50)
  }
}

async function applied(sandbox: BenchSandbox, n: number): Promise<number> {
  const text = await (await fetch(`${sandbox.http(n)}/metrics`)).text()
  return Number(/^whitehole_applied_entries_total\{[^}]*kind="stores"[^}]*\} ([\d.e+]+)$/m.exec(text)?.[1] ?? 0)
}

async function metric(sandbox: BenchSandbox, n: number, name: string): Promise<number> {
  const text = await fetch(`${sandbox.http(n)}/metrics`).then(
    (answer) => answer.text(),
    () => '',
  )
  return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? ([\\d.e+]+)$`, 'm').exec(text)?.[1] ?? 0)
}
