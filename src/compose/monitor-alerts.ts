import { announce, type AnnounceContext } from '../alerts/announce.ts'
import { describeEvent, type Description } from '../alerts/describe-event.ts'
import { describeWatchEvent } from '../alerts/describe-watch-event.ts'
import type { MonitorPhase } from '../alerts/mail-damping.ts'
import type { Figure } from '../admin/node-metrics.ts'
import { Databases } from '../adapters/databases.ts'
import { formatAddress } from '../config/address.ts'
import type { LoadedMonitorConfig } from '../config/load.ts'
import type { ChangeGuard, PlannedChange } from '../domain/change-guard.ts'
import type { ClusterEvent, ClusterRecord } from '../domain/cluster-record.ts'
import type { WatchEvent } from '../domain/watch-event.ts'
import { BeforeHooks } from '../hooks/before-hooks.ts'
import type { Logger } from '../runtime/logger.ts'
import { Alerts } from './alerts.ts'

export interface MonitorAlertsParts {
  readonly config: LoadedMonitorConfig
  readonly logger: Logger
  /** What is recorded as this monitor knows it; null where nothing is (yet). */
  readonly record: () => ClusterRecord | null
  /** It has found its way: what it tells is no news of its own start any more. */
  readonly settled: () => boolean
}

/** How long a monitor that stops waits for what is under way: a hook that moves an address must not be cut in the middle. */
const graceMilliseconds = 5000

/** All that a monitor tells, and whom it asks before it changes something. */
export class MonitorAlerts {
  readonly guard: ChangeGuard | undefined
  readonly #parts: MonitorAlertsParts
  readonly #context: AnnounceContext
  readonly #alerts: Alerts
  #stopping = false

  constructor(parts: MonitorAlertsParts) {
    const { config, logger } = parts
    const { alerts, hooks, databases, dataDirectory } = config
    this.#parts = parts
    this.#context = {
      cluster: alerts.cluster,
      monitor: config.name,
      addresses: Object.fromEntries(
        [...databases.pair, ...databases.relays].map(({ name, address }) => [name, formatAddress(address)]),
      ),
    }
    this.#alerts = new Alerts({
      // Into databases that somebody else looks after nothing is written.
      config: databases.takeover === 'external' ? { ...alerts, audit: { ...alerts.audit, enabled: false } } : alerts,
      hooks: hooks.after,
      secrets: config.secrets.webhooks,
      dataDirectory,
      databases: new Databases({
        addresses: databases.pair.map(({ address }) => address),
        user: databases.user,
        password: config.secrets.password,
        database: 'memcached',
        topology: databases.takeover === 'external' ? 'external' : 'pair',
      }),
      phase: () => this.#phase,
      logger,
    })
    this.guard =
      hooks.before.length === 0
        ? undefined
        : new BeforeHooks({
            hooks: hooks.before.map(({ command, timeoutSeconds, onFailure }) => ({
              command,
              timeoutMilliseconds: timeoutSeconds * 1000,
              onFailure,
            })),
            announce: (change) => this.#planned(change),
            logger,
          })
  }

  take(event: ClusterEvent, atMilliseconds: number): void {
    this.#tell(describeEvent(event), atMilliseconds)
  }

  takeWatched(event: WatchEvent): void {
    this.#tell(describeWatchEvent(event), Date.now())
  }

  figures(): readonly Figure[] {
    return this.#alerts.figures()
  }

  /** What is told from now on comes from the monitor's own end. */
  stopping(): void {
    this.#stopping = true
  }

  async close(): Promise<void> {
    await this.#alerts.close(graceMilliseconds)
  }

  get #phase(): MonitorPhase {
    if (this.#stopping) return 'stopping'
    return this.#parts.settled() ? 'running' : 'starting'
  }

  #tell(description: Description, atMilliseconds: number): void {
    this.#alerts.take(announce(description, this.#context, { record: this.#parts.record(), atMilliseconds }))
  }

  /** The facts as they would be afterwards. */
  #planned({ kind, epoch, to, from }: PlannedChange): ReturnType<typeof announce> {
    const record = this.#parts.record()
    const after: ClusterRecord | null =
      record === null
        ? null
        : {
            ...record,
            epoch,
            primary: to,
            standby: from,
            former: { name: from, instance: null, until: null },
            mode: kind === 'switchover' ? record.mode : 'solo',
            cause: kind,
          }
    const description: Description = {
      event: `before-${kind}`,
      severity: kind === 'switchover' ? 'info' : 'warning',
      about: to,
      text: `${to} is to become the primary in place of ${from}`,
    }
    return announce(description, this.#context, { record: after, atMilliseconds: Date.now() })
  }
}
