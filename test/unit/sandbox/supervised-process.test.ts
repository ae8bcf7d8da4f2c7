import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { SupervisedProcess } from '../../../src/sandbox/supervised-process.ts'
import { removeFolder, temporaryFolder, until } from '../../support/processes.ts'

const cleanups: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function supervise(
  script: string,
  restartMilliseconds?: () => number,
): Promise<{ process: SupervisedProcess; told: string[] }> {
  const folder = await temporaryFolder()
  const told: string[] = []
  const spec = { name: 'sleeper', command: '/bin/sh', args: ['-c', script], folder: join(folder, 'sleeper') }
  const process = new SupervisedProcess(
    { ...spec, stopSeconds: 1, ...(restartMilliseconds === undefined ? {} : { restartMilliseconds }) },
    (_process, what) => told.push(what),
  )
  cleanups.push(
    () => removeFolder(folder),
    () => process.stop('SIGKILL'),
  )
  return { process, told }
}

describe('a supervised process', () => {
  test('that dies by itself is started again', async () => {
    const { process: supervised } = await supervise('exec sleep 600')
    supervised.start()
    const first = supervised.pid ?? 0
    process.kill(first, 'SIGKILL')
    await until('another process', () => supervised.pid !== undefined && supervised.pid !== first)
    expect(supervised.ends).toBe(1)
  })

  test('is started less and less often while it fails at once', async () => {
    const { process: supervised, told } = await supervise('exit 3')
    supervised.start()
    await until('three ends', () => supervised.ends >= 3)
    const delays = told.map((what) => /in (\d+) ms/.exec(what)?.[1]).filter((delay) => delay !== undefined)
    expect(delays.slice(0, 3)).toEqual(['500', '1000', '2000'])
    expect(told.join()).toContain('exit code 3')
  })

  test('that had started is started as soon as the first time, however often it is killed', async () => {
    const { process: supervised, told } = await supervise('exec sleep 600', () => 10)
    let later = 0
    const now = performance.now.bind(performance)
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() + later)
    cleanups.push(async () => clock.mockRestore())
    supervised.start()
    for (let kills = 1; kills <= 3; kills++) {
      later += 3000
      process.kill(supervised.pid ?? 0, 'SIGKILL')
      await until('another process', () => supervised.ends === kills && supervised.state === 'running')
    }
    expect(told.filter((what) => what.includes('in 10 ms'))).toHaveLength(3)
  })

  test.each(['SIGTERM', 'SIGKILL'] as const)('that is ended with %s stays down until it is started', async (signal) => {
    const { process: supervised } = await supervise('exec sleep 600')
    supervised.start()
    await supervised.stop(signal)
    expect(supervised.state).toBe('down')
    expect(supervised.pid).toBeUndefined()
    supervised.start()
    expect(supervised.state).toBe('running')
  })

  test('that does not heed SIGTERM is killed after its time', async () => {
    const { process: supervised } = await supervise('trap "" TERM; echo ready; while :; do sleep 0.1; done')
    supervised.start()
    await until('the trap to be set', () => readFileSync(supervised.logFile, 'utf8').includes('ready'))
    await supervised.stop()
    expect(supervised.state).toBe('down')
  })

  test('that is stopped while it waits for its restart stays down', async () => {
    const { process: supervised } = await supervise('exit 0')
    supervised.start()
    await until('the back-off', () => supervised.state === 'waiting')
    await supervised.stop()
    expect(supervised.state).toBe('down')
  })
})
