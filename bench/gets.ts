import { memcaslap } from './support/memcaslap.ts'
import { type Peer, Peers } from './support/peers.ts'
import { perSecond, type Question, ratio, type Row } from './support/result.ts'
import { inTurn, type Standing, toOther } from './support/rounds.ts'
import { BenchSandbox } from './support/sandbox.ts'

const rounds = 5
const seconds = 4
/** More than 50 are open, but no more are busy: memcaslap would store half a million keys first. */
const busy = 50
const alone = 'memcached alone'

/** Reads through a node, through the proxies that one could have instead, and of memcached directly. */
export const question: Question = {
  name: 'gets',
  title: 'Gets through a node, through other proxies, and straight from memcached',
  text: `One memcached 1.6.18 of a \`single\` sandbox behind all contestants, each of one thread; memcaslap with one thread, ${busy} busy connections that wait for each reply, every get a hit; ${rounds} rounds in turn. Goals: 1.1 × the built-in proxy, 1.25 × nutcracker, 0.65 × memcached alone; multi-get 1.0 × the built-in proxy.`,
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
      contestants.push({ name: 'whitehole', port: sandbox.node(1) })
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

function row(load: string, { name, figures }: Standing, standings: readonly Standing[]): Row {
  const to = (other: string): string => {
    const value = toOther(standings, 'gets', name, other)
    return Number.isNaN(value) ? '' : ratio(value)
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
