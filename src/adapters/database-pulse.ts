import type { Connection } from 'mysql2/promise'
import { type DatabaseAddress, type Databases, severDatabaseConnection } from './databases.ts'

export type Pulse = 'answers' | 'denied' | 'refused' | 'silent'

/** Whether one database lives, over a connection of its own that is kept between questions. */
export class DatabasePulse {
  readonly #databases: Databases
  readonly #address: DatabaseAddress
  #connection: Connection | undefined

  constructor(databases: Databases, address: DatabaseAddress) {
    this.#databases = databases
    this.#address = address
  }

  /** Never rejects. */
  async feel(timeoutMilliseconds: number): Promise<Pulse> {
    const kept = this.#connection !== undefined
    const deadline = performance.now() + timeoutMilliseconds
    const first = await this.#try(timeoutMilliseconds)
    // A kept connection that broke says nothing of who listens there now.
    if (first !== 'silent' || !kept) return first
    const left = deadline - performance.now()
    return left > 50 ? this.#try(left) : first
  }

  close(): void {
    this.#drop()
  }

  async #try(timeoutMilliseconds: number): Promise<Pulse> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<'silent'>((resolve) => {
      timer = setTimeout(() => resolve('silent'), timeoutMilliseconds)
    })
    const asked = this.#ask(timeoutMilliseconds)
    try {
      const pulse = await Promise.race([asked, late])
      if (pulse !== 'answers') this.#drop()
      return pulse
    } finally {
      clearTimeout(timer)
    }
  }

  async #ask(timeoutMilliseconds: number): Promise<Pulse> {
    try {
      const connection =
        this.#connection ??
        (await this.#databases.connect(this.#address, {
          database: '',
          connectTimeout: Math.max(1, Math.round(timeoutMilliseconds)),
        }))
      this.#connection = connection
      await connection.query('SELECT 1')
      return 'answers'
    } catch (error) {
      return pulseOf(error)
    }
  }

  #drop(): void {
    if (this.#connection !== undefined) severDatabaseConnection(this.#connection)
    this.#connection = undefined
  }
}

function pulseOf(error: unknown): Pulse {
  const { code, errno } = error as { code?: unknown; errno?: unknown }
  if (code === 'ECONNREFUSED' || code === 'ENOENT') return 'refused'
  // Errors of the server have positive numbers, those of the network negative ones.
  return typeof errno === 'number' && errno >= 1000 ? 'denied' : 'silent'
}
