import { existsSync } from 'node:fs'
import { describe } from 'vitest'
import { newerMemcachedPath } from '../support/databases.ts'
import { rebuildFromPeer } from '../support/rebuild-stories.ts'

describe.skipIf(!existsSync(newerMemcachedPath))('a node whose memcached keeps versions, and lost everything', () =>
  rebuildFromPeer(newerMemcachedPath),
)
