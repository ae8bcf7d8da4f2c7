import { z } from 'zod'
import { alertsSchema } from './alerts-config.ts'
import { hooksSchema } from './hooks-config.ts'
import { type Address, addressSchema, isLoopback, tcpAddressSchema } from './address.ts'

/** The configuration of `whitehole monitor`. Units come last in the names. */
export type MonitorConfig = z.output<typeof monitorConfigSchema>
export type MonitorConfigInput = z.input<typeof monitorConfigSchema>

const name = z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/, 'must be 1 to 64 characters of A-Z a-z 0-9 _ . -')
const milliseconds = (least: number, most: number) => z.int().min(least).max(most)

const databaseSchema = z.strictObject({
  name: name.describe('Never changes: it is in the record of who is primary.'),
  address: tcpAddressSchema.describe('Where clients and nodes reach it.'),
  relayAddress: tcpAddressSchema
    .optional()
    .describe('Where relays of other data centres reach it, if that is not `address`.'),
  adminPort: z
    .int()
    .min(1)
    .max(65_535)
    .optional()
    .describe(
      "MariaDB's `extra_port`, MySQL's `admin_port`: the monitor and the standby come in there when all connections are taken.",
    ),
  restartCommand: z
    .string()
    .min(1)
    .optional()
    .describe(
      'A shell command that kills the server (never stops it cleanly) and starts it in the role `$WHITEHOLE_ROLE`: with `standby`, MariaDB needs what `whitehole role` prints, asked after the kill. Without it a former primary with an unacknowledged tail waits for a person.',
    ),
  rebuildCommand: z
    .string()
    .min(1)
    .optional()
    .describe(
      "A shell command that throws the server's data away and fills it from `$WHITEHOLE_FROM_HOST:$WHITEHOLE_FROM_PORT`. Only where nothing but whitehole's tables is there.",
    ),
})

const relaySchema = z.strictObject({
  ...databaseSchema.omit({ relayAddress: true }).shape,
  datacenter: name.describe('Where it is.'),
  filtered: z
    .boolean()
    .default(false)
    .describe(
      'It replicates database `memcached` alone (`replicate-do-db=memcached`), as the nodes that follow it know too.',
    ),
})

const databasesSchema = z
  .strictObject({
    takeover: z
      .enum(['managed', 'external'])
      .default('managed')
      .describe(
        '`managed`: the monitors keep the pair, and decide who is primary. `external`: somebody else does; the monitor watches and tells, and changes nothing.',
      ),
    engine: z.enum(['mariadb', 'mysql']).default('mariadb').describe('Of all of them.'),
    pair: z.array(databaseSchema).min(1).max(8).describe('The databases: exactly two where they are managed.'),
    relays: z
      .array(relaySchema)
      .max(8)
      .default([])
      .describe(
        'Replicas in other data centres (docs/DATACENTERS.md). The monitors let them follow the standby, in `solo` the primary, and never make one the primary without a person.',
      ),
    user: z.string().min(1).max(80).default('whitehole_monitor').describe('The account that `whitehole init` creates.'),
    passwordFile: z.string().min(1).describe('A file with its password.'),
    replicationUser: z
      .string()
      .min(1)
      .max(80)
      .default('whitehole_replication')
      .describe('With which a standby reads the log of the primary.'),
    relayUser: z
      .string()
      .regex(/^[A-Za-z0-9_.-]{1,80}$/, 'must be 1 to 80 characters of A-Z a-z 0-9 _ . -')
      .default('whitehole_relay')
      .describe(
        'With which a relay reads the log of the standby. It must be nobody else’s account, and has no right but `REPLICATION SLAVE`: a primary that waits for its standby refuses it.',
      ),
    relayPasswordFile: z.string().min(1).optional().describe('A file with its password.'),
    replicationPasswordFile: z.string().min(1).optional().describe('A file with its password.'),
  })
  .describe('The databases that are watched.')

const voterSchema = z.strictObject({
  name: name.describe("A node's or a monitor's name."),
  kind: z.enum(['node', 'monitor']).describe('Monitors act in the order in which they stand here.'),
  http: addressSchema.describe('Where it answers: its `http.listen`, as reached from here.'),
})

