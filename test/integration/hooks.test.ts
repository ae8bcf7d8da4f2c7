import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { announce } from '../../src/alerts/announce.ts'
import { BeforeHooks } from '../../src/hooks/before-hooks.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { MonitoredPair, startAsStandby } from '../support/monitored-pair.ts'
import { removeFolder, temporaryFolder, until } from '../support/processes.ts'

describe('a hook before a change, on a real pair', () => {
  let folder: string
  let world: MonitoredPair
  /** What it says: a number ends it; `wait` keeps it until that changes. */
  const say = (word: string): Promise<void> => writeFile(join(folder, 'verdict'), word)
  const asked = (): string => (existsSync(join(folder, 'asked')) ? readFileSync(join(folder, 'asked'), 'utf8') : '')

  beforeAll(async () => {
    folder = await temporaryFolder()
    await say('0')
    const hook = `echo "$WHITEHOLE_EVENT $WHITEHOLE_FORMER to $WHITEHOLE_PRIMARY epoch $WHITEHOLE_EPOCH" >> ${folder}/asked
      while grep -q wait ${folder}/verdict; do sleep 0.05; done
      exit $(cat ${folder}/verdict)`
    world = await MonitoredPair.start(
      new BeforeHooks({
        hooks: [{ command: hook, timeoutMilliseconds: 60_000, onFailure: 'veto' }],
        announce: ({ kind, epoch, to, from }) =>
          announce(
            { event: `before-${kind}`, severity: 'warning', about: to, text: '' },
            { cluster: 'test', monitor: 'monitor1', addresses: {} },
            {
              record: {
                ...world.monitor.record!,
                epoch,
                primary: to,
                standby: from,
                former: { name: from, instance: null, until: null },
              },
              atMilliseconds: Date.now(),
            },
          ),
        logger: silentLogger,
      }),
    )
    await world.paired()
  })

  afterAll(async () => {
    await world?.remove()
    await removeFolder(folder)
  })

  test('forbids a switchover: nothing changes, and who asked is told why', async () => {
    const { record } = world.monitor
    await say('7')
    const answer = await world.monitor.request('switchover', 'db2')
    expect(answer).toMatchObject({ ok: false, text: expect.stringMatching(/^vetoed .*ended with 7/) as string })
    expect(asked()).toBe(`before-switchover db1 to db2 epoch ${(record?.epoch ?? 0) + 1}\n`)
    expect(world.monitor.record).toEqual(record)
    await say('0')
    expect(await world.monitor.request('switchover', 'db2')).toMatchObject({ ok: true })
    expect(world.primary).toBe(world.pair.second)
    await world.paired()
  })

  test('that goes on too late, when the primary is back, changes nothing: its standby never left it', async () => {
    const { primary, standby } = world
    const { record } = world.monitor
    const before = asked()
    await say('wait')
    primary.database.program.signal('SIGSTOP')
    await until('the hook to be asked', () => asked() !== before)
    primary.database.program.signal('SIGCONT')
    await until('the primary to be seen again', () => {
      const sight = world.monitor.state.sightings[primary.control.name]
      return sight?.state === 'seen'
    })
    await say('0')
    // Either it is told that it became needless, or it was called off before for what is due now.
    await until('the takeover to be given up', () =>
      world.events.some((event) => event.kind === 'alarm' && event.about.startsWith('drain')),
    )
    expect(world.monitor.record?.epoch).toBe(record?.epoch)
    expect((await standby.facts()).replication?.receiver).toBe('connected')
    await world.paired()
  })

  test('forbids a takeover as long as it says so, and is asked again', async () => {
    await world.paired()
    const { primary, standby } = world
    const epoch = world.monitor.record?.epoch ?? 0
    await say('1')
    const before = asked().length
    await primary.database.stop('SIGKILL')
    await until('the hook to be asked three times', () => asked().slice(before).split('before-takeover').length > 3)
    expect(world.monitor.record?.epoch).toBe(epoch)
    expect((await standby.facts()).readOnly).toBe(true)
    await say('0')
    await world.takenOver(epoch)
    expect(world.primary).toBe(standby)
    await startAsStandby(primary)
    await world.paired()
  })
})
