import { z } from 'zod'
import { clusterConfigSchema } from './cluster-config.ts'
import { monitorConfigSchema } from './monitor-config.ts'
import { nodeConfigSchema } from './node-config.ts'

/** docs/CONFIGURATION.md, made from the schema: every key with its type, limits, default and description. */
export function configurationReference(): string {
  return [
    intro,
    tableOf(nodeConfigSchema),
    example,
    monitorIntro,
    tableOf(monitorConfigSchema),
    clusterIntro,
    tableOf(clusterConfigSchema),
    clusterOutro,
  ].join('\n')
}

function tableOf(schema: z.ZodType): string {
  return [head, ...rows(z.toJSONSchema(schema, { io: 'input' }) as JsonSchema, '')].join('\n')
}

interface JsonSchema {
  readonly type?: string
  readonly description?: string
  readonly default?: unknown
  readonly enum?: readonly string[]
  readonly properties?: Record<string, JsonSchema>
  readonly required?: readonly string[]
  readonly items?: JsonSchema
  readonly minimum?: number
  readonly maximum?: number
  readonly maxItems?: number
  readonly anyOf?: readonly JsonSchema[]
}

const intro = `<!-- Made from src/config/*-config.ts by \`npm run docs\`: change it there. -->

# Configuration

One YAML file a daemon, checked once at the start. An unknown key, a wrong value or a missing one stops the daemon with the
path of the key and what to do. Units come last in a key's name. A file that holds a password must not be readable by everybody.

## \`whitehole node --config FILE\`
`

const head = `| key | value | default | what it does |
| --- | --- | --- | --- |`

const example = `
A key without a default that is not optional must be given. The least that a node needs:

\`\`\`yaml
name: node1
dataDirectory: /var/lib/whitehole/node1
databases:
  addresses: ['10.0.0.1:3306', '10.0.0.2:3306']
  passwordFile: database.password
memcached: { address: '127.0.0.1:11210' }
listeners:
  - { listen: '127.0.0.1:11211', namespace: default }
  - { listen: '127.0.0.1:11212', namespaceFrom: key }
\`\`\`
`

const monitorIntro = `
## \`whitehole monitor --config FILE\`

Events, mails, webhooks and hooks: [ALERTS](ALERTS.md).
`

const clusterIntro = `
## \`cluster.yaml\`

The machines of a whole deployment. No daemon reads it: \`whitehole render\` writes each machine's files from it
([INSTALL.md](INSTALL.md)), and \`docs/examples\` has it for one to four machines.
`

const clusterOutro = `
A section or list that is not required may be left out whole.
`

function rows(schema: JsonSchema, prefix: string): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([key, part]) => {
    const path = prefix + key
    const below = part.items?.properties === undefined ? rows(part, `${path}.`) : rows(part.items, `${path}[].`)
    const isSection = part.properties !== undefined
    const cells = [
      `\`${path}\``,
      isSection ? 'section' : valueText(part),
      isSection ? '' : defaultText(part, schema.required?.includes(key) ?? false),
      part.description ?? '',
    ]
    return [`| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`, ...below]
  })
}

function valueText(schema: JsonSchema): string {
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${value}\``).join(' ')
  if (schema.anyOf !== undefined) return schema.anyOf.map(valueText).join(' or ')
  if (schema.type === 'null') return '`null`'
  if (schema.type === 'array' && schema.items?.enum !== undefined) return `list of ${valueText(schema.items)}`
  if (schema.type === 'array') return `list of ${schema.items?.properties === undefined ? 'text' : 'sections'}`
  if (schema.type === 'boolean') return '`true` `false`'
  if (schema.minimum !== undefined && schema.maximum !== undefined) return `${schema.minimum} to ${schema.maximum}`
  return schema.type === 'string' ? 'text' : (schema.type ?? '')
}

function defaultText(schema: JsonSchema, required: boolean): string {
  if (schema.default !== undefined) {
    return `\`${typeof schema.default === 'string' ? schema.default : JSON.stringify(schema.default)}\``
  }
  return required ? '**required**' : 'none'
}
