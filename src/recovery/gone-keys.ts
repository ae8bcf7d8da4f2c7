import { crc32 } from 'node:zlib'
import { counterText } from '../domain/counter.ts'
import type { ArithmeticMutation, DeleteMutation } from '../domain/mutation.ts'
import type { MutationSession } from '../domain/mutations.ts'
import type { PeerReads } from '../domain/peer-reads.ts'
import { versionFromNumber } from '../domain/version.ts'
import type { DirectoryRow } from './directory-view.ts'
import type { Wanted } from './repair.ts'

export interface GoneKeysPorts {
  readonly session: MutationSession
  readonly peers: PeerReads
  /** Is the memcached in which the keys were missed still the one that this node serves from? */
  readonly isServed: () => Promise<boolean>
}

/**
 * - `gone`: the directory was told. - `restored`: a counter, whose number the directory has. - `superseded`: somebody wrote to it
 *   meanwhile. - `undecided`: a peer holds it, or one did not answer, which counts as holding.
 */
export type Told = 'gone' | 'restored' | 'superseded' | 'undecided'

/**
 * The last step for keys that live in the directory while nobody has their value any more: not this memcached, not the log. Each is deleted where
 * its row still has the version that was missed: a client's write in between draws another one, and is left alone (a `touch` draws
 * none; nobody ever sees what it touched).
 *
 * The peers are asked here, last of all: one may have put the value back from a longer log meanwhile. `isServed` is asked after them: a memcached
 * that dies is empty at once, and this node may be a moment late to notice. Then all keys would seem to be gone, while the
 * log has them.
 */
export async function tellGone(lost: readonly Wanted[], ports: GoneKeysPorts): Promise<Told[]> {
  if (lost.length === 0) return []
  const answers = await Promise.all(
    lost.map(({ subject, row }) => {
      const namespace = { id: subject.namespaceId, name: subject.namespaceName, generation: row.generation }
      return ports.peers.find(namespace, row.key, versionFromNumber(BigInt(row.version)))
    }),
  )
  if (!(await ports.isServed())) return lost.map(() => 'undecided')
  return Promise.all(
    lost.map(async (one, index): Promise<Told> => {
      if (answers[index]?.kind !== 'gone') return 'undecided'
      const { kind } = await ports.session.submit(lastWordOn(one))
      if (kind === 'stored') return 'restored'
      return kind === 'deleted' ? 'gone' : 'superseded'
    }),
  )
}

/** Counting by 0 brings a counter back to every node, as it was: but only where it would be the very text that is lost. */
function lastWordOn({ subject, row }: Wanted): DeleteMutation | ArithmeticMutation {
  const of = { namespaceId: subject.namespaceId, key: row.key, compare: BigInt(row.version) }
  const isKept = row.number !== undefined && isTextOf(BigInt(row.number), row)
  return isKept ? { ...of, kind: 'arithmetic', direction: 'incr', delta: 0n } : { ...of, kind: 'delete' }
}

/** Not "007", whose number is 7. */
function isTextOf(number: bigint, { size, checksum }: DirectoryRow): boolean {
  const text = Buffer.from(counterText(number, size), 'latin1')
  return text.length === size && crc32(text) === checksum
}
