/**
 * A monitor's answers for balancers, in a process of its own (in a network of its own): `role-server.ts HOST PORT FILE`. The file says who is the
 * primary; an empty one says that nobody knows.
 */
import { readFileSync } from 'node:fs'
import Fastify from 'fastify'
import { answerDatabaseRoles } from '../../src/admin/database-roles-http.ts'

const [host = '', port = '', file = ''] = process.argv.slice(2)
const server = Fastify({ forceCloseConnections: true })
answerDatabaseRoles(server, () => {
  const primary = readFileSync(file, 'utf8').trim()
  const standby = primary === 'db1' ? 'db2' : 'db1'
  return {
    databases: ['db1', 'db2'],
    by: 'record',
    record: primary === '' ? null : { epoch: 1, primary, standby, mode: 'paired', stage: 'steady' },
    recordAgeMilliseconds: 0,
    seen: {},
  }
})
await server.listen({ host, port: Number(port) })
process.stdout.write('listening\n')
