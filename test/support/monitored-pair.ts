import Fastify, { type FastifyInstance } from 'fastify'
import { answerDatabaseRoles } from '../../src/admin/database-roles-http.ts'
import { managedRoles } from '../../src/compose/monitor-roles.ts'
import type { ChangeGuard } from '../../src/domain/change-guard.ts'
import type { ClusterEvent } from '../../src/domain/cluster-record.ts'
import { executorTimeouts } from '../../src/monitor/executor.ts'
import { timingsDefault } from '../../src/monitor/machine-state.ts'
import { Monitor } from '../../src/monitor/monitor.ts'
import { RecordReader } from '../../src/monitor/record-reader.ts'
import { Voter } from '../../src/monitor/voter.ts'
import { long, type Managed, ManagedPair } from './managed.ts'
import { freePort, until } from './processes.ts'

const self = 'monitor1'

/**
 * A real pair under a real monitor of this process, which decides alone: one voter is a majority of one. What it knows is answered on a
 * port, as a daemon would.
 */
export class MonitoredPair {
  readonly pair: ManagedPair
  readonly monitor: Monitor
  readonly port: number
  readonly events: ClusterEvent[] = []
  readonly #server: FastifyInstance
  readonly #looks: NodeJS.Timeout

  private constructor(given: { pair: ManagedPair; voter: Voter; port: number; guard?: ChangeGuard | undefined }) {
    const { pair, voter, port, guard } = given
    this.pair = pair
    this.port = port
    const each = [pair.first, pair.second]
    this.monitor = new Monitor({
      config: {
        self,
        monitors: [self],
        voters: [self],
        databases: ['db1', 'db2'],
        targets: Object.fromEntries(each.map(({ control }) => [control.name, control.address])),
        hosts: Object.fromEntries(each.map(({ control }) => [control.name, { restart: true, rebuild: false }])),
        timings: { ...timingsDefault, settleMilliseconds: 500, antiFlapMilliseconds: 500 },
      },
      databases: Object.fromEntries(each.map(({ control }) => [control.name, control])),
      hosts: Object.fromEntries(
        each.map((one) => [
          one.control.name,
          { restart: () => startAsStandby(one), rebuild: () => Promise.reject(new Error('not here')) },
        ]),
      ),
      voter,
      links: { ask: () => Promise.reject(new Error('there is no other voter')) },
      timers: {
        now: () => performance.now(),
        after: (milliseconds, work) => {
          const timer = setTimeout(work, milliseconds)
          return () => clearTimeout(timer)
        },
      },
      events: { emit: (event) => this.events.push(event) },
      executorTimeouts,
      probe: { everyMilliseconds: 250, timeoutMilliseconds: 600 },
      ...(guard === undefined ? {} : { guard }),
    })
    const reader = new RecordReader({
      voters: [self],
      self,
      ask: (_, request) => voter.ask(request),
      now: () => performance.now(),
    })
    this.#looks = setInterval(() => void reader.look(), 250)
    this.#server = Fastify({ forceCloseConnections: true })
    answerDatabaseRoles(this.#server, () =>
      managedRoles({
        databases: ['db1', 'db2'],
        known: reader.known,
        seen: this.monitor.state.seen,
        now: performance.now(),
      }),
    )
  }

  static async start(guard?: ChangeGuard): Promise<MonitoredPair> {
    const pair = await ManagedPair.start('mariadb')
    // As databases start: who is writable is the monitor's word.
    await pair.first.locked((locked) => locked.makeReadOnly(long))
    const voter = await Voter.open({
      name: self,
      store: { load: () => Promise.resolve(undefined), save: () => Promise.resolve() },
      limits: timingsDefault,
      actingMilliseconds: timingsDefault.actingSilentMilliseconds,
      acknowledged: () => undefined,
      now: () => performance.now(),
    })
    const one = new MonitoredPair({ pair, voter, port: await freePort(), guard })
    await one.#server.listen({ host: '127.0.0.1', port: one.port })
    one.monitor.start()
    return one
  }

  get primary(): Managed {
    const name = this.monitor.record?.primary
    return name === 'db2' ? this.pair.second : this.pair.first
  }

  get standby(): Managed {
    return this.primary === this.pair.first ? this.pair.second : this.pair.first
  }

  /** Each acknowledged write is on both. */
  async paired(): Promise<void> {
    await until('the pair to be whole', () => {
      const { record } = this.monitor
      return record?.stage === 'steady' && record.mode === 'paired'
    }).catch((error: unknown) => {
      const told = this.events.slice(-6).map((event) => JSON.stringify(event))
      throw new Error(`${JSON.stringify(this.monitor.record)}; ${told.join('; ')}`, { cause: error })
    })
  }

  /** Resolves once another one is the primary and writable. */
  async takenOver(from: number): Promise<void> {
    await until(`an epoch after ${from}`, () => {
      const { record } = this.monitor
      return record !== null && record.epoch > from && record.stage === 'steady'
    })
  }

  async remove(): Promise<void> {
    clearInterval(this.#looks)
    this.monitor.stop()
    await this.#server.close()
    await this.pair.remove()
  }
}

/** As whoever supervises it starts a database that died: not knowing what it was. */
export async function startAsStandby({ database }: Managed): Promise<void> {
  await database.stop()
  await database.launch(['--init-rpl-role=SLAVE'])
}
