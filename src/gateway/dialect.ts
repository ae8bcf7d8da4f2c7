import type { CachedItem } from '../domain/local-reads.ts'
import type { Outcome } from '../domain/mutation.ts'
import type { RequestKey } from '../wire/memcached/request.ts'
import type { Reply } from './replies.ts'

/**
 * Writes what a family of commands worked out in the words of one protocol. The reply carries the request's form. All but `item`
 * and `stat` end the reply.
 */
export interface Dialect {
  /** A hit. `cas` is the cluster-wide token, where the request wants it. */
  item(reply: Reply, key: RequestKey, item: CachedItem, cas: bigint | undefined): void
  /** Behind the last key of a retrieval. @param missed the key of a retrieval of one key that was no hit */
  endItems(reply: Reply, missed: RequestKey | undefined): void
  /** How a change of one key ended. */
  outcome(reply: Reply, key: RequestKey, change: ChangeResult): void
  /** `flush_all`, `verbosity` and the like are done. */
  done(reply: Reply): void
  noop(reply: Reply): void
  version(reply: Reply, version: string): void
  stat(reply: Reply, name: string, value: string | number): void
  endStats(reply: Reply): void
  /** Something is wrong with the request: `line` is the text protocol's words. */
  refuse(reply: Reply, line: string, status?: number): void
  /** It could not be executed: mostly a WhiteholeError. */
  fail(reply: Reply, error: unknown): void
}

export interface ChangeResult {
  readonly outcome: Outcome
  /** Of the whole value that is stored now, for `ms … s`. */
  readonly sizeBytes?: number
  /** Seconds left, -1 without end, for `ma … t`. */
  readonly remainingSeconds?: number
}
