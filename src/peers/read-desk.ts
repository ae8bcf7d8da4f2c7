import type { DirectoryReads } from '../domain/directory-reads.ts'
import { WhiteholeError } from '../domain/errors.ts'
import type { FollowedLog } from '../domain/followed-log.ts'
import type { Key } from '../domain/key.ts'
import {
  type CachedItem,
  isLease,
  isLive,
  type ItemCas,
  itemCasIsVersion,
  type LocalReads,
  versionOf,
} from '../domain/local-reads.ts'
import type { CataloguedNamespace, Namespaces } from '../domain/namespaces.ts'
import type { Position } from '../domain/position.ts'
import type { Version } from '../domain/version.ts'
import {
  answerBytesMax,
  formatAnswers,
  parseRun,
  type PeerItem,
  type PeerRead,
  type PeerReadAnswer,
  type ReadRun,
} from './read-run.ts'

export interface ReadDeskPorts {
  readonly log: FollowedLog
  readonly reads: LocalReads
  readonly namespaces: Namespaces
  readonly directory: Pick<DirectoryReads, 'versions'>
  /** Nothing beyond it is in this node's memcached; undefined while it does not serve. */
  readonly horizon: () => Position | undefined
}

/** How long a node that lags waits for the asker's floor. */
const lagMilliseconds = 300
/** Asked of memcached at a time: with values of 1 MiB that many wait in memory. */
const windowReads = 64

/** Reads this node's memcached for another node's clients. Never passes them on: or two nodes that don't serve would ask each other. */
export class ReadDesk {
  readonly #ports: ReadDeskPorts

  constructor(ports: ReadDeskPorts) {
    this.#ports = ports
  }

  /** @throws RangeError */
  async answer(body: unknown): Promise<Buffer | undefined> {
    const run = parseRun(body)
    const { log, reads, horizon } = this.#ports
    if (!reads.servingItself) return undefined
    try {
      if (run.floor !== undefined) await log.whenReached(run.floor, lagMilliseconds)
      const answers = await this.#answers(run)
      // After the reads: a batch that began meanwhile may have been seen in part.
      const position = horizon()
      if (position === undefined || !reads.servingItself) return undefined
      return formatAnswers({ position, answers })
    } catch (error) {
      if (error instanceof WhiteholeError) return undefined
      throw error
    }
  }

  async #answers({ reads, withVersions }: ReadRun): Promise<PeerReadAnswer[]> {
    const answers: PeerReadAnswer[] = []
    let bytes = 0
    for (let from = 0; from < reads.length && bytes < answerBytesMax; from += windowReads) {
      const some = await Promise.all(
        reads.slice(from, from + windowReads).map((read) => this.#read(read, withVersions)),
      )
      for (const answer of some) {
        if (answers.length > 0 && bytes >= answerBytesMax) break
        answers.push(answer)
        bytes += answer.kind === 'described' ? 0 : (answer.item?.value?.length ?? 0)
      }
    }
    return answers
  }

  async #read(read: PeerRead, withVersions: boolean): Promise<PeerReadAnswer> {
    const { reads, namespaces, directory } = this.#ports
    const { namespaceId, key } = read
    const namespace = namespaces.byId(namespaceId)
    if (namespace === undefined) return missing(read)
    if (read.kind === 'describe') return { kind: 'described', text: await reads.describe(namespaceId, key) }
    // First the version, then the item (races.md R23). A hashed key can't be looked up: its clients are told no token.
    const asked =
      withVersions && !itemCasIsVersion(namespace)
        ? await directory.versions(namespaceId, [key.slice(namespace.name.length + 1) as Key])
        : undefined
    if (read.kind === 'examine') {
      const item = await reads.examine(namespaceId, key, read.question)
      if (item === undefined) return missing(read)
      const { casHigh, casLow, flags, value, ...examined } = item
      const told = this.#item({ casHigh, casLow }, namespace, { flags, value, asked: asked?.[0] })
      return { kind: 'examined', item: { ...told, examined } }
    }
    const item = await new Promise<CachedItem | undefined>((resolve, reject) => {
      reads.fetch(key, (found, error) => {
        if (error === undefined) resolve(found)
        else reject(error)
      })
    })
    const now = namespaces.byId(namespaceId)
    if (item === undefined || now === undefined || !isLive(item, now)) return missing(read)
    const { casHigh, casLow, flags, value } = item
    return { kind: 'fetched', item: this.#item({ casHigh, casLow }, now, { flags, value, asked: asked?.[0] }) }
  }

  #item(
    cas: ItemCas,
    namespace: CataloguedNamespace,
    given: { flags: string; value: Buffer | undefined; asked: Version | undefined },
  ): PeerItem {
    const { flags, value, asked } = given
    const version = isLease(cas, namespace) ? undefined : (versionOf(cas, namespace) ?? asked)
    return { cas, version, flags, value }
  }
}

function missing({ kind }: PeerRead): PeerReadAnswer {
  if (kind === 'describe') return { kind: 'described', text: undefined }
  return { kind: kind === 'fetch' ? 'fetched' : 'examined', item: undefined }
}
