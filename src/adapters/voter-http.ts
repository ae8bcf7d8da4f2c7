import { Agent, request } from 'node:http'

export type VoterEndpoint = { readonly host: string; readonly port: number } | { readonly socketPath: string }

export const voterPath = '/v1/voter/ask'
export const voterSecretHeader = 'x-whitehole-voter'

const answerBytesMax = 64 * 1024

/** Asks one voter over HTTP, on connections that stay open; each question has its own time. */
export class VoterHttp {
  readonly #endpoint: VoterEndpoint
  readonly #secret: string
  readonly #timeoutMilliseconds: number
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 8, maxFreeSockets: 2 })

  constructor(given: { endpoint: VoterEndpoint; secret: string; timeoutMilliseconds: number }) {
    this.#endpoint = given.endpoint
    this.#secret = given.secret
    this.#timeoutMilliseconds = given.timeoutMilliseconds
  }

  /** Rejects where no answer came in time, whatever the reason. */
  ask(question: unknown): Promise<unknown> {
    const body = JSON.stringify(question)
    return new Promise((resolve, reject) => {
      const asked = request(
        {
          ...this.#endpoint,
          method: 'POST',
          path: voterPath,
          agent: this.#agent,
          headers: {
            'content-type': 'application/json',
            'content-length': Buffer.byteLength(body),
            [voterSecretHeader]: this.#secret,
          },
          signal: AbortSignal.timeout(this.#timeoutMilliseconds),
        },
        (response) => {
          const chunks: Buffer[] = []
          let bytes = 0
          response.on('data', (chunk: Buffer) => {
            bytes += chunk.length
            if (bytes > answerBytesMax) response.destroy(new Error('the answer is too large'))
            else chunks.push(chunk)
          })
          response.on('error', reject)
          response.on('end', () => {
            if (response.statusCode !== 200) reject(new Error(`the voter answered ${response.statusCode}`))
            else {
              try {
                resolve(JSON.parse(Buffer.concat(chunks).toString('utf8')))
              } catch (error) {
                reject(error)
              }
            }
          })
        },
      )
      asked.on('error', reject)
      asked.end(body)
    })
  }

  close(): void {
    this.#agent.destroy()
  }
}
