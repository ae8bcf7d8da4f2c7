import { type ItemCas, isLive } from '../../src/domain/local-reads.ts'
import type { ItemKey } from '../../src/domain/key.ts'
import type { CataloguedNamespace } from '../../src/domain/namespaces.ts'
import { WhiteholeError } from '../../src/domain/errors.ts'
import type { ApplySession } from '../../src/applier/apply.ts'
import { parseCasText } from '../../src/wire/memcached/item-cas.ts'

export interface ModelItem extends ItemCas {
  readonly value: string
}

/** As much of memcached as the applier uses, of either kind; times to live are left out. */
export class ModelMemcached {
  readonly withVersions: boolean
  readonly items = new Map<string, ModelItem>()
  #counter = 0

  constructor(withVersions: boolean) {
    this.withVersions = withVersions
  }

  read(key: string, namespace: CataloguedNamespace): string | undefined {
    const item = this.items.get(key)
    return item !== undefined && isLive(item, namespace) ? item.value : undefined
  }

  list(): (ItemCas & { key: ItemKey })[] {
    return [...this.items].map(([key, { casHigh, casLow }]) => ({ key: key as ItemKey, casHigh, casLow }))
  }

  /** @returns its CAS */
  store(key: string, value: string, cas?: string): number {
    this.#counter++
    this.items.set(key, { value, ...parseCasText(cas ?? String(this.#counter)) })
    return this.#counter
  }

  execute({ line, value }: ModelCommand): void {
    const [command, key = '', ...rest] = line.split(' ')
    const flag = (name: string): string | undefined => rest.find((one) => one.startsWith(name))?.slice(1)
    const item = this.items.get(key)
    switch (command) {
      case 'ms':
        this.store(key, value ?? '', flag('E'))
        return
      case 'delete':
        this.items.delete(key)
        return
      case 'touch':
        return
      case 'md': {
        const cas = flag('C')
        if (cas === undefined) throw new Error(`the model knows no ${line}`)
        if (item === undefined) return
        const expected = parseCasText(cas)
        if (item.casHigh === expected.casHigh && item.casLow === expected.casLow) this.items.delete(key)
        return
      }
      default:
        throw new Error(`the model knows no ${line}`)
    }
  }
}

export interface ModelCommand {
  readonly line: string
  readonly value: string | undefined
}

function commandsOf(bytes: string): ModelCommand[] {
  const commands: ModelCommand[] = []
  for (let at = 0; at < bytes.length;) {
    const end = bytes.indexOf('\r\n', at)
    const line = bytes.slice(at, end)
    at = end + 2
    const length = line.startsWith('ms ') ? Number(line.split(' ')[2]) : undefined
    commands.push({ line, value: length === undefined ? undefined : bytes.slice(at, at + length) })
    if (length !== undefined) at += length + 2
  }
  return commands
}

interface Sent {
  readonly run: () => void
  readonly answer: (() => void) | undefined
}

/**
 * The applier's connection: bytes arrive later, in order. When it breaks, some of what was sent arrives all the same, and later still.
 */
export class ModelSession implements ApplySession {
  readonly itemCasIsVersion: boolean
  readonly connection = {
    request: () => Promise.reject(new Error('not in this model')),
    bulk: (chunks: readonly (Buffer | string)[]) => this.bulk(chunks),
  }
  readonly #memcached: ModelMemcached
  readonly #random: () => number
  readonly #sent: Sent[] = []
  readonly #waiting = new Set<(error: Error) => void>()
  #broken = false
  #pumping = false
  #closed: () => void = () => {}
  /** Nothing of it is under way any more: `stats conns` no longer lists it. */
  readonly closed = new Promise<void>((resolve) => {
    this.#closed = resolve
  })

  #lost: () => void = () => {}
  /** It broke: whoever uses it is told at once. */
  readonly lost = new Promise<void>((resolve) => {
    this.#lost = resolve
  })

  constructor(memcached: ModelMemcached, random: () => number) {
    this.#memcached = memcached
    this.#random = random
    this.itemCasIsVersion = memcached.withVersions
  }

  get broken(): boolean {
    return this.#broken
  }

  bulk(chunks: readonly (Buffer | string)[]): Promise<readonly string[]> {
    const commands = chunks.flatMap((chunk) => commandsOf(typeof chunk === 'string' ? chunk : chunk.toString('latin1')))
    return this.#send(
      commands.map((command) => () => this.#memcached.execute(command)),
      () => [],
    )
  }

  /** flush_all takes no CAS: what was there is below the watermark, or removed one by one. @returns the base watermark */
  empty(): Promise<number | undefined> {
    const memcached = this.#memcached
    let base = 0
    const clear = (): void => {
      if (memcached.withVersions) memcached.items.clear()
      base = memcached.store(stateKey, '')
    }
    return this.#send([clear], () => (memcached.withVersions ? undefined : base))
  }

  nowSeconds(): number {
    return 1000
  }

  writeState(text: string): Promise<number> {
    let cas = 0
    const run = (): void => {
      cas = this.#memcached.store(stateKey, text)
    }
    return this.#send([run], () => cas)
  }

  /** What is left of it comes late, or never. */
  break(): void {
    if (this.#broken) return
    this.#broken = true
    this.#lost()
    this.#sent.splice(Math.floor(this.#random() * (this.#sent.length + 1)))
    for (const reject of this.#waiting) reject(new WhiteholeError('memcached-away', 'the connection broke'))
    this.#waiting.clear()
    this.#pump()
  }

  #send<T>(runs: readonly (() => void)[], answer: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#broken) return reject(new WhiteholeError('memcached-away', 'the connection is broken'))
      this.#waiting.add(reject)
      const last = (): void => {
        this.#waiting.delete(reject)
        resolve(answer())
      }
      if (runs.length === 0) this.#sent.push({ run: () => {}, answer: last })
      for (const [index, run] of runs.entries()) {
        this.#sent.push({ run, answer: index === runs.length - 1 ? last : undefined })
      }
      this.#pump()
    })
  }

  #pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    setTimeout(
      () => {
        this.#pumping = false
        for (const { run, answer } of this.#sent.splice(0, 1 + Math.floor(this.#random() * 2))) {
          run()
          if (!this.#broken) answer?.()
        }
        if (this.#sent.length > 0) this.#pump()
        else if (this.#broken) this.#closed()
      },
      Math.floor(this.#random() * 4),
    )
  }
}

export const stateKey = '~whitehole'
