import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { LoadedNodeConfig } from '../config/load.ts'
import type { NodeState } from '../domain/node-state.ts'
import { WhiteholeError } from '../domain/errors.ts'
import { endpointOf } from './configured-cluster.ts'
import { askHttp } from './http-client.ts'

const lookMilliseconds = 500
const answerMilliseconds = 2000
const waitMilliseconds = 10_000

/**
 * A node taken out of service by a person: `/readyz` says 503, so that balancers give it no new clients; whoever is connected is served on, and
 * so are peers. A file in the node's own folder: who may write there may do it, and it outlasts a restart of the node.
 */
export class DrainMark {
  readonly #file: string
  #timer: NodeJS.Timeout | undefined
  #set = false

  constructor({ dataDirectory }: Pick<LoadedNodeConfig, 'dataDirectory'>) {
    this.#file = join(dataDirectory, 'drained')
    this.#set = existsSync(this.#file)
  }

  watch(): void {
    this.#timer = setInterval(() => (this.#set = existsSync(this.#file)), lookMilliseconds).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** What balancers and people are told. */
  tell(state: NodeState): NodeState {
    return this.#set && state === 'serving' ? 'draining' : state
  }

  change(drained: boolean): void {
    if (!drained) return rmSync(this.#file, { force: true })
    mkdirSync(join(this.#file, '..'), { recursive: true, mode: 0o700 })
    writeFileSync(this.#file, '')
  }
}

/**
 * Marks the node of this machine, and waits until it says so.
 * @returns its state; undefined where it does not run (the mark holds for its next start)
 * @throws WhiteholeError `not-serving` where it runs and does not take the mark
 */
export async function changeDrain(config: LoadedNodeConfig, drained: boolean): Promise<string | undefined> {
  new DrainMark(config).change(drained)
  const deadline = performance.now() + waitMilliseconds
  for (;;) {
    const answer = await askHttp(endpointOf(config.http.listen), {
      method: 'GET',
      path: '/readyz',
      timeoutMilliseconds: answerMilliseconds,
    }).catch(() => undefined)
    if (answer === undefined) return undefined
    const { state } = answer.body as { state: string }
    if (drained ? state !== 'serving' : state !== 'draining') return state
    if (performance.now() > deadline) throw new WhiteholeError('not-serving', `${config.name} is still ${state}`)
    await delay(lookMilliseconds / 2)
  }
}
