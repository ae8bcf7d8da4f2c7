import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { WhiteholeError } from '../../../src/domain/errors.ts'
import type { Key } from '../../../src/domain/key.ts'
import { Client } from '../../support/client.ts'
import { MemoryGateway } from '../../support/memory-gateway.ts'
import { play } from '../../support/transcripts.ts'

describe.each([{ itemCasIsVersion: true }, { itemCasIsVersion: false }])('with $itemCasIsVersion', (node) => {
  let gateway: MemoryGateway
  beforeEach(async () => {
    gateway = await MemoryGateway.start({ node })
  })
  afterEach(() => gateway.stop())

  async function ask(text: string, port = gateway.port): Promise<string> {
    return (await play(port, { send: Buffer.from(text, 'latin1'), closed: false })).reply
  }

  /** Of the first reply that tells one. */
  async function tokenOf(text: string): Promise<string> {
    return / c(\d+)/.exec(await ask(text))?.[1] ?? ''
  }

  describe('leases', () => {
    it('are told a token that no version is, and filled with it once', async () => {
      const token = await tokenOf('mg a N30 c v\r\n')
      expect(BigInt(token)).toBeGreaterThanOrEqual(1n << 63n)
      expect(await ask(`ms a 1 C${token}\r\n1\r\nms a 1 C${token}\r\n2\r\nmg a v\r\n`)).toBe(
        'HD\r\nEX\r\nVA 1\r\n1\r\n',
      )
      expect(gateway.node.submitted[1]).toMatchObject({ kind: 'set', seen: { version: undefined } })
      expect(gateway.node.submitted[1]).not.toHaveProperty('compare')
    })

    it('are not filled once they were deleted, flushed or filled by others', async () => {
      for (const change of ['delete a\r\n', 'flush_all\r\n', 'set a 0 0 1\r\n9\r\n']) {
        const token = await tokenOf('mg a N30 c v\r\n')
        await ask(change)
        expect(await ask(`ms a 1 C${token}\r\n1\r\n`)).toBe(change.startsWith('set') ? 'EX\r\n' : 'NF\r\n')
        await ask('flush_all\r\n')
      }
    })

    it('never enter the log', async () => {
      expect(await ask('mg a N30 v\r\nmg a v\r\nmg b R30\r\n')).toBe('VA 0 W\r\n\r\nVA 0 Z\r\n\r\nEN\r\n')
      expect(gateway.node.submitted).toEqual([])
      expect(gateway.node.liveRow(1001, 'a' as Key)).toBeUndefined()
    })

    it('are deleted with their token', async () => {
      const token = await tokenOf('mg a N30 c v\r\n')
      expect(await ask(`md a C1\r\nmd a C${token}\r\nmg a v\r\n`)).toBe('NF\r\nHD\r\nEN\r\n')
    })

    it('are won by one of the requests of one pipeline, the first', async () => {
      expect(await ask('mg a N30 v\r\n'.repeat(3))).toBe(`VA 0 W\r\n\r\n${'VA 0 Z\r\n\r\n'.repeat(2)}`)
    })
  })

  it('tells the time of a count as it was before what is pipelined behind it', async () => {
    expect(await ask('set n 0 100 1\r\n1\r\nma n t\r\nma n T0 t\r\n')).toMatch(/^STORED\r\nHD t(99|100)\r\nHD t-1\r\n$/)
  })

  it('tells the size of what was joined as it was before what is pipelined behind it', async () => {
    expect(await ask('ms a 1\r\n1\r\nms a 1 MA s\r\n2\r\nms a 1 MA s\r\n3\r\n')).toBe('HD\r\nHD s2\r\nHD s3\r\n')
  })

  it('keeps the order of joins, counts and stores of one connection', async () => {
    const text =
      'set a 0 0 1\r\n1\r\nappend a 0 0 1\r\n2\r\nincr a 1\r\nprepend a 0 0 1\r\n7\r\nset b 0 0 0\r\n\r\nincr a 1\r\nget a\r\n'
    expect(await ask(text)).toBe('STORED\r\nSTORED\r\n13\r\nSTORED\r\nSTORED\r\n714\r\nVALUE a 0 3\r\n714\r\nEND\r\n')
  })

  it('tells errors whatever q says, and nothing with noreply', async () => {
    gateway.node.writeFailure = new WhiteholeError('not-written', 'no primary')
    const line = 'SERVER_ERROR not written: no database acknowledges writes\r\n'
    expect(
      await ask('ms a 1 q\r\n1\r\nmd a q\r\nma a q\r\nadd a 0 0 1 noreply\r\n1\r\nincr a 1 noreply\r\nmn\r\n'),
    ).toBe(`${line.repeat(3)}MN\r\n`)
  })

  it('refuses reads while the node does not serve, q or not; writes go on', async () => {
    gateway.node.serving = false
    expect(await ask('mg a v q\r\nme a\r\nms a 1\r\n1\r\nma n N0\r\n')).toBe(
      `${'SERVER_ERROR this node is not serving\r\n'.repeat(2)}HD\r\nHD\r\n`,
    )
  })

  it('asks no database for an item without its token', async () => {
    await ask('set a 0 0 1\r\n1\r\n')
    gateway.node.directoryFailure = new WhiteholeError('database-away', 'gone')
    expect(await ask('mg a v t s f h l k O1\r\n')).toBe('VA 1 t-1 s1 f0 h0 l0 ka O1\r\n1\r\n')
    const answer = await ask('mg a c v\r\ngets a\r\n')
    if (node.itemCasIsVersion) expect(answer).toMatch(/^VA 1 c\d+\r\n1\r\nVALUE a 0 1 \d+\r\n1\r\nEND\r\n$/)
    else expect(answer).toBe('SERVER_ERROR no database answers\r\n'.repeat(2))
  })

  it('takes the name of the namespace in front of the key, in base64 too, and gives it back', async () => {
    const key = Buffer.from('sessions:\0x').toString('base64')
    expect(await ask(`ms ${key} 1 b k\r\n1\r\nmg ${key} b k v\r\n`, gateway.prefixPort)).toBe(
      `HD k${key} b\r\nVA 1 k${key} b\r\n1\r\n`,
    )
    expect(await ask('mg AHg= b v\r\n', gateway.sessionsPort)).toBe('VA 1\r\n1\r\n')
    expect(await ask('mg nope:a v q\r\nms nope:a 7\r\nversion\r\nma a\r\nme a\r\n', gateway.prefixPort)).toBe(
      'CLIENT_ERROR unknown namespace\r\n'.repeat(4),
    )
  })

  it('counts what conditions, numbers and touches came to', async () => {
    const token = /VALUE a 0 1 (\d+)/.exec(await ask('set a 0 0 1\r\n1\r\ngets a\r\n'))?.[1]
    await ask(`cas a 0 0 1 ${token}\r\n2\r\ncas a 0 0 1 ${token}\r\n3\r\ncas b 0 0 1 1\r\n3\r\n`)
    await ask(
      'incr a 1\r\nincr b 1\r\ndecr a 1\r\ndecr b 1\r\nmd a\r\nmd a\r\nms c 1\r\n1\r\nmg c T9\r\nmg d T9\r\nme c\r\n',
    )
    expect(gateway.counters.of('default')).toMatchObject({
      cas_hits: 1,
      cas_badval: 1,
      cas_misses: 1,
      incr_hits: 1,
      incr_misses: 1,
      decr_hits: 1,
      decr_misses: 1,
      delete_hits: 1,
      delete_misses: 1,
      touch_hits: 1,
      touch_misses: 1,
      cmd_meta: 1,
    })
  })

  describe('listings', () => {
    it('hold the live keys of the namespace alone', async () => {
      await ask('set a 3 100 2\r\nab\r\nset b 0 0 1\r\n1\r\nset ~c 0 0 1\r\n1\r\n')
      await ask('set theirs 0 0 1\r\n1\r\n', gateway.sessionsPort)
      expect(await ask('lru_crawler mgdump all\r\nmn\r\n')).toBe('mg a\r\nmg b\r\nEN\r\nMN\r\n')
      expect(await ask('lru_crawler metadump hash\r\n')).toMatch(/^key=a exp=\d+ .*\nkey=b exp=-1 .*\nEND\r\n$/)
      expect(await ask('stats items\r\n')).toBe('STAT items:1:number 3\r\nEND\r\n')
      await ask('flush_all\r\n')
      expect(await ask('lru_crawler mgdump all\r\nstats cachedump 1 0\r\n')).toBe('EN\r\nEND\r\n')
    })

    it('are refused where no namespace is bound', async () => {
      expect(
        await ask(
          'lru_crawler metadump all\r\nlru_crawler mgdump all\r\nstats cachedump 1 0\r\nmn\r\n',
          gateway.prefixPort,
        ),
      ).toBe(
        'ERROR metadump not allowed\r\nERROR key dump not allowed\r\nCLIENT_ERROR stats cachedump not allowed\r\nMN\r\n',
      )
    })

    it('end in an error while the node does not serve', async () => {
      gateway.node.serving = false
      const line = 'SERVER_ERROR this node is not serving\r\n'
      expect(await ask('lru_crawler mgdump all\r\nstats cachedump 1 0\r\n')).toBe(line.repeat(2))
    })
  })

  it('tells stats per namespace in detail', async () => {
    await ask('set a 0 0 1\r\n1\r\nget a b\r\ndelete a\r\n')
    expect(await ask('stats detail dump\r\n')).toBe('PREFIX default get 2 hit 1 set 1 del 1\r\nEND\r\n')
  })

  it('gives a stale item to one client to fill, others see it meanwhile', async () => {
    const one = await Client.connect(gateway.port)
    const other = await Client.connect(gateway.port)
    try {
      await ask('ms a 1\r\n1\r\nmd a I T30\r\n')
      expect(await one.ask('mg a v\r\n', /1\r\n$/)).toBe('VA 1 X W\r\n1\r\n')
      expect(await other.ask('mg a v\r\n', /1\r\n$/)).toBe('VA 1 Z X\r\n1\r\n')
      expect(await ask('get a\r\n')).toBe('VALUE a 0 1\r\n1\r\nEND\r\n')
      await one.ask('ms a 1\r\n2\r\n', /HD\r\n$/)
      expect(await other.ask('mg a v\r\n', /2\r\n$/)).toBe('VA 1\r\n2\r\n')
    } finally {
      one.close()
      other.close()
    }
  })
})
