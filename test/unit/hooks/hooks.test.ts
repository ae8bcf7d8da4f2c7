import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import type { PlannedChange } from '../../../src/domain/change-guard.ts'
import { AfterHooks } from '../../../src/hooks/after-hooks.ts'
import { BeforeHooks, type BeforeHook } from '../../../src/hooks/before-hooks.ts'
import { silentLogger } from '../../../src/runtime/logger.ts'
import { announcement } from '../../support/announcements.ts'
import { until } from '../../support/processes.ts'

const folder = mkdtempSync(join(tmpdir(), 'whitehole-hooks-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
let files = 0
const file = (): string => join(folder, `${files++}`)
const contents = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '')

const change: PlannedChange = { kind: 'takeover', epoch: 7, to: 'db2', from: 'db1' }
const never = new AbortController().signal

function before(...hooks: Partial<BeforeHook>[]) {
  return new BeforeHooks({
    hooks: hooks.map((hook) => ({ command: 'true', timeoutMilliseconds: 10_000, onFailure: 'veto', ...hook })),
    announce: ({ epoch, to, from }) =>
      announcement({ event: 'before-takeover', facts: { ...announcement().facts, epoch, primary: to, former: from } }),
    logger: silentLogger,
  })
}

/** A process that is no zombie. */
function lives(pid: string): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

describe('a hook before a change', () => {
  test('finds the facts in its environment, and nothing of the daemon’s own', async () => {
    process.env['WHITEHOLE_TEST_SECRET'] = 'do not tell'
    const seen = file()
    expect(await before({ command: `env > ${seen}` }).mayBegin(change, never)).toEqual({ go: true })
    delete process.env['WHITEHOLE_TEST_SECRET']
    const lines = contents(seen).split('\n')
    for (const line of [
      'WHITEHOLE_EVENT=before-takeover',
      'WHITEHOLE_EPOCH=7',
      'WHITEHOLE_PRIMARY=db2',
      'WHITEHOLE_PRIMARY_ADDRESS=10.0.0.2:3306',
      'WHITEHOLE_FORMER=db1',
      'WHITEHOLE_FORMER_ADDRESS=10.0.0.1:3306',
      'WHITEHOLE_MODE=solo',
    ])
      expect(lines).toContain(line)
    expect(contents(seen)).not.toContain('do not tell')
  })

  test('vetoes with any end but 0, and says why; those behind it are not asked', async () => {
    const behind = file()
    const answer = await before(
      { command: 'echo the array rebuilds; exit 3' },
      { command: `touch ${behind}` },
    ).mayBegin(change, never)
    expect(answer).toMatchObject({
      go: false,
      why: expect.stringMatching(/ended with 3: the array rebuilds/) as string,
    })
    expect(existsSync(behind)).toBe(false)
  })

  test('that hangs is killed with its children in time, and then counts as configured', async () => {
    for (const [onFailure, go] of [
      ['veto', false],
      ['go-on', true],
    ] as const) {
      const pid = file()
      const started = performance.now()
      const answer = await before({
        command: `sh -c 'echo $$ > ${pid}; trap "" TERM; sleep 60; sleep 60' & wait`,
        timeoutMilliseconds: 1000,
        onFailure,
      }).mayBegin(change, never)
      expect(performance.now() - started).toBeLessThan(10_000)
      expect(answer.go).toBe(go)
      const child = contents(pid).trim()
      expect(child).toMatch(/^\d+$/)
      await until('its child to be gone', () => !lives(child))
    }
  })

  test('that is not there or dies counts as configured too', async () => {
    const command = '/nonexistent/hook'
    expect((await before({ command }).mayBegin(change, never)).go).toBe(false)
    expect((await before({ command, onFailure: 'go-on' }).mayBegin(change, never)).go).toBe(true)
    expect((await before({ command: 'kill -9 $$', onFailure: 'go-on' }).mayBegin(change, never)).go).toBe(true)
    expect((await before({ command: 'kill -9 $$' }).mayBegin(change, never)).go).toBe(false)
  })

  test('leaves what it starts in the background alone, and is not held up by it', async () => {
    const pid = file()
    const answer = await before({ command: `sleep 60 & echo $! > ${pid}`, timeoutMilliseconds: 20_000 }).mayBegin(
      change,
      never,
    )
    expect(answer.go).toBe(true)
    const child = contents(pid).trim()
    expect(lives(child)).toBe(true)
    process.kill(Number(child), 'SIGKILL')
  })

  test('is killed when the change is called off, and then nothing goes on', async () => {
    const abort = new AbortController()
    const pid = file()
    const answer = before({ command: `echo $$ > ${pid}; sleep 60`, onFailure: 'go-on' }).mayBegin(change, abort.signal)
    await until('it to run', () => contents(pid) !== '')
    abort.abort()
    expect((await answer).go).toBe(false)
    await until('it to be gone', () => !lives(contents(pid).trim()))
  })
})

describe('hooks after an event', () => {
  const hook = (command: string, more: { tries?: number; timeoutMilliseconds?: number } = {}) => ({
    command,
    timeoutMilliseconds: 10_000,
    on: ['primary-opened'],
    tries: 3,
    ...more,
  })

  test('run for their events alone, one after the other, so that the latest has the last word', async () => {
    const log = file()
    const hooks = new AfterHooks(
      [hook(`sleep 0.0$((9 - WHITEHOLE_EPOCH)); echo $WHITEHOLE_EPOCH >> ${log}`)],
      silentLogger,
    )
    for (const epoch of [6, 7, 8]) hooks.take(announcement({ facts: { ...announcement().facts, epoch } }))
    hooks.take(announcement({ event: 'acting' }))
    await until('all to have run', () => contents(log) === '6\n7\n8\n')
    expect(hooks.counts).toEqual({ run: 3, failed: 0, dropped: 0 })
    await hooks.close()
  })

  test('are tried again, but not once a newer event waits', async () => {
    const log = file()
    const once = file()
    const again = new AfterHooks([hook(`test -e ${once} && exit 0; touch ${once}; exit 1`)], silentLogger)
    again.take(announcement())
    await until('the second try', () => again.counts.run === 2)
    expect(again.counts.failed).toBe(1)
    await again.close()
    const failing = new AfterHooks([hook(`echo $WHITEHOLE_EPOCH >> ${log}; test $WHITEHOLE_EPOCH = 8`)], silentLogger)
    failing.take(announcement())
    failing.take(announcement({ facts: { ...announcement().facts, epoch: 8 } }))
    await until('the newer one to run', () => contents(log) === '7\n8\n')
    await failing.close()
  })

  test('that hang are killed when the monitor ends', async () => {
    const pid = file()
    const hooks = new AfterHooks([hook(`echo $$ > ${pid}; sleep 60`, { timeoutMilliseconds: 60_000 })], silentLogger)
    hooks.take(announcement())
    await until('it to run', () => contents(pid) !== '')
    await hooks.close(10)
    await until('it to be gone', () => !lives(contents(pid).trim()))
  })

  test('are bounded', async () => {
    const hooks = new AfterHooks([hook('sleep 60')], silentLogger)
    for (let n = 0; n < 100; n++) hooks.take(announcement())
    expect(hooks.counts.dropped).toBeGreaterThan(30)
    await hooks.close()
  })
})
