import { History, RecordingClient } from './recording-client.ts'
import type { World } from './world.ts'

/**
 * Clients at several nodes that set, delete, add and get a few keys, and what the caller does beside them, until it is stopped. What they were
 * told is in the history.
 */
export class MixedTraffic {
  readonly history: History
  /** Those of one node after those of the one before. */
  readonly clients: readonly RecordingClient[]
  readonly #keys: number
  readonly #stop = new AbortController()
  #changes = 0
  #playing: readonly Promise<void>[] = []

  private constructor(history: History, clients: readonly RecordingClient[], keys: number) {
    this.history = history
    this.clients = clients
    this.#keys = keys
  }

  /**
   * @param given `keys`: `live0`, `live1` … so many; `beside`: returns once `signal` is aborted
   */
  static async start(
    world: World,
    given: { nodes: readonly number[]; perNode: number; keys: number; beside: (signal: AbortSignal) => Promise<void> },
  ): Promise<MixedTraffic> {
    const history = new History()
    const clients = await Promise.all(
      given.nodes.flatMap((node) =>
        Array.from({ length: given.perNode }, (_, n) =>
          RecordingClient.connect(world.node(node).ports.main, {
            node,
            name: `${node}-${n}`,
            history,
            dialect: n === 0 ? 'text' : 'meta',
          }),
        ),
      ),
    )
    const traffic = new MixedTraffic(history, clients, given.keys)
    traffic.#playing = [
      ...clients.map((client, index) => traffic.#play(client, index)),
      given.beside(traffic.#stop.signal),
    ]
    return traffic
  }

  /** Answers so far. */
  get changes(): number {
    return this.#changes
  }

  /** Resolves when nothing is under way any more; rejects with what went wrong meanwhile. */
  async stop(): Promise<void> {
    this.#stop.abort()
    for (const result of await Promise.allSettled(this.#playing)) {
      if (result.status === 'rejected') throw result.reason
    }
  }

  async #play(client: RecordingClient, index: number): Promise<void> {
    for (let n = 0; !this.#stop.signal.aborted; n++) {
      const key = `live${(n * 7 + index) % this.#keys}`
      const value = `${client.name}:${n}`
      const kind = n % 9
      if (kind < 3) await client.ask(key, { kind: 'set', value })
      else if (kind === 3) await client.ask(key, { kind: 'delete' })
      else if (kind === 4) await client.ask(key, { kind: 'add', value })
      else await client.ask(key, { kind: 'get' })
      this.#changes++
    }
  }
}
