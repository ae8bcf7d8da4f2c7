import type { Figure } from '../admin/node-metrics.ts'
import { readBinlogFiles } from '../adapters/binlog-files.ts'
import type { Databases } from '../adapters/databases.ts'
import { MemcachedConnection } from '../adapters/memcached-connection.ts'
import { dumpItems } from '../adapters/memcached-dump.ts'
import { watchEvictions } from '../adapters/memcached-watch.ts'
import type { Applier } from '../applier/applier.ts'
import { LogSearch } from '../applier/log-search.ts'
import type { Catalogue } from '../catalogue/catalogue.ts'
import type { LoadedNodeConfig } from '../config/load.ts'
import { WhiteholeError } from '../domain/errors.ts'
import type { Mutations } from '../domain/mutations.ts'
import type { PeerReads } from '../domain/peer-reads.ts'
import { AfterReplay } from '../recovery/after-replay.ts'
import { AntiEntropy } from '../recovery/anti-entropy.ts'
import { consistencyOf } from '../recovery/consistency.ts'
import type { NamespaceVerification } from '../recovery/verification.ts'
import type { Logger } from '../runtime/logger.ts'
import { EvictionWatch } from '../upkeep/eviction-watch.ts'
import type { NodeReporter } from './node-reporter.ts'
import { LogRetention } from '../upkeep/log-retention.ts'
import { Purge } from '../upkeep/purge.ts'
import { Rounds } from '../runtime/rounds.ts'
import { Sweeper } from '../upkeep/sweeper.ts'

export interface UpkeepParts {
  readonly config: LoadedNodeConfig
  readonly databases: Databases
  readonly applier: Applier
  readonly catalogue: Catalogue
  readonly peers: PeerReads
  readonly mutations: Mutations
  readonly reporter: NodeReporter
  /** Of the reader that looks for values in the log. */
  readonly searchServerId: number
  readonly logger: Logger
}

/** How fast items come in a rebuild, until one was measured: low guesses, for a warning that comes too early rather than too late. */
const rebuildItemsPerSecond = 50_000
const rebuildBytesPerSecond = 50e6

const lookMilliseconds = 1000

/** What a node does beside serving. */
export class Upkeep {
  readonly evictions: EvictionWatch
  readonly #sweeper: Sweeper
  readonly #purge: Purge
  readonly #purges: boolean
  readonly #retention: LogRetention
  readonly #antiEntropy: AntiEntropy
  readonly #repairs: readonly Rounds[]

