import type { Request } from './request.ts'

/**
 * A client's bytes → requests. Fed with chunks as they come and asked for one request at a time, so that whoever serves them may stop
 * in the middle of a chunk. How the bytes were split never shows.
 */
export interface RequestSource {
  /** The chunk is not copied: it must not change afterwards. */
  feed(chunk: Buffer): void
  /** The next request that is complete. */
  next(): Request | undefined
  /** Whether a request has begun and not ended: a client may rest between requests, but not within one for long. */
  readonly midRequest: boolean
  /** Nothing more comes: a `quit`, or bytes that end the connection. */
  readonly ended: boolean
}

/** What the listener allows. */
export interface RequestLimits {
  /** memcached's item limit (`-I`). */
  readonly itemBytesMax: number
  /** Keys of one `get`. */
  readonly keysMax: number
  /** Whether keys carry a namespace's name and a colon in front: neither counts for the limits. */
  readonly prefixedKeys: boolean
}
