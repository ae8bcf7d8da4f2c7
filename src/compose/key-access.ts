import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { parseAddress } from '../config/address.ts'
import { WhiteholeError } from '../domain/errors.ts'
import type { Cluster } from './cluster.ts'

/** One key, through a serving node's key-prefix listener: what a client would do. */
export interface KeyAccess {
  get(key: string): Promise<{ value: Buffer; flags: string } | undefined>
  /** @param exptime in memcached's form: 0 never, relative seconds up to 30 days, above that absolute */
  set(key: string, item: { value: Buffer; flags: string; exptime: number }): Promise<void>
  /** False where there was nothing to delete. */
  delete(key: string): Promise<boolean>
}

const answerMilliseconds = 15_000

/** @throws WhiteholeError `not-serving` where no node serves; the node's own words for a refusal */
export async function withKeyAccess<T>(
  cluster: Cluster,
  namespace: string,
  work: (access: KeyAccess) => Promise<T>,
): Promise<T> {
  const { nodes } = await cluster.status()
  const address = nodes
    .filter(({ state }) => state === 'serving')
    .flatMap(({ listeners }) => listeners.filter((listener) => 'namespaceFrom' in listener))
    .map((listener) => parseAddress(listener.address))
    .find((parsed) => parsed !== undefined)
  if (address === undefined) {
    throw new WhiteholeError('not-serving', 'no node with a key-prefix listener serves: see "whitehole status"')
  }
  const socket = createConnection(address.kind === 'unix' ? { path: address.path } : address)
  const session = new TextSession(socket, namespace)
  try {
    await once(socket, 'connect')
    return await work(session)
  } finally {
    socket.destroy()
  }
}

/** The little of memcached's text protocol that one request at a time needs. */
class TextSession implements KeyAccess {
  readonly #socket: Socket
  readonly #namespace: string
  #received = Buffer.alloc(0)
  #failure: Error | undefined
  #wake: () => void = () => {}

  constructor(socket: Socket, namespace: string) {
    this.#socket = socket
    this.#namespace = namespace
    socket.setTimeout(answerMilliseconds, () => socket.destroy(new Error('the node did not answer in time')))
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk])
      this.#wake()
    })
    socket.on('error', (error) => this.#fail(error))
    socket.on('close', () => this.#fail(new Error('the node closed the connection')))
  }

  async get(key: string): Promise<{ value: Buffer; flags: string } | undefined> {
    this.#send(`get ${this.#full(key)}\r\n`)
    const head = await this.#line()
    if (head === 'END') return undefined
    const match = /^VALUE \S+ (\d+) (\d+)$/.exec(head)
    if (match === null) throw refused(head)
    const length = Number(match[2])
    const body = await this.#take((received) => (received.length >= length + 2 ? length + 2 : undefined))
    await this.#line()
    return { value: body.subarray(0, length), flags: match[1] ?? '0' }
  }

  async set(key: string, item: { value: Buffer; flags: string; exptime: number }): Promise<void> {
    const { value, flags, exptime } = item
    this.#send(`set ${this.#full(key)} ${flags} ${exptime} ${value.length}\r\n`)
    this.#socket.write(value)
    this.#socket.write('\r\n')
    const reply = await this.#line()
    if (reply !== 'STORED') throw refused(reply)
  }

  async delete(key: string): Promise<boolean> {
    this.#send(`delete ${this.#full(key)}\r\n`)
    const reply = await this.#line()
    if (reply !== 'DELETED' && reply !== 'NOT_FOUND') throw refused(reply)
    return reply === 'DELETED'
  }

  #full(key: string): string {
    return `${this.#namespace}:${key}`
  }

  #send(text: string): void {
    this.#socket.write(Buffer.from(text, 'utf8'))
  }

  async #line(): Promise<string> {
    const line = await this.#take((received) => {
      const end = received.indexOf('\r\n')
      return end < 0 ? undefined : end + 2
    })
    return line.subarray(0, -2).toString('utf8')
  }

  async #take(measure: (received: Buffer) => number | undefined): Promise<Buffer> {
    for (;;) {
      const length = measure(this.#received)
      if (length !== undefined) {
        const taken = this.#received.subarray(0, length)
        this.#received = this.#received.subarray(length)
        return taken
      }
      if (this.#failure !== undefined) throw this.#failure
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error
    this.#wake()
  }
}

function refused(reply: string): Error {
  return new Error(`the node refused: ${reply}`)
}
