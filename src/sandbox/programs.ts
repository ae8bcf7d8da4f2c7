import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { SandboxError } from './sandbox-error.ts'

const packages = {
  mariadbd: 'mariadb-server',
  'mariadb-install-db': 'mariadb-server',
  memcached: 'memcached',
} as const

/** Where a server program is. Debian keeps servers outside of a plain user's PATH. */
export function findProgram(name: keyof typeof packages): string {
  const path = lookUp(name)
  if (path !== undefined) return path
  throw new SandboxError(
    `${name} is not installed: as root run "npm run setup" or "apt-get install mariadb-server memcached" (package ${packages[name]}; no system service is needed)`,
  )
}

export function lookUp(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin', '/sbin', '/usr/bin']
  return folders
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, name))
    .find(isExecutable)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
