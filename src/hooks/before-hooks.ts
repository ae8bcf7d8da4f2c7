import type { Announcement } from '../domain/announcement.ts'
import type { ChangeGuard, GuardAnswer, PlannedChange } from '../domain/change-guard.ts'
import type { Logger } from '../runtime/logger.ts'
import { type CommandResult, describeResult, runCommand } from '../runtime/run-command.ts'
import { hookEnvironment } from './hook-environment.ts'

export interface BeforeHook {
  readonly command: string
  readonly timeoutMilliseconds: number
  /** Where nobody knows what it wanted to say: it took too long, died, or could not be started. */
  readonly onFailure: 'veto' | 'go-on'
}

export interface BeforeHooksParts {
  readonly hooks: readonly BeforeHook[]
  /** The facts as they would be after the change. */
  readonly announce: (change: PlannedChange) => Announcement
  readonly logger: Logger
}

/** One after the other; the first that vetoes ends it. */
export class BeforeHooks implements ChangeGuard {
  readonly #parts: BeforeHooksParts

  constructor(parts: BeforeHooksParts) {
    this.#parts = parts
  }

  async mayBegin(change: PlannedChange, signal: AbortSignal): Promise<GuardAnswer> {
    const { hooks, announce, logger } = this.#parts
    if (hooks.length === 0) return { go: true }
    const environment = hookEnvironment(announce(change))
    for (const hook of hooks) {
      const { command, timeoutMilliseconds } = hook
      const result = await runCommand({ command, environment, timeoutMilliseconds }, signal)
      const answer = judge(hook, result)
      logger[answer.go ? 'info' : 'warn'](
        { hook: command, kind: change.kind, epoch: change.epoch, to: change.to, go: answer.go },
        `the hook before the change: ${describeResult(result)}`,
      )
      if (!answer.go) return answer
    }
    return signal.aborted ? { go: false, why: 'it was called off' } : { go: true }
  }
}

export function judge({ command, onFailure }: BeforeHook, result: CommandResult): GuardAnswer {
  const why = `the hook \`${shortened(command)}\`: ${describeResult(result)}`
  switch (result.kind) {
    case 'exited':
      if (result.code === 0) return { go: true }
      // The shell's own words for "there is no such command": nobody was asked.
      if (result.code === 126 || result.code === 127) return onFailure === 'veto' ? { go: false, why } : { go: true }
      return { go: false, why: `vetoed by ${why}` }
    case 'aborted':
      return { go: false, why }
    case 'killed':
    case 'timed-out':
    case 'failed':
      return onFailure === 'veto' ? { go: false, why } : { go: true }
  }
}

/** For people to know which one. */
function shortened(command: string): string {
  const [line = ''] = command.split('\n')
  return line.length > 80 || line !== command ? `${line.slice(0, 79)}…` : line
}
