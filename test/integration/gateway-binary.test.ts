import { afterEach, describe, expect, it } from 'vitest'
import { type ErrorCode, errorTable, WhiteholeError } from '../../src/domain/errors.ts'
import { opcode } from '../../src/wire/memcached/binary-frame.ts'
import { BinaryClient, type Frame } from '../support/binary-client.ts'
import { arithmeticExtras, exptimeExtras, type Sent, storageExtras } from '../support/binary-transcripts.ts'
import { dialogue } from '../support/memcached.ts'
import { MemoryGateway } from '../support/memory-gateway.ts'
import { until } from '../support/processes.ts'

let gateway: MemoryGateway
const clients: BinaryClient[] = []

async function start(options: Parameters<typeof MemoryGateway.start>[0] = {}): Promise<MemoryGateway> {
  gateway = await MemoryGateway.start(options)
  return gateway
}

async function connect(port = gateway.port): Promise<BinaryClient> {
  const client = await BinaryClient.connect(port)
  clients.push(client)
  return client
}

afterEach(async () => {
  for (const client of clients.splice(0)) client.close()
  await gateway.stop()
})

const set = (key: string, value: string, more: Partial<Sent> = {}): Sent => ({
  opcode: opcode.set,
  key,
  value,
  extras: storageExtras(0, 0),
  ...more,
})
const get = (key: string, more: Partial<Sent> = {}): Sent => ({ opcode: opcode.get, key, ...more })

/** How often the directory was asked. */
function countQuestions(): () => number {
  const { directory } = gateway.node
  const versions = directory.versions.bind(directory)
  let questions = 0
  directory.versions = (...given) => {
    questions++
    return versions(...given)
  }
  return () => questions
}

