//! What applications, ORMs and tools send that is not everybody's SQL: how it is written matters, not what it asks for.

use crate::cases::Case;

pub(crate) const TEXTS: &[Case] = &[
    (
        "operators that only MySQL has",
        r#"
SELECT id FROM t WHERE id = 1 AND note LIKE BINARY 'o%'
SELECT id FROM t WHERE note LIKE BINARY 'O%'
SELECT id FROM t WHERE note LIKE BINARY '%ö%' OR note NOT LIKE BINARY 't%'
SELECT v FROM solo WHERE v LIKE BINARY 'x'
SELECT code FROM refs WHERE code LIKE BINARY 'd%'
SELECT id FROM t WHERE note REGEXP BINARY '^O'
SELECT id FROM t WHERE BINARY note = 'one'
SELECT id FROM t WHERE note = BINARY 'ONE'
SELECT BINARY note, BINARY 'a' = 'A', BINARY(note) FROM t WHERE id = 2
SELECT CAST(note AS BINARY), CONVERT(note, CHAR), CONVERT(note USING latin1), CAST(a AS CHAR(3)) FROM t WHERE id = 2
SELECT id FROM t WHERE id = 1 XOR a = 20
SELECT id FROM t WHERE id = 1 AND (a = 10 XOR note = 'two')
SELECT id FROM t WHERE (id = 1) XOR (id = 2) XOR (id = 3)
SELECT 1 XOR 1, 1 XOR 0 AND 0, 1 OR 1 XOR 1, 0 = 1 XOR 1
SELECT id FROM t WHERE note SOUNDS LIKE 'won'
SELECT id FROM t WHERE id = 3 AND 'three' SOUNDS LIKE 'thre'
SELECT a DIV 3, a MOD 3, a % 3, -a DIV 3, MOD(a, 7) FROM t WHERE id = 4
SELECT id FROM t WHERE a DIV 20 = 1
SELECT a IS TRUE, a IS NOT FALSE, a IS UNKNOWN, NOT a, ! a FROM t WHERE id = 5
SELECT id FROM t WHERE a IS UNKNOWN
SELECT id FROM t WHERE (a > 20) IS TRUE
SELECT id FROM t WHERE a <=> NULL
SELECT id FROM t WHERE NOT a <=> 10
SELECT id FROM t WHERE note RLIKE 'e$' && a < 50
SELECT id FROM t WHERE id = 1 || id = 2
SELECT id FROM t WHERE (id, a) = (1, 10)
SELECT id FROM t WHERE (id, a) IN ((1, 10), (2, 20), (3, 31))
SELECT a & 12, a | 3, a ^ 5, ~a & 255, a << 2, a >> 1 FROM t WHERE id = 1
SELECT id FROM t WHERE id = 1 AND a BETWEEN 5 AND 15 AND NOT note IN ('two')
"#,
    ),
    (
        "strings as they are written",
        r#"
SELECT 'one' 'two', 'a' "b", N'n', _utf8mb4'ü', _latin1 x'fc', x'4D', 0x4D, b'01000001', 0b01000001
SELECT id FROM t WHERE note = 'on' 'e'
SELECT id FROM t WHERE id = 1 AND note = "one"
SELECT id FROM t WHERE note = _utf8mb4'two'
SELECT id FROM t WHERE note = _utf8mb4'TWO' COLLATE utf8mb4_bin
SELECT id FROM t WHERE note COLLATE utf8mb4_bin = 'two'
SELECT n FROM fruits WHERE name = 'pe' 'ar'
SELECT CONCAT('a', 'b' 'c'), LENGTH('x' 'y') FROM t WHERE id = 1
SELECT id FROM t WHERE note LIKE 'o\_e' ESCAPE '|'
SELECT id FROM t WHERE note LIKE 't|%' ESCAPE '|' OR note LIKE 'f%'
? SELECT DATE '2020-01-01', TIME '10:00:00', TIMESTAMP '2020-01-01 10:00:00', {d '2020-01-01'}, {ts '2020-01-01 10:00:00'}
SELECT 1.5e0, .5, 5., 1e-3, 0x0F + 0, -0.0, +1
"#,
    ),
    (
        "times and intervals",
        r#"
SELECT made + INTERVAL 1 DAY, made - INTERVAL '1:30' MINUTE_SECOND, made + INTERVAL '1 2' DAY_HOUR FROM t WHERE id = 1
SELECT DATE_ADD(made, INTERVAL 1 WEEK), DATE_SUB(made, INTERVAL -1 QUARTER), INTERVAL 1 DAY + made FROM t WHERE id = 1
SELECT ADDDATE(made, 31), SUBDATE(made, INTERVAL 1 YEAR_MONTH), made + INTERVAL 1 + 1 MONTH FROM t WHERE id = 1
SELECT id FROM t WHERE made < '2020-02-01' + INTERVAL '1-1' YEAR_MONTH
SELECT id FROM t WHERE made > DATE_SUB('2021-01-01 00:00:00', INTERVAL 10 MINUTE)
SELECT EXTRACT(YEAR_MONTH FROM made), EXTRACT(MINUTE FROM made), EXTRACT(HOUR_MICROSECOND FROM made) FROM t WHERE id = 3
SELECT TIMESTAMPDIFF(DAY, '2020-01-01', made), TIMESTAMPADD(HOUR, 2, made), DAYOFWEEK(made) FROM t WHERE id = 3
SELECT id FROM t WHERE TIMESTAMPDIFF(MONTH, '2019-12-31', made) > 1
SELECT DATE_FORMAT(made, '%d.%m.%Y'), STR_TO_DATE('01,5,2013', '%d,%m,%Y'), UNIX_TIMESTAMP(made) FROM t WHERE id = 1
SELECT CAST(DATE_FORMAT(made, '%Y-%m-01 00:00:00') AS DATETIME) FROM t WHERE id = 1
SELECT CONVERT_TZ(made, '+00:00', '+02:00') FROM t WHERE made IS NOT NULL
SELECT YEAR(made), QUARTER(made), WEEK(made, 3), WEEKDAY(made), LAST_DAY(made), DATEDIFF(made, '2020-01-01') FROM t WHERE id = 3
"#,
    ),
    (
        "how a SELECT begins and ends",
        r#"
SELECT HIGH_PRIORITY id FROM t WHERE id = 1
SELECT SQL_NO_CACHE SQL_BIG_RESULT id FROM t WHERE a = 10
SELECT SQL_BUFFER_RESULT id FROM t WHERE a = 10
SELECT DISTINCTROW what FROM items WHERE id = 1
SELECT STRAIGHT_JOIN t.a FROM t, items i WHERE i.id = t.id AND t.id = 2
SELECT t.a FROM t STRAIGHT_JOIN items i ON i.id = t.id WHERE t.id = 2
SELECT a FROM t IGNORE INDEX (PRIMARY) WHERE id = 1
SELECT a FROM t USE INDEX () WHERE a = 10
SELECT i.no FROM items AS i FORCE INDEX FOR JOIN (what) WHERE i.what = 'pen'
SELECT a FROM t FORCE KEY (PRIMARY) WHERE id IN (1, 2)
SELECT a FROM {db}.t WHERE {db}.t.id = 1
SELECT `a` FROM `{db}`.`t` AS `T1` WHERE `T1`.`id` = 1
SELECT a AS 'quoted', id "too" FROM t WHERE id = 1
SELECT a FROM t WHERE id = 1 LIMIT 1
SELECT a FROM t WHERE id = 1 LIMIT 0, 1
SELECT a FROM t WHERE id = 1 LIMIT 1 OFFSET 0 FOR UPDATE
? SELECT a FROM (t) WHERE id = 1
SELECT t.* FROM t WHERE id = 1
SELECT *, a + 1 FROM t WHERE id = 1
SELECT what, COUNT(*) FROM items WHERE id = 1 GROUP BY what WITH ROLLUP
SELECT what, COUNT(*) c FROM items WHERE id = 1 GROUP BY what HAVING c > 0 ORDER BY NULL
SELECT GROUP_CONCAT(DISTINCT what ORDER BY what DESC SEPARATOR '; ') FROM items WHERE id = 1
SELECT GROUP_CONCAT(no ORDER BY no), COUNT(DISTINCT what, no), BIT_OR(no), STD(price) FROM items WHERE id = 1
SELECT GROUP_CONCAT(no, '-', what SEPARATOR '|') FROM items WHERE id = 1
? SELECT COUNT(*) FROM t WHERE id = 1 PROCEDURE ANALYSE()
SELECT id FROM t WHERE id = ANY (SELECT id FROM items WHERE id = 1) AND id = 1
SELECT id FROM t WHERE EXISTS (SELECT * FROM items i WHERE i.id = t.id AND i.price > 1) AND id = 1
SELECT ROW_NUMBER() OVER (PARTITION BY what ORDER BY no) FROM items WHERE id = 1
SELECT (SELECT MAX(no) FROM items WHERE items.id = t.id) FROM t WHERE t.id = 1
(SELECT a FROM t WHERE id = 1) UNION (SELECT no FROM items WHERE id = 1) ORDER BY 1 LIMIT 3
SELECT a FROM t WHERE id = 1 UNION DISTINCT SELECT no FROM items WHERE id = 1
WITH x AS (SELECT id FROM t WHERE id = 1) SELECT * FROM x
SELECT CASE a WHEN 10 THEN 'ten' WHEN 20 THEN 'twenty' ELSE 'more' END, IF(a, 1, 2), NULLIF(a, 10) FROM t WHERE id = 1
SELECT COALESCE(note, ''), ISNULL(note), LEFT(note, 1), RIGHT(note, 1), INSTR(note, 'n'), LOCATE('n', note) FROM t WHERE id = 1
SELECT SUBSTRING(note FROM 2 FOR 1), SUBSTRING(note, 2), TRIM(LEADING 'o' FROM note), POSITION('n' IN note) FROM t WHERE id = 1
? SELECT CHAR(77, 121 USING utf8mb4), WEIGHT_STRING('a'), CONVERT('a', CHAR(1)), CONVERT(1.5, DECIMAL(3,1)) FROM t WHERE id = 1
SELECT CAST('1' AS UNSIGNED), CAST(1 AS SIGNED INTEGER), CAST('2020-01-01' AS DATETIME(3)), CAST(1 AS DOUBLE) FROM t WHERE id = 1
SELECT JSON_EXTRACT('{"k": 1}', '$.k'), JSON_OBJECT('a', 1), JSON_VALUE(js, '$.k[0]') FROM kinds WHERE id = 1
? SELECT ELT(1, 'a', 'b'), FIELD('b', 'a', 'b'), FIND_IN_SET('b', 'a,b'), INTERVAL(3, 1, 2, 5), GREATEST(1, 2) FROM t WHERE id = 1
SELECT FORMAT(12345.678, 2), HEX('a'), UNHEX('41'), MD5('a'), SHA2('a', 256), CRC32('a'), UUID_SHORT() > 0 FROM t WHERE id = 1
TABLE refs
VALUES (1, 'a'), (2, 'b')
"#,
    ),
    (
        "writes as they are written",
        r#"
INSERT INTO t SET id = 201, a = 1, note = 'n' 'm'
INSERT INTO t (id, a) VALUES ROW(202, 1)
INSERT INTO t (id, a, note) VALUES (1, 5, 'x') ON DUPLICATE KEY UPDATE a = VALUES(a), note = CONCAT(note, VALUES(note))
INSERT INTO t (id, a) VALUES (1, 5) ON DUPLICATE KEY UPDATE a = a + 1, note = IF(VALUES(a) > 1, 'b', 'c')
INSERT HIGH_PRIORITY IGNORE INTO t (id, a) VALUES (1, 9)
INSERT INTO {db}.t (id) VALUES (203)
REPLACE INTO t SET id = 1, a = 77
REPLACE t VALUES (2, 5, NULL, NULL)
UPDATE LOW_PRIORITY t SET a = 1 WHERE note LIKE BINARY 'O%'
UPDATE t SET note = BINARY 'x' WHERE id = 3
UPDATE t SET a = a XOR 1 WHERE id = 1
UPDATE t SET a = DEFAULT WHERE id = 3
UPDATE t SET t.a = 4, t.note = 'q' WHERE t.id = 3
UPDATE items SET price = 0 WHERE id = 1 ORDER BY no LIMIT 1
UPDATE IGNORE t SET a = 5 WHERE note REGEXP BINARY 'z'
DELETE QUICK FROM items WHERE id = 1 AND what LIKE BINARY 'p%'
DELETE FROM items WHERE id = 2 ORDER BY no LIMIT 1
DELETE IGNORE FROM t WHERE note = 'no' 'body'
DELETE FROM t WHERE made < NOW() - INTERVAL '1 1' DAY_HOUR AND id = 1
"#,
    ),
    (
        "what tools ask a server",
        r#"
SHOW VARIABLES LIKE 'lower_case_table_names'
SHOW SESSION VARIABLES WHERE Variable_name = 'sql_mode'
SHOW FULL COLUMNS FROM t
SHOW COLUMNS FROM t LIKE 'a%'
SHOW FIELDS FROM `t` FROM `{db}`
SHOW CREATE TABLE solo
SHOW FULL TABLES LIKE 't'
SHOW TABLES LIKE 'ref%'
SHOW COLLATION WHERE Charset = 'ascii' AND `Default` = 'Yes'
SHOW CHARACTER SET LIKE 'latin1'
SHOW ENGINES
SHOW TRIGGERS LIKE 't'
SHOW PROCEDURE STATUS WHERE Db = 'nope'
SHOW FUNCTION STATUS WHERE Db = 'nope'
SHOW WARNINGS
SHOW COUNT(*) WARNINGS
SHOW ERRORS
SHOW PLUGINS
DESCRIBE t
DESC t a
EXPLAIN t
EXPLAIN SELECT a FROM t WHERE id = 1
SELECT @@session.auto_increment_increment, @@max_allowed_packet, @@sql_mode, @@time_zone, @@version_comment LIKE '%'
SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'refs'
SELECT SCHEMA_NAME = DATABASE() FROM INFORMATION_SCHEMA.SCHEMATA WHERE SCHEMA_NAME = DATABASE()
SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'solo'
? SELECT USER() LIKE '%@%', CURRENT_USER() LIKE '%@%', SESSION_USER() LIKE '%@%'
? DO 1
? DO RELEASE_LOCK('nobody')
"#,
    ),
    (
        "rows of several shards are locked",
        r"
SELECT id, a FROM t FOR UPDATE
BEGIN
SELECT id, note FROM t WHERE a > 20 FOR UPDATE
SELECT id, a FROM t WHERE id IN (1, 2, 3, 4) LOCK IN SHARE MODE
SELECT id, a FROM t WHERE id IN (1, 2, 3) FOR UPDATE NOWAIT
SELECT t.id, i.no FROM t JOIN items i ON i.id = t.id WHERE i.price > 1 FOR UPDATE
UPDATE t SET a = a + 1 WHERE id IN (1, 2, 3)
SELECT id, a FROM t FOR UPDATE
\ping
COMMIT
SELECT id, a FROM t FOR UPDATE SKIP LOCKED
? SELECT id FROM t ORDER BY id LIMIT 2 FOR UPDATE
? SELECT COUNT(*) FROM t FOR UPDATE
? SELECT t.id, r.code FROM t JOIN refs r ON r.n > t.a FOR UPDATE
SET autocommit = 0
SELECT id FROM t WHERE note LIKE 't%' FOR UPDATE
\ping
ROLLBACK
",
    ),
    (
        "one transaction follows the other",
        r"
COMMIT AND CHAIN
\ping
ROLLBACK
BEGIN
UPDATE t SET a = 2 WHERE id = 1
UPDATE t SET a = 2 WHERE id = 2
COMMIT AND CHAIN
\ping
UPDATE t SET a = 3 WHERE id = 1
UPDATE t SET a = 3 WHERE id = 2
ROLLBACK WORK AND CHAIN
\ping
SELECT id, a FROM t WHERE id IN (1, 2)
UPDATE t SET a = 4 WHERE id = 2
COMMIT AND NO CHAIN NO RELEASE
\ping
START TRANSACTION READ ONLY
COMMIT AND CHAIN
UPDATE t SET a = 5 WHERE id = 2
SELECT a FROM t WHERE id = 2
ROLLBACK AND CHAIN
SELECT a FROM t WHERE id = 1
COMMIT
\ping
SET autocommit = 0
UPDATE t SET a = 6 WHERE id = 1
COMMIT AND CHAIN
\ping
SELECT a FROM t WHERE id = 1
ROLLBACK
COMMIT AND CHAIN RELEASE
",
    ),
    (
        "a transaction and the session end",
        r"
BEGIN
UPDATE t SET a = 2 WHERE id = 1
COMMIT RELEASE
",
    ),
];
