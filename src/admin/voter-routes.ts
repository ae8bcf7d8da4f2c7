import type { FastifyInstance } from 'fastify'
import { voterPath, voterSecretHeader } from '../adapters/voter-http.ts'
import type { VoterDesk } from '../domain/voter-desk.ts'

/** On nodes and monitors alike. Without the secret it tells nothing. */
export function answerVoter(server: FastifyInstance, desk: VoterDesk): void {
  server.post(voterPath, async (request, reply) => {
    const secret = request.headers[voterSecretHeader]
    if (!desk.admits(typeof secret === 'string' ? secret : undefined)) {
      return reply.code(401).send({ error: 'for voters' })
    }
    try {
      return await desk.answer(request.body)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      return reply.code(400).send({ error: error.message })
    }
  })
}
