import { closeSync, fstatSync, fsyncSync, openSync, readFileSync, readSync, renameSync, writeSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { advance, type Gtid, type MariadbPosition, emptyPosition, type Position } from '../domain/position.ts'
import { eventType, headerBytes } from '../wire/binlog/events.ts'

/** Where the log of a MariaDB that does not run ends. */
export interface LogEnd {
  /** Of the last file, without its folder. */
  readonly file: string
  readonly bytes: number
  /** Of what is whole in it: what a crash tore off was never a transaction. */
  readonly position: MariadbPosition
}

const magicBytes = 4
const blockBytes = 256 * 1024
const standalone = 1

/**
 * @param indexFile `binlog.index` beside the log
 * @returns undefined where it can't be told: no log, an encrypted one, or one whose earlier files may hold what the engine had not committed for
 *   sure (a truncation would then have to cut several files, which is not done at once)
 */
export function readLogEnd(indexFile: string): LogEnd | undefined {
  try {
    const listed = readFileSync(indexFile, 'utf8').split('\n')
    const last = listed.findLast((line) => line.trim() !== '')
    if (last === undefined) return undefined
    const descriptor = openSync(join(dirname(indexFile), basename(last.trim())), 'r')
    try {
      return scan(descriptor, basename(last.trim()))
    } finally {
      closeSync(descriptor)
    }
  } catch {
    return undefined
  }
}

/**
 * Says that the log is about to be truncated from here. What a truncating start takes back in the tables it takes back before it cuts the log: one
 * that ended in between must not be tried again, for then the rest could be cut and the hole would show no more.
 * @returns false where it was tried from here before
 * @throws where that can't be kept on disk
 */
export function isFirstAttempt(indexFile: string, { file, bytes }: LogEnd): boolean {
  const note = `${indexFile}.truncating`
  const text = `${file} ${bytes}\n`
  try {
    if (readFileSync(note, 'utf8') === text) return false
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  withFile(`${note}.next`, 'w', (descriptor) => {
    writeSync(descriptor, text)
    fsyncSync(descriptor)
  })
  renameSync(`${note}.next`, note)
  withFile(dirname(note), 'r', fsyncSync)
  return true
}

function withFile(path: string, flags: string, work: (descriptor: number) => void): void {
  const descriptor = openSync(path, flags, 0o600)
  try {
    work(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/** One pass over the headers of a file: 256 MiB take a second. */
function scan(descriptor: number, file: string): LogEnd | undefined {
  const bytes = fstatSync(descriptor).size
  const blocks = new Blocks(descriptor)
  const whole = new WholeTransactions()
  let checkpoint: string | undefined
  for (let at = magicBytes; at + headerBytes <= bytes;) {
    const header = blocks.read(at, headerBytes)
    const length = header.readUInt32LE(9)
    if (length < headerBytes || at + length > bytes) break
    const type = header.readUInt8(4)
    const server = header.readUInt32LE(5)
    const body = (): Buffer => blocks.read(at + headerBytes, length - headerBytes)
    if (type === eventType.startEncryption) return undefined
    if (type === eventType.gtidList) whole.list(body())
    else if (type === eventType.mariadbGtid) whole.begin(server, body())
    else if (type === eventType.binlogCheckpoint) checkpoint = checkpointOf(body())
    else whole.goOn(type)
    at += length
  }
  return checkpoint === file ? { file, bytes, position: whole.position } : undefined
}

class WholeTransactions {
  position = emptyPosition('mariadb') as MariadbPosition
  #open: { readonly gtid: Gtid; readonly isStandalone: boolean } | undefined

  /** Of each domain the last one stands last. */
  list(body: Buffer): void {
    const count = body.readUInt32LE(0) & 0x0f_ff_ff_ff
    for (let n = 0; n < count; n++) {
      const at = 4 + n * 16
      this.#add({
        dialect: 'mariadb',
        domain: body.readUInt32LE(at),
        server: body.readUInt32LE(at + 4),
        sequence: Number(body.readBigUInt64LE(at + 8)),
      })
    }
  }

  begin(server: number, body: Buffer): void {
    // One that ended without an Xid.
    if (this.#open !== undefined) this.#add(this.#open.gtid)
    const sequence = Number(body.readBigUInt64LE(0))
    const isStandalone = (body.readUInt8(12) & standalone) !== 0
    this.#open = { gtid: { dialect: 'mariadb', domain: body.readUInt32LE(8), server, sequence }, isStandalone }
  }

  goOn(type: number): void {
    const isWhole = type === eventType.xid || (this.#open?.isStandalone === true && type === eventType.query)
    if (this.#open === undefined || !isWhole) return
    this.#add(this.#open.gtid)
    this.#open = undefined
  }

  #add(gtid: Gtid): void {
    const position: Position = advance(this.position, gtid)
    if (position.dialect === 'mariadb') this.position = position
  }
}

function checkpointOf(body: Buffer): string {
  return body.toString('latin1', 4, 4 + body.readUInt32LE(0))
}

class Blocks {
  readonly #descriptor: number
  #block = Buffer.alloc(0)
  #from = 0

  constructor(descriptor: number) {
    this.#descriptor = descriptor
  }

  read(at: number, length: number): Buffer {
    const from = at - this.#from
    if (from >= 0 && from + length <= this.#block.length) return this.#block.subarray(from, from + length)
    const block = Buffer.alloc(Math.max(length, blockBytes))
    const got = readSync(this.#descriptor, block, 0, block.length, at)
    if (got < length) throw new RangeError(`the log ends within ${length} bytes from ${at} on`)
    this.#block = block.subarray(0, got)
    this.#from = at
    return this.#block.subarray(0, length)
  }
}
