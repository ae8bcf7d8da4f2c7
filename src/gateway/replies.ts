import type { ReplyForm } from '../wire/memcached/request.ts'

/**
 * Replies of one connection: opened in the order of the requests, finished in any order, sent in the order opened. What is
 * finished within one turn of the event loop goes out in one write.
 */
export class Replies {
  readonly #writer: ReplyWriter
  /** `#queue[#head]` is the oldest that is not finished. */
  #queue: Reply[] = []
  #head = 0
  #text = ''
  #parts: (string | Buffer)[] = []
  #bytes = 0
  #scheduled = false

  constructor(writer: ReplyWriter) {
    this.#writer = writer
  }

  /** Not yet handed to the socket. */
  get bytes(): number {
    return this.#bytes
  }

  /** Opened and not finished, or behind one that is not. */
  get open(): number {
    return this.#queue.length - this.#head
  }

  /**
   * @param heldBytes what its request occupies until it is answered
   */
  begin(form: ReplyForm, heldBytes = 0): Reply {
    const reply = new Reply(this, form, heldBytes)
    this.#queue.push(reply)
    return reply
  }

  /** For a `Reply` alone. */
  onFinished(reply: Reply): void {
    if (this.#queue[this.#head] === reply) {
      do {
        this.#send(this.#queue[this.#head++] as Reply)
      } while (this.#queue[this.#head]?.finished === true)
      // A client that always has something under way never empties it: let go of what is sent.
      if (this.#head === this.#queue.length || this.#head >= 1024) {
        this.#queue = this.#queue.slice(this.#head)
        this.#head = 0
      }
    }
    this.#writer.onReply(reply)
  }

  /** For a `Reply` alone. */
  onCommit(reply: Reply): void {
    if (this.#queue[this.#head] !== reply) return
    reply.committed = true
    this.#send(reply)
  }

  flush = (): void => {
    this.#scheduled = false
    if (this.#bytes === 0) return
    const text = this.#text
    const parts = this.#parts
    const bytes = this.#bytes
    this.#text = ''
    this.#bytes = 0
    if (parts.length > 0) {
      this.#parts = []
      if (text !== '') parts.push(text)
      this.#writer.write(parts, bytes)
    } else {
      this.#writer.writeText(text)
    }
  }

  #send(reply: Reply): void {
    if (reply.bytes === 0) return
    this.#bytes += reply.bytes
    if (reply.parts === undefined) {
      this.#text += reply.text
    } else {
      if (this.#text !== '') this.#parts.push(this.#text)
      this.#text = reply.text
      for (const part of reply.parts) this.#parts.push(part)
    }
    reply.clear()
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(this.flush)
  }
}

/** Where replies go: the session. */
export interface ReplyWriter {
  writeText(text: string): void
  write(parts: readonly (string | Buffer)[], bytes: number): void
  onReply(reply: Reply): void
}

/** Up to here a value is copied into the text around it: cheaper than a segment of its own. */
const inlineBytesMax = 4096

/** One request's reply while it is made. Nothing of it is sent before it is finished, save what is committed. */
export class Reply {
  readonly #replies: Replies
  /** What the dialects write by (dialect.ts). */
  readonly form: ReplyForm
  readonly heldBytes: number
  text = ''
  parts: (string | Buffer)[] | undefined
  bytes = 0
  finished = false
  /** Something of it has gone out. */
  committed = false

  constructor(replies: Replies, form: ReplyForm, heldBytes: number) {
    this.#replies = replies
    this.form = form
    this.heldBytes = heldBytes
  }

  /** Text with its line ends. */
  add(text: string): void {
    this.text += text
    this.bytes += text.length
  }

  /** @param value as text: a character a byte */
  addValue(value: Buffer | string): void {
    if (typeof value === 'string') return this.add(value)
    this.bytes += value.length
    if (value.length <= inlineBytesMax) {
      this.text += value.toString('latin1')
      return
    }
    this.parts ??= []
    this.parts.push(this.text, value)
    this.text = ''
  }

  /** Takes back what is not committed. */
  clear(): void {
    this.text = ''
    this.parts = undefined
    this.bytes = 0
  }

  /** Sends what is there so far, where nothing older is unanswered: it can't be taken back any more. */
  commit(): void {
    this.#replies.onCommit(this)
  }

  finish(): void {
    if (this.finished) return
    this.finished = true
    // `noreply` silences everything; the other dialects know what to keep to themselves.
    if (this.form.dialect === 'text' && this.form.quiet) this.clear()
    this.#replies.onFinished(this)
  }

  /** The one line is the whole reply. */
  answer(line: string): void {
    this.clear()
    this.add(`${line}\r\n`)
    this.finish()
  }
}
