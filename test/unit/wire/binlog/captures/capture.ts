/**
 * Makes the captures beside this file out of real servers: `npx tsx test/unit/wire/binlog/captures/capture.ts`. One event a line, in
 * base64, header and checksum included. The statements are those that decoder.test.ts expects.
 */
import { writeFile } from 'node:fs/promises'
import { BinlogConnection } from '../../../../../src/adapters/binlog-connection.ts'
import { Database, engineList } from '../../../../support/databases.ts'
import { endOfLog, someServerId } from '../../../../support/following.ts'
import { createLogTables, databasesAt } from '../../../../support/log-tables.ts'
import { until } from '../../../../support/processes.ts'

const statements = [
  "INSERT INTO memcached.mc_storage VALUES (1, 'alone', 1, 3 << 33 | 5, 1800000000, 18446744073709551615, 'value')",
  `BEGIN; INSERT INTO memcached.mc_lanes VALUES ('n1/0', 281474976710655, 1); UPDATE memcached.mc_lanes SET seq = 2;
   INSERT INTO memcached.mc_namespaces (ns_id, ns_name, generation) VALUES (7, 'seven', 3);
   UPDATE memcached.mc_namespaces SET generation = 4; INSERT INTO app.t VALUES (1, 'foreign');
   INSERT INTO memcached.mc_storage VALUES (7, 'a', 1, 4 << 33 | 6, 0, 0, ''), (7, 'b', 2, 4 << 33 | 7, 0, 0, NULL), (7, 'c', 3, 4 << 33 | 8, 1, 0, NULL),
     (7, 'd', 4, 4 << 33 | 8589934591, 1800000000, 0, NULL);
   DELETE FROM memcached.mc_namespaces; COMMIT`,
  'CREATE TABLE app.u (id INT)',
]

async function capture(engine: 'mariadb' | 'mysql'): Promise<void> {
  const database = await Database.start(engine)
  try {
    await createLogTables(database)
    await database.query('CREATE DATABASE app; CREATE TABLE app.t (id INT PRIMARY KEY, a VARCHAR(20))')
    const position = await endOfLog(database)
    for (const statement of statements) await database.query(statement)
    const lines: string[] = []
    const request = {
      address: { host: '127.0.0.1', port: database.port },
      serverId: someServerId(),
      position,
      heartbeatMilliseconds: 200,
    }
    const connection = await BinlogConnection.open(databasesAt([database.port]), request, {
      event: (event) => lines.push(event.toString('base64')),
      failed: (error) => console.error(error),
    })
    await until('a heartbeat', () => lines.some((line) => [27, 41].includes(Buffer.from(line, 'base64')[4] ?? 0)))
    connection.close()
    await writeFile(new URL(`${engine}.txt`, import.meta.url), `${lines.join('\n')}\n`)
    console.log(engine, lines.length, 'events')
  } finally {
    await database.remove()
  }
}

for (const engine of engineList) await capture(engine)
