-- Conditions and counters for SQL users: add, replace, cas, incr, decr. Each is decided once, by the directory's row under its lock, for all
-- nodes and SQL users alike. mc_write is made again: it notes the number of what it stores (docs/adr/0007-counters.md).

DELIMITER $$

DROP PROCEDURE IF EXISTS mc_require_log $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE mc_require_log()
  NO SQL SQL SECURITY DEFINER
BEGIN
  CALL mc_require_rows();
  IF @@session.sql_log_bin = 0 OR @@global.log_bin = 0 THEN
    CALL mc_refuse('nothing is written to the binlog here (sql_log_bin, log_bin): no node would see it');
  END IF;
END $$

-- f_max_value_bytes: the namespace's limit, 0 none. The other one is what memcached's largest item of 1 MiB holds under the client's own key.
DROP PROCEDURE IF EXISTS mc_require_value $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE mc_require_value(
  IN f_mc_key LONGBLOB, IN f_mc_value LONGBLOB, IN f_max_value_bytes INT UNSIGNED
)
  NO SQL SQL SECURITY DEFINER
BEGIN
  IF f_mc_value IS NULL THEN
    CALL mc_refuse('a value can''t be NULL: use delete_key');
  ELSEIF LENGTH(f_mc_value) > 1048517 - LENGTH(f_mc_key) THEN
    CALL mc_refuse(CONCAT('value too large: at most ', 1048517 - LENGTH(f_mc_key), ' bytes fit beside this key'));
  ELSEIF f_max_value_bytes > 0 AND LENGTH(f_mc_value) > f_max_value_bytes THEN
    CALL mc_refuse(CONCAT('value too large: its namespace allows ', f_max_value_bytes, ' bytes'));
  END IF;
END $$

-- A version's random low part (docs/adr/0002-versions.md): 1 to 2^33-1.
DROP FUNCTION IF EXISTS mc_random $$
CREATE DEFINER='whitehole_definer'@'localhost' FUNCTION mc_random() RETURNS BIGINT UNSIGNED
  DETERMINISTIC NO SQL SQL SECURITY DEFINER
BEGIN
  RETURN GREATEST(1, CAST(CONV(HEX(RANDOM_BYTES(5)), 16, 10) AS UNSIGNED) & 8589934591);
END $$

-- The number that memcached's incr would find in the value, NULL for none: the rule of docs/adr/0007-counters.md, as counterOf has it in
-- src/domain/counter.ts.
DROP FUNCTION IF EXISTS mc_number $$
CREATE DEFINER='whitehole_definer'@'localhost' FUNCTION mc_number(f_mc_value LONGBLOB) RETURNS BIGINT UNSIGNED
  DETERMINISTIC NO SQL SQL SECURITY DEFINER
BEGIN
  DECLARE v_word VARBINARY(1024);
  DECLARE v_negative INT DEFAULT 0;
  DECLARE v_number DECIMAL(20, 0);
  -- Nearly every value that is no number is told by its first byte: no blank, sign or digit.
  IF f_mc_value IS NULL OR LENGTH(f_mc_value) NOT BETWEEN 1 AND 1024
    OR NOT (ASCII(f_mc_value) BETWEEN 48 AND 57 OR ASCII(f_mc_value) IN (9, 10, 11, 12, 13, 32, 43, 45)) THEN
    RETURN NULL;
  END IF;
  -- The first word. A NUL ends it too, but does not stand in front of it as a blank may.
  SET v_word = REPLACE(REPLACE(f_mc_value, CHAR(9), ' '), CHAR(10), ' ');
  SET v_word = LTRIM(REPLACE(REPLACE(REPLACE(v_word, CHAR(11), ' '), CHAR(12), ' '), CHAR(13), ' '));
  SET v_word = SUBSTRING_INDEX(REPLACE(v_word, CHAR(0), ' '), ' ', 1);
  IF ASCII(v_word) IN (43, 45) THEN
    SET v_negative = ASCII(v_word) = 45;
    SET v_word = SUBSTRING(v_word, 2);
  END IF;
  IF LENGTH(v_word) = 0 OR CONVERT(v_word USING latin1) REGEXP '[^0-9]' THEN
    RETURN NULL;
  END IF;
  SET v_word = TRIM(LEADING '0' FROM v_word);
  IF LENGTH(v_word) > 20 THEN
    RETURN NULL;
  END IF;
  SET v_number = CAST(CONCAT('0', CONVERT(v_word USING latin1)) AS DECIMAL(20, 0));
  IF v_number > 18446744073709551615 THEN
    RETURN NULL;
  END IF;
  IF v_negative AND v_number > 0 THEN
    -- As strtoull: a minus wraps around. What lies above the middle then was meant to be negative.
    SET v_number = 18446744073709551616 - v_number;
    IF v_number > 9223372036854775807 THEN
      RETURN NULL;
    END IF;
  END IF;
  RETURN v_number;
