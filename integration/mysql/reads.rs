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
SELECT SQL_CALC_FOUND_ROWS id FROM t ORDER BY id LIMIT 1
SELECT FOUND_ROWS()
SELECT id FROM t ORDER BY id LIMIT 2
SELECT FOUND_ROWS()
SELECT SQL_CALC_FOUND_ROWS a, COUNT(*) FROM t GROUP BY a ORDER BY a LIMIT 1
SELECT FOUND_ROWS()
SELECT SQL_CALC_FOUND_ROWS nope FROM t LIMIT 1
SELECT id FROM t ORDER BY id LIMIT 2
SELECT FOUND_ROWS()
? SELECT COUNT(*), LAST_INSERT_ID() FROM t
? EXPLAIN SELECT COUNT(*) FROM t WHERE id = 1
\reset
SELECT COUNT(*) FROM t
SELECT RAND() < 2 FROM t ORDER BY id
SELECT NOW() - NOW(), COUNT(*) FROM t
SELECT COUNT(DISTINCT UUID()) FROM t
",
    ),
    (
        "united: totals and groups of them",
        r"
SELECT COUNT(*), COUNT(a), COUNT(note), COUNT(1), COUNT(NULL) FROM t
SELECT SUM(a), MIN(a), MAX(a), AVG(a), BIT_OR(a), BIT_AND(a), BIT_XOR(a) FROM t
SELECT COUNT(*), SUM(a), MIN(a), MAX(a), AVG(a), BIT_OR(a), BIT_AND(a), BIT_XOR(a) FROM t WHERE id > 1000
SELECT SUM(price), AVG(price), MIN(price), MAX(price), SUM(no), AVG(no), MIN(what), MAX(what) FROM items
SELECT SUM(de), AVG(de), MIN(de), MAX(de), SUM(bi), AVG(bi), MIN(bi), MAX(bi), SUM(ti), AVG(mi), MIN(mi) FROM kinds
SELECT MIN(da), MAX(da), MIN(dt), MAX(dt), MIN(ch), MAX(ch), MIN(l1), MAX(l1), COUNT(js), BIT_OR(bi), BIT_XOR(ti) FROM kinds WHERE id < 5
SELECT MIN(yr), MAX(ts), MIN(tm), MAX(fl), SUM(db), AVG(fd), MIN(u2), MAX(bn), MIN(vb), MAX(en), MIN(st), MAX(ui), MIN(ip), BIT_OR(bt) FROM kinds
SELECT AVG(de * 1.00), AVG(de / 3), SUM(ti * mi), AVG(CAST(ti AS DECIMAL(12,5))), AVG(CAST(mi AS DECIMAL(20,7)) / 3), AVG(ti + 0.12345) FROM kinds
SELECT AVG(-a), AVG(a * 0.00001), SUM(-a), SUM(a > 30), MAX(-a), MIN(a * 1.5), AVG(DISTINCT a), SUM(DISTINCT a), COUNT(DISTINCT note) FROM t
SELECT MAX(CONCAT(note, 'x')), MIN(UPPER(note)), MAX(made), MIN(made) FROM t
SELECT COUNT(*) AS c, 'x' AS x, NULL, 1.50, SUM(a) FROM t WHERE id < 6
SELECT AVG(no) FROM items WHERE id = 1
SELECT SUM(a), 7 FROM t ORDER BY 1
SELECT SUM(a) AS s, COUNT(*) FROM t ORDER BY s LIMIT 1
SELECT COUNT(*) FROM t LIMIT 0
SELECT COUNT(*) FROM t LIMIT 5 OFFSET 1
SELECT SUM(t.a), COUNT(i.no), AVG(i.price), MIN(i.what) FROM t JOIN items i ON i.id = t.id
SELECT COUNT(*), COUNT(i.no), SUM(price) FROM t LEFT JOIN items i USING (id) WHERE t.id < 100
SELECT COUNT(*), MAX(r.code) FROM t JOIN refs r ON r.n > t.a
SELECT COUNT(*) FROM t WHERE a IN (SELECT n + 1 FROM refs) OR note LIKE 't%' OR note IN ('one', 'FOUR')
SELECT a, COUNT(*) FROM t GROUP BY a
SELECT what, COUNT(*), SUM(price), AVG(price), MIN(no), MAX(no) FROM items GROUP BY what
SELECT COUNT(*), what FROM items GROUP BY what ORDER BY what DESC LIMIT 2
SELECT what AS w, SUM(price) AS s FROM items GROUP BY what ORDER BY s DESC, w LIMIT 2 OFFSET 1
SELECT what, AVG(price) AS s FROM items GROUP BY what ORDER BY s DESC, what
SELECT what, MAX(price) FROM items GROUP BY what ORDER BY MAX(price), what
SELECT SUM(no) FROM items i GROUP BY i.what ORDER BY i.what
SELECT id, no, COUNT(*) FROM items GROUP BY id, no ORDER BY no DESC, id
SELECT ti, bi, COUNT(*), SUM(de) FROM kinds GROUP BY ti, bi ORDER BY ti, bi
SELECT en, COUNT(*), MIN(id) FROM kinds GROUP BY en ORDER BY en
SELECT st, COUNT(*), MIN(id) FROM kinds GROUP BY st ORDER BY st DESC
SELECT da, dt, COUNT(*) FROM kinds GROUP BY da, dt ORDER BY da, dt
SELECT de, COUNT(*) FROM kinds GROUP BY de ORDER BY de
SELECT COUNT(*), MIN(id) FROM kinds GROUP BY l1 ORDER BY MIN(id)
SELECT COUNT(*), MIN(id) FROM kinds GROUP BY ch ORDER BY ch
SELECT yr, COUNT(*) FROM kinds GROUP BY yr ORDER BY yr
SELECT ts, COUNT(*) FROM kinds GROUP BY ts ORDER BY ts
SELECT tx, COUNT(*) FROM kinds GROUP BY tx ORDER BY tx
SELECT r.code, COUNT(*), SUM(t.a) FROM t JOIN refs r ON r.n > t.a GROUP BY r.code ORDER BY r.code
SELECT t.note, SUM(i.price) FROM t JOIN items i ON i.id = t.id GROUP BY t.note ORDER BY t.note
SELECT note FROM t GROUP BY note ORDER BY note
SELECT id + 1, COUNT(*) FROM t GROUP BY id ORDER BY id
SELECT a AS id, COUNT(*) FROM t GROUP BY id ORDER BY id
SELECT id % 2 AS a, COUNT(*) FROM t GROUP BY a ORDER BY 2, 1
SELECT what, COUNT(*) c FROM items GROUP BY what HAVING c > 1 ORDER BY what
SELECT COUNT(*) FROM items GROUP BY what ORDER BY COUNT(*) DESC, what LIMIT 1
SELECT COUNT(*) FROM t WHERE id = 1 AND id = 2
SET div_precision_increment = 9
SELECT AVG(a), AVG(id), AVG(a * 0.001) FROM t
SELECT what, AVG(price), AVG(no * 1.00000) FROM items GROUP BY what ORDER BY what
SET div_precision_increment = 0
SELECT AVG(a), AVG(id), AVG(a * 0.001), AVG(a * 1.00000000) FROM t
SET NAMES latin1
SELECT l1, COUNT(*) FROM kinds WHERE id > 2 GROUP BY l1 ORDER BY l1
SELECT MIN(l1), MAX(ch) FROM kinds
SET sql_mode = 'ANSI_QUOTES,ONLY_FULL_GROUP_BY'
SELECT note, COUNT(*) FROM t GROUP BY note ORDER BY note DESC
SET sql_mode = 'PAD_CHAR_TO_FULL_LENGTH'
SELECT ch, COUNT(*) FROM kinds GROUP BY ch ORDER BY ch
",
    ),
    (
        "united: rows in an order",
        r"
SELECT id, a FROM t ORDER BY a, id
SELECT id, a FROM t ORDER BY a DESC, id LIMIT 3
SELECT id, a FROM t ORDER BY a DESC, id LIMIT 3, 2
SELECT id FROM t ORDER BY id LIMIT 2 OFFSET 100
SELECT * FROM t ORDER BY t.note DESC, id
SELECT t.*, UPPER(note) AS u FROM t WHERE a > 10 ORDER BY note, id LIMIT 4
SELECT note AS n, id FROM t ORDER BY n, id
SELECT id AS a, a AS id FROM t ORDER BY a DESC
SELECT a + 1 AS id FROM t ORDER BY id
SELECT -a AS m, id FROM t ORDER BY m, id
SELECT note FROM t ORDER BY made DESC, id
SELECT id FROM kinds ORDER BY de DESC, id
SELECT id, da FROM kinds ORDER BY da, id
SELECT id, dt FROM kinds ORDER BY dt DESC, id
SELECT id FROM kinds ORDER BY bi, id
SELECT id FROM kinds ORDER BY mi, ti, id
SELECT id FROM kinds ORDER BY en, id
SELECT id FROM kinds ORDER BY st DESC, id
SELECT id, l1 FROM kinds ORDER BY l1, id
SELECT id, ch FROM kinds ORDER BY ch DESC, id
SELECT id, u2 FROM kinds ORDER BY u2, id
SELECT id, vb, bn FROM kinds ORDER BY vb, bn, id
SELECT id, tx FROM kinds ORDER BY tx, id
SELECT id, ts FROM kinds ORDER BY ts, id
SELECT id, ge FROM kinds ORDER BY ge DESC LIMIT 2
SELECT id, vi FROM kinds ORDER BY vi DESC LIMIT 2
SELECT name, n FROM fruits ORDER BY name
SELECT n FROM fruits ORDER BY name DESC LIMIT 2
SELECT t.id, i.no FROM t LEFT JOIN items i ON i.id = t.id ORDER BY i.no DESC, t.id
SELECT id, a FROM t ORDER BY id LIMIT 2, 0
SELECT a, COUNT(*) FROM t GROUP BY a ORDER BY a LIMIT 0
SELECT COUNT(*), MAX(a) FROM t LIMIT 0
SELECT t.id, r.code FROM t JOIN refs r ON r.n > t.a ORDER BY r.code, id LIMIT 5
SELECT id FROM t WHERE id BETWEEN 2 AND 6 ORDER BY id DESC
SELECT id, 'ORDER BY x LIMIT 1' FROM t /* LIMIT 2 */ ORDER BY id -- LIMIT 3
SELECT SQL_NO_CACHE id, EXTRACT(DAY FROM made) AS d FROM t USE INDEX FOR ORDER BY (PRIMARY) ORDER BY id LIMIT 2, 3
SELECT DISTINCT what FROM items
SELECT DISTINCT price FROM items ORDER BY price DESC LIMIT 2
SELECT DISTINCT what FROM items LIMIT 100
SELECT DISTINCT what, price FROM items ORDER BY price, what
SELECT DISTINCT no FROM items ORDER BY no LIMIT 1 OFFSET 1
SELECT DISTINCT price, what FROM items WHERE price > 1 ORDER BY what
SELECT DISTINCT ti FROM kinds
SELECT DISTINCT en FROM kinds ORDER BY en
SELECT DISTINCT note, a FROM t ORDER BY note DESC, a LIMIT 3, 4
SELECT DISTINCT note FROM t WHERE id < 5 ORDER BY note LIMIT 1, 100
SELECT DISTINCT l1 FROM kinds WHERE id < 5
SELECT DISTINCT ch, ti FROM kinds ORDER BY ch, ti
SELECT DISTINCT id, a FROM t ORDER BY note
SELECT DISTINCT a + 1 FROM t ORDER BY a
SELECT COUNT(*) FROM (SELECT DISTINCT what FROM items) d
SELECT id FROM t WHERE note = 5 ORDER BY id
? SHOW WARNINGS
SELECT id, CAST(note AS SIGNED) FROM t ORDER BY id
? SHOW WARNINGS
BEGIN
SELECT id FROM t ORDER BY id LIMIT 1
\ping
UPDATE t SET note = 'zzz' WHERE id = 4
SELECT MAX(note) FROM t
SELECT id, note FROM t ORDER BY note DESC, id LIMIT 2
SELECT SUM(a) FROM t WHERE id BETWEEN 2 AND 6
ROLLBACK
SET autocommit = 0
SELECT MIN(id) FROM t
\ping
COMMIT
SET autocommit = 1
SELECT note, COUNT(*) FROM t GROUP BY note ORDER BY note
SELECT COUNT(*) FROM t; SELECT id FROM t ORDER BY id LIMIT 1; SELECT DISTINCT what FROM items ORDER BY what
",
    ),
];
