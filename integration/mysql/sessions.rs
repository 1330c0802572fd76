//! What drivers, tools and mappers of objects say of and to their sessions. As [`crate::cases`].

use crate::cases::Case;

pub(crate) const SESSIONS: &[Case] = &[
    (
        "settings that are computed",
        r"
SET sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')
SELECT @@sql_mode
SET SESSION sql_mode = (SELECT REPLACE(@@sql_mode, 'ONLY_FULL_GROUP_BY', ''))
SELECT @@sql_mode
SET sql_mode = 4
SELECT @@sql_mode
SELECT 'x' FROM t WHERE id = 1
SET @@session.sql_mode = DEFAULT
SET SQL_MODE = 'ANSI'
SELECT @@sql_mode
SET sql_mode = ''
SET autocommit=1, sql_mode='STRICT_TRANS_TABLES', time_zone='+00:00'
SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO'
SELECT @@sql_mode, @old_sql_mode
SET SQL_MODE=@OLD_SQL_MODE
SELECT @@sql_mode
SET sql_mode=(SELECT CONCAT(@@sql_mode, ',PIPES_AS_CONCAT,NO_ENGINE_SUBSTITUTION')),time_zone='+00:00',NAMES utf8mb4 COLLATE utf8mb4_unicode_ci;
SELECT @@sql_mode, @@time_zone, @@collation_connection, 'a' || 'b' = 'AB'
SET NAMES latin1, character_set_results = utf8mb4, @n = 1
SELECT @@character_set_client, @@character_set_connection, @@collation_connection, @@character_set_results, @n, COLLATION('x')
SET time_zone = '+01:00', NAMES 'nope'
SET NAMES utf8mb4 COLLATE latin1_swedish_ci, time_zone = '+02:00'
SELECT @@time_zone, @@character_set_client
SET @n = 2, NAMES utf8mb4
SELECT @@character_set_client, @@collation_connection, @n
? SET names = 1
SET sql_mode = DEFAULT
SET @OLD_TIME_ZONE=@@TIME_ZONE
SET TIME_ZONE='+00:00'
SET TIME_ZONE=@OLD_TIME_ZONE
SELECT @@time_zone
SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0
SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT
SELECT @@foreign_key_checks, @old_foreign_key_checks
SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS
SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT
SET sql_mode = CONCAT('NO_', 'SUCH_MODE')
SET sql_mode = nope
SET @x = nope
SET @x = (SELECT nope FROM t WHERE id = 1)
SELECT a FROM t WHERE id = 1
",
    ),
    (
        "user variables keep their types",
        r"
SET @a = NULL, @b = CAST(NULL AS SIGNED), @c = 1.5e0, @d = CAST(5 AS UNSIGNED), @e = 1.50, @f = 5
SELECT @a, @b, @c, @d, @e, @f
SET @g = 'x', @h = 'it''s \\ ö', @i = x'00ff', @j = CONVERT('y' USING latin1), @k = _utf8mb4'z' COLLATE utf8mb4_bin
SELECT @g, @h, @i, @j, @k, COLLATION(@j), COLLATION(@k), COERCIBILITY(@k), LENGTH(@h)
SET @l = CAST('2020-01-02' AS DATE), @m = CAST(1 AS DECIMAL(5,0)), @n = 1e300, @o = 1/3
SELECT @l, @m, @n, @o
SET @p = @f + 1, @q = CONCAT(@g, @f)
SELECT @p, @q
SET @r = (SELECT a FROM t WHERE id = 2)
SELECT @r
SELECT id FROM t WHERE id = 1 AND a < @r
! SET @s = (SELECT COUNT(*) FROM t)
SET @t = (SELECT MAX(n) FROM refs)
INSERT INTO solo (v) VALUES ('p')
SET @last = LAST_INSERT_ID()
SELECT @last
SELECT @t
SET @u = 1, @u = 2
SELECT @u
SET @`odd name` = 1, @'other' = 2
SELECT @`odd name`, @'other'
UPDATE t SET a = @p WHERE id = 1
SELECT a FROM t WHERE id = 1
",
    ),
    (
        "variables that statements give values",
        r"
SELECT @a := a, @b := note FROM t WHERE id = 2
SELECT @a, @b
SELECT @c := @d := a + 1 FROM t WHERE id = 3
SELECT @c, @d, @a
SELECT a, note INTO @e, @f FROM t WHERE id = 4
SELECT @e, @f
SELECT a FROM t WHERE id = 5 INTO @g
SELECT @g
SELECT 1, 'x' INTO @h, @i
SELECT @h, @i
SELECT a INTO @j FROM t WHERE id = 99
SELECT @j
SET @n = 0
SELECT @n := @n + 1 FROM t
SELECT @n
SELECT COUNT(*), SUM(a) INTO @k, @l FROM t
SELECT @k, @l
SELECT a, note INTO @q, @r FROM t ORDER BY id DESC LIMIT 1
SELECT @q, @r
! SELECT id FROM t WHERE (@l := a) > 0
UPDATE t SET a = @a + @e WHERE id = 1
SELECT a FROM t WHERE id = 1
SELECT nope INTO @m FROM t WHERE id = 1
SELECT a INTO @m, @o FROM t WHERE id = 1
SELECT @m
",
    ),
    (
        "names of character sets",
        r"
SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci
SELECT @@character_set_client, @@character_set_connection, @@character_set_results, @@collation_connection
SET character_set_results = NULL
SELECT @@character_set_results
SELECT note FROM t WHERE id = 5
SET character_set_results = utf8mb4
SET collation_connection = utf8mb4_bin
SELECT 'a' = 'A', @@collation_connection
SET NAMES utf8mb4
SELECT 'a' = 'A', @@collation_connection, @@character_set_results
SET CHARACTER SET latin1
SELECT @@character_set_client, @@character_set_connection, @@character_set_results
SET CHARACTER SET 'utf8mb4'
SELECT @@character_set_client, @@character_set_connection, @@character_set_results
? SET NAMES gbk
? SET NAMES big5
? SET character_set_client = sjis
? SET character_set_client = 'gbk'
? SET @@session.character_set_client = CONCAT('gb', 'k')
? SET collation_connection = gbk_chinese_ci
? SET CHARACTER SET cp932
SELECT 'ö', note FROM t WHERE id = 5
",
    ),
    (
        "what connectors and mappers ask first",
        r"
SELECT @@session.auto_increment_increment AS auto_increment_increment, @@character_set_client AS character_set_client, @@character_set_connection AS character_set_connection, @@character_set_results AS character_set_results, @@character_set_server AS character_set_server, @@collation_server AS collation_server, @@collation_connection AS collation_connection, @@init_connect AS init_connect, @@interactive_timeout AS interactive_timeout, @@license AS license, @@lower_case_table_names AS lower_case_table_names, @@max_allowed_packet AS max_allowed_packet, @@net_write_timeout AS net_write_timeout, @@performance_schema AS performance_schema, @@query_cache_size AS query_cache_size, @@query_cache_type AS query_cache_type, @@sql_mode AS sql_mode, @@system_time_zone AS system_time_zone, @@time_zone AS time_zone, @@tx_isolation AS transaction_isolation, @@wait_timeout AS wait_timeout
SELECT @@max_allowed_packet, @@wait_timeout
SELECT @@max_allowed_packet, @@system_time_zone, @@time_zone, @@sql_mode
SELECT VERSION(), @@sql_mode, @@default_storage_engine, @@sql_auto_is_null, @@lower_case_table_names, CONVERT_TZ('2001-01-01 01:00:00', 'UTC', 'UTC') IS NOT NULL
SET SQL_AUTO_IS_NULL = 0
SET SQL_SAFE_UPDATES=1
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED
SELECT @@tx_isolation
SET SESSION net_write_timeout=600
SET SQL_SELECT_LIMIT=DEFAULT
SET sql_select_limit=18446744073709551615
SELECT @@version_comment LIMIT 1
select @@version_comment limit 1
SELECT @@transaction_isolation, @@tx_read_only
SELECT @@session.tx_isolation, @@global.tx_isolation
SELECT CAST('test plain returns' AS CHAR(60)) AS anon_1
SELECT CAST('test unicode returns' AS CHAR(60)) AS anon_1
SELECT CAST('test collated returns' AS CHAR CHARACTER SET utf8mb4) COLLATE utf8mb4_bin AS anon_1
SELECT 'x' AS `some label`
SELECT @@lower_case_table_names
SHOW VARIABLES LIKE 'sql_mode'
SHOW VARIABLES LIKE 'lower_case_table_names'
SHOW VARIABLES LIKE 'character\_set\_connection'
SHOW FULL TABLES WHERE Table_type = 'VIEW'
SHOW FULL COLUMNS FROM t
SHOW FULL COLUMNS FROM `items` FROM `{db}`
SHOW FIELDS FROM t LIKE 'a'
SHOW KEYS FROM solo WHERE Key_name = 'nope'
SHOW CREATE TABLE t
SHOW CREATE TABLE `{db}`.`items`
SHOW COLLATION WHERE Charset = 'utf8mb4' AND Collation = 'utf8mb4_bin'
SHOW CHARACTER SET LIKE 'utf8mb4'
SHOW ENGINES
DESCRIBE `t`
SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{db}' AND TABLE_NAME = 't'
SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'items' ORDER BY ORDINAL_POSITION
SELECT kc.column_name, kc.referenced_table_name FROM information_schema.key_column_usage AS kc WHERE kc.table_schema = DATABASE() AND kc.table_name = 't' AND kc.referenced_table_name IS NOT NULL
? CREATE DATABASE IF NOT EXISTS `{db}`
? SHOW TABLE STATUS LIKE 'nope'
? SHOW STATUS LIKE 'nope'
? SHOW PROCESSLIST LIKE 'nope'
",
    ),
    (
        "conditions that a statement has left",
        r"
SELECT nope FROM t WHERE id = 1
GET DIAGNOSTICS @count = NUMBER, @rows = ROW_COUNT
GET DIAGNOSTICS CONDITION 1 @state = RETURNED_SQLSTATE, @text = MESSAGE_TEXT, @errno = MYSQL_ERRNO
SHOW WARNINGS
SELECT @count, @rows, @state, @text, @errno, CHARSET(@state), COLLATION(@text)
SELECT CAST('12ab' AS SIGNED), CAST('x' AS SIGNED), 1/0 FROM t WHERE id = 1
SHOW WARNINGS LIMIT 1
SHOW WARNINGS LIMIT 1, 5
SHOW WARNINGS LIMIT 2 OFFSET 1
SHOW WARNINGS LIMIT 0
SHOW ERRORS LIMIT 3
SHOW COUNT(*) WARNINGS
SHOW COUNT(*) ERRORS
GET CURRENT DIAGNOSTICS CONDITION 2 @`text` = MESSAGE_TEXT, @errno = MYSQL_ERRNO
SELECT @text, @errno
GET DIAGNOSTICS CONDITION 9 @text = MESSAGE_TEXT
? GET DIAGNOSTICS CONDITION 1 @state = CLASS_ORIGIN
UPDATE t SET note = 'counted' WHERE id = 3
GET DIAGNOSTICS @count = NUMBER, @rows = ROW_COUNT
SELECT @count, @rows
",
    ),
    (
        "more conditions than are kept",
        r"
SELECT COUNT(CAST(CONCAT(a.code, 'x') AS SIGNED)) FROM refs a, refs b, refs c, refs d, refs e
SHOW COUNT(*) WARNINGS
GET DIAGNOSTICS CONDITION 999 @text = MESSAGE_TEXT
GET DIAGNOSTICS CONDITION 999 @text = MESSAGE_TEXT
SHOW COUNT(*) WARNINGS
SHOW WARNINGS
GET DIAGNOSTICS @count = NUMBER
SELECT @count
! SET max_error_count = 20000
BEGIN
SELECT COUNT(CAST(CONCAT(a.code, REPEAT('x', 99), b.code) AS SIGNED)) FROM refs a, refs b, refs c, refs d, refs e, refs f, refs g, refs h, refs i
SHOW COUNT(*) WARNINGS
SHOW WARNINGS LIMIT 3
UPDATE t SET a = 5 WHERE id = 1
COMMIT
SELECT a FROM t WHERE id = 1
",
    ),
    (
        "statements that SQL prepares",
        r"
PREPARE p FROM 'SELECT a, note FROM t WHERE id = ?'
SET @k = 1, @s = 'two', @n = NULL
EXECUTE p USING @k
EXECUTE P USING @nope
EXECUTE p
EXECUTE p USING @k, @k
SET @k = 2
EXECUTE p USING @k
PREPARE q FROM 'UPDATE t SET note = ?, a = a-? WHERE id = ?'
EXECUTE q USING @s, @k, @k
EXECUTE q USING @n, @k, @k
SELECT a, note FROM t WHERE id = 2
PREPARE p FROM 'SELECT nope FROM t WHERE id = 1'
EXECUTE p USING @k
SET @text = 'SELECT n FROM fruits WHERE name = ?', @f = 'pear'
PREPARE r FROM @text
EXECUTE r USING @f
PREPARE s FROM 'SELECT 1; SELECT 2'
PREPARE s FROM 'SELEC'
PREPARE s FROM 'SELECT ?, a FROM t WHERE id = 1'
? EXECUTE s USING @k
PREPARE b FROM 'BEGIN'
EXECUTE b
PREPARE i FROM 'INSERT INTO t (id, a) VALUES (?, ?)'
SET @id = 350
EXECUTE i USING @id, @k
EXECUTE i USING @id, @k
DEALLOCATE PREPARE i
EXECUTE i USING @id, @k
DROP PREPARE i
ROLLBACK
DEALLOCATE PREPARE q
EXECUTE IMMEDIATE 'SELECT a, note FROM t WHERE id = 2'
EXECUTE IMMEDIATE 'SELECT a FROM t WHERE id = ?' USING @k
EXECUTE IMMEDIATE @text USING @f
EXECUTE IMMEDIATE 'SELECT nope FROM t WHERE id = 1'
PREPARE many FROM 'SELECT id, a FROM t WHERE a > ?'
EXECUTE many USING @k
PREPARE all_of FROM 'SELECT COUNT(*), MAX(a) FROM t WHERE a > ?'
EXECUTE all_of USING @k
PREPARE every FROM 'UPDATE t SET a = a + ?'
EXECUTE every USING @k
SELECT SUM(a) FROM t
\ping
",
    ),
    (
        "prepared settings",
        r"
SET @a = 1 + 1
SELECT @a
SET sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')
SELECT @@sql_mode
",
    ),
    (
        "what is told of the session",
        r"
SET autocommit = 0
SET autocommit = 1
SET autocommit = 1
SET NAMES latin1
SET NAMES utf8mb4
SET NAMES utf8mb4 COLLATE utf8mb4_bin
SET CHARACTER SET utf8mb4
SET character_set_results = NULL
SET NAMES utf8mb4
SET time_zone = '+03:00'
SET sql_mode = 'ANSI_QUOTES'
SET sql_mode = '', time_zone = '+00:00', autocommit = 0, @y = 3
SET time_zone = 'nowhere'
SET autocommit = 1, time_zone = 'nowhere'
SET @x = 1
SET autocommit = ON; SET time_zone = '+01:00'; SELECT 1
USE {db}
\db own
\reset
SET autocommit = 1
BEGIN
INSERT INTO t (id, a) VALUES (1001, 1)
COMMIT
DELETE FROM t WHERE id = 1001
",
    ),
    (
        "what is told of the session can be chosen",
        r"
SET session_track_schema = OFF
USE {db}
SET SESSION session_track_schema = 1
USE {db}
SET session_track_schema = DEFAULT
SET session_track_system_variables = 'autocommit, tx_isolation,sql_mode'
SET time_zone = '+01:00'
SET autocommit = 1
SET tx_isolation = 'READ-COMMITTED'
SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE
SET sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')
SET NAMES utf8mb4
SET session_track_system_variables = ''
SET autocommit = 1
SET session_track_system_variables = DEFAULT
SET autocommit = 1, session_track_schema = 1, session_track_system_variables = 'autocommit,tx_isolation', tx_isolation = 'REPEATABLE-READ'
SET autocommit = 1, time_zone = '+02:00', tx_isolation = 'READ-COMMITTED'
SET session_track_system_variables = 'sql_mode', sql_mode = nope
SET autocommit = 1
\reset
SET autocommit = 1, time_zone = '+02:00'
SET session_track_state_change = OFF, session_track_transaction_info = OFF
? SET session_track_schema = nope
? SET session_track_system_variables = '*'
? SET session_track_system_variables = 'last_gtid'
? SET session_track_system_variables = CONCAT(@@session_track_system_variables, ',sql_mode')
? SET session_track_transaction_info = 'STATE'
? SELECT @@session_track_system_variables
SET autocommit = 1
",
    ),
    (
        "changes of the session's state are told",
        r"
SET session_track_state_change = ON
SET @x = 2
SET autocommit = 1
SET NAMES utf8mb4
USE {db}
SELECT 1
INSERT INTO t (id, a) VALUES (1002, 1)
DELETE FROM t WHERE id = 1002
SET session_track_state_change = OFF
SET @x = 3
",
    ),
];
