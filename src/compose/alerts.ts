import { join } from 'node:path'
import type { Figure } from '../admin/node-metrics.ts'
import type { Databases } from '../adapters/databases.ts'
import { writeEvent } from '../adapters/event-table.ts'
import { sendByCommand } from '../adapters/mail-command.ts'
import { PrimaryConnection } from '../adapters/primary-connection.ts'
import { postWebhook } from '../adapters/webhook.ts'
import { Announcer } from '../alerts/announcer.ts'
import { type DeliveryCounts, DeliveryQueue } from '../alerts/delivery-queue.ts'
import type { MonitorPhase } from '../alerts/mail-damping.ts'
import { MailSink } from '../alerts/mail-sink.ts'
import { mailSource, type MailMessage } from '../alerts/mail-text.ts'
import { Spool } from '../alerts/spool.ts'
import { webhookBody } from '../alerts/webhook-body.ts'
import { type AlertsConfig, mailSelection } from '../config/alerts-config.ts'
import type { HooksConfig } from '../config/hooks-config.ts'
import type { WebhookSecrets } from '../config/alert-secrets.ts'
import { type Announcement, type AnnouncementSink, severities } from '../domain/announcement.ts'
import { AfterHooks, type AfterHooksCounts } from '../hooks/after-hooks.ts'
import type { Logger } from '../runtime/logger.ts'

export interface AlertsParts {
  readonly config: AlertsConfig
  readonly hooks: HooksConfig['after']
  /** Of each webhook, in their order. */
  readonly secrets: readonly WebhookSecrets[]
  /** The monitor's own folder: what waits to be delivered is kept there. */
  readonly dataDirectory: string
  /** With the monitor's account. */
  readonly databases: Databases
  readonly phase: () => MonitorPhase
  readonly logger: Logger
}

const firstRetryMilliseconds = 500
const retryMillisecondsMax = 60_000
/** A commit that waits for a standby is not given up at once: each try that is leaves one more waiter on the primary (R33). */
const auditTimeoutMilliseconds = 30_000
const auditGiveUpMilliseconds = 30 * 86_400_000
const mailGiveUpMilliseconds = 86_400_000
const mailsMax = 100

/** Every sink of the configuration, and what closes them. */
export class Alerts implements AnnouncementSink {
  readonly #announcer: Announcer
  readonly #queues: readonly Pick<DeliveryQueue<unknown>, 'name' | 'counts' | 'close'>[]
  readonly #mail: MailSink | undefined
  readonly #hooks: AfterHooks
  readonly #primary: PrimaryConnection

  constructor(parts: AlertsParts) {
    this.#primary = new PrimaryConnection({
      databases: parts.databases,
      timeoutMilliseconds: auditTimeoutMilliseconds,
    })
    const webhooks = webhookQueues(parts)
    const audit = parts.config.audit.enabled ? auditQueue(parts, this.#primary) : undefined
    const mail = mailRoad(parts)
    this.#mail = mail?.sink
    this.#hooks = new AfterHooks(
      parts.hooks.map(({ command, timeoutSeconds, on, tries }) => ({
        command,
        timeoutMilliseconds: timeoutSeconds * 1000,
        on,
        tries,
      })),
      parts.logger,
    )
    this.#queues = [...webhooks.map(({ queue }) => queue), ...defined(audit), ...defined(mail?.queue)]
    this.#announcer = new Announcer(
      // Hooks first: they change something, the others tell.
      [this.#hooks, ...webhooks, ...defined(audit).map((queue) => sinkOf(queue)), ...defined(mail?.sink)],
      parts.logger,
    )
  }

  take(announcement: Announcement): void {
    this.#announcer.take(announcement)
  }

  /** What was not delivered by then is kept for the next start. */
  async close(graceMilliseconds: number): Promise<void> {
    this.#mail?.close()
    await Promise.all([
      this.#hooks.close(graceMilliseconds),
      ...this.#queues.map((queue) => queue.close(graceMilliseconds)),
    ])
    this.#primary.close()
  }

  figures(): Figure[] {
    const byQueue = (name: keyof DeliveryCounts, kind: Figure['kind'], help: string): Figure => ({
      name: `alerts_${name}${kind === 'counter' ? '_total' : ''}`,
      help,
      kind,
      labels: ['sink'],
      read: () =>
        this.#queues.map((queue) => ({
          labels: { sink: queue.name },
          value: queue.counts[name],
        })),
    })
    const hook = (name: keyof AfterHooksCounts, help: string): Figure => ({
      name: `hooks_${name}_total`,
      help,
      kind: 'counter',
      read: () => this.#hooks.counts[name],
    })
    return [
      {
        name: 'events_total',
        help: 'What happened to the cluster, by event and severity.',
        kind: 'counter',
        labels: ['event', 'severity'],
        read: () =>
          [...this.#announcer.counts()].map(({ event, severity, count }) => ({
            labels: { event, severity },
            value: count,
          })),
      },
      byQueue('waiting', 'gauge', 'Announcements that wait to be delivered.'),
      byQueue('delivered', 'counter', 'Announcements that arrived.'),
      byQueue('failed', 'counter', 'Tries to deliver one that failed.'),
      byQueue('dropped', 'counter', 'Announcements that were given up.'),
      hook('run', 'Runs of hooks after an event.'),
      hook('failed', 'Runs of them that failed.'),
      hook('dropped', 'Runs that were left out, because too many waited.'),
    ]
  }
}

