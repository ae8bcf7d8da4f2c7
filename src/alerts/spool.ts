import { readFileSync } from 'node:fs'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { describeError } from '../domain/errors.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Queued } from './delivery-queue.ts'

/**
 * What waits in a queue, on disk, one JSON line an item: a monitor that dies after a takeover still tells of it when it is back. Written
 * whole and renamed into place, one writing at a time, the newest state last. Not synced: it survives the process, and after a
 * power cut a few announcements may come twice, or not from this monitor.
 */
export class Spool<T> {
  readonly #file: string
  readonly #logger: Logger
  #next: readonly Queued<T>[] | undefined
  #writing: Promise<void> | undefined

  constructor(file: string, logger: Logger) {
    this.#file = file
    this.#logger = logger
  }

  /** What can't be read is left out: an announcement is not worth a monitor that does not start. */
  load(): readonly Queued<T>[] {
    let text: string
    try {
      text = readFileSync(this.#file, 'utf8')
    } catch {
      return []
    }
    return text.split('\n').flatMap((line) => parseLine<T>(line))
  }

  keep(items: readonly Queued<T>[]): void {
    this.#next = [...items]
    this.#wake()
  }

  async close(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing
  }

  #wake(): void {
    if (this.#next === undefined) return
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined
      // Something may have come between its last look and now.
      this.#wake()
    })
  }

  async #write(): Promise<void> {
    while (this.#next !== undefined) {
      const text = this.#next.map((item) => `${JSON.stringify(item)}\n`).join('')
      this.#next = undefined
      try {
        await mkdir(dirname(this.#file), { recursive: true, mode: 0o700 })
        await writeFile(`${this.#file}.new`, text, { mode: 0o600 })
        await rename(`${this.#file}.new`, this.#file)
      } catch (error) {
        this.#logger.warn(
          { file: this.#file, error: describeError(error) },
          'what waits to be announced is in memory alone',
        )
      }
    }
  }
}

function parseLine<T>(line: string): Queued<T>[] {
  try {
    const { since, item } = JSON.parse(line) as Partial<Queued<T>>
    return typeof since === 'number' && item !== undefined ? [{ since, item }] : []
  } catch {
    return []
  }
}
