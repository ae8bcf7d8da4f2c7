import { type DestinationStream, pino, type Logger as PinoLogger, stdTimeFunctions } from 'pino'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** What a part of the program may log with: transitions, never rows or requests (those are counted). */
export type Logger = Pick<PinoLogger, 'debug' | 'info' | 'warn' | 'error'> & { child(bindings: object): Logger }

/** A daemon's own, whose level can change while it runs: for all of its children, too. */
export type RootLogger = Logger & { setLevel(level: LogLevel): void }

export interface LoggerOptions {
  readonly level: LogLevel
  /** Which process speaks, for instance `node1`. */
  readonly name: string
  /** Where lines go; stderr unless told. */
  readonly destination?: DestinationStream
}

/** One JSON line an event, on stderr. Keys that may carry a secret are never written. */
export function createLogger(options: LoggerOptions): RootLogger {
  // A child of pino's keeps the level that its parent had at its birth. There is one a part of the program, made at the start.
  const all: PinoLogger[] = []
  const logger = pino(
    {
      name: options.name,
      level: options.level,
      base: { name: options.name },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      onChild: (child) => void all.push(child),
      redact: { paths: ['password', '*.password', '*.*.password'], censor: '(hidden)' },
    },
    options.destination ?? pino.destination({ dest: 2, sync: true }),
  )
  all.push(logger)
  const setLevel = (level: LogLevel): void => {
    for (const one of all) one.level = level
  }
  return Object.assign(logger, { setLevel })
}

export const silentLogger: Logger = pino({ level: 'silent' })
