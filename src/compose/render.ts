import { chmodSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { loadClusterConfig } from '../config/load.ts'
import { WhiteholeError } from '../domain/errors.ts'
import { ClusterView } from '../render/cluster-view.ts'
import { type MachineFiles, render, type Target, targets } from '../render/render.ts'

export { type Target as RenderTarget, targets as renderTargets }

export interface RenderOptions {
  readonly target: Target
  readonly clusterFile: string
  /** One machine's files alone. */
  readonly machine?: string | undefined
}

/** @throws WhiteholeError `bad-configuration` */
export function renderCluster({ target, clusterFile, machine }: RenderOptions): MachineFiles[] {
  const view = new ClusterView(loadClusterConfig(clusterFile))
  const only = view.machines.filter(({ name }) => machine === undefined || name === machine)
  if (only.length === 0) {
    const names = view.machines.map(({ name }) => name).join(', ')
    throw new WhiteholeError('bad-configuration', `${clusterFile}: no machine is named "${machine}" (${names})`)
  }
  return render(target, view, only)
}

/**
 * Files of one machine go below the folder as they lie on that machine (`/` writes them in place), those of several each below a folder
 * of the machine's name. Each is written beside and put in place at once, so that nobody reads half of it.
 * @returns the paths written
 */
export function writeRendered(folder: string, all: readonly MachineFiles[], oneMachine: boolean): string[] {
  return all.flatMap(({ machine, files }) =>
    files.map(({ path, text, mode }) => {
      const target = join(folder, oneMachine || machine === null ? '' : machine, path)
      mkdirSync(dirname(target), { recursive: true })
      const beside = `${target}.new`
      writeFileSync(beside, text, { mode })
      chmodSync(beside, mode)
      renameSync(beside, target)
      return target
    }),
  )
}
