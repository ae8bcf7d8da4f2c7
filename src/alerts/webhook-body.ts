import type { Announcement } from '../domain/announcement.ts'

/**
 * Version 1 of the body: docs/ALERTS.md describes it, and programs of other people rest on it. Keys may come, none goes or changes its
 * meaning.
 */
export function webhookBody(announcement: Announcement): string {
  const { id, at, cluster, monitor, event, severity, about, text, facts } = announcement
  return JSON.stringify({ schema: 1, id, at, cluster, monitor, event, severity, about, text, facts })
}
