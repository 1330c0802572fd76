//! Statements that routers are known to guess wrong, and writes that are known to corrupt.

use super::compare::Order;
use super::compare::Verdict;
use super::compare::compare;
use super::rig::Both;
use super::rig::Rig;
use super::rig::Tally;
use super::wire::How;
use super::wire::Row;
use super::wire::Value;

/// Reads, by what is hard about them.
const READS: &[(&str, &[&str])] = &[
    (
        "R1 arithmetic on the key",
        &[
            "SELECT id FROM users WHERE id % 10 = 3",
            "SELECT id FROM users WHERE mod(id, 10) = 3 AND age > 5",
            "SELECT user_id, no FROM orders WHERE user_id / 2 = 4",
        ],
    ),
    (
        "R2 computed constants",
        &[
            "SELECT * FROM users WHERE id = 1 + 5",
            "SELECT * FROM users WHERE id = 2 * 3 - 1",
            "SELECT * FROM users WHERE id + 1 = 6",
            "SELECT * FROM users WHERE id = -5",
            "SELECT * FROM users WHERE id = - (-5)",
            "SELECT * FROM users WHERE id = 7 / 2",
            "SELECT * FROM users WHERE id = -7 / 2",
            "SELECT * FROM users WHERE id = 7 % 4",
            "SELECT * FROM users WHERE id = 2147483647 + 1",
            "SELECT * FROM users WHERE id = 2147483648",
            "SELECT * FROM users WHERE id = 9223372036854775807 + 1",
            "SELECT * FROM users WHERE id = -9223372036854775808",
            "SELECT * FROM users WHERE id = 9223372036854775808",
            "SELECT * FROM users WHERE id = 1 << 3",
            "SELECT * FROM users WHERE id = 2 ^ 3",
            "SELECT * FROM users WHERE id = 5::text::bigint",
            "SELECT * FROM users WHERE id = length('abcde')",
            "SELECT * FROM users WHERE id = 10 / 4 * 2.0",
            "SELECT * FROM users WHERE id = 5.4::int",
            "SELECT * FROM users WHERE id = 5.5::int",
            "SELECT * FROM users WHERE id = 4.5::int",
            "SELECT * FROM users WHERE id = 4.5::float8::int",
            "SELECT * FROM users WHERE id = 5.0",
            "SELECT * FROM users WHERE id = 1.5",
            "SELECT * FROM users WHERE id = 5e0",
            "SELECT * FROM users WHERE id = '  5 '",
            "SELECT * FROM users WHERE id = '+5'",
            "SELECT * FROM users WHERE id = '-0'",
            "SELECT * FROM users WHERE id = '5.0'",
            "SELECT * FROM users WHERE id = ''",
            "SELECT * FROM users WHERE id = E'\\x35'",
            "SELECT * FROM users WHERE id = U&'\\0035'",
            "SELECT * FROM users WHERE id = $$5$$",
            "SELECT * FROM users WHERE id = '5' '5'",
            "SELECT * FROM users WHERE id = '5'\n'5'",
            "SELECT * FROM users WHERE id = B'101'::int",
            "SELECT * FROM users WHERE id = 300::smallint::int",
            "SELECT * FROM users WHERE id = 70000::smallint",
            "SELECT * FROM users WHERE id = true::int",
            "SELECT * FROM users WHERE id = twice(3)",
            "SELECT * FROM users WHERE id = (SELECT 5)",
            "SELECT * FROM users WHERE (id, 1) = (5, 1)",
            "SELECT * FROM users WHERE ROW(id, name) = ROW(5, 'name4')",
            "SELECT * FROM users WHERE (id) = (5)",
            "SELECT * FROM (SELECT e.*, u.id FROM users u, jsonb_each_text('{\"5\":\"x\",\"6\":\"7\"}') e) d(k, v) WHERE v = '7'",
            "SELECT * FROM (SELECT id FROM users UNION ALL SELECT 1.5::float8) d WHERE id = 9007199254740993",
            "SELECT day FROM (SELECT day FROM days UNION ALL SELECT timestamptz '2024-01-01') d WHERE day = '2024-02-29 00:00+00'",
            "SELECT (SELECT max(id) FROM jsonb_each_text('{\"a\":\"b\"}') e) FROM users",
            "SELECT * FROM users WHERE 5 = id",
            "SELECT * FROM users WHERE id OPERATOR(pg_catalog.=) 5",
            "SELECT * FROM users WHERE id = 5::float8",
            "SELECT * FROM users WHERE id = 9007199254740993::float8",
            "SELECT * FROM users WHERE id = 9223372036854775807::float8",
            "SELECT * FROM users WHERE id = 9223372036854775807::numeric",
            "SELECT * FROM users WHERE id >= 5 AND id <= 5",
            "SELECT * FROM users WHERE id BETWEEN 5 AND 5",
            "SELECT * FROM users WHERE id BETWEEN SYMMETRIC 9 AND 5",
            "SELECT * FROM users WHERE id IS NOT DISTINCT FROM 5",
            "SELECT * FROM users WHERE id IS DISTINCT FROM 5",
            "SELECT * FROM users WHERE id = NULL",
            "SELECT * FROM users WHERE id = NULL::bigint",
            "SELECT * FROM users WHERE id <> 5",
            "SELECT * FROM users WHERE NOT id <> 5",
            "SELECT * FROM users WHERE id::text = '5'",
            "SELECT * FROM users WHERE id::int = 5 AND id < 100 AND id > -100",
        ],
    ),
    (
        "R3 comparisons outside WHERE",
        &[
            "SELECT id = 5 AS me, * FROM users",
            "SELECT count(*) FILTER (WHERE id = 5) FROM users",
            "SELECT sum(CASE WHEN id = 5 THEN 1 END) FROM users",
            "SELECT id FROM users GROUP BY id HAVING id = 5",
            "SELECT id FROM users ORDER BY id = 5, id",
            "SELECT CASE WHEN id = 5 THEN 'me' END FROM users",
        ],
    ),
    ("R4", &["SELECT id = 5, * FROM users WHERE id = 7"]),
    (
        "R5 outer joins",
        &[
            "SELECT * FROM users u LEFT JOIN orders o ON o.user_id = 5",
            "SELECT * FROM users u LEFT JOIN orders o ON o.user_id = u.id AND u.id = 5",
            "SELECT * FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.id = 5",
            "SELECT * FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.user_id = 5",
            "SELECT * FROM users u LEFT JOIN orders o ON o.user_id = u.id AND o.user_id = 5 WHERE u.id = 7",
            "SELECT * FROM users u RIGHT JOIN orders o ON o.user_id = u.id AND o.user_id = 5",
            "SELECT * FROM users u RIGHT JOIN orders o ON o.user_id = u.id WHERE u.id = 5",
            "SELECT * FROM users u FULL JOIN users2 v ON u.id = v.id WHERE u.id = 5",
            "SELECT * FROM users u FULL JOIN users2 v ON u.id = v.id WHERE v.id = 6",
            "SELECT * FROM users u FULL JOIN users2 v ON u.id = v.id AND u.id = 5",
            "SELECT * FROM users u FULL JOIN users2 v ON u.id = v.id WHERE u.id = 5 OR v.id = 5",
            "SELECT * FROM users u LEFT JOIN users2 v ON u.id = v.id WHERE v.id IS NULL AND u.id = 3",
            "SELECT * FROM users u LEFT JOIN users2 v ON u.id = v.id WHERE v.id IS NULL",
            "SELECT * FROM users u LEFT JOIN users2 v ON u.id = v.id",
            "SELECT * FROM users u CROSS JOIN orders o WHERE u.id = 5 AND o.user_id = 5",
            "SELECT * FROM users u, orders o WHERE u.id = o.user_id AND o.user_id = 6",
            "SELECT u.id, o.no FROM users u JOIN orders o ON u.id = o.user_id AND u.id = 6 LEFT JOIN users2 v ON v.id = 3",
            "SELECT u.id, c.name FROM countries c LEFT JOIN users u ON u.country = c.code",
            "SELECT u.id, c.name FROM users u LEFT JOIN countries c ON u.country = c.code",
            "SELECT u.id, c.name FROM countries c LEFT JOIN users u ON u.country = c.code AND u.id = 5",
            "SELECT u.id, c.name FROM countries c FULL JOIN users u ON u.country = c.code WHERE u.id = 5",
        ],
    ),
    (
        "R6 subqueries",
        &[
            "SELECT * FROM users WHERE EXISTS (SELECT 1 FROM orders WHERE user_id = 5)",
            "SELECT * FROM users WHERE id = 7 AND EXISTS (SELECT 1 FROM orders WHERE user_id = 7)",
            "SELECT * FROM users WHERE id = 7 AND EXISTS (SELECT 1 FROM orders WHERE user_id = 5)",
            "SELECT * FROM users u WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id)",
            "SELECT * FROM users u WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id)",
            "SELECT * FROM users u WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id AND u.id = 5)",
            "SELECT * FROM users WHERE age IN (SELECT no FROM orders WHERE user_id = 5)",
            "SELECT * FROM users WHERE id IN (SELECT user_id FROM orders WHERE user_id = 5)",
            "SELECT * FROM users WHERE id IN (SELECT user_id FROM orders)",
            "SELECT * FROM users WHERE id NOT IN (SELECT user_id FROM orders)",
            "SELECT * FROM users WHERE id = (SELECT user_id FROM orders WHERE user_id = 5 LIMIT 1)",
            "SELECT * FROM users WHERE id = ANY (SELECT user_id FROM orders WHERE user_id = 6)",
            "SELECT * FROM users WHERE id = ALL (SELECT user_id FROM orders WHERE user_id = 6)",
            "SELECT * FROM users WHERE id IN (SELECT 5 UNION SELECT 6)",
            "SELECT * FROM users WHERE id = 5 AND age > (SELECT count(*) FROM users2 WHERE id = 5)",
            "SELECT (SELECT no FROM orders o WHERE o.user_id = u.id ORDER BY no LIMIT 1) FROM users u",
            "SELECT (SELECT count(*) FROM orders o WHERE o.user_id = u.id) FROM users u",
        ],
    ),
    (
        "R7 arms",
        &[
            "SELECT name FROM users WHERE id = 1 UNION ALL SELECT name FROM users WHERE id = 2",
            "SELECT name FROM users WHERE id = 1 UNION ALL SELECT name FROM users WHERE id = 3",
            "SELECT name FROM users WHERE id = 1 UNION ALL SELECT name FROM users WHERE id = 4",
            "SELECT name FROM users WHERE id = 1 UNION ALL SELECT 'x'",
            "SELECT name FROM users WHERE id = 1 EXCEPT SELECT name FROM users WHERE id = 1",
            "(SELECT name FROM users WHERE id = 1) UNION ALL (SELECT name FROM users2 WHERE id = 1)",
        ],
    ),
    (
        "R8",
        &[
            "SELECT name FROM users UNION SELECT name FROM users2",
            "SELECT name FROM users INTERSECT SELECT name FROM users2",
        ],
    ),
    (
        "R9 one row",
        &[
            "SELECT EXISTS (SELECT 1 FROM users WHERE name = 'name3')",
            "SELECT (SELECT count(*) FROM users)",
            "SELECT ARRAY(SELECT id FROM users WHERE id = 5)",
            "SELECT EXISTS (SELECT 1 FROM users WHERE id = 5)",
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM users WHERE id = 5)",
            "VALUES ((SELECT max(id) FROM users))",
        ],
    ),
    (
        "R10 lists",
        &[
            "SELECT * FROM users WHERE id IN (1, 2 + 3)",
            "SELECT * FROM users WHERE id IN (1, 2.0)",
            "SELECT * FROM users WHERE id IN (1, '5', 2.5)",
            "SELECT * FROM users WHERE id IN (1, 5e0)",
            "SELECT * FROM users WHERE id IN (5)",
            "SELECT * FROM users WHERE id IN (5, NULL)",
            "SELECT * FROM users WHERE id IN (5, age)",
            "SELECT * FROM users WHERE id NOT IN (5, 6)",
            "SELECT * FROM users WHERE id = ANY ('{5,6}')",
            "SELECT * FROM users WHERE id = ANY ('{5,6}'::int[])",
            "SELECT * FROM users WHERE id = ANY (ARRAY[5, 6])",
            "SELECT * FROM users WHERE id = ANY (ARRAY[[5, 6],[7, 8]])",
            "SELECT * FROM users WHERE id = ANY ('{{5,6},{7,8}}')",
            "SELECT * FROM users WHERE id = ANY ('[0:1]={5,6}')",
            "SELECT * FROM users WHERE id = ANY ('{5,NULL}')",
            "SELECT * FROM users WHERE id = ANY ('{}')",
            "SELECT * FROM users WHERE id = ANY (NULL)",
            "SELECT * FROM users WHERE id = ALL ('{5}')",
            "SELECT * FROM users WHERE id = ALL ('{}')",
            "SELECT * FROM users WHERE id <> ALL ('{5,6}')",
            "SELECT * FROM users WHERE id < ANY ('{5,6}')",
            "SELECT * FROM users WHERE id = ANY (ARRAY[5.0, 5.5])",
            "SELECT * FROM users WHERE id = ANY ('{5,6}'::text[]::bigint[])",
            "SELECT * FROM users WHERE (id, age) IN ((5, 28), (6, 35))",
            "SELECT * FROM users WHERE (age, id) IN ((28, 5), (35, 6))",
            "SELECT * FROM users WHERE (id, age) NOT IN ((5, 28))",
            "SELECT * FROM users WHERE (id, age) < (5, 28)",
            "SELECT * FROM users WHERE (id, age) = ANY (SELECT 5::bigint, 28)",
            "SELECT * FROM users WHERE id IN (VALUES (5), (6))",
            "SELECT users.* FROM users JOIN (VALUES (5), (6)) v (x) ON v.x = id",
            "SELECT users.* FROM users JOIN unnest(ARRAY[5, 6]) v ON v = id",
            "SELECT users.* FROM users JOIN generate_series(5, 6) v ON v = id",
        ],
    ),
    (
        "R11 truth",
        &[
            "SELECT id FROM users WHERE (id = 5) IS NOT TRUE",
            "SELECT id FROM users WHERE (id = 5) IS FALSE",
            "SELECT id FROM users WHERE (id = 5) IS TRUE",
            "SELECT id FROM users WHERE (id = 5) IS NULL",
            "SELECT id FROM users WHERE (id = 5) IS UNKNOWN",
            "SELECT id FROM users WHERE NOT (id = 5)",
            "SELECT id FROM users WHERE NOT NOT (id = 5)",
            "SELECT id FROM users WHERE (id = 5) = true",
            "SELECT id FROM users WHERE (id = 5) = false",
            "SELECT id FROM users WHERE (id = 5) = (age = 28)",
            "SELECT id FROM users WHERE id = 5 = true",
            "SELECT id FROM users WHERE CASE WHEN age > 30 THEN id = 5 ELSE true END",
            "SELECT id FROM users WHERE coalesce(id = 5, true)",
            "SELECT id FROM users WHERE (id = 5)::int = 0",
        ],
    ),
    (
        "R12 text keys",
        &[
            "SELECT * FROM pages WHERE slug = '123'",
            "SELECT * FROM pages WHERE slug = '5'",
            "SELECT * FROM pages WHERE slug = '5 '",
            "SELECT * FROM pages WHERE slug = '5 '::char(2)",
            "SELECT * FROM pages WHERE slug = '5'::char(3)",
            "SELECT * FROM pages WHERE slug = 'abc'::varchar(2)",
            "SELECT * FROM pages WHERE slug = 'abc'::varchar",
            "SELECT * FROM pages WHERE slug = 'abc'::name",
            "SELECT * FROM pages WHERE slug = 'a' COLLATE \"C\"",
            "SELECT * FROM pages WHERE slug COLLATE \"C\" = 'a'",
            "SELECT * FROM pages WHERE slug = 5",
            "SELECT * FROM pages WHERE slug = 5::text",
            "SELECT * FROM pages WHERE slug LIKE '5'",
            "SELECT * FROM pages WHERE slug ILIKE 'a'",
            "SELECT * FROM pages WHERE lower(slug) = 'a'",
            "SELECT * FROM pages WHERE slug = lower('A')",
            "SELECT * FROM pages WHERE slug = 'a' || 'bc'",
            "SELECT * FROM pages WHERE slug = 'é'",
            "SELECT * FROM pages WHERE slug = E'e\\u0301'",
            "SELECT * FROM pages WHERE slug = E'\\303\\251'",
            "SELECT * FROM pages WHERE slug = U&'\\00e9'",
            "SELECT * FROM pages WHERE slug = 'it''s'",
            "SELECT * FROM pages WHERE slug = $q$it's$q$",
            "SELECT * FROM pages WHERE slug = ''",
            "SELECT * FROM pages WHERE slug IN ('5', '05', ' 5')",
            "SELECT * FROM pages WHERE slug = ANY ('{5,\"5 \",NULL,\"\"}')",
            "SELECT * FROM pages WHERE slug = ANY (ARRAY['5', 'a'])",
            "SELECT * FROM pages WHERE slug = N'a'",
            "SELECT * FROM days WHERE day = '2024-02-29'",
            "SELECT * FROM days WHERE day = '29-Feb-2024'",
            "SELECT * FROM days WHERE day = '02/29/2024'",
            "SELECT * FROM days WHERE day = '20240229'",
            "SELECT * FROM days WHERE day = 'J2460370'",
            "SELECT * FROM days WHERE day = 'infinity'",
            "SELECT * FROM days WHERE day = '0044-03-15 BC'",
            "SELECT * FROM days WHERE day = date '2024-02-28' + 1",
            "SELECT * FROM days WHERE day = '2024-02-29 23:59:59'",
            "SELECT * FROM days WHERE day = timestamp '2024-02-29 00:00:00'",
            "SELECT * FROM days WHERE day = timestamp '2024-02-29 10:00:00'",
            "SELECT * FROM days WHERE day = timestamptz '2024-02-29 00:00:00+00'",
            "SELECT * FROM days WHERE day = '2024-02-30'",
            "SELECT * FROM days WHERE day = 'today'",
            "SELECT * FROM devices WHERE id = '00000000-0000-4000-8000-000000000000'",
            "SELECT * FROM devices WHERE id = '013579BD000040008000000000000001'",
            "SELECT * FROM devices WHERE id = '{013579bd-0000-4000-8000-000000000001}'",
            "SELECT * FROM devices WHERE id = '0135-79bd-0000-4000-8000-0000-0000-0001'",
            "SELECT * FROM devices WHERE id = 'not a uuid'",
            "SELECT * FROM devices WHERE id = '013579bd-0000-4000-8000-000000000001'::uuid",
            "SELECT * FROM devices WHERE id::text = '013579bd-0000-4000-8000-000000000001'",
        ],
    ),
    (
        "R13 grouping",
        &[
            "SELECT country, count(*) FROM users WHERE id IN (1, 3) GROUP BY country",
            "SELECT country, count(*) FROM users WHERE id = 1 GROUP BY country",
            "SELECT DISTINCT country FROM users WHERE id IN (1, 3)",
            "SELECT id, count(*) FROM users GROUP BY id",
            "SELECT user_id, sum(total) FROM orders GROUP BY user_id",
            "SELECT DISTINCT user_id FROM orders",
            "SELECT DISTINCT id, name FROM users",
            "SELECT user_id, count(*) FROM orders GROUP BY user_id HAVING count(*) > 1",
            "SELECT user_id, count(*) FROM orders GROUP BY 1 ORDER BY 1",
        ],
    ),
    (
        "R14 tables unknown to the map",
        &["SELECT * FROM unmapped", "SELECT * FROM no_such", "SELECT * FROM users, unmapped WHERE id = 5"],
    ),
    (
        "R15 procedures and their kind",
        &[
            "CALL clear_loose()",
            "DO $$ BEGIN DELETE FROM loose; END $$",
            "MERGE INTO users u USING (SELECT 5::bigint AS id) s ON u.id = s.id WHEN MATCHED THEN UPDATE SET age = 1",
            "FETCH 1 FROM nowhere",
            "SELECT peek()",
            "SELECT * FROM users WHERE id = 5 AND age > peek()",
            "SELECT * FROM users WHERE id = peek()",
            "SELECT query_to_xml('SELECT count(*) FROM users', true, true, '')",
            "SELECT twice(id) FROM users WHERE id = 5",
            "SELECT twice(id) FROM users",
        ],
    ),
    (
        "R16 OR",
        &[
            "SELECT * FROM users WHERE id = 5 OR true",
            "SELECT * FROM users WHERE id = 5 OR name = 'name3'",
            "SELECT * FROM users WHERE id = 5 OR id = 6",
            "SELECT * FROM users WHERE (id = 5 AND age > 1) OR (age < 100 AND id = 6)",
            "SELECT * FROM users WHERE (id = 5 OR id = 6) AND (id = 6 OR id = 7)",
            "SELECT * FROM users WHERE id = 5 OR id IS NULL",
            "SELECT * FROM users WHERE id = 5 OR false",
            "SELECT * FROM users WHERE id = 5 OR NULL",
            "SELECT * FROM users WHERE id = 5 OR id > 58",
            "SELECT * FROM users u JOIN orders o ON u.id = o.user_id WHERE u.id = 5 OR o.user_id = 6",
            "SELECT * FROM users u JOIN users2 v ON u.id = v.id WHERE u.id = 5 OR v.id = 6",
            "SELECT * FROM users u, users2 v WHERE u.id = 5 OR v.id = 5",
            "SELECT * FROM users WHERE id = 5 AND true OR id = 6 AND true",
            "SELECT * FROM users WHERE NOT (id <> 5 AND id <> 6)",
        ],
    ),
    (
        "R17 contradictions",
        &[
            "SELECT * FROM users WHERE id = 5 AND id = 6",
            "SELECT * FROM users WHERE false",
            "SELECT * FROM users WHERE id = 5 AND false",
            "SELECT * FROM users WHERE id = 1.5",
            "SELECT * FROM users WHERE id IS NULL",
            "SELECT * FROM users WHERE id = 99999999999999999999",
            "SELECT count(*) FROM users WHERE id = 5 AND id = 6",
            "SELECT sum(age), max(id) FROM users WHERE id IS NULL",
            "SELECT u.id, v.id FROM users u LEFT JOIN users2 v ON v.id = u.id WHERE v.id IS NULL AND u.id IS NULL",
            "SELECT * FROM users u JOIN users2 v ON u.id = v.id WHERE u.id = 5 AND v.id = 6",
            "SELECT * FROM loose WHERE id IS NULL",
        ],
    ),
    (
        "R18 names",
        &[
            "SELECT * FROM users JOIN users2 USING (id) WHERE id = 6",
            "SELECT id, users.id, users2.id FROM users JOIN users2 USING (id) WHERE id = 6",
            "SELECT * FROM users JOIN users2 USING (id)",
            "SELECT * FROM users NATURAL JOIN users2 WHERE id = 6",
            "SELECT * FROM users NATURAL JOIN users2",
            "SELECT * FROM users NATURAL LEFT JOIN users2 WHERE id = 6",
            "SELECT * FROM users LEFT JOIN users2 USING (id) WHERE users2.id = 6",
            "SELECT * FROM users RIGHT JOIN users2 USING (id) WHERE id = 6",
            "SELECT * FROM users FULL JOIN users2 USING (id) WHERE id = 6",
            "SELECT * FROM users FULL JOIN users2 USING (id) WHERE users.id = 6",
            "SELECT * FROM users JOIN users2 USING (name) WHERE users.id = 6",
            "SELECT * FROM users JOIN users2 USING (name, age) WHERE users.id = 6 AND users2.id = 6",
            "SELECT * FROM users JOIN users2 USING (id) AS j WHERE j.id = 6",
            "SELECT * FROM users orders WHERE orders.id = 5",
            "SELECT * FROM orders users WHERE users.user_id = 5",
            "SELECT * FROM users AS u (a, b, c) WHERE a = 5",
            "SELECT * FROM users AS u (id2, id) WHERE id2 = 5",
            "SELECT * FROM users AS u (name, id) WHERE id = 'name4'",
            "SELECT * FROM users WHERE public.users.id = 5",
            "SELECT * FROM public.users WHERE users.id = 5",
            "SELECT * FROM shop.public.users WHERE id = 5",
            "SELECT * FROM \"users\" WHERE \"id\" = 5",
            "SELECT * FROM \"Users\" WHERE id = 5",
            "SELECT * FROM USERS WHERE ID = 5",
            "SELECT * FROM ONLY users WHERE id = 5",
            "SELECT * FROM users * WHERE id = 5",
            "WITH users AS (SELECT 5 AS id) SELECT * FROM users WHERE id = 5",
            "WITH users AS (SELECT * FROM users WHERE id = 5) SELECT * FROM users",
            "WITH users AS (SELECT * FROM users2) SELECT * FROM users WHERE id = 6",
            "WITH RECURSIVE users AS (SELECT 1 AS id UNION ALL SELECT id + 1 FROM users WHERE id < 5) SELECT * FROM users",
            "WITH a AS (SELECT * FROM users), b AS (SELECT * FROM a WHERE id = 5) SELECT * FROM b",
            "WITH a AS MATERIALIZED (SELECT * FROM users) SELECT * FROM a WHERE id = 5",
            "WITH a AS (SELECT * FROM users WHERE id = 5) SELECT * FROM public.users WHERE id = 7",
            "WITH a (x, y) AS (SELECT id, age FROM users) SELECT * FROM a WHERE x = 5",
            "WITH a (id, y) AS (SELECT age, id FROM users) SELECT * FROM a WHERE id = 28",
            "WITH a AS (SELECT id FROM users WHERE id = 5) SELECT * FROM a x, a y",
            "SELECT * FROM (SELECT id + 1 AS id FROM users) users WHERE users.id = 6",
            "SELECT * FROM (SELECT id AS x, age AS id FROM users) users WHERE users.id = 28",
            "SELECT * FROM (SELECT * FROM users) users WHERE users.id = 6",
            "SELECT * FROM (SELECT * FROM users LIMIT 3) u WHERE id = 6",
            "SELECT * FROM (SELECT * FROM users ORDER BY id DESC LIMIT 3) u WHERE id = 6",
            "SELECT * FROM (SELECT *, row_number() OVER (ORDER BY id) FROM users) u WHERE id = 6",
            "SELECT * FROM (SELECT id, count(*) OVER (PARTITION BY id) FROM users) u WHERE id = 6",
            "SELECT * FROM (SELECT country, max(id) AS id FROM users GROUP BY country) u WHERE id = 60",
            "SELECT * FROM (SELECT id, count(*) FROM users GROUP BY id) u WHERE id = 6",
            "SELECT * FROM (SELECT DISTINCT ON (country) country, id FROM users ORDER BY country, id) u WHERE id = 6",
            "SELECT * FROM (SELECT DISTINCT id FROM users) u WHERE id = 6",
            "SELECT * FROM (SELECT id FROM users UNION ALL SELECT id FROM users2) u WHERE id = 6",
            "SELECT * FROM (SELECT id FROM users UNION SELECT id FROM users2) u WHERE id = 6",
            "SELECT * FROM (SELECT id FROM users EXCEPT SELECT id FROM users2) u WHERE id = 6",
            "SELECT * FROM (SELECT id FROM users UNION ALL SELECT 6) u WHERE id = 6",
            "SELECT * FROM (SELECT id, random() < 2 AS r FROM users) u WHERE id = 6",
            "SELECT * FROM adults WHERE id = 7",
            "SELECT * FROM sales WHERE id = 7",
            "SELECT * FROM countries_of WHERE id = 7",
            "SELECT * FROM adults",
            "SELECT * FROM users u, LATERAL (SELECT * FROM orders o WHERE o.user_id = u.id) l WHERE u.id = 6",
            "SELECT * FROM users u LEFT JOIN LATERAL (SELECT * FROM orders o WHERE o.user_id = u.id LIMIT 1) l ON true WHERE u.id = 5",
            "SELECT * FROM users u, LATERAL (SELECT * FROM orders o WHERE o.user_id = 6) l WHERE u.id = 5",
            "SELECT users FROM users WHERE id = 5",
            "SELECT u.* FROM users u WHERE u = u AND id = 5",
            "SELECT (u).id FROM users u WHERE (u).id = 5",
            "SELECT id, id FROM users WHERE id = 5",
            "SELECT id AS age, age AS id FROM users WHERE id = 5 ORDER BY id",
            "TABLE settings",
            "SELECT * FROM settings WHERE name = 'setting1'",
            "SELECT * FROM countries",
            "SELECT m.id FROM moods m WHERE mood = 'glad' AND id = 1",
            "SELECT * FROM moods WHERE id = 1",
            "SELECT * FROM moods",
            "SELECT id, mood::text FROM moods",
            "SELECT ctid FROM users WHERE id = 5 AND ctid IS NULL",
            "SELECT tableoid::regclass FROM users WHERE id = 5",
            "SELECT id FROM users WHERE tableoid = 'users'::regclass",
            "SELECT 1",
            "SELECT",
            "SELECT FROM users WHERE id = 5",
            "SELECT FROM users",
            "SELECT nothing FROM users WHERE id = 5",
            "SELECT * FROM users WHERE nothing = 5",
            "SELECT 1 / 0",
            "SELECT id / 0 FROM users WHERE id = 5",
            "SELECT 1 / (id - id) FROM users",
            "SELEC 1",
            "SELECT * FROM users WHERE id = 5; SELECT * FROM users WHERE id = 7",
            "SELECT 1; SELECT * FROM users; SELECT 2",
        ],
    ),
];

