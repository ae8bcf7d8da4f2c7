/**
 * What a monitor answers to whoever asks "is this database the primary?": balancers, each second. An answer that is wrong for a moment
 * loses nothing (the fence does not rest on it, docs/GUARANTEES.md), but it sends writers to a database that refuses them or makes
 * them wait. So a monitor says yes only of what a majority has told it a moment ago, and says why else.
 */
export interface RolesKnowledge {
  /** All databases of the configuration. */
  readonly databases: readonly string[]
  /**
   * `record`: a majority of voters decides. `sight`: nobody but the databases themselves says who is writable (one database, or databases
   * that somebody else looks after).
   */
  readonly by: 'record' | 'sight'
  /** What a majority has on disk, and how long ago this monitor heard a majority say so; null where it never did. */
  readonly record: RecordedRoles | null
  readonly recordAgeMilliseconds: number
  /** This monitor's own last probe of each database; a database that did not answer is left out. */
  readonly seen: Readonly<Record<string, SeenRole>>
}

/** The part of the cluster's record that counts here. */
export interface RecordedRoles {
  readonly epoch: number
  readonly primary: string
  readonly standby: string
  readonly mode: string
  readonly stage: string
}

export interface SeenRole {
  readonly readOnly: boolean
  /** It replicates from somebody, and both threads run. */
  readonly follows: boolean
  readonly ageMilliseconds: number
}

export type DatabaseRole = 'primary' | 'standby'

export const databaseRoles: readonly DatabaseRole[] = ['primary', 'standby']

export interface RoleAnswer {
  /** 200 yes, 503 no or not known, 404 there is no such database. */
  readonly status: 200 | 404 | 503
  readonly reason: string
}

/** A majority's word is good for so long: three times the pause between two questions, and a margin for a busy machine. */
export const recordAgeMillisecondsMax = 3000

export function answerRole(knowledge: RolesKnowledge, database: string, role: DatabaseRole): RoleAnswer {
  if (!knowledge.databases.includes(database)) {
    return { status: 404, reason: `there is no database ${database}: the configuration has ${names(knowledge)}` }
  }
  return knowledge.by === 'record' ? byRecord(knowledge, database, role) : bySight(knowledge, database, role)
}

/** Is this monitor worth asking? */
export function answerKnows(knowledge: RolesKnowledge): RoleAnswer {
  if (knowledge.by === 'sight') return yes('each database is asked')
  return doubt(knowledge) ?? yes(`a majority was heard ${Math.round(knowledge.recordAgeMilliseconds)} ms ago`)
}

function byRecord(knowledge: RolesKnowledge, database: string, role: DatabaseRole): RoleAnswer {
  const { record } = knowledge
  const doubtful = doubt(knowledge)
  if (doubtful !== undefined) return doubtful
  if (record === null) return no('nothing is recorded')
  if (record[role] !== database) return no(`${record[role]} is the ${role} of epoch ${record.epoch}`)
  return role === 'primary' ? recordedPrimary(knowledge, record) : standby(knowledge, database)
}

function recordedPrimary(knowledge: RolesKnowledge, { primary, epoch, stage }: RecordedRoles): RoleAnswer {
  if (stage === 'opening') return no(`${primary} was chosen for epoch ${epoch} and is not writable yet`)
  // Not seen is no "no": this monitor may be the one that is cut off. Seen read-only is one: it restarted, and is opened anew or replaced.
  if (fresh(knowledge, primary)?.readOnly === true) return no(`${primary} is read-only`)
  return yes(`${primary} is the primary of epoch ${epoch}`)
}

function bySight(knowledge: RolesKnowledge, database: string, role: DatabaseRole): RoleAnswer {
  if (role === 'standby') return standby(knowledge, database)
  const writable = knowledge.databases.filter((name) => fresh(knowledge, name)?.readOnly === false)
  if (writable.length > 1) return no(`${writable.join(' and ')} are writable: exactly one may be`)
  const seen = fresh(knowledge, database)
  if (seen === undefined) return no(`${database} does not answer this monitor`)
  return seen.readOnly ? no(`${database} is read-only`) : yes(`${database} is writable`)
}

function standby(knowledge: RolesKnowledge, database: string): RoleAnswer {
  const seen = fresh(knowledge, database)
  if (seen === undefined) return no(`${database} does not answer this monitor`)
  if (!seen.readOnly) return no(`${database} is writable`)
  return seen.follows ? yes(`${database} follows`) : no(`the replication of ${database} does not run`)
}

function doubt({ record, recordAgeMilliseconds }: RolesKnowledge): RoleAnswer | undefined {
  if (record === null) return no('no majority of voters has told this monitor yet who is primary')
  if (recordAgeMilliseconds <= recordAgeMillisecondsMax) return undefined
  return no(`this monitor last heard a majority of voters ${Math.round(recordAgeMilliseconds)} ms ago`)
}

function fresh({ seen }: RolesKnowledge, database: string): SeenRole | undefined {
  const one = seen[database]
  return one !== undefined && one.ageMilliseconds <= recordAgeMillisecondsMax ? one : undefined
}

function names({ databases }: RolesKnowledge): string {
  return databases.join(', ')
}

function yes(reason: string): RoleAnswer {
  return { status: 200, reason }
}

function no(reason: string): RoleAnswer {
  return { status: 503, reason }
}
