/**
 * Judges a recorded history of clients on several nodes: was every change decided once, for all of them, and did reads keep what is
 * promised? The model, for each key by itself (linearizability is local, so keys may be judged one by one):
 *
 * **Changes** (`set add replace cas incr delete`, also refused ones, and reads that are marked `strict`) must be linearizable: there is one
 * order of them in which each takes effect at an instant between its invocation and its answer, and each answer is memcached's to the state
 * that the changes before it have left. Two changes of one connection stand in the order sent, though pipelined. A change whose answer was
 * never seen may have happened at any time after its invocation, or never. A token matches the state whose change was answered with it;
 * where that answer told none, the states whose value was read together with it.
 *
 * **Reads** are answered by a node's own memcached and may lag behind the changes, so they need no place in that order. Promised is:
 * - a read tells of a change that was made: not one that was refused, or was begun only after the read was over;
 * - a node does not go back in time, and tells of what it has acknowledged: a read through it, begun after an earlier read or change through
 *   it was answered, tells of the same change or of a later one. On one connection this holds by the order sent;
 * - after a change on a connection was answered, also by a refusal, a read there knows everything that was acknowledged, on any node, before that
 *   change was begun (races.md R18);
 * - a token that is read with a value is of that change or of an earlier one, never of a later one (R23).
 *
 * Values are unique in a key's history, so a read names its change, and all of these are constraints on the order of changes: "a then b was
 * read on one node" is "a before b", given to the search as such. That makes the verdict exact for whatever can be attributed. Left out, so
 * that nothing good is refused: numbers that may come from an increment without an answer, or on a key that is set anew as well; misses are
 * only refused where no delete can explain them.
 *
 * The search is Wing and Gong's with Lowe's memory of configurations. Operations that change nothing are taken as soon as they are
 * legal: their place never takes a choice away.
 */
export type Change =
  | { readonly kind: 'set' | 'add' | 'replace'; readonly value: string }
  | { readonly kind: 'cas'; readonly value: string; readonly token: string }
  | { readonly kind: 'incr'; readonly delta: number }
  | { readonly kind: 'delete' }
  /** `strict`: must know all that was answered before, as after quiet. */
  | { readonly kind: 'get'; readonly strict?: boolean }

export type Answer =
  /** `value`: the number, of an `incr`. `token`: where the protocol tells it. */
  | { readonly kind: 'stored'; readonly token?: string; readonly value?: string }
  | { readonly kind: 'found'; readonly value: string; readonly token?: string }
  | { readonly kind: 'not-stored' | 'exists' | 'not-found' | 'deleted' | 'not-a-number' }
  /** An error which says that nothing was done. */
  | { readonly kind: 'failed' }

export interface Operation {
  readonly key: string
  readonly node: number
  readonly connection: string
  readonly change: Change
  /** Of one clock for all clients; no two instants are equal. */
  readonly invoked: number
  /** Undefined: never answered. */
  completed?: number
  answer?: Answer
}

/** What is wrong with the history; empty: nothing. Operations of one connection stand in the order sent. */
export function judge(operations: readonly Operation[]): string[] {
  const byKey = new Map<string, Operation[]>()
  for (const operation of operations) {
    if (operation.answer?.kind === 'failed') continue
    const history = byKey.get(operation.key) ?? []
    history.push(operation)
    byKey.set(operation.key, history)
  }
  return [...byKey.values()].flatMap((history) => new KeyHistory(history).judge())
}

/** A change with what the history says about its place. */
interface Step {
  readonly operation: Operation
  /** It must have happened by then; Infinity: it may never have. */
  deadline: number
  /** What must come before it, and the read that tells so. */
  readonly after: Map<Step, Operation | undefined>
}

class KeyHistory {
  readonly #key: string
  readonly #all: readonly Operation[]
  readonly #steps = new Map<Operation, Step>()
  readonly #writers = new Map<string, Step>()
  readonly #owners = new Map<string, Step>()
  readonly #valuesSeen = new Map<string, Set<string>>()
  readonly #problems = new Set<string>()
  /** Only then is each number told once. */
  readonly #plainCounter: boolean
  #numbersInDoubt: boolean

