/** Counters of one namespace, in memcached's own words: `stats` names them so, metrics read them. */
export const counterNames = [
  'cmd_get',
  'cmd_set',
  'cmd_flush',
  'cmd_touch',
  'cmd_meta',
  'get_hits',
  'get_misses',
  'get_flushed',
  'delete_misses',
  'delete_hits',
  'incr_misses',
  'incr_hits',
  'decr_misses',
  'decr_hits',
  'cas_misses',
  'cas_hits',
  'cas_badval',
  'touch_hits',
  'touch_misses',
  'store_too_large',
  'total_items',
] as const

export type CounterName = (typeof counterNames)[number]
export type NamespaceCounters = Record<CounterName, number>

/** What the gateway counts. Plain numbers, so that counting costs nothing; readers come by when they want. */
export class GatewayCounters {
  currConnections = 0
  totalConnections = 0
  /** Turned away since there were too many. */
  rejectedConnections = 0
  /** Closed since they were slow: they did not read, did not finish a request, or idled. */
  slowConnections = 0
  bytesRead = 0
  bytesWritten = 0
  readonly #namespaces = new Map<string, NamespaceCounters>()

  /** @param namespaceName of a namespace that exists: entries are never removed */
  of(namespaceName: string): NamespaceCounters {
    let counters = this.#namespaces.get(namespaceName)
    if (counters === undefined) {
      counters = zeros()
      this.#namespaces.set(namespaceName, counters)
    }
    return counters
  }

  /** @param namespaceName undefined: all together */
  sum(namespaceName: string | undefined): NamespaceCounters {
    if (namespaceName !== undefined) return this.of(namespaceName)
    const total = zeros()
    for (const counters of this.#namespaces.values()) {
      for (const name of counterNames) total[name] += counters[name]
    }
    return total
  }

  /** `stats reset` */
  reset(namespaceName: string | undefined): void {
    const names = namespaceName === undefined ? [...this.#namespaces.keys()] : [namespaceName]
    for (const name of names) Object.assign(this.of(name), zeros())
  }

  entries(): IterableIterator<[string, NamespaceCounters]> {
    return this.#namespaces.entries()
  }
}

function zeros(): NamespaceCounters {
  return Object.fromEntries(counterNames.map((name) => [name, 0])) as NamespaceCounters
}
