/** What a monitor tells of databases that somebody else looks after: what it sees, for it decides nothing. */
export type WatchEvent =
  /** `former`: null at the first sight. */
  | { readonly kind: 'primary-changed'; readonly database: string; readonly former: string | null }
  | { readonly kind: 'no-primary'; readonly former: string | null }
  | { readonly kind: 'two-primaries'; readonly databases: readonly string[] }
  | { readonly kind: 'database-lost'; readonly database: string; readonly wasPrimary: boolean; readonly why: string }
  | { readonly kind: 'database-back'; readonly database: string }
  /** A replica whose replication does not run. */
  | { readonly kind: 'standby-lost'; readonly database: string; readonly why: string }
  | { readonly kind: 'standby-back'; readonly database: string }
