import { writeSync } from 'node:fs'

/**
 * Places where a test lets a node die, to see what it finds when it comes back. `WHITEHOLE_FAILPOINT=<name>` (or `<name>:<n>`, the
 * n-th time) arms one of them for the life of the process; `compose/` reads the variable once, at the start. Where none is armed,
 * a place costs one comparison.
 *
 * A place is named after what has happened and what has not: whoever adds one writes down what memcached and the state item hold there.
 */
export const failpointNames = [
  /** A batch was read from the log; neither its mark ("may contain up to") nor any of its entries is sent. */
  'before-apply',
  /** memcached has the batch's mark and nothing else of it. */
  'after-mark-before-apply',
  /** memcached has the mark and a part of the batch's entries. */
  'mid-apply',
  /** memcached has the whole batch, the state item says "contains" of the one before, and no writer was told. */
  'after-apply-before-state',
  /** A flush has its watermark; neither the catalogue nor the state item has it. */
  'mid-flush',
  /** A flush is in force; none of the items that it ended is freed. */
  'after-flush-before-sweep',
  /** Some of the flushed items are freed. */
  'mid-sweep',
  /** A rebuild has taken some of a peer's items. */
  'mid-snapshot',
  /** A rebuild has taken all of a peer's items and none of the log behind them. */
  'after-snapshot-before-log',
  /** A repair has asked a peer and written nothing. */
  'mid-repair',
  /** Rows of the directory are deleted in a transaction that is not committed. */
  'mid-purge',
] as const

export type FailpointName = (typeof failpointNames)[number]

interface Armed {
  readonly name: FailpointName
  hitsLeft: number
  readonly act: (name: FailpointName) => void
}

let armed: Armed | undefined

/**
 * Dies here if this place is armed; in a simulation, does what that asked for (it may throw).
 * @param counts asked only where it is armed: does this time count?
 */
export function failpoint(name: FailpointName, counts: () => boolean = always): void {
  if (armed !== undefined && armed.name === name && counts()) reach(armed)
}

/** For a place that must first bring about what it is named after: that work is done only where this says so. */
export function failpointArmed(name: FailpointName): boolean {
  return armed !== undefined && armed.name === name
}

/**
 * @param setting `name` or `name:n`; undefined or empty arms nothing
 * @param act what happens there: by default the process is killed, with nothing flushed, closed or told
 * @returns disarms it
 * @throws RangeError where no place has this name
 */
export function armFailpoint(setting: string | undefined, act: Armed['act'] = killThisProcess): () => void {
  armed = undefined
  if (setting === undefined || setting === '') return () => {}
  const [text, times = '1'] = setting.split(':')
  const name = failpointNames.find((candidate) => candidate === text)
  if (name === undefined || !/^[1-9]\d{0,8}$/.test(times)) {
    throw new RangeError(`WHITEHOLE_FAILPOINT: ${JSON.stringify(setting)} is none of ${failpointNames.join(', ')}`)
  }
  const mine: Armed = { name, hitsLeft: Number(times), act }
  armed = mine
  return () => {
    if (armed === mine) armed = undefined
  }
}

function always(): boolean {
  return true
}

function reach(point: Armed): void {
  point.hitsLeft--
  if (point.hitsLeft > 0) return
  armed = undefined
  point.act(point.name)
}

function killThisProcess(name: FailpointName): void {
  writeSync(2, `{"level":"warn","msg":"failpoint ${name}: this process kills itself"}\n`)
  process.kill(process.pid, 'SIGKILL')
}
