import { setTimeout as sleep } from 'node:timers/promises'
import { askControl, type ControlRequest, type ProcessReport } from '../sandbox/control.ts'
import { SandboxFolder } from '../sandbox/folder.ts'
import { stopLeftovers } from '../sandbox/leftovers.ts'
import { lockFolder } from '../sandbox/lock.ts'
import { isAlive, runningIn } from '../sandbox/process-identity.ts'
import { SandboxError } from '../sandbox/sandbox-error.ts'

/** Everything stops in order, and each step has its own limit; this is beyond their sum. */
const downSeconds = 120

/**
 * Stops the running sandbox, or what a killed one left behind.
 * @returns whether anything ran
 */
export async function takeDown(path: string): Promise<boolean> {
  const folder = SandboxFolder.open(path)
  const supervisor = runningIn(folder.of('supervisor'))
  const reply = await askControl(folder.controlSocket, { command: 'down' })
  const deadline = performance.now() + downSeconds * 1000
  for (;;) {
    if (supervisor === undefined || !isAlive(supervisor)) {
      const release = await lockFolder(folder.path)
      if (release !== undefined) {
        const left = await stopLeftovers(folder, () => {}).finally(release)
        return reply !== undefined || left > 0
      }
    }
    if (performance.now() > deadline) {
      throw new SandboxError(
        `the sandbox (pid ${supervisor?.pid ?? 'unknown'}) did not end within ${downSeconds} s: see ${folder.supervisorLog}`,
      )
    }
    await sleep(50)
  }
}

/** @throws SandboxError with what went wrong */
export async function controlProcess(
  path: string,
  request: Extract<ControlRequest, { name: string }>,
): Promise<ProcessReport> {
  const folder = SandboxFolder.open(path)
  const reply = await askControl(folder.controlSocket, request)
  if (reply === undefined) {
    throw new SandboxError(
      `the sandbox in ${folder.path} does not run: start it with "whitehole up --dir ${folder.path}"`,
    )
  }
  if (!reply.ok) throw new SandboxError(reply.message)
  const process = reply.processes.find(({ name }) => name === request.name)
  if (process === undefined) throw new SandboxError(`there is no process "${request.name}"`)
  return process
}
