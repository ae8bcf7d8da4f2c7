import { resolve } from 'node:path'
import type { Cluster } from './cluster.ts'
import { ConfiguredCluster } from './configured-cluster.ts'
import { SandboxCluster } from './sandbox-cluster.ts'
import { UrlCluster } from './url-cluster.ts'

/** How a command finds its cluster: one of them; without any, the sandbox in ./.whitehole. */
export interface ClusterAddress {
  readonly dir?: string | undefined
  readonly config?: string | undefined
  readonly url?: string | undefined
}

export const defaultSandboxFolder = './.whitehole'

/** @throws where it does not run, or the address is wrong */
export async function openCluster(address: ClusterAddress): Promise<Cluster> {
  if (address.url !== undefined) return UrlCluster.open(address.url)
  if (address.config !== undefined) return ConfiguredCluster.open(address.config)
  return SandboxCluster.open(resolve(address.dir ?? defaultSandboxFolder))
}
