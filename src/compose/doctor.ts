import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { networkInterfaces } from 'node:os'
import { resolve } from 'node:path'
import { type Connection, createConnection } from 'mysql2/promise'
import { closeDatabaseConnection, Databases, formatDatabaseAddress } from '../adapters/databases.ts'
import type { ClusterConfig } from '../config/cluster-config.ts'
import { loadClusterConfig, loadNodeConfig } from '../config/load.ts'
import { isInSubnet } from '../config/subnet.ts'
import { checkRoles, checkServer } from '../doctor/database-checks.ts'
import { type Finding, isToBeChanged, sortFindings } from '../doctor/finding.ts'
import { checkGrants } from '../doctor/grant-checks.ts'
import { checkNode, type NodeFacts } from '../doctor/node-checks.ts'
import { checkPlacement, checkSocket, type ExpectedSocket, expectedSockets } from '../doctor/placement-checks.ts'
import { checkRelay, type RelayPlace } from '../doctor/relay-checks.ts'
import { readServerFacts, type ServerFacts } from '../doctor/server-facts.ts'
import { checkSettings, type SettingNeeds } from '../doctor/setting-checks.ts'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import { DatabaseLink } from '../sandbox/database-link.ts'
import { ClusterView } from '../render/cluster-view.ts'
import { SandboxFolder } from '../sandbox/folder.ts'
import { nodeUser } from '../sandbox/process-specs.ts'
import { dialectOf, planOf } from '../sandbox/topology.ts'
import { rights } from '../schema/accounts.ts'
import { shapeProblems } from '../schema/shape.ts'
import { databaseAccess, endpointOf } from './configured-cluster.ts'
import { formatEndpoint, type HttpEndpoint } from './http-client.ts'
import { nodeFacts } from './doctor-nodes.ts'
import { type ClusterAddress, defaultSandboxFolder } from './open-cluster.ts'

export type { Finding } from '../doctor/finding.ts'

/** What is examined. */
interface Patient {
  readonly topology: SettingNeeds['topology']
  readonly databases: readonly { readonly name: string; readonly connect: () => Promise<Connection> }[]
  /** Those of them that are replicas in other data centres. */
  readonly relays: readonly RelayPlace[]
  readonly nodes: readonly { readonly name: string; readonly http: HttpEndpoint }[]
  readonly account: string
  readonly grantsOf: string
  /** The login sees everything. */
  readonly privileged: boolean
  readonly batchBytes: number
  readonly cluster?: ClusterConfig | undefined
}

export interface Examination {
  /** Nothing is to be changed. */
  readonly healthy: boolean
  readonly databases: number
  readonly nodes: number
  readonly findings: readonly Finding[]
}

const batchBytesDefault = 4 * 1024 * 1024
/** Where no node tells what it needs. */
const logSecondsLeast = 3600
const socketMilliseconds = 2000

/** Databases, nodes and, where there is one, the cluster file. Changes nothing. */
export async function examine(given: ClusterAddress & { readonly cluster?: string | undefined }): Promise<Examination> {
  const patient = patientOf(given)
  const nodes = await Promise.all(
    patient.nodes.map(async ({ name, http }) => ({ name, http, facts: await nodeFacts(name, http) })),
  )
  const needs = needsOf(
    patient,
    nodes.flatMap(({ facts }) => facts ?? []),
  )
  const { facts, findings } = await examineDatabases(patient, needs)
  const sockets = patient.cluster === undefined ? [] : await examineSockets(patient.cluster)
  const all = [
    ...findings,
    ...(facts.length === patient.databases.length ? checkRoles(facts, needs) : []),
    ...patient.relays.flatMap((relay) => checkRelay(relay, facts)),
    ...nodes.flatMap((node) => checkNode(node.name, formatEndpoint(node.http), node.facts)),
    ...(patient.cluster === undefined ? [] : checkPlacement(patient.cluster)),
    ...sockets,
  ]
  return {
    healthy: !all.some(isToBeChanged),
    databases: patient.databases.length,
    nodes: patient.nodes.length,
    findings: sortFindings(all),
  }
}

function needsOf({ topology, batchBytes }: Patient, nodes: readonly NodeFacts[]): SettingNeeds {
  const needed = nodes.flatMap(({ logNeededSeconds }) => logNeededSeconds ?? [])
  return { topology, batchBytes, logSeconds: Math.max(logSecondsLeast, ...needed.filter(Number.isFinite)) }
}

async function examineDatabases(
  patient: Patient,
  needs: SettingNeeds,
): Promise<{ facts: ServerFacts[]; findings: Finding[] }> {
  const facts: ServerFacts[] = []
  const findings: Finding[] = []
  await Promise.all(
    patient.databases.map(async ({ name, connect: open }) => {
      let connection: Connection | undefined
      try {
        connection = await open()
        const of = await readServerFacts(connection, { name, grantsOf: patient.grantsOf })
        facts.push(of)
        const account = { user: patient.account, rights: rights(of.dialect, 'node') }
        const shape = await shapeProblems(connection)
        // A table that the nodes' account has no right to is not there for it.
        const visible = patient.privileged
          ? shape
          : shape.filter((problem) => !problem.endsWith('mc_events is missing'))
        findings.push(...checkServer(of, visible))
        findings.push(...checkSettings(of, needs), ...checkGrants(of, account))
      } catch (error) {
        findings.push({
          severity: 'problem',
          where: name,
          check: 'database',
          found: `it does not answer: ${describeError(error)}`,
          remedy: 'start it, or see that this machine and this account may log in',
        })
      } finally {
        if (connection !== undefined) closeDatabaseConnection(connection)
      }
    }),
  )
  const byName = patient.databases.map(({ name }) => name)
  facts.sort((a, b) => byName.indexOf(a.name) - byName.indexOf(b.name))
  return { facts, findings }
}

