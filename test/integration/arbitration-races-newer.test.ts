import { existsSync } from 'node:fs'
import { describe } from 'vitest'
import { raceOnTwoNodes } from '../support/arbitration-races.ts'
import { newerMemcachedPath } from '../support/databases.ts'

/** Tokens are the items' own. */
describe.runIf(existsSync(newerMemcachedPath))('clients of two nodes with memcached 1.6.45 race', () =>
  raceOnTwoNodes(newerMemcachedPath),
)
