import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'

/** Takes one mail, as SMTP goes, and keeps what it was told. */
export class MailServer {
  readonly #server: Server
  /** `MAIL` and `RCPT`, as they came. */
  readonly commands: string[] = []
  /** As it came, up to the dot that ends it. */
  message = ''

  private constructor() {
    this.#server = createServer((socket) => this.#serve(socket))
  }

  static async start(): Promise<MailServer> {
    const made = new MailServer()
    made.#server.listen(0, '127.0.0.1')
    await once(made.#server, 'listening')
    return made
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  stop(): void {
    this.#server.close()
  }

  #serve(socket: Socket): void {
    let bytes = ''
    let inMessage = false
    socket.write('220 test\r\n')
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.toString('latin1')
      for (let end = bytes.indexOf('\r\n'); end !== -1; end = bytes.indexOf('\r\n')) {
        const line = bytes.slice(0, end)
        bytes = bytes.slice(end + 2)
        if (inMessage && line !== '.') this.message += `${line}\r\n`
        else if (inMessage) {
          inMessage = false
          socket.write('250 taken\r\n')
        } else inMessage = this.#answer(socket, line)
      }
    })
  }

  /** @returns whether the message comes next */
  #answer(socket: Socket, line: string): boolean {
    const isData = line === 'DATA'
    if (/^(?:MAIL|RCPT) /.test(line)) this.commands.push(line)
    socket.write(isData ? '354 go on\r\n' : line === 'QUIT' ? '221 bye\r\n' : '250 ok\r\n')
    return isData
  }
}
