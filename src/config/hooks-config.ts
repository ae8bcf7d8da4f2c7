import { z } from 'zod'

/** Commands of the user's around a change of the primary: docs/ALERTS.md. */
export type HooksConfig = z.output<typeof hooksSchema>

const command = z.string().min(1).describe('A shell command. The facts are in its environment, `WHITEHOLE_…`.')

export const hookEvents = [
  'primary-opened',
  'primary-chosen',
  'primary-lost',
  'primary-back',
  'primary-changed',
  'standby-lost',
  'standby-back',
  'mode-solo',
  'mode-paired',
  'fenced',
  'quarantined',
  'switchover-failed',
  'stuck',
  'unstuck',
] as const

export const hooksSchema = z
  .strictObject({
    before: z
      .array(
        z.strictObject({
          command,
          timeoutSeconds: z.number().min(0.1).max(300).default(5).describe('Writes may be waiting all that time.'),
          onFailure: z
            .enum(['veto', 'go-on'])
            .default('veto')
            .describe(
              'What it means when it takes too long (it is killed then, with its children), dies or can not be started.',
            ),
        }),
      )
      .max(8)
      .default([])
      .describe(
        'Asked one after the other before another database becomes the primary: 0 goes on, any other end is a veto.',
      ),
    after: z
      .array(
        z.strictObject({
          command,
          timeoutSeconds: z.number().min(0.1).max(3600).default(30).describe('Then it is killed, with its children.'),
          on: z
            .array(z.enum(hookEvents))
            .min(1)
            .default(['primary-opened', 'primary-changed'])
            .describe('After which events. `primary-opened`: a primary was made writable.'),
          tries: z.int().min(1).max(10).default(3).describe('How often it is run until it ends with 0.'),
        }),
      )
      .max(8)
      .default([])
      .describe('Run after it happened, one after the other.'),
  })
  .prefault({})
  .describe('Commands before and after a change of the primary, on the machine of the monitor that acts.')
