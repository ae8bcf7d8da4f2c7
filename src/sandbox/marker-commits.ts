import { closeDatabaseConnection, severDatabaseConnection } from '../adapters/databases.ts'
import { describeError } from '../domain/errors.ts'
import type { DatabaseLink } from './database-link.ts'

const pendingMax = 8
const noSuchTable = 1146
const noSuchDatabase = 1049

/**
 * A small commit after each reconnect of the standby: where the acknowledgement of the last write was lost, writers stay
 * blocked until any further commit is acknowledged (research/semisync.md, "Lost ACK"). A marker may be blocked itself and then holds its row, so the next
 * one takes another row.
 */
export class MarkerCommits {
  readonly #report: (message: string) => void
  readonly #pending = new Map<string, () => void>()

  constructor(report: (message: string) => void) {
    this.#report = report
  }

  /** Returns once the marker is on its way; it may stay blocked until the standby is back. */
  async commit(primary: DatabaseLink): Promise<void> {
    const row = rowNames.find((name) => !this.#pending.has(`${primary.name} ${name}`))
    if (row === undefined) return
    const connection = await primary.connect()
    const key = `${primary.name} ${row}`
    this.#pending.set(key, () => severDatabaseConnection(connection))
    void connection
      .query('INSERT INTO memcached.mc_meta (name, value) VALUES (?, 1) ON DUPLICATE KEY UPDATE value = value + 1', [
        row,
      ])
      .catch((error: unknown) => {
        // Before the first init there is no schema, and nobody waits.
        const { errno } = error as { errno?: number }
        if (errno === noSuchTable || errno === noSuchDatabase || errno === undefined) return
        this.#report(`the marker on ${primary.name} failed: ${describeError(error)}`)
      })
      .finally(() => {
        this.#pending.delete(key)
        closeDatabaseConnection(connection)
      })
  }

  close(): void {
    for (const destroy of this.#pending.values()) destroy()
    this.#pending.clear()
  }
}

const rowNames = Array.from({ length: pendingMax }, (_, index) => (index === 0 ? 'marker' : `marker-${index}`))
