-- Namespaces: what keeps their generations growing (docs/adr/0003-generations.md), and their routines.

DELIMITER $$

-- So that a plain INSERT INTO mc_namespaces (ns_id, ns_name) makes a whole namespace. A generation that is given (a
-- copy of another table) is kept if it lies above every other.
DROP TRIGGER IF EXISTS mc_namespaces_before_insert $$
CREATE DEFINER='whitehole_definer'@'localhost' TRIGGER mc_namespaces_before_insert
  BEFORE INSERT ON mc_namespaces FOR EACH ROW
BEGIN
  DECLARE v_generation BIGINT UNSIGNED;
  CALL mc_require_rows();
  CALL mc_require_name(NEW.ns_name);
  IF NEW.ns_id < 1 THEN
    CALL mc_refuse(CONCAT('a namespace''s id lies between 1 and 2147483647, this one is ', NEW.ns_id));
  END IF;
  IF NEW.mode <> 'store' THEN
    CALL mc_refuse('a namespace''s mode is "store"');
  END IF;
  UPDATE mc_meta SET value = GREATEST(CAST(value AS UNSIGNED) + 1, NEW.generation) WHERE name = 'generation';
  SELECT CAST(value AS UNSIGNED) INTO v_generation FROM mc_meta WHERE name = 'generation';
  IF v_generation > 1073741823 THEN
    CALL mc_refuse('no generation is left for a namespace: they end at 1073741823');
  END IF;
  SET NEW.generation = v_generation;
END $$

DROP TRIGGER IF EXISTS mc_namespaces_before_update $$
CREATE DEFINER='whitehole_definer'@'localhost' TRIGGER mc_namespaces_before_update
  BEFORE UPDATE ON mc_namespaces FOR EACH ROW
BEGIN
  CALL mc_require_rows();
  IF NEW.ns_id <> OLD.ns_id THEN
    CALL mc_refuse(CONCAT('the id of namespace ', OLD.ns_name, ' can''t change'));
  END IF;
  IF NEW.ns_name <> OLD.ns_name THEN
    CALL mc_refuse(CONCAT('namespace ', OLD.ns_name, ' can''t be renamed'));
  END IF;
  IF NEW.generation < OLD.generation THEN
    CALL mc_refuse(CONCAT('the generation of namespace ', OLD.ns_name, ' can''t go down'));
  END IF;
  IF NEW.generation > 1073741823 THEN
    CALL mc_refuse(CONCAT('no generation is left for namespace ', OLD.ns_name, ': they end at 1073741823'));
  END IF;
  IF NEW.mode <> 'store' THEN
    CALL mc_refuse('a namespace''s mode is "store"');
  END IF;
END $$

-- A later namespace of the same name or id starts above everything that was written under this one.
DROP TRIGGER IF EXISTS mc_namespaces_after_delete $$
CREATE DEFINER='whitehole_definer'@'localhost' TRIGGER mc_namespaces_after_delete
  AFTER DELETE ON mc_namespaces FOR EACH ROW
BEGIN
  CALL mc_require_rows();
  UPDATE mc_meta SET value = OLD.generation
    WHERE name = 'generation' AND CAST(value AS UNSIGNED) < OLD.generation;
END $$

-- A function for the reason that mc_write is one: else two callers in autocommit would read the same counter.
DROP FUNCTION IF EXISTS mc_create_namespace $$
CREATE DEFINER='whitehole_definer'@'localhost' FUNCTION mc_create_namespace(f_name TEXT CHARACTER SET utf8mb4) RETURNS INT
  DETERMINISTIC MODIFIES SQL DATA SQL SECURITY DEFINER
BEGIN
  DECLARE v_id BIGINT;
  DECLARE v_taken INT DEFAULT 1;
  CALL mc_require_name(f_name);
  SELECT COUNT(*) INTO v_taken FROM mc_namespaces WHERE ns_name = CONVERT(f_name USING ascii) COLLATE ascii_bin;
  IF v_taken > 0 THEN
    CALL mc_refuse(CONCAT('namespace ', f_name, ' exists already'));
  END IF;
  -- The counter never goes back, so an id that was assigned is not assigned again; ids that a person chose are stepped over.
  REPEAT
    UPDATE mc_meta SET value = CAST(value AS UNSIGNED) + 1 WHERE name = 'namespace_id';
    SELECT CAST(value AS UNSIGNED) INTO v_id FROM mc_meta WHERE name = 'namespace_id';
    SELECT COUNT(*) INTO v_taken FROM mc_namespaces WHERE ns_id = v_id;
  UNTIL v_taken = 0 END REPEAT;
  INSERT INTO mc_namespaces (ns_id, ns_name) VALUES (v_id, f_name);
  RETURN v_id;
END $$

DROP PROCEDURE IF EXISTS create_namespace $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE create_namespace(IN f_name TEXT CHARACTER SET utf8mb4)
  MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'Makes a namespace; its id is the result'
BEGIN
  DECLARE v_id INT;
  SET v_id = mc_create_namespace(f_name);
  SELECT v_id AS ns_id;
END $$

DROP PROCEDURE IF EXISTS flush_namespace $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE flush_namespace(IN f_ns_id BIGINT)
  MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'Makes every key of the namespace a miss, on every node, whatever their number; a due flush is done with it'
BEGIN
  DECLARE v_found INT DEFAULT 0;
  -- Looked for first: an UPDATE that finds nothing locks the gap.
  SELECT COUNT(*) INTO v_found FROM mc_namespaces WHERE ns_id = f_ns_id;
  IF v_found = 1 THEN
    UPDATE mc_namespaces SET generation = generation + 1, flush_due = 0 WHERE ns_id = f_ns_id;
    SET v_found = ROW_COUNT();
  END IF;
  IF v_found <> 1 THEN
    CALL mc_refuse(CONCAT('unknown namespace ', COALESCE(f_ns_id, 'NULL')));
  END IF;
END $$

DROP PROCEDURE IF EXISTS drop_namespace $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE drop_namespace(IN f_ns_id BIGINT)
  MODIFIES SQL DATA SQL SECURITY DEFINER
  COMMENT 'Removes the namespace with all its keys, on every node'
BEGIN
  DECLARE v_found INT DEFAULT 0;
  SELECT COUNT(*) INTO v_found FROM mc_namespaces WHERE ns_id = f_ns_id;
  IF v_found = 1 THEN
    DELETE FROM mc_namespaces WHERE ns_id = f_ns_id;
    SET v_found = ROW_COUNT();
  END IF;
  IF v_found <> 1 THEN
    CALL mc_refuse(CONCAT('unknown namespace ', COALESCE(f_ns_id, 'NULL')));
  END IF;
END $$

DELIMITER ;