/// Writes, by what is hard about them. Each is tried on both, and the rows are compared at the end of each group.
const WRITES: &[(&str, &[&str])] = &[
    (
        "W1 several rows",
        &[
            "INSERT INTO users2 VALUES (2001, 'a', 1), (2002, 'b', 2), (2003, 'c', 3), (2004, 'd', 4)",
            "INSERT INTO users2 VALUES (2011, 'a', 1), (2011 + 1, 'b', 2) RETURNING id",
            "INSERT INTO orders (user_id, no) VALUES (5, 11), (5, 12), (5, 13)",
            "INSERT INTO orders (no, user_id) VALUES (14, 5), (15, 5) RETURNING no, user_id",
            "INSERT INTO users2 (id, name) VALUES (2021, 'x') RETURNING *",
            "INSERT INTO settings VALUES ('a', 1), ('b', 2) RETURNING name",
            "INSERT INTO countries VALUES ('IT', 'Italy', 59)",
        ],
    ),
    (
        "W2 a row violates a constraint",
        &[
            "INSERT INTO users2 VALUES (2101, 'a', 1), (5, NULL, 2)",
            "INSERT INTO orders (user_id, no) VALUES (5, 21), (5, 11)",
            "INSERT INTO orders (user_id, no) VALUES (5, 22), (5, NULL)",
            "INSERT INTO users2 (id, name) VALUES (2102, NULL)",
            "INSERT INTO users2 (id, name) VALUES (1, 'again')",
            "UPDATE users2 SET name = NULL WHERE id = 1",
        ],
    ),
    (
        "W3 computed keys",
        &[
            "INSERT INTO users2 VALUES (2201 + 1, 'sum', 1)",
            "INSERT INTO users2 VALUES (2203.5, 'rounded', 1)",
            "INSERT INTO users2 VALUES (2204.5, 'rounded to even or away', 1)",
            "INSERT INTO users2 VALUES (-2204.5, 'rounded', 1)",
            "INSERT INTO users2 VALUES ('2206', 'text', 1)",
            "INSERT INTO users2 VALUES (' 2207 ', 'text', 1)",
            "INSERT INTO users2 VALUES ('2208.0', 'not a bigint', 1)",
            "INSERT INTO users2 VALUES (2209::numeric, 'numeric', 1)",
            "INSERT INTO users2 VALUES (2210::smallint, 'small', 1)",
            "INSERT INTO users2 VALUES (2211.4::float8, 'float', 1)",
            "INSERT INTO users2 VALUES (2212.5::float8, 'float', 1)",
            "INSERT INTO users2 VALUES (2213e0, 'exponent', 1)",
            "INSERT INTO users2 VALUES (99999999999999999999, 'too big', 1)",
            "INSERT INTO users2 VALUES (9223372036854775807 + 1, 'overflows', 1)",
            "INSERT INTO users2 VALUES ((SELECT 2214), 'subquery', 1)",
            "INSERT INTO users2 VALUES (DEFAULT, 'default', 1)",
            "INSERT INTO users2 DEFAULT VALUES",
            "INSERT INTO users2 (name) VALUES ('no key')",
            "INSERT INTO users2 SELECT 2215, 'selected', 1",
            "INSERT INTO users2 SELECT id + 3000, name, age FROM users WHERE id = 5",
            "INSERT INTO users2 SELECT id, 'copied', age FROM users WHERE id = 3",
            "INSERT INTO loose SELECT id, no FROM users JOIN orders ON user_id = id WHERE id = 6",
            "INSERT INTO loose SELECT user_id, no FROM orders WHERE user_id = 6",
            "INSERT INTO loose SELECT no, user_id FROM orders WHERE user_id = 6",
            "INSERT INTO loose SELECT id, age FROM users",
            "INSERT INTO loose (n, id) SELECT user_id, no FROM orders WHERE user_id = 6",
            "INSERT INTO loose SELECT 5, 6 UNION ALL SELECT 5, 7",
            "WITH x AS (SELECT 5 AS id, 8 AS n) INSERT INTO loose SELECT * FROM x",
            "INSERT INTO loose VALUES (twice(4), 1)",
            "INSERT INTO loose VALUES (length('12345'), 1)",
            "INSERT INTO pages VALUES ('new ', 'b', 1)",
            "INSERT INTO pages VALUES ('new'::char(6), 'b', 1)",
            "INSERT INTO pages VALUES (77, 'a number', 1)",
            "INSERT INTO pages VALUES ('ab' || 'cd', 'b', 1)",
            "INSERT INTO pages VALUES (E'tab\\there', 'b', 1)",
            "INSERT INTO days VALUES ('2030-01-01', 'new')",
            "INSERT INTO days VALUES ('01/02/2030', 'new')",
            "INSERT INTO days VALUES (timestamp '2030-03-01 23:00', 'cast')",
            "INSERT INTO days VALUES (timestamptz '2030-04-01 23:00+00', 'cast')",
            "INSERT INTO devices VALUES ('AAAAAAAA-0000-4000-8000-000000000001', 'upper', 1)",
            "INSERT INTO devices VALUES (gen_random_uuid(), 'random', 1)",
        ],
    ),
    (
        "W4 NULL keys",
        &[
            "INSERT INTO loose VALUES (NULL, 1)",
            "INSERT INTO loose (n) VALUES (1)",
            "INSERT INTO loose VALUES (5, 1), (NULL, 2)",
            "INSERT INTO users2 VALUES (NULL, 'x', 1)",
            "INSERT INTO loose SELECT NULL::bigint, 1",
            "UPDATE loose SET id = NULL WHERE id = 5",
            "INSERT INTO loose VALUES (nullif(1, 1), 1)",
        ],
    ),
    (
        "W8 updates of the key",
        &[
            "UPDATE users2 SET id = 4001 WHERE id = 1",
            "UPDATE users2 SET id = id WHERE id = 1",
            "UPDATE users2 SET id = 1 WHERE id = 1",
            "UPDATE users2 SET (id, age) = (4002, 1) WHERE id = 1",
            "UPDATE users2 SET (age, id) = (SELECT 1, 4003) WHERE id = 1",
            "UPDATE loose SET id = 6 WHERE id = 5",
            "UPDATE loose SET n = n + 1, id = 5 WHERE id = 5",
            "INSERT INTO users2 VALUES (1, 'x', 1) ON CONFLICT (id) DO UPDATE SET id = 4004",
            "INSERT INTO users2 VALUES (1, 'x', 1) ON CONFLICT (id) DO UPDATE SET id = excluded.id, age = 99",
        ],
    ),
    (
        "W9 ON CONFLICT",
        &[
            "INSERT INTO users2 VALUES (1, 'x', 1) ON CONFLICT DO NOTHING",
            "INSERT INTO users2 VALUES (1, 'x', 1) ON CONFLICT (id) DO NOTHING",
            "INSERT INTO users2 VALUES (1, 'upserted', 1) ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING *",
            "INSERT INTO users2 VALUES (1, 'a', 1), (1, 'b', 2) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            "INSERT INTO users2 VALUES (1, 'a', 1) ON CONFLICT (name) DO NOTHING",
            "INSERT INTO users2 VALUES (1, 'a', 1) ON CONFLICT ON CONSTRAINT users2_pkey DO UPDATE SET age = users2.age + 1",
            "INSERT INTO users2 VALUES (1, 'a', 1) ON CONFLICT ON CONSTRAINT nothing DO NOTHING",
            "INSERT INTO settings VALUES ('a', 3), ('a', 4) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            "INSERT INTO settings VALUES ('a', 3) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        ],
    ),
    (
        "W10 and other changes",
        &[
            "UPDATE users SET age = age + 1 WHERE id = 5 RETURNING id, age",
            "UPDATE users SET age = age + 1 WHERE id IN (5, 6) RETURNING id, age",
            "UPDATE users SET age = age + 1",
            "UPDATE users SET age = (SELECT count(*) FROM orders WHERE user_id = 5) WHERE id = 5",
            "UPDATE users SET age = (SELECT count(*) FROM orders WHERE user_id = 6) WHERE id = 5",
            "UPDATE users u SET age = o.no FROM orders o WHERE o.user_id = u.id AND u.id = 6 AND o.no = 1",
            "UPDATE users u SET age = 1 FROM orders o WHERE o.user_id = 6 AND u.id = 5",
            "UPDATE users SET age = 7 WHERE id = 5 OR id = 6",
            "UPDATE users SET age = 7 WHERE id = 5 AND id = 6",
            "UPDATE users SET name = DEFAULT WHERE id = 5",
            "UPDATE users AS u SET age = 8 WHERE u.id = 5.0",
            "UPDATE users SET age = 8 WHERE id = 5.5",
            "DELETE FROM orders WHERE user_id = 5 AND no > 12 RETURNING *",
            "DELETE FROM orders WHERE no > 100",
            "DELETE FROM orders USING users WHERE user_id = id AND id = 6 AND no = 2",
            "DELETE FROM users2 WHERE id = 2001 AND id = 2002",
            "DELETE FROM users2 WHERE (id, name) = (2021, 'x')",
            "DELETE FROM loose WHERE id = 5 AND n IN (SELECT no FROM orders WHERE user_id = 5)",
            "WITH d AS (DELETE FROM loose WHERE id = 6 RETURNING *) INSERT INTO loose SELECT id, n + 1 FROM d",
            "WITH d AS (DELETE FROM loose WHERE id = 6 RETURNING *) SELECT * FROM d",
            "WITH i AS (INSERT INTO loose VALUES (7, 1) RETURNING *), j AS (INSERT INTO loose VALUES (8, 1) RETURNING *) SELECT * FROM i, j",
            "WITH i AS (INSERT INTO loose VALUES (7, 2) RETURNING *) SELECT * FROM i",
            "UPDATE settings SET value = value || '!' WHERE name = 'a'",
            "UPDATE countries SET people = 85 WHERE code = 'DE'",
            "DELETE FROM settings WHERE name = 'b'",
            "TRUNCATE unmapped",
            "UPDATE adults SET age = 40 WHERE id = 7",
            "INSERT INTO adults (id, name, age) VALUES (2301, 'through a view', 30)",
            "SELECT id FROM users WHERE id = 5 FOR UPDATE",
            "SELECT id FROM users FOR UPDATE",
            "SELECT * INTO copied FROM users WHERE id = 5",
            "CREATE TABLE copied AS SELECT * FROM users WHERE id = 5",
        ],
    ),
];

