import { once } from 'node:events'
import { createConnection, createServer, type Server, type Socket } from 'node:net'

export interface LinkRoute {
  readonly port: number
  readonly to: number
}

const loopback = '127.0.0.1'
/** On its way in one direction of one connection; above it the sender is not read. */
const bytesMax = 16 * 1024 * 1024

/**
 * What lies between two data centres of a sandbox: connections to `port` come out at `to`, each byte so much later, in its order. To stop
 * it is to cut the link.
 */
export class Link {
  readonly #servers: readonly Server[]
  readonly #sockets = new Set<Socket>()

  private constructor(servers: readonly Server[]) {
    this.#servers = servers
  }

  /** @throws where a port is taken */
  static async start(routes: readonly LinkRoute[], delayMilliseconds: number): Promise<Link> {
    const servers = routes.map(() => createServer({ allowHalfOpen: true }))
    const link = new Link(servers)
    for (const [index, { port, to }] of routes.entries()) {
      const server = servers[index]
      if (server === undefined) continue
      server.on('connection', (near) => link.#join(near, to, delayMilliseconds))
      server.listen(port, loopback)
      await once(server, 'listening')
    }
    return link
  }

  stop(): void {
    for (const server of this.#servers) server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #join(near: Socket, to: number, delayMilliseconds: number): void {
    const far = createConnection({ port: to, host: loopback, allowHalfOpen: true })
    const forget = (): void => {
      for (const socket of [near, far]) {
        socket.destroy()
        this.#sockets.delete(socket)
      }
    }
    for (const socket of [near, far]) {
      this.#sockets.add(socket)
      socket.setNoDelay(true).on('error', forget)
      // What it said before it went is still on its way.
      socket.on('close', () => setTimeout(forget, delayMilliseconds).unref())
    }
    carry(near, far, delayMilliseconds)
    carry(far, near, delayMilliseconds)
  }
}

/** One direction: each part leaves so long after it came, the end of the stream too. */
function carry(from: Socket, to: Socket, delayMilliseconds: number): void {
  let bytes = 0
  const later = (work: () => void): void => {
    if (delayMilliseconds === 0) work()
    else setTimeout(work, delayMilliseconds)
  }
  const resume = (): void => {
    if (bytes + to.writableLength < bytesMax) from.resume()
  }
  to.on('drain', resume)
  from.on('data', (data) => {
    bytes += data.length
    if (bytes + to.writableLength >= bytesMax) from.pause()
    later(() => {
      bytes -= data.length
      if (to.writable) to.write(data)
      resume()
    })
  })
  from.on('end', () =>
    later(() => {
      if (to.writable) to.end()
    }),
  )
}
