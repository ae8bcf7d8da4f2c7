import { WhiteholeError } from '../domain/errors.ts'
import { mergeVerifications, type NodeVerification, type Verification } from '../recovery/verification.ts'
import type { Cluster } from './cluster.ts'
import { askHttp } from './http-client.ts'

export { describeVerification, verificationExitCode } from '../recovery/verification.ts'

/**
 * Every node compares itself with the directory, all at the same time.
 * @throws WhiteholeError where a node can't: then nothing is known of it
 */
export async function verifyCluster(cluster: Cluster): Promise<Verification> {
  return mergeVerifications(await Promise.all(cluster.nodes.map(verifyOne)))
}

async function verifyOne({ name, http }: Cluster['nodes'][number]): Promise<NodeVerification> {
  const { status, body } = await askHttp(http, { method: 'POST', path: '/v1/verify' })
  if (status === 200) return body as NodeVerification
  const { error } = body as { error?: string }
  throw new WhiteholeError('not-serving', `${name} could not be verified: ${error ?? `HTTP ${status}`}`)
}