  constructor(operations: readonly Operation[]) {
    this.#key = operations[0]?.key ?? ''
    this.#all = operations
    const resets = operations.filter(
      ({ change: { kind }, answer }) => kind !== 'incr' && kind !== 'get' && mayHold(answer),
    )
    this.#plainCounter = resets.length <= 1
    this.#numbersInDoubt = operations.some(
      ({ change, answer }) => change.kind === 'incr' && (answer === undefined || !this.#plainCounter),
    )
    for (const operation of operations) this.#addStep(operation)
  }

  judge(): string[] {
    this.#orderConnections()
    for (const read of this.#all) if (isLocalRead(read)) this.#attribute(read)
    for (const node of new Set(this.#all.map((operation) => operation.node))) this.#judgeNode(node)
    this.#judgeConnections()
    if (this.#problems.size > 0) return [...this.#problems]
    const failure = search([...this.#steps.values()], (state, token) => this.#matches(state, token))
    return failure === undefined ? [] : [`${this.#key}: ${failure}`]
  }

  #addStep(operation: Operation): void {
    const { change, answer, completed } = operation
    if (answer?.kind === 'found' && answer.token !== undefined) {
      const seen = this.#valuesSeen.get(answer.token) ?? new Set()
      this.#valuesSeen.set(answer.token, seen.add(answer.value))
    }
    if (isLocalRead(operation)) return
    const step: Step = { operation, deadline: completed ?? Number.POSITIVE_INFINITY, after: new Map() }
    this.#steps.set(operation, step)
    if (!mayHold(answer) || change.kind === 'get' || change.kind === 'delete') return
    if (answer?.kind === 'stored' && answer.token !== undefined) this.#owners.set(answer.token, step)
    const value = change.kind === 'incr' ? this.#numberOf(answer) : change.value
    if (value === undefined) return
    if (this.#writers.has(value)) this.#problems.add(`${this.#key}: ${value} was written twice`)
    this.#writers.set(value, step)
  }

  #numberOf(answer: Answer | undefined): string | undefined {
    return this.#plainCounter && answer?.kind === 'stored' ? answer.value : undefined
  }

  #orderConnections(): void {
    const last = new Map<string, Step>()
    for (const step of this.#steps.values()) {
      if (step.operation.answer === undefined) continue
      const former = last.get(step.operation.connection)
      if (former !== undefined) step.after.set(former, undefined)
      last.set(step.operation.connection, step)
    }
  }

  /** The change that a read tells of has been made by then. */
  #attribute(read: Operation): void {
    const { answer, completed } = read
    if (answer?.kind !== 'found' || completed === undefined) return
    const writer = this.#writers.get(answer.value)
    if (writer === undefined) {
      if (!this.#numbersInDoubt || !/^\d+ *$/.test(answer.value)) {
        this.#problems.add(`${describe(read)}: nobody has stored that`)
      }
      return
    }
    if (writer.operation.invoked > completed) this.#problems.add(`${describe(read)}: stored only later`)
    writer.deadline = Math.min(writer.deadline, completed)
    const owner = answer.token === undefined ? undefined : this.#owners.get(answer.token)
    if (owner !== undefined && owner !== writer) writer.after.set(owner, read)
  }

  /** The change that the answer shows to be in force, if it can be told. */
  #shown(operation: Operation): Step | undefined {
    if (operation.answer?.kind === 'found') return this.#writers.get(operation.answer.value)
    const held = operation.answer?.kind === 'stored' || operation.answer?.kind === 'deleted'
    return held ? this.#steps.get(operation) : undefined
  }

  #judgeNode(node: number): void {
    const through = this.#all.filter((operation) => operation.node === node && operation.completed !== undefined)
    const told = through.toSorted((a, b) => (a.completed ?? 0) - (b.completed ?? 0))
    for (const read of through) {
      if (!isLocalRead(read)) continue
      this.#judgeRead(read, this.#latest(told, countBefore(told, read.invoked)))
    }
  }

  /** Of the first `count` those that no other one follows entirely: the rest is before them. */
  #latest(told: readonly Operation[], count: number): Operation[] {
    let begun = 0
    let from = count
    for (; from > 0; from--) {
      const one = told[from - 1]
      if (one === undefined || (one.completed ?? 0) < begun) break
      // What shows nothing can't stand for what is before it.
      if (this.#shown(one) !== undefined) begun = Math.max(begun, one.invoked)
    }
    return told.slice(from, count)
  }

  #judgeConnections(): void {
    const former = new Map<string, Operation[]>()
    for (const operation of this.#all) {
      if (operation.answer === undefined) continue
      const earlier = former.get(operation.connection) ?? []
      if (isLocalRead(operation)) {
        // What is earlier still is before these.
        const held = [earlier.findLast((one) => this.#shown(one) !== undefined), earlier.findLast(isRefusedAsLive)]
        this.#judgeRead(
          operation,
          held.filter((one) => one !== undefined),
        )
        const floor = earlier.findLast(({ change }) => change.kind !== 'get')
        if (floor !== undefined) this.#judgeFloor(operation, floor)
      }
      earlier.push(operation)
      former.set(operation.connection, earlier)
    }
  }

  /** @param earlier what was answered before the read, where it was made */
  #judgeRead(read: Operation, earlier: readonly Operation[]): void {
    const shown = this.#shown(read)
    for (const one of earlier) {
      if (read.answer?.kind === 'not-found') {
        this.#judgeMiss(read, one)
        continue
      }
      const before = this.#shown(one)
      if (shown !== undefined && before !== undefined && before !== shown) shown.after.set(before, read)
    }
  }

