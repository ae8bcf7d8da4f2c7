import { createConnection, type Connection } from 'mysql2/promise'
import { readFileSync } from 'node:fs'
import { expect } from 'vitest'
import { randomChange, randomOf } from './arbitration-races.ts'
import { judge, type Operation } from './linearizability.ts'
import { until } from './processes.ts'
import { History, RecordingClient } from './recording-client.ts'
import type { TestSandbox } from './sandboxes.ts'

/** WHITEHOLE_FAULT_REPEATS=20: each row so often. */
export const repeats = Number(process.env['WHITEHOLE_FAULT_REPEATS'] ?? 1)
/** WHITEHOLE_FAULTS=all: every row on each engine, not only the selection of CI. One row by its name: `vitest -t F15`. */
export const allFaults = process.env['WHITEHOLE_FAULTS'] === 'all'

/** Of a row's repeats, in milliseconds. */
export function tellTimes(times: readonly number[]): string {
  const each = times.map(Math.round).join(', ')
  return `for ${Math.round(medianOf(times))} ms (median of ${times.length}: ${each})`
}

export function medianOf(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b)
  const low = sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN
  const high = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
  return (low + high) / 2
}

const connectionsPerNode = 25
const sqlWriters = 2
/** Between two requests of a connection. */
const thinkMilliseconds = 15
const failedMilliseconds = 25

/**
 * 50 connections of mixed writes and reads through both nodes of a sandbox, and two clients that use SQL, steadily through whatever
 * happens. In the end: what everybody was told had one order, counters are exact, nothing that SQL acknowledged is missing, and never were
 * two databases writable.
 */
export class FaultLoad {
  readonly #sandbox: TestSandbox
  readonly #history = new History()
  readonly #tokens = new Map<string, string>()
  readonly #tasks: Promise<void>[] = []
  /** `sent` and `at`: by `performance.now()`. */
  readonly #stored: { node: number; sent: number; at: number }[] = []
  readonly #failed: string[] = []
  readonly #sqlAcknowledged: string[] = []
  readonly #watch: WritableWatch
  /** Of this load alone: the judge begins with nothing. */
  readonly #keys: readonly string[]
  readonly #counters: readonly string[]
  #running = true
  #connections = 0
  #sqlSent = 0
  #values = 100

  private constructor(sandbox: TestSandbox, watch: WritableWatch) {
    this.#sandbox = sandbox
    const id = Date.now().toString(36)
    this.#keys = Array.from({ length: 100 }, (_, n) => `fault-${id}-${n}`)
    this.#counters = Array.from({ length: 3 }, (_, n) => `hits-${id}-${n}`)
    this.#watch = watch
  }

