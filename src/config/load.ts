import { readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { parseDocument } from 'yaml'
import type { z } from 'zod'
import { WhiteholeError } from '../domain/errors.ts'
import { readAlertSecrets, type WebhookSecrets } from './alert-secrets.ts'
import { type ClusterConfig, clusterConfigSchema } from './cluster-config.ts'
import { type MonitorConfig, monitorConfigSchema } from './monitor-config.ts'
import { type NodeConfig, nodeConfigSchema } from './node-config.ts'

/** A node's configuration as the daemon uses it: complete, frozen, with the password read. */
export type LoadedNodeConfig = Omit<NodeConfig, 'databases'> & {
  readonly databases: Omit<NodeConfig['databases'], 'password' | 'passwordFile'> & { readonly password: string }
  /** Shared by all voters; there is one where `voter` is given. */
  readonly voterSecret?: string | undefined
}

/** A monitor's configuration with its secrets read; undefined where the file names none. */
export type LoadedMonitorConfig = MonitorConfig & {
  readonly secrets: {
    readonly password: string
    readonly replicationPassword: string | undefined
    readonly relayPassword: string | undefined
    readonly voters: string | undefined
    readonly token: string | undefined
    /** Of each of `alerts.webhooks`. */
    readonly webhooks: readonly WebhookSecrets[]
  }
}

/** @throws WhiteholeError `bad-configuration`, as `loadNodeConfig` */
export function loadMonitorConfig(file: string): LoadedMonitorConfig {
  const config = parseConfig(monitorConfigSchema, readText(file, 'the configuration'), file)
  const secret = (path: string | undefined, key: string): string | undefined =>
    path === undefined ? undefined : readSecret(file, path, key)
  return deepFreeze({
    ...config,
    secrets: {
      password: readSecret(file, config.databases.passwordFile, 'databases.passwordFile'),
      replicationPassword: secret(config.databases.replicationPasswordFile, 'databases.replicationPasswordFile'),
      relayPassword: secret(config.databases.relayPasswordFile, 'databases.relayPasswordFile'),
      voters: secret(config.secretFile, 'secretFile'),
      token: secret(config.tokenFile, 'tokenFile'),
      webhooks: readAlertSecrets(config.alerts, dirname(file)),
    },
  })
}

/**
 * Reads and checks the file once.
 * @throws WhiteholeError `bad-configuration` with one line for each wrong key: its path and what to do
 */
export function loadNodeConfig(file: string): LoadedNodeConfig {
  const text = readText(file, 'the configuration')
  const config = parseNodeConfig(text, file)
  const { voter } = config
  const voterSecret = voter === undefined ? undefined : readSecret(file, voter.secretFile, 'voter.secretFile')
  const { password: inline, passwordFile, ...databases } = config.databases
  if (inline !== undefined) refuseOpenFile(file, 'It holds a password')
  const password = inline ?? readSecret(file, passwordFile ?? '', 'databases.passwordFile')
  return deepFreeze({ ...config, databases: { ...databases, password }, voterSecret })
}

/** @param file named in errors alone */
export function parseNodeConfig(text: string, file: string): NodeConfig {
  return parseConfig(nodeConfigSchema, text, file)
}

/** @param file named in errors alone */
export function parseMonitorConfig(text: string, file: string): MonitorConfig {
  return parseConfig(monitorConfigSchema, text, file)
}

/** @throws WhiteholeError `bad-configuration` */
export function loadClusterConfig(file: string): ClusterConfig {
  return parseClusterConfig(readText(file, 'the cluster file'), file)
}

export function parseClusterConfig(text: string, file: string): ClusterConfig {
  return parseConfig(clusterConfigSchema, text, file)
}

function parseConfig<T>(schema: z.ZodType<T>, text: string, file: string): T {
  const document = parseDocument(text, { prettyErrors: true })
  const [error] = document.errors
  if (error !== undefined) throw bad(file, [`it is no YAML: ${error.message.trim()}`])
  const value: unknown = document.toJS() ?? {}
  const result = schema.safeParse(value)
  if (result.success) return deepFreeze(result.data)
  throw bad(
    file,
    result.error.issues.map((issue) => explain(issue, value)),
  )
}

function bad(file: string, problems: readonly string[]): WhiteholeError {
  const [first = ''] = problems
  const text = problems.length === 1 ? first : problems.map((problem) => `\n  ${problem}`).join('')
  return new WhiteholeError('bad-configuration', `${file}: ${text}`)
}

function explain(issue: z.core.$ZodIssue, value: unknown): string {
  const path = formatPath(issue.path)
  if (issue.code === 'unrecognized_keys') {
    const keys = issue.keys.map((key) => formatPath([...issue.path, key]))
    return `${keys.join(', ')}: unknown key; docs/CONFIGURATION.md lists those that exist`
  }
  if (issue.code === 'invalid_type' && valueAt(value, issue.path) === undefined) {
    return `${path || 'the file'}: is missing (${issue.expected} expected)`
  }
  return `${path || 'the file'}: ${issue.message}`
}

function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`
    return text === '' ? String(part) : `${text}.${String(part)}`
  }, '')
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (at, part) => (typeof at === 'object' && at !== null ? (at as Record<PropertyKey, unknown>)[part] : undefined),
    value,
  )
}

function readText(file: string, what: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new WhiteholeError('bad-configuration', `${what} can't be read: ${(error as Error).message}`)
  }
}

/** @param key of the configuration that names it */
function readSecret(configuration: string, path: string, key: string): string {
  const file = resolve(dirname(configuration), path)
  const text = readText(file, key)
  refuseOpenFile(file, 'It holds a password')
  const secret = text.replace(/\r?\n$/, '')
  if (secret === '') throw new WhiteholeError('bad-configuration', `${key}: ${file} is empty`)
  return secret
}

/** A group may read it (packages do that), everybody may not. */
function refuseOpenFile(file: string, why: string): void {
  if ((statSync(file).mode & 0o007) === 0) return
  throw new WhiteholeError(
    'bad-configuration',
    `${file} is open to every user of this machine. ${why}: chmod 600 ${file}`,
  )
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const part of Object.values(value)) deepFreeze(part)
  }
  return value
}
