import { strictUint32 } from './numbers.ts'
import { type Request, refused, type TextForm } from './request.ts'

/**
 * Commands for whoever runs a memcached. A node's memcached serves all namespaces and belongs to the node alone, so a client may list
 * the keys of its namespace and change nothing: refused in memcached's own words for what is switched off or can't be done
 * (docs/PROTOCOL.md).
 */
export const adminCommands: readonly [name: string, (words: readonly string[], form: TextForm) => Request][] = [
  ['shutdown', (_words, form) => refused('SERVER_ERROR: shutdown not enabled', form)],
  ['watch', () => refused('CLIENT_ERROR watch commands not allowed')],
  ['cache_memlimit', memoryLimit],
  ['lru_crawler', crawler],
  ['lru', (_words, form) => refused('ERROR', form)],
  ['slabs', slabs],
]

function memoryLimit(words: readonly string[], form: TextForm): Request {
  const megabytes = strictUint32(words[1] ?? '')
  if (megabytes === undefined) return refused('ERROR', form)
  if (megabytes < 8) return refused('MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m', form)
  if (megabytes > 1_000_000_000) return refused('MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes', form)
  return refused('MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust', form)
}

/** Sub-commands may be cut short, as memcached's comparison has it. */
function crawler(words: readonly string[], form: TextForm): Request {
  const [, sub = '', argument] = words
  if (words.length === 2) {
    if ('enable'.startsWith(sub)) return refused('ERROR failed to start lru crawler thread', form)
    if ('disable'.startsWith(sub)) return refused('ERROR failed to stop lru crawler thread', form)
    return refused('ERROR', form)
  }
  if (words.length !== 3) return refused('ERROR', form)
  if ('crawl'.startsWith(sub)) return refused('CLIENT_ERROR lru crawler disabled', form)
  const style = (['metadump', 'mgdump'] as const).find((one) => one.startsWith(sub))
  if (style !== undefined) return dump(style, argument ?? '', form)
  if ('tocrawl'.startsWith(sub) || 'sleep'.startsWith(sub)) return refused('CLIENT_ERROR lru crawler disabled', form)
  return refused('ERROR', form)
}

/** Of slab classes a client can know nothing: they hold all namespaces. */
function dump(style: 'metadump' | 'mgdump', what: string, form: TextForm): Request {
  if (what !== 'all' && what !== 'hash') return refused('BADCLASS invalid class id', form)
  return { kind: 'dump', style, form }
}

function slabs(words: readonly string[], form: TextForm): Request {
  const [, sub = ''] = words
  if (words.length === 4 && 'reassign'.startsWith(sub)) {
    return refused('CLIENT_ERROR slab reassignment disabled', form)
  }
  if (words.length >= 3 && 'automove'.startsWith(sub)) return refused('CLIENT_ERROR slab reassignment disabled', form)
  return refused('ERROR', form)
}
