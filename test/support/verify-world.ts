import { randomInt } from 'node:crypto'
import { crc32 } from 'node:zlib'
import type { Connection } from 'mysql2/promise'
import { MemcachedConnection } from '../../src/adapters/memcached-connection.ts'
import type { FollowedLog } from '../../src/domain/followed-log.ts'
import { composeItemKey, type Key, keyToBytes } from '../../src/domain/key.ts'
import type { CataloguedNamespace, Namespaces } from '../../src/domain/namespaces.ts'
import { covers, formatPosition, parsePosition, type Position } from '../../src/domain/position.ts'
import { composeVersion } from '../../src/domain/version.ts'
import type { NamespaceVerification, NodeVerification } from '../../src/recovery/verification.ts'
import { verifyNode, type VerifyOptions } from '../../src/recovery/verify.ts'
import { initializeSchema } from '../../src/schema/initialize.ts'
import { metaKey } from '../../src/wire/memcached/meta-key.ts'
import { Database, type Engine } from './databases.ts'
import { dialogue, Memcached } from './memcached.ts'

const nodeAccount = { user: 'node', host: '127.0.0.1', password: 'for-tests-only' }

/** A node's surroundings for verify, each filled by hand: a directory, a memcached, a catalogue, a followed log. */
export class VerifyWorld {
  readonly database: Database
  readonly root: Connection
  /** With a node's rights alone. */
  readonly directory: Connection
  readonly log = new HandMovedLog()
  readonly namespaces = new HandWrittenNamespaces()
  memcached: Memcached
  connection: MemcachedConnection

  private constructor(given: {
    database: Database
    root: Connection
    directory: Connection
    memcached: Memcached
    connection: MemcachedConnection
  }) {
    this.database = given.database
    this.root = given.root
    this.directory = given.directory
    this.memcached = given.memcached
    this.connection = given.connection
  }

  static async start(engine: Engine, memcachedOptions: readonly string[] = []): Promise<VerifyWorld> {
    const database = await Database.start(engine)
    const schema = await database.connect()
    await initializeSchema(schema, { accounts: { node: nodeAccount } })
    schema.destroy()
    const { user, password } = nodeAccount
    const memcached = await Memcached.start(memcachedOptions)
    return new VerifyWorld({
      database,
      root: await database.connect({ database: 'memcached' }),
      directory: await database.connectTcp({ user, password, database: 'memcached' }),
      memcached,
      connection: await connectTo(memcached),
    })
  }

  /** Nothing in any place; the followed log answers that it is where it is asked to be. */
  async clear(): Promise<void> {
    await this.root.query('DELETE FROM mc_stored_keys; DELETE FROM mc_namespaces')
    await dialogue(this.memcached.port, 'flush_all\r\nstats reset\r\n', /RESET\r\n$/)
    this.namespaces.clear()
    this.log.position = undefined
  }

  async useMemcached(memcached: Memcached): Promise<void> {
    this.connection.destroy()
    await this.memcached.stop()
    this.memcached = memcached
    this.connection = await connectTo(memcached)
  }

  async stop(): Promise<void> {
    this.connection.destroy()
    await Promise.all([this.memcached.stop(), this.database.remove()])
  }

  async createNamespace(id: number, name: string): Promise<CataloguedNamespace> {
    await this.root.query('INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (?, ?)', [id, name])
    return this.namespaces.put({ id, name, generation: await this.generation(id), watermark: 0, flushDue: 0 })
  }

  async generation(id: number): Promise<number> {
    const [rows] = await this.root.query('SELECT generation FROM mc_namespaces WHERE ns_id = ?', [id])
    return Number((rows as { generation: number }[])[0]?.generation)
  }

  /** A flush as a node applies it: the generation grows, and what is in memcached up to now is a miss. */
  async flush(id: number): Promise<void> {
    await this.root.query('UPDATE mc_namespaces SET generation = generation + 1 WHERE ns_id = ?', [id])
    const reply = await this.connection.request('ms ~whitehole 1 c', Buffer.from('-'))
    const watermark = Number(/ c(\d+)/.exec(reply.line)?.[1])
    const known = this.namespaces.byId(id)
    if (known !== undefined) this.namespaces.put({ ...known, generation: known.generation + 1, watermark })
  }

