import { describe } from 'vitest'
import { relayStories } from '../support/datacenter-stories.ts'

describe('beyond a relay that replicates database memcached alone', () => {
  relayStories(true)
})