END $$

-- As in 0002-routines.sql, which says why it is a function, and with the number of what is stored.
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
  DECLARE v_random BIGINT UNSIGNED DEFAULT mc_random();
  DECLARE v_expiry, v_old_expiry, v_version, v_number BIGINT UNSIGNED;
  -- The lookups below that find nothing leave their variable as it was.
  DECLARE CONTINUE HANDLER FOR NOT FOUND BEGIN END;

  CALL mc_require_log();
  CALL mc_require_key(f_mc_key);
  SELECT generation, default_ttl, max_ttl, max_value_bytes
    INTO v_generation, v_default_ttl, v_max_ttl, v_max_value_bytes
    FROM mc_namespaces WHERE ns_id = f_ns_id;
  IF v_generation IS NULL THEN
    CALL mc_refuse(CONCAT('unknown namespace ', COALESCE(f_ns_id, 'NULL')));
  END IF;
  IF f_operation = 1 THEN
    CALL mc_require_value(f_mc_key, f_mc_value, v_max_value_bytes);
    SET v_number = mc_number(f_mc_value);
  END IF;
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
        COALESCE(LENGTH(f_mc_value), 0), COALESCE(CRC32(f_mc_value), 0), v_number)
      ON DUPLICATE KEY UPDATE
        version = (GREATEST(version >> 33, v_generation) << 33) | v_random,
        created = CURRENT_TIMESTAMP,
        expire = v_expiry,
        flags = f_flags,
        size = COALESCE(LENGTH(f_mc_value), 0),
        checksum = COALESCE(CRC32(f_mc_value), 0),
        number = v_number;
    -- Our own change is seen under any snapshot: directory and log carry the same version.
    SELECT version INTO v_version FROM mc_stored_keys WHERE ns_id = f_ns_id AND mc_key = f_mc_key;
  END IF;

  INSERT INTO mc_storage (ns_id, mc_key, op, version, expire, flags, mc_value)
    VALUES (f_ns_id, f_mc_key, f_operation, v_version, v_expiry, f_flags, f_mc_value);
  RETURN v_version;
END $$

-- Whatever has a condition. A function for the reason that mc_write is one; so its three answers come as one text, "<outcome> <version>
-- <number>", of which the last ones may be missing. version: the new one where it stored, else the one that a live key has.
--
-- f_command: add, replace, cas, incr or decr. f_operand: the version to compare with, or the delta.
DROP FUNCTION IF EXISTS mc_decide $$
CREATE DEFINER='whitehole_definer'@'localhost' FUNCTION mc_decide(
  f_command VARCHAR(8) CHARACTER SET ascii,
  f_ns_id BIGINT,
  f_mc_key LONGBLOB,
  f_mc_value LONGBLOB,
  f_expire BIGINT,
  f_operand DECIMAL(65, 0)
) RETURNS VARCHAR(64) CHARACTER SET ascii
  DETERMINISTIC MODIFIES SQL DATA SQL SECURITY DEFINER
