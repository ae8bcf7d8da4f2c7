import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'
import { armFailpoint, failpoint, failpointArmed } from '../../../src/runtime/failpoints.ts'

afterEach(() => {
  armFailpoint(undefined)
})

function reachedBy(setting: string, places: readonly Parameters<typeof failpoint>[0][]): number[] {
  const reached: number[] = []
  let at = 0
  armFailpoint(setting, () => reached.push(at))
  for (const place of places) {
    failpoint(place)
    at++
  }
  return reached
}

test('nothing happens at a place while none is armed, or another', () => {
  failpoint('before-apply')
  expect(reachedBy('mid-apply', ['before-apply', 'mid-sweep'])).toEqual([])
})

test('an armed place is reached once', () => {
  expect(reachedBy('mid-apply', ['before-apply', 'mid-apply', 'mid-apply'])).toEqual([1])
})

test('a place is reached at the time that is asked for', () => {
  expect(reachedBy('mid-apply:3', ['mid-apply', 'mid-apply', 'mid-sweep', 'mid-apply', 'mid-apply'])).toEqual([3])
})

test('an unknown name, or no number of times, is refused', () => {
  expect(() => armFailpoint('mid-aply')).toThrow(/mid-apply/)
  expect(() => armFailpoint('mid-apply:0')).toThrow(RangeError)
  expect(() => armFailpoint('mid-apply:x')).toThrow(RangeError)
})

test('whoever disarms takes back its own place alone', () => {
  const first = armFailpoint('mid-apply', () => {})
  const second = armFailpoint('mid-sweep', () => {})
  first()
  expect(failpointArmed('mid-sweep')).toBe(true)
  second()
  expect(failpointArmed('mid-sweep')).toBe(false)
})

test('an armed place kills the process, as kill -9 would', () => {
  const module = fileURLToPath(new URL('../../../src/runtime/failpoints.ts', import.meta.url))
  const program = `
    const { armFailpoint, failpoint } = await import(${JSON.stringify(module)})
    armFailpoint(process.env.WHITEHOLE_FAILPOINT)
    process.on('exit', () => console.log('a good-bye'))
    failpoint('mid-apply')
    console.log('lives on')`
  const { signal, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '--eval', program],
    { env: { ...process.env, WHITEHOLE_FAILPOINT: 'mid-apply' }, encoding: 'utf8', timeout: 20_000 },
  )
  expect({ signal, stdout }).toEqual({ signal: 'SIGKILL', stdout: '' })
  expect(stderr).toContain('mid-apply')
})
