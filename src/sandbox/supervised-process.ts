import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { removeIdentity, writeIdentity } from './process-identity.ts'
import { lookUp } from './programs.ts'
import { rotate } from './rotate.ts'

export interface ProcessSpec {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  /** More of them, asked at each start. */
  readonly argsAtStart?: () => readonly string[]
  /** Its own folder: pid files and output go there. */
  readonly folder: string
  /** After SIGTERM; then it is killed. */
  readonly stopSeconds: number
  readonly environment?: NodeJS.ProcessEnv
  /** Before it is started again, asked when it has ended by itself; half a second if it is not given. */
  readonly restartMilliseconds?: () => number
}

/**
 * ```
 * down ──start──▶ running ──ends by itself──▶ waiting ──back-off over──▶ running
 *   ▲                │ stop, kill                │ stop, kill
 *   └────────────────┴───────────────────────────┘
 * ```
 */
export type ProcessState = 'running' | 'waiting' | 'down'

const restartMillisecondsDefault = 500
const restartMostMilliseconds = 10_000
/** Having run for so long, it was not its start that failed: whoever kills it again and again finds it started again as soon. */
const startedMilliseconds = 3000

/** One program of the sandbox, kept running until it is told otherwise, in a session of its own (a Ctrl-C does not reach it). */
export class SupervisedProcess {
  readonly spec: ProcessSpec
  readonly #onChange: (process: SupervisedProcess, what: string) => void
  #state: ProcessState = 'down'
  #child: ChildProcess | undefined
  #timer: NodeJS.Timeout | undefined
  /** In a row. */
  #failedStarts = 0
  #startedAt = 0
  #exited: Promise<void> = Promise.resolve()
  #ends = 0

  /** @param onChange told of each transition, with words for people */
  constructor(spec: ProcessSpec, onChange: (process: SupervisedProcess, what: string) => void) {
    this.spec = spec
    this.#onChange = onChange
  }

  get state(): ProcessState {
    return this.#state
  }

  get pid(): number | undefined {
    return this.#state === 'running' ? this.#child?.pid : undefined
  }

  /** How often it ended without being told to. */
  get ends(): number {
    return this.#ends
  }

  get logFile(): string {
    return join(this.spec.folder, 'log')
  }

  start(): void {
    if (this.#state === 'running') return
    clearTimeout(this.#timer)
    this.#failedStarts = 0
    this.#launch()
  }

  /** Ends it and keeps it down. SIGKILL at once, or SIGTERM with SIGKILL after `stopSeconds`. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    clearTimeout(this.#timer)
    const wasUp = this.#state !== 'down'
    this.#state = 'down'
    const child = this.#child
    if (child === undefined) {
      if (wasUp) this.#onChange(this, 'stopped')
      return
    }
    child.kill(signal)
    // A stopped process (SIGSTOP) takes its SIGTERM only once it runs again.
    if (signal === 'SIGTERM') child.kill('SIGCONT')
    const killer = setTimeout(() => child.kill('SIGKILL'), this.spec.stopSeconds * 1000)
    await this.#exited
    clearTimeout(killer)
    if (wasUp) this.#onChange(this, signal === 'SIGKILL' ? 'killed' : 'stopped')
  }

  #launch(): void {
    mkdirSync(this.spec.folder, { recursive: true, mode: 0o700 })
    rotate(this.logFile)
    const log = openSync(this.logFile, 'a', 0o600)
    const setpriv = lookUp('setpriv')
    const line = [this.spec.command, ...this.spec.args, ...(this.spec.argsAtStart?.() ?? [])]
    // The kernel kills it should this process be killed, so that nothing is left behind; a database's crash loses nothing.
    const [command = '', ...args] = setpriv === undefined ? line : [setpriv, '--pdeathsig', 'KILL', ...line]
    const child = spawn(command, args, {
      detached: true,
      stdio: ['ignore', log, log],
      cwd: this.spec.folder,
      env: this.spec.environment ?? process.env,
    })
    closeSync(log)
    this.#child = child
    this.#startedAt = performance.now()
    this.#state = 'running'
    this.#exited = new Promise((resolve) => {
      child.once('error', (error) => this.#onEnd(child, error.message, resolve))
      child.once('exit', (code, signal) => this.#onEnd(child, signal ?? `exit code ${code}`, resolve))
    })
    if (child.pid !== undefined) writeIdentity(this.spec.folder, child.pid)
    this.#onChange(this, 'started')
  }

  #onEnd(child: ChildProcess, how: string, done: () => void): void {
    if (this.#child !== child) return
    this.#child = undefined
    removeIdentity(this.spec.folder)
    done()
    if (this.#state === 'down') return
    this.#ends++
    this.#state = 'waiting'
    const failed = performance.now() - this.#startedAt < startedMilliseconds
    this.#failedStarts = failed ? this.#failedStarts + 1 : 0
    const first = this.spec.restartMilliseconds?.() ?? restartMillisecondsDefault
    const milliseconds = Math.min(first * 2 ** Math.max(0, this.#failedStarts - 1), restartMostMilliseconds)
    this.#onChange(this, `ended by itself (${how}), starting it again in ${milliseconds} ms; see ${this.logFile}`)
    this.#timer = setTimeout(() => this.#launch(), milliseconds)
  }
}
