import { counterBytesMax } from '../domain/counter.ts'
import { WhiteholeError } from '../domain/errors.ts'
import type { FollowedLog, Unwatch } from '../domain/followed-log.ts'
import { keyBytesMax } from '../domain/key.ts'
import type { Mutation, Outcome } from '../domain/mutation.ts'
import type { Mutations, MutationSession } from '../domain/mutations.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { Logger } from '../runtime/logger.ts'
import type { BatchKey, Result } from './decision.ts'
import { MainQueue, SideQueue } from './lane-queue.ts'
import type { LaneDatabase } from './lane-session.ts'
import { Lane, type LaneHost, type LaneSettings } from './lane.ts'
import { type Contended, Pending, SessionOrder, type WriterMutation } from './pending.ts'
import { jittered, secureRandom } from './random.ts'
import { newWriterMetrics, type WriterMetrics } from './writer-metrics.ts'

/** The part `writer` of a node's configuration. */
export interface WriterSettings {
  readonly lanes: number
  readonly sideLaneRetryMilliseconds: number
  readonly writeTimeoutMilliseconds: number
  readonly queueItemsMax: number
  readonly queueBytesMax: number
  readonly batchItemsMax: number
  readonly batchBytesMax: number
  readonly acknowledge: 'local' | 'committed'
}

export interface WriterOptions {
  /** The node's name: lanes are rows named after it. */
  readonly node: string
  readonly database: LaneDatabase
  readonly log: FollowedLog
  readonly settings: WriterSettings
  readonly logger: Logger
  /** In [0, 1), for versions. */
  readonly random?: () => number
}

const unacknowledgedBatchesMax = 8
/** How often deadlines are looked at, while something waits. */
const tickMilliseconds = 20
/** Of a mutation beside its value and its key: `Pending.bytes` is at least half of its text in a batch's larger packet. */
const overheadBytes = 120

/**
 * Client mutations into SQL (DESIGN §5): N main lanes and one side lane. A session stays on one main lane, so that its order is
 * the lane's; what finds a lock of somebody's open transaction goes to the side lane, with what follows in its session. Nobody is
 * answered but by the followed log, or at the deadline.
 */
export class Writer implements Mutations {
  readonly metrics: WriterMetrics = newWriterMetrics()
  readonly #settings: WriterSettings
  readonly #log: FollowedLog
  readonly #mains: { lane: Lane; queue: MainQueue }[]
  readonly #side: Lane
  readonly #lanes: readonly Lane[]
  /** What unanswered mutations on the side lane were found waiting for, and how many do. */
  readonly #contended = new Map<Contended, number>()
  #sessions = 0
  #ordinal = 0
  #tick: NodeJS.Timeout | undefined
  #unwatch: Unwatch[] = []
  #running: Promise<unknown> = Promise.resolve()
  #closing = false
  #onEmpty: (() => void) | undefined

