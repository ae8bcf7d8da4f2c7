import { entryOverheadBytes, type LogChunk } from './transactions.ts'

/** What has arrived and was not yet fetched. The bound is kept by whoever fills it: it stops reading once `isFull`. */
export class ChunkQueue {
  readonly #bytesMax: number
  #chunks: LogChunk[] = []
  #bytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  get isFull(): boolean {
    return this.#bytes >= this.#bytesMax
  }

  push(chunk: LogChunk): void {
    // Of a run of transactions without anything of ours the last position is enough, and the next chunk's position covers it.
    const previous = this.#chunks.at(-1)
    if (previous !== undefined && isEmpty(previous) && chunk.first && chunk.last) this.#chunks.pop()
    else this.#bytes += entryOverheadBytes
    this.#chunks.push(chunk)
    this.#bytes += chunk.bytes + chunk.entries.length * entryOverheadBytes
  }

  takeAll(): LogChunk[] {
    const chunks = this.#chunks
    this.#chunks = []
    this.#bytes = 0
    return chunks
  }
}

function isEmpty(chunk: LogChunk): boolean {
  return chunk.entries.length === 0 && chunk.first && chunk.last
}