interface WebhookRoad extends AnnouncementSink {
  readonly queue: DeliveryQueue<Announcement>
}

function webhookQueues({ config, secrets, dataDirectory, logger }: AlertsParts): WebhookRoad[] {
  return config.webhooks.map((webhook, index) => {
    const { secret, headers = {} } = secrets[index] ?? {}
    const target = { url: webhook.url, secret, headers, timeoutMilliseconds: webhook.timeoutSeconds * 1000 }
    const name = config.webhooks.length === 1 ? 'webhook' : `webhook-${index + 1}`
    const queue = new DeliveryQueue<Announcement>({
      name,
      deliver: (announcement, signal) =>
        postWebhook(target, { id: announcement.id, body: webhookBody(announcement) }, signal),
      itemsMax: webhook.queueItemsMax,
      firstRetryMilliseconds,
      retryMillisecondsMax,
      giveUpMilliseconds: webhook.giveUpSeconds * 1000,
      spool: new Spool(join(dataDirectory, `${name}.jsonl`), logger),
      logger,
    })
    const least = severities.indexOf(webhook.severityMin)
    return {
      queue,
      take: (announcement) => {
        if (severities.indexOf(announcement.severity) >= least) queue.add(announcement)
      },
    }
  })
}

function auditQueue(
  { config, dataDirectory, logger }: AlertsParts,
  primary: PrimaryConnection,
): DeliveryQueue<Announcement> {
  const { rowsMax, days, queueItemsMax } = config.audit
  return new DeliveryQueue<Announcement>({
    name: 'audit',
    deliver: (announcement) => writeEvent(primary, announcement, { rowsMax, days }),
    itemsMax: queueItemsMax,
    firstRetryMilliseconds,
    retryMillisecondsMax,
    giveUpMilliseconds: auditGiveUpMilliseconds,
    spool: new Spool(join(dataDirectory, 'audit.jsonl'), logger),
    logger,
  })
}

function mailRoad(parts: AlertsParts): { queue: DeliveryQueue<MailMessage>; sink: MailSink } | undefined {
  const { config, dataDirectory, logger, phase } = parts
  const { email, cluster } = config
  if (email === undefined) return undefined
  const queue = new DeliveryQueue<MailMessage>({
    name: 'email',
    deliver: (message, signal) =>
      sendByCommand(
        {
          command: email.command,
          source: mailSource(message, new Date()),
          environment: { WHITEHOLE_MAIL_TO: message.to.join(' '), WHITEHOLE_MAIL_SUBJECT: message.subject },
        },
        email.timeoutSeconds * 1000,
        signal,
      ),
    itemsMax: mailsMax,
    firstRetryMilliseconds: 5000,
    retryMillisecondsMax: 300_000,
    giveUpMilliseconds: mailGiveUpMilliseconds,
    spool: new Spool(join(dataDirectory, 'email.jsonl'), logger),
    logger,
  })
  const sink = new MailSink({
    rules: {
      freqSeconds: email.emailalertfreq,
      gatherMilliseconds: email.gatherSeconds * 1000,
      ...mailSelection(email.emailalertstatus),
    },
    addresses: { to: email.emailalert, from: email.emailalertfrom, cluster },
    phase,
    send: (message) => queue.add(message),
  })
  return { queue, sink }
}

function sinkOf(queue: DeliveryQueue<Announcement>): AnnouncementSink {
  return { take: (announcement) => queue.add(announcement) }
}

function defined<T>(value: T | undefined): T[] {
  return value === undefined ? [] : [value]
}
