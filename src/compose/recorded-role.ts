import { readFileSync } from 'node:fs'
import { isFirstAttempt, readLogEnd } from '../adapters/log-end.ts'
import { VoterHttp } from '../adapters/voter-http.ts'
import type { LoadedMonitorConfig } from '../config/load.ts'
import { type ClusterRecord, parsePlace } from '../domain/cluster-record.ts'
import { WhiteholeError } from '../domain/errors.ts'
import { covers, type Dialect, type Position } from '../domain/position.ts'
import type { AcceptorState } from '../monitor/acceptor.ts'
import { compareSlots, majorityOf } from '../monitor/ballot.ts'
import { parseAcceptorState, parseVoterReply } from '../monitor/voter-messages.ts'

const voterMilliseconds = 2000

/**
 * The record that a majority of all voters has accepted as its last; undefined where there is none or the majority is on its way from one to
 * the next.
 * @param votes of those that could be asked
 */
export function chosenRecord(votes: readonly (AcceptorState | undefined)[], voters: number): ClusterRecord | undefined {
  const accepted = votes.flatMap((vote) => (vote?.accepted ? [vote.accepted] : []))
  const chosen = accepted.find(
    (one) => accepted.filter((other) => compareSlots(one, other) === 0).length >= majorityOf(voters),
  )
  return chosen?.record
}

/** A vote on disk; undefined where there is none that can be read. */
export function readVote(file: string): AcceptorState | undefined {
  try {
    return parseAcceptorState(JSON.parse(readFileSync(file, 'utf8')))
  } catch {
    return undefined
  }
}

/** A database that is about to be started. */
export interface StartOf {
  readonly database: string
  /** The databases between which whitehole decides by itself. */
  readonly pair: readonly string[]
  /** As a majority of the voters has it; undefined where nobody knows. */
  readonly record: ClusterRecord | undefined
  /** MariaDB's `binlog.index`. */
  readonly binlogIndex: string
}

/**
 * With what a database is to be started. MariaDB as a standby truncates at its start what its engine had not committed for sure (MySQL knows
 * no such thing). Each story below ends with a row that is gone for ever, or without anybody having been told (ADR 21).
 *
 * - _What goes must be nobody's_: so only a former primary whose successor was chosen without a person, from `paired`, until it is paired again.
 *   A primary that comes back as such would lose what it alone has acknowledged (R3); one that a person gave up, what is to be named first; a
 *   standby, what it had acknowledged for a primary that may never return.
 * - _There must be something to go_: its log goes beyond its successor's. What they have in common would only be fetched again. And MariaDB takes
 *   back in its tables first and cuts its log then: killed in between, it lacks what its log has, which nobody would see if the successor has it
 *   too. What the successor lacks stays in the log then, and it is rebuilt.
 * - _Once_: a second truncating start could cut that away and leave the rest.
 * - _Not a relay_: it takes nothing back that it wrote itself.
 */
export function roleArguments(dialect: Dialect, start: StartOf): readonly string[] {
  if (dialect !== 'mariadb') return []
  const end = readLogEnd(start.binlogIndex)
  if (end === undefined || !hasTail(start, end.position)) return []
  return isFirstAttempt(start.binlogIndex, end) ? ['--init-rpl-role=SLAVE', '--rpl-semi-sync-slave-enabled=1'] : []
}

/** By the record: what it has beyond its successor was acknowledged to nobody. */
export function hasTail({ database, pair, record }: Omit<StartOf, 'binlogIndex'>, end: Position): boolean {
  if (record === undefined || !pair.includes(database)) return false
  const { primary, mode, former, cause } = record
  const wasLeft = primary !== database && mode === 'solo' && former?.name === database && cause === 'takeover'
  return wasLeft && former.until !== null && !covers(parsePlace(former.until), end)
}

/**
 * For whoever starts a database on a machine of its own.
 * @throws WhiteholeError `bad-configuration` for a database that is not of the pair
 */
export async function askRoleArguments(
  config: LoadedMonitorConfig,
  { database, binlogIndex }: Pick<StartOf, 'database' | 'binlogIndex'>,
): Promise<readonly string[]> {
  const { databases, voters, secrets } = config
  if (!databases.pair.some(({ name }) => name === database)) {
    throw new WhiteholeError('bad-configuration', `there is no database "${database}" in the configuration`)
  }
  const votes = await Promise.all(
    voters.map(async ({ http }) => {
      const link = new VoterHttp({
        endpoint: http.kind === 'unix' ? { socketPath: http.path } : { host: http.host, port: http.port },
        secret: secrets.voters ?? '',
        timeoutMilliseconds: voterMilliseconds,
      })
      try {
        // Changes nothing: a canvass of the lowest ballot.
        return parseVoterReply(await link.ask({ kind: 'canvass', ballot: { round: 0, monitor: '' } }))
      } catch {
        return undefined
      } finally {
        link.close()
      }
    }),
  )
  const pair = databases.pair.map(({ name }) => name)
  return roleArguments(databases.engine, { database, pair, record: chosenRecord(votes, voters.length), binlogIndex })
}
