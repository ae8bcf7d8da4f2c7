import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { SandboxFolder } from '../../../src/sandbox/folder.ts'
import { identify, isAlive, runningIn, writeIdentity } from '../../../src/sandbox/process-identity.ts'

const root = mkdtempSync(join(tmpdir(), 'whitehole-folder-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
const mode = (path: string): number => statSync(path).mode & 0o777

describe("a sandbox's folder", () => {
  test('is made private, with private secrets that stay', () => {
    const folder = SandboxFolder.make(join(root, 'fresh'))
    expect(mode(folder.path)).toBe(0o700)
    const secret = folder.secret('node')
    expect(secret).toMatch(/^[A-Za-z0-9_-]{32}$/)
    expect(folder.secret('node')).toBe(secret)
    expect(folder.secret('monitor')).not.toBe(secret)
    expect(mode(folder.secretFile('node'))).toBe(0o600)
  })

  test('that is empty and open becomes private; one with something in it is refused', () => {
    mkdirSync(join(root, 'open'))
    chmodSync(join(root, 'open'), 0o755)
    expect(mode(SandboxFolder.make(join(root, 'open')).path)).toBe(0o700)
    mkdirSync(join(root, 'used'))
    chmodSync(join(root, 'used'), 0o755)
    writeFileSync(join(root, 'used', 'letter'), '')
    expect(() => SandboxFolder.make(join(root, 'used'))).toThrow(/chmod 700/)
  })

  test('with too long a path for unix sockets is refused with the limit', () => {
    expect(() => SandboxFolder.make(join(root, 'x'.repeat(100)))).toThrow(/too long a path/)
  })

  test('that holds no sandbox says how to make one', () => {
    expect(() => SandboxFolder.open(join(root, 'none'))).toThrow(/holds no sandbox: start one with "whitehole up/)
  })
})

describe('the identity of a process', () => {
  test('finds the living one, and not another that has its pid by now', () => {
    writeIdentity(root, process.pid)
    expect(runningIn(root)?.pid).toBe(process.pid)
    writeFileSync(join(root, 'process.json'), JSON.stringify({ ...identify(process.pid), started: '1' }))
    expect(runningIn(root)).toBeUndefined()
  })

  test('of before the last boot is gone', () => {
    const mine = identify(process.pid)
    if (mine === undefined) throw new Error('this process has no identity')
    expect(isAlive(mine)).toBe(true)
    expect(isAlive({ ...mine, boot: 'another' })).toBe(false)
  })
})
