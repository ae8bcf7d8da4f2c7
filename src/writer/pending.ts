import { WhiteholeError } from '../domain/errors.ts'
import type { FlushMutation, Mutation, Outcome } from '../domain/mutation.ts'
import type { NamespaceId } from '../domain/namespace.ts'
import type { BatchKey } from './decision.ts'

/** Executes a delayed flush, unless another node has done so; `due` tells which one is meant. */
export interface DueFlush {
  readonly kind: 'due-flush'
  readonly namespaceId: NamespaceId
  readonly dueSeconds: number
}

export type WriterMutation = Mutation | DueFlush
/** What wants the namespace's row alone: a transaction of its own, on the side lane. */
export type NamespaceMutation = FlushMutation | DueFlush

/** Which kind of lane a mutation waits on or is under way on. */
export type Route = 'main' | 'side'

/** What a mutation on the side lane waits for: a key's id, or a namespace's number as text. */
export type Contended = string

/**
 * A mutation from its submission to its answer.
 *
 *   waiting (in a lane's queue) ⇄ under way (in a batch) → answered
 */
export class Pending {
  readonly mutation: WriterMutation
  /** Absent for a flush. */
  readonly key: BatchKey | undefined
  readonly order: SessionOrder
  /** Counts all submissions of the node: each queue is sorted by it, so a mutation that is tried again finds its place. */
  readonly ordinal: number
  /** Both by `performance.now()`. As the ordinal grows, so do they: what is overdue stands at the front of its queue. */
  readonly submittedAt: number
  readonly deadline: number
  /** What it may take of a packet, halved: hexadecimal text has two characters a byte. */
  readonly bytes: number
  readonly #resolve: (outcome: Outcome) => void
  readonly #reject: (error: WhiteholeError) => void

  route: Route = 'main'
  answered = false
  /** Its neighbours among the unanswered mutations of its session. */
  previous: Pending | undefined
  next: Pending | undefined

  /** Found held by somebody's open transaction: this. Later writes to it follow to the side lane. */
  contended: Contended | undefined
  attempts = 0
  /** By `performance.now()`: not looked at before. */
  retryAt = 0
  /** Its INSERT waited in vain, as for a row that somebody's open transaction removes: it must not hold up others any more. */
  alone = false

  constructor(given: {
    mutation: WriterMutation
    key: BatchKey | undefined
    order: SessionOrder
    ordinal: number
    submittedAt: number
    deadline: number
    bytes: number
    resolve: (outcome: Outcome) => void
    reject: (error: WhiteholeError) => void
  }) {
    this.mutation = given.mutation
    this.key = given.key
    this.order = given.order
    this.ordinal = given.ordinal
    this.submittedAt = given.submittedAt
    this.deadline = given.deadline
    this.bytes = given.bytes
    this.#resolve = given.resolve
    this.#reject = given.reject
  }

  /** To be called by the writer alone, which accounts for it (writer.ts). */
  settle(result: Outcome | WhiteholeError): void {
    this.answered = true
    if (result instanceof WhiteholeError) this.#reject(result)
    else this.#resolve(result)
  }
}

/**
 * The unanswered mutations of one session, in their order:
 *
 *   [ on the main lane … ][ on the side lane … ][ on the main lane's queue, to be moved over at their turn … ]
 *
 * What is on the side lane starts once nothing of the session stands before it on the main lane; what comes after it goes there
 * as well (races.md R26). On one lane order is the lane's.
 */
export class SessionOrder {
  readonly laneIndex: number
  first: Pending | undefined
  last: Pending | undefined

  constructor(laneIndex: number) {
    this.laneIndex = laneIndex
  }

  append(item: Pending): void {
    item.previous = this.last
    if (this.last === undefined) this.first = item
    else this.last.next = item
    this.last = item
  }

  remove(item: Pending): void {
    if (item.previous === undefined) this.first = item.next
    else item.previous.next = item.next
    if (item.next === undefined) this.last = item.previous
    else item.next.previous = item.previous
    item.previous = undefined
    item.next = undefined
  }
}