  constructor(parts: UpkeepParts) {
    const { config, databases, applier, catalogue } = parts
    const { sweep, purge, capacity, logRetention } = config.upkeep
    const { address } = config.memcached
    const logger = parts.logger.child({ part: 'upkeep' })
    this.#sweeper = new Sweeper({
      contents: applier,
      namespaces: catalogue,
      list: (signal) => dumpItems(address, { signal, folder: config.dataDirectory }),
      itemsPerSecondMax: sweep.itemsPerSecondMax,
      pauseMilliseconds: sweep.pauseSeconds * 1000,
      logger,
    })
    this.#purges = purge.enabled
    this.#purge = new Purge({
      databases,
      rowsPerSecondMax: purge.rowsPerSecondMax,
      pauseMilliseconds: purge.pauseSeconds * 1000,
      graceSeconds: purge.graceSeconds,
      logger,
    })
    this.evictions = new EvictionWatch({
      namespaces: catalogue,
      watch: (evicted, signal) => watchEvictions(address, evicted, signal),
      stats: () => readStatistics(address),
      warnPercent: capacity.warnPercent,
      pauseMilliseconds: capacity.pauseSeconds * 1000,
      logger,
    })
    this.#retention = new LogRetention({
      kept: async () => {
        const source = applier.source?.address
        if (source === undefined) throw new WhiteholeError('database-away', 'no database is followed yet')
        return readBinlogFiles(databases, source)
      },
      rebuildSeconds: async () => Math.max(applier.lastRebuild?.seconds ?? 0, await estimateRebuild(address)),
      leastSeconds: logRetention.secondsMin,
      pauseMilliseconds: logRetention.pauseSeconds * 1000,
      logger,
    })
    const antiEntropy = this.#composeAntiEntropy(parts)
    this.#antiEntropy = antiEntropy
    const { repair } = config.upkeep
    this.#repairs = repair.enabled ? this.#composeRepairs(applier, repair.pauseSeconds * 1000) : []
  }

  #composeRepairs(applier: Applier, pauseMilliseconds: number): Rounds[] {
    const antiEntropy = this.#antiEntropy
    const afterReplay = new AfterReplay({
      antiEntropy,
      lastRebuild: () => applier.lastRebuild,
      pauseMilliseconds,
    })
    const regular = async (signal: AbortSignal): Promise<void> => {
      await antiEntropy.round(signal)
    }
    return [
      new Rounds(regular, pauseMilliseconds),
      new Rounds((signal) => afterReplay.look(signal), Math.min(lookMilliseconds, pauseMilliseconds)),
    ]
  }

  #composeAntiEntropy(parts: UpkeepParts): AntiEntropy {
    const { config, databases, applier, peers, mutations, reporter, searchServerId } = parts
    const { keysPerSecondMax, timeSharePercentMax, searchLog } = config.upkeep.repair
    const logger = parts.logger.child({ part: 'repair' })
    const heartbeatMilliseconds = config.databases.heartbeatSeconds * 1000
    return new AntiEntropy({
      open: () => reporter.openVerification(),
      contents: applier,
      log: applier.log,
      peers,
      mutations,
      logValues: searchLog
        ? new LogSearch({ databases, serverId: searchServerId, logger, heartbeatMilliseconds })
        : undefined,
      pace: { perSecondMax: keysPerSecondMax, timeShareMax: timeSharePercentMax / 100 },
      logger,
    })
  }

  /** Keys that this node told the directory are gone, by the namespace's name. */
  get gone(): ReadonlyMap<string, number> {
    return this.#antiEntropy.gone
  }

  start(): void {
    this.#sweeper.start()
    if (this.#purges) this.#purge.start()
    this.evictions.start()
    this.#retention.start()
    for (const rounds of this.#repairs) rounds.start()
  }

  stop(): void {
    this.#sweeper.stop()
    this.#purge.stop()
    this.evictions.stop()
    this.#retention.stop()
    for (const rounds of this.#repairs) rounds.stop()
  }

  figures(): Figure[] {
    return [
      ...this.#sweeperFigures(),
      ...this.#purgeFigures(),
      ...this.#evictionFigures(),
      ...this.#retentionFigures(),
      ...this.#repairFigures(),
    ]
  }

  #repairFigures(): Figure[] {
    const { figures } = this.#antiEntropy
    const found = (): readonly NamespaceVerification[] => this.#antiEntropy.last?.namespaces ?? []
    return [
      counter('repair_passes_total', 'Background verifications of this node.', () => figures.passes),
      gauge('last_repair_pass_seconds', 'How long the last one took.', () =>
        figures.passes === 0 ? undefined : figures.lastPassSeconds,
      ),
      {
        name: 'repairs_total',
        help: 'Keys that differed from the directory, by what became of them; `superseded`: the log was about to put them right; `lost`: nobody has the value; `gone`: of these, told to the directory; `restored`: counters that nobody had, by the number in the directory; `left`: absent while memcached evicts.',
        kind: 'counter',
        labels: ['outcome'],
        read: () => {
          const { repairedFromPeers, repairedFromLog, removed, superseded, lost, gone, restored, left } = figures
          const repaired = { 'from-peer': repairedFromPeers, 'from-log': repairedFromLog, removed, superseded }
          const named = { ...repaired, lost, gone, restored, left }
          return Object.entries(named).map(([outcome, value]) => ({ labels: { outcome }, value }))
        },
      },
      {
        name: 'differences',
        help: 'What the last background verification found, before its repairs.',
        kind: 'gauge',
        labels: ['namespace', 'kind'],
        read: () =>
          found().flatMap(({ name, evicted, missing, diverged, orphan }) =>
            Object.entries({ evicted, missing, diverged, orphan }).map(([kind, value]) => ({
              labels: { namespace: name, kind },
              value,
            })),
          ),
      },
      {
        name: 'consistency_ratio',
        help: 'The part of its keys that this node had right then, counted evictions aside: 1 is all.',
        kind: 'gauge',
        labels: ['namespace'],
        read: () => found().map((one) => ({ labels: { namespace: one.name }, value: consistencyOf(one) })),
      },
    ]
  }

  #sweeperFigures(): Figure[] {
    const { figures } = this.#sweeper
    return [
      counter('sweeps_total', 'Times that memcached was searched for flushed items.', () => figures.sweeps),
      counter('swept_items_total', 'Flushed items that were freed.', () => figures.freed),
      gauge('last_sweep_seconds', 'How long the last sweep took.', () =>
        figures.sweeps === 0 ? undefined : figures.lastSeconds,
      ),
    ]
  }

  #purgeFigures(): Figure[] {
    const { figures } = this.#purge
    return [
      gauge('purge_elected', '1 on the node that purges the directory.', () => Number(this.#purge.elected)),
      counter('purge_passes_total', 'Passes of this node over the directory.', () => figures.passes),
      counter('purge_seen_rows_total', 'Rows that it looked at.', () => figures.seen),
      {
        name: 'purged_rows_total',
        help: 'Dead rows of the directory that this node deleted, by what they died of.',
        kind: 'counter',
        labels: ['cause'],
        read: () =>
          (['deleted', 'expired', 'flushed', 'dropped'] as const).map((cause) => ({
            labels: { cause },
            value: figures[cause],
          })),
      },
      gauge('last_purge_seconds', 'How long the last pass took.', () =>
        figures.passes === 0 ? undefined : figures.lastPassSeconds,
      ),
    ]
  }

  #evictionFigures(): Figure[] {
    const watch = this.evictions
    return [
      {
        name: 'evicted_items_total',
        help: 'Items that memcached evicted, by namespace; without one where memcached did not tell the key.',
        kind: 'counter',
        labels: ['namespace'],
        read: () => [
          ...[...watch.evicted].map(([namespace, value]) => ({ labels: { namespace }, value })),
          { labels: { namespace: '' }, value: watch.unattributed },
        ],
      },
      gauge('memcached_used_share', 'How full memcached is, 0 to 1; at 1 it evicts.', () => watch.capacity?.share),
      gauge('memcached_used_bytes', "Memory of items, with their chunks' waste.", () => watch.capacity?.usedBytes),
      gauge('memcached_limit_bytes', 'Memory that memcached may use for items.', () => watch.capacity?.limitBytes),
    ]
  }

  #retentionFigures(): Figure[] {
    const retention = this.#retention
    return [
      gauge(
        'log_retention_seconds',
        'How far back the database keeps its binlog; +Inf without a limit.',
        () => retention.retention?.keptSeconds,
      ),
      gauge(
        'log_needed_seconds',
        'How far back a rebuild may need it, with a margin.',
        () => retention.retention?.neededSeconds,
      ),
      gauge('log_bytes', "All files of the followed database's binlog.", () => retention.logBytes),
    ]
  }
}

type Statistics = readonly [readonly string[], readonly string[]]

async function readStatistics(address: { host: string; port: number }): Promise<Statistics> {
  const connection = await MemcachedConnection.connect(address, { timeoutMilliseconds: statisticsMilliseconds })
  try {
    return await Promise.all([connection.lines('stats'), connection.lines('stats slabs')])
  } finally {
    connection.destroy()
  }
}

async function estimateRebuild(address: { host: string; port: number }): Promise<number> {
  const [stats] = await readStatistics(address)
  const figure = (name: string): number =>
    Number(stats.find((line) => line.startsWith(`STAT ${name} `))?.split(' ')[2] ?? 0)
  return figure('curr_items') / rebuildItemsPerSecond + figure('bytes') / rebuildBytesPerSecond
}

const statisticsMilliseconds = 2000

function counter(name: string, help: string, read: () => number): Figure {
  return { name, help, kind: 'counter', read }
}

function gauge(name: string, help: string, read: () => number | undefined): Figure {
  return { name, help, kind: 'gauge', read }
}
