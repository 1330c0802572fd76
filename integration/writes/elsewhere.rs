//! Writes whose rows come from elsewhere: INSERT … SELECT, UPDATE … FROM, DELETE … USING, MERGE.

use crate::cases::Is;
use crate::cases::Is::Alike;
use crate::cases::Is::Refused;
use crate::cases::Valued;
use crate::cases::run_all;
use crate::house::House;
use crate::house::WIDTHS;
use crate::proxy::Outcome;

const CASES: &[(Is, &str)] = &[
    (
        Alike,
        "INSERT INTO t (id, a, note, mood) VALUES (1, 11, 'one', 'sad'), (2, 12, 'two', 'glad'), (3, 13, NULL, NULL), (4, 14, 'f''o\"u\\r', 'calm'), (5, NULL, '', 'sad'), (6, 2, 'six', NULL), (7, 3, 'x', NULL)",
    ),
    (Alike, "INSERT INTO items (id, no, what, price) SELECT id, id % 3, note, id / 2.0 FROM t"),
    (Alike, "INSERT INTO refs (code, n, mood) VALUES ('a', 1, 'sad'), ('b', 2, NULL), ('c', 3, 'glad')"),
    (Alike, "INSERT INTO fruits VALUES ('fig', 1), ('apple', 2), ('b', 3), ('two', 12)"),
    (
        Alike,
        "INSERT INTO solo (n, id, v, d, f, tags, m, at) VALUES (1, 1, 'x', '2020-01-02', 0.1, '{a,b}', 'sad', '2001-02-03 04:05:06.5+00'), (2, 3, NULL, NULL, 1e300, '{}', NULL, NULL), (3, 5, 'it''s', 'infinity', '-Infinity', '{NULL,\"q r\"}', 'glad', '-infinity')",
    ),
    // Keys that are not where their rows come from.
    (Alike, "INSERT INTO items (id, no) SELECT a, 100 FROM t WHERE a IS NOT NULL"),
    (Alike, "INSERT INTO items (id, no) SELECT id + 1, 200 FROM t WHERE id < 7 RETURNING id, no, what, price"),
    (Alike, "INSERT INTO items (id, no) SELECT id, a + 300 FROM t ORDER BY id LIMIT 3"),
    (Alike, "INSERT INTO items (id, no) SELECT id, (random() * 0)::int + 400 FROM t"),
    (Alike, "INSERT INTO items (id, no) SELECT id, (SELECT count(*) FROM items) FROM t"),
    (Alike, "INSERT INTO items (id, no) SELECT a, 500 FROM t"),
    (Alike, "INSERT INTO items (id, no) SELECT count(*), 600 FROM t GROUP BY mood HAVING count(*) < 3"),
    (Alike, "INSERT INTO items (id, no, what) SELECT t.id, 700, u.note FROM t JOIN t u ON u.id = t.a"),
    (Alike, "INSERT INTO items (id, no) SELECT 99, 800 FROM t ORDER BY id LIMIT 1"),
    (
        Alike,
        "INSERT INTO items (id, no) SELECT id, 1 FROM t UNION ALL SELECT id, 2 FROM t WHERE id < 3 UNION ALL SELECT 88, 1",
    ),
    (Alike, "INSERT INTO items (id, no) SELECT id, row_number() OVER (ORDER BY id) + 900 FROM t"),
    (Alike, "INSERT INTO items (id, no) WITH w AS (SELECT max(id) AS m FROM t) SELECT m, 1000 FROM w"),
    (Alike, "INSERT INTO items SELECT a, 1100, 'new', 1.239 FROM t WHERE a BETWEEN 11 AND 13 RETURNING *"),
    (Alike, "INSERT INTO items (no, id) SELECT 1200, generate_series(1, 6) FROM t WHERE id = 1"),
    (Alike, "INSERT INTO items (no, id) SELECT n + 2000, id FROM solo"),
    (Alike, "INSERT INTO items (no, id) SELECT r.n + 1300, t.id + 20 FROM t, refs r WHERE r.n < 3"),
    (Alike, "INSERT INTO t (id, note) SELECT n + 5000, name FROM fruits"),
    (Alike, "INSERT INTO fruits (name, n) SELECT 'k' || id, a FROM t WHERE id < 5000"),
    (Alike, "INSERT INTO fruits SELECT note, a FROM t WHERE note = 'two'"),
    // A literal beside others is of their type.
    (
        Alike,
        "INSERT INTO t (id, note) SELECT id + 7000, NULL FROM t WHERE id < 9 UNION ALL SELECT id + 7100, a > 2 FROM t WHERE id < 9",
    ),
    // None.
    (Alike, "INSERT INTO items (id, no) SELECT a, 1 FROM t WHERE id < 0"),
    (Alike, "INSERT INTO items (id, no) SELECT a, 1 FROM t WHERE id < 0 RETURNING *"),
    (Alike, "INSERT INTO items (id, no) SELECT a, 1 FROM t WHERE id < 0 ON CONFLICT (id, no) DO UPDATE SET what = 'x'"),
    (Alike, "INSERT INTO fruits SELECT note, a FROM t WHERE note = 'none'"),
    (Alike, "INSERT INTO refs (code) SELECT note FROM t WHERE note = 'none'"),
    // Types: what the SELECT gives is assigned, literals are the column's own.
    (Alike, "INSERT INTO t (id, a, note, mood) SELECT id + 100, 7.5, 3, 'sad' FROM t WHERE id < 8"),
    (Alike, "INSERT INTO t (id, a, note, mood) SELECT id + 200, NULL, 'n', (NULL) AS m FROM t WHERE id < 4"),
    (Refused, "INSERT INTO t (id, note, mood) SELECT id + 300, mood, mood FROM t WHERE id < 8"),
    (Alike, "INSERT INTO t (id, note) SELECT n + 400, d FROM solo"),
    (Alike, "INSERT INTO t (id, note) SELECT n + 410, f FROM solo"),
    (Alike, "INSERT INTO t (id, note) SELECT n + 420, at::text || tags::text FROM solo"),
    (Alike, "INSERT INTO t (id, mood) SELECT id + 500, 'mad' FROM t WHERE id < 4"),
    (Alike, "INSERT INTO t (id, a) SELECT id + 500, note FROM t WHERE id < 4"),
    (Alike, "INSERT INTO t (id, mood) SELECT id + 500, note FROM t WHERE id < 4"),
    (Alike, "INSERT INTO t (id, nope) SELECT id + 500, note FROM t WHERE id < 4"),
    (Alike, "INSERT INTO t (id) SELECT id + 500, note FROM t WHERE id < 4"),
    (Alike, "INSERT INTO t (id, a) SELECT id + 500 FROM t WHERE id < 4"),
    (Alike, "INSERT INTO t (id, a) SELECT id + 500, nope FROM t WHERE id < 4"),
    (
        Alike,
        "INSERT INTO solo (n, d, f, tags, at, m) SELECT id + 10, '2021-03-04', '1.25', '{x,NULL}', 'infinity', 'calm' FROM t WHERE id < 4",
    ),
    (Alike, "INSERT INTO solo (n, id, v, tags) SELECT id + 20, id, note, ARRAY[note, mood::text] FROM t WHERE id < 8"),
    (Alike, "INSERT INTO solo (n, v) SELECT id + 30, 'longer than eight' FROM t WHERE id < 3"),
    (Alike, "INSERT INTO solo SELECT n + 40, id, v, d, f, tags, m, at, made FROM solo WHERE n < 4"),
    (
        Alike,
        "INSERT INTO \"Odd Ones\" (\"Key;\", note) SELECT id, note FROM t WHERE id IN (1, 4, 5) UNION SELECT 77, 'select (1) returning'",
    ),
    (
        Alike,
        "INSERT INTO \"Odd Ones\" AS x SELECT \"values\" + 1, \"Key;\" + 1000, /* SELECT 1 */ note FROM \"Odd Ones\" -- select\n RETURNING *",
    ),
    (Alike, "INSERT INTO loose (id, x) SELECT a, note FROM t WHERE a < 20 RETURNING id, n, x"),
    // Errors of some row, and nothing stays.
    (Alike, "INSERT INTO t (id, note) SELECT id + 600, CASE id WHEN 3 THEN 'bad' ELSE 'good' END FROM t WHERE id < 8"),
    (Alike, "INSERT INTO items (id, no, price) SELECT a, 1, 99999 FROM t WHERE a = 11"),
    (Alike, "INSERT INTO t (id) SELECT id - 1 FROM t WHERE id = 7"),
    (Alike, "INSERT INTO t (id) SELECT 1000 / (id - 3) FROM t WHERE id < 8"),
    // The same key twice.
    (Alike, "INSERT INTO t (id, a) SELECT 700, 1 FROM t ON CONFLICT (id) DO NOTHING"),
    (Alike, "INSERT INTO t (id, a) SELECT 701, 1 FROM t ON CONFLICT (id) DO UPDATE SET a = excluded.a"),
    (
        Alike,
        "INSERT INTO t (id, a) SELECT id + 1, 5 FROM t WHERE id < 7 ON CONFLICT (id) DO UPDATE SET a = t.a + excluded.a, note = 'up' RETURNING id, a, note",
    ),
    (
        Alike,
        "INSERT INTO t (id, a) SELECT id + 1, 5 FROM t WHERE id < 9 ON CONFLICT (id) DO UPDATE SET a = 0 WHERE t.id > 2",
    ),
    (Refused, "INSERT INTO t (id, a) SELECT a, 5 FROM t WHERE a < 20 ON CONFLICT (id) DO NOTHING RETURNING id"),
    // Copies of reference tables.
    (
        Alike,
        "INSERT INTO refs (code, n) SELECT note, min(id) FROM t WHERE id < 8 AND note IS NOT NULL GROUP BY note RETURNING code, n",
    ),
    (Alike, "INSERT INTO refs SELECT 'z' || n, n, at, m FROM solo WHERE n < 3"),
    (
        Alike,
        "INSERT INTO refs (code, n) SELECT note, 5 FROM t WHERE note IN ('one', 'two') ON CONFLICT (code) DO UPDATE SET n = 50",
    ),
    (Alike, "INSERT INTO refs2 SELECT DISTINCT ON (code) code, 70 + n FROM refs2 ORDER BY code, n"),
    (Alike, "INSERT INTO refs2 SELECT code, 1 FROM refs ON CONFLICT DO NOTHING"),
    (Alike, "INSERT INTO refs2 SELECT code, 50 FROM refs ORDER BY code LIMIT 1"),
    (Alike, "INSERT INTO refs (code, n) SELECT 'y' || id, 200 FROM t WHERE id = 1"),
    // Times and defaults.
    (Alike, "INSERT INTO logs (id, what) SELECT a, note FROM t WHERE a < 20"),
    (Alike, "INSERT INTO logs (id, what, made) SELECT a + 1000, 'w', now() FROM t WHERE a < 20"),
    (
        Refused,
        "INSERT INTO logs (id, what) SELECT id, 'now' FROM (SELECT id FROM t WHERE id < 4 ORDER BY id DESC LIMIT 2) s",
    ),
    (Alike, "INSERT INTO logs (id, day) SELECT a, CURRENT_DATE FROM t WHERE a < 20"),
    // In transactions: what they wrote is in sight.
    (
        Alike,
        "BEGIN; INSERT INTO t (id, a) VALUES (8001, 1), (8002, 2), (8003, 3); INSERT INTO items (id, no) SELECT a + 8100, 1 FROM t WHERE id > 8000 AND id < 8004; UPDATE items SET what = 'tx' WHERE id > 8100; COMMIT",
    ),
    (
        Alike,
        "BEGIN; SAVEPOINT s; INSERT INTO items (id, no) SELECT id + 8200, 1 FROM t WHERE id < 8; ROLLBACK TO s; INSERT INTO items (id, no) SELECT id + 8300, 1 FROM t WHERE id < 4; COMMIT",
    ),
    (
        Alike,
        "BEGIN; INSERT INTO items (id, no) SELECT id + 8400, 1 FROM t WHERE id < 8; INSERT INTO items (id, no) SELECT 8401 - id, 1 FROM t WHERE id < 1; SELECT 1 / 0; COMMIT",
    ),
    (
        Alike,
        "INSERT INTO items (id, no) SELECT id + 8500, 1 FROM t WHERE id < 4; INSERT INTO items (id, no) SELECT id + 8500, 1 FROM t WHERE id = 1",
    ),
    (Alike, "BEGIN READ ONLY; INSERT INTO items (id, no) SELECT a + 1, 1 FROM t WHERE id < 0; COMMIT"),
    (
        Alike,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO items (id, no) SELECT a + 8600, 1 FROM t WHERE id < 8 AND a > 0; SELECT count(*) FROM items; COMMIT",
    ),
    (Alike, "PREPARE p AS INSERT INTO items (id, no) SELECT id, 8700 FROM t WHERE id < 4; EXECUTE p; DEALLOCATE p"),
    // UPDATE and DELETE beside what is elsewhere.
    (Alike, "UPDATE t SET note = s.v FROM solo s WHERE s.id = t.id AND s.n < 4 RETURNING t.id, s.v, s.n"),
    (Alike, "UPDATE t SET a = f.n FROM fruits f WHERE f.name = t.note AND f.name <> 'k1'"),
    (Alike, "UPDATE t SET note = u.note || '+' FROM t u WHERE u.id = t.a AND t.id < 8"),
    (Alike, "UPDATE t SET a = (SELECT count(*) FROM items i WHERE i.no = t.id % 3) WHERE id < 8"),
    (Alike, "UPDATE t SET a = a + 1 WHERE note IN (SELECT name FROM fruits)"),
    (Alike, "UPDATE t SET a = a + 1 WHERE NOT EXISTS (SELECT FROM items i WHERE i.no = t.a)"),
    (Alike, "UPDATE t SET a = 1 / (s.n - 2) FROM solo s WHERE s.id = t.id"),
    (Alike, "UPDATE t SET note = 'bad' FROM solo s WHERE s.id = t.id"),
    (Alike, "UPDATE t SET note = s.v FROM solo s WHERE s.id = t.id AND t.id = 3 AND s.n = 3"),
    (Alike, "UPDATE logs SET what = s.v, made = now() FROM solo s WHERE s.id = logs.id AND s.n < 4"),
    (
        Alike,
        "UPDATE items SET what = coalesce(t.note, s.v) FROM t, solo s WHERE t.id = items.id AND s.n = items.no RETURNING items.id, items.no, what",
    ),
    (
        Alike,
        "UPDATE items SET what = x.d FROM (SELECT n, max(d)::text AS d, id FROM solo GROUP BY id) x WHERE x.id = items.no",
    ),
    (Alike, "UPDATE items SET price = v.p FROM (VALUES (1, 2.5), (2, 3.5)) v (no, p) WHERE v.no = items.no"),
    (Alike, "UPDATE fruits SET n = t.a FROM t WHERE t.id = fruits.n AND t.a >= 0"),
    (Alike, "DELETE FROM items USING solo s WHERE s.n = items.no AND items.id > 8000"),
    (Alike, "DELETE FROM items USING fruits f, t WHERE f.name = t.note AND t.id = items.no RETURNING items.id, f.name"),
    (Alike, "DELETE FROM t WHERE note IN (SELECT v FROM solo) AND id > 100"),
    (
        Alike,
        "BEGIN; INSERT INTO solo (n, id) VALUES (900, 2); UPDATE t SET note = 'seen' FROM solo s WHERE s.id = t.id AND s.n = 900; COMMIT",
    ),
    (Refused, "UPDATE t SET note = s.v FROM (SELECT v FROM solo LIMIT 1) s"),
    (Refused, "UPDATE t SET a = (random() * 10)::int FROM solo s WHERE s.id = t.id"),
    (Refused, "UPDATE t SET note = s.v FROM solo s WHERE s.id = t.id AND s.ctid IS NOT NULL"),
    (Refused, "WITH w AS (DELETE FROM items RETURNING *) INSERT INTO loose (id, x) SELECT no, what FROM w"),
    // MERGE.
    (Alike, "MERGE INTO items i USING t ON t.id = i.id WHEN MATCHED THEN UPDATE SET what = t.note"),
    (
        Alike,
        "MERGE INTO t USING items i ON t.id = i.id AND i.no = 100 WHEN MATCHED AND t.a > 5 THEN DELETE WHEN MATCHED THEN UPDATE SET a = i.no WHEN NOT MATCHED AND i.no = 100 THEN INSERT (id, a, note) VALUES (i.id, i.no, i.what)",
    ),
    (
        Alike,
        "MERGE INTO loose l USING (SELECT id, note FROM t WHERE a IS NOT NULL) s ON s.id = l.id WHEN NOT MATCHED THEN INSERT (id, x) VALUES (s.id, s.note) WHEN MATCHED THEN DO NOTHING",
    ),
    (
        Alike,
        "MERGE INTO loose l USING (SELECT id, note FROM t) s ON s.id = l.id AND l.id = 2 WHEN NOT MATCHED AND s.note IS NOT NULL THEN INSERT (x, id) VALUES (s.note || '!', s.id)",
    ),
    (
        Alike,
        "MERGE INTO t USING (VALUES (1, 'm')) v (id, n) ON t.id = v.id WHEN MATCHED THEN UPDATE SET note = v.n WHEN NOT MATCHED THEN INSERT (id, note) VALUES (v.id, v.n)",
    ),
    (
        Alike,
        "MERGE INTO t USING (VALUES (9001, 'm')) v (id, n) ON t.id = v.id WHEN MATCHED THEN UPDATE SET note = v.n WHEN NOT MATCHED THEN INSERT (id, note) VALUES (v.id, v.n)",
    ),
    (
        Alike,
        "MERGE INTO t USING (SELECT 9002 AS id, 'n' AS n) v ON v.id = t.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (note, id) VALUES (v.n, v.id)",
    ),
    (Alike, "MERGE INTO t USING (SELECT 9002 AS id) v ON v.id = t.id WHEN MATCHED THEN DELETE"),
    (
        Alike,
        "MERGE INTO fruits f USING (SELECT 'kiwi' AS name, 4 AS n) v ON v.name = f.name WHEN MATCHED THEN UPDATE SET n = v.n WHEN NOT MATCHED THEN INSERT (name, n) VALUES (v.name, v.n)",
    ),
    (Alike, "MERGE INTO t USING refs r ON r.n = t.id WHEN MATCHED THEN UPDATE SET note = r.code, mood = r.mood"),
    (
        Alike,
        "MERGE INTO t USING solo s ON s.id = t.id WHEN MATCHED THEN UPDATE SET note = s.v WHEN NOT MATCHED THEN DO NOTHING",
    ),
    (
        Alike,
        "MERGE INTO t USING solo s ON s.id = t.id AND s.n < 3 WHEN MATCHED AND s.n = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET a = s.n",
    ),
    (Alike, "MERGE INTO t USING (SELECT 1 AS one FROM t) s ON true WHEN MATCHED THEN UPDATE SET note = 'twice'"),
    (Alike, "MERGE INTO items i USING items s ON s.id = i.id WHEN MATCHED THEN UPDATE SET what = 'y'"),
    (Alike, "MERGE INTO items i USING t ON t.id = i.id WHEN MATCHED THEN UPDATE SET price = 99999"),
    (Alike, "MERGE INTO logs l USING t ON t.id = l.id WHEN MATCHED THEN UPDATE SET made = now(), what = 'm'"),
    (Refused, "MERGE INTO t USING refs r ON r.n = t.id WHEN NOT MATCHED THEN INSERT (id, note) VALUES (r.n, r.code)"),
    (Refused, "MERGE INTO t USING solo s ON s.id = t.id WHEN NOT MATCHED THEN INSERT (id, note) VALUES (s.id, s.v)"),
    (Refused, "MERGE INTO items i USING t ON t.id = i.id WHEN NOT MATCHED THEN INSERT (id, no) VALUES (t.a, 1)"),
    (Refused, "MERGE INTO items i USING t ON t.id = i.id WHEN NOT MATCHED THEN INSERT (id, no) VALUES (t.id + 1, 1)"),
    (Refused, "MERGE INTO items i USING t ON t.a = i.no WHEN NOT MATCHED THEN INSERT (id, no) VALUES (t.id, 1)"),
    (Refused, "MERGE INTO logs l USING t ON t.id = l.id WHEN NOT MATCHED THEN INSERT (id) VALUES (t.id)"),
    (Refused, "MERGE INTO refs r USING t ON t.note = r.code WHEN MATCHED THEN UPDATE SET n = 1"),
];

