-- The tables. Names, order and types of the columns are a contract with whoever reads the log.
-- Every statement may run again: a migration that was interrupted is repeated from its beginning.

-- One row a fact: schema_version; epoch and marker (whitehole's monitor); generation and namespace_id, the counters that
-- namespaces draw from, which never go down.
CREATE TABLE IF NOT EXISTS mc_meta (
  name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  value VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
) ENGINE=InnoDB;

INSERT IGNORE INTO mc_meta (name, value)
VALUES ('epoch', '0'), ('generation', '0'), ('marker', '0'), ('namespace_id', '1000'), ('schema_version', '0');

-- A namespace's generation only grows (docs/adr/0003-generations.md). flush_due: Unix seconds of a delayed flush, 0 none.
-- TTLs are seconds; of the limits 0 means none.
CREATE TABLE IF NOT EXISTS mc_namespaces (
  ns_id INT NOT NULL PRIMARY KEY,
  ns_name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
  generation INT UNSIGNED NOT NULL DEFAULT 0,
  flush_due BIGINT UNSIGNED NOT NULL DEFAULT 0,
  mode VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'store',
  default_ttl INT UNSIGNED NOT NULL DEFAULT 0,
  max_ttl INT UNSIGNED NOT NULL DEFAULT 0,
  max_value_bytes INT UNSIGNED NOT NULL DEFAULT 0,
  quota_bytes BIGINT UNSIGNED NOT NULL DEFAULT 0,
  created TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE=InnoDB;

-- The directory: one row a key, never its value. Live while the version's generation (version >> 33) is its namespace's and
-- it has not expired. created: the last store (of a dead row its death). expire: absolute Unix seconds, 0 never, 1 dead (deleted).
-- checksum: CRC-32 of the value. number: the value of a counter.
CREATE TABLE IF NOT EXISTS mc_stored_keys (
  ns_id INT NOT NULL,
  mc_key VARBINARY(250) NOT NULL,
  version BIGINT UNSIGNED NOT NULL,
  created TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
  expire BIGINT UNSIGNED NOT NULL DEFAULT 0,
  flags BIGINT UNSIGNED NOT NULL DEFAULT 0,
  size INT UNSIGNED NOT NULL DEFAULT 0,
  checksum INT UNSIGNED NOT NULL DEFAULT 0,
  number BIGINT UNSIGNED NULL,
  PRIMARY KEY (ns_id, mc_key)
) ENGINE=InnoDB;

-- The log: rows go to the binlog alone. op: 1 set, 2 delete, 3 touch. Always in one transaction with a row of another table.
CREATE TABLE IF NOT EXISTS mc_storage (
  ns_id INT NOT NULL,
  mc_key VARBINARY(250) NOT NULL,
  op TINYINT UNSIGNED NOT NULL,
  version BIGINT UNSIGNED NOT NULL,
  expire BIGINT UNSIGNED NOT NULL,
  flags BIGINT UNSIGNED NOT NULL,
  mc_value LONGBLOB NULL
) ENGINE=BLACKHOLE;

-- One row a writer lane of a node (docs/adr/0001-acknowledgement.md).
CREATE TABLE IF NOT EXISTS mc_lanes (
  lane VARBINARY(96) NOT NULL PRIMARY KEY,
  incarnation BIGINT UNSIGNED NOT NULL,
  seq BIGINT UNSIGNED NOT NULL
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS mc_nodes (
  name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  datacenter VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  listener VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  http VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  started TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE=InnoDB;
