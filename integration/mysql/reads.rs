//! Reads that no shard answers by itself, in the form of [`crate::cases`].

use crate::cases::Case;

pub(crate) const READS: &[Case] = &[
    (
        "gathered: what is put together of several shards",
        r"
SELECT id FROM t ORDER BY id
SELECT * FROM t ORDER BY a DESC, id
SELECT id, note FROM t ORDER BY note, id LIMIT 3
SELECT id, note FROM t ORDER BY note DESC, id LIMIT 3 OFFSET 2
SELECT id FROM t ORDER BY id LIMIT 2, 100
SELECT id FROM t ORDER BY id LIMIT 0
SELECT COUNT(*) FROM t
SELECT COUNT(*), COUNT(a), COUNT(DISTINCT what) FROM t LEFT JOIN items USING (id)
SELECT MAX(a), MIN(a), SUM(a), AVG(a), STD(a), BIT_OR(a) FROM t
SELECT MAX(a) FROM t WHERE id > 1000
SELECT SUM(a) FROM t WHERE id BETWEEN 2 AND 6
SELECT a, COUNT(*) AS c FROM t GROUP BY a ORDER BY a
SELECT what, SUM(price), MIN(no) FROM items GROUP BY what HAVING SUM(price) > 1 ORDER BY what
SELECT what, COUNT(*) FROM items GROUP BY what WITH ROLLUP
SELECT DISTINCT what FROM items ORDER BY what
SELECT DISTINCT LENGTH(note) AS l FROM t WHERE id IN (1, 2, 3, 4, 5, 6) ORDER BY l
SELECT GROUP_CONCAT(note ORDER BY id SEPARATOR ';') FROM t
SELECT COUNT(*) + 1 AS c, 'x' AS x, NULL FROM t WHERE a > 1000000
SELECT t.id, i.no FROM t JOIN items i ON t.a = i.no * 10 ORDER BY t.id, i.no
SELECT x.id, y.id FROM t x JOIN t y ON x.a = y.a + 10 ORDER BY x.id
SELECT x.id, y.id FROM t x LEFT JOIN t y ON y.a = x.a * 2 AND y.id > 2 WHERE x.id < 5 ORDER BY x.id
SELECT id FROM t WHERE a IN (SELECT price * 10 FROM items) ORDER BY id
SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM items WHERE items.no = t.id) ORDER BY id
SELECT (SELECT COUNT(*) FROM items) AS c FROM t WHERE id = 1
SELECT id, (SELECT SUM(price) FROM items i WHERE i.no <= t.id) AS s FROM t ORDER BY id
SELECT id FROM t UNION SELECT no FROM items ORDER BY 1
SELECT id FROM t UNION ALL SELECT no FROM items ORDER BY 1 LIMIT 5
SELECT id FROM t EXCEPT SELECT no FROM items ORDER BY 1
SELECT id FROM t INTERSECT SELECT no FROM items ORDER BY 1
SELECT id, ROW_NUMBER() OVER (ORDER BY a DESC) AS r, SUM(a) OVER (ORDER BY id) AS s FROM t ORDER BY id
SELECT id, LAG(note) OVER w AS l FROM t WINDOW w AS (ORDER BY id) ORDER BY id
WITH x AS (SELECT COUNT(*) AS c FROM t) SELECT c FROM x
WITH x AS (SELECT what, MAX(price) AS m FROM items GROUP BY what) SELECT i.id, x.m FROM items i JOIN x ON x.what = i.what ORDER BY i.id, i.no
WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT n.i, t.a FROM n LEFT JOIN t ON t.id = n.i ORDER BY n.i
SELECT d.c FROM (SELECT COUNT(*) AS c FROM t GROUP BY id % 2) AS d ORDER BY d.c
SELECT * FROM (SELECT id, a FROM t ORDER BY a DESC LIMIT 3) AS d ORDER BY id
SELECT name, n FROM fruits ORDER BY name
SELECT MAX(name), MIN(raw), SUM(n) FROM fruits
SELECT u, n FROM uuids ORDER BY u DESC
SELECT t.id, f.name FROM t JOIN fruits f ON f.n = t.id ORDER BY t.id
SELECT COUNT(*) FROM t WHERE id = 1 AND id = 2
SELECT COUNT(*) FROM {db}.t
SELECT {db}.t.id FROM {db}.t ORDER BY {db}.t.id DESC LIMIT 1
SELECT SQL_NO_CACHE COUNT(*) FROM t USE INDEX (PRIMARY)
",
    ),
    (
        "gathered: unions too, where the session wants it",
        r"
SET @shardway_strategy = 'gather'
SELECT * FROM t
SELECT id AS k, a * 2 AS twice, UPPER(note) FROM t WHERE note IS NOT NULL
SELECT a FROM t WHERE id IN (1, 2, 3, 4, 5)
SELECT id FROM t WHERE id > 3 AND id <= 6
SELECT t.a, i.no FROM t JOIN items i ON i.id = t.id
SELECT COUNT(*), SUM(a), MIN(note) FROM t
SELECT id FROM kinds WHERE ti = 7 OR mi < 0
BEGIN
UPDATE t SET a = 1 WHERE id = 1
SELECT a FROM t WHERE id IN (1, 2)
ROLLBACK
",
    ),
    (
        "gathered: beside what is whole",
        r"
SELECT t.id, s.v FROM t JOIN solo s ON s.n = t.id ORDER BY t.id
SELECT COUNT(*) FROM t, solo
SELECT t.id, r.code FROM t JOIN refs r ON r.n = t.a + 9 ORDER BY t.id
SELECT r.code, COUNT(t.id) FROM refs r LEFT JOIN t ON t.a > r.n GROUP BY r.code ORDER BY r.code
SELECT n FROM refs WHERE n > (SELECT MAX(id) FROM t) ORDER BY n
SELECT n FROM solo WHERE n IN (SELECT id FROM t) ORDER BY n
SELECT COUNT(*) FROM refs WHERE code IN (SELECT name FROM fruits)
",
    ),
    (
        "gathered: every type of value",
        r"
SELECT * FROM kinds ORDER BY id
SELECT k.*, k.id FROM kinds AS k ORDER BY id DESC
SELECT id, HEX(ch), HEX(l1), HEX(tx), HEX(u2), HEX(bn), HEX(vb), HEX(bl), HEX(bt) FROM kinds ORDER BY id
SELECT id, en + 0, st + 0, fl * 1e0, fd * 1e0, db, yr, ts + 0, tm + 0, ge, vi FROM kinds ORDER BY id
SELECT COUNT(DISTINCT l1), COUNT(DISTINCT tx), MAX(u2), MIN(bn) FROM kinds
SELECT SUM(de), AVG(de), SUM(bi), MAX(ti), MIN(mi), MAX(dt), MIN(da), MAX(tm), MAX(js) FROM kinds
SELECT l1, COUNT(*) FROM kinds GROUP BY l1 ORDER BY l1
SELECT tx, GROUP_CONCAT(id ORDER BY id) FROM kinds GROUP BY tx ORDER BY tx
SELECT id FROM kinds WHERE ts = '2021-10-31 02:30:00.500' ORDER BY id
SET time_zone = '+05:30'
SELECT id, ts FROM kinds ORDER BY id
SELECT MAX(ts), MIN(ts) FROM kinds
SELECT id, ts FROM kinds WHERE id = 2
SET NAMES latin1
SELECT id, l1, tx, u2, en, js FROM kinds ORDER BY id
SET NAMES utf8mb3
SELECT id, l1, tx, en FROM kinds ORDER BY tx, id
SET sql_mode = 'PAD_CHAR_TO_FULL_LENGTH'
SELECT id, ch, LENGTH(ch) FROM kinds ORDER BY id
SET sql_mode = 'TRADITIONAL'
SELECT id, da, dt FROM kinds ORDER BY id
",
    ),
    (
        "gathered: in transactions",
        r"
BEGIN
SELECT COUNT(*) FROM t
\ping
UPDATE t SET a = 1000 WHERE id = 1
SELECT MAX(a) FROM t
SELECT id, a FROM t ORDER BY a DESC LIMIT 2
INSERT INTO items (id, no) VALUES (1, 2000)
SELECT MAX(no), COUNT(*) FROM items
SELECT s.n, t.id FROM solo s LEFT JOIN t ON t.a = s.n + 999 ORDER BY s.n
SELECT r.code, (SELECT MAX(a) FROM t) AS m FROM refs r ORDER BY r.code
\ping
ROLLBACK
SELECT COUNT(*), MAX(a) FROM t
START TRANSACTION READ ONLY
SELECT COUNT(*) FROM t
\ping
SELECT id FROM t ORDER BY id LIMIT 1
COMMIT
SET autocommit = 0
SELECT COUNT(*) FROM t
\ping
UPDATE solo SET v = 'z' WHERE n = 1
SELECT t.id, s.v FROM t JOIN solo s ON s.n = t.id ORDER BY t.id
ROLLBACK
\ping
SELECT t.id, s.v FROM t JOIN solo s ON s.n = t.id ORDER BY t.id
COMMIT
",
    ),
    (
        "gathered: errors and warnings are the server's own",
        r"
SELECT nope FROM t ORDER BY id
SELECT COUNT(*) FROM t ORDER BY nope
SELECT id FROM t GROUP BY nope
SELECT id, COUNT(*) FROM t WHERE (SELECT no FROM items) = 1
SELECT SUM(CAST(note AS SIGNED)) FROM t
? SHOW WARNINGS
SELECT COUNT(*) FROM t WHERE note = 1
? SHOW WARNINGS
SELECT COUNT(*) FROM t
? SHOW WARNINGS
SELECT SUM(a), 1 / 0 FROM t
? SHOW WARNINGS
SELECT nope FROM t ORDER BY id
? SHOW WARNINGS
SELECT id FROM t WHERE id = (SELECT id FROM t)
? SHOW WARNINGS
SELECT EXP(a * 100) FROM t ORDER BY id
SELECT id FROM t ORDER BY id LIMIT -1
BEGIN
SELECT id FROM t WHERE id = (SELECT id FROM t)
\ping
SELECT COUNT(*) FROM t
COMMIT
SELECT COUNT(*) FROM t; SELECT id FROM t ORDER BY id LIMIT 1; SELECT 1
",
    ),
    (
        "gathered: the session's state",
        r"
SET @least = 3
SELECT COUNT(*) FROM t WHERE id > @least
SELECT COUNT(*), DATABASE() FROM t
SELECT COUNT(*), @@sql_mode, @@time_zone FROM t
SET div_precision_increment = 7, group_concat_max_len = 4
SELECT SUM(a) / 7 FROM t
SELECT LENGTH(GROUP_CONCAT(note)) FROM t
? SHOW WARNINGS
SET sql_mode = 'ANSI_QUOTES'
SELECT COUNT(*) AS 'c' FROM t WHERE note = 'one'
SET sql_mode = 'ONLY_FULL_GROUP_BY'
SELECT a, note FROM t GROUP BY a
SELECT id, note FROM t GROUP BY id ORDER BY id
SET sql_mode = 'PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES'
SELECT MAX(note || '\') FROM t
\ping
? SELECT COUNT(*), @@autocommit FROM t
? SELECT COUNT(*), CONNECTION_ID() > 0 FROM t
? SELECT @n := COUNT(*) FROM t
? SELECT COUNT(*) INTO @n FROM t
? SELECT id FROM t ORDER BY id FOR UPDATE
? SELECT COUNT(*) FROM t LOCK IN SHARE MODE
? SELECT table_name, (SELECT COUNT(*) FROM t) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 't'
? SELECT SQL_CALC_FOUND_ROWS id FROM t ORDER BY id LIMIT 1
? SELECT COUNT(*), LAST_INSERT_ID() FROM t
? EXPLAIN SELECT COUNT(*) FROM t WHERE id = 1
\reset
SELECT COUNT(*) FROM t
SELECT RAND() < 2 FROM t ORDER BY id
SELECT NOW() - NOW(), COUNT(*) FROM t
SELECT COUNT(DISTINCT UUID()) FROM t
",
    ),
];
