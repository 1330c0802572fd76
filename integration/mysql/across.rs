//! The same of what writes on several shards: statements that each shard does to its own rows, copies of reference tables,
//! transactions, and statements in them that fail on one of several shards.

use crate::cases::Case;

pub(crate) const ACROSS: &[Case] = &[
    (
        "one statement changes rows on all shards",
        r"
UPDATE t SET a = 0 WHERE a > 0
UPDATE t SET a = 0
SELECT id, a FROM t
UPDATE t SET a = a + 1, note = CONCAT(note, '!') WHERE id IN (1, 2, 3, 4, 5)
SELECT ROW_COUNT()
UPDATE t SET a = 7 WHERE id = 1 OR note = 'two!'
UPDATE t SET a = 7 WHERE id > 100
UPDATE t SET note = 'bad'
UPDATE t SET nope = 1
! UPDATE t SET a = 1 ORDER BY id LIMIT 2
! UPDATE t SET a = (SELECT MAX(no) FROM items)
! UPDATE t SET a = LAST_INSERT_ID(a + 1)
UPDATE t SET a = 1 WHERE id IN (SELECT id FROM items WHERE items.id = t.id)
UPDATE t SET made = '2020-01-01' WHERE id IN (1, 2, 3, 4)
UPDATE items SET price = price + 1 WHERE no = 1
? UPDATE t SET a = 'x' WHERE id IN (1, 2, 3, 4)
? SHOW WARNINGS
SELECT id, a, note, made FROM t
DELETE FROM items WHERE no = 1
DELETE FROM t WHERE a > 0
SELECT ROW_COUNT()
DELETE FROM t WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8)
DELETE FROM t
SELECT id FROM t
",
    ),
    (
        "rows that are deleted are told",
        r"
? DELETE FROM items WHERE no = 1 RETURNING id, no, what
SELECT id, no FROM items
",
    ),
    (
        "transactions that may only read, by what was said before them",
        r"
START TRANSACTION READ ONLY
INSERT INTO t (id, a) VALUES (91, 1), (92, 1), (93, 1), (94, 1)
UPDATE t SET a = 4
COMMIT
START TRANSACTION READ ONLY
REPLACE INTO t (id, a) VALUES (91, 1), (92, 1), (93, 1), (94, 1)
SELECT COUNT(*) FROM t
COMMIT
SET TRANSACTION READ ONLY
UPDATE t SET a = 4
UPDATE t SET a = 5
INSERT INTO t (id, a) VALUES (91, 1), (92, 1), (93, 1), (94, 1)
SELECT 1
UPDATE t SET a = 6 WHERE id = 1
BEGIN
UPDATE t SET a = 7 WHERE id = 1
SELECT a FROM t WHERE id = 1
COMMIT
UPDATE t SET a = 8 WHERE id = 1
SET TRANSACTION READ ONLY
SELECT a FROM t WHERE id = 1
UPDATE t SET a = 9 WHERE id = 1
SET TRANSACTION READ ONLY
SELECT nope FROM t WHERE id = 1
UPDATE t SET a = 10 WHERE id = 1
SET TRANSACTION READ ONLY
SELECT a FROM nowhere WHERE id = 1
UPDATE t SET a = 11 WHERE id = 1
SET TRANSACTION READ WRITE
UPDATE t SET a = 12 WHERE id = 1
SET SESSION TRANSACTION READ ONLY
BEGIN
UPDATE t SET a = 13
INSERT INTO t (id, a) VALUES (91, 1), (92, 1), (93, 1), (94, 1)
COMMIT
START TRANSACTION READ WRITE
SELECT a FROM t WHERE id = 1
SELECT id FROM t ORDER BY id
UPDATE t SET a = a + 1
COMMIT
BEGIN
UPDATE t SET a = 14 WHERE id = 1
ROLLBACK
SET SESSION TRANSACTION READ WRITE
SET TRANSACTION ISOLATION LEVEL READ COMMITTED
SET TRANSACTION READ ONLY
START TRANSACTION
UPDATE t SET a = 15
SELECT id, a FROM t
COMMIT AND CHAIN
UPDATE t SET a = 16
COMMIT
SELECT id, a FROM t
",
    ),
    (
        "what SET SESSION says of transactions that only read is not for the one that is open",
        r"
BEGIN
UPDATE t SET a = a + 1
SET SESSION TRANSACTION READ ONLY
UPDATE t SET a = a + 1
COMMIT
SELECT id, a FROM t
BEGIN
UPDATE t SET a = 9
SET SESSION TRANSACTION READ WRITE
UPDATE t SET a = 9
COMMIT
UPDATE t SET a = a + 1 WHERE id = 1
BEGIN
SET SESSION TRANSACTION READ ONLY
SELECT id, a FROM t
UPDATE t SET a = a + 1
ROLLBACK
SET SESSION TRANSACTION READ WRITE
SET autocommit = 0
UPDATE t SET a = a + 1
SET SESSION TRANSACTION READ ONLY
UPDATE t SET a = a + 1
COMMIT
UPDATE t SET a = 9 WHERE id = 1
ROLLBACK
SELECT id, a FROM t
",
    ),
    (
        "an error that every shard has is told once",
        r"
SELECT nosuch FROM t
SHOW WARNINGS
SELECT nosuch FROM t
SHOW COUNT(*) ERRORS
SELECT id FROM t WHERE nosuch = 1
SELECT @@warning_count, @@error_count
UPDATE t SET nosuch = 1
SHOW WARNINGS
",
    ),
    (
        "what INSERT returns raises an error",
        r"
? INSERT INTO t (id, a) VALUES (91, 1), (92, 1), (93, 1), (94, 1), (95, 1) RETURNING id, a / 0
SELECT id FROM t WHERE id > 90
? REPLACE INTO t (id, a) VALUES (91, 1), (92, 1) RETURNING id, a / 0
? INSERT INTO t (id, a) VALUES (91, 1), (92, 0) RETURNING id, 1 / a
SELECT id FROM t WHERE id > 90
INSERT INTO t (id, a) VALUES (91, 1), (92, 1), (93, 1), (94, 1), (95, 1) RETURNING id, a + 1
SELECT id FROM t WHERE id > 90
",
    ),
    (
        "numbers that INSERT gives LAST_INSERT_ID itself",
        r"
! INSERT INTO t (id, a) VALUES (1, 11), (2, 2), (3, 3), (4, 4), (5, 5) ON DUPLICATE KEY UPDATE a = LAST_INSERT_ID(a)
! INSERT INTO t (id, a) VALUES (61, LAST_INSERT_ID(5)), (62, 1), (63, 1), (64, 1), (65, 1)
! INSERT INTO refs VALUES ('own', LAST_INSERT_ID(7))
INSERT INTO t (id, a) VALUES (1, 11) ON DUPLICATE KEY UPDATE a = LAST_INSERT_ID(a)
SELECT LAST_INSERT_ID()
",
    ),
    (
        "a statement that fails on one of several shards undoes itself alone",
        r"
BEGIN
UPDATE t SET a = 100 WHERE id = 1
UPDATE t SET note = IF(id = 8, 'bad', 'x')
UPDATE t SET note = IF(id = 1, 'bad', 'x')
UPDATE t SET a = 101 WHERE id = 2
SAVEPOINT s
UPDATE t SET a = 102 WHERE id IN (3, 4, 5, 6)
ROLLBACK TO s
UPDATE t SET note = IF(id = 4, 'bad', 'y') WHERE id > 2
UPDATE t SET a = a + 1
COMMIT
SELECT id, a, note FROM t
",
    ),
    (
        "a transaction writes on several shards",
        r"
BEGIN
INSERT INTO t (id, a) VALUES (11, 1)
INSERT INTO t (id, a) VALUES (12, 2)
INSERT INTO t (id, a) VALUES (13, 3)
INSERT INTO t (id, a) VALUES (14, 4)
INSERT INTO t (id, a) VALUES (13, 3)
\ping
COMMIT
SELECT id, a FROM t
SET autocommit = 0
UPDATE t SET a = 5 WHERE id = 11
UPDATE t SET a = 5 WHERE id = 12
UPDATE t SET a = a + 1 WHERE id > 10
ROLLBACK
UPDATE t SET a = 6
COMMIT
SET autocommit = 1
SELECT id, a FROM t
START TRANSACTION READ ONLY
SELECT a FROM t WHERE id = 1
SELECT a FROM t WHERE id = 2
UPDATE t SET a = 1
COMMIT
",
    ),
    (
        "reference tables are written everywhere",
        r"
INSERT INTO refs VALUES ('es', 34), ('pt', 351)
INSERT INTO refs (code, n) VALUES ('es', 1)
INSERT IGNORE INTO refs VALUES ('es', 1), ('nl', 31)
REPLACE INTO refs VALUES ('nl', 32)
INSERT INTO refs VALUES ('nl', 1) ON DUPLICATE KEY UPDATE n = n + 1
UPDATE refs SET n = n + 1 WHERE n > 33
SELECT ROW_COUNT()
UPDATE refs SET n = 1
! UPDATE refs SET n = 2 WHERE code IN (SELECT note FROM t)
DELETE FROM refs WHERE code = 'pt'
DELETE FROM refs WHERE code = 'none'
BEGIN
INSERT INTO refs VALUES ('uk', 44)
INSERT INTO t (id, a) VALUES (21, 1)
SELECT * FROM refs WHERE code = 'uk'
INSERT INTO refs VALUES ('uk', 44)
COMMIT
BEGIN
DELETE FROM refs
ROLLBACK
SELECT code, n FROM refs ORDER BY code
",
    ),
    (
        "numbers of reference tables are the same everywhere",
        r"
INSERT INTO tags (v) VALUES ('one')
SELECT LAST_INSERT_ID()
INSERT INTO tags (v) VALUES ('two'), ('three')
SELECT LAST_INSERT_ID(), ROW_COUNT()
INSERT INTO tags (n, v) VALUES (20, 'twenty')
SELECT LAST_INSERT_ID()
INSERT INTO tags VALUES (NULL, 'next'), (NULL, 'after')
INSERT INTO tags (v) VALUES ('one')
INSERT INTO tags (v) VALUES ('more')
! INSERT INTO tags VALUES (NULL, 'x'), (50, 'y')
! INSERT IGNORE INTO tags (v) VALUES ('more'), ('yet more')
! INSERT INTO tags (v) SELECT code FROM refs
SELECT n, v FROM tags ORDER BY n
",
    ),
    (
        "what warns once is told once",
        r"
DELETE FROM t WHERE made = '2020-13-45'
SHOW WARNINGS
SELECT @@warning_count
DELETE FROM t WHERE a > 'x' AND a < 0
SHOW WARNINGS
DELETE FROM t WHERE made IN ('a', '2020-13-45')
SHOW WARNINGS
DELETE FROM t WHERE id = '1x' AND a = -1
SHOW WARNINGS
DELETE FROM t WHERE a = 'x' OR made > 'y' OR a = 'x'
SHOW WARNINGS
UPDATE IGNORE t SET a = 'x'
SHOW WARNINGS
UPDATE IGNORE t SET a = a + 1 WHERE made <> '2020-13-45' OR id > 0
SHOW WARNINGS
UPDATE t SET a = a + 1 WHERE made > '2020-13-45'
SHOW WARNINGS
DELETE FROM t WHERE a = CAST('x' AS int) + 99
SHOW WARNINGS
DELETE FROM t WHERE note > 99
SHOW COUNT(*) WARNINGS
DELETE FROM t WHERE made > '2020-13-45'
SHOW WARNINGS
",
    ),
    (
        "the first write of a transaction fails",
        r"
SET autocommit = 0
UPDATE refs SET n = 'x'
\ping
SELECT n FROM refs ORDER BY code
COMMIT
UPDATE refs SET nope = 1
\ping
COMMIT
INSERT INTO refs VALUES ('es', 1), ('es', 2)
\ping
COMMIT
UPDATE t SET a = 'x'
\ping
COMMIT
UPDATE t SET nope = 1
\ping
COMMIT
UPDATE t SET a = 'x' WHERE id = 1
\ping
COMMIT
UPDATE t SET nope = 1 WHERE id = 1
\ping
COMMIT
SELECT nope FROM t
\ping
COMMIT
SELECT nope FROM t ORDER BY a + 1
\ping
COMMIT
SELECT nope FROM refs
\ping
COMMIT
INSERT INTO refs (nope) VALUES (1)
\ping
COMMIT
INSERT INTO t (id, nope) VALUES (1, 1), (2, 2), (3, 3)
\ping
COMMIT
INSERT INTO t (id, a) VALUES (1, 1), (2), (3, 3)
\ping
COMMIT
DELETE FROM t WHERE nope = 1
\ping
COMMIT
DELETE FROM nope
\ping
COMMIT
DELETE t FROM
\ping
COMMIT
INSERT INTO t (id, a) VALUES (50, 1), (51, 'x'), (52, 1)
\ping
COMMIT
SET autocommit = 1
UPDATE refs SET n = 'x'
UPDATE t SET a = 'x'
",
    ),
];
