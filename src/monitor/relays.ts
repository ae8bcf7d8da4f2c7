import type { DatabaseFacts, DatabaseTarget } from '../domain/database-control.ts'
import { type Decision, run } from './decision.ts'
import { everyDatabase } from './machine-state.ts'
import { operationKey } from './operations.ts'
import type { View } from './view.ts'

/**
 * Whoever is neither primary nor standby is a relay, and follows the standby: what that has, a primary has or will have. In `solo` the standby may
 * be away for long, so relays read the primary then, and are put out of it before it is paired again (`DatabaseControl.evictReaders`). Only once
 * nothing else is to be done or under way: no relay holds up the pair.
 */
export function attendRelays(view: View): Decision | undefined {
  const { record, state } = view
  if (record.stage !== 'steady' || state.request !== null) return undefined
  for (const relay of relaysOf(view)) {
    const source = sourceOf(view, relay)
    const facts = view.facts(relay)
    if (source === undefined || facts === undefined || !facts.readOnly) continue
    const decision = tend(view, { relay, source, facts })
    if (decision === undefined) continue
    const { change } = state.running
    const key = decision.kind === 'run' ? operationKey(decision.operation) : ''
    const isFree = change === undefined || operationKey(change.operation) === key
    if (isFree) return decision
  }
  return undefined
}

export function relaysOf({ state, record }: View): readonly string[] {
  return everyDatabase(state.config).filter((name) => name !== record.primary && name !== record.standby)
}

/** Where a relay should read; undefined while that is not to be told. */
function sourceOf(view: View, relay: string): string | undefined {
  const { record } = view
  const standby = view.facts(record.standby)
  const works = standby !== undefined && view.follows(standby)
  if (record.mode === 'paired') return works ? record.standby : undefined
  // It is about to be paired, and must not be looked at anew because of a relay.
  if (works || view.facts(record.primary) === undefined) return undefined
  // It reads the standby already, which may be back in a moment.
  const source = view.facts(relay)?.replication?.source
  const readsStandby = source !== undefined && isAt(source, targetFor(view, relay, record.standby))
  return standby !== undefined && readsStandby ? undefined : record.primary
}

function tend(
  view: View,
  { relay, source, facts }: { relay: string; source: string; facts: DatabaseFacts },
): Decision | undefined {
  const { record, state } = view
  const bad = state.memory.quarantined[relay]
  if (bad?.instance === facts.instance) {
    if (state.config.hosts[relay]?.rebuild !== true || state.running.host !== undefined) return undefined
    return run(view, { kind: 'rebuild', database: relay, from: record.primary })
  }
  if (followsFrom(facts, targetFor(view, relay, source))) return undefined
  const filtered = state.config.relays?.find(({ name }) => name === relay)?.filtered ?? false
  return run(view, { kind: 'attach-relay', relay, source, primary: record.primary, filtered })
}

/** Also where it only tries: a link that is cut comes back by itself. */
function followsFrom({ replication, semiSync }: DatabaseFacts, source: DatabaseTarget | undefined): boolean {
  return (
    replication !== undefined &&
    isAt(replication.source, source) &&
    replication.receiver !== 'stopped' &&
    replication.applier === 'running' &&
    !semiSync.standbyEnabled
  )
}

/** Relays come in where applications do: only a standby must get in where all connections are taken. */
export function targetFor({ state }: View, relay: string, source: string): DatabaseTarget | undefined {
  const { relays = [], targets } = state.config
  const target = relays.find(({ name }) => name === relay)?.sources[source] ?? targets[source]
  return target === undefined ? undefined : { ...target, adminPort: undefined }
}

function isAt(at: { readonly host: string; readonly port: number }, target: DatabaseTarget | undefined): boolean {
  return target !== undefined && at.host === target.host && at.port === target.port
}
