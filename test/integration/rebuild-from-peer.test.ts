import { describe } from 'vitest'
import { rebuildFromPeer } from '../support/rebuild-stories.ts'

describe('a node whose memcached lost everything', () => rebuildFromPeer('/usr/bin/memcached'))
