import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { engineList, mysqldPath } from '../support/databases.ts'
import { allFaults, FaultLoad, medianOf, repeats, tellTimes } from '../support/fault-load.ts'
import { until } from '../support/processes.ts'
import { TestSandbox } from '../support/sandboxes.ts'

const minutes = 60_000

describe.each(engineList)('a pair of %s under load', (engine) => {
  let sandbox: TestSandbox
  beforeAll(async () => {
    sandbox = await TestSandbox.make()
    await sandbox.up(...(engine === 'mysql' ? ['--engine', `mysql:${mysqldPath}`] : []))
  })
  afterAll(async () => sandbox.remove())

  const primary = async (): Promise<string> => {
    const { databases } = await sandbox.status()
    return databases.find(({ role }) => role === 'primary')?.name ?? ''
  }
  const ready = async (): Promise<void> => {
    await until('the sandbox to be ready', async () => (await sandbox.status()).ready, minutes)
  }

  test(
    'F1: kill -9 of the primary: writable again within 3 s (median), nothing acknowledged is missing or stale, the old primary follows',
    async () => {
      const times: number[] = []
      for (let round = 0; round < repeats; round++) {
        await ready()
        const seed = Date.now() % 1_000_000
        console.log(`round ${round}, seed ${seed}`)
        const load = await FaultLoad.start(sandbox, seed)
        const old = await primary()
        const killed = performance.now()
        process.kill(sandbox.pid(old), 'SIGKILL')
        times.push(await load.writableAgain(killed))
        await load.progress(100)
        await until(
          'the old primary to follow',
          async () => {
            const { ready: isReady, databases } = await sandbox.status()
            return isReady && databases.find(({ name }) => name === old)?.role === 'standby'
          },
          minutes,
        )
        await load.progress(50)
        await load.check()
      }
      console.log(`${engine}, F1: not writable ${tellTimes(times)}`)
      expect(medianOf(times)).toBeLessThan(3000)
    },
    2 * minutes * repeats,
  )

  test.runIf(allFaults)(
    'F4: switchovers: not one client is told an error, and writes pause for a moment only',
    async () => {
      await ready()
      const seed = Date.now() % 1_000_000
      console.log(`seed ${seed}`)
      const load = await FaultLoad.start(sandbox, seed)
      expect(load.takeErrors()).toEqual([])
      const pauses: number[] = []
      for (let n = 0; n < Math.max(3, repeats); n++) {
        await ready()
        const before = await primary()
        const since = performance.now()
        const { code, stderr } = await sandbox.run('switchover')
        expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
        await load.progress(20)
        pauses.push(load.longestPause(since))
        expect(await primary()).not.toBe(before)
      }
      expect(load.takeErrors()).toEqual([])
      console.log(`${engine}, F4: writes paused ${tellTimes(pauses)}`)
      await load.check()
    },
    minutes * Math.max(3, repeats),
  )
})
