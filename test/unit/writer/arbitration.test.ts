import { describe, expect, it } from 'vitest'
import { WhiteholeError } from '../../../src/domain/errors.ts'
import { composeItemKey, type ItemKey, keyFromText } from '../../../src/domain/key.ts'
import type { CachedItem, ExaminedItem, LocalReads } from '../../../src/domain/local-reads.ts'
import type { KeyMutation, Mutation, Outcome, SetMutation } from '../../../src/domain/mutation.ts'
import type { Concatenation } from '../../../src/domain/mutations.ts'
import type { CataloguedNamespace } from '../../../src/domain/namespaces.ts'
import type { PeerAnswer } from '../../../src/domain/peer-reads.ts'
import { composeVersion, type Version } from '../../../src/domain/version.ts'
import { Arbitration } from '../../../src/writer/arbitration.ts'
import type { BatchKey, DirectoryRow } from '../../../src/writer/decision.ts'
import { decide } from '../../../src/writer/decide.ts'

const generation = 3
const key = keyFromText('k')

function itemOf(version: Version, text: string, flags = '0'): CachedItem {
  return {
    casHigh: Number(version >> 33n),
    casLow: Number(version & (2n ** 33n - 1n)),
    flags,
    value: Buffer.from(text),
  }
}

/**
 * A primary that decides as the real one does, and this node's memcached. What is decided is applied here at the same moment;
 * answers come a turn of the event loop later.
 */
class OneNode {
  readonly rows = new Map<string, DirectoryRow>()
  readonly items = new Map<ItemKey, CachedItem>()
  readonly submitted: Mutation[] = []
  readonly order: string[] = []
  /** What each look at memcached finds first; the test spoils it. */
  beforeFetch: () => void = () => {}
  beforeDecision: (mutation: KeyMutation) => void = () => {}
  peer: () => PeerAnswer | Error = () => ({ kind: 'gone' })
  peersAsked: Version[] = []
  serving = true
  fetches = 0
  /** An old memcached: its CAS is a counter. */
  counting = false
  leased = false
  #cas = 10

  get namespace(): CataloguedNamespace {
    return { id: 1, name: 'one', generation, watermark: this.counting ? 5 : undefined, flushDue: 0 }
  }

  readonly reads: LocalReads = ((node: OneNode): LocalReads => ({
    get serving() {
      return node.serving
    },
    get servingItself() {
      return node.serving
    },
    fetch: (itemKey, sink) => {
      node.fetches += 1
      setImmediate(() => {
        node.beforeFetch()
        sink(node.items.get(itemKey))
      })
    },
    examine: async (_id, itemKey) => {
      const item = node.items.get(itemKey)
      return item === undefined ? undefined : ({ ...item, won: false, leased: node.leased } as ExaminedItem)
    },
    describe: async () => undefined,
    statistics: async () => new Map(),
  }))(this)

