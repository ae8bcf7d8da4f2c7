import type { Key } from '../domain/key.ts'
import type { CataloguedNamespace, Namespaces } from '../domain/namespaces.ts'
import type { RequestKey } from '../wire/memcached/request.ts'

/** How the clients of a listener name their namespace. */
export interface Naming {
  /** The namespace of all requests; undefined where each key names its own. */
  readonly bound: string | undefined
  /** Asked anew for each use: namespaces come, go and are flushed while requests are under way. */
  find(key: RequestKey): CataloguedNamespace | undefined
  /** The key within the namespace. */
  keyOf(key: RequestKey): Key
}

export class BoundNaming implements Naming {
  readonly bound: string
  readonly #namespaces: Namespaces

  constructor(namespaces: Namespaces, namespaceName: string) {
    this.#namespaces = namespaces
    this.bound = namespaceName
  }

  find(): CataloguedNamespace | undefined {
    return this.#namespaces.byName(this.bound)
  }

  keyOf(key: RequestKey): Key {
    return key as Key
  }
}

/** `sessions:abc`: up to the first colon, which no namespace's name contains. */
export class PrefixNaming implements Naming {
  readonly bound = undefined
  readonly #namespaces: Namespaces

  constructor(namespaces: Namespaces) {
    this.#namespaces = namespaces
  }

  find(key: RequestKey): CataloguedNamespace | undefined {
    const colon = key.indexOf(':')
    return colon < 1 ? undefined : this.#namespaces.byName(key.slice(0, colon))
  }

  keyOf(key: RequestKey): Key {
    return key.slice(key.indexOf(':') + 1) as Key
  }
}
