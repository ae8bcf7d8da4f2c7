import { type Key, keyBytesMax, keyFromBytes, keyToBytes } from '../domain/key.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import { formatPosition, parsePosition, type Position } from '../domain/position.ts'
import { type Version, versionFromNumber } from '../domain/version.ts'

/** "Do you hold this version of the item, as of this place of the log or later?" */
export interface PeerQuestion {
  readonly namespaceId: NamespaceId
  readonly key: Key
  readonly version: Version
  /** The asker's: whoever has not applied as much does not know. */
  readonly position: Position
}

export function formatQuestion({ namespaceId, key, version, position }: PeerQuestion): string {
  return JSON.stringify({
    namespaceId,
    key: keyToBytes(key).toString('base64'),
    version: String(version),
    dialect: position.dialect,
    position: formatPosition(position),
  })
}

/** @throws RangeError */
export function parseQuestion(body: unknown): PeerQuestion {
  const { namespaceId, key, version, dialect, position } = (body ?? {}) as Record<string, unknown>
  if (typeof namespaceId !== 'number' || !Number.isSafeInteger(namespaceId))
    throw new RangeError('no namespace is named')
  if (typeof key !== 'string' || key === '' || key.length > keyBytesMax * 2) throw new RangeError('no key is named')
  if (typeof version !== 'string' || !/^\d{1,19}$/.test(version)) throw new RangeError('no version is named')
  if (dialect !== 'mariadb' && dialect !== 'mysql') throw new RangeError('no dialect is named')
  if (typeof position !== 'string') throw new RangeError('no position is named')
  return {
    namespaceId,
    key: keyFromBytes(Buffer.from(key, 'base64')),
    version: versionFromNumber(BigInt(version)),
    position: parsePosition(dialect, position),
  }
}
