import { casFromPeer, type CachedItem, type ExaminedItem } from '../domain/local-reads.ts'
import type { PeerItem, PeerReadAnswer } from './read-run.ts'

type PeerExamined = NonNullable<Extract<PeerReadAnswer, { kind: 'examined' }>['item']>

/** @param keepsVersions this node's own memcached keeps versions as its items' CAS: so clients expect them */
export function cachedItemOf({ version, cas, flags, value }: PeerItem, keepsVersions: boolean): CachedItem {
  return { flags, value: value ?? Buffer.alloc(0), ...casFromPeer({ version, cas, keepsVersions }) }
}

export function examinedItemOf(
  { version, cas, flags, value, examined }: PeerExamined,
  keepsVersions: boolean,
): ExaminedItem {
  return { ...examined, flags, value, ...casFromPeer({ version, cas, keepsVersions }) }
}
