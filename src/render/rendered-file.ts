/** A file of one machine, made from cluster.yaml. */
export interface RenderedFile {
  /** Where it belongs on that machine. */
  readonly path: string
  readonly text: string
  readonly mode: 0o644 | 0o640 | 0o755
}

/** The first line of every file that has comments. */
export function madeFrom(what: string): string {
  return `# Made by \`whitehole render ${what}\` from cluster.yaml: change it there.`
}
