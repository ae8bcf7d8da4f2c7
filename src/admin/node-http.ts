import { Readable } from 'node:stream'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import type { Registry } from 'prom-client'
import {
  peerAnswerHeader,
  peerFlagsHeader,
  peerHealthPath,
  peerItemPath,
  peerItemsPath,
  peerReadPath,
  peerSecretHeader,
  peerStaleHeader,
} from '../adapters/peer-http.ts'
import type { Donations } from '../domain/donation.ts'
import type { VoterDesk } from '../domain/voter-desk.ts'
import type { NodeState } from '../domain/node-state.ts'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import { type HttpAddress, listenHttp } from './listen-http.ts'
import { answerVoter } from './voter-routes.ts'
import type { PeerDesk } from '../domain/peer-reads.ts'

/** `GET /v1/status`: what `whitehole status` puts together. */
export interface NodeStatus {
  readonly name: string
  readonly datacenter: string
  readonly state: NodeState
  /** Why the node stopped for good, where it did. */
  readonly failure: string | null
  readonly pid: number
  readonly version: string
  readonly memcached: {
    readonly address: string
    readonly version: string | null
    readonly pid: number | null
    /** At 100 it evicts. Null until it was asked. */
    readonly usedPercent: number | null
    /** Since this node's start, or what memcached had counted before; those without a namespace are the ones that it did not name. */
    readonly evicted: number | null
    readonly evictedByNamespace: Readonly<Record<string, number>>
  }
  readonly listeners: readonly ListenerStatus[]
  readonly source: string | null
  readonly position: string | null
  readonly lagSeconds: number | null
  /** Null while nothing is rebuilt. */
  readonly rebuild: RebuildStatus | null
  /** The other nodes as this one sees them; `up`: reads may go there. */
  readonly peers: readonly {
    readonly name: string
    readonly datacenter: string
    readonly up: boolean
    readonly state: NodeState | null
    readonly lagSeconds: number | null
  }[]
  readonly namespaces: readonly { readonly id: number; readonly name: string; readonly generation: number }[]
}

export interface RebuildStatus {
  readonly from: 'peer' | 'log'
  readonly peer: string | null
  /** Items taken from the peer, and entries of the log applied. */
  readonly keys: number
  /** Null where nobody can tell, as of a log. */
  readonly keysExpected: number | null
  readonly percent: number | null
  readonly keysPerSecond: number
  readonly remainingSeconds: number | null
}

export type ListenerStatus =
  { readonly address: string; readonly namespace: string } | { readonly address: string; readonly namespaceFrom: 'key' }

export interface NodeHttpPorts {
  /** Asks nobody: balancers want it every second, also while memcached or a database hangs. */
  readonly state: () => Pick<NodeStatus, 'state' | 'failure'>
  readonly status: () => Promise<NodeStatus>
  readonly metrics: Registry
  /** Compares this node with the directory; takes its time. */
  readonly verify: (signal: AbortSignal) => Promise<unknown>
  readonly peers: PeerDesk
  readonly donations: Donations
  /** Undefined where this node has no vote about who is primary. */
  readonly voter: VoterDesk | undefined
}

/** The node's HTTP side: health for balancers, metrics, status for the command line. Read-only, but for the work that a verify costs. */
export async function listenNodeHttp(address: HttpAddress, ports: NodeHttpPorts): Promise<{ close(): Promise<void> }> {
  const server = Fastify({ forceCloseConnections: true })
  let verifying = false

  server.get('/healthz', () => ({ ok: true }))
  server.get('/readyz', (_request, reply) => {
    const { state, failure } = ports.state()
    void reply.code(state === 'serving' ? 200 : 503)
    return { ready: state === 'serving', state, failure }
  })
  server.get('/metrics', async (_request, reply) => {
    void reply.type(ports.metrics.contentType)
    return ports.metrics.metrics()
  })
  server.get('/v1/status', () => ports.status())
  server.post('/v1/verify', async (request, reply) => {
    // One at a time: it reads the whole directory and the whole memcached.
    if (verifying)
      return reply.code(409).send({ error: 'another verify is running on this node: try again when it has ended' })
    verifying = true
    const gone = new AbortController()
    request.raw.socket.once('close', () => gone.abort())
    try {
      return await ports.verify(gone.signal)
    } finally {
      verifying = false
    }
  })
  answerPeers(server, ports.peers)
  givePeers(server, ports)
  if (ports.voter !== undefined) answerVoter(server, ports.voter)
  server.setErrorHandler((error, _request, reply) => {
    const retryable = error instanceof WhiteholeError && error.retryable
    void reply.code(retryable ? 503 : 500).send({ error: describeError(error) })
  })
  await listenHttp(server, address)
  return { close: () => server.close() }
}

/** A rebuild's other side: docs/adr/0013-rebuild.md. */
function givePeers(server: FastifyInstance, { peers, donations }: Pick<NodeHttpPorts, 'peers' | 'donations'>): void {
  const admits = (request: FastifyRequest): boolean => {
    const secret = request.headers[peerSecretHeader]
    return peers.admits(typeof secret === 'string' ? secret : undefined)
  }
  server.post(peerHealthPath, (request, reply) => {
    if (!admits(request)) return reply.code(401).send({ error: 'for nodes' })
    return reply.send(peers.health())
  })
  server.post(peerReadPath, async (request, reply) => {
    if (!admits(request)) return reply.code(401).send({ error: 'for nodes' })
    try {
      const answer = await peers.read(request.body)
      if (answer === undefined) return reply.code(503).send({ error: 'this node does not serve, or is not as far' })
      return reply.type('application/octet-stream').send(answer)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      return reply.code(400).send({ error: error.message })
    }
  })
  server.post(peerItemsPath, (request, reply) => {
    if (!admits(request)) return reply.code(401).send({ error: 'for nodes' })
    try {
      const start = donations.begin(request.body)
      if (start.kind === 'refused') return reply.code(503).send({ reason: start.reason })
      void reply.type('application/octet-stream')
      return reply.send(Readable.from(start.chunks, { objectMode: false, highWaterMark: 512 * 1024 }))
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      return reply.code(400).send({ error: error.message })
    }
  })
}

/** Nothing is readable here without the secret that nodes take out of the database. */
function answerPeers(server: FastifyInstance, peers: PeerDesk): void {
  server.post(peerItemPath, async (request, reply) => {
    const secret = request.headers[peerSecretHeader]
    if (!peers.admits(typeof secret === 'string' ? secret : undefined))
      return reply.code(401).send({ error: 'for nodes' })
    try {
      const finding = await peers.answer(request.body)
      if (finding.kind === 'unknown') return reply.code(503).send({ error: 'this node does not know' })
      void reply.header(peerAnswerHeader, finding.kind).type('application/octet-stream')
      if (finding.kind === 'gone') return reply.send(Buffer.alloc(0))
      if (finding.stale === true) void reply.header(peerStaleHeader, '1')
      return reply.header(peerFlagsHeader, finding.flags).send(finding.value)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      return reply.code(400).send({ error: error.message })
    }
  })
}
