import { KeyvMemcache } from '@keyv/memcache'
import * as suite from '@keyv/test-suite'
import { Keyv } from 'keyv'
import * as vitest from 'vitest'
import { World } from '../support/world.ts'

const { afterAll, beforeAll, describe } = vitest

/**
 * `@keyv/test-suite` whole. Its "namespaced clear only clears current namespace" fails on every memcached, whose `flush_all` knows no
 * namespaces. With a listener for each it holds.
 */
describe('keyv over memjs', () => {
  let world: World
  const clients: KeyvMemcache[] = []
  const storeAt = (port: number): KeyvMemcache => {
    const store = new KeyvMemcache(`127.0.0.1:${port}`)
    // Each Keyv listens for its errors.
    store.setMaxListeners(0)
    clients.push(store)
    return store
  }
  beforeAll(async () => {
    world = await World.start({ topology: 'single', nodes: 1 })
  })
  afterAll(async () => {
    for (const { client } of clients) client.close()
    await world?.remove()
  })

  describe('of one namespace', () => {
    // One store for all: the suite sets options of it.
    let shared: KeyvMemcache | undefined
    const store = (): KeyvMemcache => (shared ??= storeAt(world.node(1).ports.main))
    suite.keyvApiTests(vitest, Keyv, store)
    suite.keyvValueTests(vitest, Keyv, store)
  })

  describe('of two namespaces with a listener each', () => {
    // The suite asks for two stores at a time: first for its one namespace, then for its other.
    let asked = 0
    suite.keyvNamespaceTest(vitest, Keyv, () => {
      const { main, sessions } = world.node(1).ports
      return storeAt(asked++ % 2 === 0 ? main : sessions)
    })
  })
})
