import { type DestinationStream, pino, type Logger as PinoLogger, stdTimeFunctions } from 'pino'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** What a part of the program may log with: transitions, never rows or requests (those are counted). */
export type Logger = Pick<PinoLogger, 'debug' | 'info' | 'warn' | 'error'> & { child(bindings: object): Logger }

export interface LoggerOptions {
  readonly level: LogLevel
  /** Which process speaks, for instance `node1`. */
  readonly name: string
  /** Where lines go; stderr unless told. */
  readonly destination?: DestinationStream
}

/** One JSON line an event, on stderr. Keys that may carry a secret are never written. */
export function createLogger(options: LoggerOptions): Logger {
  return pino(
    {
      name: options.name,
      level: options.level,
      base: { name: options.name },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: ['password', '*.password', '*.*.password'], censor: '(hidden)' },
    },
    options.destination ?? pino.destination({ dest: 2, sync: true }),
  )
}

export const silentLogger: Logger = pino({ level: 'silent' })
