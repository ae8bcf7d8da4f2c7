import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { MemcachedConnection } from '../adapters/memcached-connection.ts'
import { dumpItems } from '../adapters/memcached-dump.ts'
import { WhiteholeError } from '../domain/errors.ts'
import { deleteByCas } from '../wire/memcached/meta-key.ts'
import { MemcachedClock } from './memcached-clock.ts'
import { parseStateItem, type StateItem, stateItemKey } from './state-item.ts'

export interface MemcachedSessionOptions {
  readonly address: { readonly host: string; readonly port: number }
  /** The node's own folder: the port of its last applier connection is kept there. */
  readonly dataDirectory: string
  readonly timeoutMilliseconds: number
  readonly signal: AbortSignal
}

/**
 * The applier's connection to its memcached: the only one that writes. Before its first byte the former one must be gone from
 * memcached's own list, also if it was another process's: bytes of a dead connection that a stalled memcached
 * still holds would be executed after ours (races.md R15, tried).
 */
export class MemcachedSession {
  readonly connection: MemcachedConnection
  readonly #options: MemcachedSessionOptions
  #itemCasIsVersion = false
  /** Its own one: memcached fixes its clock at its start (R20). */
  readonly #clock = new MemcachedClock()
  /** Of the memcached process that we speak to: another one, or a flush_all, means other contents. */
  #identity = ''

  private constructor(connection: MemcachedConnection, options: MemcachedSessionOptions) {
    this.connection = connection
    this.#options = options
  }

  /** @throws WhiteholeError `memcached-away`, also while a former connection still lives there */
  static async open(options: MemcachedSessionOptions): Promise<MemcachedSession> {
    const { timeoutMilliseconds } = options
    const connection = await MemcachedConnection.connect(options.address, { timeoutMilliseconds })
    try {
      await waitForFormer(connection, options)
      await rememberPort(options.dataDirectory, connection.localPort)
      const session = new MemcachedSession(connection, options)
      await session.#identify()
      await session.#probeVersions()
      return session
    } catch (error) {
      connection.destroy()
      throw error
    }
  }

  /** Does memcached take the version as an item's CAS (flag E)? Found by trying: docs/adr/0009-item-cas.md. */
  get itemCasIsVersion(): boolean {
    return this.#itemCasIsVersion
  }

  /** Quiet commands, as `MemcachedConnection.bulk`. */
  bulk(chunks: readonly (Buffer | string)[]): Promise<readonly string[]> {
    return this.connection.bulk(chunks)
  }

  nowSeconds(): number {
    return this.#clock.nowSeconds()
  }

  /** Undefined also where the contents' CAS are of the other kind than this memcached's: they would be misread. */
  async readState(): Promise<StateItem | undefined> {
    const reply = await this.connection.request(`mg ${stateItemKey} v`)
    const state = reply.value === undefined ? undefined : parseStateItem(reply.value.toString('latin1'))
    if (state === undefined) return undefined
    return (state.baseWatermark === undefined) === this.#itemCasIsVersion ? state : undefined
  }

