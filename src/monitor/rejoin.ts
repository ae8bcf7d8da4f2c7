import type { DatabaseFacts } from '../domain/database-control.ts'
import { type Decision, run, wait } from './decision.ts'
import type { View } from './view.ts'

/** A standby that does not follow: let it, unless it has what the primary lacks. Then its process must help, or a person. */
export function rejoin(view: View, standby: DatabaseFacts): Decision {
  const { state, record } = view
  const name = record.standby
  // It could still be written to: first the fence.
  if (!standby.readOnly && state.memory.fenced[name] !== standby.instance) return wait
  const bad = state.memory.quarantined[name]
  if (bad === undefined || bad.instance !== standby.instance) {
    return run(view, {
      kind: 'attach',
      primary: record.primary,
      standby: name,
      anew: view.follows(standby),
      until: record.former?.name === name ? record.former.until : null,
    })
  }
  // In `paired` it may be needed as it is; the mode changes soon.
  if (record.mode === 'paired') return wait
  const host = state.config.hosts[name]
  if (bad.cure === 'truncate' && host?.restart === true) return run(view, { kind: 'restart', database: name })
  if (host?.rebuild === true) return run(view, { kind: 'rebuild', database: name, from: record.primary })
  return wait
}
