import { describe, expect, test } from 'vitest'
import { parsePosition } from '../../../src/domain/position.ts'
import { choosePrimary } from '../../../src/sandbox/choose-primary.ts'

const at = (name: string, position: string) => ({ name, position: parsePosition('mariadb', position) })

describe('when no database of a pair is writable', () => {
  test('the recorded primary goes on where both have the same', () => {
    expect(choosePrimary(at('db1', '0-1-7'), at('db2', '0-1-7'))).toEqual({
      kind: 'promote',
      primary: 'db1',
      standby: 'db2',
    })
  })

  test('both being fresh, the recorded primary begins', () => {
    expect(choosePrimary(at('db1', ''), at('db2', ''))).toMatchObject({ primary: 'db1' })
  })

  test('a former standby never becomes writable while the recorded primary is ahead', () => {
    expect(choosePrimary(at('db2', '0-1-9'), at('db1', '0-1-7'))).toMatchObject({ primary: 'db2', standby: 'db1' })
  })

  test('a recorded primary that lost its disk is reported, and the standby takes over', () => {
    const choice = choosePrimary(at('db1', ''), at('db2', '0-1-7'))
    expect(choice).toMatchObject({ kind: 'promote', primary: 'db2', standby: 'db1' })
    expect(choice.kind === 'promote' && choice.warning).toMatch(/db1, the recorded primary, .* lost data/)
  })

  test('where each has what the other lacks, nobody is chosen and a person is asked', () => {
    const choice = choosePrimary(at('db1', '0-1-7'), at('db2', '0-2-7'))
    expect(choice.kind).toBe('diverged')
    expect(choice.kind === 'diverged' && choice.message).toMatch(/db1 .*0-1-7.* db2 .*0-2-7.* diverged/)
  })
})
