import type { ItemKey } from './key.ts'
import type { Exptime } from './mutation.ts'
import type { NamespaceId } from './namespace.ts'
import type { CataloguedNamespace } from './namespaces.ts'
import { type Version, versionLowBits } from './version.ts'

/**
 * Reads of this node's memcached: coalesced over all clients, never touching SQL. While it is away or not to be trusted, a peer's may answer in its
 * place (docs/adr/0014-reads-through-peers.md).
 */
export interface LocalReads {
  /** False while nobody can answer. */
  readonly serving: boolean
  /** False while this node's own contents are not to be trusted (starting, catching up, rebuilding) or its memcached is away. */
  readonly servingItself: boolean
  /**
   * For the classic commands: the hot path. `sink` is called once, in the order of the calls, possibly much later. The caller asks
   * `isLive` of the item at that moment. A stale item's right to refill is not taken by this.
   */
  fetch(key: ItemKey, sink: ReadSink): void
  /**
   * A hot item, as `fetch` would find it at this very instant, without asking memcached: undefined says nothing. Only for whoever waits for no
   * other read (docs/adr/0020-near-cache.md, T4). The caller asks `isLive` of it at once.
   */
  recall?(key: ItemKey): CachedItem | undefined
  /**
   * What only the meta protocol asks. Live items alone come back: a dead one (flushed, from before a rebuild) that is physically
   * there is deleted first, so that it neither answers nor stands in the way of a lease. A vivified item, and one whose lease is
   * won, are this node's alone: nothing of that is in the log. Undefined for a miss; rejects where memcached could not answer,
   * with `unknown-namespace` for one that is not there.
   */
  examine(namespaceId: NamespaceId, key: ItemKey, question: ItemQuestion): Promise<ExaminedItem | undefined>
  /** memcached's own `me` words behind the key of a live item: `exp=-1 la=0 …`. */
  describe(namespaceId: NamespaceId, key: ItemKey): Promise<string | undefined>
  /** memcached's own `stats`, of all namespaces together, by name; also while the contents are not to be trusted. */
  statistics(): Promise<ReadonlyMap<string, string>>
}

/** `item` is undefined for a miss; `error` is set where memcached could not answer. */
export type ReadSink = (item: CachedItem | undefined, error?: Error) => void

/**
 * An item's own CAS in memcached, in two halves, so that no read makes a BigInt: the cluster-wide version where memcached takes one
 * (flag E), else a counter of this one memcached. What it means is told by `isLive`, `versionOf` and `leaseToken` alone.
 */
export interface ItemCas {
  /** The bits above the low 33: of a version its generation; of a lease that takes one, 2^30 more. */
  readonly casHigh: number
  /** The low 33 bits. */
  readonly casLow: number
  /** A peer gave it, and has compared it with its own catalogue: its CAS says nothing about this node's watermarks. */
  readonly fromPeer?: true
}

export interface CachedItem extends ItemCas {
  /** In decimal, passed through as text. */
  readonly flags: string
  /** A view that stays valid: never reused by the connection. */
  readonly value: Buffer
  /** The same, a character a byte, where it is at hand so: cheaper where it goes into text. */
  readonly text?: string | undefined
  /** Where it was asked for: -1 without end. */
  readonly remainingSeconds?: number | undefined
}

export interface ItemQuestion {
  readonly withValue: boolean
  /** `u`: neither bumped nor counted as hit. */
  readonly noBump: boolean
  /** `N`: a miss leaves an empty placeholder that lives so long, in memcached's form, of the namespace's present generation. */
  readonly vivify?: Exptime
  /** `R`: the lease is won where less time remains. */
  readonly recacheBelow?: Exptime
}

export interface ExaminedItem extends ItemCas {
  readonly flags: string
  readonly value: Buffer | undefined
  readonly sizeBytes: number
  /** `t`: seconds left, -1 without end. */
  readonly remainingSeconds: number
  /** `h` and `l`, before this question. */
  readonly hitBefore: boolean
  readonly idleSeconds: number
  /** `W`: whoever asked has the right, alone, to fill the item again. `X`. `Z`: somebody else was given that right. */
  readonly won: boolean
  readonly stale: boolean
  readonly leased: boolean
}

