import { z } from 'zod'

/** What a node does beside serving, at a bounded cost. Seconds between two rounds, and how much a round may take. */
const seconds = (most: number) => z.number().min(0.1).max(most)
const perSecond = z.int().min(1).max(10_000_000)

export const upkeepSchema = z
  .strictObject({
    sweep: z
      .strictObject({
        itemsPerSecondMax: perSecond.default(50_000).describe('Flushed items that are freed in a second.'),
        pauseSeconds: seconds(86_400)
          .default(10)
          .describe('Between two looks whether something was flushed or dropped. A sweep lists all of memcached.'),
      })
      .prefault({})
      .describe('Frees the memory of items that a flush or a drop has ended.'),
    purge: z
      .strictObject({
        enabled: z.boolean().default(true).describe('One node of those that may is elected.'),
        rowsPerSecondMax: perSecond.default(5000).describe('Rows of the directory that are looked at in a second.'),
        pauseSeconds: seconds(86_400).default(60).describe('Between two passes over the directory.'),
        graceSeconds: z
          .int()
          .min(1)
          .max(86_400 * 365)
          .default(3600)
          .describe('How long the row of a deleted or expired key stays. Keep it well above the time of a verify.'),
      })
      .prefault({})
      .describe('Deletes dead rows of the directory: of deleted, expired and flushed keys, and of dropped namespaces.'),
    repair: z
      .strictObject({
        enabled: z.boolean().default(true).describe('Whether this node verifies itself in the background.'),
        pauseSeconds: seconds(86_400 * 365)
          .default(600)
          .describe('Between two passes over the directory and memcached.'),
        keysPerSecondMax: perSecond.default(2000).describe('Keys that are compared in a second.'),
        timeSharePercentMax: z
          .int()
          .min(1)
          .max(100)
          .default(10)
          .describe('Of the time that a pass takes: the rest it rests.'),
        searchLog: z
          .boolean()
          .default(true)
          .describe(
            'Whether a value that no peer has is looked for in the binlog: a pass then reads all that is retained, slowly.',
          ),
      })
      .prefault({})
      .describe('Compares memcached with the directory in the background, and puts right what differs.'),
    capacity: z
      .strictObject({
        warnPercent: z.int().min(1).max(100).default(90).describe('How full memcached is when a warning says so.'),
        pauseSeconds: seconds(3600).default(10).describe('Between two looks.'),
      })
      .prefault({})
      .describe('Tells of evictions, and warns before they begin.'),
    logRetention: z
      .strictObject({
        secondsMin: z
          .int()
          .min(0)
          .max(86_400 * 365)
          .default(3600)
          .describe(
            'A binlog that is kept for less is warned of, as is one that is kept for less than three rebuilds take.',
          ),
        pauseSeconds: seconds(86_400).default(60).describe('Between two looks.'),
      })
      .prefault({})
      .describe("Checks how long the database keeps its binlog against a rebuild's need."),
  })
  .prefault({})
  .describe('What a node does beside serving.')

export type UpkeepConfig = z.output<typeof upkeepSchema>
