import { BlockList, isIP, isIPv4 } from 'node:net'

export interface Subnet {
  readonly address: string
  readonly bits: number
}

export function parseSubnet(text: string): Subnet | undefined {
  const [address = '', bits = ''] = text.split('/', 2)
  const most = isIPv4(address) ? 32 : 128
  if (isIP(address) === 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > most) return undefined
  return { address, bits: Number(bits) }
}

export function isInSubnet(address: string, text: string): boolean {
  const subnet = parseSubnet(text)
  if (subnet === undefined || isIP(address) !== isIP(subnet.address)) return false
  const list = new BlockList()
  const family = isIPv4(address) ? 'ipv4' : 'ipv6'
  list.addSubnet(subnet.address, subnet.bits, family)
  return list.check(address, family)
}