const WITH_VALUES: &[Valued] = &[
    (
        Alike,
        "INSERT INTO items (id, no, what) SELECT a, $1, $2 FROM t WHERE a > $3",
        &[(23, Some("7100")), (0, Some("v")), (20, Some("0"))],
    ),
    (
        Alike,
        "INSERT INTO t (id, note, mood) SELECT id + $1, $2, $3 FROM t WHERE id < $4 RETURNING id, note, mood",
        &[(20, Some("7200")), (0, Some("p")), (0, Some("glad")), (0, Some("8"))],
    ),
    (
        Alike,
        "INSERT INTO items (id, no) SELECT id, $1 FROM t ORDER BY id LIMIT $2 ON CONFLICT (id, no) DO UPDATE SET what = $3 RETURNING what || $3",
        &[(23, Some("100")), (20, Some("3")), (25, Some("again"))],
    ),
    (Alike, "INSERT INTO items (id, no) SELECT a, $1 FROM t WHERE id < $2", &[(23, Some("1")), (20, Some("-5"))]),
    (Alike, "INSERT INTO solo (n, d) SELECT id + 7300, $1 FROM t WHERE id < 4", &[(0, Some("2022-02-02"))]),
    (Alike, "INSERT INTO solo (n, d) SELECT id + 7400, $1 FROM t WHERE id < 4", &[(0, Some("soon"))]),
    (
        Alike,
        "UPDATE t SET note = s.v || $1 FROM solo s WHERE s.id = t.id AND s.n > 20 AND s.n < $2 RETURNING t.id, note, $1",
        // Above 40 there are rows with the same ids: which of two is taken would be up to the server's plan.
        &[(25, Some("+")), (23, Some("40"))],
    ),
    (Alike, "DELETE FROM items USING solo s WHERE s.n = items.no AND items.id > $1", &[(20, Some("2"))]),
    (
        Alike,
        "MERGE INTO t USING (VALUES ($1::bigint, $2::text)) v (id, n) ON t.id = v.id WHEN MATCHED THEN UPDATE SET note = v.n WHEN NOT MATCHED THEN INSERT (id, note) VALUES (v.id, v.n)",
        &[(0, Some("9100")), (0, Some("bound"))],
    ),
    (
        Alike,
        "MERGE INTO loose l USING (SELECT id FROM t WHERE a > $1) s ON s.id = l.id WHEN NOT MATCHED THEN INSERT (id, x) VALUES (s.id, $2)",
        &[(23, Some("0")), (25, Some("bound"))],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_rows_from_elsewhere_do_what_they_do_on_one_server() -> Outcome {
    let house = House::build().await?;
    run_all(&house, CASES, WITH_VALUES)?;
    house.copies_are_alike().await?;
    house.nothing_is_prepared().await
}

/// More than is said in one breath: many rows, long ones, rows with NULLs.
#[tokio::test(flavor = "multi_thread")]
async fn many_rows_are_carried_or_refused_by_name() -> Outcome {
    let house = House::build().await?;
    for width in WIDTHS {
        let mut pair = house.pair(width)?;
        pair.empty();
        for sql in [
            "INSERT INTO solo (n, id, v, tags) SELECT g, g, CASE WHEN g % 7 > 0 THEN 'v' || g % 100 END, ARRAY['x', NULL] FROM generate_series(1, 20000) g",
            "INSERT INTO t (id, a, note) SELECT id + 1, n, v FROM solo",
            "INSERT INTO items (id, no, what) SELECT a, id, note FROM t",
            "INSERT INTO items (id, no) SELECT id, -no FROM items ORDER BY no",
            "DELETE FROM t USING solo s WHERE s.id = t.a AND s.v = 'v9'",
        ] {
            let (ours, plain) = (pair.ours.simple(sql), pair.plain.simple(sql));
            let state = |it: &crate::bytes::Answer| it.error.as_ref().map(|it| it.sqlstate.clone());
            assert_eq!((&ours.tags, state(&ours)), (&plain.tags, state(&plain)), "{sql} on {width} shards: {ours:?}");
        }
        assert_eq!(pair.difference(), None, "{width} shards");
        let sql = "INSERT INTO t (id, note) SELECT -id, repeat('x', 5000) FROM items";
        let ours = pair.ours.simple(sql);
        if width > 1 {
            assert_eq!(ours.error.map(|it| it.sqlstate).as_deref(), Some("54000"));
            assert_eq!(pair.ours.simple("SELECT count(*) FROM t WHERE id < 0").rows, [[Some(b"0".to_vec())]]);
        }
        pair.empty();
    }
    house.nothing_is_prepared().await
}
