import { execFileSync } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { question as arbitration } from './arbitration.ts'
import { question as direct } from './direct.ts'
import { question as gets } from './gets.ts'
import { question as growth } from './growth.ts'
import { question as latency } from './latency.ts'
import { question as log } from './log.ts'
import { question as rebuild } from './rebuild.ts'
import { question as sets } from './sets.ts'
import { question as sizing } from './sizing.ts'
import type { Question, Row } from './support/result.ts'

/**
 * `npm run bench [-- NAME…]` asks the questions and writes their sections of bench/RESULTS.md and their rows into bench/results.json; the
 * others' stay. `npm run bench -- --check [NAME…]` asks them too, writes nothing, and compares the ratios with those of
 * results.json: exit code 1 where one has become worse by more than a fifth.
 */
const questions: readonly Question[] = [sets, latency, arbitration, gets, direct, log, growth, rebuild, sizing]
const file = new URL('RESULTS.md', import.meta.url)
const jsonFile = new URL('results.json', import.meta.url)
const tolerance = 0.8

interface Result {
  readonly date: string
  readonly versions: Readonly<Record<string, string>>
  readonly cores: number
  readonly rows: readonly Row[]
}

const { values: options, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { check: { type: 'boolean', default: false } },
})
const unknown = wanted.filter((name) => !questions.some((question) => question.name === name))
if (unknown.length > 0) {
  console.error(`bench: no question ${unknown.join(', ')}; there are ${questions.map(({ name }) => name).join(', ')}`)
  process.exit(64)
}
const results = JSON.parse(await readFile(jsonFile, 'utf8').catch(() => '{}')) as Record<string, Result>
let worse = 0
for (const question of questions) {
  if (wanted.length > 0 && !wanted.includes(question.name)) continue
  console.log(`${question.name}: ${question.title}`)
  const rows = await question.run((line) => console.log(`  ${line}`))
  const result: Result = {
    date: new Date().toISOString().slice(0, 10),
    versions: { node: process.versions.node, mariadb: version('mariadbd'), memcached: version('memcached') },
    cores: cpus().length,
    rows,
  }
  const section = render(question, result)
  console.log(section)
  if (options.check) {
    worse += compare(question, results[question.name]?.rows ?? [], rows)
    continue
  }
  await replaceSection(question, section)
  results[question.name] = result
  await writeFile(jsonFile, `${JSON.stringify(results, undefined, 2)}\n`)
}
process.exitCode = worse > 0 ? 1 : 0

/** Ratios alone: they are what stays the same from one machine to the next. */
function compare(question: Question, before: readonly Row[], now: readonly Row[]): number {
  let count = 0
  for (const { contestant, figures } of now.filter((row) => row.contestant.includes('whitehole'))) {
    const former = before.find((row) => row.contestant === contestant)?.figures ?? {}
    for (const [name, text] of Object.entries(figures)) {
      const [is, was] = [asRatio(text), asRatio(former[name] ?? '')]
      if (is === undefined || was === undefined || is >= was * tolerance) continue
      console.error(`bench: ${question.name}, ${contestant}, ${name}: ${is} ×, was ${was} ×`)
      count++
    }
  }
  return count
}

function asRatio(text: string): number | undefined {
  const found = /^([\d.]+) ×$/.exec(text)?.[1]
  return found === undefined ? undefined : Number(found)
}

function render(question: Question, { rows, date, versions, cores }: Result): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row.figures)))]
  const lines = [
    `## ${question.title}`,
    '',
    question.text,
    '',
    `| | ${columns.join(' | ')} |`,
    `|---|${columns.map(() => '---:').join('|')}|`,
  ]
  for (const { contestant, figures } of rows)
    lines.push(`| ${contestant} | ${columns.map((column) => figures[column] ?? '').join(' | ')} |`)
  lines.push(
    '',
    `${date}, Node ${versions['node']}, MariaDB ${versions['mariadb']}, memcached ${versions['memcached']}, ${cores} cores. Medians.`,
    '',
  )
  return lines.join('\n')
}

function version(program: string): string {
  const text = execFileSync(program, ['--version'], { encoding: 'utf8' })
  return /\d+\.\d+\.\d+/.exec(text)?.[0] ?? '?'
}

async function replaceSection(question: Question, section: string): Promise<void> {
  const title =
    '# Results\n\nWritten by `npm run bench`. Machines are noisy: compare the contestants of one table, not tables of two days.\n'
  const text = await readFile(file, 'utf8').catch(() => title)
  const sections = text.split(/^(?=## )/m)
  const mine = sections.findIndex((one) => one.startsWith(`## ${question.title}\n`))
  if (mine === -1) sections.push(`\n${section}`)
  else sections[mine] = section + (mine === sections.length - 1 ? '' : '\n')
  await writeFile(file, sections.join(''))
}
