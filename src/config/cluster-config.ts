import { isIP } from 'node:net'
import { z } from 'zod'
import { isNamespaceName } from '../domain/namespace.ts'
import { checkCluster } from './cluster-rules.ts'
import { parseSubnet } from './subnet.ts'

/** cluster.yaml: the machines of a whole deployment, from which `whitehole render` writes the files of each. */
export type ClusterConfig = z.output<typeof clusterConfigSchema>
export type ClusterMachine = ClusterConfig['machines'][number]
/** The addresses that a balancer holds, on each network. */
export type VirtualAddress = ClusterConfig['virtualAddresses'][number]

const name = z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/, 'must be 1 to 64 characters of A-Z a-z 0-9 _ . -')
const port = z.int().min(1).max(65_535)
const ip = z.string().refine((text) => isIP(text) !== 0, 'is no IP address')
const interfaceName = z.string().regex(/^[^\s/:]{1,15}$/, 'is no name of a network interface')
const seconds = (least: number, most: number) => z.number().min(least).max(most)
const mebibytes = z.int().min(64).max(16_777_216)

const subnet = z.string().refine((text) => parseSubnet(text) !== undefined, 'is no subnet: write 10.200.5.0/24')

const addressOnNetwork = z
  .strictObject({
    address: ip.describe('Where the others reach this machine on the network.'),
    bind: z
      .string()
      .refine((text) => isIP(text) !== 0, 'is no IP address')
      .optional()
      .describe(
        'Where its daemons listen, if that is another: `0.0.0.0`, or the inner address of a translated one. The address itself if it is not given.',
      ),
    interface: interfaceName
      .optional()
      .describe('Its network interface, `eth0`. Needed where the machine holds virtual addresses.'),
  })
  .describe('One network of a machine.')

const machineSchema = z.strictObject({
  name: name.describe('Unique. Nodes and databases are named after their machine.'),
  datacenter: name.optional().describe('Its data centre; the first of `datacenters` if it is not given.'),
  runs: z
    .array(z.enum(['database', 'node', 'monitor', 'balancer']))
    .min(1)
    .describe(
      'What runs there: `database`, `node` (with its memcached), `monitor`, `balancer` (HAProxy and keepalived, which hold the virtual addresses).',
    ),
  networks: z
    .strictObject({ applications: addressOnNetwork.optional(), caches: addressOnNetwork })
    .describe('Its place in each network.'),
  database: z
    .strictObject({
      serverId: z
        .int()
        .min(1)
        .max(999_999_999)
        .optional()
        .describe('Unique among all databases. The place in the list of machines, counted from 1, if it is not given.'),
      port: port.default(3306).describe('For applications and nodes.'),
      extraPort: port.default(3307).describe('For replication and monitoring, with a connection limit of its own.'),
      bufferPoolMebibytes: mebibytes.default(512).describe("InnoDB's memory: the directory should fit."),
      restartCommand: z
        .string()
        .min(1)
        .optional()
        .describe("As in a monitor's configuration: how a monitor kills this server and starts it in a role."),
      rebuildCommand: z
        .string()
        .min(1)
        .optional()
        .describe("As in a monitor's configuration: how a monitor fills this server from another."),
      connectionsMax: z.int().min(20).max(100_000).default(500).describe('Connections on the first port.'),
      filtered: z
        .boolean()
        .default(false)
        .describe(
          'A relay that replicates database `memcached` alone (`replicate-do-db=memcached`); the nodes there know of the gaps that this leaves.',
        ),
    })
    .prefault({})
    .describe(
      'Where `database` runs. With `topology: pair` one outside of the first data centre is a relay (docs/DATACENTERS.md).',
    ),
  node: z
    .strictObject({
      acknowledge: z
        .enum(['local', 'committed'])
        .default('local')
        .describe('`writer.acknowledge` of its node: `committed` only where its data centre has a relay.'),
      maxLagSeconds: seconds(1, 86_400)
        .optional()
        .describe('`applier.maxLagSeconds` of its node: further behind, it answers no reads. No bound if not given.'),
    })
    .prefault({})
    .describe('Where `node` runs.'),
  memcached: z
    .strictObject({
      memoryMebibytes: mebibytes.default(1024).describe('For items.'),
      port: port.default(11_210).describe('On loopback, for the node alone.'),
    })
    .prefault({})
    .describe('Where `node` runs.'),
  weight: z.int().min(1).max(255).default(1).describe('Its share of the clients, where it runs a node.'),
})

