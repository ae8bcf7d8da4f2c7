import type { Connection } from 'mysql2/promise'
import { WhiteholeError } from '../domain/errors.ts'
import { formatPosition, type Position } from '../domain/position.ts'
import { eventType } from '../wire/binlog/events.ts'
import { dumpGtidRequest, dumpRequest, registerRequest } from '../wire/binlog/requests.ts'
import { closeDatabaseConnection, type DatabaseAddress, type Databases } from './databases.ts'

export interface BinlogRequest {
  readonly address: DatabaseAddress
  /** Unique among all replicas and nodes: the database ends the older of two connections with one id. */
  readonly serverId: number
  /** Everything after it is sent. */
  readonly position: Position
  /** How long the database may be silent before it says that it has nothing to send. */
  readonly heartbeatMilliseconds: number
  /** The source is a filtered replica: it may lack the very transaction that the position names. */
  readonly gapsAllowed?: boolean
}

export interface BinlogHandlers {
  /** A whole event with its header. The bytes are a view of the socket's read buffer: never written again, but large. */
  event(event: Buffer): void
  /** Once; nothing is told after it. Never after close(). */
  failed(error: Error): void
}

/** So many heartbeats missed: the peer is gone. */
const heartbeatsMissedMax = 3
/** Before the first transaction or heartbeat the server may be looking for the place in its files, without a word. */
const firstWordMillisecondsMin = 60_000

/** What we use of mysql2's inner connection; test/integration/binlog-connection.test.ts holds it to this. */
interface RawConnection {
  addCommand(command: Command): unknown
  writePacket(packet: RequestPacket): void
  _resetSequenceId(): void
  pause(): void
  resume(): void
  destroy(): void
  readonly stream: { readonly bytesRead: number; destroy(): void }
}

interface RawPacket {
  readonly buffer: Buffer
  readonly offset: number
  readonly end: number
  asError(encoding: string): Error
}

interface Command {
  /** First called without a packet, then with each packet that comes; true ends the command. */
  execute(packet: RawPacket | undefined, connection: RawConnection): boolean
  onResult(error?: Error): void
  emit(): void
  stateName(): string
}

/** Follows a database's binlog as a replica does, over one connection of its own. */
export class BinlogConnection {
  readonly #connection: Connection
  readonly #raw: RawConnection
  readonly #handlers: BinlogHandlers
  readonly #heartbeatMilliseconds: number
  #state: 'open' | 'ended' = 'open'
  #paused = false
  #watchdog: NodeJS.Timeout | undefined
  /** Ticks of the watchdog without a byte. Ticks, not time: while this process itself stood still no tick was counted. */
  #silentTicks = 0
  #bytesSeen = 0
  /** True once a transaction or a heartbeat has come: from then on silence is suspicious. */
  #spoken = false

  private constructor(connection: Connection, request: BinlogRequest, handlers: BinlogHandlers) {
    this.#connection = connection
    this.#raw = (connection as unknown as { connection: RawConnection }).connection
    this.#handlers = handlers
    this.#heartbeatMilliseconds = request.heartbeatMilliseconds
  }

  /**
   * Connects and asks for the log. Resolves once the request is sent; a refusal of the position comes through `failed`, as
   * `log-purged` where the database no longer has that part of its log.
   */
  static async open(databases: Databases, request: BinlogRequest, handlers: BinlogHandlers): Promise<BinlogConnection> {
    const connection = await databases.connect(request.address, { database: '', compress: false })
    try {
      const { dialect } = request.position
      const timeout = databases.access.connectTimeoutMilliseconds ?? 2000
      await connection.query({ sql: dialect === 'mariadb' ? mariadbSession(request) : mysqlSession(request), timeout })
      const binlog = new BinlogConnection(connection, request, handlers)
      await binlog.#register(request.serverId, timeout)
      binlog.#dump(request)
      return binlog
    } catch (error) {
      closeDatabaseConnection(connection)
      throw error
    }
  }

  /** No event is told until resume(). What has been read from the socket stays there. */
  pause(): void {
    if (this.#paused || this.#state === 'ended') return
    this.#paused = true
    this.#raw.pause()
  }

  /** May tell events before it returns. */
  resume(): void {
    if (!this.#paused || this.#state === 'ended') return
    this.#paused = false
    this.#silentTicks = 0
    this.#raw.resume()
  }

  close(): void {
    this.#state = 'ended'
    clearInterval(this.#watchdog)
    this.#connection.destroy()
    // mysql2's destroy() only ends our side: a silent peer would keep the socket.
    this.#raw.stream.destroy()
  }

  async #register(serverId: number, timeoutMilliseconds: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the database does not answer')), timeoutMilliseconds)
      const command = requestCommand(registerRequest(serverId), (packet) => {
        const isError = packet.buffer[packet.offset] === errorMarker
        command.onResult(isError ? packet.asError('utf8') : undefined)
        return true
      })
      command.onResult = (error) => {
        clearTimeout(timer)
        if (error === undefined) resolve()
        else reject(error)
      }
      this.#raw.addCommand(command)
    })
  }

  #dump({ serverId, position }: BinlogRequest): void {
    const request = position.dialect === 'mariadb' ? dumpRequest(serverId) : dumpGtidRequest(serverId, position)
    const command = requestCommand(request, (packet) => this.#packet(packet))
    command.onResult = (error) => this.#fail(error ?? new Error('the database ended the log'))
    this.#raw.addCommand(command)
    this.#bytesSeen = this.#raw.stream.bytesRead
    // Three ticks a heartbeat: the time-out is met to a third of it.
    this.#watchdog = setInterval(() => this.#tick(), this.#heartbeatMilliseconds / ticksPerHeartbeat)
  }

