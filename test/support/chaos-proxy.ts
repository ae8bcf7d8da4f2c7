import { once } from 'node:events'
import { type AddressInfo, createConnection, createServer, type Server, type Socket } from 'node:net'

type Direction = 'toClient' | 'toServer'

/**
 * A TCP proxy before a real server, on a free loopback port, that spoils connections on command. What it is told holds for the
 * connections at hand and for later ones.
 */
export class ChaosProxy {
  readonly #server: Server
  readonly #targetPort: number
  readonly #pairs = new Set<{ client: Socket; target: Socket }>()
  readonly #silent = new Set<Direction>()
  #delayMilliseconds = 0
  #sliceBytes = Number.POSITIVE_INFINITY
  #corrupt: ((data: Buffer) => Buffer) | undefined
  #bytesLeft = Number.POSITIVE_INFINITY
  #bytesToClient = 0
  #isReading = true

  private constructor(targetPort: number) {
    this.#targetPort = targetPort
    // Half-open, so that the end of one direction passes through as it is.
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#accept(client))
  }

  static async start(targetPort: number): Promise<ChaosProxy> {
    const proxy = new ChaosProxy(targetPort)
    proxy.#server.listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    return proxy
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get connections(): number {
    return this.#pairs.size
  }

  get bytesToClient(): number {
    return this.#bytesToClient
  }

  /** Swallows all bytes of a direction; the connection stays. */
  silence(...directions: Direction[]): void {
    for (const direction of directions) this.#silent.add(direction)
  }

  /** Passes bytes on again; what was swallowed is gone. */
  speak(): void {
    this.#silent.clear()
  }

  /** What passes comes so much later, in its order, its end too. */
  delay(milliseconds: number): void {
    this.#delayMilliseconds = milliseconds
  }

  /** Cuts what passes into packets of at most so many bytes, in both directions. */
  slice(bytes: number): void {
    this.#sliceBytes = bytes
  }

  /** Lets `change` alter the next bytes to the client, once it returns others than it was given. */
  corruptOnce(change: (data: Buffer) => Buffer): void {
    this.#corrupt = change
  }

  /** Cuts the connections once so many more bytes have gone to the client. */
  cutAfter(bytes: number): void {
    this.#bytesLeft = bytes
  }

  /** Stops taking bytes from the server, as a network does whose other end is full. */
  stopReading(): void {
    this.#isReading = false
    for (const { target } of this.#pairs) target.pause()
  }

  startReading(): void {
    this.#isReading = true
    for (const { target } of this.#pairs) target.resume()
  }

  /** Ends all connections at once, without a farewell. */
  cut(): void {
    for (const { client, target } of this.#pairs) {
      client.resetAndDestroy()
      target.resetAndDestroy()
    }
    this.#pairs.clear()
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.cut()
    await closed
  }

  #accept(client: Socket): void {
    const target = createConnection({ port: this.#targetPort, host: '127.0.0.1', allowHalfOpen: true })
    const pair = { client, target }
    const toServer = new Passage(target)
    const toClient = new Passage(client)
    this.#pairs.add(pair)
    const forget = (): void => {
      client.destroy()
      target.destroy()
      this.#pairs.delete(pair)
    }
    for (const socket of [client, target]) socket.setNoDelay(true).on('error', forget)
    // What one side said before it went is still on its way.
    client.on('close', () => toServer.whenEmpty(forget))
    target.on('close', () => toClient.whenEmpty(forget))
    const end = (passage: Passage): void => passage.push(undefined, this.#pace())
    client.on('data', (data) => this.#pass('toServer', toServer, data)).on('end', () => end(toServer))
    target.on('data', (data) => this.#passToClient(toClient, data)).on('end', () => end(toClient))
    // A client that reads no more holds up the server, as without a proxy.
    client.on('drain', () => {
      if (this.#isReading) target.resume()
    })
    target.on('data', () => {
      if (client.writableNeedDrain) target.pause()
    })
    if (!this.#isReading) target.pause()
  }

  #passToClient(client: Passage, data: Buffer): void {
    let bytes = data
    if (this.#corrupt !== undefined) {
      bytes = this.#corrupt(data)
      if (bytes !== data) this.#corrupt = undefined
    }
    if (bytes.length < this.#bytesLeft) {
      this.#bytesLeft -= bytes.length
      this.#pass('toClient', client, bytes)
      return
    }
    this.#pass('toClient', client, bytes.subarray(0, this.#bytesLeft))
    this.#bytesLeft = Number.POSITIVE_INFINITY
    for (const { client: other, target } of this.#pairs) {
      other.end()
      target.destroy()
    }
  }

  #pass(direction: Direction, passage: Passage, data: Buffer): void {
    if (this.#silent.has(direction)) return
    if (direction === 'toClient') this.#bytesToClient += data.length
    passage.push(data, this.#pace())
  }

  #pace(): Pace {
    return { delayMilliseconds: this.#delayMilliseconds, sliceBytes: this.#sliceBytes }
  }
}

interface Pace {
  readonly delayMilliseconds: number
  readonly sliceBytes: number
}

/** One direction of one connection: what is pushed comes out in its order, each part by the pace that held when it was pushed. */
class Passage {
  readonly #socket: Socket
  readonly #waiting: { readonly data: Buffer | undefined; readonly dueAt: number; readonly sliceBytes: number }[] = []
  #passing = false
  #onEmpty: (() => void) | undefined

  constructor(socket: Socket) {
    this.#socket = socket
  }

  whenEmpty(then: () => void): void {
    if (this.#passing) this.#onEmpty = then
    else then()
  }

  /** @param data undefined: the end */
  push(data: Buffer | undefined, { delayMilliseconds, sliceBytes }: Pace): void {
    const atOnce = delayMilliseconds === 0 && (data === undefined || data.length <= sliceBytes)
    if (atOnce && !this.#passing) {
      this.#put(data)
      return
    }
    this.#waiting.push({ data, dueAt: performance.now() + delayMilliseconds, sliceBytes })
    if (!this.#passing) void this.#passOn()
  }

  async #passOn(): Promise<void> {
    this.#passing = true
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      const { data, dueAt, sliceBytes } = next
      const early = dueAt - performance.now()
      if (early > 0) await new Promise((resolve) => setTimeout(resolve, early))
      if (data === undefined || data.length <= sliceBytes) this.#put(data)
      else await this.#slice(data, sliceBytes)
    }
    this.#passing = false
    this.#onEmpty?.()
  }

  async #slice(data: Buffer, sliceBytes: number): Promise<void> {
    for (let at = 0; at < data.length && !this.#socket.destroyed; at += sliceBytes) {
      this.#put(data.subarray(at, at + sliceBytes))
      // A turn of the event loop in between, so that each slice is a packet.
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  #put(data: Buffer | undefined): void {
    if (this.#socket.destroyed) return
    if (data === undefined) this.#socket.end()
    else this.#socket.write(data)
  }
}
