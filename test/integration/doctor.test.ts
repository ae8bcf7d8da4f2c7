import { createConnection } from 'mysql2/promise'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { until } from '../support/processes.ts'
import { TestSandbox } from '../support/sandboxes.ts'

let sandbox: TestSandbox
beforeAll(async () => {
  sandbox = await TestSandbox.make()
  await sandbox.up()
})
afterAll(() => sandbox.remove())

interface Finding {
  readonly severity: string
  readonly where: string
  readonly check: string
  readonly found: string
  readonly sql?: string[]
}

async function sql(database: string, ...statements: readonly string[]): Promise<void> {
  const connection = await createConnection({ socketPath: sandbox.socket(database), user: 'root' })
  try {
    for (const statement of statements) await connection.query(statement)
  } finally {
    connection.destroy()
  }
}

async function doctor(): Promise<{ code: number; findings: Finding[] }> {
  const { code, stdout, stderr } = await sandbox.run('doctor', '--json')
  if (code > 1) throw new Error(stderr)
  return { code, findings: (JSON.parse(stdout) as { findings: Finding[] }).findings }
}

const toChange = (findings: readonly Finding[]): string[] =>
  findings.filter(({ severity }) => severity !== 'note').map(({ where, check }) => `${where} ${check}`)

test('finds nothing to change in a sandbox, and says what was looked at', async () => {
  const { code, stdout } = await sandbox.run('doctor')
  expect(stdout).toMatch(/2 databases and 2 nodes looked at: nothing to change\.$/m)
  expect(code).toBe(0)
  expect((await sandbox.run('doctor', '--fix-sql')).stdout.trim()).toBe('-- nothing that statements could change')
})

test('finds each setting that is wrong, and its own statements put them right', async () => {
  const wrong = {
    binlog_format: "'MIXED'",
    binlog_row_image: "'MINIMAL'",
    binlog_checksum: "'NONE'",
    sync_binlog: '0',
    innodb_flush_log_at_trx_commit: '2',
    max_allowed_packet: '1048576',
    binlog_expire_logs_seconds: '600',
    gtid_strict_mode: 'OFF',
    binlog_annotate_row_events: 'ON',
    log_bin_compress: 'ON',
    rpl_semi_sync_master_wait_point: "'AFTER_COMMIT'",
    rpl_semi_sync_master_timeout: '10000',
  }
  await sql('db2', ...Object.entries(wrong).map(([name, value]) => `SET GLOBAL ${name} = ${value}`))
  const { code, findings } = await doctor()
  expect(code).toBe(1)
  expect(toChange(findings).toSorted()).toEqual(
    Object.keys(wrong)
      .map((name) => `db2 ${name}`)
      .toSorted(),
  )
  await sql('db2', ...findings.flatMap((finding) => finding.sql ?? []))
  expect(toChange((await doctor()).findings)).toEqual([])
})

describe('finds what else is wrong, and its own statements put it right', () => {
  test.each<[string, string, string[], string]>([
    ['two writable databases', 'db2', ['SET GLOBAL read_only = OFF'], 'read_only'],
    ['a fallback to asynchronous', 'db1', ['SET GLOBAL rpl_semi_sync_master_enabled = OFF'], 'semi_sync'],
    [
      'a log that is a table',
      'db2',
      ['SET SESSION sql_log_bin = 0', 'ALTER TABLE memcached.mc_storage ENGINE=InnoDB'],
      'engine',
    ],
    [
      'a right that is missing',
      'db1',
      ["REVOKE INSERT ON memcached.mc_storage FROM 'whitehole_node'@'127.0.0.1'"],
      'grants',
    ],
    ['a right too many', 'db1', ["GRANT READ ONLY ADMIN ON *.* TO 'whitehole_node'@'127.0.0.1'"], 'grants'],
  ])('%s', async (_, where, breaking, check) => {
    // The monitor puts some of it right by itself, and may be faster.
    const { code, findings } = await until(`${where} ${check}`, async () => {
      await sql(where, ...breaking)
      const seen = await doctor()
      return toChange(seen.findings).includes(`${where} ${check}`) && seen
    })
    expect(code).toBe(1)
    const repair = findings.filter((finding) => finding.where === where).flatMap((finding) => finding.sql ?? [])
    await sql(where, ...repair)
    expect(toChange((await doctor()).findings)).toEqual([])
  })
})

test('tells of what does not answer', async () => {
  await sandbox.run('sandbox', 'stop', 'node2')
  await sandbox.run('sandbox', 'stop', 'db2')
  const { code, findings } = await doctor()
  expect(code).toBe(1)
  expect(toChange(findings)).toEqual(expect.arrayContaining(['db2 database', 'node2 node']))
  expect((await sandbox.run('doctor', '--url', 'http://127.0.0.1:1')).code).not.toBe(0)
})
