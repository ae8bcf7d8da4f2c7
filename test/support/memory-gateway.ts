import { GatewayCounters } from '../../src/gateway/counters.ts'
import { Gateway, type GatewayLimits, type GatewayListener } from '../../src/gateway/gateway.ts'
import { MemoryNode, type MemoryNodeOptions } from './memory-ports.ts'

/** A gateway over a `MemoryNode`: bound to `default`, bound to `sessions`, and by key prefix, on free ports. */
export class MemoryGateway {
  readonly node: MemoryNode
  readonly counters = new GatewayCounters()
  readonly gateway: Gateway
  readonly ports: readonly number[]

  private constructor(node: MemoryNode, gateway: Gateway, counters: GatewayCounters) {
    this.node = node
    this.gateway = gateway
    this.counters = counters
    this.ports = gateway.addresses().map((address) => (address.kind === 'tcp' ? address.port : 0))
  }

  static async start(
    options: {
      limits?: Partial<GatewayLimits>
      sweepMilliseconds?: number
      listeners?: GatewayListener[]
      node?: MemoryNodeOptions
    } = {},
  ): Promise<MemoryGateway> {
    const node = new MemoryNode(options.node)
    const counters = new GatewayCounters()
    const listen = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const
    const gateway = new Gateway({
      services: {
        namespaces: node.namespaces,
        reads: node.reads,
        mutations: node.mutations,
        directory: node.directory,
        counters,
        listing: node.listing,
        nowSeconds: node.nowSeconds,
      },
      listeners: options.listeners ?? [
        { kind: 'bound', listen, namespace: 'default' },
        { kind: 'bound', listen, namespace: 'sessions' },
        { kind: 'key-prefix', listen },
      ],
      ...(options.limits === undefined ? {} : { limits: options.limits }),
      sweepMilliseconds: options.sweepMilliseconds ?? 20,
    })
    await gateway.start()
    return new MemoryGateway(node, gateway, counters)
  }

  /** Of the listener bound to `default`. */
  get port(): number {
    return this.ports[0] ?? 0
  }

  get sessionsPort(): number {
    return this.ports[1] ?? 0
  }

  get prefixPort(): number {
    return this.ports[2] ?? 0
  }

  async stop(): Promise<void> {
    await this.gateway.close(0)
  }
}
