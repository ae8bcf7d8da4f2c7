import { ManagedDatabase } from '../../src/adapters/managed-database.ts'
import type { DatabaseFacts, LockedDatabase } from '../../src/domain/database-control.ts'
import { covers, formatPosition, parsePosition } from '../../src/domain/position.ts'
import { type Accounts, serverAccountStatements } from '../../src/schema/accounts.ts'
import { initializeSchema } from '../../src/schema/initialize.ts'
import { Database, type Engine } from './databases.ts'
import { until } from './processes.ts'

const host: string = '127.0.0.1'
export const managedAccounts = {
  node: { user: 'whitehole_node', host, password: 'node-secret' },
  application: { user: 'whitehole_application', host, password: 'application-secret' },
  monitor: { user: 'whitehole_monitor', host, password: 'monitor-secret' },
  replication: { user: 'whitehole_replication', host, password: 'replication-secret' },
  relay: { user: 'whitehole_relay', host, password: 'relay-secret' },
} satisfies Accounts

/** A generous limit: what must be quick is measured where it matters. */
export const long = 20_000

/** A real database, and the monitor's hand on it with the monitor's own rights. */
export class Managed {
  readonly database: Database
  readonly control: ManagedDatabase

  constructor(database: Database, name: string) {
    this.database = database
    this.control = managed(database, name)
  }

  static async start(engine: Engine, name: string): Promise<Managed> {
    const database = await Database.start(engine)
    const { monitor, replication, relay } = managedAccounts
    for (const statement of serverAccountStatements(engine, { monitor, replication, relay })) {
      await database.query(`SET sql_log_bin = 0; ${statement}`)
    }
    return new Managed(database, name)
  }

  async facts(): Promise<DatabaseFacts> {
    const sight = await this.control.probe(long)
    if (!sight.answers) throw new Error(`${this.control.name} does not answer: ${sight.kind}, ${sight.detail}`)
    return sight.facts
  }

  /** Does it under the lock, and lets that go. */
  async locked<T>(work: (locked: LockedDatabase) => Promise<T>): Promise<T> {
    const locked = await this.control.takeLock(long)
    try {
      return await work(locked)
    } finally {
      locked.release()
    }
  }

  async caughtUpWith(primary: Managed): Promise<void> {
    const { position } = await primary.facts()
    await until(`${this.control.name} to reach ${formatPosition(position)}`, async () => {
      const facts = await this.facts()
      return covers(facts.position, position)
    })
    // MariaDB's log has a transaction before its tables do.
    if (this.database.engine === 'mariadb' && (await this.facts()).replication !== undefined) {
      await until(`${this.control.name} to show it`, async () => {
        const [row] = await this.database.query<{ position: string }>('SELECT @@gtid_slave_pos AS position')
        return covers(parsePosition('mariadb', row?.position ?? ''), position)
      })
    }
  }

  async remove(): Promise<void> {
    this.control.close()
    await this.database.remove()
  }
}

export function managed(database: Database, name: string): ManagedDatabase {
  return new ManagedDatabase({
    name,
    dialect: database.engine,
    address: { host, port: database.port, adminPort: database.extraPort },
    account: managedAccounts.monitor,
    replication: managedAccounts.replication,
    relay: managedAccounts.relay,
  })
}

/** Two databases as a monitor makes a pair of them: `first` writable in `paired`, epoch 1. */
export class ManagedPair {
  readonly first: Managed
  readonly second: Managed

  private constructor(first: Managed, second: Managed) {
    this.first = first
    this.second = second
  }

  static async start(engine: Engine): Promise<ManagedPair> {
    const first = await Managed.start(engine, 'db1')
    const second = await Managed.start(engine, 'db2')
    const pair = new ManagedPair(first, second)
    try {
      const root = await first.database.connect()
      await initializeSchema(root, { accounts: managedAccounts })
      await root.query("CALL memcached.create_namespace('default')")
      root.destroy()
      await first.locked(async (locked) => locked.makeReadOnly(long))
      await pair.open(first, second, 1)
      return pair
    } catch (error) {
      await pair.remove()
      throw error
    }
  }

  /** The way to `paired`: attached, caught up, proved by the epoch's commit, and only then writable. */
  async open(primary: Managed, standby: Managed, epoch: number): Promise<void> {
    await standby.locked(async (locked) => locked.follow(primary.control.address, long))
    await until('the standby to be attached', async () => {
      const { replication } = await standby.facts()
      return replication?.receiver === 'connected'
    })
    await standby.caughtUpWith(primary)
    await primary.locked(async (locked) => {
      await locked.prepare({ epoch, semiSync: true }, long)
      await locked.makeWritable(long)
    })
  }

  async remove(): Promise<void> {
    await Promise.allSettled([this.first.remove(), this.second.remove()])
  }
}
