import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'

/** The suites of clients that come with Debian's packages, held against a port of this machine. */
export interface SuiteReport {
  readonly passed: number
  readonly failed: number
  readonly output: string
}

/** libmemcached's conformance suite, 27 tests a protocol. */
export async function memccapable(port: number, protocol: 'ascii' | 'binary'): Promise<SuiteReport> {
  const options = ['-h', '127.0.0.1', '-p', String(port), protocol === 'ascii' ? '-a' : '-b', '-t', '10']
  const output = await run('memccapable', options)
  return { passed: count(output, /\[pass\]/g), failed: count(output, /\[FAIL\]/gi), output }
}

const pymemcacheSuite = '/usr/lib/python3/dist-packages/pymemcache/test/test_integration.py'
const pytest = '/usr/lib/python3/dist-packages/pytest'

/** Debian's packages (scripts/setup.sh installs them as root); where they can't be had the suite is skipped, save where everything is required. */
export const havePymemcache =
  (existsSync(pymemcacheSuite) && existsSync(pytest)) || process.env['WHITEHOLE_REQUIRE_ENGINES'] !== undefined

/** pymemcache's own integration suite: `Client`, `PooledClient` and `HashClient`, with and without a serializer. TLS is not ours. */
export async function pymemcache(port: number, folder: string): Promise<SuiteReport> {
  const python = ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-W', 'ignore', '--rootdir', folder]
  const suite = ['--server=127.0.0.1', `--port=${port}`, '-k', 'not tls', pymemcacheSuite]
  const output = await run('/usr/bin/python3', [...python, ...suite])
  return {
    passed: Number(/(\d+) passed/.exec(output)?.[1] ?? 0),
    failed: Number(/(\d+) (?:failed|error)/.exec(output)?.[1] ?? 0),
    output,
  }
}

/** Both streams, whatever the exit code: the reports tell what failed. */
function run(program: string, options: readonly string[]): Promise<string> {
  const env = { ...process.env, PYTHONDONTWRITEBYTECODE: '1' }
  return new Promise((resolve) => {
    execFile(program, options, { env, timeout: 50_000 }, (_error, stdout, stderr) => resolve(stdout + stderr))
  })
}

function count(text: string, pattern: RegExp): number {
  return text.match(pattern)?.length ?? 0
}
