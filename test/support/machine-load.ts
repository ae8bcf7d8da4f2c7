import type { Machine } from './machine.ts'

export interface Addresses {
  /** Where memcached clients read: host. */
  readonly reader: string
  readonly writer: string
  readonly port: number
}

/** What clients on an application's machine saw, from a moment on. Times are milliseconds of the clock. */
export interface Seen {
  /** When a read was answered with the value. */
  readonly reads: readonly { readonly at: number }[]
  /** Answers that were no value and no error: a key that is there was not found. */
  readonly misses: number
  /** Keys whose `set` was answered with STORED, and when. */
  readonly stored: readonly { readonly key: string; readonly at: number }[]
  /** Keys whose CALL set_key over SQL succeeded. */
  readonly called: readonly { readonly key: string; readonly at: number }[]
}

/**
 * Clients on a machine, until it ends: a read every tenth of a second through the reader's address over a connection of its own, a `set` after
 * the other and a CALL after the other through the writer's.
 */
export class MachineLoad {
  readonly #machine: Machine

  private constructor(machine: Machine) {
    this.#machine = machine
  }

  static async start(machine: Machine, { reader, writer, port }: Addresses, password: string): Promise<MachineLoad> {
    await machine.write('/opt/load.mjs', program)
    await machine.write('/opt/password.cnf', `[client]\nuser=whitehole_application\npassword=${password}\n`)
    await machine.must(`systemd-run --quiet --unit=load node /opt/load.mjs ${reader} ${writer} ${port}`)
    return new MachineLoad(machine)
  }

  async seen(since: number): Promise<Seen> {
    const lines = (await this.#machine.must('cat /tmp/load.log')).trimEnd().split('\n')
    const of = (kind: string): { key: string; at: number }[] =>
      lines.flatMap((line) => {
        const [time = '', what, key = ''] = line.split(' ')
        return what === kind && Number(time) >= since ? [{ key, at: Number(time) }] : []
      })
    return { reads: of('read'), misses: of('miss').length, stored: of('set'), called: of('call') }
  }
}

/** The longest time without one, in milliseconds, from `since` until the last one. */
export function longestGap(done: readonly { readonly at: number }[], since: number): number {
  const all = [since, ...done.map(({ at }) => at).toSorted((x, y) => x - y)]
  return Math.max(...all.map((time, index) => time - (all[index - 1] ?? time)))
}

/** Node's own modules alone. Each line of the log: time, what was answered, the key. */
const program = `
import { execFile } from 'node:child_process'
import { appendFileSync } from 'node:fs'
import { connect } from 'node:net'
const [reader, writer, port] = process.argv.slice(2)
const say = (what, key) => appendFileSync('/tmp/load.log', Date.now() + ' ' + what + ' ' + key + '\\n')
const ask = (host, request, milliseconds) => new Promise((resolve) => {
  const socket = connect(Number(port), host, () => socket.write(request))
  let text = ''
  const end = (answer) => { clearTimeout(timer); socket.destroy(); resolve(answer) }
  const timer = setTimeout(() => end(undefined), milliseconds)
  socket.on('error', () => end(undefined)).on('close', () => end(undefined))
  socket.on('data', (chunk) => { text += chunk; if (/(END|STORED|ERROR.*)\\r\\n$/.test(text)) end(text) })
})
for (let n = 0; ; n++) {
  if ((await ask(writer, 'set fixed 0 0 5\\r\\nvalue\\r\\n', 5000)) === 'STORED\\r\\n') break
}
setInterval(async () => {
  const answer = await ask(reader, 'get fixed\\r\\n', 900)
  if (answer?.startsWith('VALUE fixed ')) say('read', 'fixed')
  else if (answer === 'END\\r\\n') say('miss', 'fixed')
}, 100)
const pause = () => new Promise((resolve) => setTimeout(resolve, 50))
void (async () => {
  for (let n = 1; ; n++) {
    const answer = await ask(writer, 'set w' + n + ' 0 0 5\\r\\nvalue\\r\\n', 5000)
    if (answer === 'STORED\\r\\n') say('set', 'w' + n)
    await pause()
  }
})()
void (async () => {
  for (let n = 1; ; n++) {
    const call = ['--defaults-extra-file=/opt/password.cnf', '--connect-timeout=1', '-h', writer, 'memcached',
      '-e', "CALL set_key(ns('my_namespace'), 's" + n + "', 'value', 0)"]
    const done = await new Promise((resolve) =>
      execFile('mariadb', call, { timeout: 3000, killSignal: 'SIGKILL' }, (error) => resolve(error === null)))
    if (done) say('call', 's' + n)
    await pause()
    await pause()
  }
})()
`