/// Statements with parameters, each with these in text and in binary.
const PREPARED: &[(&str, &[(u32, &str)])] = &[
    ("SELECT * FROM users WHERE id = $1", &[(0, "5")]),
    ("SELECT * FROM users WHERE id = $1", &[(23, "5")]),
    ("SELECT * FROM users WHERE id = $1", &[(21, "5")]),
    ("SELECT * FROM users WHERE id = $1", &[(20, "-9223372036854775808")]),
    ("SELECT * FROM users WHERE id = $1", &[(1700, "5.0")]),
    ("SELECT * FROM users WHERE id = $1", &[(1700, "5.5")]),
    ("SELECT * FROM users WHERE id = $1", &[(701, "5")]),
    ("SELECT * FROM users WHERE id = $1", &[(25, "5")]),
    ("SELECT * FROM users WHERE id = $1 + 1", &[(0, "4")]),
    ("SELECT * FROM users WHERE id = $1 + 1", &[(20, "4")]),
    ("SELECT * FROM users WHERE id = $1 + 1", &[(23, "2147483647")]),
    ("SELECT * FROM users WHERE id = -$1", &[(0, "5")]),
    ("SELECT * FROM users WHERE id = -$1", &[(23, "5")]),
    ("SELECT * FROM users WHERE id = $1::int", &[(0, "5")]),
    ("SELECT * FROM users WHERE id = $1::text::int", &[(0, "5")]),
    ("SELECT * FROM users WHERE id = CAST($1 AS numeric)", &[(0, "5")]),
    ("SELECT * FROM users WHERE id IN ($1, $2, 6)", &[(20, "5"), (20, "7")]),
    ("SELECT * FROM users WHERE id = $1 AND name = $2", &[(20, "5"), (25, "name4")]),
    ("SELECT * FROM users WHERE id = $1 OR id = $1", &[(20, "5")]),
    ("SELECT * FROM users WHERE id = ANY ($1)", &[(0, "{5,6}")]),
    ("SELECT * FROM users WHERE id = ANY ($1)", &[(1007, "{5}")]),
    ("SELECT * FROM users WHERE id = ANY ($1::bigint[])", &[(0, "{5,NULL}")]),
    ("SELECT * FROM users WHERE (id, age) = ($1, $2)", &[(0, "5"), (0, "28")]),
    ("SELECT * FROM users WHERE id BETWEEN $1 AND $1", &[(0, "5")]),
    ("SELECT * FROM users WHERE id = coalesce($1, 5)", &[(0, "6")]),
    ("SELECT * FROM users WHERE id = $1 LIMIT $2", &[(0, "6"), (0, "1")]),
    ("SELECT $1", &[(0, "6")]),
    ("SELECT $1::int + 1, id FROM users WHERE id = 5", &[(0, "6")]),
    ("SELECT * FROM pages WHERE slug = $1", &[(0, "5 ")]),
    ("SELECT * FROM pages WHERE slug = $1", &[(1042, "5 ")]),
    ("SELECT * FROM pages WHERE slug = $1", &[(1043, "5 ")]),
    ("SELECT * FROM days WHERE day = $1", &[(0, "2024-02-29")]),
    ("SELECT * FROM days WHERE day = $1", &[(1114, "2024-02-29 00:00:00")]),
    ("SELECT * FROM devices WHERE id = $1", &[(0, "013579bd-0000-4000-8000-000000000001")]),
    ("SELECT * FROM moods WHERE id = $1 AND mood = $2", &[(20, "1"), (0, "sad")]),
    ("SELECT * FROM moods WHERE mood = $1", &[(0, "sad")]),
    ("INSERT INTO loose VALUES ($1, $2)", &[(0, "5"), (0, "70")]),
    ("INSERT INTO loose VALUES ($1, $2)", &[(1700, "5.5"), (23, "71")]),
    ("INSERT INTO loose (n, id) VALUES ($1, $2) RETURNING *", &[(0, "72"), (20, "9")]),
    ("INSERT INTO loose VALUES ($1, 1), ($2, 2)", &[(20, "5"), (20, "5")]),
    ("INSERT INTO loose VALUES ($1, 1), ($2, 2)", &[(20, "5"), (20, "6")]),
    ("UPDATE loose SET n = $2 WHERE id = $1", &[(20, "5"), (23, "73")]),
    ("DELETE FROM loose WHERE id = $1 AND n = $2", &[(20, "9"), (23, "72")]),
    (
        "INSERT INTO users2 VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET name = $2",
        &[(0, "3"), (0, "p"), (0, "1")],
    ),
];

