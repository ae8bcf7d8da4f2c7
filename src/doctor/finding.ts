/**
 * `problem`: a promise of ours does not hold. `advice`: it holds, and something is worse than it need be. `note`: nothing is to be changed,
 * but whoever looks after it should know.
 */
export type Severity = 'problem' | 'advice' | 'note'

export interface Finding {
  readonly severity: Severity
  /** Of what: the name of a database, a node, a machine, `cluster`. */
  readonly where: string
  /** The same for every finding of this kind, for scripts. */
  readonly check: string
  /** What is. */
  readonly found: string
  /** What to do about it. */
  readonly remedy: string
  /** Statements that do it on that database, where statements can. */
  readonly sql?: readonly string[]
  /** What belongs in its options file, so that it outlasts a restart. */
  readonly option?: string
}

const order: Readonly<Record<Severity, number>> = { problem: 0, advice: 1, note: 2 }

export function sortFindings(findings: readonly Finding[]): Finding[] {
  return findings.toSorted((a, b) => order[a.severity] - order[b.severity])
}

export function isToBeChanged({ severity }: Finding): boolean {
  return severity !== 'note'
}
