-- What happened to the cluster, for auditors (docs/ALERTS.md). Written by monitors through mc_note_event alone. Times are UTC, by the clock of
-- the monitor that told. facts: JSON.
CREATE TABLE IF NOT EXISTS mc_events (
  seq BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  event_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
  at DATETIME(3) NOT NULL,
  monitor VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  event VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  severity VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  about VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  epoch BIGINT UNSIGNED NOT NULL,
  text VARCHAR(1000) CHARACTER SET utf8mb4 NOT NULL,
  facts VARCHAR(4000) CHARACTER SET utf8mb4 NOT NULL,
  KEY at (at)
) ENGINE=InnoDB;

DELIMITER $$

-- Told twice (the answer to the first time was lost), written once. A routine, since it runs as the definer, whom a read-only database refuses
-- whatever rights the monitor has. Every application may call every routine: so this one wants the secret that they can't read. Of the
-- rows beyond what is kept each call deletes a few more than it adds, so the table shrinks to the bound and no call takes long.
DROP PROCEDURE IF EXISTS mc_note_event $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE mc_note_event(
  IN f_secret VARCHAR(255), IN f_event_id CHAR(36), IN f_at DATETIME(3), IN f_monitor VARCHAR(64), IN f_event VARCHAR(64),
  IN f_severity VARCHAR(16), IN f_about VARCHAR(64), IN f_epoch BIGINT UNSIGNED, IN f_text VARCHAR(1000) CHARACTER SET utf8mb4,
  IN f_facts VARCHAR(4000) CHARACTER SET utf8mb4, IN f_rows_max INT UNSIGNED, IN f_days INT UNSIGNED)
  MODIFIES SQL DATA SQL SECURITY DEFINER
BEGIN
  DECLARE newest BIGINT UNSIGNED;
  IF NOT EXISTS (SELECT 1 FROM mc_meta WHERE name = 'peer_secret' AND value = f_secret) THEN
    SIGNAL SQLSTATE '42000' SET MESSAGE_TEXT = 'events are written by monitors alone';
  END IF;
  INSERT INTO mc_events (event_id, at, monitor, event, severity, about, epoch, text, facts)
    VALUES (f_event_id, f_at, f_monitor, f_event, f_severity, f_about, f_epoch, f_text, f_facts)
    ON DUPLICATE KEY UPDATE event_id = f_event_id;
  SELECT MAX(seq) INTO newest FROM mc_events;
  DELETE FROM mc_events WHERE seq + f_rows_max <= newest ORDER BY seq LIMIT 10;
  DELETE FROM mc_events WHERE at < UTC_TIMESTAMP() - INTERVAL f_days DAY ORDER BY at LIMIT 10;
END $$

DELIMITER ;