  /** @param options `watched: false` where a database is stopped, and so can't be asked whether it is writable */
  static async start(sandbox: TestSandbox, seed: number, options: { watched?: boolean } = {}): Promise<FaultLoad> {
    const watch = new WritableWatch(sandbox, options.watched ?? true)
    const load = new FaultLoad(sandbox, watch)
    const first = await load.#connect(1)
    for (const counter of load.#counters) await first.ask(counter, { kind: 'set', value: '0' })
    first.close()
    for (const node of [1, 2]) {
      for (let n = 0; n < connectionsPerNode; n++) load.#tasks.push(load.#play(node, randomOf(seed + node * 100 + n)))
    }
    for (let n = 0; n < sqlWriters; n++) load.#tasks.push(load.#writeSql(`sql${seed}-${n}`))
    await load.progress(200)
    return load
  }

  /** Writes that were acknowledged, through either node. */
  get written(): number {
    return this.#stored.length
  }

  /** Errors that clients were told since the last time. */
  takeErrors(): readonly string[] {
    return this.#failed.splice(0)
  }

  /** Resolves once so many more writes were acknowledged through each node. */
  async progress(count: number): Promise<void> {
    const since = performance.now()
    for (const node of [1, 2]) {
      await until(
        `${count} more writes through node ${node}`,
        () => this.#stored.filter((one) => one.node === node && one.at >= since).length >= count,
        60_000,
      )
    }
  }

  /** Milliseconds from an instant of `performance.now()` until a write that was sent after it was acknowledged, through both nodes. */
  async writableAgain(since: number): Promise<number> {
    const firsts = [1, 2].map((node) =>
      until(
        `a write through node ${node}`,
        () => this.#stored.find((one) => one.node === node && one.sent > since),
        60_000,
      ),
    )
    const stored = await Promise.all(firsts)
    return Math.max(...stored.map(({ at }) => at)) - since
  }

  /** The longest time without an acknowledged write, in milliseconds, since an instant. */
  longestPause(since: number): number {
    const times = [since, ...this.#stored.map(({ at }) => at).filter((at) => at >= since), performance.now()]
    return Math.max(...times.slice(1).map((at, index) => at - (times[index] ?? at)))
  }

  /** Stops it and judges. The sandbox must be whole again. */
  async check(): Promise<void> {
    this.#running = false
    await Promise.all(this.#tasks)
    const writable = await this.#watch.stop()
    const { stdout } = await this.#sandbox.run('verify', '--json')
    expect(JSON.parse(stdout)).toMatchObject({ consistent: true })
    await this.#readFinally()
    const { operations } = this.#history
    this.#checkCounters(operations)
    await this.#checkSql()
    const unknown = operations.filter(({ answer }) => answer === undefined).length
    console.log(`${operations.length} operations, ${unknown} without an answer, ${this.#sqlAcknowledged.length} by SQL`)
    expect(judge(operations)).toEqual([])
    expect(writable).toEqual([])
  }

  async #connect(node: number): Promise<RecordingClient> {
    const name = `connection${++this.#connections}`
    const dialect = this.#connections % 2 === 0 ? 'text' : 'meta'
    return RecordingClient.connect(this.#sandbox.basePort + 10 + node, { node, name, history: this.#history, dialect })
  }

  async #play(node: number, random: () => number): Promise<void> {
    while (this.#running) {
      const client = await this.#connect(node).catch(() => undefined)
      if (client !== undefined) await this.#playOn(client, node, random)
      client?.close()
      await pause(failedMilliseconds)
    }
  }

  async #playOn(client: RecordingClient, node: number, random: () => number): Promise<void> {
    while (this.#running && client.open) await this.#ask(client, node, random)
  }

  async #ask(client: RecordingClient, node: number, random: () => number): Promise<void> {
    const isCount = random() < 0.2
    const names = isCount ? this.#counters : this.#keys
    const key = names[Math.floor(random() * names.length)] ?? ''
    const change = isCount
      ? ({ kind: 'incr', delta: 1 } as const)
      : randomChange(random(), String(++this.#values), this.#tokens.get(key))
    const sent = performance.now()
    const { answer } = await client.ask(key, change)
    if (answer === undefined || answer.kind === 'failed') {
      if (this.#running) this.#failed.push(`${change.kind} through node ${node}: ${answer?.kind ?? 'unknown'}`)
      return pause(failedMilliseconds)
    }
    if ('token' in answer && answer.token !== undefined) this.#tokens.set(key, answer.token)
    if (answer.kind === 'stored') this.#stored.push({ node, sent, at: performance.now() })
    return pause(thinkMilliseconds)
  }

  /** As an application does that knows both databases: it takes whichever is writable, and tries again. */
  async #writeSql(prefix: string): Promise<void> {
    const password = readFileSync(`${this.#sandbox.folder}/secrets/application`, 'utf8').trim()
    while (this.#running) {
      for (const port of [41, 42]) {
        const options = { host: '127.0.0.1', port: this.#sandbox.basePort + port, password, connectTimeout: 1000 }
        const connection = await createConnection({ ...options, user: 'whitehole_application' }).catch(() => undefined)
        connection?.on('error', () => {})
        if (connection !== undefined) await this.#writeOn(connection, prefix)
        connection?.destroy()
      }
      await pause(failedMilliseconds)
    }
  }

  /** Until it is refused, or nobody answers. */
  async #writeOn(connection: Connection, prefix: string): Promise<void> {
    while (this.#running) {
      const key = `${prefix}-${this.#sqlSent++}`
      if (!(await setBySql(connection, key))) return
      this.#sqlAcknowledged.push(key)
      await pause(thinkMilliseconds)
    }
  }

  async #readFinally(): Promise<void> {
    for (const node of [1, 2]) {
      const client = await this.#connect(node)
      for (const key of [...this.#keys, ...this.#counters]) await client.ask(key, { kind: 'get', strict: true })
      client.close()
    }
  }

  /** Each increment that was answered has its own number, and the last one is no less than them and no more than all that were sent. */
  #checkCounters(operations: readonly Operation[]): void {
    for (const counter of this.#counters) {
      const mine = operations.filter(({ key }) => key === counter)
      const sent = mine.filter(({ change, answer }) => change.kind === 'incr' && answer?.kind !== 'failed')
      const told = sent.flatMap(({ answer }) => (answer?.kind === 'stored' ? [Number(answer.value)] : []))
      expect(new Set(told).size, `${counter}: a number was told twice`).toBe(told.length)
      const last = mine.at(-1)?.answer
      const final = last?.kind === 'found' ? Number(last.value) : Number.NaN
      expect(final).toBeGreaterThanOrEqual(told.length)
      expect(final).toBeLessThanOrEqual(sent.length)
      expect(final).toBeGreaterThanOrEqual(Math.max(0, ...told))
    }
  }

  async #checkSql(): Promise<void> {
    const { databases } = await this.#sandbox.status()
    const primary = databases.find(({ role }) => role === 'primary')?.name ?? ''
    const connection = await createConnection({ socketPath: this.#sandbox.socket(primary), user: 'root' })
    const [rows] = await connection.query(
      "SELECT mc_key AS name FROM memcached.mc_stored_keys WHERE mc_key LIKE 'sql%'",
    )
    connection.destroy()
    const present = new Set((rows as { name: Buffer }[]).map(({ name }) => name.toString()))
    expect(this.#sqlAcknowledged.filter((key) => !present.has(key))).toEqual([])
  }
}

/** Whether it was acknowledged: else it may have happened or not. */
async function setBySql(connection: Connection, key: string): Promise<boolean> {
  try {
    const sql = "CALL memcached.set_key(memcached.ns('catalog'), ?, 'x', 0)"
    await connection.query({ sql, timeout: 4000 }, [key])
    return true
  } catch {
    return false
  }
}

const watchMilliseconds = 100

/** I5: at no moment may two databases be writable. Each round asks both at once, so what it saw was true at nearly one instant. */
class WritableWatch {
  readonly #sandbox: TestSandbox
  readonly #seen: string[] = []
  readonly #done: Promise<void>
  #running: boolean

  constructor(sandbox: TestSandbox, running: boolean) {
    this.#sandbox = sandbox
    this.#running = running
    this.#done = this.#run()
  }

  async stop(): Promise<readonly string[]> {
    this.#running = false
    await this.#done
    return this.#seen
  }

  async #run(): Promise<void> {
    while (this.#running) {
      const writable = (await Promise.all(['db1', 'db2'].map(async (name) => this.#isWritable(name)))).filter(Boolean)
      if (writable.length > 1) this.#seen.push(`two databases were writable at ${new Date().toISOString()}`)
      await pause(watchMilliseconds)
    }
  }

  async #isWritable(name: string): Promise<boolean> {
    const options = { socketPath: this.#sandbox.socket(name), user: 'root', connectTimeout: 1000 }
    const connection = await createConnection(options).catch(() => undefined)
    connection?.on('error', () => {})
    try {
      const [rows] = (await connection?.query('SELECT @@global.read_only AS readOnly')) ?? [[]]
      return (rows as { readOnly: number }[])[0]?.readOnly === 0
    } catch {
      return false
    } finally {
      connection?.destroy()
    }
  }
}

export async function pause(milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds))
}
