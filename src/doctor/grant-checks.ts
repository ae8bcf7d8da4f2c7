import type { Finding } from './finding.ts'
import type { ServerFacts } from './server-facts.ts'

export interface NodeAccount {
  readonly user: string
  /** As in GRANT: `SELECT, INSERT ON memcached.mc_nodes`. */
  readonly rights: readonly string[]
}

/** With one of these a node's account could write where nobody may: on a standby that is read-only. */
const tooMuch = [
  'SUPER',
  'ALL PRIVILEGES',
  'READ ONLY ADMIN',
  'READ_ONLY ADMIN',
  'CONNECTION_ADMIN',
  'CONNECTION ADMIN',
]

/** The account that this server's nodes log in with has what it needs, and nothing that is dangerous. */
export function checkGrants(facts: ServerFacts, account: NodeAccount): Finding[] {
  const { nodeGrants, name } = facts
  if (nodeGrants === null) {
    return [
      {
        severity: 'problem',
        where: name,
        check: 'grants',
        found: `the account "${account.user}" is not there, or its rights can't be seen`,
        remedy: 'whitehole init makes the accounts on the primary; they reach the others by replication',
      },
    ]
  }
  const has = nodeGrants.flatMap(parseGrant)
  const grantee = granteeOf(nodeGrants)
  const lacking = account.rights.flatMap((right) => {
    const missing = parseGrant(`GRANT ${right} TO x`).filter((wanted) => !has.some((held) => covers(held, wanted)))
    return missing.length === 0
      ? []
      : [{ privileges: missing.map(({ privilege }) => privilege).join(', '), scope: missing[0]?.scope ?? '' }]
  })
  const surplus = has.filter(({ privilege, scope }) => scope === '*.*' && tooMuch.includes(privilege))
  return [
    ...lacking.map(({ privileges, scope }): Finding => ({
      severity: 'problem',
      where: name,
      check: 'grants',
      found: `the account "${account.user}" lacks ${privileges} on ${scope}`,
      remedy: 'run whitehole init again (on the primary)',
      ...(grantee === undefined ? {} : { sql: [`GRANT ${privileges} ON ${scope} TO ${grantee}`] }),
    })),
    ...surplus.map(({ privilege }): Finding => ({
      severity: 'problem',
      where: name,
      check: 'grants',
      found: `the account "${account.user}" has ${privilege}: it could write to a read-only standby`,
      remedy: `revoke it (on the primary)`,
      ...(grantee === undefined ? {} : { sql: [`REVOKE ${privilege} ON *.* FROM ${grantee}`] }),
    })),
  ]
}

interface Held {
  readonly privilege: string
  readonly scope: string
}

function parseGrant(line: string): Held[] {
  const match = /^GRANT (.+?) ON (?:PROCEDURE |FUNCTION )?(\S+) TO /.exec(line)
  if (match === null) return []
  const [, privileges = '', scope = ''] = match
  return privileges
    .split(',')
    .map((privilege) => ({ privilege: synonym(privilege.trim().toUpperCase()), scope: scope.replaceAll('`', '') }))
}

/** MariaDB shows what was granted by its newer names. */
const synonyms: Readonly<Record<string, string>> = {
  'REPLICATION CLIENT': 'BINLOG MONITOR',
  'REPLICA MONITOR': 'SLAVE MONITOR',
  'REPLICATION REPLICA': 'REPLICATION SLAVE',
}

function synonym(privilege: string): string {
  return synonyms[privilege] ?? privilege
}

function covers(held: Held, wanted: Held): boolean {
  const everything = held.privilege === 'ALL PRIVILEGES' || held.privilege === wanted.privilege
  const [database] = wanted.scope.split('.')
  return everything && [wanted.scope, `${database}.*`, '*.*'].includes(held.scope)
}

function granteeOf(lines: readonly string[]): string | undefined {
  return / TO ((?:`[^`]*`|'[^']*')@(?:`[^`]*`|'[^']*'))/.exec(lines[0] ?? '')?.[1]
}
