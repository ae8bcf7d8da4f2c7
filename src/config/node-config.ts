import { createHash } from 'node:crypto'
import { hostname } from 'node:os'
import { z } from 'zod'
import { isNamespaceName } from '../domain/namespace.ts'
import { upkeepSchema } from './upkeep-config.ts'
import { nodeVoterSchema } from './voter-config.ts'
import { type Address, addressSchema, isLoopback, tcpAddressSchema } from './address.ts'

/**
 * The configuration of `whitehole node`: one schema that gives the types, the defaults, the errors and docs/CONFIGURATION.md.
 * Units come last in the names.
 */
export type NodeConfig = z.output<typeof nodeConfigSchema>
/** What stands in the file. */
export type NodeConfigInput = z.input<typeof nodeConfigSchema>
export type ListenerConfig = NodeConfig['listeners'][number]

const mebibyte = 1024 * 1024

const name = z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/, 'must be 1 to 64 characters of A-Z a-z 0-9 _ . -')
const count = (most: number) => z.int().min(1).max(most)
const bytes = (least: number, most: number) => z.int().min(least).max(most)
const milliseconds = (most: number) => z.int().min(1).max(most)

const trusted = z
  .boolean()
  .default(false)
  .describe(
    'Whoever reaches the address is trusted: there is no authentication yet. Must be `true` for an address beyond loopback.',
  )

const advertise = addressSchema
  .optional()
  .describe(
    "Where others reach it, if that is not where it listens: behind an address translation, or on `0.0.0.0`, whose default is the machine's name.",
  )

const notTrusted =
  'is reachable from other machines, and there is no authentication yet: use a loopback address, or set `trusted: true` beside it if the network is yours'

const relaySchema = z.strictObject({
  address: tcpAddressSchema.describe('Where this node reaches it.'),
  datacenter: name.describe('Where it is: nodes of the same one follow it.'),
  filtered: z
    .boolean()
    .default(false)
    .describe(
      'It replicates database `memcached` alone (`replicate-do-db=memcached`): the numbers of its transactions have gaps by right, and are not checked for lost ones.',
    ),
})

const databasesSchema = z
  .strictObject({
    topology: z
      .enum(['pair', 'single', 'external'])
      .default('pair')
      .describe(
        '`pair`: a primary and a semi-synchronous standby; the node follows the standby, so that an acknowledged write is on two machines. `single`: one database. `external`: somebody else decides which one is writable (Galera, RDS, MaxScale, a person).',
      ),
    addresses: z
      .array(tcpAddressSchema)
      .min(1)
      .max(16)
      .describe('All databases, `host:port` each. The node finds the writable one and the one to follow by itself.'),
    relays: z
      .array(relaySchema)
      .max(8)
      .default([])
      .describe(
        'Replicas in other data centres that nodes there follow (docs/DATACENTERS.md). The same list for every node: those of its own `datacenter` are followed by it, each may become the primary by a forced takeover. Only with `topology: pair`.',
      ),
    user: z.string().min(1).max(80).default('whitehole_node').describe('The account that `whitehole init` creates.'),
    password: z.string().optional().describe('Its password. The file must then not be readable by everybody.'),
    passwordFile: z
      .string()
      .optional()
      .describe('A file with the password instead; a relative path starts at the folder of the configuration.'),
    serverId: z
      .int()
      .min(1)
      .max(2 ** 32 - 1)
      .optional()
      .describe(
        "The node's own server id as a reader of the log: no database and no other node may have it. Made from the name if it is not given.",
      ),
    heartbeatSeconds: z
      .number()
      .min(0.1)
      .max(60)
      .default(1)
      .describe('How often an idle log says that it lives. A log that is silent three times as long is given up.'),
    connectTimeoutMilliseconds: milliseconds(60_000)
      .default(3000)
      .describe('How long a connection to a database may take to come up.'),
  })
  .describe('The databases that carry the writes and the log.')

const memcachedSchema = z
  .strictObject({
    address: tcpAddressSchema.describe(
      "The node's own memcached, on TCP (a unix socket hides what the node must see). Nobody else may write to it.",
    ),
    restartCommand: z
      .string()
      .min(1)
      .optional()
      .describe('A shell command that starts or restarts it, for instance `systemctl restart memcached`.'),
  })
  .describe('The memcached that this node fills.')

