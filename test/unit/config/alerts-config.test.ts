import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { readAlertSecrets } from '../../../src/config/alert-secrets.ts'
import { alertsSchema, mailSelection } from '../../../src/config/alerts-config.ts'
import { hooksSchema } from '../../../src/config/hooks-config.ts'

const folder = mkdtempSync(join(tmpdir(), 'whitehole-alerts-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const complaints = (schema: typeof alertsSchema | typeof hooksSchema, value: unknown): string[] =>
  (schema.safeParse(value).error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`)
const email = (given: object) => alertsSchema.parse({ email: { emailalert: 'a@b.org', ...given } }).email

describe('alerts in the configuration', () => {
  test('need nothing', () => {
    expect(alertsSchema.parse(undefined)).toEqual({
      cluster: 'whitehole',
      webhooks: [],
      audit: { enabled: true, rowsMax: 10_000, days: 400, queueItemsMax: 1000 },
    })
    expect(hooksSchema.parse(undefined)).toEqual({ before: [], after: [] })
  })

  test('take the lines of ldirectord', () => {
    const given = email({ emailalert: 'a@b.org, c@d.org', emailalertfreq: 3600, emailalertstatus: 'starting,running' })
    expect(given).toMatchObject({
      emailalert: ['a@b.org', 'c@d.org'],
      emailalertfreq: 3600,
      emailalertstatus: ['starting', 'running'],
    })
    expect(email({ emailalertstatus: 'all' })?.emailalertstatus).toEqual(['all'])
  })

  test('name the path of what is wrong', () => {
    expect(complaints(alertsSchema, { webhooks: [{ url: 'ftp://x/' }] })[0]).toMatch(/^webhooks\.0\.url: /)
    expect(complaints(alertsSchema, { webhooks: [{ url: 'http://x/', secret: 'inline' }] })[0]).toMatch(
      /^webhooks\.0: .*secret/,
    )
    expect(complaints(alertsSchema, { email: { emailalert: 'a@b.org\nBcc: c@d.org' } })[0]).toMatch(
      /^email\.emailalert: /,
    )
    expect(complaints(alertsSchema, { email: { emailalert: '-oQ/tmp@b.org' } })[0]).toMatch(/^email\.emailalert: /)
    expect(complaints(alertsSchema, { email: { emailalert: 'a@b.org', emailalertstatus: 'sometimes' } })[0]).toMatch(
      /^email\.emailalertstatus/,
    )
    expect(complaints(alertsSchema, { email: { emailalert: 'a@b.org', emailalertstatus: 'none,running' } })[0]).toMatch(
      /stands alone/,
    )
    expect(complaints(hooksSchema, { before: [{ command: 'x', onFailure: 'maybe' }] })[0]).toMatch(
      /^before\.0\.onFailure/,
    )
    expect(complaints(hooksSchema, { after: [{ command: 'x', on: ['primary-ate-my-homework'] }] })[0]).toMatch(
      /^after\.0\.on\.0/,
    )
  })

  test('select mails by phase and by severity, of either kind all where none is named', () => {
    const all = { phases: ['starting', 'running', 'stopping'], severities: ['info', 'warning', 'critical'] }
    expect(mailSelection(['all'])).toEqual(all)
    expect(mailSelection(['none'])).toEqual({ phases: [], severities: [] })
    expect(mailSelection(['running'])).toEqual({ ...all, phases: ['running'] })
    expect(mailSelection(['running', 'critical'])).toEqual({ phases: ['running'], severities: ['critical'] })
    expect(mailSelection(['warning', 'critical'])).toEqual({ ...all, severities: ['warning', 'critical'] })
    expect(mailSelection(['all', 'critical'])).toEqual({ ...all, severities: ['critical'] })
    expect(mailSelection(['reloading']).phases).toEqual([])
  })

  test('read secrets from files that are not open to everybody, and never show them', () => {
    const write = (name: string, text: string, mode = 0o600): string => {
      writeFileSync(join(folder, name), text)
      chmodSync(join(folder, name), mode)
      return name
    }
    const read = (webhook: object) =>
      readAlertSecrets(alertsSchema.parse({ webhooks: [{ url: 'http://x/', ...webhook }] }), folder)
    expect(
      read({
        secretFile: write('key', 'k3y\n'),
        headersFile: write('headers', 'Authorization: Bearer t\nX-Team: db\n'),
      }),
    ).toEqual([{ secret: 'k3y', headers: { Authorization: 'Bearer t', 'X-Team': 'db' } }])
    expect(() => read({ secretFile: write('open', 'k3y', 0o644) })).toThrow(/chmod 600/)
    expect(() => read({ secretFile: 'absent' })).toThrow(/alerts\.webhooks\[0\]\.secretFile/)
    expect(() => read({ headersFile: write('bad', 'Bearer t0ken') })).toThrow(/^(?!.*t0ken).*headersFile/)
    expect(() => read({ headersFile: write('host', 'Host: elsewhere') })).toThrow(/headersFile/)
  })
})
