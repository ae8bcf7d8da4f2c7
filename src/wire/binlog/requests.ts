import type { MysqlPosition } from '../../domain/position.ts'

/** Commands that a replica sends, as packet payloads without their header. */

const registerReplica = 0x15
const dump = 0x12
const dumpGtid = 0x1e

/** The first event of a file stands behind its four magic bytes. */
const firstOffset = 4

/** COM_REGISTER_SLAVE: makes the reader visible in SHOW REPLICA HOSTS. */
export function registerRequest(serverId: number): Buffer {
  const host = Buffer.from('whitehole')
  const request = Buffer.alloc(1 + 4 + 1 + host.length + 1 + 1 + 2 + 4 + 4)
  request[0] = registerReplica
  request.writeUInt32LE(serverId, 1)
  request[5] = host.length
  host.copy(request, 6)
  return request
}

/** COM_BINLOG_DUMP for MariaDB: where to begin is in the session's `@slave_connect_state`. */
export function dumpRequest(serverId: number): Buffer {
  const request = Buffer.alloc(11)
  request[0] = dump
  request.writeUInt32LE(firstOffset, 1)
  request.writeUInt32LE(serverId, 7)
  return request
}

/** COM_BINLOG_DUMP_GTID for MySQL: everything that is not in the set. */
export function dumpGtidRequest(serverId: number, position: MysqlPosition): Buffer {
  const head = Buffer.alloc(1 + 2 + 4 + 4 + 8 + 4)
  const set = encodeGtidSet(position)
  head[0] = dumpGtid
  head.writeUInt32LE(serverId, 3)
  head.writeBigUInt64LE(BigInt(firstOffset), 11)
  head.writeUInt32LE(set.length, 19)
  return Buffer.concat([head, set])
}

/** Number of sources, then each one's UUID, number of intervals, and their first and last + 1. */
export function encodeGtidSet({ intervals }: MysqlPosition): Buffer {
  const parts: Buffer[] = [u64(intervals.size)]
  for (const [source, ranges] of intervals) {
    parts.push(Buffer.from(source.replaceAll('-', ''), 'hex'), u64(ranges.length))
    for (const { first, last } of ranges) parts.push(u64(first), u64(last + 1))
  }
  return Buffer.concat(parts)
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
