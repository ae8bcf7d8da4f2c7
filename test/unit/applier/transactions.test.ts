import { describe, expect, test } from 'vitest'
import { ChunkQueue } from '../../../src/applier/chunk-queue.ts'
import { type LogChunk, Transactions, type TransactionsOptions } from '../../../src/applier/transactions.ts'
import type { LogEntry } from '../../../src/domain/log-entry.ts'
import { formatGtid, formatPosition, parsePosition, type Position } from '../../../src/domain/position.ts'
import type { BinlogEvent, GtidEvent } from '../../../src/wire/binlog/events.ts'

const uuid = '00112233-4455-6677-8899-aabbccddeeff'

function maria(sequence: number, opens: GtidEvent['opens'] = 'group', server = 1, domain = 0): GtidEvent {
  return { kind: 'gtid', gtid: { dialect: 'mariadb', domain, server, sequence }, opens, timestampSeconds: 1000 }
}

function mysql(sequence: number): GtidEvent {
  return { kind: 'gtid', gtid: { dialect: 'mysql', source: uuid, sequence }, opens: 'unknown', timestampSeconds: 1000 }
}

function rows(...keys: string[]): BinlogEvent {
  const entries = keys.map((key): LogEntry => ({ kind: 'delete', namespaceId: 1, key: key as never }))
  return { kind: 'rows', entries, bytes: 10 * keys.length }
}

const begin: BinlogEvent = { kind: 'begin' }
const commit: BinlogEvent = { kind: 'commit' }
const rollback: BinlogEvent = { kind: 'rollback' }
const statement: BinlogEvent = { kind: 'statement' }
const restart: BinlogEvent = { kind: 'format', serverVersion: '', restarted: true }

function feed(from: string, events: readonly BinlogEvent[], options: Partial<TransactionsOptions> = {}): LogChunk[] {
  const position: Position = parsePosition(from.includes(':') ? 'mysql' : 'mariadb', from)
  const chunks: LogChunk[] = []
  const transactions = new Transactions({
    position,
    cut: undefined,
    transactionBytesMax: 2 ** 20,
    checkGaps: true,
    onChunk: (chunk) => chunks.push(chunk),
    ...options,
  })
  for (const event of events) transactions.feed(event)
  return chunks
}

/** One line a chunk: GTID, position, keys, and `<` `>` where it begins and ends the transaction. */
function told(from: string, events: readonly BinlogEvent[], options: Partial<TransactionsOptions> = {}): string[] {
  return feed(from, events, options).map(({ gtid, after, entries, first, last }) => {
    const keys = entries.map((entry) => ('key' in entry ? entry.key : entry.kind)).join(',')
    return `${formatGtid(gtid)} → ${formatPosition(after)} ${first ? '<' : '…'}${keys}${last ? '>' : '…'}`
  })
}

describe('events become whole transactions', () => {
  test('nothing is told before the commit', () => {
    expect(told('0-1-4', [maria(5), rows('a')])).toEqual([])
    expect(told('0-1-4', [maria(5), rows('a'), rows('b'), commit])).toEqual(['0-1-5 → 0-1-5 <a,b>'])
  })

  test("MySQL's group begins with BEGIN, a statement stands alone", () => {
    const from = `${uuid}:1-4`
    expect(told(from, [mysql(5), statement, mysql(6), begin, rows('a'), statement, commit])).toEqual([
      `${uuid}:5 → ${uuid}:1-5 <>`,
      `${uuid}:6 → ${uuid}:1-6 <a>`,
    ])
  })

  test("MariaDB's lone statement ends itself, one inside of a group does not end the group", () => {
    expect(
      told('0-1-4', [maria(5, 'statement'), statement, maria(6), rows('a'), statement, rows('b'), commit]),
    ).toEqual(['0-1-5 → 0-1-5 <>', '0-1-6 → 0-1-6 <a,b>'])
  })

  test('a rollback moves the position alone', () => {
    expect(told('0-1-4', [maria(5), rows('a'), rollback])).toEqual(['0-1-5 → 0-1-5 <>'])
  })

  test('a rollback to a savepoint undoes what follows it, also twice and through a savepoint set again', () => {
    const save = (name: string): BinlogEvent => ({ kind: 'savepoint', name })
    const to = (name: string): BinlogEvent => ({ kind: 'rollback-to', name })
    const undone = [
      [rows('a'), save('s'), rows('b'), save('t'), rows('c'), to('t'), rows('d'), to('s'), rows('e'), to('s')],
      [rows('f'), save('s'), rows('g'), to('s'), to('unknown')],
    ].flat()
    expect(told('0-1-4', [maria(5), ...undone, commit])).toEqual(['0-1-5 → 0-1-5 <a,f>'])
  })

  test('what a dying server left unfinished is dropped, and its number comes again', () => {
    expect(told('0-1-4', [maria(5), rows('lost'), restart, maria(5), rows('a'), commit])).toEqual(['0-1-5 → 0-1-5 <a>'])
    expect(told('0-1-4', [maria(5), rows('lost'), maria(5), rows('a'), commit])).toEqual(['0-1-5 → 0-1-5 <a>'])
  })

  test('an XA transaction with entries is refused when it is prepared, unless that commits it', () => {
    const xa = [mysql(5), { kind: 'xa-start' }, rows('a')] as const
    expect(() => told(`${uuid}:1-4`, [...xa, { kind: 'xa-prepare', onePhase: false }])).toThrow(/XA transaction/)
    expect(told(`${uuid}:1-4`, [...xa, { kind: 'xa-prepare', onePhase: true }])).toEqual([
      `${uuid}:5 → ${uuid}:1-5 <a>`,
    ])
    const foreign = [
      mysql(5),
      { kind: 'xa-start' },
      { kind: 'xa-prepare', onePhase: false },
      mysql(6),
      { kind: 'xa-end' },
    ] as const
    expect(told(`${uuid}:1-4`, foreign)).toHaveLength(2)
  })

  test('changes outside of a transaction are refused', () => {
    expect(() => told('0-1-4', [rows('a')])).toThrow(/outside of a transaction/)
    expect(() => told('0-1-4', [maria(5), commit, commit])).toThrow(/outside of a transaction/)
  })
})

