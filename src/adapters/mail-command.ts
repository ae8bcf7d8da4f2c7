import { describeResult, runCommand } from '../runtime/run-command.ts'

/** @throws Error where the command does not end with 0 in time */
export async function sendByCommand(
  given: { readonly command: string; readonly source: string; readonly environment: Readonly<Record<string, string>> },
  timeoutMilliseconds: number,
  signal: AbortSignal,
): Promise<void> {
  const { command, source, environment } = given
  const result = await runCommand({ command, environment, input: source, timeoutMilliseconds }, signal)
  if (result.kind === 'exited' && result.code === 0) return
  throw new Error(`the mail command did not take it: ${describeResult(result)}`)
}
