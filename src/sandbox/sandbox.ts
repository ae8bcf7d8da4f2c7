import { existsSync, mkdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Connection } from 'mysql2/promise'
import { closeDatabaseConnection } from '../adapters/databases.ts'
import { describeError } from '../domain/errors.ts'
import { type ControlReply, type ControlRequest, ControlServer } from './control.ts'
import { logTail, makeMariadbDirectory, makeMysqlDirectory } from './data-directory.ts'
import { DatabaseLink } from './database-link.ts'
import type { SandboxFolder } from './folder.ts'
import { answers, type Probe, probeOf, whyStuck } from './health.ts'
import { stopLeftovers } from './leftovers.ts'
import { lockFolder } from './lock.ts'
import { requireFreePorts } from './ports.ts'
import {
  databaseInitFile,
  databaseLog,
  databaseSpec,
  linkSpec,
  memcachedSpec,
  monitorConfigText,
  monitorSpec,
  daemonConfigFile,
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

type Action = Extract<ControlRequest, { name: string }>['command']

export interface SandboxOptions {
  readonly folder: SandboxFolder
  readonly settings: SandboxSettings
  readonly ownCommand: OwnCommand
  /** For each database, at each of its starts: the accounts without which it can't take a role. */
  readonly accountStatements: readonly string[]
  /** Brings schema, accounts and first namespaces to the writable database; called at each start. */
  readonly initialize: (primary: Connection) => Promise<void>
  /** Fills a database from another one; root's connections. */
  readonly copy: (source: { locking: Connection; reading: Connection }, target: Connection) => Promise<unknown>
  /** What a database is told at its start about its role. */
  readonly roleArguments: (name: string) => readonly string[]
  /** As a majority of the voters knows it. */
  readonly recordedPrimary: () => string | undefined
  /** What happens, in words for people. */
  readonly report: (message: string) => void
}

const databasesReadySeconds = 90
const readySeconds = 120
const folderWatchMilliseconds = 2000
/** A program that ends so often while everything starts won't start at all. */
const failedStartsMax = 4

/** A whole topology on this machine: starts it, keeps it running, stops it in order. */
export class Sandbox {
  readonly plan: SandboxPlan
  readonly #options: SandboxOptions
  readonly #processes = new Map<string, SupervisedProcess>()
  readonly #links: readonly DatabaseLink[]
  /** Of the one database that there is; a pair has its monitor. */
  readonly #keeper: SingleKeeper | undefined
  #control: ControlServer | undefined
  #folderWatch: NodeJS.Timeout | undefined
  #release: (() => void) | undefined
  #stopping = new AbortController()
  #started: Promise<void> | undefined
  #stopped: Promise<void> | undefined
  readonly #down = new AbortController()
  #stuck: string | undefined

  constructor(options: SandboxOptions) {
    this.#options = options
    this.plan = planOf(options.settings)
    this.#links = this.plan.databases.map(
      ({ name }) =>
        new DatabaseLink({
          name,
          dialect: dialectOf(options.settings),
          socketPath: options.folder.databaseSocket(name),
        }),
    )
    const [only] = this.#links
    const isAlone = this.plan.monitors.length === 0
    this.#keeper = isAlone && only !== undefined ? new SingleKeeper(only, options.report) : undefined
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
    mkdirSync(folder.of('supervisor'), { recursive: true, mode: 0o700 })
    writeIdentity(folder.of('supervisor'), process.pid)
    await Promise.all(this.plan.databases.map(async ({ name }) => this.#prepareDatabase(name)))
    this.#stopping.signal.throwIfAborted()
    for (const spec of specs) this.#processes.set(spec.name, new SupervisedProcess(spec, this.#onChange))
    this.#control = await ControlServer.listen(folder.controlSocket, async (request) => this.#answer(request))
    this.#watchFolder()
    const { link } = this.plan
    this.#startAll([...(link === undefined ? [] : [link]), ...this.plan.databases, ...this.plan.memcacheds])
    this.#keeper?.start()
    // Nodes before there is a schema: they are voters.
    if (this.#keeper === undefined) this.#startDaemons()
    await this.#initialize()
    if (this.#keeper !== undefined) this.#startDaemons()
    await this.#untilReady()
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

  /**
   * In order: the monitor, to whom the rest would look like a failure; nodes, so that nobody waits for a write; memcached; the standby; the
   * primary. Safe to call at any time.
   */
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
    await this.#keeper?.stop()
    const primary = await this.#writable()
    for (const group of [this.plan.monitors, this.plan.nodes, this.plan.memcacheds]) await this.#stopAll(group)
    await this.#stopAll(this.plan.databases.filter(({ name }) => name !== primary?.name))
    await this.#stopAll(this.plan.databases)
    if (this.plan.link !== undefined) await this.#stopAll([this.plan.link])
    for (const link of this.#links) link.close()
    await this.#control?.close()
    if (this.#release !== undefined) removeIdentity(this.#options.folder.of('supervisor'))
    this.#release?.()
  }

  #startAll(group: readonly { readonly name: string }[]): void {
    for (const { name } of group) this.#processes.get(name)?.start()
  }

  async #stopAll(group: readonly { readonly name: string }[]): Promise<void> {
    await Promise.all(group.map(async ({ name }) => this.#processes.get(name)?.stop()))
  }

  #startDaemons(): void {
    const { folder, settings, ownCommand: own } = this.#options
    const write = (name: string, text: string): void => {
      mkdirSync(folder.of(name), { recursive: true, mode: 0o700 })
      folder.writePrivate(daemonConfigFile(folder, name), text)
    }
    for (const monitor of this.plan.monitors) {
      write(monitor.name, monitorConfigText(folder, monitor, { whole: this.plan, settings, own }))
    }
    for (const node of this.plan.nodes) write(node.name, nodeConfigText(folder, node, this.plan))
    this.#startAll([...this.plan.monitors, ...this.plan.nodes])
  }

  async #initialize(): Promise<void> {
    const { report } = this.#options
    const names = this.plan.databases.map(({ name }) => name)
    let primary: DatabaseLink | undefined
    await this.#until(`${names.join(' or ')} to become the primary`, databasesReadySeconds, async () => {
      primary = await this.#writable()
      return primary !== undefined
    })
    report(`${primary?.name} is the primary: bringing its schema up to date`)
    const connection = await primary?.connect()
    if (connection === undefined) return
    try {
      // A commit that waits for a dead standby would wait for ever.
      await untilAborted(this.#options.initialize(connection), this.#stopping.signal)
    } finally {
      closeDatabaseConnection(connection)
    }
  }

  /** Nodes serve, and the monitor is content: the standby has all and acknowledges. */
  async #untilReady(): Promise<void> {
    const probes = [...this.plan.nodes, ...this.plan.monitors].map(({ name, httpPort }) => ({
      name,
      probe: { kind: 'http', port: httpPort, path: '/readyz' } as const,
    }))
    const names = probes.map(({ name }) => name)
    await this.#until(`${names.join(', ')} to be ready`, readySeconds, async () => {
      const ready = await Promise.all(probes.map(({ probe }) => answers(probe)))
      return ready.every(Boolean)
    })
  }

  /** The database that takes writes, if exactly one does. */
  async #writable(): Promise<DatabaseLink | undefined> {
    const views = await Promise.all(this.#links.map(async (link) => link.view().catch(() => undefined)))
    const writable = this.#links.filter((_, index) => views[index]?.readOnly === false)
    return writable.length === 1 ? writable[0] : undefined
  }

  /** @throws SandboxError with the end of a log where a program won't start or it takes too long */
  async #until(what: string, seconds: number, done: () => Promise<boolean>): Promise<void> {
    let deadline = performance.now() + seconds * 1000
    while (!(await done())) {
      const broken = [...this.#processes.values()].find(({ ends }) => ends >= failedStartsMax)?.spec.name
      if (broken !== undefined) throw new SandboxError(`${broken} does not start: ${this.#whyNot(broken)}`)
      if (await this.#isStuck()) deadline = performance.now() + seconds * 1000
      if (performance.now() > deadline) {
        throw new SandboxError(`waited ${seconds} s in vain for ${what}; the logs are in ${this.#options.folder.path}`)
      }
      await sleep(100, undefined, { signal: this.#stopping.signal })
    }
    this.#stopping.signal.throwIfAborted()
  }

  /** A person must decide, with another command: so this one waits. */
  async #isStuck(): Promise<boolean> {
    const [monitor] = this.plan.monitors
    const stuck = monitor === undefined ? undefined : await whyStuck(monitor.httpPort)
    if (stuck !== undefined && stuck !== this.#stuck) this.#options.report(`a person is needed: ${stuck}`)
    this.#stuck = stuck
    return stuck !== undefined
  }

  #whyNot(name: string): string {
    const { folder } = this.#options
    const isDatabase = this.plan.databases.some((database) => database.name === name)
    const log = isDatabase ? databaseLog(folder, name) : (this.#processes.get(name)?.logFile ?? '')
    return `${logTail(log) || 'it says nothing'} (${log})`
  }

  #specs(): ProcessSpec[] {
    const { folder, settings, ownCommand, roleArguments } = this.#options
    const { link } = this.plan
    const given = { own: ownCommand, delayMilliseconds: settings.linkDelayMilliseconds }
    const parts = { settings, roleArguments, mayBeReplaced: (name: string) => this.#mayBeReplaced(name) }
    return [
      ...(link === undefined ? [] : [linkSpec(folder, link, given)]),
      ...this.plan.databases.map((database) => databaseSpec(folder, database, parts)),
      ...this.plan.monitors.map((monitor) => monitorSpec(folder, monitor, ownCommand)),
      ...this.plan.memcacheds.map((memcached) => memcachedSpec(folder, memcached, settings)),
      ...this.plan.nodes.map((node) => nodeSpec(folder, node, ownCommand)),
    ]
  }

  /** It is the primary, as far as anybody knows, and its standby runs. */
  #mayBeReplaced(name: string): boolean {
    const primary = this.#options.recordedPrimary()
    const isStandby = primary !== undefined && primary !== name
    const others = this.plan.databases.filter((other) => other.name !== name && !other.isRelay)
    return !isStandby && others.some((other) => this.#processes.get(other.name)?.state === 'running')
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

  async #command(command: Action, name: string): Promise<ControlReply> {
    const process = this.#processes.get(name)
    if (process === undefined) {
      return { ok: false, message: `there is no process "${name}": ${processNames(this.plan).join(' ')}` }
    }
    if (this.#stopped !== undefined) return { ok: false, message: 'the sandbox is being stopped' }
    if (command === 'rebuild') {
      await this.#rebuild(name, process)
      return this.#processReport()
    }
    if (command !== 'start') await process.stop(command === 'stop' ? 'SIGTERM' : 'SIGKILL')
    if (command === 'stop' || command === 'kill') return this.#processReport()
    process.start()
    const answered = await waitFor(probeOf(this.plan, this.#options.folder, name), this.#stopping.signal)
    return answered
      ? this.#processReport()
      : { ok: false, message: `${name} is started but does not answer yet: ${this.#whyNot(name)}` }
  }

  /**
   * Fills a database anew from the primary. It is killed first: a former primary whose writers still wait for their standby can't
   * become read-only otherwise.
   */
  async #rebuild(name: string, process: SupervisedProcess): Promise<void> {
    const primary = this.#options.recordedPrimary()
    const target = this.#links.find((link) => link.name === name)
    const source = this.#links.find((link) => link.name === primary)
    if (target === undefined) throw new SandboxError(`"${name}" is no database`)
    if (source === undefined) throw new SandboxError('no majority of voters knows who is the primary')
    if (source === target) throw new SandboxError(`${name} is the primary: what it has would be lost`)
    this.#options.report(`filling ${name} anew from ${source.name}`)
    await process.stop('SIGKILL')
    process.start()
    await this.#until(`${name} to answer`, databasesReadySeconds, async () => {
      const view = await target.view().catch(() => undefined)
      return view !== undefined
    })
    const connections = await Promise.all([source.connect(), source.connect(), target.connect()])
    try {
      const [locking, reading, into] = connections
      await this.#options.copy({ locking, reading }, into)
      this.#options.report(`${name} has what ${source.name} has`)
    } finally {
      for (const connection of connections) closeDatabaseConnection(connection)
    }
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
