import { execFileSync } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { question as arbitration } from './arbitration.ts'
import { question as gets } from './gets.ts'
import { question as log } from './log.ts'
import { question as sets } from './sets.ts'
import type { Question, Row } from './support/result.ts'

/** `npm run bench [-- NAME…]`: asks the questions and writes their sections of bench/RESULTS.md; the others' sections stay. */
const questions: readonly Question[] = [sets, arbitration, gets, log]
const file = new URL('RESULTS.md', import.meta.url)

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !questions.some((question) => question.name === name))
if (unknown.length > 0) {
  console.error(`bench: no question ${unknown.join(', ')}; there are ${questions.map(({ name }) => name).join(', ')}`)
  process.exit(64)
}
for (const question of questions) {
  if (wanted.length > 0 && !wanted.includes(question.name)) continue
  console.log(`${question.name}: ${question.title}`)
  const rows = await question.run((line) => console.log(`  ${line}`))
  const section = render(question, rows)
  console.log(section)
  await replaceSection(question, section)
}

function render(question: Question, rows: readonly Row[]): string {
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
    `${new Date().toISOString().slice(0, 10)}, Node ${process.versions.node}, ${version('mariadbd')}, ${version('memcached')}, ${cpus().length} cores. Medians.`,
    '',
  )
  return lines.join('\n')
}

function version(program: string): string {
  const text = execFileSync(program, ['--version'], { encoding: 'utf8' })
  return `${program.replace(/d$/, '')} ${/\d+\.\d+\.\d+/.exec(text)?.[0] ?? '?'}`
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
