/** What a node knows of a namespace. Its generation only grows, also across a drop and a re-creation of its name. */
export interface Namespace {
  readonly id: NamespaceId
  readonly name: string
  readonly generation: Generation
}

/** `mc_namespaces.ns_id`: 1 to 2^31-1. Ids that whitehole assigns start at 1001, so that a person may pick small ones. */
export type NamespaceId = number

/** 1 to 2^30-1: the high bits of every version written under it (domain/version.ts). */
export type Generation = number

export const generationMax: Generation = 2 ** 30 - 1

const namePattern = /^[A-Za-z0-9_.-]{1,64}$/

export function isNamespaceName(text: string): boolean {
  return namePattern.test(text)
}
