//! Statements as most are, one after the other, and what they leave for the next. As [`crate::cases`].

use crate::cases::Case;

pub(crate) const USUAL: &[Case] = &[
    (
        "usual statements and what is asked behind them",
        r"
SELECT a FROM t WHERE id = 1
SELECT ROW_COUNT(), FOUND_ROWS(), LAST_INSERT_ID(), @@warning_count
INSERT INTO solo (v) VALUES ('p')
SELECT a FROM t WHERE id = 2
SELECT LAST_INSERT_ID(), FOUND_ROWS()
UPDATE t SET a = a + 1 WHERE id = 1
SELECT ROW_COUNT(), LAST_INSERT_ID()
UPDATE t SET a = a WHERE id = 1
SELECT ROW_COUNT()
INSERT INTO solo (v) VALUES ('q'), ('r')
SELECT ROW_COUNT(), LAST_INSERT_ID()
INSERT INTO solo (n, v) VALUES (700, 's')
SELECT ROW_COUNT(), LAST_INSERT_ID()
SELECT no FROM items WHERE id = 1 ORDER BY no
SELECT FOUND_ROWS(), ROW_COUNT()
SELECT no FROM items WHERE id = 1 ORDER BY no LIMIT 1
SELECT FOUND_ROWS()
DELETE FROM items WHERE id = 1 AND no = 2
SELECT ROW_COUNT(), FOUND_ROWS()
SELECT a FROM t WHERE id = 99
SELECT FOUND_ROWS(), ROW_COUNT()
SELECT nope FROM t WHERE id = 1
SELECT ROW_COUNT()
INSERT INTO t (id, a) VALUES (1, 1)
SELECT ROW_COUNT(), LAST_INSERT_ID()
INSERT INTO refs VALUES ('new', 9)
SELECT n FROM refs WHERE code = 'new'
SELECT FOUND_ROWS()
",
    ),
    (
        "usual statements that warn or fail",
        r"
SELECT CAST('1x' AS SIGNED), a / 0 FROM t WHERE id = 1
SELECT @@warning_count
SELECT CAST('1x' AS SIGNED), a / 0 FROM t WHERE id = 1
SHOW WARNINGS
SELECT CAST('1x' AS SIGNED) FROM t WHERE id = 1
SELECT 1
SHOW WARNINGS
SELECT a FROM t WHERE id = 1
SHOW WARNINGS
SELECT a FROM t WHERE id = 1 AND note < 5
SHOW COUNT(*) WARNINGS
INSERT IGNORE INTO t (id, a) VALUES (1, 1)
SHOW WARNINGS
INSERT INTO t (id, a) VALUES (1, 1)
SHOW ERRORS
SHOW WARNINGS
UPDATE t SET a = 3 WHERE id = 1
SHOW WARNINGS
UPDATE t SET note = 'bad' WHERE id = 1
SHOW COUNT(*) ERRORS
SELECT a FROM t WHERE id = 1
SHOW COUNT(*) ERRORS
",
    ),
    (
        "statements without tables leave the warnings of the one before",
        r"
INSERT IGNORE INTO t (id, a) VALUES (1, 1)
SET @x = 1
SELECT @@warning_count
SET sql_mode = DEFAULT
SET NAMES utf8mb4
BEGIN
SAVEPOINT s
RELEASE SAVEPOINT s
ROLLBACK
SELECT @@warning_count, @@error_count
COMMIT
SHOW WARNINGS
INSERT INTO t (id, a) VALUES (1, 1)
SET autocommit = 1
SET TRANSACTION ISOLATION LEVEL READ COMMITTED
PREPARE one FROM 'SELECT 1'
SELECT @@warning_count, @@error_count
DEALLOCATE PREPARE one
PREPARE one FROM 'SET @x = 2'
SHOW COUNT(*) ERRORS
PREPARE one FROM 'SELECT a FROM t WHERE id = 1'
SHOW COUNT(*) ERRORS
SELECT CAST('1x' AS SIGNED)
SAVEPOINT s
SHOW WARNINGS
SET @x = CAST('1x' AS SIGNED)
SHOW WARNINGS
RELEASE SAVEPOINT nope
SET @x = 1
SHOW WARNINGS
SELECT a FROM t WHERE id = 1
SET @x = 1
SHOW COUNT(*) WARNINGS
",
    ),
    (
        "an error behind rows",
        r"
SELECT i.no, (SELECT j.no FROM items j WHERE j.id = 1 AND j.no <= i.no) FROM items i WHERE i.id = 1 ORDER BY i.no
SELECT a FROM t WHERE id = 1
BEGIN
UPDATE t SET a = 5 WHERE id = 1
SELECT i.no, (SELECT j.no FROM items j WHERE j.id = 1 AND j.no <= i.no) FROM items i WHERE i.id = 1 ORDER BY i.no
SHOW ERRORS
SELECT a FROM t WHERE id = 1
ROLLBACK
SELECT a FROM t WHERE id = 1
",
    ),
    (
        "usual statements within transactions and between",
        r"
BEGIN
SELECT a FROM t WHERE id = 1
UPDATE t SET a = 11 WHERE id = 1
UPDATE t SET a = 12 WHERE id = 1
SELECT a FROM t WHERE id = 1
INSERT INTO t (id) VALUES (1)
SELECT a FROM t WHERE id = 1
SELECT a FROM t WHERE id = 2
SELECT a FROM t WHERE id = 1
UPDATE t SET a = 13 WHERE id = 1
ROLLBACK
SELECT a FROM t WHERE id = 1
UPDATE t SET a = 14 WHERE id = 1
START TRANSACTION READ ONLY
SELECT a FROM t WHERE id = 1
UPDATE t SET a = 15 WHERE id = 1
SELECT a FROM t WHERE id = 1
COMMIT
SET autocommit = 0
SELECT a FROM t WHERE id = 1
UPDATE t SET a = 16 WHERE id = 1
SELECT a FROM t WHERE id = 1
ROLLBACK
SELECT a FROM t WHERE id = 1
SET autocommit = 1
SELECT a FROM t WHERE id = 1
SET TRANSACTION READ ONLY
SELECT a FROM t WHERE id = 1
UPDATE t SET a = 17 WHERE id = 1
SELECT a FROM t WHERE id = 1
SET time_zone = '+03:00'
SELECT FROM_UNIXTIME(0) FROM t WHERE id = 1
SET time_zone = '+00:00'
SELECT FROM_UNIXTIME(0) FROM t WHERE id = 1
SET time_zone = DEFAULT
SET sql_mode = 'PIPES_AS_CONCAT'
SELECT a || 'b' FROM t WHERE id = 1
SET sql_mode = DEFAULT
SELECT a || 'b' FROM t WHERE id = 1
",
    ),
];