BEGIN
  DECLARE v_generation, v_default_ttl, v_max_ttl, v_max_value_bytes, v_size INT UNSIGNED;
  DECLARE v_now BIGINT UNSIGNED DEFAULT UNIX_TIMESTAMP();
  DECLARE v_random BIGINT UNSIGNED DEFAULT mc_random();
  DECLARE v_flags, v_operand BIGINT UNSIGNED DEFAULT 0;
  DECLARE v_expiry, v_old_expiry, v_old_flags, v_version, v_drawn, v_number, v_old_number BIGINT UNSIGNED;
  DECLARE v_stores, v_live INT;
  DECLARE v_digits VARCHAR(20) CHARACTER SET ascii;
  DECLARE CONTINUE HANDLER FOR NOT FOUND BEGIN END;

  CALL mc_require_log();
  CALL mc_require_key(f_mc_key);
  SET v_stores = f_command IN ('add', 'replace', 'cas');
  IF f_command IN ('cas', 'incr', 'decr') THEN
    IF f_operand IS NULL OR f_operand < 0 OR f_operand > 18446744073709551615 THEN
      CALL mc_refuse(CONCAT(IF(v_stores, 'a version', 'a delta'), ' lies between 0 and 18446744073709551615, this one is ',
        COALESCE(f_operand, 'NULL')));
    END IF;
    SET v_operand = f_operand;
  END IF;
  SELECT generation, default_ttl, max_ttl, max_value_bytes
    INTO v_generation, v_default_ttl, v_max_ttl, v_max_value_bytes
    FROM mc_namespaces WHERE ns_id = f_ns_id;
  IF v_generation IS NULL THEN
    CALL mc_refuse(CONCAT('unknown namespace ', COALESCE(f_ns_id, 'NULL')));
  END IF;
  IF v_stores THEN
    CALL mc_require_value(f_mc_key, f_mc_value, v_max_value_bytes);
    SET v_expiry = mc_expiry(f_expire, v_now, v_default_ttl, v_max_ttl);
    SET v_number = mc_number(f_mc_value);
  END IF;

  -- Absence is proved by inserting: a read would believe an old snapshot, a locking read of a missing row would lock its neighbours.
  -- Of what finds no key this leaves a dead row, as a delete of an absent key does; what adds has its row at once.
  SET v_drawn = (v_generation << 33) | v_random;
  INSERT INTO mc_stored_keys (ns_id, mc_key, version, created, expire, size, checksum, number)
    VALUES (f_ns_id, f_mc_key, v_drawn, CURRENT_TIMESTAMP, IF(f_command = 'add', v_expiry, 1),
      IF(f_command = 'add', LENGTH(f_mc_value), 0), IF(f_command = 'add', CRC32(f_mc_value), 0), IF(f_command = 'add', v_number, NULL))
    ON DUPLICATE KEY UPDATE version = version;
  SELECT version, expire, flags, size, number INTO v_version, v_old_expiry, v_old_flags, v_size, v_old_number
    FROM mc_stored_keys WHERE ns_id = f_ns_id AND mc_key = f_mc_key FOR UPDATE;
  -- Of a row that was there the version is another one. Not by ROW_COUNT(): that depends on a setting of the client's connection.
  -- A generation above ours: another's write has followed a flush that our snapshot does not show.
  SET v_live = v_version <> v_drawn AND (v_version >> 33) >= v_generation AND (v_old_expiry = 0 OR v_old_expiry > v_now);

  IF f_command = 'add' AND v_live THEN
    RETURN CONCAT('not_stored ', v_version);
  ELSEIF f_command = 'replace' AND NOT v_live THEN
    RETURN 'not_stored';
  ELSEIF f_command <> 'add' AND NOT v_live THEN
    RETURN 'not_found';
  ELSEIF f_command = 'cas' AND v_version <> v_operand THEN
    RETURN CONCAT('exists ', v_version);
  ELSEIF NOT v_stores THEN
    IF v_old_number IS NULL THEN
      RETURN CONCAT('not_a_number ', v_version);
    END IF;
    -- Modulo 2^64 without an intermediate result outside of it, which is an error.
    IF f_command = 'decr' THEN
      SET v_number = v_old_number - LEAST(v_old_number, v_operand);
    ELSEIF v_operand > 18446744073709551615 - v_old_number THEN
      SET v_number = v_operand - (18446744073709551615 - v_old_number) - 1;
    ELSE
      SET v_number = v_old_number + v_operand;
    END IF;
    SET v_digits = v_number;
    SET f_mc_value = RPAD(v_digits, GREATEST(v_size, LENGTH(v_digits)), ' ');
    SET v_expiry = v_old_expiry, v_flags = v_old_flags;
  END IF;

  IF v_version <> v_drawn THEN
    SET v_version = (GREATEST(v_version >> 33, v_generation) << 33) | v_random;
    UPDATE mc_stored_keys
      SET version = v_version, created = CURRENT_TIMESTAMP, expire = v_expiry, flags = v_flags, size = LENGTH(f_mc_value),
        checksum = CRC32(f_mc_value), number = v_number
      WHERE ns_id = f_ns_id AND mc_key = f_mc_key;
  END IF;
  INSERT INTO mc_storage (ns_id, mc_key, op, version, expire, flags, mc_value)
    VALUES (f_ns_id, f_mc_key, 1, v_version, v_expiry, v_flags, f_mc_value);
  RETURN CONCAT_WS(' ', 'stored', v_version, IF(v_stores, NULL, v_number));
