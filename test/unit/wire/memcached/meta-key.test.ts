import { describe, expect, it } from 'vitest'
import { composeItemKey, keyFromBytes } from '../../../../src/domain/key.ts'
import { formatClassicGet, formatMetaGet, metaKey } from '../../../../src/wire/memcached/meta-key.ts'

describe('keys of commands to memcached', () => {
  it('go as they are where the protocol allows it', () => {
    const key = composeItemKey('default', keyFromBytes(Buffer.from('a')))
    expect(formatClassicGet(key)).toBe('gets default:a\r\n')
    expect(formatMetaGet(key)).toBe('mg default:a v f c\r\n')
  })

  it('go as base64 where a byte would end them', () => {
    const key = composeItemKey('default', keyFromBytes(Buffer.from('a b')))
    for (const format of [formatClassicGet, formatMetaGet]) {
      expect(format(key)).toBe(`mg ${Buffer.from('default:a b').toString('base64')} v f c b\r\n`)
    }
    expect(metaKey(key)).toEqual({ text: Buffer.from('default:a b').toString('base64'), binary: true })
  })

  it('never need more than the 250 bytes that memcached takes, base64 included', () => {
    for (let length = 1; length <= 250; length++) {
      const key = composeItemKey('default', keyFromBytes(Buffer.alloc(length, 0)))
      expect(metaKey(key).text.length).toBeLessThanOrEqual(250)
    }
  })
})