  #judgeMiss(read: Operation, earlier: Operation): void {
    const shown = this.#shown(earlier)
    const since = isRefusedAsLive(earlier) ? earlier.invoked : shown?.operation.invoked
    if (since === undefined || shown?.operation.change.kind === 'delete') return
    const explained = this.#all.some(
      ({ change, invoked, completed = Number.POSITIVE_INFINITY, answer }) =>
        change.kind === 'delete' && mayHold(answer) && completed > since && invoked < (read.completed ?? 0),
    )
    if (!explained) this.#problems.add(`${describe(read)}, after ${describe(earlier)}`)
  }

  /** What was acknowledged before the connection's last change was begun is known to its reads. */
  #judgeFloor(read: Operation, floor: Operation): void {
    const shown = this.#shown(read)
    if (shown === undefined) return
    for (const { operation } of this.#steps.values()) {
      const held = operation.answer?.kind === 'stored' || operation.answer?.kind === 'deleted'
      const known = held && (operation.completed ?? Infinity) < floor.invoked
      if (!known || (shown.operation.completed ?? Infinity) > operation.invoked) continue
      this.#problems.add(`${describe(read)}, after ${describe(floor)}, which came after ${describe(operation)}`)
      return
    }
  }

  #matches(state: State, token: string): 'yes' | 'no' | 'perhaps' {
    if (state.token !== undefined) return state.token === token ? 'yes' : 'no'
    if (this.#owners.has(token)) return 'no'
    return this.#valuesSeen.get(token)?.has(state.value) === true ? 'perhaps' : 'no'
  }
}

function isLocalRead({ change }: Operation): boolean {
  return change.kind === 'get' && change.strict !== true
}

/** Whether the change was made, or may have been. */
function mayHold(answer: Answer | undefined): boolean {
  return answer === undefined || answer.kind === 'stored' || answer.kind === 'deleted'
}

/** How many were completed before, of a list in that order. */
function countBefore(told: readonly Operation[], instant: number): number {
  let [low, high] = [0, told.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((told[middle]?.completed ?? 0) < instant) low = middle + 1
    else high = middle
  }
  return low
}

/** Refused by an item that is there. */
function isRefusedAsLive({ change, answer }: Operation): boolean {
  return answer?.kind === 'exists' || (change.kind === 'add' && answer?.kind === 'not-stored')
}

