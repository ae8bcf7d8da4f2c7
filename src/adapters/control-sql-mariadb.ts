import type { ReplicationFacts } from '../domain/database-control.ts'
import { covers, joinPositions, parsePosition, type Position } from '../domain/position.ts'
import type { Ask } from './control-session.ts'
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

/** Behind it stands what `init_connect` was before, in base64. */
const shutMark = 'SIGNAL SQLSTATE \'08004\' SET MESSAGE_TEXT = "whitehole has shut this database" -- was:'

const changeMaster = `CHANGE MASTER TO MASTER_HOST = ?, MASTER_PORT = ?, MASTER_USER = ?, MASTER_PASSWORD = ?,
  MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 0.5`

export const mariadbControl: ControlSql = {
  dialect: 'mariadb',
  // Nothing that needs the lock of all grants: a GRANT that waits for the standby holds it (information_schema.GLOBAL_STATUS counts grants,
  // whatever is asked for).
  look: `SELECT VERSION() AS version, @@global.server_id AS serverId, @@global.read_only AS readOnly,
      @@global.gtid_binlog_pos AS position, @@global.gtid_slave_pos AS executed, @@global.gtid_binlog_state AS history,
      @@global.rpl_semi_sync_master_enabled AS primaryEnabled, @@global.rpl_semi_sync_slave_enabled AS standbyEnabled,
      UNIX_TIMESTAMP(NOW(6)) AS clockSeconds;
    SHOW GLOBAL STATUS LIKE 'Uptime';
    SELECT UNIX_TIMESTAMP() AS second;
    SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_%';
    SHOW GLOBAL STATUS LIKE 'Slave_received_heartbeats';
    SHOW PROCESSLIST;
    SHOW SLAVE STATUS`,
  facts: ([own, uptimes, clocks, semiSync, heartbeats, processes, replicas], { replicationUser }) => {
    const values = statusMap([...(uptimes ?? []), ...(semiSync ?? []), ...(heartbeats ?? [])])
    const sessions = listedSessions(processes ?? [])
    const [row] = own ?? []
    const [replica] = replicas ?? []
    const position = parsePosition('mariadb', text(row, 'position'))
    // The start by the server's own clock: constant, whatever that does afterwards, if both are of one second.
    const second = number(clocks?.[0], 'second')
    if (Math.floor(Number(text(row, 'clockSeconds'))) !== second) return undefined
    return {
      instance: `${number(row, 'serverId')}@${second - Number(values.get('UPTIME'))}`,
      version: text(row, 'version'),
      serverId: number(row, 'serverId'),
      readOnly: number(row, 'readOnly') === 1,
      position,
      history: text(row, 'history'),
      replication:
        replica === undefined
          ? undefined
          : replicationFacts(replica, values, { position, executed: parsePosition('mariadb', text(row, 'executed')) }),
      semiSync: {
        primaryEnabled: number(row, 'primaryEnabled') === 1,
        primaryActive: values.get('RPL_SEMI_SYNC_MASTER_STATUS') === 'ON',
        clients: Number(values.get('RPL_SEMI_SYNC_MASTER_CLIENTS') ?? 0),
        attached: sessions
          .filter((session) => session.user === replicationUser && readsTheLog(session))
          .map(({ id }) => String(id)),
        waiting: Number(values.get('RPL_SEMI_SYNC_MASTER_WAIT_SESSIONS') ?? 0),
        unacknowledged: Number(values.get('RPL_SEMI_SYNC_MASTER_NO_TX') ?? 0),
        standbyEnabled: number(row, 'standbyEnabled') === 1,
      },
      diskFull: isDiskFull(sessions),
      clockSeconds: Number(text(row, 'clockSeconds')),
    }
  },
  position: 'SELECT @@global.gtid_binlog_pos AS position',
  // Not gtid_binlog_pos, which includes what others have written and nobody acknowledged yet.
  committed: 'SELECT @@session.last_gtid AS position',
  readOnly: 'SET GLOBAL read_only = 1',
  durable: 'SET GLOBAL sync_binlog = 1',
  writable: 'SET GLOBAL read_only = 0',
  // READ ONLY ADMIN may always.
  admitSelf: 'DO 0',
  admitNobody: 'DO 0',
  semiSync: {
    enabled: '@@global.rpl_semi_sync_master_enabled',
    settings:
      "SET GLOBAL rpl_semi_sync_master_timeout = 4294967295; SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC'; SET GLOBAL rpl_semi_sync_master_wait_no_slave = 1",
    enablePrimary: 'SET GLOBAL rpl_semi_sync_master_enabled = 1',
    disablePrimary: 'SET GLOBAL rpl_semi_sync_master_enabled = 0',
    standDown: 'SET GLOBAL rpl_semi_sync_master_enabled = 0',
    enableStandby: 'SET GLOBAL rpl_semi_sync_slave_enabled = 1',
    disableStandby: 'SET GLOBAL rpl_semi_sync_slave_enabled = 0',
  },
  replication: {
    // A semi-synchronous receiver that stops first calls its primary to end its connection there: 5 s where that is stopped or cut
    // off, with 0 much longer (tried); with 1 it is over after a second.
    stopReceiver: 'SET GLOBAL rpl_semi_sync_slave_kill_conn_timeout = 1; STOP SLAVE IO_THREAD',
    startApplier: 'START SLAVE SQL_THREAD',
    stop: 'STOP SLAVE',
    start: 'START SLAVE',
    forget: 'RESET SLAVE ALL',
    point: `SET GLOBAL gtid_slave_pos = @@global.gtid_binlog_pos; ${changeMaster}`,
    pointRelay: async (ask, values) => {
      const [row] = await ask<Row>('SELECT @@global.gtid_slave_pos AS executed, @@global.gtid_binlog_pos AS logged')
      const executed = parsePosition('mariadb', text(row, 'executed'))
      // It wrote itself since it replicated last: it was the primary.
      const isBehind = !covers(executed, parsePosition('mariadb', text(row, 'logged')))
      if (isBehind) await ask('SET GLOBAL gtid_slave_pos = @@global.gtid_binlog_pos')
      await ask(changeMaster, values)
    },
    // With GTIDs, any start while both stand throws it away.
    keepsRelayLog: false,
  },
  shut: async (ask) => {
    const former = await initConnect(ask)
    if (former.startsWith(shutMark)) return
    await ask('SET GLOBAL init_connect = ?', [shutMark + Buffer.from(former).toString('base64')])
  },
  reopen: async (ask) => {
    const now = await initConnect(ask)
    if (!now.startsWith(shutMark)) return
    await ask('SET GLOBAL init_connect = ?', [Buffer.from(now.slice(shutMark.length), 'base64').toString()])
  },
  // Plain KILL would let a waiting commit become visible (and answer it with OK).
  endSession: (id) => `KILL SOFT CONNECTION ${id}`,
  compare: (_ask, mine, primary) => Promise.resolve(surplus(mine, primary)),
  // Only a semi-synchronous replica takes back what bears its own server id (`do_accept_own_server_id` in MariaDB's slave.cc); an
  // asynchronous one drops it and counts it as executed.
  ignoredOwn: ({ serverId, history }, primary) =>
    surplus(primary, history)
      .split(',')
      .filter((gtid) => gtid.split('-')[1] === String(serverId))
      .join(','),
  lostFromLog: async (ask) => {
    // Read first, since both move on: a transaction is in the log before it is in the position.
    const [applied] = await ask<Row>('SELECT @@global.gtid_slave_pos AS position')
    const [logged] = await ask<Row>('SELECT @@global.gtid_binlog_pos AS position')
    const position = text(applied, 'position')
    const isLogged = covers(parsePosition('mariadb', text(logged, 'position')), parsePosition('mariadb', position))
    return isLogged ? '' : position
  },
  cure: async (ask) => {
    // Only what still waits is not committed in the engine.
    const sessions = listedSessions(await ask('SHOW PROCESSLIST'))
    return sessions.some(isWaiter) ? 'truncate' : 'rebuild'
  },
}