/// PREPARE and EXECUTE in SQL: what EXECUTE is given is assigned to the parameter's type.
const EXECUTED: &[&str] = &[
    "PREPARE number AS SELECT id FROM users WHERE id = $1",
    "EXECUTE number(5)",
    "EXECUTE number('5')",
    "EXECUTE number(5.4)",
    "EXECUTE number(5.5)",
    "EXECUTE number(-5)",
    "EXECUTE number(NULL)",
    "PREPARE wide(numeric(3, 0)) AS SELECT id FROM users WHERE id = $1",
    "EXECUTE wide(5.0)",
    "EXECUTE wide(5.5)",
    "PREPARE narrow(smallint) AS SELECT id FROM users WHERE id = $1",
    "EXECUTE narrow(5.4)",
    "EXECUTE narrow(70000)",
    "PREPARE padded(char(3)) AS SELECT slug FROM pages WHERE slug = $1",
    "EXECUTE padded('abc ')",
    "EXECUTE padded('5 ')",
    "PREPARE word(text) AS SELECT slug FROM pages WHERE slug = $1",
    "EXECUTE word(05)",
    "EXECUTE word(5.0)",
    "PREPARE moment(timestamp) AS SELECT day FROM days WHERE day = $1",
    "EXECUTE moment('2024-02-29 00:00')",
    "EXECUTE moment('2024-02-29 10:00')",
    "PREPARE those(numeric[]) AS SELECT id FROM users WHERE id = ANY ($1)",
    "EXECUTE those('{5.0,6.5}')",
    "PREPARE written AS INSERT INTO loose VALUES ($1, $2)",
    "EXECUTE written(5.4, 200)",
    "EXECUTE written(6.5, 200)",
    "EXECUTE written('7', 200)",
    "EXECUTE written(8, 200.4)",
    "DEALLOCATE ALL",
];

