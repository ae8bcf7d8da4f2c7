import { Link } from '../sandbox/link.ts'
import { SandboxError } from '../sandbox/sandbox-error.ts'

/** Until it is told to stop. @param routes `port:port` each */
export async function runLink(routes: readonly string[], delayMilliseconds: number): Promise<void> {
  const link = await Link.start(
    routes.map((route) => {
      const [port, to] = route.split(':').map(Number)
      if (port === undefined || to === undefined) throw new SandboxError(`"${route}" is no route: port:port`)
      return { port, to }
    }),
    delayMilliseconds,
  )
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve())
  })
  link.stop()
}
