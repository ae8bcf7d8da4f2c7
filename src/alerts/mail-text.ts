import type { Announcement, Severity } from '../domain/announcement.ts'
import { severities } from '../domain/announcement.ts'
import type { Mail } from './mail-damping.ts'

export interface MailMessage {
  readonly id: string
  readonly to: readonly string[]
  readonly from: string
  readonly subject: string
  readonly body: string
}

export interface MailAddresses {
  readonly to: readonly string[]
  readonly from: string
  readonly cluster: string
}

/** One line for the subject, the whole story below it. */
export function composeMail(mail: Mail, { to, from, cluster }: MailAddresses): MailMessage {
  const still = mail.kind === 'summary' ? mail.still : []
  const all = [...mail.announcements, ...still]
  const worst = worstOf(all)
  const tag = `[whitehole ${cluster}]`
  const head = all.find(({ severity }) => severity === worst)
  const rest = all.length > 1 ? ` (and ${all.length - 1} more)` : ''
  const subject =
    mail.kind === 'news'
      ? `${tag} ${worst}: ${head?.text ?? ''}${rest}`
      : `${tag} summary: ${still.length > 0 ? `still ${still[0]?.text ?? ''}` : (head?.text ?? '')}${rest}`
  const more = mail.kind === 'summary' && mail.more > 0 ? [`… and ${mail.more} more that are not listed`] : []
  const body = [
    ...mail.announcements.map(line),
    ...more,
    ...(still.length === 0 ? [] : ['', 'Nothing new, and still so:', ...still.map(line)]),
    '',
    ...facts(all.at(-1)),
  ]
  return { id: head?.id ?? '', to, from, subject: oneLine(subject, subjectCharactersMax), body: `${body.join('\n')}\n` }
}

/** What a sendmail takes on its input (`-t`). Nothing that was said by somebody else can add a header: each is one line. */
export function mailSource(message: MailMessage, date: Date): string {
  return [
    `From: ${oneLine(message.from)}`,
    `To: ${message.to.map((one) => oneLine(one)).join(', ')}`,
    `Subject: ${encodedWord(message.subject)}`,
    `Date: ${date.toUTCString().replace('GMT', '+0000')}`,
    `Message-ID: <${message.id}.${date.getTime()}@whitehole>`,
    'Auto-Submitted: auto-generated',
    'MIME-Version: 1.0',
    'Content-Type: text/plain; charset=utf-8',
    'Content-Transfer-Encoding: 8bit',
    '',
    message.body,
  ].join('\n')
}

const subjectCharactersMax = 180

function line({ at, severity, event, text }: Announcement): string {
  return `${at}  ${severity}  ${event}  ${oneLine(text)}`
}

function facts(announcement: Announcement | undefined): string[] {
  if (announcement === undefined) return []
  const { monitor, facts: known } = announcement
  const entries = Object.entries({ monitor, ...known }).filter(([, value]) => value !== null)
  return entries.map(([name, value]) => `${name}: ${String(value)}`)
}

function worstOf(announcements: readonly Announcement[]): Severity {
  return announcements.reduce<Severity>(
    (worst, { severity }) => (severities.indexOf(severity) > severities.indexOf(worst) ? severity : worst),
    'info',
  )
}

function oneLine(text: string, charactersMax = 1000): string {
  // oxlint-disable-next-line no-control-regex -- they are what must go
  const flat = text.replaceAll(/[\u0000-\u001F\u007F\u2028\u2029]+/g, ' ').trim()
  return flat.length > charactersMax ? `${flat.slice(0, charactersMax - 1)}…` : flat
}

/** RFC 2047 for what is not ASCII; in pieces, for each has its limit of 75 characters. */
function encodedWord(text: string): string {
  if (/^[\u0020-\u007E]*$/.test(text)) return text
  const pieces: string[] = []
  let piece = ''
  for (const character of text) {
    if (Buffer.byteLength(piece + character) > 42) {
      pieces.push(piece)
      piece = ''
    }
    piece += character
  }
  return [...pieces, piece].map((one) => `=?UTF-8?B?${Buffer.from(one).toString('base64')}?=`).join('\n ')
}
