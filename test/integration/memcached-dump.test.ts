import { createServer, type Server } from 'node:net'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { MemcachedConnection } from '../../src/adapters/memcached-connection.ts'
import { type DumpedItem, dumpItems, type DumpOptions } from '../../src/adapters/memcached-dump.ts'
import type { ItemKey } from '../../src/domain/key.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { Memcached } from '../support/memcached.ts'
import { removeFolder, temporaryFolder } from '../support/processes.ts'

const paths = ['/usr/bin/memcached', newerMemcachedPath].filter((path) => existsSync(path))

describe.each(paths)('the dump of a memcached (%s)', (path) => {
  it('lists every item with its key, whatever its bytes, and its CAS', async () => {
    const { memcached, connection } = await started(path)
    try {
      expect(await dump(memcached.port)).toEqual([])
      const binary = Buffer.from([0, 10, 13, 32, 37, 255, 128])
      const reply = await connection.request(`ms ${binary.toString('base64')} 1 b c`, Buffer.from('x'))
      await connection.request('ms sessions:100%25 1', Buffer.from('x'))
      await connection.request('ms END 1', Buffer.from('x'))
      await connection.request('ms old 1 T-1', Buffer.from('x'))
      const items = await dump(memcached.port)
      const cas = Number(/ c(\d+)/.exec(reply.line)?.[1])
      expect(items.map(({ key }) => key).toSorted()).toEqual(
        [binary.toString('latin1'), 'END', 'sessions:100%25'].toSorted(),
      )
      expect(items).toContainEqual(expect.objectContaining({ key: binary.toString('latin1'), casHigh: 0, casLow: cas }))
    } finally {
      connection.destroy()
      await memcached.stop()
    }
  })

  it('may be read at leisure: nobody waits for its reader meanwhile', async () => {
    const { memcached, connection } = await started(path)
    const folder = await temporaryFolder()
    try {
      const total = 50_000
      for (let from = 0; from < total; from += 1000) {
        const chunks = Array.from({ length: 1000 }, (_, i) => `ms sessions:${'k'.repeat(90)}${from + i} 1 q\r\nx\r\n`)
        await connection.bulk(chunks)
      }
      let listed = 0
      for await (const items of dumpItems({ host: '127.0.0.1', port: memcached.port }, { folder })) {
        for (const { key } of items) expect(await reads(connection, key)).toBe(true)
        // The listing has no name to be found, or left behind, by.
        expect(await readdir(folder)).toEqual([])
        listed += items.length
      }
      expect(listed).toBe(total)
    } finally {
      connection.destroy()
      await memcached.stop()
      await removeFolder(folder)
    }
  })
})

describe('the dump of a memcached that', () => {
  let server: Server | undefined
  afterEach(() => {
    server?.close()
  })

  async function answering(...answers: string[]): Promise<number> {
    server = createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => {
        const answer = answers.shift() ?? ''
        socket.write(answer.slice(0, 7))
        setImmediate(() => (answer.endsWith('…') ? socket.end(answer.slice(7, -1)) : socket.write(answer.slice(7))))
      })
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }
  const line = 'key=a exp=-1 la=1 cas=7 fetch=no cls=1 size=63\n'

  it('is busy is asked again', async () => {
    const port = await answering(
      'BUSY currently processing crawler request\r\n',
      'ERROR locked try again later\r\n',
      `${line}END\r\n`,
    )
    expect(await dump(port)).toMatchObject([{ key: 'a', casHigh: 0, casLow: 7 }])
  })

  it('stays busy fails in bounded time', async () => {
    const busy = 'BUSY currently processing crawler request\r\n'
    await expect(dump(await answering(busy, busy, busy, busy), { busyMilliseconds: 30 })).rejects.toThrow('BUSY')
  })

  it('says OK first, or has nothing', async () => {
    expect(await dump(await answering('OK\r\nEND\r\n'))).toEqual([])
    server?.close()
    expect(await dump(await answering('NOTSTARTED no items to crawl\r\n'))).toEqual([])
  })

  it('is cut off is not taken for whole', async () => {
    await expect(dump(await answering(`${line}${line}…`))).rejects.toThrow('failed')
  })

  it('falls silent fails', async () => {
    await expect(dump(await answering(line), { silenceMilliseconds: 50 })).rejects.toThrow('failed')
  })

  it('is awaited no longer than wanted', async () => {
    const signal = AbortSignal.timeout(50)
    await expect(dump(await answering(line), { signal })).rejects.toThrow('timeout')
  })
})

async function started(path: string): Promise<{ memcached: Memcached; connection: MemcachedConnection }> {
  const memcached = await Memcached.start([], path)
  return { memcached, connection: await MemcachedConnection.connect({ host: '127.0.0.1', port: memcached.port }) }
}

async function dump(port: number, options: DumpOptions = {}): Promise<DumpedItem[]> {
  const all: DumpedItem[] = []
  for await (const items of dumpItems({ host: '127.0.0.1', port }, options)) all.push(...items)
  return all
}

function reads(connection: MemcachedConnection, key: ItemKey): Promise<boolean> {
  return new Promise((resolve, reject) => {
    connection.get(key, (item, error) => (error === undefined ? resolve(item !== undefined) : reject(error)))
  })
}
