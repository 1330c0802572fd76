//! Statements with known traps: what a session says, a command a line.
//!
//! A line is answered as by one server; one that begins with `!` spans shards and is refused where there are three, one
//! with `?` is answered so or refused. `⏎` is a line's end within a statement; lines that begin with a backslash are commands
//! of their own: `\ping`, `\db NAME` (COM_INIT_DB; `own` is the session's first), `\reset` (COM_RESET_CONNECTION). `{db}` is the
//! database's name.

/// What a session says, and what it is about.
pub(crate) type Case = (&'static str, &'static str);

pub(crate) const CASES: &[Case] = &[
    // ── reads of one shard ──
    (
        "rows of one key",
        r"
SELECT * FROM t WHERE id = 1
SELECT id, a, note FROM t WHERE id = 5
SELECT t.a AS x, `t`.`note` FROM `t` WHERE `t`.`id` = 3
SELECT a FROM t AS y WHERE y.ID = 2
SELECT ID, Note FROM t WHERE Id = 2
SELECT a FROM t WHERE 4 = id
SELECT a FROM t WHERE id = 99
SELECT a FROM t WHERE id = -1
SELECT a FROM t WHERE id = 1 AND a > 5
SELECT a FROM t WHERE id = 1 AND id = 1
? SELECT a FROM t WHERE id = 1 AND id = 2
SELECT a FROM t WHERE id <=> 1
SELECT a FROM t WHERE (id) = (1)
SELECT a FROM t WHERE id = 0x01
SELECT a FROM t WHERE id = '1'
? SELECT a FROM t WHERE id = '1abc'
? SELECT a FROM t WHERE id = ' 1'
? SELECT a FROM t WHERE id = 1.0
? SELECT a FROM t WHERE id = 1e0
? SELECT a FROM t WHERE id = 1.4
? SELECT a FROM t WHERE id = true
? SELECT a FROM t WHERE id = NULL
? SELECT a FROM t WHERE id = 18446744073709551615
? SELECT a FROM t WHERE id = 2 - 1
? SELECT a FROM t WHERE id = - 1
",
    ),
    (
        "what is computed on one shard",
        r"
SELECT COUNT(*), SUM(a), AVG(a), MAX(note) FROM t WHERE id = 1
SELECT what, COUNT(*) FROM items WHERE id = 1 GROUP BY what ORDER BY what DESC
SELECT DISTINCT what FROM items WHERE id = 1 ORDER BY what LIMIT 1
SELECT no FROM items WHERE id = 1 ORDER BY no DESC LIMIT 1 OFFSET 1
SELECT no FROM items WHERE id = 1 ORDER BY no LIMIT 1, 1
SELECT t.a, i.no FROM t JOIN items i ON i.id = t.id WHERE t.id = 1 ORDER BY i.no
? SELECT t.a, i.no FROM t, items i WHERE i.id = t.id AND i.id = 1 ORDER BY i.no
? SELECT t.a, i.no FROM t LEFT JOIN items i USING (id) WHERE t.id = 4
? SELECT (SELECT MAX(no) FROM items WHERE items.id = 1) FROM t WHERE id = 1
? SELECT a FROM t WHERE id = 1 UNION ALL SELECT no FROM items WHERE id = 1
? WITH x AS (SELECT * FROM items WHERE id = 1) SELECT COUNT(*) FROM x
SELECT CONCAT(note, '-', a), a / 7, a DIV 7, a MOD 7, a << 1, NOT a FROM t WHERE id = 7
SELECT IF(a > 5, 'big', 'small'), IFNULL(note, '?'), CASE WHEN a THEN 1 END FROM t WHERE id = 3
SELECT DATE_FORMAT(made, '%Y/%m'), made + INTERVAL 1 DAY, YEAR(made) FROM t WHERE id = 3
SELECT a FROM t WHERE id = 1 FOR UPDATE
SELECT a FROM t WHERE id = 1 LOCK IN SHARE MODE
SELECT SQL_NO_CACHE a FROM t WHERE id = 1
SELECT a FROM t USE INDEX (PRIMARY) WHERE id = 1
SELECT HIGH_PRIORITY STRAIGHT_JOIN a FROM t FORCE INDEX (PRIMARY) WHERE id = 1
SELECT no FROM items WHERE id = 1 AND what REGEXP '^p' AND what LIKE 'p%' AND no BETWEEN 1 AND 3
",
    ),
    (
        "keys of other types",
        r"
SELECT n, raw FROM fruits WHERE name = 'apple'
SELECT n, raw FROM fruits WHERE name = 'Apple'
SELECT n FROM fruits WHERE name = 'APPLE'
SELECT n FROM fruits WHERE name = ''
SELECT n FROM fruits WHERE name = 'plum'
SELECT n FROM fruits WHERE name = 'plum '
? SELECT n FROM fruits WHERE name = 0
? SELECT n FROM fruits WHERE name LIKE 'apple'
? SELECT n FROM fruits WHERE name = _utf8mb4'pear'
? SELECT n FROM fruits WHERE name = 'pear' COLLATE utf8mb4_general_ci
? SELECT n FROM fruits WHERE name = BINARY 'pear'
? SELECT n FROM fruits WHERE name = x'70656172'
? SELECT n FROM fruits WHERE name = 'pe' 'ar'
? SELECT n FROM fruits WHERE LOWER(name) = 'apple' AND name = 'Apple'
SELECT n FROM uuids WHERE u = '0b8e1a2c-3d4e-4f5a-8b6c-7d8e9f0a1b2c'
? SELECT n FROM uuids WHERE u = '0B8E1A2C-3D4E-4F5A-8B6C-7D8E9F0A1B2C'
? SELECT n FROM uuids WHERE u = '0b8e1a2c3d4e4f5a8b6c7d8e9f0a1b2c'
? SELECT n FROM uuids WHERE u = 'nonsense'
SELECT * FROM uuids WHERE u = 'ffffffff-ffff-ffff-ffff-ffffffffffff'
",
    ),
    // ── reads of several shards ──
    (
        "rows of several shards are united",
        r"
SELECT * FROM t
SELECT id, a FROM t WHERE a > 20
SELECT id AS k, a * 2 AS twice, UPPER(note) FROM t WHERE note IS NOT NULL
SELECT a FROM t WHERE id IN (1, 2, 3, 4, 5)
SELECT a FROM t WHERE id IN (1, 99)
SELECT a FROM t WHERE id = 1 OR id = 2
SELECT id FROM t WHERE id > 3
SELECT id FROM t WHERE id BETWEEN 2 AND 5
SELECT id FROM t WHERE id <> 4
SELECT id FROM t WHERE note = 'nobody'
SELECT ALL id FROM t WHERE a IS NULL
SELECT name, raw FROM fruits
SELECT name FROM fruits WHERE name IN ('apple', 'Apple', 'pear')
SELECT u, n FROM uuids
SELECT what, price FROM items WHERE price > 2
SELECT 1 FROM t
",
    ),
    (
        "what would have to be put together",
        r"
SELECT id FROM t ORDER BY id
SELECT COUNT(*) FROM (SELECT id FROM t LIMIT 2) AS d
SELECT COUNT(*) FROM t
SELECT MAX(a) FROM t WHERE id > 0
SELECT a FROM t GROUP BY a
SELECT what, SUM(price) FROM items GROUP BY what HAVING SUM(price) > 1
SELECT DISTINCT what FROM items
SELECT id FROM t WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8) ORDER BY a DESC LIMIT 1
? SELECT SQL_CALC_FOUND_ROWS id FROM t LIMIT 1
SELECT t.id FROM t, items WHERE t.a = items.no
SELECT x.id FROM t x JOIN t y ON x.a = y.a + 10
SELECT id FROM t WHERE a IN (SELECT price FROM items)
SELECT (SELECT COUNT(*) FROM items) FROM t WHERE id = 1
SELECT id FROM t UNION SELECT no FROM items
SELECT ROW_NUMBER() OVER (ORDER BY id) FROM t
SELECT GROUP_CONCAT(note ORDER BY note) FROM t
WITH x AS (SELECT COUNT(*) AS c FROM t) SELECT c FROM x
SELECT t.id FROM t JOIN solo ON solo.n = t.a
SELECT a FROM t WHERE id = 1
",
    ),
    (
        "reference and unsharded tables",
        r"
SELECT * FROM refs WHERE code = 'de'
SELECT code FROM refs ORDER BY n DESC LIMIT 2
SELECT COUNT(*), MAX(n) FROM refs
SELECT * FROM solo WHERE n = 1
SELECT COUNT(*), MIN(v) FROM solo
SELECT v, e + 0, bits + 0, HEX(bits), f, day, at, JSON_VALUE(doc, '$.k') FROM solo ORDER BY n
? SELECT s.n, r.n FROM solo s JOIN refs r ON r.n > s.n ORDER BY 1, 2
SELECT t.a, r.n FROM t JOIN refs r ON r.n > t.a WHERE t.id = 2 ORDER BY r.n
? SELECT t.id, r.code FROM t JOIN refs r ON r.n = t.a + 9
",
    ),
    (
        "without a table",
        r"
SELECT 1
SELECT 1 AS a, 'x' b, NULL, 1.50, 1e3, x'41', b'101', TRUE
? SELECT 'a' 'b', 'it''s', 'q\'q', 'n\nn', '\%', 'ö', _utf8mb4'ü', N'n'
SELECT DATABASE(), SCHEMA()
SELECT VERSION(), @@version
SELECT @@autocommit, @@session.sql_mode
? SELECT @@version_comment LIMIT 1
? SELECT @@tx_isolation, @@max_allowed_packet, @@character_set_client
? SELECT CURRENT_USER()
SELECT CONNECTION_ID() > 0
SELECT 1 FROM DUAL WHERE 1 = 0
SELECT 1 + 1, 7 / 2, 7 DIV 2, 5 % 3, 1 = 1, 'a' = 'A'
? VALUES (1, 2), (3, 4)
? DO 1
? DO SLEEP(0)
",
    ),
    // ── writes of one shard ──
    (
        "rows come",
        r"
INSERT INTO t VALUES (101, 1, 'n', NULL)
INSERT INTO t (id, a) VALUES (102, 2)
INSERT INTO t (a, id) VALUES (3, 103)
INSERT t SET id = 104, a = 4
INSERT INTO t (ID, NOTE) VALUES (105, DEFAULT)
INSERT INTO t (id, a) VALUE (106, 1 + 2 * 3)
INSERT INTO items (id, no) VALUES (101, 1), (101, 2), (101, 3)
INSERT INTO items VALUES (102, 1, DEFAULT, DEFAULT), (102, 2, 'x', 9)
INSERT INTO fruits VALUES ('kiwi', 7, x'0001')
INSERT INTO uuids VALUES ('11111111-2222-3333-4444-555555555555', 5)
? INSERT INTO t (id, note) VALUES (107, 'a;b'), (107 + 0, 'x')
SELECT * FROM t WHERE id = 101
SELECT * FROM items WHERE id = 101 ORDER BY no
INSERT INTO t (id, a) VALUES (-5, 1)
INSERT INTO t (id, a) VALUES (9223372036854775807, 1)
INSERT INTO t (id, a) VALUES (-9223372036854775808, 1), (-9223372036854775807, 2)
SELECT a FROM t WHERE id = -9223372036854775808
UPDATE t SET a = 3 WHERE id IN (-9223372036854775808, - 9223372036854775807)
? INSERT INTO t (id, a) VALUES (-9223372036854775809, 1)
? SELECT a FROM t WHERE id = - -9223372036854775808
INSERT INTO t (id, a) VALUES ('108', '8')
? INSERT INTO t (id, a) VALUES (109.4, 1)
? INSERT INTO t (id, a) VALUES (110 + 1, 1)
? INSERT INTO t (id, a) VALUES (112, 1) RETURNING id, a + 1 AS b
INSERT LOW_PRIORITY INTO t (id) VALUES (113)
",
    ),
    (
        "rows that cannot come",
        r"
INSERT INTO t (id, a) VALUES (1, 1)
INSERT INTO t (id, note) VALUES (120, 'bad')
INSERT INTO t (id, a) VALUES (121, 99999999999)
INSERT INTO t (id, note) VALUES (122, 'a note that is longer than twenty')
INSERT INTO t (id, a) VALUES (123, 'x')
INSERT INTO t (id, a) VALUES (124)
INSERT INTO t (id, nope) VALUES (125, 1)
INSERT INTO items (id, no, price) VALUES (1, 7, NULL)
INSERT INTO items (id, no) VALUES (126, 1), (126, 1)
INSERT INTO fruits (name, n) VALUES ('fig', -1)
? INSERT INTO uuids VALUES ('nonsense', 1)
? INSERT INTO t (id, a) VALUES (NULL, 1)
",
    ),
    (
        "rows whose shard is not known are refused",
        r"
! INSERT INTO t (a) VALUES (1)
! INSERT INTO t (id, a) SELECT id + 1000, a FROM t
! INSERT INTO items (id, no) SELECT n, 1 FROM solo
! UPDATE t SET id = 300 WHERE id = 1
! UPDATE t SET id = id + 1
! DELETE t FROM t JOIN items ON items.price = t.a
! REPLACE INTO t (a, note) VALUES (1, 'x')
! INSERT INTO t (id, a) VALUES (1, 1) ON DUPLICATE KEY UPDATE id = 301
? UPDATE t ORDER BY id LIMIT 1
",
    ),
    (
        "tables are made and changed on one shard only",
        r"
? CREATE TABLE fresh (id int)
? DROP TABLE IF EXISTS fresh
? CREATE VIEW fresh AS SELECT 1
? DROP VIEW IF EXISTS fresh
SELECT id, a, note, made FROM t WHERE id = 1
",
    ),
    (
        "rows change",
        r"
UPDATE t SET a = a + 1 WHERE id = 1
UPDATE t SET a = a WHERE id = 1
UPDATE t SET a = 5, note = CONCAT(note, '!') WHERE id = 1 AND a > 0
UPDATE t SET a = 1 WHERE id = 99
UPDATE t SET note = 'bad' WHERE id = 1
UPDATE t SET nope = 1 WHERE id = 1
UPDATE items SET price = price * 2 WHERE id = 1 ORDER BY no DESC LIMIT 1
UPDATE items AS i SET i.what = NULL WHERE i.id = 1
UPDATE items SET no = no + 10 WHERE id = 1
UPDATE items SET no = 11 WHERE id = 1
UPDATE IGNORE items SET no = 11 WHERE id = 1
? UPDATE t SET id = 1 WHERE id = 1
? UPDATE t JOIN items i ON i.id = t.id SET t.a = i.no WHERE t.id = 2
UPDATE fruits SET n = n + 1 WHERE name = 'pear'
UPDATE uuids SET n = NULL WHERE u = '00000000-0000-0000-0000-000000000001'
UPDATE solo SET v = 'y' WHERE n > 0
",
    ),
    (
        "rows go",
        r"
DELETE FROM t WHERE id = 1
DELETE FROM t WHERE id = 1
DELETE FROM items WHERE id = 1 ORDER BY no LIMIT 1
DELETE FROM items WHERE id = 1
DELETE QUICK FROM fruits WHERE name = 'apple'
? DELETE FROM t WHERE id = 2 RETURNING id, a
? DELETE t FROM t JOIN items i ON i.id = t.id WHERE t.id = 3
? DELETE FROM items USING items WHERE items.id = 3
DELETE FROM solo
",
    ),
    (
        "rows that are there already",
        r"
REPLACE INTO t (id, a) VALUES (1, 100)
REPLACE INTO t (id, a) VALUES (130, 100)
REPLACE t SET id = 131, a = 1
INSERT IGNORE INTO t (id, a) VALUES (2, 200)
? SHOW WARNINGS
INSERT IGNORE INTO t (id, a) VALUES (132, 'x')
? SHOW WARNINGS
? SHOW ERRORS
INSERT IGNORE INTO items (id, no) VALUES (1, 1), (1, 5), (1, 2)
INSERT INTO t (id, a) VALUES (2, 1) ON DUPLICATE KEY UPDATE a = a + VALUES(a)
INSERT INTO t (id, a) VALUES (2, 1) ON DUPLICATE KEY UPDATE a = a
INSERT INTO t (id, a) VALUES (133, 1) ON DUPLICATE KEY UPDATE a = 9
INSERT INTO items (id, no, price) VALUES (1, 1, 7), (1, 9, 8) ON DUPLICATE KEY UPDATE price = VALUES(price), what = 'up'
SELECT * FROM items WHERE id = 1 ORDER BY no
",
    ),
    // ── transactions ──
    (
        "a transaction commits",
        r"
BEGIN
\ping
UPDATE t SET a = 11 WHERE id = 1
SELECT a FROM t WHERE id = 1
INSERT INTO items (id, no) VALUES (1, 77)
COMMIT
\ping
SELECT a FROM t WHERE id = 1
START TRANSACTION
DELETE FROM t WHERE id = 1
COMMIT WORK
",
    ),
    (
        "a transaction is undone",
        r"
START TRANSACTION
UPDATE t SET a = 11 WHERE id = 1
? INSERT INTO t (id) VALUES (140)
SELECT a FROM t WHERE id = 1
ROLLBACK
SELECT a FROM t WHERE id = 1
BEGIN WORK
DELETE FROM t WHERE id = 2
ROLLBACK WORK
ROLLBACK
COMMIT
\ping
",
    ),
    (
        "a transaction goes on behind errors",
        r"
BEGIN
UPDATE t SET a = 12 WHERE id = 2
INSERT INTO t (id) VALUES (2)
SELECT nope FROM t WHERE id = 2
SELEC
\ping
SELECT a FROM t WHERE id = 2
SELECT COUNT(*) FROM t
\ping
UPDATE t SET note = 'on' WHERE id = 2
COMMIT
",
    ),
    (
        "savepoints",
        r"
BEGIN
UPDATE t SET a = 1 WHERE id = 1
SAVEPOINT one
UPDATE t SET a = 2 WHERE id = 1
SAVEPOINT `Two`
UPDATE t SET a = 3 WHERE id = 1
ROLLBACK TO SAVEPOINT two
SELECT a FROM t WHERE id = 1
ROLLBACK TO one
SELECT a FROM t WHERE id = 1
ROLLBACK TO two
RELEASE SAVEPOINT one
RELEASE SAVEPOINT one
COMMIT
SAVEPOINT outside
ROLLBACK TO outside
",
    ),
    (
        "a savepoint before the first row",
        r"
BEGIN
SAVEPOINT early
UPDATE t SET a = 1 WHERE id = 1
ROLLBACK TO early
SELECT a FROM t WHERE id = 1
COMMIT
",
    ),
    (
        "autocommit is off",
        r"
SET autocommit = 0
\ping
SELECT 1
\ping
SELECT a FROM t WHERE id = 1
\ping
UPDATE t SET a = 15 WHERE id = 1
COMMIT
\ping
UPDATE t SET a = 16 WHERE id = 1
ROLLBACK
SELECT a FROM t WHERE id = 1
COMMIT
SAVEPOINT first_of_all
UPDATE t SET a = 18 WHERE id = 1
ROLLBACK TO first_of_all
SELECT a FROM t WHERE id = 1
RELEASE SAVEPOINT first_of_all
SAVEPOINT again
SELECT 1
ROLLBACK TO again
COMMIT
ROLLBACK TO again
SET @@autocommit = ON
\ping
UPDATE t SET a = 17 WHERE id = 1
SELECT @@autocommit
",
    ),
    (
        "what begins ends what was begun",
        r"
BEGIN
UPDATE t SET a = 21 WHERE id = 1
BEGIN
ROLLBACK
SELECT a FROM t WHERE id = 1
SET autocommit = 0
UPDATE t SET a = 22 WHERE id = 1
SET autocommit = 1
ROLLBACK
SELECT a FROM t WHERE id = 1
BEGIN
UPDATE t SET a = 23 WHERE id = 1
\reset
SELECT a FROM t WHERE id = 1
",
    ),
    (
        "kinds of transactions",
        r"
START TRANSACTION READ ONLY
SELECT a FROM t WHERE id = 1
UPDATE t SET a = 1 WHERE id = 1
\ping
COMMIT
? START TRANSACTION WITH CONSISTENT SNAPSHOT
SELECT a FROM t WHERE id = 1
ROLLBACK
? SET TRANSACTION ISOLATION LEVEL READ COMMITTED
BEGIN
SELECT a FROM t WHERE id = 1
COMMIT
? SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE
? SELECT @@tx_isolation
BEGIN
? COMMIT AND CHAIN
\ping
ROLLBACK
? START TRANSACTION READ WRITE, READ ONLY
",
    ),
    (
        "a transaction that writes on several shards is rolled back on all",
        r"
BEGIN
UPDATE t SET a = 1 WHERE id = 1
UPDATE t SET a = 1 WHERE id = 2
UPDATE t SET a = 1 WHERE id = 3
UPDATE t SET a = 1 WHERE id = 4
SELECT id, a FROM t
ROLLBACK
SELECT id, a FROM t
",
    ),
    // ── several statements in one command ──
    (
        "several statements",
        r"
SELECT 1; SELECT 2
SELECT a FROM t WHERE id = 1; SELECT a FROM t WHERE id = 2; SELECT a FROM t WHERE id = 3
UPDATE t SET a = 5 WHERE id = 1; SELECT a FROM t WHERE id = 1
SELECT 1; SELECT nope; SELECT 2
INSERT INTO t (id) VALUES (150); INSERT INTO t (id) VALUES (150); INSERT INTO t (id) VALUES (151)
BEGIN; UPDATE t SET a = 6 WHERE id = 1; COMMIT
BEGIN; UPDATE t SET a = 7 WHERE id = 1; ROLLBACK; SELECT a FROM t WHERE id = 1
SELECT 1;
SELECT ';' AS `;`; SELECT 2 -- ; SELECT 3
? SELECT 1; SELEC
;
; SELECT 1
? SELECT 1;;SELECT 2
? SELECT 1; /* nothing */
SET @a = 1; SELECT 2
",
    ),
    (
        "a refusal among several statements",
        r"
SELECT 1; SELECT COUNT(*) FROM t; SELECT 2
SELECT a FROM t WHERE id = 1
\ping
",
    ),
    // ── the session ──
    (
        "databases",
        r"
SELECT DATABASE()
? USE information_schema
\db nowhere
? USE nowhere
? SELECT * FROM nowhere.t WHERE id = 1
? \db information_schema
\db own
SELECT DATABASE()
USE {db}
SELECT a FROM {db}.t WHERE id = 1
SELECT {db}.t.a, x.note FROM t AS x JOIN {db}.t ON x.id = t.id WHERE t.id = 1 AND x.id = 1
SELECT `{db}`.`t`.`a` FROM `{db}`.`t` WHERE `{db}`.`t`.`id` = 2
INSERT INTO {db}.t (id, a) VALUES (190, 1)
UPDATE {db}.t SET {db}.t.a = 2 WHERE {db}.t.id = 190
DELETE FROM {db}.t WHERE id = 190
SELECT COUNT(*) FROM {db}.t
\ping
SELECT a FROM t WHERE id = 1
",
    ),
    (
        "settings",
        r"
SET NAMES utf8mb4
SET NAMES 'utf8mb4' COLLATE 'utf8mb4_unicode_ci'
SELECT @@collation_connection
SET NAMES latin1
SELECT 'a', @@character_set_client
SET CHARACTER SET utf8mb4
SET NAMES nope
SET NAMES utf8
? SET NAMES sjis
SET character_set_results = NULL
SELECT note FROM t WHERE id = 5
SET time_zone = '+02:00'
SELECT FROM_UNIXTIME(0)
SET SESSION time_zone = 'SYSTEM', wait_timeout = 1000
SELECT @@wait_timeout, @@time_zone
? SET nope = 1
? SET @@session.sort_buffer_size = 65536, @@nope = 2
? SELECT @@sort_buffer_size
? SET GLOBAL max_connections = 5
SET sql_mode = 'NO_SUCH_MODE'
SET wait_timeout = DEFAULT
SET SQL_SAFE_UPDATES = 0, foreign_key_checks = 0, unique_checks = 0
\reset
SELECT @@wait_timeout > 1000, @@character_set_client, @@foreign_key_checks
",
    ),
    (
        "sql_mode changes how texts are read",
        r#"
SELECT "a", 'b\'c', 'd\\', "e""f"
SET sql_mode = 'ANSI_QUOTES'
SELECT "a" FROM "t" WHERE "id" = 1
SELECT 'x"y'
UPDATE "t" SET "note" = 'a' WHERE "id" = 1
SET sql_mode = 'NO_BACKSLASH_ESCAPES'
SELECT 'a\', 'b'
\ping
SELECT note FROM t WHERE id = 5 AND note = 'ö''\'
UPDATE t SET note = '\' WHERE id = 1
SELECT note FROM t WHERE id = 1
SET sql_mode = 'PIPES_AS_CONCAT'
SELECT 'a' || 'b'
SET sql_mode = ''
SELECT 'a' || 'b', 'c\'', "d"
INSERT INTO t (id, note) VALUES (160, 'a note that is longer than twenty')
? SHOW WARNINGS
SET sql_mode = 'STRICT_ALL_TABLES,ANSI_QUOTES'
INSERT INTO t (id, "note") VALUES (161, 'a note that is longer than twenty')
? SET sql_mode = 'ORACLE'
SET sql_mode = DEFAULT
SELECT "a"
"#,
    ),
    (
        "user variables",
        r"
SET @a = 1, @b := 'x'
SELECT @a, @b, @nope
? SELECT a FROM t WHERE id = @a
SELECT @c := a FROM t WHERE id = 2
SELECT a INTO @d FROM t WHERE id = 3
SELECT @d
UPDATE t SET a = @d + 1 WHERE id = 1
\reset
SELECT @a
",
    ),
    (
        "numbers that the server gave",
        r"
INSERT INTO solo (v) VALUES ('p')
SELECT LAST_INSERT_ID()
INSERT INTO solo (v) VALUES ('q'), ('r')
SELECT LAST_INSERT_ID(), @@identity, @@last_insert_id
INSERT INTO items (id, no) VALUES (170, LAST_INSERT_ID())
INSERT INTO solo (n, v) VALUES (50, 's')
SELECT LAST_INSERT_ID()
INSERT INTO solo (n, v) VALUES (50, 's') ON DUPLICATE KEY UPDATE n = LAST_INSERT_ID(n), v = 't'
SELECT LAST_INSERT_ID()
UPDATE t SET a = LAST_INSERT_ID(a + 1) WHERE id = 1
SELECT LAST_INSERT_ID()
SELECT 1
SELECT LAST_INSERT_ID()
INSERT INTO solo (v) VALUES ('far too long for it')
SELECT LAST_INSERT_ID()
",
    ),
    (
        "numbers of rows",
        r"
UPDATE t SET a = 31 WHERE id = 1
SELECT ROW_COUNT()
SELECT ROW_COUNT()
DELETE FROM items WHERE id = 1
SELECT ROW_COUNT()
SELECT id FROM t WHERE id = 1
SELECT FOUND_ROWS()
SELECT SQL_CALC_FOUND_ROWS no FROM items WHERE id = 5 LIMIT 1
SELECT FOUND_ROWS()
SELECT id FROM t
SELECT FOUND_ROWS()
INSERT INTO t (id) VALUES (1)
SELECT ROW_COUNT()
",
    ),
    (
        "warnings",
        r"
SELECT CAST('x' AS SIGNED) FROM t WHERE id = 1
? SHOW WARNINGS
? SHOW COUNT(*) WARNINGS
SELECT 1
? SHOW WARNINGS
SELECT nope FROM t WHERE id = 1
? SHOW WARNINGS
SHOW ERRORS LIMIT 1
? SELECT CAST(note AS SIGNED) AS n FROM t
? DROP TABLE IF EXISTS nowhere_to_be_found
",
    ),
    (
        "what clients and tools ask",
        r"
? SHOW TABLES
? SHOW FULL TABLES LIKE 't%'
? SHOW COLUMNS FROM t
? DESCRIBE items
? SHOW INDEX FROM t WHERE key_name = 'nope'
? SHOW CREATE TABLE t
SHOW VARIABLES LIKE 'lower_case_table_names'
SHOW SESSION VARIABLES WHERE variable_name IN ('autocommit', 'sql_mode')
SHOW COLLATION LIKE 'utf8mb4_bin'
SHOW ENGINES
? SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1
? SELECT column_name, column_type FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 't' ORDER BY ordinal_position
? EXPLAIN SELECT a FROM t WHERE id = 1
",
    ),
    (
        "what holds a connection",
        r"
? CREATE TEMPORARY TABLE temp (id int)
? INSERT INTO temp VALUES (1)
? SELECT * FROM temp
? DROP TEMPORARY TABLE temp
? LOCK TABLES t READ
? UNLOCK TABLES
PREPARE p FROM 'SELECT a FROM t WHERE id = ?'
SET @k = 1
EXECUTE p USING @k
DEALLOCATE PREPARE p
EXECUTE IMMEDIATE 'SELECT 1'
? HANDLER t OPEN
? BEGIN NOT ATOMIC SELECT 1; END
SELECT a FROM t WHERE id = 1
",
    ),
    (
        "settings for one statement",
        r"
? SET STATEMENT max_statement_time = 10 FOR SELECT a FROM t WHERE id = 1
? SET STATEMENT max_statement_time = 10, lock_wait_timeout = 5 FOR SELECT COUNT(*), @@max_statement_time FROM t
SELECT @@max_statement_time, @@lock_wait_timeout
SET max_statement_time = 20
? SET STATEMENT max_statement_time = DEFAULT FOR UPDATE t SET a = a + 1 WHERE id IN (1, 2, 3, 4)
SELECT @@max_statement_time
? SET STATEMENT max_statement_time = 0.05 FOR SELECT SLEEP(5) FROM t WHERE id = 1
? SET STATEMENT max_statement_time = 'x' FOR SELECT 1
SET STATEMENT max_statement_time = 1 FOR SELEC 1
? SET STATEMENT sql_mode = 'ANSI_QUOTES' FOR SELECT a FROM t WHERE id = 1
SET STATEMENT nothing = 1 FOR SELECT 1
SELECT a FROM t WHERE id = 1
",
    ),
    // ── text ──
    (
        "comments and hints",
        r"
/* first */ SELECT a FROM t WHERE id = 1
SELECT /* ; ' */ a FROM t WHERE id = 1 -- ' the rest
SELECT a FROM t WHERE id = 1 # the rest
SELECT a # ; x⏎FROM t -- y⏎WHERE id = 1
SELECT 5--1
SELECT 5--⏎1
SELECT /*! 1 + */ 2
SELECT/*!40001 SQL_NO_CACHE */a FROM t WHERE id = 1
? SELECT a FROM t WHERE id = /*! 1 */ /*M! + 1 */
SELECT a FROM t WHERE id = /*! 1 */
SELECT a FROM t WHERE /*! id */ = 1 /*!99999 OR id = 2 */ /*!50799 nonsense */
SELECT a FROM t WHERE id = 1 /*!50000 AND a > 0 */ /*M!100000 AND a > 1 */
? SELECT a FROM t WHERE id = 1 /*!50000 OR id = 2 */
SELECT a FROM t WHERE id = 1 /*M!999999\- nothing that can be read; */
? SELECT a FROM t WHERE id = 1 /*! AND a > 0; */
? SELECT a FROM t WHERE id = 1 /*! AND /* a > */ a > 0 */
/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */
/*!40101 SET NAMES utf8 */
SELECT @@character_set_client, @old_character_set_client
/*!40101 SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT */
SELECT @@character_set_client
/*M!999999\- enable the sandbox mode */
SELECT /*+ MAX_EXECUTION_TIME(1000) */ a FROM t WHERE id = 1
SELECT a /* an end that is missing FROM t
/* only a comment */
-- only a comment
",
    ),
    (
        "quotes and escapes",
        r#"
SELECT 'a\0b', 'c\Zd', '\q', 'e\_f', '\'', "\"", 'g\
SELECT note FROM t WHERE id = 5 AND note = 'ö\'\\'
UPDATE t SET note = 'it\'s; DELETE' WHERE id = 1
SELECT a, 'WHERE id = 2' FROM t WHERE id = 1
SELECT a AS 'x y', a AS "z", a `q``r` FROM t WHERE id = 1
SELECT a FROM t WHERE id = 1 AND 'x' <> "id = 2"
INSERT INTO fruits VALUES ('a''b', 1, '\\'), 
INSERT INTO fruits VALUES ('a''b', 1, '\\')
INSERT INTO fruits VALUES ("c\"d", 2, "\n")
INSERT INTO fruits VALUES ('e\\f', 2, 0xff)
SELECT n FROM fruits WHERE name = 'a\'b'
SELECT n FROM fruits WHERE name = "c""d"
SELECT n FROM fruits WHERE name = 'e\\f'
SELECT 'unfinished
SELECT `unfinished
"#,
    ),
    (
        "mistakes are the server's own",
        r"
SELEC 1
SELECT FROM t
SELECT a FROM t WHERE id = 1 AND
SELECT a FROM nope
SELECT a FROM nope WHERE id = 1
SELECT nope FROM t WHERE id = 1
SELECT nope FROM t
SELECT NO_SUCH_FUNCTION(1)
SELECT a FROM t WHERE id = 1 ORDER BY nope
SELECT a FROM t, t WHERE id = 1
INSERT INTO nope VALUES (1)
UPDATE nope SET a = 1
SELECT 1 / 0, a FROM t WHERE id = 1
SELECT (SELECT 1 UNION SELECT 2) FROM t WHERE id = 1
SELECT id, no FROM items WHERE id = 1 AND (1, 2) = 1
? CALL nowhere()
\ping
",
    ),
];
