import { describe, expect, test } from 'vitest'
import { type Answer, type Change, judge, type Operation } from '../../support/linearizability.ts'

const stored = (token?: string): Answer => ({ kind: 'stored', ...(token === undefined ? {} : { token }) })
const number = (value: number): Answer => ({ kind: 'stored', value: String(value) })
const found = (value: string, token?: string): Answer => ({
  kind: 'found',
  value,
  ...(token === undefined ? {} : { token }),
})
const notStored: Answer = { kind: 'not-stored' }
const exists: Answer = { kind: 'exists' }
const miss: Answer = { kind: 'not-found' }
const deleted: Answer = { kind: 'deleted' }

const set = (value: string): Change => ({ kind: 'set', value })
const add = (value: string): Change => ({ kind: 'add', value })
const cas = (value: string, token: string): Change => ({ kind: 'cas', value, token })
const incr: Change = { kind: 'incr', delta: 1 }
const remove: Change = { kind: 'delete' }
const get: Change = { kind: 'get' }
const strictGet: Change = { kind: 'get', strict: true }

type Line = [who: string, from: number, to: number | undefined, change: Change, answer?: Answer]

/** `a1`: connection a on node 1. Two connections of one name are one. */
function history(...lines: Line[]): Operation[] {
  return lines.map(([who, invoked, completed, change, answer]) => ({
    key: 'k',
    node: Number(who.slice(1)),
    connection: who,
    change,
    invoked,
    ...(completed === undefined ? {} : { completed }),
    ...(answer === undefined ? {} : { answer }),
  }))
}

describe('changes', () => {
  test.each<[string, Line[]]>([
    ['nothing at all', []],
    [
      'an add that lost against one that overlaps it',
      [
        ['a1', 1, 4, add('x'), stored()],
        ['b2', 2, 3, add('y'), notStored],
      ],
    ],
    [
      'overlapping ones in the order that explains the answers, not in that of the answers',
      [
        ['a1', 1, 8, set('5'), stored()],
        ['b2', 2, 3, incr, number(6)],
        ['c2', 4, 5, incr, number(7)],
      ],
    ],
    [
      'a token that wins once',
      [
        ['a1', 1, 2, set('x'), stored('11')],
        ['b2', 3, 6, cas('y', '11'), stored('12')],
        ['c1', 4, 7, cas('z', '11'), exists],
      ],
    ],
    [
      'a change without an answer that happened late',
      [
        ['a1', 1, undefined, set('x')],
        ['b2', 2, 3, add('y'), stored()],
        ['b2', 4, 5, remove, deleted],
        ['b2', 6, 7, add('z'), notStored],
      ],
    ],
    [
      'and one that never happened',
      [
        ['a1', 1, undefined, remove],
        ['b2', 2, 3, add('y'), stored()],
        ['b2', 4, 5, add('z'), notStored],
      ],
    ],
    [
      'a compare-and-set with a token whose change was never answered',
      [
        ['a1', 1, undefined, set('x')],
        ['b2', 2, 3, get, found('x', '5')],
        ['b2', 4, 5, cas('y', '5'), stored()],
        ['b2', 6, 7, cas('z', '5'), exists],
      ],
    ],
    [
      'a counter with steps that nobody was told',
      [
        ['a1', 1, 2, set('0'), stored()],
        ['a1', 3, undefined, incr],
        ['a1', 4, undefined, incr],
        ['b2', 5, 6, incr, number(2)],
        ['b2', 7, 8, strictGet, found('3')],
      ],
    ],
  ])('are in order: %s', (_, lines) => {
    expect(judge(history(...lines))).toEqual([])
  })

  test.each<[string, Line[]]>([
    [
      'two adds that both won',
      [
        ['a1', 1, 4, add('x'), stored()],
        ['b2', 2, 3, add('y'), stored()],
      ],
    ],
    ['an add refused by nothing', [['a1', 1, 2, add('x'), notStored]]],
    [
      'an add that won over what was there before',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['b2', 3, 4, add('y'), stored()],
      ],
    ],
    [
      'an add refused by what was deleted before',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['a1', 3, 4, remove, deleted],
        ['b2', 5, 6, add('y'), notStored],
      ],
    ],
    [
      'a lost update: one token that won twice',
      [
        ['a1', 1, 2, set('x'), stored('11')],
        ['b2', 3, 6, cas('y', '11'), stored('12')],
        ['c1', 4, 7, cas('z', '11'), stored('13')],
      ],
    ],
    [
      'a lost update, with tokens known from reads alone',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['b2', 3, 4, get, found('x', '11')],
        ['b2', 5, 8, cas('y', '11'), stored()],
        ['c1', 6, 9, cas('z', '11'), stored()],
      ],
    ],
    [
      'a token refused though nothing changed',
      [
        ['a1', 1, 2, set('x'), stored('11')],
        ['b2', 3, 4, cas('y', '11'), exists],
      ],
    ],
    [
      'an old token that wins after the key was made anew (R21)',
      [
        ['a1', 1, 2, set('x'), stored('11')],
        ['a1', 3, 4, remove, deleted],
        ['a1', 5, 6, add('y'), stored('12')],
        ['b2', 7, 8, cas('z', '11'), stored('13')],
      ],
    ],
    [
      'a number told twice',
      [
        ['a1', 1, 2, set('0'), stored()],
        ['a1', 3, 5, incr, number(1)],
        ['b2', 4, 6, incr, number(1)],
      ],
    ],
    [
      'a lost step',
      [
        ['a1', 1, 2, set('0'), stored()],
        ['a1', 3, 4, incr, number(1)],
        ['b2', 5, 6, incr, number(3)],
      ],
    ],
    [
      'a step without an answer that counted twice',
      [
        ['a1', 1, 2, set('0'), stored()],
        ['a1', 3, undefined, incr],
        ['b2', 5, 6, incr, number(3)],
      ],
    ],
    [
      'a change before its invocation',
      [
        ['a1', 1, 2, add('x'), notStored],
        ['b2', 3, undefined, set('y')],
      ],
    ],
    [
      'a connection’s pipelined changes in another order than sent (R26)',
      [
        ['a1', 1, 5, set('1'), stored()],
        ['a1', 2, 6, set('2'), stored()],
        ['b2', 7, 8, strictGet, found('1')],
      ],
    ],
    [
      'in the end another value than the last one',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['b2', 3, 4, set('y'), stored()],
        ['a1', 5, 6, strictGet, found('x')],
      ],
    ],
    [
      'in the end a miss',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['a1', 5, 6, strictGet, miss],
      ],
    ],
  ])('are refused: %s', (_, lines) => {
    expect(judge(history(...lines))).toHaveLength(1)
  })
})

