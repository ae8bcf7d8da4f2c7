import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { engineList } from '../support/databases.ts'
import { long, Managed, managedAccounts, ManagedPair } from '../support/managed.ts'
import { until } from '../support/processes.ts'

describe.each(engineList)('a relay of a pair on %s', (engine) => {
  let pair: ManagedPair
  let relay: Managed

  beforeAll(async () => {
    pair = await ManagedPair.start(engine)
    relay = await Managed.start(engine, 'db3')
  })
  afterAll(async () => {
    await relay?.remove()
    await pair?.remove()
  })

  const follow = async (source: Managed): Promise<void> =>
    relay.locked(async (locked) => locked.followAsRelay({ ...source.control.address, adminPort: undefined }, long))

  const connected = async (): Promise<boolean> => (await relay.facts()).replication?.receiver === 'connected'

  const write = (key: string): Promise<unknown> =>
    pair.first.database.query(`CALL memcached.set_key(memcached.ns('default'), '${key}', 'x', 0)`)

  test('follows the standby, read-only, and acknowledges for nobody', async () => {
    await follow(pair.second)
    await until('it to be connected', connected)
    await write('a')
    await relay.caughtUpWith(pair.first)
    expect(await relay.facts()).toMatchObject({ readOnly: true, semiSync: { standbyEnabled: false } })
    expect((await pair.first.facts()).semiSync.clients).toBe(1)
    expect((await pair.second.facts()).semiSync.clients).toBe(0)
  })

  test('is refused by a primary that waits for its standby, and let in once it acknowledges alone', async () => {
    await follow(pair.first)
    const { user, password } = managedAccounts.relay
    const login = async (): Promise<void> => {
      const connection = await pair.first.database.connectTcp({ user, password })
      await connection.query('SELECT 1')
    }
    await expect(login()).rejects.toThrow()
    await until('it to try in vain', async () => (await relay.facts()).replication?.error !== '')
    expect(await connected()).toBe(false)
    // Whoever is no relay comes in as ever.
    const application = await pair.first.database.connectTcp(managedAccounts.application)
    await application.query('SELECT 1')
    await pair.first.locked(async (locked) => locked.disableSemiSync(long))
    await until('it to be let in', connected)
    await pair.first.locked(async (locked) => {
      await locked.enableSemiSync(long)
      await locked.evictReaders(long)
    })
    await until('it to be put out', async () => !(await connected()))
    await write('b')
    expect(await connected()).toBe(false)
    await follow(pair.second)
    await relay.caughtUpWith(pair.first)
  })
})
