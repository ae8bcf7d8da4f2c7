import { setTimeout as sleep } from 'node:timers/promises'
import type { DatabaseLink } from './database-link.ts'

const tickMilliseconds = 500

/** The one database of a `single` topology starts read-only, as every managed one does, and is made writable whenever it is not. */
export class SingleKeeper {
  readonly #link: DatabaseLink
  readonly #report: (message: string) => void
  readonly #stopping = new AbortController()
  #loop: Promise<void> | undefined
  #writable = false

  constructor(link: DatabaseLink, report: (message: string) => void) {
    this.#link = link
    this.#report = report
  }

  get settledPrimary(): string | undefined {
    return this.#writable ? this.#link.name : undefined
  }

  start(): void {
    this.#loop = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#loop
  }

  async #run(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      this.#writable = await this.#tick().catch(() => false)
      await sleep(tickMilliseconds, undefined, { signal: this.#stopping.signal }).catch(() => {})
    }
  }

  async #tick(): Promise<boolean> {
    const { readOnly } = await this.#link.view()
    if (readOnly) {
      await this.#link.makeWritable()
      this.#report(`${this.#link.name} is the primary`)
    }
    return true
  }
}