describe('reads', () => {
  test.each<[string, Line[]]>([
    [
      'that lag on another node',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['b2', 3, 4, get, found('x')],
        ['a1', 5, 6, set('y'), stored()],
        ['b2', 7, 8, get, found('x')],
        ['b2', 9, 10, get, found('y')],
      ],
    ],
    [
      'that miss on another node',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['b2', 3, 4, get, miss],
      ],
    ],
    [
      'that know of a change before its answer',
      [
        ['a1', 1, 9, set('x'), stored()],
        ['b2', 2, 3, get, found('x')],
        ['c1', 4, 5, add('y'), notStored],
      ],
    ],
    [
      'that overlap, in either order',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['a1', 3, 9, set('y'), stored()],
        ['b1', 4, 8, get, found('x')],
        ['c1', 5, 7, get, found('y')],
      ],
    ],
    [
      'that miss after a hit, where a delete explains it',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['b2', 3, 4, get, found('x')],
        ['a1', 5, 9, remove, deleted],
        ['b2', 6, 7, get, miss],
      ],
    ],
    [
      'with a token older than the value',
      [
        ['a1', 1, 2, set('x'), stored('11')],
        ['a1', 3, 4, set('y'), stored('12')],
        ['b2', 5, 6, get, found('y', '11')],
        ['b2', 7, 8, cas('z', '11'), exists],
      ],
    ],
  ])('are fine: %s', (_, lines) => {
    expect(judge(history(...lines))).toEqual([])
  })

  test.each<[string, Line[]]>([
    ['of what nobody stored', [['a1', 1, 2, get, found('x')]]],
    [
      'of what was refused',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['a1', 3, 4, add('y'), notStored],
        ['b2', 5, 6, get, found('y')],
      ],
    ],
    [
      'of what is stored only later',
      [
        ['a1', 1, 2, get, found('x')],
        ['b1', 3, 4, set('x'), stored()],
      ],
    ],
    [
      'that go back in time on a node, over two connections',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['a1', 3, 4, set('y'), stored()],
        ['b2', 5, 6, get, found('y')],
        ['c2', 7, 8, get, found('x')],
      ],
    ],
    [
      'that go back between two changes whose order only they tell',
      [
        ['a1', 1, 9, set('x'), stored()],
        ['b1', 2, 10, set('y'), stored()],
        ['c2', 3, 4, get, found('x')],
        ['c2', 5, 6, get, found('y')],
        ['d2', 11, 12, get, found('x')],
      ],
    ],
    [
      'that go back to a miss',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['b2', 3, 4, get, found('x')],
        ['c2', 5, 6, get, miss],
      ],
    ],
    [
      'on which two nodes disagree about the order of changes',
      [
        ['a1', 1, 9, set('x'), stored()],
        ['b2', 2, 10, set('y'), stored()],
        ['c1', 3, 4, get, found('x')],
        ['c1', 5, 6, get, found('y')],
        ['d2', 3.5, 4.5, get, found('y')],
        ['d2', 5.5, 6.5, get, found('x')],
      ],
    ],
    [
      'that don’t know the connection’s own change, pipelined',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['a1', 3, 6, set('y'), stored()],
        ['a1', 4, 7, get, found('x')],
      ],
    ],
    [
      'that don’t know what the node acknowledged to somebody else',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['a1', 3, 4, set('y'), stored()],
        ['b1', 5, 6, get, found('x')],
      ],
    ],
    [
      'that miss right after a refusal by what is there (R18)',
      [
        ['a1', 1, 2, set('x'), stored()],
        ['b2', 3, 4, add('y'), notStored],
        ['b2', 5, 6, get, miss],
      ],
    ],
    [
      'that don’t know what the connection was refused by (R18)',
      [
        ['a1', 1, 2, set('x'), stored('11')],
        ['a1', 3, 4, set('y'), stored('12')],
        ['b2', 5, 6, cas('z', '11'), exists],
        ['b2', 7, 8, get, found('x')],
      ],
    ],
    [
      'with a token newer than the value (R23)',
      [
        ['a1', 1, 2, set('x'), stored('11')],
        ['a1', 3, 4, set('y'), stored('12')],
        ['b2', 5, 6, get, found('x', '12')],
      ],
    ],
  ])('are refused: %s', (_, lines) => {
    expect(judge(history(...lines))).toHaveLength(1)
  })
})

