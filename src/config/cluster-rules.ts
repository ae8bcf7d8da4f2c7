import { isInSubnet } from './subnet.ts'

type Complain = (path: readonly (string | number)[], message: string) => void
type Role = 'database' | 'node' | 'monitor' | 'balancer'

interface Place {
  readonly address: string
  readonly bind?: string | undefined
  readonly interface?: string | undefined
}

interface Machine {
  readonly name: string
  readonly datacenter?: string | undefined
  readonly runs: readonly Role[]
  readonly networks: { readonly applications?: Place | undefined; readonly caches: Place }
  readonly database: {
    readonly serverId?: number | undefined
    readonly port: number
    readonly extraPort: number
    readonly filtered: boolean
  }
  readonly node: { readonly acknowledge: 'local' | 'committed' }
  readonly memcached: { readonly port: number }
}

interface Networks {
  readonly applications?: string | undefined
  readonly caches: string
}

interface Cluster {
  readonly topology: 'pair' | 'single' | 'external'
  readonly datacenters: readonly string[]
  readonly networks: Networks & { readonly beyond: readonly (Networks & { readonly datacenter: string })[] }
  readonly machines: readonly Machine[]
  readonly virtualAddresses: readonly {
    readonly role: string
    readonly datacenter?: string | undefined
    readonly applications?: string | undefined
    readonly caches?: string | undefined
    readonly machine: string
    readonly routerId?: number | undefined
  }[]
  readonly namespaces: readonly { readonly name: string; readonly port: number }[]
  readonly keyPrefixPort: number | null
  readonly nodeHttpPort: number
  readonly nodeAgentPort: number | null
  readonly monitorHttpPort: number
  readonly voters: readonly string[]
  readonly sqlPorts: { readonly primary: number; readonly standby: number }
}

/** What one key alone can't tell. Each complaint names the key that is to be changed. */
export function checkCluster(cluster: Cluster, tell: Complain): void {
  const told = new Set<string>()
  const complain: Complain = (path, message) => {
    const once = `${path.join('.')}: ${message}`
    if (!told.has(once)) tell(path, message)
    told.add(once)
  }
  checkMachines(cluster, complain)
  checkDatabases(cluster, complain)
  checkRelays(cluster, complain)
  checkVirtualAddresses(cluster, complain)
  checkPorts(cluster, complain)
  checkVoters(cluster, complain)
}

function checkVoters({ voters, machines, topology, monitorHttpPort, nodeHttpPort }: Cluster, complain: Complain): void {
  const seen = new Seen(complain)
  for (const [index, voter] of voters.entries()) {
    const path = ['voters', index]
    seen.add(voter, path)
    const [kind = '', name] = voter.split(':')
    const runs: readonly string[] = machines.find((machine) => machine.name === name)?.runs ?? []
    if (!runs.includes(kind)) complain(path, `no machine "${name}" runs a \`${kind}\``)
  }
  for (const [index, { name, runs }] of machines.entries()) {
    if (!runs.includes('monitor')) continue
    const path = ['machines', index, 'runs']
    if (topology !== 'pair') complain(path, 'a monitor looks after a pair: this is none')
    else if (!voters.includes(`monitor:${name}`)) complain(path, `its monitor must be a voter: monitor:${name}`)
    if (runs.includes('node') && monitorHttpPort === nodeHttpPort)
      complain(['monitorHttpPort'], 'is taken by the nodes')
  }
  if (voters.length > 0 && voters.length % 2 === 0) {
    complain(['voters'], `an odd number must vote, or halves can't decide: these are ${voters.length}`)
  }
}

/** The subnets of that data centre: those of home, where it has none of its own. */
export function networksOf({ networks }: Pick<Cluster, 'networks'>, datacenter: string): Networks {
  return networks.beyond.find((one) => one.datacenter === datacenter) ?? networks
}

