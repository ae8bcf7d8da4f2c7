import { setTimeout as sleep } from 'node:timers/promises'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import { SandboxError } from './sandbox-error.ts'

/** @throws SandboxError that names the first ports in use, who holds them, and what to do */
export async function requireFreePorts(wanted: readonly { port: number; name: string }[]): Promise<void> {
  const taken: string[] = []
  for (const { port, name } of wanted) {
    if (!(await isFreeSoon(port))) taken.push(`${port} (for ${name}) ${holderText(port)}`)
  }
  if (taken.length === 0) return
  const shown = taken.slice(0, 3).join(', ') + (taken.length > 3 ? `, and ${taken.length - 3} more` : '')
  throw new SandboxError(
    `port ${shown}: stop that, or choose other ports with --base-port B (this sandbox uses B to B+79, with two data centres to B+182)`,
  )
}

/** A program that was killed just now lets go of its port a moment after it is gone: its last thread does. */
async function isFreeSoon(port: number): Promise<boolean> {
  const deadline = performance.now() + lettingGoMilliseconds
  while (!(await isFree(port))) {
    if (holderOf(port) !== undefined || performance.now() > deadline) return false
    await sleep(20)
  }
  return true
}

const lettingGoMilliseconds = 2000

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  const failed = once(server, 'error').then(() => false)
  const listening = once(server.listen(port, '127.0.0.1'), 'listening').then(() => true)
  const free = await Promise.race([failed, listening.catch(() => false)])
  if (free) {
    server.close()
    await once(server, 'close')
  }
  return free
}

function holderText(port: number): string {
  const holder = holderOf(port)
  return holder === undefined ? 'is in use by another program' : `is in use by ${holder.program} (pid ${holder.pid})`
}

/** Who listens on a TCP port, as far as this user may see it. */
export function holderOf(port: number): { pid: number; program: string } | undefined {
  const inodes = new Set(['/proc/net/tcp', '/proc/net/tcp6'].flatMap((file) => listeningInodes(file, port)))
  if (inodes.size === 0) return undefined
  for (const pid of list('/proc').filter((name) => /^\d+$/.test(name))) {
    const held = list(`/proc/${pid}/fd`).some((fd) => inodes.has(link(`/proc/${pid}/fd/${fd}`)))
    if (held) return { pid: Number(pid), program: read(`/proc/${pid}/comm`).trim() }
  }
  return undefined
}

const listenState = '0A'

function listeningInodes(file: string, port: number): string[] {
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  return read(file)
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === listenState && fields[1]?.endsWith(`:${hex}`) === true)
    .map((fields) => `socket:[${fields[9]}]`)
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'latin1')
  } catch {
    return ''
  }
}

function link(file: string): string {
  try {
    return readlinkSync(file)
  } catch {
    return ''
  }
}
