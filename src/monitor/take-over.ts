import { parsePlace } from '../domain/cluster-record.ts'
import { type Decision, run, succession, wait } from './decision.ts'
import type { View } from './view.ts'

/**
 * The primary is lost in `paired`: everything that was acknowledged is on the standby, received if not applied. Stop receiving
 * (from then on the old primary gets no acknowledgement, wherever it is), apply what was received, hear a majority once more (do
 * they still miss the primary? what do they know to be acknowledged?), record, open.
 */
export function takeOver(view: View, given: { primaryIsKnown?: boolean } = {}): Decision {
  const { state, record } = view
  const { standby, primary } = record
  const facts = view.facts(standby)
  if (facts === undefined) {
    if (!view.lost(standby)) return wait
    return {
      kind: 'stuck',
      why: `neither ${primary} nor ${standby} answers`,
      cure: `start them; whoever proves to have everything becomes the primary by itself`,
    }
  }
  if (facts.instance !== record.standbyInstance) {
    return {
      kind: 'stuck',
      why: `${standby} restarted before ${primary} was lost: it may have thrown away what it had received and acknowledged`,
      cure: `bring ${primary} back, or accept the loss: whitehole takeover --force`,
    }
  }
  if (given.primaryIsKnown !== true && view.hears(standby)) {
    return {
      kind: 'stuck',
      why: `a majority of voters has lost ${primary}, but ${standby} hears it`,
      cure: `look at the network between the voters and ${primary}`,
    }
  }
  if (!settled(view)) return wait
  const { drained } = state.memory
  if (drained?.database !== standby || drained.epoch !== record.epoch) {
    return run(view, { kind: 'drain', database: standby })
  }
  const uncovered = view.uncovered(parsePlace(drained.position), drained.at)
  if (uncovered === undefined) return { kind: 'ask-voters' }
  // It came back meanwhile: then the standby is attached again.
  if (given.primaryIsKnown !== true && !view.lost(primary, drained.at)) return wait
  if (uncovered.length > 0) {
    return {
      kind: 'stuck',
      why: `${standby} has ${drained.position} and lacks what was acknowledged: ${uncovered.join(', ')}`,
      cure: `bring ${primary} back, or accept the loss: whitehole takeover --force`,
    }
  }
  return {
    kind: 'propose',
    record: succession(view, { primary: standby, mode: 'solo', promotion: drained.position, cause: 'takeover' }),
  }
}

/** A link that comes and goes must not make the primary change each time (F10). */
function settled({ state, now }: View): boolean {
  const { takeover } = state.memory
  if (takeover === null) return true
  const { settleMilliseconds, antiFlapMilliseconds } = state.config.timings
  return now - takeover.at >= (takeover.lived ? antiFlapMilliseconds : settleMilliseconds)
}
