import type { StatsRequest } from '../wire/memcached/request.ts'
import type { Conversation } from './conversation.ts'
import { counterNames } from './counters.ts'

/**
 * The version of the protocol that we follow, not our own: clients decide by it what they may send (dalli wants 1.4, php's tests
 * 1.4.8; meta commands need 1.6), and they want to know how we answer.
 */
export const protocolVersion = '1.6.45'

/** The directory's figures, where they do not come in time, are left out: `stats` never waits for a database. */
const figuresMilliseconds = 500

type Stat = readonly [name: string, value: string | number]

/**
 * `stats`, of the listener's namespace; on a key-prefix listener of all together. Like memcached we take a topic by its beginning,
 * in this order.
 */
export function stats(conversation: Conversation, request: StatsRequest): void {
  const reply = conversation.begin(request.form)
  const [topic, ...more] = request.topic
  const list = (lines: readonly Stat[]): void => {
    for (const [name, value] of lines) reply.add(`STAT ${name} ${value}\r\n`)
    reply.add('END\r\n')
    reply.finish()
  }
  if (topic === undefined) {
    void general(conversation).then(list)
  } else if ('reset'.startsWith(topic)) {
    conversation.services.counters.reset(conversation.naming.bound)
    reply.answer('RESET')
  } else if ('detail'.startsWith(topic)) {
    // Counts per key prefix: namespaces have counters of their own, so there is nothing to switch.
    const known = more[0] === 'on' || more[0] === 'off'
    reply.answer(known ? 'OK' : 'CLIENT_ERROR usage: stats detail on|off|dump')
  } else if ('settings'.startsWith(topic)) {
    list(settings(conversation))
  } else if ('cachedump'.startsWith(topic)) {
    reply.answer(more.length < 2 ? 'CLIENT_ERROR bad command line' : 'CLIENT_ERROR stats cachedump not allowed')
  } else if ('conns'.startsWith(topic)) {
    list(connections(conversation))
  } else if (topic === 'items' || topic === 'slabs') {
    // Slab classes hold the items of all namespaces: what they say of one would be wrong.
    list(
      topic === 'items'
        ? []
        : [
            ['active_slabs', 0],
            ['total_malloced', 0],
          ],
    )
  } else if (topic === 'sizes') {
    list([['sizes_status', 'disabled']])
  } else {
    reply.answer('ERROR')
  }
}

async function general(conversation: Conversation): Promise<readonly Stat[]> {
  const { services, naming } = conversation
  const server = conversation.describe()
  const { counters } = services
  const now = services.nowSeconds()
  const usage = process.resourceUsage()
  const own = counters.sum(naming.bound)
  return [
    ['pid', process.pid],
    ['uptime', Math.floor(now - server.startedAtSeconds)],
    ['time', Math.floor(now)],
    ['version', protocolVersion],
    ['pointer_size', 64],
    ['rusage_user', (usage.userCPUTime / 1e6).toFixed(6)],
    ['rusage_system', (usage.systemCPUTime / 1e6).toFixed(6)],
    ['max_connections', server.connectionsMax],
    ['curr_connections', counters.currConnections],
    ['total_connections', counters.totalConnections],
    ['rejected_connections', counters.rejectedConnections],
    ...counterNames.map((name): Stat => [name, own[name]]),
    ['get_expired', 0],
    ['auth_cmds', 0],
    ['auth_errors', 0],
    ['bytes_read', counters.bytesRead],
    ['bytes_written', counters.bytesWritten],
    ['accepting_conns', 1],
    ['threads', 1],
    ['evictions', 0],
    ['reclaimed', 0],
    ...(await contents(conversation)),
    ...(naming.bound === undefined ? [] : [['namespace', naming.bound] as const]),
  ]
}

async function contents(conversation: Conversation): Promise<readonly Stat[]> {
  const { services, naming } = conversation
  const asked = naming.bound === undefined ? [...services.namespaces.all()] : [naming.find('')]
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), figuresMilliseconds)
  })
  try {
    const questions = asked.flatMap((one) => (one === undefined ? [] : [services.directory.figures(one.id)]))
    const figures = await Promise.race([Promise.all(questions), late])
    if (figures === undefined) return []
    let items = 0
    let bytes = 0
    for (const one of figures) {
      items += one.keys
      bytes += one.bytes
    }
    return [
      ['bytes', bytes],
      ['curr_items', items],
    ]
  } catch {
    return []
  } finally {
    clearTimeout(timer)
  }
}

function settings(conversation: Conversation): readonly Stat[] {
  const server = conversation.describe()
  return [
    ['maxconns', server.connectionsMax],
    ['verbosity', 0],
    ['evictions', 'on'],
    ['shutdown_command', 'no'],
    ['cas_enabled', 'yes'],
    ['binding_protocol', 'ascii'],
    ['auth_enabled_sasl', 'no'],
    ['auth_enabled_ascii', 'no'],
    ['item_size_max', server.itemBytesMax],
    ['flush_enabled', conversation.naming.bound === undefined ? 'no' : 'yes'],
    ['dump_enabled', 'no'],
    ['client_flags_size', 4],
  ]
}

function connections(conversation: Conversation): readonly Stat[] {
  const lines: Stat[] = []
  for (const { id, address, idleSeconds } of conversation.describe().connections()) {
    lines.push([`${id}:addr`, address], [`${id}:state`, 'conn_read'], [`${id}:secs_since_last_cmd`, idleSeconds])
  }
  return lines
}
