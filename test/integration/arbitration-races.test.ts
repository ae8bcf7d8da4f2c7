import { describe } from 'vitest'
import { raceOnTwoNodes } from '../support/arbitration-races.ts'

/** Tokens come from the directory. Reads in one pipeline overtake each other there: arbitration-read-order.test.ts has that by itself. */
describe('clients of two nodes with memcached 1.6.18 race', () =>
  raceOnTwoNodes('/usr/bin/memcached', { pipelinedReadsOvertake: true }))
