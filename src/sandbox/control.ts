import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { z } from 'zod'

/** What a later command asks of the running sandbox, over the unix socket in its folder: one line of JSON each way. */
const requestSchema = z.discriminatedUnion('command', [
  z.object({ command: z.literal('processes') }),
  z.object({ command: z.enum(['start', 'stop', 'kill', 'restart', 'rebuild']), name: z.string() }),
  z.object({ command: z.literal('down') }),
])

export type ControlRequest = z.output<typeof requestSchema>

const replySchema = z.union([
  z.object({
    ok: z.literal(true),
    processes: z.array(
      z.object({
        name: z.string(),
        state: z.enum(['running', 'waiting', 'down']),
        pid: z.number().nullable(),
        /** How often it ended without being told to. */
        ends: z.number(),
      }),
    ),
  }),
  z.object({ ok: z.literal(false), message: z.string() }),
])

export type ControlReply = z.output<typeof replySchema>
export type ProcessReport = Extract<ControlReply, { ok: true }>['processes'][number]

const requestBytesMax = 4096
const replyBytesMax = 256 * 1024

export class ControlServer {
  readonly #server: Server
  readonly #path: string

  private constructor(server: Server, path: string) {
    this.#server = server
    this.#path = path
  }

  /** @param handle never rejects */
  static async listen(
    path: string,
    handle: (request: ControlRequest) => Promise<ControlReply>,
  ): Promise<ControlServer> {
    rmSync(path, { force: true })
    const server = createServer((socket) => void serve(socket, handle))
    server.listen(path)
    await once(server, 'listening')
    return new ControlServer(server, path)
  }

  async close(): Promise<void> {
    this.#server.close()
    rmSync(this.#path, { force: true })
    await Promise.resolve()
  }
}

/** @returns undefined where nobody answers: the sandbox does not run */
export async function askControl(path: string, request: ControlRequest): Promise<ControlReply | undefined> {
  const socket = createConnection(path)
  try {
    await once(socket, 'connect')
  } catch {
    return undefined
  }
  socket.on('error', () => {})
  socket.write(`${JSON.stringify(request)}\n`)
  const line = await readLine(socket, replyBytesMax)
  socket.destroy()
  return line === undefined ? undefined : replySchema.parse(JSON.parse(line))
}

async function serve(socket: Socket, handle: (request: ControlRequest) => Promise<ControlReply>): Promise<void> {
  socket.on('error', () => {})
  const line = await readLine(socket, requestBytesMax)
  if (line === undefined) return void socket.destroy()
  const request = requestSchema.safeParse(parseJson(line))
  const reply = request.success
    ? await handle(request.data)
    : ({ ok: false, message: 'the running sandbox does not know that command: is it of another version?' } as const)
  socket.end(`${JSON.stringify(reply)}\n`)
}

/** Undefined where the other side closes first, or sends too much. */
async function readLine(socket: Socket, bytesMax: number): Promise<string | undefined> {
  let text = ''
  socket.setEncoding('utf8')
  return new Promise((resolve) => {
    socket.on('data', (chunk: string) => {
      text += chunk
      const end = text.indexOf('\n')
      if (end >= 0) resolve(text.slice(0, end))
      else if (text.length > bytesMax) resolve(undefined)
    })
    socket.on('close', () => resolve(undefined))
  })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
