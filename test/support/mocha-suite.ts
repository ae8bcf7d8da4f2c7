import { createRequire } from 'node:module'
import { chai, describe, it } from 'vitest'

type Done = (error?: unknown) => void
type Step = (this: { timeout(milliseconds: number): void }, done: Done) => void

const require = createRequire(import.meta.url)

/**
 * Declares the tests of a file written for mocha (`describe`, `it` with a callback, `should`) as vitest's own.
 *
 * @param given.replaced modules, by path, that the file is to get instead of its own: where the servers are
 */
export function declareMochaSuite(file: string, given: { readonly replaced: ReadonlyMap<string, unknown> }): void {
  for (const [path, exports] of given.replaced) {
    const id = require.resolve(path)
    const replaced: Partial<NodeJS.Module> = { id, filename: id, loaded: true, exports, children: [], paths: [] }
    require.cache[id] = replaced as NodeJS.Module
  }
  chai.should()
  Object.assign(globalThis, { describe, it: declare })
  require(file)
}

function declare(name: string, step: Step): void {
  it(name, () => {
    return new Promise<void>((resolve, reject) => {
      // What a callback throws later is the worker's uncaught error, which fails the run.
      step.call({ timeout: () => {} }, (error) => {
        if (error === undefined || error === null) resolve()
        else reject(error instanceof Error ? error : new Error(JSON.stringify(error)))
      })
    })
  })
}
