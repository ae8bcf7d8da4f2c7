import ZongJi, { type BinlogEvent } from '@vlasky/zongji'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { LogEntry } from '../../src/domain/log-entry.ts'
import { formatGtid, formatPosition } from '../../src/domain/position.ts'
import { Database, engineList } from '../support/databases.ts'
import { endOfLog, Following, setSql, someServerId } from '../support/following.ts'
import { createLogTables, databasesAt } from '../support/log-tables.ts'
import { until } from '../support/processes.ts'

interface Told {
  readonly gtid: string
  readonly entries: unknown[]
}

/** Another reader of the binlog, written by others, must see the same in the same log. */
describe.each(engineList)('the log of %s, read by an independent reader too', (engine) => {
  let database: Database

  beforeAll(async () => {
    database = await Database.start(engine)
    await createLogTables(database)
    await database.query(
      "CREATE USER oracle@'127.0.0.1' IDENTIFIED BY 'oracle'; GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO oracle@'127.0.0.1'",
    )
    await database.query('CREATE DATABASE app; CREATE TABLE app.t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(200))')
  })
  afterAll(async () => database?.remove())

  test('random transactions come out the same, entry for entry', async () => {
    const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31))
    console.log(`seed ${seed}`)
    const random = randomFrom(seed)
    const start = await endOfLog(database)
    const connection = await database.connect()
    for (let n = 0; n < 150; n++) await connection.query(transaction(random, n))
    await connection.query(setSql('end'))
    const following = new Following(databasesAt([database.port]), { start, transactionBytesMax: 2 ** 30 })
    const oracle = new Oracle(database, formatPosition(start))
    try {
      await following.key('end')
      await until('the other reader to be at the end', () => {
        if (oracle.error !== undefined) throw oracle.error
        return oracle.told.some(({ entries }) => JSON.stringify(entries).includes('"key":"end"'))
      })
      const ours = following.chunks
        .filter(({ entries }) => entries.length > 0)
        .map(({ gtid, entries }): Told => ({ gtid: formatGtid(gtid), entries: entries.map(plain) }))
      const theirs = oracle.told.filter(({ entries }) => entries.length > 0)
      expect(ours.length).toBeGreaterThan(50)
      expect(ours).toEqual(theirs)
    } finally {
      oracle.stop()
      await following.stop()
    }
  })
})

/** Committed transactions as @vlasky/zongji reads them. */
class Oracle {
  readonly told: Told[] = []
  error: Error | undefined
  readonly #reader: ZongJi
  #rows: unknown[] = []
  #gtid = ''

  constructor(database: Database, gtidSet: string) {
    this.#reader = new ZongJi({
      host: '127.0.0.1',
      port: database.port,
      user: 'oracle',
      password: 'oracle',
      supportBigNumbers: true,
    })
    this.#reader.on('error', (error: Error) => (this.error ??= error))
    this.#reader.on('binlog', (event: BinlogEvent) => this.#event(event))
    this.#reader.start({ serverId: someServerId(), gtidSet })
  }

  stop(): void {
    this.#reader.stop()
  }

  #event(event: BinlogEvent): void {
    const any = event as unknown as {
      gtid?: string
      query?: string
      tableId: number
      tableMap: Record<number, { parentSchema: string; tableName: string }>
      rows: Record<string, unknown>[]
    }
    switch (event.getEventName()) {
      case 'writerows':
      case 'updaterows':
      case 'deleterows': {
        const table = any.tableMap[any.tableId]
        if (table?.parentSchema !== 'memcached') return
        for (const row of any.rows) this.#rows.push(...fromRow(event.getEventName(), table.tableName, row))
        this.#gtid = event.gtid ?? ''
        return
      }
      case 'query':
        if (any.query === 'COMMIT') this.#commit()
        else if (any.query === 'ROLLBACK') this.#rows = []
        return
      case 'xid':
        this.#commit()
    }
  }

  #commit(): void {
    if (this.#rows.length > 0) this.told.push({ gtid: this.#gtid, entries: this.#rows })
    this.#rows = []
  }
}

