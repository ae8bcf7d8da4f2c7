import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createConnection, createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readUntil } from '../support/memcached.ts'
import { MemoryGateway } from '../support/memory-gateway.ts'
import { freePort, Program, removeFolder, temporaryFolder, until } from '../support/processes.ts'

let folder: string
const open: MemoryGateway[] = []

beforeEach(async () => {
  folder = await temporaryFolder()
})
afterEach(async () => {
  for (const gateway of open.splice(0)) await gateway.stop()
  await removeFolder(folder)
})

async function listen(
  address: { kind: 'unix'; path: string } | { kind: 'tcp'; host: string; port: number },
): Promise<void> {
  open.push(await MemoryGateway.start({ listeners: [{ kind: 'bound', listen: address, namespace: 'default' }] }))
}

async function version(path: string): Promise<string> {
  const socket = createConnection({ path })
  try {
    await once(socket, 'connect')
    socket.write('version\r\n')
    return await readUntil(socket, /\r\n$/)
  } finally {
    socket.destroy()
  }
}

describe('a listener', () => {
  it('is reached over a unix socket, which is gone after it', async () => {
    const path = join(folder, 'sock')
    await listen({ kind: 'unix', path })
    expect(await version(path)).toMatch(/^VERSION/)
    await open.pop()?.stop()
    await expect(version(path)).rejects.toThrow(/ENOENT/)
  })

  it('replaces the unix socket of a dead process', async () => {
    const path = join(folder, 'sock')
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`
    const dead = new Program(process.execPath, ['-e', script])
    await until('it to listen', () => dead.output.includes('up'))
    await dead.stop('SIGKILL')
    await listen({ kind: 'unix', path })
    expect(await version(path)).toMatch(/^VERSION/)
  })

  it('leaves the unix socket of a live process alone', async () => {
    const path = join(folder, 'sock')
    const server = createServer().listen(path)
    await once(server, 'listening')
    await expect(listen({ kind: 'unix', path })).rejects.toThrow(/sock: another process listens there/)
    server.close()
  })

  it('leaves a file that is no socket alone', async () => {
    const path = join(folder, 'file')
    await writeFile(path, 'precious')
    await expect(listen({ kind: 'unix', path })).rejects.toThrow(/file: there is a file that is no socket/)
  })

  it('says which port is in use, and then none of the listeners stays', async () => {
    const port = await freePort()
    const server = createServer().listen(port, '127.0.0.1')
    await once(server, 'listening')
    const first = await freePort()
    const at = (free: number) => ({ kind: 'tcp', host: '127.0.0.1', port: free }) as const
    const started = MemoryGateway.start({
      listeners: [
        { kind: 'key-prefix', listen: at(first) },
        { kind: 'key-prefix', listen: at(port) },
      ],
    })
    await expect(started).rejects.toThrow(`can't listen on 127.0.0.1:${port}: another process listens there`)
    const free = createServer().listen(first, '127.0.0.1')
    await once(free, 'listening')
    free.close()
    server.close()
  })
})
