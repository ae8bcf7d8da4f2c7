import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

/**
 * Which process it was, for a later command: a pid alone may belong to somebody else by then, so the kernel's start time goes
 * with it, and the boot that both belong to.
 */
const identitySchema = z.strictObject({ pid: z.int().positive(), started: z.string(), boot: z.string() })

export type ProcessIdentity = z.output<typeof identitySchema>

export function identify(pid: number): ProcessIdentity | undefined {
  const started = startTime(pid)
  return started === undefined ? undefined : { pid, started, boot: bootId() }
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identity.boot === bootId() && startTime(identity.pid) === identity.started
}

/** Leaves `pid` (for scripts) and `process.json` in the process' folder. */
export function writeIdentity(folder: string, pid: number): void {
  const identity = identify(pid)
  if (identity === undefined) return
  writeFileSync(join(folder, 'process.json'), JSON.stringify(identity), { mode: 0o600 })
  writeFileSync(join(folder, 'pid'), `${pid}\n`, { mode: 0o600 })
}

export function removeIdentity(folder: string): void {
  rmSync(join(folder, 'process.json'), { force: true })
  rmSync(join(folder, 'pid'), { force: true })
}

/** The process that the folder's files tell of, if it still runs. */
export function runningIn(folder: string): ProcessIdentity | undefined {
  let text
  try {
    text = readFileSync(join(folder, 'process.json'), 'utf8')
  } catch {
    return undefined
  }
  const parsed = identitySchema.safeParse(parseJson(text))
  return parsed.success && isAlive(parsed.data) ? parsed.data : undefined
}

/** Field 22 of /proc/<pid>/stat, in clock ticks since boot; undefined for a process that is gone or a zombie. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The program's name in brackets may hold spaces and brackets.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
  } catch {
    return undefined
  }
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
