import type { Connection, RowDataPacket } from 'mysql2/promise'
import { closeDatabaseConnection, type DatabaseProbe, type Databases } from '../adapters/databases.ts'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import type { CataloguedNamespace } from '../domain/namespaces.ts'
import { parsePosition, type Position } from '../domain/position.ts'
import type { Logger } from '../runtime/logger.ts'
import { oldestPosition } from './oldest-position.ts'
import { pause } from './scout.ts'

export interface CatalogueSnapshot {
  readonly namespaces: readonly Omit<CataloguedNamespace, 'watermark'>[]
  /** The namespaces are as of here or earlier. */
  readonly position: Position
  /** Where the retained log of that database begins. */
  readonly oldest: Position
  readonly clockSeconds: number
}

/** Asks the database that the node follows; waits for one, and for its schema, as long as it takes. */
export async function readNamespaces(
  databases: Databases,
  logger: Logger,
  signal: AbortSignal,
): Promise<CatalogueSnapshot> {
  let told = ''
  for (;;) {
    try {
      return await readOnce(databases)
    } catch (error) {
      if (signal.aborted) throw error
      const reason = describeError(error)
      if (reason !== told) logger.warn({ reason }, 'the namespaces cannot be read yet')
      told = reason
    }
    await pause(retryMilliseconds, signal)
    signal.throwIfAborted()
  }
}

const retryMilliseconds = 300
const noSuchTable = 1146

async function readOnce(databases: Databases): Promise<CatalogueSnapshot> {
  const probe = await databases.findSource(undefined)
  const connection = await databases.connect(probe.address)
  try {
    // The rows first, the position after them: whatever the rows know lies at or before it (a catalogue may be ahead, never behind).
    const namespaces = await readRows(connection)
    const { position, clockSeconds } = await readPosition(connection, probe)
    return { namespaces, position, clockSeconds, oldest: await oldestPosition(databases, probe) }
  } catch (error) {
    if (isErrno(error, noSuchTable)) {
      throw new WhiteholeError('bad-schema', 'the schema is missing: run `whitehole init`', { cause: error })
    }
    throw error
  } finally {
    closeDatabaseConnection(connection)
  }
}

async function readRows(connection: Connection): Promise<CatalogueSnapshot['namespaces']> {
  const [rows] = await connection.query<RowDataPacket[]>(
    'SELECT ns_id AS id, ns_name AS name, generation, flush_due AS flushDue FROM mc_namespaces',
  )
  return rows.map(({ id, name, generation, flushDue }) => ({
    id: Number(id),
    name: String(name),
    generation: Number(generation),
    flushDue: Number(flushDue),
  }))
}

async function readPosition(
  connection: Connection,
  { dialect }: DatabaseProbe,
): Promise<{ position: Position; clockSeconds: number }> {
  const variable = dialect === 'mariadb' ? '@@global.gtid_binlog_pos' : '@@global.gtid_executed'
  const [[row]] = await connection.query<RowDataPacket[]>(
    `SELECT ${variable} AS position, UNIX_TIMESTAMP(NOW(6)) AS clock`,
  )
  return { position: parsePosition(dialect, String(row?.['position'])), clockSeconds: Number(row?.['clock']) }
}

function isErrno(error: unknown, errno: number): boolean {
  return error instanceof Error && 'errno' in error && error.errno === errno
}
