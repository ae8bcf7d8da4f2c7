import { existsSync } from 'node:fs'
import { request } from 'node:http'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Databases } from '../../src/adapters/databases.ts'
import { FollowedPosition } from '../../src/applier/followed-position.ts'
import { keyFromText } from '../../src/domain/key.ts'
import type { PeerAnswer } from '../../src/domain/peer-reads.ts'
import { type Version, versionFromNumber } from '../../src/domain/version.ts'
import { Peers } from '../../src/peers/peers.ts'
import { formatQuestion } from '../../src/peers/question.ts'
import { PeerRegistry } from '../../src/peers/registry.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { beyond, endOfLog } from '../support/following.ts'
import { dialogue } from '../support/memcached.ts'
import { until } from '../support/processes.ts'
import { World } from '../support/world.ts'

const binaries = ['/usr/bin/memcached', newerMemcachedPath].filter((path) => existsSync(path))

describe.each(binaries)('nodes with %s', (memcachedPath) => {
  let world: World
  let registry: PeerRegistry
  let peers: Peers
  const log = new FollowedPosition()

  beforeAll(async () => {
    world = await World.start({ topology: 'single', nodes: 2, memcachedPath })
    const { host, port } = { host: '127.0.0.1', port: world.primary.port }
    const databases = new Databases({
      addresses: [{ host, port }],
      user: 'whitehole_node',
      password: 'secret',
      database: 'memcached',
      topology: 'single',
    })
    const self = { name: 'asker', datacenter: '', listener: '', http: '' }
    registry = new PeerRegistry({ databases, self, logger: silentLogger, timeoutMilliseconds: 2000 })
    peers = new Peers({ registry, log, logger: silentLogger })
  })
  afterAll(async () => {
    peers?.close()
    registry?.close()
    await world?.remove()
  })
  afterEach(() => {
    for (const node of world.nodes) node.program.signal('SIGCONT')
  })

  async function versionOf(key: string): Promise<Version> {
    const [row] = await world.primary.query<{ version: string }>(
      `SELECT CAST(version AS CHAR) AS version FROM memcached.mc_stored_keys WHERE mc_key = '${key}'`,
    )
    return versionFromNumber(BigInt(row?.version ?? 0))
  }

  async function find(key: string, version?: Version): Promise<PeerAnswer> {
    log.reached(await endOfLog(world.primary), [])
    const namespace = { id: await world.namespaceId('default'), name: 'default', generation: 1 }
    return peers.find(namespace, keyFromText(key), version ?? (await versionOf(key)))
  }

  /** As memory pressure would: nobody but this memcached knows. */
  async function evict(node: number, key: string): Promise<void> {
    await dialogue(world.node(node).memcached.port, `delete default:${key}\r\n`, /DELETED/)
  }

  test('are known by their rows, with where to ask them', async () => {
    const rows = await world.primary.query<{ name: string; listener: string; http: string }>(
      'SELECT name, listener, http FROM memcached.mc_nodes ORDER BY name',
    )
    expect(rows).toEqual(
      world.nodes.map(({ name, ports }) => ({
        name,
        listener: `127.0.0.1:${ports.prefix}`,
        http: `127.0.0.1:${ports.http}`,
      })),
    )
  })

  test('supply what one of them holds, and say so where all have lost it', async () => {
    expect(await world.node(1).set('held', 'the value')).toBe('STORED\r\n')
    await world.settled()
    expect(await find('held')).toMatchObject({ kind: 'held', item: { flags: '0', value: Buffer.from('the value') } })
    await evict(1, 'held')
    expect(await find('held')).toMatchObject({ kind: 'held', item: { value: Buffer.from('the value') } })
    await evict(2, 'held')
    expect(await find('held')).toEqual({ kind: 'gone' })
  })

  test('do not take another version, or a lease, for the item', async () => {
    await world.node(1).set('changed', 'one')
    const former = await versionOf('changed')
    await world.node(2).set('changed', 'two')
    await world.settled()
    expect(await find('changed', former)).toEqual({ kind: 'gone' })
    await evict(1, 'changed')
    await evict(2, 'changed')
    for (const node of world.nodes) expect(await node.ask('mg changed N30 v\r\n', /W\r\n\r\n$/)).toContain(' W')
    expect(await find('changed')).toEqual({ kind: 'gone' })
  })

  test('that are silent count as holding, and keep nobody waiting', async () => {
    await world.node(1).set('silent', 'x')
    await world.settled()
    await evict(1, 'silent')
    await evict(2, 'silent')
    world.node(2).program.signal('SIGSTOP')
    await until('all its threads to stand still', () => world.node(2).program.standsStill)
    const since = performance.now()
    expect(await find('silent')).toEqual({ kind: 'unknown' })
    expect(performance.now() - since).toBeLessThan(2000)
    world.node(2).program.signal('SIGCONT')
    await until('the peer to answer again', async () => (await find('silent')).kind === 'gone')
  })

  test('that have not applied what the asker has do not know', async () => {
    await world.node(1).set('ahead', 'x')
    await world.settled()
    await evict(1, 'ahead')
    await evict(2, 'ahead')
    const ahead = new FollowedPosition()
    ahead.reached(beyond(await endOfLog(world.primary), 1), [])
    const asker = new Peers({ registry, log: ahead, logger: silentLogger })
    try {
      const namespace = { id: await world.namespaceId('default'), name: 'default', generation: 1 }
      expect(await asker.find(namespace, keyFromText('ahead'), await versionOf('ahead'))).toEqual({ kind: 'unknown' })
    } finally {
      asker.close()
    }
  })

  test('R16: an add wins over an item that is gone everywhere, and over none that one node still holds', async () => {
    const add = (node: number, value: string): Promise<string> => world.node(node).ask(`add lock 0 0 1\r\n${value}\r\n`)
    expect(await add(1, 'a')).toBe('STORED\r\n')
    await world.settled()
    await evict(2, 'lock')
    expect(await add(2, 'b')).toBe('NOT_STORED\r\n')
    await evict(1, 'lock')
    world.node(1).program.signal('SIGSTOP')
    await until('all its threads to stand still', () => world.node(1).program.standsStill)
    expect(await add(2, 'b')).toBe('NOT_STORED\r\n')
    world.node(1).program.signal('SIGCONT')
    await until('the other node to answer again', async () => (await find('lock')).kind === 'gone')
    expect(await add(2, 'b')).toBe('STORED\r\n')
    await world.settled()
    expect(await world.node(1).get('lock')).toBe('b')
  })

  test('a token of one node is good on the other, and is what the directory says', async () => {
    await world.node(1).set('token', 'x')
    await world.settled()
    const gets = await Promise.all(world.nodes.map((node) => node.ask('gets token\r\n', /END\r\n$/)))
    const version = await versionOf('token')
    for (const reply of gets) expect(reply).toBe(`VALUE token 0 1 ${version}\r\nx\r\nEND\r\n`)
    await world.node(2).ask('touch token 1000\r\n')
    await world.settled()
    // races.md R22: touched meanwhile, and the token still holds.
    expect(await world.node(2).ask(`cas token 0 0 1 ${version}\r\ny\r\n`, /(STORED|EXISTS)\r\n$/)).toBe('STORED\r\n')
    await world.settled()
    expect(await world.node(1).get('token')).toBe('y')
    expect(await world.node(1).ask(`cas token 0 0 1 ${version}\r\nz\r\n`, /(STORED|EXISTS)\r\n$/)).toBe('EXISTS\r\n')
    for (const node of world.nodes) expect(await node.verify()).toMatchObject({ foreign: 0 })
  })

  test('tell nothing to whoever lacks the secret', async () => {
    const [row] = await world.primary.query<{ secret: string }>(
      "SELECT value AS secret FROM memcached.mc_meta WHERE name = 'peer_secret'",
    )
    expect(row?.secret).toMatch(/^[0-9a-f]{64}$/)
    await world.node(1).set('private', 'x')
    await world.settled()
    const question = formatQuestion({
      namespaceId: await world.namespaceId('default'),
      key: keyFromText('private'),
      version: await versionOf('private'),
      position: await endOfLog(world.primary),
    })
    const port = world.node(1).ports.http
    expect(await post(port, question, {})).toEqual({ status: 401, body: '{"error":"for nodes"}' })
    expect((await post(port, question, { 'x-whitehole-peer': '' })).status).toBe(401)
    expect((await post(port, question, { 'x-whitehole-peer': `${row?.secret}0` })).status).toBe(401)
    expect(await post(port, question, { 'x-whitehole-peer': row?.secret ?? '' })).toEqual({ status: 200, body: 'x' })
    expect((await post(port, '{"key":1}', { 'x-whitehole-peer': row?.secret ?? '' })).status).toBe(400)
  })

  test('that left for good are forgotten by deleting their row', async () => {
    await world.node(1).set('left', 'x')
    await world.settled()
    await evict(1, 'left')
    await world.node(2).kill()
    expect(await find('left')).toEqual({ kind: 'unknown' })
    await world.primary.query("DELETE FROM memcached.mc_nodes WHERE name = 'node2'")
    expect(await find('left')).toEqual({ kind: 'gone' })
    world.node(2).start()
    await world.node(2).serving()
    expect((await registry.others()).map(({ name }) => name)).toEqual(['node1', 'node2'])
    expect(await find('left')).toMatchObject({ kind: 'held' })
  })
})

function post(
  port: number,
  body: string,
  headers: Readonly<Record<string, string>>,
): Promise<{ status: number | undefined; body: string }> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, method: 'POST', path: '/v1/peer/item', agent: false as const }
    const asked = request({ ...options, headers: { 'content-type': 'application/json', ...headers } }, (response) => {
      let text = ''
      response.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
      response.on('end', () => resolve({ status: response.statusCode, body: text }))
    })
    asked.on('error', reject)
    asked.end(body)
  })
}
