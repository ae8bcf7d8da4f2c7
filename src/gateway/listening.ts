import { lstat, unlink } from 'node:fs/promises'
import { createConnection, type Server } from 'node:net'
import { once } from 'node:events'
import { type Address, formatAddress } from '../config/address.ts'
import { WhiteholeError } from '../domain/errors.ts'

/**
 * Makes the server listen.
 * @throws WhiteholeError `bad-configuration` where the address can't be had
 */
export async function listenOn(server: Server, address: Address): Promise<void> {
  if (address.kind === 'unix') await removeLeftover(address.path)
  const listening = once(server, 'listening')
  if (address.kind === 'unix') server.listen({ path: address.path })
  else server.listen({ host: address.host, port: address.port, backlog: 1024 })
  try {
    await listening
  } catch (cause) {
    throw new WhiteholeError('bad-configuration', `can't listen on ${formatAddress(address)}: ${reasonOf(cause)}`, {
      cause,
    })
  }
}

/** A socket that nobody answers on is what a dead process left. */
async function removeLeftover(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined)
  if (found === undefined) return
  if (!found.isSocket()) {
    throw new WhiteholeError('bad-configuration', `can't listen on unix:${path}: there is a file that is no socket`)
  }
  if (await answers(path)) {
    throw new WhiteholeError('bad-configuration', `can't listen on unix:${path}: another process listens there`)
  }
  await unlink(path)
}

async function answers(path: string): Promise<boolean> {
  const socket = createConnection({ path })
  try {
    await once(socket, 'connect')
    return true
  } catch (error) {
    // Refused: nobody is behind it. Anything else, a full backlog for one, may be somebody.
    return codeOf(error) !== 'ECONNREFUSED' && codeOf(error) !== 'ENOENT'
  } finally {
    socket.destroy()
  }
}

function reasonOf(error: unknown): string {
  switch (codeOf(error)) {
    case 'EADDRINUSE':
      return 'another process listens there'
    case 'EACCES':
      return 'this user may not'
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return 'this machine has no such address'
    default:
      return error instanceof Error ? error.message : String(error)
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code
}
