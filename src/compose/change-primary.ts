import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Address } from '../config/address.ts'
import { loadMonitorConfig } from '../config/load.ts'
import { WhiteholeError } from '../domain/errors.ts'
import { askHttp, formatEndpoint, type HttpEndpoint } from './http-client.ts'
import { type ClusterAddress, defaultSandboxFolder } from './open-cluster.ts'

export interface ChangeOutcome {
  readonly ok: boolean
  readonly text: string
}

/** A takeover drains the standby first, which takes as long as it is behind. */
const changeMilliseconds = 60_000

/**
 * Asks the monitor that acts, whichever of them it is.
 * @throws WhiteholeError `not-serving` where none can be asked
 */
export async function changePrimary(
  kind: 'switchover' | 'takeover',
  { address, to }: { address: ClusterAddress; to?: string },
): Promise<ChangeOutcome> {
  const { monitors, token } = monitorsOf(address)
  const body = { ...(to === undefined ? {} : { to }), ...(kind === 'takeover' ? { force: true } : {}) }
  const reasons: string[] = []
  for (const endpoint of monitors) {
    try {
      const answer = await askHttp(endpoint, {
        method: 'POST',
        path: `/v1/${kind}`,
        timeoutMilliseconds: changeMilliseconds,
        body,
        headers: { authorization: `Bearer ${token}` },
      })
      const { text, error } = (answer.body ?? {}) as { text?: string; error?: string }
      if (answer.status === 200) return { ok: true, text: text ?? '' }
      if (answer.status === 409) return { ok: false, text: error ?? '' }
      reasons.push(`${formatEndpoint(endpoint)}: ${error ?? answer.status}`)
    } catch (error) {
      reasons.push((error as Error).message)
    }
  }
  throw new WhiteholeError('not-serving', `no monitor could be asked (${reasons.join('; ')})`)
}

function monitorsOf(address: ClusterAddress): { monitors: readonly HttpEndpoint[]; token: string } {
  if (address.url !== undefined) {
    const url = new URL(address.url)
    const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
    const port = url.port === '' ? 80 : Number(url.port)
    return { monitors: [{ host, port }], token: process.env['WHITEHOLE_TOKEN'] ?? '' }
  }
  const file = address.config ?? join(resolve(address.dir ?? defaultSandboxFolder), 'monitor', 'config.yaml')
  if (address.config === undefined && !existsSync(file)) {
    throw new WhiteholeError(
      'not-serving',
      `there is no sandbox with a monitor in ${resolve(address.dir ?? defaultSandboxFolder)}`,
    )
  }
  const { voters, secrets } = loadMonitorConfig(file)
  const monitors = voters.filter(({ kind }) => kind === 'monitor').map(({ http }) => endpointOf(http))
  return { monitors, token: secrets.token ?? '' }
}

function endpointOf(address: Address): HttpEndpoint {
  return address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port }
}
