import { readFileSync } from 'node:fs'
import { VoterHttp } from '../adapters/voter-http.ts'
import type { LoadedMonitorConfig } from '../config/load.ts'
import type { ClusterRecord } from '../domain/cluster-record.ts'
import { WhiteholeError } from '../domain/errors.ts'
import type { Dialect } from '../domain/position.ts'
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

/**
 * With what a database is to be started. MariaDB as a standby truncates at its start what it had written and nobody had acknowledged. Only
 * where another primary is recorded (R3): a primary that comes back in that role would lose what it alone has acknowledged. MySQL knows
 * no such thing.
 */
export function roleArguments(
  dialect: Dialect,
  { database, primary }: { database: string; primary: string | undefined },
): readonly string[] {
  const isStandby = primary !== undefined && primary !== database
  return dialect === 'mariadb' && isStandby ? ['--init-rpl-role=SLAVE', '--rpl-semi-sync-slave-enabled=1'] : []
}

/**
 * For whoever starts a database on a machine of its own.
 * @throws WhiteholeError `bad-configuration` for a database that is not of the pair
 */
export async function askRoleArguments(config: LoadedMonitorConfig, database: string): Promise<readonly string[]> {
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
  const primary = chosenRecord(votes, voters.length)?.primary
  // Under a relay that a person made the primary nothing is truncated, but compared.
  const isOfPair = databases.pair.some(({ name }) => name === primary)
  return roleArguments(databases.engine, { database, primary: isOfPair ? primary : undefined })
}
