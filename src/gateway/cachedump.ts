import { itemBytes } from '../wire/memcached/item-size.ts'
import { strictUint32 } from '../wire/memcached/numbers.ts'
import type { Conversation, ListedItem } from './conversation.ts'
import { dialectOf, fail, refuse } from './dialects.ts'
import { namespaceItems } from './listed-items.ts'
import type { Reply } from './replies.ts'

/** The slab class under which a namespace's items are listed. */
export const onlyClass = 1

const classesMax = 64
/** memcached stops there too. */
const listingBytesMax = 2 * 1024 * 1024

/** `stats cachedump <class> <limit>`, which memcdump and the like ask for each class. */
export function cachedump(conversation: Conversation, reply: Reply, words: readonly string[]): void {
  if (conversation.services.listing === undefined || conversation.naming.find('') === undefined) {
    refuse(reply, 'CLIENT_ERROR stats cachedump not allowed')
    return
  }
  if (words.length < 2) {
    refuse(reply, 'CLIENT_ERROR bad command line')
    return
  }
  const slabClass = strictUint32(words[0] ?? '')
  const limit = strictUint32(words[1] ?? '')
  if (slabClass === undefined || limit === undefined) refuse(reply, 'CLIENT_ERROR bad command line format')
  else if (slabClass >= classesMax) refuse(reply, 'CLIENT_ERROR Illegal slab id')
  else if (slabClass !== onlyClass) dialectOf(reply).endStats(reply)
  else void list(conversation, reply, limit === 0 ? Infinity : limit)
}

async function list(conversation: Conversation, reply: Reply, limit: number): Promise<void> {
  let listed = 0
  try {
    for await (const { key, item } of namespaceItems(conversation)) {
      const line = `ITEM ${key} [${valueBytes(item)} b; ${expiry(item.details)} s]\r\n`
      if (listed === limit || reply.bytes + line.length > listingBytesMax || conversation.closed) break
      reply.add(line)
      listed++
    }
    reply.add('END\r\n')
    reply.finish()
  } catch (error) {
    fail(reply, error)
  }
}

/** 0 where it never expires, else Unix seconds. */
function expiry(details: string): number {
  return Math.max(0, Number(field(details, 'exp')))
}

/** memcached lists the whole item: what lies around the value is known (wire/memcached/item-size.ts). */
function valueBytes({ key, details }: ListedItem): number {
  const around = itemBytes(key.length, Number(field(details, 'flags')), 0)
  return Math.max(0, Number(field(details, 'size')) - around)
}

function field(details: string, name: string): string {
  return new RegExp(`(?:^| )${name}=(\\S+)`).exec(details)?.[1] ?? '0'
}
