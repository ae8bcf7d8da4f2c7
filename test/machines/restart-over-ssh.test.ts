import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GuidedMachines } from '../support/guided-machines.ts'
import { guideSteps } from '../support/install-guide.ts'
import { whyNoMachines } from '../support/machine.ts'
import { until } from '../support/processes.ts'

const sshd = process.env['WHITEHOLE_SSHD'] ?? '/usr/sbin/sshd'
const isWanted = process.env['WHITEHOLE_MACHINES'] === 'all' && whyNoMachines() === undefined
if (isWanted && !existsSync(sshd)) console.warn(`not tried: a database restarted over ssh (${sshd} is not there)`)

const on = (host: number) => [{ network: 'caches', device: 'eth0', address: `10.200.5.${host}/24` }]
const both = ['machine1', 'machine2']

describe.runIf(isWanted && existsSync(sshd))('with a `restartCommand` over ssh, as docs/INSTALL.md has it,', () => {
  let machines: GuidedMachines
  beforeAll(async () => {
    machines = await GuidedMachines.boot({ machine1: on(10), machine2: on(20) })
    await machines.follow('Two machines')
    for (const name of both) {
      const machine = machines.at(name)
      const program = await machine.give(sshd)
      await machine.must('getent passwd sshd >/dev/null || useradd --system --no-create-home --home-dir /run/sshd sshd')
      await machine.must('mkdir -p /run/sshd /etc/ssh && ssh-keygen -A && touch /etc/ssh/sshd_config')
      await machine.must(`chmod 755 ${program} && systemd-run --quiet --unit=sshd ${program} -D -e`)
    }
    await machines.follow('Restarts over ssh')
  }, 200_000)
  afterAll(() => machines?.remove())

  const cluster = async (): Promise<string> =>
    (await machines.at('machine1').run('curl -s http://10.200.5.10:22100/v1/cluster')).stdout

  const paired = (primary: string): Promise<unknown> =>
    until(
      `${primary} to be the primary of a pair`,
      async () => {
        const text = await cluster()
        const { mode, databases } = JSON.parse(text) as { mode: string; databases: { name: string; role: string }[] }
        if (mode === 'paired' && databases.find(({ role }) => role === 'primary')?.name === primary) return true
        throw new Error(text)
      },
      60_000,
    )

  test(
    'a primary that was cut off with what nobody acknowledged becomes the standby by itself',
    { timeout: 200_000 },
    async () => {
      // machine1 has two of three votes: the primary has to be at the other one to be replaced.
      await machines.at('machine1').must('systemctl kill --kill-whom=main --signal=KILL mariadb')
      await paired('machine2')
      await machines.cut('machine2')
      try {
        // It waits for its standby, for ever.
        await machines
          .at('machine2')
          .must("systemd-run --quiet mariadb memcached -e \"CALL set_key(ns('default'), 'unacknowledged', 'x', 0)\"")
        await until('machine1 to take over', async () => (await cluster()).includes('"mode":"solo"'), 60_000)
      } finally {
        await machines.mend('machine2')
      }
      await paired('machine1')
      const log = await machines.at('machine2').must('journalctl --no-pager -o cat -u sshd')
      expect(log).toContain('Accepted publickey for root')
      expect((await machines.at('machine1').run('memccat --servers=10.200.5.10 unacknowledged')).stdout).toBe('')
    },
  )
})

test.runIf(isWanted)('docs/INSTALL.md tells how monitors restart a database over ssh', () => {
  expect(guideSteps('Restarts over ssh').length).toBeGreaterThan(0)
})
