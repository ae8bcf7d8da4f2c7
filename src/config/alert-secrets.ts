import { resolve } from 'node:path'
import { WhiteholeError } from '../domain/errors.ts'
import type { AlertsConfig } from './alerts-config.ts'
import { readSecretFile } from './secret-file.ts'

export interface WebhookSecrets {
  readonly secret: string | undefined
  readonly headers: Readonly<Record<string, string>>
}

/**
 * Reads the files that the configuration names, once, at the start.
 * @param folder of the configuration: relative paths start there
 * @throws WhiteholeError `bad-configuration` with the path of the key
 */
export function readAlertSecrets(config: AlertsConfig, folder: string): WebhookSecrets[] {
  return config.webhooks.map(({ secretFile, headersFile }, index) => {
    const key = `alerts.webhooks[${index}]`
    return {
      secret: secretFile === undefined ? undefined : readSecretFile(resolve(folder, secretFile), `${key}.secretFile`),
      headers: headersFile === undefined ? {} : readHeaders(resolve(folder, headersFile), `${key}.headersFile`),
    }
  })
}

/** What we say ourselves; and what would break the request. */
const refused = /^(content-type|content-length|transfer-encoding|connection|host|whitehole-.*)$/i

function readHeaders(file: string, key: string): Record<string, string> {
  const lines = readSecretFile(file, key).split(/\r?\n/)
  return Object.fromEntries(
    lines
      .filter((line) => line.trim() !== '')
      .map((line) => {
        const match = /^([A-Za-z0-9-]{1,64}):\s*([\u0020-\u007E]+)$/.exec(line)
        if (match === null || refused.test(match[1] ?? '')) {
          // Not the line itself: it may hold a token.
          throw new WhiteholeError(
            'bad-configuration',
            `${key}: ${file} has a line that is no \`Name: value\`, or names a header that may not be set`,
          )
        }
        return [match[1] ?? '', match[2] ?? '']
      }),
  )
}