function checkMachines(cluster: Cluster, complain: Complain): void {
  const { machines, networks, datacenters } = cluster
  const [home = ''] = datacenters
  for (const [index, { datacenter }] of networks.beyond.entries()) {
    if (datacenter === home || !datacenters.includes(datacenter)) {
      complain(
        ['networks', 'beyond', index, 'datacenter'],
        `"${datacenter}" is no data centre beyond ${home} in datacenters`,
      )
    }
  }
  const names = new Seen(complain)
  const addresses = new Seen(complain)
  for (const [index, machine] of machines.entries()) {
    const path = ['machines', index]
    names.add(machine.name, [...path, 'name'])
    if (machine.datacenter !== undefined && !datacenters.includes(machine.datacenter)) {
      complain([...path, 'datacenter'], `"${machine.datacenter}" is not in datacenters`)
    }
    for (const network of ['applications', 'caches'] as const) {
      const place = machine.networks[network]
      if (place === undefined) continue
      const at = [...path, 'networks', network]
      const subnet = networksOf(cluster, machine.datacenter ?? home)[network]
      requireIn(subnet, place.address, { path: [...at, 'address'], complain })
      addresses.add(place.address, [...at, 'address'])
    }
  }
}

function checkDatabases({ machines, topology, datacenters }: Cluster, complain: Complain): void {
  const ids = new Seen(complain)
  for (const [index, { runs, database }] of machines.entries()) {
    if (!runs.includes('database')) continue
    ids.add(String(database.serverId ?? index + 1), ['machines', index, 'database', 'serverId'])
    if (database.port === database.extraPort) {
      complain(['machines', index, 'database', 'extraPort'], 'must differ from `port`')
    }
  }
  const [home = ''] = datacenters
  const atHome = machines.filter(
    ({ runs, datacenter = home }) => runs.includes('database') && datacenter === home,
  ).length
  if (topology === 'pair' && atHome !== 2) {
    complain(['machines'], `a pair has two machines that run a \`database\` in ${home}, and not ${atHome}`)
  }
  if (topology === 'single' && atHome !== 1) {
    complain(
      ['machines'],
      `\`topology: single\` has one machine that runs a \`database\` in ${home}, and not ${atHome}`,
    )
  }
  if (topology === 'external' && atHome === 0) {
    complain(['machines'], 'name the machines of the databases, also where somebody else manages them')
  }
}

/** A database outside of the first data centre is a relay: of a pair alone, whose monitors attach it. */
function checkRelays({ machines, topology, datacenters }: Cluster, complain: Complain): void {
  const [home = ''] = datacenters
  const isBeyond = ({ datacenter = home }: Machine): boolean => datacenter !== home
  const relays = machines.filter((machine) => machine.runs.includes('database') && isBeyond(machine))
  for (const [index, machine] of machines.entries()) {
    const isRelay = relays.includes(machine)
    if (isRelay && topology === 'single') {
      complain(['machines', index, 'runs'], 'a database in another data centre is a relay of a pair: this is none')
    }
    if (machine.database.filtered && (!isRelay || topology !== 'pair')) {
      complain(['machines', index, 'database', 'filtered'], 'is for a relay: a database in another data centre')
    }
    const hasRelay = relays.some(({ datacenter }) => datacenter === machine.datacenter)
    if (machine.node.acknowledge === 'committed' && (!hasRelay || topology !== 'pair')) {
      complain(
        ['machines', index, 'node', 'acknowledge'],
        '`committed` is for a node in another data centre that has a relay',
      )
    }
  }
  const relaysMax = 8
  if (topology === 'pair' && relays.length > relaysMax) {
    complain(['machines'], `there may be ${relaysMax} relays, and not ${relays.length}`)
  }
}

function checkVirtualAddresses(cluster: Cluster, complain: Complain): void {
  const { virtualAddresses, machines, datacenters } = cluster
  const [home = ''] = datacenters
  const roles = new Seen(complain)
  const routers = new Seen(complain)
  const taken = new Set(
    machines.flatMap(({ networks: own }) => [own.caches.address, own.applications?.address ?? own.caches.address]),
  )
  for (const [index, given] of virtualAddresses.entries()) {
    const path = ['virtualAddresses', index]
    const { datacenter = home } = given
    roles.add(`${given.role} of ${datacenter}`, [...path, 'role'])
    routers.add(String(given.routerId ?? 51 + index), [...path, 'routerId'])
    if (given.applications === undefined && given.caches === undefined) {
      complain(path, 'needs an address on `applications`, on `caches` or on both')
    }
    for (const network of ['applications', 'caches'] as const) {
      const address = given[network]
      if (address === undefined) continue
      requireIn(networksOf(cluster, datacenter)[network], address, { path: [...path, network], complain })
      if (taken.has(address)) complain([...path, network], `${address} is the address of a machine`)
      taken.add(address)
    }
    checkHolders(cluster, { index, datacenter, complain })
  }
}

