-- The public routines, and the one function that every write of theirs goes through.
--
-- All of them run as a locked account that may do nothing but read and write this schema, so that a read-only standby refuses
-- them whoever calls (as root they would commit there). They touch the namespace's row by SELECT ... INTO alone: that takes no lock, where
-- SET v = (SELECT ...) and IF (SELECT ...) hold one until the transaction's end, and a flush would wait for it. They never take a
-- lock on a row that may be missing: under REPEATABLE READ that locks its neighbours too. (Under SERIALIZABLE every read locks, by
-- the server's rule: there an open transaction does delay a flush.)
--
-- Strings are taken as the bytes that they have in the caller's character set. Parameters are wider than the columns, so
-- that what does not fit gets our text and not the server's.

DELIMITER $$

DROP PROCEDURE IF EXISTS mc_refuse $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE mc_refuse(IN f_text TEXT CHARACTER SET utf8mb4)
  NO SQL SQL SECURITY DEFINER
BEGIN
  DECLARE v_text VARCHAR(128) CHARACTER SET utf8mb4;
  SET v_text = LEFT(CONCAT('whitehole: ', f_text), 128);
  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_text;
END $$

-- As statements, our changes would not reach a node (it reads rows), and the log would be stopped.
DROP PROCEDURE IF EXISTS mc_require_rows $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE mc_require_rows()
  NO SQL SQL SECURITY DEFINER
BEGIN
  IF @@session.binlog_format <> 'ROW' THEN
    CALL mc_refuse(CONCAT('binlog_format is ', @@session.binlog_format, ' here: it must be ROW'));
  END IF;
END $$

DROP PROCEDURE IF EXISTS mc_require_name $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE mc_require_name(IN f_name TEXT CHARACTER SET utf8mb4)
  NO SQL SQL SECURITY DEFINER
BEGIN
  -- Not one pattern with ^ and $: $ matches before a last line end too.
  IF f_name IS NULL OR CHAR_LENGTH(f_name) NOT BETWEEN 1 AND 64 OR f_name REGEXP '[^A-Za-z0-9_.-]' THEN
    CALL mc_refuse('a namespace''s name has 1 to 64 letters, digits, "_", "." and "-"');
  END IF;
END $$

DROP PROCEDURE IF EXISTS mc_require_key $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE mc_require_key(IN f_mc_key LONGBLOB)
  NO SQL SQL SECURITY DEFINER
BEGIN
  IF f_mc_key IS NULL OR LENGTH(f_mc_key) NOT BETWEEN 1 AND 250 THEN
    CALL mc_refuse(CONCAT('a key has 1 to 250 bytes, this one has ', COALESCE(LENGTH(f_mc_key), 'none (it is NULL)')));
  END IF;
END $$

-- The absolute expiry in Unix seconds: 0 never, 1 gone. Takes memcached's forms: 0 never (or the namespace's default), negative at
-- once, up to 30 days relative, above that absolute. Beyond 2^31-1 memcached itself takes no time.
DROP FUNCTION IF EXISTS mc_expiry $$
CREATE DEFINER='whitehole_definer'@'localhost' FUNCTION mc_expiry(
  f_expire BIGINT, f_now BIGINT UNSIGNED, f_default_ttl INT UNSIGNED, f_max_ttl INT UNSIGNED
) RETURNS BIGINT UNSIGNED
  DETERMINISTIC NO SQL SQL SECURITY DEFINER
BEGIN
  DECLARE v_expiry BIGINT UNSIGNED DEFAULT 1;
  IF f_expire IS NULL OR f_expire > 2147483647 THEN
    CALL mc_refuse(CONCAT('expire is at most 2147483647, this one is ', COALESCE(f_expire, 'NULL')));
  END IF;
  IF f_expire = 0 AND f_default_ttl = 0 THEN
    SET v_expiry = 0;
  ELSEIF f_expire = 0 THEN
    SET v_expiry = f_now + f_default_ttl;
  ELSEIF f_expire > 2592000 THEN
    SET v_expiry = f_expire;
  ELSEIF f_expire > 0 THEN
    SET v_expiry = f_now + f_expire;
  END IF;
  IF f_max_ttl > 0 AND (v_expiry = 0 OR v_expiry > f_now + f_max_ttl) THEN
    SET v_expiry = f_now + f_max_ttl;
  END IF;
  RETURN v_expiry;
