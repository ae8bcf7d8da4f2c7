import { expect, test } from 'vitest'
import { composeMail, mailSource } from '../../../src/alerts/mail-text.ts'
import { announcement } from '../../support/announcements.ts'

const addresses = { to: ['ops@example.org', 'dba@example.org'], from: 'whitehole@example.org', cluster: 'shop' }

test('a mail says in its subject what is worst, and in its body all of it with the facts', () => {
  const mail = composeMail(
    {
      kind: 'news',
      announcements: [
        announcement({ event: 'primary-lost', severity: 'critical', text: 'db1 is lost' }),
        announcement({ text: 'db2 is the primary of epoch 7' }),
      ],
    },
    addresses,
  )
  expect(mail.subject).toBe('[whitehole shop] critical: db1 is lost (and 1 more)')
  expect(mail.body).toMatch(/critical {2}primary-lost {2}db1 is lost\n/)
  expect(mail.body).toMatch(/\nepoch: 7\n.*primaryAddress: 10\.0\.0\.2:3306\n/s)
})

test('nothing that a database said can add a header or end the message', () => {
  const evil = 'db1 said\r\nBcc: everybody@example.org\n\n.\nmore'
  const source = mailSource(
    composeMail({ kind: 'news', announcements: [announcement({ text: evil })] }, addresses),
    new Date(0),
  )
  const [head = '', ...body] = source.split('\n\n')
  expect(head.split('\n').map((line) => line.split(':')[0])).toEqual([
    'From',
    'To',
    'Subject',
    'Date',
    'Message-ID',
    'Auto-Submitted',
    'MIME-Version',
    'Content-Type',
    'Content-Transfer-Encoding',
  ])
  expect(body.join('\n\n').split('\n')).not.toContain('.')
})

test('a subject that is not ASCII is encoded in words that are short enough', () => {
  const text = 'Größe überschritten, '.repeat(6)
  const source = mailSource(
    composeMail({ kind: 'news', announcements: [announcement({ text })] }, addresses),
    new Date(0),
  )
  const subject = /^Subject: (.*(?:\n .*)*)$/m.exec(source)?.[1] ?? ''
  const words = subject.split('\n ')
  expect(words.length).toBeGreaterThan(1)
  for (const word of words) expect(word.length).toBeLessThanOrEqual(75)
  const decoded = words.map((word) => Buffer.from(word.slice('=?UTF-8?B?'.length, -2), 'base64').toString()).join('')
  expect(decoded).toBe(`[whitehole test] info: ${text.trim()}`.replace('test', 'shop'))
})

test('a summary names what is still so', () => {
  const mail = composeMail(
    {
      kind: 'summary',
      announcements: [],
      more: 0,
      still: [announcement({ event: 'stuck', severity: 'critical', text: 'db1 and db2 are away' })],
    },
    addresses,
  )
  expect(mail.subject).toBe('[whitehole shop] summary: still db1 and db2 are away')
  expect(mail.body).toContain('Nothing new, and still so:')
})
