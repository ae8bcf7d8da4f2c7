import { type Dialect, formatPosition, parsePosition, type Position } from '../domain/position.ts'
import type { CataloguedNamespace } from '../domain/namespaces.ts'

/** No composed key has this form: names of namespaces know no `~`, and every composed key has a `:`. */
export const stateItemKey = '~whitehole'

/** What a node's memcached says of its own contents (docs/adr/0005-state-item.md). */
export interface StateItem {
  /** Every transaction up to here is applied. */
  readonly contains: Position
  /** Some of what lies between `contains` and here may be applied: nobody may read before all of it is. */
  readonly mayContain: Position
  readonly epoch: number
  /** Undefined: the items' CAS are versions, and nothing was there before. Then no namespace has a watermark either. */
  readonly baseWatermark: number | undefined
  /** Items were marked stale: plain reads must leave them alone (docs/adr/0009-item-cas.md). */
  readonly staleItems: boolean
  readonly namespaces: Iterable<CataloguedNamespace>
}

const format = 'whitehole-state 1'

export function formatStateItem(state: StateItem): string {
  return formatMarks(state) + formatNamespaces(state)
}

/** The part that each batch changes. */
export function formatMarks(state: Omit<StateItem, 'namespaces' | 'baseWatermark' | 'staleItems'>): string {
  const { contains, mayContain, epoch } = state
  return `${format}\n${contains.dialect}\n${epoch}\n${formatPosition(contains)}\n${formatPosition(mayContain)}\n`
}

/** The part that only a change of the catalogue changes. */
export function formatNamespaces(state: Pick<StateItem, 'namespaces' | 'baseWatermark' | 'staleItems'>): string {
  let text = `${formatWatermark(state.baseWatermark)}${state.staleItems ? stale : ''}\n`
  for (const namespace of state.namespaces) {
    const watermark = formatWatermark(namespace.watermark)
    text += `${namespace.id} ${namespace.generation} ${watermark} ${namespace.flushDue} ${namespace.name}\n`
  }
  return `${text}end\n`
}

/** @returns undefined where the text is no state item of a format that this build knows: then the contents aren't trusted */
export function parseStateItem(text: string): StateItem | undefined {
  const [head, dialect, epoch, contains, mayContain, contents, ...rows] = text.split('\n')
  if (head !== format || (dialect !== 'mariadb' && dialect !== 'mysql')) return undefined
  if (epoch === undefined || contains === undefined || mayContain === undefined || contents === undefined)
    return undefined
  const staleItems = contents.endsWith(stale)
  const base = staleItems ? contents.slice(0, -stale.length) : contents
  // A text that was cut has lost something.
  if (rows.pop() !== '' || rows.pop() !== 'end') return undefined
  const namespaces = rows.map(parseRow)
  // All of one kind: what a CAS means is not to be guessed.
  if (namespaces.some((one) => one === undefined || (one.watermark === undefined) !== (base === none))) return undefined
  if (base !== none && !/^\d+$/.test(base)) return undefined
  try {
    return {
      contains: parsePosition(dialect satisfies Dialect, contains),
      mayContain: parsePosition(dialect, mayContain),
      epoch: Number(epoch),
      baseWatermark: parseWatermark(base),
      staleItems,
      namespaces: namespaces as CataloguedNamespace[],
    }
  } catch {
    return undefined
  }
}

const none = '-'
const stale = ' stale'

function formatWatermark(watermark: number | undefined): string {
  return watermark === undefined ? none : String(watermark)
}

function parseWatermark(text: string): number | undefined {
  return text === none ? undefined : Number(text)
}

function parseRow(line: string): CataloguedNamespace | undefined {
  const match = /^(\d+) (\d+) (\d+|-) (\d+) ([A-Za-z0-9_.-]{1,64})$/.exec(line)
  if (match === null) return undefined
  const [, id, generation, watermark = none, flushDue, name = ''] = match
  return {
    id: Number(id),
    generation: Number(generation),
    watermark: parseWatermark(watermark),
    flushDue: Number(flushDue),
    name,
  }
}