END $$

-- The n-th word of such an answer, NULL where it is missing.
DROP FUNCTION IF EXISTS mc_answer $$
CREATE DEFINER='whitehole_definer'@'localhost' FUNCTION mc_answer(f_answer VARCHAR(64) CHARACTER SET ascii, f_word INT)
  RETURNS VARCHAR(64) CHARACTER SET ascii
  DETERMINISTIC NO SQL SQL SECURITY DEFINER
BEGIN
  RETURN NULLIF(SUBSTRING_INDEX(SUBSTRING_INDEX(CONCAT(f_answer, '  '), ' ', f_word), ' ', -1), '');
END $$

-- The procedures give their outcome as a row, so triggers and functions can't call them; the functions behind them can be called
-- from anywhere (with SET, SELECT or IF; not with DO, where MariaDB swallows the error).

DROP PROCEDURE IF EXISTS add_key $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE add_key(
  IN f_ns_id BIGINT, IN f_mc_key LONGBLOB, IN f_mc_value LONGBLOB, IN f_expire BIGINT
)
  MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'Stores a value where there is no live key. A row: outcome (stored, not_stored), version. In triggers: mc_add'
BEGIN
  DECLARE v_answer VARCHAR(64) CHARACTER SET ascii;
  SET v_answer = mc_decide('add', f_ns_id, f_mc_key, f_mc_value, f_expire, NULL);
  SELECT mc_answer(v_answer, 1) AS outcome, CAST(mc_answer(v_answer, 2) AS UNSIGNED) AS version;
END $$

DROP PROCEDURE IF EXISTS replace_key $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE replace_key(
  IN f_ns_id BIGINT, IN f_mc_key LONGBLOB, IN f_mc_value LONGBLOB, IN f_expire BIGINT
)
  MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'Stores a value where there is a live key. A row: outcome (stored, not_stored), version. In triggers: mc_replace'
BEGIN
  DECLARE v_answer VARCHAR(64) CHARACTER SET ascii;
  SET v_answer = mc_decide('replace', f_ns_id, f_mc_key, f_mc_value, f_expire, NULL);
  SELECT mc_answer(v_answer, 1) AS outcome, CAST(mc_answer(v_answer, 2) AS UNSIGNED) AS version;
END $$

DROP PROCEDURE IF EXISTS cas_key $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE cas_key(
  IN f_ns_id BIGINT, IN f_mc_key LONGBLOB, IN f_mc_value LONGBLOB, IN f_expire BIGINT, IN f_version DECIMAL(65, 0)
)
  MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'Stores a value where the live key has this version. A row: outcome (stored, exists, not_found), version. In triggers: mc_cas'
BEGIN
  DECLARE v_answer VARCHAR(64) CHARACTER SET ascii;
  SET v_answer = mc_decide('cas', f_ns_id, f_mc_key, f_mc_value, f_expire, f_version);
  SELECT mc_answer(v_answer, 1) AS outcome, CAST(mc_answer(v_answer, 2) AS UNSIGNED) AS version;
END $$

DROP PROCEDURE IF EXISTS incr_key $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE incr_key(
  IN f_ns_id BIGINT, IN f_mc_key LONGBLOB, IN f_delta DECIMAL(65, 0)
)
  MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'Adds to a number, modulo 2^64. A row: outcome (stored, not_found, not_a_number), number, version. In triggers: mc_incr'
