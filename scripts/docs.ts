/**
 * Writes the documents that are made from the code: `npm run docs`. With `--check` it writes nothing and fails where one is out of date.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { format, resolveConfig } from 'prettier'
import { configurationReference } from '../src/config/reference.ts'

const documents = [{ file: 'docs/CONFIGURATION.md', text: configurationReference() }]

for (const { file, text } of documents) {
  const path = fileURLToPath(new URL(`../${file}`, import.meta.url))
  const formatted = await format(text, { ...(await resolveConfig(path)), filepath: path })
  if (formatted === read(path)) continue
  if (process.argv.includes('--check')) {
    process.stderr.write(`${file} is out of date: run npm run docs\n`)
    process.exitCode = 1
  } else {
    writeFileSync(path, formatted)
    process.stdout.write(`${file} written\n`)
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
