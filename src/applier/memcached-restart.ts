import { spawn } from 'node:child_process'
import type { Logger } from '../runtime/logger.ts'

/** Runs the configured command where memcached is away, one at a time and not too often. */
export class MemcachedRestart {
  readonly #command: string | undefined
  readonly #logger: Logger
  #running = false

  constructor(command: string | undefined, logger: Logger) {
    this.#command = command
    this.#logger = logger
  }

  run(): void {
    if (this.#command === undefined || this.#running) return
    this.#running = true
    this.#logger.warn({}, 'memcached is away: running the configured restart command')
    const child = spawn('/bin/sh', ['-c', this.#command], { stdio: 'ignore' })
    const again = (): void => {
      setTimeout(() => (this.#running = false), pauseMilliseconds).unref()
    }
    child.once('error', again)
    child.once('exit', again)
  }
}

const pauseMilliseconds = 10_000
