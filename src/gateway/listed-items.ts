import { WhiteholeError } from '../domain/errors.ts'
import { isLive } from '../domain/local-reads.ts'
import type { Conversation, ListedItem } from './conversation.ts'

export interface NamedItem {
  readonly key: string
  readonly item: ListedItem
}

/** What this node's memcached holds of the bound namespace, under the client's own keys. */
export async function* namespaceItems(conversation: Conversation): AsyncGenerator<NamedItem> {
  const { naming, services } = conversation
  if (!services.reads.servingItself) throw new WhiteholeError('not-serving', 'the contents are not to be trusted')
  const prefix = `${naming.bound ?? ''}:`
  for await (const items of services.listing?.() ?? []) {
    for (const item of items) {
      if (!item.key.startsWith(prefix) || item.key[prefix.length] === '~') continue
      const namespace = naming.find('')
      if (namespace !== undefined && isLive(item, namespace)) yield { key: item.key.slice(prefix.length), item }
    }
  }
}
