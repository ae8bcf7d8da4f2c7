import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** A block of commands of docs/INSTALL.md, whose fence names the machines: `sh on=slave-1,slave-2 says=w4st3l4nd`. */
export interface GuideStep {
  readonly on: readonly string[]
  readonly commands: string
  /** What is to be found in its output; `_` stands for a space. */
  readonly says: string | undefined
}

const page = fileURLToPath(new URL('../../docs/INSTALL.md', import.meta.url))

/** @param heading of the section, without its `##` */
export function guideSteps(heading: string): GuideStep[] {
  const text = readFileSync(page, 'utf8')
  const section = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`))
  if (section === undefined) throw new Error(`docs/INSTALL.md has no section "${heading}"`)
  const blocks = [...section.matchAll(/^```sh(.*)\n([^]*?)^```$/gm)].map(([, info = '', commands = '']) => ({
    info: Object.fromEntries(
      info
        .trim()
        .split(' ')
        .map((pair) => pair.split('=')),
    ) as Record<string, string>,
    commands,
  }))
  const steps = blocks.flatMap(({ info: { on, says }, commands }) =>
    on === undefined ? [] : [{ on: on.split(','), commands, says: says?.replaceAll('_', ' ') }],
  )
  if (steps.length === 0) throw new Error(`the section "${heading}" has no commands for machines`)
  return steps
}