describe('the binary protocol', () => {
  it('is spoken on the port where others speak text, of the same items with the same tokens', async () => {
    await start()
    const client = await connect()
    const { cas } = await client.ask(set('a', 'hello'))
    expect(await dialogue(gateway.port, 'gets a\r\n', /END\r\n$/)).toBe(`VALUE a 0 5 ${cas}\r\nhello\r\nEND\r\n`)
    expect(await dialogue(gateway.port, `cas a 7 0 2 ${cas}\r\nhi\r\n`, /\r\n$/)).toBe('STORED\r\n')
    expect(await client.ask(set('a', 'late', { cas }))).toMatchObject({ status: 2 })
    expect(await client.ask(get('a'))).toMatchObject({ extras: '00000007', value: 'hi' })
  })

  it('answers a noop once all that was quiet before it is done, failures first', async () => {
    await start()
    const client = await connect()
    const release = gateway.node.holdWrites()
    client.send(
      set('a', '1', { opcode: opcode.setQ, opaque: 1 }),
      set('a', '2', { opcode: opcode.addQ, opaque: 2 }),
      set('b', '3', { opcode: opcode.addQ, opaque: 3 }),
      { opcode: opcode.noop, opaque: 4 },
    )
    let answered = false
    const replies = client.readUntil(4).then((frames) => {
      answered = true
      return frames
    })
    await until('the writes to wait', () => gateway.node.submitted.length === 3)
    expect(answered).toBe(false)
    release()
    expect((await replies).map(({ opaque, status }) => [opaque, status])).toEqual([
      [2, 2],
      [4, 0],
    ])
  })

  it('answers ten thousand requests of one packet in their order', async () => {
    await start()
    const client = await connect()
    const requests = Array.from({ length: 10_000 }, (_one, n) => {
      const key = `k${n % 7}`
      if (n % 3 === 0) return set(key, String(n), { opaque: n + 1 })
      if (n % 3 === 1) return get(key, { opaque: n + 1 })
      return { opcode: opcode.noop, opaque: n + 1 }
    })
    client.send(...requests)
    const frames = await client.readUntil(9999)
    expect(frames.map(({ opaque }) => opaque)).toEqual(Array.from({ length: 9999 }, (_one, n) => n + 1))
  })

  it('lets a key name its namespace in front of a colon, and gives it back whole', async () => {
    await start()
    const client = await connect(gateway.prefixPort)
    expect(await client.ask(set('sessions:a:b', '1'))).toMatchObject({ status: 0 })
    const found = await client.ask(get('sessions:a:b', { opcode: opcode.getK }))
    expect(found).toMatchObject({ key: 'sessions:a:b', value: '1' })
    const bound = await connect(gateway.sessionsPort)
    expect(await bound.ask(get('a:b', { opcode: opcode.getK }))).toMatchObject({ key: 'a:b', value: '1' })
    expect(await client.ask(get('nobody:a'))).toMatchObject({ status: 4, value: 'unknown namespace' })
    expect(await client.ask(set('a', '1'))).toMatchObject({ status: 4, value: 'unknown namespace' })
    const touch = { opcode: opcode.touch, key: 'nobody:a', extras: exptimeExtras(1) }
    expect(await client.ask(touch)).toMatchObject({ status: 4, value: 'unknown namespace' })
  })

  it('flushes the namespace of its listener alone', async () => {
    await start()
    const client = await connect()
    const other = await connect(gateway.sessionsPort)
    await client.ask(set('a', '1'))
    await other.ask(set('a', '1'))
    expect(await client.ask({ opcode: opcode.flush })).toMatchObject({ status: 0 })
    expect(await client.ask(get('a'))).toMatchObject({ status: 1 })
    expect(await other.ask(get('a'))).toMatchObject({ status: 0 })
    const prefix = await connect(gateway.prefixPort)
    expect(await prefix.ask({ opcode: opcode.flush })).toMatchObject({ status: 4 })
    expect(await other.ask(get('a'))).toMatchObject({ status: 0 })
  })

  const statuses: [ErrorCode, number][] = [
    ['not-written', 0x86],
    ['database-away', 0x86],
    ['queue-full', 0x85],
    ['contended', 0x85],
    ['outcome-unknown', 0x84],
    ['value-too-large', 3],
  ]
  it.each(statuses)('tells %s by a status of its own, quiet or not', async (code, status) => {
    await start()
    const client = await connect()
    gateway.node.writeFailure = new WhiteholeError(code, 'for the test')
    const text = code === 'value-too-large' ? 'Too large.' : errorTable[code].reply.replace('SERVER_ERROR ', '')
    expect(await client.ask(set('a', '1', { opcode: opcode.setQ, opaque: 5 }))).toEqual({
      opcode: opcode.setQ,
      status,
      opaque: 5,
      cas: 0n,
      extras: '',
      key: '',
      value: text,
    })
  })

  it('tells a read that can not be answered, quiet or not, and never takes it for a miss', async () => {
    for (const itemCasIsVersion of [true, false]) {
      await start({ node: { itemCasIsVersion } })
      const client = await connect()
      gateway.node.readFailure = new WhiteholeError('memcached-away', 'for the test')
      expect(await client.ask(get('a', { opcode: opcode.getQ }))).toMatchObject({ status: 0x86 })
      gateway.node.readFailure = undefined
      gateway.node.serving = false
      expect(await client.ask(get('a', { opcode: opcode.getKQ }))).toMatchObject({ status: 0x86 })
      await gateway.stop()
    }
  })

  it('closes a client that begins a frame and does not go on', async () => {
    await start({ limits: { requestMilliseconds: 50 } })
    const client = await connect()
    client.send(Buffer.from([0x80, 1, 0]))
    await until('the connection to be closed', () => client.closed)
  })
})

