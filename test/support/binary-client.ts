import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { headerBytes, readHeader } from '../../src/wire/memcached/binary-frame.ts'
import { encodeRequest, type Sent } from './binary-transcripts.ts'

export interface Frame {
  readonly opcode: number
  readonly status: number
  readonly opaque: number
  readonly cas: bigint
  readonly extras: string
  readonly key: string
  readonly value: string
}

/** One connection that speaks the binary protocol. */
export class BinaryClient {
  readonly #socket: Socket
  #bytes: Buffer = Buffer.alloc(0)
  #wake: (() => void) | undefined
  closed = false

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk])
      this.#wake?.()
    })
    for (const event of ['close', 'error']) {
      socket.on(event, () => {
        this.closed = true
        this.#wake?.()
      })
    }
  }

  static async connect(port: number): Promise<BinaryClient> {
    const socket = createConnection({ port, host: '127.0.0.1', noDelay: true })
    await once(socket, 'connect')
    return new BinaryClient(socket)
  }

  /** All in one packet. */
  send(...requests: readonly (Sent | Buffer)[]): void {
    this.#socket.write(Buffer.concat(requests.map((one) => (Buffer.isBuffer(one) ? one : encodeRequest(one)))))
  }

  /** The next reply. */
  async read(): Promise<Frame> {
    for (;;) {
      const frame = this.#take()
      if (frame !== undefined) return frame
      if (this.closed) throw new Error(`the connection was closed; left: ${this.#bytes.toString('hex')}`)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  async ask(request: Sent): Promise<Frame> {
    this.send(request)
    return this.read()
  }

  /** Replies until one of this opaque, that one included. */
  async readUntil(opaque: number): Promise<Frame[]> {
    const frames: Frame[] = []
    do frames.push(await this.read())
    while (frames.at(-1)?.opaque !== opaque)
    return frames
  }

  /** Sends no more; still reads. */
  end(): void {
    this.#socket.end()
  }

  close(): void {
    this.#socket.destroy()
  }

  #take(): Frame | undefined {
    if (this.#bytes.length < headerBytes) return undefined
    const header = readHeader(this.#bytes)
    const end = headerBytes + header.bodyBytes
    if (this.#bytes.length < end) return undefined
    const keyAt = headerBytes + header.extrasBytes
    const frame = {
      opcode: header.opcode,
      status: this.#bytes.readUInt16BE(6),
      opaque: header.opaque,
      cas: header.cas,
      extras: this.#bytes.toString('hex', headerBytes, keyAt),
      key: this.#bytes.toString('latin1', keyAt, keyAt + header.keyBytes),
      value: this.#bytes.toString('latin1', keyAt + header.keyBytes, end),
    }
    this.#bytes = this.#bytes.subarray(end)
    return frame
  }
}
