import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { WhiteholeError } from '../../../src/domain/errors.ts'
import type { Key } from '../../../src/domain/key.ts'
import type { GatewayLimits } from '../../../src/gateway/gateway.ts'
import { dialogue, readUntil } from '../../support/memcached.ts'
import { MemoryGateway } from '../../support/memory-gateway.ts'
import { until } from '../../support/processes.ts'
import { play } from '../../support/transcripts.ts'

let gateway: MemoryGateway
const sockets: Socket[] = []

beforeEach(async () => {
  gateway = await MemoryGateway.start()
})
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await gateway.stop()
})

async function restart(limits: Partial<GatewayLimits>): Promise<void> {
  await gateway.stop()
  gateway = await MemoryGateway.start({ limits })
}

async function connect(port = gateway.port): Promise<Socket> {
  const socket = createConnection({ port, host: '127.0.0.1', noDelay: true })
  sockets.push(socket)
  // Some are cut off on purpose.
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

/** All that is answered to the bytes, the last reply included. */
async function ask(text: string, port = gateway.port): Promise<string> {
  const { reply } = await play(port, { send: Buffer.from(text, 'latin1'), closed: false })
  return reply
}

describe('the order of one connection', () => {
  it('lets a get see the set before it, and not the one behind it', async () => {
    const reply = await ask('set a 0 0 1\r\n1\r\nget a\r\nset a 0 0 1\r\n2\r\nget a\r\n')
    expect(reply).toBe('STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nSTORED\r\nVALUE a 0 1\r\n2\r\nEND\r\n')
  })

  it('lets a get see a quiet set before it', async () => {
    expect(await ask('set a 0 0 1 noreply\r\n1\r\nget a\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\n')
  })

  it('does not read before the writes in front are acknowledged', async () => {
    const release = gateway.node.holdWrites()
    const socket = await connect()
    socket.write('set a 0 0 1\r\n1\r\nget a\r\nversion\r\n')
    await until('the set to be submitted', () => gateway.node.submitted.length === 1)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(gateway.counters.of('default').cmd_get).toBe(0)
    release()
    expect(await readUntil(socket, /VERSION .*\r\n$/)).toMatch(/^STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nVERSION/)
  })

  it('submits writes together, without waiting for each other', async () => {
    const release = gateway.node.holdWrites()
    const socket = await connect()
    socket.write('set a 0 0 1\r\n1\r\ndelete a\r\ntouch a 0\r\nset b 0 0 1 noreply\r\n1\r\n')
    await until('all to be submitted', () => gateway.node.submitted.length === 4)
    release()
    expect(await readUntil(socket, /NOT_FOUND\r\n$/)).toBe('STORED\r\nDELETED\r\nNOT_FOUND\r\n')
  })

  it('does not write before the reads in front are answered', async () => {
    const answers: (() => void)[] = []
    gateway.node.defer = (answer) => answers.push(answer)
    const socket = await connect()
    socket.write('get a\r\nget b\r\nset a 0 0 1\r\n1\r\n')
    await until('both reads to be asked', () => answers.length === 2)
    expect(gateway.node.submitted).toEqual([])
    for (const answer of answers) answer()
    expect(await readUntil(socket, /STORED\r\n$/)).toBe('END\r\nEND\r\nSTORED\r\n')
  })

  it('answers what needs no item in its place, though it is ready at once', async () => {
    const release = gateway.node.holdWrites()
    const socket = await connect()
    socket.write('version\r\nset a 0 0 1\r\n1\r\nmn\r\nfoo\r\n')
    expect(await readUntil(socket, /\r\n$/)).toMatch(/^VERSION [\d.]+\r\n$/)
    release()
    expect(await readUntil(socket, /ERROR\r\n$/)).toBe('STORED\r\nMN\r\nERROR\r\n')
  })

  it('answers ten thousand pipelined requests', async () => {
    let text = ''
    let expected = ''
    for (let index = 0; index < 2500; index++) {
      text += `set k${index % 7} 0 0 ${String(index).length}\r\n${index}\r\nget k${index % 7}\r\ndelete nothing\r\nversion\r\n`
      expected += `STORED\r\nVALUE k${index % 7} 0 ${String(index).length}\r\n${index}\r\nEND\r\nNOT_FOUND\r\nVERSION 1.6.45\r\n`
    }
    expect(await ask(text)).toBe(expected)
  })

  it('executes what a client sent before it hung up', async () => {
    const socket = await connect()
    const text = Array.from({ length: 5000 }, (_set, index) => `set k${index} 0 0 1 noreply\r\n1\r\n`).join('')
    socket.end(text)
    await until('all to be executed', () => gateway.node.items.size === 5000)
    await until('the session to be closed', () => gateway.node.openSessions === 0)
  })
})

describe('reads', () => {
  it('take an item at or below the watermark for a miss, at the instant of the answer', async () => {
    await ask('set a 0 0 1\r\n1\r\n')
    const answers: (() => void)[] = []
    gateway.node.defer = (answer) => answers.push(answer)
    const socket = await connect()
    socket.write('get a\r\n')
    await until('the read to be asked', () => answers.length === 1)
    gateway.node.flush('default')
    answers[0]?.()
    expect(await readUntil(socket, /END\r\n$/)).toBe('END\r\n')
    expect(gateway.counters.of('default')).toMatchObject({ cmd_get: 1, get_hits: 0, get_misses: 1, get_flushed: 1 })
  })

  it('are refused while the node does not serve, writes go on', async () => {
    gateway.node.serving = false
    const reply = await ask('get a\r\ngets a\r\ngat 0 a\r\nset a 0 0 1\r\n1\r\n')
    expect(reply).toBe(`${'SERVER_ERROR this node is not serving\r\n'.repeat(3)}STORED\r\n`)
  })

  it('are refused where the contents were thrown away while they were asked', async () => {
    const answers: (() => void)[] = []
    gateway.node.defer = (answer) => answers.push(answer)
    const socket = await connect()
    socket.write('get a\r\n')
    await until('the read to be asked', () => answers.length === 1)
    gateway.node.serving = false
    answers[0]?.()
    expect(await readUntil(socket, /\r\n$/)).toBe('SERVER_ERROR this node is not serving\r\n')
  })

  it('say only the error where one key of several fails', async () => {
    await ask('set a 0 0 1\r\n1\r\n')
    let asked = 0
    gateway.node.defer = (answer) => {
      if (++asked === 2) gateway.node.readFailure = new WhiteholeError('memcached-away', 'gone')
      setImmediate(answer)
    }
    expect(await ask('get a a a\r\nversion\r\n')).toMatch(/^SERVER_ERROR memcached is away\r\nVERSION/)
  })

  it("give the directory's token with gets, and no token without it", async () => {
    const reply = await ask('set a 3 0 1\r\n1\r\ngets a b\r\ngats 100 a b\r\n')
    const version = gateway.node.liveRow(1001, 'a' as Key)?.version
    const item = `VALUE a 3 1 ${version}\r\n1\r\nEND\r\n`
    expect(reply).toBe(`STORED\r\n${item}${item}`)
  })

  it('miss with gets where the directory knows no live key', async () => {
    await ask('set a 0 0 1\r\n1\r\n')
    gateway.node.directory.versions = () => Promise.resolve([undefined])
    expect(await ask('gets a\r\nget a\r\n')).toBe('END\r\nVALUE a 0 1\r\n1\r\nEND\r\n')
  })

  it('fail with gets where no database answers', async () => {
    gateway.node.directoryFailure = new WhiteholeError('database-away', 'gone')
    expect(await ask('gets a\r\nget a\r\n')).toBe('SERVER_ERROR no database answers\r\nEND\r\n')
  })

  it('ask for the version before they read the item (R23)', async () => {
    await ask('set a 0 0 3\r\nold\r\n')
    const versions = gateway.node.directory.versions.bind(gateway.node.directory)
    const socket = await connect()
    gateway.node.directory.versions = async (id, keys) => {
      const answer = await versions(id, keys)
      // Another client's set, applied here before the item is read: its value may go out with the older token, never the reverse.
      await ask('set a 0 0 3\r\nnew\r\n')
      return answer
    }
    const old = gateway.node.liveRow(1001, 'a' as Key)?.version
    socket.write('gets a\r\n')
    expect(await readUntil(socket, /END\r\n$/)).toBe(`VALUE a 0 3 ${old}\r\nnew\r\nEND\r\n`)
  })

  it('touch with gat before they read', async () => {
    await ask('set a 0 0 1\r\n1\r\n')
    expect(await ask('gat 100 a b\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\n')
    expect(gateway.node.submitted.slice(1)).toMatchObject([
      { kind: 'touch', key: 'a', exptime: 100 },
      { kind: 'touch', key: 'b', exptime: 100 },
    ])
    expect(gateway.counters.of('default')).toMatchObject({ cmd_touch: 2, touch_hits: 1, touch_misses: 1 })
  })

  it("fail with gat where the touch can't be written", async () => {
    await ask('set a 0 0 1\r\n1\r\n')
    gateway.node.writeFailure = new WhiteholeError('not-written', 'no primary')
    expect(await ask('gat 100 a\r\nget a\r\n')).toBe(
      'SERVER_ERROR not written: no database acknowledges writes\r\nVALUE a 0 1\r\n1\r\nEND\r\n',
    )
  })
})

describe('writes', () => {
  it('say how they failed, and leave the connection usable', async () => {
    gateway.node.writeFailure = new WhiteholeError('outcome-unknown', 'no answer')
    const line = 'SERVER_ERROR outcome unknown: the database did not answer in time\r\n'
    expect(
      await ask('set a 0 0 1\r\n1\r\ndelete a\r\ntouch a 1\r\nflush_all\r\nset a 0 0 1 noreply\r\n1\r\nmn\r\n'),
    ).toBe(`${line.repeat(4)}MN\r\n`)
  })

  it('remove the old value where the new one is too large', async () => {
    const big = `set a 0 0 1048576\r\n${'v'.repeat(1_048_576)}\r\n`
    expect(await ask(`set a 0 0 1\r\n1\r\n${big}get a\r\n`)).toBe(
      'STORED\r\nSERVER_ERROR object too large for cache\r\nEND\r\n',
    )
    expect(gateway.node.submitted.at(-1)).toMatchObject({ kind: 'delete', key: 'a' })
    expect(gateway.counters.of('default').store_too_large).toBe(1)
  })

  it('carry flags and expiry as the client gave them', async () => {
    await ask('set a 4294967295 -1 1\r\n1\r\ntouch a 2592001\r\n')
    expect(gateway.node.submitted).toMatchObject([
      { kind: 'set', flags: 4294967295n, exptime: -1, value: Buffer.from('1') },
      { kind: 'touch', exptime: 2592001 },
    ])
  })

  it('flush at once, later, or at an absolute time', async () => {
    const soon = Math.floor(Date.now() / 1000) + 100
    expect(await ask(`flush_all\r\nflush_all 0\r\nflush_all -1\r\nflush_all 30\r\nflush_all ${soon}\r\n`)).toBe(
      'OK\r\n'.repeat(5),
    )
    const delays = gateway.node.submitted.map((mutation) => (mutation.kind === 'flush' ? mutation.delaySeconds : NaN))
    expect(delays.slice(0, 4)).toEqual([0, 0, 0, 30])
    expect(delays[4]).toBeGreaterThan(95)
    expect(delays[4]).toBeLessThanOrEqual(100)
  })

  it("flush the listener's namespace alone", async () => {
    await ask('set a 0 0 1\r\n1\r\n')
    await ask('set a 0 0 1\r\n2\r\n', gateway.sessionsPort)
    await ask('flush_all\r\n')
    expect(await ask('get a\r\n')).toBe('END\r\n')
    expect(await ask('get a\r\n', gateway.sessionsPort)).toBe('VALUE a 0 1\r\n2\r\nEND\r\n')
  })
})

describe('a key-prefix listener', () => {
  it('finds the namespace in the key and echoes the key as it was sent', async () => {
    await ask('set a 0 0 1\r\n1\r\n', gateway.sessionsPort)
    expect(await ask('get sessions:a default:a\r\nset default:a:b 0 0 1\r\n2\r\n', gateway.prefixPort)).toBe(
      'VALUE sessions:a 0 1\r\n1\r\nEND\r\nSTORED\r\n',
    )
    expect(await ask('get a:b\r\n')).toBe('VALUE a:b 0 1\r\n2\r\nEND\r\n')
  })

  it('takes 250 bytes of key behind the name', async () => {
    const key = 'k'.repeat(250)
    const reply = await ask(`set sessions:${key} 0 0 1\r\n1\r\nget sessions:${key}\r\n`, gateway.prefixPort)
    expect(reply).toBe(`STORED\r\nVALUE sessions:${key} 0 1\r\n1\r\nEND\r\n`)
  })

  it('refuses keys without a namespace that exists, body and all', async () => {
    const unknown = 'CLIENT_ERROR unknown namespace\r\n'
    const reply = await ask(
      'get nope:a\r\nget a\r\nget :a\r\nget sessions:a nope:a\r\nset nope:a 0 0 7\r\nversion\r\ndelete a\r\ntouch a 0\r\ngats 0 nope:a\r\ngets a\r\n',
      gateway.prefixPort,
    )
    expect(reply).toBe(unknown.repeat(9))
    expect(gateway.node.submitted).toEqual([])
  })

  it('refuses flush_all', async () => {
    expect(await ask('flush_all\r\n', gateway.prefixPort)).toMatch(/^CLIENT_ERROR flush_all needs a listener/)
    expect(gateway.node.submitted).toEqual([])
  })

  it('answers gets of several namespaces in the order asked', async () => {
    await ask('set default:a 0 0 1\r\n1\r\nset sessions:b 0 0 1\r\n2\r\n', gateway.prefixPort)
    expect(await ask('gets sessions:b default:a\r\n', gateway.prefixPort)).toMatch(
      /^VALUE sessions:b 0 1 \d+\r\n2\r\nVALUE default:a 0 1 \d+\r\n1\r\nEND\r\n$/,
    )
  })
})

describe('a bound listener', () => {
  it('refuses everything once its namespace is dropped', async () => {
    gateway.node.dropNamespace('default')
    expect(await ask('get a\r\nset a 0 0 1\r\n1\r\nflush_all\r\nmn\r\n')).toBe(
      `${'CLIENT_ERROR unknown namespace\r\n'.repeat(3)}MN\r\n`,
    )
    gateway.node.serving = false
    expect(await ask('set a 0 0 1\r\n1\r\n')).toBe('SERVER_ERROR this node is not serving\r\n')
  })
})

describe('stats', () => {
  it('speak of the namespace', async () => {
    await ask('set a 0 0 3\r\nabc\r\nget a b\r\ndelete x\r\n')
    await ask('set a 0 0 1\r\n1\r\nset b 0 0 1\r\n1\r\n', gateway.sessionsPort)
    const reply = await ask('stats\r\n')
    const stats = new Map([...reply.matchAll(/^STAT (\S+) (.*)\r$/gm)].map((match) => [match[1], match[2]]))
    expect(reply).toMatch(/END\r\n$/)
    for (const [name, value] of Object.entries({
      cmd_get: '2',
      get_hits: '1',
      get_misses: '1',
      cmd_set: '1',
      delete_misses: '1',
      curr_items: '1',
      bytes: '3',
      version: '1.6.45',
      pointer_size: '64',
      namespace: 'default',
      curr_connections: '1',
      // Of the node's memcached.
      limit_maxbytes: '67108864',
      evictions: '3',
    }))
      expect([name, stats.get(name)]).toEqual([name, value])
    for (const name of ['pid', 'uptime', 'time', 'rusage_user', 'total_items', 'total_connections', 'bytes_read']) {
      expect(stats.get(name)).toMatch(/^[\d.]+$/)
    }
    expect(await ask('stats\r\n', gateway.prefixPort)).toMatch(/STAT cmd_set 3\r\n[^]*STAT curr_items 3\r\n/)
  })

  it('are reset for the namespace alone', async () => {
    await ask('set a 0 0 3\r\nabc\r\n')
    await ask('set a 0 0 3\r\nabc\r\n', gateway.sessionsPort)
    expect(await ask('stats reset\r\nstats\r\n')).toMatch(/^RESET\r\n[^]*STAT cmd_set 0\r\n/)
    expect(await ask('stats\r\n', gateway.sessionsPort)).toMatch(/STAT cmd_set 1\r\n/)
  })

  it('leave out what memcached would have to tell, where it does not', async () => {
    gateway.node.readFailure = new WhiteholeError('memcached-away', 'gone')
    const failed = await ask('stats\r\n')
    expect(failed).toMatch(/STAT curr_items 0\r\n[^]*END\r\n$/)
    expect(failed).not.toMatch(/evictions|limit_maxbytes/)
  })

  it('leave out what the database would have to tell, where it does not', async () => {
    gateway.node.directoryFailure = new WhiteholeError('database-away', 'gone')
    const failed = await ask('stats\r\n')
    expect(failed).toMatch(/END\r\n$/)
    expect(failed).not.toMatch(/curr_items/)
    gateway.node.directory.figures = () => new Promise(() => {})
    expect(await ask('stats\r\n')).toMatch(/STAT pid \d+\r\n[^]*END\r\n$/)
  })

  it('list settings, items, slabs and connections', async () => {
    expect(await ask('stats settings\r\n')).toMatch(/STAT item_size_max 1048576\r\n[^]*END\r\n$/)
    expect(await ask('stats items\r\nstats slabs\r\n')).toBe(
      'END\r\nSTAT active_slabs 0\r\nSTAT total_malloced 0\r\nEND\r\n',
    )
    expect(await ask('stats conns\r\n')).toMatch(/^STAT 1:addr tcp:127\.0\.0\.1:\d+\r\n[^]*END\r\n$/)
  })
})

describe('limits', () => {
  it('F35: turns clients away beyond the most', async () => {
    await restart({ connectionsMax: 2 })
    await connect()
    await connect()
    await until('both to be accepted', () => gateway.counters.currConnections === 2)
    expect(await ask('')).toBe('ERROR Too many open connections\r\n')
    expect(gateway.counters.rejectedConnections).toBe(1)
    sockets.pop()?.destroy()
    await until('one to be gone', () => gateway.counters.currConnections === 1)
    expect(await ask('mn\r\n')).toBe('MN\r\n')
  })

  it('takes no more requests of a client than may be in flight', async () => {
    await restart({ requestsInFlightMax: 10 })
    const release = gateway.node.holdWrites()
    const socket = await connect()
    socket.write('set a 0 0 1\r\n1\r\n'.repeat(50))
    await until('some to be submitted', () => gateway.node.submitted.length === 10)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(gateway.node.submitted.length).toBe(10)
    release()
    expect(await readUntil(socket, /(STORED\r\n){50}$/)).toBe('STORED\r\n'.repeat(50))
  })

  it('F33: stops reading a client that does not read, and goes on when it does', async () => {
    await restart({ replyBytesMax: 1024 * 1024 })
    await ask(`set a 0 0 1000000\r\n${'v'.repeat(1_000_000)}\r\n`)
    const socket = await connect()
    socket.pause()
    const gets = 300
    socket.write('get a\r\n'.repeat(gets))
    await until('some to be answered', () => gateway.counters.of('default').get_hits > 0)
    await new Promise((resolve) => setTimeout(resolve, 200))
    // A few megabytes in the kernel's buffers, a few here.
    expect(gateway.counters.of('default').get_hits).toBeLessThan(gets)
    let bytes = 0
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length
    })
    socket.resume()
    const reply = 'VALUE a 0 1000000\r\n\r\nEND\r\n'.length + 1_000_000
    await until('all replies', () => bytes === gets * reply)
  })

  it('stops executing for a client that does not read, also what answers at once', async () => {
    await restart({ replyBytesMax: 1024 * 1024 })
    const reply = await ask('stats settings\r\n')
    const socket = await connect()
    socket.pause()
    const requests = 150_000
    const before = gateway.counters.bytesWritten
    socket.write('stats settings\r\n'.repeat(requests))
    const written = (): number => gateway.counters.bytesWritten - before
    let last = -1
    await until('it to come to a rest', async () => {
      last = written()
      await new Promise((resolve) => setTimeout(resolve, 300))
      return last > 0 && written() === last
    })
    expect(written()).toBeLessThan((requests * reply.length) / 2)
    let bytes = 0
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length
    })
    socket.resume()
    await until('all replies', () => bytes === requests * reply.length)
  })

  it('F33: closes a client that leaves its replies unread', async () => {
    await restart({ replyBytesMax: 1024 * 1024, unreadMilliseconds: 300 })
    await ask(`set a 0 0 1000000\r\n${'v'.repeat(1_000_000)}\r\n`)
    const socket = await connect()
    socket.pause()
    socket.write('get a\r\n'.repeat(200))
    await until('it to be closed', () => gateway.counters.slowConnections === 1)
    await until('it to be gone', () => gateway.counters.currConnections === 0)
  })

  it('holds each client to little while all together leave too much unread', async () => {
    await restart({ replyBytesMax: 8 * 1024 * 1024, waitingBytesMax: 1024 * 1024 })
    await ask(`set a 0 0 100000\r\n${'v'.repeat(100_000)}\r\n`)
    const first = await connect()
    first.pause()
    first.write('get a\r\n'.repeat(300))
    const hits = (): number => gateway.counters.of('default').get_hits
    await until('it to fill what it may', () => hits() >= 80)
    await new Promise((resolve) => setTimeout(resolve, 100))
    // Alone, the second would be allowed 80 replies beside what its kernel takes.
    const before = hits()
    const second = await connect()
    second.pause()
    second.write('get a\r\n'.repeat(300))
    await new Promise((resolve) => setTimeout(resolve, 300))
    const taken = hits() - before
    expect(taken).toBeLessThan(before - 40)
    for (const [socket, replies] of [
      [first, 300],
      [second, 300],
    ] as const) {
      let bytes = 0
      socket.on('data', (chunk: Buffer) => {
        bytes += chunk.length
      })
      socket.resume()
      const reply = 'VALUE a 0 100000\r\n\r\nEND\r\n'.length + 100_000
      await until('all replies', () => bytes === replies * reply)
    }
  })

  it('bounds the memory of a long list of large values, and answers it whole', async () => {
    await restart({ replyBytesMax: 1024 * 1024 })
    await ask(`set a 0 0 1000000\r\n${'v'.repeat(1_000_000)}\r\n`)
    const socket = await connect()
    socket.pause()
    const keys = 300
    socket.write(`get${' a'.repeat(keys)}\r\nmn\r\n`)
    await until('some to be read', () => gateway.counters.of('default').get_hits > 0)
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(gateway.counters.of('default').get_hits).toBeLessThan(keys)
    let bytes = 0
    let end = ''
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      end = (end + chunk.subarray(-20).toString('latin1')).slice(-20)
    })
    socket.resume()
    const expected = ('VALUE a 0 1000000\r\n\r\n'.length + 1_000_000) * keys + 'END\r\nMN\r\n'.length
    await until('all of it', () => bytes === expected)
    expect(end).toMatch(/v\r\nEND\r\nMN\r\n$/)
  })

  it('F34: closes a client that never ends its request, however it drips', async () => {
    await restart({ requestMilliseconds: 300 })
    const slow = await connect()
    const idle = await connect()
    const drip = setInterval(() => slow.write('x'), 50)
    slow.write('set a 0 0 1000\r\n')
    await until('it to be closed', () => gateway.counters.currConnections === 1)
    clearInterval(drip)
    idle.write('mn\r\n')
    expect(await readUntil(idle, /MN\r\n/)).toBe('MN\r\n')
  })

  it('does not close a client whose requests keep ending, wherever packets are cut', async () => {
    await restart({ requestMilliseconds: 200 })
    const socket = await connect()
    socket.write('m')
    for (let round = 0; round < 12; round++) {
      socket.write('n\r\nm')
      await readUntil(socket, /MN\r\n/)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    expect(gateway.counters.slowConnections).toBe(0)
  })

  it('closes a client that idles, where that is wanted', async () => {
    await restart({ idleMilliseconds: 100 })
    const socket = await connect()
    await once(socket, 'close')
    expect(gateway.counters.slowConnections).toBe(1)
  })

  it('refuses too many keys in one request', async () => {
    await restart({ keysMax: 3 })
    expect(await ask('get a b c\r\nget a b c d\r\n')).toBe('END\r\nCLIENT_ERROR too many keys: at most 3\r\n')
  })
})

describe('the end', () => {
  it('answers what is in flight when the gateway closes, and takes nobody else', async () => {
    const release = gateway.node.holdWrites()
    const socket = await connect()
    socket.write('set a 0 0 1\r\n1\r\nget a\r\n')
    await until('the set to be submitted', () => gateway.node.submitted.length === 1)
    const reply = readUntil(socket, /END\r\n$/)
    const closing = gateway.gateway.close(10_000)
    release()
    expect(await reply).toBe('STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n')
    await closing
    expect(gateway.counters.currConnections).toBe(0)
    await expect(dialogue(gateway.port, 'mn\r\n', /MN/)).rejects.toThrow(/ECONNREFUSED/)
  })

  it('cuts off whoever is not done in time', async () => {
    gateway.node.holdWrites()
    const socket = await connect()
    socket.write('set a 0 0 1\r\n1\r\n')
    await until('the set to be submitted', () => gateway.node.submitted.length === 1)
    const closed = once(socket, 'close')
    await gateway.gateway.close(50)
    await closed
  })
})
