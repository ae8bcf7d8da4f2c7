import type { StatsRequest } from '../wire/memcached/request.ts'
import { cachedump, onlyClass } from './cachedump.ts'
import type { Conversation } from './conversation.ts'
import { counterNames } from './counters.ts'
import { dialectOf, done, refuse } from './dialects.ts'
import type { Reply } from './replies.ts'

/**
 * The version of the protocol that we follow, not our own: clients decide by it what they may send (dalli wants 1.4, php's tests
 * 1.4.8; meta commands need 1.6), and they want to know how we answer.
 */
export const protocolVersion = '1.6.45'

/** Figures of the directory and of memcached that do not come in time are left out: `stats` never waits for either. */
const figuresMilliseconds = 500

type Stat = readonly [name: string, value: string | number]

/**
 * `stats`, of the listener's namespace; on a key-prefix listener of all together. Like memcached we take some topics by their beginning,
 * in this order.
 */
export function stats(conversation: Conversation, request: StatsRequest): void {
  const reply = conversation.begin(request.form)
  const [topic, ...more] = request.topic
  if (topic === undefined) {
    void general(conversation).then((lines) => list(reply, lines))
  } else if ('reset'.startsWith(topic)) {
    conversation.services.counters.reset(conversation.naming.bound)
    resetDone(reply)
  } else if ('detail'.startsWith(topic)) {
    detail(conversation, reply, more[0] ?? '')
  } else if ('settings'.startsWith(topic)) {
    list(reply, settings(conversation))
  } else if ('cachedump'.startsWith(topic)) {
    cachedump(conversation, reply, more)
  } else if ('conns'.startsWith(topic)) {
    list(reply, connections(conversation))
  } else if (topic === 'items') {
    void items(conversation).then((lines) => list(reply, lines))
  } else if (topic === 'slabs') {
    // Slab classes hold the items of all namespaces: what they say of one would be wrong.
    list(reply, [
      ['active_slabs', 0],
      ['total_malloced', 0],
    ])
  } else if (topic === 'sizes') {
    list(reply, [['sizes_status', 'disabled']])
  } else {
    refuse(reply, 'ERROR')
  }
}

function list(reply: Reply, lines: readonly Stat[]): void {
  const dialect = dialectOf(reply)
  for (const [name, value] of lines) dialect.stat(reply, name, value)
  dialect.endStats(reply)
}

function resetDone(reply: Reply): void {
  if (reply.form.dialect === 'text') reply.answer('RESET')
  else dialectOf(reply).endStats(reply)
}

/** Counts per key prefix: our namespaces have counters of their own, always on. */
function detail(conversation: Conversation, reply: Reply, what: string): void {
  const { counters } = conversation.services
  const { bound } = conversation.naming
  if (what !== '' && ('on'.startsWith(what) || 'off'.startsWith(what))) {
    done(reply)
  } else if (what === '' || !'dump'.startsWith(what)) {
    refuse(reply, 'CLIENT_ERROR usage: stats detail on|off|dump')
  } else {
    const shown = bound === undefined ? [...counters.entries()] : [[bound, counters.of(bound)] as const]
    const lines = shown.map(([name, own]) => {
      const deletions = own.delete_hits + own.delete_misses
      return `PREFIX ${name} get ${own.cmd_get} hit ${own.get_hits} set ${own.cmd_set} del ${deletions}\r\n`
    })
    // memcached puts the text of its dump, the last line included, into one statistic.
    if (reply.form.dialect === 'binary') dialectOf(reply).stat(reply, 'detailed', `${lines.join('')}END\r\n`)
    else reply.add(lines.join(''))
    dialectOf(reply).endStats(reply)
  }
}

/** All items of the namespace stand as if in one slab class: so that whoever lists keys class by class finds each once. */
async function items(conversation: Conversation): Promise<readonly Stat[]> {
  if (conversation.naming.bound === undefined) return []
  const figures = new Map(await contents(conversation))
  const number = figures.get('curr_items') ?? 0
  return number === 0 ? [] : [[`items:${onlyClass}:number`, number]]
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
    ['auth_cmds', 0],
    ['auth_errors', 0],
    ['bytes_read', counters.bytesRead],
    ['bytes_written', counters.bytesWritten],
    ['accepting_conns', 1],
    ['threads', 1],
    ...(await memcachedFigures(conversation)),
    ...(await contents(conversation)),
    ...(naming.bound === undefined ? [] : [['namespace', naming.bound] as const]),
  ]
}

/** memcached keeps these for all namespaces together: whoever looks at them asks whether this node's memory is enough. */
const ofMemcached = ['limit_maxbytes', 'get_expired', 'store_no_memory', 'evictions', 'reclaimed'] as const

async function memcachedFigures({ services }: Conversation): Promise<readonly Stat[]> {
  const told = await inTime(services.reads.statistics())
  return ofMemcached.flatMap((name): readonly Stat[] => {
    const value = told?.get(name)
    return value === undefined ? [] : [[name, value]]
  })
}

async function contents({ services, naming }: Conversation): Promise<readonly Stat[]> {
  const asked = naming.bound === undefined ? [...services.namespaces.all()] : [naming.find('')]
  const questions = asked.flatMap((one) => (one === undefined ? [] : [services.directory.figures(one.id)]))
  const figures = await inTime(Promise.all(questions))
  if (figures === undefined) return []
  let keys = 0
  let bytes = 0
  for (const one of figures) {
    keys += one.keys
    bytes += one.bytes
  }
  return [
    ['bytes', bytes],
    ['curr_items', keys],
  ]
}

/** Undefined: it failed, or took too long. */
async function inTime<T>(answer: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), figuresMilliseconds)
  })
  try {
    return await Promise.race([answer, late])
  } catch {
    return undefined
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
    ['binding_protocol', 'auto-negotiate'],
    ['auth_enabled_sasl', 'no'],
    ['auth_enabled_ascii', 'no'],
    ['item_size_max', server.itemBytesMax],
    ['flush_enabled', conversation.naming.bound === undefined ? 'no' : 'yes'],
    ['dump_enabled', listable(conversation) ? 'yes' : 'no'],
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

function listable({ services, naming }: Conversation): boolean {
  return services.listing !== undefined && naming.bound !== undefined
}
