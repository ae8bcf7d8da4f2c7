import type { ClusterConfig } from '../config/cluster-config.ts'
import type { Finding } from './finding.ts'

/** What the loss of one machine would take along, as far as the cluster file tells. */
export function checkPlacement(cluster: ClusterConfig): Finding[] {
  const running = (role: ClusterConfig['machines'][number]['runs'][number]) =>
    cluster.machines.filter(({ runs }) => runs.includes(role))
  const alone = (role: string, machine: string, remedy: string): Finding => ({
    severity: 'advice',
    where: machine,
    check: 'placement',
    found: `it is the only ${role}: with this machine ${role === 'node' ? 'every copy in memory' : 'the virtual addresses'} would be gone`,
    remedy,
  })
  const [onlyNode, ...moreNodes] = running('node')
  const [onlyBalancer, ...moreBalancers] = running('balancer')
  return [
    ...(onlyNode !== undefined && moreNodes.length === 0 && cluster.topology !== 'single'
      ? [alone('node', onlyNode.name, 'run a node on another machine')]
      : []),
    ...(onlyBalancer !== undefined && moreBalancers.length === 0 && cluster.virtualAddresses.length > 0
      ? [alone('balancer', onlyBalancer.name, 'run a balancer on another machine of the data centre')]
      : []),
    ...checkVoters(cluster),
    ...checkBeyond(cluster),
  ]
}

/** What another data centre lacks, or has too much of. */
function checkBeyond({ topology, machines, datacenters, voters }: ClusterConfig): Finding[] {
  if (topology !== 'pair') return []
  const [home = ''] = datacenters
  const beyond = machines.filter(({ datacenter = home }) => datacenter !== home)
  const relays = new Set(beyond.flatMap(({ runs, datacenter }) => (runs.includes('database') ? [datacenter] : [])))
  const withoutRelay = beyond.flatMap(({ name, runs, datacenter }): Finding[] =>
    runs.includes('node') && !relays.has(datacenter)
      ? [
          {
            severity: 'advice',
            where: name,
            check: 'placement',
            found: `its node reads the log of ${home} over the link, as each one in ${datacenter} does: there is no relay`,
            remedy: `run a database in ${datacenter} (docs/DATACENTERS.md)`,
          },
        ]
      : [],
  )
  const votes = voters.filter((voter) => beyond.some(({ name }) => voter.endsWith(`:${name}`))).length
  if (votes < Math.floor(voters.length / 2) + 1) return withoutRelay
  return [
    ...withoutRelay,
    {
      severity: 'advice',
      where: 'cluster',
      check: 'voters',
      found: `${votes} of ${voters.length} votes are beyond ${home}: with the link cut, nobody there can replace a dead primary`,
      remedy: `let most of the voters be in ${home}, or in a third place that both reach`,
    },
  ]
}

/** Whoever holds a majority alone takes the decision along. */
function checkVoters({ voters, topology, machines }: ClusterConfig): Finding[] {
  if (topology !== 'pair') return []
  if (voters.length === 0) {
    return [
      {
        severity: 'advice',
        where: 'cluster',
        check: 'voters',
        found: 'nobody decides which database is the primary: when it dies, writes fail until a person acts',
        remedy: 'run monitors, and name an odd number of voters on three machines',
      },
    ]
  }
  const majority = Math.floor(voters.length / 2) + 1
  return machines.flatMap(({ name }): Finding[] => {
    const own = voters.filter((voter) => voter.endsWith(`:${name}`)).length
    if (own < majority) return []
    return [
      {
        severity: 'advice',
        where: name,
        check: 'voters',
        found: `it has ${own} of ${voters.length} votes: when it is lost, nothing can be decided without a person`,
        remedy: 'let a third machine vote (a small one with a monitor is enough)',
      },
    ]
  })
}

/** An address that must be reachable from here, or must not. */
export interface ExpectedSocket {
  readonly where: string
  readonly what: string
  readonly host: string
  readonly port: number
  readonly open: boolean
}

export function expectedSockets(cluster: ClusterConfig): ExpectedSocket[] {
  const { namespaces, keyPrefixPort, nodeHttpPort, nodeAgentPort, monitorHttpPort, virtualAddresses, balancer } =
    cluster
  const hasAgents = balancer.forwarding === 'proxy' && cluster.machines.some(({ runs }) => runs.includes('balancer'))
  const clientPorts = [
    ...namespaces.map(({ name, port }) => ({ what: `namespace ${name}`, port })),
    ...(keyPrefixPort === null ? [] : [{ what: 'the key-prefix listener', port: keyPrefixPort }]),
  ]
  const ofMachines = cluster.machines.flatMap(({ name, runs, networks, database, memcached }) => {
    const common = { where: name, host: networks.caches.address }
    const isLoopback = networks.caches.address.startsWith('127.')
    return [
      ...(runs.includes('node')
        ? [
            ...clientPorts.map((port) => ({ ...common, ...port, open: true })),
            { ...common, what: '/readyz', port: nodeHttpPort, open: true },
            ...(hasAgents && nodeAgentPort !== null
              ? [{ ...common, what: 'its weight for balancers', port: nodeAgentPort, open: true }]
              : []),
            // Whoever reaches it may write past the log.
            ...(isLoopback ? [] : [{ ...common, what: "the node's own memcached", port: memcached.port, open: false }]),
          ]
        : []),
      ...(runs.includes('monitor') ? [{ ...common, what: 'the monitor', port: monitorHttpPort, open: true }] : []),
      ...(runs.includes('database')
        ? [
            { ...common, what: 'the database', port: database.port, open: true },
            { ...common, what: "the database's extra port", port: database.extraPort, open: true },
          ]
        : []),
    ]
  })
  const ofVirtuals = virtualAddresses.flatMap(({ role, applications, caches }) =>
    [applications, caches]
      .filter((host) => host !== undefined)
      .flatMap((host) =>
        clientPorts.map((port) => ({
          where: role,
          host,
          ...port,
          what: `${port.what} at the virtual address`,
          open: true,
        })),
      ),
  )
  return [...ofMachines, ...ofVirtuals]
}

export function checkSocket(expected: ExpectedSocket, isOpen: boolean): Finding[] {
  const { where, what, host, port, open } = expected
  if (isOpen === open) return []
  const place = `${host}:${port}`
  return [
    {
      severity: 'problem',
      where,
      check: open ? 'unreachable' : 'exposed',
      found: open
        ? `${what} (${place}) can't be reached from this machine`
        : `${what} (${place}) can be reached over the network: whoever writes there writes past the log`,
      remedy: open
        ? 'see that it runs, that it listens on this network, and that no firewall is between'
        : 'let it listen on 127.0.0.1 alone',
    },
  ]
}
