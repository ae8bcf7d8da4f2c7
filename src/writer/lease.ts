import type { Outcome } from '../domain/mutation.ts'
import type { LeaseUse, MutationSession } from '../domain/mutations.ts'
import type { Version } from '../domain/version.ts'

/**
 * A lease (`mg … N`) is of one node's memcached alone: the log knows nothing of it. So a delete that another node has acknowledged may not
 * have reached this one when the lease is redeemed, and the fill would stand behind the delete for ever (docs/adr/0011-leases.md).
 *
 *   1. The key's row is read through the lane and the log. Once that is answered, this node has applied all that was acknowledged
 *      anywhere before.
 *   2. Is the lease still here? Then nothing of that has touched the key.
 *   3. The write, only where the row is still the one of step 1: nothing has come in between either.
 */
export async function redeem(session: Pick<MutationSession, 'submit'>, { mutation, held }: LeaseUse): Promise<Outcome> {
  const { namespaceId, key } = mutation
  // No version is 0, so nothing is touched.
  const row = await session.submit({ kind: 'touch', namespaceId, key, exptime: 0, compare: 0n })
  const generation = await held()
  if (generation === undefined) return session.submit(mutation)
  const { compare: _token, ...rest } = mutation
  const plain = rest.kind === 'set' ? { ...rest, mode: 'set' as const, staleOnMismatch: false } : rest
  return session.submit({ ...plain, seen: { generation, version: versionOf(row) } })
}

function versionOf(row: Outcome): Version | undefined {
  if (row.kind === 'exists') return row.version
  return row.kind === 'not-found' ? row.rowVersion : undefined
}
