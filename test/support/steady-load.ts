import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { until } from './processes.ts'

/** Clients that write without a pause, each its own keys, and remember what they were told. */
export class SteadyLoad {
  readonly clients: readonly LoadClient[]
  #running = true
  readonly #loops: Promise<void>[]

  private constructor(clients: readonly LoadClient[]) {
    this.clients = clients
    this.#loops = clients.map((client) => client.run(() => this.#running))
  }

  /** @param listeners main listeners of nodes, on loopback where no host is told; `clients` connections to each */
  static async start(
    listeners: readonly (number | { readonly host: string; readonly port: number })[],
    clients: number,
  ): Promise<SteadyLoad> {
    const made = listeners.flatMap((at, node) =>
      Array.from({ length: clients }, (_, n) => LoadClient.connect(at, { name: `load-${node}-${n}`, node })),
    )
    return new SteadyLoad(await Promise.all(made))
  }

  get acknowledged(): number {
    return this.clients.reduce((sum, { acknowledged }) => sum + acknowledged, 0)
  }

  get failures(): readonly string[] {
    return this.clients.flatMap(({ failures }) => failures)
  }

  /** Milliseconds from an instant of `performance.now()` until writes that were sent after this call are acknowledged through each node. */
  async writableAgain(since: number): Promise<number> {
    const nodes = [...new Set(this.clients.map(({ node }) => node))]
    const times = nodes.map(async (node) => {
      const mine = this.clients.filter((client) => client.node === node)
      const count = (): number => mine.reduce((sum, { acknowledged }) => sum + acknowledged, 0)
      // Each client waits for one answer at most.
      const before = count() + mine.length
      await until(`writes through node ${node + 1}`, () => count() > before, 120_000)
      return performance.now()
    })
    return Math.max(...(await Promise.all(times))) - since
  }

  /** The longest that any client waited for an acknowledgement, in milliseconds. */
  get longestMilliseconds(): number {
    return Math.max(...this.clients.map(({ longestMilliseconds }) => longestMilliseconds))
  }

  forgetLongest(): void {
    for (const client of this.clients) client.longestMilliseconds = 0
  }

  async stop(): Promise<void> {
    this.#running = false
    await Promise.all(this.#loops)
    for (const client of this.clients) client.close()
  }

  /** What is wrong with what a node holds now. */
  async check(read: (key: string) => Promise<string | undefined>): Promise<readonly string[]> {
    const wrong: string[] = []
    for (const client of this.clients) wrong.push(...(await client.check(read)))
    return wrong
  }
}

/** One connection: a value and a counter of its own, in turns. */
class LoadClient {
  /** From 0. */
  readonly node: number
  readonly #name: string
  readonly #socket: Socket
  #bytes = ''
  #told: ((line: string) => void) | undefined
  #sequence = 0
  acknowledged = 0
  readonly failures: string[] = []
  longestMilliseconds = 0
  #value: { last: number; maybe: number[] } = { last: 0, maybe: [] }
  #counter = { certain: 0, maybe: 0 }

  private constructor({ name, node }: { name: string; node: number }, socket: Socket) {
    this.#name = name
    this.node = node
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#bytes += chunk.toString('latin1')
      const end = this.#bytes.indexOf('\r\n')
      if (end === -1) return
      const line = this.#bytes.slice(0, end)
      this.#bytes = this.#bytes.slice(end + 2)
      this.#told?.(line)
    })
    socket.on('error', () => {})
    socket.on('close', () => this.#told?.('closed'))
  }

  static async connect(
    at: number | { host: string; port: number },
    as: { name: string; node: number },
  ): Promise<LoadClient> {
    const { host, port } = typeof at === 'number' ? { host: '127.0.0.1', port: at } : at
    const socket = createConnection({ port, host, noDelay: true })
    await once(socket, 'connect')
    return new LoadClient(as, socket)
  }

  async run(goes: () => boolean): Promise<void> {
    const made = await this.#ask(`set ${this.#name}-counter 0 0 1\r\n0\r\n`)
    if (made !== 'STORED') this.failures.push(made)
    while (goes()) {
      await this.#set()
      if (goes()) await this.#count()
    }
  }

  async check(read: (key: string) => Promise<string | undefined>): Promise<readonly string[]> {
    const value = Number(await read(`${this.#name}-value`))
    const counter = Number(await read(`${this.#name}-counter`))
    const wrong: string[] = []
    const { last, maybe } = this.#value
    // What was never answered may have happened, but not what an acknowledged one came after.
    if (value !== last && !maybe.some((one) => one > last && one === value)) {
      wrong.push(`${this.#name} holds ${value}; ${last} was acknowledged, ${maybe.join(', ')} may be`)
    }
    const { certain, maybe: unsure } = this.#counter
    if (counter < certain || counter > certain + unsure) {
      wrong.push(`${this.#name} counts ${counter}; ${certain} were acknowledged, ${unsure} more may be`)
    }
    return wrong
  }

  close(): void {
    this.#socket.destroy()
  }

  async #set(): Promise<void> {
    this.#sequence += 1
    const text = String(this.#sequence)
    const reply = await this.#ask(`set ${this.#name}-value 0 0 ${text.length}\r\n${text}\r\n`)
    if (reply === 'STORED') {
      this.#value.last = this.#sequence
      this.acknowledged += 1
    } else if (isUnknown(reply)) this.#value.maybe.push(this.#sequence)
    if (reply !== 'STORED') this.failures.push(reply)
  }

  async #count(): Promise<void> {
    const reply = await this.#ask(`incr ${this.#name}-counter 1\r\n`)
    if (/^\d+$/.test(reply)) {
      this.#counter.certain += 1
      this.acknowledged += 1
      return
    }
    if (isUnknown(reply)) this.#counter.maybe += 1
    this.failures.push(reply)
  }

  #ask(request: string): Promise<string> {
    const startedAt = performance.now()
    return new Promise((resolve) => {
      this.#told = (line) => {
        this.#told = undefined
        this.longestMilliseconds = Math.max(this.longestMilliseconds, performance.now() - startedAt)
        resolve(line)
      }
      this.#socket.write(request, 'latin1')
    })
  }
}

function isUnknown(reply: string): boolean {
  return reply.includes('outcome unknown') || reply === 'closed'
}
