import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { readUntil } from './memcached.ts'
import { normalized } from './transcripts.ts'

const fence = /(^|\n)MN\r\n$/

/** Sends the commands one by one, each behind the replies of the one before; a body that was announced too long takes the fence along. */
export async function converse(
  port: number,
  commands: readonly string[],
  cut: (bytes: Buffer) => readonly Buffer[],
): Promise<string[]> {
  const socket = createConnection({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  const replies: string[] = []
  try {
    for (const command of commands) {
      for (const piece of cut(Buffer.from(`${command}\r\nfoo\r\nmn\r\n`, 'latin1'))) await sent(socket, piece)
      replies.push(normalized(await readUntil(socket, fence)))
    }
  } finally {
    socket.destroy()
  }
  return replies
}

function sent(socket: Socket, piece: Buffer): Promise<void> {
  return new Promise((resolve) => socket.write(piece, () => resolve()))
}