  constructor(options: WriterOptions) {
    const { node, database, settings, logger } = options
    this.#settings = settings
    this.#log = options.log
    const host: LaneHost = {
      metrics: this.metrics,
      random: options.random ?? secureRandom,
      settle: (item, result) => this.#settle(item, result),
      contend: (item, by) => this.#contend(item, by),
    }
    const laneSettings: LaneSettings = {
      writeTimeoutMilliseconds: settings.writeTimeoutMilliseconds,
      batch: { items: settings.batchItemsMax, bytes: settings.batchBytesMax },
      unacknowledgedBatchesMax,
      acknowledge: settings.acknowledge,
    }
    const given = { database, host, settings: laneSettings, logger }
    this.#mains = Array.from({ length: settings.lanes }, (_, index) => {
      const queue = new MainQueue((item) => this.#divertIfNeeded(item))
      return { queue, lane: new Lane({ ...given, name: `${node}/${index}`, queue, mayBeBlind: true }) }
    })
    this.#side = new Lane({ ...given, name: `${node}/side`, queue: new SideQueue(), mayBeBlind: false })
    this.#lanes = [...this.#mains.map(({ lane }) => lane), this.#side]
  }

  start(): void {
    this.#unwatch = this.#lanes.map((lane) => this.#log.watchLane(lane.name, (change) => lane.observe(change)))
    this.#running = Promise.all(this.#lanes.map(async (lane) => lane.run()))
  }

  /** By lane: for people and tests. */
  get states(): ReadonlyMap<string, string> {
    return new Map(this.#lanes.map((lane) => [lane.name, lane.state]))
  }

  openSession(): MutationSession {
    const order = new SessionOrder(this.#sessions++ % this.#mains.length)
    let closed = false
    return {
      submit: async (mutation: Mutation) => {
        if (closed) throw new WhiteholeError('not-written', 'the session is closed')
        return this.#submit(order, mutation)
      },
      close: () => {
        closed = true
      },
    }
  }

  /**
   * Executes a delayed flush that is due by the primary's clock, once over all nodes.
   * @returns false where another node was quicker, another flush has replaced it, or it is not due yet
   */
  async flushDue(namespaceId: NamespaceId, dueSeconds: number): Promise<boolean> {
    const outcome = await this.#submit(new SessionOrder(0), { kind: 'due-flush', namespaceId, dueSeconds })
    return outcome.kind === 'flushed'
  }

  /** Takes nothing new, gives what is there so much time, then fails the rest. Leaves no connection and no timer. */
  async close(timeoutMilliseconds = this.#settings.writeTimeoutMilliseconds): Promise<void> {
    this.#closing = true
    if (this.metrics.queuedItems > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMilliseconds)
        this.#onEmpty = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    for (const lane of this.#lanes) lane.stop()
    for (const unwatch of this.#unwatch) unwatch()
    clearTimeout(this.#tick)
    this.#tick = undefined
    await this.#running
  }

  async #submit(order: SessionOrder, mutation: WriterMutation): Promise<Outcome> {
    return new Promise<Outcome>((resolve, reject) => {
      const item = this.#admit(order, mutation, { resolve, reject })
      if (item instanceof WhiteholeError) reject(item)
      else this.#enqueue(item)
    })
  }

  #admit(
    order: SessionOrder,
    mutation: WriterMutation,
    answer: { resolve: (outcome: Outcome) => void; reject: (error: WhiteholeError) => void },
  ): Pending | WhiteholeError {
    if (this.#closing) return new WhiteholeError('not-written', 'the node is stopping')
    const key = 'key' in mutation ? batchKey(mutation) : undefined
    if (key !== undefined && (key.key.length === 0 || key.key.length > keyBytesMax)) {
      return new WhiteholeError('key-too-long', `a key has 1 to ${keyBytesMax} bytes, this one ${key.key.length}`)
    }
    const bytes = valueBytes(mutation) + 2 * (key?.key.length ?? 0) + overheadBytes
    const { queuedItems, queuedBytes } = this.metrics
    if (queuedItems >= this.#settings.queueItemsMax || queuedBytes + bytes > this.#settings.queueBytesMax) {
      this.#count('queue-full')
      return new WhiteholeError('queue-full', `${queuedItems} writes of ${queuedBytes} bytes are waiting`)
    }
    const submittedAt = performance.now()
    const deadline = submittedAt + this.#settings.writeTimeoutMilliseconds
    const ordinal = this.#ordinal++
    return new Pending({ mutation, key, order, ordinal, submittedAt, deadline, bytes, ...answer })
  }

  #enqueue(item: Pending): void {
    const { order } = item
    this.metrics.queuedItems += 1
    this.metrics.queuedBytes += item.bytes
    // What follows a mutation on the main lane's queue takes that road too, and is moved over when its turn comes.
    const toSide = order.last === undefined ? item.key === undefined : order.last.route === 'side'
    order.append(item)
    if (toSide) {
      this.#moveToSide(item)
    } else {
      const main = this.#mains[order.laneIndex]
      main?.queue.add(item)
      main?.lane.wake()
    }
    this.#tick ??= setTimeout(this.#onTick, tickMilliseconds)
  }

  #moveToSide(item: Pending): void {
    item.route = 'side'
    this.#side.queue.insert([item])
    if (item.order.first?.route === 'side') this.#side.wake()
  }

  #divertIfNeeded(item: Pending): boolean {
    if (item.key !== undefined && item.previous?.route !== 'side' && !this.#hasWaiter(item)) return false
    this.#moveToSide(item)
    return true
  }

  #hasWaiter({ key, mutation }: Pending): boolean {
    if (this.#contended.size === 0) return false
    return this.#contended.has(String(mutation.namespaceId)) || (key !== undefined && this.#contended.has(key.id))
  }

  #contend(item: Pending, by: Contended | undefined): void {
    if (by !== undefined) {
      this.metrics.contended += 1
      this.#setContended(item, by)
      item.attempts += 1
      const most = this.#settings.sideLaneRetryMilliseconds
      item.retryAt = performance.now() + jittered(Math.min(most, 2 ** Math.min(item.attempts, 10)))
    }
    this.#moveToSide(item)
  }

  #setContended(item: Pending, by: Contended | undefined): void {
    const { contended } = item
    if (contended === by) return
    if (contended !== undefined) {
      const left = (this.#contended.get(contended) ?? 1) - 1
      if (left === 0) this.#contended.delete(contended)
      else this.#contended.set(contended, left)
    }
    if (by !== undefined) this.#contended.set(by, (this.#contended.get(by) ?? 0) + 1)
    item.contended = by
  }

  #settle(item: Pending, result: Result): void {
    const { order } = item
    this.#setContended(item, undefined)
    order.remove(item)
    this.metrics.queuedItems -= 1
    this.metrics.queuedBytes -= item.bytes
    if (result instanceof WhiteholeError) this.#count(result.code)
    else this.metrics.acknowledged += 1
    item.settle(result)
    if (order.first?.route === 'side') this.#side.wake()
    if (this.metrics.queuedItems === 0) this.#onEmpty?.()
  }

  #count(code: string): void {
    this.metrics.errors[code] = (this.metrics.errors[code] ?? 0) + 1
  }

  readonly #onTick = (): void => {
    const now = performance.now()
    for (const lane of this.#lanes) lane.expire(now)
    this.#tick = this.metrics.queuedItems > 0 ? setTimeout(this.#onTick, tickMilliseconds) : undefined
  }
}

/** The most that it may write: a counter is padded to the length that its value has. */
function valueBytes(mutation: WriterMutation): number {
  if (mutation.kind === 'set') return mutation.value.length
  return mutation.kind === 'arithmetic' ? counterBytesMax : 0
}

function batchKey({ namespaceId, key }: Extract<WriterMutation, { key: unknown }>): BatchKey {
  return { id: `${namespaceId}:${key}`, namespaceId, key, hex: Buffer.from(key, 'latin1').toString('hex') }
}
