import type { Command } from 'commander'
import { type Examination, examine, type Finding } from '../compose/doctor.ts'
import type { Finish } from './command-line.ts'
import { exitCode, UsageError } from './exit.ts'
import { clusterCommand, type CommonOptions } from './options.ts'
import { print, printJson } from './output.ts'

interface GivenOptions extends CommonOptions {
  readonly cluster?: string
  readonly fixSql?: boolean
}

export function doctorCommand(finish: Finish): Command {
  return clusterCommand(
    'doctor',
    'Check databases, nodes and the cluster file; each finding with its remedy. 1 where something is to be changed.',
  )
    .option('--cluster <file>', 'the cluster file: its machines are looked at, and its addresses tried')
    .option('--fix-sql', 'print the statements that would change what statements can change; nothing is run')
    .action(async (given: GivenOptions) => {
      if (given.fixSql === true && given.json === true) throw new UsageError('--fix-sql shows SQL: --json has it too')
      const examination = await examine(given)
      if (given.json === true) printJson(examination)
      else print(given.fixSql === true ? fixSql(examination.findings) : describe(examination))
      finish(examination.healthy ? exitCode.done : exitCode.no)
    })
}

const words = { problem: 'PROBLEM', advice: 'advice', note: 'note' } as const

function describe({ findings, databases, nodes, healthy }: Examination): string {
  const lines = findings.map(
    ({ severity, where, found, remedy }) => `${words[severity]}  ${where}: ${found}\n    → ${remedy}`,
  )
  const looked = `${count(databases, 'database')} and ${count(nodes, 'node')} looked at`
  const toChange = findings.filter(({ severity }) => severity !== 'note').length
  return [...lines, `${looked}: ${healthy ? 'nothing to change.' : `${count(toChange, 'thing')} to change.`}`].join(
    '\n',
  )
}

function count(number: number, thing: string): string {
  return `${number} ${thing}${number === 1 ? '' : 's'}`
}

/** For each database its own part; comments say where it is to be run, and what no statement can do. */
function fixSql(findings: readonly Finding[]): string {
  const places = [...new Set(findings.map(({ where }) => where))]
  const parts = places.flatMap((where) => {
    const own = findings.filter((finding) => finding.where === where)
    const statements = own.flatMap(({ sql = [] }) => sql)
    const options = own.flatMap(({ option }) => option ?? [])
    if (statements.length + options.length === 0) return []
    return [
      [
        `-- on ${where}`,
        ...statements.map((statement) => `${statement};`),
        ...options.map((option) => `-- in its options file: ${option}`),
      ].join('\n'),
    ]
  })
  return parts.length === 0 ? '-- nothing that statements could change' : parts.join('\n\n')
}
