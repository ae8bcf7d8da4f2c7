import { describe, expect, test } from 'vitest'
import { defaultSettings, planOf, portsOf, processNames, voterNodes } from '../../../src/sandbox/topology.ts'

describe('the plan of a sandbox', () => {
  const plan = planOf({ ...defaultSettings, nodes: 3 })

  test('has the ports that scripts rely on', () => {
    expect(plan.databases.map(({ name, port, extraPort }) => [name, port, extraPort])).toEqual([
      ['db1', 22_141, 22_151],
      ['db2', 22_142, 22_152],
    ])
    expect(plan.nodes[2]).toMatchObject({
      name: 'node3',
      mainPort: 22_113,
      httpPort: 22_123,
      memcachedPort: 22_133,
      keyPrefixPort: 22_163,
      sessionsPort: 22_173,
    })
    expect(plan.monitors).toEqual([{ name: 'monitor', httpPort: 22_100 }])
    expect(plan.memcacheds[2]).toEqual({ name: 'memcached3', port: 22_133 })
  })

  test('lets an odd number decide: two nodes and the monitor, or the monitor alone', () => {
    expect(voterNodes(plan).map(({ name }) => name)).toEqual(['node1', 'node2'])
    expect(voterNodes(planOf({ ...defaultSettings, nodes: 1 }))).toEqual([])
    expect(voterNodes(planOf({ ...defaultSettings, topology: 'single' }))).toEqual([])
  })

  test('gives no port twice', () => {
    const ports = portsOf(planOf({ ...defaultSettings, nodes: 9 })).map(({ port }) => port)
    expect(new Set(ports).size).toBe(ports.length)
    expect(ports).toHaveLength(4 + 1 + 9 + 9 * 4)
  })

  test('has one database in a single topology', () => {
    expect(processNames(planOf({ ...defaultSettings, topology: 'single', nodes: 1 }))).toEqual([
      'db1',
      'memcached1',
      'node1',
    ])
  })
})
