import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { HttpAddress } from '../admin/listen-http.ts'
import { listenMonitorHttp } from '../admin/monitor-http.ts'
import { createRegistry } from '../admin/node-metrics.ts'
import { CommandHost } from '../adapters/database-host.ts'
import { DurableFile } from '../adapters/durable-file.ts'
import { ManagedDatabase } from '../adapters/managed-database.ts'
import { type VoterEndpoint, VoterHttp } from '../adapters/voter-http.ts'
import { type Address, formatAddress } from '../config/address.ts'
import type { LoadedMonitorConfig } from '../config/load.ts'
import type { ClusterEvent } from '../domain/cluster-record.ts'
import type { ClusterReport } from '../domain/cluster-report.ts'
import type { DatabaseTarget } from '../domain/database-control.ts'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import { type AcknowledgementMark, watchAcknowledgements } from '../monitor/acknowledgement-watch.ts'
import { Desk } from '../monitor/desk.ts'
import { EventHub } from '../monitor/event-hub.ts'
import { executorTimeouts, type Failpoint } from '../monitor/executor.ts'
import { type MachineConfig, type Timings, timingsDefault } from '../monitor/machine-state.ts'
import { Monitor } from '../monitor/monitor.ts'
import { RecordReader } from '../monitor/record-reader.ts'
import { Voter } from '../monitor/voter.ts'
import type { VoterReply, VoterRequest } from '../monitor/voter-protocol.ts'
import { parseAcceptorState, parseVoterReply } from '../monitor/voter-messages.ts'
import { createLogger, type Logger } from '../runtime/logger.ts'
import { serviceManager } from '../runtime/service-manager.ts'
import { ExternalMonitor } from './external-monitor.ts'
import { MonitorAlerts } from './monitor-alerts.ts'
import { managedRoles } from './monitor-roles.ts'
import { keepTail, readTail } from './lost-tail.ts'
import { monitorFigures } from './monitor-figures.ts'
import { reportOf } from './monitor-report.ts'
import { daemonSignals } from './daemon.ts'

/** Runs a monitor until it is told to stop. */
export async function runMonitor(config: LoadedMonitorConfig): Promise<void> {
  const logger = createLogger({ level: config.log.level, name: config.name })
  const manager = serviceManager(process.env)
  const signals = daemonSignals(() => logger.warn({}, 'a monitor reads its configuration only at its start'))
  const daemon =
    config.databases.takeover === 'external'
      ? await ExternalMonitor.start(config, logger, httpAddress(config.http.listen))
      : await MonitorDaemon.start(config, logger)
  try {
    manager.ready(() => daemon.state)
    await signals.stop
    logger.info({}, 'stopping')
    manager.stopping()
  } finally {
    signals.release()
    await daemon.stop()
    manager.close()
    logger.info({}, 'stopped')
  }
}

const voterTimeoutMilliseconds = 800
const recordEveryMilliseconds = 500
const hostTimeoutMilliseconds = 600_000

/** The parts of a monitor of a managed pair, wired. */
class MonitorDaemon {
  readonly #config: LoadedMonitorConfig
  readonly #logger: Logger
  readonly #hub = new EventHub()
  readonly #databases: readonly ManagedDatabase[]
  readonly #links: ReadonlyMap<string, VoterHttp>
  readonly #voter: Voter
  readonly #monitor: Monitor
  readonly #alerts: MonitorAlerts
  readonly #reader: RecordReader
  #looks: NodeJS.Timeout | undefined
  #acknowledgements: AcknowledgementMark | null = null
  #stuck: { why: string; cure: string } | null = null
  #http: { close(): Promise<void> } | undefined

  /** @throws WhiteholeError `bad-configuration` where the address is taken, or where its former vote can't be read */
  static async start(config: LoadedMonitorConfig, logger: Logger): Promise<MonitorDaemon> {
    let heard: (ballot: { round: number; monitor: string }) => void = () => {}
    const voter = await Voter.open({
      name: config.name,
      store: new DurableFile(join(config.dataDirectory, 'vote.json'), parseAcceptorState),
      limits: timingsOf(config),
      actingMilliseconds: timingsDefault.actingSilentMilliseconds,
      acknowledged: () => undefined,
      now: () => performance.now(),
      onHeard: (ballot) => heard(ballot),
    })
    const daemon = new MonitorDaemon(config, logger, voter)
    heard = (ballot) => daemon.#monitor.heard(ballot)
    await daemon.#start()
    return daemon
  }

