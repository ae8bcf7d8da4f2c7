import { memcaslap } from './support/memcaslap.ts'
import { paced } from './support/paced.ts'
import { perSecond, type Question, ratio } from './support/result.ts'
import { inTurn, toOther } from './support/rounds.ts'
import { BenchSandbox } from './support/sandbox.ts'
import { Memcached } from '../test/support/memcached.ts'

const rounds = 5
const seconds = 4
const writesPerSecond = 5000
const value = 'x'.repeat(100)
const direct = 'memcached of a node, while the node applies'
const plain = 'memcached alone, written to by a client'

/** What it costs a reader of a node's memcached that the node writes to it. */
export const question: Question = {
  name: 'direct',
  title: 'Direct reads of a memcached while writes come in',
  text: `A \`single\` sandbox with one node that takes ${writesPerSecond.toLocaleString('en')} sets/s at its listener and applies them to its memcached, which memcaslap reads directly (50 connections, 100 B); against a memcached of its own that gets the same sets directly. ${rounds} rounds in turn. Goal: 0.95 ×. The node and its database work on the same cores: their share is a part of the price here, and none where they have cores of their own.`,
  run: async (progress) => {
    const sandbox = await BenchSandbox.start(['--topology', 'single', '--nodes', '1', '--memory', '1024'])
    const alone = await Memcached.start(['-m', '1024'])
    try {
      const once = (read: number, written: number) => async () => {
        const writing = paced({
          port: written,
          connections: 20,
          seconds: seconds + 2,
          rate: writesPerSecond,
          request: (number) => `set w${number % 50_000} 0 0 ${value.length}\r\n${value}\r\n`,
          replyEnd: 'STORED\r\n',
        })
        const { gets } = await memcaslap({ port: read, connections: 50, seconds, valueBytes: 100, gets: 1 })
        await writing
        return { gets }
      }
      const standings = await inTurn(
        [
          { name: plain, once: once(alone.port, alone.port) },
          { name: direct, once: once(sandbox.memcached(1), sandbox.node(1)) },
        ],
        rounds,
        progress,
      )
      return standings.map(({ name, figures }) => ({
        contestant: name,
        figures: {
          gets: perSecond(figures['gets'] ?? 0),
          'to memcached alone': ratio(toOther(standings, 'gets', name, plain)),
        },
      }))
    } finally {
      await alone.stop()
      await sandbox.remove()
    }
  },
}
