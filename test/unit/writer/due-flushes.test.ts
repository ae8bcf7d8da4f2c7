import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { CataloguedNamespace } from '../../../src/domain/namespaces.ts'
import { silentLogger } from '../../../src/runtime/logger.ts'
import { DueFlushes } from '../../../src/writer/due-flushes.ts'

describe('delayed flushes', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  function world(flushDue: (id: number, due: number) => Promise<boolean>) {
    const namespaces = new Map<number, CataloguedNamespace>()
    const put = (id: number, due: number): void => {
      namespaces.set(id, { id, name: `n${id}`, generation: 1, watermark: 0, flushDue: due })
    }
    const calls: [number, number][] = []
    const service = new DueFlushes({
      namespaces: {
        all: () => namespaces.values(),
        byId: (id) => namespaces.get(id),
        byName: () => undefined,
      },
      flushDue: async (id, due) => {
        calls.push([id, due])
        return flushDue(id, due)
      },
      clock: { nowSeconds: () => 1000 + performance.now() / 1000 - startedAt },
      logger: silentLogger,
    })
    const startedAt = performance.now() / 1000
    service.start()
    return { service, put, calls }
  }

  it('are executed once they are due by the primary’s clock, and not again', async () => {
    const { service, put, calls } = world(async (id) => {
      put(id, 0)
      return true
    })
    put(1, 1002)
    put(2, 0)
    put(3, 1000)
    await vi.advanceTimersByTimeAsync(1000)
    expect(calls).toEqual([[3, 1000]])
    await vi.advanceTimersByTimeAsync(1500)
    expect(calls).toEqual([
      [3, 1000],
      [1, 1002],
    ])
    await vi.advanceTimersByTimeAsync(10_000)
    expect(calls).toHaveLength(2)
    service.stop()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('are tried again after a failure, never two of one namespace at a time', async () => {
    let fail: (() => void) | undefined
    const { service, put, calls } = world(
      async () => new Promise((_, reject) => (fail = () => reject(new Error('away')))),
    )
    put(1, 1000)
    await vi.advanceTimersByTimeAsync(5000)
    expect(calls).toHaveLength(1)
    fail?.()
    await vi.advanceTimersByTimeAsync(500)
    expect(calls).toHaveLength(1)
    await vi.advanceTimersByTimeAsync(1000)
    expect(calls).toHaveLength(2)
    service.stop()
    fail?.()
    await vi.advanceTimersByTimeAsync(5000)
    expect(calls).toHaveLength(2)
  })
})
