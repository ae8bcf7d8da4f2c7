import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { WhiteholeError } from '../domain/errors.ts'

/** A balancer asks over a connection of its own each time; more at once are not its. */
const connectionsMax = 256
const connectionMilliseconds = 2000

/**
 * What HAProxy's `agent-check` asks: one line, then the end. A weight and no administrative state: `drain` and `ready` would undo what a person
 * has set in HAProxy. `up` takes back a `down` of ours.
 * @throws WhiteholeError `bad-configuration` where the address is taken
 */
export async function listenBalancerAgent(
  { host, port }: { readonly host: string; readonly port: number },
  weight: () => { readonly percent: number; readonly failure: string | null },
): Promise<{ close(): Promise<void> }> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    socket.setTimeout(connectionMilliseconds, () => socket.destroy())
    // Whatever is asked (`agent-send`) is not looked at.
    socket.resume()
    const { percent, failure } = weight()
    socket.end(failure === null ? `up ${percent}%\n` : 'down #it has stopped and needs a person\n')
  })
  server.maxConnections = connectionsMax
  server.listen(port, host)
  try {
    await once(server, 'listening')
  } catch (cause) {
    throw new WhiteholeError('bad-configuration', `cannot listen for balancers on ${host}:${port}`, { cause })
  }
  return {
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
