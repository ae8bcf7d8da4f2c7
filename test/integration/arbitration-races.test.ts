import { describe } from 'vitest'
import { raceOnTwoNodes } from '../support/arbitration-races.ts'

/** Tokens come from the directory. */
describe('clients of two nodes with memcached 1.6.18 race', () => raceOnTwoNodes('/usr/bin/memcached'))
