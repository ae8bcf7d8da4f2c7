import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { postWebhook, verifySignature } from '../../../src/adapters/webhook.ts'
import { webhookBody } from '../../../src/alerts/webhook-body.ts'
import { announcement } from '../../support/announcements.ts'

const closers: (() => void)[] = []
afterEach(() => closers.splice(0).forEach((close) => close()))

async function receiver(
  answer: (request: IncomingMessage, response: ServerResponse, body: string) => void,
): Promise<string> {
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => answer(request, response, body))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`
}

const never = new AbortController().signal
const given = { secret: 'key', headers: { authorization: 'Bearer t' }, timeoutMilliseconds: 5000 }

describe('a webhook', () => {
  test('gets a body of a known shape, signed with its time', async () => {
    const one = announcement()
    const got = new Promise<{ headers: IncomingMessage['headers']; body: string }>((resolve, reject) => {
      receiver((request, response, body) => {
        response.end('ok')
        resolve({ headers: request.headers, body })
      })
        .then((url) => postWebhook({ ...given, url }, { id: one.id, body: webhookBody(one) }, never))
        .catch(reject)
    })
    const { headers, body } = await got
    expect(JSON.parse(body)).toEqual({ schema: 1, ...one })
    const timestamp = String(headers['whitehole-timestamp'])
    const signature = String(headers['whitehole-signature'])
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      'whitehole-event-id': one.id,
      authorization: 'Bearer t',
    })
    expect(Math.abs(Number(timestamp) - Date.now() / 1000)).toBeLessThan(60)
    expect(verifySignature('key', { timestamp, body, signature })).toBe(true)
    expect(verifySignature('key', { timestamp, body: `${body} `, signature })).toBe(false)
    expect(verifySignature('key', { timestamp: String(Number(timestamp) + 1), body, signature })).toBe(false)
    expect(verifySignature('other', { timestamp, body, signature })).toBe(false)
  })

  // printf '%s' '1700000000.{"schema":1}' | openssl dgst -sha256 -hmac key
  test('is signed as anybody else would do it', () => {
    const signature = 'v1=5b004453be83a053657f172ebe0e3835230360b0cf349c7e5ce2ee1aa0f5f3ac'
    expect(verifySignature('key', { timestamp: '1700000000', body: '{"schema":1}', signature })).toBe(true)
  })

  test('that answers with an error, a redirect or not at all has not taken it', async () => {
    const post = (url: string, timeoutMilliseconds = 5000) =>
      postWebhook({ ...given, url, timeoutMilliseconds }, { id: 'x', body: '{}' }, never)
    await expect(post(await receiver((_, response) => response.writeHead(500).end()))).rejects.toThrow(/answered 500/)
    let followed = false
    const other = await receiver((_, response) => {
      followed = true
      response.end()
    })
    await expect(
      post(await receiver((_, response) => response.writeHead(307, { location: other }).end())),
    ).rejects.toThrow()
    expect(followed).toBe(false)
    await expect(post(await receiver(() => {}), 100)).rejects.toThrow()
    await expect(post('http://127.0.0.1:1/')).rejects.toThrow()
  })

  test('whose answer has no end holds nothing up', async () => {
    const url = await receiver((_, response) => {
      response.writeHead(200)
      response.write('x'.repeat(1000))
    })
    await postWebhook({ ...given, url }, { id: 'x', body: '{}' }, never)
  })
})
