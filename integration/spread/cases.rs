//! What merges are known to answer wrong: each statement is answered alike at one, two, three and five shards, or
//! refused as its case says.

use std::collections::BTreeMap;
use std::env;
use std::thread;

use super::compare::Order;
use super::compare::Verdict;
use super::compare::compare;
use super::rig::DATABASES;
use super::rig::PROFILES;
use super::rig::Rig;
use super::rig::Way;
use super::wire::How;
use super::wire::Value;
use super::world::Lies;

/// Tables of the fixed cases: how their rows lie, and their key.
pub(crate) const TABLES: &[(&str, Lies, &str)] = &[
    ("users", Lies::Big, "id"),
    ("users2", Lies::Big, "id"),
    ("orders", Lies::Big, "user_id"),
    ("kinds", Lies::Big, "id"),
    ("nothing", Lies::Big, "id"),
    ("hot", Lies::Big, "id"),
    ("odd", Lies::Big, "id"),
    ("parts", Lies::Big, "id"),
    ("mother", Lies::Big, "id"),
    ("daughter", Lies::Big, "id"),
    ("pages", Lies::Word, "slug"),
    ("countries", Lies::Everywhere, "code"),
    ("other.countries", Lies::Everywhere, "code"),
    ("other.users", Lies::Big, "id"),
    ("settings", Lies::Home, "name"),
];

pub(crate) const DDL: &str = "
CREATE TABLE users (id bigint PRIMARY KEY, gone integer, name text NOT NULL, age integer, country text, score numeric(8,2),
    born date, ts timestamptz, ok boolean);
ALTER TABLE users DROP COLUMN gone;
CREATE TABLE users2 (id bigint PRIMARY KEY, name text NOT NULL, age integer, extra varchar(9));
CREATE TABLE orders (user_id bigint, no integer, total numeric(10,2), note text, PRIMARY KEY (user_id, no));
CREATE TABLE kinds (id bigint PRIMARY KEY, d date, t time, ts timestamp, mood mood, i inet, j jsonb, b bytea, m money,
    c char(5), ci text COLLATE ci, icu text COLLATE \"en-x-icu\", f double precision, n numeric, r int4range, p pair,
    iv interval, a integer[], words text[], js json, s score, bits varbit, x real);
