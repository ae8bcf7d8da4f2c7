import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { z } from 'zod'
import { ownCommand, prepareSupervisorLog } from '../compose/sandbox.ts'

/** What the background process tells the one that started it, until all is ready. */
const messageSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('report'), text: z.string() }),
  z.object({ kind: z.literal('ready') }),
  z.object({ kind: z.literal('failed'), text: z.string() }),
])

type Message = z.output<typeof messageSchema>

/** Runs the same command in the background and returns when it is ready. @throws with its own error where it is not */
export async function startDetached(dir: string, report: (text: string) => void): Promise<void> {
  const { command, args } = ownCommand()
  const log = prepareSupervisorLog(dir)
  const output = openSync(log, 'a', 0o600)
  const given = process.argv.slice(2).filter((arg) => arg !== '--detach')
  const child = spawn(command, [...args, ...given, '--detached-child'], {
    detached: true,
    stdio: ['ignore', output, output, 'ipc'],
  })
  closeSync(output)
  let failure: string | undefined
  const interrupt = (): void => void child.kill('SIGTERM')
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt)
  try {
    await new Promise<void>((resolve, reject) => {
      child.on('message', (received) => {
        const message = messageSchema.parse(received)
        if (message.kind === 'ready') resolve()
        else if (message.kind === 'failed') failure = message.text
        else report(message.text)
      })
      child.once('error', reject)
      child.once('exit', () => reject(new Error(failure ?? `the sandbox ended during its start: see ${log}`)))
    })
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
    if (child.connected) child.disconnect()
    child.unref()
  }
}

/** The other side, in the background process. */
export function tellParent(): {
  report(text: string): void
  ready(): void
  failed(text: string): Promise<void>
  /** The other process went away before all was ready: then nobody waits for this one. */
  lost: AbortSignal
} {
  const lost = new AbortController()
  let isReady = false
  process.once('disconnect', () => {
    if (!isReady) lost.abort()
  })
  // The channel alone must not keep this process alive.
  process.channel?.unref()
  const send = async (message: Message): Promise<void> =>
    new Promise((sent) => {
      if (!process.connected || process.send === undefined) return sent()
      process.send(message, undefined, undefined, () => sent())
    })
  return {
    report: (text) => void send({ kind: 'report', text }),
    ready: () => {
      isReady = true
      void send({ kind: 'ready' })
    },
    failed: async (text) => send({ kind: 'failed', text }),
    lost: lost.signal,
  }
}
