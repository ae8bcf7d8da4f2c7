import { request } from 'node:http'
import type { NodeFacts } from '../doctor/node-checks.ts'
import { askNode } from './cluster-status.ts'
import type { HttpEndpoint } from './http-client.ts'

const answerMilliseconds = 3000

/** Undefined where the node does not answer. */
export async function nodeFacts(name: string, http: HttpEndpoint): Promise<NodeFacts | undefined> {
  const report = await askNode(http)
  if (report === undefined) return undefined
  const metrics = await readMetrics(http)
  return {
    name,
    state: report.state,
    failure: report.failure ?? null,
    memcachedVersion: report.memcached.version,
    lagSeconds: report.lagSeconds,
    clockSeconds: metrics?.clockSeconds,
    logKeptSeconds: metrics?.figure('whitehole_log_retention_seconds'),
    logNeededSeconds: metrics?.figure('whitehole_log_needed_seconds'),
  }
}

interface Metrics {
  readonly clockSeconds: number | undefined
  figure(name: string): number | undefined
}

async function readMetrics(http: HttpEndpoint): Promise<Metrics | undefined> {
  try {
    const { text, date } = await new Promise<{ text: string; date: string | undefined }>((resolve, reject) => {
      const signal = AbortSignal.timeout(answerMilliseconds)
      const sent = request({ ...http, path: '/metrics', agent: false, signal }, (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => resolve({ text: Buffer.concat(chunks).toString('utf8'), date: response.headers.date }))
      })
      sent.on('error', reject)
      sent.end()
    })
    // The header has whole seconds, rounded down.
    const clockSeconds = date === undefined ? undefined : Date.parse(date) / 1000 + 0.5 - Date.now() / 1000
    return { clockSeconds, figure: (name) => figureOf(text, name) }
  } catch {
    return undefined
  }
}

function figureOf(text: string, name: string): number | undefined {
  const value = new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text)?.[1]
  if (value === undefined) return undefined
  return value === '+Inf' ? Infinity : Number(value)
}