/// A parameter in binary, where its type is one of those.
pub(crate) fn binary(oid: u32, text: &str) -> Option<Vec<u8>> {
    Some(match oid {
        21 => text.parse::<i16>().ok()?.to_be_bytes().to_vec(),
        23 => text.parse::<i32>().ok()?.to_be_bytes().to_vec(),
        20 => text.parse::<i64>().ok()?.to_be_bytes().to_vec(),
        701 => text.parse::<f64>().ok()?.to_be_bytes().to_vec(),
        25 | 1042 | 1043 => text.as_bytes().to_vec(),
        1016 => {
            let items: Vec<i64> =
                text.trim_matches(['{', '}']).split(',').map(|it| it.parse().ok()).collect::<Option<_>>()?;
            let mut bytes = [1_i32, 0, 20, i32::try_from(items.len()).ok()?, 1].map(i32::to_be_bytes).concat();
            for item in items {
                bytes.extend(8_i32.to_be_bytes());
                bytes.extend(item.to_be_bytes());
            }
            bytes
        }
        _ => return None,
    })
}

fn try_prepared(both: &mut Both, tally: &mut Tally) {
    for (sql, parameters) in PREPARED {
        for how in [How::Unnamed, How::Named] {
            for results in [false, true] {
                for in_binary in [false, true] {
                    let values: Vec<Value> = parameters
                        .iter()
                        .map(|(oid, text)| match binary(*oid, text).filter(|_| in_binary) {
                            Some(bytes) => Value { oid: *oid, binary: true, bytes: Some(bytes) },
                            None => Value { oid: *oid, binary: false, bytes: Some(text.as_bytes().to_vec()) },
                        })
                        .collect();
                    let verdict = both.check(how, sql, &values, results, Order::Any);
                    tally.add(&format!("{sql} {parameters:?} {how:?} results {results} binary {in_binary}"), verdict);
                }
            }
        }
        let nulls: Vec<Value> =
            parameters.iter().map(|(oid, _)| Value { oid: *oid, binary: false, bytes: None }).collect();
        let verdict = both.check(How::Unnamed, sql, &nulls, false, Order::Any);
        tally.add(&format!("{sql} with NULLs"), verdict);
    }
}

