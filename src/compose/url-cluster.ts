import type { Connection } from 'mysql2/promise'
import { WhiteholeError } from '../domain/errors.ts'
import type { Cluster } from './cluster.ts'
import { askNode, type ClusterStatus, type NodeReport } from './cluster-status.ts'
import { formatEndpoint, type HttpEndpoint } from './http-client.ts'

/** One node, reached by its HTTP address alone. */
export class UrlCluster implements Cluster {
  readonly #endpoint: HttpEndpoint
  readonly #name: string

  private constructor(endpoint: HttpEndpoint, name: string) {
    this.#endpoint = endpoint
    this.#name = name
  }

  /** @throws WhiteholeError `not-serving` where no node answers there */
  static async open(text: string): Promise<UrlCluster> {
    const url = URL.canParse(text) ? new URL(text) : undefined
    if (url?.protocol !== 'http:') {
      throw new WhiteholeError(
        'bad-configuration',
        `"${text}" is no http:// address of a node, such as http://127.0.0.1:22121`,
      )
    }
    const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
    const endpoint = { host, port: url.port === '' ? 80 : Number(url.port) }
    return new UrlCluster(endpoint, (await ask(endpoint)).name)
  }

  get nodes(): { name: string; http: HttpEndpoint }[] {
    return [{ name: this.#name, http: this.#endpoint }]
  }

  async status(): Promise<ClusterStatus> {
    const { failure: _, namespaces, ...report } = await ask(this.#endpoint)
    const { name, datacenter, state, pid, memcached, listeners, source, position, lagSeconds, rebuild = null } = report
    const http = formatEndpoint(this.#endpoint)
    return {
      ready: state === 'serving',
      topology: 'unknown',
      mode: 'unknown',
      epoch: 0,
      databases: [],
      nodes: [{ name, datacenter, state, pid, http, memcached, listeners, source, position, lagSeconds, rebuild }],
      monitors: [],
      namespaces: namespaces.map(({ id, name: namespace, generation }) => ({
        id,
        name: namespace,
        generation,
        keys: null,
      })),
    }
  }

  async connectPrimary(): Promise<Connection> {
    return Promise.reject(
      new WhiteholeError(
        'bad-configuration',
        'a node tells no password of the databases: use --config with its configuration, or --dir for a sandbox',
      ),
    )
  }

  close(): void {}
}

async function ask(endpoint: HttpEndpoint): Promise<NodeReport> {
  const report = await askNode(endpoint)
  if (report === undefined) throw new WhiteholeError('not-serving', `no node answers at ${formatEndpoint(endpoint)}`)
  return report
}
