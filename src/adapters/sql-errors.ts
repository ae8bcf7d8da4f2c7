/** 1290 read_only, 1792 read-only transaction, 1836 running in read-only mode: nothing was written. */
export const readOnlyErrors: ReadonlySet<number> = new Set([1290, 1792, 1836])
