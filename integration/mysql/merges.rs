//! What shards' answers are put together from, where that is easily done wrongly: equal weights, blanks, signs, scales,
//! overflows, and settings that change what an answer is.

use crate::cases::Case;

pub(crate) const MERGES: &[Case] = &[
    (
        "texts of equal weight over shards",
        r"
DELETE FROM items
INSERT INTO items (id, no, what, price) VALUES (1, 1, 'a', 1), (2, 1, 'A', 1), (3, 1, 'á', 1), (4, 1, 'a ', 1), (5, 1, 'ß', 1), (6, 1, 's', 1), (7, 1, 'ss', 1), (8, 1, '', 1), (9, 1, NULL, 1), (10, 1, ' ', 1), (11, 1, 'b', 1), (12, 1, 'B', 1), (13, 1, 'Z', 1), (14, 1, '_', 1), (15, 1, 'ﬁ', 1), (16, 1, '😀', 1), (17, 1, '😁', 1), (18, 1, 'a	', 1)
? SELECT COUNT(DISTINCT what) FROM items
? SELECT COUNT(*) FROM items GROUP BY what ORDER BY what
? SELECT MIN(HEX(what)), COUNT(*) FROM items GROUP BY what ORDER BY 1
? SELECT id, what FROM items ORDER BY what, id
? SELECT id, what FROM items ORDER BY what DESC, id DESC
? SELECT id FROM items WHERE what = 'a' ORDER BY id
? SELECT COUNT(*) FROM items WHERE what <= 'a '
? SELECT id, what FROM items ORDER BY what COLLATE utf8mb4_bin, id
? SELECT id, what FROM items ORDER BY what COLLATE utf8mb4_unicode_ci, id
? SELECT id, what FROM items ORDER BY BINARY what, id
? SELECT COUNT(*), MIN(id), MAX(id) FROM items GROUP BY what COLLATE utf8mb4_nopad_bin ORDER BY 2
? SELECT id FROM items ORDER BY what IS NULL, what DESC, id LIMIT 5
? SELECT MAX(what) FROM items WHERE id IN (11, 13, 1)
? SELECT MIN(what) FROM items WHERE id IN (11, 13, 14)
? SELECT MAX(LENGTH(what)), MIN(LENGTH(what)) FROM items
? SELECT SUM(what), AVG(what) FROM items WHERE id IN (1, 2, 3, 4)
SHOW WARNINGS
? SELECT DISTINCT price FROM items
? SELECT COUNT(DISTINCT price) FROM items
",
    ),
    (
        "numbers over shards",
        r"
DELETE FROM items
INSERT INTO items (id, no, what, price) VALUES (1, 1, 'a', 0.10), (2, 2, 'a', -0.10), (3, 2147483647, 'a', 9999.99), (4, -2147483648, 'b', 0.00), (5, 5, 'b', 0.01), (6, 5, 'c', 0.02)
? SELECT SUM(price), AVG(price), MIN(price), MAX(price) FROM items
? SELECT what, SUM(price), AVG(price) FROM items GROUP BY what ORDER BY what
? SELECT SUM(no), AVG(no), MIN(no), MAX(no) FROM items
? SELECT AVG(no), AVG(price) FROM items WHERE id > 100
? SELECT SUM(no), COUNT(no), MIN(no) FROM items WHERE id > 100
? SELECT SUM(price) / COUNT(*), SUM(price) * 2 FROM items
? SELECT AVG(price) + 0, -AVG(price), ROUND(AVG(price), 1) FROM items
? SELECT SUM(-price), SUM(ABS(price)), SUM(price + 0.001) FROM items
? SELECT SUM(price * 1e0), AVG(price * 1e0) FROM items
? SELECT BIT_AND(no), BIT_OR(no), BIT_XOR(no) FROM items
? SELECT BIT_AND(no), BIT_OR(no), BIT_XOR(no) FROM items WHERE id > 100
? SELECT VARIANCE(no), STD(no), VAR_SAMP(no) FROM items
? SELECT GROUP_CONCAT(id ORDER BY id), GROUP_CONCAT(DISTINCT what ORDER BY what DESC SEPARATOR '|') FROM items
? SELECT COUNT(*), COUNT(DISTINCT what, no) FROM items
? SELECT SUM(DISTINCT no), AVG(DISTINCT price), MIN(DISTINCT no) FROM items
? SELECT id, price FROM items ORDER BY price, id
? SELECT id, price FROM items ORDER BY -price, id
? SELECT price, COUNT(*) FROM items GROUP BY price ORDER BY price DESC
SET div_precision_increment = 8
? SELECT AVG(no), AVG(price), SUM(price) / 3 FROM items
SET div_precision_increment = 0
? SELECT AVG(no), AVG(price), SUM(price) / 3 FROM items
SET div_precision_increment = 30
? SELECT AVG(no), AVG(price), SUM(price) / 3 FROM items
SET div_precision_increment = DEFAULT
SET group_concat_max_len = 4
? SELECT GROUP_CONCAT(id ORDER BY id) FROM items
SHOW WARNINGS
SET group_concat_max_len = DEFAULT
? SELECT SQL_CALC_FOUND_ROWS id FROM items ORDER BY id LIMIT 2
? SELECT FOUND_ROWS()
? SELECT id / 0, COUNT(*) FROM items GROUP BY id ORDER BY id
SHOW WARNINGS
? SELECT SUM(1 / (id - 1)) FROM items
SHOW WARNINGS
",
    ),
    (
        "every type over shards",
        r"
? SELECT MIN(ti), MAX(ti), SUM(ti), AVG(ti) FROM kinds
? SELECT MIN(mi), MAX(mi), SUM(mi), AVG(mi) FROM kinds
? SELECT MIN(bi), MAX(bi), SUM(bi), AVG(bi) FROM kinds
? SELECT BIT_AND(bi), BIT_OR(bi), BIT_XOR(bi) FROM kinds
? SELECT MIN(de), MAX(de), SUM(de), AVG(de) FROM kinds
? SELECT MIN(fl), MAX(fl), SUM(fl), AVG(fl) FROM kinds
? SELECT MIN(fd), MAX(fd), SUM(fd), AVG(fd) FROM kinds
? SELECT MIN(db), MAX(db) FROM kinds
? SELECT SUM(db) FROM kinds WHERE id IN (1, 2, 5)
? SELECT MIN(yr), MAX(yr), SUM(yr), AVG(yr) FROM kinds
? SELECT MIN(da), MAX(da), MIN(dt), MAX(dt), MIN(ts), MAX(ts), MIN(tm), MAX(tm) FROM kinds
? SELECT SUM(da), AVG(tm), SUM(dt) FROM kinds WHERE id = 1 OR id = 5
? SELECT MIN(bt), MAX(bt), SUM(bt), BIT_OR(bt) FROM kinds
? SELECT MIN(en), MAX(en), SUM(en), MIN(st), MAX(st), SUM(st) FROM kinds
? SELECT MIN(bn), MAX(bn), MIN(vb), MAX(vb), MIN(bl), MAX(bl) FROM kinds
? SELECT MIN(ui), MAX(ui), MIN(ip), MAX(ip) FROM kinds
? SELECT MIN(js), MAX(js) FROM kinds
? SELECT MIN(ch), MAX(ch) FROM kinds WHERE id < 3
? SELECT SUM(ge), SUM(vi), MAX(ge), MIN(vi) FROM kinds
? SELECT id FROM kinds ORDER BY bt, id
? SELECT id FROM kinds ORDER BY yr DESC, id
? SELECT id FROM kinds ORDER BY en, id
? SELECT id FROM kinds ORDER BY en DESC, st DESC, id
? SELECT id FROM kinds ORDER BY st, id
? SELECT id FROM kinds ORDER BY fl, id
? SELECT id FROM kinds ORDER BY db DESC, id
? SELECT id FROM kinds ORDER BY tm, id
? SELECT id FROM kinds ORDER BY ts, id
? SELECT id FROM kinds ORDER BY da, dt, id
? SELECT id FROM kinds ORDER BY bi DESC, id
? SELECT id FROM kinds ORDER BY de, id
? SELECT id FROM kinds ORDER BY l1, id
? SELECT id FROM kinds ORDER BY tx DESC, id
? SELECT id FROM kinds ORDER BY u2, id
? SELECT id FROM kinds ORDER BY bn, id
? SELECT id FROM kinds ORDER BY vb DESC, bl, id
? SELECT id FROM kinds ORDER BY js, id
? SELECT id FROM kinds ORDER BY ui, id
? SELECT id FROM kinds ORDER BY ip DESC, id
? SELECT yr, COUNT(*) FROM kinds GROUP BY yr ORDER BY yr
? SELECT bt, COUNT(*) FROM kinds GROUP BY bt ORDER BY bt
? SELECT en, COUNT(*), MAX(id) FROM kinds GROUP BY en ORDER BY en
? SELECT st, COUNT(*), MAX(id) FROM kinds GROUP BY st ORDER BY st
? SELECT fl, COUNT(*) FROM kinds GROUP BY fl ORDER BY fl
? SELECT db, COUNT(*) FROM kinds GROUP BY db ORDER BY db
? SELECT da, COUNT(*) FROM kinds GROUP BY da ORDER BY da
? SELECT dt, COUNT(*) FROM kinds GROUP BY dt ORDER BY dt
? SELECT ts, COUNT(*) FROM kinds GROUP BY ts ORDER BY ts
? SELECT tm, COUNT(*) FROM kinds GROUP BY tm ORDER BY tm
? SELECT bn, COUNT(*) FROM kinds GROUP BY bn ORDER BY bn
? SELECT de, COUNT(*) FROM kinds GROUP BY de ORDER BY de
? SELECT DISTINCT en FROM kinds ORDER BY en
? SELECT DISTINCT bt FROM kinds ORDER BY bt
? SELECT DISTINCT yr, da FROM kinds ORDER BY yr, da
? SELECT DISTINCT dt FROM kinds
? SELECT DISTINCT fl, db FROM kinds
? SELECT DISTINCT ti, mi FROM kinds ORDER BY ti LIMIT 2
SET time_zone = '+05:30'
? SELECT id, ts FROM kinds ORDER BY ts DESC, id
? SELECT MIN(ts), MAX(ts) FROM kinds
? SELECT ts, COUNT(*) FROM kinds GROUP BY ts ORDER BY ts
SET time_zone = 'Europe/Nowhere'
SET sql_mode = ''
? SELECT note, id, COUNT(*) FROM t WHERE a < 0 GROUP BY note
? SELECT MAX(a), COUNT(*) FROM t
? SELECT id, MAX(a) FROM t WHERE id > 1000
SET sql_mode = 'PAD_CHAR_TO_FULL_LENGTH'
? SELECT id, ch FROM kinds ORDER BY ch, id
? SELECT MIN(ch), MAX(ch) FROM kinds WHERE id < 3
? SELECT ch, COUNT(*) FROM kinds GROUP BY ch ORDER BY ch
",
    ),
    (
        "orders, groups and limits over shards",
        r"
? SELECT id, a FROM t ORDER BY a DESC, id DESC LIMIT 3 OFFSET 2
? SELECT id, a FROM t ORDER BY a LIMIT 0
? SELECT id FROM t ORDER BY id LIMIT 18446744073709551615
? SELECT id FROM t ORDER BY id LIMIT 2, 18446744073709551615
? SELECT id FROM t ORDER BY id LIMIT 3 OFFSET 18446744073709551615
? SELECT id FROM t ORDER BY id LIMIT 1000000000000 OFFSET 7
? SELECT id FROM t ORDER BY a IS NULL, a, id
? SELECT a FROM t ORDER BY note DESC, id
? SELECT a FROM t ORDER BY 1
? SELECT a AS id FROM t ORDER BY id
? SELECT -a AS a FROM t ORDER BY a
? SELECT -a AS a FROM t ORDER BY t.a
? SELECT a % 20 AS a, COUNT(*) FROM t GROUP BY a ORDER BY a
? SELECT a % 20 AS b, COUNT(*) FROM t GROUP BY b ORDER BY b
? SELECT a DIV 30 AS a, COUNT(*) AS c FROM t GROUP BY t.a ORDER BY t.a
? SELECT COUNT(*) AS a FROM t GROUP BY a ORDER BY a
? SELECT id, COUNT(*) AS c FROM items GROUP BY id ORDER BY c DESC, id
? SELECT what, SUM(price) AS s FROM items GROUP BY what ORDER BY s DESC, what LIMIT 2
? SELECT what, SUM(price) FROM items GROUP BY what WITH ROLLUP
? SELECT what, id, SUM(price) FROM items GROUP BY what, id WITH ROLLUP
? SELECT COUNT(*) FROM items GROUP BY what HAVING COUNT(*) > 1 ORDER BY 1
? SELECT what, COUNT(*) c FROM items GROUP BY what HAVING what > 'i' ORDER BY what
? SELECT COUNT(*) FROM items HAVING COUNT(*) > 100
? SELECT COUNT(*) FROM items LIMIT 0
? SELECT COUNT(*) FROM items LIMIT 1 OFFSET 1
? SELECT MAX(a) FROM t WHERE 1 = 0
? SELECT MAX(a) FROM t WHERE 1 = 0 GROUP BY note
? SELECT 1 FROM t GROUP BY 1
? SELECT NULL, COUNT(*) FROM t GROUP BY 1
? SELECT DISTINCT COUNT(*) FROM items GROUP BY id
? SELECT DISTINCT what FROM items ORDER BY price, what
? SELECT DISTINCT t.a FROM t JOIN items ON items.id = t.id ORDER BY t.a
? SELECT COUNT(*), SUM(t.a), SUM(items.price) FROM t LEFT JOIN items ON items.id = t.id
? SELECT t.id, COUNT(items.no) FROM t LEFT JOIN items ON items.id = t.id GROUP BY t.id ORDER BY t.id
? SELECT COUNT(*), MAX(refs.n) FROM t JOIN refs ON refs.n > t.a
? SELECT COUNT(*) FROM refs LEFT JOIN t ON refs.n = t.a
? SELECT COUNT(*) FROM refs RIGHT JOIN t ON refs.n = t.a
? SELECT refs.code, COUNT(t.id) FROM refs LEFT JOIN t ON refs.n > t.a GROUP BY refs.code ORDER BY refs.code
? SELECT id FROM t ORDER BY a FETCH FIRST 2 ROWS WITH TIES
? SELECT id FROM t ORDER BY id FETCH FIRST 2 ROWS ONLY
? SELECT id FROM t ORDER BY id OFFSET 1 ROWS FETCH NEXT 2 ROWS ONLY
? SELECT COUNT(*) AS c, MAX(a) AS m FROM t ORDER BY c
? SELECT MAX(a), MIN(a) FROM t ORDER BY MAX(a)
? SELECT note FROM t GROUP BY note ORDER BY MAX(id)
? SELECT MIN(a), a FROM t WHERE id = 1 OR id = 2 GROUP BY a ORDER BY a
? SELECT COUNT(a), COUNT(*), COUNT(NULL), COUNT(1), SUM(NULL), MAX(NULL) FROM t
? SELECT SUM(a = 10), SUM(a IS NULL), MAX(a > 20), COUNT(a > 20 OR NULL) FROM t
? SELECT MAX(a) + MIN(a), MAX(a) - 1 AS x FROM t
? SELECT IFNULL(MAX(a), 0), COALESCE(SUM(a), 0) FROM t WHERE id > 1000
? (SELECT id FROM t ORDER BY id LIMIT 2) ORDER BY id DESC
? (SELECT id FROM t ORDER BY id DESC LIMIT 2) LIMIT 1
? SELECT SQL_BUFFER_RESULT id FROM t ORDER BY id
? SELECT id FROM t PROCEDURE ANALYSE()
? SELECT ANY_VALUE(a), COUNT(*) FROM t GROUP BY note ORDER BY 2
? SELECT UNIX_TIMESTAMP(made), COUNT(*) FROM t GROUP BY made ORDER BY made
? SELECT DATE(made), COUNT(*) FROM t GROUP BY DATE(made) ORDER BY DATE(made)
",
    ),
];
