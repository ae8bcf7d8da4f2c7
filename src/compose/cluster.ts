import type { Connection } from 'mysql2/promise'
import type { ClusterStatus } from './cluster-status.ts'
import type { HttpEndpoint } from './http-client.ts'

/** A running deployment, as the commands of the command line see it. */
export interface Cluster {
  status(): Promise<ClusterStatus>
  /** The nodes, whether or not they answer. */
  readonly nodes: readonly { readonly name: string; readonly http: HttpEndpoint }[]
  /** A connection to the writable database that may change namespaces. The caller ends it. Rejects where there is none. */
  connectPrimary(): Promise<Connection>
  close(): void
}