END $$

-- Everything that SQL users change goes through here, one call a change. A function, because it is one statement of its
-- caller: in autocommit all or nothing, in a transaction and in a trigger a part of it (a procedure's statements each commit for
-- themselves, and START TRANSACTION is forbidden in triggers). DETERMINISTIC is not so; the binlog wants to read it, and
-- as rows are logged nothing rests on it.
--
-- f_operation: as mc_storage.op. Returns the version; 0 where there was nothing to touch.
-- (0004-conditions.sql makes it again, with the number of what it stores.)
DROP FUNCTION IF EXISTS mc_write $$
CREATE DEFINER='whitehole_definer'@'localhost' FUNCTION mc_write(
  f_operation TINYINT UNSIGNED,
  f_ns_id BIGINT,
  f_mc_key LONGBLOB,
  f_mc_value LONGBLOB,
  f_flags BIGINT UNSIGNED,
  f_expire BIGINT
) RETURNS BIGINT UNSIGNED
  DETERMINISTIC MODIFIES SQL DATA SQL SECURITY DEFINER
BEGIN
  DECLARE v_generation, v_default_ttl, v_max_ttl, v_max_value_bytes INT UNSIGNED;
  DECLARE v_found INT DEFAULT 0;
  DECLARE v_now BIGINT UNSIGNED DEFAULT UNIX_TIMESTAMP();
  DECLARE v_expiry, v_old_expiry, v_version, v_random BIGINT UNSIGNED;
  -- The lookups below that find nothing leave their variable as it was.
  DECLARE CONTINUE HANDLER FOR NOT FOUND BEGIN END;

  CALL mc_require_rows();
  IF @@session.sql_log_bin = 0 OR @@global.log_bin = 0 THEN
    CALL mc_refuse('nothing is written to the binlog here (sql_log_bin, log_bin): no node would see it');
  END IF;
  CALL mc_require_key(f_mc_key);

  SELECT generation, default_ttl, max_ttl, max_value_bytes
    INTO v_generation, v_default_ttl, v_max_ttl, v_max_value_bytes
    FROM mc_namespaces WHERE ns_id = f_ns_id;
  IF v_generation IS NULL THEN
    CALL mc_refuse(CONCAT('unknown namespace ', COALESCE(f_ns_id, 'NULL')));
  END IF;

  IF f_operation = 1 THEN
    -- What memcached's largest item of 1 MiB holds under the client's own key.
    IF f_mc_value IS NULL THEN
      CALL mc_refuse('a value can''t be NULL: use delete_key');
    ELSEIF LENGTH(f_mc_value) > 1048517 - LENGTH(f_mc_key) THEN
      CALL mc_refuse(CONCAT('value too large: at most ', 1048517 - LENGTH(f_mc_key), ' bytes fit beside this key'));
    ELSEIF v_max_value_bytes > 0 AND LENGTH(f_mc_value) > v_max_value_bytes THEN
      CALL mc_refuse(CONCAT('value too large: its namespace allows ', v_max_value_bytes, ' bytes'));
    END IF;
  END IF;

  -- A random low part (docs/adr/0002-versions.md): 1 to 2^33-1.
  SET v_random = GREATEST(1, CAST(CONV(HEX(RANDOM_BYTES(5)), 16, 10) AS UNSIGNED) & 8589934591);
  SET v_expiry = IF(f_operation = 2, 1, mc_expiry(f_expire, v_now, v_default_ttl, v_max_ttl));

  IF f_operation = 3 THEN
    -- An absent key is told by a plain read; only a row that is there is locked. Should the purge take it just now, the
    -- INSERT leaves a dead row in its place, so that the locking read never meets a gap.
    SELECT 1 INTO v_found FROM mc_stored_keys WHERE ns_id = f_ns_id AND mc_key = f_mc_key;
    IF v_found = 0 THEN
      RETURN 0;
    END IF;
    INSERT INTO mc_stored_keys (ns_id, mc_key, version, expire)
      VALUES (f_ns_id, f_mc_key, (v_generation << 33) | v_random, 1)
      ON DUPLICATE KEY UPDATE version = version;
    SELECT version, expire INTO v_version, v_old_expiry
      FROM mc_stored_keys WHERE ns_id = f_ns_id AND mc_key = f_mc_key FOR UPDATE;
    IF (v_version >> 33) < v_generation OR (v_old_expiry <> 0 AND v_old_expiry <= v_now) THEN
      RETURN 0;
    END IF;
    IF v_expiry = v_old_expiry THEN
      -- Nothing changes; a log row without a row of another table must not be (it would be lost on Galera, and left by a crash).
      RETURN v_version;
    END IF;
    UPDATE mc_stored_keys SET expire = v_expiry WHERE ns_id = f_ns_id AND mc_key = f_mc_key;
  ELSE
    -- Never below the row's own generation: this transaction's snapshot may be older than a flush that another's write
    -- of this key has already followed. A delete leaves a dead row, also of a key that was absent: its lock orders the deletes and
    -- stores of a key in the log. The row's created is then the time of its death.
    INSERT INTO mc_stored_keys (ns_id, mc_key, version, created, expire, flags, size, checksum, number)
      VALUES (f_ns_id, f_mc_key, (v_generation << 33) | v_random, CURRENT_TIMESTAMP, v_expiry, f_flags,
        COALESCE(LENGTH(f_mc_value), 0), COALESCE(CRC32(f_mc_value), 0), NULL)
      ON DUPLICATE KEY UPDATE
        version = (GREATEST(version >> 33, v_generation) << 33) | v_random,
        created = CURRENT_TIMESTAMP,
        expire = v_expiry,
        flags = f_flags,
        size = COALESCE(LENGTH(f_mc_value), 0),
        checksum = COALESCE(CRC32(f_mc_value), 0),
        number = NULL;
    -- Our own change is seen under any snapshot: directory and log carry the same version.
    SELECT version INTO v_version FROM mc_stored_keys WHERE ns_id = f_ns_id AND mc_key = f_mc_key;
  END IF;

  INSERT INTO mc_storage (ns_id, mc_key, op, version, expire, flags, mc_value)
    VALUES (f_ns_id, f_mc_key, f_operation, v_version, v_expiry, f_flags, f_mc_value);
  RETURN v_version;
