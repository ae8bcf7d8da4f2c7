import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { loadNodeConfig, parseNodeConfig } from '../../../src/config/load.ts'

const folder = mkdtempSync(join(tmpdir(), 'whitehole-config-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const least = {
  name: 'node1',
  dataDirectory: '/var/lib/whitehole/node1',
  databases: { addresses: ['127.0.0.1:22141', '127.0.0.1:22142'], password: 'secret' },
  memcached: { address: '127.0.0.1:22131' },
  listeners: [{ listen: '127.0.0.1:22111', namespace: 'default' }],
}

type Part = Record<string, unknown>
const parse = (change: Part = {}) => parseNodeConfig(stringify({ ...least, ...change }), 'node.yaml')
const complaint = (change: Part): string => {
  try {
    parse(change)
  } catch (error) {
    return (error as Error).message
  }
  throw new Error('the configuration was taken')
}
let files = 0
const write = (text: string, mode: number): string => {
  const file = join(folder, `${files++}.yaml`)
  writeFileSync(file, text)
  chmodSync(file, mode)
  return file
}

describe('a node configuration', () => {
  test('needs little and fills in the rest', () => {
    const config = parse()
    expect(config.databases.topology).toBe('pair')
    expect(config.writer).toMatchObject({ lanes: 1, writeTimeoutMilliseconds: 3000 })
    expect(config.http.listen).toEqual({ kind: 'tcp', host: '127.0.0.1', port: 22_121 })
    const address = { kind: 'tcp', host: '127.0.0.1', port: 22_111 }
    expect(config.listeners).toEqual([{ kind: 'bound', listen: address, advertise: address, namespace: 'default' }])
  })

  test("advertises what it is told, else what it listens on, and its machine's name where that is everywhere", () => {
    const advertised = (http: Part): unknown => parse({ http: { ...http, trusted: true } }).http.advertise
    expect(advertised({ listen: '10.0.0.1:22121' })).toMatchObject({ host: '10.0.0.1', port: 22_121 })
    expect(advertised({ listen: '0.0.0.0:22121' })).toMatchObject({ host: hostname(), port: 22_121 })
    expect(advertised({ listen: '0.0.0.0:22121', advertise: '192.0.2.1:80' })).toMatchObject({
      host: '192.0.2.1',
      port: 80,
    })
  })

  test('is frozen, inside too', () => {
    const config = parse()
    expect(() => Object.assign(config.writer, { lanes: 2 })).toThrow(TypeError)
    expect(Object.isFrozen(config.listeners[0]?.listen)).toBe(true)
  })

  test('derives a stable server id from the name, and another for another name', () => {
    const { serverId } = parse().databases
    expect(serverId).toBe(parse().databases.serverId)
    expect(serverId).not.toBe(parse({ name: 'node2' }).databases.serverId)
    expect(serverId).toBeGreaterThanOrEqual(1_000_000_000)
    expect(serverId).toBeLessThan(2 ** 32)
    expect(parse({ databases: { ...least.databases, serverId: 77 } }).databases.serverId).toBe(77)
  })

  test.each<[string, Part, string]>([
    ['a missing key', { name: undefined }, 'node.yaml: name: is missing'],
    ['an unknown key', { writer: { lane: 2 } }, 'writer.lane: unknown key; docs/CONFIGURATION.md'],
    ['a value out of range', { writer: { lanes: 99 } }, 'writer.lanes: '],
    ['a wrong type', { log: { level: 'loud' } }, 'log.level: '],
    [
      'a bad address in a list',
      { databases: { ...least.databases, addresses: ['a:1', 'b'] } },
      'databases.addresses[1]: "b"',
    ],
    ['a memcached on a unix socket', { memcached: { address: 'unix:/tmp/m' } }, 'memcached.address: '],
    ['a listener with nothing to serve', { listeners: [{ listen: 'unix:/tmp/a' }] }, 'listeners[0]: needs either'],
    [
      'a listener with both kinds of namespace',
      { listeners: [{ listen: 'unix:/tmp/a', namespace: 'a', namespaceFrom: 'key' }] },
      'listeners[0]: needs either',
    ],
    [
      'a bad name of a namespace',
      { listeners: [{ listen: 'unix:/tmp/a', namespace: 'a b' }] },
      'listeners[0].namespace: is no name',
    ],
    [
      'two listeners on one address',
      { listeners: [...least.listeners, ...least.listeners] },
      'listeners[1].listen: is listened on twice',
    ],
    [
      'a pair of one',
      { databases: { addresses: ['a:1'], password: 'x' } },
      'databases.addresses: a pair has at least two',
    ],
    ['no password', { databases: { addresses: ['a:1', 'b:1'] } }, 'databases.passwordFile: give'],
    [
      'two passwords',
      { databases: { ...least.databases, passwordFile: 'x' } },
      'databases.passwordFile: give `password` or `passwordFile`, not both',
    ],
  ])('names the path and what to do for %s', (_what, change, expected) => {
    expect(complaint(change)).toContain(expected)
  })

  test('tells all wrong keys at once, one a line', () => {
    expect(complaint({ name: 'a b', dataDirectory: 'x', log: { level: 1 } }).split('\n')).toHaveLength(4)
  })

  test.each(['0.0.0.0:22111', '10.0.0.1:22111', 'cache.example:22111', '[::]:22111'])(
    'opens nothing beyond loopback (%s) unless it is said to be trusted',
    (listen) => {
      expect(complaint({ listeners: [{ listen, namespace: 'a' }] })).toContain('listeners[0].listen: is reachable')
      expect(complaint({ http: { listen } })).toContain('http.listen: is reachable')
      expect(
        parse({ listeners: [{ listen, namespace: 'a', trusted: true }], http: { listen, trusted: true } }),
      ).toBeDefined()
    },
  )

  test.each(['127.0.0.1:1', 'localhost:1', '127.8.8.8:1', '[::1]:1', 'unix:/tmp/x'])(
    'takes %s for loopback',
    (listen) => {
      expect(parse({ listeners: [{ listen, namespace: 'a' }] })).toBeDefined()
    },
  )

  test('that is no YAML says where', () => {
    expect(() => parseNodeConfig('name: [', 'node.yaml')).toThrow(/node\.yaml: it is no YAML: .*line 1/s)
  })
})

describe('a password', () => {
  test('comes from a file beside the configuration', () => {
    writeFileSync(join(folder, 'password'), 'from-file\n', { mode: 0o600 })
    const { password: _, ...databases } = least.databases
    const file = write(stringify({ ...least, databases: { ...databases, passwordFile: 'password' } }), 0o644)
    expect(loadNodeConfig(file).databases.password).toBe('from-file')
  })

  test('in a file that everybody may read is refused', () => {
    expect(() => loadNodeConfig(write(stringify(least), 0o644))).toThrow(/open to every user.*chmod 600/)
    expect(loadNodeConfig(write(stringify(least), 0o640)).databases.password).toBe('secret')
  })

  test('whose file is missing says which key', () => {
    const { password: _, ...databases } = least.databases
    const file = write(stringify({ ...least, databases: { ...databases, passwordFile: 'none' } }), 0o600)
    expect(() => loadNodeConfig(file)).toThrow(/databases\.passwordFile can't be read: ENOENT/)
  })
})