  private constructor(config: LoadedMonitorConfig, logger: Logger, voter: Voter) {
    this.#config = config
    this.#logger = logger
    this.#voter = voter
    this.#databases = entriesOf(config).map((one) => managedDatabase(config, one))
    this.#links = new Map(
      config.voters
        .filter(({ name }) => name !== config.name)
        .map(({ name, http }) => [
          name,
          new VoterHttp({
            endpoint: endpointOf(http),
            secret: config.secrets.voters ?? '',
            timeoutMilliseconds: voterTimeoutMilliseconds,
          }),
        ]),
    )
    const { timings } = config
    const ask = async (to: string, request: VoterRequest): Promise<VoterReply> =>
      parseVoterReply(await this.#links.get(to)?.ask(request))
    this.#alerts = new MonitorAlerts({
      config,
      logger,
      record: () => this.#monitor.record,
      settled: () => this.#monitor.record !== null,
    })
    this.#reader = new RecordReader({
      voters: config.voters.map(({ name }) => name),
      self: config.name,
      ask: (to, request) => (to === config.name ? voter.ask(request) : ask(to, request)),
      now: () => performance.now(),
    })
    this.#monitor = new Monitor({
      config: machineConfig(config),
      databases: Object.fromEntries(this.#databases.map((one) => [one.name, one])),
      hosts: Object.fromEntries(
        entriesOf(config).map(({ name, restartCommand, rebuildCommand }) => [
          name,
          new CommandHost({
            name,
            restart: restartCommand,
            rebuild: rebuildCommand,
            timeoutMilliseconds: hostTimeoutMilliseconds,
          }),
        ]),
      ),
      voter,
      links: { ask },
      timers: { now: () => performance.now(), after: later },
      events: this.#hub,
      executorTimeouts,
      probe: {
        everyMilliseconds: timings.probeEveryMilliseconds,
        timeoutMilliseconds: timings.probeTimeoutMilliseconds,
      },
      passing: (failpoint) => this.#pass(failpoint),
      ...(this.#alerts.guard === undefined ? {} : { guard: this.#alerts.guard }),
      readTail: (database, after) => readTail(this.#tailSource(database), after),
    })
    this.#hub.subscribe((event, at) => this.#tell(event, at))
  }

  /** One line for people. */
  get state(): string {
    const { acting, record } = this.#monitor
    if (record === null) return 'no primary was recorded yet'
    return `${acting ? 'acting; ' : ''}${record.primary} is the primary (${record.mode}, epoch ${record.epoch}, ${record.stage})`
  }

  async stop(): Promise<void> {
    this.#alerts.stopping()
    clearInterval(this.#looks)
    this.#monitor.stop()
    await this.#http?.close()
    await this.#alerts.close()
    for (const link of this.#links.values()) link.close()
    for (const database of this.#databases) database.close()
  }

  async #start(): Promise<void> {
    const { name, http, secrets } = this.#config
    this.#logger.info({ pid: process.pid }, 'starting')
    this.#http = await listenMonitorHttp(httpAddress(http.listen), {
      voter: new Desk(this.#voter, secrets.voters ?? ''),
      token: secrets.token,
      metrics: createRegistry(name, [...monitorFigures(() => this.#report(), this.#hub), ...this.#alerts.figures()]),
      report: () => this.#report(),
      roles: () =>
        managedRoles({
          databases: entriesOf(this.#config).map((one) => one.name),
          known: this.#reader.known,
          seen: this.#monitor.state.seen,
          now: performance.now(),
        }),
      request: (kind, to) => this.#request(kind, to),
    })
    this.#monitor.start()
    this.#looks = setInterval(() => {
      void this.#reader.look()
      this.#lookPastStandby()
    }, recordEveryMilliseconds)
  }

  #lookPastStandby(): void {
    const { acting, record, state } = this.#monitor
    const { mark, alarm } = watchAcknowledgements(this.#acknowledgements, acting ? record : null, {
      seen: state.seen[record?.primary ?? ''],
      now: performance.now(),
    })
    this.#acknowledgements = mark
    if (alarm !== undefined) this.#hub.emit({ kind: 'alarm', about: 'acknowledgement', detail: alarm })
  }

  #request(kind: 'switchover' | 'forced-takeover', to: string | undefined): Promise<{ ok: boolean; text: string }> {
    const standby = this.#monitor.record?.standby
    const target = to ?? standby
    if (target === undefined)
      return Promise.resolve({ ok: false, text: 'say which one: no record of a primary is there yet' })
    return this.#monitor.request(kind, target)
  }

  #report(): ClusterReport {
    const { promised } = this.#voter.state
    return reportOf(this.#monitor, {
      addresses: Object.fromEntries(entriesOf(this.#config).map(({ name, address }) => [name, formatAddress(address)])),
      actingMonitor: this.#monitor.acting ? this.#config.name : (promised?.monitor ?? null),
      stuck: this.#stuck,
    })
  }

  #tell(event: ClusterEvent, atMilliseconds: number): void {
    if (event.kind === 'stuck') this.#stuck = { why: event.why, cure: event.cure }
    else if (event.kind === 'unstuck' || event.kind === 'stood-down') this.#stuck = null
    if (event.kind === 'tail-lost') this.#keepTail(event)
    this.#alerts.take(event, atMilliseconds)
  }

  #tailSource(name: string): Parameters<typeof readTail>[0] {
    const { replicationUser: user } = this.#config.databases
    const entry = entriesOf(this.#config).find((one) => one.name === name)
    if (entry === undefined) throw new Error(`there is no database ${name}`)
    const password = this.#config.secrets.replicationPassword ?? ''
    return { target: targetOf(entry), account: { user, password }, serverId: readerId(this.#config.name) }
  }

  #keepTail(event: Extract<ClusterEvent, { kind: 'tail-lost' }>): void {
    keepTail(this.#config.dataDirectory, event).then(
      (file) => this.#logger.warn({ file }, 'what a former primary alone had is written down'),
      (error: unknown) =>
        this.#logger.error({ error: describeError(error) }, 'what a former primary alone had is not kept'),
    )
  }

  /** For tests of what is half done: `WHITEHOLE_MONITOR_FAILPOINT` names one of the executor's. */
  #pass(failpoint: Failpoint): void {
    if (process.env['WHITEHOLE_MONITOR_FAILPOINT'] !== failpoint) return
    this.#logger.warn({ failpoint }, 'failpoint: this process kills itself')
    process.kill(process.pid, 'SIGKILL')
  }
}

