import { describe, expect, test } from 'vitest'
import { defaultSettings, planOf, portsOf, processNames } from '../../../src/sandbox/topology.ts'

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
    expect(plan.memcacheds[2]).toEqual({ name: 'memcached3', port: 22_133 })
  })

  test('gives no port twice', () => {
    const ports = portsOf(planOf({ ...defaultSettings, nodes: 9 })).map(({ port }) => port)
    expect(new Set(ports).size).toBe(ports.length)
    expect(ports).toHaveLength(4 + 9 + 9 * 4)
  })

  test('has one database in a single topology', () => {
    expect(processNames(planOf({ ...defaultSettings, topology: 'single', nodes: 1 }))).toEqual([
      'db1',
      'memcached1',
      'node1',
    ])
  })
})
