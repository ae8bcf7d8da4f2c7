import { createConnection } from 'mysql2/promise'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { dialogue } from '../support/memcached.ts'
import { Program, until } from '../support/processes.ts'
import { TestSandbox, whiteholeCommand } from '../support/sandboxes.ts'

let sandbox: TestSandbox
beforeAll(async () => {
  sandbox = await TestSandbox.make()
  await sandbox.up()
})
afterAll(() => sandbox.remove())

interface Told {
  readonly resume: string
  readonly namespace: string
  readonly kind: string
  readonly key?: string
  readonly version?: string
  readonly expiry?: number
}

async function tail(...args: string[]): Promise<Told[]> {
  const { code, stdout, stderr } = await sandbox.run('tail', '--json', ...args)
  if (code !== 0) throw new Error(stderr)
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Told)
}

async function sql(...statements: readonly string[]): Promise<void> {
  const connection = await createConnection({ socketPath: sandbox.socket('db1'), user: 'root', database: 'memcached' })
  try {
    for (const statement of statements) await connection.query(statement)
  } finally {
    connection.destroy()
  }
}

const about = (changes: readonly Told[]): string[] =>
  changes.map(({ namespace, kind, key }) => `${kind} ${namespace}${key === undefined ? '' : `:${key}`}`)

test('tells all that was committed, in order, with what an application and an operator did', async () => {
  const { basePort } = sandbox
  await dialogue(basePort + 11, 'set a 7 0 5\r\nhello\r\n', /\r\n$/)
  await dialogue(basePort + 12, 'set b 0 1000 1\r\n1\r\nincr b 4\r\ntouch b 0\r\ndelete a\r\n', /(.*\r\n){4}/)
  await sandbox.run('ns', 'create', 'mymodule')
  await sql("CALL set_key(ns('mymodule'), 'from-sql', 'w4st3l4nd', 0)", "CALL flush_namespace(ns('mymodule'))")
  await sandbox.run('ns', 'drop', 'mymodule')
  const changes = (await tail('--from', 'oldest', '--values', '--count', '12')).slice(-9)
  expect(about(changes)).toEqual([
    'set default:a',
    'set default:b',
    'set default:b',
    'touch default:b',
    'delete default:a',
    'created mymodule',
    'set mymodule:from-sql',
    'flushed mymodule',
    'dropped mymodule',
  ])
  expect(changes[0]).toMatchObject({ flags: 7, expiry: 0, bytes: 5, value: 'hello', encoding: 'utf8' })
  expect(changes[0]?.version).toMatch(/^\d{9,}$/)
  expect(changes[1]?.expiry).toBeGreaterThan(Date.now() / 1000)
  expect(changes[2]).toMatchObject({ value: '5' })
})

test('goes on where it ended, and shows one namespace alone', async () => {
  const one = async (from: string): Promise<Told | undefined> =>
    (await tail('--from', from, '--namespace', 'default', '--count', '1'))[0]
  const first = await one('oldest')
  const second = await one(first?.resume ?? '')
  const next = await one(second?.resume ?? '')
  expect([first?.kind, second?.key, next?.key]).toEqual(['created', 'a', 'b'])
  expect(about(await tail('--from', 'oldest', '--namespace', 'mymodule', '--count', '4'))).toHaveLength(4)
})

test('begins now, tells what comes, and ends in order when it is told to', async () => {
  const [command, ...before] = whiteholeCommand
  const program = new Program(command, [...before, 'tail', '--dir', sandbox.folder, '--verbose'])
  await until('it to follow', () => program.output.includes('following the log'))
  await dialogue(sandbox.basePort + 11, 'set "quoted"\t 0 0 1\r\nx\r\n', /\r\n$/)
  await dialogue(sandbox.basePort + 11, 'set plain 0 0 1\r\nx\r\n', /\r\n$/)
  await until('the change', () => /set {6}default:plain {2}1 bytes {2}version \d+/.test(program.output))
  expect(program.output).not.toContain('set      default:b ')
  const ended = new Promise((resolve) => program.child.once('exit', resolve))
  program.signal('SIGINT')
  expect(await ended).toBe(0)
  expect(program.output).toMatch(/To go on from here: --from \S+/)
})

test('says what is no position', async () => {
  expect(await sandbox.run('tail', '--from', 'yesterday')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('"yesterday" is no position'),
  })
})
