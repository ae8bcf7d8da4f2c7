import { setTimeout as delay } from 'node:timers/promises'
import { type Connection, type ConnectionOptions, createConnection } from 'mysql2/promise'
import { describeError, WhiteholeError } from '../domain/errors.ts'
import { holds, strays } from '../domain/history.ts'
import { covers, formatPosition, type Position } from '../domain/position.ts'
import type { Logger } from '../runtime/logger.ts'
import {
  acknowledgesAlone,
  type DatabaseAccess,
  type DatabaseAddress,
  type DatabaseProbe,
  formatDatabaseAddress,
  type ProbeResult,
  reason,
  type RelayAddress,
  sameAddress,
} from './database-access.ts'
import { askDatabase, askEpoch } from './database-questions.ts'

export {
  type DatabaseAccess,
  type DatabaseAddress,
  type DatabaseProbe,
  type DatabaseTopology,
  formatDatabaseAddress,
  parseDatabaseAddress,
  type ProbeResult,
} from './database-access.ts'

const connectTimeoutMillisecondsDefault = 2000
/** The others, once one has given the answer that is sought: they may contradict it. */
const othersMilliseconds = 200
/** A silent one takes seconds to be given up; the other one may be opened in its place meanwhile. */
const againMilliseconds = 50
/** How often, and how far apart, a relay is looked at that has not yet what a node has. */
const relayRounds = 5
const relayMilliseconds = 100
/** Longer than a replica can be told of a transaction before its primary knows it. */
const confirmMilliseconds = 300

/**
 * The databases of one deployment, a list of addresses. Which of them is the primary and which one to follow is asked each time
 * anew: roles change. The account needs no write rights here: REPLICATION SLAVE, BINLOG MONITOR and SLAVE MONITOR on MariaDB,
 * REPLICATION SLAVE and REPLICATION CLIENT on MySQL.
 */
export class Databases {
  #access: DatabaseAccess
  readonly #logger: Logger | undefined
  /** Of a managed pair's primary. An isolated one that is still writable has an older one. */
  #epochSeen = 0
  /** Opened once, as voters have it on their disks: known also after a restart of this process. */
  #epochRecorded = 0

  constructor(access: DatabaseAccess, logger?: Logger) {
    this.#access = access
    this.#logger = logger
  }

  /** A primary of an earlier epoch is none: it was replaced, whoever still sees it writable. */
  expectEpoch(epoch: number): void {
    this.#epochRecorded = Math.max(this.#epochRecorded, epoch)
  }

  get access(): DatabaseAccess {
    return this.#access
  }

