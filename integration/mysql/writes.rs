//! What statements leave for the next one to ask, numbers of AUTO_INCREMENT, and rows for several shards.

use crate::cases::Case;

pub(crate) const WRITES: &[Case] = &[
    (
        "several tables are changed by one statement",
        r"
UPDATE t JOIN items ON items.id = t.id SET t.a = t.a + 1, items.what = CONCAT(t.note, '!'), price = 2 WHERE t.id = 1
SELECT id, no, what, price FROM items
SELECT id, a FROM t
UPDATE t x LEFT JOIN items y ON y.id = x.id AND y.no = 77 SET x.a = 50, y.what = 'none' WHERE x.id = 2
UPDATE t JOIN refs ON refs.code = 'a' SET t.a = refs.n WHERE t.id = 1
UPDATE t JOIN (SELECT id, COUNT(*) AS c FROM items WHERE id = 1 GROUP BY id) d USING (id) SET a = d.c WHERE t.id = 1
UPDATE t x JOIN t y ON x.id = y.id SET x.a = 9, y.note = 'me' WHERE x.id = 3
UPDATE t JOIN items ON items.id = t.id SET t.note = 'bad', items.what = 'lost' WHERE t.id = 1
UPDATE t JOIN items ON items.id = t.id SET nope = 1 WHERE t.id = 1
UPDATE t JOIN items ON items.id = t.id SET t.a = 'x' WHERE t.id = 1
UPDATE IGNORE t JOIN items ON items.id = t.id SET t.a = 'x' WHERE t.id = 1
SHOW WARNINGS
SELECT id, a, note FROM t
! UPDATE t JOIN items ON items.id = t.id SET t.a = 1
! UPDATE t JOIN items ON items.id = t.id SET t.a = 1, items.what = 'x' WHERE t.id IN (1, 2, 3, 4)
! UPDATE t JOIN refs ON refs.code = 'a' SET refs.n = 1 WHERE t.id = 1
! UPDATE t JOIN items ON items.no = t.id SET t.a = 1 WHERE t.id = 1
BEGIN
DELETE t, items FROM t JOIN items ON items.id = t.id WHERE t.id = 1
SELECT ROW_COUNT()
SELECT id, no FROM items
ROLLBACK
DELETE y FROM t x JOIN items y ON y.id = x.id WHERE x.id = 2 AND y.no = 1
DELETE FROM x, y USING t x LEFT JOIN items y ON y.id = x.id WHERE x.id = 3
DELETE t FROM t x JOIN items y ON y.id = x.id WHERE x.id = 1
! DELETE t FROM t JOIN items ON items.id = t.id
SELECT id FROM t
SELECT id, no FROM items
",
    ),
    (
        "what the statement before has left",
        r"
INSERT INTO solo (v) VALUES ('p'), ('q')
SELECT LAST_INSERT_ID(), ROW_COUNT(), @@identity, @@last_insert_id, @@warning_count, @@error_count
SELECT ROW_COUNT(), FOUND_ROWS()
INSERT INTO solo (n, v) VALUES (500, 'r')
SELECT LAST_INSERT_ID() AS x, ROW_COUNT() y, @@session.warning_count, @@local.identity
SELECT last_insert_id( ) + 1, ABS(ROW_COUNT()), 'a', LAST_INSERT_ID()
SELECT * FROM solo WHERE n = LAST_INSERT_ID()
SELECT n, v, LAST_INSERT_ID() FROM solo WHERE n >= LAST_INSERT_ID() ORDER BY n
INSERT INTO items (id, no) VALUES (LAST_INSERT_ID(), 1)
INSERT INTO items (id, no) VALUES (17, LAST_INSERT_ID())
UPDATE items SET no = LAST_INSERT_ID() + 1 WHERE id = 17
SELECT ROW_COUNT()
DELETE FROM items WHERE id = LAST_INSERT_ID()
SELECT ROW_COUNT(), LAST_INSERT_ID()
SELECT COUNT(*), MAX(n) FROM refs WHERE n > LAST_INSERT_ID()
INSERT INTO solo (n, v) VALUES (0, 's'), (600, 't'), (NULL, 'u'), (DEFAULT, 'v')
SELECT LAST_INSERT_ID(), ROW_COUNT()
INSERT INTO solo (n, v) VALUES (700 + 1, 's')
SELECT LAST_INSERT_ID(), ROW_COUNT()
INSERT INTO solo (n, v) VALUES (1, 'dup')
SELECT LAST_INSERT_ID(), ROW_COUNT(), @@error_count, @@warning_count
INSERT IGNORE INTO solo (n, v) VALUES (1, 'dup')
SELECT LAST_INSERT_ID(), ROW_COUNT(), @@error_count, @@warning_count
INSERT INTO solo SET v = 'set'
SELECT LAST_INSERT_ID()
INSERT INTO solo (v) SELECT code FROM refs
SELECT LAST_INSERT_ID(), ROW_COUNT()
REPLACE INTO solo (n, v) VALUES (1, 're')
SELECT LAST_INSERT_ID(), ROW_COUNT()
",
    ),
    (
        "counts of rows found and changed",
        r"
SELECT n FROM refs
SELECT FOUND_ROWS()
SELECT FOUND_ROWS()
SELECT n FROM refs
SET @x = 1
SELECT FOUND_ROWS(), ROW_COUNT()
SELECT n FROM refs
BEGIN
COMMIT
SELECT FOUND_ROWS(), ROW_COUNT()
SELECT n FROM refs
UPDATE t SET a = a + 1 WHERE id = 1
SELECT ROW_COUNT(), FOUND_ROWS()
SELECT n FROM refs LIMIT 1
SELECT FOUND_ROWS()
SELECT SQL_CALC_FOUND_ROWS n FROM refs LIMIT 1
SELECT FOUND_ROWS()
SELECT SQL_CALC_FOUND_ROWS no FROM items WHERE id = 1 ORDER BY no LIMIT 1
SELECT FOUND_ROWS(), ROW_COUNT()
SELECT id FROM t
SELECT FOUND_ROWS()
SELECT nope FROM t WHERE id = 1
SELECT FOUND_ROWS(), ROW_COUNT()
SELECT n FROM refs
SHOW WARNINGS
SELECT FOUND_ROWS(), ROW_COUNT()
SELECT n FROM refs
\ping
SELECT FOUND_ROWS(), ROW_COUNT()
UPDATE t SET a = a + 1 WHERE id = 2; SELECT ROW_COUNT(); SELECT ROW_COUNT()
UPDATE t SET a = a WHERE id = 2; SELECT ROW_COUNT(), FOUND_ROWS()
INSERT INTO items (id, no) VALUES (2, 7), (2, 8), (2, 9); SELECT ROW_COUNT(); SELECT FOUND_ROWS()
REPLACE INTO t (id, a) VALUES (2, 1); SELECT ROW_COUNT()
INSERT INTO t (id, a) VALUES (2, 1) ON DUPLICATE KEY UPDATE a = a + 1; SELECT ROW_COUNT()
DELETE FROM items WHERE id = 2; SELECT ROW_COUNT() AS n
SELECT id FROM t; SELECT FOUND_ROWS(), ROW_COUNT()
INSERT INTO solo (v) VALUES ('a'); SELECT LAST_INSERT_ID(); INSERT INTO solo (v) VALUES ('b'); SELECT LAST_INSERT_ID(), ROW_COUNT()
SET @y = 2; SELECT ROW_COUNT()
BEGIN; SELECT ROW_COUNT(); ROLLBACK; SELECT ROW_COUNT()
DELETE FROM t WHERE id = 1
\reset
SELECT ROW_COUNT(), FOUND_ROWS(), LAST_INSERT_ID()
",
    ),
    (
        "LAST_INSERT_ID with an argument",
        r"
UPDATE t SET a = LAST_INSERT_ID(a + 1) WHERE id = 1
SELECT LAST_INSERT_ID()
UPDATE t SET a = LAST_INSERT_ID(a + 1) WHERE id = 99
SELECT LAST_INSERT_ID(), ROW_COUNT()
SELECT LAST_INSERT_ID(77)
SELECT LAST_INSERT_ID()
INSERT INTO solo (n, v) VALUES (1, 's') ON DUPLICATE KEY UPDATE n = LAST_INSERT_ID(n), v = 'up'
SELECT LAST_INSERT_ID(), ROW_COUNT()
INSERT INTO solo (v) VALUES ('new') ON DUPLICATE KEY UPDATE v = 'up'
SELECT LAST_INSERT_ID()
INSERT INTO solo (n, v) VALUES (2, 's') ON DUPLICATE KEY UPDATE v = 'up'
SELECT LAST_INSERT_ID(), ROW_COUNT()
",
    ),
    (
        "warnings and errors are shown and counted",
        r"
SHOW COUNT(*) WARNINGS
SHOW COUNT(*) ERRORS
INSERT IGNORE INTO t (id, a) VALUES (132, 'x')
SHOW COUNT(*) WARNINGS
SHOW WARNINGS
SHOW ERRORS
SELECT @@warning_count
SELECT @@warning_count, @@error_count
SELECT nope FROM t WHERE id = 1
SHOW COUNT(*) ERRORS
SHOW ERRORS
SHOW WARNINGS
SELECT @@error_count
SELECT ROW_COUNT()
SELECT a FROM t WHERE id = 1
SHOW COUNT(*) WARNINGS
",
    ),
    (
        "numbers for rows on several shards",
        r"
INSERT INTO orders (who) VALUES (1)
SELECT LAST_INSERT_ID(), ROW_COUNT()
SELECT * FROM orders WHERE id = LAST_INSERT_ID()
INSERT INTO orders (who) VALUES (1), (2), (3), (4), (5)
SELECT LAST_INSERT_ID()
INSERT INTO orders VALUES (0, 6, 'x'), (NULL, 7, 'y'), (DEFAULT, 8, 'z')
SELECT LAST_INSERT_ID()
INSERT INTO orders (id, who, note) VALUES (0, 9, 'one')
INSERT INTO orders () VALUES ()
INSERT INTO orders VALUES ()
INSERT INTO orders SET who = 10
INSERT INTO orders SET id = NULL, who = 11
REPLACE INTO orders (who) VALUES (12), (13)
SELECT LAST_INSERT_ID()
INSERT INTO orders (id, who) VALUES ('0', 14)
INSERT IGNORE INTO orders (who) VALUES (15)
SELECT LAST_INSERT_ID()
INSERT INTO orders (who) VALUES (16) ON DUPLICATE KEY UPDATE who = 0
SELECT LAST_INSERT_ID()
INSERT INTO orders (who) VALUES (18), (19) RETURNING id, who
SELECT LAST_INSERT_ID()
INSERT INTO orders (id, who) VALUES (1, 1)
INSERT INTO orders (id, who) VALUES (-5, 1)
INSERT INTO parts (id, what) VALUES (7, 'a')
SELECT LAST_INSERT_ID()
INSERT INTO parts (id, no, what) VALUES (7, 0, 'b'), (8, NULL, 'c'), (9, DEFAULT, 'd')
SELECT LAST_INSERT_ID()
? INSERT IGNORE INTO parts (id, what) VALUES (7, 'a')
BEGIN
INSERT INTO orders (who) VALUES (20)
ROLLBACK
INSERT INTO orders (who) VALUES (21)
SELECT LAST_INSERT_ID()
BEGIN
INSERT INTO orders (who) VALUES (22), (23), (24)
UPDATE orders SET who = 0 WHERE id = LAST_INSERT_ID()
COMMIT
? INSERT INTO orders (id, who) VALUES (1 + 1, 5)
INSERT INTO orders (id, who) VALUES (100000, 1)
INSERT INTO orders (who) VALUES (25)
SELECT LAST_INSERT_ID()
SELECT id, who, note FROM orders
",
    ),
    (
        "what a server only warns of among other rows",
        r"
INSERT IGNORE INTO t (id, note) VALUES (1001, 'bad'), (1002, 'a'), (1003, 'b'), (1004, 'c'), (1005, 'd'), (1006, 'e'), (1007, 'f'), (1008, 'g'), (1001, 'h'), (1009, 'i'), (1010, 'j')
SHOW WARNINGS
? INSERT IGNORE INTO t (id, note) VALUES (1, 'x'), (2, 'y'), (3, 'z'), (4, 'w'), (1021, 'bad'), (1022, 'a'), (1023, 'bad'), (1024, 'b'), (1025, 'c'), (1026, 'd'), (1027, 'bad'), (1028, 'e'), (1029, 'f')
? INSERT IGNORE INTO t (id, note) VALUES (1031, 'bad'), (1032, 'bad')
? INSERT IGNORE INTO t (id, note) VALUES (1033, 'bad'), (1034, 'bad'), (1035, 'bad')
? INSERT IGNORE INTO t (id, note) VALUES (1036, 'bad'), (1037, 'fine')
? INSERT IGNORE INTO t (id, note) VALUES (1038, 'fine'), (1039, 'bad')
INSERT IGNORE INTO t (id, note) VALUES (1040, 'bad')
INSERT INTO t (id, note) VALUES (1041, 'bad'), (1042, 'fine')
INSERT INTO t (id, note) VALUES (1041, 'fine'), (1042, 'bad')
REPLACE INTO t (id, note) VALUES (1041, 'bad'), (1042, 'bad')
INSERT INTO items (id, no, price) VALUES (1041, 1, NULL), (1042, 2, 1)
INSERT IGNORE INTO items (id, no, price) VALUES (1041, 1, NULL), (1042, 2, 1), (1043, 3, NULL)
SHOW WARNINGS
SET sql_mode = ''
? INSERT INTO items (id, no, price) VALUES (1051, 1, NULL), (1052, 2, 1)
? INSERT INTO items (id, no, price) VALUES (1053, 1, 1), (1054, 2, NULL)
? INSERT INTO items (id, no, price) VALUES (1055, 1, NULL), (1056, 2, NULL), (1057, 3, NULL)
? REPLACE INTO items (id, no, price) VALUES (1058, 1, NULL), (1059, 2, 1), (1060, 3, NULL)
INSERT INTO items (id, no, price) VALUES (1061, 1, NULL)
INSERT IGNORE INTO items (id, no, price) VALUES (1062, 1, NULL), (1063, 2, 1), (1064, 3, NULL)
SHOW WARNINGS
INSERT INTO items (id, no, price) VALUES (1065, 1, 1), (1066, 1, 2)
? INSERT INTO items (id, no, price) VALUES (1065, 1, 1), (1066, 1, 2), (1067, 1, 2) ON DUPLICATE KEY UPDATE price = NULL
SET sql_mode = 'traditional'
INSERT INTO items (id, no, price) VALUES (1071, 1, NULL), (1072, 2, 1)
? SELECT id, note FROM t WHERE id > 1000
? SELECT id, no, price FROM items WHERE id > 1000
",
    ),
    (
        "rows for several shards",
        r"
INSERT INTO t (id, a) VALUES (201, 1), (202, 2), (203, 3), (204, 4), (205, 5), (206, 6), (207, 7), (208, 8)
SELECT ROW_COUNT()
INSERT INTO t VALUES (211, 1, 'a', NULL), (212, 2, DEFAULT, '2020-01-01'), (213, 3, ')', NULL), (214, 1 + 2, 'x;y', NULL)
REPLACE INTO t (id, a) VALUES (1, 100), (2, 200), (3, 300), (220, 5), (221, 6)
INSERT IGNORE INTO t (id, a) VALUES (1, 1), (2, 2), (3, 3), (4, 4), (231, 1), (232, 2), (233, 3)
SHOW WARNINGS
SELECT @@warning_count, ROW_COUNT()
INSERT IGNORE INTO t (id, a) VALUES (241, 'x'), (242, 1), (243, 'y'), (244, 'z'), (245, 'w'), (246, '1')
SHOW WARNINGS
INSERT INTO t (id, a) VALUES (1, 1), (2, 2), (3, 3), (251, 1), (252, 2) ON DUPLICATE KEY UPDATE a = a + VALUES(a)
INSERT INTO t (id, a) VALUES (1, 1), (2, 2), (3, 3), (251, 1), (252, 2) ON DUPLICATE KEY UPDATE a = a
SELECT id, a FROM t WHERE id IN (1, 2, 3, 251, 252)
INSERT INTO t (id, a) VALUES (261, 1), (262, 2), (263, 'no'), (264, 4), (265, 'never')
INSERT INTO t (id, a) VALUES (261, 1), (262, 2), (263, 3), (3, 4), (4, 4), (1, 1), (2, 1)
INSERT INTO t (id, a) VALUES (8, 1), (262, 2), (7, 4), (4, 4), (1, 1), (2, 1)
SELECT id FROM t WHERE id IN (261, 262, 263, 264)
INSERT INTO t (id, a) VALUES (261, 1), (262, 2), (263, 3), (261, 4)
INSERT INTO t (id, note) VALUES (271, 'a'), (272, 'bad'), (273, 'bad')
INSERT INTO t (id, a) VALUES (281, 1), (282, 2), (283, 3), (284, 4) RETURNING id, a * 2 AS b
REPLACE INTO t (id, a) VALUES (281, 1), (282, 2), (283, 3), (285, 4) RETURNING id, a
BEGIN
INSERT INTO t (id, a) VALUES (291, 1), (292, 2), (293, 3), (294, 4)
INSERT INTO t (id, a) VALUES (295, 1), (296, 2), (293, 3), (297, 4)
SELECT id FROM t WHERE id IN (291, 292, 293, 294, 295, 296, 297)
COMMIT
SELECT id FROM t WHERE id IN (291, 292, 293, 294, 295, 296, 297)
BEGIN
INSERT INTO items (id, no) VALUES (301, 1), (302, 1), (303, 1), (304, 1)
ROLLBACK
INSERT INTO fruits (name, n) VALUES ('kiwi', 1), ('lime', 2), ('date', 3), ('nut', 4)
? INSERT INTO t (id, a) VALUES (311, 1), (NULL, 2), (313, 3)
INSERT INTO t (id, a) VALUES (311, 1), (312), (313, 3)
SET @v = 5
INSERT INTO t (id, a) VALUES (321, @v), (322, @v), (323, @v), (324, @v)
",
    ),
    (
        "tables of several shards are changed",
        r"
ALTER TABLE t ADD COLUMN extra int DEFAULT 5
SELECT id, extra FROM t WHERE id = 1
SELECT id, extra FROM t
INSERT INTO t VALUES (401, 1, 'a', NULL, 2), (402, 2, 'b', NULL, 3), (403, 3, 'c', NULL, 4)
ALTER TABLE t DROP COLUMN extra
ALTER TABLE t DROP COLUMN extra
ALTER TABLE t DROP COLUMN IF EXISTS extra
SHOW WARNINGS
CREATE INDEX i ON t (a)
CREATE INDEX i ON t (a)
DROP INDEX i ON t
! CREATE UNIQUE INDEX i ON t (a)
DROP INDEX i ON t
! ALTER TABLE t ADD UNIQUE u (a)
DROP INDEX u ON t
! ALTER TABLE t ADD COLUMN extra int UNIQUE
ALTER TABLE t DROP COLUMN extra
! ALTER TABLE t CHANGE id id2 bigint
ALTER TABLE t CHANGE id2 id bigint
! ALTER TABLE t RENAME COLUMN ID TO id2
ALTER TABLE t CHANGE id2 id bigint
! ALTER TABLE t MODIFY id int unsigned
! ALTER TABLE t MODIFY id bigint unsigned NOT NULL
ALTER TABLE t MODIFY id bigint NOT NULL
! ALTER TABLE parts ADD CONSTRAINT f FOREIGN KEY (no) REFERENCES solo (n)
ALTER TABLE parts DROP FOREIGN KEY f
SELECT id, a FROM t WHERE id = 1
INSERT INTO t (id) VALUES (411), (412), (413)
ALTER TABLE t DROP id2
CREATE UNIQUE INDEX i ON t (a, Id)
DROP INDEX i ON t
ALTER TABLE t ADD COLUMN tag int, ADD CONSTRAINT f FOREIGN KEY (tag) REFERENCES tags (n)
INSERT INTO t (id, tag) VALUES (421, 1), (422, 2)
ALTER TABLE t DROP FOREIGN KEY f
ALTER TABLE t DROP COLUMN tag
ALTER TABLE orders ADD CONSTRAINT o FOREIGN KEY (id) REFERENCES t (id) ON DELETE CASCADE
ALTER TABLE orders DROP FOREIGN KEY o
BEGIN
UPDATE t SET a = 77 WHERE id = 1
ALTER TABLE fruits COMMENT = 'x'
ROLLBACK
SELECT a FROM t WHERE id = 1
BEGIN
UPDATE t SET a = 78 WHERE id = 1
ALTER TABLE fruits NO SUCH THING
ROLLBACK
SELECT a FROM t WHERE id = 1
CREATE TABLE IF NOT EXISTS orders (id bigint)
SHOW WARNINGS
DROP TABLE parts
SELECT * FROM parts WHERE id = 1
DROP TABLE parts
DROP TABLE IF EXISTS parts
SHOW WARNINGS
! CREATE TABLE parts (id bigint, no int AUTO_INCREMENT PRIMARY KEY, what varchar(6))
DROP TABLE IF EXISTS parts
CREATE TABLE parts (id bigint, no int AUTO_INCREMENT, what varchar(6), PRIMARY KEY (id, no), KEY (no))
INSERT INTO parts (id, what) VALUES (1, 'a'), (2, 'b'), (3, 'c')
SELECT LAST_INSERT_ID()
TRUNCATE TABLE orders
INSERT INTO orders (who) VALUES (1), (2)
SELECT LAST_INSERT_ID()
ALTER TABLE orders AUTO_INCREMENT = 500
INSERT INTO orders (who) VALUES (1)
SELECT LAST_INSERT_ID()
ALTER TABLE refs ADD COLUMN more int, ALGORITHM = COPY
ALTER TABLE refs DROP COLUMN more
SET autocommit = 0
UPDATE t SET a = 79 WHERE id IN (1, 2, 3)
TRUNCATE t
SELECT id FROM t
ALTER TABLE fruits COMMENT = 'z'
SELECT id FROM t WHERE id = 1
ROLLBACK
SET autocommit = 1
SELECT id FROM t
BEGIN
INSERT INTO t (id, a) VALUES (1, 1), (2, 2), (3, 3), (4, 4)
ALTER TABLE solo COMMENT = 'committed'
ROLLBACK
SELECT id FROM t ORDER BY id
SET autocommit = 0
UPDATE t SET a = a + 1
TRUNCATE solo
ROLLBACK
SELECT id, a FROM t ORDER BY id
SET autocommit = 1
",
    ),
    (
        "the number of the last row is told where some were written",
        r"
INSERT INTO orders (id, who) VALUES (70, 1), (80, 1), (81, 1)
INSERT IGNORE INTO orders (id, who) VALUES (71, 1), (72, 1), (1, 1)
INSERT IGNORE INTO orders (id, who) VALUES (1, 1), (73, 1), (74, 1)
INSERT IGNORE INTO orders (id, who) VALUES (1, 1), (2, 1), (73, 1)
REPLACE INTO orders (id, who) VALUES (75, 1), (76, 1), (2, 1), (1, 3)
INSERT INTO orders (id, who) VALUES (77, 1), (78, 1), (2, 1) ON DUPLICATE KEY UPDATE who = who
INSERT INTO orders (id, who) VALUES (77, 1), (78, 1), (2, 1) ON DUPLICATE KEY UPDATE who = who
INSERT INTO orders (id, who) VALUES (77, 1), (79, 1), (2, 1) ON DUPLICATE KEY UPDATE who = 9
INSERT IGNORE INTO parts VALUES (7, 7, 'a'), (8, 8, 'b'), (1, 1, 'c')
INSERT IGNORE INTO parts VALUES (9, 7, 'a'), (10, 8, 'b'), (11, 1, 'c')
SELECT LAST_INSERT_ID()
",
    ),
    (
        "numbers between those that rows have",
        r"
INSERT INTO orders (id, who) VALUES (NULL, 1), (30, 1), (20, 1), (NULL, 1), (0, 1)
INSERT INTO orders (who) VALUES (1)
INSERT INTO orders (id, who) VALUES (40, 1), (NULL, 1)
INSERT INTO orders (who) VALUES (1)
INSERT INTO orders (id, who) VALUES (21, 1), (NULL, 1), (22, 1)
INSERT INTO orders (who) VALUES (1)
INSERT INTO orders (id, who) VALUES (23, 1), (24, 1), (NULL, 1)
INSERT INTO orders (who) VALUES (1), (2)
INSERT INTO orders (id, who) VALUES (-7, 1), (25, 1), (NULL, 1), (70, 1), (NULL, 1)
INSERT INTO orders (who) VALUES (1)
INSERT INTO orders (id, who) VALUES (NULL, 1), (26, 1), (NULL, 1), (90, 1), (NULL, 1), (NULL, 1), (NULL, 1)
INSERT INTO orders (who) VALUES (1)
REPLACE INTO orders (id, who) VALUES (NULL, 1), (27, 1), (NULL, 1)
INSERT INTO orders (who) VALUES (1)
SELECT id, who FROM orders ORDER BY id
",
    ),
];
