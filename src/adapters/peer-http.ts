import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import type { DonationAnswer } from '../domain/donation.ts'
import type { PeerFinding } from '../domain/peer-reads.ts'

export type PeerEndpoint = { readonly host: string; readonly port: number } | { readonly socketPath: string }

/** Where a node answers its peers. */
export const peerItemPath = '/v1/peer/item'
export const peerHealthPath = '/v1/peer/health'
export const peerReadPath = '/v1/peer/read'
export const peerItemsPath = '/v1/peer/items'
export const peerSecretHeader = 'x-whitehole-peer'
export const peerAnswerHeader = 'x-whitehole-answer'
export const peerFlagsHeader = 'x-whitehole-flags'
/** There where the item is marked stale. */
export const peerStaleHeader = 'x-whitehole-stale'

/** memcached's own limit of `-I` is 1 GiB; a node's is far below. */
const valueBytesMax = 128 * 1024 * 1024

/** Asks other nodes over HTTP, on connections that stay open. */
export class PeerHttp {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 32, maxFreeSockets: 4, timeout: 10_000 })

  /** Rejects where the peer did not give an answer, whatever the reason. */
  ask(endpoint: PeerEndpoint, given: { secret: string; question: string; signal: AbortSignal }): Promise<PeerFinding> {
    const { secret, question, signal } = given
    return new Promise((resolve, reject) => {
      const headers = {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(question),
        [peerSecretHeader]: secret,
      }
      const options = { ...endpoint, method: 'POST', path: peerItemPath, agent: this.#agent, headers, signal }
      const asked = request(options, (response) => {
        const chunks: Buffer[] = []
        let bytes = 0
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length
          if (bytes > valueBytesMax) response.destroy(new Error('the answer is too large'))
          else chunks.push(chunk)
        })
        response.on('error', reject)
        response.on('end', () => {
          const kind = response.statusCode === 200 ? response.headers[peerAnswerHeader] : undefined
          const flags = response.headers[peerFlagsHeader]
          if (kind === 'gone') resolve({ kind })
          else if (kind === 'held' && typeof flags === 'string' && response.complete) {
            const stale = response.headers[peerStaleHeader] !== undefined
            resolve({ kind, flags, value: Buffer.concat(chunks), stale })
          } else reject(new Error(`the peer answered ${response.statusCode}`))
        })
      })
      asked.on('error', reject)
      asked.end(question)
    })
  }

  /** How the peer is, as it says itself. */
  async health(endpoint: PeerEndpoint, given: { secret: string; signal: AbortSignal }): Promise<unknown> {
    const response = await this.#post(endpoint, { ...given, path: peerHealthPath, body: '{}' })
    const text = await textOf(response)
    if (response.statusCode !== 200) throw new Error(`the peer answered ${response.statusCode}`)
    return JSON.parse(text)
  }

  /** Answers to a run of reads. Rejects where the peer does not serve, or is not as far as the asker. */
  async read(endpoint: PeerEndpoint, given: { secret: string; run: string; signal: AbortSignal }): Promise<Buffer> {
    const { secret, run, signal } = given
    const response = await this.#post(endpoint, { secret, signal, path: peerReadPath, body: run })
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > valueBytesMax) throw new Error('the answer is too large')
      chunks.push(chunk)
    }
    if (response.statusCode !== 200) throw new Error(`the peer answered ${response.statusCode}`)
    return Buffer.concat(chunks)
  }

  /** All its items (wire/peer/item-stream.ts). Who does not read on holds the peer up. */
  async give(
    endpoint: PeerEndpoint,
    given: { secret: string; request: object; signal: AbortSignal },
  ): Promise<DonationAnswer> {
    const { secret, signal } = given
    const response = await this.#post(endpoint, {
      secret,
      signal,
      path: peerItemsPath,
      body: JSON.stringify(given.request),
      silenceMilliseconds: streamSilenceMilliseconds,
    })
    if (response.statusCode === 200) return { kind: 'stream', chunks: response as AsyncIterable<Buffer> }
    const { reason } = JSON.parse(await textOf(response)) as { reason?: string }
    if (response.statusCode === 503 && reason !== undefined) return { kind: 'refused', reason }
    throw new Error(`the peer answered ${response.statusCode}`)
  }

  async #post(
    endpoint: PeerEndpoint,
    given: { secret: string; path: string; body: string; signal: AbortSignal; silenceMilliseconds?: number },
  ): Promise<IncomingMessage> {
    const { secret, path, body, signal, silenceMilliseconds } = given
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      [peerSecretHeader]: secret,
    }
    const timeout = silenceMilliseconds === undefined ? {} : { timeout: silenceMilliseconds }
    const options = { ...endpoint, method: 'POST', path, agent: this.#agent, headers, signal, ...timeout }
    const asked = request(options)
    asked.on('timeout', () => asked.destroy(new Error('the peer was silent for too long')))
    asked.end(body)
    const [response] = (await once(asked, 'response')) as [IncomingMessage]
    // What comes later is the reader's to see.
    asked.on('error', (error) => response.destroy(error))
    return response
  }

  close(): void {
    this.#agent.destroy()
  }
}

/** A peer that gives says at least every second that it lives. */
const streamSilenceMilliseconds = 10_000
const textBytesMax = 64 * 1024

async function textOf(response: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of response as AsyncIterable<Buffer>) {
    text += chunk.toString('utf8')
    if (text.length > textBytesMax) throw new Error('the answer is too large')
  }
  return text
}
