import type { Dialect } from './dialect.ts'
import type { Reply } from './replies.ts'
import { binaryDialect } from './replies-binary.ts'
import { metaDialect } from './replies-meta.ts'
import { textDialect } from './replies-text.ts'

const dialects = { text: textDialect, meta: metaDialect, binary: binaryDialect } as const

export function dialectOf(reply: Reply): Dialect {
  return dialects[reply.form.dialect]
}

export function refuse(reply: Reply, line: string, status?: number): void {
  dialectOf(reply).refuse(reply, line, status)
}

export function fail(reply: Reply, error: unknown): void {
  dialectOf(reply).fail(reply, error)
}

export function done(reply: Reply): void {
  dialectOf(reply).done(reply)
}
