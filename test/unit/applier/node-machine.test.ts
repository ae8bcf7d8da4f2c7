import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  firstCondition,
  type NodeCondition,
  type NodeEvent,
  stateOf,
  stepNode,
} from '../../../src/applier/node-machine.ts'

const found: NodeEvent = { kind: 'contents', found: true }
const lost: NodeEvent = { kind: 'contents', found: false }
const reached: NodeEvent = { kind: 'reached' }
const interrupted: NodeEvent = { kind: 'interrupted' }
const drain: NodeEvent = { kind: 'drain' }
const stopped: NodeEvent = { kind: 'stopped' }
const lag = (seconds: number): NodeEvent => ({ kind: 'lag', seconds })

function after(events: readonly NodeEvent[], maxLagSeconds: number | undefined = 10): NodeCondition {
  return events.reduce((condition, event) => stepNode(condition, event, { maxLagSeconds }), firstCondition)
}

function told(events: readonly NodeEvent[], maxLagSeconds?: number): string[] {
  return events.map((_, index) => stateOf(after(events.slice(0, index + 1), maxLagSeconds)))
}

describe('the states of a node', () => {
  test('with its contents it catches up, without it rebuilds; either way it serves once all is reached', () => {
    expect(stateOf(firstCondition)).toBe('starting')
    expect(told([found, reached])).toEqual(['catching-up', 'serving'])
    expect(told([lost, reached])).toEqual(['rebuilding', 'serving'])
  })

  test('whatever is lost, it begins again', () => {
    expect(told([found, interrupted, lost, interrupted, found, reached, interrupted])).toEqual([
      'catching-up',
      'starting',
      'rebuilding',
      'starting',
      'catching-up',
      'serving',
      'starting',
    ])
  })

  test('too far behind it leaves the service, and comes back only when it is less than half as far', () => {
    const events = [found, reached, lag(10), lag(10.1), reached, lag(9), reached, lag(5.1), reached, lag(5), reached]
    expect(told(events, 10)).toEqual([
      'catching-up',
      'serving',
      'serving',
      'catching-up',
      'catching-up',
      'catching-up',
      'catching-up',
      'catching-up',
      'catching-up',
      'catching-up',
      'serving',
    ])
  })

  test('without a bound no lag matters', () => {
    expect(stepNode(after([found, reached]), lag(1e9), { maxLagSeconds: undefined }).phase).toBe('serving')
  })

  test('while it drains it does what it did, and says that it drains', () => {
    const condition = after([found, reached, drain])
    expect([condition.phase, stateOf(condition)]).toEqual(['serving', 'draining'])
    expect(stateOf(after([drain, found, reached]))).toBe('draining')
    expect(stateOf(after([found, reached, drain, stopped]))).toBe('stopped')
  })

  test('nothing follows the end', () => {
    expect(told([stopped, found, reached, interrupted, drain])).toEqual(Array.from({ length: 5 }, () => 'stopped'))
  })

  test('whatever happens, it serves only after everything was reached since the last interruption, and never while it lags', () => {
    const event = fc.oneof(
      fc.constantFrom(found, lost, reached, interrupted, drain),
      fc.double({ min: 0, max: 40, noNaN: true }).map(lag),
    )
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), (events) => {
        let condition = firstCondition
        let mayServe = false
        for (const one of events) {
          const before = condition
          condition = stepNode(condition, one, { maxLagSeconds: 10 })
          if (one.kind === 'interrupted' || (one.kind === 'lag' && one.seconds > 10)) mayServe = false
          if (one.kind === 'reached' && before.phase !== 'starting' && !before.lagging) mayServe = true
          if (condition.phase === 'serving') expect(mayServe).toBe(true)
          if (condition.lagging) expect(condition.phase).toBe('catching-up')
          if (before.draining) expect(condition.draining).toBe(true)
        }
      }),
    )
  })
})
