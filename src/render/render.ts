import type { ClusterMachine } from '../config/cluster-config.ts'
import type { ClusterView } from './cluster-view.ts'
import { renderHaproxy } from './haproxy.ts'
import { renderKeepalived } from './keepalived.ts'
import { renderMonitor } from './monitor-yaml.ts'
import { renderMycnf } from './mycnf.ts'
import { renderNode } from './node-yaml.ts'
import { renderPrometheus } from './prometheus.ts'
import type { RenderedFile } from './rendered-file.ts'
import { renderSystemd } from './systemd.ts'

const ofMachine = {
  mycnf: renderMycnf,
  node: renderNode,
  monitor: renderMonitor,
  systemd: renderSystemd,
  haproxy: renderHaproxy,
  keepalived: renderKeepalived,
} as const

/** `all`: everything that the machines need. Prometheus belongs to no machine of the cluster file. */
export const targets = ['all', ...(Object.keys(ofMachine) as (keyof typeof ofMachine)[]), 'prometheus'] as const
export type Target = (typeof targets)[number]

export interface MachineFiles {
  /** Null: of no machine in particular. */
  readonly machine: string | null
  readonly files: readonly RenderedFile[]
}

/** @param only the machines wanted */
export function render(target: Target, view: ClusterView, only: readonly ClusterMachine[]): MachineFiles[] {
  if (target === 'prometheus') return [{ machine: null, files: renderPrometheus(view) }]
  const renderers = target === 'all' ? Object.values(ofMachine) : [ofMachine[target]]
  return only
    .map((machine) => ({
      machine: machine.name,
      files: renderers.flatMap((renderer) => renderer(view, machine)),
    }))
    .filter(({ files }) => files.length > 0)
}