  /** The pair and its relays. */
  get #addresses(): readonly DatabaseAddress[] {
    return [...(this.access.relays ?? []), ...this.access.addresses]
  }

  /** A relay of this node's data centre is followed before all others. */
  get hasOwnRelay(): boolean {
    return this.access.relays?.some(({ own }) => own) === true
  }

  /** Its sequence of GTIDs has gaps by right. */
  isFiltered(address: DatabaseAddress): boolean {
    return this.#relayAt(address)?.filtered === true
  }

  /** This one alone, whatever its role. */
  only(address: DatabaseAddress): Databases {
    const relay = this.#relayAt(address)
    const addresses = relay === undefined ? [address] : []
    return new Databases({
      ...this.access,
      addresses,
      relays: relay === undefined ? [] : [relay],
      topology: 'external',
    })
  }

  #relayAt(address: DatabaseAddress): RelayAddress | undefined {
    const text = formatDatabaseAddress(address)
    return this.access.relays?.find((relay) => formatDatabaseAddress(relay) === text)
  }

  /** For the connections to come; those that are open stay. */
  changePassword(password: string): void {
    this.#access = { ...this.#access, password }
  }

  /**
   * A connection with the schema as its default database. Statements may be sent several at once. Rejects within the connect
   * time-out, also where the other side accepts and then says nothing.
   * @param options win over the defaults
   */
  async connect(address: DatabaseAddress, options: ConnectionOptions = {}): Promise<Connection> {
    const connection = await createConnection({
      host: address.host,
      port: address.port,
      user: this.access.user,
      password: this.access.password,
      database: this.access.database,
      connectTimeout: this.#timeoutMilliseconds,
      multipleStatements: true,
      // 64-bit numbers beyond 2^53 arrive as strings instead of rounded.
      supportBigNumbers: true,
      enableKeepAlive: true,
      keepAliveInitialDelay: 5000,
      ...options,
    })
    // The loss of an idle connection is told to its next user; without a listener it would end the process.
    connection.on('error', (error) => {
      this.#logger?.debug(
        { database: formatDatabaseAddress(address), error: error.message },
        'database connection lost',
      )
    })
    return connection
  }

  async probe(address: DatabaseAddress): Promise<DatabaseProbe> {
    // No default database: the questions need none, and the schema may not be there yet.
    const connection = await this.connect(address, { database: '' })
    try {
      return await askDatabase(connection, address, this.#timeoutMilliseconds)
    } finally {
      closeDatabaseConnection(connection)
    }
  }

  /** All at once, in the order of the addresses. Never rejects. */
  async probeAll(): Promise<ProbeResult[]> {
    return Promise.all(this.#addresses.map(async (address) => this.#probeOne(address)))
  }

  /**
   * As `probeAll`, save that one which is silent is not waited for once another has given the answer that is sought.
   * @param isCertain that answer can't be contradicted by any other
   * @param repeats while one is silent, those that gave another answer are asked again: they may give it meanwhile
   */
  async #probeUntil(
    isEnough: (probe: DatabaseProbe) => boolean,
    {
      isCertain = async () => false,
      repeats = false,
    }: { isCertain?: (probe: DatabaseProbe) => Promise<boolean>; repeats?: boolean } = {},
  ): Promise<ProbeResult[]> {
    const results = new Map<DatabaseAddress, ProbeResult>()
    let isOver = false
    await new Promise<void>((resolve) => {
      const enough = (probe: DatabaseProbe): void => {
        setTimeout(resolve, othersMilliseconds)
        void isCertain(probe).then((certain) => (certain ? resolve() : undefined))
      }
      const ask = (address: DatabaseAddress): void => {
        void this.#probeOne(address).then((result) => {
          if (isOver) return
          results.set(address, result)
          if (results.size === this.#addresses.length) resolve()
          else if (result.probe !== undefined && isEnough(result.probe)) enough(result.probe)
          else if (repeats) setTimeout(() => (isOver ? undefined : ask(address)), againMilliseconds)
        })
      }
      for (const address of this.#addresses) ask(address)
    })
    isOver = true
    const late = new Error('it does not answer at once')
    return this.#addresses.map((address) => results.get(address) ?? { address, error: late })
  }

  async #probeOne(address: DatabaseAddress): Promise<ProbeResult> {
    try {
      return { address, probe: await this.probe(address) }
    } catch (error) {
      return { address, error: error instanceof Error ? error : new Error(String(error)) }
    }
  }

  /**
   * The one writable database.
   * @throws WhiteholeError `database-away`, with the reason of each address; also where two are writable, for then none may be trusted
   */
  async findPrimary(): Promise<DatabaseProbe> {
    const results = await this.#probeUntil((probe) => probe.writable, {
      isCertain: (probe) => this.#isRecorded(probe),
      repeats: true,
    })
    const writable = results.flatMap(({ probe }) => (probe?.writable === true ? [probe] : []))
    const [primary] = writable
    if (writable.length > 1) {
      const latest = this.access.topology === 'pair' ? await this.#latest(writable) : undefined
      if (latest !== undefined && latest.epoch > 0) return latest.probe
      const names = writable.map(({ address }) => formatDatabaseAddress(address)).join(' and ')
      throw new WhiteholeError('database-away', `more than one database is writable: ${names}; exactly one may be`)
    }
    if (primary !== undefined && (await this.#wasReplaced(primary)))
      throw new WhiteholeError(
        'database-away',
        `${formatDatabaseAddress(primary.address)} is the primary of an earlier epoch`,
      )
    if (primary !== undefined) return primary
    const reasons = results.map(({ address, probe, error }) =>
      reason(address, probe === undefined ? describeError(error) : 'it is read-only'),
    )
    throw new WhiteholeError('database-away', `no database is writable (${reasons.join('; ')})`)
  }

  /** A writable one of the epoch that the voters have recorded: another one that is writable too can only be an older primary. */
  async #isRecorded({ address }: DatabaseProbe): Promise<boolean> {
    if (this.access.topology !== 'pair' || this.#epochRecorded === 0) return false
    return (await this.#epoch(address).catch(() => 0)) >= this.#epochRecorded
  }

  /** Its successor did not answer in time: whoever writes here waits in vain. */
  async #wasReplaced({ address }: DatabaseProbe): Promise<boolean> {
    const known = Math.max(this.#epochRecorded, this.#epochSeen)
    if (this.access.topology !== 'pair' || known === 0) return false
    const epoch = await this.#epoch(address).catch(() => 0)
    // A pair that was opened before it had its schema shows 0 until its next epoch.
    return epoch > 0 && epoch < known
  }

  /**
   * A database whose log can be followed from `position`. In a pair a replica alone: a reader of the primary sees entries that
   * the standby may never get (DESIGN §7, Rewind). A database that lacks something of `position` is not chosen: the caller waits
   * and asks again.
   * @param avoid addresses (as text) that the caller has tried in vain; taken only where nothing else serves
   * @param claims what else the caller has seen of the log
   * @throws WhiteholeError `database-away`, with the reason of each address; `log-diverged` where the primary never had `position` or a claim
   */
  async findSource(
    position: Position | undefined,
    avoid: ReadonlySet<string> = new Set(),
    claims: readonly Position[] = [],
  ): Promise<DatabaseProbe> {
    const reasons: string[] = []
    const candidates: DatabaseProbe[] = []
    // With external databases one that is not known to be true yet could be a former primary: who is primary comes first.
    const isEnough = (one: DatabaseProbe): boolean =>
      this.access.topology === 'external' ? one.writable : this.#isBest(one, position)
    const results = await this.#awaitOwnRelay(
      await this.#probeUntil(isEnough),
      position === undefined ? [] : [position],
    )
    const reference = await this.#reference(results)
    await this.#mustHold(reference, position === undefined ? claims : [position, ...claims])
    const astray = await this.#strays(
      results.flatMap(({ probe }) => (probe !== undefined && this.#mayStray(probe) ? [probe] : [])),
      reference,
    )
    for (const { address, probe, error } of results) {
      const unfit = probe === undefined ? describeError(error) : this.#unfit(probe, position)
      const refusal = unfit ?? (probe !== undefined && astray.includes(probe) ? strayReason : undefined)
      if (probe !== undefined && refusal === undefined) candidates.push(probe)
      else reasons.push(reason(address, refusal ?? ''))
    }
    const isAvoided = (probe: DatabaseProbe): number => Number(avoid.has(formatDatabaseAddress(probe.address)))
    // Replicas first: their log holds nothing that they could lose to another primary. Save in a pair whose primary acknowledges
    // alone: then a replica may lack what is acknowledged, for as long as that lasts.
    const alone = (probe: DatabaseProbe): number => Number(this.access.topology === 'pair' && acknowledgesAlone(probe))
    candidates.sort(
      (a, b) =>
        isAvoided(a) - isAvoided(b) ||
        Number(this.#isOwnRelay(b)) - Number(this.#isOwnRelay(a)) ||
        alone(b) - alone(a) ||
        Number(b.replica) - Number(a.replica),
    )
    const [source] = candidates
    if (source !== undefined) return source
    throw new WhiteholeError('database-away', `no database has a log to follow (${reasons.join('; ')})`)
  }

  /**
   * Whether a node that follows `address`, and has seen `seen` of the log, must leave it: in a pair a primary that waits for its standby (what it
   * shows may never get there), or a standby whose primary goes on without it; else a database that has what the primary lacks;
   * `log-diverged` where the node itself does. `verified`: a primary was found that has all that was seen.
   */
  async review(
    address: DatabaseAddress,
    seen: readonly Position[],
  ): Promise<{ readonly leave: WhiteholeError | undefined; readonly verified: boolean }> {
    const results = await this.#probeUntil((one) => one.writable)
    const reference = await this.#reference(results)
    try {
      await this.#mustHold(reference, seen)
    } catch (error) {
      if (error instanceof WhiteholeError) return { leave: error, verified: false }
      throw error
    }
    const text = formatDatabaseAddress(address)
    const current = results.find((one) => formatDatabaseAddress(one.address) === text)?.probe
    const why = current === undefined ? undefined : await this.#whyLeave(current, { results, reference, seen })
    const leave = why === undefined ? undefined : new WhiteholeError('database-away', why)
    return { leave, verified: reference !== undefined }
  }

  async #whyLeave(
    current: DatabaseProbe,
    given: {
      readonly results: readonly ProbeResult[]
      readonly reference: DatabaseProbe | undefined
      readonly seen: readonly Position[]
    },
  ): Promise<string | undefined> {
    const { results, reference, seen } = given
    if (this.#mayStray(current)) {
      const [stray] = await this.#strays([current], reference)
      if (stray !== undefined) return strayReason
      if (this.access.topology === 'external') return undefined
    }
    if (current.writable && current.semiSyncPrimary) return 'it is the primary of a pair, and nodes follow the standby'
    // Whom a relay follows is the monitor's care: it moves between primary and standby as the mode does.
    if (this.#isOwnRelay(current)) return undefined
    if (await this.#ownRelayIsBack(results, reference, seen))
      return 'the relay of this data centre can be followed again'
    const alone = results.flatMap(({ probe }) => (probe !== undefined && acknowledgesAlone(probe) ? [probe] : []))
    if (current.writable || alone.length !== 1 || alone[0] === current) return undefined
    return 'the primary acknowledges without this standby'
  }

  /** Its log has all that was seen here, and nothing that the primary lacks. */
  async #ownRelayIsBack(
    results: readonly ProbeResult[],
    reference: DatabaseProbe | undefined,
    seen: readonly Position[],
  ): Promise<boolean> {
    const present = await this.#awaitOwnRelay(results, seen)
    const relays = present.flatMap(({ probe }) =>
      probe !== undefined && this.#isOwnRelay(probe) && seen.every((one) => this.#unfit(probe, one) === undefined)
        ? [probe]
        : [],
    )
    const astray = await this.#strays(relays, reference)
    return relays.some((relay) => !astray.includes(relay))
  }

  /** It is a moment behind whoever reads the standby across the link: under a steady stream of writes it would never be chosen. */
  async #awaitOwnRelay(results: readonly ProbeResult[], wanted: readonly Position[]): Promise<readonly ProbeResult[]> {
    return Promise.all(
      results.map(async (result) => {
        let now = result
        for (let round = 0; round < relayRounds; round++) {
          const { probe } = now
          if (probe?.replica !== true || !this.#isOwnRelay(probe)) return now
          if (wanted.every((position) => covers(probe.position, position))) return now
          await delay(relayMilliseconds)
          now = await this.#probeOne(result.address)
        }
        return now
      }),
    )
  }

  #isOwnRelay({ address }: DatabaseProbe): boolean {
    return this.#relayAt(address)?.own === true
  }

  /** In a pair the monitor looks after standbys that went astray; a relay goes on as it is until somebody fills it anew. */
  #mayStray({ address }: DatabaseProbe): boolean {
    return this.access.topology === 'external' || this.#relayAt(address) !== undefined
  }

  /** None that has not answered could be better. */
  #isBest(probe: DatabaseProbe, position: Position | undefined): boolean {
    return (!this.hasOwnRelay || this.#isOwnRelay(probe)) && this.#unfit(probe, position) === undefined
  }

  /**
   * Of what a node has seen of the log, is there something that the primary never had, and so never will? Undefined where nobody can tell
   * who the primary is.
   */
  async lost(seen: readonly Position[]): Promise<boolean | undefined> {
    const reference = await this.#reference(await this.#probeUntil((one) => one.writable))
    if (reference === undefined) return undefined
    try {
      await this.#mustHold(reference, seen)
      return false
    } catch (error) {
      if (error instanceof WhiteholeError && error.code === 'log-diverged') return true
      throw error
    }
  }

  /** Whose log is the true one; undefined where none or more than one is writable. */
  async #reference(results: readonly ProbeResult[]): Promise<DatabaseProbe | undefined> {
    const probes = results.flatMap(({ probe }) => (probe === undefined ? [] : [probe]))
    // Writable or not yet: there is no other.
    if (this.access.topology === 'single') return probes[0]
    const writable = probes.filter((probe) => probe.writable)
    if (this.access.topology === 'external') return writable.length === 1 ? writable[0] : undefined
    const latest = writable.length === 0 ? undefined : await this.#latest(writable)
    if (latest === undefined || latest.epoch < this.#epochSeen) return undefined
    // A pair that was opened before it had its schema shows 0 until its next epoch.
    if (latest.epoch > 0 && latest.epoch < this.#epochRecorded) return undefined
    this.#epochSeen = latest.epoch
    return latest.probe
  }

  /**
   * Asked twice before it counts: a primary that is about to stop being one, and one that was asked before it had what its replica told, must
   * not cost a node its contents.
   */
  async #mustHold(reference: DatabaseProbe | undefined, seen: readonly Position[]): Promise<void> {
    const lacks = (probe: DatabaseProbe): Position | undefined =>
      seen.find((position) => position.dialect === probe.dialect && !holds(probe.history, position))
    if (reference === undefined || lacks(reference) === undefined) return
    await delay(confirmMilliseconds)
    const again = await this.#reference(await this.#probeUntil((one) => one.writable))
    const missing = again === undefined ? undefined : lacks(again)
    if (again === undefined || !sameAddress(again, reference) || missing === undefined) return
    const address = formatDatabaseAddress(again.address)
    throw new WhiteholeError('log-diverged', `the primary ${address} never had all of ${formatPosition(missing)}`)
  }

  /** Those that answer, save those that have what the primary lacks. */
  async probeTrue(): Promise<DatabaseProbe[]> {
    const results = await this.probeAll()
    const probes = results.flatMap(({ probe }) => (probe === undefined ? [] : [probe]))
    const strayed = new Set(await this.#strays(probes, await this.#reference(results)))
    return probes.filter((probe) => !strayed.has(probe))
  }

  /** The primary is asked again, after they were: then it has whatever a replica of it told. */
  async #strays(probes: readonly DatabaseProbe[], reference: DatabaseProbe | undefined): Promise<DatabaseProbe[]> {
    if (reference === undefined) return []
    const stray = (probe: DatabaseProbe, primary: DatabaseProbe): boolean =>
      probe.dialect === primary.dialect && strays(probe.history, primary.history)
    const suspects = probes.filter((probe) => stray(probe, reference))
    if (suspects.length === 0) return []
    const again = await this.#reference(await this.#probeUntil((one) => one.writable))
    if (again === undefined || !sameAddress(again, reference)) return []
    return suspects.filter((probe) => stray(probe, again))
  }

  /** A primary that was replaced and came back still writable has an older epoch; it acknowledges nothing, but may be seen. */
  async #latest(
    writable: readonly DatabaseProbe[],
  ): Promise<{ readonly probe: DatabaseProbe; readonly epoch: number } | undefined> {
    const epochs = await Promise.all(writable.map((probe) => this.#epoch(probe.address).catch(() => 0)))
    const highest = Math.max(...epochs)
    const those = writable.filter((_, index) => epochs[index] === highest)
    const [probe] = those
    return probe !== undefined && those.length === 1 ? { probe, epoch: highest } : undefined
  }

  async #epoch(address: DatabaseAddress): Promise<number> {
    const connection = await this.connect(address)
    try {
      return await askEpoch(connection, this.#timeoutMilliseconds)
    } finally {
      closeDatabaseConnection(connection)
    }
  }

  /** Why this database's log can't be followed from there. */
  #unfit(probe: DatabaseProbe, position: Position | undefined): string | undefined {
    if (this.access.topology === 'pair' && !acknowledgesAlone(probe)) {
      if (probe.writable) return 'it is the primary, and nodes follow a standby'
      if (!probe.replica) return 'it replicates from nowhere'
      if (this.#relayAt(probe.address)?.own === false) return 'it is the relay of another data centre'
    }
    if (position === undefined) return undefined
    if (position.dialect !== probe.dialect) return `it speaks ${probe.dialect}, the position is ${position.dialect}'s`
    if (covers(probe.position, position)) {
      return holds(probe.history, position) ? undefined : `its log never had ${formatPosition(position)}`
    }
    return `it has ${formatPosition(probe.position) || 'nothing'} and not yet ${formatPosition(position)}`
  }

  get #timeoutMilliseconds(): number {
    return this.access.connectTimeoutMilliseconds ?? connectTimeoutMillisecondsDefault
  }
}

const strayReason = 'it has transactions that the primary lacks'

/**
 * Lets go of a connection for good: with a farewell, so that the server's log stays free of aborted connections, and by force
 * where the other side doesn't answer. Never throws, never waits.
 */
export function closeDatabaseConnection(connection: Connection): void {
  const force = (): void => severDatabaseConnection(connection)
  const timer = setTimeout(force, farewellMilliseconds)
  timer.unref()
  connection.end().then(
    () => clearTimeout(timer),
    () => {
      clearTimeout(timer)
      force()
    },
  )
}

/** At once and without a farewell: what was asked on it may still be executed by the server. Never throws. */
export function severDatabaseConnection(connection: Connection): void {
  const stream = rawStream(connection)
  connection.destroy()
  // mysql2's own destroy() only ends its side: with a silent peer the socket would stay.
  stream?.destroy()
}

const farewellMilliseconds = 500

function rawStream(connection: Connection): { destroy(): void } | undefined {
  const { connection: raw } = connection as unknown as { connection?: { stream?: { destroy(): void } } }
  return raw?.stream
}
