import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

export interface PipelinedOptions {
  readonly port: number
  readonly connections: number
  readonly seconds: number
  /** Complete requests of one packet each; a connection takes one after the other. */
  readonly packets: readonly Buffer[]
  /** All replies to one packet together. */
  readonly replyBytes: number
}

/** Closed loop: each connection sends its next packet when it has as many bytes as the last one is answered with. @returns packets a second */
export async function pipelined(options: PipelinedOptions): Promise<number> {
  const until = performance.now() + options.seconds * 1000
  const counts = await Promise.all(
    Array.from({ length: options.connections }, async (_, index) => {
      const socket = connect({ port: options.port, host: '127.0.0.1', noDelay: true })
      await once(socket, 'connect')
      const count = await drive(socket, index, { ...options, until })
      socket.destroy()
      return count
    }),
  )
  return counts.reduce((sum, one) => sum + one, 0) / options.seconds
}

function drive(socket: Socket, index: number, options: PipelinedOptions & { until: number }): Promise<number> {
  const { packets, replyBytes, until } = options
  return new Promise((resolve, reject) => {
    let sent = 0
    let received = 0
    const next = (): void => {
      if (performance.now() >= until) resolve(sent)
      else socket.write(packets[(index * 7 + sent++) % packets.length] ?? Buffer.alloc(0))
    }
    socket.on('data', (chunk) => {
      received += chunk.length
      if (received > replyBytes) reject(new Error(`unexpected: ${chunk.toString('latin1').slice(0, 200)}`))
      if (received < replyBytes) return
      received = 0
      next()
    })
    socket.on('error', reject)
    socket.on('close', () => reject(new Error('the server closed the connection')))
    next()
  })
}