  session(writeTimeoutMilliseconds = 1000) {
    return new Arbitration({
      mutations: { openSession: () => ({ submit: (mutation) => this.#submit(mutation), close: () => {} }) },
      reads: this.reads,
      namespaces: { byId: () => this.namespace, byName: () => this.namespace, all: () => [this.namespace] },
      peers: {
        find: async (_namespace, _key, version) => {
          this.peersAsked.push(version)
          const answer = this.peer()
          if (answer instanceof Error) throw answer
          return answer
        },
      },
      directory: {
        versions: async (_id, keys) => keys.map((one) => this.rows.get(`1:${one}`)?.version),
        figures: async () => ({ keys: 0, bytes: 0 }),
      },
      writeTimeoutMilliseconds,
    }).openSession()
  }

  put(text: string, given: { evicted?: boolean; number?: bigint; flags?: bigint } = {}): Version {
    this.decide({ kind: 'set', namespaceId: 1, key, value: Buffer.from(text), flags: given.flags ?? 0n, exptime: 0 })
    if (given.evicted === true) this.evict()
    return this.rows.get('1:k')?.version as Version
  }

  evict(): void {
    this.items.clear()
  }

  text(): string | undefined {
    return this.items.get(composeItemKey('one', key))?.value.toString()
  }

  decide(mutation: KeyMutation): Outcome {
    const batchKey: BatchKey = { id: `1:${mutation.key}`, namespaceId: 1, key: mutation.key, hex: '' }
    const namespaces = new Map([[1, { generation, defaultTtlSeconds: 0, maxTtlSeconds: 0, maxValueBytes: 0 }]])
    const facts = { nowSeconds: 1_700_000_000, namespaces, rows: this.rows, unread: new Set<string>() }
    const decision = decide([{ mutation, key: batchKey, session: undefined }], facts, Math.random)
    for (const row of [...decision.inserts, ...decision.updates]) this.rows.set(row.key.id, row)
    for (const { operation, version, flags, value } of decision.log) {
      const itemKey = composeItemKey('one', mutation.key)
      if (operation === 2) this.items.delete(itemKey)
      if (operation !== 1 || value === undefined) continue
      const item = itemOf(version, value.toString(), String(flags))
      this.items.set(itemKey, this.counting ? { ...item, casHigh: 0, casLow: ++this.#cas } : item)
    }
    const [result] = decision.results
    if (result === undefined || result instanceof WhiteholeError) throw result ?? new Error('nothing decided')
    return result
  }

  async #submit(mutation: Mutation): Promise<Outcome> {
    this.submitted.push(mutation)
    if (mutation.kind === 'flush') throw new Error('not here')
    this.order.push(`${mutation.kind} ${mutation.key}`)
    this.beforeDecision(mutation)
    const outcome = this.decide(mutation)
    await new Promise(setImmediate)
    return outcome
  }
}

const set = (text: string, given: Partial<SetMutation> = {}): SetMutation => ({
  kind: 'set',
  namespaceId: 1,
  key,
  value: Buffer.from(text),
  flags: 0n,
  exptime: 0,
  ...given,
})
const add = (text = 'new'): SetMutation => set(text, { mode: 'add' })
const increment = { kind: 'arithmetic', namespaceId: 1, key, direction: 'incr', delta: 1n } as const

describe('a refusal', () => {
  it('over an item that is here stands: one local read, no question to peers', async () => {
    const node = new OneNode()
    const version = node.put('old')
    expect(await node.session().submit(add())).toEqual({ kind: 'not-stored', version })
    expect({ fetches: node.fetches, asked: node.peersAsked, submitted: node.submitted.length }).toEqual({
      fetches: 1,
      asked: [],
      submitted: 1,
    })
  })

  it('is the only outcome that is looked at again', async () => {
    const node = new OneNode()
    const session = node.session()
    await session.submit(add('5'))
    node.evict()
    await session.submit(set('5'))
    node.evict()
    await session.submit(set('5', { mode: 'replace' }))
    node.evict()
    await session.submit(increment)
    node.evict()
    await session.submit({ kind: 'touch', namespaceId: 1, key, exptime: 0 })
    await session.submit({ kind: 'delete', namespaceId: 1, key })
    await session.submit(set('5', { mode: 'replace' }))
    await session.submit(set('5', { compare: 1n }))
    await session.submit(increment)
    expect(node.fetches).toBe(0)
  })

  it.each([
    ['holds the item', (): PeerAnswer => ({ kind: 'held', item: itemOf(composeVersion(3, 0.5), 'old') })],
    ['is silent', (): PeerAnswer => ({ kind: 'unknown' })],
    ['can’t be asked', () => new Error('no peer')],
  ])('over an item evicted here stands while a peer %s (R16)', async (_, peer) => {
    const node = new OneNode()
    const version = node.put('lock', { evicted: true })
    node.peer = peer
    expect(await node.session().submit(add())).toEqual({ kind: 'not-stored', version })
    expect(node.peersAsked).toEqual([version])
    expect(node.submitted).toHaveLength(1)
  })

  it('over an item evicted everywhere does not: it is decided again, naming the dead version', async () => {
    const node = new OneNode()
    const version = node.put('old', { evicted: true })
    const session = node.session()
    expect(await session.submit(add())).toMatchObject({ kind: 'stored' })
    expect(node.submitted.at(-1)).toMatchObject({ mode: 'add', evictedVersion: version })
    expect(node.text()).toBe('new')

    node.put('x', { evicted: true })
    expect(await session.submit(set('v', { compare: 1n }))).toEqual({ kind: 'not-found' })
    node.put('x', { evicted: true })
    expect(await session.submit(increment)).toEqual({ kind: 'not-found' })
    node.put('x', { evicted: true })
    const create = { initial: 7n, exptime: 0 }
    expect(await session.submit({ ...increment, create })).toMatchObject({ kind: 'stored', number: 7n, created: true })
  })

  it('stands where this node’s own memcached is not to be trusted', async () => {
    const node = new OneNode()
    node.put('old', { evicted: true })
    node.serving = false
    expect(await node.session().submit(add())).toMatchObject({ kind: 'not-stored' })
    expect(node.peersAsked).toEqual([])
  })

  it('of two that both find the item gone lets one of them win', async () => {
    const node = new OneNode()
    node.put('old', { evicted: true })
    const outcomes = await Promise.all([node.session().submit(add('a')), node.session().submit(add('b'))])
    expect(outcomes.map(({ kind }) => kind).sort()).toEqual(['not-stored', 'stored'])
  })

  it('stands where somebody stored anew between the look and the second try', async () => {
    const node = new OneNode()
    node.put('old', { evicted: true })
    node.beforeDecision = (mutation) => {
      if ('evictedVersion' in mutation) node.put('theirs')
    }
    expect(await node.session().submit(add())).toMatchObject({ kind: 'not-stored' })
    expect(node.text()).toBe('theirs')
  })

  it('is given up after some rounds where the item is evicted again and again', async () => {
    const node = new OneNode()
    node.put('old', { evicted: true })
    node.beforeDecision = () => void node.put('theirs')
    node.beforeFetch = () => node.evict()
    expect(await node.session().submit(add())).toMatchObject({ kind: 'not-stored' })
    expect(node.submitted).toHaveLength(5)
  })
})

describe('the order of a session', () => {
  it('is kept while a refusal is looked at: what comes then waits for the second try', async () => {
    const node = new OneNode()
    node.put('old', { evicted: true })
    const session = node.session()
    const first = session.submit(add())
    let second: Promise<Outcome> | undefined
    node.peer = () => {
      second = session.submit({ ...set('x'), key: keyFromText('other') })
      return { kind: 'gone' }
    }
    expect(await first).toMatchObject({ kind: 'stored' })
    expect(await second).toMatchObject({ kind: 'stored' })
    expect(node.order).toEqual(['set k', 'set k', 'set other'])
  })

  it('is kept where later ones were sent before the refusal was known: it stands, and the next add succeeds', async () => {
    const node = new OneNode()
    const version = node.put('old', { evicted: true })
    const session = node.session()
    const outcomes = await Promise.all([
      session.submit(add()),
      session.submit({ ...set('x'), key: keyFromText('other') }),
    ])
    expect(outcomes).toMatchObject([{ kind: 'not-stored' }, { kind: 'stored' }])
    expect(node.submitted.at(-1)).toEqual({ kind: 'delete', namespaceId: 1, key, compare: version })
    expect(await session.submit(add())).toMatchObject({ kind: 'stored' })
  })

  it('is kept around a concatenation: it waits for what is before it, and holds up what is behind', async () => {
    const node = new OneNode()
    const session = node.session()
    const outcomes = await Promise.all([
      session.submit(set('a')),
      session.concatenate(concatenation('b')),
      session.submit({ ...set('x'), key: keyFromText('other') }),
      session.concatenate(concatenation('c', { side: 'prepend' })),
      session.submit({ kind: 'delete', namespaceId: 1, key: keyFromText('other') }),
    ])
    expect(outcomes.map(({ kind }) => kind)).toEqual(['stored', 'stored', 'stored', 'stored', 'deleted'])
    expect(node.order).toEqual(['set k', 'set k', 'set other', 'set k', 'delete other'])
    expect(node.text()).toBe('cab')
  })

  it('ends with the session: what waits is refused', async () => {
    const node = new OneNode()
    const session = node.session()
    const first = session.submit(set('a'))
    const second = session.concatenate(concatenation('b'))
    session.close()
    await expect(second).rejects.toMatchObject({ code: 'not-written' })
    await first
  })
})

function concatenation(text: string, given: Partial<Concatenation> = {}): Concatenation {
  return { namespaceId: 1, key, side: 'append', value: Buffer.from(text), ...given }
}

describe.each([
  ['keeps versions as CAS', false],
  ['has a CAS counter', true],
])('a concatenation where memcached %s', (_, counting) => {
  const start = (): OneNode => {
    const node = new OneNode()
    node.counting = counting
    return node
  }

  it('keeps the flags, and sets where the version is still the same', async () => {
    const node = start()
    const version = node.put('mid', { flags: 9n })
    const session = node.session()
    expect(await session.concatenate(concatenation('>'))).toMatchObject({ kind: 'stored' })
    expect(node.submitted).toMatchObject([{ kind: 'set', compare: version, keepsAttributes: true }])
    expect(await session.concatenate(concatenation('<', { side: 'prepend' }))).toMatchObject({ kind: 'stored' })
    expect(node.text()).toBe('<mid>')
    expect(node.rows.get('1:k')?.flags).toBe(9n)
  })

  it('starts again where somebody was quicker', async () => {
    const node = start()
    node.put('a')
    let interferences = 3
    node.beforeDecision = () => {
      if (interferences-- > 0) node.put(`${node.text()}x`)
    }
    expect(await node.session().concatenate(concatenation('!'))).toMatchObject({ kind: 'stored' })
    expect(node.text()).toBe('axxx!')
  })

  it('ends where somebody always is, with nothing written', async () => {
    const node = start()
    node.put('a')
    node.beforeDecision = () => void node.put('theirs')
    await expect(node.session().concatenate(concatenation('!'))).rejects.toMatchObject({ code: 'contended' })
    expect(node.text()).toBe('theirs')
  })

  it('on a miss is not-stored, by the primary’s word', async () => {
    const node = start()
    expect(await node.session().concatenate(concatenation('!'))).toEqual({ kind: 'not-stored' })
    expect(node.submitted).toMatchObject([{ kind: 'touch', compare: 0n }])
    expect(await node.session().concatenate(concatenation('!', { compare: 5n }))).toEqual({ kind: 'not-stored' })
  })

  it('on a miss creates where it is told to, with the given flags', async () => {
    const node = start()
    const create = { flags: 4n, exptime: 0 }
    expect(await node.session().concatenate(concatenation('!', { create }))).toMatchObject({ kind: 'stored' })
    expect(node.text()).toBe('!')
    expect(node.rows.get('1:k')?.flags).toBe(4n)
    expect(await node.session().concatenate(concatenation('?', { create }))).toMatchObject({ kind: 'stored' })
    expect(node.text()).toBe('!?')
  })

  it('with a token is decided by it', async () => {
    const node = start()
    const version = node.put('a')
    const session = node.session()
    expect(await session.concatenate(concatenation('!', { compare: 77n }))).toEqual({ kind: 'exists', version })
    expect(await session.concatenate(concatenation('!', { compare: version }))).toMatchObject({ kind: 'stored' })
    expect(await session.concatenate(concatenation('!', { compare: version }))).toMatchObject({ kind: 'exists' })
    expect(node.text()).toBe('a!')
  })

  it('to an item evicted here takes a peer’s; a silent peer is an error; gone everywhere is a miss', async () => {
    const node = start()
    const version = node.put('old', { evicted: true })
    const session = node.session()
    node.peer = () => ({ kind: 'unknown' })
    await expect(session.concatenate(concatenation('!'))).rejects.toMatchObject({ code: 'item-away' })
    node.peer = () => ({ kind: 'held', item: itemOf(version, 'old') })
    expect(await session.concatenate(concatenation('!'))).toMatchObject({ kind: 'stored' })
    expect(node.text()).toBe('old!')
    node.evict()
    node.peer = () => ({ kind: 'gone' })
    expect(await session.concatenate(concatenation('!'))).toEqual({ kind: 'not-stored' })
    const create = { flags: 0n, exptime: 0 }
    expect(await session.concatenate(concatenation('!', { create }))).toMatchObject({ kind: 'stored' })
    expect(node.text()).toBe('!')
  })

  it('to an empty item makes the value; a lease that hides an eviction is no item', async () => {
    const node = start()
    const version = node.put('')
    const session = node.session()
    expect(await session.concatenate(concatenation('a'))).toMatchObject({ kind: 'stored' })
    expect(node.text()).toBe('a')
    if (!counting) return
    node.put('whole', { evicted: true })
    node.items.set(composeItemKey('one', key), { ...itemOf(version, ''), casHigh: 0, casLow: 9999 })
    node.leased = true
    node.peer = () => ({ kind: 'held', item: itemOf(version, 'whole') })
    expect(await session.concatenate(concatenation('!'))).toMatchObject({ kind: 'stored' })
    expect(node.text()).toBe('whole!')
  })

  it('beyond what an item holds is not-stored, as with memcached', async () => {
    const node = start()
    node.put('x'.repeat(1_000_000))
    const big = concatenation('y'.repeat(100_000))
    expect(await node.session().concatenate(big)).toMatchObject({ kind: 'not-stored' })
    expect(node.text()).toHaveLength(1_000_000)
  })

  it('of many clients on one key loses none', async () => {
    const node = start()
    node.put('')
    const letters = 'abcdefghijklmnopqrstuvwxyz'.split('')
    await Promise.all(letters.map(async (letter) => node.session().concatenate(concatenation(letter))))
    expect(node.text()?.split('').sort()).toEqual(letters)
  })
})

describe('a lease', () => {
  const token = (1n << 63n) | 7n
  const use = (node: OneNode, held: () => Promise<number | undefined> = async () => generation) =>
    node.session().redeem({ mutation: set('filled', { compare: token }), held })

  it('is redeemed over nothing, over a dead row, and over a row whose item was evicted', async () => {
    const node = new OneNode()
    expect(await use(node)).toMatchObject({ kind: 'stored' })
    node.decide({ kind: 'delete', namespaceId: 1, key })
    expect(await use(node)).toMatchObject({ kind: 'stored' })
    node.put('old', { evicted: true })
    expect(await use(node)).toMatchObject({ kind: 'stored' })
    expect(node.text()).toBe('filled')
  })

  it('is a token like any other that is not the key’s, where it is not held any more', async () => {
    const node = new OneNode()
    expect(await use(node, async () => undefined)).toEqual({ kind: 'not-found' })
    const version = node.put('new')
    expect(await use(node, async () => undefined)).toEqual({ kind: 'exists', version })
    expect(node.text()).toBe('new')
  })

  it('R19: is not redeemed over a delete, or a store and a delete, between the look at it and the write', async () => {
    for (const stored of [false, true]) {
      for (const before of ['nothing', 'a dead row']) {
        const node = new OneNode()
        if (before === 'a dead row') node.decide({ kind: 'delete', namespaceId: 1, key })
        const outcome = await use(node, async () => {
          if (stored) node.put('new')
          node.decide({ kind: 'delete', namespaceId: 1, key })
          return generation
        })
        expect(outcome).toEqual({ kind: 'not-found' })
        expect(node.text()).toBeUndefined()
      }
    }
  })

  it('is not redeemed over a flush that this node has not heard of', async () => {
    expect(await use(new OneNode(), async () => generation - 1)).toEqual({ kind: 'not-found' })
  })

  it('keeps its place: what is submitted behind it waits', async () => {
    const node = new OneNode()
    const session = node.session()
    const fill = session.redeem({ mutation: set('filled', { compare: token }), held: async () => generation })
    const later = session.submit(set('later'))
    expect(await fill).toMatchObject({ kind: 'stored' })
    expect(await later).toMatchObject({ kind: 'stored' })
    expect(node.text()).toBe('later')
    expect(node.order).toEqual(['touch k', 'set k', 'set k'])
  })
})
