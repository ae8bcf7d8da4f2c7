import { createHash, timingSafeEqual } from 'node:crypto'
import Fastify, { type FastifyRequest } from 'fastify'
import type { Registry } from 'prom-client'
import type { ClusterReport } from '../domain/cluster-report.ts'
import { describeError } from '../domain/errors.ts'
import type { RolesKnowledge } from '../domain/database-roles.ts'
import type { VoterDesk } from '../domain/voter-desk.ts'
import { answerDatabaseRoles } from './database-roles-http.ts'
import { type HttpAddress, listenHttp } from './listen-http.ts'
import { answerVoter } from './voter-routes.ts'

export interface MonitorHttpPorts {
  /** Undefined where this monitor has no vote. */
  readonly voter: VoterDesk | undefined
  /** Undefined: nobody may change anything over HTTP. */
  readonly token: string | undefined
  readonly metrics: Registry
  readonly report: () => ClusterReport
  readonly roles: () => RolesKnowledge
  /** Undefined where nothing is ours to change (external databases). */
  readonly request:
    | ((kind: 'switchover' | 'forced-takeover', to: string | undefined) => Promise<{ ok: boolean; text: string }>)
    | undefined
}

/** The monitor's HTTP side. Reading is free to whoever reaches it; a change wants the token. */
export async function listenMonitorHttp(
  address: HttpAddress,
  ports: MonitorHttpPorts,
): Promise<{ close(): Promise<void> }> {
  const server = Fastify({ forceCloseConnections: true })
  server.get('/healthz', () => ({ ok: true }))
  server.get('/readyz', (_request, reply) => {
    const { ready, stuck, mode } = ports.report()
    void reply.code(ready ? 200 : 503)
    return { ready, mode, stuck }
  })
  server.get('/metrics', async (_request, reply) => {
    void reply.type(ports.metrics.contentType)
    return ports.metrics.metrics()
  })
  server.get('/v1/cluster', () => ports.report())
  answerDatabaseRoles(server, ports.roles)
  for (const [path, kind] of changes) {
    server.post(path, async (request, reply) => {
      if (!hasToken(request, ports.token))
        return reply.code(401).send({ error: 'this wants the token of the monitors' })
      if (ports.request === undefined)
        return reply.code(409).send({ error: 'nothing is changed here: the databases are external' })
      const { to, force } = (request.body ?? {}) as { to?: unknown; force?: unknown }
      if (to !== undefined && typeof to !== 'string')
        return reply.code(400).send({ error: '`to` is the name of a database' })
      if (kind === 'forced-takeover' && force !== true) {
        return reply.code(400).send({ error: 'a takeover by hand may lose acknowledged writes: say `"force": true`' })
      }
      const report = ports.report()
      if (!report.acting) return reply.code(503).send({ error: 'another monitor acts', acting: report.actingMonitor })
      const answer = await ports.request(kind, to)
      return reply
        .code(answer.ok ? 200 : 409)
        .send(answer.ok ? { ok: true, text: answer.text } : { error: answer.text })
    })
  }
  if (ports.voter !== undefined) answerVoter(server, ports.voter)
  server.setErrorHandler((error, _request, reply) => {
    void reply.code(500).send({ error: describeError(error) })
  })
  await listenHttp(server, address)
  return { close: () => server.close() }
}

const changes = [
  ['/v1/switchover', 'switchover'],
  ['/v1/takeover', 'forced-takeover'],
] as const

function hasToken({ headers }: FastifyRequest, token: string | undefined): boolean {
  const given = /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1]
  return token !== undefined && given !== undefined && timingSafeEqual(digest(given), digest(token))
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
