import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createRegistry } from '../../src/admin/node-metrics.ts'
import { Databases } from '../../src/adapters/databases.ts'
import { writeEvent } from '../../src/adapters/event-table.ts'
import { PrimaryConnection } from '../../src/adapters/primary-connection.ts'
import { Alerts } from '../../src/compose/alerts.ts'
import { alertsSchema } from '../../src/config/alerts-config.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { initializeSchema } from '../../src/schema/initialize.ts'
import { announcement } from '../support/announcements.ts'
import { Database, engineList, pairUp } from '../support/databases.ts'
import { removeFolder, temporaryFolder, until } from '../support/processes.ts'

const host = '127.0.0.1'
const limits = { rowsMax: 1000, days: 30 }

describe.each(engineList)('the audit table on a pair of %s', (engine) => {
  let primary: Database
  let standby: Database
  let databases: Databases
  const connections: PrimaryConnection[] = []
  const connect = (): PrimaryConnection => {
    const connection = new PrimaryConnection({ databases, timeoutMilliseconds: 10_000 })
    connections.push(connection)
    return connection
  }
  const rows = async (database = primary): Promise<Record<string, unknown>[]> =>
    database.query('SELECT * FROM memcached.mc_events ORDER BY seq')

  beforeAll(async () => {
    ;[primary, standby] = await Promise.all([Database.start(engine), Database.start(engine)])
    await pairUp(primary, standby)
    const connection = await primary.connect()
    await initializeSchema(connection, {
      accounts: {
        monitor: { user: 'mon', host, password: 'm' },
        application: { user: 'app', host, password: 'a' },
      },
    })
    databases = new Databases({
      addresses: [primary, standby].map(({ port }) => ({ host, port })),
      user: 'mon',
      password: 'm',
      database: 'memcached',
      topology: 'pair',
    })
  })

  afterAll(async () => {
    for (const connection of connections) connection.close()
    await Promise.all([primary?.remove(), standby?.remove()])
  })

  test('takes an event once, however often it is told, and has it on both databases', async () => {
    const one = announcement({ text: `it said "O'Reilly\\"; DROP TABLE mc_events; -- ü` })
    const connection = connect()
    for (let time = 0; time < 3; time++) await writeEvent(connection, one, limits)
    const [row, ...more] = await rows()
    expect(more).toEqual([])
    expect(row).toMatchObject({
      event_id: one.id,
      monitor: 'monitor1',
      event: 'primary-opened',
      severity: 'info',
      about: 'db2',
      epoch: 7,
      text: one.text,
    })
    expect(JSON.parse(String(row?.['facts']))).toEqual(one.facts)
    const [{ at } = { at: '' }] = await primary.query<{ at: string }>(
      "SELECT DATE_FORMAT(at, '%Y-%m-%dT%H:%i:%s.%f') AS at FROM memcached.mc_events",
    )
    expect(`${at.slice(0, 23)}Z`).toBe(one.at)
    await until('the standby to have it', async () => (await rows(standby)).length === 1)
  })

  test('is written by monitors alone', async () => {
    const asApplication = await primary.connectTcp({ user: 'app', password: 'a', database: 'memcached' })
    await expect(
      asApplication.query(
        "CALL mc_note_event('guess', 'x', NOW(), 'm', 'primary-opened', 'info', '', 1, 't', '{}', 1, 1)",
      ),
    ).rejects.toThrow(/monitors alone/)
    await expect(asApplication.query('SELECT * FROM mc_events')).rejects.toThrow(/denied/)
    const asMonitor = await primary.connectTcp({ user: 'mon', password: 'm', database: 'memcached' })
    await expect(asMonitor.query('DELETE FROM mc_events')).rejects.toThrow(/denied/)
  })

  test('keeps so many rows, and those not for ever', async () => {
    const connection = connect()
    for (let n = 0; n < 12; n++)
      await writeEvent(connection, announcement({ text: `row ${n}` }), { rowsMax: 5, days: 30 })
    expect((await rows()).map(({ text }) => text)).toEqual(['row 7', 'row 8', 'row 9', 'row 10', 'row 11'])
    const old = announcement({ at: new Date(Date.now() - 31 * 86_400_000).toISOString(), text: 'old' })
    await writeEvent(connection, old, limits)
    expect((await rows()).map(({ text }) => text)).not.toContain('old')
  })

  test('gets nothing on a database that is read-only, whatever the monitor may: it would be there alone', async () => {
    const asMonitor = await standby.connectTcp({ user: 'mon', password: 'm', database: 'memcached' })
    await expect(
      asMonitor.query(
        "CALL mc_note_event((SELECT value FROM mc_meta WHERE name = 'peer_secret'), 'x', NOW(), 'm', 'e', 'info', '', 1, 't', '{}', 1, 1)",
      ),
    ).rejects.toThrow(/read[-_]only/)
  })

  test('gets what happened while none was writable as soon as one is, in order', async () => {
    const folder = await temporaryFolder()
    const readOnly = engine === 'mariadb' ? 'read_only' : 'super_read_only'
    await primary.query(`SET GLOBAL ${readOnly} = 1`)
    const parts = {
      config: alertsSchema.parse({}),
      hooks: [],
      secrets: [],
      dataDirectory: folder,
      databases,
      phase: () => 'running' as const,
      logger: silentLogger,
    }
    // The monitor that saw it ends before anybody is writable, and another one starts in its folder.
    const first = new Alerts(parts)
    for (const text of ['one', 'two', 'three']) first.take(announcement({ text }))
    await first.close(100)
    await primary.query(`SET GLOBAL ${readOnly} = 0${engine === 'mysql' ? '; SET GLOBAL read_only = 0' : ''}`)
    const second = new Alerts(parts)
    try {
      await until('all to be written', async () => (await rows()).at(-1)?.['text'] === 'three')
      expect((await rows()).slice(-3).map(({ text }) => text)).toEqual(['one', 'two', 'three'])
    } finally {
      await second.close(0)
      await removeFolder(folder)
    }
  })
})

