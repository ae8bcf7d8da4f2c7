import { describe, expect, test } from 'vitest'
import { relayStories } from '../support/datacenter-stories.ts'
import { until } from '../support/processes.ts'

describe('beyond a whole relay', () => {
  const datacenters = relayStories(false)

  test('`local` waits until it is applied here; `committed` for the primary alone, save with a refusal', async () => {
    const beyond = datacenters()
    const [local, committed] = [beyond.node(1), beyond.node(2)]
    expect(await committed.set('k', 'old')).toBe('STORED\r\n')
    for (const node of [local, committed]) await until('it to arrive', async () => (await node.get('k')) === 'old')
    // The log alone stands still.
    await beyond.relay.query('STOP SLAVE SQL_THREAD')
    expect(await committed.set('k', 'new')).toBe('STORED\r\n')
    expect(await committed.get('k')).toBe('old')
    await until('home to have it', async () => (await beyond.home.get('k')) === 'new')
    expect(await local.set('l', 'x')).toMatch(/^SERVER_ERROR outcome unknown/)
    // Its item is nowhere here, and must not be taken for an evicted one.
    expect(await beyond.home.set('lock', 'held')).toBe('STORED\r\n')
    await beyond.home.memcached.ask('delete default:lock\r\n', /\r\n$/)
    expect(await committed.ask('add lock 0 0 6\r\nstolen\r\n')).toMatch(/^SERVER_ERROR/)
    await beyond.relay.query('START SLAVE SQL_THREAD')
    await until('it to be applied', async () => (await committed.get('k')) === 'new')
    await until(
      'the refusal to be told',
      async () => (await committed.ask('add lock 0 0 6\r\nstolen\r\n')) === 'NOT_STORED\r\n',
    )
    expect(await local.get('lock')).toBe('held')
    expect(await local.set('l', 'y')).toBe('STORED\r\n')
    expect(await local.get('l')).toBe('y')
  })

  test('a relay that is down is replaced by the standby at home, and followed again once it is back', async () => {
    const beyond = datacenters()
    const node = beyond.node(1)
    await beyond.relay.stop('SIGKILL')
    await until('writes to be acknowledged', async () => (await node.set('k', 'without')) === 'STORED\r\n')
    expect(await node.get('k')).toBe('without')
    await beyond.relay.launch()
    await beyond.relay.query('START SLAVE')
    await until('the relay to be followed', async () => (await node.status()).source === beyond.relay.address)
    expect(await node.set('k', 'again')).toBe('STORED\r\n')
    expect(await node.get('k')).toBe('again')
  })
})
