import { describe, expect, it } from 'vitest'
import { timingsDefault } from '../../../src/monitor/machine-state.ts'
import { Voter } from '../../../src/monitor/voter.ts'

const ballot = (round: number) => ({ round, monitor: 'monitor1' })

/** A disk that is done, or fails, when it is told to. */
async function voterOnDisk(): Promise<{ voter: Voter; written: () => void; failed: () => void }> {
  let written: () => void = () => {}
  let failed: () => void = () => {}
  const voter = await Voter.open({
    name: 'node1',
    store: {
      load: () => Promise.resolve(undefined),
      save: () =>
        new Promise((resolve, reject) => {
          written = resolve
          failed = () => reject(new Error('no space'))
        }),
    },
    limits: timingsDefault,
    actingMilliseconds: 1000,
    acknowledged: () => undefined,
    now: () => 0,
  })
  return { voter, written: () => written(), failed: () => failed() }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('a voter', () => {
  it('R9: answers once its promise is on its disk, and not before', async () => {
    const { voter, written } = await voterOnDisk()
    let answered = false
    const answer = voter.ask({ kind: 'prepare', ballot: ballot(2) }).finally(() => {
      answered = true
    })
    await turn()
    expect(answered).toBe(false)
    expect(voter.state.promised).toBeNull()
    written()
    expect(await answer).toMatchObject({ ok: true, promised: ballot(2) })
  })

  it('promises nothing where its disk fails, and takes the next question as if that one had never come', async () => {
    const { voter, failed, written } = await voterOnDisk()
    const refused = voter.ask({ kind: 'prepare', ballot: ballot(5) })
    await turn()
    failed()
    await expect(refused).rejects.toThrow('no space')
    const lower = voter.ask({ kind: 'prepare', ballot: ballot(2) })
    await turn()
    written()
    expect(await lower).toMatchObject({ ok: true })
  })

  it('promises a higher ballot alone', async () => {
    const { voter, written } = await voterOnDisk()
    const first = voter.ask({ kind: 'prepare', ballot: ballot(5) })
    await turn()
    written()
    await first
    expect(await voter.ask({ kind: 'prepare', ballot: ballot(4) })).toMatchObject({ ok: false, promised: ballot(5) })
  })
})
