import type { World } from './world.ts'

export interface Fault {
  readonly what: string
  inflict(world: World): void
}

export const faultKinds = [
  'kill-database',
  'stop-database',
  'kill-voter',
  'stop-voter',
  'isolate',
  'cut',
  'cut-one-way',
  'messages',
  'switchover',
  'clock',
] as const

export type FaultKind = (typeof faultKinds)[number]

/** Something that can break by itself, for a while; the longest only end at the repair. */
export function drawFault(world: World, kind: FaultKind = world.clock.pick(faultKinds)): Fault {
  const { clock } = world
  const milliseconds = clock.between(100, 7000)
  const database = clock.pick(Object.keys(world.databases))
  const voter = clock.pick(world.voters).name
  const places = [...Object.keys(world.databases), ...world.voters.map(({ name }) => name)]
  const [a, b] = twoOf(world, places)
  const named = (what: string, inflict: () => void): Fault => ({
    what: `${what} for ${Math.round(milliseconds)} ms`,
    inflict,
  })
  switch (kind) {
    case 'kill-database':
      return named(`kill ${database}`, () => kill(world, database, milliseconds))
    case 'stop-database':
      return named(`stop ${database}`, () => stop(world, world.database(database).process, milliseconds))
    case 'kill-voter':
      return named(`kill ${voter}`, () => killVoter(world, voter, milliseconds))
    case 'stop-voter':
      return named(`stop ${voter}`, () => stop(world, world.voter(voter).process, milliseconds))
    case 'isolate':
      return named(`isolate ${a}`, () => isolate(world, a, [...places, ...world.clients.map(({ name }) => name)]))
    case 'cut':
      return named(`cut ${a} from ${b}`, () => cut(world, { a, b, both: true, milliseconds }))
    case 'cut-one-way':
      return named(`cut ${a} to ${b}`, () => cut(world, { a, b, both: false, milliseconds }))
    case 'messages':
      return named('lose, double and delay messages', () => disturb(world, milliseconds))
    case 'switchover':
      return { what: 'switchover', inflict: () => switchover(world) }
    case 'clock':
      return {
        what: `the clock of ${voter} jumps`,
        inflict: () => world.voter(voter).jump(clock.between(500, 4_000_000)),
      }
  }

  function isolate(given: World, one: string, others: readonly string[]): void {
    for (const other of others) {
      given.network.cut(one, other)
      given.network.cut(other, one)
    }
    clock.after(milliseconds, () => given.network.heal())
  }
}

function twoOf(world: World, places: readonly string[]): readonly [string, string] {
  const a = world.clock.pick(places)
  return [a, world.clock.pick(places.filter((place) => place !== a))]
}

function kill(world: World, name: string, milliseconds: number): void {
  const database = world.database(name)
  if (!database.process.up) return
  database.kill()
  world.clock.after(milliseconds, () => {
    if (!database.process.up) world.startDatabase(name)
  })
}

function killVoter(world: World, name: string, milliseconds: number): void {
  const voter = world.voter(name)
  if (!voter.process.up) return
  voter.kill()
  world.clock.after(milliseconds, () => {
    if (!voter.process.up) voter.start()
  })
}

function stop(world: World, process: { stop(): void; goOn(): void }, milliseconds: number): void {
  process.stop()
  world.clock.after(milliseconds, () => process.goOn())
}

function cut(
  world: World,
  { a, b, both, milliseconds }: { a: string; b: string; both: boolean; milliseconds: number },
): void {
  world.network.cut(a, b)
  if (both) world.network.cut(b, a)
  world.clock.after(milliseconds, () => world.network.heal())
}

function disturb(world: World, milliseconds: number): void {
  world.network.loss = 0.2
  world.network.duplication = 0.2
  // The longer one is beyond every time-out: what was asked is given up, and answered later.
  world.network.delayMax = world.clock.pick([60, 1500])
  world.clock.after(milliseconds, () => world.network.heal())
}

function switchover(world: World): void {
  const acting = world.voters.map((one) => one.monitor).find((one) => one?.acting === true)
  const standby = acting?.record?.standby
  if (standby !== undefined) void acting?.request('switchover', standby)
}
