import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Real servers are started per file: processes, not threads, so that a dying worker takes its servers along (see test/support/processes.ts).
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 90_000,
    passWithNoTests: false,
  },
})
