import { setTimeout as delay } from 'node:timers/promises'
import { closeDatabaseConnection, type Databases } from '../adapters/databases.ts'
import { PrimaryConnection, type SqlRow } from '../adapters/primary-connection.ts'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import type { Logger } from '../runtime/logger.ts'

/** A row of `mc_nodes`. */
export interface Registration {
  readonly name: string
  readonly datacenter: string
  /** Its key-prefix listener, empty where it has none. */
  readonly listener: string
  /** Where its peers ask it: `host:port`, `unix:/path`. */
  readonly http: string
}

export interface RegistryOptions {
  readonly databases: Databases
  readonly self: Registration
  readonly logger: Logger
  /** For each question. */
  readonly timeoutMilliseconds: number
}

const retryMilliseconds = 300
const affirmMilliseconds = 30_000

/**
 * Who is a node: the rows of `mc_nodes`. A node serves only once its own row is there, so that whoever reads the rows on the
 * primary knows of all who may hold an item. A row stays when its node stops: it counts as holding until somebody deletes the row
 * (docs/adr/0010-peers.md).
 */
export class PeerRegistry {
  readonly #options: RegistryOptions
  readonly #primary: PrimaryConnection
  readonly #abort = new AbortController()
  #secret: string | undefined
  #running: Promise<readonly Registration[]> | undefined
  #next: Promise<readonly Registration[]> | undefined

  constructor(options: RegistryOptions) {
    this.#options = options
    this.#primary = new PrimaryConnection(options)
  }

  /** What nodes show each other; undefined until a database was asked. */
  get secret(): string | undefined {
    return this.#secret
  }

  /** Resolves once this node's row is known to be there, or `signal` is aborted. Where it was already, no primary is needed. */
  async register(signal: AbortSignal): Promise<void> {
    const stop = AbortSignal.any([signal, this.#abort.signal])
    let told = ''
    while (!stop.aborted) {
      try {
        const known = await this.#isKnown()
        if (!known) await this.#announce()
        void this.#affirm(!known)
        return
      } catch (error) {
        const reason = describeError(error)
        if (reason !== told) this.#options.logger.warn({ reason }, 'this node cannot register itself yet')
        told = reason
      }
      await delay(retryMilliseconds, undefined, { signal: stop }).catch(() => {})
    }
  }

  /**
   * Every other node, as the primary has them after this call. Calls that come while one is asked share the next one.
   * @throws WhiteholeError `database-away`
   */
  others(): Promise<readonly Registration[]> {
    if (this.#next !== undefined) return this.#next
    const before = this.#running ?? Promise.resolve()
    const next = before.then(ignore, ignore).then(() => {
      this.#running = next
      this.#next = undefined
      return this.#ask()
    })
    this.#next = next
    return next
  }

  /**
   * Every other node that some database tells of: the primary where there is one, else any. Who registered in this instant may be
   * missing. Empty where no database answers.
   */
  async known(signal: AbortSignal): Promise<readonly Registration[]> {
    try {
      return await this.others()
    } catch {
      signal.throwIfAborted()
      const { self } = this.#options
      for await (const nodes of this.#anywhere()) return nodes.filter(({ name }) => name !== self.name)
      return []
    }
  }

  close(): void {
    this.#abort.abort()
    this.#primary.close()
  }

  async #ask(): Promise<readonly Registration[]> {
    try {
      const { rows } = await this.#primary.ask(() => question)
      const nodes = this.#read(rows)
      return nodes.filter(({ name }) => name !== this.#options.self.name)
    } catch (error) {
      throw new WhiteholeError('database-away', `the list of nodes cannot be read: ${describeError(error)}`, {
        cause: error,
      })
    }
  }

  /** The row changes with the configuration, and somebody may have deleted it: a node that runs comes back by itself. */
  async #affirm(begun: boolean): Promise<void> {
    const { logger } = this.#options
    let announced = begun
    for (;;) {
      try {
        await this.#announce(!announced)
        announced = true
      } catch (error) {
        if (!this.#abort.signal.aborted) logger.debug({ reason: describeError(error) }, 'registration not affirmed')
      }
      try {
        await delay(affirmMilliseconds, undefined, { signal: this.#abort.signal, ref: false })
      } catch {
        return
      }
    }
  }

  async #announce(starts = true): Promise<void> {
    const { name, datacenter, listener, http } = this.#options.self
    const values = [name, datacenter, listener, http].map(hexLiteral).join(', ')
    await this.#primary.ask(
      () =>
        `INSERT INTO mc_nodes (name, datacenter, listener, http, started) VALUES (${values}, CURRENT_TIMESTAMP) ` +
        'ON DUPLICATE KEY UPDATE datacenter = VALUES(datacenter), listener = VALUES(listener), http = VALUES(http)' +
        (starts ? ', started = VALUES(started)' : ''),
    )
    if (this.#secret === undefined) await this.others()
  }

  /** On any database: a row that has reached a standby is on the primary, or the primary is gone. */
  async #isKnown(): Promise<boolean> {
    for await (const nodes of this.#anywhere()) {
      if (nodes.some(({ name }) => name === this.#options.self.name)) return true
    }
    return false
  }

  /** The rows as each database that answers has them. */
  async *#anywhere(): AsyncGenerator<readonly Registration[]> {
    const { databases, logger, timeoutMilliseconds } = this.#options
    for (const { probe } of await databases.probeAll()) {
      if (probe === undefined) continue
      const connection = await databases.connect(probe.address).catch(() => undefined)
      if (connection === undefined) continue
      try {
        const [rows] = await connection.query({ sql: question, rowsAsArray: true, timeout: timeoutMilliseconds })
        yield this.#read(rows as unknown as SqlRow[][])
      } catch (error) {
        logger.debug({ reason: describeError(error) }, 'a database does not tell the nodes')
      } finally {
        closeDatabaseConnection(connection)
      }
    }
  }

  #read([nodes = [], secrets = []]: readonly SqlRow[][]): Registration[] {
    const secret = secrets[0]?.[0]
    if (typeof secret !== 'string' || secret === '') {
      throw new WhiteholeError('bad-schema', 'mc_meta has no peer_secret: run `whitehole init`')
    }
    this.#secret = secret
    return nodes.map(([name, datacenter, listener, http]) => ({
      name: String(name),
      datacenter: String(datacenter),
      listener: String(listener),
      http: String(http),
    }))
  }
}

const question =
  "SELECT name, datacenter, listener, http FROM mc_nodes; SELECT value FROM mc_meta WHERE name = 'peer_secret'"

function hexLiteral(text: string): string {
  return text === '' ? "''" : `X'${Buffer.from(text, 'latin1').toString('hex')}'`
}

function ignore(): void {}