/** Each balancer of the data centre may come to hold the address: it needs a place, with its interface, in the same networks. */
function checkHolders(cluster: Cluster, given: { index: number; datacenter: string; complain: Complain }): void {
  const { index, datacenter, complain } = given
  const [home = ''] = cluster.datacenters
  const virtual = cluster.virtualAddresses[index]
  if (virtual === undefined) return
  const holders = cluster.machines.flatMap((machine, at) =>
    machine.runs.includes('balancer') && (machine.datacenter ?? home) === datacenter ? [{ machine, at }] : [],
  )
  if (!holders.some(({ machine }) => machine.name === virtual.machine)) {
    complain(
      ['virtualAddresses', index, 'machine'],
      `"${virtual.machine}" is no machine of ${datacenter} that runs a \`balancer\``,
    )
  }
  for (const { machine, at } of holders) {
    for (const network of ['applications', 'caches'] as const) {
      // VRRP itself speaks on the network of the caches.
      if (network === 'applications' && virtual[network] === undefined) continue
      if (machine.networks[network]?.interface !== undefined) continue
      complain(
        ['machines', at, 'networks', network],
        `${machine.name} may come to hold a virtual address: give \`address\` and \`interface\``,
      )
    }
  }
}

function checkPorts(cluster: Cluster, complain: Complain): void {
  const { namespaces, keyPrefixPort, nodeHttpPort, nodeAgentPort, machines } = cluster
  const names = new Seen(complain)
  const ports = new Seen(complain)
  for (const [index, { name, port }] of namespaces.entries()) {
    names.add(name, ['namespaces', index, 'name'])
    ports.add(String(port), ['namespaces', index, 'port'])
  }
  if (keyPrefixPort !== null) ports.add(String(keyPrefixPort), ['keyPrefixPort'])
  ports.add(String(nodeHttpPort), ['nodeHttpPort'])
  if (nodeAgentPort !== null) ports.add(String(nodeAgentPort), ['nodeAgentPort'])
  if (namespaces.length === 0 && keyPrefixPort === null && machines.some(({ runs }) => runs.includes('node'))) {
    complain(['keyPrefixPort'], 'without namespaces and without this port a node listens nowhere')
  }
  const { primary, standby } = cluster.sqlPorts
  if (primary === standby) complain(['sqlPorts', 'standby'], 'must differ from `primary`')
  for (const [index, { runs, memcached, database, networks }] of machines.entries()) {
    const everywhere = networks.caches.bind === '0.0.0.0' || networks.caches.bind === '::'
    if (
      runs.includes('balancer') &&
      runs.includes('database') &&
      everywhere &&
      [primary, standby].includes(database.port)
    ) {
      complain(
        ['machines', index, 'database', 'port'],
        `the database listens everywhere, and the balancer wants ${database.port} for a virtual address: give \`sqlPorts\` others`,
      )
    }
    if (runs.includes('node') && ports.has(String(memcached.port))) {
      complain(['machines', index, 'memcached', 'port'], `${memcached.port} is taken by the node`)
    }
    if (!runs.includes('database') || !runs.includes('node')) continue
    for (const key of ['port', 'extraPort'] as const) {
      if (ports.has(String(database[key]))) complain(['machines', index, 'database', key], 'is taken by the node')
    }
  }
}

function requireIn(
  subnet: string | undefined,
  address: string,
  { path, complain }: { path: readonly (string | number)[]; complain: Complain },
): void {
  if (subnet === undefined) complain(path, 'there is no such network in `networks`')
  else if (!isInSubnet(address, subnet)) complain(path, `${address} is not in ${subnet}`)
}

/** Complains of what comes twice. */
class Seen {
  readonly #seen = new Map<string, string>()
  readonly #complain: Complain

  constructor(complain: Complain) {
    this.#complain = complain
  }

  add(value: string, path: readonly (string | number)[]): void {
    const former = this.#seen.get(value)
    if (former !== undefined) this.#complain(path, `${value} is taken by ${former}`)
    else this.#seen.set(value, path.join('.'))
  }

  has(value: string): boolean {
    return this.#seen.has(value)
  }
}
