import type { FastifyInstance } from 'fastify'
import {
  answerKnows,
  answerRole,
  type DatabaseRole,
  databaseRoles,
  type RolesKnowledge,
} from '../domain/database-roles.ts'

/**
 * `GET /databases/<name>/primary|standby`: 200 or 503 for balancers (and `GET /databases`: is this monitor worth asking?), from what
 * the monitor has in memory: nobody else is asked, so it answers at once whatever hangs. Names and states alone, no secrets.
 */
export function answerDatabaseRoles(server: FastifyInstance, knowledge: () => RolesKnowledge): void {
  server.get('/databases', (_request, reply) => {
    const known = knowledge()
    const { status, reason } = answerKnows(known)
    const { record, databases } = known
    return reply
      .code(status)
      .header('cache-control', 'no-store')
      .send({
        knows: status === 200,
        reason,
        databases,
        epoch: record?.epoch ?? null,
        mode: record?.mode ?? null,
        primary: record?.primary ?? null,
        standby: record?.standby ?? null,
      })
  })
  server.get<{ Params: { name: string; role: string } }>('/databases/:name/:role', (request, reply) => {
    const { name, role } = request.params
    void reply.header('cache-control', 'no-store')
    if (!isRole(role)) return reply.code(404).send({ error: `ask for ${databaseRoles.join(' or ')}` })
    const known = knowledge()
    const { status, reason } = answerRole(known, name, role)
    return reply
      .code(status)
      .send({ database: name, role, is: status === 200, reason, epoch: known.record?.epoch ?? null })
  })
}

function isRole(text: string): text is DatabaseRole {
  return (databaseRoles as readonly string[]).includes(text)
}
