import type { Cluster } from './cluster.ts'
import { askNode } from './cluster-status.ts'

/** What each node says at the moment, without a question to a database: cheap enough for every second. */
export async function askNodes(cluster: Cluster): Promise<NodeLine[]> {
  return Promise.all(
    cluster.nodes.map(async ({ name, http }) => {
      const report = await askNode(http)
      if (report === undefined) return { name, state: 'no answer', position: null, lagSeconds: null, failure: null }
      const { state, position, lagSeconds, failure } = report
      return { name, state, position, lagSeconds, failure: failure ?? null }
    }),
  )
}

export interface NodeLine {
  readonly name: string
  readonly state: string
  readonly position: string | null
  readonly lagSeconds: number | null
  readonly failure: string | null
}
