/**
 * The statements of an SQL script as the command-line clients read it: separated by `;`, or by what a line `DELIMITER …` says. So
 * the same files load by our own hand and by `mariadb < file`. Comments in front of a statement go, those inside stay.
 */
export function splitStatements(script: string): string[] {
  const statements: string[] = []
  let delimiter = ';'
  let start = 0
  let at = 0
  /** A statement has begun: `start` stands on its first character. */
  let inside = false
  while (at < script.length) {
    const skipped = inside ? endOfQuoted(script, at) : endOfBlank(script, at)
    if (skipped > at) {
      at = skipped
      if (!inside) start = at
      continue
    }
    const directive = inside ? null : delimiterLine(script, at)
    if (directive !== null) {
      delimiter = directive.delimiter
      at = start = directive.end
      continue
    }
    if (script.startsWith(delimiter, at)) {
      if (inside) statements.push(script.slice(start, at).trimEnd())
      at = start = at + delimiter.length
      inside = false
      continue
    }
    inside = true
    at = Math.max(at + 1, endOfQuoted(script, at))
  }
  if (inside) throw new SyntaxError(`the script ends inside a statement: ${script.slice(start, start + 60)}`)
  return statements
}

/** The end of a string, a quoted name or a comment that begins at `at`; else `at`. */
function endOfQuoted(script: string, at: number): number {
  const quote = script[at]
  if (quote !== "'" && quote !== '"' && quote !== '`') return endOfComment(script, at)
  // A doubled quote ends one string and begins the next: the same for us.
  for (let index = at + 1; index < script.length; index++) {
    if (script[index] === '\\' && quote !== '`') index++
    else if (script[index] === quote) return index + 1
  }
  throw new SyntaxError(`a quote is not closed: ${script.slice(at, at + 60)}`)
}

function endOfComment(script: string, at: number): number {
  if (script[at] === '#' || /^--(?:\s|$)/.test(script.slice(at, at + 3))) {
    const end = script.indexOf('\n', at)
    return end < 0 ? script.length : end
  }
  if (!script.startsWith('/*', at)) return at
  const end = script.indexOf('*/', at + 2)
  if (end < 0) throw new SyntaxError(`a comment is not closed: ${script.slice(at, at + 60)}`)
  return end + 2
}

function endOfBlank(script: string, at: number): number {
  return /\s/.test(script[at] ?? '') ? at + 1 : endOfComment(script, at)
}

function delimiterLine(script: string, at: number): { delimiter: string; end: number } | null {
  const pattern = /DELIMITER[ \t]+(\S+)[ \t]*(?:\r?\n|$)/iy
  pattern.lastIndex = at
  const match = pattern.exec(script)
  return match === null ? null : { delimiter: match[1] ?? ';', end: pattern.lastIndex }
}
