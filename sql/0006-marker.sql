-- A small commit by the monitor, which proves that the standby acknowledges. As a routine, since it runs as the definer, whom a read-only
-- database refuses, whatever rights the monitor has: on a standby it would be a transaction that nobody else has. One row for each that is
-- under way: one that waits for the standby holds its row.

DELIMITER $$

DROP PROCEDURE IF EXISTS mc_mark $$
CREATE DEFINER='whitehole_definer'@'localhost' PROCEDURE mc_mark(IN f_row TINYINT UNSIGNED)
  MODIFIES SQL DATA SQL SECURITY DEFINER
BEGIN
  INSERT INTO mc_meta (name, value) VALUES (IF(f_row = 0, 'marker', CONCAT('marker-', f_row)), 1)
    ON DUPLICATE KEY UPDATE value = value + 1;
END $$

DELIMITER ;
