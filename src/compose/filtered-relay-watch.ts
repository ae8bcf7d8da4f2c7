import { type Databases, formatDatabaseAddress } from '../adapters/databases.ts'
import { RelayPosition } from '../adapters/relay-position.ts'
import type { Applier } from '../applier/applier.ts'

/** On the own data centre's network, over a connection that stays. */
const periodMilliseconds = 250

/**
 * While a node follows a filtered relay, positions of the primary may name a transaction that is never in the log that it follows. So it asks the
 * relay what it has passed over: else whoever waits for such a position would wait in vain, and the node would seem to lag for ever.
 */
export class FilteredRelayWatch {
  readonly #databases: Databases
  readonly #applier: Applier
  #timer: NodeJS.Timeout | undefined
  #relay: { readonly name: string; readonly position: RelayPosition } | undefined
  #asking = false

  constructor(parts: { databases: Databases; applier: Applier }) {
    this.#databases = parts.databases
    this.#applier = parts.applier
  }

  start(): void {
    const { relays = [] } = this.#databases.access
    if (!relays.some(({ own, filtered }) => own && filtered)) return
    this.#timer = setInterval(() => void this.#look(), periodMilliseconds)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#relay?.position.close()
    this.#relay = undefined
  }

  async #look(): Promise<void> {
    const { source, serving, log } = this.#applier
    if (this.#asking || !serving || source?.dialect !== 'mariadb' || !this.#databases.isFiltered(source.address)) return
    this.#asking = true
    try {
      const name = formatDatabaseAddress(source.address)
      if (this.#relay?.name !== name) {
        this.#relay?.position.close()
        this.#relay = { name, position: new RelayPosition(this.#databases, source.address) }
      }
      const { executed, logged } = await this.#relay.position.ask()
      if (this.#applier.serving) log.passOver(executed, logged)
    } catch {
      // The stream of its log tells whoever needs to know.
    } finally {
      this.#asking = false
    }
  }
}
