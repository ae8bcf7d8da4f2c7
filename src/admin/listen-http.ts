import { existsSync } from 'node:fs'
import { unlink } from 'node:fs/promises'
import type { FastifyInstance } from 'fastify'
import { WhiteholeError } from '../domain/errors.ts'

export type HttpAddress = { readonly host: string; readonly port: number } | { readonly path: string }

/** @throws WhiteholeError `bad-configuration` where the address is taken */
export async function listenHttp(server: FastifyInstance, address: HttpAddress): Promise<void> {
  try {
    if ('path' in address) {
      if (existsSync(address.path)) await unlink(address.path)
      await server.listen({ path: address.path })
    } else {
      await server.listen({ host: address.host, port: address.port })
    }
  } catch (cause) {
    const where = 'path' in address ? `unix:${address.path}` : `${address.host}:${address.port}`
    throw new WhiteholeError('bad-configuration', `cannot listen for HTTP on ${where}`, { cause })
  }
}
