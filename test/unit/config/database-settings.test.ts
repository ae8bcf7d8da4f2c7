import { expect, test } from 'vitest'
import { mariadbArguments, mysqlArguments } from '../../../src/config/database-settings.ts'

test.each([mariadbArguments, mysqlArguments])(
  'servers beside each other share no folder for temporary tables',
  (args) => {
    const settings = {
      serverId: 1,
      port: 1,
      socket: '/s',
      dataDirectory: '/cluster/db1',
      pidFile: '/p',
      errorLog: '/e',
      bindAddress: '127.0.0.1',
    }
    expect(args(settings)).toContain('--tmpdir=/cluster/db1')
  },
)
