import { describe } from 'vitest'
import { rewind } from '../support/rewind-stories.ts'

describe('MariaDB, nodes ahead of the new primary: the former one lives on', () =>
  rewind({ engine: 'mariadb', memcachedPath: '/usr/bin/memcached', former: 'lives on' }))
