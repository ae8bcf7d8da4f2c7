import { createHash, timingSafeEqual } from 'node:crypto'
import { WhiteholeError } from '../domain/errors.ts'
import { composeItemKey } from '../domain/key.ts'
import { type ExaminedItem, isLease, itemCasIsVersion, versionOf } from '../domain/local-reads.ts'
import type { CataloguedNamespace } from '../domain/namespaces.ts'
import type { PeerDesk, PeerFinding } from '../domain/peer-reads.ts'
import type { PeerHealth } from './health.ts'
import { ReadDesk, type ReadDeskPorts } from './read-desk.ts'
import { parseQuestion, type PeerQuestion } from './question.ts'

export interface DeskPorts extends ReadDeskPorts {
  /** Undefined while it is not known: then nobody is admitted. */
  readonly secret: () => string | undefined
  readonly health: () => PeerHealth
}

/** How long a node that lags waits for the asker's position before it says that it does not know. */
const lagMilliseconds = 300
const unknown: PeerFinding = { kind: 'unknown' }

/** Answers the other nodes for this one's memcached. In doubt it does not know, which counts as holding. */
export class Desk implements PeerDesk {
  readonly #ports: DeskPorts
  readonly #reads: ReadDesk

  constructor(ports: DeskPorts) {
    this.#ports = ports
    this.#reads = new ReadDesk(ports)
  }

  admits(secret: string | undefined): boolean {
    const own = this.#ports.secret()
    // Hashes are of one length, whatever is compared.
    return own !== undefined && secret !== undefined && timingSafeEqual(digest(own), digest(secret))
  }

  read(questions: unknown): Promise<Buffer | undefined> {
    return this.#reads.answer(questions)
  }

  health(): PeerHealth {
    return this.#ports.health()
  }

  async answer(body: unknown): Promise<PeerFinding> {
    const question = parseQuestion(body)
    const { log, reads } = this.#ports
    if (!reads.serving) return unknown
    try {
      await log.whenReached(question.position, lagMilliseconds)
      const finding = await this.#find(question)
      return reads.serving ? finding : unknown
    } catch (error) {
      if (error instanceof WhiteholeError) return unknown
      throw error
    }
  }

  /**
   * This node is at or beyond the place where the asker saw the version live. So whatever else stands here by now is later, and the
   * version is gone for good.
   */
  async #find({ namespaceId, key, version }: PeerQuestion): Promise<PeerFinding> {
    const { reads, namespaces, directory } = this.#ports
    const namespace = namespaces.byId(namespaceId)
    if (namespace === undefined) return { kind: 'gone' }
    const counts = !itemCasIsVersion(namespace)
    // First the version, then the item (races.md R23): what is there may be later than the version, never earlier.
    if (counts && (await directory.versions(namespaceId, [key]))[0] !== version) return { kind: 'gone' }
    const item = await reads.examine(namespaceId, composeItemKey(namespace.name, key), {
      withValue: true,
      noBump: true,
    })
    if (item === undefined || isEmptyLease(item, namespace)) return { kind: 'gone' }
    if (!counts && versionOf(item, namespace) !== version) return { kind: 'gone' }
    return { kind: 'held', flags: item.flags, value: item.value ?? Buffer.alloc(0), stale: item.stale }
  }
}

function isEmptyLease(item: ExaminedItem, namespace: CataloguedNamespace): boolean {
  return isLease(item, namespace) || (item.sizeBytes === 0 && item.leased && !item.stale && item.flags === '0')
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text, 'latin1').digest()
}
