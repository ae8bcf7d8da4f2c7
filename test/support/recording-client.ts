import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import type { Answer, Change, Operation } from './linearizability.ts'

/** What all clients of a test did, in one order of instants. */
export class History {
  readonly operations: Operation[] = []
  #instant = 0

  now(): number {
    return ++this.#instant
  }
}

/** `meta` tells the token of what it stores; `text` is what most clients speak. */
export type Dialect = 'text' | 'meta'

/** One connection to a node that notes what it asks and is told. Requests may be pipelined; what is unanswered when it ends stays so. */
export class RecordingClient {
  readonly name: string
  readonly #node: number
  readonly #history: History
  readonly #dialect: Dialect
  readonly #socket: Socket
  readonly #waiting: { operation: Operation; resolve: (operation: Operation) => void }[] = []
  #bytes = ''

  private constructor(socket: Socket, given: { node: number; name: string; history: History; dialect: Dialect }) {
    this.#socket = socket
    this.#node = given.node
    this.name = given.name
    this.#history = given.history
    this.#dialect = given.dialect
    socket.on('error', () => {})
    socket.on('close', () => this.#end())
    socket.on('data', (chunk: Buffer) => {
      this.#bytes += chunk.toString('latin1')
      this.#read()
    })
  }

  static async connect(
    port: number,
    given: { node: number; name: string; history: History; dialect: Dialect },
  ): Promise<RecordingClient> {
    const socket = createConnection({ port, host: '127.0.0.1', noDelay: true })
    await once(socket, 'connect')
    return new RecordingClient(socket, given)
  }

  get open(): boolean {
    return !this.#socket.destroyed
  }

  /** Resolves with the answer in it, or without one where the connection ended. */
  async ask(key: string, change: Change): Promise<Operation> {
    const invoked = this.#history.now()
    const operation: Operation = { key, node: this.#node, connection: this.name, change, invoked }
    this.#history.operations.push(operation)
    return new Promise((resolve) => {
      if (this.#socket.destroyed) {
        operation.answer = { kind: 'failed' }
        resolve(operation)
        return
      }
      this.#waiting.push({ operation, resolve })
      this.#socket.write((this.#dialect === 'meta' ? metaRequest : textRequest)(key, change), 'latin1')
    })
  }

  close(): void {
    this.#socket.destroy()
    this.#end()
  }

  #end(): void {
    for (const { operation, resolve } of this.#waiting.splice(0)) {
      // Whether a change was made is not known; a read without an answer tells nothing.
      if (operation.change.kind === 'get') operation.answer = { kind: 'failed' }
      resolve(operation)
    }
  }

  #read(): void {
    while (this.#waiting.length > 0) {
      const reply = /^(?:VALUE \S+ \d+ (\d+)(?: (\d+))?|VA (\d+)(?: c(\d+))?) *\r\n/.exec(this.#bytes)
      const head = reply?.[0] ?? /^[^\r\n]*\r\n/.exec(this.#bytes)?.[0]
      if (head === undefined) return
      if (reply === null) {
        this.#bytes = this.#bytes.slice(head.length)
        this.#answer(lineAnswer(head.trimEnd()))
        continue
      }
      const length = Number(reply[1] ?? reply[3])
      const tail = reply[1] === undefined ? '\r\n' : '\r\nEND\r\n'
      if (this.#bytes.length < head.length + length + tail.length) return
      const value = this.#bytes.slice(head.length, head.length + length)
      this.#bytes = this.#bytes.slice(head.length + length + tail.length)
      const token = reply[2] ?? reply[4]
      this.#answer({ kind: 'found', value, ...(token === undefined ? {} : { token }) })
    }
  }

  #answer(answer: Answer | undefined): void {
    const waiting = this.#waiting.shift()
    if (waiting === undefined) return
    const { operation, resolve } = waiting
    const isRead = operation.change.kind === 'get'
    operation.completed = this.#history.now()
    if (answer === undefined) {
      // The error says that the outcome is not known.
      if (isRead) operation.answer = { kind: 'failed' }
      else delete operation.completed
    } else if (answer.kind === 'found' && operation.change.kind === 'incr') {
      operation.answer = { ...answer, kind: 'stored' }
    } else {
      operation.answer = answer
    }
    resolve(operation)
  }
}

/** Undefined: nobody knows. */
function lineAnswer(line: string): Answer | undefined {
  const [word = '', flag = ''] = line.split(' ')
  if (/^\d+$/.test(word)) return { kind: 'found', value: word }
  switch (word) {
    case 'STORED':
      return { kind: 'stored' }
    case 'HD':
      return flag.startsWith('c') ? { kind: 'stored', token: flag.slice(1) } : { kind: 'deleted' }
    case 'DELETED':
      return { kind: 'deleted' }
    case 'NS':
    case 'NOT_STORED':
      return { kind: 'not-stored' }
    case 'EX':
    case 'EXISTS':
      return { kind: 'exists' }
    case 'NF':
    case 'NOT_FOUND':
    case 'EN':
    case 'END':
      return { kind: 'not-found' }
    case 'CLIENT_ERROR':
      if (/non-numeric/.test(line)) return { kind: 'not-a-number' }
      break
    case 'SERVER_ERROR':
      if (/outcome unknown/.test(line)) return undefined
      return { kind: 'failed' }
  }
  throw new Error(`nothing is known of the reply ${JSON.stringify(line)}`)
}

const modes = { set: 'S', add: 'E', replace: 'R', cas: 'S' } as const

function metaRequest(key: string, change: Change): string {
  switch (change.kind) {
    case 'get':
      return `mg ${key} v c\r\n`
    case 'delete':
      return `md ${key}\r\n`
    case 'incr':
      return `ma ${key} v c D${change.delta}\r\n`
    default: {
      const token = change.kind === 'cas' ? ` C${change.token}` : ''
      return `ms ${key} ${change.value.length} c M${modes[change.kind]}${token}\r\n${change.value}\r\n`
    }
  }
}

function textRequest(key: string, change: Change): string {
  switch (change.kind) {
    case 'get':
      return `gets ${key}\r\n`
    case 'delete':
      return `delete ${key}\r\n`
    case 'incr':
      return `incr ${key} ${change.delta}\r\n`
    default: {
      const token = change.kind === 'cas' ? ` ${change.token}` : ''
      return `${change.kind} ${key} 0 0 ${change.value.length}${token}\r\n${change.value}\r\n`
    }
  }
}
