import { WhiteholeError } from '../domain/errors.ts'
import type { FollowedLog, LaneObserver, Unwatch } from '../domain/followed-log.ts'
import type { LaneEntry } from '../domain/log-entry.ts'
import { covers, formatPosition, joinPositions, type Position } from '../domain/position.ts'

/** How far this node is, for whoever waits for it: writers for their lanes, readers for a position. */
export class FollowedPosition implements FollowedLog {
  #position: Position | undefined
  /** What a filtered relay has passed over besides: nothing of ours is in it, so it is never in the log that is followed. */
  #passedOver: Position | undefined
  readonly #observers = new Map<string, Set<LaneObserver>>()
  readonly #waiters = new Set<Waiter>()

  get position(): Position | undefined {
    return this.#position
  }

  /** Everything of ours that `target` has is here. */
  has(target: Position): boolean {
    if (this.#position === undefined) return false
    if (covers(this.#position, target)) return true
    return this.#passedOver !== undefined && covers(joinPositions(this.#position, this.#passedOver), target)
  }

  /**
   * A filtered relay said first what it had executed, and then where its own log ended: once that is reached here, all of the first is, save
   * what holds nothing of ours.
   */
  passOver(executed: Position, logged: Position): void {
    if (this.#position === undefined || !covers(this.#position, logged)) return
    this.#passedOver = executed
    this.#tellWaiters()
  }

  /**
   * Everything up to `position` is applied, the lanes' changes in it among it. While not serving, "seen" stands for "applied": then
   * an applier that repeats old entries tells their lanes again, and the position stays where the scout is.
   */
  reached(position: Position, lanes: readonly LaneEntry[]): void {
    const forward = this.#position === undefined || covers(position, this.#position)
    if (forward) this.#position = position
    for (const lane of lanes) {
      const observers = this.#observers.get(lane.lane)
      if (observers !== undefined) for (const observer of observers) observer(lane)
    }
    if (forward) this.#tellWaiters()
  }

  #tellWaiters(): void {
    for (const waiter of this.#waiters) {
      if (!this.has(waiter.target)) continue
      this.#waiters.delete(waiter)
      clearTimeout(waiter.timer)
      waiter.resolve()
    }
  }

  /** It was a place in a log that is not the primary's. Whoever waits for one there waits in vain until its own time is over. */
  forget(): void {
    this.#position = undefined
    this.#passedOver = undefined
  }

  whenReached(target: Position, timeoutMilliseconds: number): Promise<void> {
    if (this.has(target)) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter)
        const here = this.#position === undefined ? 'nowhere yet' : `at ${formatPosition(this.#position)}`
        reject(
          new WhiteholeError(
            'database-away',
            `the log did not reach ${formatPosition(target)} in time: this node is ${here}`,
          ),
        )
      }, timeoutMilliseconds)
      const waiter: Waiter = { target, resolve, timer }
      this.#waiters.add(waiter)
    })
  }

  watchLane(lane: string, observer: LaneObserver): Unwatch {
    const observers = this.#observers.get(lane) ?? new Set()
    this.#observers.set(lane, observers.add(observer))
    return () => {
      observers.delete(observer)
      if (observers.size === 0 && this.#observers.get(lane) === observers) this.#observers.delete(lane)
    }
  }

  /** Is anybody here interested in this lane? Spares the applier to keep the others' changes. */
  watches(lane: string): boolean {
    return this.#observers.has(lane)
  }
}

interface Waiter {
  readonly target: Position
  readonly resolve: () => void
  readonly timer: NodeJS.Timeout
}
