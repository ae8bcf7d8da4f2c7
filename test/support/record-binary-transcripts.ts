/**
 * Writes the replies of a real memcached 1.6.45 into binary transcript files: `tsx test/support/record-binary-transcripts.ts FILE …`. Scenes
 * that differ on purpose (`!`) are left as they stand. With `--old`, only says where 1.6.18 differs.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { formatBinaryScene, parseBinaryTranscript, playBinary } from './binary-transcripts.ts'
import { newerMemcachedPath } from './databases.ts'
import { dialogue, Memcached } from './memcached.ts'

const old = process.argv.includes('--old')
const memcached = await Memcached.start(['-I', '1m'], old ? '/usr/bin/memcached' : newerMemcachedPath)
for (const path of process.argv.slice(2).filter((argument) => argument !== '--old')) {
  const text = await readFile(path, 'utf8')
  const scenes: string[] = []
  for (const scene of parseBinaryTranscript(text)) {
    await dialogue(memcached.port, 'flush_all\r\n', /OK\r\n$/)
    const replies = scene.notLike145 === undefined ? await playBinary(memcached.port, scene) : scene.replies
    if (old && scene.notLike118 === undefined && replies.join('\n') !== scene.replies.join('\n')) {
      console.log(`${path}: ${scene.title}\n${replies.join('\n')}`)
    }
    scenes.push(formatBinaryScene({ ...scene, replies }))
  }
  if (!old) await writeFile(path, `${text.slice(0, text.search(/^== /m))}${scenes.join('\n')}`)
}
await memcached.stop()
