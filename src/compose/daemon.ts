import { isDeepStrictEqual } from 'node:util'
import { describeError } from '../domain/errors.ts'
import type { LogLevel, RootLogger } from '../runtime/logger.ts'

/** SIGTERM and SIGINT stop a daemon, SIGHUP lets it read its configuration again. */
export function daemonSignals(reload: () => void): { readonly stop: Promise<void>; release(): void } {
  let received: () => void = () => {}
  const stop = new Promise<void>((resolve) => {
    received = resolve
  })
  const handlers = [
    ['SIGTERM', received],
    ['SIGINT', received],
    ['SIGHUP', reload],
  ] as const
  for (const [signal, handler] of handlers) process.on(signal, handler)
  const release = (): void => {
    for (const [signal, handler] of handlers) process.off(signal, handler)
    // A late one must not end a daemon that is closing.
    process.on('SIGHUP', () => {})
  }
  return { stop, release }
}

interface Reloadable {
  readonly log: { readonly level: LogLevel }
  readonly databases: { readonly password: string }
}

/**
 * The log level and the password of the databases come into force; what else differs is named in the log, since it wants a restart. A wrong
 * file changes nothing.
 * @returns the configuration that is in force now
 */
export function applyReload<T extends Reloadable>(given: {
  readonly logger: RootLogger
  readonly running: T
  readonly load: () => T
  readonly apply: (changed: T) => void
}): T {
  const { logger, running } = given
  let read: T
  try {
    read = given.load()
  } catch (error) {
    logger.error({ reason: describeError(error) }, 'the configuration was not reloaded')
    return running
  }
  const now = {
    ...running,
    log: { ...running.log, level: read.log.level },
    databases: { ...running.databases, password: read.databases.password },
  }
  logger.setLevel(now.log.level)
  given.apply(now)
  const needsRestart = Object.keys(read).filter((key) => differs(key, { read, now }))
  logger.info({ logLevel: now.log.level, needsRestart }, 'configuration reloaded')
  return now
}

function differs(key: string, { read, now }: { read: object; now: object }): boolean {
  const [left, right] = [read, now].map((config) => (config as Record<string, unknown>)[key])
  return !isDeepStrictEqual(left, right)
}
