// The npm client `memjs` (binary protocol) against a node.
import memjs from 'memjs'

const say = (...words) => process.stdout.write(`${words.join(' ')}\n`)
const client = memjs.Client.create(process.env.MEMCACHED ?? '127.0.0.1:11211', { retries: 1, timeout: 5 })
await client.set('greeting', 'hello', { expires: 600 })
say('greeting:', (await client.get('greeting')).value)
say('second add:', await client.add('once', 'a', {}), await client.add('once', 'b', {}))
const first = await client.increment('visits', 1, { initial: 41 })
const second = await client.increment('visits', 1, {})
say('visits:', first.value, second.value)
client.close()
