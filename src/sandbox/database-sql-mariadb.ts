import { parsePosition } from '../domain/position.ts'
import { type Ask, type DatabaseSql, type DatabaseView, type ReplicaView, replicationUser } from './database-sql.ts'

export const mariadbSql: DatabaseSql = {
  view,
  makeReadOnly: 'SET GLOBAL read_only = 1',
  makeWritable: 'SET GLOBAL read_only = 0',
  // Root is admitted anyway.
  admitRoot: 'SET GLOBAL read_only = 1',
  enableSemiSync: 'SET GLOBAL rpl_semi_sync_master_enabled = 1',
  leavePair:
    'STOP SLAVE; RESET SLAVE ALL; SET GLOBAL rpl_semi_sync_slave_enabled = 0; SET GLOBAL rpl_semi_sync_master_enabled = 0',
  drain: async (ask, seconds) => {
    await ask('STOP SLAVE IO_THREAD; START SLAVE SQL_THREAD')
    const [row] = await ask<ReplicaRow>('SHOW SLAVE STATUS')
    await ask('DO MASTER_GTID_WAIT(?, ?)', [row?.Gtid_IO_Pos ?? '', seconds], (seconds + 5) * 1000)
  },
  follow: async (ask, { port, user, password }) => {
    await ask(
      `STOP SLAVE; SET GLOBAL read_only = 1; SET GLOBAL rpl_semi_sync_master_enabled = 0; SET GLOBAL rpl_semi_sync_slave_enabled = 1;
       SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos;
       CHANGE MASTER TO master_host = '127.0.0.1', master_port = ?, master_user = ?, master_password = ?, master_use_gtid = slave_pos, master_connect_retry = 1;
       START SLAVE`,
      [port, user, password],
    )
  },
}

interface ReplicaRow {
  readonly Master_Port: number
  readonly Slave_IO_Running: string
  readonly Slave_SQL_Running: string
  readonly Gtid_IO_Pos: string
  readonly Last_IO_Error: string
  readonly Last_SQL_Error: string
}

async function view(ask: Ask): Promise<DatabaseView> {
  const [own] = await ask<{ readOnly: number; position: string; semiSync: number }>(
    'SELECT @@read_only AS readOnly, @@gtid_binlog_pos AS position, @@rpl_semi_sync_master_enabled AS semiSync',
  )
  const [clients] = await ask<{ Value: string }>("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'")
  // Not from information_schema.PROCESSLIST: that fills a temporary table on disk each time.
  const connections = await ask<{ Id: number; User: string; Command: string }>('SHOW PROCESSLIST')
  const [replica] = await ask<ReplicaRow>('SHOW SLAVE STATUS')
  if (own === undefined) throw new Error('it gave no answer')
  return {
    readOnly: own.readOnly === 1,
    position: parsePosition('mariadb', own.position),
    semiSyncPrimary: own.semiSync === 1,
    semiSyncClients: Number(clients?.Value ?? 0),
    attached: connections
      .filter(({ User, Command }) => User === replicationUser && Command === 'Binlog Dump')
      .map(({ Id }) => Id),
    replica: replica === undefined ? undefined : replicaView(replica),
  }
}

function replicaView(row: ReplicaRow): ReplicaView {
  return {
    primaryPort: row.Master_Port,
    ioRunning: row.Slave_IO_Running !== 'No',
    connected: row.Slave_IO_Running === 'Yes',
    applying: row.Slave_SQL_Running === 'Yes',
    received: parsePosition('mariadb', row.Gtid_IO_Pos),
    error: row.Last_SQL_Error || row.Last_IO_Error,
  }
}
