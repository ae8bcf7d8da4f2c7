import { spawn } from 'node:child_process'

export interface CommandRun {
  /** Run by `/bin/sh -c`, in a process group of its own. */
  readonly command: string
  readonly environment: Readonly<Record<string, string>>
  readonly input?: string | undefined
  readonly timeoutMilliseconds: number
  /** What it says on stdout and stderr beyond that is thrown away. */
  readonly outputBytesMax?: number
}

export type CommandResult =
  | { readonly kind: 'exited'; readonly code: number; readonly output: string }
  /** Killed by somebody else, or by its own crash. */
  | { readonly kind: 'killed'; readonly signal: string; readonly output: string }
  | { readonly kind: 'timed-out'; readonly output: string }
  | { readonly kind: 'aborted'; readonly output: string }
  | { readonly kind: 'failed'; readonly why: string }

/** What commands find besides their own facts: never the daemon's whole environment, which may hold secrets. */
const inherited = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR']

const pipesMilliseconds = 200

/**
 * Never rejects. When the time is over the whole process group is killed (a shell's children too); one that left its group, as a daemon does,
 * lives on. The end is the command's own: what it left running in the background is not waited for.
 */
export async function runCommand(run: CommandRun, signal?: AbortSignal): Promise<CommandResult> {
  if (signal?.aborted === true) return { kind: 'aborted', output: '' }
  const outputBytesMax = run.outputBytesMax ?? 4096
  const inheritedValues = inherited.flatMap((name) => {
    const value = process.env[name]
    return value === undefined ? [] : [[name, value] as const]
  })
  const child = spawn('/bin/sh', ['-c', run.command], {
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...Object.fromEntries(inheritedValues), ...run.environment },
  })
  const chunks: Buffer[] = []
  let bytes = 0
  const keep = (chunk: Buffer): void => {
    if (bytes < outputBytesMax) chunks.push(chunk.subarray(0, outputBytesMax - bytes))
    bytes += chunk.length
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  // It may end, or close its input, before it has read everything.
  child.stdin.on('error', () => {})
  child.stdin.end(run.input ?? '')
  const output = (): string => Buffer.concat(chunks).toString('utf8').trim()
  const killGroup = (): void => {
    if (child.pid === undefined) return
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch {
      // It is gone already.
    }
  }
  return new Promise((resolve) => {
    let ended: CommandResult | undefined
    const end = (result: () => CommandResult): void => {
      if (ended !== undefined) return
      ended = result()
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
      for (const stream of [child.stdout, child.stderr, child.stdin]) stream.destroy()
      resolve(ended)
    }
    const stop = (kind: 'timed-out' | 'aborted'): void => {
      killGroup()
      end(() => ({ kind, output: output() }))
    }
    const abort = (): void => stop('aborted')
    const timer = setTimeout(() => stop('timed-out'), run.timeoutMilliseconds)
    signal?.addEventListener('abort', abort, { once: true })
    child.once('error', (error) => end(() => ({ kind: 'failed', why: error.message })))
    child.once('exit', (code, by) => {
      const told = (): CommandResult =>
        code === null
          ? { kind: 'killed', signal: by ?? '?', output: output() }
          : { kind: 'exited', code, output: output() }
      // What it said may still be in the pipes; whom it left behind may hold them open for ever.
      child.once('close', () => end(told))
      setTimeout(() => end(told), pipesMilliseconds).unref()
    })
  })
}

export function describeResult(result: CommandResult): string {
  switch (result.kind) {
    case 'exited':
      return `it ended with ${result.code}${said(result.output)}`
    case 'killed':
      return `it was killed by ${result.signal}${said(result.output)}`
    case 'timed-out':
      return `it took too long and was killed${said(result.output)}`
    case 'aborted':
      return 'it was called off'
    case 'failed':
      return `it could not be started: ${result.why}`
  }
}

function said(output: string): string {
  return output === '' ? '' : `: ${output.split('\n').slice(-3).join(' / ')}`
}