/// COPY in its formats: equal rows afterwards, or refused.
fn try_copies(both: &mut Both, tally: &mut Tally) {
    let copies: [(&str, &[u8]); 8] = [
        ("COPY loose FROM STDIN", b"5\t80\n6\t81\n7\t82\n"),
        ("COPY loose FROM STDIN", b"5\t83\n"),
        ("COPY loose (n, id) FROM STDIN", b"84\t5\n"),
        ("COPY loose FROM STDIN", b"\\N\t85\n"),
        ("COPY loose FROM STDIN (FORMAT csv, HEADER, NULL 'none')", b"id,n\n\"5\",none\n"),
        ("COPY users2 FROM STDIN (FORMAT csv)", b"5001,\"a\nb\",1\n"),
        ("COPY settings FROM STDIN (FORMAT csv, QUOTE '''')", b"c,'x,y'\nd,z\n"),
        ("COPY settings FROM STDIN", b"e\n"),
    ];
    for (sql, data) in copies {
        let proxy = both.proxy.copy(sql, data);
        let declined = proxy.error.as_ref().filter(|it| !it.by_server);
        let verdict = match declined {
            Some(failure) if matches!(failure.sqlstate.as_str(), "0A000" | "22004") => {
                Verdict::Refused(failure.message.clone())
            }
            _ => compare(&proxy, &both.plain.copy(sql, data), Order::Any),
        };
        tally.add(sql, verdict);
    }
}

