import { stringify } from 'yaml'
import { type ClusterView, hostPort } from './cluster-view.ts'
import { madeFrom, type RenderedFile } from './rendered-file.ts'

/** For the machine that runs Prometheus and Alertmanager, whichever that is. */
export function renderPrometheus(view: ClusterView): RenderedFile[] {
  const files = [
    { path: '/etc/prometheus/prometheus.yml', value: scraping(view) },
    { path: '/etc/prometheus/whitehole.rules.yml', value: rules(view) },
    ...(view.config.alerts.email.length === 0
      ? []
      : [{ path: '/etc/prometheus/alertmanager.yml', value: alertmanager(view) }]),
  ]
  return files.map(({ path, value }) => ({
    path,
    text: `${madeFrom('prometheus')}\n${stringify(value, { lineWidth: 0 })}`,
    mode: 0o644,
  }))
}

function scraping(view: ClusterView): object {
  const { nodeHttpPort, monitorHttpPort, name, alerts } = view.config
  const job = (role: 'node' | 'monitor', port: number) => ({
    job_name: `whitehole-${role}`,
    static_configs: view.running(role).map((machine) => ({
      targets: [hostPort(machine.networks.caches.address, port)],
      labels: { machine: machine.name, datacenter: view.datacenterOf(machine) },
    })),
  })
  return {
    global: { scrape_interval: '5s', evaluation_interval: '5s', external_labels: { cluster: name } },
    rule_files: ['/etc/prometheus/whitehole.rules.yml'],
    ...(alerts.email.length === 0
      ? {}
      : { alerting: { alertmanagers: [{ static_configs: [{ targets: ['127.0.0.1:9093'] }] }] } }),
    scrape_configs: [job('node', nodeHttpPort), job('monitor', monitorHttpPort)],
  }
}

function rules(view: ClusterView): object {
  const { holdSeconds, lagSecondsMax } = view.config.alerts
  const alert = (given: { name: string; expr: string; severity: 'critical' | 'warning'; summary: string }) => ({
    alert: given.name,
    expr: given.expr,
    for: `${holdSeconds}s`,
    labels: { severity: given.severity },
    annotations: { summary: given.summary },
  })
  return {
    groups: [
      {
        name: 'whitehole',
        rules: [
          alert({
            name: 'WhiteholeNodeDown',
            expr: 'up{job="whitehole-node"} == 0',
            severity: 'critical',
            summary: 'The node on {{ $labels.machine }} does not answer.',
          }),
          alert({
            name: 'WhiteholeMonitorDown',
            expr: 'up{job="whitehole-monitor"} == 0',
            severity: 'critical',
            summary: 'The monitor on {{ $labels.machine }} does not answer.',
          }),
          alert({
            name: 'WhiteholeNodeNotServing',
            expr: 'whitehole_state{state="serving"} == 0',
            severity: 'warning',
            summary: 'The node on {{ $labels.machine }} answers no reads from its memcached.',
          }),
          alert({
            name: 'WhiteholeNobodyServes',
            expr: 'sum by (datacenter) (whitehole_state{state="serving"}) == 0',
            severity: 'critical',
            summary: 'No node of {{ $labels.datacenter }} serves.',
          }),
          alert({
            name: 'WhiteholeLag',
            expr: `whitehole_lag_seconds > ${lagSecondsMax}`,
            severity: 'warning',
            summary: 'The node on {{ $labels.machine }} is {{ $value | humanizeDuration }} behind the primary.',
          }),
          alert({
            name: 'WhiteholeWritesFail',
            expr: 'sum by (machine, code) (rate(whitehole_writer_errors_total[1m])) > 0',
            severity: 'critical',
            summary: 'Writes through {{ $labels.machine }} are answered with errors ({{ $labels.code }}).',
          }),
          alert({
            name: 'WhiteholeMemcachedFull',
            expr: 'whitehole_memcached_used_share > 0.9',
            severity: 'warning',
            summary:
              'The memcached on {{ $labels.machine }} is {{ $value | humanizePercentage }} full; at 100 % it evicts.',
          }),
          alert({
            name: 'WhiteholeLogKeptTooShort',
            expr: 'whitehole_log_retention_seconds < whitehole_log_needed_seconds',
            severity: 'warning',
            summary: 'The binlog that {{ $labels.machine }} follows is kept too short for a rebuild.',
          }),
        ],
      },
    ],
  }
}

function alertmanager({ config }: ClusterView): object {
  const { email, from, smtp, states, repeatSeconds } = config.alerts
  return {
    global: { smtp_from: from, smtp_smarthost: smtp, smtp_require_tls: false },
    route: { receiver: 'mail', group_by: ['alertname'], group_wait: '10s', repeat_interval: `${repeatSeconds}s` },
    receivers: [{ name: 'mail', email_configs: email.map((to) => ({ to, send_resolved: states === 'all' })) }],
  }
}
