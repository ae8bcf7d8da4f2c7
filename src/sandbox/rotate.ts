import { renameSync, statSync } from 'node:fs'

const logBytesMax = 16 * 1024 * 1024

/** Before a program opens its log: one that has grown large makes room, and replaces the one before it. */
export function rotate(file: string): void {
  try {
    if (statSync(file).size > logBytesMax) renameSync(file, `${file}.1`)
  } catch {
    // There is none yet.
  }
}
