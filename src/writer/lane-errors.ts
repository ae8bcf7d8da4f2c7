import { readOnlyErrors } from '../adapters/sql-errors.ts'

/** Deadlock, lock wait, duplicate key: the statement failed for certain, the COMMIT behind it was not executed. */
export function isRetryable(error: unknown): boolean {
  return [1213, 1205, 1062].includes(errnoOf(error))
}

/** The database is no primary any more: no statement changed anything, and a COMMIT was rolled back. */
export function isReadOnly(error: unknown): boolean {
  return readOnlyErrors.has(errnoOf(error))
}

/** A trigger's SIGNAL: it will not go otherwise the next time. */
export function isRefusal(error: unknown): boolean {
  return errnoOf(error) === 1644
}

export function isLockWait(error: unknown): boolean {
  return errnoOf(error) === 1205
}

/** Of upserts of unlocked rows alone: it came too late, or what it takes for granted is not so. The statement failed for certain, the COMMIT behind it was not executed. */
export function isWrongAssumption(error: unknown): boolean {
  return errnoOf(error) === 1048
}

export function isDeadlock(error: unknown): boolean {
  return errnoOf(error) === 1213
}

function errnoOf(error: unknown): number {
  const errno = error instanceof Error && 'errno' in error ? error.errno : undefined
  return typeof errno === 'number' ? errno : 0
}
