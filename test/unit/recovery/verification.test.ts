import { describe, expect, it } from 'vitest'
import {
  withGone,
  describeVerification,
  mergeVerifications,
  type NamespaceVerification,
  type NodeVerification,
  verificationExitCode,
} from '../../../src/recovery/verification.ts'

function namespace(changes: Partial<NamespaceVerification> = {}): NamespaceVerification {
  return {
    name: 'default',
    keys: 3,
    present: 3,
    evicted: 0,
    missing: 0,
    diverged: 0,
    orphan: 0,
    unsettled: 0,
    examples: [],
    ...changes,
  }
}

function node(changes: Partial<NodeVerification> = {}): NodeVerification {
  return {
    name: 'node1',
    dialect: 'mariadb',
    position: '0-1-10',
    evictions: 0,
    foreign: 0,
    namespaces: [namespace()],
    ...changes,
  }
}

describe('the merge of what nodes found', () => {
  it('has exactly the form that scripts rely on', () => {
    const two = node({ name: 'node2', position: '0-1-9', namespaces: [namespace({ keys: 4, present: 4 })] })
    expect(mergeVerifications([node(), two])).toEqual({
      consistent: true,
      position: '0-1-9',
      namespaces: [
        {
          name: 'default',
          keys: 4,
          consistency: 1,
          nodes: [
            { name: 'node1', present: 3, evicted: 0, missing: 0, diverged: 0, orphan: 0, consistency: 1, examples: [] },
            { name: 'node2', present: 4, evicted: 0, missing: 0, diverged: 0, orphan: 0, consistency: 1, examples: [] },
          ],
        },
      ],
    })
  })

  it('is inconsistent with any difference but evictions', () => {
    const consistent = (changes: Partial<NamespaceVerification>): boolean =>
      mergeVerifications([node(), node({ name: 'node2', namespaces: [namespace(changes)] })]).consistent
    expect(consistent({ present: 1, evicted: 2 })).toBe(true)
    expect(consistent({ present: 2, unsettled: 1 })).toBe(true)
    expect(consistent({ present: 2, missing: 1 })).toBe(false)
    expect(consistent({ present: 2, diverged: 1 })).toBe(false)
    expect(consistent({ orphan: 1 })).toBe(false)
  })

  it('says nothing good about no node at all', () => {
    const nothing = mergeVerifications([])
    expect(nothing).toEqual({ consistent: false, position: '', namespaces: [] })
    expect(verificationExitCode(nothing)).toBe(1)
  })

  it('gives 0 or 1 as the exit code', () => {
    expect(verificationExitCode(mergeVerifications([node()]))).toBe(0)
    expect(verificationExitCode(mergeVerifications([node({ namespaces: [namespace({ orphan: 1 })] })]))).toBe(1)
  })

  it('takes the lowest position, also of MySQL', () => {
    const uuid = '3e11fa47-71ca-11e1-9e33-c80aa9429562'
    const at = (last: number): NodeVerification => node({ dialect: 'mysql', position: `${uuid}:1-${last}` })
    expect(mergeVerifications([at(100), at(9), at(20)]).position).toBe(`${uuid}:1-9`)
  })

  it('tells people what differs, and where', () => {
    const bad = namespace({
      present: 1,
      evicted: 1,
      missing: 1,
      orphan: 1,
      examples: [
        { kind: 'missing', key: 'a' },
        { kind: 'orphan', key: 'b' },
      ],
    })
    const merged = mergeVerifications([node(), node({ name: 'node2', namespaces: [bad] })])
    expect(describeVerification(merged)).toEqual([
      'default: 3 keys, 50.00 % consistent',
      '  node1: 3 present',
      '  node2: 1 present, 1 evicted, 1 missing, 1 orphan',
      '    missing: a',
      '    orphan: b',
      'NOT consistent up to 0-1-10',
    ])
    expect(describeVerification(mergeVerifications([node()])).at(-1)).toBe('consistent up to 0-1-10')
  })
})

describe('what could not be recovered', () => {
  it('is told, and is no difference any more', () => {
    const merged = mergeVerifications([withGone(node(), new Map([['default', 7]])), node({ name: 'node2' })])
    expect(merged.namespaces[0]?.nodes.map(({ gone }) => gone)).toEqual([7, undefined])
    expect(verificationExitCode(merged)).toBe(0)
    expect(describeVerification(merged).join('\n')).toContain('7 could not be recovered')
  })
})
