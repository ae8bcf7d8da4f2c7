import { printableKey } from '../domain/key.ts'
import type { Subject } from './directory-view.ts'
import type { Difference } from './verdict.ts'
import type { DifferenceExample, NamespaceVerification } from './verification.ts'

const examplesMax = 10

/** Counts what a verification finds, by namespace. */
export class Tally {
  readonly #namespaces = new Map<string, Counts>()
  foreign = 0

  /** A namespace is in the result though nothing be found in it. */
  open(name: string): void {
    this.#of(name)
  }

  present(name: string, number: number): void {
    this.#of(name).present += number
  }

  difference(name: string, verdict: Difference | 'unsettled', subject: Subject): void {
    const counts = this.#of(name)
    counts[verdict]++
    if (verdict === 'unsettled' || counts[verdict] > examplesMax) return
    // Of a hashed key that has no row the digest is all there is.
    const key = 'key' in subject.by ? printableKey(subject.by.key) : `~${subject.by.digest}`
    counts.examples.push({ kind: verdict === 'absent' ? 'missing' : verdict, key })
  }

  countForeign(): void {
    this.foreign++
  }

  /**
   * @param evictions nobody knows which keys memcached evicted: so many of the absences count as evicted, those of the first namespaces first
   */
  results(evictions: number): NamespaceVerification[] {
    let left = evictions
    return [...this.#namespaces].map(([name, counts]) => {
      const { present, absent, diverged, orphan, unsettled } = counts
      const evicted = Math.min(left, absent)
      left -= evicted
      const missing = absent - evicted
      const keys = present + absent + diverged + unsettled
      const examples = counts.examples.filter(({ kind }) => kind !== 'missing' || missing > 0)
      return { name, keys, present, evicted, missing, diverged, orphan, unsettled, examples }
    })
  }

  #of(name: string): Counts {
    let counts = this.#namespaces.get(name)
    if (counts === undefined) {
      counts = { present: 0, absent: 0, diverged: 0, orphan: 0, unsettled: 0, examples: [] }
      this.#namespaces.set(name, counts)
    }
    return counts
  }
}

interface Counts {
  present: number
  absent: number
  diverged: number
  orphan: number
  unsettled: number
  readonly examples: DifferenceExample[]
}
