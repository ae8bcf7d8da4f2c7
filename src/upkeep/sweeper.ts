import type { ContentsAccess, HeldContents, IdentifiedItem } from '../domain/contents-access.ts'
import { describeError } from '../domain/errors.ts'
import { isLive } from '../domain/local-reads.ts'
import { isNamespaceName } from '../domain/namespace.ts'
import type { Namespaces } from '../domain/namespaces.ts'
import { failpoint } from '../runtime/failpoints.ts'
import type { Logger } from '../runtime/logger.ts'
import { Pace } from '../runtime/pace.ts'
import { Rounds } from '../runtime/rounds.ts'

export interface SweeperOptions {
  readonly contents: HeldContents
  readonly namespaces: Namespaces & { readonly revision: number }
  /** Everything that memcached lists, in pieces. */
  readonly list: (signal: AbortSignal) => AsyncIterable<readonly IdentifiedItem[]>
  readonly itemsPerSecondMax: number
  readonly pauseMilliseconds: number
  readonly logger: Logger
}

/** Deleted in one turn of the applier's connection: about a millisecond of it. */
const turnItems = 500
/** Of a sweep's time, so that a million items don't keep this process busy at a stretch. */
const timeShareMax = 0.5

/**
 * Frees the memory of items that a flush or a drop has ended. They are misses from the flush on (isLive); memcached would keep them until
 * it needs their room, and take room from live ones before it does.
 *
 * The race: an item is listed as dead, its key is stored anew, then it is deleted. So each is deleted only if its CAS is still the one
 * that was listed: no later store has that one, on either kind of memcached. And it is the applier's own connection that says so, in a turn
 * between its batches: a deletion can neither arrive after the next life of that connection has begun, nor reach another
 * memcached process (its CAS counter begins anew) than the one that was listed.
 *
 * That a listed item is dead stays true while the connection lives: watermarks and generations only grow. A
 * rewind, after which a generation may be lower, begins another life.
 *
 * What a node that died in between left is found by the sweep at its next start.
 */
export class Sweeper {
  readonly figures = { sweeps: 0, freed: 0, lastSeconds: 0 }
  readonly #options: SweeperOptions
  readonly #rounds: Rounds
  /** What was swept last: this life of the contents, at this revision of the catalogue. */
  #swept: { readonly access: ContentsAccess; readonly revision: number } | undefined

  constructor(options: SweeperOptions) {
    this.#options = options
    this.#rounds = new Rounds((signal) => this.#round(signal), options.pauseMilliseconds)
  }

  start(): void {
    this.#rounds.start()
  }

  stop(): void {
    this.#rounds.stop()
  }

  /** @returns how many items were found dead; undefined while the node does not serve */
  async sweep(signal: AbortSignal): Promise<number | undefined> {
    const { contents, namespaces, list, itemsPerSecondMax } = this.#options
    const { access } = contents
    if (access === undefined) return undefined
    const { revision } = namespaces
    const begun = performance.now()
    const pace = new Pace({ perSecondMax: itemsPerSecondMax, timeShareMax })
    let found = 0
    failpoint('after-flush-before-sweep')
    for await (const items of list(signal)) {
      const dead = items.filter((item) => this.#isDead(item))
      found += dead.length
      for (let from = 0; from < dead.length; from += turnItems) {
        const some = dead.slice(from, from + turnItems)
        await access.deleteUnchanged(some)
        this.figures.freed += some.length
        failpoint('mid-sweep')
        await pace.done(some.length, signal)
      }
    }
    this.#swept = { access, revision }
    this.figures.sweeps++
    this.figures.lastSeconds = (performance.now() - begun) / 1000
    return found
  }

  async #round(signal: AbortSignal): Promise<void> {
    const { contents, namespaces, logger } = this.#options
    const { access } = contents
    if (access === undefined) return
    if (this.#swept?.access === access && this.#swept.revision === namespaces.revision) return
    try {
      const freed = await this.sweep(signal)
      if (freed !== undefined && freed > 0) logger.info({ freed, seconds: this.figures.lastSeconds }, 'swept')
    } catch (error) {
      if (!signal.aborted) logger.warn({ reason: describeError(error) }, 'a sweep was interrupted: it begins anew')
    }
  }

  /** The state item and what belongs to no namespace by its form are left alone. */
  #isDead(item: IdentifiedItem): boolean {
    const colon = item.key.indexOf(':')
    const name = item.key.slice(0, Math.max(0, colon))
    if (!isNamespaceName(name)) return false
    const namespace = this.#options.namespaces.byName(name)
    return namespace === undefined || !isLive(item, namespace)
  }
}
