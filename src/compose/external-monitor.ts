import { type HttpAddress } from '../admin/listen-http.ts'
import { listenMonitorHttp } from '../admin/monitor-http.ts'
import { createRegistry } from '../admin/node-metrics.ts'
import { ManagedDatabase } from '../adapters/managed-database.ts'
import { formatAddress } from '../config/address.ts'
import type { LoadedMonitorConfig } from '../config/load.ts'
import type { ClusterReport, DatabaseReport } from '../domain/cluster-report.ts'
import type { RolesKnowledge } from '../domain/database-roles.ts'
import { formatPosition } from '../domain/position.ts'
import { EventHub } from '../monitor/event-hub.ts'
import { ExternalWatch } from '../monitor/external-watch.ts'
import type { Logger } from '../runtime/logger.ts'
import { MonitorAlerts } from './monitor-alerts.ts'
import { monitorFigures } from './monitor-figures.ts'
import { seenRoles } from './monitor-roles.ts'

/** Somebody else's change of the primary takes a moment; what lasts longer is told. */
const settleMilliseconds = 2000
const freshMilliseconds = 3000

/** A monitor of databases that somebody else looks after: it asks and tells. It has no lock, no vote and no executor. */
export class ExternalMonitor {
  readonly #config: LoadedMonitorConfig
  readonly #databases: readonly ManagedDatabase[]
  readonly #watch: ExternalWatch
  readonly #alerts: MonitorAlerts
  #http: { close(): Promise<void> } | undefined

  static async start(config: LoadedMonitorConfig, logger: Logger, http: HttpAddress): Promise<ExternalMonitor> {
    const monitor = new ExternalMonitor(config, logger)
    logger.info({ pid: process.pid }, 'starting to watch')
    monitor.#http = await listenMonitorHttp(http, {
      voter: undefined,
      token: config.secrets.token,
      metrics: createRegistry(config.name, [
        ...monitorFigures(() => monitor.#report(), new EventHub()),
        ...monitor.#alerts.figures(),
      ]),
      report: () => monitor.#report(),
      roles: () => monitor.#roles(),
      request: undefined,
    })
    monitor.#watch.start()
    return monitor
  }

  private constructor(config: LoadedMonitorConfig, logger: Logger) {
    this.#config = config
    const { pair, user, engine } = config.databases
    this.#databases = pair.map(
      ({ name, address, adminPort }) =>
        new ManagedDatabase({
          name,
          dialect: engine,
          address: { host: address.host, port: address.port, adminPort },
          account: { user, password: config.secrets.password },
          replication: { user: '', password: '' },
        }),
    )
    this.#alerts = new MonitorAlerts({
      config,
      logger,
      record: () => null,
      settled: () => this.#watch.state.writable?.told === true,
    })
    const { timings } = config
    this.#watch = new ExternalWatch({
      config: {
        databases: pair.map(({ name }) => name),
        limits: { refusedMilliseconds: timings.refusedMilliseconds, silentMilliseconds: timings.silentMilliseconds },
        settleMilliseconds,
        severalWritable: false,
      },
      databases: Object.fromEntries(this.#databases.map((one) => [one.name, one])),
      timers: {
        now: () => performance.now(),
        after: (milliseconds, work) => {
          const timer = setTimeout(work, milliseconds)
          return () => clearTimeout(timer)
        },
      },
      probe: {
        everyMilliseconds: timings.probeEveryMilliseconds,
        timeoutMilliseconds: timings.probeTimeoutMilliseconds,
      },
      tell: (event) => this.#alerts.takeWatched(event),
    })
  }

  /** One line for people. */
  get state(): string {
    const writable = this.#watch.state.writable?.names ?? []
    return writable.length === 0 ? 'no database is writable' : `${writable.join(' and ')}: writable`
  }

  async stop(): Promise<void> {
    this.#alerts.stopping()
    this.#watch.stop()
    await this.#http?.close()
    await this.#alerts.close()
    for (const database of this.#databases) database.close()
  }

  #roles(): RolesKnowledge {
    const now = performance.now()
    return {
      databases: this.#databases.map(({ name }) => name),
      by: 'sight',
      record: null,
      recordAgeMilliseconds: Number.POSITIVE_INFINITY,
      seen: seenRoles(this.#seenNow(now), now),
    }
  }

  /** Without those that are lost. */
  #seenNow(now: number): ExternalWatch['state']['seen'] {
    const { seen, lost } = this.#watch.state
    return Object.fromEntries(
      Object.entries(seen).filter(([name, { at }]) => !lost.includes(name) && now - at <= freshMilliseconds),
    )
  }

  #report(): ClusterReport {
    const seen = this.#seenNow(performance.now())
    const databases = this.#config.databases.pair.map(({ name, address }): DatabaseReport => {
      const sight = seen[name]?.sight
      const facts = sight?.answers === true ? sight.facts : undefined
      return {
        name,
        address: formatAddress(address),
        role: facts === undefined ? 'unknown' : facts.readOnly ? 'standby' : 'primary',
        answers: facts !== undefined,
        detail: facts?.replication?.error ?? '',
        readOnly: facts?.readOnly ?? null,
        position: facts === undefined ? null : formatPosition(facts.position),
        epoch: null,
        standbys: facts?.semiSync.clients ?? null,
        quarantined: null,
        source: null,
      }
    })
    const primaries = databases.filter(({ role }) => role === 'primary')
    const [primary] = primaries
    return {
      monitor: this.#config.name,
      pid: process.pid,
      acting: false,
      actingMonitor: null,
      ready: primaries.length === 1,
      takeover: 'external',
      mode: null,
      stage: null,
      epoch: 0,
      primary: primaries.length === 1 ? (primary?.name ?? null) : null,
      standby: null,
      databases,
      voters: [],
      stuck: null,
    }
  }
}
