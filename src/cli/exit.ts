/** DESIGN §10: scripts rely on these. */
export const exitCode = { done: 0, no: 1, failed: 2, usage: 64 } as const

export type ExitCode = (typeof exitCode)[keyof typeof exitCode]

/** The command was typed wrongly. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}
