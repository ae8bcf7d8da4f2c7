import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { findProgram } from './programs.ts'
import { SandboxError } from './sandbox-error.ts'

const run = promisify(execFile)

/**
 * Without it root could come over TCP, without a password: only the unix socket in the private folder is root's. Done while no server
 * listens.
 */
const afterInstall = `DELETE FROM mysql.global_priv WHERE (User = 'root' AND Host <> 'localhost') OR User = '';\n`

/** Makes a fresh MariaDB data directory, whole or not at all. Leaves one that exists alone. */
export async function makeMariadbDirectory(databaseFolder: string): Promise<void> {
  const extra = join(databaseFolder, 'after-install.sql')
  await makeDirectory(databaseFolder, async (fresh) => {
    writeFileSync(extra, afterInstall)
    await run(findProgram('mariadb-install-db'), [
      '--no-defaults',
      `--datadir=${fresh}`,
      '--auth-root-authentication-method=normal',
      '--skip-test-db',
      // Of its own: whichever server starts in a shared one removes the temporary tables of the others.
      `--tmpdir=${fresh}`,
      '--innodb-log-file-size=32M',
      `--extra-file=${extra}`,
      ...runAsRoot('--user=root'),
    ])
  }).finally(() => rmSync(extra, { force: true }))
}

/** The same of a MySQL whose server is at `mysqld`. Its root is `root@localhost` alone: with skip_name_resolve nobody is that over TCP. */
export async function makeMysqlDirectory(databaseFolder: string, mysqld: string): Promise<void> {
  await makeDirectory(databaseFolder, async (fresh) => {
    const temporary = `--tmpdir=${databaseFolder}`
    const options = ['--mysqlx=0', '--innodb-redo-log-capacity=32M', ...runAsRoot('--user=root')]
    await run(mysqld, ['--no-defaults', '--initialize-insecure', `--datadir=${fresh}`, temporary, ...options])
  })
}

async function makeDirectory(databaseFolder: string, fill: (fresh: string) => Promise<void>): Promise<void> {
  const data = join(databaseFolder, 'data')
  if (existsSync(data)) return
  const fresh = join(databaseFolder, 'data.new')
  rmSync(fresh, { recursive: true, force: true })
  mkdirSync(fresh, { recursive: true, mode: 0o700 })
  try {
    await fill(fresh)
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string }
    throw new SandboxError(`a database could not be made in ${databaseFolder}: ${lastLines(stderr || message, 3)}`)
  }
  renameSync(fresh, data)
}

/** mariadbd and memcached refuse to run as root unless told so. */
export function runAsRoot(...options: string[]): string[] {
  return userInfo().uid === 0 ? options : []
}

/** The end of a log, on one line; empty where there is none. */
export function logTail(file: string, lines = 3): string {
  try {
    return lastLines(readFileSync(file, 'utf8'), lines)
  } catch {
    return ''
  }
}

function lastLines(text: string, count: number): string {
  return text.trim().split('\n').slice(-count).join(' | ')
}
