import { networksOf } from '../config/cluster-rules.ts'
import type { ClusterConfig, ClusterMachine, VirtualAddress } from '../config/cluster-config.ts'

type Role = ClusterMachine['runs'][number]

/** A cluster's machines, asked the way the files need it. */
export class ClusterView {
  readonly config: ClusterConfig
  readonly home: string

  constructor(config: ClusterConfig) {
    this.config = config
    this.home = config.datacenters[0] ?? ''
  }

  get machines(): readonly ClusterMachine[] {
    return this.config.machines
  }

  datacenterOf({ datacenter = this.home }: { readonly datacenter?: string | undefined }): string {
    return datacenter
  }

  running(role: Role): ClusterMachine[] {
    return this.machines.filter(({ runs }) => runs.includes(role))
  }

  /** In the data centre of the machine, itself among them. */
  near(machine: ClusterMachine, role: Role): ClusterMachine[] {
    return this.running(role).filter((other) => this.datacenterOf(other) === this.datacenterOf(machine))
  }

  far(machine: ClusterMachine, role: Role): ClusterMachine[] {
    return this.running(role).filter((other) => this.datacenterOf(other) !== this.datacenterOf(machine))
  }

  /** The virtual addresses that this machine may hold, with VRRP's number. */
  virtualOf(machine: ClusterMachine): { readonly virtual: VirtualAddress; readonly routerId: number }[] {
    return this.config.virtualAddresses.flatMap((virtual, index) =>
      this.datacenterOf(virtual) === this.datacenterOf(machine)
        ? [{ virtual, routerId: virtual.routerId ?? 51 + index }]
        : [],
    )
  }

  serverId(machine: ClusterMachine): number {
    return machine.database.serverId ?? this.machines.indexOf(machine) + 1
  }

  /** Of this very machine if it runs one, else of the data centre, else of another. */
  monitorFor(machine: ClusterMachine): ClusterMachine | undefined {
    return machine.runs.includes('monitor')
      ? machine
      : [...this.near(machine, 'monitor'), ...this.far(machine, 'monitor')][0]
  }

  get managedPair(): ClusterMachine[] {
    return this.running('database').filter((machine) => this.datacenterOf(machine) === this.home)
  }

  /** Replicas in other data centres, whose nodes follow them. */
  get relays(): ClusterMachine[] {
    const { topology } = this.config
    return topology === 'pair' ? this.running('database').filter((machine) => !this.managedPair.includes(machine)) : []
  }

  isRelay(machine: ClusterMachine): boolean {
    return this.relays.includes(machine)
  }

  networksOf(machine: ClusterMachine): { readonly applications?: string | undefined; readonly caches: string } {
    return networksOf(this.config, this.datacenterOf(machine))
  }

  /** Where balancers ask a node for its weight; undefined where none of HAProxy's does. */
  get agentPort(): number | undefined {
    const { nodeAgentPort, balancer } = this.config
    const isAsked = balancer.forwarding === 'proxy' && this.running('balancer').length > 0
    return isAsked && nodeAgentPort !== null ? nodeAgentPort : undefined
  }

  /** Where clients of the memcached protocol connect, by name. */
  get clientPorts(): { readonly name: string; readonly port: number }[] {
    const { namespaces, keyPrefixPort } = this.config
    return [...namespaces, ...(keyPrefixPort === null ? [] : [{ name: 'by-key', port: keyPrefixPort }])]
  }
}

/** Where a daemon listens for the others: the address, or what is bound in its place. */
export function bindAddress(machine: ClusterMachine): string {
  const { address, bind = address } = machine.networks.caches
  return bind
}

export function hostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
