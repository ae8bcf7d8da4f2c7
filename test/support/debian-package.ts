import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { removeFolder, temporaryFolder } from './processes.ts'

const run = promisify(execFile)
const checkout = fileURLToPath(new URL('../..', import.meta.url))
const sources = ['bin', 'docs', 'packaging', 'scripts', 'sql', 'src', 'package.json', 'package-lock.json', 'README.md']

/** $1 the file, $2 a folder to work in. Former ones are of no more use. */
const make = `set -e
[ ! -e "$1" ] || exit 0
sh scripts/deb.sh "$2"
find "$(dirname "$1")" -name '*.deb' -mmin +1440 -delete
mv "$2"/*.deb "$1.new"
mv "$1.new" "$1"`

/**
 * The package of what is checked out. Making it takes a quarter of a minute, so it is kept below the folder of the npm packages until
 * something of it changes, and is made once where several tests want it at the same time.
 */
export async function debianPackage(): Promise<string> {
  const kept = join(checkout, 'node_modules/.cache/whitehole')
  await mkdir(kept, { recursive: true })
  const file = join(kept, `whitehole_${fingerprint()}_all.deb`)
  const folder = await temporaryFolder()
  try {
    // Not compressed: it is unpacked a moment later.
    const env = { ...process.env, DPKG_DEB_COMPRESSOR_TYPE: 'none' }
    await run('flock', [join(kept, 'lock'), 'sh', '-c', make, 'sh', file, folder], { cwd: checkout, env })
  } finally {
    await removeFolder(folder)
  }
  return file
}

/** The same package as a later version. */
export async function renumbered(
  built: string,
  { folder, version }: { folder: string; version: string },
): Promise<string> {
  const tree = join(folder, 'tree')
  const file = join(folder, `whitehole_${version}_all.deb`)
  await run('dpkg-deb', ['-R', built, tree])
  await run('sed', ['-i', `s/^Version: .*/Version: ${version}/`, join(tree, 'DEBIAN/control')])
  await run('dpkg-deb', ['--root-owner-group', '-Znone', '-b', tree, file])
  return file
}

function fingerprint(): string {
  const hash = createHash('sha256')
  const add = (path: string): void => {
    const full = join(checkout, path)
    if (statSync(full).isDirectory()) {
      for (const name of readdirSync(full).toSorted()) add(join(path, name))
    } else hash.update(`${path}\n`).update(readFileSync(full))
  }
  for (const path of sources) add(path)
  return hash.digest('hex').slice(0, 16)
}
