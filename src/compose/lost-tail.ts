import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { BinlogConnection } from '../adapters/binlog-connection.ts'
import { Databases } from '../adapters/databases.ts'
import { Transactions } from '../applier/transactions.ts'
import type { LostKey, LostTail } from '../domain/cluster-record.ts'
import type { DatabaseTarget } from '../domain/database-control.ts'
import type { LogEntry } from '../domain/log-entry.ts'
import type { Position } from '../domain/position.ts'
import { BinlogDecoder } from '../wire/binlog/decoder.ts'

const readMilliseconds = 5000
const keysMax = 10_000
const heartbeatMilliseconds = 200
const transactionBytesMax = 16 * 1024 * 1024

/**
 * What one database's log holds after a position, as a reader that never acknowledges anything: it releases nobody who waits for the
 * standby.
 */
export async function readTail(
  given: { target: DatabaseTarget; account: { user: string; password: string }; serverId: number },
  after: Position,
): Promise<LostTail> {
  const { target, account, serverId } = given
  const address = { host: target.host, port: target.adminPort ?? target.port }
  const databases = new Databases({ addresses: [address], ...account, database: '', topology: 'single' })
  const tail = new Tail()
  const transactions = new Transactions({
    position: after,
    cut: undefined,
    transactionBytesMax,
    checkGaps: false,
    onChunk: ({ entries, last }) => tail.take(entries, last),
  })
  const decoder = new BinlogDecoder({ schema: 'memcached', foreignStatements: 'skip' })
  const isWhole = await new Promise<boolean>((resolve) => {
    const timer = setTimeout(() => resolve(false), readMilliseconds)
    let binlog: BinlogConnection | undefined
    const end = (whole: boolean): void => {
      clearTimeout(timer)
      binlog?.close()
      resolve(whole)
    }
    const event = (bytes: Buffer): void => {
      const decoded = decoder.decode(bytes)
      // Nothing more is there to send.
      if (decoded.kind === 'heartbeat') return end(true)
      transactions.feed(decoded)
    }
    BinlogConnection.open(
      databases,
      { address, serverId, position: after, heartbeatMilliseconds },
      { event, failed: () => end(false) },
    ).then(
      (opened) => {
        binlog = opened
      },
      () => end(false),
    )
  })
  return { ...tail.summary, isPart: !isWhole || tail.summary.changes > keysMax }
}

class Tail {
  readonly #keys: LostKey[] = []
  #transactions = 0
  #changes = 0

  take(entries: readonly LogEntry[], isLast: boolean): void {
    if (isLast) this.#transactions += 1
    for (const entry of entries) {
      if (entry.kind === 'lane' || entry.kind === 'namespace') continue
      this.#changes += 1
      if (this.#keys.length >= keysMax) continue
      this.#keys.push({ namespaceId: entry.namespaceId, key: printable(entry.key), change: entry.kind })
    }
  }

  get summary(): Omit<LostTail, 'isPart'> {
    return { transactions: this.#transactions, changes: this.#changes, keys: this.#keys }
  }
}

function printable(key: string): string {
  return key.replace(/[^\x21-\x7e]|%/g, (one) => `%${one.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

/** The whole list, for a person: events carry the first of them. */
export async function keepTail(
  folder: string,
  { database, epoch, tail }: { database: string; epoch: number; tail: LostTail },
): Promise<string> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const file = join(folder, `lost-${database}-epoch-${epoch}.json`)
  // Whoever sees the file sees all of it.
  await writeFile(`${file}.new`, `${JSON.stringify(tail, null, 2)}\n`, { mode: 0o600 })
  await rename(`${file}.new`, file)
  return file
}