const listenerSchema = z
  .strictObject({
    listen: addressSchema.describe('`host:port` or `unix:/path`.'),
    namespace: z
      .string()
      .refine(isNamespaceName, 'is no name of a namespace: 1 to 64 characters of A-Z a-z 0-9 _ . -')
      .optional()
      .describe('Every client of this listener works in this namespace.'),
    namespaceFrom: z
      .enum(['key'])
      .optional()
      .describe('`key`: clients name the namespace in front of each key, `sessions:abc`.'),
    advertise,
    trusted,
  })
  .transform((listener, context) => {
    const { listen, namespace, namespaceFrom } = listener
    requireTrust({ listen, trusted: listener.trusted }, context)
    const common = { listen, advertise: listener.advertise ?? reachable(listen) }
    if (namespace !== undefined && namespaceFrom === undefined) return { kind: 'bound' as const, ...common, namespace }
    if (namespace === undefined && namespaceFrom !== undefined) return { kind: 'key-prefix' as const, ...common }
    context.addIssue({
      code: 'custom',
      message: 'needs either `namespace: <name>` or `namespaceFrom: key`, and not both',
    })
    return z.NEVER
  })

const httpSchema = z
  .strictObject({
    listen: addressSchema.prefault('127.0.0.1:22121').describe('`host:port` or `unix:/path`.'),
    advertise,
    trusted,
  })
  .transform((http, context) => {
    requireTrust(http, context)
    return { listen: http.listen, advertise: http.advertise ?? reachable(http.listen) }
  })

const balancerAgentSchema = z
  .strictObject({
    listen: tcpAddressSchema.describe('`host:port`.'),
    trusted,
  })
  .superRefine(({ listen, trusted: isTrusted }, context) => requireTrust({ listen, trusted: isTrusted }, context))
  .describe(
    "Where HAProxy's `agent-check` learns which part of its share of new clients this node takes, by its state: 100 % while it serves, 50 % while it gives its items to another node or is more than half of `applier.maxLagSeconds` behind, else none. Nobody listens if it is not given.",
  )

const gatewaySchema = z
  .strictObject({
    connectionsMax: count(100_000).default(4096).describe('Clients of all listeners together; more are turned away.'),
    requestsInFlightMax: count(100_000)
      .default(1024)
      .describe('Requests of one client that may wait for their replies; then its socket is not read for a while.'),
    replyBytesMax: bytes(2 * mebibyte, 1024 * mebibyte)
      .default(16 * mebibyte)
      .describe('Replies that may wait for one slow client; then its socket is not read for a while.'),
    stallTimeoutSeconds: count(86_400)
      .default(60)
      .describe('A client that takes no reply, or sends no more of a request that it began, for so long is cut off.'),
    idleTimeoutSeconds: z
      .int()
      .min(0)
      .max(86_400 * 365)
      .default(0)
      .describe('A client that asks nothing for so long is cut off; 0 never.'),
    nearCacheBytes: bytes(0, 16_384 * mebibyte)
      .default(64 * mebibyte)
      .describe(
        'Copies of hot items that are answered without a way to memcached: exact, for the log takes them away before memcached is told (docs/adr/0020-near-cache.md). 0: none.',
      ),
    onMiss: z
      .enum(['miss', 'peer'])
      .default('miss')
      .describe(
        '`peer`: before a client is told of a miss, one healthy peer is asked, which may have kept what this memcached has evicted. Each true miss then costs a round trip to it.',
      ),
    onMissMilliseconds: milliseconds(10_000).default(100).describe('How long that may take; then it is a miss.'),
    drainSeconds: z
      .int()
      .min(0)
      .max(3600)
      .default(0)
      .describe(
        'How long clients are still served, and accepted, after SIGTERM, while `/readyz` already answers 503: the time that a load balancer needs to notice. Afterwards what has been asked is answered, for five seconds at most.',
      ),
  })
  .prefault({})
  .describe('Limits towards clients.')

