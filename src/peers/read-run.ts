import type { ItemKey } from '../domain/key.ts'
import { keyFromBytes, keyToBytes } from '../domain/key.ts'
import type { ExaminedItem, ItemCas, ItemQuestion } from '../domain/local-reads.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import { formatPosition, parsePosition, type Position } from '../domain/position.ts'
import { type Version, versionFromNumber } from '../domain/version.ts'

/** What one node asks another in one go, on behalf of its clients: `POST /v1/peer/read` (docs/adr/0014-reads-through-peers.md). */
export interface ReadRun {
  /** Whoever has not applied this does not answer. Undefined: the asker has seen nothing yet. */
  readonly floor: Position | undefined
  /** The asker's clients are told items' own CAS: versions come along. */
  readonly withVersions: boolean
  readonly reads: readonly PeerRead[]
}

export type PeerRead =
  | { readonly kind: 'fetch'; readonly namespaceId: NamespaceId; readonly key: ItemKey }
  | { readonly kind: 'describe'; readonly namespaceId: NamespaceId; readonly key: ItemKey }
  | {
      readonly kind: 'examine'
      readonly namespaceId: NamespaceId
      readonly key: ItemKey
      readonly question: ItemQuestion
    }

/** `item`: undefined for a miss. */
export type PeerReadAnswer =
  | { readonly kind: 'fetched'; readonly item: PeerItem | undefined }
  | { readonly kind: 'examined'; readonly item: (PeerItem & { readonly examined: Examined }) | undefined }
  | { readonly kind: 'described'; readonly text: string | undefined }

export interface PeerItem {
  readonly cas: ItemCas
  readonly version: Version | undefined
  readonly flags: string
  readonly value: Buffer | undefined
}

type Examined = Omit<ExaminedItem, 'casHigh' | 'casLow' | 'fromPeer' | 'flags' | 'value'>

export interface ReadRunAnswers {
  /** Nothing in the answers is later than this. */
  readonly position: Position
  /** In the order asked; fewer where their values would be too large for one answer: at least one. */
  readonly answers: readonly PeerReadAnswer[]
}

/** Reads of one run. */
export const readsMax = 512
export const answerBytesMax = 8 * 1024 * 1024

export function formatRun({ floor, withVersions, reads }: ReadRun): string {
  return JSON.stringify({
    floor: floor === undefined ? null : { dialect: floor.dialect, position: formatPosition(floor) },
    withVersions,
    reads: reads.map((read) => {
      const key = keyToBytes(read.key).toString('base64')
      return read.kind === 'examine'
        ? [read.kind, read.namespaceId, key, read.question]
        : [read.kind, read.namespaceId, key]
    }),
  })
}

/** @throws RangeError */
export function parseRun(body: unknown): ReadRun {
  const { floor, withVersions, reads } = (body ?? {}) as Record<string, unknown>
  if (!Array.isArray(reads) || reads.length === 0 || reads.length > readsMax) throw new RangeError('no reads are asked')
  return { floor: parseFloor(floor), withVersions: withVersions === true, reads: reads.map(parseRead) }
}

function parseFloor(floor: unknown): Position | undefined {
  if (floor === null || floor === undefined) return undefined
  const { dialect, position } = floor as Record<string, unknown>
  if ((dialect !== 'mariadb' && dialect !== 'mysql') || typeof position !== 'string')
    throw new RangeError('the floor is no position')
  return parsePosition(dialect, position)
}

function parseRead(read: unknown): PeerRead {
  const [kind, namespaceId, text, question] = Array.isArray(read) ? (read as unknown[]) : []
  if (typeof namespaceId !== 'number' || typeof text !== 'string' || text === '' || text.length > 400)
    throw new RangeError('a read names no item')
  const key = keyFromBytes(Buffer.from(text, 'base64')) as unknown as ItemKey
  if (kind === 'fetch' || kind === 'describe') return { kind, namespaceId, key }
  if (kind !== 'examine' || typeof question !== 'object' || question === null)
    throw new RangeError('a read of an unknown kind')
  const { withValue, noBump, vivify, recacheBelow } = question as Record<string, unknown>
  return {
    kind,
    namespaceId,
    key,
    question: {
      withValue: withValue === true,
      noBump: noBump === true,
      ...(typeof vivify === 'number' ? { vivify } : {}),
      ...(typeof recacheBelow === 'number' ? { recacheBelow } : {}),
    },
  }
}

/** `length of the JSON (32 bits) | JSON | values, one behind the other`. */
export function formatAnswers({ position, answers }: ReadRunAnswers): Buffer {
  const values: Buffer[] = []
  const told = answers.map((answer) => {
    if (answer.kind === 'described') return answer.text ?? null
    const { item } = answer
    if (item === undefined) return null
    if (item.value !== undefined) values.push(item.value)
    return {
      c: [item.cas.casHigh, item.cas.casLow],
      v: item.version === undefined ? null : String(item.version),
      f: item.flags,
      n: item.value?.length ?? null,
      ...(answer.kind === 'examined' ? { x: answer.item?.examined } : {}),
    }
  })
  const json = Buffer.from(
    JSON.stringify({ dialect: position.dialect, position: formatPosition(position), answers: told }),
  )
  const length = Buffer.alloc(4)
  length.writeUInt32BE(json.length)
  return Buffer.concat([length, json, ...values])
}

/** @throws RangeError on what is no answer to this run */
export function parseAnswers(bytes: Buffer, run: ReadRun): ReadRunAnswers {
  const length = bytes.length < 4 ? 0 : bytes.readUInt32BE(0)
  if (length === 0 || bytes.length < 4 + length) throw new RangeError('the answer is cut')
  const { dialect, position, answers } = JSON.parse(bytes.toString('utf8', 4, 4 + length)) as Record<string, unknown>
  if ((dialect !== 'mariadb' && dialect !== 'mysql') || typeof position !== 'string' || !Array.isArray(answers))
    throw new RangeError('the answer lacks a part')
  if (answers.length === 0 || answers.length > run.reads.length) throw new RangeError('the answer is to something else')
  let at = 4 + length
  const take = (size: number | null): Buffer | undefined => {
    if (size === null) return undefined
    at += size
    if (at > bytes.length) throw new RangeError('the answer is cut')
    return bytes.subarray(at - size, at)
  }
  return {
    position: parsePosition(dialect, position),
    answers: answers.map((answer: unknown, index): PeerReadAnswer => {
      const kind = run.reads[index]?.kind
      if (kind === 'describe') return { kind: 'described', text: typeof answer === 'string' ? answer : undefined }
      const item = answer === null ? undefined : parseItem(answer as Told, take)
      if (kind === 'fetch') return { kind: 'fetched', item }
      if (item === undefined) return { kind: 'examined', item }
      const { x } = answer as Told
      if (x === undefined) throw new RangeError('the answer is to something else')
      return { kind: 'examined', item: { ...item, examined: x } }
    }),
  }
}

interface Told {
  readonly c: readonly [number, number]
  readonly v: string | null
  readonly f: string
  readonly n: number | null
  readonly x?: Examined
}

function parseItem(
  { c: [casHigh, casLow], v, f, n }: Told,
  take: (size: number | null) => Buffer | undefined,
): PeerItem {
  return {
    cas: { casHigh, casLow },
    version: v === null ? undefined : versionFromNumber(BigInt(v)),
    flags: f,
    value: take(n),
  }
}
