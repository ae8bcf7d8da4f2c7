import { randomInt } from 'node:crypto'
import { resolve } from 'node:path'
import type { RowDataPacket } from 'mysql2/promise'
import { closeDatabaseConnection, type DatabaseAccess, Databases } from '../adapters/databases.ts'
import { followLog, type LogChunk } from '../applier/log-stream.ts'
import { loadNodeConfig } from '../config/load.ts'
import { WhiteholeError } from '../domain/errors.ts'
import { keyToBytes } from '../domain/key.ts'
import type { LogEntry } from '../domain/log-entry.ts'
import { formatGtid, formatPosition, parsePosition, type Position } from '../domain/position.ts'
import type { Logger } from '../runtime/logger.ts'
import { SandboxFolder } from '../sandbox/folder.ts'
import { nodeUser } from '../sandbox/process-specs.ts'
import { planOf } from '../sandbox/topology.ts'
import { databaseAccess } from './configured-cluster.ts'
import { type ClusterAddress, defaultSandboxFolder } from './open-cluster.ts'

export interface TailOptions {
  /** Its changes alone. */
  readonly namespace?: string | undefined
  /** A position (of a former change), `oldest`: all that the database still has, or `now`. */
  readonly from: string
  /** Without it no value is taken along. */
  readonly values: boolean
  readonly signal: AbortSignal
  readonly logger: Logger
}

/** One change, for people and scripts. */
export interface Change {
  /** When it was committed, by the primary's clock, in ISO 8601. */
  readonly at: string
  /** The transaction. */
  readonly gtid: string
  /** Where to go on after it. The same for all changes of a transaction but its last: whoever stops between them gets them again. */
  readonly resume: string
  readonly namespace: string
  readonly kind: 'set' | 'delete' | 'touch' | 'stale' | 'created' | 'flushed' | 'dropped' | 'changed'
  readonly key?: string
  /** Of the key, if it is no UTF-8 text. */
  readonly keyEncoding?: 'base64'
  readonly bytes?: number
  readonly flags?: number
  /** Unix seconds; 0 never. */
  readonly expiry?: number
  /** The CAS token, in decimal. */
  readonly version?: string
  readonly generation?: number
  readonly value?: string
  readonly encoding?: 'utf8' | 'base64'
}

/** Memory is bounded: the log waits in the database while nobody takes changes. */
const bufferBytes = 4 * 1024 * 1024
/** Beyond whatever databases and nodes have. */
const serverIds = [3_000_000_000, 4_294_967_295] as const

/**
 * The changes of the cache as they are committed, in order, from the log that nodes follow. Reconnects by itself.
 * @throws WhiteholeError `log-purged` where the position is no longer in the log, `bad-configuration` for one that is none
 */
export async function* tailChanges(address: ClusterAddress, options: TailOptions): AsyncGenerator<Change[], void> {
  const databases = new Databases(accessOf(address), options.logger)
  const start = await startOf(databases, options.from)
  const names = await namesOf(databases)
  let resume = start === 'oldest' ? 'oldest' : formatPosition(start)
  const stream = followLog({
    databases,
    serverId: randomInt(...serverIds),
    start,
    signal: options.signal,
    logger: options.logger,
    transactionBytesMax: bufferBytes,
    bufferBytesMax: bufferBytes,
    foreignStatements: 'skip',
  })
  for await (const chunks of stream) {
    const changes: Change[] = []
    for (const chunk of chunks) {
      const after = chunk.last ? formatPosition(chunk.after) : resume
      changes.push(...changesOf(chunk, { names, resume, after, options }))
      resume = after
    }
    if (changes.length > 0) yield changes
  }
}

interface Context {
  readonly names: KnownNamespaces
  readonly resume: string
  readonly after: string
  readonly options: TailOptions
}

