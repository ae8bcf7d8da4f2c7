import { request } from 'node:http'
import { WhiteholeError } from '../domain/errors.ts'

/** A node's HTTP side. */
export type HttpEndpoint = { readonly host: string; readonly port: number } | { readonly socketPath: string }

export function formatEndpoint(endpoint: HttpEndpoint): string {
  if ('socketPath' in endpoint) return `unix:${endpoint.socketPath}`
  const host = endpoint.host.includes(':') ? `[${endpoint.host}]` : endpoint.host
  return `http://${host}:${endpoint.port}`
}

export interface HttpAnswer {
  readonly status: number
  readonly body: unknown
}

const bodyBytesMax = 64 * 1024 * 1024

/**
 * One request, its reply read as JSON. Not `fetch`: that gives up after five minutes, and a verify may take longer.
 * @throws WhiteholeError `not-serving` where nobody answers (in time)
 */
export async function askHttp(
  endpoint: HttpEndpoint,
  asked: {
    readonly method: 'GET' | 'POST'
    readonly path: string
    readonly timeoutMilliseconds?: number
    /** Sent as JSON. */
    readonly body?: unknown
    readonly headers?: Readonly<Record<string, string>>
  },
): Promise<HttpAnswer> {
  const { method, path, timeoutMilliseconds, body } = asked
  const headers = { ...asked.headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }
  const signal = timeoutMilliseconds === undefined ? {} : { signal: AbortSignal.timeout(timeoutMilliseconds) }
  try {
    return await new Promise<HttpAnswer>((resolve, reject) => {
      const sent = request({ ...endpoint, method, path, headers, agent: false, ...signal }, (response) => {
        const chunks: Buffer[] = []
        let bytes = 0
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length
          if (bytes > bodyBytesMax) response.destroy(new Error('the reply is too large'))
          else chunks.push(chunk)
        })
        response.on('error', reject)
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8')
          resolve({ status: response.statusCode ?? 0, body: parseJson(text) ?? text })
        })
      })
      sent.on('error', reject)
      sent.end(body === undefined ? undefined : JSON.stringify(body))
    })
  } catch (cause) {
    throw new WhiteholeError('not-serving', `${formatEndpoint(endpoint)} does not answer`, { cause })
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
