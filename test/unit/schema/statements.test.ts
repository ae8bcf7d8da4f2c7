import { describe, expect, test } from 'vitest'
import { knownSchemaVersion, loadMigrations } from '../../../src/schema/migrations.ts'
import { splitStatements } from '../../../src/schema/statements.ts'

describe('an SQL script is split as the command-line clients split it', () => {
  test('statements end at a semicolon, the last one too', () => {
    expect(splitStatements('SELECT 1;\n\nSELECT 2 ;')).toEqual(['SELECT 1', 'SELECT 2'])
    expect(splitStatements(' \n-- nothing\n')).toEqual([])
    expect(splitStatements(';;SELECT 1;;')).toEqual(['SELECT 1'])
    expect(() => splitStatements('SELECT 1')).toThrow('the script ends inside a statement: SELECT 1')
  })

  test('a semicolon in a string, a name or a comment ends nothing', () => {
    const script = `SELECT 'a;''b\\';', ";\\"", \`;\` -- ; it's\n /* ; ' */ # ;\n , 1;`
    expect(splitStatements(`${script} SELECT 2;`)).toEqual([script.slice(0, -1), 'SELECT 2'])
  })

  test('two dashes are a comment only before a blank', () => {
    expect(splitStatements("SELECT 1--1;SELECT '-- ';--\nSELECT 3;")).toEqual([
      'SELECT 1--1',
      "SELECT '-- '",
      'SELECT 3',
    ])
  })

  test('DELIMITER changes what ends a statement, and back', () => {
    const body = 'CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END'
    expect(splitStatements(`DELIMITER $$\n-- why\n${body} $$\ndelimiter ;\nSELECT 3;`)).toEqual([body, 'SELECT 3'])
  })

  test('comments in front of a statement go, those inside stay', () => {
    expect(splitStatements('-- a\n/* b */ SELECT /* c */ 1; -- d')).toEqual(['SELECT /* c */ 1'])
  })

  test.each([
    ["SELECT 'a;", 'a quote is not closed'],
    ['SELECT 1 /* a;', 'a comment is not closed'],
  ])('%s is refused', (script, text) => expect(() => splitStatements(script)).toThrow(text))
})

describe.each(['mariadb', 'mysql'] as const)('the migrations of %s', (dialect) => {
  test('are numbered from 1 without a gap, and each has statements', () => {
    const migrations = loadMigrations(dialect)
    expect(migrations.map(({ number }) => number)).toEqual(migrations.map((_, index) => index + 1))
    expect(migrations.every(({ statements }) => statements.length > 0)).toBe(true)
    expect(knownSchemaVersion(dialect)).toBe(migrations.length)
  })

  test('every routine and trigger of them runs as the locked account', () => {
    const made = loadMigrations(dialect)
      .flatMap(({ statements }) => statements)
      .filter((statement) => /^CREATE (?!TABLE)/.test(statement))
    expect(made.length).toBeGreaterThan(10)
    for (const statement of made) {
      expect(statement).toMatch(/^CREATE DEFINER='whitehole_definer'@'localhost' (PROCEDURE|FUNCTION|TRIGGER)/)
      if (!statement.includes(' TRIGGER ')) expect(statement).toContain('SQL SECURITY DEFINER')
    }
  })
})
