import { expect, test } from 'vitest'
import { WhiteholeError } from '../../../src/domain/errors.ts'
import type { ItemKey } from '../../../src/domain/key.ts'
import { covers, parsePosition, type Position } from '../../../src/domain/position.ts'
import { ReadDesk, type ReadDeskPorts } from '../../../src/peers/read-desk.ts'
import { formatRun } from '../../../src/peers/read-run.ts'

const at = (sequence: number): Position => parsePosition('mariadb', `0-1-${sequence}`)

/** A node that has applied so much, and whatever is waited for. */
function desk(applied: number, arrives = applied): { desk: ReadDesk; asked: string[] } {
  const asked: string[] = []
  const ports = {
    log: {
      whenReached: async (position: Position) => {
        if (!covers(at(arrives), position)) throw new WhiteholeError('not-serving', 'too late')
      },
    },
    reads: {
      servingItself: true,
      fetch: (key: string, sink: (item: undefined) => void) => {
        asked.push(key)
        sink(undefined)
      },
    },
    namespaces: { byId: () => ({ id: 1, name: 'a', generation: 1, watermark: 0, flushDue: 0 }) },
    directory: { versions: async () => [] },
    horizon: () => at(arrives),
  } as unknown as ReadDeskPorts
  return { desk: new ReadDesk(ports), asked }
}

const runFrom = (floor: number): unknown =>
  JSON.parse(
    formatRun({
      floor: at(floor),
      withVersions: false,
      reads: [{ kind: 'fetch', namespaceId: 1, key: 'a:k' as ItemKey }],
    }),
  )

test('R17, R18: a node that has not applied the asker’s floor answers nothing, and reads nothing', async () => {
  const { desk: lagging, asked } = desk(4)
  expect(await lagging.answer(runFrom(5))).toBeUndefined()
  expect(asked).toEqual([])
})

test('one that reaches it in time answers', async () => {
  const { desk: caughtUp, asked } = desk(4, 5)
  expect(await caughtUp.answer(runFrom(5))).toBeInstanceOf(Buffer)
  expect(asked).toEqual(['a:k'])
})
