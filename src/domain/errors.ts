/**
 * The one table of errors: a stable code, what it means, whether trying again may help, and what a memcached client is told.
 * Whoever throws gives the details in the message; `cause` keeps the origin.
 */
export const errorTable = {
  'key-too-long': { retryable: false, reply: 'CLIENT_ERROR bad command line format' },
  'value-too-large': { retryable: false, reply: 'SERVER_ERROR object too large for cache' },
  'unknown-namespace': { retryable: false, reply: 'CLIENT_ERROR unknown namespace' },
  'not-supported': { retryable: false, reply: 'SERVER_ERROR command not supported' },
  /** Nothing was written and nothing will be. */
  'not-written': { retryable: true, reply: 'SERVER_ERROR not written: no database acknowledges writes' },
  /** The write may appear or not, but never after a later acknowledged one to its key (DESIGN §6.7). */
  'outcome-unknown': { retryable: true, reply: 'SERVER_ERROR outcome unknown: the database did not answer in time' },
  'queue-full': { retryable: true, reply: 'SERVER_ERROR not written: too many writes are waiting' },
  'not-serving': { retryable: true, reply: 'SERVER_ERROR this node is not serving' },
  'database-away': { retryable: true, reply: 'SERVER_ERROR no database answers' },
  'memcached-away': { retryable: true, reply: 'SERVER_ERROR memcached is away' },
  /** Evicted here; a node that may hold it gives no answer. */
  'item-away': { retryable: true, reply: 'SERVER_ERROR a node that may hold the item does not answer' },
  /** `append` and `prepend`: the item changed under each of many tries. Nothing was written. */
  contended: { retryable: true, reply: 'SERVER_ERROR not written: the item changes too fast' },
  /** The log cannot be followed as it is: a person must act. */
  'log-unreadable': { retryable: false, reply: 'SERVER_ERROR this node is not serving' },
  'log-purged': { retryable: false, reply: 'SERVER_ERROR this node is not serving' },
  /** What was read of the log is not in the primary's: a takeover lost it (docs/adr/0017-rewind.md). */
  'log-diverged': { retryable: true, reply: 'SERVER_ERROR this node is not serving' },
  'log-gap': { retryable: true, reply: 'SERVER_ERROR this node is not serving' },
  'bad-configuration': { retryable: false, reply: 'SERVER_ERROR bad configuration' },
  'bad-schema': { retryable: false, reply: 'SERVER_ERROR the database schema does not fit' },
} as const satisfies Record<string, { retryable: boolean; reply: string }>

export type ErrorCode = keyof typeof errorTable

export class WhiteholeError extends Error {
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'WhiteholeError'
    this.code = code
  }

  get retryable(): boolean {
    return errorTable[this.code].retryable
  }

  /** One line of the memcached protocol, without the line end. */
  get reply(): string {
    return errorTable[this.code].reply
  }
}

export function replyOf(error: unknown): string {
  return error instanceof WhiteholeError ? error.reply : 'SERVER_ERROR internal error'
}

/** An error's text with its causes, for logs and people. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause === undefined ? error.message : `${error.message}: ${describeError(error.cause)}`
}
