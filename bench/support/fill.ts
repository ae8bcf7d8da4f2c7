import type { Connection } from 'mysql2/promise'

/** Entries written by one statement, as a large batch would. */
const statementRows = 5000

/**
 * Keys `k0`, `k1` … of 100 bytes, straight into directory and log.
 * @param distinct keys, written in turn
 */
export async function fill(sql: Connection, namespace: string, keys: number, distinct = keys): Promise<void> {
  const [[row]] = (await sql.query('SELECT ns_id AS id, generation FROM mc_namespaces WHERE ns_name = ?', [
    namespace,
  ])) as unknown as [[{ id: number; generation: number }]]
  const version = (BigInt(row.generation) << 33n) + 12_345n
  const value = `X'${Buffer.alloc(100, 'x').toString('hex')}'`
  for (let from = 0; from < keys; from += statementRows) {
    const numbers = Array.from({ length: Math.min(statementRows, keys - from) }, (_, n) => (from + n) % distinct)
    const directory = numbers.map((n) => `(${row.id},'k${n}',${version},100,CRC32(${value}))`).join(',')
    const log = numbers.map((n) => `(${row.id},'k${n}',1,${version},0,0,${value})`).join(',')
    await sql.query(
      `START TRANSACTION; INSERT INTO mc_stored_keys (ns_id, mc_key, version, size, checksum) VALUES ${directory} ON DUPLICATE KEY UPDATE version = VALUES(version);
       INSERT INTO mc_storage (ns_id, mc_key, op, version, expire, flags, mc_value) VALUES ${log}; COMMIT`,
    )
  }
}
