import { WhiteholeError } from '../domain/errors.ts'
import type { ItemKey } from '../domain/key.ts'
import type { LocalReads, ReadSink } from '../domain/local-reads.ts'
import { MemcachedConnection } from './memcached-connection.ts'

export interface MemcachedReadsOptions {
  readonly address: { readonly host: string; readonly port: number }
  /** Whether the contents are to be trusted, as the applier knows. */
  serving(): boolean
  readonly timeoutMilliseconds?: number
  /** Longest pause between two attempts to connect. */
  readonly retryMillisecondsMax?: number
}

const firstRetryMilliseconds = 20

/**
 * Reads of this node's memcached over one connection, kept up for as long as the node runs. While it is down, reads fail at once.
 *
 *     connecting ⇄ connected → closed
 *
 * A memcached that died and came back empty is not read by mistake: its end reaches this connection and the applier's in the
 * same turn of the event loop, and from then on the applier's `serving()` says no.
 */
export class MemcachedReads implements LocalReads {
  readonly #options: MemcachedReadsOptions
  readonly #retryMillisecondsMax: number
  #connection: MemcachedConnection | undefined
  #closed = false
  #retryMilliseconds = firstRetryMilliseconds
  #retry: NodeJS.Timeout | undefined
  #lastError: unknown

  constructor(options: MemcachedReadsOptions) {
    this.#options = options
    this.#retryMillisecondsMax = options.retryMillisecondsMax ?? 500
    void this.#connect()
  }

  get serving(): boolean {
    return this.#connection !== undefined && this.#options.serving()
  }

  get connected(): boolean {
    return this.#connection !== undefined
  }

  fetch(key: ItemKey, sink: ReadSink): void {
    if (this.#connection === undefined) {
      sink(undefined, new WhiteholeError('memcached-away', 'no connection to memcached', { cause: this.#lastError }))
    } else if (this.#options.serving()) {
      this.#connection.get(key, sink)
    } else {
      sink(undefined, new WhiteholeError('not-serving', 'the contents of memcached are not to be trusted now'))
    }
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#retry)
    this.#connection?.destroy()
    this.#connection = undefined
  }

  async #connect(): Promise<void> {
    const { address, timeoutMilliseconds } = this.#options
    try {
      const connection = await MemcachedConnection.connect(
        address,
        timeoutMilliseconds === undefined ? {} : { timeoutMilliseconds },
      )
      if (this.#closed) {
        connection.destroy()
        return
      }
      this.#retryMilliseconds = firstRetryMilliseconds
      this.#connection = connection
      this.#lastError = await connection.closed
      this.#connection = undefined
    } catch (error) {
      this.#lastError = error
    }
    if (this.#closed) return
    this.#retry = setTimeout(() => void this.#connect(), this.#retryMilliseconds)
    this.#retryMilliseconds = Math.min(this.#retryMilliseconds * 2, this.#retryMillisecondsMax)
  }
}
