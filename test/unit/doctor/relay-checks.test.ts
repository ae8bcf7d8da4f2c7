import { describe, expect, test } from 'vitest'
import { parseClusterConfig } from '../../../src/config/load.ts'
import { checkPlacement } from '../../../src/doctor/placement-checks.ts'
import { checkRelay } from '../../../src/doctor/relay-checks.ts'
import type { ServerFacts } from '../../../src/doctor/server-facts.ts'

const server = (name: string, given: Partial<ServerFacts> = {}): ServerFacts => ({
  name,
  dialect: 'mariadb',
  version: '10.11.19-MariaDB',
  variables: new Map([
    ['server_id', name.slice(2)],
    ['read_only', 'ON'],
  ]),
  status: new Map(),
  replication: [],
  blackhole: true,
  clockSeconds: 0,
  clockErrorSeconds: 0,
  nodeGrants: [],
  ...given,
})

const primary = server('db1', {
  variables: new Map([
    ['server_id', '1'],
    ['read_only', 'OFF'],
  ]),
  status: new Map([['rpl_semi_sync_master_status', 'ON']]),
})

const following = (more: Record<string, string> = {}): ServerFacts['replication'] => [
  new Map(
    Object.entries({
      Slave_IO_Running: 'Yes',
      Slave_SQL_Running: 'Yes',
      Master_Server_Id: '2',
      Seconds_Behind_Master: '0',
      Replicate_Do_DB: '',
      ...more,
    }),
  ),
]

const checks = (relay: Partial<ServerFacts>, { filtered = false, home = primary } = {}): string[] =>
  checkRelay({ name: 'db3', filtered }, [home, server('db2'), server('db3', relay)]).map(({ check }) => check)

describe('a relay', () => {
  test('that follows the standby, whole or filtered as it is named, needs no change', () => {
    expect(checks({ replication: following() })).toEqual([])
    expect(checks({ replication: following({ Replicate_Do_DB: 'memcached' }) }, { filtered: true })).toEqual([])
  })

  test.each<[string, Partial<ServerFacts>, boolean, string]>([
    [
      'that filters, and is not named so',
      { replication: following({ Replicate_Do_DB: 'memcached' }) },
      false,
      'relay_filter',
    ],
    ['that is named as filtered, and is whole', { replication: following() }, true, 'relay_filter'],
    ['that follows nobody', {}, false, 'relay_source'],
    ['whose receiver is away', { replication: following({ Slave_IO_Running: 'Connecting' }) }, false, 'relay_source'],
    ['whose rows differ', { replication: following({ Slave_SQL_Running: 'No' }) }, false, 'relay_source'],
    ['that follows two', { replication: [...following(), ...following()] }, false, 'relay_source'],
    ['that is late', { replication: following({ Seconds_Behind_Master: '11' }) }, false, 'relay_lag'],
    [
      'that follows a primary that waits for its standby',
      { replication: following({ Master_Server_Id: '1' }) },
      false,
      'relay_source',
    ],
    [
      'that acknowledges',
      {
        replication: following(),
        variables: new Map([
          ['read_only', 'ON'],
          ['rpl_semi_sync_slave_enabled', 'ON'],
        ]),
      },
      false,
      'relay_semi_sync',
    ],
  ])('%s is told of', (_, relay, filtered, check) => {
    expect(checks(relay, { filtered })).toEqual([check])
  })

  test('may follow the primary in solo', () => {
    const solo = { ...primary, status: new Map([['rpl_semi_sync_master_status', 'OFF']]) }
    expect(checks({ replication: following({ Master_Server_Id: '1' }) }, { home: solo })).toEqual([])
  })

  test('that a person made the primary is to give that back', () => {
    expect(checks({ variables: new Map([['read_only', 'OFF']]) }, { home: server('db1') })).toEqual(['relay'])
  })
})

test('a node beyond without a relay reads the log over the link; most votes beyond are worth nothing when it is cut', () => {
  const machine = (name: string, runs: string[], datacenter: string, host: number): object => ({
    name,
    runs,
    datacenter,
    networks: { caches: { address: `10.0.0.${host}` } },
  })
  const cluster = parseClusterConfig(
    JSON.stringify({
      datacenters: ['dc1', 'dc2'],
      networks: { caches: '10.0.0.0/24' },
      machines: [
        machine('a', ['database', 'monitor', 'node'], 'dc1', 1),
        machine('b', ['database', 'node'], 'dc1', 2),
        machine('c', ['node'], 'dc2', 3),
        machine('d', ['node'], 'dc2', 4),
      ],
      voters: ['monitor:a', 'node:c', 'node:d'],
    }),
    'cluster.yaml',
  )
  expect(checkPlacement(cluster).map(({ where, check }) => `${where} ${check}`)).toEqual([
    'c placement',
    'd placement',
    'cluster voters',
  ])
})
