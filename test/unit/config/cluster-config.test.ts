import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { parseClusterConfig } from '../../../src/config/load.ts'

const examples = new URL('../../../docs/examples/', import.meta.url)
const seed = readFileSync(new URL('seed.yaml', examples), 'utf8')

// oxlint-disable-next-line typescript/no-explicit-any -- a file as people write it, with anything in it
type Loose = any

/** The error for the seed's file with one thing changed, a line each. */
function complaints(change: (file: Loose) => void): string[] {
  const file: Loose = parse(seed)
  change(file)
  try {
    parseClusterConfig(stringify(file), 'cluster.yaml')
  } catch (error) {
    return (error as Error).message
      .replace(/^cluster\.yaml: /, '')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '')
  }
  return []
}

test.each(readdirSync(examples).filter((name) => name.endsWith('.yaml')))('the example %s is right', (name) => {
  expect(parseClusterConfig(readFileSync(new URL(name, examples), 'utf8'), name).machines.length).toBeGreaterThan(0)
})

describe('each mistake is told at its own place', () => {
  test.each<[string, (file: Loose) => void, string]>([
    [
      'an address outside its network',
      (file) => (file.machines[0].networks.caches.address = '10.100.5.10'),
      'machines[0].networks.caches.address: 10.100.5.10 is not in 10.200.5.0/24',
    ],
    [
      'an address of two machines',
      (file) => (file.machines[3].networks.caches.address = '10.200.5.100'),
      'machines[3].networks.caches.address: 10.200.5.100 is taken by machines.2.networks.caches.address',
    ],
    [
      'a name of two machines',
      (file) => (file.machines[1].name = 'master-a'),
      'machines[1].name: master-a is taken by machines.0.name',
    ],
    [
      'a place in a network that is not there',
      (file) => {
        delete file.networks.applications
        file.virtualAddresses = []
        file.machines[1].networks = { caches: file.machines[1].networks.caches }
      },
      'machines[0].networks.applications.address: there is no such network in `networks`',
    ],
    ['a subnet that is none', (file) => (file.networks.caches = '10.200.5.0'), 'networks.caches: is no subnet'],
    [
      'a data centre that is not there',
      (file) => (file.machines[2].datacenter = 'dc2'),
      'machines[2].datacenter: "dc2" is not in datacenters',
    ],
    [
      'a pair of one',
      (file) => (file.machines[1].runs = ['balancer', 'monitor']),
      'machines: a pair has two machines that run a `database` in dc1, and not 1',
    ],
    [
      'a server id of two databases',
      (file) => (file.machines[1].database.serverId = 50),
      'machines[1].database.serverId: 50 is taken by machines.0.database.serverId',
    ],
    [
      'a virtual address that is a machine',
      (file) => (file.virtualAddresses[0].caches = '10.200.5.10'),
      'virtualAddresses[0].caches: 10.200.5.10 is the address of a machine',
    ],
    [
      'two readers',
      (file) => (file.virtualAddresses[0].role = 'reader'),
      'virtualAddresses[1].role: reader of dc1 is taken by virtualAddresses.0.role',
    ],
    [
      'a holder that is no balancer',
      (file) => (file.virtualAddresses[0].machine = 'slave-1'),
      'virtualAddresses[0].machine: "slave-1" is no machine of dc1 that runs a `balancer`',
    ],
    [
      'a holder without an interface',
      (file) => delete file.machines[0].networks.applications.interface,
      'machines[0].networks.applications: master-a may come to hold a virtual address: give `address` and `interface`',
    ],
    [
      'a port of two namespaces',
      (file) => (file.namespaces[1].port = 11_211),
      'namespaces[1].port: 11211 is taken by namespaces.0.port',
    ],
    [
      "memcached's port that a namespace has",
      (file) => (file.machines[2].memcached = { port: 11_213 }),
      'machines[2].memcached.port: 11213 is taken by the node',
    ],
    [
      'a database everywhere, where the balancer wants its port',
      (file) => (file.machines[0].networks.caches.bind = '0.0.0.0'),
      'machines[0].database.port: the database listens everywhere, and the balancer wants 3306',
    ],
    [
      'a voter that is not there',
      (file) => (file.voters[2] = 'node:master-a'),
      'voters[2]: no machine "master-a" runs a `node`',
    ],
    ['an even number of voters', (file) => file.voters.push('node:slave-2'), 'voters: an odd number must vote'],
    [
      'a monitor without a vote',
      (file) => (file.voters = ['node:slave-1', 'monitor:master-a', 'node:slave-2']),
      'machines[1].runs: its monitor must be a voter: monitor:master-b',
    ],
    [
      'a filter at home',
      (file) => (file.machines[0].database.filtered = true),
      'machines[0].database.filtered: is for a relay: a database in another data centre',
    ],
    [
      'a write from beyond that need not be here, without a relay there',
      (file) => (file.machines[2].node = { acknowledge: 'committed' }),
      'machines[2].node.acknowledge: `committed` is for a node in another data centre that has a relay',
    ],
    [
      'a relay of a database that is no pair',
      (file) => {
        Object.assign(file, { topology: 'single', datacenters: ['dc1', 'dc2'], voters: [] })
        file.machines[1].datacenter = 'dc2'
        for (const machine of file.machines) machine.runs = machine.runs.filter((role: string) => role !== 'monitor')
      },
      'machines[1].runs: a database in another data centre is a relay of a pair: this is none',
    ],
    [
      'an address of a data centre that has its own subnet',
      (file) => {
        file.datacenters = ['dc1', 'dc2']
        file.networks.beyond = [{ datacenter: 'dc2', caches: '10.201.5.0/24' }]
        file.machines[3].datacenter = 'dc2'
      },
      'machines[3].networks.caches.address: 10.200.5.101 is not in 10.201.5.0/24',
    ],
    [
      'subnets beyond for home',
      (file) => (file.networks.beyond = [{ datacenter: 'dc1', caches: '10.201.5.0/24' }]),
      'networks.beyond[0].datacenter: "dc1" is no data centre beyond dc1 in datacenters',
    ],
    ['an unknown key', (file) => (file.balancer.chektype = 'ping'), 'balancer.chektype: unknown key'],
  ])('%s', (_, change, expected) => {
    const found = complaints(change)
    expect(found.filter((line) => line.startsWith(expected))).toHaveLength(1)
  })
})
