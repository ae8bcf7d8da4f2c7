import { existsSync, mkdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Connection } from 'mysql2/promise'
import { closeDatabaseConnection } from '../adapters/databases.ts'
import { describeError } from '../domain/errors.ts'
import { type ControlReply, type ControlRequest, ControlServer } from './control.ts'
import { logTail, makeMariadbDirectory, makeMysqlDirectory } from './data-directory.ts'
import { DatabaseLink } from './database-link.ts'
import type { SandboxFolder } from './folder.ts'
import { answers, type Probe, probeOf } from './health.ts'
import { stopLeftovers } from './leftovers.ts'
import { lockFolder } from './lock.ts'
import { type KeptDatabase, PairKeeper } from './pair-keeper.ts'
import { requireFreePorts } from './ports.ts'
import {
  databaseInitFile,
  databaseLog,
  databaseSpec,
  memcachedSpec,
  nodeConfigFile,
  nodeConfigText,
  nodeSpec,
  type OwnCommand,
} from './process-specs.ts'
import { removeIdentity, writeIdentity } from './process-identity.ts'
import { SandboxError } from './sandbox-error.ts'
import { SingleKeeper } from './single-keeper.ts'
import { type ProcessSpec, SupervisedProcess } from './supervised-process.ts'
import {
  dialectOf,
  mysqldOf,
  planOf,
  portsOf,
  processNames,
  type SandboxPlan,
  type SandboxSettings,
} from './topology.ts'

export interface SandboxOptions {
  readonly folder: SandboxFolder
  readonly settings: SandboxSettings
  readonly ownCommand: OwnCommand
  /** For each database, at each of its starts: the accounts without which it can't take a role. */
  readonly accountStatements: readonly string[]
  /** Brings schema, accounts and first namespaces to the writable database; called at each start. */
  readonly initialize: (primary: Connection) => Promise<void>
  /** What happens, in words for people. */
  readonly report: (message: string) => void
}

const databasesReadySeconds = 90
const nodesReadySeconds = 120
const folderWatchMilliseconds = 2000
/** A program that ends so often while everything starts won't start at all. */
const failedStartsMax = 4

/** A whole topology on this machine: starts it, keeps it running, stops it in order. */
export class Sandbox {
  readonly plan: SandboxPlan
  readonly #options: SandboxOptions
  readonly #processes = new Map<string, SupervisedProcess>()
  readonly #databases: readonly KeptDatabase[]
  readonly #keeper: PairKeeper | SingleKeeper
  #control: ControlServer | undefined
  #folderWatch: NodeJS.Timeout | undefined
  #release: (() => void) | undefined
  #stopping = new AbortController()
  #started: Promise<void> | undefined
  #stopped: Promise<void> | undefined
  readonly #down = new AbortController()

