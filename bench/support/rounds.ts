import { median } from './load.ts'

/** One of those that are compared: `once` gives one round's figures, by name. */
export interface Contestant {
  readonly name: string
  readonly once: () => Promise<Readonly<Record<string, number>>>
}

export interface Standing {
  readonly name: string
  /** Medians over the rounds. */
  readonly figures: Readonly<Record<string, number>>
}

/** All in turn, A B C A B C …, so that whatever slows the machine for a while slows them all. */
export async function inTurn(
  contestants: readonly Contestant[],
  rounds: number,
  progress: (line: string) => void,
): Promise<readonly Standing[]> {
  const seen = new Map<string, Record<string, number[]>>()
  for (let round = 1; round <= rounds; round++) {
    const told: string[] = []
    for (const { name, once } of contestants) {
      const figures = await once()
      const of = seen.get(name) ?? {}
      seen.set(name, of)
      for (const [figure, value] of Object.entries(figures)) (of[figure] ??= []).push(value)
      told.push(`${name} ${Math.round(Object.values(figures)[0] ?? 0).toLocaleString('en')}`)
    }
    progress(`round ${round} of ${rounds}: ${told.join(', ')}`)
  }
  return contestants.map(({ name }) => ({
    name,
    figures: Object.fromEntries(Object.entries(seen.get(name) ?? {}).map(([figure, all]) => [figure, median(all)])),
  }))
}

/** Of one figure: how one stands to another. */
export function toOther(standings: readonly Standing[], figure: string, name: string, other: string): number {
  const of = (wanted: string): number => standings.find((one) => one.name === wanted)?.figures[figure] ?? Number.NaN
  return of(name) / of(other)
}
