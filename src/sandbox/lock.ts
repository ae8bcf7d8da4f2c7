import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

/**
 * One `up` a folder: an abstract unix socket named after it, which the kernel frees with the process, however that ends.
 * @returns the release, or undefined where somebody else holds it
 */
export async function lockFolder(path: string): Promise<(() => void) | undefined> {
  const name = createHash('sha256').update(path).digest('hex').slice(0, 32)
  const server = createServer((socket) => socket.destroy())
  server.listen(`\0whitehole-sandbox-${name}`)
  try {
    await once(server, 'listening')
  } catch {
    return undefined
  }
  server.unref()
  return () => server.close()
}
