import type { Position } from './position.ts'

/** The log that this node follows, as the writer and the directory's readers see it; the applier implements it. */
export interface FollowedLog {
  /** Everything up to here is applied (while memcached is down: seen). */
  readonly position: Position | undefined
  /** Resolves when the position covers `target`; rejects with `database-away` after the time. */
  whenReached(target: Position, timeoutMilliseconds: number): Promise<void>
  /**
   * Calls back for each change of the lane's row, once everything of its transaction and before is applied (while memcached is
   * down: seen). In the order of the log; after a reconnect or a rebuild some may come again.
   */
  watchLane(lane: string, observer: LaneObserver): Unwatch
}

export type LaneObserver = (change: { incarnation: number; sequence: number }) => void
export type Unwatch = () => void
