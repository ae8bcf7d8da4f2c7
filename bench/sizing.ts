import type { Connection, RowDataPacket } from 'mysql2/promise'
import { load } from './support/load.ts'
import type { Question, Row } from './support/result.ts'
import { BenchSandbox } from './support/sandbox.ts'

const directoryKeys = 100_000

/** What a write costs in the binlog, and a key in the directory. */
export const question: Question = {
  name: 'sizing',
  title: 'What a key costs in the databases',
  text: `A \`single\` sandbox with one node, keys of 16 bytes. Binlog: bytes that two seconds of writes add to it, a write: by \`set\` from one connection (a transaction each) and from 200 (batches), and by \`CALL set_key\` (a transaction each). Directory: size of the file of \`mc_stored_keys\` after ${directoryKeys.toLocaleString('en')} keys were set in random order from 200 connections, a key.`,
  run: async (progress) => {
    const sandbox = await BenchSandbox.start(['--topology', 'single', '--nodes', '1', '--memory', '1024'])
    try {
      const database = await sandbox.primary()
      const rows: Row[] = []
      const tell = (contestant: string, figure: string, bytes: number): void => {
        progress(`${contestant}: ${Math.round(bytes)} B`)
        rows.push({ contestant, figures: { [figure]: `${Math.round(bytes)} B` } })
      }
      for (const bytes of [100, 1000, 10_000]) {
        for (const connections of [1, 200]) {
          const each = await binlogOfSets(sandbox, database, { bytes, connections })
          tell(`value of ${bytes.toLocaleString('en')} B, ${connections} connections`, 'binlog a write', each)
        }
        const each = await binlogOfCalls(database, bytes)
        tell(`value of ${bytes.toLocaleString('en')} B, CALL set_key`, 'binlog a write', each)
      }
      tell('any value', 'directory a key', await directoryAKey(sandbox, database))
      database.destroy()
      return rows
    } finally {
      await sandbox.remove()
    }
  },
}

const keyOf = (connection: number, number: number): string =>
  `key-${String((connection * 7919 + number * 104_729) % 1_000_000).padStart(12, '0')}`

async function binlogOfSets(
  sandbox: BenchSandbox,
  database: Connection,
  { bytes, connections }: { bytes: number; connections: number },
): Promise<number> {
  const value = 'x'.repeat(bytes)
  let writes = 0
  const request = (connection: number, number: number): string => {
    writes += 1
    return `set ${keyOf(connection, number)} 0 0 ${bytes}\r\n${value}\r\n`
  }
  const before = await binlogBytes(database)
  await load({ port: sandbox.node(1), connections, seconds: 2, request, replyEnd: 'STORED\r\n' })
  return ((await binlogBytes(database)) - before) / writes
}

async function binlogOfCalls(database: Connection, bytes: number): Promise<number> {
  const before = await binlogBytes(database)
  const calls = 1000
  for (let number = 0; number < calls; number++) {
    await database.query('CALL set_key(ns(?), ?, ?, 0)', ['default', keyOf(7, number), 'x'.repeat(bytes)])
  }
  return ((await binlogBytes(database)) - before) / calls
}

async function binlogBytes(database: Connection): Promise<number> {
  const [logs] = await database.query<RowDataPacket[]>('SHOW BINARY LOGS')
  return logs.reduce((sum, row) => sum + Number(row['File_size']), 0)
}

/** In a namespace of its own; what the file had before is taken off. */
async function directoryAKey(sandbox: BenchSandbox, database: Connection): Promise<number> {
  const file = async (): Promise<number> => {
    await database.query('FLUSH TABLES memcached.mc_stored_keys FOR EXPORT; UNLOCK TABLES')
    const [rows] = await database.query<RowDataPacket[]>(
      "SELECT FILE_SIZE AS bytes FROM information_schema.innodb_sys_tablespaces WHERE name = 'memcached/mc_stored_keys'",
    )
    return Number(rows[0]?.['bytes'])
  }
  await database.query('DELETE FROM mc_stored_keys; ALTER TABLE mc_stored_keys ENGINE = InnoDB')
  const before = await file()
  let sent = 0
  const request = (): string => `set ${keyOf(0, sent++)} 0 0 1\r\nx\r\n`
  for (;;) {
    await load({ port: sandbox.node(1), connections: 200, seconds: 2, request, replyEnd: 'STORED\r\n' })
    const [rows] = await database.query<RowDataPacket[]>('SELECT COUNT(*) AS n FROM mc_stored_keys')
    const count = Number(rows[0]?.['n'])
    if (count >= directoryKeys) return ((await file()) - before) / count
  }
}