#[test]
fn known_traps_are_answered_right_or_refused() {
    let rig = Rig::start();
    let mut both = rig.both();
    let mut mismatches = Vec::new();
    for (title, statements) in READS {
        let mut tally = Tally::default();
        for sql in *statements {
            for how in [How::Simple, How::Named] {
                let verdict = both.check(how, sql, &[], how == How::Named, Order::Any);
                tally.add(&format!("{sql} ({how:?})"), verdict);
            }
        }
        tally.print(title);
        mismatches.append(&mut tally.mismatches);
    }
    rig.same_rows();
    for (title, statements) in WRITES {
        let mut tally = Tally::default();
        for sql in *statements {
            let verdict = both.check(How::Simple, sql, &[], false, Order::Any);
            tally.add(sql, verdict);
        }
        tally.print(title);
        mismatches.append(&mut tally.mismatches);
        rig.same_rows();
    }
    let mut tally = Tally::default();
    for sql in EXECUTED {
        let verdict = both.check(How::Simple, sql, &[], false, Order::Any);
        tally.add(sql, verdict);
    }
    tally.print("EXECUTE");
    mismatches.append(&mut tally.mismatches);
    rig.same_rows();
    let mut tally = Tally::default();
    try_prepared(&mut both, &mut tally);
    try_copies(&mut both, &mut tally);
    tally.print("parameters and COPY");
    mismatches.append(&mut tally.mismatches);
    rig.same_rows();
    assert_eq!(mismatches, Vec::<String>::new());
}

