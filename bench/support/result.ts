/** One row of a question's table. */
export interface Row {
  readonly contestant: string
  /** Medians over the rounds. */
  readonly figures: Readonly<Record<string, string>>
}

export interface Question {
  readonly name: string
  readonly title: string
  /** What is asked, how, and what the goal is. */
  readonly text: string
  readonly run: (progress: (line: string) => void) => Promise<readonly Row[]>
}

export function perSecond(value: number): string {
  return `${Math.round(value).toLocaleString('en')}/s`
}

export function milliseconds(value: number): string {
  return `${value.toFixed(value < 10 ? 2 : 1)} ms`
}

export function ratio(value: number): string {
  return `${value.toFixed(2)} ×`
}
