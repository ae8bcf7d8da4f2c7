import { isIP, isIPv4 } from 'node:net'
import { z } from 'zod'

/** Where something listens or is reached. */
export type Address = TcpAddress | UnixAddress

export interface TcpAddress {
  readonly kind: 'tcp'
  readonly host: string
  readonly port: number
}

export interface UnixAddress {
  readonly kind: 'unix'
  readonly path: string
}

/** The kernel's limit for a unix socket's path is 108 bytes with the terminating zero. */
const unixPathBytesMax = 107

/** `host:port`, `[ipv6]:port` or `unix:/path`; undefined for anything else. */
export function parseAddress(text: string): Address | undefined {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length)
    return path.startsWith('/') && Buffer.byteLength(path) <= unixPathBytesMax ? { kind: 'unix', path } : undefined
  }
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9_.-]+)):(\d{1,5})$/.exec(text)
  if (match === null) return undefined
  const host = match[1] ?? match[2] ?? ''
  const port = Number(match[3])
  if (port < 1 || port > 65_535 || (match[1] !== undefined && isIP(host) !== 6)) return undefined
  return { kind: 'tcp', host, port }
}

export function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `unix:${address.path}`
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
}

/** True where only this machine can reach it. A name other than `localhost` may resolve to anything. */
export function isLoopback(address: Address): boolean {
  if (address.kind === 'unix') return true
  const { host } = address
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

export const addressSchema = z.string().transform((text, context): Address => {
  const address = parseAddress(text)
  if (address !== undefined) return address
  context.addIssue({
    code: 'custom',
    message: `"${text}" is no address: write host:port, [ipv6]:port or unix:/path (a path has at most ${unixPathBytesMax} bytes)`,
  })
  return z.NEVER
})

export const tcpAddressSchema = z.string().transform((text, context): TcpAddress => {
  const address = parseAddress(text)
  if (address?.kind === 'tcp') return address
  context.addIssue({ code: 'custom', message: `"${text}" is no TCP address: write host:port or [ipv6]:port` })
  return z.NEVER
})
