import { afterEach, describe, expect, test } from 'vitest'
import { GuidedMachines } from '../support/guided-machines.ts'
import { whyNoMachines } from '../support/machine.ts'

const on = (host: number) => [{ network: 'caches', device: 'eth0', address: `10.200.5.${host}/24` }]

/** Under a minute on a machine of its own; packages are unpacked on each of up to three. */
const guideMilliseconds = 300_000

/** Opt-in: `npm run test:machines`. The four machines have a test of their own. */
describe.runIf(process.env['WHITEHOLE_MACHINES'] === 'all' && whyNoMachines() === undefined)(
  'docs/INSTALL.md, followed word by word,',
  () => {
    let machines: GuidedMachines | undefined
    afterEach(() => machines?.remove())

    test('installs one machine', { timeout: guideMilliseconds }, async () => {
      machines = await GuidedMachines.boot({ machine1: on(10) })
      await machines.follow('One machine')
    })

    test('installs two machines', { timeout: guideMilliseconds }, async () => {
      machines = await GuidedMachines.boot({ machine1: on(10), machine2: on(20) })
      await machines.follow('Two machines')
      const doctor = await machines.at('machine1').run('whitehole doctor --cluster /etc/whitehole/cluster.yaml')
      expect(doctor.stdout).toContain('3 votes')
    })

    test('installs a second data centre', { timeout: guideMilliseconds }, async () => {
      const beyond = [{ network: 'caches', device: 'eth0', address: '10.201.5.10/24' }]
      machines = await GuidedMachines.boot({ machine1: on(10), machine2: on(20), machine3: beyond })
      for (const name of ['machine1', 'machine2']) await machines.at(name).must('ip route add 10.201.5.0/24 dev eth0')
      await machines.at('machine3').must('ip route add 10.200.5.0/24 dev eth0')
      await machines.follow('A second data centre')
    })

    test('installs three machines', { timeout: guideMilliseconds }, async () => {
      machines = await GuidedMachines.boot({ machine1: on(10), machine2: on(20), machine3: on(30) })
      await machines.follow('Three machines')
      const doctor = await machines.at('machine3').run('whitehole doctor --cluster /etc/whitehole/cluster.yaml')
      expect(doctor.stdout).toContain('nothing to change')
    })
  },
)