describe('a gap', () => {
  test.each([
    ['a hole', maria(6)],
    ['a step back', maria(4)],
    ['the same number from another server', maria(4, 'group', 2)],
  ])('(%s) is lost log in MariaDB', (_, event) => {
    expect(() => told('0-1-4', [event])).toThrow(expect.objectContaining({ code: 'log-gap' }))
    expect(told('0-1-4', [event, rows('a'), commit], { checkGaps: false })).toHaveLength(1)
  })

  test('is counted in each domain by itself; a new server goes on with the numbers', () => {
    const events = [
      maria(5, 'group', 2),
      commit,
      maria(10, 'group', 1, 7),
      commit,
      maria(6, 'group', 2),
      commit,
      maria(11, 'group', 1, 7),
      commit,
    ]
    expect(told('0-1-4', events).at(-1)).toBe('7-1-11 → 0-2-6,7-1-11 <>')
    expect(() => told('0-1-4', [...events, maria(13, 'group', 1, 7)])).toThrow('from 7-1-11 to 7-1-13')
  })

  test('is no loss in MySQL, where numbers may come in any order', () => {
    expect(told(`${uuid}:1-4`, [mysql(7), begin, rows('a'), commit, mysql(5), statement])).toEqual([
      `${uuid}:7 → ${uuid}:1-4:7 <a>`,
      `${uuid}:5 → ${uuid}:1-5:7 <>`,
    ])
  })
})

describe('a transaction above the bound', () => {
  const options = { transactionBytesMax: 500 }
  const large = [maria(5), rows('a', 'b', 'c'), rows('d'), rows('e', 'f', 'g')]

  test('is handed on in parts, the position moves with the last', () => {
    expect(told('0-1-4', [...large, commit], options)).toEqual([
      '0-1-5 → 0-1-5 <a,b,c…',
      '0-1-5 → 0-1-5 …d,e,f,g…',
      '0-1-5 → 0-1-5 …>',
    ])
  })

  test('can no longer be undone: a rollback, or its end missing, asks for a rebuild', () => {
    expect(() => told('0-1-4', [...large, rollback], options)).toThrow(/was rolled back: rebuild/)
    expect(() => told('0-1-4', [...large, restart], options)).toThrow(/was never finished: rebuild/)
    expect(() => told('0-1-4', [...large, maria(5)], options)).toThrow(/was never finished: rebuild/)
  })

  test('has to come again after a lost connection, before anything else of its domain', () => {
    const cut = maria(5).gtid
    expect(told('0-1-4', [maria(9, 'group', 1, 3), commit, maria(5), rows('a'), commit], { cut })).toHaveLength(2)
    expect(() => told('0-1-4', [maria(5, 'group', 2)], { cut })).toThrow(/0-1-5 .* is not in this log, which has 0-2-5/)
  })

  test('is not handed on while it may be an XA transaction', () => {
    expect(() =>
      told(
        `${uuid}:1-4`,
        [mysql(5), { kind: 'xa-start' }, rows('a', 'b', 'c'), { kind: 'xa-prepare', onePhase: false }],
        options,
      ),
    ).toThrow(/XA transaction/)
  })
})

describe('the queue of what was not yet fetched', () => {
  const chunk = (sequence: number, keys: string[], part: { first?: boolean; last?: boolean } = {}): LogChunk => {
    const chunks = feed(`0-1-${sequence - 1}`, [maria(sequence), rows(...keys), commit])
    return { ...(chunks[0] as LogChunk), ...part }
  }
  const sequences = (queue: ChunkQueue): number[] => queue.takeAll().map(({ gtid }) => gtid.sequence)

  test('keeps of a run of empty transactions the last position', () => {
    const queue = new ChunkQueue(1000)
    for (const [sequence, keys] of [[1, []], [2, []], [3, ['a']], [4, []], [5, []]] as const) queue.push(chunk(sequence, [...keys])) // prettier-ignore
    expect(sequences(queue)).toEqual([3, 5])
    expect(sequences(queue)).toEqual([])
  })

  test('keeps an empty transaction before a part, whose position does not count yet', () => {
    const queue = new ChunkQueue(1000)
    queue.push(chunk(1, []))
    queue.push(chunk(2, ['a'], { last: false }))
    queue.push(chunk(2, [], { first: false }))
    queue.push(chunk(3, ['b']))
    expect(sequences(queue)).toEqual([1, 2, 2, 3])
  })

  test('is full by memory, never by empty transactions', () => {
    const queue = new ChunkQueue(1000)
    for (let sequence = 1; sequence < 1000; sequence++) queue.push(chunk(sequence, []))
    expect(queue.isFull).toBe(false)
    for (let sequence = 1000; sequence < 1004; sequence++) queue.push(chunk(sequence, ['a']))
    expect(queue.isFull).toBe(true)
    queue.takeAll()
    expect(queue.isFull).toBe(false)
  })
})
