import { memcaslap } from './support/memcaslap.ts'
import { type Peer, Peers } from './support/peers.ts'
import { pipelined } from './support/pipelined.ts'
import { perSecond, type Question, ratio, type Row } from './support/result.ts'
import { inTurn, type Standing, toOther } from './support/rounds.ts'
import { BenchSandbox } from './support/sandbox.ts'

const rounds = 5
const seconds = 4
/** More than 50 are open, but no more are busy: memcaslap would store half a million keys first. */
const busy = 50
const pipeline = { title: 'pipelined `mg`, 100 B', packet: 100, connections: 10, keys: 10_000 } as const
const alone = 'memcached alone'
const ourName = 'whitehole'

/** Reads through a node, through the proxies that one could have instead, and of memcached directly. */
export const question: Question = {
  name: 'gets',
  title: 'Gets through a node, through other proxies, and straight from memcached',
  text: `One memcached 1.6.18 of a \`single\` sandbox behind all contestants, each of one thread; memcaslap with one thread, ${busy} busy connections that wait for each reply, every get a hit, of some 50,000 keys; ${rounds} rounds in turn. The node’s near cache has its default of 64 MiB; keys that are all asked for alike, for four seconds, are hardly hot. Pipelined: ${pipeline.packet} \`mg\` in a packet, ${pipeline.connections} connections of a generator in Node. Goals: 1.1 × the built-in proxy, 1.25 × nutcracker, 0.65 × memcached alone; multi-get and pipelined \`mg\` 1.0 × the built-in proxy.`,
  run: async (progress) => {
    const sandbox = await BenchSandbox.start(['--topology', 'single', '--nodes', '1', '--memory', '1024'])
    const peers = await Peers.make()
    try {
      const backend = sandbox.memcached(1)
      const contestants: Peer[] = [{ name: alone, port: backend }]
      for (const peer of [
        await peers.builtInProxy(backend),
        await peers.nutcracker(backend),
        await peers.haproxy(backend),
      ]) {
        if (peer !== undefined) contestants.push(peer)
      }
      contestants.push({ name: ourName, port: sandbox.node(1) })
      for (const lack of peers.missing) progress(`left out: ${lack}`)
      const rows: Row[] = []
      for (const load of loads) {
        progress(load.title)
        const standings = await inTurn(
          contestants.map(({ name, port }) => ({
            name,
            once: async () => {
              const { gets } = await memcaslap({ port, busy, seconds, gets: 1, ...load.options })
              return { gets }
            },
          })),
          rounds,
          progress,
        )
        rows.push(...standings.map((standing) => row(load.title, standing, standings)))
      }
      const metas = contestants.filter(({ name }) => name !== 'nutcracker')
      rows.push(...(await pipelinedGets(sandbox, metas, progress)))
      return rows
    } finally {
      await peers.stop()
      await sandbox.remove()
    }
  },
}

const loads = [
  { title: '50 connections, 100 B', options: { connections: 50, valueBytes: 100 } },
  { title: '500 connections, 100 B', options: { connections: 500, valueBytes: 100 } },
  { title: '50 connections, 4 KiB', options: { connections: 50, valueBytes: 4096 } },
  { title: '50 connections, 100 B, 50 keys a get', options: { connections: 50, valueBytes: 100, keysPerGet: 50 } },
] as const

const value = 'x'.repeat(100)

/** nutcracker knows no meta commands. */
async function pipelinedGets(
  sandbox: BenchSandbox,
  contestants: readonly Peer[],
  progress: (line: string) => void,
): Promise<Row[]> {
  progress(pipeline.title)
  const keyOf = (number: number): string => `p${number % pipeline.keys}`
  const stored = Array.from(
    { length: pipeline.keys },
    (_, number) => `set ${keyOf(number)} 0 0 ${value.length}\r\n${value}\r\n`,
  )
  const all = Buffer.from(stored.join(''))
  await pipelined({
    port: sandbox.node(1),
    connections: 1,
    seconds: 0.001,
    packets: [all],
    replyBytes: stored.length * 8,
  })
  const packetsOf = (prefix: string): Buffer[] =>
    Array.from({ length: 256 }, (_, packet) =>
      Buffer.from(
        Array.from(
          { length: pipeline.packet },
          (_unused, at) => `mg ${prefix}${keyOf(packet * 7919 + at * 104_729)} v\r\n`,
        ).join(''),
      ),
    )
  const replyBytes = pipeline.packet * `VA ${value.length}\r\n${value}\r\n`.length
  const standings = await inTurn(
    contestants.map(({ name, port }) => {
      // A node puts the namespace in front by itself.
      const packets = packetsOf(name === ourName ? '' : 'default:')
      const options = { port, connections: pipeline.connections, seconds, packets, replyBytes }
      return { name, once: async () => ({ gets: (await pipelined(options)) * pipeline.packet }) }
    }),
    rounds,
    progress,
  )
  return standings.map((standing) => row(pipeline.title, standing, standings))
}

function row(load: string, { name, figures }: Standing, standings: readonly Standing[]): Row {
  const to = (other: string): string => {
    const share = toOther(standings, 'gets', name, other)
    return Number.isNaN(share) ? '' : ratio(share)
  }
  return {
    contestant: `${load}: ${name}`,
    figures: {
      keys: perSecond(figures['gets'] ?? 0),
      'to memcached': to(alone),
      'to the built-in proxy': to('built-in proxy'),
      'to nutcracker': to('nutcracker'),
    },
  }
}
