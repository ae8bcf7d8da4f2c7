import { basename } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { debianPackage, renumbered } from '../support/debian-package.ts'
import { Machine, whyNoMachines } from '../support/machine.ts'
import { removeFolder, temporaryFolder, until } from '../support/processes.ts'

const noMachines = whyNoMachines()
if (noMachines !== undefined) console.warn(`the Debian package is not installed by these tests: ${noMachines}`)

describe.skipIf(noMachines !== undefined)('the Debian package, on a machine of its own', () => {
  let folder: string
  let built: string
  let machine: Machine
  const ready = (): Promise<unknown> =>
    until('the node to serve', async () =>
      (await machine.run(`systemctl is-active ${unit} && systemctl show -p StatusText ${unit}`)).stdout.includes(
        '\nStatusText=serving',
      ),
    )
  const mainPid = async (): Promise<string> => (await machine.must(`systemctl show -P MainPID ${unit}`)).trim()
  const unit = 'whitehole-node'

  /** That bear our name, besides the database's and the test's own. */
  const files = async (): Promise<string[]> => {
    const others = ['/proc/*', '/var/lib/mysql/*', '/etc/mysql/*', '/given/*'].map((path) => `-not -path "${path}"`)
    return (await machine.must(`find / -xdev -name "*whitehole*" ${others.join(' ')}`)).trim().split('\n')
  }
  let foreign: string[]

  beforeAll(async () => {
    folder = await temporaryFolder()
    ;[built, machine] = await Promise.all([debianPackage(), Machine.boot('machine1')])
    foreign = await files()
    await machine.write('/etc/mysql/mariadb.conf.d/90-whitehole.cnf', databaseOptions)
    await machine.must(`dpkg -i ${await machine.give(built)}`)
    await machine.must('systemctl start mariadb')
  })
  afterAll(async () => {
    await machine?.remove()
    await removeFolder(folder)
  })

  test('says what it needs, and installs a command, an account and a configuration that not everybody reads', async () => {
    expect(await machine.must('whitehole --version')).toMatch(/^\d+\.\d+\.\d+/)
    expect(await machine.must('dpkg -s whitehole')).toMatch(/Recommends: nodejs \(>= 20\.19\)/)
    expect(await machine.must('stat -c "%U:%G %a %n" /etc/whitehole /etc/whitehole/node.yaml')).toBe(
      'root:whitehole 750 /etc/whitehole\nroot:whitehole 640 /etc/whitehole/node.yaml\n',
    )
    expect(await machine.must('getent passwd whitehole')).toMatch(/:\/var\/lib\/whitehole:\/usr\/sbin\/nologin$/m)
    expect(await machine.run(`systemctl is-enabled ${unit}`)).toMatchObject({ stdout: 'disabled\n' })
    const old = await machine.run(
      'sed \'s/process.versions.node/"18.20.4"/\' /usr/lib/whitehole/bin/whitehole >/tmp/old.mjs; node /tmp/old.mjs',
    )
    expect(old).toMatchObject({ code: 2, stderr: expect.stringContaining('Node.js 20.19 or later is needed') })
  })

  test('starts a node by the words of its configuration file, and systemd knows that it is up', async () => {
    await machine.must(
      'install -m 0640 -g whitehole /dev/null /etc/whitehole/database.password; openssl rand -base64 24 >/etc/whitehole/database.password',
    )
    await machine.must('whitehole init --config /etc/whitehole/node.yaml --admin-socket /run/mysqld/mysqld.sock')
    await machine.must('whitehole ns create --config /etc/whitehole/node.yaml default')
    await machine.must(`systemctl start ${unit}`)
    // Type=notify: as soon as the command returns, it listens.
    expect((await machine.run(`node -e "fetch('http://127.0.0.1:22121/healthz')"`)).code).toBe(0)
    await ready()
    await machine.must('printf hello >/tmp/greeting && memccp --servers=127.0.0.1:11211 /tmp/greeting')
    expect(await machine.must('memccat --servers=127.0.0.1:11211 greeting')).toBe('hello\n')
    expect(await machine.must('ps -o user= -C memcached')).toMatch(/^whiteho/)
  })

  test('reads the password and the log level again at a reload, and refuses a wrong file', async () => {
    const pid = await mainPid()
    await machine.must('echo "log: { level: debug }" >>/etc/whitehole/node.yaml')
    await machine.must('openssl rand -base64 24 >/etc/whitehole/database.password')
    await machine.must('whitehole init --config /etc/whitehole/node.yaml --admin-socket /run/mysqld/mysqld.sock')
    await machine.must(`systemctl reload ${unit}`)
    await until('the reload', async () =>
      /"logLevel":"debug".*configuration reloaded/.test(await machine.journal(unit)),
    )
    // With the former password no new connection would come up.
    const kill =
      "SELECT GROUP_CONCAT(CONCAT('KILL ', id) SEPARATOR ';') FROM information_schema.processlist WHERE user = 'whitehole_node'"
    await machine.must(`mariadb -e "$(mariadb -Ne "${kill}")"`)
    await until('a write', async () => (await machine.run('memccp --servers=127.0.0.1:11211 /tmp/greeting')).code === 0)
    await machine.must('cp -p /etc/whitehole/node.yaml /tmp/right; echo "nonsense: 1" >>/etc/whitehole/node.yaml')
    expect((await machine.run(`systemctl reload ${unit}`)).code).not.toBe(0)
    expect(await machine.journal(unit)).toContain('nonsense: unknown key')
    await machine.must('cp -p /tmp/right /etc/whitehole/node.yaml')
    expect(await mainPid()).toBe(pid)
  })

  test('is taken out of service and back, with its clients served on', async () => {
    const readyz = `node -e "fetch('http://127.0.0.1:22121/readyz').then(({status}) => process.exit(status === 200 ? 0 : 1))"`
    expect(await machine.must('whitehole node drain --config /etc/whitehole/node.yaml')).toBe('draining\n')
    expect((await machine.run(readyz)).code).toBe(1)
    expect(await machine.must('memccat --servers=127.0.0.1:11211 greeting')).toBe('hello\n')
    await machine.must(`systemctl restart ${unit}`)
    await until('it to be up', async () => (await machine.run('memccat --servers=127.0.0.1:11211 greeting')).code === 0)
    expect((await machine.run(readyz)).code).toBe(1)
    expect(await machine.must('whitehole node undrain --config /etc/whitehole/node.yaml')).toBe('serving\n')
    expect((await machine.run(readyz)).code).toBe(0)
  })

  test('comes back when its memcached dies, when it is killed, and when it hangs', async () => {
    await machine.must('kill -9 $(cat /run/whitehole-memcached/pid)')
    await until('the value, out of the log', async () =>
      (await machine.run('memccat --servers=127.0.0.1:11211 greeting')).stdout.includes('hello'),
    )
    await machine.must(`systemctl kill -s KILL ${unit}`)
    await until(
      'the node again',
      async () => (await machine.run('memccat --servers=127.0.0.1:11211 greeting')).code === 0,
    )
    await machine.write(`/etc/systemd/system/${unit}.service.d/hasty.conf`, '[Service]\nWatchdogSec=1\n')
    await machine.must(`systemctl daemon-reload; systemctl restart ${unit}`)
    await ready()
    await machine.must(`systemctl kill --kill-who=main -s STOP ${unit}`)
    await until('the watchdog', async () => (await machine.journal(unit)).includes('Watchdog timeout'))
    await ready()
  })

  test('keeps what was configured through an upgrade, and restarts nothing', async () => {
    const later = await renumbered(built, { folder, version: '99.0' })
    const pid = await mainPid()
    const before = await machine.must('cat /etc/whitehole/node.yaml /etc/whitehole/database.password')
    expect(await machine.must(`dpkg -i ${await machine.give(later)} 2>&1`)).toContain(
      'still runs the former version: systemctl restart whitehole-node',
    )
    expect(await machine.must('cat /etc/whitehole/node.yaml /etc/whitehole/database.password')).toBe(before)
    expect(await machine.must('stat -c "%U:%G %a" /etc/whitehole/node.yaml')).toBe('root:whitehole 640\n')
    expect(await mainPid()).toBe(pid)
    await machine.must(`systemctl restart ${unit}`)
    await ready()
    // And back.
    await machine.must(`dpkg -i /given/${basename(built)}`)
    await machine.must(`systemctl restart ${unit}`)
    await ready()
  })

  test('stops in order, and says so in the codes of LSB, as a service and as a script', async () => {
    await machine.must(`systemctl stop ${unit}`)
    expect(await machine.must(`systemctl show -P Result ${unit}`)).toBe('success\n')
    expect((await machine.run(`systemctl status ${unit}`)).code).toBe(3)
    expect(await machine.journal(unit)).toMatch(/"stopped"/)
    const codes: Record<string, number> = {}
    const script = async (action: string, as = action): Promise<void> => {
      codes[as] = (await machine.run(`sh /etc/init.d/whitehole-node ${action}`)).code
    }
    await script('status', 'status, not running')
    await script('start')
    await script('start', 'start again')
    await script('status')
    await script('reload')
    await script('restart')
    await machine.must('kill -9 $(cat /run/whitehole-node.pid)')
    await until('its end', async () => (await machine.run('pgrep -f "[w]hitehole node"')).code !== 0)
    await script('status', 'status, dead')
    await script('start', 'start after a death')
    await script('stop')
    await script('stop', 'stop again')
    await script('nonsense')
    await machine.must('mv /etc/whitehole/node.yaml /tmp/away')
    await script('start', 'start without a configuration')
    await machine.must('mv /tmp/away /etc/whitehole/node.yaml')
    expect(codes).toEqual({
      'status, not running': 3,
      start: 0,
      'start again': 0,
      status: 0,
      reload: 0,
      restart: 0,
      'status, dead': 1,
      'start after a death': 0,
      stop: 0,
      'stop again': 0,
      nonsense: 2,
      'start without a configuration': 6,
    })
  })

  test('is as closed as systemd can tell, and its units say nothing wrong', async () => {
    for (const name of ['node', 'monitor', 'memcached']) {
      const verified = await machine.run(
        `systemd-analyze verify --man=no /usr/lib/systemd/system/whitehole-${name}.service`,
      )
      expect(verified).toEqual({ code: 0, stdout: '', stderr: '' })
      const exposure = await machine.must(`systemd-analyze security --no-pager whitehole-${name}.service | tail -1`)
      expect(Number(/: ([\d.]+) /.exec(exposure)?.[1])).toBeLessThan(3)
    }
  })

  test('stops what runs when it is removed, and leaves nothing but the account when it is purged', async () => {
    await machine.must(`systemctl start ${unit}`)
    await machine.must('dpkg -r whitehole')
    expect((await machine.run('pgrep -f "[w]hitehole node"')).code).toBe(1)
    expect((await machine.run('ls /etc/whitehole/node.yaml /etc/whitehole/database.password')).code).toBe(0)
    await machine.must('dpkg -P whitehole')
    const left = (await files()).filter((file) => !foreign.includes(file))
    expect(left).toEqual(['/etc/systemd/system/whitehole-node.service.d'])
  })
})

const databaseOptions = `[mariadbd]
plugin-load-add=ha_blackhole
server-id=1
log-bin=binlog
binlog-format=ROW
binlog-annotate-row-events=OFF
gtid-strict-mode=1
innodb-flush-log-at-trx-commit=2
`