  /**
   * Throws the contents away. Until `writeState` the state item says nothing that parses: a node that dies in between begins anew.
   * @returns the base watermark: the CAS at or below which nothing may be read. Undefined where items carry versions: a CAS says nothing
   *   about its age there, so nothing is left.
   */
  async empty(): Promise<number | undefined> {
    await this.connection.request('flush_all')
    const stats = await this.#identify()
    if (this.#itemCasIsVersion && Number(stats.get('curr_items')) > 0) await this.#removeLeftovers()
    const base = casOf((await this.connection.request(`ms ${stateItemKey} 0 c`, Buffer.alloc(0))).line)
    if (base === undefined) throw new WhiteholeError('memcached-away', 'memcached has no room for the state item')
    return this.#itemCasIsVersion ? undefined : base
  }

  /** @param render the item's text; it wants the base watermark, which is known once the item stands */
  async beginAnew(render: (baseWatermark: number | undefined) => string): Promise<void> {
    await this.writeState(render(await this.empty()))
  }

  /**
   * Replaces the state item, never creates it: a missing one means that the contents are gone (R14), unless this very connection
   * goes on and nothing was flushed: then it was evicted, and is created again (R35).
   * @returns memcached's CAS counter at this instant
   */
  async writeState(text: string): Promise<number> {
    const value = Buffer.from(text, 'latin1')
    const replaced = casOf((await this.connection.request(`ms ${stateItemKey} ${value.length} MR c`, value)).line)
    if (replaced !== undefined) return replaced
    const identity = this.#identity
    await this.#identify()
    if (identity !== this.#identity) throw new ContentsGone('memcached was flushed by somebody else')
    const { line } = await this.connection.request(`ms ${stateItemKey} ${value.length} c`, value)
    const created = casOf(line)
    if (created === undefined) throw new ContentsGone(`memcached refused the state item: ${line}`)
    return created
  }

  close(): void {
    this.connection.destroy()
  }

  /** Beside the state item: a key that no namespace composes. */
  async #probeVersions(): Promise<void> {
    const { line } = await this.connection.request(`ms ${probeKey} 0 E77 T1 c`, Buffer.alloc(0))
    this.#itemCasIsVersion = line === 'HD c77'
    if (this.#itemCasIsVersion) await this.connection.request(`md ${probeKey}`)
  }

  /**
   * memcached that takes a CAS from outside flushes by whole seconds, and what was used in the very second of its flush_all is
   * removed with best effort alone. What it still lists afterwards is deleted one by one, until it lists nothing.
   */
  async #removeLeftovers(): Promise<void> {
    const { address, dataDirectory, signal } = this.#options
    for (;;) {
      let found = 0
      for await (const items of dumpItems(address, { folder: dataDirectory, signal })) {
        found += items.length
        await this.bulk(items.map(deleteByCas))
      }
      if (found === 0) return
    }
  }

  /** Asks for its clock, for the sake of the answer and of what it says. */
  async ask(): Promise<void> {
    await this.#stats()
  }

  async #identify(): Promise<ReadonlyMap<string, string>> {
    const stats = await this.#stats()
    this.#identity = `${stats.get('pid')} ${stats.get('cmd_flush')}`
    return stats
  }

  async #stats(): Promise<ReadonlyMap<string, string>> {
    const askedAt = performance.now()
    const stats = new Map<string, string>()
    for (const line of await this.connection.lines('stats')) {
      const [, name = '', value = ''] = line.split(' ')
      stats.set(name, value)
    }
    const seconds = Number(stats.get('time'))
    if (Number.isNaN(seconds)) throw new WhiteholeError('memcached-away', 'memcached tells no time')
    this.#clock.sample(seconds, askedAt, performance.now())
    return stats
  }
}

/** What memcached holds is not what this node put there: only a rebuild helps. */
export class ContentsGone extends Error {
  override readonly name = 'ContentsGone'
}

/**
 * One node process a memcached. An abstract unix socket is a lock that the kernel frees with its process, however that ends.
 * @throws WhiteholeError `bad-configuration` where another node holds it
 */
export async function lockMemcached(address: { host: string; port: number }): Promise<{ release(): void }> {
  const server: Server = createServer()
  server.listen(`\0whitehole-node-of-memcached-${address.host}:${address.port}`)
  try {
    await once(server, 'listening')
  } catch (cause) {
    const message = `another node already fills memcached ${address.host}:${address.port}: each node needs a memcached of its own`
    throw new WhiteholeError('bad-configuration', message, { cause })
  }
  server.unref()
  return { release: () => void server.close() }
}

/** No composed key has this form, as the state item's. */
const probeKey = '~whitehole-probe'

const portFile = 'applier-port'

async function waitForFormer(connection: MemcachedConnection, options: MemcachedSessionOptions): Promise<void> {
  const former = await formerPort(options.dataDirectory)
  if (former === undefined || former === connection.localPort) return
  const deadline = performance.now() + options.timeoutMilliseconds
  const suffix = `:${former}`
  for (;;) {
    const listed = await connection.lines('stats conns')
    if (!listed.some((line) => line.includes(':addr ') && line.endsWith(suffix))) return
    if (performance.now() > deadline) {
      throw new WhiteholeError(
        'memcached-away',
        `memcached still holds the former connection of this node (port ${former}): restart memcached if it stays`,
      )
    }
    await sleep(10, undefined, { signal: options.signal })
  }
}

async function formerPort(folder: string): Promise<number | undefined> {
  const text = await readFile(join(folder, portFile), 'latin1').catch(() => '')
  return /^\d+\n$/.test(text) ? Number(text) : undefined
}

async function rememberPort(folder: string, port: number): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const file = join(folder, portFile)
  await writeFile(`${file}.new`, `${port}\n`)
  await rename(`${file}.new`, file)
}

function casOf(line: string): number | undefined {
  const match = /^HD c(\d+)$/.exec(line)
  return match === null ? undefined : Number(match[1])
}
