import { once } from 'node:events'
import { createConnection } from 'node:net'
import { WhiteholeError } from '../domain/errors.ts'
import type { ItemKey } from '../domain/key.ts'
import { decodeItemKey } from '../wire/memcached/item-key-text.ts'

/** Longer than any line of the watcher: a key of 250 bytes, each as `%XX`, and its fields. */
const lineBytesMax = 4096
/** A connection that died without a word is noticed by the kernel's probes. */
const keepAliveMilliseconds = 10_000

/**
 * memcached's own report of what it evicts, on a connection of its own, until the signal is aborted. memcached buffers little for
 * its watchers and drops lines that are not taken in time (tried: 726 of 2,460 in a burst on 1.6.18): `stats` has the whole number, this has the keys.
 * @param evicted called with the keys of what arrived together
 * @throws WhiteholeError `memcached-away` when the connection ends by itself; the signal's reason
 */
export async function watchEvictions(
  address: { readonly host: string; readonly port: number },
  evicted: (keys: readonly ItemKey[]) => void,
  signal: AbortSignal,
): Promise<never> {
  signal.throwIfAborted()
  const socket = createConnection({ host: address.host, port: address.port })
  socket.on('error', () => {})
  socket.setKeepAlive(true, keepAliveMilliseconds)
  const abort = (): void => void socket.destroy()
  signal.addEventListener('abort', abort, { once: true })
  try {
    await once(socket, 'connect', { signal })
    socket.setEncoding('latin1')
    socket.write('watch evictions\r\n')
    let rest = ''
    for await (const text of socket as AsyncIterable<string>) {
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      if (rest.length > lineBytesMax) throw new Error('a line without end')
      const keys = lines.flatMap(keyOf)
      if (keys.length > 0) evicted(keys)
    }
    throw new Error('memcached closed the connection')
  } catch (cause) {
    signal.throwIfAborted()
    throw new WhiteholeError('memcached-away', `the watch on evictions of ${address.host}:${address.port} ended`, {
      cause,
    })
  } finally {
    signal.removeEventListener('abort', abort)
    socket.destroy()
  }
}

/** `ts=1700000000.123456 gid=2 type=eviction key=default%3Ak0 fetch=no ttl=-1 la=0 clsid=12 size=1000` (1.6.18, 1.6.45). */
function keyOf(line: string): ItemKey[] {
  if (/^(ERROR|CLIENT_ERROR|SERVER_ERROR)/.test(line))
    throw new Error(`memcached refused: ${line.slice(0, 200).trim()}`)
  const key = / type=eviction key=(\S+)/.exec(line)?.[1]
  return key === undefined ? [] : [decodeItemKey(key)]
}