export function describe({ connection, node, key, change, invoked, completed, answer }: Operation): string {
  const given = 'value' in change ? ` ${change.value}` : ''
  const token = change.kind === 'cas' ? ` for ${change.token}` : ''
  const got = answer === undefined ? 'no answer' : Object.values(answer).join(' ')
  return `${connection} on node ${node} [${invoked}…${completed ?? ''}] ${change.kind} ${key}${given}${token}: ${got}`
}

interface State {
  readonly value: string
  readonly token: string | undefined
}

type Matches = (state: State, token: string) => 'yes' | 'no' | 'perhaps'

/** More configurations than any good history has needed, by far. */
const configurationsMax = 300_000

interface Configuration {
  /** Before it all steps that must be placed are. */
  readonly first: number
  /** Tried one after the other: the step, and the state behind it. */
  readonly choices: readonly (readonly [number, State | undefined])[]
  next: number
}

/** Undefined: there is such an order. Else what stands in the way. */
function search(all: readonly Step[], matches: Matches): string | undefined {
  const steps = all.toSorted((a, b) => a.operation.invoked - b.operation.invoked)
  const placement = new Placement(steps)
  const seen = new Set<string>()
  const stack = [open(placement, 0, undefined, matches)]
  let longest: { order: readonly number[]; state: State | undefined } = { order: [], state: undefined }
  while (!placement.complete) {
    const top = stack.at(-1)
    if (top === undefined) return explain(steps, longest)
    const choice = top.choices[top.next++]
    if (choice === undefined) {
      stack.pop()
      placement.takeBack()
      continue
    }
    const [n, state] = choice
    placement.place(n)
    const first = placement.firstFrom(top.first)
    const name = `${placement.nameFrom(first)} ${state?.value} ${state?.token}`
    if (seen.has(name)) {
      placement.takeBack()
      continue
    }
    seen.add(name)
    if (seen.size > configurationsMax) return `undecided after ${configurationsMax} configurations`
    if (placement.order.length > longest.order.length) longest = { order: [...placement.order], state }
    stack.push(open(placement, first, state, matches))
  }
  return undefined
}

function open(placement: Placement, first: number, state: State | undefined, matches: Matches): Configuration {
  const choices: [number, State | undefined][] = []
  for (const n of placement.ready(first)) {
    const { operation } = placement.steps[n] as Step
    const next = take(operation, state, matches)
    if (next === illegal) continue
    if (next !== state) choices.push([n, next])
    else if (operation.answer !== undefined) return { first, choices: [[n, state]], next: 0 }
  }
  // What must happen soonest first, what may never have happened last.
  const deadline = (n: number): number => Math.min(placement.steps[n]?.deadline ?? 0, Number.MAX_VALUE)
  return { first, choices: choices.toSorted(([a], [b]) => deadline(a) - deadline(b)), next: 0 }
}

/** Which steps stand in the order so far. */
class Placement {
  /** By invocation. */
  readonly steps: readonly Step[]
  readonly order: number[] = []
  readonly #after: readonly (readonly number[])[]
  readonly #optional: readonly number[]
  readonly #placed: Uint8Array
  #missing: number
  #beyond = -1

  constructor(steps: readonly Step[]) {
    this.steps = steps
    const numbers = new Map(steps.map((step, index) => [step, index]))
    this.#after = steps.map((step) => [...step.after.keys()].map((one) => numbers.get(one) ?? -1))
    this.#optional = steps.flatMap(({ deadline }, n) => (deadline === Infinity ? [n] : []))
    this.#placed = new Uint8Array(steps.length)
    this.#missing = steps.length - this.#optional.length
  }

  get complete(): boolean {
    return this.#missing === 0
  }