function fromRow(kind: string, table: string, row: Record<string, unknown>): unknown[] {
  const { before, after } = row as { before?: Record<string, unknown>; after?: Record<string, unknown> }
  const columns = after ?? row
  const number = (name: string): number => Number(columns[name])
  if (table === 'mc_lanes') {
    if (kind === 'deleterows') return []
    return [{ kind: 'lane', lane: text(columns['lane']), incarnation: number('incarnation'), sequence: number('seq') }]
  }
  if (table === 'mc_namespaces') {
    const begins = kind === 'writerows' || (before !== undefined && number('generation') > Number(before['generation']))
    return [
      {
        kind: 'namespace',
        namespaceId: number('ns_id'),
        name: text(columns['ns_name']),
        generation: number('generation'),
        flushDue: number('flush_due'),
        begins,
        dropped: kind === 'deleterows',
      },
    ]
  }
  const version = BigInt(String(columns['version']))
  const generation = Number(version >> 33n)
  const halves = { versionHigh: Number(version >> 32n), versionLow: Number(version & 0xffffffffn) }
  const key = { namespaceId: number('ns_id'), key: text(columns['mc_key']) }
  const expiry = number('expire')
  switch (number('op')) {
    case 1: {
      const value = bytes(columns['mc_value']).toString('hex')
      return [{ kind: 'set', ...key, generation, expiry, ...halves, flags: String(columns['flags']), value }]
    }
    case 2:
      return [{ kind: 'delete', ...key }]
    case 4:
      return [{ kind: 'stale', ...key, generation, expiry, ...halves }]
    default:
      return [{ kind: 'touch', ...key, generation, expiry }]
  }
}

function plain(entry: LogEntry): unknown {
  return entry.kind === 'set' ? { ...entry, value: entry.value.toString('hex') } : { ...entry }
}

function bytes(value: unknown): Buffer {
  return Buffer.isBuffer(value) ? value : Buffer.from(String(value), 'latin1')
}

function text(value: unknown): string {
  return bytes(value).toString('latin1')
}

type Random = (below: number) => number

function randomFrom(seed: number): Random {
  let state = seed >>> 0
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** Some statements in a transaction or on their own, sometimes undone. */
function transaction(random: Random, n: number): string {
  const statements = Array.from({ length: 1 + random(5) }, (_, index) => statement(random, n * 10 + index))
  if (random(4) === 0) return statements.join('; ')
  if (random(4) === 0)
    statements.splice(random(statements.length), 0, 'SAVEPOINT s', setSql(`undone${n}`), 'ROLLBACK TO s')
  return `BEGIN; ${statements.join('; ')}; ${random(6) === 0 ? 'ROLLBACK' : 'COMMIT'}`
}

function statement(random: Random, n: number): string {
  const hex = (length: number): string =>
    Array.from({ length }, () => random(256).toString(16).padStart(2, '0')).join('')
  const row = (): string => {
    const op = 1 + random(4)
    const version = (BigInt(1 + random(2 ** 30 - 1)) << 33n) | BigInt(1 + random(2 ** 33 - 1))
    const flags = [0, 1, 65_535, 4_294_967_295, '18446744073709551615', '9007199254740993'][random(6)]
    const value = op === 1 ? (random(5) === 0 ? "''" : `0x${hex(1 + random(random(8) === 0 ? 20_000 : 300))}`) : 'NULL'
    return `(${random(2 ** 31) - 2 ** 30}, 0x${hex(1 + random(250))}, ${op}, ${version}, ${random(2 ** 31)}, ${flags}, ${value})`
  }
  switch (random(6)) {
    case 0:
      return `INSERT INTO app.t (a) VALUES ('${n}'), ('${hex(90)}')`
    case 1:
      return `REPLACE INTO memcached.mc_lanes VALUES ('l${random(3)}', ${random(2 ** 31) * 2 ** 16}, ${random(2 ** 31)})`
    case 2:
      return `INSERT INTO memcached.mc_namespaces (ns_id, ns_name, generation) VALUES (${n + 1}, 'n.${n}', ${random(1000)})`
    case 3:
      return `UPDATE memcached.mc_namespaces SET generation = generation + ${random(2)}, flush_due = ${random(2 ** 31)} LIMIT ${1 + random(3)}`
    default:
      return `INSERT INTO memcached.mc_storage VALUES ${Array.from({ length: 1 + random(20) }, row).join(', ')}`
  }
}
