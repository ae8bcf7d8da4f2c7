import type { DumpRequest } from '../wire/memcached/request.ts'
import { answerWithoutNamespace } from './change.ts'
import type { Conversation } from './conversation.ts'
import { fail, refuse } from './dialects.ts'
import { namespaceItems } from './listed-items.ts'
import type { Reply } from './replies.ts'

/** A listing goes out in pieces of about this size. */
const pieceBytes = 64 * 1024

/**
 * `lru_crawler metadump` and `mgdump`: the live keys of the listener's namespace that this node's memcached holds. Keys that are
 * hashed there (DESIGN §4) can't be told and are left out.
 */
export function dump(conversation: Conversation, request: DumpRequest): void {
  const reply = conversation.begin(request.form)
  const { naming, services } = conversation
  if (services.listing === undefined || naming.bound === undefined) {
    refuse(reply, request.style === 'metadump' ? 'ERROR metadump not allowed' : 'ERROR key dump not allowed')
    return
  }
  if (naming.find('') === undefined) {
    answerWithoutNamespace(conversation, reply)
    return
  }
  void list(conversation, reply, request.style)
}

async function list(conversation: Conversation, reply: Reply, style: DumpRequest['style']): Promise<void> {
  try {
    for await (const { key, item } of namespaceItems(conversation)) {
      const shown = encodeKey(key)
      reply.add(style === 'mgdump' ? `mg ${shown}\r\n` : `key=${shown} ${item.details}\n`)
      if (reply.bytes < pieceBytes) continue
      reply.commit()
      if (conversation.closed) return
      if (conversation.blocked) await new Promise<void>((resolve) => conversation.whenWritable(resolve))
    }
    reply.add(style === 'mgdump' ? 'EN\r\n' : 'END\r\n')
    reply.finish()
  } catch (error) {
    if (reply.committed) conversation.abort()
    fail(reply, error)
  }
}

/** As memcached writes keys into listings. */
function encodeKey(key: string): string {
  return key.replace(
    /[^A-Za-z0-9\-._~]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  )
}
