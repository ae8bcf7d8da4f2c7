import { closeDatabaseConnection, type DatabaseAddress, type Databases } from './databases.ts'

/** How a database keeps its binlog. Settings that it doesn't have are no limit. */
export async function readBinlogFiles(
  databases: Databases,
  address: DatabaseAddress,
): Promise<{ expireSeconds: number; sizeBytesMax: number; bytes: number; oldest: string }> {
  const connection = await databases.connect(address)
  try {
    const [settings] = await connection.query({ sql: settingsQuestion, timeout: questionMilliseconds })
    const values = new Map(
      (settings as { Variable_name: string; Value: string }[]).map((row) => [
        row.Variable_name.toLowerCase(),
        Number(row.Value),
      ]),
    )
    const [listed] = await connection.query({ sql: 'SHOW BINARY LOGS', timeout: questionMilliseconds })
    const files = listed as { Log_name: string; File_size: number | string }[]
    const sizes = files.map(({ File_size: size }) => Number(size))
    const bytes = sizes.reduce((sum, size) => sum + size, 0)
    const days = values.get('expire_logs_days') ?? 0
    return {
      expireSeconds: values.get('binlog_expire_logs_seconds') ?? days * 86_400,
      sizeBytesMax: values.get('max_binlog_total_size') ?? values.get('binlog_space_limit') ?? 0,
      bytes,
      oldest: files[0]?.Log_name ?? '',
    }
  } finally {
    closeDatabaseConnection(connection)
  }
}

const settingsQuestion =
  "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('binlog_expire_logs_seconds', 'expire_logs_days', 'max_binlog_total_size', 'binlog_space_limit')"
const questionMilliseconds = 5000
