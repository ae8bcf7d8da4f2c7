import { once } from 'node:events'
import { connect } from 'node:net'
import { load, median } from './support/load.ts'
import { paced, quantile } from './support/paced.ts'
import { milliseconds, perSecond, type Question } from './support/result.ts'
import { BenchSandbox } from './support/sandbox.ts'

const rounds = 5
const seconds = 4
const connections = 100
const keys = 20_000
const filler = 'x'.repeat(80)

/** How long a set takes, and until the other node has it, while the pair is half busy. */
export const question: Question = {
  name: 'latency',
  title: 'Latency of sets at half of the peak rate',
  text: `A whole \`pair\` sandbox and the load on the same machine. The peak is what 200 connections reach in a closed loop; then half of that rate, open loop, over ${connections} connections of node 1, timed from when each set was due. Meanwhile one reader asks node 2 for one key at a time, over and over, until it has a newly written value: timed from when that set was due. ${rounds} rounds. Goals: p99 ≤ 8 ms acknowledged, ≤ 15 ms visible.`,
  run: async (progress) => {
    const sandbox = await BenchSandbox.start()
    try {
      const all: Record<'rate' | 'acknowledged50' | 'acknowledged99' | 'visible50' | 'visible99', number[]> = {
        rate: [],
        acknowledged50: [],
        acknowledged99: [],
        visible50: [],
        visible99: [],
      }
      for (let round = 1; round <= rounds; round++) {
        const peak = await load({
          port: sandbox.node(1),
          connections: 200,
          seconds: 2,
          request: (connection, number) => setRequest(connection * 7919 + number * 104_729, 0),
          replyEnd: 'STORED\r\n',
        })
        const watcher = await Watcher.open(sandbox.node(2))
        const rate = peak.perSecond / 2
        const acknowledged = await paced({
          port: sandbox.node(1),
          connections,
          seconds,
          rate,
          request: (number, dueAt) => {
            watcher.note(number % keys, dueAt)
            return setRequest(number, dueAt)
          },
          replyEnd: 'STORED\r\n',
        })
        const visible = watcher.close()
        all.rate.push(rate)
        all.acknowledged50.push(quantile(acknowledged, 0.5))
        all.acknowledged99.push(quantile(acknowledged, 0.99))
        all.visible50.push(quantile(visible, 0.5))
        all.visible99.push(quantile(visible, 0.99))
        progress(
          `round ${round} of ${rounds}: ${perSecond(rate)}, p99 ${milliseconds(quantile(acknowledged, 0.99))} acknowledged, ${milliseconds(quantile(visible, 0.99))} visible (${visible.length} looked at)`,
        )
      }
      return [
        {
          contestant: 'set acknowledged',
          figures: {
            rate: perSecond(median(all.rate)),
            p50: milliseconds(median(all.acknowledged50)),
            p99: milliseconds(median(all.acknowledged99)),
            goal: 'p99 ≤ 8 ms',
          },
        },
        {
          contestant: 'visible on the other node',
          figures: {
            rate: perSecond(median(all.rate)),
            p50: milliseconds(median(all.visible50)),
            p99: milliseconds(median(all.visible99)),
            goal: 'p99 ≤ 15 ms',
          },
        },
      ]
    } finally {
      await sandbox.remove()
    }
  },
}

/** The value tells when it was due. */
function setRequest(number: number, dueAt: number): string {
  const value = `${dueAt.toFixed(3)} ${filler}`
  return `set k${number % keys} 0 0 ${value.length}\r\n${value}\r\n`
}

/** Picks a set that is just being sent, and asks the other node for its key until that value, or a later one, is there. */
class Watcher {
  readonly #socket
  readonly #seen: number[] = []
  #wanted: { key: number; dueAt: number } | undefined

  private constructor(socket: ReturnType<typeof connect>) {
    this.#socket = socket
    let text = ''
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1')
      if (!text.endsWith('END\r\n')) return
      const found = Number(/\r\n([\d.]+) /.exec(text)?.[1] ?? 0)
      text = ''
      const wanted = this.#wanted
      if (wanted === undefined) return
      if (found >= wanted.dueAt - 0.001) {
        this.#seen.push(performance.now() - wanted.dueAt)
        this.#wanted = undefined
      } else {
        this.#ask(wanted.key)
      }
    })
  }

  static async open(port: number): Promise<Watcher> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    await once(socket, 'connect')
    return new Watcher(socket)
  }

  note(key: number, dueAt: number): void {
    if (this.#wanted !== undefined) return
    this.#wanted = { key, dueAt }
    this.#ask(key)
  }

  close(): readonly number[] {
    this.#socket.destroy()
    return this.#seen.toSorted((a, b) => a - b)
  }

  #ask(key: number): void {
    this.#socket.write(`get k${key}\r\n`)
  }
}
