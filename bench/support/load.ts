import { connect, type Socket } from 'node:net'
import { once } from 'node:events'

export interface LoadResult {
  readonly operations: number
  readonly seconds: number
  readonly perSecond: number
  readonly p50Milliseconds: number
  readonly p99Milliseconds: number
}

export interface LoadOptions {
  readonly port: number
  readonly connections: number
  readonly seconds: number
  /** The bytes of the next request. */
  readonly request: (connection: number, number: number) => string
  /** What ends a reply. */
  readonly replyEnd: string
}

/**
 * Closed loop: each connection sends its next request when it has the last one's reply. Requests of the first fifth of the time warm
 * up and don't count.
 */
export async function load(options: LoadOptions): Promise<LoadResult> {
  const sockets = await Promise.all(Array.from({ length: options.connections }, () => open(options.port)))
  const latencies: number[] = []
  const begin = performance.now()
  const countFrom = begin + options.seconds * 200
  const until = countFrom + options.seconds * 1000
  await Promise.all(sockets.map((socket, index) => drive(socket, index, { ...options, countFrom, until, latencies })))
  for (const socket of sockets) socket.destroy()
  latencies.sort((a, b) => a - b)
  const at = (share: number): number =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0
  return {
    operations: latencies.length,
    seconds: options.seconds,
    perSecond: latencies.length / options.seconds,
    p50Milliseconds: at(0.5),
    p99Milliseconds: at(0.99),
  }
}

async function open(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  return socket
}

type Drive = LoadOptions & { countFrom: number; until: number; latencies: number[] }

function drive(socket: Socket, index: number, options: Drive): Promise<void> {
  return new Promise((resolve, reject) => {
    let sentAt = 0
    let number = 0
    let tail = ''
    const next = (): void => {
      sentAt = performance.now()
      if (sentAt >= options.until) return resolve()
      socket.write(options.request(index, number++), 'latin1')
    }
    socket.on('data', (chunk) => {
      tail =
        tail.length + chunk.length > 64 ? (tail + chunk.toString('latin1')).slice(-64) : tail + chunk.toString('latin1')
      if (!tail.endsWith(options.replyEnd)) {
        if (tail.includes('ERROR') && tail.endsWith('\r\n')) reject(new Error(`the server answered ${tail.trim()}`))
        return
      }
      tail = ''
      if (sentAt >= options.countFrom) options.latencies.push(performance.now() - sentAt)
      next()
    })
    socket.on('error', reject)
    socket.on('close', () => reject(new Error('the server closed the connection')))
    next()
  })
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2
}
