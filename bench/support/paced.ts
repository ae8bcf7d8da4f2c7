import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

export interface PacedOptions {
  readonly port: number
  readonly connections: number
  readonly seconds: number
  /** Requests a second, over all connections. */
  readonly rate: number
  /** The request that was due at `dueAt` (by `performance.now()`). */
  readonly request: (number: number, dueAt: number) => string
  readonly replyEnd: string
}

/**
 * Open loop: requests are sent when they are due, however slow replies are, and timed from then: a server that stands still for a moment
 * pays for all that should have been asked meanwhile. Replies come in order on each connection.
 * @returns milliseconds, ascending; the first fifth of the time doesn't count
 */
export async function paced(options: PacedOptions): Promise<readonly number[]> {
  const { connections, rate, seconds, replyEnd } = options
  const sockets = await Promise.all(Array.from({ length: connections }, () => open(options.port)))
  const latencies: number[] = []
  const due: number[][] = sockets.map(() => [])
  const begin = performance.now()
  const countFrom = begin + seconds * 200
  for (const [index, socket] of sockets.entries()) {
    let tail = ''
    socket.on('data', (chunk) => {
      const text = tail + chunk.toString('latin1')
      let at = 0
      for (let end = text.indexOf(replyEnd); end !== -1; end = text.indexOf(replyEnd, at)) {
        at = end + replyEnd.length
        const dueAt = due[index]?.shift() ?? Infinity
        if (dueAt >= countFrom) latencies.push(performance.now() - dueAt)
      }
      tail = text.slice(at)
    })
  }
  let sent = 0
  await new Promise<void>((resolve) => {
    const tick = (): void => {
      const elapsed = performance.now() - begin
      for (const until = Math.floor((Math.min(elapsed, seconds * 1200) / 1000) * rate); sent < until; sent++) {
        const dueAt = begin + (sent / rate) * 1000
        due[sent % connections]?.push(dueAt)
        sockets[sent % connections]?.write(options.request(sent, dueAt), 'latin1')
      }
      if (elapsed < seconds * 1200) setTimeout(tick, 1)
      else resolve()
    }
    tick()
  })
  for (const [index, socket] of sockets.entries()) {
    const giveUpAt = performance.now() + 5000
    while ((due[index]?.length ?? 0) > 0 && performance.now() < giveUpAt) await new Promise((go) => setTimeout(go, 5))
    socket.destroy()
  }
  return latencies.toSorted((a, b) => a - b)
}

/** @param share from 0 to 1 */
export function quantile(ascending: readonly number[], share: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * share))] ?? Number.NaN
}

async function open(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  return socket
}
