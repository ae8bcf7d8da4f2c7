/** How full a memcached is, out of `stats` and `stats slabs`. */
export interface Capacity {
  readonly limitBytes: number
  /** Chunks that hold an item, with what they waste. */
  readonly usedBytes: number
  /**
   * 0 to 1. While memory is left to give to the slab classes: the part of all that is used. Once none is left, the fullest class decides:
   * memcached evicts from a class that has no free chunk, whatever room the others have.
   */
  readonly share: number
  /** Since memcached's start. */
  readonly evictions: number
}

export function capacityOf(stats: readonly string[], slabs: readonly string[]): Capacity {
  const general = numbersOf(stats)
  const bySlab = numbersOf(slabs)
  const limitBytes = general.get('limit_maxbytes') ?? 0
  let usedBytes = 0
  let fullest = 0
  for (const [name, chunkBytes] of bySlab) {
    const slabClass = /^(\d+):chunk_size$/.exec(name)?.[1]
    if (slabClass === undefined) continue
    const used = bySlab.get(`${slabClass}:used_chunks`) ?? 0
    const free = bySlab.get(`${slabClass}:free_chunks`) ?? 0
    usedBytes += used * chunkBytes
    if (used > 0) fullest = Math.max(fullest, used / (used + free))
  }
  const ofAll = limitBytes === 0 ? 0 : usedBytes / limitBytes
  const given = bySlab.get('total_malloced') ?? 0
  const allGiven = limitBytes > 0 && given + pageBytes > limitBytes
  return {
    limitBytes,
    usedBytes,
    share: Math.min(1, allGiven ? Math.max(ofAll, fullest) : ofAll),
    evictions: general.get('evictions') ?? 0,
  }
}

/** memcached's slab page, unless it was started with another (`-I` above 1m leaves it). */
const pageBytes = 1024 * 1024

function numbersOf(lines: readonly string[]): Map<string, number> {
  const numbers = new Map<string, number>()
  for (const line of lines) {
    const [, name = '', value = ''] = line.split(' ')
    numbers.set(name, Number(value))
  }
  return numbers
}