const virtualAddressSchema = z
  .strictObject({
    role: z
      .enum(['writer', 'reader'])
      .describe(
        '`writer`: the databases, by their role; `reader`: the nodes. Both take memcached clients. One of each for a data centre.',
      ),
    datacenter: name.optional().describe('The first of `datacenters` if it is not given.'),
    applications: ip.optional().describe('The address on the network of the applications.'),
    caches: ip.optional().describe('The address on the network of the caches.'),
    machine: name.describe('The balancer that holds it while all are well.'),
    routerId: z
      .int()
      .min(1)
      .max(255)
      .optional()
      .describe("VRRP's number, unique in the network. 51 for the first, and so on, if it is not given."),
  })
  .describe('An address that moves from a dead balancer to another.')

const namespaceSchema = z.strictObject({
  name: z
    .string()
    .refine(isNamespaceName, 'is no name of a namespace: 1 to 64 characters of A-Z a-z 0-9 _ . -')
    .describe('Create it once with `whitehole ns create`.'),
  port: port.describe('Whoever connects to it, at a node or a virtual address, works in this namespace.'),
})

const balancerSchema = z
  .strictObject({
    forwarding: z
      .enum(['proxy', 'lvs'])
      .default('proxy')
      .describe(
        '`proxy`: HAProxy takes memcached clients. `lvs`: the kernel does (ip_vs, masquerading), as in the seed; then the nodes answer through the balancer, which is their gateway.',
      ),
    checkIntervalSeconds: seconds(0.5, 3600).default(1).describe('Between two health checks.'),
    checkTimeoutSeconds: seconds(0.5, 3600).default(2).describe('A check that takes longer has failed.'),
    fall: z.int().min(1).max(100).default(2).describe('Failed checks until a node gets no more new clients.'),
    rise: z.int().min(1).max(100).default(2).describe('Good checks until it gets clients again.'),
    check: z
      .enum(['readyz', 'mg'])
      .default('readyz')
      .describe(
        '`readyz`: 200 of `/readyz`, which only a serving node gives. `mg`: a read over the memcached protocol; a node whose peers answer for it passes.',
      ),
    scheduler: z
      .enum(['rr', 'lc', 'source'])
      .default('rr')
      .describe(
        'Which node a new client gets: in turn, the one with the fewest connections, or the same for the same client address.',
      ),
    quiescent: z
      .boolean()
      .default(true)
      .describe('Clients of a node that goes out of service keep their connections; `false` cuts them off.'),
    autoReload: z
      .boolean()
      .default(true)
      .describe('HAProxy and keepalived read their files again when they change (systemd path units).'),
    clientsMax: z
      .int()
      .min(100)
      .max(1_000_000)
      .default(4000)
      .describe('Connections of clients at a balancer. Each takes two file descriptors of HAProxy.'),
    idleTimeoutSeconds: seconds(1, 31_536_000)
      .default(3600)
      .describe('A client that says nothing for so long is cut off by HAProxy.'),
    logFile: z
      .string()
      .startsWith('/', 'must be an absolute path')
      .optional()
      .describe(
        "A file for what HAProxy and keepalived log (a rule for rsyslog). The system's log if it is not given.",
      ),
  })
  .prefault({})
  .describe('How clients are shared among nodes.')

/** Of the machine itself. */
export const localMailServer = '127.0.0.1:25'

const alertsSchema = z
  .strictObject({
    email: z.array(z.email()).max(16).default([]).describe('Who is written to. Nobody if it is empty.'),
    from: z.email().default('whitehole@localhost.localdomain').describe('The sender.'),
    smtp: z
      .string()
      .regex(/^[A-Za-z0-9_.-]+:\d{1,5}$/, 'is no host:port')
      .default(localMailServer)
      .describe(
        'The mail server. With another one than the default the monitors hand their mails to it (by `curl`), else to their machine’s `/usr/sbin/sendmail`.',
      ),
    states: z.enum(['all', 'failures']).default('all').describe('`all`: also when something is well again.'),
    repeatSeconds: seconds(60, 31_536_000)
      .default(3600)
      .describe('How often an alert that goes on is told again (Alertmanager).'),
    holdSeconds: seconds(0, 86_400)
      .default(15)
      .describe('A state must last so long before Prometheus alerts: what comes and goes is no alert.'),
    lagSecondsMax: seconds(0.1, 86_400).default(10).describe('A node further behind the primary is an alert.'),
  })
  .prefault({})
  .describe('Whom to tell.')

