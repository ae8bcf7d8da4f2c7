import type { ClusterRecord } from '../domain/cluster-record.ts'
import type { AcceptedRecord } from './acceptor.ts'
import { type Ballot, compareBallots, compareSlots, majorityOf } from './ballot.ts'
import type { Acting, Command, Leadership, MachineConfig } from './machine-state.ts'
import type { VoterReply, VoterRequest } from './voter-protocol.ts'

/** The part of the state that elections change, and what they ask for. */
export interface Election {
  readonly config: MachineConfig
  readonly now: number
  round: number
  leadership: Leadership
  readonly commands: Command[]
}

/** Later ones wait longer, so that two monitors don't outbid one another. */
export function patienceUntil({ config, now }: Pick<Election, 'config' | 'now'>): number {
  const rank = Math.max(0, config.monitors.indexOf(config.self))
  return now + config.timings.actingSilentMilliseconds * (1 + rank)
}

export function onTick(election: Election): void {
  const { leadership, now, config } = election
  switch (leadership.kind) {
    case 'watching':
      if (now >= leadership.patienceUntil) canvass(election)
      return
    case 'canvassing':
    case 'preparing':
      if (now - leadership.since > config.timings.freshMilliseconds) stepBack(election)
      return
    case 'acting':
      remind(election, leadership)
      return
  }
}

export function onReply(
  election: Election,
  { voter, request, reply }: { voter: string; request: VoterRequest; reply: VoterReply },
): void {
  if (reply.promised !== null) election.round = Math.max(election.round, reply.promised.round)
  const { leadership } = election
  if (leadership.kind === 'watching') return
  const asked = request.kind === 'accept' ? request.offer.ballot : request.ballot
  if (compareBallots(asked, leadership.ballot) !== 0) return
  // Somebody was promised more: whatever we would record is refused by every majority from now on.
  if (reply.promised !== null && compareBallots(reply.promised, leadership.ballot) > 0) {
    stepBack(election)
    return
  }
  if (leadership.kind === 'canvassing' && request.kind === 'canvass') onCanvassed(election, voter, reply.ok)
  else if (leadership.kind === 'preparing' && request.kind === 'prepare' && reply.ok)
    onPromise(election, voter, reply.accepted)
  else if (leadership.kind === 'acting') onActingReply(election, { voter, request, reply })
}

/** Another monitor acts. */
export function onHeard(election: Election, ballot: Ballot): void {
  const { leadership, config } = election
  election.round = Math.max(election.round, ballot.round)
  if (ballot.monitor === config.self) return
  if (leadership.kind === 'watching' || compareBallots(ballot, leadership.ballot) > 0) stepBack(election)
}

export function propose(election: Election, acting: Acting, record: ClusterRecord): void {
  const offer = { ballot: acting.ballot, serial: acting.serial + 1, record }
  election.leadership = {
    ...acting,
    serial: acting.serial + 1,
    proposal: { offer, acceptedBy: [], sentAt: election.now },
  }
  askAll(election, { kind: 'accept', offer })
}

export function askReports(election: Election, acting: Acting): Acting {
  const next = { ...acting, askedAt: election.now }
  election.leadership = next
  askAll(election, { kind: 'report', ballot: acting.ballot })
  return next
}

function canvass(election: Election): void {
  const ballot = { round: election.round + 1, monitor: election.config.self }
  election.leadership = { kind: 'canvassing', ballot, since: election.now, granted: [] }
  askAll(election, { kind: 'canvass', ballot })
}

function onCanvassed(election: Election, voter: string, ok: boolean): void {
  const { leadership } = election
  if (leadership.kind !== 'canvassing' || !ok || leadership.granted.includes(voter)) return
  const granted = [...leadership.granted, voter]
  if (granted.length < majorityOf(election.config.voters.length)) {
    election.leadership = { ...leadership, granted }
    return
  }
  const { ballot } = leadership
  election.leadership = { kind: 'preparing', ballot, since: election.now, promises: {} }
  askAll(election, { kind: 'prepare', ballot })
}

function onPromise(election: Election, voter: string, accepted: AcceptedRecord | null): void {
  const { leadership, now } = election
  if (leadership.kind !== 'preparing') return
  const promises = { ...leadership.promises, [voter]: accepted }
  election.leadership = { ...leadership, promises }
  if (Object.keys(promises).length < majorityOf(election.config.voters.length)) return
  const found = Object.values(promises).filter((one) => one !== null)
  const latest = found.toSorted(compareSlots).at(-1)
  const acting: Acting = {
    kind: 'acting',
    ballot: leadership.ballot,
    since: now,
    serial: 0,
    chosen: null,
    proposal: null,
    askedAt: now,
  }
  election.leadership = acting
  // What was found may be on the disk of one voter alone; it counts only once a majority has it under this ballot.
  if (latest !== undefined) propose(election, acting, latest.record)
}

function onActingReply(
  election: Election,
  { voter, request, reply }: { voter: string; request: VoterRequest; reply: VoterReply },
): void {
  const { leadership } = election
  if (leadership.kind !== 'acting' || !reply.ok) return
  if (request.kind === 'accept') onAccepted(election, leadership, voter)
  const current = election.leadership
  // A voter that was away gets the record again, so that a majority has it also when others go.
  if (request.kind === 'report' && current.kind === 'acting' && current.chosen !== null && current.proposal === null) {
    const offer = { ballot: current.ballot, serial: current.serial, record: current.chosen }
    if (reply.accepted === null || compareSlots(reply.accepted, offer) < 0) {
      election.commands.push({ kind: 'ask', voter, request: { kind: 'accept', offer } })
    }
  }

  function onAccepted(given: Election, acting: Acting, by: string): void {
    const { proposal } = acting
    if (proposal === null || request.kind !== 'accept' || request.offer.serial !== proposal.offer.serial) return
    const acceptedBy = [...new Set([...proposal.acceptedBy, by])]
    const isChosen = acceptedBy.length >= majorityOf(given.config.voters.length)
    given.leadership = isChosen
      ? { ...acting, chosen: proposal.offer.record, proposal: null }
      : { ...acting, proposal: { ...proposal, acceptedBy } }
  }
}

function remind(election: Election, acting: Acting): void {
  const { now, config } = election
  const { proposal } = acting
  let next = acting
  if (proposal !== null && now - proposal.sentAt >= config.timings.resendMilliseconds) {
    next = { ...acting, proposal: { ...proposal, sentAt: now } }
    election.leadership = next
    for (const voter of config.voters) {
      if (proposal.acceptedBy.includes(voter)) continue
      election.commands.push({ kind: 'ask', voter, request: { kind: 'accept', offer: proposal.offer } })
    }
  }
  if (now - next.askedAt >= config.timings.reportEveryMilliseconds) askReports(election, next)
}

function stepBack(election: Election): void {
  election.leadership = { kind: 'watching', patienceUntil: patienceUntil(election) }
}

function askAll(election: Election, request: VoterRequest): void {
  for (const voter of election.config.voters) election.commands.push({ kind: 'ask', voter, request })
}
