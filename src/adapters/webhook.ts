import { createHmac, timingSafeEqual } from 'node:crypto'

export interface WebhookTarget {
  readonly url: string
  /** Undefined: not signed. */
  readonly secret: string | undefined
  readonly headers: Readonly<Record<string, string>>
  readonly timeoutMilliseconds: number
}

export const signatureHeader = 'whitehole-signature'
export const timestampHeader = 'whitehole-timestamp'
export const eventIdHeader = 'whitehole-event-id'

/**
 * POSTs JSON. The signature covers the time too (`HMAC-SHA256(secret, "<timestamp>.<body>")`, hexadecimal): a receiver that refuses
 * old timestamps can't be fed a delivery again by whoever has seen one. A new time and signature at each try, the same id and body.
 * Redirects are not followed: they would carry the body to somebody else.
 *
 * @throws Error where the answer is not 2xx, or does not come in time
 */
export async function postWebhook(
  target: WebhookTarget,
  { id, body }: { readonly id: string; readonly body: string },
  signal: AbortSignal,
): Promise<void> {
  const timestamp = String(Math.floor(Date.now() / 1000))
  const answer = await fetch(target.url, {
    method: 'POST',
    body,
    redirect: 'error',
    headers: {
      ...target.headers,
      'content-type': 'application/json',
      'user-agent': 'whitehole',
      [eventIdHeader]: id,
      [timestampHeader]: timestamp,
      ...(target.secret === undefined ? {} : { [signatureHeader]: `v1=${sign(target.secret, timestamp, body)}` }),
    },
    signal: AbortSignal.any([signal, AbortSignal.timeout(target.timeoutMilliseconds)]),
  })
  // Not read: an answer without an end must not hold anything up.
  await answer.body?.cancel()
  if (!answer.ok) throw new Error(`the webhook answered ${answer.status}`)
}

export function sign(secret: string, timestamp: string, body: string): string {
  return createHmac('sha256', secret).update(`${timestamp}.${body}`, 'utf8').digest('hex')
}

/** What a receiver does: for receivers in Node, and for our tests. */
export function verifySignature(
  secret: string,
  given: { readonly timestamp: string; readonly body: string; readonly signature: string },
): boolean {
  const expected = Buffer.from(`v1=${sign(secret, given.timestamp, given.body)}`)
  const found = Buffer.from(given.signature)
  return found.length === expected.length && timingSafeEqual(found, expected)
}
