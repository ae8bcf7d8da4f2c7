import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { databaseSettings } from '../../../src/config/database-settings.ts'
import { parseClusterConfig } from '../../../src/config/load.ts'
import { checkRoles, checkServer } from '../../../src/doctor/database-checks.ts'
import { checkNode } from '../../../src/doctor/node-checks.ts'
import { checkPlacement, checkSocket, expectedSockets } from '../../../src/doctor/placement-checks.ts'
import type { ServerFacts } from '../../../src/doctor/server-facts.ts'
import { checkSettings } from '../../../src/doctor/setting-checks.ts'
import type { Dialect } from '../../../src/domain/position.ts'

const needs = { topology: 'pair', logSeconds: 3600, batchBytes: 4 * 1024 * 1024 } as const

/** A server as `render mycnf` sets it up. */
function facts(dialect: Dialect, change: Record<string, string> = {}): ServerFacts {
  const identity = { serverId: 1, port: 3306, extraPort: 3307, bindAddress: '127.0.0.1' }
  const rendered = databaseSettings(dialect, identity).map(
    ({ name, value }) =>
      [name.replaceAll('-', '_'), value === '64M' ? '67108864' : value === '1M' ? '1048576' : value] as const,
  )
  return {
    name: 'db1',
    dialect,
    version: dialect === 'mariadb' ? '10.11.19-MariaDB' : '9.7.4',
    variables: new Map([...rendered, ['log_bin', 'ON'], ['read_only', 'OFF'], ...Object.entries(change)]),
    status: new Map(),
    replication: [],
    blackhole: true,
    clockSeconds: 0,
    clockErrorSeconds: 0,
    nodeGrants: [],
  }
}

describe.each(['mariadb', 'mysql'] as const)('a %s server', (dialect) => {
  test('as it is rendered needs no change', () => {
    expect(checkSettings(facts(dialect), needs)).toEqual([])
  })

  test.each<[string, string]>([
    ['log_bin', 'OFF'],
    ['log_slave_updates', 'OFF'],
    ['binlog_row_event_max_size', '8192'],
    ...(dialect === 'mariadb'
      ? ([['extra_port', '0']] as [string, string][])
      : ([
          ['gtid_mode', 'OFF'],
          ['enforce_gtid_consistency', 'OFF'],
          ['binlog_transaction_compression', 'ON'],
          ['replica_preserve_commit_order', 'OFF'],
          ['binlog_row_value_options', 'PARTIAL_JSON'],
          ['rpl_semi_sync_source_wait_point', 'AFTER_COMMIT'],
          ['rpl_semi_sync_source_timeout', '10000'],
          ['admin_port', '0'],
        ] as [string, string][])),
  ])('with %s = %s is told of that and of nothing else', (name, wrong) => {
    const found = checkSettings(facts(dialect, { [name]: wrong }), needs)
    expect(found.map(({ check }) => check)).toEqual([name])
    expect(found[0]?.option).toMatch(new RegExp(`^${name} = `))
  })
})

test('a log that is kept for ever is kept for long enough', () => {
  expect(checkSettings(facts('mariadb', { binlog_expire_logs_seconds: '0' }), needs)).toEqual([])
  const [finding] = checkSettings(facts('mariadb', { binlog_expire_logs_seconds: '86400' }), {
    ...needs,
    logSeconds: 100_000,
  })
  expect(finding?.sql).toEqual(['SET GLOBAL binlog_expire_logs_seconds = 100000'])
})

test('semi-sync is no matter of a single database, or of one that somebody else manages', () => {
  for (const topology of ['single', 'external'] as const) {
    const change = { rpl_semi_sync_master_timeout: '10000', extra_port: '0' }
    expect(checkSettings(facts('mariadb', change), { ...needs, topology })).toEqual([])
  }
})

describe('a server itself', () => {
  test.each<[string, Partial<ServerFacts>, string]>([
    ['too old', { version: '10.6.22-MariaDB' }, 'version'],
    ['without BLACKHOLE', { blackhole: false }, 'blackhole'],
    ['with a clock that is off', { clockSeconds: -7.5 }, 'clock'],
    ['that filters', { replication: [new Map([['Replicate_Do_Table', 'memcached.mc_storage']])] }, 'filters'],
  ])('%s is told of', (_, change, check) => {
    const [finding, ...more] = checkServer({ ...facts('mariadb'), ...change }, [])
    expect(finding).toMatchObject({ severity: 'problem', check })
    expect(more).toEqual([])
  })

  test("with the seed's filter is worth a note", () => {
    const replication = [new Map([['Replicate_Do_DB', 'memcached']])]
    expect(checkServer({ ...facts('mariadb'), replication }, [])).toMatchObject([
      { severity: 'note', check: 'filters' },
    ])
  })
})

