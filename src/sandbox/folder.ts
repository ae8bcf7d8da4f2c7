import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import type { z } from 'zod'
import { SandboxError } from './sandbox-error.ts'
import { type SandboxSettings, sandboxSettingsSchema } from './topology.ts'

export type SecretName = 'replication' | 'relay' | 'node' | 'application' | 'monitor' | 'voters' | 'token'

/** The longest name below the folder is a database's socket, and the kernel takes 107 bytes. */
const folderBytesMax = 107 - '/control.sock'.length

/** Where things are in a sandbox's folder; it is private (0700), since root's socket needs no password. */
export class SandboxFolder {
  readonly path: string

  private constructor(path: string) {
    this.path = path
  }

  /** @throws SandboxError where there is no sandbox */
  static open(path: string): SandboxFolder {
    const folder = new SandboxFolder(resolve(path))
    if (!existsSync(folder.#settingsFile)) {
      throw new SandboxError(
        `${folder.path} holds no sandbox: start one with "whitehole up --dir ${path}", or name another folder with --dir`,
      )
    }
    return new SandboxFolder(realpathSync(path))
  }

  /** Opens it, or makes an empty one. */
  static make(path: string): SandboxFolder {
    const wanted = resolve(path)
    try {
      mkdirSync(wanted, { recursive: true, mode: 0o700 })
    } catch (error) {
      throw new SandboxError(`${wanted} can't be made: ${(error as Error).message}`)
    }
    const real = realpathSync(wanted)
    if (Buffer.byteLength(real) > folderBytesMax) {
      throw new SandboxError(
        `${real} is too long a path: the unix sockets in it would pass the kernel's limit. Choose a folder with at most ${folderBytesMax} bytes with --dir`,
      )
    }
    const folder = new SandboxFolder(real)
    const { mode, uid } = statSync(real)
    if (process.getuid !== undefined && uid !== process.getuid()) {
      throw new SandboxError(`${real} belongs to another user: choose another folder with --dir`)
    }
    if ((mode & 0o077) !== 0) folder.#makePrivate()
    return folder
  }

  get settings(): SandboxSettings | undefined {
    return readJson(this.#settingsFile, sandboxSettingsSchema)
  }

  set settings(settings: SandboxSettings) {
    this.writePrivate(this.#settingsFile, `${JSON.stringify(settings, null, 2)}\n`)
  }

  get controlSocket(): string {
    return join(this.path, 'control.sock')
  }

  get supervisorLog(): string {
    return join(this.path, 'supervisor.log')
  }

  /** The folder of one process: `db1`, `memcached1`, `node1`, `supervisor`. */
  of(processName: string): string {
    return join(this.path, processName)
  }

  databaseSocket(name: string): string {
    return join(this.path, name, 'sock')
  }

  /** Generated once, kept in a file that only the owner reads. */
  secret(name: SecretName): string {
    const file = join(this.path, 'secrets', name)
    if (existsSync(file)) return readFileSync(file, 'utf8').trim()
    mkdirSync(join(this.path, 'secrets'), { recursive: true, mode: 0o700 })
    const password = randomBytes(24).toString('base64url')
    this.writePrivate(file, `${password}\n`)
    return password
  }

  secretFile(name: SecretName): string {
    this.secret(name)
    return join(this.path, 'secrets', name)
  }

  /** Whole or not at all: a crash in between leaves the former content. */
  writePrivate(file: string, text: string): void {
    const fresh = `${file}.${process.pid}.new`
    writeFileSync(fresh, text, { mode: 0o600, flush: true })
    renameSync(fresh, file)
  }

  get #settingsFile(): string {
    return join(this.path, 'sandbox.json')
  }

  /** Never changes the mode of a folder that holds something else. */
  #makePrivate(): void {
    if (existsSync(this.#settingsFile) || readdirSync(this.path).length === 0) return chmodSync(this.path, 0o700)
    throw new SandboxError(
      `${this.path} is open to other users, and a sandbox's folder must be private: chmod 700 ${this.path}, or choose another with --dir`,
    )
  }
}

function readJson<T>(file: string, schema: z.ZodType<T>): T | undefined {
  if (!existsSync(file)) return undefined
  try {
    return schema.parse(JSON.parse(readFileSync(file, 'utf8')))
  } catch (error) {
    throw new SandboxError(`${file} can't be read as this version wrote it: ${(error as Error).message}`)
  }
}