const httpSchema = z
  .strictObject({
    listen: addressSchema.prefault('127.0.0.1:22100').describe('`host:port` or `unix:/path`.'),
    trusted: z
      .boolean()
      .default(false)
      .describe('Must be `true` for an address beyond loopback: what is read here is not encrypted.'),
  })
  .superRefine(({ listen, trusted }: { listen: Address; trusted: boolean }, context) => {
    if (trusted || isLoopback(listen)) return
    context.addIssue({
      code: 'custom',
      path: ['listen'],
      message:
        'is reachable from other machines: use a loopback address, or set `trusted: true` if the network is yours',
    })
  })

const timingsSchema = z
  .strictObject({
    probeEveryMilliseconds: milliseconds(50, 10_000).default(250).describe('How often each database is asked.'),
    probeTimeoutMilliseconds: milliseconds(50, 10_000).default(600).describe('Silence for so long is a failed probe.'),
    refusedMilliseconds: milliseconds(100, 60_000)
      .default(400)
      .describe('A database where nobody listens for so long is lost.'),
    silentMilliseconds: milliseconds(200, 60_000)
      .default(1200)
      .describe('A database that is silent for so long is lost.'),
    soloMilliseconds: milliseconds(500, 600_000)
      .default(2500)
      .describe('A standby that does not work for so long: the primary goes on alone (`solo`).'),
    soloLostMilliseconds: milliseconds(0, 600_000)
      .default(700)
      .describe('The same for a standby that a majority of voters has lost, or that hears nothing from the primary.'),
    antiFlapMilliseconds: milliseconds(0, 3_600_000)
      .default(10_000)
      .describe('After a takeover whose former primary had only been unreachable no other one follows for so long.'),
  })
  .prefault({})
  .describe('When something counts as lost.')

export const monitorConfigSchema = z
  .strictObject({
    name: name.describe('As it stands among `voters`.'),
    dataDirectory: z
      .string()
      .startsWith('/', 'must be an absolute path')
      .describe('A folder of this monitor alone; its vote is kept there. Never start it with an empty one.'),
    databases: databasesSchema,
    voters: z
      .array(voterSchema)
      .max(15)
      .default([])
      .describe('Nodes and monitors that decide, this one among them: an odd number. Change one at a time.'),
    secretFile: z.string().min(1).optional().describe('A file with the secret that all voters share.'),
    tokenFile: z
      .string()
      .min(1)
      .optional()
      .describe('A file with the token that a switchover or a forced takeover over HTTP must show.'),
    http: httpSchema.prefault({}).describe('`/healthz`, `/readyz`, `/metrics`, `/v1/cluster`.'),
    timings: timingsSchema,
    alerts: alertsSchema,
    hooks: hooksSchema,
    log: z
      .strictObject({
        level: z
          .enum(['debug', 'info', 'warn', 'error', 'silent'])
          .default('info')
          .describe('One JSON line an event, on stderr.'),
      })
      .prefault({})
      .describe('The log of the daemon.'),
  })
  .superRefine((config, context) => {
    const complain = (path: (string | number)[], message: string): void =>
      context.addIssue({ code: 'custom', path, message })
    if (config.databases.takeover === 'external') return
    if (config.databases.pair.length !== 2) complain(['databases', 'pair'], 'a managed pair has two databases')
    if (config.databases.replicationPasswordFile === undefined)
      complain(['databases', 'replicationPasswordFile'], 'is missing')
    const { pair, relays, relayPasswordFile } = config.databases
    if (relays.length > 0 && relayPasswordFile === undefined) complain(['databases', 'relayPasswordFile'], 'is missing')
    const databases = [...pair, ...relays].map((one) => one.name)
    if (new Set(databases).size !== databases.length) complain(['databases', 'relays'], 'one name stands there twice')
    if (config.secretFile === undefined) complain(['secretFile'], 'is missing')
    const names = config.voters.map((voter) => voter.name)
    if (new Set(names).size !== names.length) complain(['voters'], 'one name stands there twice')
    if (!config.voters.some((voter) => voter.name === config.name && voter.kind === 'monitor'))
      complain(['voters'], `${config.name} must stand there itself, as a monitor`)
  })
