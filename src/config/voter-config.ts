import { z } from 'zod'
import { tcpAddressSchema } from './address.ts'

/** `voter` of a node: what makes it one of those that decide who is primary. */
export const nodeVoterSchema = z
  .strictObject({
    databases: z
      .array(
        z.strictObject({
          name: z.string().min(1).max(64).describe('As the monitors call it.'),
          address: tcpAddressSchema.describe('Where this node looks whether it lives.'),
        }),
      )
      .min(2)
      .max(10)
      .describe('The databases of the pair, and relays that may become the primary.'),
    secretFile: z
      .string()
      .min(1)
      .describe(
        'A file with the secret that all voters share; a relative path starts at the folder of the configuration.',
      ),
  })
  .describe(
    'Makes this node a voter about who is primary (docs/TAKEOVER.md); the monitors name it under the same `name`. Its vote is kept in `dataDirectory`: never start it with an empty one.',
  )