describe('a token of the binary protocol', () => {
  it('comes with the item where memcached keeps versions: nothing else is asked', async () => {
    await start({ node: { itemCasIsVersion: true } })
    const questions = countQuestions()
    const client = await connect()
    const { cas } = await client.ask(set('a', '1'))
    expect((await client.ask(get('a'))).cas).toBe(cas)
    expect(questions()).toBe(0)
  })

  it('is asked for once, where memcached keeps none, until the item changes; a miss asks nothing', async () => {
    await start({ node: { itemCasIsVersion: false } })
    const questions = countQuestions()
    const client = await connect()
    const first = await client.ask(set('a', '1'))
    await client.ask(get('nope'))
    expect(questions()).toBe(0)
    for (let n = 0; n < 5; n++) expect((await client.ask(get('a'))).cas).toBe(first.cas)
    expect(questions()).toBe(1)
    const second = await client.ask(set('a', '2'))
    for (let n = 0; n < 5; n++) expect((await client.ask(get('a'))).cas).toBe(second.cas)
    expect(questions()).toBe(2)
    await client.ask({ opcode: opcode.touch, key: 'a', extras: exptimeExtras(100) })
    expect((await client.ask({ opcode: opcode.gat, key: 'a', extras: exptimeExtras(100) })).cas).toBe(second.cas)
    expect(questions()).toBe(2)
  })

  it('is not remembered where the item changed while it was asked for: the value that was read first goes out, with a token that wins nothing', async () => {
    await start({ node: { itemCasIsVersion: false } })
    const client = await connect()
    const writer = await connect()
    const { directory } = gateway.node
    const versions = directory.versions.bind(directory)
    await client.ask(set('a', 'old'))
    let newer: Frame | undefined
    directory.versions = async (...given) => {
      const asked = await versions(...given)
      newer = await writer.ask(set('a', 'new'))
      directory.versions = versions
      return asked
    }
    const between = await client.ask(get('a'))
    // What was read first: a read that was sent later may be made at once, and must not show an older value than this one.
    expect([between.value, between.cas]).toEqual(['old', (1n << 64n) - 1n])
    expect(await client.ask(set('a', 'lost', { cas: between.cas }))).toMatchObject({ status: 2 })
    expect(await client.ask(get('a'))).toMatchObject({ value: 'new', cas: newer?.cas })
  })

  it('wins nothing where no database tells it; the read itself goes on', async () => {
    await start({ node: { itemCasIsVersion: false } })
    const client = await connect()
    const first = await client.ask(set('a', '1'))
    const questions = countQuestions()
    gateway.node.directoryFailure = new WhiteholeError('database-away', 'for the test')
    const frames = [await client.ask(get('a')), await client.ask(get('a'))]
    expect(frames.map(({ value, cas }) => [value, cas])).toEqual([
      ['1', (1n << 64n) - 1n],
      ['1', (1n << 64n) - 1n],
    ])
    // Not with each read: the next question has time.
    expect(questions()).toBe(1)
    expect(await client.ask(set('a', '2', { cas: (1n << 64n) - 1n }))).toMatchObject({ status: 2 })
    expect(await client.ask(set('a', '2', { cas: first.cas }))).toMatchObject({ status: 0 })
  })

  it('of a counter is its new one', async () => {
    for (const itemCasIsVersion of [true, false]) {
      await start({ node: { itemCasIsVersion } })
      const client = await connect()
      const count = { opcode: opcode.increment, key: 'n', extras: arithmeticExtras(1n, 5n, 0) }
      const first = await client.ask(count)
      const second = await client.ask({ ...count, cas: first.cas })
      expect(second).toMatchObject({ status: 0, value: '\0\0\0\0\0\0\0\x06' })
      expect(await client.ask({ ...count, cas: first.cas })).toMatchObject({ status: 2 })
      expect((await client.ask(get('n'))).cas).toBe(second.cas)
      await gateway.stop()
    }
  })
})

describe('statistics of the binary protocol', () => {
  async function statistics(key = ''): Promise<[string, string][]> {
    const client = await connect()
    client.send({ opcode: opcode.stat, key, opaque: 3 })
    const frames: Frame[] = []
    do frames.push(await client.read())
    while (frames.at(-1)?.key !== '')
    expect(
      frames.every(({ opaque, status, cas, extras }) => opaque === 3 && status === 0 && cas === 0n && extras === ''),
    ).toBe(true)
    expect(frames.pop()?.value).toBe('')
    return frames.map((frame): [string, string] => [frame.key, frame.value])
  }

  it('are a frame each, and an empty one behind the last', async () => {
    await start()
    const client = await connect()
    await client.ask(set('a', '1'))
    await client.ask(get('a'))
    await client.ask(get('b'))
    const all = new Map(await statistics())
    expect(all.get('version')).toBe('1.6.45')
    expect([all.get('get_hits'), all.get('get_misses'), all.get('cmd_set'), all.get('curr_items')]).toEqual([
      '1',
      '1',
      '1',
      '1',
    ])
    expect(new Map(await statistics('settings')).get('cas_enabled')).toBe('yes')
    expect(await statistics('sizes')).toEqual([['sizes_status', 'disabled']])
  })

  it('of prefixes are one text in one frame, as memcached sends them', async () => {
    await start()
    const client = await connect()
    await client.ask(set('a', '1'))
    await client.ask(get('a'))
    expect(await statistics('detail dump')).toEqual([['detailed', 'PREFIX default get 1 hit 1 set 1 del 0\r\nEND\r\n']])
  })

  it('begin anew', async () => {
    await start()
    const client = await connect()
    await client.ask(get('a'))
    expect(await statistics('reset')).toEqual([])
    expect(new Map(await statistics()).get('get_misses')).toBe('0')
  })
})