describe('servers together', () => {
  const external = { topology: 'external' } as const
  const problems = (all: ServerFacts[], topology: typeof external | { topology: 'pair' } = external): string[] =>
    checkRoles(all, topology).flatMap(({ severity, check }) => (severity === 'problem' ? [check] : []))

  test('have numbers of their own, one dialect and one primary', () => {
    expect(problems([facts('mariadb'), facts('mariadb', { server_id: '2', read_only: 'ON' })])).toEqual([])
    expect(problems([facts('mariadb'), facts('mariadb', { read_only: 'ON' })])).toEqual(['server_id'])
    expect(problems([facts('mariadb'), facts('mysql', { server_id: '2', read_only: 'ON' })])).toEqual(['dialect'])
    expect(problems([facts('mariadb', { read_only: 'ON' })])).toEqual(['read_only'])
  })

  test('of a pair acknowledge with the standby, and with it alone', () => {
    const status = (clients: string) =>
      new Map([
        ['rpl_semi_sync_master_status', 'ON'],
        ['rpl_semi_sync_master_clients', clients],
      ])
    const pair = { topology: 'pair' } as const
    expect(problems([{ ...facts('mariadb'), status: status('1') }], pair)).toEqual([])
    expect(problems([{ ...facts('mariadb'), status: status('2') }], pair)).toEqual(['semi_sync'])
  })
})

describe('a node', () => {
  const healthy = {
    name: 'node1',
    state: 'serving',
    failure: null,
    memcachedVersion: '1.6.45',
    clockSeconds: 0.4,
    lagSeconds: 0.1,
    logKeptSeconds: 86_400,
    logNeededSeconds: 3600,
  }

  test.each<[string, Partial<typeof healthy>, string[]]>([
    ['that is well', {}, []],
    ['that rebuilds', { state: 'rebuilding' }, ['problem state']],
    ['that drains', { state: 'draining' }, ['note state']],
    ['far behind', { lagSeconds: 100 }, ['advice lag']],
    ['on an old memcached', { memcachedVersion: '1.6.9' }, ['problem memcached']],
    ["on Debian 12's memcached", { memcachedVersion: '1.6.18' }, ['note memcached']],
    ['with another time', { clockSeconds: -60 }, ['advice clock']],
    ['whose log is gone too soon', { logKeptSeconds: 60 }, ['problem retention']],
  ])('%s', (_, change, expected) => {
    const found = checkNode('node1', 'http://127.0.0.1:1', { ...healthy, ...change })
    expect(found.map(({ severity, check }) => `${severity} ${check}`)).toEqual(expected)
  })

  test('that does not answer is a problem', () => {
    expect(checkNode('node1', 'http://127.0.0.1:1', undefined)).toMatchObject([{ check: 'node' }])
  })
})

describe("the cluster file's machines", () => {
  const example = new URL('../../../docs/examples/seed.yaml', import.meta.url)
  const seed = parseClusterConfig(readFileSync(example, 'utf8'), 'seed.yaml')

  test('are placed so that one may be lost, or it is told', () => {
    expect(checkPlacement(seed)).toEqual([])
    const fewer = { ...seed, machines: seed.machines.filter(({ name }) => name !== 'slave-2' && name !== 'master-b') }
    expect(checkPlacement(fewer).map(({ where }) => where)).toEqual(['slave-1', 'master-a'])
  })

  test('hold no majority of the votes alone, or it is told', () => {
    const votes = (voters: string[]): string[] => checkPlacement({ ...seed, voters }).map(({ where }) => where)
    expect(votes(['monitor:master-a', 'monitor:slave-1', 'node:slave-1'])).toEqual(['slave-1'])
    expect(votes([])).toEqual(['cluster'])
  })

  test('are expected to be reached where clients and others need them, and their memcached nowhere', () => {
    const sockets = expectedSockets(seed).map(({ host, port, open }) => `${host}:${port} ${open ? 'open' : 'closed'}`)
    expect(sockets).toEqual(
      expect.arrayContaining([
        '10.200.5.100:11211 open',
        '10.200.5.100:11210 closed',
        '10.100.5.3:11213 open',
        '10.200.5.20:3307 open',
      ]),
    )
    const memcached = { where: 'slave-1', what: 'memcached', host: '10.200.5.100', port: 11_210, open: false }
    expect(checkSocket(memcached, true)).toMatchObject([{ check: 'exposed' }])
    expect(checkSocket(memcached, false)).toEqual([])
  })
})