async function initConnect(ask: Ask): Promise<string> {
  const [row] = await ask<Row>('SELECT @@global.init_connect AS value')
  return text(row, 'value')
}

function isWaiter({ state }: { state: string }): boolean {
  return /semi-sync ACK/i.test(state)
}

/**
 * GTIDs of one `gtid_binlog_state` beyond another's: of each server of a domain it has the last number. Within a domain numbers only
 * grow (strict mode), so who has a server's last number has its former ones.
 */
export function surplus(mine: string, primary: string): string {
  const theirs = lastNumbers(primary)
  const beyond = [...lastNumbers(mine)].filter(([server, sequence]) => sequence > (theirs.get(server) ?? 0n))
  return beyond.map(([server, sequence]) => `${server}-${sequence}`).join(',')
}

/** `domain-server` → sequence. */
function lastNumbers(state: string): Map<string, bigint> {
  const numbers = new Map<string, bigint>()
  for (const gtid of state.split(',').filter((part) => part.trim() !== '')) {
    const [domain = '', server = '', sequence = ''] = gtid.trim().split('-')
    numbers.set(`${domain}-${server}`, BigInt(sequence))
  }
  return numbers
}

function replicationFacts(
  row: Row,
  status: ReadonlyMap<string, string>,
  { position, executed }: { position: Position; executed: Position },
): ReplicationFacts {
  const receiver = text(row, 'Slave_IO_Running')
  // Empty after a start of the server, whose relay log is as good as gone.
  const read = parsePosition('mariadb', text(row, 'Gtid_IO_Pos'))
  return {
    source: { host: text(row, 'Master_Host'), port: number(row, 'Master_Port') },
    receiver: receiver === 'Yes' ? 'connected' : receiver === 'No' ? 'stopped' : 'connecting',
    applier: text(row, 'Slave_SQL_Running') === 'Yes' ? 'running' : 'stopped',
    // A filtered relay executes what its log never has.
    received: covers(joinPositions(position, executed), read) ? position : read,
    heartbeats: heardFrom(
      text(row, 'Master_Log_File'),
      number(row, 'Read_Master_Log_Pos'),
      Number(status.get('SLAVE_RECEIVED_HEARTBEATS') ?? 0),
    ),
    error: text(row, 'Last_SQL_Error') || text(row, 'Last_IO_Error'),
  }
}