END $$

-- These three give no result set, so that triggers may call them.

DROP PROCEDURE IF EXISTS set_key $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE set_key(
  IN f_ns_id BIGINT, IN f_mc_key LONGBLOB, IN f_mc_value LONGBLOB, IN f_expire BIGINT
)
  MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'Stores a value. expire: 0 never, negative at once, up to 2592000 seconds from now, above that a Unix time'
BEGIN
  DECLARE v_version BIGINT UNSIGNED;
  SET v_version = mc_write(1, f_ns_id, f_mc_key, f_mc_value, 0, f_expire);
END $$

DROP PROCEDURE IF EXISTS delete_key $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE delete_key(IN f_ns_id BIGINT, IN f_mc_key LONGBLOB)
  MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'Deletes a key, on every node; no error where there is none'
BEGIN
  DECLARE v_version BIGINT UNSIGNED;
  SET v_version = mc_write(2, f_ns_id, f_mc_key, NULL, 0, 0);
END $$

DROP PROCEDURE IF EXISTS touch_key $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE touch_key(
  IN f_ns_id BIGINT, IN f_mc_key LONGBLOB, IN f_expire BIGINT
)
  MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'Gives a live key another expire, as set_key has it; no error where there is none'
BEGIN
  DECLARE v_version BIGINT UNSIGNED;
  SET v_version = mc_write(3, f_ns_id, f_mc_key, NULL, 0, f_expire);
END $$

DROP FUNCTION IF EXISTS ns $$
-- DETERMINISTIC: so WHERE ns_id = ns('x') asks once and finds by the index.
CREATE DEFINER='whitehole_definer'@'localhost' FUNCTION ns(f_name TEXT CHARACTER SET utf8mb4) RETURNS INT
  DETERMINISTIC READS SQL DATA SQL SECURITY DEFINER
  COMMENT 'The id of a namespace'
BEGIN
  DECLARE v_id INT;
  DECLARE CONTINUE HANDLER FOR NOT FOUND BEGIN END;
  SELECT ns_id INTO v_id FROM mc_namespaces WHERE ns_name = CONVERT(f_name USING ascii) COLLATE ascii_bin;
  IF v_id IS NULL THEN
    CALL mc_refuse(CONCAT('unknown namespace ', COALESCE(QUOTE(f_name), 'NULL')));
  END IF;
  RETURN v_id;
END $$

DELIMITER ;
