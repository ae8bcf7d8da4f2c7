import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ChaosProxy } from '../support/chaos-proxy.ts'
import { havePymemcache, pymemcache } from '../support/client-suites.ts'
import { World } from '../support/world.ts'

/** Tests of the suite of pymemcache 3.5.2 (Debian 12); a later one may have more. */
const testsMin = 46

describe.runIf(havePymemcache)("pymemcache's integration suite passes whole", () => {
  let world: World
  let proxy: ChaosProxy
  beforeAll(async () => {
    world = await World.start({ topology: 'single', nodes: 1 })
    proxy = await ChaosProxy.start(world.node(1).ports.sessions)
  })
  afterAll(async () => {
    await proxy?.stop()
    await world?.remove()
  })

  it.each([
    { title: 'as it is', delayMilliseconds: 0, sliceBytes: Number.POSITIVE_INFINITY },
    { title: 'with one byte a packet', delayMilliseconds: 0, sliceBytes: 1 },
    { title: 'with 20 ms added to each request', delayMilliseconds: 10, sliceBytes: Number.POSITIVE_INFINITY },
  ])('$title', async ({ delayMilliseconds, sliceBytes }) => {
    proxy.delay(delayMilliseconds)
    proxy.slice(sliceBytes)
    const report = await pymemcache(proxy.port, world.folder)
    expect(report.failed, report.output).toBe(0)
    expect(report.passed, report.output).toBeGreaterThanOrEqual(testsMin)
  })
})