const writerSchema = z
  .strictObject({
    acknowledge: z
      .enum(['local', 'committed'])
      .default('local')
      .describe(
        '`local`: a write is answered once it is applied to the memcached of this node, so that whoever wrote it reads it. `committed`: once the primary has committed it, which spares the way of the log to another data centre; a read here may give the former value for a moment. Only for a node with a relay in its `datacenter`; refusals always wait for the log.',
      ),
    lanes: count(16)
      .default(1)
      .describe(
        'Batches that may commit at the same time, one SQL connection each. One is best up to about 100 busy clients.',
      ),
    sideLaneRetryMilliseconds: milliseconds(1000)
      .default(20)
      .describe("How often a write that waits for somebody's row lock looks again."),
    writeTimeoutMilliseconds: milliseconds(600_000)
      .default(3000)
      .describe('A write that is not acknowledged by then fails with a SERVER_ERROR.'),
    queueItemsMax: count(1_000_000).default(20_000).describe('Writes that may wait; more are refused at once.'),
    queueBytesMax: bytes(2 * mebibyte, 16_384 * mebibyte)
      .default(128 * mebibyte)
      .describe('Bytes of keys and values that may wait; more are refused at once.'),
    batchItemsMax: count(10_000).default(1000).describe('Writes of one transaction.'),
    batchBytesMax: bytes(2 * mebibyte, 32 * mebibyte)
      .default(4 * mebibyte)
      .describe("Bytes of keys and values of one transaction. The databases' `max_allowed_packet` must be twice that."),
  })
  .prefault({})
  .describe('How client writes become SQL transactions.')

const applierSchema = z
  .strictObject({
    batchItemsMax: count(100_000)
      .default(2000)
      .describe('Log entries that are sent to memcached between two marks of the position.'),
    batchBytesMax: bytes(2 * mebibyte, 256 * mebibyte)
      .default(4 * mebibyte)
      .describe('Bytes of the same. Keep it well below the memory of memcached.'),
    readAheadBytesMax: bytes(2 * mebibyte, 1024 * mebibyte)
      .default(16 * mebibyte)
      .describe('Log that may wait in memory; then the database is not read for a while.'),
    memcachedTimeoutMilliseconds: milliseconds(600_000)
      .default(5000)
      .describe('A memcached that does not answer for so long is taken for dead.'),
    maxLagSeconds: z
      .number()
      .min(1)
      .max(86_400)
      .optional()
      .describe(
        'A node that is further behind the primary than this answers no reads from its own memcached until it is less than half as far behind: peers answer them, or nobody does. No bound if it is not given. Measured every two seconds.',
      ),
  })
  .prefault({})
  .describe('How the log gets into memcached.')

const rebuildSchema = z
  .strictObject({
    sendBytesPerSecondMax: z
      .int()
      .min(0)
      .max(100 * 1024 * mebibyte)
      .default(0)
      .describe(
        'How fast this node gives its items to another one that rebuilds; 0 as fast as they are taken. Beside clients it takes a quarter of its time for it at most.',
      ),
  })
  .prefault({})
  .describe('How a node whose memcached lost its contents gets them back, and how it helps others to.')

const logSchema = z
  .strictObject({
    level: z
      .enum(['debug', 'info', 'warn', 'error', 'silent'])
      .default('info')
      .describe('One JSON line an event, on stderr.'),
  })
  .prefault({})
  .describe('The log of the daemon.')

export const nodeConfigSchema = z
  .strictObject({
    name: name.describe('Unique among all nodes; it names the writer lanes in the database, so keep it.'),
    datacenter: name.default('dc1').describe('Nodes prefer databases and peers of their own.'),
    dataDirectory: z
      .string()
      .startsWith('/', 'must be an absolute path')
      .describe('A folder of this node alone for its small files. Created if it is missing.'),
    databases: databasesSchema,
    memcached: memcachedSchema,
    listeners: z.array(listenerSchema).min(1).max(256).describe('Where clients connect with the memcached protocol.'),
    voter: nodeVoterSchema.optional(),
    http: httpSchema.prefault({}).describe('`/healthz`, `/readyz`, `/metrics` and `/v1/status`.'),
    balancerAgent: balancerAgentSchema.optional(),
    gateway: gatewaySchema,
    writer: writerSchema,
    applier: applierSchema,
    rebuild: rebuildSchema,
    upkeep: upkeepSchema,
    log: logSchema,
  })
  .transform((config, context) => {
    checkDatabases(config.databases, context)
    checkRelays(config, context)
    checkListeners(config.listeners, context)
    const { serverId = serverIdOf(config.name) } = config.databases
    return { ...config, databases: { ...config.databases, serverId } }
  })

