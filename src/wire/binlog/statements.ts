import { isLogTable } from './table-map.ts'

/** What a QUERY event's text means to the log that we read. */
export type Statement =
  | { readonly kind: 'begin' | 'commit' | 'rollback' | 'xa-start' | 'xa-end' | 'statement' }
  | { readonly kind: 'savepoint' | 'rollback-to'; readonly name: string }
  /** Changes rows as text: whatever its triggers and functions wrote into our log is not there. `ours`: it names our schema. */
  | { readonly kind: 'dml'; readonly keyword: string; readonly ours: boolean }
  /** Empties, drops, renames or rebuilds one of our tables: what it does to the rows is not in the log. */
  | { readonly kind: 'destroys'; readonly keyword: string; readonly table: string }

const plain = { kind: 'statement' } as const

/**
 * @param sql the statement, one character a byte
 * @param current the database that names without one are in
 * @param schema the name of our database
 */
export function classifyStatement(sql: string, current: string, schema: string): Statement {
  // What the server itself writes, many times a second.
  if (sql === 'BEGIN') return { kind: 'begin' }
  if (sql === 'COMMIT') return { kind: 'commit' }
  const text = withoutPrefix(sql)
  const keyword = /^[A-Za-z]+/.exec(text)?.[0]?.toUpperCase() ?? ''
  switch (keyword) {
    case 'BEGIN':
    case 'START':
      return { kind: 'begin' }
    case 'COMMIT':
      return { kind: 'commit' }
    case 'ROLLBACK':
      return classifyRollback(text)
    case 'SAVEPOINT':
      return { kind: 'savepoint', name: savepointName(text.slice(keyword.length)) }
    case 'XA':
      return classifyXa(text)
    case 'INSERT':
    case 'REPLACE':
    case 'UPDATE':
    case 'DELETE':
    case 'LOAD':
    case 'SELECT':
    case 'CALL':
    case 'DO':
    case 'WITH':
      return classifyDml(keyword, text, { current, schema })
    case 'TRUNCATE':
    case 'DROP':
    case 'RENAME':
    case 'ALTER':
    case 'CREATE':
      return classifyDdl(keyword, text, { current, schema })
    default:
      return plain
  }
}

interface Scope {
  readonly current: string
  readonly schema: string
}

function classifyRollback(text: string): Statement {
  const match = /^rollback\s+(?:work\s+)?to\s+(?:savepoint\s+)?/i.exec(text)
  return match === null
    ? { kind: 'rollback' }
    : { kind: 'rollback-to', name: savepointName(text.slice(match[0].length)) }
}

function classifyXa(text: string): Statement {
  if (/^xa\s+(?:start|begin)\b/i.test(text)) return { kind: 'xa-start' }
  return /^xa\s+(?:commit|rollback)\b/i.test(text) ? { kind: 'xa-end' } : plain
}

function classifyDml(keyword: string, text: string, scope: Scope): Statement {
  const ours =
    sameName(scope.current, scope.schema) || names(text).some(({ database }) => sameName(database ?? '', scope.schema))
  // What a server writes for a MEMORY table that a restart has emptied: it fires no trigger.
  if (!ours && /^delete\s+from\s+[^\s;]+\s*$/i.test(withoutComments(text))) return plain
  return { kind: 'dml', keyword, ours }
}

