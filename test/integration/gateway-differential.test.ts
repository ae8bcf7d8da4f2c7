import * as fc from 'fast-check'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newerMemcachedPath } from '../support/databases.ts'
import { dialogue, Memcached, readUntil } from '../support/memcached.ts'
import { MemoryGateway } from '../support/memory-gateway.ts'
import { dialogues } from '../support/random-dialogues.ts'
import { byteByByte, normalized } from '../support/transcripts.ts'

const fence = /(^|\n)MN\r\n$/

/** Sends the commands one by one, each behind the replies of the one before; a body that was announced too long takes the fence along. */
async function converse(
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

describe.runIf(existsSync(newerMemcachedPath))('a listener and memcached 1.6.45', () => {
  let memcached: Memcached
  beforeAll(async () => {
    memcached = await Memcached.start(['-I', '1m'], newerMemcachedPath)
  })
  afterAll(() => memcached.stop())

  it.each([
    { itemCasIsVersion: true, cuts: 'whole' },
    { itemCasIsVersion: false, cuts: 'byte by byte' },
  ])('answer random dialogues byte for byte alike, $cuts', async ({ itemCasIsVersion, cuts }) => {
    const gateway = await MemoryGateway.start({ node: { itemCasIsVersion } })
    const cut = cuts === 'whole' ? (bytes: Buffer) => [bytes] : byteByByte
    try {
      await fc.assert(
        fc.asyncProperty(dialogues, async (commands) => {
          for (const port of [memcached.port, gateway.port]) await dialogue(port, 'flush_all\r\n', /OK\r\n$/)
          const theirs = await converse(memcached.port, commands, (bytes) => [bytes])
          const ours = await converse(gateway.port, commands, cut)
          expect(ours).toEqual(theirs)
        }),
        { numRuns: cuts === 'whole' ? 400 : 80 },
      )
    } finally {
      await gateway.stop()
    }
  })
})
