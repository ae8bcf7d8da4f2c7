import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { readUntil } from './memcached.ts'

/** One connection of a client, for a dialogue of several steps. */
export class Client {
  readonly #socket: Socket

  private constructor(socket: Socket) {
    this.#socket = socket
  }

  static async connect(target: number | string): Promise<Client> {
    const socket = typeof target === 'number' ? createConnection(target, '127.0.0.1') : createConnection(target)
    await once(socket, 'connect')
    socket.on('error', () => {})
    return new Client(socket)
  }

  /** Sends and returns what came until it matches `end`. */
  async ask(send: string | Buffer, end: RegExp): Promise<string> {
    const reply = readUntil(this.#socket, end)
    this.#socket.write(typeof send === 'string' ? Buffer.from(send, 'latin1') : send)
    return reply
  }

  /** One last question. */
  async finish(send: string, end: RegExp): Promise<string> {
    try {
      return await this.ask(send, end)
    } finally {
      this.close()
    }
  }

  close(): void {
    this.#socket.destroy()
  }
}
