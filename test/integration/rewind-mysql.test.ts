import { describe } from 'vitest'
import { haveMysql, newerMemcachedPath } from '../support/databases.ts'
import { rewind } from '../support/rewind-stories.ts'

describe.skipIf(!haveMysql)('MySQL, nodes ahead of the new primary: the former one is dead', () =>
  rewind({ engine: 'mysql', memcachedPath: newerMemcachedPath, former: 'dies' }),
)