function changesOf(chunk: LogChunk, { names, resume, after, options }: Context): Change[] {
  const at = new Date(chunk.timestampSeconds * 1000).toISOString()
  const gtid = formatGtid(chunk.gtid)
  const changes = chunk.entries.flatMap((entry): Change[] => {
    if (entry.kind === 'lane') return []
    const former = names.get(entry.namespaceId)
    const known = former !== undefined && former.createdSeconds < chunk.timestampSeconds
    if (entry.kind === 'namespace') names.set(entry.namespaceId, { name: entry.name, createdSeconds: 0 })
    const namespace = names.get(entry.namespaceId)?.name ?? `#${entry.namespaceId}`
    if (options.namespace !== undefined && namespace !== options.namespace) return []
    return [{ at, gtid, resume, namespace, ...describe(entry, { known, values: options.values }) }]
  })
  const last = changes.at(-1)
  return last === undefined ? [] : [...changes.slice(0, -1), { ...last, resume: after }]
}

type Told = Omit<Change, 'at' | 'gtid' | 'resume' | 'namespace'>

function describe(
  entry: Exclude<LogEntry, { kind: 'lane' }>,
  { known, values }: { known: boolean; values: boolean },
): Told {
  if (entry.kind === 'namespace') {
    const { dropped, begins, generation } = entry
    return { kind: dropped ? 'dropped' : !begins ? 'changed' : known ? 'flushed' : 'created', generation }
  }
  const key = textOf(keyToBytes(entry.key))
  const common = {
    kind: entry.kind,
    key: key.text,
    ...(key.encoding === 'base64' ? { keyEncoding: 'base64' as const } : {}),
  }
  if (entry.kind === 'delete') return common
  if (entry.kind === 'touch') return { ...common, expiry: entry.expiry }
  const version = ((BigInt(entry.versionHigh) << 32n) | BigInt(entry.versionLow)).toString()
  if (entry.kind === 'stale') return { ...common, expiry: entry.expiry, version }
  const value = values ? textOf(entry.value) : undefined
  return {
    ...common,
    bytes: entry.value.length,
    flags: Number(entry.flags),
    expiry: entry.expiry,
    version,
    ...(value === undefined ? {} : { value: value.text, encoding: value.encoding }),
  }
}

function textOf(bytes: Buffer): { text: string; encoding: 'utf8' | 'base64' } {
  const text = bytes.toString('utf8')
  return Buffer.from(text, 'utf8').equals(bytes)
    ? { text, encoding: 'utf8' }
    : { text: bytes.toString('base64'), encoding: 'base64' }
}

async function startOf(databases: Databases, from: string): Promise<Position | 'oldest'> {
  if (from === 'oldest') return 'oldest'
  const probe = await databases.findSource(undefined)
  if (from === 'now') return probe.position
  try {
    return parsePosition(probe.dialect, from)
  } catch (cause) {
    throw new WhiteholeError(
      'bad-configuration',
      `"${from}" is no position of ${probe.dialect}: now, oldest, or what a former change has as resume`,
      { cause },
    )
  }
}

/** As they are now; what the log tells of them comes on top. From the past on, the first change of one is its creation. */
async function namesOf(databases: Databases): Promise<KnownNamespaces> {
  const { address } = await databases.findSource(undefined)
  const connection = await databases.connect(address)
  try {
    const [rows] = await connection.query<RowDataPacket[]>(
      'SELECT ns_id AS id, ns_name AS name, UNIX_TIMESTAMP(created) AS created FROM memcached.mc_namespaces',
    )
    return new Map(
      rows.map(({ id, name, created }) => [Number(id), { name: String(name), createdSeconds: Number(created) }]),
    )
  } finally {
    closeDatabaseConnection(connection)
  }
}

type KnownNamespaces = Map<number, { readonly name: string; readonly createdSeconds: number }>

function accessOf({ url, config, dir }: ClusterAddress): DatabaseAccess {
  if (url !== undefined) {
    throw new WhiteholeError('bad-configuration', 'a node tells no password of the databases: use --config or --dir')
  }
  if (config !== undefined) return databaseAccess(loadNodeConfig(config))
  const path = resolve(dir ?? defaultSandboxFolder)
  const folder = SandboxFolder.open(path)
  const { settings } = folder
  if (settings === undefined) throw new WhiteholeError('bad-configuration', `${path} holds no sandbox`)
  return {
    addresses: planOf(settings).databases.map(({ port }) => ({ host: '127.0.0.1', port })),
    user: nodeUser,
    password: folder.secret('node'),
    database: 'memcached',
    topology: settings.topology,
  }
}
