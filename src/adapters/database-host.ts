import { spawn } from 'node:child_process'
import type { DatabaseHost, DatabaseTarget } from '../domain/database-control.ts'
import { portOf } from './control-sql.ts'

export interface HostCommands {
  readonly name: string
  readonly restart: string | undefined
  readonly rebuild: string | undefined
  readonly timeoutMilliseconds: number
}

/** A database's process and files, by shell commands of the configuration. */
export class CommandHost implements DatabaseHost {
  readonly #commands: HostCommands

  constructor(commands: HostCommands) {
    this.#commands = commands
  }

  async restart(role: 'primary' | 'standby', signal: AbortSignal): Promise<void> {
    await this.#run(this.#commands.restart, { WHITEHOLE_ROLE: role }, signal)
  }

  async rebuild(from: DatabaseTarget, signal: AbortSignal): Promise<void> {
    const source = { WHITEHOLE_FROM_HOST: from.host, WHITEHOLE_FROM_PORT: String(portOf(from)) }
    await this.#run(this.#commands.rebuild, { WHITEHOLE_ROLE: 'standby', ...source }, signal)
  }

  async #run(command: string | undefined, env: Record<string, string>, signal: AbortSignal): Promise<void> {
    const { name, timeoutMilliseconds } = this.#commands
    if (command === undefined) throw new Error(`there is no command for ${name}`)
    const ended = AbortSignal.any([signal, AbortSignal.timeout(timeoutMilliseconds)])
    await new Promise<void>((resolve, reject) => {
      const child = spawn('/bin/sh', ['-c', command], {
        env: { ...process.env, ...env, WHITEHOLE_DATABASE: name },
        stdio: ['ignore', 'ignore', 'pipe'],
        signal: ended,
        killSignal: 'SIGKILL',
      })
      let told = ''
      child.stderr.on('data', (chunk: Buffer) => {
        told = (told + chunk.toString('utf8')).slice(-2000)
      })
      child.on('error', reject)
      child.on('close', (code) => {
        if (code === 0) resolve()
        else reject(new Error(`the command for ${name} ended with ${code ?? 'a signal'}: ${told.trim()}`))
      })
    })
  }
}
