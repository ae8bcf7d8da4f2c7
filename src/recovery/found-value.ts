import { crc32 } from 'node:zlib'
import type { FoundValue } from '../domain/log-values.ts'
import type { DirectoryRow } from './directory-view.ts'
import { sameFlags } from './verdict.ts'

/** Is it what the row says? Whoever gave it may have been a moment further. */
export function valueFits({ flags, value }: FoundValue, row: DirectoryRow): boolean {
  return value.length === row.size && crc32(value) === row.checksum && sameFlags(flags, row.flags)
}
