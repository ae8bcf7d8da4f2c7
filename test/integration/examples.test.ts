import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { World } from '../support/world.ts'

const run = promisify(execFile)
const examples = fileURLToPath(new URL('../../examples', import.meta.url))

/** With whether their package is there: scripts/setup.sh --test installs it as root. */
const packages = {
  'php-memcached': existsSync('/usr/bin/php') && existsSync('/usr/share/doc/php-memcached'),
  'python3-django': existsSync('/usr/lib/python3/dist-packages/django'),
  'python3-pymemcache': existsSync('/usr/lib/python3/dist-packages/pymemcache'),
  'libcache-memcached-fast-perl': existsSync('/usr/share/doc/libcache-memcached-fast-perl'),
}
const required = process.env['WHITEHOLE_REQUIRE_ENGINES'] !== undefined

/** Skipped with a word where one of them is missing, save where everything is required. */
function lacks(...wanted: (keyof typeof packages)[]): boolean {
  const missing = wanted.filter((name) => !packages[name])
  if (missing.length > 0) console.warn(`an example is not run: ${missing.join(', ')} is not installed`)
  return missing.length > 0 && !required
}

describe('the examples for clients run as they stand', () => {
  let world: World
  beforeAll(async () => {
    world = await World.start({ topology: 'single', nodes: 2 })
  })
  afterAll(() => world?.remove())

  const example = async (node: number, command: string, ...args: string[]): Promise<string[]> => {
    const env = {
      PATH: process.env['PATH'],
      MEMCACHED: `127.0.0.1:${world.node(node).ports.main}`,
      MARIADB_OPTIONS: `--no-defaults --user=root --socket=${world.primary.socket}`,
    }
    const { stdout } = await run(command, args, { cwd: examples, env, timeout: 30_000 })
    return stdout.trimEnd().split('\n')
  }

  test.skipIf(lacks('php-memcached'))('PHP keeps a session that is opened through one node and the other', async () => {
    expect(await example(1, '/usr/bin/php', 'php/session.php')).toEqual(['visits: 1'])
    expect(await example(2, '/usr/bin/php', 'php/session.php')).toEqual(['visits: 2'])
    expect(await example(1, '/usr/bin/php', 'php/session.php')).toEqual(['visits: 3'])
    // Two at a time: the session's lock is the cluster's.
    await Promise.all([1, 2, 1, 2].map((node) => example(node, '/usr/bin/php', 'php/session.php')))
    expect(await example(1, '/usr/bin/php', 'php/session.php')).toEqual(['visits: 8'])
  })

  test.skipIf(lacks('php-memcached'))('PHP compares and sets, and counts', async () => {
    expect(await example(1, '/usr/bin/php', 'php/cache.php')).toEqual(['121 words, read 1 times'])
    expect(await example(2, '/usr/bin/php', 'php/cache.php')).toEqual(['121 words, read 2 times'])
  })

  test.skipIf(lacks('python3-django', 'python3-pymemcache'))(
    "Django's cache framework and its sessions work, and clear one namespace alone",
    async () => {
      expect(await example(1, '/usr/bin/python3', 'python/django_cache.py')).toEqual([
        'added: True False',
        "many: [('a', 1), ('b', {'deep': [1, 2, 3]})]",
        'hits: 42',
        'computed: <h1>hello</h1>',
        'deleted: True gone',
        'session: golan',
        'cleared: None',
      ])
    },
  )

  test.skipIf(lacks('python3-pymemcache'))('a cache write shares the fate of its SQL transaction', async () => {
    expect(await example(2, '/usr/bin/python3', 'python/with_transaction.py')).toEqual([
      'rolled back: None',
      'committed: {"price": 130} database: 130',
    ])
  })

  test('Node uses it with memjs', async () => {
    expect(await example(1, process.execPath, 'node/cache.mjs')).toEqual([
      'greeting: hello',
      'second add: true false',
      'visits: 41 42',
    ])
  })

  test.skipIf(lacks('libcache-memcached-fast-perl'))('Perl counts down, compares and sets', async () => {
    expect(await example(2, '/usr/bin/perl', 'perl/cache.pl')).toEqual([
      'title: BLACKHOLE',
      'stock: 7',
      'cas: 1, then refused',
      'deleted: 1',
    ])
  })
})
