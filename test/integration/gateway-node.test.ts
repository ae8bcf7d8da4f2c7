import * as fc from 'fast-check'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { memccapable } from '../support/client-suites.ts'
import { converse } from '../support/converse.ts'
import { newerMemcachedPath } from '../support/databases.ts'
import { dialogue, Memcached } from '../support/memcached.ts'
import { dialogues } from '../support/random-dialogues.ts'
import { normalized, parseTranscript, play } from '../support/transcripts.ts'
import { World } from '../support/world.ts'

const folder = join(import.meta.dirname, '../scenarios')
const scenes = ['text', 'meta'].flatMap((protocol) =>
  readdirSync(join(folder, protocol)).flatMap((name) =>
    parseTranscript(readFileSync(join(folder, protocol, name), 'utf8')).map((scene) => ({
      ...scene,
      title: `${protocol}/${name}: ${scene.title}`,
    })),
  ),
)

/** What a client sees of a whole node, over real databases: the same as of one memcached. */
describe.each([
  { name: 'memcached 1.6.18 behind it', memcachedPath: undefined },
  { name: 'memcached 1.6.45 behind it', memcachedPath: newerMemcachedPath },
])('a node with $name', ({ memcachedPath }) => {
  const missing = memcachedPath !== undefined && !existsSync(memcachedPath)
  let world: World
  beforeAll(async () => {
    if (missing) return
    world = await World.start({
      topology: 'single',
      nodes: 1,
      ...(memcachedPath === undefined ? {} : { memcachedPath }),
    })
  })
  afterAll(() => world?.remove())

  it.skipIf(missing).each(scenes)('holds the transcript $title', async (scene) => {
    const { main } = world.node(1).ports
    await dialogue(main, 'flush_all\r\n', /OK\r\n$/)
    const answer = await play(main, scene)
    expect(normalized(answer.reply)).toBe(normalized(scene.reply))
  })

  it.skipIf(missing || !existsSync(newerMemcachedPath))(
    'answers random dialogues byte for byte as memcached 1.6.45',
    async () => {
      const memcached = await Memcached.start(['-I', '1m'], newerMemcachedPath)
      const { main } = world.node(1).ports
      try {
        await fc.assert(
          fc.asyncProperty(dialogues, async (commands) => {
            for (const port of [memcached.port, main]) await dialogue(port, 'flush_all\r\n', /OK\r\n$/)
            const theirs = await converse(memcached.port, commands, (bytes) => [bytes])
            expect(await converse(main, commands, (bytes) => [bytes])).toEqual(theirs)
          }),
          { numRuns: 25 },
        )
      } finally {
        await memcached.stop()
      }
    },
  )

  it.skipIf(missing)("passes libmemcached's conformance suite for the text protocol whole: 27 of 27", async () => {
    const { passed, output } = await memccapable(world.node(1).ports.main, 'ascii')
    expect(passed, output).toBe(27)
    expect(output).toMatch(/All tests passed/)
  })

  it.skipIf(missing)("passes libmemcached's conformance suite for the binary protocol whole: 27 of 27", async () => {
    const { passed, output } = await memccapable(world.node(1).ports.main, 'binary')
    expect(passed, output).toBe(27)
    expect(output).toMatch(/All tests passed/)
  })

  it.skipIf(missing)(
    'keeps an item of one second for about one second, in whatever part of a second it is stored',
    async () => {
      const { main } = world.node(1).ports
      const present = async (keys: readonly string[]): Promise<number> => {
        const reply = await dialogue(main, `get ${keys.join(' ')}\r\n`, /END\r\n$/)
        return reply.split('VALUE').length - 1
      }
      const keys = Array.from({ length: 20 }, (_none, index) => `second-${index}`)
      let found = 0
      for (const key of keys) {
        await dialogue(main, `set ${key} 0 1 1\r\nx\r\n`, /STORED\r\n$/)
        found += await present([key])
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      // memcached counts its own ticks: one that comes in between ends an item at once.
      expect(found).toBeGreaterThanOrEqual(keys.length - 2)
      await new Promise((resolve) => setTimeout(resolve, 1200))
      expect(await present(keys)).toBe(0)
    },
  )

  it.skipIf(missing)("tells in stats of the namespace's items and of its memcached's memory", async () => {
    const { main } = world.node(1).ports
    await dialogue(main, 'flush_all\r\n', /OK\r\n$/)
    const reply = await dialogue(main, 'stats\r\n', /END\r\n$/)
    for (const name of ['evictions', 'reclaimed', 'get_expired', 'store_no_memory'])
      expect(reply).toMatch(new RegExp(`^STAT ${name} \\d+\r$`, 'm'))
    expect(reply).toContain('STAT limit_maxbytes 67108864\r\n')
  })

  it.skipIf(missing)('lists the keys of its namespace alone, as memcdump asks for them', async () => {
    const { main, sessions } = world.node(1).ports
    await dialogue(main, 'flush_all\r\n', /OK\r\n$/)
    await dialogue(main, 'set ours 0 0 1\r\n1\r\n', /STORED\r\n$/)
    await dialogue(sessions, 'set theirs 0 0 1\r\n1\r\n', /STORED\r\n$/)
    expect(await dialogue(main, 'stats cachedump 1 0\r\n', /END\r\n$/)).toBe('ITEM ours [1 b; 0 s]\r\nEND\r\n')
    expect(await dialogue(main, 'lru_crawler metadump all\r\n', /END\r\n$/)).toMatch(
      /^key=ours exp=-1 la=\d+ .*\nEND\r\n$/,
    )
    expect(await dialogue(sessions, 'lru_crawler mgdump hash\r\n', /EN\r\n$/)).toBe('mg theirs\r\nEN\r\n')
  })
})
