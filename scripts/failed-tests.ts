import { readFileSync } from 'node:fs'
import { relative } from 'node:path'

/**
 * The files with a failed test in vitest's JSON report, one a line. None where so many failed that it is no matter of chance, or where none
 * did: then the run failed otherwise.
 */
const [report = ''] = process.argv.slice(2)
const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as { testResults: { name: string; status: string }[] }
const failed = testResults.filter(({ status }) => status === 'failed').map(({ name }) => relative(process.cwd(), name))
if (failed.length <= 4) process.stdout.write(failed.map((file) => `${file}\n`).join(''))
