import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SandboxFolder } from './folder.ts'
import { isAlive, type ProcessIdentity, removeIdentity, runningIn } from './process-identity.ts'
import { SandboxError } from './sandbox-error.ts'

const killSeconds = 10

/**
 * Kills what a killed supervisor left behind (normally the kernel did). Only with the folder's lock held: then whatever the
 * folder's files tell of has no supervisor. SIGKILL, since an isolated primary must not be stopped cleanly.
 */
export async function stopLeftovers(folder: SandboxFolder, report: (message: string) => void): Promise<number> {
  const found = leftovers(folder)
  for (const { name, identity } of found) {
    report(`${name} (pid ${identity.pid}) is left from a sandbox that was killed: killing it`)
    process.kill(identity.pid, 'SIGKILL')
  }
  const deadline = performance.now() + killSeconds * 1000
  for (const { name, identity } of found) {
    while (isAlive(identity)) {
      if (performance.now() > deadline) throw new SandboxError(`${name} (pid ${identity.pid}) can't be killed`)
      await sleep(20)
    }
    removeIdentity(folder.of(name))
  }
  return found.length
}

export function leftovers(folder: SandboxFolder): { name: string; identity: ProcessIdentity }[] {
  return readdirSync(folder.path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => {
      const identity = runningIn(folder.of(name))
      return identity === undefined || identity.pid === process.pid ? [] : [{ name, identity }]
    })
}
