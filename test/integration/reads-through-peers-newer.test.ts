import { existsSync } from 'node:fs'
import { describe } from 'vitest'
import { newerMemcachedPath } from '../support/databases.ts'
import { readThroughPeers } from '../support/peer-read-stories.ts'

describe.runIf(existsSync(newerMemcachedPath))('while the memcached of a node, which keeps versions, is away', () =>
  readThroughPeers(newerMemcachedPath),
)