describe('alerts', () => {
  let folder: string
  let server: Server | undefined
  beforeAll(async () => {
    folder = await temporaryFolder()
  })
  afterAll(async () => {
    server?.closeAllConnections()
    server?.close()
    await removeFolder(folder)
  })

  test('reach the webhook though it fails at first, the mail command and the hook, and are counted', async () => {
    const ids: string[] = []
    let refusals = 2
    server = createServer((request, response) => {
      if (refusals-- > 0) return response.writeHead(503).end()
      ids.push(String(request.headers['whitehole-event-id']))
      return response.end()
    }).listen(0, host)
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const mail = join(folder, 'mail')
    const hook = join(folder, 'hook')
    const alerts = new Alerts({
      config: alertsSchema.parse({
        cluster: 'shop',
        webhooks: [{ url: `http://${host}:${port}/`, severityMin: 'warning' }],
        email: { emailalert: 'ops@example.org', gatherSeconds: 0.3, command: `cat >> ${mail}` },
        audit: { enabled: false },
      }),
      hooks: [
        {
          command: `echo $WHITEHOLE_PRIMARY $WHITEHOLE_PRIMARY_ADDRESS > ${hook}`,
          timeoutSeconds: 10,
          on: ['primary-opened'],
          tries: 1,
        },
      ],
      secrets: [],
      dataDirectory: join(folder, 'data'),
      databases: new Databases({ addresses: [], user: '', password: '', database: '', topology: 'pair' }),
      phase: () => 'running',
      logger: silentLogger,
    })
    const lost = announcement({ event: 'primary-lost', severity: 'critical', text: 'the primary db1 is lost' })
    const solo = announcement({ event: 'mode-solo', severity: 'warning' })
    try {
      alerts.take(lost)
      alerts.take(announcement())
      alerts.take(solo)
      await until('the webhook to have both', () => ids.length === 2)
      expect(ids).toEqual([lost.id, solo.id])
      const text = await until(
        'the mail',
        () => readFileSync(mail, 'utf8').endsWith('\n') && readFileSync(mail, 'utf8'),
      )
      expect(text).toMatch(/^Subject: \[whitehole shop\] critical: the primary db1 is lost \(and 2 more\)$/m)
      expect(await until('the hook', () => readFileSync(hook, 'utf8') || undefined)).toBe('db2 10.0.0.2:3306\n')
      const registry = createRegistry('monitor1', alerts.figures())
      await until('the mail to be counted', async () => /sink="email".*} 1$/m.test(await registry.metrics()))
      // The server has the last one before the sender has its answer.
      const delivered = /whitehole_alerts_waiting\{sink="webhook",.*\} 0/
      await until('the webhooks to be done', async () => delivered.test(await registry.metrics()))
      const metrics = await registry.metrics()
      expect(metrics).toMatch(/whitehole_events_total\{event="primary-lost",severity="critical",.*\} 1/)
      expect(metrics).toMatch(/whitehole_alerts_failed_total\{sink="webhook",.*\} 2/)
    } finally {
      await alerts.close(1000)
    }
  })
})