function timingsOf({ timings }: LoadedMonitorConfig): Timings {
  const { probeEveryMilliseconds: _every, probeTimeoutMilliseconds: _timeout, ...limits } = timings
  return { ...timingsDefault, ...limits }
}

function machineConfig(config: LoadedMonitorConfig): MachineConfig {
  const [first, second] = config.databases.pair
  if (first === undefined || second === undefined)
    throw new WhiteholeError('bad-configuration', 'a pair has two databases')
  return {
    self: config.name,
    monitors: config.voters.filter(({ kind }) => kind === 'monitor').map(({ name }) => name),
    voters: config.voters.map(({ name }) => name),
    databases: [first.name, second.name],
    relays: config.databases.relays.map(({ name, filtered }) => ({ name, filtered, sources: relaySources(config) })),
    targets: Object.fromEntries(entriesOf(config).map((one) => [one.name, targetOf(one)])),
    hosts: Object.fromEntries(
      entriesOf(config).map(({ name, restartCommand, rebuildCommand }) => [
        name,
        { restart: restartCommand !== undefined, rebuild: rebuildCommand !== undefined },
      ]),
    ),
    timings: timingsOf(config),
  }
}

type DatabaseEntry = Omit<LoadedMonitorConfig['databases']['pair'][number], 'relayAddress'>

/** The pair, then the relays. */
function entriesOf({ databases }: LoadedMonitorConfig): readonly DatabaseEntry[] {
  return [...databases.pair, ...databases.relays]
}

function relaySources({ databases }: LoadedMonitorConfig): Record<string, DatabaseTarget> {
  return Object.fromEntries(
    databases.pair.map(({ name, address, relayAddress = address }) => [
      name,
      { host: relayAddress.host, port: relayAddress.port, adminPort: undefined },
    ]),
  )
}

function managedDatabase(config: LoadedMonitorConfig, entry: DatabaseEntry): ManagedDatabase {
  const { user, replicationUser, relayUser, engine } = config.databases
  const { password, replicationPassword = '', relayPassword } = config.secrets
  return new ManagedDatabase({
    name: entry.name,
    dialect: engine,
    address: targetOf(entry),
    account: { user, password },
    replication: { user: replicationUser, password: replicationPassword },
    relay: relayPassword === undefined ? undefined : { user: relayUser, password: relayPassword },
  })
}

function targetOf({ address, adminPort }: DatabaseEntry): DatabaseTarget {
  return { host: address.host, port: address.port, adminPort }
}

function endpointOf(address: Address): VoterEndpoint {
  return address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port }
}

function httpAddress(address: Address): HttpAddress {
  return address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port }
}

/** As a reader of a log; no database and no node may have it. */
function readerId(name: string): number {
  const hash = createHash('sha256').update(`monitor ${name}`).digest().readUInt32BE(0)
  return 1_000_000_000 + (hash % 3_000_000_000)
}

function later(milliseconds: number, work: () => void): () => void {
  const timer = setTimeout(work, milliseconds)
  return () => clearTimeout(timer)
}
