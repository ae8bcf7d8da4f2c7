import Fastify from 'fastify'
import { afterAll, expect, test } from 'vitest'
import { answerDatabaseRoles } from '../../../src/admin/database-roles-http.ts'
import type { RolesKnowledge } from '../../../src/domain/database-roles.ts'

let knowledge: RolesKnowledge = {
  databases: ['db1', 'db2'],
  by: 'record',
  record: { epoch: 7, primary: 'db2', standby: 'db1', mode: 'solo', stage: 'steady' },
  recordAgeMilliseconds: 10,
  seen: {},
}
const server = Fastify()
answerDatabaseRoles(server, () => knowledge)
afterAll(() => server.close())

test('a balancer gets 200 for the primary and 503 with the reason for others', async () => {
  const yes = await server.inject('/databases/db2/primary')
  expect([yes.statusCode, yes.json()]).toEqual([
    200,
    { database: 'db2', role: 'primary', is: true, reason: 'db2 is the primary of epoch 7', epoch: 7 },
  ])
  expect(yes.headers['cache-control']).toBe('no-store')
  const no = await server.inject('/databases/db1/primary')
  expect([no.statusCode, no.json()]).toEqual([
    503,
    { database: 'db1', role: 'primary', is: false, reason: 'db2 is the primary of epoch 7', epoch: 7 },
  ])
  expect((await server.inject({ method: 'HEAD', url: '/databases/db2/primary' })).statusCode).toBe(200)
})

test('what is asked wrongly is a 404, not a no', async () => {
  expect((await server.inject('/databases/db2/master')).statusCode).toBe(404)
  expect((await server.inject('/databases/db9/primary')).statusCode).toBe(404)
})

test('a monitor tells whether it is worth asking', async () => {
  expect((await server.inject('/databases')).json()).toMatchObject({ knows: true, primary: 'db2', mode: 'solo' })
  knowledge = { ...knowledge, recordAgeMilliseconds: 100_000 }
  expect((await server.inject('/databases')).statusCode).toBe(503)
  expect((await server.inject('/databases/db2/primary')).statusCode).toBe(503)
})
