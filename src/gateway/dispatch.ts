import { isLeaseToken, itemCasIsVersion } from '../domain/local-reads.ts'
import type { AnswerableRequest, ReplyForm, Request, RequestKey, StorageRequest } from '../wire/memcached/request.ts'
import { count } from './arithmetic.ts'
import type { Conversation } from './conversation.ts'
import { dialectOf, done, refuse } from './dialects.ts'
import { dump } from './dump.ts'
import { flush } from './flush.ts'
import { metaDebug, metaGet } from './meta-get.ts'
import type { Naming } from './naming.ts'
import { retrieve } from './retrieval.ts'
import { protocolVersion, stats } from './stats.ts'
import { invalidate, refuseOversize, remove, store, touch } from './storage.ts'

/**
 * What may be under way on a connection at the same time: reads among themselves, writes among themselves; `alone` nothing else;
 * `any` touches no item, so it goes with everything. So a `get` behind a `set` sees it, and a `set` behind a `get` is not seen by it.
 */
export type Company = 'read' | 'write' | 'alone' | 'any'

/** Larger lists of keys run alone: their values fill the memory that one client may have. */
const companionableKeysMax = 16

const companies: Readonly<Record<Request['kind'], Company>> = {
  retrieval: 'read',
  'meta-get': 'read',
  'meta-debug': 'read',
  storage: 'write',
  oversize: 'write',
  deletion: 'write',
  invalidation: 'write',
  touch: 'write',
  arithmetic: 'write',
  flush: 'write',
  stats: 'alone',
  dump: 'alone',
  version: 'any',
  verbosity: 'any',
  noop: 'any',
  refused: 'any',
  quit: 'any',
}

export function companyOf(request: Request, naming: Naming): Company {
  return isLonely(request) || asksDirectory(request, naming) ? 'alone' : companies[request.kind]
}

/**
 * Reads its item only once the directory has told the token, which takes a while: a read that was sent behind it would be made before it,
 * and the client would go back in time. (A binary GET answers with what it read at once: binary-get.ts.)
 */
function asksDirectory(request: Request, naming: Naming): boolean {
  if (request.kind === 'meta-get') return request.withCas && keepsNoVersions(request.key, naming)
  if (request.kind !== 'retrieval' || !request.withCas || request.form.dialect === 'binary') return false
  return keepsNoVersions(request.keys[0] ?? '', naming)
}

/** All namespaces of a node are in one memcached. */
function keepsNoVersions(key: RequestKey, naming: Naming): boolean {
  const namespace = naming.find(key)
  return namespace !== undefined && !itemCasIsVersion(namespace)
}

function isLonely(request: Request): boolean {
  switch (request.kind) {
    case 'retrieval':
      return request.touch !== undefined || request.keys.length > companionableKeysMax
    // What changes something by reading: two that ask for the same lease must not overtake each other.
    case 'meta-get':
      return request.touch !== undefined || request.vivify !== undefined || request.recacheBelow !== undefined
    // Looks at this node's memcached before it submits, or behind it: what comes later must not show.
    case 'storage':
      return holdsLeaseToken(request) || (isJoin(request) && returns(request.form, 's'))
    case 'deletion':
      return holdsLeaseToken(request)
    case 'arithmetic':
      return returns(request.form, 't')
    default:
      return false
  }
}

function holdsLeaseToken({ compare }: { readonly compare: bigint | undefined }): boolean {
  return compare !== undefined && isLeaseToken(compare)
}

function isJoin({ mode }: StorageRequest): boolean {
  return mode === 'append' || mode === 'prepend'
}

function returns(form: ReplyForm, flag: string): boolean {
  return form.dialect === 'meta' && form.flags.includes(flag)
}

/** Every request opens its reply before this returns. */
export function dispatch(conversation: Conversation, request: AnswerableRequest): void {
  switch (request.kind) {
    case 'retrieval':
      retrieve(conversation, request)
      break
    case 'meta-get':
      metaGet(conversation, request)
      break
    case 'meta-debug':
      metaDebug(conversation, request)
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
    case 'invalidation':
      invalidate(conversation, request)
      break
    case 'touch':
      touch(conversation, request)
      break
    case 'arithmetic':
      count(conversation, request)
      break
    case 'flush':
      flush(conversation, request)
      break
    case 'stats':
      stats(conversation, request)
      break
    case 'dump':
      dump(conversation, request)
      break
    default:
      answerAtOnce(conversation, request)
  }
}

type Immediate = Extract<AnswerableRequest, { kind: 'version' | 'verbosity' | 'noop' | 'refused' }>

function answerAtOnce(conversation: Conversation, request: Immediate): void {
  const reply = conversation.begin(request.form)
  switch (request.kind) {
    case 'version':
      dialectOf(reply).version(reply, protocolVersion)
      break
    case 'verbosity':
      done(reply)
      break
    case 'noop':
      dialectOf(reply).noop(reply)
      break
    case 'refused':
      refuse(reply, request.line, request.status)
      break
  }
}
