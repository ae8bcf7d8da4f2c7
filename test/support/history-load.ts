import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'

/** Keys that are read and written more often than the others: an older value after a newer one would show there. */
const hotKeys = 100
const filler = 'x'.repeat(80)

/** Sets without an answer: with more of them nothing is sent for a while, so that a machine that is too slow is late and not overrun. */
const waitingMax = 5000

/**
 * Open loop: sets at a steady rate, however slow replies are (up to `waitingMax`). A key belongs to one connection, so that its values have an order: each
 * value is the number of its write.
 */
export class PacedWriter {
  readonly keys: number
  readonly #prefix: string
  /** Of each key, the last that was acknowledged; 0 is none. */
  readonly acknowledged: Uint32Array
  readonly failures: string[] = []
  readonly #sent: Uint32Array
  readonly #sockets: readonly Socket[]
  readonly #waiting: { key: number; number: number }[][]
  readonly #rate: number
  #begin = 0
  #written = 0
  #answered = 0
  #timer: NodeJS.Timeout | undefined

  private constructor(
    sockets: readonly Socket[],
    { prefix, keys, rate }: { prefix: string; keys: number; rate: number },
  ) {
    this.#prefix = prefix
    this.keys = keys
    this.#rate = rate
    this.#sockets = sockets
    this.#waiting = sockets.map(() => [])
    this.acknowledged = new Uint32Array(keys)
    this.#sent = new Uint32Array(keys)
    for (const [index, socket] of sockets.entries()) this.#listen(index, socket)
  }

  /** @param rate writes a second, over all connections */
  static async start(
    port: number,
    { connections, ...load }: { connections: number; prefix: string; keys: number; rate: number },
  ): Promise<PacedWriter> {
    const writer = new PacedWriter(await open(port, connections), load)
    writer.#begin = performance.now()
    writer.#timer = setInterval(() => writer.#tick(), 2)
    return writer
  }

  get written(): number {
    return this.#written
  }

  /** Acknowledged, since its beginning. */
  get perSecond(): number {
    return this.#answered / ((performance.now() - this.#begin) / 1000)
  }

  /** Nothing more is sent; resolves once all is answered. */
  async stop(milliseconds: number): Promise<void> {
    clearInterval(this.#timer)
    const giveUpAt = performance.now() + milliseconds
    while (this.#unanswered > 0) {
      if (performance.now() > giveUpAt) {
        this.failures.push(`${this.#unanswered} writes were never answered`)
        break
      }
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    for (const socket of this.#sockets) socket.destroy()
  }

  get #unanswered(): number {
    return this.#written - this.#answered - this.failures.length
  }

  #tick(): void {
    const due = Math.floor(((performance.now() - this.#begin) / 1000) * this.#rate)
    const parts = this.#sockets.map(() => '')
    for (; this.#written < due && this.#unanswered < waitingMax; this.#written++) {
      const half = this.#written >>> 1
      const key = this.#written % 2 === 0 ? half % hotKeys : half % this.keys
      const number = (this.#sent[key] ?? 0) + 1
      this.#sent[key] = number
      const index = key % this.#sockets.length
      const value = `${number} ${filler}`
      parts[index] += `set ${this.#prefix}${key} 0 0 ${value.length}\r\n${value}\r\n`
      this.#waiting[index]?.push({ key, number })
    }
    for (const [index, part] of parts.entries()) if (part !== '') this.#sockets[index]?.write(part, 'latin1')
  }

  #listen(index: number, socket: Socket): void {
    let text = ''
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      const lines = (text + chunk.toString('latin1')).split('\r\n')
      text = lines.pop() ?? ''
      for (const line of lines) {
        const write = this.#waiting[index]?.shift()
        if (write !== undefined && line === 'STORED') {
          this.acknowledged[write.key] = write.number
          this.#answered += 1
        } else this.failures.push(line)
      }
    })
  }
}

/** Reads one node without a pause longer than a few milliseconds, over several connections, and judges every answer. */
export class HistoryReader {
  /** What must not be, as sentences. */
  readonly wrong: string[] = []
  /** Of each read, milliseconds; the part that fits. */
  readonly #milliseconds: number[] = []
  readonly #prefix: string
  readonly #keys: number
  /** Of each key, the newest value that any read has returned. */
  readonly #seen: Uint32Array
  readonly #sockets: readonly Socket[]
  #running = true
  #reads = 0
  readonly #loops: Promise<void>[]

  private constructor(sockets: readonly Socket[], { prefix, keys }: { prefix: string; keys: number }) {
    this.#sockets = sockets
    this.#prefix = prefix
    this.#keys = keys
    this.#seen = new Uint32Array(keys)
    this.#loops = sockets.map((socket) => this.#run(socket))
  }

  static async start(
    port: number,
    { connections, ...what }: { connections: number; prefix: string; keys: number },
  ): Promise<HistoryReader> {
    return new HistoryReader(await open(port, connections), what)
  }

  get reads(): number {
    return this.#reads
  }

  get p50Milliseconds(): number {
    const sorted = this.#milliseconds.toSorted((a, b) => a - b)
    return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
  }

  async stop(): Promise<void> {
    this.#running = false
    await Promise.all(this.#loops)
    for (const socket of this.#sockets) socket.destroy()
  }

  async #run(socket: Socket): Promise<void> {
    let told: ((text: string) => void) | undefined
    let text = ''
    socket.on('error', () => {})
    socket.on('close', () => told?.('closed'))
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1')
      if (!/(?:END|ERROR[^\r\n]*)\r\n$/.test(text)) return
      told?.(text)
      text = ''
    })
    while (this.#running) {
      const among = Math.random() < 0.75 ? hotKeys : this.#keys
      const key = Math.floor(Math.random() * among)
      // What a read returned before this one is asked is the least that this one may return.
      const floor = this.#seen[key] ?? 0
      const from = performance.now()
      const reply = await new Promise<string>((resolve) => {
        told = resolve
        socket.write(`get ${this.#prefix}${key}\r\n`)
      })
      if (!this.#running) return
      if (this.#milliseconds.length < 500_000) this.#milliseconds.push(performance.now() - from)
      this.#reads += 1
      this.#judge(key, floor, reply)
      if (reply === 'closed') return
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
  }

  #judge(key: number, floor: number, reply: string): void {
    const found = /^VALUE [a-z]+(\d+) 0 \d+\r\n(\d+) /.exec(reply)
    if (found === null) {
      const isFirst = reply === 'END\r\n' && floor === 0
      if (!isFirst) this.wrong.push(`${this.#prefix}${key}: ${JSON.stringify(reply.slice(0, 80))} after ${floor}`)
      return
    }
    const number = Number(found[2])
    if (Number(found[1]) !== key || number < floor) this.wrong.push(`${this.#prefix}${key}: ${number} after ${floor}`)
    this.#seen[key] = Math.max(this.#seen[key] ?? 0, number)
  }
}

async function open(port: number, connections: number): Promise<Socket[]> {
  return Promise.all(
    Array.from({ length: connections }, async () => {
      const socket = createConnection({ port, host: '127.0.0.1', noDelay: true })
      await once(socket, 'connect')
      return socket
    }),
  )
}
