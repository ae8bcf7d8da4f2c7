import type { ItemKey } from '../../domain/key.ts'
import type { ExaminedItem } from '../../domain/local-reads.ts'
import { parseCasText } from './item-cas.ts'
import { metaKey } from './meta-key.ts'

export interface Examination {
  readonly withValue: boolean
  readonly noBump: boolean
  readonly vivify?: number | undefined
  /** The CAS of the item that `vivify` makes; where memcached takes none, its counter gives one. */
  readonly vivifyCas?: bigint | undefined
  readonly recacheBelow?: number | undefined
}

/** `mg` with all that can be told of an item. */
export function formatExamination(key: ItemKey, asked: Examination): string {
  const { text, binary } = metaKey(key)
  let command = `mg ${text}`
  // Before `t`: memcached goes through the flags in their order.
  if (asked.vivify !== undefined) command += ` N${asked.vivify}`
  if (asked.vivifyCas !== undefined) command += ` E${asked.vivifyCas}`
  if (asked.recacheBelow !== undefined) command += ` R${asked.recacheBelow}`
  command += ' s f c t h l'
  if (asked.withValue) command += ' v'
  if (asked.noBump) command += ' u'
  return binary ? `${command} b` : command
}

/**
 * `HD s5 f0 c7 t-1 h0 l0` or `VA 5 s5 …`, with `W X Z` behind.
 * @returns undefined for a miss
 * @throws Error on any other reply
 */
export function parseExamination(line: string, value: Buffer | undefined): ExaminedItem | undefined {
  if (line === 'EN') return undefined
  const words = line.split(' ')
  const head = words.shift()
  if (head !== 'HD' && head !== 'VA') throw new Error(`memcached refused: ${JSON.stringify(line.slice(0, 200))}`)
  if (head === 'VA') words.shift()
  const said = new Map<string, string>()
  for (const word of words) said.set(word.charAt(0), word.slice(1))
  return {
    ...parseCasText(said.get('c') ?? ''),
    flags: said.get('f') ?? '0',
    value,
    sizeBytes: Number(said.get('s')),
    remainingSeconds: Number(said.get('t')),
    hitBefore: said.get('h') === '1',
    idleSeconds: Number(said.get('l')),
    won: said.has('W'),
    stale: said.has('X'),
    leased: said.has('Z'),
  }
}
