import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'

/** One JSON value in a file that is whole and on disk after each `save`, also after a power cut. */
export class DurableFile<T> {
  readonly #path: string
  readonly #parse: (value: unknown) => T

  /** @param parse throws on what it never wrote */
  constructor(path: string, parse: (value: unknown) => T) {
    this.#path = path
    this.#parse = parse
  }

  /** Undefined where there is none. @throws where it is there and can't be read: never taken for none */
  async load(): Promise<T | undefined> {
    let text: string
    try {
      text = await readFile(this.#path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
    try {
      return this.#parse(JSON.parse(text))
    } catch (cause) {
      throw new Error(`${this.#path} is damaged`, { cause })
    }
  }

  /** Not for two at a time. */
  async save(value: T): Promise<void> {
    const folder = dirname(this.#path)
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const next = `${this.#path}.next`
    const file = await open(next, 'w', 0o600)
    try {
      await file.writeFile(JSON.stringify(value))
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(next, this.#path)
    // The new name too.
    const directory = await open(folder, 'r')
    try {
      await directory.sync()
    } finally {
      await directory.close()
    }
  }
}
