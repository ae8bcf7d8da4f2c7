import type { DirectoryReads } from '../domain/directory-reads.ts'
import type { ItemKey } from '../domain/key.ts'
import type { ItemCas, LocalReads } from '../domain/local-reads.ts'
import type { ArbitratedMutations, ArbitratedSession } from '../domain/mutations.ts'
import type { Namespaces } from '../domain/namespaces.ts'
import type { ReplyForm } from '../wire/memcached/request.ts'
import type { GatewayCounters } from './counters.ts'
import type { ItemTokens } from './item-tokens.ts'
import type { Naming } from './naming.ts'
import type { Reply } from './replies.ts'

/** What the gateway asks of the rest of the node. */
export interface GatewayServices {
  readonly namespaces: Namespaces
  readonly reads: LocalReads
  readonly mutations: ArbitratedMutations
  readonly directory: DirectoryReads
  readonly counters: GatewayCounters
  /** What this node's memcached holds, of all namespaces. Undefined where it can't be listed. */
  readonly listing?: () => AsyncIterable<readonly ListedItem[]>
  /** Unix seconds by this machine's clock: for `stats` and for absolute times that are long over. */
  nowSeconds(): number
}

export interface ListedItem extends ItemCas {
  readonly key: ItemKey
  /** What memcached says of it behind the key: `exp=-1 la=… cas=… fetch=no cls=1 size=60`. */
  readonly details: string
}

/** A client's connection, as the families of commands see it. */
export interface Conversation {
  readonly services: GatewayServices
  readonly naming: Naming
  /** What goes through it keeps its order. */
  readonly mutations: ArbitratedSession
  /** Of the whole gateway. */
  readonly tokens: ItemTokens
  /** Too much waits for the client to read it: no more until `whenWritable`. */
  readonly blocked: boolean
  readonly closed: boolean
  /** What is being answered is all that is under way. */
  readonly soleRequest: boolean
  begin(form: ReplyForm, heldBytes?: number): Reply
  /** Called back once when there is room again; never, where the connection ends before. */
  whenWritable(callback: () => void): void
  /** Closes at once: for a reply that can't be ended well. */
  abort(): void
  describe(): ServerFigures
}

/** What `stats` tells of the server and its clients. */
export interface ServerFigures {
  readonly startedAtSeconds: number
  readonly connectionsMax: number
  readonly itemBytesMax: number
  /** The connections of the same listener. */
  connections(): Iterable<{ readonly id: number; readonly address: string; readonly idleSeconds: number }>
}

export const unknownNamespace = 'CLIENT_ERROR unknown namespace'
