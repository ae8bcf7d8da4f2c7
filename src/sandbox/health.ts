import { once } from 'node:events'
import { createConnection } from 'node:net'
import type { SandboxFolder } from './folder.ts'
import type { SandboxPlan } from './topology.ts'

/** How to see that a process answers. */
export type Probe =
  | { readonly kind: 'http'; readonly port: number; readonly path: string }
  | { readonly kind: 'tcp'; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

const probeMilliseconds = 2000

export function probeOf(plan: SandboxPlan, folder: SandboxFolder, name: string): Probe {
  const node = plan.nodes.find((candidate) => candidate.name === name)
  if (node !== undefined) return { kind: 'http', port: node.httpPort, path: '/healthz' }
  const monitor = plan.monitors.find((candidate) => candidate.name === name)
  if (monitor !== undefined) return { kind: 'http', port: monitor.httpPort, path: '/healthz' }
  const [route] = plan.link?.name === name ? plan.link.routes : []
  if (route !== undefined) return { kind: 'tcp', port: route.port }
  const memcached = plan.memcacheds.find((candidate) => candidate.name === name)
  if (memcached !== undefined) return { kind: 'tcp', port: memcached.port }
  return { kind: 'unix', path: folder.databaseSocket(name) }
}

export async function answers(probe: Probe): Promise<boolean> {
  const signal = AbortSignal.timeout(probeMilliseconds)
  try {
    if (probe.kind === 'http') {
      const response = await fetch(`http://127.0.0.1:${probe.port}${probe.path}`, { signal })
      await response.arrayBuffer()
      return response.ok
    }
    const socket =
      probe.kind === 'tcp' ? createConnection(probe.port, '127.0.0.1') : createConnection({ path: probe.path })
    try {
      await once(socket, 'connect', { signal })
      return true
    } finally {
      socket.on('error', () => {}).destroy()
    }
  } catch {
    return false
  }
}

/** What a monitor says that a person must do; undefined where it says nothing of the kind, or does not answer. */
export async function whyStuck(monitorPort: number): Promise<string | undefined> {
  try {
    const signal = AbortSignal.timeout(probeMilliseconds)
    const response = await fetch(`http://127.0.0.1:${monitorPort}/readyz`, { signal })
    const { stuck } = (await response.json()) as { stuck?: { why: string; cure: string } | null }
    return stuck === undefined || stuck === null ? undefined : `${stuck.why}. ${stuck.cure}`
  } catch {
    return undefined
  }
}