/**
 * Is what memcached holds the namespace's present content? Ask at the moment of the answer: a flush may have been applied while
 * the item was on its way. A lease is live like an item.
 */
export function isLive(item: ItemCas, namespace: CataloguedNamespace): boolean {
  if (item.fromPeer === true) return true
  const { watermark } = namespace
  if (watermark === undefined) return generationOfCas(item) === namespace.generation
  return casNumber(item) > watermark
}

/**
 * The item's cluster-wide CAS token. Undefined for a lease, and where memcached takes no versions (`itemCasIsVersion`): there the
 * directory must be asked, before the item is read (races.md R23).
 */
export function versionOf(item: ItemCas, namespace: CataloguedNamespace): Version | undefined {
  if (!itemCasIsVersion(namespace) || item.casHigh >= leaseHigh) return undefined
  return joined(item) as Version
}

/** Does this node's memcached keep versions as its items' CAS? The same for all namespaces; it changes with a rebuild alone. */
export function itemCasIsVersion(namespace: CataloguedNamespace): boolean {
  return namespace.watermark === undefined
}

/**
 * Is it the empty item that `mg … N` made? Only where `itemCasIsVersion` can that be told for sure; elsewhere an empty item whose
 * right to refill is taken, and of which the directory knows nothing, is one.
 */
export function isLease(item: ItemCas, namespace: CataloguedNamespace): boolean {
  return itemCasIsVersion(namespace) && item.casHigh >= leaseHigh
}

/**
 * The CAS under which this node's clients see a peer's item. Where they are told items' own CAS it is the item's version, or marks it as a lease; else
 * it only has to be none of this node's own memcached's.
 */
export function casFromPeer(given: { version: Version | undefined; cas: ItemCas; keepsVersions: boolean }): ItemCas {
  const { version, cas, keepsVersions } = given
  if (!keepsVersions) return { casHigh: (cas.casHigh % foreignHigh) + foreignHigh, casLow: cas.casLow, fromPeer: true }
  if (version === undefined)
    return { casHigh: (cas.casHigh % leaseHigh) + leaseHigh, casLow: cas.casLow, fromPeer: true }
  return {
    casHigh: Number(version >> BigInt(versionLowBits)),
    casLow: Number(BigInt.asUintN(versionLowBits, version)),
    fromPeer: true,
  }
}

/** What a client is told as the CAS of a lease: 2^63 and above, where no version is. Good on this node alone, for this lease alone. */
export function leaseToken(item: ItemCas): bigint {
  return joined(item) | leaseBit
}

export function isLeaseToken(token: bigint): boolean {
  return token >= leaseBit
}

/** The CAS of a new lease where memcached takes one. @param random in [0, 1) */
export function leaseCas(generation: number, random: number): bigint {
  const low = BigInt(Math.floor(random * (lowLimit - 1)) + 1)
  return leaseBit | (BigInt(generation) << BigInt(versionLowBits)) | low
}

/** The item's CAS as memcached counts it: only where it is a counter. */
export function casNumber(item: ItemCas): number {
  return item.casHigh * lowLimit + item.casLow
}

/** In decimal, as memcached's commands take it. */
export function casText(item: ItemCas): string {
  return item.casHigh < exactHigh ? String(casNumber(item)) : String(joined(item))
}

function generationOfCas({ casHigh }: ItemCas): number {
  return casHigh >= leaseHigh ? casHigh - leaseHigh : casHigh
}

function joined({ casHigh, casLow }: ItemCas): bigint {
  return (BigInt(casHigh) << BigInt(versionLowBits)) | BigInt(casLow)
}

const lowLimit = 2 ** versionLowBits
/** Below it the two halves make a number without loss: 2^53. */
const exactHigh = 2 ** (53 - versionLowBits)
/** A counter does not get there: 2^52. Still exact as a number. */
const foreignHigh = 2 ** (52 - versionLowBits)
const leaseHigh = 2 ** (63 - versionLowBits)
const leaseBit = 1n << 63n
