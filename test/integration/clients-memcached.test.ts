import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe } from 'vitest'
import { declareMochaSuite } from '../support/mocha-suite.ts'
import { World } from '../support/world.ts'

/**
 * The npm client `memcached` with the tests that it brings along, unchanged. Left out are those of its parser and its connections, which
 * want no server or one that isn't there.
 */
const folder = join(dirname(createRequire(import.meta.url).resolve('memcached')), 'test')
const servers = { single: '', multi: ['', '', ''] }
const letters = (count: number): string =>
  Array.from({ length: count }, () => String.fromCharCode(97 + Math.floor(Math.random() * 26))).join('')
const common = { servers, alphabet: letters, numbers: (count: number) => Math.floor(Math.random() * 26 * count) }

describe('the npm client memcached', () => {
  let world: World
  beforeAll(async () => {
    world = await World.start({ topology: 'single', nodes: 2 })
    const [first, second] = [world.node(1).ports, world.node(2).ports]
    servers.single = `127.0.0.1:${first.main}`
    servers.multi = [first.main, second.main, second.sessions].map((port) => `127.0.0.1:${port}`)
  })
  afterAll(() => world?.remove())

  for (const name of ['add', 'cas', 'get-set', 'incr-decr', 'namespace', 'touch']) {
    describe(name, () => {
      declareMochaSuite(join(folder, `memcached-${name}.test.js`), {
        replaced: new Map([[join(folder, 'common.js'), common]]),
      })
    })
  }
})
