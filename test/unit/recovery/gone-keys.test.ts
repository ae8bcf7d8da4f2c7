import { crc32 } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { composeItemKey, type Key } from '../../../src/domain/key.ts'
import type { Mutation, Outcome } from '../../../src/domain/mutation.ts'
import type { PeerAnswer } from '../../../src/domain/peer-reads.ts'
import { versionFromNumber } from '../../../src/domain/version.ts'
import { AfterReplay } from '../../../src/recovery/after-replay.ts'
import { tellGone } from '../../../src/recovery/gone-keys.ts'
import type { Wanted } from '../../../src/recovery/repair.ts'

const key = 'k' as Key
const version = (5n << 32n) | 7n

function wanted({ text = 'xy', number }: { text?: string; number?: string } = {}): Wanted {
  const row = {
    key,
    generation: 5,
    version: String(version),
    secondsLeft: Infinity,
    expiry: 0,
    flags: '0',
    size: text.length,
    checksum: crc32(text),
    number,
  }
  const subject = { namespaceId: 3, namespaceName: 'a', itemKey: composeItemKey('a', key), by: { key } }
  return { subject, row }
}

/** @returns what was told, and what was submitted for it */
async function tell(
  given: { answer?: PeerAnswer; outcome?: Outcome; served?: boolean; counter?: { text: string; number: string } } = {},
): Promise<{ told: string | undefined; submitted: Mutation[] }> {
  const submitted: Mutation[] = []
  const [told] = await tellGone([wanted(given.counter)], {
    session: {
      submit: async (mutation) => {
        submitted.push(mutation)
        return given.outcome ?? { kind: 'deleted' }
      },
      close: () => {},
    },
    peers: { find: async () => given.answer ?? { kind: 'gone' } },
    isServed: async () => given.served ?? true,
  })
  return { told, submitted }
}

describe('a key whose value nobody has', () => {
  it('is deleted, where its row still has the version that was missed', async () => {
    const { told, submitted } = await tell()
    expect(told).toBe('gone')
    expect(submitted).toEqual([{ kind: 'delete', namespaceId: 3, key, compare: version }])
  })

  it('is left alone where a peer holds it, or is silent: it counts as holding', async () => {
    const held: PeerAnswer = { kind: 'held', item: { casHigh: 0, casLow: 0, flags: '0', value: Buffer.from('x') } }
    for (const answer of [held, { kind: 'unknown' } as const]) {
      expect(await tell({ answer })).toEqual({ told: 'undecided', submitted: [] })
    }
  })

  it('is left alone where the memcached that misses it is not the one that is served: it has just begun, empty', async () => {
    expect(await tell({ served: false })).toEqual({ told: 'undecided', submitted: [] })
  })

  it('is left alone where a client has written to it meanwhile', async () => {
    expect((await tell({ outcome: { kind: 'exists', version: versionFromNumber(8n) } })).told).toBe('superseded')
    expect((await tell({ outcome: { kind: 'not-found' } })).told).toBe('superseded')
  })

  it('comes back where it is a counter: the directory has its number', async () => {
    const { told, submitted } = await tell({
      counter: { text: '5 ', number: '5' },
      outcome: { kind: 'stored', version: versionFromNumber(8n), number: 5n },
    })
    expect(told).toBe('restored')
    expect(submitted).toEqual([
      { kind: 'arithmetic', direction: 'incr', delta: 0n, namespaceId: 3, key, compare: version },
    ])
  })
})

it('a number that was written in another way is no counter: it would come back as another text', async () => {
  const { told, submitted } = await tell({ counter: { text: '007', number: '7' } })
  expect(told).toBe('gone')
  expect(submitted[0]?.kind).toBe('delete')
})

describe('after a replay', () => {
  const never = new AbortController().signal

  function story(undecided: number[]): {
    look: AfterReplay
    rounds: () => number
    rebuilt: (truncated: boolean) => void
  } {
    let rounds = 0
    let last: { truncated: boolean } | undefined
    const antiEntropy = {
      undecided: 0,
      round: async (): Promise<boolean> => {
        antiEntropy.undecided = undecided[rounds++] ?? 0
        return true
      },
    }
    const look = new AfterReplay({ antiEntropy, lastRebuild: () => last, pauseMilliseconds: 600_000 })
    return { look, rounds: () => rounds, rebuilt: (truncated) => (last = { truncated }) }
  }

  it('of a whole log nothing is looked for; of a truncated one once', async () => {
    const { look, rounds, rebuilt } = story([0, 0])
    await look.look(never)
    rebuilt(false)
    await look.look(never)
    expect(rounds()).toBe(0)
    rebuilt(true)
    for (let n = 0; n < 3; n++) await look.look(never)
    expect(rounds()).toBe(1)
    rebuilt(true)
    await look.look(never)
    expect(rounds()).toBe(2)
  })

  it('is looked again where a peer did not answer, but not at once', async () => {
    const { look, rounds, rebuilt } = story([4, 0])
    rebuilt(true)
    for (let n = 0; n < 3; n++) await look.look(never)
    expect(rounds()).toBe(1)
  })
})
