import { parsePosition } from '../domain/position.ts'
import { type Ask, type DatabaseSql, type DatabaseView, type ReplicaView, replicationUser } from './database-sql.ts'

export const mysqlSql: DatabaseSql = {
  view,
  // Sets read_only along, and holds for root as well.
  makeReadOnly: 'SET GLOBAL super_read_only = 1',
  // Takes super_read_only along.
  makeWritable: 'SET GLOBAL read_only = 0',
  admitRoot: 'SET GLOBAL read_only = 1; SET GLOBAL super_read_only = 0',
  enableSemiSync: 'SET GLOBAL rpl_semi_sync_source_enabled = 1',
  leavePair:
    'STOP REPLICA; RESET REPLICA ALL; SET GLOBAL rpl_semi_sync_replica_enabled = 0; SET GLOBAL rpl_semi_sync_source_enabled = 0',
  drain: async (ask, seconds) => {
    await ask('STOP REPLICA IO_THREAD; START REPLICA SQL_THREAD')
    const [row] = await ask<ReplicaRow>('SHOW REPLICA STATUS')
    const received = row?.Retrieved_Gtid_Set ?? ''
    await ask('SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)', [received, seconds], (seconds + 5) * 1000)
  },
  follow: async (ask, { port, user, password }) => {
    await ask(
      `STOP REPLICA; SET GLOBAL super_read_only = 1;
       SET GLOBAL rpl_semi_sync_source_enabled = 0; SET GLOBAL rpl_semi_sync_replica_enabled = 1;
       CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = ?, SOURCE_USER = ?, SOURCE_PASSWORD = ?,
         SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1,
         -- Without a limit: its default gives up after ten (semisync.md, "Exhaustion").
         SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 0;
       START REPLICA`,
      [port, user, password],
    )
  },
}

interface ReplicaRow {
  readonly Source_Port: number
  readonly Replica_IO_Running: string
  readonly Replica_SQL_Running: string
  readonly Retrieved_Gtid_Set: string
  readonly Executed_Gtid_Set: string
  readonly Last_IO_Error: string
  readonly Last_SQL_Error: string
}

async function view(ask: Ask): Promise<DatabaseView> {
  const [own] = await ask<{ readOnly: number; position: string; semiSync: number }>(
    'SELECT @@global.read_only AS readOnly, @@global.gtid_executed AS position, @@global.rpl_semi_sync_source_enabled AS semiSync',
  )
  const [clients] = await ask<{ Value: string }>("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_clients'")
  const connections = await ask<{ Id: number; User: string; Command: string }>('SHOW PROCESSLIST')
  const [replica] = await ask<ReplicaRow>('SHOW REPLICA STATUS')
  if (own === undefined) throw new Error('it gave no answer')
  return {
    readOnly: own.readOnly === 1,
    position: parsePosition('mysql', own.position),
    semiSyncPrimary: own.semiSync === 1,
    semiSyncClients: Number(clients?.Value ?? 0),
    attached: connections
      .filter(({ User, Command }) => User === replicationUser && Command.startsWith('Binlog Dump'))
      .map(({ Id }) => Id),
    replica: replica === undefined ? undefined : replicaView(replica),
  }
}

function replicaView(row: ReplicaRow): ReplicaView {
  return {
    primaryPort: row.Source_Port,
    ioRunning: row.Replica_IO_Running !== 'No',
    connected: row.Replica_IO_Running === 'Yes',
    applying: row.Replica_SQL_Running === 'Yes',
    received: parsePosition('mysql', `${row.Executed_Gtid_Set},${row.Retrieved_Gtid_Set}`),
    error: row.Last_SQL_Error || row.Last_IO_Error,
  }
}
