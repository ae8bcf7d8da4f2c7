import type { Announcement } from '../domain/announcement.ts'

/**
 * The facts as a hook finds them. All names are always there, empty where nothing is known, so that a script under `set -u` runs; names may
 * come, none goes. docs/ALERTS.md describes them.
 */
export function hookEnvironment(announcement: Announcement): Record<string, string> {
  const { facts } = announcement
  return {
    WHITEHOLE_EVENT: announcement.event,
    WHITEHOLE_EVENT_ID: announcement.id,
    WHITEHOLE_AT: announcement.at,
    WHITEHOLE_CLUSTER: announcement.cluster,
    WHITEHOLE_MONITOR: announcement.monitor,
    WHITEHOLE_SEVERITY: announcement.severity,
    WHITEHOLE_ABOUT: announcement.about ?? '',
    WHITEHOLE_TEXT: oneLine(announcement.text),
    WHITEHOLE_EPOCH: facts.epoch === null ? '' : String(facts.epoch),
    WHITEHOLE_MODE: facts.mode ?? '',
    WHITEHOLE_CAUSE: facts.cause ?? '',
    WHITEHOLE_PRIMARY: facts.primary ?? '',
    WHITEHOLE_PRIMARY_ADDRESS: facts.primaryAddress ?? '',
    WHITEHOLE_STANDBY: facts.standby ?? '',
    WHITEHOLE_STANDBY_ADDRESS: facts.standbyAddress ?? '',
    WHITEHOLE_FORMER: facts.former ?? '',
    WHITEHOLE_FORMER_ADDRESS: facts.formerAddress ?? '',
  }
}

function oneLine(text: string): string {
  // A zero byte can't be in an environment at all.
  return text.replaceAll(/[\0\r\n]+/g, ' ')
}
