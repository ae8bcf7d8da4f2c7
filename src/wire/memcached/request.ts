import type { Exptime } from '../../domain/mutation.ts'

/**
 * What a client asks, whichever protocol it speaks: the text, meta and binary parsers all make these. Each kind is served by one
 * file of the gateway.
 */
export type Request =
  | RetrievalRequest
  | StorageRequest
  | OversizeRequest
  | DeletionRequest
  | TouchRequest
  | ArithmeticRequest
  | FlushRequest
  | StatsRequest
  | VersionRequest
  | VerbosityRequest
  | NoopRequest
  | RefusedRequest
  | QuitRequest

/**
 * A key as the client sent it, latin1, one character a byte. On a key-prefix listener the namespace's name is in front of it, so it may
 * be longer than 250 bytes; the key itself never is.
 */
export type RequestKey = string

/** How the reply is written. The meta and the binary protocol add theirs: return flags, opaques. */
export interface ReplyForm {
  readonly dialect: 'text'
  /** `noreply`: nothing is sent, errors neither. */
  readonly quiet: boolean
}

export const loud: ReplyForm = { dialect: 'text', quiet: false }
export const silent: ReplyForm = { dialect: 'text', quiet: true }

/** `get gets gat gats` */
export interface RetrievalRequest {
  readonly kind: 'retrieval'
  readonly keys: readonly RequestKey[]
  readonly withCas: boolean
  /** Given by `gat` and `gats`. */
  readonly touch: Exptime | undefined
  readonly form: ReplyForm
}

export type StorageMode = 'set' | 'add' | 'replace' | 'append' | 'prepend' | 'cas'

export interface StorageRequest {
  readonly kind: 'storage'
  readonly mode: StorageMode
  readonly key: RequestKey
  /** 0 to 2^32-1: what is beyond is cut off, as memcached does. */
  readonly flags: number
  readonly exptime: Exptime
  /** The client's token, for `cas` alone; else 0. */
  readonly cas: bigint
  /** A copy of its own; the parser fills it in once the body is here. */
  value: Buffer
  readonly form: ReplyForm
}

/** A value over the item limit. Its body is swallowed by the parser. A `set` takes the old value along, as memcached's does. */
export interface OversizeRequest {
  readonly kind: 'oversize'
  readonly mode: StorageMode
  readonly key: RequestKey
  readonly form: ReplyForm
}

export interface DeletionRequest {
  readonly kind: 'deletion'
  readonly key: RequestKey
  readonly form: ReplyForm
}

export interface TouchRequest {
  readonly kind: 'touch'
  readonly key: RequestKey
  readonly exptime: Exptime
  readonly form: ReplyForm
}

export interface ArithmeticRequest {
  readonly kind: 'arithmetic'
  readonly direction: 'incr' | 'decr'
  readonly key: RequestKey
  readonly delta: bigint
  readonly form: ReplyForm
}

export interface FlushRequest {
  readonly kind: 'flush'
  /** In memcached's forms; 0 or negative: at once. */
  readonly exptime: Exptime
  readonly form: ReplyForm
}

export interface StatsRequest {
  readonly kind: 'stats'
  /** Words behind `stats`. */
  readonly topic: readonly string[]
  readonly form: ReplyForm
}

export interface VersionRequest {
  readonly kind: 'version'
  readonly form: ReplyForm
}

export interface VerbosityRequest {
  readonly kind: 'verbosity'
  readonly form: ReplyForm
}

/** `mn` */
export interface NoopRequest {
  readonly kind: 'noop'
  readonly form: ReplyForm
}

/** Nothing to do but to answer a line. */
export interface RefusedRequest {
  readonly kind: 'refused'
  readonly line: string
  readonly form: ReplyForm
}

/** The connection ends once everything before is answered; what follows is not read. `line` is said before. */
export interface QuitRequest {
  readonly kind: 'quit'
  readonly line: string | undefined
}

export function refused(line: string, form: ReplyForm = loud): RefusedRequest {
  return { kind: 'refused', line, form }
}