CREATE TABLE nothing (id bigint PRIMARY KEY, n integer, t text);
CREATE TABLE hot (id bigint NOT NULL, n integer, t text);
CREATE TABLE odd (id bigint PRIMARY KEY, date date, rc regclass, time text, interval interval);
CREATE TABLE parts (id bigint PRIMARY KEY, n integer) PARTITION BY HASH (id);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE mother (id bigint NOT NULL, n integer);
CREATE TABLE daughter (more text) INHERITS (mother);
CREATE TABLE pages (slug text PRIMARY KEY, body text, n integer);
CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL, people integer);
CREATE TABLE settings (name text PRIMARY KEY, value text);
CREATE VIEW adults AS SELECT id, name, age, country FROM users WHERE age >= 18;
CREATE VIEW sales AS SELECT u.id, u.name, o.no, o.total FROM users u JOIN orders o ON o.user_id = u.id;
CREATE VIEW of_country (code, many, oldest) AS SELECT country, count(*), max(age) FROM users GROUP BY country;
CREATE VIEW twins AS SELECT a.id, b.id AS other FROM users a, users b WHERE a.age = b.age AND a.id < b.id;
CREATE VIEW barrier WITH (security_barrier) AS SELECT * FROM users WHERE ok;
CREATE VIEW named AS SELECT u.id, c.name, u.age::score AS score, twice(u.id % 5) AS two FROM users u JOIN countries c ON c.code = u.country;
CREATE VIEW whole AS SELECT u.id, u AS row, to_jsonb(u.*) AS json FROM users u;
CREATE VIEW counted AS WITH c AS (SELECT country, count(*) AS n FROM users GROUP BY country) SELECT c.n, o.* FROM c, LATERAL (SELECT max(no) AS most FROM orders WHERE no < c.n) o;
CREATE SCHEMA other;
CREATE TABLE other.countries (code text PRIMARY KEY, name text NOT NULL);
CREATE TABLE other.users (id bigint PRIMARY KEY, age integer);
CREATE DOMAIN other.score AS text;
CREATE FUNCTION other.twice(n bigint) RETURNS bigint IMMUTABLE LANGUAGE sql AS 'SELECT n * 200';
CREATE FUNCTION shout(n bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS
    'BEGIN RAISE NOTICE ''so it is''; RETURN n; END';
";

/// Rows of all servers together, as INSERTs.
pub(crate) fn rows() -> Vec<String> {
    let mut all = Vec::new();
    let ids = (1..=40_i64).chain([0, -1, -5, 123, 2_147_483_648, i64::MAX, i64::MIN]);
    let nullable = |is_null: bool, text: String| if is_null { "NULL".to_owned() } else { text };
    let moods = ["sad", "calm", "glad", "Sad"];
    let words = ["a", "B", "b", "A", "ä", "é", "", "z", "_", "10", "9"];
    for (n, id) in ids.enumerate() {
        let age = nullable(n % 11 == 10, ((n * 7) % 30).to_string());
        let country = ["'DE'", "'FR'", "'de'", "'ZZ'", "NULL"][n % 5];
        let score = nullable(n % 7 == 6, format!("{}.{:02}", n * 3, n % 100));
        let ok = ["true", "false", "NULL"][n % 3];
        all.push(format!(
            "INSERT INTO users VALUES ({id}, 'name{}', {age}, {country}, {score}, date '2020-01-31' + {n}, \
             timestamptz '2021-01-01 00:00:00+00' + interval '{} hours', {ok});",
            n % 9,
            n * 5
        ));
        if n % 3 != 2 {
            all.push(format!("INSERT INTO users2 VALUES ({id}, 'name{}', {age}, 'e{}');", n % 4, n % 2));
        }
        for no in 1..=(n % 4) {
            let note = nullable(no == 3, format!("'note{}'", (n + no) % 5));
            all.push(format!("INSERT INTO orders VALUES ({id}, {no}, {}.50, {note});", n * no));
        }
        if n % 2 == 0 {
            let word = words[n / 2 % words.len()];
            let date = ["2024-02-29", "1999-12-31", "infinity", "-infinity", "0044-03-15 BC"][n % 5];
            let number =
                ["1.0", "1.00", "NaN", "0.5", "Infinity", "12345678901234567890123456789012345.5", "-7"][n % 7];
            let float = ["0", "-0", "NaN", "0.5", "Infinity", "-Infinity", "1.5"][n % 7];
            let json = ["1", "\"a\"", "{\"b\": 1, \"a\": [1.0]}", "null", "[1, 2]"][n % 5];
            let null = n % 13 == 12;
            let cell = |text: &str| nullable(null, format!("'{text}'"));
            all.push(format!(
                "INSERT INTO kinds VALUES ({id}, {}, '{:02}:30', {}, {}, '10.0.0.{}/{}', {}, '\\x{:02x}00', '{}.50', '{word}', \
                 '{word}', '{word}', '{float}', '{number}', '[{n},{})', '({n},\"{word} \")', '{}', '{{{n},NULL}}', \
                 '{{\"{word}\",\"a,b\",NULL}}', '{{\"a\":1,  \"a\":{n}}}', {}, '{:b}', 0.5);",
                cell(date),
                n % 24,
                cell(date),
                cell(moods[n % 4]),
                n % 7,
                24 + n % 9,
                cell(json),
                n,
                n as i64 - 9,
                n + 3,
                ["1 day", "24:00", "1 mon", "-3 days 4:00"][n % 4],
                n % 5,
                n % 6,
            ));
        }
        all.push(format!("INSERT INTO hot VALUES (7, {}, '{}');", n % 4, words[n % words.len()]));
        all.push(format!("INSERT INTO parts VALUES ({id}, {});", n % 4));
        let table = ["users", "kinds", "pg_class"][n % 3];
        all.push(format!(
            "INSERT INTO odd VALUES ({id}, date '2024-01-02' + {}, '{table}', 't{}', '{} days');",
            n % 5,
            n % 3,
            n % 2
        ));
        all.push(format!("INSERT INTO {} (id, n) VALUES ({id}, {n});", if n % 2 == 0 { "mother" } else { "daughter" }));
    }
    all.push("INSERT INTO orders VALUES (7777, 1, 1, 'an order of nobody');".to_owned());
    for (n, slug) in ["5", "05", " 5", "5 ", "a", "A", "abc", "é", "e\u{301}", "", "it''s", "100%"].iter().enumerate()
    {
        all.push(format!("INSERT INTO pages VALUES ('{slug}', 'body {}', {});", n % 3, n));
    }
    all.push(
        "INSERT INTO countries VALUES ('DE', 'Germany', 84), ('FR', 'France', 68), ('XX', 'Nowhere', NULL);".to_owned(),
    );
    all.push(
        "INSERT INTO other.countries VALUES ('DE', 'Elsewhere'); INSERT INTO other.users VALUES (1, 1000), (2, 2000);"
            .to_owned(),
    );
    all.push("INSERT INTO settings VALUES ('DE', '1'), ('b', '2'), ('5', NULL);".to_owned());
    all
}

/// What is expected of a statement.
#[derive(Clone, Copy)]
pub(crate) enum Expect {
    /// The rows in any order.
    Same,
    /// The rows in order.
    Ordered,
    /// As many rows.
    Counted,
    /// Beyond one shard a refusal with these words.
    Refused(&'static str),
}

use Expect::*;

/// A statement, what is expected, and values of its parameters with the numbers of their types.
pub(crate) type Line = (&'static str, Expect, &'static [(u32, &'static str)]);

const fn same(sql: &'static str) -> Line {
    (sql, Same, &[])
}

const fn ordered(sql: &'static str) -> Line {
    (sql, Ordered, &[])
}

const fn refused(sql: &'static str, why: &'static str) -> Line {
    (sql, Refused(why), &[])
}

const UNREADABLE: &str = "shardway cannot read this";

pub(crate) const CASES: &[(&str, &[Line])] = &[
    (
        "keys of one copy and whole rows of another",
        &[
            same("SELECT u.id, u.name, (SELECT count(v) FROM users2 v WHERE v.age = u.age) FROM users u GROUP BY u.id"),
            same(
                "SELECT u.id, u.name, count(v), min(to_jsonb(v)::text) FROM users u JOIN users2 v USING (age) GROUP BY u.id",
            ),
            same("SELECT u.id, pg_typeof(v)::text, v FROM users u JOIN users2 v USING (age) GROUP BY u.id, v"),
            same("SELECT u.id, u.name, w FROM users u JOIN users w ON w.id = u.id + 1 GROUP BY u.id, w"),
            same(
                "SELECT u.id, u.age, (w).age, w.name FROM users u JOIN users w ON w.id = u.id + 1 GROUP BY u.id, w, w.name",
            ),
            same("SELECT u.id, count(u) FROM users u GROUP BY u.id"),
            same(
                "SELECT u.id, count(u), max(u.name) FROM users u GROUP BY u.id HAVING count(u) FILTER (WHERE u IS NOT NULL) > 0",
            ),
            refused("SELECT u.id, u.age, to_jsonb(u) FROM users u GROUP BY u.id", "it does not run on copies"),
            same(
                "SELECT o.user_id, o.no, o.note, x FROM orders o, LATERAL (SELECT u FROM users u WHERE u.id = o.user_id + 1) x GROUP BY o.user_id, o.no, x",
            ),
            refused(
                "SELECT count(u), count(v) FROM users u TABLESAMPLE BERNOULLI (100) JOIN users2 v ON v.age = u.age",
                "it does not run on copies",
            ),
            same(
                "SELECT count(*), min(v::text) FROM users u TABLESAMPLE BERNOULLI (100) JOIN users2 v ON v.age = u.age",
            ),
            same("SELECT p.id, p.b, m FROM parts p JOIN mother m ON m.id = p.id + 1 GROUP BY p.id, m"),
        ],
    ),
    (
        "what a reader may take for something else",
        &[
            same("SELECT age ISNULL, count(*) FROM users GROUP BY 1"),
            ordered("SELECT age ISNULL, id FROM users ORDER BY 1, 2 LIMIT 10"),
            same("SELECT age NOTNULL AS known, count(*) FROM users GROUP BY age NOTNULL"),
            same("SELECT id FROM users WHERE (age + 1) ISNULL OR name NOTNULL AND id < 5"),
            (
                "SELECT c.code, u.id FROM countries c LEFT JOIN users u ON u.country = c.code WHERE u.name LIKE ALL ($1)",
                Same,
                &[(1009, "{}")],
            ),
            ("SELECT id FROM users WHERE name LIKE ANY ($1)", Same, &[(1009, "{name1,%2}")]),
            same("SELECT date \"Day\", count(*) FROM odd GROUP BY 1"),
            same("SELECT DISTINCT date \"Day\", time \"T\" FROM odd"),
            ordered("SELECT date \"Day\", id FROM odd ORDER BY 1, 2 LIMIT 9"),
            ordered("SELECT id, date \"Day\" FROM odd \"o\" WHERE date = date '2024-01-03' ORDER BY id"),
            same("SELECT u.id, (SELECT date \"d\" FROM odd o WHERE o.id = u.age ORDER BY o.id LIMIT 1) FROM users u"),
            same("SELECT count(*) collate FROM users"),
            same("SELECT name '1', count(*) FROM users GROUP BY 1"),
            same("SELECT DISTINCT name '1', id 'x' FROM users"),
            ordered("SELECT age AS current_schema, id FROM users ORDER BY current_schema DESC, id LIMIT 3"),
            same("SELECT age AS current_schema, count(*) FROM users GROUP BY current_schema"),
            same("SELECT id FROM users WHERE age BETWEEN SYMMETRIC 20 AND 3"),
            same("SELECT interval, count(*) FROM odd WHERE time = 't1' GROUP BY interval"),
            same("SELECT interval - interval '1 day', count(*) FROM odd GROUP BY 1"),
            same(
                "SELECT interval FROM odd WHERE interval > interval '1 day' AND NOT interval IS NULL ORDER BY interval",
            ),
            same("SELECT CAST(interval AS interval), max(interval)::interval FROM odd GROUP BY interval"),
            same("SELECT (interval(0) '1.4 s')::interval, sum(interval) FROM odd"),
            same("SELECT id, \"interval\" - interval '1 day', count(*) FROM odd GROUP BY 1, 2"),
            same(
                "WITH RECURSIVE c (n) AS (SELECT 1 UNION SELECT n + 1 FROM c WHERE n < 3 AND n IN (SELECT c.n FROM nothing WHERE nothing IS NULL)) SELECT n FROM c UNION ALL SELECT id FROM users",
            ),
            same(
                "WITH RECURSIVE c (n) AS (SELECT 1 UNION SELECT n + 1 FROM c WHERE n < 3 AND (c.n IN (SELECT c.n FROM users2 WHERE users2 IS NULL))) SELECT n FROM c UNION ALL SELECT id FROM users",
            ),
            same("SELECT id FROM users WHERE id IN (SELECT users.id FROM users2 WHERE users2 IS NULL)"),
            same("SELECT 1 interval, CASE WHEN ok THEN interval ELSE interval '2' END FROM odd, users"),
            same("SELECT date - 1, date + interval '1 day', count(*) FROM odd GROUP BY 1, 2"),
            same("SELECT substr(name, 5), count(*) FROM users GROUP BY substr"),
            same("SELECT ceil(score / 7), count(*) FROM users GROUP BY ceil"),
            same("SELECT floor(score / 7) FROM users GROUP BY floor"),
            same("SELECT overlay(name placing 'x' from 2), count(*) FROM users GROUP BY overlay"),
            same(
                "SELECT (SELECT max(people) FROM countries), count(*) FROM users GROUP BY ROLLUP ((SELECT max(people) FROM countries))",
            ),
            same("SELECT id FROM users WHERE id BETWEEN SYMMETRIC 10 AND 5 AND age NOT BETWEEN SYMMETRIC 3 AND 1"),
            same("SELECT extract(day FROM born), count(*) FROM users GROUP BY extract"),
            same("SELECT trim(both 'n' from name), count(*) FROM users GROUP BY btrim"),
            same("SELECT id, name, age + 1, count(*) FROM users GROUP BY 1"),
            same("SELECT u.id, u.name, max(v.name) FROM users u JOIN users2 v USING (age) GROUP BY (1)"),
            refused("SELECT id, ctid FROM users u, jsonb_each('{\"a\":1}'::jsonb)", "system column"),
            refused(
                "SELECT id, pg_column_size(name), row_number() OVER (ORDER BY id) FROM users",
                "function pg_column_size",
            ),
            same("SELECT t.isnull, t.x AS isnull FROM (SELECT age AS isnull, id AS x FROM users) t"),
            ordered("SELECT NOT EXISTS (SELECT 1 FROM countries), id FROM users ORDER BY 2"),
        ],
    ),
    (
        "what differs from shard to shard",
        &[
            same("SELECT count(DISTINCT rc::oid), count(DISTINCT rc) FROM odd"),
            same("SELECT count(*) FROM (SELECT rc::oid, count(*) FROM odd GROUP BY 1) s"),
            ordered("SELECT rc::text, id FROM odd ORDER BY rc::text, id LIMIT 20"),
            same("SELECT o.rc::text, count(*) FROM odd o JOIN users u ON u.id = o.id GROUP BY o.rc"),
            same("SELECT u.id, r.code FROM users u, (SELECT code FROM countries ORDER BY code LIMIT 1) r"),
            same("SELECT u.id, r.n FROM users u, (SELECT string_agg(name, ',' ORDER BY code) AS n FROM countries) r"),
            same("SELECT u.id FROM users u WHERE u.age > (SELECT avg(people) % 7 FROM countries)"),
            same(
                "SELECT u.id, c.n FROM users u JOIN (SELECT code, row_number() OVER (ORDER BY code) AS n FROM countries) c ON c.code = u.country",
            ),
        ],
    ),
    (
        "elements of grouping sets",
        &[
            same("SELECT age::text, count(*) FROM users GROUP BY ROLLUP ((age)::text)"),
            same("SELECT age + 1, country, count(*) FROM users GROUP BY CUBE ((age) + 1, (country))"),
            same(
                "SELECT age, country, grouping(age, country), count(*) FROM users GROUP BY GROUPING SETS (ROLLUP (age, country), CUBE (country), ())",
            ),
            same("SELECT age, ok, count(*) FROM users GROUP BY GROUPING SETS (GROUPING SETS ((age), (ok)), (age, ok))"),
            same("SELECT age, count(*) FROM users GROUP BY DISTINCT ROLLUP ((age), ((age)))"),
            same("SELECT age, count(*) FROM users GROUP BY DISTINCT age"),
            same("SELECT id, max(name) FROM users GROUP BY DISTINCT id"),
        ],
    ),
    (
        "merged: what is pushed down means the same there",
        &[
            ordered("SELECT n, t, id FROM hot ORDER BY n, t, id LIMIT 3 OFFSET 5"),
            ordered("SELECT t, n, id FROM hot ORDER BY t, n, id LIMIT 3 OFFSET 5"),
            ordered("SELECT id FROM users ORDER BY id ASC /* not desc */ NULLS LAST LIMIT 1"),
            ordered("SELECT age, id FROM users ORDER BY age DESC -- nulls first\n NULLS LAST, id LIMIT 10"),
            ("SELECT id FROM users ORDER BY id OFFSET $1 LIMIT $2", Ordered, &[(23, "4"), (21, "3")]),
            // First rows, ordered by columns that are shown: by place, name, expression; not behind a `*`.
            ordered("SELECT u.age, u.id FROM users u ORDER BY u.age DESC NULLS LAST, u.id LIMIT 5"),
            ordered("SELECT age a, id, id FROM users ORDER BY a, 3 DESC, id LIMIT 5 OFFSET 2"),
            ordered("SELECT id a, age a FROM users ORDER BY a LIMIT 5"),
            ordered("SELECT age AS id, id AS age FROM users ORDER BY id, age DESC LIMIT 6"),
            ordered("SELECT age AS id, id AS age FROM users ORDER BY users.id, users.age LIMIT 6"),
            ordered("SELECT age + 1, id AS \"id;\" FROM users ORDER BY age + 1, id LIMIT 6"),
            ordered("SELECT *, id AS n FROM users ORDER BY n DESC LIMIT 6"),
            ordered("SELECT id, u.*, age FROM users u ORDER BY age, id LIMIT 6"),
            ordered("SELECT id FROM users ORDER BY id LIMIT 0"),
            ordered(
                "WITH w AS (SELECT 3 AS n) SELECT u.id, u.age FROM users u WHERE u.age > 3 ORDER BY 2, u.id LIMIT 4",
            ),
            ("SELECT id, age FROM users WHERE id > $1 ORDER BY age, id LIMIT $2", Ordered, &[(20, "2"), (20, "5")]),
            same("SELECT id FROM users WHERE NOT (id = 5)"),
            same("SELECT id FROM users WHERE id = 5 OR age > 30"),
            ordered("SELECT id, born::text, ts::text, 'at ' || born FROM users ORDER BY id"),
            ordered("SELECT id FROM users WHERE born::text LIKE '%0%' ORDER BY id"),
            same("SELECT born::text, count(*) FROM users GROUP BY 1"),
            ordered("SELECT id, f, f::text, iv, iv::text, x FROM kinds ORDER BY id LIMIT 7"),
            ordered("SELECT id, iv FROM kinds WHERE iv > interval '-1 2:00' ORDER BY id DESC"),
            ordered("SELECT id FROM users ORDER BY name, id LIMIT 9"),
            ordered("SELECT id, name FROM users ORDER BY name COLLATE \"C\" DESC, id LIMIT 9"),
            ("SELECT name FROM users ORDER BY (1) LIMIT 5", Ordered, &[]),
            ordered("SELECT lower(name) AS name, id FROM users ORDER BY (name), (id)"),
            ordered("SELECT max(name) AS country, count(*), min(id) FROM users GROUP BY country ORDER BY (country), 3"),
            same("SELECT age % 3 AS rest, count(*) FROM users GROUP BY (rest)"),
            ordered("SELECT age % 3 AS rest, count(*) FROM users GROUP BY (1) ORDER BY ((1))"),
            ordered("SELECT id, words FROM kinds ORDER BY words COLLATE \"C\" NULLS FIRST, id LIMIT 6"),
            ordered("SELECT id, ARRAY[name COLLATE \"C\"] FROM users ORDER BY 2, 1 LIMIT 6"),
            same("SELECT extract(year FROM max(ts)), country FROM users GROUP BY country"),
            same("SELECT make_interval(days => count(*)::int), ok FROM users GROUP BY ok"),
            same("SELECT 2 AS two, country, sum(score)::numeric(10, 2) FROM users GROUP BY 1, 2"),
            same("SELECT 'all' AS every, count(*) FROM users u, jsonb_each('{\"a\": 1}'::jsonb) GROUP BY every"),
            ordered("SELECT id, unnest(ARRAY[3, 1, 2]) FROM users ORDER BY id LIMIT 10"),
            ordered("SELECT name, unnest(ARRAY[3, 1, 2]) FROM users ORDER BY name, id LIMIT 10"),
            same("SELECT pg_typeof(s)::text, count(*) FROM kinds GROUP BY s"),
            same(
                "SELECT sum(age), avg(age), count(age), min(born), max(ts), bool_or(ok), every(ok), bit_xor(id) FROM users",
            ),
            same("SELECT sum(n), avg(n), count(n), min(n), max(n) FROM nothing"),
            same("SELECT n, sum(id), avg(id) FROM nothing GROUP BY n"),
            same("SELECT sum(id), avg(score), avg(score * 3), sum(score / 3), avg(id) FILTER (WHERE ok) FROM users"),
            same("SELECT sum(n), avg(n) FROM kinds"),
            same(
                "SELECT count(DISTINCT country), count(*), sum(DISTINCT age), avg(DISTINCT age), max(DISTINCT age) FROM users",
            ),
            same("SELECT ok, count(DISTINCT country), count(*), sum(DISTINCT age) FROM users GROUP BY ok"),
            same("SELECT ok, count(DISTINCT country) FROM users GROUP BY ok HAVING count(DISTINCT country) > 2"),
            ordered(
                "SELECT country, count(*) FROM users GROUP BY country ORDER BY count(*) DESC, country NULLS FIRST LIMIT 3 OFFSET 1",
            ),
            ordered("SELECT country, sum(age) OVER (ORDER BY id) FROM users WHERE id < 9 ORDER BY id"),
            same("SELECT users.country, count(*) FROM users GROUP BY country"),
            same("SELECT country, count(*) FROM users GROUP BY users.country HAVING users.country > 'a'"),
            same(
                "SELECT u.country, o.no, count(*), sum(o.total) FROM users u JOIN orders o ON o.user_id = u.id GROUP BY 1, 2",
            ),
            ordered(
                "SELECT u.id, count(o.no), sum(o.total) FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id ORDER BY 2 DESC, 1 LIMIT 5",
            ),
            ordered(
                "SELECT u.id, u.name, count(o.no) FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id ORDER BY u.name, u.id",
            ),
            same("SELECT o.user_id, count(*) FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY o.user_id"),
            same("SELECT id, count(*) FROM users GROUP BY id HAVING count(*) > 1"),
            same("SELECT id % 3, max(age) FROM users GROUP BY id % 3"),
            same("SELECT (id % 3) + 1, (id % 3)::text || 'x', max(age) FROM users GROUP BY id % 3"),
            same("SELECT CASE WHEN ok THEN 'yes' ELSE 'no' END AS yes, count(*) FROM users GROUP BY yes"),
            same("SELECT coalesce(country, '-') AS country, count(*) FROM users GROUP BY coalesce(country, '-')"),
            same("SELECT date_trunc('month', ts) AS m, count(*), sum(age) / count(*) FROM users GROUP BY m"),
            same("SELECT extract(year FROM born), round(avg(score), 2) FROM users GROUP BY extract(year FROM born)"),
            ordered("SELECT DISTINCT country FROM users ORDER BY country DESC NULLS LAST LIMIT 4"),
            ordered("SELECT DISTINCT ok, age % 2 AS odd FROM users ORDER BY odd, 1"),
            same("SELECT DISTINCT count(*) FROM users GROUP BY country"),
            same("SELECT count(*) > 5, coalesce(sum(age), 0) + 1, NULL, 'x' FROM users"),
            (
                "SELECT country, count(*) + $1 FROM users WHERE age > $2 GROUP BY country HAVING count(*) > $3",
                Same,
                &[(0, "1"), (0, "20"), (0, "1")],
            ),
            (
                "SELECT id, name FROM users WHERE age > $1 ORDER BY age DESC NULLS LAST, id LIMIT $2 OFFSET $3",
                Ordered,
                &[(0, "20"), (0, "5"), (0, "2")],
            ),
            ("SELECT id FROM users ORDER BY age + $1, id LIMIT 5", Ordered, &[(23, "1")]),
            ordered("SELECT id, score FROM users ORDER BY score DESC, id FETCH FIRST 3 ROWS WITH TIES"),
            ordered("SELECT id, f FROM kinds ORDER BY f DESC NULLS LAST, id"),
            ordered("SELECT id, n FROM kinds ORDER BY n NULLS FIRST, id"),
            ordered("SELECT * FROM kinds ORDER BY b, ts, id"),
            ordered("WITH c AS (SELECT id, age FROM users) SELECT * FROM c ORDER BY age DESC, id LIMIT 7"),
            same("WITH c AS (SELECT id, age FROM users) SELECT age, count(*) FROM c GROUP BY age"),
            ordered(
                "SELECT id FROM users u WHERE EXISTS (SELECT FROM orders o WHERE o.user_id = u.id AND o.total > 5) ORDER BY id",
            ),
            same("SELECT count(*) FROM adults"),
            same("SELECT max(total), count(*) FROM sales WHERE no > 1"),
            same("SELECT 1 / (count(*) - count(*)) FROM users"),
            same("SELECT sum(1 / (id - id)) FROM users"),
            ordered("SELECT 1 / (ok::int - 1) FROM users WHERE ok ORDER BY id LIMIT 3"),
        ],
    ),
    (
        "M1 LIMIT alone",
        &[
            ("SELECT * FROM users LIMIT 5", Counted, &[]),
            ("SELECT id FROM users LIMIT 0", Counted, &[]),
            ("SELECT id FROM users LIMIT 1000", Same, &[]),
            same("SELECT count(*) FROM (SELECT * FROM users LIMIT 5) u"),
            ordered("SELECT * FROM users ORDER BY id LIMIT 5"),
        ],
    ),
    (
        "M2 OFFSET and its kind",
        &[
            ordered("SELECT id FROM users ORDER BY id OFFSET 5"),
            ordered("SELECT id FROM users ORDER BY id OFFSET 2 LIMIT 3"),
            ordered("SELECT id FROM users ORDER BY id LIMIT ALL"),
            ordered("SELECT id FROM users ORDER BY id LIMIT NULL OFFSET NULL"),
            ordered("SELECT id FROM users ORDER BY id LIMIT 2 + 1"),
            ordered("SELECT id FROM users ORDER BY id LIMIT (SELECT 3)"),
            ordered("SELECT id FROM users ORDER BY id LIMIT (SELECT max(no) FROM orders)"),
            ("SELECT id FROM users ORDER BY id LIMIT $1::int", Ordered, &[(0, "3")]),
            ("SELECT id FROM users ORDER BY id LIMIT $1 OFFSET $2", Ordered, &[(0, "3"), (0, "2")]),
            (
                "SELECT id FROM users WHERE age > $2 ORDER BY id FETCH FIRST $1 ROWS ONLY",
                Ordered,
                &[(20, "4"), (0, "5")],
            ),
            same("SELECT age FROM users ORDER BY age FETCH FIRST 2 ROWS WITH TIES"),
            same("SELECT country, age FROM users ORDER BY country NULLS FIRST FETCH FIRST 3 ROWS WITH TIES"),
            ("SELECT id FROM users OFFSET 40", Counted, &[]),
            ordered("SELECT id FROM users ORDER BY id FETCH NEXT ROW ONLY"),
            same("SELECT id FROM users ORDER BY id LIMIT -1"),
        ],
    ),
    (
        "M3 the limit of groups",
        &[
            ordered("SELECT country, count(*) FROM users GROUP BY country ORDER BY 2 DESC, 1 LIMIT 2"),
            ordered("SELECT age, sum(score) FROM users GROUP BY age ORDER BY sum(score) DESC NULLS LAST, age LIMIT 4"),
            ordered("SELECT n, count(*) FROM hot GROUP BY n ORDER BY count(*), n OFFSET 1"),
        ],
    ),
    (
        "M4 what is sorted by",
        &[
            ordered("SELECT country FROM users GROUP BY country ORDER BY count(*), country"),
            ordered("SELECT name FROM users ORDER BY lower(name) DESC, id"),
            ordered("SELECT id, age FROM users ORDER BY id % 7 + age, id"),
            ordered("SELECT icu FROM kinds ORDER BY icu COLLATE \"C\", id"),
            ordered("SELECT slug FROM pages ORDER BY slug COLLATE \"de-x-icu\""),
            ordered("SELECT name FROM users ORDER BY age, id"),
            ordered("SELECT -id AS id FROM users WHERE id > -100 ORDER BY id"),
            ordered("SELECT age AS a, id FROM users ORDER BY a DESC, 2"),
            ordered("SELECT id, score FROM users ORDER BY 2, 1"),
            ordered("SELECT * FROM users ORDER BY users"),
            ordered("SELECT u FROM users u ORDER BY u DESC"),
            ordered("SELECT id FROM users ORDER BY ok, country USING >, id"),
            ordered(
                "SELECT id FROM users ORDER BY (SELECT count(*) FROM orders o WHERE o.user_id = users.id) DESC, id",
            ),
        ],
    ),
    (
        "M5 NULLs and directions",
        &[
            ordered("SELECT age, id FROM users ORDER BY age NULLS FIRST, id"),
            ordered("SELECT age, id FROM users ORDER BY age DESC, id DESC"),
            ordered("SELECT age, id FROM users ORDER BY age DESC NULLS LAST, id"),
            ordered("SELECT ok, id FROM users ORDER BY ok ASC NULLS FIRST, id"),
            ordered("SELECT country FROM users GROUP BY country ORDER BY country DESC NULLS LAST"),
        ],
    ),
    (
        "M6 linguistic collations",
        &[
            ordered("SELECT icu FROM kinds ORDER BY icu, id"),
            same("SELECT min(icu), max(icu) FROM kinds"),
            same("SELECT min(slug COLLATE \"en-x-icu\"), max(slug COLLATE \"C\") FROM pages"),
            ordered("SELECT icu, count(*) FROM kinds GROUP BY icu ORDER BY icu DESC"),
            same("SELECT id FROM kinds WHERE icu > 'a' AND icu < 'z'"),
            same("SELECT count(*), count(DISTINCT ci) FROM kinds"),
            same("SELECT lower(ci) FROM kinds GROUP BY lower(ci)"),
            same("SELECT id FROM kinds WHERE ci = 'A'"),
            same("SELECT a.id, b.id FROM kinds a JOIN kinds b ON a.ci = b.ci"),
            same("SELECT id FROM kinds WHERE icu = ci"),
        ],
    ),
    (
        "M7 keys of many types",
        &[
            ordered("SELECT d, id FROM kinds ORDER BY d, id"),
            ordered("SELECT t, id FROM kinds ORDER BY t DESC, id"),
            ordered("SELECT ts, id FROM kinds ORDER BY ts, id"),
            ordered("SELECT mood, id FROM kinds ORDER BY mood, id"),
            ordered("SELECT i, id FROM kinds ORDER BY i, id"),
            ordered("SELECT j, id FROM kinds ORDER BY j, id"),
            ordered("SELECT b, id FROM kinds ORDER BY b, id"),
            ordered("SELECT ci, id FROM kinds ORDER BY ci, id"),
            ordered("SELECT m, id FROM kinds ORDER BY m, id"),
            ordered("SELECT c, id FROM kinds ORDER BY c, id"),
            ordered("SELECT n, id FROM kinds ORDER BY n, id"),
            ordered("SELECT f, id FROM kinds ORDER BY f, id"),
            ordered("SELECT r, p, iv, a, words, id FROM kinds ORDER BY r, p, iv, a, words, id"),
            ordered("SELECT bits, s, id FROM kinds ORDER BY bits, s, id"),
            same(
                "SELECT min(d), max(d), min(t), max(ts), min(mood), max(mood), max(i), min(m), max(c), max(iv), max(a) FROM kinds",
            ),
            same("SELECT mood, count(*) FROM kinds GROUP BY mood"),
            same("SELECT d, count(*) FROM kinds GROUP BY d"),
            same("SELECT DISTINCT i FROM kinds"),
            same("SELECT DISTINCT j FROM kinds"),
            same("SELECT DISTINCT m, c, mood FROM kinds"),
            same("SELECT * FROM kinds"),
            same("SELECT to_jsonb(k) FROM kinds k"),
            same("SELECT js, js -> 'a', j -> 'a' FROM kinds WHERE d IS NULL"),
            same("SELECT array_agg(mood ORDER BY id), array_agg(p ORDER BY id) FROM kinds"),
            same("SELECT s, sum(s) FROM kinds GROUP BY s"),
            same("SELECT x, sum(x), avg(x) FROM kinds GROUP BY x"),
        ],
    ),
    (
        "M8 what is grouped by",
        &[
            same("SELECT date_trunc('day', ts), count(*) FROM users GROUP BY date_trunc('day', ts)"),
            same("SELECT date_trunc('month', ts) AS month, count(*) FROM users GROUP BY month"),
            same("SELECT count(*) FROM users GROUP BY country"),
            same("SELECT country, ok, count(*) FROM users GROUP BY ROLLUP (country, ok)"),
            same("SELECT country, ok, count(*), GROUPING(country, ok) FROM users GROUP BY CUBE (country, ok)"),
            same("SELECT country, count(*) FROM users GROUP BY GROUPING SETS ((country), ())"),
            same("SELECT age % 3, country FROM users GROUP BY 1, country"),
            same("SELECT extract(year FROM born), count(*) FROM users GROUP BY 1"),
            same("SELECT age + 1 FROM users GROUP BY age + 1"),
            same("SELECT CASE WHEN age > 10 THEN 'old' ELSE 'young' END AS what, count(*) FROM users GROUP BY what"),
            same("SELECT count(*) FROM users u GROUP BY u"),
            same("SELECT 1 FROM users GROUP BY ()"),
            same("SELECT id, name, count(*) FROM users GROUP BY id"),
            same("SELECT u.*, count(o.no) FROM users u LEFT JOIN orders o ON o.user_id = u.id GROUP BY u.id"),
        ],
    ),
    (
        "M9 groups without aggregates",
        &[
            same("SELECT country FROM users GROUP BY country"),
            same("SELECT country, age FROM users GROUP BY 1, 2"),
            same("SELECT DISTINCT country FROM users"),
            same("SELECT DISTINCT country, ok FROM users"),
            same("SELECT name FROM users GROUP BY name, country"),
        ],
    ),
    (
        "M10 aggregates within expressions",
        &[
            same(
                "SELECT coalesce(sum(score), 0), round(avg(score), 2), sum(age) / sum(id % 5 + 6) FROM users WHERE id < 99",
            ),
            same("SELECT count(*) > 0, count(*)::text || 'x', -count(*) FROM users"),
            same("SELECT coalesce(sum(n), 0), count(n), max(n), array_agg(n), bool_and(n > 1) FROM nothing"),
            same("SELECT CASE WHEN count(*) > 3 THEN max(name) ELSE min(name) END FROM users"),
            same("SELECT greatest(max(age), 17), (SELECT max(no) FROM orders) + max(age) FROM users"),
            same("SELECT sum(age) FILTER (WHERE country = 'DE') - sum(age) FILTER (WHERE country = 'FR') FROM users"),
        ],
    ),
    (
        "M11 HAVING",
        &[
            same("SELECT country FROM users GROUP BY country HAVING count(*) > 9"),
            same("SELECT country, max(age) FROM users GROUP BY country HAVING sum(age) > 100 AND country IS NOT NULL"),
            same("SELECT count(*) FROM users HAVING count(*) > 40"),
            same("SELECT count(*) FROM users HAVING count(*) > 4000"),
            same("SELECT 1 FROM nothing HAVING count(*) = 0"),
            same("SELECT 1 FROM users HAVING true"),
            same("SELECT country FROM users GROUP BY country HAVING count(*) = (SELECT count(*) FROM users2) / 3"),
        ],
    ),
    (
        "M12 averages",
        &[
            same("SELECT avg(age), avg(score), avg(id % 7), avg(age::smallint), avg(ok::int) FROM users"),
            same("SELECT country, avg(age), avg(score) FROM users GROUP BY country"),
            same("SELECT avg(n), sum(n) FROM nothing"),
            same("SELECT avg(total), avg(DISTINCT total), sum(DISTINCT total) FROM orders"),
            same("SELECT avg(iv), sum(iv) FROM kinds"),
            same("SELECT sum(m) FROM kinds"),
        ],
    ),
    (
        "M13 window functions",
        &[
            same("SELECT id, sum(age) OVER (ORDER BY id) FROM users"),
            same("SELECT id, row_number() OVER (ORDER BY score DESC NULLS LAST, id) FROM users"),
            same("SELECT id, rank() OVER (PARTITION BY country ORDER BY age) FROM users"),
            same(
                "SELECT id, lag(name) OVER w, lead(age, 2, -1) OVER w FROM users WINDOW w AS (PARTITION BY country ORDER BY id)",
            ),
            same("SELECT country, count(*), rank() OVER (ORDER BY count(*) DESC, country) FROM users GROUP BY country"),
            same("SELECT id, count(*) OVER () FROM users WHERE age > 10"),
            same("SELECT id, max(age) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM users"),
            same(
                "SELECT born, sum(age) OVER (ORDER BY born RANGE BETWEEN '3 days' PRECEDING AND CURRENT ROW) FROM users",
            ),
            same("SELECT DISTINCT first_value(name) OVER (PARTITION BY country ORDER BY id) FROM users"),
            same(
                "SELECT * FROM (SELECT id, row_number() OVER (PARTITION BY country ORDER BY id DESC) AS n FROM users) u WHERE n = 1",
            ),
        ],
    ),
    (
        "M14 DISTINCT in aggregates",
        &[
            same("SELECT count(DISTINCT country), count(DISTINCT country)::int, count(DISTINCT age % 3) FROM users"),
            same("SELECT country, count(DISTINCT age), sum(DISTINCT age) FROM users GROUP BY country"),
            same("SELECT string_agg(DISTINCT country, '-' ORDER BY country DESC) FROM users"),
            same("SELECT array_agg(DISTINCT age ORDER BY age DESC NULLS LAST) FROM users"),
            same("SELECT count(DISTINCT (country, ok)), count(DISTINCT u) FROM users u"),
            same("SELECT count(DISTINCT id) FROM users"),
        ],
    ),
    (
        "M15 DISTINCT ON",
        &[
            same("SELECT DISTINCT ON (users.id) id, name FROM users ORDER BY users.id"),
            ordered("SELECT DISTINCT ON (country) country, id FROM users ORDER BY country, id DESC"),
            ordered("SELECT DISTINCT ON (lower(country)) id FROM users ORDER BY lower(country) DESC, id"),
            ordered("SELECT DISTINCT ON (age % 2, ok) name FROM users ORDER BY age % 2, ok, id"),
            ordered(
                "SELECT DISTINCT ON (o.no) u.name FROM users u JOIN orders o ON u.id = o.user_id ORDER BY o.no, u.id",
            ),
            ordered("SELECT DISTINCT ON (country) id FROM users ORDER BY country NULLS FIRST, id LIMIT 2"),
            ordered("SELECT DISTINCT ON (1) country, id FROM users ORDER BY 1, 2"),
        ],
    ),
    (
        "M16 numbers at their edges",
        &[
            same("SELECT stddev(age), variance(age), var_pop(score), stddev_samp(score) FROM users"),
            same("SELECT stddev(age), variance(age), var_pop(age) FROM users WHERE id = 5"),
            same("SELECT stddev(n), variance(n), var_pop(n) FROM nothing"),
            same("SELECT country, stddev(score) FROM users GROUP BY country"),
            same("SELECT sum(n), count(n) FROM kinds"),
            same("SELECT sum(n), avg(n), max(n) FROM kinds WHERE n < 'NaN' AND n <> 'Infinity'"),
            same("SELECT sum(f), max(f), min(f + 0) FROM kinds"),
            same("SELECT trim_scale(n), count(*) FROM kinds GROUP BY trim_scale(n)"),
            same("SELECT f + 0, count(*) FROM kinds GROUP BY f + 0"),
            same("SELECT sum(id) FROM users"),
            same("SELECT sum(id::int) FROM users WHERE id < 1000 AND id > -1000"),
            same("SELECT sum(id)::bigint FROM (SELECT id FROM users UNION ALL SELECT id FROM users WHERE id > 10) u"),
            same("SELECT sum(9223372036854775807::numeric * id) FROM users"),
            same("SELECT bit_and(age), bit_or(age) FROM users"),
        ],
    ),
    (
        "M17 joins, subqueries and CTEs",
        &[
            same("SELECT u.id, o.no FROM users u JOIN orders o ON u.age = o.no"),
            same("SELECT u.id, o.no FROM users u LEFT JOIN orders o ON u.age = o.no AND o.total > 5"),
            same("SELECT u.id, o.no FROM users u RIGHT JOIN orders o ON u.id = o.no"),
            same("SELECT a.id, b.id FROM users a FULL JOIN users2 b ON a.age = b.id"),
            same("SELECT a.id, b.id FROM users a FULL JOIN users2 b ON a.age = b.id WHERE a.age = 7 OR b.id IS NULL"),
            same("SELECT count(*) FROM users a, users b"),
            same("SELECT count(*) FROM users NATURAL JOIN users2"),
            same("SELECT count(*) FROM users NATURAL LEFT JOIN users2"),
            same("SELECT extra FROM users NATURAL JOIN users2"),
            same("SELECT id, extra FROM users JOIN users2 USING (name, age)"),
            same("SELECT name, age, users.id, users2.id FROM users FULL JOIN users2 USING (name, age)"),
            refused("SELECT j.name FROM users JOIN users2 USING (name) AS j", UNREADABLE),
            same("SELECT id FROM users WHERE age IN (SELECT no FROM orders)"),
            same("SELECT id FROM users WHERE age NOT IN (SELECT no FROM orders)"),
            same("SELECT id FROM users u WHERE EXISTS (SELECT 1 FROM orders o WHERE o.no = u.age)"),
            same("SELECT id FROM users u WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id + 1)"),
            same("SELECT id, (SELECT count(*) FROM orders WHERE no = age) FROM users"),
            same("SELECT id FROM users WHERE id IN (SELECT id FROM orders)"),
            same("SELECT id FROM users WHERE score > ALL (SELECT total FROM orders WHERE no = 1 AND user_id < 3)"),
            same(
                "WITH a AS (SELECT country, count(*) AS n FROM users GROUP BY country) SELECT x.country, y.n FROM a x, a y",
            ),
            same(
                "WITH a AS MATERIALIZED (SELECT * FROM users) SELECT count(*) FROM a UNION ALL SELECT max(age) FROM a",
            ),
            same(
                "WITH users AS (SELECT id, age FROM users WHERE age > 5) SELECT count(*) FROM users JOIN public.users p USING (id)",
            ),
            same(
                "WITH RECURSIVE r AS (SELECT id, 1 AS d FROM users WHERE id = 1 UNION ALL SELECT u.id, d + 1 FROM r JOIN users u ON u.id = r.id + 1 WHERE d < 9) SELECT * FROM r",
            ),
            same(
                "SELECT u.id, l.no FROM users u, LATERAL (SELECT no FROM orders o WHERE o.no <= u.age ORDER BY total DESC, user_id, no LIMIT 1) l",
            ),
            same("SELECT name FROM users UNION SELECT name FROM users2"),
            same("SELECT name FROM users INTERSECT ALL SELECT name FROM users2"),
            same("SELECT name FROM users EXCEPT ALL SELECT name FROM users2"),
            same("SELECT id FROM users EXCEPT SELECT id FROM users2 UNION SELECT user_id FROM orders"),
            same("SELECT s.value, count(*) FROM settings s JOIN users u ON u.country = s.name GROUP BY s.value"),
            same("SELECT c.name, count(*) FROM countries c LEFT JOIN users u ON u.country = c.code GROUP BY c.name"),
            same("SELECT ARRAY(SELECT id FROM users ORDER BY id), EXISTS (SELECT 1 FROM nothing)"),
            same("VALUES ((SELECT count(*) FROM users)), ((SELECT max(no) FROM orders))"),
        ],
    ),
    (
        "M18 COPY of a query",
        &[
            same("COPY (SELECT * FROM users ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)"),
            same("COPY (SELECT id FROM users ORDER BY id) TO STDOUT WITH (FORMAT binary)"),
        ],
    ),
    (
        "M19 failures and notices",
        &[
            same("SELECT 1 / (id - id) FROM users"),
            same("SELECT sum(1 / (age - age)) FROM users"),
            same("SELECT id FROM users WHERE 1 / (id - id) > 0"),
            same("SELECT name::int FROM users"),
            same("SELECT nothing FROM users"),
            same("SELECT count(*) FROM users WHERE id = 'x'"),
            same("SELECT country, id FROM users GROUP BY country"),
            same("SELECT id FROM users JOIN users2 ON true"),
            same("SELECT count(shout(1)) FROM (SELECT 1 FROM users LIMIT 1) u"),
            same("SELECT max(shout(1)) FROM users"),
            same("SELECT (SELECT id FROM users)"),
            same("SELECT count(*) FROM users; SELECT 1 / (id - id) FROM users; SELECT 2"),
            same("SELECT max(age) FROM users; SELECT country, count(*) FROM users GROUP BY 1 HAVING count(*) > 100"),
        ],
    ),
    (
        "traps 2 and 4: orders of one's own",
        &[
            ordered("SELECT id FROM users ORDER BY id USING >"),
            ordered("SELECT name, id FROM users ORDER BY name USING ~>~, id"),
            same("SELECT ci COLLATE \"C\" FROM kinds"),
            same("SELECT count(*) FROM (SELECT DISTINCT ci FROM kinds) k"),
        ],
    ),
    (
        "trap 10: names of columns",
        &[
            ordered("SELECT id, id, age AS id2, age AS id2 FROM users ORDER BY 1"),
            ordered("SELECT age AS id, id AS age FROM users ORDER BY id, age"),
            ordered("SELECT age AS id, id AS age FROM users ORDER BY users.id"),
            ordered("SELECT lower(name) AS name FROM users ORDER BY name, users.id"),
            same("SELECT lower(name) AS name, count(*) FROM users GROUP BY name"),
            same(
                "SELECT count(*), count(*), max(id) + 1, lower(max(name)), 1::text, CASE WHEN true THEN max(age) END FROM users",
            ),
            same("SELECT users.id AS \"A \"\" b\" FROM users"),
            same("SELECT id AS age FROM users ORDER BY age + 0"),
        ],
    ),
    (
        "trap 11: nothing at all",
        &[
            same("SELECT count(*), sum(n), max(t), min(n), avg(n) FROM nothing"),
            same("SELECT n, count(*) FROM nothing GROUP BY n"),
            same("SELECT count(*) FROM nothing GROUP BY ()"),
            same("SELECT * FROM nothing ORDER BY n DESC LIMIT 3"),
            same(
                "SELECT string_agg(t, ','), array_agg(n), json_agg(t), percentile_cont(0.5) WITHIN GROUP (ORDER BY n) FROM nothing",
            ),
            same("SELECT u.id, x.t FROM users u LEFT JOIN nothing x ON x.n = u.age"),
            same("SELECT n, count(*) FROM nothing GROUP BY ROLLUP (n)"),
            same("SELECT count(*) OVER () FROM nothing"),
        ],
    ),
    (
        "trap 12: ordered sets",
        &[
            same(
                "SELECT percentile_cont(0.3) WITHIN GROUP (ORDER BY score), mode() WITHIN GROUP (ORDER BY country), percentile_disc(0.5) WITHIN GROUP (ORDER BY name) FROM users",
            ),
            same(
                "SELECT country, percentile_cont(ARRAY[0.1, 0.9]) WITHIN GROUP (ORDER BY age) FROM users GROUP BY country",
            ),
            same(
                "SELECT rank(10) WITHIN GROUP (ORDER BY age), cume_dist(10) WITHIN GROUP (ORDER BY age DESC NULLS LAST) FROM users",
            ),
            same(
                "SELECT string_agg(name, ',' ORDER BY age DESC NULLS LAST, id), json_object_agg(id, age ORDER BY id) FROM users",
            ),
            same("SELECT array_agg(age ORDER BY id), jsonb_agg(u ORDER BY id) FROM users u"),
        ],
    ),
    (
        "traps 14 and 15: chance and time",
        &[
            same("SELECT count(*) FROM users WHERE random() < 2"),
            same(
                "SELECT count(DISTINCT now()), count(DISTINCT current_date), count(DISTINCT transaction_timestamp()) FROM users",
            ),
            same("SELECT count(*) FROM users WHERE ts < now() AND born < CURRENT_DATE"),
            ("SELECT random() FROM users", Counted, &[]),
            same("SELECT count(DISTINCT r) > 20 FROM (SELECT random() AS r FROM users) u"),
        ],
    ),
    (
        "trap 22: what only a server knows",
        &[
            refused("SELECT ctid FROM users", "system column"),
            refused("SELECT max(xmin::text) FROM users", "system column"),
            refused("SELECT tableoid::regclass::text, count(*) FROM users GROUP BY 1", "system column"),
            same("SELECT * FROM users TABLESAMPLE BERNOULLI (100)"),
            same("SELECT count(*) FROM public.users u TABLESAMPLE SYSTEM (100) JOIN users2 v ON v.age = u.age"),
            same("SELECT count(*) FROM users TABLESAMPLE BERNOULLI (0)"),
            refused("SELECT id FROM users TABLESAMPLE BERNOULLI (50) REPEATABLE (3)", "TABLESAMPLE … REPEATABLE"),
            refused("EXPLAIN (FORMAT JSON) SELECT count(*) FROM users", "EXPLAIN across shards"),
            refused("SELECT id FROM users ORDER BY id FOR UPDATE", "locking rows"),
            refused("SELECT id FROM users LIMIT 1 FOR NO KEY UPDATE", "locking rows"),
            refused("SELECT count(*) FROM (SELECT id FROM users FOR SHARE) u", "locking rows"),
        ],
    ),
    (
        "trap 25: cursors",
        &[
            same("BEGIN; DECLARE c CURSOR FOR SELECT id FROM users ORDER BY id; FETCH 2 FROM c; COMMIT"),
            same("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT id FROM users; FETCH ALL FROM c; CLOSE c; COMMIT"),
        ],
    ),
    (
        "traps 34 and 35: as it is stored",
        &[
            same("SELECT id, js, j::text, words, a, c, c || 'x', bits FROM kinds"),
            same("SELECT js::text, count(*) FROM kinds GROUP BY js::text"),
            same("SELECT d, ts, iv, b, m, f, x, n FROM kinds"),
            same("SELECT max(d), min(ts), max(iv::text) FROM kinds WHERE d > '-infinity'"),
            same("SELECT array_dims(a), a[1], a[2:], '[0:1]={1,2}'::int[] FROM kinds"),
            same("SELECT length(c), octet_length(c), c = 'a', c LIKE 'a%' FROM kinds"),
            same("SELECT p, (p).a, (p).b, p IS NULL, p = ROW(0, 'a ')::pair FROM kinds"),
            same("SELECT k.p.b FROM kinds k WHERE false"),
        ],
    ),
    (
        "trap 36: types of parameters",
        &[
            ("SELECT count(*) FROM users WHERE id > $1 AND name <> $2", Same, &[(0, "3"), (0, "x")]),
            ("SELECT $1, count(*) FROM users", Same, &[(0, "3")]),
            ("SELECT $2::text || $1, max(age) FROM users", Same, &[(0, "b"), (0, "a")]),
            ("SELECT mood, count(*) FROM kinds WHERE mood <> $1 GROUP BY mood", Same, &[(0, "sad")]),
            ("SELECT id FROM kinds WHERE p = $1 OR s = $2 OR r @> $3", Same, &[(0, "(0,\"a \")"), (0, "3"), (0, "4")]),
            ("SELECT count(*) FROM users WHERE age > $1", Same, &[(23, "10"), (25, "not used")]),
            ("SELECT count(*) FROM users WHERE age = ANY ($1)", Same, &[(0, "{7,14,NULL}")]),
            ("SELECT sum(age + $1) FROM users WHERE country IN ($2, $3)", Same, &[(0, "1"), (0, "DE"), (0, "FR")]),
            ("SELECT count(*) FROM users WHERE born > $1", Same, &[(0, "2020-02-05")]),
            ("SELECT coalesce(age, $1) AS a, count(*) FROM users GROUP BY coalesce(age, $1)", Same, &[(0, "3")]),
            ("SELECT CASE WHEN age > $1 THEN $2 ELSE name END FROM users", Same, &[(0, "9"), (0, "old")]),
            ("SELECT count(*) FROM users WHERE $1", Same, &[(0, "true")]),
        ],
    ),
    (
        "trap 37: keys of other types",
        &[
            same("SELECT count(*) FROM users WHERE id = 1.5"),
            same("SELECT count(*) FROM users WHERE id IN (1, 2.0, 3.5)"),
            same("SELECT count(*) FROM users WHERE id = 5::float8 OR id = 6::smallint"),
            same("SELECT count(*) FROM users WHERE id IS NULL"),
            same("SELECT count(*) FROM pages WHERE slug IN ('5 ', '5'::char(3), 'a')"),
            same("SELECT count(*) FROM pages WHERE slug = '5'::char(3)"),
            same("SELECT sum(n) FROM pages WHERE slug = 'a' OR slug = 'A'::varchar"),
        ],
    ),
    (
        "trap 38: shards that a condition leaves",
        &[
            same("SELECT count(*) FROM users WHERE id = (SELECT max(no) FROM orders)"),
            same("SELECT count(*) FROM users WHERE id = ANY (ARRAY[1, 2, 3])"),
            same("SELECT count(*) FROM users WHERE id = 1 OR id = 2 OR age = 7"),
            same("SELECT count(*) FROM users WHERE (id, age) IN ((1, 7), (2, 14))"),
            same("SELECT count(*) FROM users WHERE id BETWEEN 3 AND 9"),
            same(
                "SELECT count(*), sum(a.age) FROM users a JOIN orders o ON o.user_id = a.id WHERE a.id IN (1, 2, 3, 6)",
            ),
            same("SELECT count(*) FROM users WHERE id IN (1, 2, 3) AND id IN (2, 3, 4)"),
        ],
    ),
    (
        "conditions that are asked beforehand",
        &[
            same("SELECT u.id, o.no FROM users u LEFT JOIN orders o ON o.no = u.age AND u.age = 2"),
            same("SELECT u.id, o.no FROM users u LEFT JOIN orders o ON o.no = u.age WHERE o.no = 1 OR o.no IS NULL"),
            same("SELECT u.id, o.no FROM users u LEFT JOIN orders o ON o.no = u.age WHERE o.no IS NULL AND u.age = 7"),
            same("SELECT a.id, b.id FROM users a, users b WHERE a.age = 7 AND b.id = a.id % 9"),
            same(
                "SELECT count(*) FROM users a WHERE a.age = 7 OR EXISTS (SELECT 1 FROM users b WHERE b.age = 14 AND b.country = a.country)",
            ),
            same("SELECT count(*) FROM users WHERE NOT (age = 7)"),
            same("SELECT count(*) FROM users WHERE (age = 7) IS NOT TRUE"),
            same("SELECT count(*) FROM users WHERE age = 7 AND age = 14"),
            same("SELECT count(*) FILTER (WHERE age = 7), count(*) FROM users"),
            same(
                "SELECT max(age) FROM (SELECT age FROM users WHERE age < 8 UNION ALL SELECT age FROM users WHERE age > 20) u",
            ),
            same("SELECT count(*) FROM users WHERE born = '2020-02-05'"),
            same("SELECT count(*) FROM users WHERE born > '01/02/2020' AND born < '03/04/2020'"),
            same("SELECT count(*) FROM users WHERE born > '03.02.2020'"),
            same("SELECT count(*) FROM users WHERE ts > '2021-01-03 12:00'"),
            same("SELECT count(*) FROM users WHERE ts > '2021-01-03 12:00+05'"),
            same("SELECT count(*) FROM users WHERE ts >= '2021-01-03' AND ts < '2021-01-05'"),
            same("SELECT count(*) FROM users WHERE ts > '20210103 120000 America/New_York'"),
            same("SELECT count(*) FROM users WHERE score > 10.5 AND score <= 90"),
            same("SELECT count(*) FROM users WHERE score = '12.04'"),
            same("SELECT count(*) FROM users WHERE country = 'DE'"),
            same("SELECT count(*) FROM users WHERE country = 'DE' COLLATE \"en-x-icu\""),
            same("SELECT count(*) FROM kinds WHERE ci = 'B' OR icu = 'B'"),
            same("SELECT count(*) FROM kinds WHERE c = 'a '"),
            same("SELECT count(*) FROM users u JOIN users2 v ON u.age = v.age WHERE v.age = 7"),
            same(
                "SELECT count(*) FROM users u LEFT JOIN users2 v ON u.age = v.age WHERE u.age = 7 AND v.name = 'name1'",
            ),
            same("SELECT count(*) FROM users u FULL JOIN users2 v ON u.age = v.age AND u.age = 7"),
            same("SELECT count(*) FROM users WHERE age > 5 AND age < 99999999999"),
            same("SELECT count(*) FROM users WHERE age = 99999999999"),
            same("SELECT count(*) FROM users WHERE age::smallint = 7"),
            same("SELECT count(*) FROM users HAVING max(age) = 29"),
            same(
                "SELECT (SELECT count(*) FROM orders WHERE no = 1), (SELECT count(*) FROM orders WHERE no = 2), (SELECT count(*) FROM orders)",
            ),
            same("SELECT sum(age) OVER (ORDER BY id), id FROM users WHERE age = 7"),
            same("SELECT * FROM (SELECT id, age, row_number() OVER (ORDER BY id) AS n FROM users) u WHERE age = 7"),
            same(
                "SELECT * FROM (SELECT DISTINCT ON (country) country, age FROM users ORDER BY country, id) u WHERE age = 7",
            ),
            same("SELECT * FROM (SELECT id, age FROM users ORDER BY id LIMIT 5) u WHERE age = 7"),
            same(
                "WITH RECURSIVE r AS (SELECT id, age FROM users WHERE age = 7 UNION SELECT u.id, u.age FROM r JOIN users u ON u.id = r.id + 1) SELECT count(*) FROM r",
            ),
            same(
                "WITH r AS (SELECT * FROM users) SELECT (SELECT count(*) FROM r WHERE age = 7), (SELECT count(*) FROM r)",
            ),
            same("SELECT count(*) FROM users CROSS JOIN LATERAL (SELECT users.age = 7 AS is) l WHERE l.is"),
        ],
    ),
    (
        "names in the text",
        &[
            same("SELECT users.id, count(*) FROM users /* users */ GROUP BY users.id -- users"),
            same("SELECT count(*) FROM users--\n"),
            same("SELECT count(*)FROM/**/users/**/u/**/WHERE/**/u.age=7"),
            same("SELECT count(*) FROM \"users\" AS \"Users\" WHERE \"Users\".age > 3"),
            same("SELECT count(*) FROM USERS"),
            same("SELECT count(*) FROM public . users"),
            same("SELECT max(public.users.age) FROM public.users"),
            same("SELECT max(users.age) FROM public.users WHERE public.users.id > 3"),
            refused("SELECT count(*) FROM users *", UNREADABLE),
            same("SELECT count(*) FROM ONLY users"),
            refused("SELECT count(*) FROM ONLY (users)", UNREADABLE),
            refused("SELECT count(*) FROM U&\"\\0075sers\"", UNREADABLE),
            ordered("TABLE users ORDER BY id"),
            same("SELECT count(*) FROM (TABLE users) t"),
            same("(TABLE users2) EXCEPT (TABLE users2)"),
            same("SELECT users FROM users ORDER BY users.id LIMIT 2"),
            same("SELECT count(users), count(users.*), count(DISTINCT users.country) FROM users"),
            same("SELECT (users).name, max((users).age) FROM users GROUP BY 1"),
            same("SELECT name(users) FROM users GROUP BY 1"),
            same("SELECT max(users.name), max(u.name) FROM users JOIN users2 u ON u.id = users.id + 1"),
            same("SELECT count(*) FROM users orders JOIN orders users ON orders.age = users.no"),
            same("SELECT max(t) FROM nothing t"),
            same("SELECT max(x.a), max(b) FROM users AS x (a, b)"),
            same("SELECT max(score), max(a) FROM users u (a)"),
            same("SELECT max(r) FROM users u (id, age, r)"),
            same("SELECT pg_typeof(u)::text, count(*) FROM users u GROUP BY 1"),
            refused("SELECT pg_typeof(u)::text, count(*) FROM adults u GROUP BY 1", "the whole row of view"),
            same("SELECT pg_typeof(score)::text, pg_typeof(country)::text, count(*) FROM users GROUP BY 1, 2"),
            same(
                "SELECT pg_typeof(mood)::text, pg_typeof(s)::text, pg_typeof(p)::text, count(*) FROM kinds GROUP BY 1, 2, 3",
            ),
            same("SELECT pg_collation_for(icu), pg_collation_for(ci), count(*) FROM kinds GROUP BY 1, 2"),
            same("SELECT max(score), min(extra) FROM users JOIN users2 USING (id)"),
            same("SELECT country, score, max(score) OVER () FROM users WHERE score > 100"),
            same("SELECT DISTINCT extra FROM users2"),
            same("SELECT jsonb_agg(to_jsonb(u) - 'id' ORDER BY u.id) FROM users u"),
            same("SELECT row_to_json(u), u::text FROM users u ORDER BY u.age, u.id LIMIT 3"),
            same("SELECT u.*, v.* FROM users u JOIN users2 v ON u.age = v.id"),
            same("SELECT count(*) FROM users WHERE users IS NOT NULL"),
            same("SELECT count(*) FROM users a JOIN users b ON a = b"),
            same("SELECT ROW(u.id, u.age) = ROW(1, 7), count(*) FROM users u GROUP BY 1"),
            same("SELECT (SELECT u) FROM users u ORDER BY id LIMIT 2"),
            same("SELECT (SELECT max(age) FROM orders) FROM users GROUP BY country"),
            same("SELECT (SELECT age FROM orders ORDER BY user_id, no LIMIT 1) FROM users ORDER BY id LIMIT 3"),
            same("SELECT 'FROM users', count(*) FROM users"),
            same("SELECT E'\\'users\\'' || $$ FROM users $$, count(*) FROM users"),
            same("SELECT count(*) AS users FROM users"),
            same("SELECT u.users FROM (SELECT count(*) AS users FROM users) u"),
            same("SELECT max(n) FROM hot, LATERAL (SELECT hot.n + 1 AS m) l WHERE m > 2"),
            same("SELECT u.id FROM users u JOIN LATERAL generate_series(1, u.age) g ON g = 20 WHERE u.id < 100"),
            same("SELECT count(*) FROM users, unnest(ARRAY[users.id, 1]) x"),
            same("SELECT unnest(words), count(*) FROM kinds GROUP BY 1"),
            same("SELECT generate_series(1, age % 3), id FROM users"),
            same(
                "SELECT id FROM users u WHERE (SELECT count(*) FROM (SELECT 1 FROM orders o WHERE o.no = u.age % 3) x) > 2",
            ),
            same("SELECT count(*) FROM ((users JOIN orders ON age = no) JOIN users2 ON users2.id = no)"),
            same(
                "SELECT count(*) FROM (users u CROSS JOIN countries c) LEFT JOIN (orders o JOIN users2 v ON v.id = o.no) ON u.age = v.age",
            ),
            same("SELECT max(x.no) FROM (countries c JOIN orders o ON c.people > o.total) AS x"),
            same("SELECT jsonb_populate_record(NULL::users, '{\"id\": 7}'), count(*) FROM users"),
            refused("SELECT count(*) FROM users WHERE users.* IS DISTINCT FROM NULL", UNREADABLE),
            refused("SELECT xmlelement(name u, xmlattributes(id), name)::text FROM users WHERE age > 28", UNREADABLE),
            same("SELECT count(*) FROM (SELECT FROM users) x"),
            same("SELECT count(*) FROM users u, users u2 WHERE u.age = u2.age AND u2.country = 'DE'"),
            same("SELECT id FROM users, (SELECT max(age) AS id2 FROM users) m WHERE age = id2"),
            same("SELECT u.id FROM users u JOIN users2 USING (id, name) WHERE u.age > 20"),
            same("SELECT count(*) FROM pg_class c JOIN users u ON c.relname = u.name"),
            same("SELECT 'users'::regclass::text, count(*) FROM users"),
            same("SELECT current_schema(), current_setting('search_path'), count(*) FROM users"),
        ],
    ),
    (
        "fields and functions of rows",
        &[
            refused("SELECT (p).*, count(*) FROM kinds GROUP BY 1, 2", UNREADABLE),
            refused("SELECT (u).* FROM users u ORDER BY (u).age, (u).id LIMIT 5", UNREADABLE),
            same("SELECT p, (p).a FROM kinds p"),
            same("SELECT p.a, p.p FROM kinds p ORDER BY p.id LIMIT 3"),
            same("SELECT k.a[1], (k).p, ((k).p).b, count(*) FROM kinds k GROUP BY 1, 2, 3"),
            same(
                "SELECT x, y, count(*) FROM kinds k, ROWS FROM (unnest(k.a), unnest(k.words)) AS r (x, y) GROUP BY 1, 2",
            ),
            same(
                "SELECT x, y, count(*) FROM kinds k, LATERAL unnest(k.a, k.words) WITH ORDINALITY AS r (x, y, o) GROUP BY 1, 2",
            ),
            same("SELECT key, count(*) FROM kinds, json_each_text(js) GROUP BY key"),
            same("SELECT max(value), count(*) FROM users u, jsonb_each_text(to_jsonb(u))"),
            same("SELECT l.*, u.id FROM users u, LATERAL (SELECT u.*) l ORDER BY u.age, u.id LIMIT 4"),
            same("SELECT max(x.age) FROM users u, LATERAL (SELECT u.age WHERE u.ok) x"),
            same("SELECT count(*) FROM users u WHERE ROW(u.*) IS NOT NULL"),
            same("SELECT array_agg(u ORDER BY id) FROM users u WHERE age > 20"),
            same("SELECT ARRAY(SELECT p FROM kinds ORDER BY id), count(*) FROM users"),
            same("SELECT (SELECT p FROM kinds ORDER BY id LIMIT 1), (SELECT u FROM users u ORDER BY id LIMIT 1)"),
            same("SELECT json_build_object('u', u, 'n', count(*)) FROM users u GROUP BY u ORDER BY u LIMIT 3"),
            same("SELECT array_agg(k.s ORDER BY k.id), array_agg(DISTINCT k.mood) FROM kinds k"),
            same("SELECT coalesce(p, ROW(1, 'x')::pair), count(*) FROM kinds GROUP BY 1"),
            same("SELECT DISTINCT u::text FROM users u, jsonb_path_query('{\"a\": 1}'::jsonb, '$.*') f (e)"),
            same(
                "WITH RECURSIVE r (n) AS (SELECT 1 UNION SELECT n + 1 FROM r WHERE n < 3) SELECT DISTINCT u::text FROM users u, r",
            ),
            same("SELECT to_jsonb(u), count(*) FROM users u, generate_series(1, 2) g GROUP BY 1"),
            same("SELECT u, count(*) FROM users u, unnest(ARRAY[1, 2]) g (n) GROUP BY u"),
            same("SELECT count(DISTINCT u) FROM users u, jsonb_each('{\"a\": 1}') g"),
            same("SELECT DISTINCT u::text FROM users u, LATERAL (SELECT 1 AS a) g"),
            same("SELECT DISTINCT u::text FROM users u JOIN settings s ON true"),
            same("SELECT DISTINCT (u)::text FROM users u FULL JOIN users2 v USING (id)"),
            same("SELECT g, count(*) FROM users u, jsonb_each('{\"a\": 1}') g GROUP BY g"),
            same("SELECT u.id FROM users u WHERE (u.id, u.age) = ANY (SELECT id, age FROM users2) ORDER BY u"),
        ],
    ),
    (
        "transactions and settings",
        &[
            same("BEGIN; UPDATE users SET age = 99 WHERE id = 5; SELECT max(age), count(*) FROM users; ROLLBACK"),
            same(
                "BEGIN; INSERT INTO users2 VALUES (5000, 'x'); SELECT name, count(*) FROM users2 GROUP BY name; ROLLBACK",
            ),
            same(
                "BEGIN; DELETE FROM users WHERE id = 5; SELECT count(*) FROM users u JOIN orders o ON u.id <> o.user_id; ROLLBACK",
            ),
            same("BEGIN READ ONLY; SELECT max(d), count(*) FROM kinds; COMMIT"),
            same(
                "BEGIN; SET LOCAL DateStyle = 'German'; SELECT max(born), min(born) FROM users; SELECT born FROM users WHERE id = 5; COMMIT",
            ),
            same("BEGIN; SAVEPOINT a; SELECT count(*) FROM users; RELEASE a; SELECT sum(age) FROM users; COMMIT"),
            refused(
                "SET array_nulls = off; SELECT a, count(*) FROM kinds GROUP BY a; RESET array_nulls",
                "array_nulls",
            ),
            same("SET client_encoding = 'LATIN1'; SELECT count(DISTINCT slug) FROM pages; RESET client_encoding"),
            same(
                "SET client_encoding = 'LATIN1'; SELECT max(slug), count(*) FROM pages WHERE n < 8; RESET client_encoding",
            ),
            same("SET extra_float_digits = -5; SELECT sum(f), max(x) FROM kinds WHERE f < 2; RESET extra_float_digits"),
            same("SET bytea_output = 'escape'; SELECT b, count(*) FROM kinds GROUP BY b; RESET bytea_output"),
            same(
                "SET TimeZone = 'Asia/Kathmandu'; SELECT max(ts), date_trunc('day', ts), count(*) FROM users GROUP BY 2; RESET TimeZone",
            ),
            same(
                "SET DateStyle = 'German, DMY'; SELECT d, count(*) FROM kinds WHERE d > '01/02/2000' GROUP BY d; RESET DateStyle",
            ),
            same(
                "SET IntervalStyle = 'sql_standard'; SELECT iv, count(*) FROM kinds GROUP BY iv::text, iv; RESET IntervalStyle",
            ),
            same(
                "SET IntervalStyle = 'sql_standard'; SELECT max(ts - '2021-01-01'), sum(iv) FROM users, kinds; RESET IntervalStyle",
            ),
            same(
                "SET statement_timeout = '30s'; SELECT count(*) FROM users; SHOW statement_timeout; SET statement_timeout = '20s'",
            ),
            same("SET xmloption = 'document'; SELECT count(*) FROM users; RESET xmloption"),
            same("SET quote_all_identifiers = on; SELECT max(age) FROM adults; RESET quote_all_identifiers"),
            same("SET search_path = other, public; SELECT max(age) FROM users; RESET search_path"),
            same("SET search_path = other; SELECT max(age), count(*) FROM users; RESET search_path"),
            same("SET search_path = other; SELECT age FROM users; RESET search_path"),
            same("SET search_path = other; SELECT age FROM users WHERE id = 2; RESET search_path"),
            same(
                "SELECT set_config('search_path', 'other', false); SELECT max(age), count(*) FROM users; RESET search_path",
            ),
            refused(
                "SET array_nulls = off; SELECT words, count(*) FROM kinds GROUP BY words; RESET array_nulls",
                "array_nulls",
            ),
            refused(
                "SET array_nulls = off; SELECT count(*) FROM kinds WHERE words[3] IS NULL; RESET array_nulls",
                "array_nulls",
            ),
            same("SELECT to_jsonb(x) FROM (countries c JOIN orders o ON c.people > o.total) AS x"),
            same("SELECT to_jsonb(x) ->> 'no', count(*) FROM (users u JOIN orders o ON u.age = o.no) AS x GROUP BY 1"),
            same("SELECT count(x) FROM (users u JOIN orders o ON u.age = o.no) AS x"),
            same("SELECT x FROM (users u JOIN orders o ON u.age = o.no) AS x"),
            same("SELECT x.* FROM (users u JOIN orders o ON u.age = o.no) AS x"),
            same("SELECT to_jsonb(x), count(*) FROM (users2 JOIN orders ON id = no) x GROUP BY 1"),
            refused("SELECT to_jsonb(a) FROM of_country AS a (r0, r1)", "the whole row of view"),
            same("SELECT to_jsonb(a), count(*) FROM users AS a (r0, r1) GROUP BY 1"),
            same("SELECT a::text, (a).id FROM users AS a (r0, r1)"),
        ],
    ),
    (
        "partitions and children",
        &[
            same("SELECT n, count(*) FROM parts GROUP BY n"),
            same("SELECT p FROM parts p ORDER BY p.id LIMIT 3"),
            same("SELECT count(*) FROM ONLY parts"),
            refused("SELECT n, count(*) FROM mother GROUP BY n", "inheritance children"),
            refused("SELECT count(*), max(n) FROM ONLY mother", "inheritance children"),
            refused("SELECT count(*) FROM ONLY mother a FULL JOIN mother b ON a.id = b.id", "inheritance children"),
            same("SELECT count(*), max(more) FROM daughter"),
            refused("SELECT count(*) FROM mother *", UNREADABLE),
        ],
    ),
    (
        "views",
        &[
            same("SELECT count(*), max(age) FROM adults"),
            same("SELECT country, count(*) FROM adults a GROUP BY a.country"),
            same("SELECT id, sum(total) FROM sales GROUP BY id"),
            same("SELECT name, count(*) FROM sales GROUP BY name"),
            ordered("SELECT * FROM of_country ORDER BY code"),
            same("SELECT max(many) FROM of_country WHERE oldest > 20"),
            same("SELECT of_country.code, u.id FROM of_country JOIN users u ON u.age = of_country.oldest"),
            same("SELECT count(*) FROM twins"),
            same("SELECT a.id, t.other FROM adults a LEFT JOIN twins t USING (id)"),
            same("SELECT v.x, max(v.many) FROM of_country v (x) GROUP BY v.x"),
            same("SELECT max(age) FROM barrier WHERE name = 'name3'"),
            same("SELECT count(*) FROM adults WHERE country = 'DE' AND age > 20"),
            same("SELECT max(public.adults.age) FROM public.adults"),
            refused("SELECT v, count(*) FROM adults v GROUP BY v", "the whole row of view"),
            refused("SELECT to_jsonb(v) FROM of_country v", "the whole row of view"),
            refused("SELECT (v).code FROM of_country v", "the whole row of view"),
            same("WITH adults AS (SELECT 1 AS age) SELECT max(adults.age), max(p.age) FROM adults, public.adults p"),
            ordered("TABLE of_country ORDER BY 1"),
            same("SELECT count(*) FROM adults users JOIN users adults ON users.id = adults.age"),
            same("SELECT name, count(*), sum(score), max(two) FROM named GROUP BY name"),
            same(
                "SET search_path = other; SELECT name, count(*), sum(score), max(two) FROM public.named GROUP BY name; RESET search_path",
            ),
            same(
                "SET search_path = other, public; SELECT name, count(*), sum(score), max(two) FROM named GROUP BY name; RESET search_path",
            ),
            same(
                "SET search_path = other, public; SELECT max(age), count(*) FROM users; SELECT max(age) FROM adults; RESET search_path",
            ),
            same(
                "SET search_path = other; SELECT count(*), max(age) FROM public.adults a JOIN users u ON u.id = a.id; RESET search_path",
            ),
            same("SET search_path = pg_catalog; SELECT max(n), max(most) FROM public.counted; RESET search_path"),
            refused("SELECT count(*), max((row).age), max(json ->> 'name') FROM whole", "cannot be expanded"),
            refused("SELECT row, json FROM whole", "cannot be expanded"),
            same("SELECT max(n), max(most), count(*) FROM counted"),
        ],
    ),
];

/// Runs one line in one way; what is wrong with the outcome, in words.
pub(crate) fn wrong(rig: &mut Rig, way: Way, line: &Line) -> Result<Verdict, String> {
    let (sql, expect, values) = *line;
    let order = match expect {
        Ordered => Order::Total,
        Counted => Order::Count,
        _ => Order::Any,
    };
    let values: Vec<Value> = values
        .iter()
        .map(|(oid, text)| Value { oid: *oid, binary: false, bytes: Some(text.as_bytes().to_vec()) })
        .collect();
    let plain = rig.run(way.plain(), "public", sql, &values);
    let ours = rig.run(way, "public", sql, &values);
    let verdict = compare(&ours, &plain, rig.types(way.database.unwrap_or_default()), order);
    let is_right = match (&verdict, expect) {
        (Verdict::Same | Verdict::SameError(_), Refused(_)) => way.database == Some(0),
        (Verdict::Same | Verdict::SameError(_), _) => true,
        (Verdict::Refused(_), Refused(why)) => {
            way.database != Some(0) && ours.error.as_ref().is_some_and(|it| it.message.contains(why))
        }
        _ => false,
    };
    if is_right {
        return Ok(verdict);
    }
    let said = ours.error.as_ref().map(|it| format!("{it} ({}; {})", it.hint, it.detail)).unwrap_or_default();
    Err(format!("{sql}\n    {way:?}\n    {verdict:?} {said}"))
}

#[test]
fn what_merges_answer_wrong_is_answered_right() {
    let mut rig = Rig::start(&[]);
    let mut found: Vec<String> = Vec::new();
    let mut counts: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    let mut number = 0;
    // SHARDWAY_SPREAD_CASE picks those whose text has it.
    let picked = env::var("SHARDWAY_SPREAD_CASE").unwrap_or_default();
    for (name, lines) in CASES {
        let count = counts.entry(name).or_default();
        for line in lines.iter().filter(|it| name.contains(&picked) || it.0.contains(&picked)) {
            number += 1;
            let mut told = None;
            for database in 0..DATABASES.len() {
                let hows = [
                    (How::Simple, false),
                    (How::Unnamed, false),
                    (How::Unnamed, true),
                    (How::Named, false),
                    (How::Named, true),
                ];
                let is_batch = line.0.contains("; ");
                let rotating = hows[if is_batch { 0 } else { 1 + (number + database) % 4 }];
                let plainly = if line.2.is_empty() { hows[0] } else { hows[1] };
                // Two databases each way; picked ones every way.
                let ats = if picked.is_empty() {
                    (number + database) % 2..(number + database) % 2 + 1
                } else {
                    0..PROFILES.len() * 2
                };
                for at in ats {
                    let (how, binary) = [plainly, rotating][at % 2];
                    let way = Way {
                        database: Some(database),
                        how,
                        binary,
                        gather: (number + database / 2 + at / 2) % 2 == 0,
                        // What is set and reset would be another thing in each session.
                        profile: if at == 0 || is_batch { 0 } else { (number + database + at / 2) % PROFILES.len() },
                        in_transaction: !is_batch && at == 1 && number % 5 == 0,
                    };
                    match wrong(&mut rig, way, line) {
                        Ok(Verdict::Refused(_)) => count[1] += 1,
                        Ok(_) => count[0] += 1,
                        Err(text) => {
                            count[2] += 1;
                            told.get_or_insert(format!("{name}: {text}"));
                        }
                    }
                }
            }
            if let Some(told) = told {
                println!("WRONG {told}");
                found.push(told);
            }
        }
    }
    for (name, [alike, refused, wrong]) in &counts {
        println!("oracle: {alike:4} alike {refused:3} refused {wrong:3} WRONG in {name}");
    }
    dies(&mut rig);
    assert_eq!(found, Vec::<String>::new());
}

/// M20: a server that dies meanwhile makes an error of an answer, never a shorter one.
fn dies(rig: &mut Rig) {
    let database = DATABASES.len() - 1;
    let sql = "SELECT u.name, count(*), sum(o.no) FROM users u, orders o, users2 v GROUP BY u.name ORDER BY u.name";
    let right = rig.client(None).simple(sql).rows;
    assert!(!right.is_empty());
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let (mut client, right) = (rig.client(Some(database)), right.clone());
            thread::spawn(move || {
                let mut answered = 0;
                loop {
                    let answer = client.simple(sql);
                    if answer.error.is_some() {
                        return answered;
                    }
                    assert_eq!(answer.rows, right, "a part of an answer");
                    answered += 1;
                }
            })
        })
        .collect();
    // Past the first answers, so that it is within one that the server dies.
    let mut client = rig.client(Some(database));
    for _ in 0..3 {
        assert_eq!(client.simple(sql).rows, right);
    }
    rig.kill(DATABASES[database].1 - 1);
    let answered: usize = asking.into_iter().map(|it| it.join().expect("no answer is short")).sum();
    println!("oracle: {answered} answers before a server died, none of them short");
}