BEGIN
  DECLARE v_answer VARCHAR(64) CHARACTER SET ascii;
  SET v_answer = mc_decide('incr', f_ns_id, f_mc_key, NULL, NULL, f_delta);
  SELECT mc_answer(v_answer, 1) AS outcome, CAST(mc_answer(v_answer, 3) AS UNSIGNED) AS number,
    CAST(mc_answer(v_answer, 2) AS UNSIGNED) AS version;
END $$

DROP PROCEDURE IF EXISTS decr_key $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE decr_key(
  IN f_ns_id BIGINT, IN f_mc_key LONGBLOB, IN f_delta DECIMAL(65, 0)
)
  MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'Subtracts from a number, not below 0. A row: outcome (stored, not_found, not_a_number), number, version. In triggers: mc_decr'
BEGIN
  DECLARE v_answer VARCHAR(64) CHARACTER SET ascii;
  SET v_answer = mc_decide('decr', f_ns_id, f_mc_key, NULL, NULL, f_delta);
  SELECT mc_answer(v_answer, 1) AS outcome, CAST(mc_answer(v_answer, 3) AS UNSIGNED) AS number,
    CAST(mc_answer(v_answer, 2) AS UNSIGNED) AS version;
END $$

DROP FUNCTION IF EXISTS mc_add $$
CREATE DEFINER='whitehole_definer'@'localhost' FUNCTION mc_add(
  f_ns_id BIGINT, f_mc_key LONGBLOB, f_mc_value LONGBLOB, f_expire BIGINT
) RETURNS VARCHAR(16) CHARACTER SET ascii
  DETERMINISTIC MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'As add_key, also in triggers: stored or not_stored'
BEGIN
  RETURN mc_answer(mc_decide('add', f_ns_id, f_mc_key, f_mc_value, f_expire, NULL), 1);
END $$

DROP FUNCTION IF EXISTS mc_replace $$
CREATE DEFINER='whitehole_definer'@'localhost' FUNCTION mc_replace(
  f_ns_id BIGINT, f_mc_key LONGBLOB, f_mc_value LONGBLOB, f_expire BIGINT
) RETURNS VARCHAR(16) CHARACTER SET ascii
  DETERMINISTIC MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'As replace_key, also in triggers: stored or not_stored'
BEGIN
  RETURN mc_answer(mc_decide('replace', f_ns_id, f_mc_key, f_mc_value, f_expire, NULL), 1);
END $$

DROP FUNCTION IF EXISTS mc_cas $$
CREATE DEFINER='whitehole_definer'@'localhost' FUNCTION mc_cas(
  f_ns_id BIGINT, f_mc_key LONGBLOB, f_mc_value LONGBLOB, f_expire BIGINT, f_version DECIMAL(65, 0)
) RETURNS VARCHAR(16) CHARACTER SET ascii
  DETERMINISTIC MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'As cas_key, also in triggers: stored, exists or not_found'
BEGIN
  RETURN mc_answer(mc_decide('cas', f_ns_id, f_mc_key, f_mc_value, f_expire, f_version), 1);
END $$

DROP FUNCTION IF EXISTS mc_incr $$
CREATE DEFINER='whitehole_definer'@'localhost' FUNCTION mc_incr(
  f_ns_id BIGINT, f_mc_key LONGBLOB, f_delta DECIMAL(65, 0)
) RETURNS BIGINT UNSIGNED
  DETERMINISTIC MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'As incr_key, also in triggers: the number, NULL where there is no key or no number'
BEGIN
  RETURN mc_answer(mc_decide('incr', f_ns_id, f_mc_key, NULL, NULL, f_delta), 3);
END $$

DROP FUNCTION IF EXISTS mc_decr $$
CREATE DEFINER='whitehole_definer'@'localhost' FUNCTION mc_decr(
  f_ns_id BIGINT, f_mc_key LONGBLOB, f_delta DECIMAL(65, 0)
) RETURNS BIGINT UNSIGNED
  DETERMINISTIC MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'As decr_key, also in triggers: the number, NULL where there is no key or no number'
BEGIN
  RETURN mc_answer(mc_decide('decr', f_ns_id, f_mc_key, NULL, NULL, f_delta), 3);
END $$

DELIMITER ;
