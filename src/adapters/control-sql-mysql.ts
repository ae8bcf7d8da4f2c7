import type { ReplicationFacts } from '../domain/database-control.ts'
import { formatPosition, parsePosition } from '../domain/position.ts'
import { serverPosition } from './server-position.ts'
import {
  type ControlSql,
  heardFrom,
  isDiskFull,
  listedSessions,
  number,
  readsTheLog,
  type Row,
  statusMap,
  text,
} from './control-sql.ts'

/** The retry count's default gives up after ten; 0 is no limit. */
const changeSource = `CHANGE REPLICATION SOURCE TO SOURCE_HOST = ?, SOURCE_PORT = ?, SOURCE_USER = ?, SOURCE_PASSWORD = ?,
  SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 0,
  SOURCE_HEARTBEAT_PERIOD = 0.5`

export const mysqlControl: ControlSql = {
  dialect: 'mysql',
  // Owned before executed: `server-position.ts` says why.
  look: `SELECT @@global.gtid_owned AS owned;
    SELECT VERSION() AS version, @@global.server_id AS serverId, @@global.server_uuid AS uuid,
      @@global.read_only AS readOnly, @@global.gtid_executed AS position,
      @@global.rpl_semi_sync_source_enabled AND @@global.rpl_semi_sync_source_wait_no_replica AS primaryEnabled, @@global.rpl_semi_sync_replica_enabled AS standbyEnabled,
      UNIX_TIMESTAMP(NOW(6)) AS clockSeconds;
    SELECT VARIABLE_NAME AS name, IF(VARIABLE_NAME = 'Uptime', UNIX_TIMESTAMP() - VARIABLE_VALUE, VARIABLE_VALUE) AS value
      FROM performance_schema.global_status WHERE VARIABLE_NAME IN ('Uptime', 'Rpl_semi_sync_source_status',
      'Rpl_semi_sync_source_clients', 'Rpl_semi_sync_source_no_tx',
      'Rpl_semi_sync_source_wait_sessions');
    SHOW PROCESSLIST;
    SHOW REPLICA STATUS;
    SELECT COUNT_RECEIVED_HEARTBEATS AS heartbeats FROM performance_schema.replication_connection_status WHERE CHANNEL_NAME = ''`,
  facts: ([owned, own, status, processes, replicas, connection], { replicationUser }) => {
    const values = statusMap(status)
    const sessions = listedSessions(processes ?? [])
    const [row] = own ?? []
    const [replica] = replicas ?? []
    return {
      instance: `${text(row, 'uuid')}@${Math.round(Number(values.get('UPTIME')))}`,
      version: text(row, 'version'),
      serverId: number(row, 'serverId'),
      // super_read_only goes for the moment in which this monitor writes; nobody else may.
      readOnly: number(row, 'readOnly') === 1,
      position: parsePosition('mysql', text(row, 'position')),
      // What waits for the standby is not executed yet, but it will be, whatever happens.
      history: formatPosition(serverPosition('mysql', [text(owned?.[0], 'owned'), text(row, 'position')])),
      replication: replica === undefined ? undefined : replicationFacts(replica, number(connection?.[0], 'heartbeats')),
      semiSync: {
        primaryEnabled: number(row, 'primaryEnabled') === 1,
        primaryActive: values.get('RPL_SEMI_SYNC_SOURCE_STATUS') === 'ON',
        clients: Number(values.get('RPL_SEMI_SYNC_SOURCE_CLIENTS') ?? 0),
        attached: sessions
          .filter((session) => session.user === replicationUser && readsTheLog(session))
          .map(({ id }) => String(id)),
        waiting: Number(values.get('RPL_SEMI_SYNC_SOURCE_WAIT_SESSIONS') ?? 0),
        unacknowledged: Number(values.get('RPL_SEMI_SYNC_SOURCE_NO_TX') ?? 0),
        standbyEnabled: number(row, 'standbyEnabled') === 1,
      },
      diskFull: isDiskFull(sessions),
      clockSeconds: Number(text(row, 'clockSeconds')),
    }
  },
  position: 'SELECT @@global.gtid_executed AS position',
  committed: 'SELECT @@global.gtid_executed AS position',
  readOnly: 'SET GLOBAL super_read_only = 1',
  durable: 'SET GLOBAL sync_binlog = 1; SET GLOBAL innodb_flush_log_at_trx_commit = 1',
  // Takes super_read_only along.
  writable: 'SET GLOBAL read_only = 0',
  admitSelf: 'SET GLOBAL super_read_only = 0',
  admitNobody: 'SET GLOBAL super_read_only = 1',
  semiSync: {
    enabled: '@@global.rpl_semi_sync_source_enabled',
    settings:
      "SET GLOBAL rpl_semi_sync_source_timeout = 4294967295; SET GLOBAL rpl_semi_sync_source_wait_point = 'AFTER_SYNC'; SET GLOBAL rpl_semi_sync_source_wait_no_replica = 1",
    enablePrimary: 'SET GLOBAL rpl_semi_sync_source_enabled = 1',
    disablePrimary: 'SET GLOBAL rpl_semi_sync_source_enabled = 0',
    // Off takes a second where a standby was attached a moment ago, and meanwhile nobody can read a variable. So it counts as on only
    // together with this one, without which a commit waits for nobody as long as nobody is attached.
    standDown: 'SET GLOBAL rpl_semi_sync_source_wait_no_replica = 0',
    enableStandby: 'SET GLOBAL rpl_semi_sync_replica_enabled = 1',
    disableStandby: 'SET GLOBAL rpl_semi_sync_replica_enabled = 0',
  },
  replication: {
    stopReceiver: 'STOP REPLICA IO_THREAD',
    startApplier: 'START REPLICA SQL_THREAD',
    stop: 'STOP REPLICA',
    start: 'START REPLICA',
    forget: 'RESET REPLICA ALL',
    point: changeSource,
    pointRelay: async (ask, values) => void (await ask(changeSource, values)),
    keepsRelayLog: true,
  },
  // Ends everybody's sessions but administrators' as well, without an OK for a commit that waits.
  shut: async (ask) => void (await ask('SET GLOBAL offline_mode = 1')),
  reopen: async (ask) => void (await ask('SET GLOBAL offline_mode = 0')),
  endSession: (id) => `KILL CONNECTION ${id}`,
  compare: async (ask, mine, primary) => {
    const [row] = await ask<Row>('SELECT GTID_SUBTRACT(?, ?) AS surplus', [mine, primary])
    return text(row, 'surplus').replace(/\s/g, '')
  },
  // Nothing is ever truncated.
  ignoredOwn: () => '',
  // The engine counts them as purged, so a reader that lacks them is told.
  lostFromLog: () => Promise.resolve(''),
  // A kill brings the tail back committed.
  cure: () => Promise.resolve('rebuild'),
}

function replicationFacts(row: Row, heartbeats: number): ReplicationFacts {
  const receiver = text(row, 'Replica_IO_Running')
  return {
    source: { host: text(row, 'Source_Host'), port: number(row, 'Source_Port') },
    receiver: receiver === 'Yes' ? 'connected' : receiver === 'No' ? 'stopped' : 'connecting',
    applier: text(row, 'Replica_SQL_Running') === 'Yes' ? 'running' : 'stopped',
    received: parsePosition('mysql', `${text(row, 'Executed_Gtid_Set')},${text(row, 'Retrieved_Gtid_Set')}`),
    heartbeats: heardFrom(text(row, 'Source_Log_File'), number(row, 'Read_Source_Log_Pos'), heartbeats),
    error: text(row, 'Last_SQL_Error') || text(row, 'Last_IO_Error'),
  }
}
