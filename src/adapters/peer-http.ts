import { Agent, request } from 'node:http'
import type { PeerFinding } from '../domain/peer-reads.ts'

export type PeerEndpoint = { readonly host: string; readonly port: number } | { readonly socketPath: string }

/** Where a node answers its peers. */
export const peerItemPath = '/v1/peer/item'
export const peerSecretHeader = 'x-whitehole-peer'
export const peerAnswerHeader = 'x-whitehole-answer'
export const peerFlagsHeader = 'x-whitehole-flags'

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
            resolve({ kind, flags, value: Buffer.concat(chunks) })
          } else reject(new Error(`the peer answered ${response.statusCode}`))
        })
      })
      asked.on('error', reject)
      asked.end(question)
    })
  }

  close(): void {
    this.#agent.destroy()
  }
}
