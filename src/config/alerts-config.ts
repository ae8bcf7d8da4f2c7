import { z } from 'zod'

/** Where a monitor tells what happens: docs/ALERTS.md. The log and the metrics always get everything. */
export type AlertsConfig = z.output<typeof alertsSchema>

const seconds = (most: number) => z.number().min(0.1).max(most)
const severity = z.enum(['info', 'warning', 'critical'])

const webhookSchema = z.strictObject({
  url: z
    .url({ protocol: /^https?$/, message: 'is no http or https URL' })
    .describe('Each announcement is POSTed there as JSON.'),
  secretFile: z
    .string()
    .min(1)
    .optional()
    .describe(
      'A file with the key of the HMAC-SHA256 signature; not signed without. A relative path starts at the folder of the configuration.',
    ),
  headersFile: z
    .string()
    .min(1)
    .optional()
    .describe('A file with further headers, one `Name: value` a line, for instance `Authorization`.'),
  severityMin: severity.default('info').describe('What is less bad is not sent.'),
  timeoutSeconds: seconds(120).default(10).describe('For one try.'),
  queueItemsMax: z.int().min(1).max(10_000).default(1000).describe('Announcements that may wait; then the oldest go.'),
  giveUpSeconds: z
    .int()
    .min(1)
    .max(86_400 * 30)
    .default(86_400)
    .describe('An announcement that could not be delivered for so long is dropped.'),
})

/** ldirectord's words for its own phases, and ours for how bad it is. */
const phaseWords = ['starting', 'running', 'stopping', 'reloading'] as const
const severityWords = ['info', 'warning', 'critical'] as const

const statusWord = z.enum(['all', 'none', ...phaseWords, ...severityWords])

export const emailSchema = z.strictObject({
  emailalert: z
    .union([z.string(), z.array(z.string()).max(20)])
    .transform((given) => (typeof given === 'string' ? given.split(',') : given).map((one) => one.trim()))
    .refine((list) => list.length > 0 && list.every(isMailAddress), 'must be mail addresses, `name@domain`')
    .describe('Who gets the mails: addresses, as a list or with commas.'),
  emailalertfrom: z
    .string()
    .refine(isMailAddress, 'is no mail address')
    .default('whitehole@localhost')
    .describe('The sender.'),
  emailalertfreq: z
    .int()
    .min(0)
    .max(86_400 * 7)
    .default(3600)
    .describe(
      'Seconds. In that time one state makes one mail, what else it does comes as a summary when the time is over, and a state that lasts is told again. 0: every announcement is mailed, none again.',
    ),
  emailalertstatus: z
    .union([z.string().transform((text) => text.split(',').map((one) => one.trim())), z.array(z.string())])
    .pipe(z.array(statusWord).min(1))
    .refine((words) => words.length === 1 || !words.includes('none'), '`none` stands alone')
    .default(['all'])
    .describe(
      'When and what is mailed: `all`, `none`, or some of `starting` `running` `stopping` (what the monitor itself is doing; `reloading` never happens) and `info` `warning` `critical` (how bad it is). Of either kind, none given means all of it.',
    ),
  command: z
    .string()
    .min(1)
    .default('/usr/sbin/sendmail -oi -t')
    .describe('A shell command that takes the whole message on its input, as sendmail does.'),
  timeoutSeconds: seconds(600).default(30).describe('Then the command is killed, and tried again later.'),
  gatherSeconds: z
    .number()
    .min(0)
    .max(60)
    .default(3)
    .describe('Announcements that come so close together go into one mail.'),
})

const auditSchema = z
  .strictObject({
    enabled: z.boolean().default(true).describe('Write them to the table `mc_events`, on the primary.'),
    rowsMax: z.int().min(1).max(1_000_000).default(10_000).describe('Rows that are kept; older ones are deleted.'),
    days: z.int().min(1).max(3650).default(400).describe('Older rows are deleted.'),
    queueItemsMax: z
      .int()
      .min(1)
      .max(10_000)
      .default(1000)
      .describe('Announcements that may wait while no database is writable; then the oldest go.'),
  })
  .prefault({})
  .describe('The audit table in SQL.')

export const alertsSchema = z
  .strictObject({
    cluster: z
      .string()
      .regex(/^[A-Za-z0-9_.-]{1,64}$/, 'must be 1 to 64 characters of A-Z a-z 0-9 _ . -')
      .default('whitehole')
      .describe('What announcements call this cluster: several may report to one place.'),
    webhooks: z.array(webhookSchema).max(8).default([]).describe('Programs that are told.'),
    email: emailSchema.optional().describe('People who are told: the keys are those of ldirectord.'),
    audit: auditSchema,
  })
  .prefault({})
  .describe('Who is told what happens.')

/** What `emailalertstatus` says, taken apart. */
export function mailSelection(words: readonly z.output<typeof statusWord>[]): {
  readonly phases: readonly ('starting' | 'running' | 'stopping')[]
  readonly severities: readonly z.output<typeof severity>[]
} {
  const phases = (['starting', 'running', 'stopping'] as const).filter((word) => words.includes(word))
  const severities = severityWords.filter((word) => words.includes(word))
  if (words.includes('none')) return { phases: [], severities: [] }
  const all = words.includes('all')
  // `reloading` alone is a choice too: of what never happens.
  const noPhases = phases.length === 0 && !words.includes('reloading')
  return {
    phases: all || noPhases ? ['starting', 'running', 'stopping'] : phases,
    severities: severities.length === 0 ? severityWords : severities,
  }
}

/** Enough to keep a header or an option out of it. */
function isMailAddress(text: string): boolean {
  return /^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~][A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]*@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(
    text,
  )
}