export const clusterConfigSchema = z
  .strictObject({
    name: name.default('whitehole').describe('In alerts and in names of files.'),
    topology: z
      .enum(['pair', 'single', 'external'])
      .default('pair')
      .describe('As in a node: a pair that is managed, one database, or databases that somebody else manages.'),
    engine: z.enum(['mariadb', 'mysql']).default('mariadb').describe('Of the databases.'),
    datacenters: z.array(name).min(1).max(16).default(['dc1']).describe('The first one is home: the primary is there.'),
    networks: z
      .strictObject({
        applications: subnet.optional().describe('Where the applications are. Without it everything is on `caches`.'),
        caches: subnet.describe('Where databases and nodes are.'),
        beyond: z
          .array(
            z.strictObject({
              datacenter: name.describe('Not the first one.'),
              applications: subnet.optional().describe('Where the applications are there.'),
              caches: subnet.describe('Where databases and nodes are there, routed to and from that of home.'),
            }),
          )
          .max(15)
          .default([])
          .describe('Subnets of other data centres, where they have their own.'),
      })
      .describe('Subnets.'),
    machines: z.array(machineSchema).min(1).max(128).describe('Every machine.'),
    virtualAddresses: z
      .array(virtualAddressSchema)
      .max(32)
      .default([])
      .describe('Addresses that outlive a machine. None: clients know the machines.'),
    namespaces: z
      .array(namespaceSchema)
      .max(250)
      .default([{ name: 'default', port: 11_211 }])
      .describe('Those that have a port of their own.'),
    keyPrefixPort: port
      .nullable()
      .default(11_212)
      .describe('Where clients name the namespace in front of the key (`sessions:abc`); null for none.'),
    sqlPorts: z
      .strictObject({
        primary: port.default(3306).describe('Leads to the primary.'),
        standby: port.default(3308).describe('Leads to the standby.'),
      })
      .prefault({})
      .describe('SQL at the virtual addresses of the writer, where a monitor tells who is what (`topology: pair`).'),
    nodeHttpPort: port.default(22_121).describe('`/readyz` and `/metrics` of each node.'),
    nodeAgentPort: port
      .nullable()
      .default(22_122)
      .describe(
        'Where HAProxy asks each node for its weight, which follows its state (`balancerAgent`); null for none: then a node that does not serve gets new clients until `balancer.fall` checks have failed.',
      ),
    monitorHttpPort: port
      .default(22_100)
      .describe('Where the monitor of a balancer machine tells which database is the primary.'),
    nodeUser: z.string().min(1).max(80).default('whitehole_node').describe("The nodes' account in the databases."),
    passwordFile: z
      .string()
      .default('database.password')
      .describe('The file with its password on each machine; a relative path starts at /etc/whitehole.'),
    voters: z
      .array(
        z
          .string()
          .regex(/^(?:monitor|node):[A-Za-z0-9_.-]{1,64}$/, 'is no voter: write monitor:<machine> or node:<machine>'),
      )
      .max(15)
      .default([])
      .describe(
        'Who decides which database is the primary: `monitor:<machine>` and `node:<machine>`, an odd number, every monitor among them. Change one at a time.',
      ),
    monitorUser: z.string().min(1).max(80).default('whitehole_monitor').describe("The monitors' account."),
    monitorPasswordFile: z.string().default('monitor.password').describe('The file with its password.'),
    replicationPasswordFile: z
      .string()
      .default('replication.password')
      .describe('The file with the password that a standby reads the log with.'),
    relayPasswordFile: z
      .string()
      .default('relay.password')
      .describe('The file with the password that a relay reads the log with.'),
    votersSecretFile: z.string().default('voters.secret').describe('The file with the secret that all voters share.'),
    balancer: balancerSchema,
    alerts: alertsSchema,
  })
  .transform((config, context) => {
    checkCluster(config, (path, message) => context.addIssue({ code: 'custom', path: [...path], message }))
    return config
  })
