import { createConnection } from 'mysql2/promise'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { engineList, mysqldPath } from '../support/databases.ts'
import { allFaults, FaultLoad, pause, repeats, tellTimes } from '../support/fault-load.ts'
import { until } from '../support/processes.ts'
import { type SandboxStatus, TestSandbox } from '../support/sandboxes.ts'

const minute = 60_000

/** Each row: steady load, a fault, its repair, quiet, and then the judgement of all that clients were told. */
describe.runIf(allFaults).each(engineList)('a pair of %s under load', (engine) => {
  let sandbox: TestSandbox
  beforeAll(async () => {
    sandbox = await TestSandbox.make()
    await sandbox.up(...(engine === 'mysql' ? ['--engine', `mysql:${mysqldPath}`] : []))
  })
  afterAll(async () => sandbox.remove())
  afterEach(async () => {
    for (const name of ['db1', 'db2']) await sandbox.run('sandbox', 'start', name)
  })

  const until_ = async (what: string, done: (status: SandboxStatus) => boolean): Promise<SandboxStatus> =>
    until(
      what,
      async () => {
        const status = await sandbox.status()
        if (done(status)) return status
        throw new Error(JSON.stringify(status))
      },
      3 * minute,
    )
  const ready = async (): Promise<{ primary: string; standby: string; epoch: number }> => {
    const { databases, epoch } = await until_('the sandbox to be ready', (status) => status.ready)
    const nameOf = (wanted: string): string => databases.find(({ role }) => role === wanted)?.name ?? ''
    return { primary: nameOf('primary'), standby: nameOf('standby'), epoch }
  }
  const kill = (name: string): void => void process.kill(sandbox.pid(name), 'SIGKILL')

  interface Fault {
    readonly load: FaultLoad
    readonly primary: string
    readonly standby: string
    readonly epoch: number
    readonly since: number
  }

  /** @param fault tells after how many milliseconds both nodes took writes again */
  function row(name: string, fault: (given: Fault) => Promise<number>, options: { watched?: boolean } = {}): void {
    test(
      name,
      async () => {
        const times: number[] = []
        for (let round = 0; round < repeats; round++) {
          const roles = await ready()
          const seed = Date.now() % 1_000_000
          console.log(`round ${round}, seed ${seed}`)
          const load = await FaultLoad.start(sandbox, seed, options)
          times.push(await fault({ load, ...roles, since: performance.now() }))
          await ready()
          await load.progress(50)
          await load.check()
        }
        console.log(`${engine}, ${name.split(':')[0]}: not writable ${tellTimes(times)}`)
      },
      3 * minute * repeats,
    )
  }

  row(
    'F3: a clean shutdown of the primary: the standby takes over, the old one follows when it is back',
    async (given) => {
      const { load, primary, since } = given
      expect((await sandbox.run('sandbox', 'stop', primary)).code).toBe(0)
      const milliseconds = await load.writableAgain(since)
      const after = await until_('another primary', ({ databases }) =>
        databases.some(({ name, role }) => name !== primary && role === 'primary'),
      )
      expect(after.epoch).toBeGreaterThan(given.epoch)
      expect((await sandbox.run('sandbox', 'start', primary)).code).toBe(0)
      return milliseconds
    },
  )

  row('F14: both databases are killed: they come back, and only who has everything is primary', async (given) => {
    kill(given.standby)
    kill(given.primary)
    return given.load.writableAgain(given.since)
  })

  row(
    'F15: the standby dies: writes go on alone once that is recorded, and the pair comes back by itself',
    async (given) => {
      const { load, primary, standby, since } = given
      expect((await sandbox.run('sandbox', 'kill', standby)).code).toBe(0)
      const milliseconds = await load.writableAgain(since)
      expect(milliseconds).toBeLessThan(10_000)
      const alone = await until_('solo', ({ mode }) => mode === 'solo')
      expect(alone.databases.find(({ role }) => role === 'primary')?.name).toBe(primary)
      await load.progress(100)
      expect((await sandbox.run('sandbox', 'start', standby)).code).toBe(0)
      expect((await ready()).primary).toBe(primary)
      return milliseconds
    },
  )

  row('F15: the primary dies while it is alone: nobody else is promoted, it goes on when it is back', async (given) => {
    const { load, primary, standby, since } = given
    expect((await sandbox.run('sandbox', 'kill', standby)).code).toBe(0)
    await load.writableAgain(since)
    await load.progress(50)
    const died = performance.now()
    kill(primary)
    await pause(1000)
    expect((await sandbox.run('sandbox', 'start', standby)).code).toBe(0)
    const milliseconds = await load.writableAgain(died)
    expect((await ready()).primary).toBe(primary)
    return milliseconds
  })

  row(
    'R4: the primary restarts quicker than anybody notices: positions are compared before it is writable',
    async (given) => {
      const { load, primary, epoch, since } = given
      expect((await sandbox.run('sandbox', 'restart', primary)).code).toBe(0)
      const milliseconds = await load.writableAgain(since)
      expect((await ready()).epoch).toBeGreaterThan(epoch)
      return milliseconds
    },
  )

  row('F6: the standby does not reach the primary: nobody is promoted, the primary goes on alone', async (given) => {
    const { load, primary, since } = given
    const root = await createConnection({ socketPath: sandbox.socket(primary), user: 'root', multipleStatements: true })
    const account = "whitehole_replication@'127.0.0.1'"
    await root.query(`SET sql_log_bin = 0; ALTER USER ${account} ACCOUNT LOCK`)
    const [sessions] = await root.query('SHOW PROCESSLIST')
    for (const { Id, User } of sessions as { Id: number; User: string }[]) {
      if (User === 'whitehole_replication') await root.query(`KILL ${Id}`)
    }
    await until_('solo', ({ mode }) => mode === 'solo')
    const milliseconds = await load.writableAgain(since)
    await load.progress(50)
    await root.query(`ALTER USER ${account} ACCOUNT UNLOCK`)
    root.destroy()
    expect((await ready()).primary).toBe(primary)
    return milliseconds
  })

  row('F16: the monitor dies together with the primary: it comes back and finishes', async (given) => {
    const { load, primary, since } = given
    process.kill(sandbox.pid('monitor'), 'SIGKILL')
    kill(primary)
    return load.writableAgain(since)
  })

  row('F43: every process is replaced in turn, as an upgrade does it, the primary by a switchover', async (given) => {
    const { load, primary, standby } = given
    const replace = async (name: string): Promise<void> => {
      expect((await sandbox.run('sandbox', 'restart', name)).code).toBe(0)
      await ready()
    }
    for (const name of ['node1', 'node2', 'monitor', standby]) await replace(name)
    expect((await sandbox.run('switchover')).code).toBe(0)
    const since = performance.now()
    await replace(primary)
    expect((await ready()).primary).toBe(standby)
    return load.writableAgain(since)
  })

  // The last one: the anti-flap window of a primary that lived on holds for a minute.
  row(
    'F2: the primary stands still and wakes up late: it finds itself fenced, and follows',
    async (given) => {
      const { load, primary, since } = given
      const pid = sandbox.pid(primary)
      process.kill(pid, 'SIGSTOP')
      const milliseconds = await load.writableAgain(since)
      expect(milliseconds).toBeLessThan(10_000)
      await load.progress(100)
      process.kill(pid, 'SIGCONT')
      expect((await ready()).primary).not.toBe(primary)
      return milliseconds
    },
    { watched: false },
  )
})
