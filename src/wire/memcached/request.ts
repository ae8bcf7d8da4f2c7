import type { Exptime } from '../../domain/mutation.ts'

/**
 * What a client asks, whichever protocol it speaks: the text, meta and binary parsers all make these. Each kind is served by one
 * file of the gateway, which works out the answer once; the dialect of the request's form then writes it (gateway/dialect.ts).
 */
export type Request =
  | RetrievalRequest
  | MetaGetRequest
  | MetaDebugRequest
  | StorageRequest
  | OversizeRequest
  | DeletionRequest
  | InvalidationRequest
  | TouchRequest
  | ArithmeticRequest
  | FlushRequest
  | StatsRequest
  | DumpRequest
  | VersionRequest
  | VerbosityRequest
  | NoopRequest
  | RefusedRequest
  | QuitRequest

/** All but the one that is no question. */
export type AnswerableRequest = Exclude<Request, { kind: 'quit' }>

/**
 * A key as the client sent it, latin1, one character a byte; where the client encoded it (base64), decoded. On a key-prefix listener
 * the namespace's name is in front of it, so it may be longer than 250 bytes; the key itself never is.
 */
export type RequestKey = string

/** How the reply is written. */
export type ReplyForm = TextForm | MetaForm | BinaryForm

export interface TextForm {
  readonly dialect: 'text'
  /** `noreply`: nothing is sent, errors neither. */
  readonly quiet: boolean
}

export interface MetaForm {
  readonly dialect: 'meta'
  readonly command: 'mg' | 'ms' | 'md' | 'ma' | 'me'
  /** `q`: hides HD (and EN of `mg`); errors and refusals are sent. */
  readonly quiet: boolean
  /** All words behind the key (behind the length, for `ms`), in the order sent: what is returned follows that order. */
  readonly flags: readonly string[]
  /** `b`: the key is echoed in base64. */
  readonly base64: boolean
}

export interface BinaryForm {
  readonly dialect: 'binary'
  readonly opcode: number
  /** Copied into the reply. */
  readonly opaque: number
  /** Quiet variants: hide success (retrievals: a miss). */
  readonly quiet: boolean
  /** `GETK`, `GATK` and their quiet variants. */
  readonly echoesKey: boolean
}

export const loud: TextForm = { dialect: 'text', quiet: false }
export const silent: TextForm = { dialect: 'text', quiet: true }

/** `get gets gat gats`, binary `GET GAT` with their variants (always one key) */
export interface RetrievalRequest {
  readonly kind: 'retrieval'
  readonly keys: readonly RequestKey[]
  readonly withCas: boolean
  /** Given by `gat` and `gats`. */
  readonly touch: Exptime | undefined
  readonly form: ReplyForm
}

/** `mg`: the return flags are in the form. */
export interface MetaGetRequest {
  readonly kind: 'meta-get'
  readonly key: RequestKey
  readonly withValue: boolean
  /** `c`, or a comparison. */
  readonly withCas: boolean
  /** `C`: the value is left out where the item has this token. */
  readonly unlessCas: bigint | undefined
  /** `T` */
  readonly touch: Exptime | undefined
  /** `N`: on a miss leaves a placeholder that lives so long, and wins. */
  readonly vivify: Exptime | undefined
  /** `R`: wins where less time remains. */
  readonly recacheBelow: Exptime | undefined
  readonly form: MetaForm
}

/** `me` */
export interface MetaDebugRequest {
  readonly kind: 'meta-debug'
  readonly key: RequestKey
  readonly form: MetaForm
}

/** `cas` is a `set` with a token to compare with. */
export type StorageMode = 'set' | 'add' | 'replace' | 'append' | 'prepend'

export interface StorageRequest {
  readonly kind: 'storage'
  readonly mode: StorageMode
  readonly key: RequestKey
  /** 0 to 2^32-1: what is beyond is cut off, as memcached does. */
  readonly flags: number
  readonly exptime: Exptime
  /** The client's token (0 to 2^64-1); undefined: none. `add` compares with nothing. */
  readonly compare: bigint | undefined
  /** `append`, `prepend` on a key that is not there: stores what is given, to live so long (meta `N`). */
  readonly vivify: Exptime | undefined
  /** Meta `I`: a token that does not match stores all the same, and marks the item stale. */
  readonly staleOnMismatch: boolean
  /** A copy of its own; the parser fills it in once the body is here. */
  value: Buffer
  readonly form: ReplyForm
}

/** A value over the item limit. Its body is swallowed by the parser. */
export interface OversizeRequest {
  readonly kind: 'oversize'
  readonly key: RequestKey
  /** A `set` takes the old value along, as memcached's does; so does every `ms`. */
  readonly takesOldAlong: boolean
  readonly form: ReplyForm
}

export interface DeletionRequest {
  readonly kind: 'deletion'
  readonly key: RequestKey
  readonly compare: bigint | undefined
  readonly form: ReplyForm
}

/** `md … I` and `md … x` */
export interface InvalidationRequest {
  readonly kind: 'invalidation'
  readonly key: RequestKey
  readonly compare: bigint | undefined
  readonly stale: boolean
  readonly dropsValue: boolean
  /** Undefined: the expiry is kept. */
  readonly exptime: Exptime | undefined
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
  readonly compare: bigint | undefined
  /** Where the key is not there: this number, to live so long. */
  readonly create: { readonly initial: bigint; readonly exptime: Exptime } | undefined
  /** Meta `T`; undefined: kept. */
  readonly exptime: Exptime | undefined
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

/** `lru_crawler metadump`, `lru_crawler mgdump`: the keys of the namespace. */
export interface DumpRequest {
  readonly kind: 'dump'
  readonly style: 'metadump' | 'mgdump'
  readonly form: TextForm
}

export interface VersionRequest {
  readonly kind: 'version'
  readonly form: ReplyForm
}

export interface VerbosityRequest {
  readonly kind: 'verbosity'
  readonly form: ReplyForm
}

/** `mn`, binary `NOOP` */
export interface NoopRequest {
  readonly kind: 'noop'
  readonly form: ReplyForm
}

/** Nothing to do but to answer a line. */
export interface RefusedRequest {
  readonly kind: 'refused'
  readonly line: string
  /** The binary protocol's status; its dialect finds one by the line where there is none. */
  readonly status?: number
  readonly form: ReplyForm
}

/** The connection ends once everything before is answered; what follows is not read. */
export interface QuitRequest {
  readonly kind: 'quit'
  /** Said before, as a line of text. */
  readonly line: string | undefined
  /** Binary `QUIT`: answered by the dialect. */
  readonly form?: ReplyForm
}

export function refused(line: string, form: ReplyForm = loud): RefusedRequest {
  return { kind: 'refused', line, form }
}
