import { type ChildProcess, spawn } from 'node:child_process'

/** What a daemon tells whoever started it. Without such a listener (no `NOTIFY_SOCKET`) each call does nothing. */
export interface ServiceManager {
  /** @param status is asked each second from now on: what it says is shown by `systemctl status` */
  ready(status: () => string): void
  reloading(): void
  reloaded(): void
  stopping(): void
  close(): void
}

const statusMilliseconds = 1000
/** Three times within systemd's patience, so that one late turn of the event loop is no death. */
const watchdogShare = 3

/**
 * systemd's notification protocol (sd_notify): messages on a unix datagram socket, which Node does not have. `systemd-notify` sends them, from
 * a small shell that is started once: to start a process out of a node with 300 MB stops its event loop for some 50 ms, measured.
 * The watchdog's messages come from the event loop, so a loop that hangs is noticed; the shell ends with its stdin.
 */
export function serviceManager(environment: NodeJS.ProcessEnv): ServiceManager {
  const socket = environment['NOTIFY_SOCKET']
  if (socket === undefined || socket === '') return silentManager
  const watchdog = watchdogMilliseconds(environment)
  // What this process starts is not the service: it may not speak for it.
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete environment[name]
  return new SystemdManager(startMessenger({ ...environment, NOTIFY_SOCKET: socket }), watchdog)
}

class SystemdManager implements ServiceManager {
  readonly #messenger: ChildProcess
  readonly #watchdogMilliseconds: number | undefined
  #timers: NodeJS.Timeout[] = []
  #told = ''

  constructor(messenger: ChildProcess, watchdog: number | undefined) {
    this.#messenger = messenger
    this.#watchdogMilliseconds = watchdog
  }

  ready(status: () => string): void {
    const tellStatus = (): void => {
      const text = `STATUS=${status().replaceAll('\n', ' ')}`
      if (text !== this.#told) this.#tell(text)
      this.#told = text
    }
    this.#tell('READY=1')
    tellStatus()
    this.#timers = [setInterval(tellStatus, statusMilliseconds).unref()]
    if (this.#watchdogMilliseconds === undefined) return
    const beat = (): void => this.#tell('WATCHDOG=1')
    beat()
    this.#timers.push(setInterval(beat, this.#watchdogMilliseconds / watchdogShare).unref())
  }

  reloading(): void {
    this.#tell('RELOADING=1')
  }

  reloaded(): void {
    this.#tell('READY=1')
  }

  stopping(): void {
    this.#tell('STOPPING=1')
  }

  close(): void {
    for (const timer of this.#timers) clearInterval(timer)
    this.#messenger.stdin?.end()
  }

  #tell(message: string): void {
    const { stdin } = this.#messenger
    if (stdin?.writable === true) stdin.write(`${message}\n`)
  }
}

const silentManager: ServiceManager = {
  ready: () => {},
  reloading: () => {},
  reloaded: () => {},
  stopping: () => {},
  close: () => {},
}

function startMessenger(environment: NodeJS.ProcessEnv): ChildProcess {
  const script = 'while IFS= read -r line; do systemd-notify "$line"; done'
  const child = spawn('/bin/sh', ['-c', script], { stdio: ['pipe', 'ignore', 'ignore'], env: environment })
  // Whatever becomes of it, the daemon goes on; systemd then misses the messages and says so.
  child.on('error', () => {})
  child.stdin.on('error', () => {})
  child.unref()
  return child
}

function watchdogMilliseconds(environment: NodeJS.ProcessEnv): number | undefined {
  const microseconds = Number(environment['WATCHDOG_USEC'])
  const pid = environment['WATCHDOG_PID']
  const ours = pid === undefined || pid === String(process.pid)
  return ours && microseconds > 0 ? microseconds / 1000 : undefined
}
