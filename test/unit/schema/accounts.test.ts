import { describe, expect, test } from 'vitest'
import { accountStatements, nativePasswordHash, printableAccountStatements } from '../../../src/schema/accounts.ts'
import { schemaSql } from '../../../src/schema/initialize.ts'

const accounts = {
  node: { user: 'whitehole_node', host: '127.0.0.1', password: 'node-secret' },
  application: { user: "o'brien", host: '%', password: 'app-secret' },
  monitor: { user: 'whitehole_monitor', host: '127.0.0.1', password: 'monitor-secret' },
}

describe('the accounts', () => {
  test("MariaDB's hash is the one that PASSWORD() gives", () => {
    expect(nativePasswordHash('password')).toBe('*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19')
  })

  test('no statement for MariaDB has a password in clear, for its binlog would keep it', () => {
    expect(JSON.stringify(accountStatements('mariadb', accounts).map(({ statements }) => statements))).not.toMatch(
      /secret/,
    )
  })

  test.each(['mariadb', 'mysql'] as const)('what is printed for %s leaves the passwords to be filled in', (dialect) => {
    expect(schemaSql(dialect, accounts)).not.toMatch(/-secret/)
    expect(printableAccountStatements(dialect, accounts)[0]).toContain('password of whitehole_node')
  })

  test('names are quoted', () => {
    const [application] = accountStatements('mysql', { application: accounts.application })
    expect(application?.statements.at(-1)).toBe("GRANT SELECT ON memcached.mc_namespaces TO 'o\\'brien'@'%'")
  })

  test.each(['user', 'host', 'password'])('an account without %s is refused', (field) => {
    expect(() => accountStatements('mysql', { node: { ...accounts.node, [field]: '' } })).toThrow(
      'the node account needs a user, a host and a password',
    )
  })
})
