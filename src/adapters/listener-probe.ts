import { once } from 'node:events'
import { createConnection } from 'node:net'

export type ListenerAddress = { readonly host: string; readonly port: number } | { readonly path: string }

/**
 * One read through a node's own listener, as a client would do it: the whole way through its gateway to its memcached. Each time on a new
 * connection, so that a listener which accepts nobody is noticed.
 * @param key of an item that need not be there
 * Rejects where the reply is none, or an error of the server.
 */
export async function probeListener(address: ListenerAddress, key: string, signal: AbortSignal): Promise<void> {
  const socket = createConnection(address)
  const abort = (): void => void socket.destroy(signal.reason instanceof Error ? signal.reason : new Error('too late'))
  signal.addEventListener('abort', abort, { once: true })
  try {
    signal.throwIfAborted()
    await once(socket, 'connect')
    socket.write(`mg ${key} s\r\n`)
    let text = ''
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      text += chunk.toString('latin1')
      if (text.includes('\n')) break
    }
    // A namespace that it does not have is an answer, too.
    if (!/^(EN|HD|CLIENT_ERROR)\b/.test(text))
      throw new Error(`the listener answered ${JSON.stringify(text.slice(0, 100))}`)
  } finally {
    signal.removeEventListener('abort', abort)
    socket.on('error', () => {})
    socket.destroy()
  }
}
