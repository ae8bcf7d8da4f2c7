import { describe, expect, it } from 'vitest'
import { keyFromText } from '../../../src/domain/key.ts'
import { MainQueue, OrdinalList, SideQueue } from '../../../src/writer/lane-queue.ts'
import { Pending, type Route, SessionOrder } from '../../../src/writer/pending.ts'

let ordinal = 0

function item(order: SessionOrder, key: string | undefined, given: { route?: Route; bytes?: number } = {}): Pending {
  const name = keyFromText(key ?? '')
  const pending = new Pending({
    mutation:
      key === undefined
        ? { kind: 'flush', namespaceId: 1, delaySeconds: 0 }
        : { kind: 'delete', namespaceId: 1, key: name },
    key: key === undefined ? undefined : { id: `1:${key}`, namespaceId: 1, key: name, hex: '' },
    order,
    ordinal: ordinal++,
    submittedAt: ordinal,
    deadline: ordinal + 1000,
    bytes: given.bytes ?? 10,
    resolve: () => {},
    reject: () => {},
  })
  pending.route = given.route ?? 'side'
  order.append(pending)
  return pending
}

const limits = { items: 10, bytes: 1000 }

describe('a list by ordinal', () => {
  it('takes back what was under way at its place, in front', () => {
    const order = new SessionOrder(0)
    const items = Array.from({ length: 3000 }, () => item(order, 'k'))
    const list = new OrdinalList()
    for (const each of items) list.add(each)
    const taken = Array.from({ length: 2000 }, () => list.shift() as Pending)
    list.merge(taken.slice(500))
    expect(list.size).toBe(2500)
    expect([...list]).toEqual(items.slice(500))
    list.merge([])
    expect(list.front).toBe(items[500])
  })

  it('merges between others', () => {
    const order = new SessionOrder(0)
    const items = Array.from({ length: 9 }, () => item(order, 'k'))
    const list = new OrdinalList()
    for (const index of [0, 3, 6]) list.add(items[index] as Pending)
    list.merge([1, 2, 7, 8].map((index) => items[index] as Pending))
    list.add(items[4] as Pending)
    expect([...list]).toEqual([0, 1, 2, 3, 4, 6, 7, 8].map((index) => items[index]))
  })
})

describe('the main lane’s queue', () => {
  it('gives batches within the limits, one mutation at least', () => {
    const order = new SessionOrder(0)
    const queue = new MainQueue(() => false)
    const sizes = [10, 10, 995, 10, 2000, 10]
    const items = sizes.map((bytes) => item(order, 'k', { bytes }))
    for (const each of items) queue.add(each)
    const batches = []
    while (queue.size > 0) batches.push(queue.take(limits).map(({ bytes }) => bytes))
    expect(batches).toEqual([[10, 10], [995], [10], [2000], [10]])
  })

  it('leaves out what goes to the side lane', () => {
    const order = new SessionOrder(0)
    const diverted: Pending[] = []
    const queue = new MainQueue((each) => each.key?.key === 'away' && diverted.push(each) > 0)
    const items = ['a', 'away', 'b'].map((key) => item(order, key))
    for (const each of items) queue.add(each)
    expect(queue.take(limits)).toEqual([items[0], items[2]])
    expect(diverted).toEqual([items[1]])
  })

  it('gives up what is overdue, and nothing else', () => {
    const order = new SessionOrder(0)
    const queue = new MainQueue(() => false)
    const items = ['a', 'b', 'c'].map((key) => item(order, key))
    for (const each of items) queue.add(each)
    expect(queue.expire((items[1] as Pending).deadline)).toEqual(items.slice(0, 2))
    expect(queue.take(limits)).toEqual([items[2]])
  })
})

describe('the side lane’s queue', () => {
  const sessions = (): [SessionOrder, SessionOrder, SessionOrder] => [
    new SessionOrder(0),
    new SessionOrder(0),
    new SessionOrder(0),
  ]
  const held = (pending: Pending, until: number): Pending => {
    pending.contended = pending.key?.id
    pending.retryAt = until
    return pending
  }

  it('lets others pass what waits for a lock, but nothing of its session or for its key', () => {
    const [one, two, three] = sessions()
    const queue = new SideQueue()
    const waiting = held(item(one, 'a'), 100)
    const follows = item(one, 'b')
    const sameKey = item(two, 'a')
    const behindSameKey = item(two, 'c')
    const free = item(three, 'b')
    queue.insert([waiting, follows, sameKey, behindSameKey, free])
    expect(queue.take(limits, 50)).toEqual([free])
    expect(queue.nextTryAt(50)).toBe(100)
    expect(queue.take(limits, 100)).toEqual([waiting, follows, sameKey, behindSameKey])
    expect(queue.size).toBe(0)
  })

  it('lets nothing of a namespace pass whose row is held', () => {
    const [one, two] = sessions()
    const queue = new SideQueue()
    const waiting = item(one, 'a')
    waiting.contended = '1'
    waiting.retryAt = 100
    queue.insert([waiting, item(two, 'b')])
    expect(queue.take(limits, 50)).toEqual([])
  })

  it('starts nothing before what its session has on the main lane', () => {
    const [one] = sessions()
    const queue = new SideQueue()
    const main = item(one, 'a', { route: 'main' })
    const side = item(one, 'b')
    queue.insert([side])
    expect(queue.take(limits, 0)).toEqual([])
    expect(queue.nextTryAt(0)).toBeUndefined()
    one.remove(main)
    expect(queue.nextTryAt(0)).toBe(0)
    expect(queue.take(limits, 0)).toEqual([side])
  })

  it('gives a flush, and what waited in vain, a batch of their own at their place', () => {
    const [one, two] = sessions()
    const queue = new SideQueue()
    const before = item(one, 'a')
    const flush = item(one, undefined)
    const after = item(one, 'b')
    const other = item(two, 'c')
    other.alone = true
    queue.insert([before, flush, after, other])
    const batches = []
    while (queue.size > 0) batches.push(queue.take(limits, 0))
    expect(batches).toEqual([[before], [flush], [after], [other]])
  })
})
