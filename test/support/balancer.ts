import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import { freePort, Program, until } from './processes.ts'

const haproxyPath = '/usr/sbin/haproxy'
/** scripts/setup.sh installs it; where that can't be, its tests are skipped. */
export const haveHaproxy = existsSync(haproxyPath)

export interface BalancerPorts {
  readonly writers: number
  readonly readers: number
  readonly monitors: number
}

/** HAProxy with the example's own file; addresses come in by the environment, as the file says. */
export class Balancer {
  readonly ports: BalancerPorts
  readonly program: Program

  private constructor(ports: BalancerPorts, program: Program) {
    this.ports = ports
    this.program = program
  }

  static async start(given: {
    databases: readonly [number, number]
    monitors: readonly [number, number, number]
  }): Promise<Balancer> {
    const ports = { writers: await freePort(), readers: await freePort(), monitors: await freePort() }
    const at = (port: number): string => `127.0.0.1:${port}`
    const program = new Program(haproxyPath, ['-db', '-f', 'examples/haproxy/haproxy.cfg'], {
      env: {
        PATH: process.env['PATH'],
        WRITERS: at(ports.writers),
        READERS: at(ports.readers),
        MONITORS_PORT: String(ports.monitors),
        DB1: at(given.databases[0]),
        DB2: at(given.databases[1]),
        MONITOR1: at(given.monitors[0]),
        MONITOR2: at(given.monitors[1]),
        MONITOR3: at(given.monitors[2]),
      },
    })
    const balancer = new Balancer(ports, program)
    await until('HAProxy to listen', () => {
      if (!program.running) throw new Error(program.output)
      return new Promise<boolean>((resolve) => {
        const socket = connect(ports.writers, '127.0.0.1', () => resolve(true))
        socket.on('error', () => resolve(false))
        socket.on('connect', () => socket.destroy())
      })
    })
    return balancer
  }

  async remove(): Promise<void> {
    await this.program.stop('SIGKILL')
  }
}