  async row(id: number, key: Key | string, given: RowGiven = {}): Promise<void> {
    const value = Buffer.from(given.value ?? 'value')
    const generation = this.namespaces.byId(id)?.generation ?? 1
    await (given.on ?? this.root).query(
      `INSERT INTO mc_stored_keys (ns_id, mc_key, version, expire, flags, size, checksum)
       VALUES (?, ?, ?, ${given.expireSql ?? '0'}, ?, ?, ?) ON DUPLICATE KEY UPDATE version = VALUES(version),
       expire = VALUES(expire), flags = VALUES(flags), size = VALUES(size), checksum = VALUES(checksum)`,
      [
        id,
        keyToBytes(key as Key),
        composeVersion(generation, randomInt(2 ** 40) / 2 ** 40).toString(),
        given.flags ?? '0',
        value.length,
        crc32(value),
      ],
    )
  }

  async item(id: number, key: Key | string, given: { value?: string; flags?: string } = {}): Promise<void> {
    const name = this.namespaces.byId(id)?.name ?? ''
    const { text, binary } = metaKey(composeItemKey(name, key as Key))
    const value = Buffer.from(given.value ?? 'value')
    const command = `ms ${text} ${value.length} F${given.flags ?? '0'}${binary ? ' b' : ''}`
    const reply = await this.connection.request(command, value)
    if (!reply.line.startsWith('HD')) throw new Error(`memcached said ${reply.line}`)
  }

  async removeItem(id: number, key: Key | string): Promise<void> {
    const name = this.namespaces.byId(id)?.name ?? ''
    const { text, binary } = metaKey(composeItemKey(name, key as Key))
    await this.connection.request(`md ${text}${binary ? ' b' : ''}`)
  }

  /** Row and item alike. */
  async both(id: number, key: Key | string, given: { value?: string; flags?: string } = {}): Promise<void> {
    await this.row(id, key, given)
    await this.item(id, key, given)
  }

  async verify(changes: Partial<VerifyOptions> = {}): Promise<NodeVerification> {
    return verifyNode({
      name: 'node1',
      directory: this.directory,
      memcached: this.connection,
      memcachedAddress: { host: '127.0.0.1', port: this.memcached.port },
      namespaces: this.namespaces,
      log: this.log,
      signal: new AbortController().signal,
      ...changes,
    })
  }

  /** What verify says of one namespace. */
  async verifyOne(name: string, changes: Partial<VerifyOptions> = {}): Promise<NamespaceVerification> {
    const found = (await this.verify(changes)).namespaces.find((namespace) => namespace.name === name)
    if (found === undefined) throw new Error(`verify says nothing of ${name}`)
    return found
  }
}

export interface RowGiven {
  value?: string
  flags?: string
  /** An SQL expression. */
  expireSql?: string
  on?: Connection
}

async function connectTo(memcached: Memcached): Promise<MemcachedConnection> {
  return MemcachedConnection.connect({ host: '127.0.0.1', port: memcached.port })
}

/** A followed log at the place where the test puts it; without one it is everywhere. */
export class HandMovedLog implements FollowedLog {
  position: Position | undefined
  waits = 0
  #waiters: { target: Position; resolve: () => void }[] = []

  move(dialect: Position['dialect'], text: string): void {
    const position = parsePosition(dialect, text)
    this.position = position
    const done = this.#waiters.filter(({ target }) => covers(position, target))
    this.#waiters = this.#waiters.filter((waiter) => !done.includes(waiter))
    for (const { resolve } of done) resolve()
  }

  whenReached(target: Position, timeoutMilliseconds: number): Promise<void> {
    this.waits++
    if (this.position === undefined || covers(this.position, target)) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`${formatPosition(target)} was not reached`)),
        timeoutMilliseconds,
      )
      this.#waiters.push({ target, resolve: () => (clearTimeout(timer), resolve()) })
    })
  }

  watchLane(): () => void {
    return () => {}
  }
}

export class HandWrittenNamespaces implements Namespaces {
  readonly #byId = new Map<number, CataloguedNamespace>()

  put(namespace: CataloguedNamespace): CataloguedNamespace {
    this.#byId.set(namespace.id, namespace)
    return namespace
  }

  drop(id: number): void {
    this.#byId.delete(id)
  }

  clear(): void {
    this.#byId.clear()
  }

  byId(id: number): CataloguedNamespace | undefined {
    return this.#byId.get(id)
  }

  byName(name: string): CataloguedNamespace | undefined {
    return [...this.#byId.values()].find((namespace) => namespace.name === name)
  }

  all(): Iterable<CataloguedNamespace> {
    return this.#byId.values()
  }
}
