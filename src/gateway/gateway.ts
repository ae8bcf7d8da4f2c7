import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import type { Address } from '../config/address.ts'
import { itemBytesMaxDefault } from '../wire/memcached/item-size.ts'
import type { GatewayServices, ServerFigures } from './conversation.ts'
import { ItemTokens } from './item-tokens.ts'
import { listenOn } from './listening.ts'
import { BoundNaming, PrefixNaming } from './naming.ts'
import { Session, type SessionLimits, type SessionSetting } from './session.ts'

/** As the configuration has it. */
export type GatewayListener =
  | { readonly kind: 'bound'; readonly listen: Address; readonly namespace: string }
  | { readonly kind: 'key-prefix'; readonly listen: Address }

export interface GatewayLimits extends SessionLimits {
  /** Clients of all listeners together. */
  readonly connectionsMax: number
  /** memcached's item limit (`-I`), for the client's key. */
  readonly itemBytesMax: number
  /** Keys of one `get`. */
  readonly keysMax: number
  /** What may wait for all clients together; beyond, each is held to little. Looked at with each sweep, so it may be passed for a moment. */
  readonly waitingBytesMax: number
}

export const defaultGatewayLimits: GatewayLimits = {
  connectionsMax: 4096,
  requestsInFlightMax: 1024,
  replyBytesMax: 16 * 1024 * 1024,
  unreadMilliseconds: 60_000,
  requestMilliseconds: 60_000,
  idleMilliseconds: undefined,
  itemBytesMax: itemBytesMaxDefault,
  keysMax: 10_000,
  waitingBytesMax: 256 * 1024 * 1024,
}

export interface GatewayOptions {
  readonly services: GatewayServices
  readonly listeners: readonly GatewayListener[]
  readonly limits?: Partial<GatewayLimits>
  /** How often slow clients are looked for. */
  readonly sweepMilliseconds?: number
}

/** Speaks memcached to clients, on all listeners of a node. */
export class Gateway {
  readonly #services: GatewayServices
  readonly #limits: GatewayLimits
  readonly #listeners: readonly { listener: GatewayListener; server: Server; sessions: Set<Session> }[]
  readonly #startedAtSeconds: number
  readonly #tokens = new ItemTokens()
  readonly #pressure = { high: false }
  readonly #sweepMilliseconds: number
  #sweeper: NodeJS.Timeout | undefined

  constructor(options: GatewayOptions) {
    this.#services = options.services
    this.#limits = { ...defaultGatewayLimits, ...options.limits }
    this.#startedAtSeconds = options.services.nowSeconds()
    this.#sweepMilliseconds = options.sweepMilliseconds ?? 1000
    this.#listeners = options.listeners.map((listener) => {
      const sessions = new Set<Session>()
      const setting = this.#settingOf(listener, sessions)
      // A client may close its side once it has asked: its replies still go out.
      const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
        this.#accept(socket, setting, sessions)
      })
      return { listener, server, sessions }
    })
  }

  /** @throws WhiteholeError `bad-configuration`; then nothing listens */
  async start(): Promise<void> {
    try {
      for (const { server, listener } of this.#listeners) await listenOn(server, listener.listen)
    } catch (error) {
      for (const { server } of this.#listeners) server.close()
      throw error
    }
    this.#sweeper = setInterval(() => this.#sweep(), this.#sweepMilliseconds).unref()
  }

  /** Where it listens, in the order of the listeners: with a port of 0 in the configuration, the one that was given. */
  addresses(): readonly Address[] {
    return this.#listeners.map(({ server, listener }) => {
      if (listener.listen.kind === 'unix') return listener.listen
      return { ...listener.listen, port: (server.address() as AddressInfo).port }
    })
  }

  /** Accepts nobody any more, answers what has come, closes. Whoever is not done after the time is cut off. */
  async close(graceMilliseconds = 5000): Promise<void> {
    const gone = this.#listeners.map(async ({ server, sessions }) => {
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      for (const session of sessions) session.finish()
      await Promise.all([closed, ...[...sessions].map((session) => session.gone)])
    })
    const cut = setTimeout(() => this.#abortAll(), graceMilliseconds)
    await Promise.all(gone)
    clearTimeout(cut)
    clearInterval(this.#sweeper)
  }

  #settingOf(listener: GatewayListener, sessions: Set<Session>): SessionSetting {
    const { namespaces } = this.#services
    const prefixed = listener.kind === 'key-prefix'
    const { itemBytesMax, keysMax, connectionsMax } = this.#limits
    const figures: ServerFigures = {
      startedAtSeconds: this.#startedAtSeconds,
      connectionsMax,
      itemBytesMax,
      *connections() {
        let id = 0
        for (const session of sessions) {
          yield { id: ++id, address: session.remoteAddress, idleSeconds: session.idleSeconds }
        }
      },
    }
    return {
      services: this.#services,
      naming: prefixed ? new PrefixNaming(namespaces) : new BoundNaming(namespaces, listener.namespace),
      tokens: this.#tokens,
      pressure: this.#pressure,
      limits: this.#limits,
      requestLimits: { itemBytesMax, keysMax, prefixedKeys: prefixed },
      describe: () => figures,
      onGone: (session) => {
        sessions.delete(session)
        this.#services.counters.currConnections--
      },
    }
  }

  #accept(socket: Socket, setting: SessionSetting, sessions: Set<Session>): void {
    const { counters } = this.#services
    if (counters.currConnections >= this.#limits.connectionsMax) {
      counters.rejectedConnections++
      socket.on('error', () => {})
      socket.end('ERROR Too many open connections\r\n', () => socket.destroySoon())
      return
    }
    counters.currConnections++
    counters.totalConnections++
    sessions.add(new Session(socket, setting))
  }

  #sweep(): void {
    const now = performance.now()
    let waitingBytes = 0
    for (const { sessions } of this.#listeners) {
      for (const session of sessions) {
        waitingBytes += session.waitingBytes
        if (session.sweep(now)) this.#services.counters.slowConnections++
      }
    }
    this.#pressure.high = waitingBytes > this.#limits.waitingBytesMax
  }

  #abortAll(): void {
    for (const { sessions } of this.#listeners) for (const session of sessions) session.abort()
  }
}
