import { describe } from 'vitest'
import { readThroughPeers } from '../support/peer-read-stories.ts'

describe('while the memcached of a node is away', () => readThroughPeers('/usr/bin/memcached'))