  /** True once no more packets are wanted. */
  #packet(packet: RawPacket): boolean {
    if (this.#state === 'ended') return true
    // The packet object is used again for the next one; its bytes are not.
    const { buffer, offset, end } = packet
    const marker = buffer[offset]
    if (marker === errorMarker) {
      this.#fail(packet.asError('utf8'))
    } else if (marker === endMarker && end - offset < 9) {
      this.#fail(new Error('the database ended the log'))
    } else {
      const event = buffer.subarray(offset + 1, end)
      this.#spoken ||= speaking.has(event[4] as number)
      this.#tell(event)
    }
    return this.#isEnded()
  }

  #tell(event: Buffer): void {
    try {
      this.#handlers.event(event)
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)))
    }
  }

  #isEnded(): boolean {
    return this.#state === 'ended'
  }

  #tick(): void {
    const bytes = this.#raw.stream.bytesRead
    if (this.#paused || bytes !== this.#bytesSeen) {
      this.#bytesSeen = bytes
      this.#silentTicks = 0
      return
    }
    this.#silentTicks += 1
    const silentMilliseconds = (this.#silentTicks * this.#heartbeatMilliseconds) / ticksPerHeartbeat
    const limit = this.#heartbeatMilliseconds * heartbeatsMissedMax
    if (silentMilliseconds < (this.#spoken ? limit : Math.max(limit, firstWordMillisecondsMin))) return
    this.#fail(new Error(`the database has been silent for ${Math.round(silentMilliseconds)} ms`))
  }

  #fail(error: Error): void {
    if (this.#state === 'ended') return
    this.close()
    this.#handlers.failed(explain(error))
  }
}

const ticksPerHeartbeat = 3
const errorMarker = 0xff
const endMarker = 0xfe
/** GTID and HEARTBEAT events: the server has found the place. */
const speaking: ReadonlySet<number> = new Set([
  eventType.mariadbGtid,
  eventType.gtid,
  eventType.heartbeat,
  eventType.heartbeatV2,
])

function mariadbSession(request: BinlogRequest): string {
  const period = Math.round(request.heartbeatMilliseconds * 1e6)
  return [
    // Without it, GTID events come rewritten as BEGIN.
    'SET @mariadb_slave_capability=4',
    "@master_binlog_checksum='CRC32'",
    `@master_heartbeat_period=${period}`,
    `@slave_connect_state='${formatPosition(request.position)}'`,
    `@slave_gtid_strict_mode=${request.gapsAllowed === true ? 0 : 1}`,
    '@slave_gtid_ignore_duplicates=0',
  ].join(', ')
}

/** Each variable twice: servers before 8.0.26 know the older name alone. */
function mysqlSession(request: BinlogRequest): string {
  const period = Math.round(request.heartbeatMilliseconds * 1e6)
  const uuid = `77686974-6568-6f6c-6500-0000${request.serverId.toString(16).padStart(8, '0')}`
  return [
    "SET @source_binlog_checksum='CRC32', @master_binlog_checksum='CRC32'",
    `@source_heartbeat_period=${period}, @master_heartbeat_period=${period}`,
    `@replica_uuid='${uuid}', @slave_uuid='${uuid}'`,
  ].join(', ')
}

function requestCommand(payload: Buffer, onPacket: (packet: RawPacket) => boolean): Command {
  let sent = false
  return {
    execute(packet, connection) {
      if (sent && packet !== undefined) return onPacket(packet)
      sent = true
      connection._resetSequenceId()
      connection.writePacket(new RequestPacket(payload))
      return false
    },
    onResult() {},
    emit() {},
    stateName: () => 'binlog',
  }
}

/** As mysql2 wants what it writes: four bytes for its header in front. */
class RequestPacket {
  readonly buffer: Buffer

  constructor(payload: Buffer) {
    this.buffer = Buffer.concat([Buffer.alloc(4), payload])
  }

  length(): number {
    return this.buffer.length
  }

  writeHeader(sequenceId: number): void {
    this.buffer.writeUIntLE(this.buffer.length - 4, 0, 3)
    this.buffer[3] = sequenceId
  }
}

/** "Fatal error while reading the binlog": the text says which one. MariaDB's and MySQL's numbers for it agree. */
const fatalLogError = 1236

/** Gives a server's refusal the code of our own table, where it has one. mysql2's names for MariaDB's numbers are wrong: number and text count. */
function explain(error: Error): Error {
  const { errno } = error as { errno?: number }
  if (errno !== fatalLogError) return error
  const { message } = error
  const said = (code: 'log-purged' | 'log-gap' | 'log-unreadable', text: string): Error =>
    new WhiteholeError(code, `${text} (the database says: ${message})`, { cause: error })
  if (/purged|could not find GTID state/i.test(message)) {
    return said('log-purged', 'the database no longer has the log from this position on')
  }
  if (/is missing the GTID/i.test(message)) return said('log-gap', "a part of the database's log is missing")
  if (/max_allowed_packet/i.test(message)) {
    return said('log-unreadable', 'an event is larger than max_allowed_packet: raise it')
  }
  if (/GTID_MODE/i.test(message)) return said('log-unreadable', 'the database writes no GTIDs: set gtid_mode=ON')
  return error
}
