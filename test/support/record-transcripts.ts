/**
 * Writes the replies of a real memcached 1.6.45 into transcript files: `tsx test/support/record-transcripts.ts FILE …`. Scenes that
 * differ on purpose (`!`) are left as they stand.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { newerMemcachedPath } from './databases.ts'
import { dialogue, Memcached } from './memcached.ts'
import { formatScene, normalized, parseTranscript, play } from './transcripts.ts'

const memcached = await Memcached.start(['-I', '1m'], newerMemcachedPath)
for (const path of process.argv.slice(2)) {
  const text = await readFile(path, 'utf8')
  const scenes: string[] = []
  for (const scene of parseTranscript(text)) {
    await dialogue(memcached.port, 'flush_all\r\n', /OK\r\n$/)
    const reply = scene.notLike145 === undefined ? normalized((await play(memcached.port, scene)).reply) : scene.reply
    scenes.push(formatScene({ ...scene, reply }))
  }
  await writeFile(path, `${text.slice(0, text.indexOf('== '))}${scenes.join('\n')}`)
}
await memcached.stop()
