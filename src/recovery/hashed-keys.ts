import type { ItemKey } from '../domain/key.ts'
import type { NamespaceId } from '../domain/namespace.ts'

const tilde = 0x7e

/** The hashed item keys (`<namespace>:~<sha256>`) that the directory was seen to have a live row for; as many as fit. */
export class HashedKeys {
  readonly #limit: number
  readonly #known = new Set<string>()

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Does nothing for an item key that is not hashed. */
  add(namespaceId: NamespaceId, namespaceName: string, itemKey: ItemKey): void {
    if (itemKey.charCodeAt(namespaceName.length + 1) !== tilde || this.#known.size >= this.#limit) return
    this.#known.add(compact(namespaceId, namespaceName, itemKey))
  }

  has(namespaceId: NamespaceId, namespaceName: string, itemKey: ItemKey): boolean {
    return this.#known.has(compact(namespaceId, namespaceName, itemKey))
  }
}

/** 32 characters for the digest in place of 64, and no link to the longer string that it was cut from. */
function compact(namespaceId: NamespaceId, namespaceName: string, itemKey: ItemKey): string {
  return Buffer.from(itemKey.slice(namespaceName.length + 2), 'hex').toString('latin1') + namespaceId
}