function classifyDdl(keyword: string, sql: string, scope: Scope): Statement {
  const text = withoutStrings(withoutComments(sql))
  const destroys = (target: string, verb = keyword): Statement => {
    const [table] = namesIn(target, scope)
    return table === undefined ? plain : { kind: 'destroys', keyword: verb, table }
  }
  const schemaGone = /^(?:drop|create\s+or\s+replace)\s+(?:database|schema)\s+(?:if\s+exists\s+)?(\S+)/i.exec(text)
  if (schemaGone !== null) {
    const name = unquote((schemaGone[1] ?? '').replace(/;$/, ''))
    return sameName(name, scope.schema)
      ? { kind: 'destroys', keyword: `${keyword} DATABASE`, table: scope.schema }
      : plain
  }
  switch (keyword) {
    case 'TRUNCATE':
      return destroys(text)
    case 'RENAME':
      return /^rename\s+tables?\b/i.test(text) ? destroys(text, 'RENAME TABLE') : plain
    case 'DROP':
      return /^drop\s+tables?\b/i.test(text) ? destroys(text, 'DROP TABLE') : plain
    case 'CREATE': {
      const replaced = /^create\s+or\s+replace\s+table\s+(?:if\s+not\s+exists\s+)?([^\s(]+)/i.exec(text)
      return replaced === null ? plain : destroys(replaced[1] ?? '', 'CREATE OR REPLACE TABLE')
    }
    default:
      return classifyAlter(text, destroys)
  }
}

/** Columns and keys may be added: whether we can still read the rows, each TABLE_MAP tells. */
function classifyAlter(text: string, destroys: (target: string, verb: string) => Statement): Statement {
  const match =
    /^alter\s+(?:online\s+|ignore\s+)*table\s+(?:if\s+exists\s+)?((?:`(?:[^`]|``)+`|[^\s`.]+)(?:\s*\.\s*(?:`(?:[^`]|``)+`|[^\s`]+))?)([^]*)$/i.exec(
      text,
    )
  if (match === null) return plain
  const [, target = '', clauses = ''] = match
  const others = clauses.match(/\b(?:rename\s+(?:to\s+|as\s+)?|with\s+table\s+)\S+/gi) ?? []
  const swapped = destroys(
    others.map((clause) => clause.replace(/^\w+\s+(?:to\s+|as\s+|table\s+)?/i, '')).join(' '),
    'ALTER TABLE',
  )
  if (swapped.kind === 'destroys') return swapped
  const adds = /^\s*(?:wait\s+\d+\s+|nowait\s+)?add\b/i.test(clauses)
  const harmful = /\b(?:drop|modify|change|rename|convert|truncate|partition|exchange|discard|import|engine|order)\b/i
  return adds && !harmful.test(clauses.replace(/`(?:[^`]|``)*`/g, '``')) ? plain : destroys(target, 'ALTER TABLE')
}

/** Comments before the statement, executable ones included, an opening bracket, MariaDB's SET STATEMENT … FOR and ANALYZE. */
function withoutPrefix(sql: string): string {
  let text = sql
  for (;;) {
    const next = text
      .replace(/^[\s(;]+/, '')
      .replace(/^\/\*[M]?!\d*/, '')
      .replace(/^\/\*[^]*?\*\//, '')
      .replace(/^(?:--\s|#)[^\n]*(?:\n|$)/, '')
      .replace(/^set\s+statement\b[^]*?\bfor\s+/i, '')
      .replace(/^analyze\s+(?:format\s*=\s*\S+\s+)?(?=(?:insert|replace|update|delete|select|with)\b)/i, '')
    if (next === text) return text
    text = next
  }
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[M]?!\d*|\/\*[^]*?\*\/|\*\//g, ' ').trim()
}

function withoutStrings(text: string): string {
  return text.replace(/'(?:[^'\\]|\\[^]|'')*'/g, "''")
}

const namePattern = /(?:(`(?:[^`]|``)+`|[\w$\u0080-\u00ff]+)\s*\.\s*)?(`(?:[^`]|``)+`|[\w$\u0080-\u00ff]+)/g

/** The tables of the log that a text names. */
function namesIn(text: string, scope: Scope): string[] {
  return names(text)
    .filter(({ database, name }) => sameName(database ?? scope.current, scope.schema) && isLogTable(name.toLowerCase()))
    .map(({ name }) => name.toLowerCase())
}

function names(text: string): { database: string | undefined; name: string }[] {
  return Array.from(text.matchAll(namePattern), ([, database, name = '']) => ({
    database: database === undefined ? undefined : unquote(database),
    name: unquote(name),
  }))
}

function sameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase()
}

function savepointName(text: string): string {
  const match = /^\s*(`(?:[^`]|``)+`|[^\s;]+)/.exec(text)
  return unquote(match?.[1] ?? '').toLowerCase()
}

function unquote(name: string): string {
  return name.startsWith('`') ? name.slice(1, -1).replaceAll('``', '`') : name
}
