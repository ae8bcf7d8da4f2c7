import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client'

/** A figure that the node keeps anyway, read when `/metrics` is asked. */
export interface Figure {
  readonly name: string
  readonly help: string
  readonly kind: 'counter' | 'gauge'
  /** One value, or one for each set of labels. */
  readonly read: () => number | undefined | Iterable<Labelled>
  readonly labels?: readonly string[]
}

export interface Labelled {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** Names begin with `whitehole_`; counters end in `_total`, units come last. */
export function createRegistry(node: string, figures: readonly Figure[]): Registry {
  const registry = new Registry()
  registry.setDefaultLabels({ node })
  collectDefaultMetrics({ register: registry })
  for (const figure of figures) register(registry, figure)
  return registry
}

function register(registry: Registry, figure: Figure): void {
  const { name, help, labels = [] } = figure
  const common = { name: `whitehole_${name}`, help, labelNames: [...labels], registers: [registry] }
  if (figure.kind === 'gauge') {
    const gauge = new Gauge({
      ...common,
      collect: () => {
        gauge.reset()
        for (const { labels: of, value } of valuesOf(figure)) gauge.set({ ...of }, value)
      },
    })
    return
  }
  const counter = new Counter({
    ...common,
    collect: () => {
      // The figure itself only grows; prom-client's counter can only be added to.
      counter.reset()
      for (const { labels: of, value } of valuesOf(figure)) counter.inc({ ...of }, value)
    },
  })
}

function valuesOf(figure: Figure): Iterable<Labelled> {
  const values = figure.read()
  if (values === undefined) return []
  return typeof values === 'number' ? [{ labels: {}, value: values }] : values
}