test('reads in one pipeline stand in the order sent', () => {
  const pipeline = history(
    ['a1', 1, 2, set('x'), stored()],
    ['a1', 3, 4, set('y'), stored()],
    ['b2', 5, 7, get, found('y')],
    ['b2', 6, 8, get, found('x')],
  )
  expect(judge(pipeline)).toHaveLength(1)
})

test('keys are judged each by itself', () => {
  const [first] = history(['a1', 1, 2, add('x'), stored()])
  const second: Operation = { ...(first as Operation), key: 'other', connection: 'b2', invoked: 3, completed: 4 }
  expect(judge([first as Operation, second])).toEqual([])
})

test('a long history of much that overlaps is judged soon, and one wrong answer in it is found', () => {
  const operations: Operation[] = []
  const connections = 16
  let value = 0
  for (let round = 0; round < 200; round++) {
    for (let n = 0; n < connections; n++) {
      const invoked = round * 1000 + n
      const change: Change = n % 4 === 0 ? set(String(++value * 1000)) : n % 4 === 1 ? add(`a${round}-${n}`) : incr
      const answer = n % 4 === 0 ? stored() : n % 4 === 1 ? notStored : number(value * 1000 + (n % 4) - 1)
      operations.push({ key: 'k', node: 1, connection: `c${n}`, change, invoked, completed: invoked + 500, answer })
    }
  }
  const startedAt = performance.now()
  expect(judge(operations)).toEqual([])
  expect(performance.now() - startedAt).toBeLessThan(3000)
  const wrong = operations[1603] as Operation
  wrong.answer = number(7)
  expect(judge(operations)).toHaveLength(1)
})
