import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { haveHaproxy } from '../support/balancer.ts'
import { Client } from '../support/client.ts'
import { dialogue } from '../support/memcached.ts'
import { freePort, Program, until } from '../support/processes.ts'
import { whiteholeHere } from '../support/sandboxes.ts'
import { World } from '../support/world.ts'

/** Two machines with a node each, and a balancer on the first. The addresses are put in below: here all are on loopback. */
const cluster = (port: number): object => ({
  topology: 'single',
  networks: { caches: '10.200.5.0/24' },
  machines: [
    {
      name: 'node1',
      runs: ['database', 'node', 'balancer'],
      networks: { caches: { address: '10.200.5.1', interface: 'eth0' } },
    },
    { name: 'node2', runs: ['node'], weight: 2, networks: { caches: { address: '10.200.5.2' } } },
  ],
  virtualAddresses: [{ role: 'reader', caches: '10.200.5.9', machine: 'node1' }],
  namespaces: [{ name: 'default', port }],
  keyPrefixPort: null,
  // What the weight does is to be seen apart from what the health check does.
  balancer: { checkIntervalSeconds: 0.5, fall: 100 },
})

describe.skipIf(!haveHaproxy)("HAProxy, with the file that `render` writes, gives each node its state's share", () => {
  const port = { clients: 0, health: 0 }
  const agents: number[] = []
  let world: World
  let haproxy: Program

  beforeAll(async () => {
    port.clients = await freePort()
    port.health = await freePort()
    world = await World.start({ topology: 'single', nodes: 0 })
    const file = join(world.folder, 'cluster.yaml')
    await writeFile(file, stringify(cluster(port.clients)))
    for (const name of ['node1', 'node2']) {
      const { stdout } = await whiteholeHere('render', 'node', '--cluster', file, '--machine', name, '--json')
      const [{ files }] = JSON.parse(stdout) as [{ files: { text: string }[] }]
      // The node's own file has the port where the balancer's has it.
      expect(parse(files[0]?.text ?? '').balancerAgent.listen).toMatch(/^10\.200\.5\.[12]:22122$/)
      const agent = await freePort()
      agents.push(agent)
      await world.addNode({
        topology: 'single',
        nodes: 0,
        node: { balancerAgent: { listen: `127.0.0.1:${agent}` } },
      })
    }
    await Promise.all(world.nodes.map((node) => node.serving()))
    const { stdout } = await whiteholeHere('render', 'haproxy', '--cluster', file, '--machine', 'node1')
    await writeFile(join(world.folder, 'haproxy.cfg'), onLoopback(stdout))
    haproxy = new Program('/usr/sbin/haproxy', ['-db', '-f', join(world.folder, 'haproxy.cfg')])
    await until('HAProxy to listen', () => {
      if (!haproxy.running) throw new Error(haproxy.output)
      return existsSync(join(world.folder, 'stats'))
    })
  })
  afterAll(async () => {
    await haproxy?.stop()
    await world?.remove()
  })

  function onLoopback(text: string): string {
    const moved = text
      .replace(/^ {4}(?:user|group|log) .*\n/gm, '')
      .replace('/run/haproxy/admin.sock mode 660', join(world.folder, 'stats'))
      .replace('127.0.0.1:22099', `127.0.0.1:${port.health}`)
      .replace(/^ {4}bind 10\.200\.5\.1:\d+ transparent\n/gm, '')
      .replace(/^ {4}bind 10\.200\.5\.9:/gm, '    bind 127.0.0.1:')
      .replace(/ transparent$/gm, '')
    return [1, 2].reduce((all, n) => {
      const { main, http } = world.node(n).ports
      return all
        .replace(
          new RegExp(`server node${n} 10\\.200\\.5\\.${n}:\\d+ check port \\d+`),
          `server node${n} 127.0.0.1:${main} check port ${http}`,
        )
        .replace(new RegExp(`(server node${n} .* agent-port) \\d+`), `$1 ${agents[n - 1]}`)
    }, moved)
  }

  /** Of HAProxy's own command line. */
  function ask(command: string): Promise<string> {
    return new Promise((resolve, reject) => {
      let all = ''
      const socket = createConnection(join(world.folder, 'stats'), () => socket.write(`${command}\n`))
      socket.on('data', (chunk: Buffer) => (all += chunk.toString()))
      socket.on('end', () => resolve(all)).on('error', reject)
    })
  }

  async function servers(): Promise<Record<string, { weight: number; status: string; sessions: number }>> {
    const text = await ask('show stat')
    const [head = '', ...lines] = text.replace(/^# /, '').trim().split('\n')
    const names = head.split(',')
    const rows = lines.map((line) => Object.fromEntries(line.split(',').map((cell, at) => [names[at] ?? '', cell])))
    return Object.fromEntries(
      rows
        .filter(({ pxname, svname = '' }) => pxname === 'nodes-default' && svname.startsWith('node'))
        .map(({ svname = '', weight, status = '', stot }) => [
          svname,
          { weight: Number(weight), status, sessions: Number(stot) },
        ]),
    )
  }

  const weights = async (): Promise<number[]> => Object.values(await servers()).map(({ weight }) => weight)

  const untilWeights = (what: string, wanted: readonly [number, number]): Promise<unknown> =>
    until(what, async () => {
      const found = await weights()
      if (found.join() !== wanted.join()) throw new Error(found.join())
      return true
    })

  const read = (): Promise<string> => dialogue(port.clients, 'get k\r\n', /(END|ERROR[^\r\n]*)\r\n$/)

  async function sessionsOfReads(count: number): Promise<[number, number]> {
    const before = await servers()
    for (let n = 0; n < count; n++) expect(await read()).toBe('VALUE k 0 1\r\nv\r\nEND\r\n')
    const after = await servers()
    const more = (name: string): number => (after[name]?.sessions ?? 0) - (before[name]?.sessions ?? 0)
    return [more('node1'), more('node2')]
  }

  test('all serve: as the machines weigh', async () => {
    await untilWeights('both to have their weight', [100, 200])
    expect(await dialogue(port.clients, 'set k 0 0 1\r\nv\r\n', /\r\n$/)).toBe('STORED\r\n')
    await until('both to have it', async () => (await world.node(1).get('k')) === (await world.node(2).get('k')))
    const [first, second] = await sessionsOfReads(30)
    expect([first, second]).toEqual([10, 20])
  })

  test('a drained node gets no new client within one question, keeps those it has, and comes back', async () => {
    const connected: Client[] = []
    // In turn: each node has some of them.
    for (let n = 0; n < 6; n++) connected.push(await Client.connect(port.clients))
    for (const client of connected) await client.ask('get k\r\n', /END\r\n$/)
    const config = join(world.folder, 'node2', 'config.yaml')
    expect(await whiteholeHere('node', 'drain', '--config', config)).toMatchObject({ code: 0 })
    await untilWeights('node 2 to have none', [100, 0])
    // A hundred failed checks are far off.
    expect((await servers())['node2']?.status).toMatch(/^(?:UP|DRAIN)/)
    expect(await sessionsOfReads(9)).toEqual([9, 0])
    for (const client of connected)
      expect(await client.ask('get k\r\n', /END\r\n$/)).toBe('VALUE k 0 1\r\nv\r\nEND\r\n')
    for (const client of connected) client.close()
    expect(await whiteholeHere('node', 'undrain', '--config', config)).toMatchObject({ code: 0 })
    await untilWeights('node 2 to be back', [100, 200])
  })

  test('a node whose memcached is gone gets nobody until it is filled again', async () => {
    await world.node(1).memcached.stop()
    await untilWeights('node 1 to have none', [0, 200])
    expect(await sessionsOfReads(9)).toEqual([0, 9])
    await world.node(1).memcached.restart()
    await untilWeights('node 1 to be back', [100, 200])
    expect(await world.node(1).get('k')).toBe('v')
  })

  test('a person who lets a server drain in HAProxy is not overruled', async () => {
    await ask('set server nodes-default/node2 state drain')
    // Its agent has told its weight again and again meanwhile.
    const answered = Date.now()
    await until('some more questions', () => Date.now() - answered > 1500)
    expect((await servers())['node2']?.status).toMatch(/^DRAIN/)
    await ask('set server nodes-default/node2 state ready')
  })
})
