import { readFileSync, statSync } from 'node:fs'
import { WhiteholeError } from '../domain/errors.ts'

/**
 * @param key of the configuration, for errors
 * @throws WhiteholeError `bad-configuration` where it can't be read, is empty, or open to everybody
 */
export function readSecretFile(file: string, key: string): string {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new WhiteholeError('bad-configuration', `${key} can't be read: ${(error as Error).message}`)
  }
  refuseOpenFile(file, 'It holds a secret')
  const secret = text.replace(/\r?\n$/, '')
  if (secret === '') throw new WhiteholeError('bad-configuration', `${key}: ${file} is empty`)
  return secret
}

/** A group may read it (packages do that), everybody may not. */
export function refuseOpenFile(file: string, why: string): void {
  if ((statSync(file).mode & 0o007) === 0) return
  throw new WhiteholeError(
    'bad-configuration',
    `${file} is open to every user of this machine. ${why}: chmod 600 ${file}`,
  )
}
