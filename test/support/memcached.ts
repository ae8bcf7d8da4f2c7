import { createConnection, type Socket } from 'node:net'
import { once } from 'node:events'
import { userInfo } from 'node:os'
import { here, type Place } from './network.ts'
import { freePort, Program, until } from './processes.ts'

/** WHITEHOLE_TEST_MEMCACHED: the same tests with another release. */
const defaultPath = process.env['WHITEHOLE_TEST_MEMCACHED'] ?? '/usr/bin/memcached'

/** A real memcached of the test's own, on a free loopback port. */
export class Memcached {
  readonly port: number
  readonly #path: string
  readonly #options: readonly string[]
  readonly #place: Place
  #program: Program

  private constructor(port: number, given: { path: string; options: readonly string[]; place: Place }) {
    this.port = port
    this.#path = given.path
    this.#options = given.options
    this.#place = given.place
    this.#program = this.#spawn()
  }

  /** @param options further options of memcached; `path` another binary than Debian's */
  static async start(options: readonly string[] = [], path = defaultPath, place = here): Promise<Memcached> {
    const memcached = new Memcached(await freePort(), { path, options, place })
    await memcached.#ready()
    return memcached
  }

  get address(): string {
    return `${this.#place.host}:${this.port}`
  }

  get program(): Program {
    return this.#program
  }

  /** One dialogue with it, behind the back of whoever fills it. */
  ask(send: string | Buffer, end: RegExp): Promise<string> {
    return dialogue(this.port, send, end, this.#place.host)
  }

  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.#program.stop(signal)
  }

  /** Starts it again on the same port, empty. */
  async restart(): Promise<void> {
    await this.stop()
    this.#program = this.#spawn()
    await this.#ready()
  }

  #spawn(): Program {
    const user = userInfo().uid === 0 ? ['-u', 'root'] : []
    const [command, args] = this.#place.command(this.#path, [
      '-l',
      this.#place.host,
      '-p',
      String(this.port),
      '-U',
      '0',
      '-I',
      '2m',
      '-m',
      '64',
      ...user,
      ...this.#options,
    ])
    return new Program(command, args)
  }

  async #ready(): Promise<void> {
    await until('memcached to answer', async () => {
      if (!this.#program.running) throw new Error(`it ended: ${this.#program.output}`)
      return (await this.ask('version\r\n', /\r\n$/)).startsWith('VERSION')
    })
  }
}

/** Sends bytes over a connection of their own and returns the reply, as latin1 text, once it matches `end`. */
export async function dialogue(port: number, send: string | Buffer, end: RegExp, host = '127.0.0.1'): Promise<string> {
  const socket = createConnection(port, host)
  try {
    await once(socket, 'connect')
    socket.write(typeof send === 'string' ? Buffer.from(send, 'latin1') : send)
    return await readUntil(socket, end)
  } finally {
    socket.destroy()
  }
}

export async function readUntil(socket: Socket, end: RegExp, timeoutMilliseconds = 20_000): Promise<string> {
  let text = ''
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => finish(new Error(`no reply that matches ${end}; so far: ${JSON.stringify(text)}`)),
      timeoutMilliseconds,
    )
    const onData = (chunk: Buffer): void => {
      text += chunk.toString('latin1')
      if (end.test(text)) finish()
    }
    const onEnd = (): void => finish(new Error(`the connection was closed; so far: ${JSON.stringify(text)}`))
    const finish = (error?: Error): void => {
      clearTimeout(timer)
      socket.off('data', onData).off('close', onEnd).off('error', finish)
      if (error === undefined) resolve(text)
      else reject(error)
    }
    socket.on('data', onData).on('close', onEnd).on('error', finish)
  })
}