async function examineSockets(cluster: ClusterConfig): Promise<Finding[]> {
  const found = await Promise.all(
    reachableFromHere(cluster).map(async (expected) =>
      checkSocket(expected, await accepts(expected.host, expected.port)),
    ),
  )
  return found.flat()
}

/** Those of the networks that this machine is in; all of them, from a machine that is in none. */
function reachableFromHere(cluster: ClusterConfig): ExpectedSocket[] {
  const sockets = expectedSockets(cluster)
  const own = Object.values(networkInterfaces()).flatMap((all = []) => all.map(({ address }) => address))
  const subnets = [cluster.networks, ...cluster.networks.beyond]
    .flatMap(({ caches, applications }) => [caches, applications])
    .filter((subnet) => subnet !== undefined)
  const ours = subnets.filter((subnet) => own.some((address) => isInSubnet(address, subnet)))
  return ours.length === 0 ? sockets : sockets.filter(({ host }) => ours.some((subnet) => isInSubnet(host, subnet)))
}

async function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect({ host, port, timeout: socketMilliseconds })
    const end = (open: boolean) => (): void => {
      socket.destroy()
      done(open)
    }
    socket.once('connect', end(true)).once('error', end(false)).once('timeout', end(false))
  })
}

function patientOf(given: ClusterAddress & { readonly cluster?: string | undefined }): Patient {
  if (given.url !== undefined) {
    throw new WhiteholeError(
      'bad-configuration',
      'a node tells no password of the databases: use --config, --cluster or --dir',
    )
  }
  const cluster = given.cluster === undefined ? undefined : loadClusterConfig(given.cluster)
  if (given.config !== undefined) return configured(given.config, cluster)
  if (cluster !== undefined && given.dir === undefined) return fromClusterFile(cluster)
  return { ...sandbox(resolve(given.dir ?? defaultSandboxFolder)), cluster }
}

function configured(file: string, cluster: ClusterConfig | undefined): Patient {
  const config = loadNodeConfig(file)
  const databases = new Databases(databaseAccess(config))
  return {
    topology: config.databases.topology,
    relays: config.databases.relays.map(({ address, filtered }) => ({
      name: formatDatabaseAddress(address),
      filtered,
    })),
    databases: [...config.databases.addresses, ...config.databases.relays.map(({ address }) => address)].map(
      (address) => ({
        name: formatDatabaseAddress(address),
        connect: async () => databases.connect(address, { database: '' }),
      }),
    ),
    nodes: cluster === undefined ? [{ name: config.name, http: endpointOf(config.http.listen) }] : nodesOf(cluster),
    account: config.databases.user,
    grantsOf: 'SHOW GRANTS',
    privileged: false,
    batchBytes: config.writer.batchBytesMax,
    cluster,
  }
}

function fromClusterFile(cluster: ClusterConfig): Patient {
  const password = readPassword(resolve('/etc/whitehole', cluster.passwordFile))
  const view = new ClusterView(cluster)
  const machines = view.running('database')
  return {
    topology: cluster.topology,
    relays: view.relays.map(({ name, database }) => ({ name, filtered: database.filtered })),
    databases: machines.map(({ name, networks, database }) => ({
      name,
      connect: async () =>
        createConnection({
          host: networks.caches.address,
          port: database.port,
          user: cluster.nodeUser,
          password,
          connectTimeout: socketMilliseconds,
          supportBigNumbers: true,
        }),
    })),
    nodes: nodesOf(cluster),
    account: cluster.nodeUser,
    grantsOf: 'SHOW GRANTS',
    privileged: false,
    batchBytes: batchBytesDefault,
    cluster,
  }
}

function nodesOf(cluster: ClusterConfig): Patient['nodes'] {
  return cluster.machines
    .filter(({ runs }) => runs.includes('node'))
    .map(({ name, networks }) => ({ name, http: { host: networks.caches.address, port: cluster.nodeHttpPort } }))
}

function sandbox(path: string): Patient {
  const folder = SandboxFolder.open(path)
  const { settings } = folder
  if (settings === undefined) throw new WhiteholeError('bad-configuration', `${path} holds no sandbox`)
  const plan = planOf(settings)
  return {
    topology: settings.topology,
    relays: plan.databases.flatMap(({ name, isRelay }) => (isRelay ? [{ name, filtered: false }] : [])),
    databases: plan.databases.map(({ name }) => {
      const link = new DatabaseLink({ name, dialect: dialectOf(settings), socketPath: folder.databaseSocket(name) })
      return { name, connect: async () => link.connect() }
    }),
    nodes: plan.nodes.map(({ name, httpPort }) => ({ name, http: { host: '127.0.0.1', port: httpPort } })),
    account: nodeUser,
    grantsOf: `SHOW GRANTS FOR '${nodeUser}'@'127.0.0.1'`,
    privileged: true,
    batchBytes: batchBytesDefault,
  }
}

function readPassword(file: string): string {
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '')
  } catch (error) {
    throw new WhiteholeError('bad-configuration', `passwordFile can't be read: ${(error as Error).message}`)
  }
}