  place(n: number): void {
    this.#placed[n] = 1
    this.order.push(n)
    this.#beyond = Math.max(this.#beyond, n)
    if (this.#required(n)) this.#missing -= 1
  }

  takeBack(): void {
    const n = this.order.pop()
    if (n === undefined) return
    this.#placed[n] = 0
    if (this.#required(n)) this.#missing += 1
  }

  /** The first that must still be placed. */
  firstFrom(from: number): number {
    let first = from
    while (first < this.steps.length && (this.#placed[first] === 1 || !this.#required(first))) first += 1
    return first
  }

  /** The same for the same steps, and short: few are placed before their turn, few may never have happened. */
  nameFrom(first: number): string {
    const early: number[] = []
    for (let n = first; n <= this.#beyond; n++) if (this.#placed[n] === 1) early.push(n)
    return `${first}:${early.join()}:${this.#optional.filter((n) => n < first && this.#placed[n] === 1).join()}`
  }

  /** Those that may come next: nothing that must come before them is left. */
  ready(first: number): number[] {
    const list = this.#optional.filter((n) => n < first && this.#placed[n] === 0)
    let limit = Infinity
    for (let n = first; n < this.steps.length; n++) {
      const step = this.steps[n] as Step
      if (step.operation.invoked > limit) break
      if (this.#placed[n] === 1) continue
      limit = Math.min(limit, step.deadline)
      list.push(n)
    }
    return list.filter((n) => this.#after[n]?.every((one) => this.#placed[one] === 1))
  }

  #required(n: number): boolean {
    return this.steps[n]?.deadline !== Infinity
  }
}

function explain(
  steps: readonly Step[],
  { order, state }: { order: readonly number[]; state: State | undefined },
): string {
  const placed = new Set(order)
  const left = steps.filter((step, n) => !placed.has(n) && step.deadline !== Infinity)
  const shown = left.slice(0, 6).map(({ operation, after }) => {
    const behind = [...after].filter(([one]) => left.includes(one))
    const reasons = behind.map(
      ([one, read]) => `${describe(one.operation)}${read === undefined ? '' : ` (because of ${describe(read)})`}`,
    )
    return `${describe(operation)}${reasons.length === 0 ? '' : `, behind ${reasons.join(' and ')}`}`
  })
  const last = order.slice(-3).map((n) => describe((steps[n] as Step).operation))
  return [
    `no order explains the answers: with ${state === undefined ? 'nothing' : `${state.value} (${state.token ?? 'token not told'})`} stored, none of these can be next`,
    ...shown,
    `after ${order.length} of ${steps.length}, last:`,
    ...last,
  ].join('\n  ')
}

const illegal = Symbol('not the answer in this state')

/** The state after the operation, `illegal` where memcached would have answered otherwise. */
function take(operation: Operation, state: State | undefined, matches: Matches): State | undefined | typeof illegal {
  const { change, answer } = operation
  const is = (kind: Answer['kind']): boolean => answer === undefined || answer.kind === kind
  const token = answer?.kind === 'stored' ? answer.token : undefined
  switch (change.kind) {
    case 'set':
      return is('stored') ? { value: change.value, token } : illegal
    case 'add':
    case 'replace': {
      const stores = (change.kind === 'add') === (state === undefined)
      if (!is(stores ? 'stored' : 'not-stored')) return illegal
      return stores ? { value: change.value, token } : state
    }
    case 'cas': {
      if (state === undefined) return is('not-found') ? state : illegal
      const match = matches(state, change.token)
      if (match !== 'no' && is('stored')) return { value: change.value, token }
      return match !== 'yes' && is('exists') ? state : illegal
    }
    case 'incr': {
      if (state === undefined) return is('not-found') ? state : illegal
      if (!/^\d+ *$/.test(state.value)) return is('not-a-number') ? state : illegal
      const value = String(Number(state.value) + change.delta)
      if (!is('stored') || (answer?.kind === 'stored' && answer.value !== value)) return illegal
      return { value, token }
    }
    case 'delete':
      if (!is(state === undefined ? 'not-found' : 'deleted')) return illegal
      return undefined
    case 'get': {
      if (answer?.kind === 'not-found' || state === undefined) {
        return state === undefined && is('not-found') ? state : illegal
      }
      const same = answer?.kind === 'found' && answer.value === state.value
      const known = same && answer.token !== undefined && state.token !== undefined
      return answer === undefined || (same && (!known || answer.token === state.token)) ? state : illegal
    }
  }
}