/** Above whatever ids people give their databases by hand; two of a hundred nodes collide with a chance of 1 in 600,000. */
function serverIdOf(nodeName: string): number {
  const lowest = 1_000_000_000
  return lowest + (createHash('sha256').update(nodeName).digest().readUInt32BE(0) % (2 ** 32 - 1 - lowest))
}

/** Whoever listens everywhere is found by its machine's name. */
function reachable(address: Address): Address {
  const everywhere = address.kind === 'tcp' && (address.host === '0.0.0.0' || address.host === '::')
  return everywhere ? { ...address, host: hostname() } : address
}

type Context = z.core.$RefinementCtx

function requireTrust(given: { listen: Address; trusted: boolean }, context: Context): void {
  if (given.trusted || isLoopback(given.listen)) return
  context.addIssue({ code: 'custom', path: ['listen'], message: notTrusted })
}

function checkDatabases(
  databases: {
    topology: string
    addresses: readonly unknown[]
    password?: string | undefined
    passwordFile?: string | undefined
  },
  context: Context,
): void {
  const complain = (key: string, message: string): void =>
    context.addIssue({ code: 'custom', path: ['databases', key], message })
  if (databases.password === undefined && databases.passwordFile === undefined) {
    complain('passwordFile', 'give `passwordFile` (or `password`)')
  }
  if (databases.password !== undefined && databases.passwordFile !== undefined) {
    complain('passwordFile', 'give `password` or `passwordFile`, not both')
  }
  if (databases.topology === 'pair' && databases.addresses.length < 2) {
    complain('addresses', 'a pair has at least two databases; with one alone set `topology: single`')
  }
  if (databases.topology === 'single' && databases.addresses.length > 1) {
    complain('addresses', '`topology: single` has one database; with more set `pair` or `external`')
  }
}

function checkRelays({ databases, datacenter, writer }: NodeParts, context: Context): void {
  const complain = (path: (string | number)[], message: string): void =>
    context.addIssue({ code: 'custom', path, message })
  if (databases.relays.length > 0 && databases.topology !== 'pair') {
    complain(['databases', 'relays'], 'are for `topology: pair`; with `external` list them among `addresses`')
  }
  const known = databases.addresses.map(addressText)
  for (const [index, { address }] of databases.relays.entries()) {
    if (known.includes(addressText(address))) {
      complain(['databases', 'relays', index, 'address'], 'stands among `addresses` too: those are the pair')
    }
  }
  if (writer.acknowledge === 'committed' && !databases.relays.some((relay) => relay.datacenter === datacenter)) {
    complain(['writer', 'acknowledge'], '`committed` is for a node with a relay in its `datacenter`')
  }
}

interface NodeParts {
  readonly datacenter: string
  readonly writer: { readonly acknowledge: string }
  readonly databases: {
    readonly topology: string
    readonly addresses: readonly TcpAddress[]
    readonly relays: readonly { readonly address: TcpAddress; readonly datacenter: string }[]
  }
}

interface TcpAddress {
  readonly host: string
  readonly port: number
}

function addressText({ host, port }: TcpAddress): string {
  return `${host}:${port}`
}

function checkListeners(listeners: readonly { listen: Address }[], context: Context): void {
  const seen = new Set<string>()
  for (const [index, { listen }] of listeners.entries()) {
    const text = JSON.stringify(listen)
    if (seen.has(text)) {
      context.addIssue({ code: 'custom', path: ['listeners', index, 'listen'], message: 'is listened on twice' })
    }
    seen.add(text)
  }
}
