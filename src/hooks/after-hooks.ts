import type { Announcement, AnnouncementSink } from '../domain/announcement.ts'
import type { Logger } from '../runtime/logger.ts'
import { pause } from '../runtime/pause.ts'
import { describeResult, runCommand } from '../runtime/run-command.ts'
import { hookEnvironment } from './hook-environment.ts'

export interface AfterHook {
  readonly command: string
  readonly timeoutMilliseconds: number
  readonly on: readonly string[]
  readonly tries: number
}

export interface AfterHooksCounts {
  readonly run: number
  readonly failed: number
  readonly dropped: number
}

const waitingMax = 64
const retryMilliseconds = 500

/**
 * One at a time, in the order of the events, so that of two that move an address the later one has the last word: an older one that fails is
 * not tried again once a newer one waits for the same hook.
 */
export class AfterHooks implements AnnouncementSink {
  readonly #hooks: readonly AfterHook[]
  readonly #logger: Logger
  readonly #abort = new AbortController()
  #waiting: { readonly hook: AfterHook; readonly announcement: Announcement }[] = []
  #running: Promise<void> | undefined
  #run = 0
  #failed = 0
  #dropped = 0

  constructor(hooks: readonly AfterHook[], logger: Logger) {
    this.#hooks = hooks
    this.#logger = logger
  }

  get counts(): AfterHooksCounts {
    return { run: this.#run, failed: this.#failed, dropped: this.#dropped }
  }

  take(announcement: Announcement): void {
    if (this.#abort.signal.aborted) return
    for (const hook of this.#hooks) {
      if (hook.on.includes(announcement.event)) this.#waiting.push({ hook, announcement })
    }
    while (this.#waiting.length > waitingMax) {
      this.#waiting.shift()
      this.#dropped += 1
    }
    this.#wake()
  }

  /** What still runs when the time of grace is over is killed, with its children; what waits is not begun. */
  async close(graceMilliseconds = 0): Promise<void> {
    this.#waiting = []
    const timer = setTimeout(() => this.#abort.abort(), graceMilliseconds)
    await this.#running
    clearTimeout(timer)
    this.#abort.abort()
  }

  #wake(): void {
    if (this.#waiting.length === 0) return
    this.#running ??= this.#work().finally(() => {
      this.#running = undefined
      // Something may have come between its last look and now.
      this.#wake()
    })
  }

  async #work(): Promise<void> {
    for (;;) {
      const next = this.#waiting.shift()
      if (next === undefined) return
      await this.#runOne(next.hook, next.announcement)
    }
  }

  async #runOne(hook: AfterHook, announcement: Announcement): Promise<void> {
    const { command, timeoutMilliseconds, tries } = hook
    const { signal } = this.#abort
    const environment = hookEnvironment(announcement)
    for (let left = tries; left > 0; left--) {
      this.#run += 1
      const result = await runCommand({ command, environment, timeoutMilliseconds }, signal)
      const about = { hook: command, event: announcement.event, id: announcement.id }
      if (result.kind === 'exited' && result.code === 0) {
        this.#logger.info(about, 'the hook after the event has run')
        return
      }
      if (signal.aborted) return
      this.#failed += 1
      this.#logger.error(
        { ...about, triesLeft: left - 1 },
        `the hook after the event failed: ${describeResult(result)}`,
      )
      if (this.#waiting.some((one) => one.hook === hook)) return
      if (left > 1) await pause(retryMilliseconds * (tries - left + 1), signal).catch(() => {})
    }
  }
}
