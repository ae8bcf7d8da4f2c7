import { z } from 'zod'
import type { AcceptorState } from './acceptor.ts'
import type { VoterReply, VoterRequest } from './voter-protocol.ts'

const ballot = z.object({ round: z.int().min(0), monitor: z.string().max(64) })

const record = z.object({
  epoch: z.int().min(0),
  primary: z.string().max(64),
  standby: z.string().max(64),
  mode: z.enum(['paired', 'solo']),
  stage: z.enum(['opening', 'steady', 'switching']),
  promotion: z.string().nullable(),
  instance: z.string().nullable(),
  standbyInstance: z.string().nullable(),
  former: z
    .object({ name: z.string().max(64), instance: z.string().nullable(), until: z.string().nullable().default(null) })
    .nullable(),
  cause: z.enum(['first-start', 'takeover', 'restart', 'switchover', 'forced']),
})

const accepted = z.object({ ballot, serial: z.int().min(0), record })

const acceptorState = z.object({ promised: ballot.nullable(), accepted: accepted.nullable() })

const request = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('canvass'), ballot }),
  z.object({ kind: z.literal('prepare'), ballot }),
  z.object({ kind: z.literal('accept'), offer: accepted }),
  z.object({ kind: z.literal('report'), ballot }),
])

const reply = acceptorState.extend({
  ok: z.boolean(),
  report: z
    .object({
      databases: z.record(z.string(), z.enum(['unknown', 'seen', 'lost'])),
      acknowledged: z.string().nullable(),
    })
    .nullable(),
})

/** @throws RangeError */
export function parseVoterRequest(value: unknown): VoterRequest {
  return parse(request, value)
}

/** @throws RangeError */
export function parseVoterReply(value: unknown): VoterReply {
  return parse(reply, value)
}

/** @throws RangeError */
export function parseAcceptorState(value: unknown): AcceptorState {
  return parse(acceptorState, value)
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  throw new RangeError(`no message of a voter: ${z.prettifyError(result.error)}`)
}
