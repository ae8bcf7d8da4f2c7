/** Counts since the start, and latencies as sums: whoever serves `/metrics` reads them when asked. */
export interface WriterMetrics {
  /** Transactions whose COMMIT was sent and not refused. */
  batches: number
  batchItems: number
  /** Mutations answered with an outcome. */
  acknowledged: number
  /** Mutations answered with an error, by its code. */
  readonly errors: Record<string, number>
  /** Transactions that were rolled back and tried again: deadlocks, lock waits, rows that were not absent after all. */
  retries: number
  deadlocks: number
  /** Times that a mutation was found behind somebody else's lock. */
  contended: number
  /** Times that a lane lost its session. */
  recoveries: number
  /** Mutations that were tried again after a lost session had turned out to have written nothing. */
  repeated: number
  /** From the start of a transaction to the answer to its COMMIT; of as many as `batches`. */
  commitSecondsSum: number
  /** From a mutation's submission to its acknowledgement; of as many as `acknowledged`. */
  acknowledgementSecondsSum: number
  /** Now: mutations that are not answered, and their bytes. */
  queuedItems: number
  queuedBytes: number
}

export function newWriterMetrics(): WriterMetrics {
  return {
    batches: 0,
    batchItems: 0,
    acknowledged: 0,
    errors: {},
    retries: 0,
    deadlocks: 0,
    contended: 0,
    recoveries: 0,
    repeated: 0,
    commitSecondsSum: 0,
    acknowledgementSecondsSum: 0,
    queuedItems: 0,
    queuedBytes: 0,
  }
}
