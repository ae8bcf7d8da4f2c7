import { consistencyOf, describeConsistency } from './consistency.ts'
import { covers, type Dialect, parsePosition } from '../domain/position.ts'

/** What one node found when it compared itself with the directory; travels as JSON. */
export interface NodeVerification {
  /** The node's name. */
  readonly name: string
  readonly dialect: Dialect
  /** Every difference that comes from an entry up to here, and is still there, was found. */
  readonly position: string
  /** What this node's memcached has evicted since its start: so many absences count as evicted. */
  readonly evictions: number
  /** Items of no namespace of ours: somebody else writes to this memcached, or a dropped namespace is not swept yet. */
  readonly foreign: number
  readonly namespaces: readonly NamespaceVerification[]
}

/** `keys = present + evicted + missing + diverged + unsettled`; orphans are none of the directory's live keys. */
export interface NamespaceVerification {
  readonly name: string
  /** Live keys of the directory that were compared. */
  readonly keys: number
  readonly present: number
  readonly evicted: number
  readonly missing: number
  /** Size, checksum or flags are not the directory's. */
  readonly diverged: number
  /** Served by the node, while the directory has no live row. */
  readonly orphan: number
  /** Written so often meanwhile that nothing could be said; no difference. */
  readonly unsettled: number
  /** Could not be recovered: this node told the directory that they are gone, since it was started. Only there where it is not 0. */
  readonly gone?: number
  readonly examples: readonly DifferenceExample[]
}

export interface DifferenceExample {
  readonly kind: 'missing' | 'diverged' | 'orphan'
  /** Printable: UTF-8 with control characters escaped. */
  readonly key: string
}

/** `whitehole verify --json`: a contract (DESIGN §10). */
export interface Verification {
  readonly consistent: boolean
  /** The lowest of the nodes' positions; '' without nodes. */
  readonly position: string
  readonly namespaces: readonly {
    readonly name: string
    /** The largest of the nodes' counts: they do not count at the same instant. */
    readonly keys: number
    /** The lowest of the nodes', 0 to 1: what a reader finds right, counted evictions aside. */
    readonly consistency: number
    readonly nodes: readonly NodeFigures[]
  }[]
}

export interface NodeFigures {
  readonly name: string
  readonly present: number
  readonly evicted: number
  readonly missing: number
  readonly diverged: number
  readonly orphan: number
  readonly consistency: number
  /** Only there where it is not 0. */
  readonly unsettled?: number
  /** As in NamespaceVerification: no difference any more. */
  readonly gone?: number
  readonly examples: readonly DifferenceExample[]
}

/** Consistent: at least one node, and no difference on any but counted evictions. */
export function mergeVerifications(nodes: readonly NodeVerification[]): Verification {
  const byName = new Map<string, { name: string; keys: number; consistency: number; nodes: NodeFigures[] }>()
  for (const node of nodes) {
    for (const found of node.namespaces) {
      const { name, keys, present, evicted, missing, diverged, orphan, unsettled, examples } = found
      const namespace = byName.get(name) ?? { name, keys: 0, consistency: 1, nodes: [] }
      namespace.keys = Math.max(namespace.keys, keys)
      const consistency = consistencyOf(found)
      namespace.consistency = Math.min(namespace.consistency, consistency)
      const doubtful = unsettled === 0 ? {} : { unsettled }
      const lost = found.gone === undefined ? {} : { gone: found.gone }
      namespace.nodes.push({
        name: node.name,
        present,
        evicted,
        missing,
        diverged,
        orphan,
        consistency,
        ...doubtful,
        ...lost,
        examples,
      })
      byName.set(name, namespace)
    }
  }
  const namespaces = [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  const consistent = nodes.length > 0 && namespaces.every((namespace) => namespace.nodes.every(agrees))
  return { consistent, position: lowestPosition(nodes), namespaces }
}

/** As the command's exit code: 0 consistent, 1 not. */
export function verificationExitCode(verification: Verification): 0 | 1 {
  return verification.consistent ? 0 : 1
}

/** Lines for people. */
export function describeVerification(verification: Verification): string[] {
  const lines: string[] = []
  for (const namespace of verification.namespaces) {
    const right = describeConsistency(namespace.consistency)
    lines.push(`${namespace.name}: ${count(namespace.keys, 'key')}, ${right} consistent`)
    for (const node of namespace.nodes) lines.push(`  ${node.name}: ${figures(node)}`, ...examplesOf(node))
  }
  const answer = verification.consistent ? 'consistent' : 'NOT consistent'
  lines.push(verification.position === '' ? answer : `${answer} up to ${verification.position}`)
  return lines
}

function agrees(node: NodeFigures): boolean {
  return node.missing === 0 && node.diverged === 0 && node.orphan === 0
}

function figures(node: NodeFigures): string {
  const parts = [`${node.present} present`]
  if (node.evicted > 0) parts.push(`${node.evicted} evicted`)
  if (node.missing > 0) parts.push(`${node.missing} missing`)
  if (node.diverged > 0) parts.push(`${node.diverged} diverged`)
  if (node.orphan > 0) parts.push(count(node.orphan, 'orphan'))
  if (node.unsettled !== undefined) parts.push(`${node.unsettled} written too often to compare`)
  if (node.gone !== undefined) parts.push(`${node.gone} could not be recovered, and are keys no more`)
  return parts.join(', ')
}

/** With what this node told the directory. */
export function withGone(verification: NodeVerification, gone: ReadonlyMap<string, number>): NodeVerification {
  const namespaces = verification.namespaces.map((one) => {
    const told = gone.get(one.name)
    return told === undefined ? one : { ...one, gone: told }
  })
  return { ...verification, namespaces }
}

function examplesOf(node: NodeFigures): string[] {
  return node.examples.map(({ kind, key }) => `    ${kind}: ${key}`)
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}

/** The one that each other covers; of positions that nobody can order, the first. */
function lowestPosition(nodes: readonly NodeVerification[]): string {
  const parsed = nodes.map(({ dialect, position }) => ({ text: position, position: parsePosition(dialect, position) }))
  const lowest = parsed.find((one) => parsed.every((other) => covers(other.position, one.position)))
  return (lowest ?? parsed[0])?.text ?? ''
}