#[test]
fn types_are_numbered_as_on_the_catalog_shard() {
    let rig = Rig::start();
    let mut both = rig.both();
    let numbers = rig.node(0).simple("SELECT oid::int8 FROM pg_type WHERE typname IN ('mood', '_mood', 'moods')").rows;
    let numbers: Vec<String> =
        numbers.iter().flatten().flatten().map(|it| String::from_utf8_lossy(it).into_owned()).collect();
    for id in [1, 5, 9, 13, 17, 21] {
        for sql in ["SELECT * FROM moods", "SELECT ARRAY[mood] FROM moods", "SELECT m FROM moods m"] {
            let sql = format!("{sql} WHERE id = {id} AND mood <> $1");
            let sad = Value { oid: 0, binary: false, bytes: Some(b"sad".to_vec()) };
            let answer = both.proxy.run(How::Named, &sql, &[sad], false);
            let described = answer.columns.iter().flatten().map(|(_, oid)| oid).chain(&answer.parameters);
            for oid in described.filter(|oid| **oid >= 16_384) {
                assert!(numbers.contains(&oid.to_string()), "{sql}: {oid} is none of {numbers:?}");
            }
        }
    }
    // In binary format an array or a row holds numbers: the catalog shard's, or none.
    let (mut held, mut refused) = (0, 0);
    for id in [1, 5, 9, 13, 17, 21] {
        for how in [How::Unnamed, How::Named] {
            for value in ["ARRAY[mood]", "m", "ROW(mood)", "ARRAY[m]"] {
                let sql = format!("SELECT {value} FROM moods m WHERE id = {id}");
                let answer = both.proxy.run(how, &sql, &[], true);
                if let Some(error) = answer.error {
                    assert_eq!(error.sqlstate, "0A000", "{sql}");
                    assert_eq!(answer.rows, Vec::<Row>::new(), "{sql}");
                    refused += 1;
                } else {
                    assert_eq!(answer.rows, rig.node(0).run(how, &sql, &[], true).rows, "{sql}");
                    held += 1;
                }
            }
            let sql = format!("UPDATE moods SET mood = mood WHERE id = {id} RETURNING ARRAY[mood]");
            let answer = both.proxy.run(how, &sql, &[], true);
            assert!(answer.error.is_none_or(|error| error.sqlstate == "0A000"), "{sql}");
            // Enums hold no numbers, and what comes next is not disturbed.
            let sql = format!("SELECT mood FROM moods WHERE id = {id}");
            assert_eq!(both.proxy.run(how, &sql, &[], true).rows, both.plain.run(how, &sql, &[], true).rows, "{sql}");
        }
    }
    assert!(held > 0 && refused > 0, "{held} and {refused}");
    // A client that gives the number back at Parse means the same type on every shard.
    let mood = rig.node(0).simple("SELECT 'mood'::regtype::oid::int8").rows;
    let mood = mood.first().and_then(|row| row.first().cloned().flatten()).expect("one row");
    let mood = String::from_utf8_lossy(&mood).parse().expect("a number");
    for id in [1, 5, 9, 13, 17, 21] {
        for how in [How::Unnamed, How::Named] {
            let value = Value { oid: mood, binary: false, bytes: Some(b"sad".to_vec()) };
            let sql = format!("SELECT id FROM moods WHERE id = {id} AND mood IS DISTINCT FROM $1");
            let answer = both.proxy.run(how, &sql, std::slice::from_ref(&value), false);
            assert_eq!(answer.error, None, "{sql}");
            let plain = both.plain.simple(&sql.replace("$1", "'sad'"));
            assert_eq!(answer.rows, plain.rows, "{sql}");
        }
    }
}
