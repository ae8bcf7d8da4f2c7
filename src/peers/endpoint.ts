import type { PeerEndpoint } from '../adapters/peer-http.ts'
import { parseAddress } from '../config/address.ts'
import type { Registration } from './registry.ts'

export function endpointOf({ name, http }: Registration): PeerEndpoint {
  const address = parseAddress(http)
  if (address === undefined) throw new Error(`${name} is registered without an address`)
  return address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port }
}