  constructor(options: SandboxOptions) {
    this.#options = options
    this.plan = planOf(options.settings)
    this.#databases = this.plan.databases.map((database) => ({
      ...database,
      link: new DatabaseLink({
        name: database.name,
        dialect: dialectOf(options.settings),
        socketPath: options.folder.databaseSocket(database.name),
      }),
    }))
    this.#keeper = this.#makeKeeper()
  }

  /** Aborts when `whitehole down` has asked for the end. */
  get downAsked(): AbortSignal {
    return this.#down.signal
  }

  /** Resolves when everything serves. After a rejection call `stop`. */
  async start(): Promise<void> {
    this.#started = this.#start()
    return this.#started
  }

  /** A start that is under way gives up. */
  abort(): void {
    this.#stopping.abort(stopped)
  }

  async #start(): Promise<void> {
    const { folder, settings, report } = this.#options
    this.#release = await lockFolder(folder.path)
    if (this.#release === undefined) {
      throw new SandboxError(
        `the sandbox in ${folder.path} runs already: see "whitehole status --dir ${folder.path}", stop it with "whitehole down --dir ${folder.path}"`,
      )
    }
    await stopLeftovers(folder, report)
    await requireFreePorts(portsOf(this.plan))
    const specs = this.#specs()
    folder.settings = settings
    folder.state ??= { primary: 'db1' }
    mkdirSync(folder.of('supervisor'), { recursive: true, mode: 0o700 })
    writeIdentity(folder.of('supervisor'), process.pid)
    await Promise.all(this.plan.databases.map(async ({ name }) => this.#prepareDatabase(name)))
    this.#stopping.signal.throwIfAborted()
    for (const spec of specs) this.#processes.set(spec.name, new SupervisedProcess(spec, this.#onChange))
    this.#control = await ControlServer.listen(folder.controlSocket, async (request) => this.#answer(request))
    this.#watchFolder()
    await this.#startDatabases()
    await this.#startNodes()
  }

  async #prepareDatabase(name: string): Promise<void> {
    const { folder, settings } = this.#options
    const mysqld = mysqldOf(settings)
    if (mysqld === undefined) await makeMariadbDirectory(folder.of(name))
    else await makeMysqlDirectory(folder.of(name), mysqld)
    folder.writePrivate(databaseInitFile(folder, name), `${this.#options.accountStatements.join(';\n')};\n`)
  }

  /** Whoever removes the folder means the sandbox: no command could reach it any more. */
  #watchFolder(): void {
    const { folder, report } = this.#options
    this.#folderWatch = setInterval(() => {
      if (existsSync(folder.controlSocket)) return
      clearInterval(this.#folderWatch)
      report('the folder is gone: ending everything')
      void this.kill().finally(() => this.#down.abort())
    }, folderWatchMilliseconds)
  }

  /** In order: nodes, so that nobody waits for a write; memcached; the standby; the primary. Safe to call at any time. */
  async stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  /** All at once, losing nothing that was acknowledged. */
  async kill(): Promise<void> {
    this.abort()
    await Promise.all([...this.#processes.values()].map((process) => process.stop('SIGKILL')))
  }

  async #stop(): Promise<void> {
    this.abort()
    clearInterval(this.#folderWatch)
    await this.#started?.catch(() => {})
    await this.#keeper.stop()
    await this.#stopAll(this.plan.nodes.map(({ name }) => name))
    await this.#stopAll(this.plan.memcacheds.map(({ name }) => name))
    const primary = this.#options.folder.state?.primary
    await this.#stopAll(this.plan.databases.map(({ name }) => name).filter((name) => name !== primary))
    if (primary !== undefined) await this.#stopAll([primary])
    for (const { link } of this.#databases) link.close()
    await this.#control?.close()
    if (this.#release !== undefined) removeIdentity(this.#options.folder.of('supervisor'))
    this.#release?.()
  }

  async #stopAll(names: readonly string[]): Promise<void> {
    await Promise.all(names.map(async (name) => this.#processes.get(name)?.stop()))
  }

  async #startDatabases(): Promise<void> {
    const { report } = this.#options
    for (const { name } of [...this.plan.databases, ...this.plan.memcacheds]) this.#processes.get(name)?.start()
    this.#keeper.start()
    const names = this.plan.databases.map(({ name }) => name)
    await this.#until(
      `${names.join(' and ')} to take ${names.length > 1 ? 'their roles' : 'its role'}`,
      names,
      databasesReadySeconds,
      () => Promise.resolve(this.#keeper.settledPrimary !== undefined),
    )
    const primary = this.#databases.find(({ name }) => name === this.#keeper.settledPrimary)
    if (primary === undefined) throw new SandboxError('the databases lost their roles during the start: try again')
    report('bringing the schema up to date')
    const connection = await primary.link.connect()
    try {
      // A commit that waits for a dead standby would wait for ever.
      await untilAborted(this.#options.initialize(connection), this.#stopping.signal)
    } finally {
      closeDatabaseConnection(connection)
    }
  }

  async #startNodes(): Promise<void> {
    const { folder } = this.#options
    for (const node of this.plan.nodes) {
      mkdirSync(folder.of(node.name), { recursive: true, mode: 0o700 })
      folder.writePrivate(nodeConfigFile(folder, node.name), nodeConfigText(folder, node, this.plan))
      this.#processes.get(node.name)?.start()
    }
    const names = this.plan.nodes.map(({ name }) => name)
    await this.#until(`${names.join(', ')} to serve`, names, nodesReadySeconds, async () => {
      const ready = await Promise.all(
        this.plan.nodes.map(({ httpPort }) => answers({ kind: 'http', port: httpPort, path: '/readyz' })),
      )
      return ready.every(Boolean)
    })
  }

  /** @throws SandboxError with the end of a log where a program won't start or it takes too long */
  async #until(what: string, names: readonly string[], seconds: number, done: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + seconds * 1000
    while (!(await done())) {
      const broken = names.find((name) => (this.#processes.get(name)?.ends ?? 0) >= failedStartsMax)
      if (broken !== undefined) throw new SandboxError(`${broken} does not start: ${this.#whyNot(broken)}`)
      if (performance.now() > deadline) {
        throw new SandboxError(`waited ${seconds} s in vain for ${what}; the logs are in ${this.#options.folder.path}`)
      }
      await sleep(100, undefined, { signal: this.#stopping.signal })
    }
    this.#stopping.signal.throwIfAborted()
  }

  #whyNot(name: string): string {
    const { folder } = this.#options
    const isDatabase = this.plan.databases.some((database) => database.name === name)
    const log = isDatabase ? databaseLog(folder, name) : (this.#processes.get(name)?.logFile ?? '')
    return `${logTail(log) || 'it says nothing'} (${log})`
  }

  #specs(): ProcessSpec[] {
    const { folder, settings, ownCommand } = this.#options
    return [
      ...this.plan.databases.map((database) => databaseSpec(folder, database, settings)),
      ...this.plan.memcacheds.map((memcached) => memcachedSpec(folder, memcached, settings)),
      ...this.plan.nodes.map((node) => nodeSpec(folder, node, ownCommand)),
    ]
  }

  #makeKeeper(): PairKeeper | SingleKeeper {
    const { folder, report } = this.#options
    const [first, second] = this.#databases
    if (first === undefined) throw new Error('a sandbox has a database')
    if (second === undefined) return new SingleKeeper(first.link, report)
    return new PairKeeper({
      databases: [first, second],
      replicationPassword: folder.secret('replication'),
      recorded: () => folder.state ?? { primary: first.name },
      record: (state) => (folder.state = state),
      report,
    })
  }

  readonly #onChange = (process: SupervisedProcess, what: string): void => {
    const pid = process.pid === undefined ? '' : ` (pid ${process.pid})`
    this.#options.report(`${process.spec.name} ${what}${pid}`)
  }

  async #answer(request: ControlRequest): Promise<ControlReply> {
    if (request.command === 'down') this.#down.abort()
    if (request.command === 'down' || request.command === 'processes') return this.#processReport()
    try {
      return await this.#command(request.command, request.name)
    } catch (error) {
      return { ok: false, message: describeError(error) }
    }
  }

  async #command(command: 'start' | 'stop' | 'kill', name: string): Promise<ControlReply> {
    const process = this.#processes.get(name)
    if (process === undefined) {
      return { ok: false, message: `there is no process "${name}": ${processNames(this.plan).join(' ')}` }
    }
    if (this.#stopped !== undefined) return { ok: false, message: 'the sandbox is being stopped' }
    if (command !== 'start') {
      await process.stop(command === 'kill' ? 'SIGKILL' : 'SIGTERM')
      return this.#processReport()
    }
    process.start()
    const answered = await waitFor(probeOf(this.plan, this.#options.folder, name), this.#stopping.signal)
    return answered
      ? this.#processReport()
      : { ok: false, message: `${name} is started but does not answer yet: ${this.#whyNot(name)}` }
  }

  #processReport(): ControlReply {
    return {
      ok: true,
      processes: [...this.#processes.values()].map(({ spec, state, pid, ends }) => ({
        name: spec.name,
        state,
        pid: pid ?? null,
        ends,
      })),
    }
  }
}

const stopped = new SandboxError('the sandbox was stopped')

async function untilAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
  })
  await Promise.race([work, aborted])
}

async function waitFor(probe: Probe, signal: AbortSignal): Promise<boolean> {
  const deadline = performance.now() + 30_000
  while (performance.now() < deadline && !signal.aborted) {
    if (await answers(probe)) return true
    await sleep(50)
  }
  return false
}
