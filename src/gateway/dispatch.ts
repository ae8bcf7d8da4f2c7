import type { Request } from '../wire/memcached/request.ts'
import { notSupported } from '../wire/memcached/text-commands.ts'
import type { Conversation } from './conversation.ts'
import { flush } from './flush.ts'
import { retrieve } from './retrieval.ts'
import { protocolVersion, stats } from './stats.ts'
import { refuseOversize, remove, store, touch } from './storage.ts'

/**
 * What may be under way on a connection at the same time: reads among themselves, writes among themselves; `alone` nothing else;
 * `any` touches no item, so it goes with everything. So a `get` behind a `set` sees it, and a `set` behind a `get` is not seen by it.
 */
export type Company = 'read' | 'write' | 'alone' | 'any'

/** Larger lists of keys run alone: their values fill the memory that one client may have. */
const companionableKeysMax = 16

const companies: Readonly<Record<Exclude<Request['kind'], 'retrieval'>, Company>> = {
  storage: 'write',
  oversize: 'write',
  deletion: 'write',
  touch: 'write',
  arithmetic: 'write',
  flush: 'write',
  stats: 'alone',
  version: 'any',
  verbosity: 'any',
  noop: 'any',
  refused: 'any',
  quit: 'any',
}

export function companyOf(request: Request): Company {
  if (request.kind !== 'retrieval') return companies[request.kind]
  return request.touch !== undefined || request.keys.length > companionableKeysMax ? 'alone' : 'read'
}

/** Every request opens its reply before this returns. */
export function dispatch(conversation: Conversation, request: Exclude<Request, { kind: 'quit' }>): void {
  switch (request.kind) {
    case 'retrieval':
      retrieve(conversation, request)
      break
    case 'storage':
      store(conversation, request)
      break
    case 'oversize':
      refuseOversize(conversation, request)
      break
    case 'deletion':
      remove(conversation, request)
      break
    case 'touch':
      touch(conversation, request)
      break
    case 'arithmetic':
      conversation.begin(request.form).answer(notSupported(request.direction))
      break
    case 'flush':
      flush(conversation, request)
      break
    case 'stats':
      stats(conversation, request)
      break
    case 'version':
      conversation.begin(request.form).answer(`VERSION ${protocolVersion}`)
      break
    case 'verbosity':
      conversation.begin(request.form).answer('OK')
      break
    case 'noop':
      conversation.begin(request.form).answer('MN')
      break
    case 'refused':
      conversation.begin(request.form).answer(request.line)
      break
  }
}
