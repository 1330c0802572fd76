//! UPDATE of the shard key: rows move to other shards, and nobody can tell.

use crate::cases::Is;
use crate::cases::Is::Alike;
use crate::cases::Is::Refused;
use crate::cases::Valued;
use crate::cases::run_all;
use crate::house::House;
use crate::house::WIDTHS;
use crate::house::told;
use crate::proxy::Outcome;

const CASES: &[(Is, &str)] = &[
    (
        Alike,
        "INSERT INTO goods (id, a, note, mood, at, price, tags, f, raw, code, doc, span) VALUES
         (1, 1, 'a', 'sad', '2020-01-01 10:20:30.123456+02', 1.5, '{x,\"y z\",NULL}', 0.1, '\\x00ff', 'k', '{\"a\": [1, \"\\\"\"]}', '1 day 02:03'),
         (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
         (3, 3, 'c\"\\,()', 'glad', '-infinity', -0.01, '{}', 1e-300, '', 'ab', 'null', '-1 mon'),
         (4, 4, '', 'calm', '1900-01-01', 9999.99, '{{1},{2}}', 'NaN', E'\\\\x5c22', 'abc', '1.10', '0'),
         (5, 5, 'ö ', NULL, NULL, 0, NULL, 123456789.123456789, NULL, NULL, NULL, NULL),
         (6, 6, 'NULL', NULL, NULL, NULL, '{NULL,\"NULL\"}', '-0', NULL, NULL, NULL, NULL)",
    ),
    // Each to one key.
    (Alike, "UPDATE goods SET id = 101 WHERE id = 1"),
    (Alike, "UPDATE goods SET id = 1 WHERE id = 101 RETURNING *"),
    (Alike, "UPDATE goods SET id = 102 WHERE id = 2 RETURNING goods.id, twice, id::text || note"),
    (
        Alike,
        "UPDATE public.goods AS g SET id = 103, a = g.a + 1, note = upper(note) WHERE g.id = 3 RETURNING g.*, g.id + 1 AS next",
    ),
    (Alike, "UPDATE goods g SET id = 3, a = twice WHERE id IN (103) RETURNING g.*"),
    (Alike, "update only goods * as \"where\" Set id = 2 Where \"where\".id = 102 Returning \"where\".\"id\" as returning"),
    (Alike, "UPDATE goods /* SET id = 5 */ SET id = 104 -- WHERE id = 5\n WHERE id = 4 /* RETURNING a */"),
    (Alike, "UPDATE goods SET id = 4 WHERE id = 104 OR note = 'x' AND id = 9"),
    (Alike, "UPDATE goods SET id = 77 WHERE id = 999999 RETURNING id"),
    (Alike, "UPDATE goods SET id = 77 WHERE false"),
    (Alike, "UPDATE goods SET id = 5, a = 55 WHERE id = 5"),
    (Alike, "UPDATE goods SET id = 5, a = 5 WHERE a = 55"),
    (Alike, "UPDATE goods SET id = '105' WHERE id = 5"),
    (Alike, "UPDATE goods SET id = 4.6 WHERE id = 105 RETURNING id"),
    (Alike, "UPDATE goods SET id = abs(-3) + 100 WHERE id = 3 RETURNING id, a, note, mood, at, price, tags, f"),
    (Alike, "UPDATE goods SET id = CASE WHEN a > 0 THEN 3 ELSE 8 END WHERE id = 103 RETURNING f, raw, code, doc, span"),
    // Many at once, some of which stay where they are.
    (Alike, "UPDATE goods SET id = id + 1000"),
    (Alike, "UPDATE goods SET id = id - 1000, a = a + 1 WHERE id > 1000 RETURNING id, a, twice"),
    (Alike, "UPDATE goods SET (id, a) = (id + 2000, -a), note = DEFAULT, twice = DEFAULT WHERE id < 4 RETURNING *"),
    (Alike, "UPDATE goods SET (note, id) = ROW ('r', id - 2000) WHERE id > 2000 RETURNING id, note"),
    (Alike, "UPDATE goods SET id = id"),
    (Alike, "UPDATE goods SET id = CASE WHEN id = 2 THEN 502 ELSE id END, mood = 'glad', tags = '{n}', price = 2.345"),
    (Alike, "UPDATE goods SET id = 2, code = 'q', raw = '\\x01', at = '2021-02-03 04:05:06.7899+00', doc = '[]' WHERE id = 502"),
    (Alike, "UPDATE goods SET id = id + 3000, at = date_trunc('century', now()), doc = to_jsonb(now() > at) RETURNING *, now() > at"),
    (Alike, "UPDATE goods SET id = id - 3000, at = NULL, doc = NULL, a = id IS DISTINCT FROM 3002::bigint WHERE id > 3000"),
    (
        Alike,
        "UPDATE goods SET id = id - 3000, at = NULL, doc = NULL, a = CASE WHEN id IS DISTINCT FROM 3002 THEN a END WHERE id > 3000",
    ),
    (Alike, "SELECT * FROM goods WHERE id IN (1, 2, 3, 4, 5, 6)"),
    // Errors, after which nothing has changed.
    (Alike, "UPDATE goods SET id = id + 1000, note = 'longer than eight'"),
    (Alike, "UPDATE goods SET id = 600, note = 'longer than eight' WHERE id = 2"),
    (Alike, "UPDATE goods SET id = 600, note = 'blanks          ' WHERE id = 2 RETURNING length(note)"),
    (Alike, "UPDATE goods SET id = 2 WHERE id = 600"),
    (Alike, "UPDATE goods SET id = 600, note = 'bad' WHERE id = 2"),
    (Alike, "UPDATE goods SET id = id + 1000, note = 'bad' WHERE id < 7"),
    (Alike, "UPDATE goods SET id = NULL WHERE id = 2"),
    (Alike, "UPDATE goods SET id = NULL"),
    (Alike, "UPDATE goods SET id = nullif(id + 700, 703)"),
    (Alike, "UPDATE goods SET id = nullif(id, 2) WHERE id = 2"),
    (Alike, "UPDATE goods SET id = 5 WHERE id = 3"),
    (Alike, "UPDATE goods SET id = 5 WHERE id IN (1, 2, 3)"),
    (Alike, "UPDATE goods SET id = 600"),
    (Alike, "UPDATE goods SET id = id + 1000, price = 99999"),
    (Alike, "UPDATE goods SET id = id * 1000 / (id - 3)"),
    (Alike, "UPDATE goods SET id = 601 WHERE id / (id - id) = 1"),
    (Alike, "UPDATE goods SET id = 601 WHERE id = 3 RETURNING 1 / (id - 601)"),
    (Alike, "UPDATE goods SET id = 'x' WHERE id = 3"),
    (Alike, "UPDATE goods SET id = 99999999999999999999 WHERE id = 3"),
    (Alike, "UPDATE goods SET id = id + 9223372036854775807"),
    (Alike, "UPDATE goods SET id = 602, a = 'x' WHERE id = 3"),
    (Alike, "UPDATE goods SET id = 602, a = note WHERE id = 3"),
    (Alike, "UPDATE goods SET id = 602, mood = 'mad' WHERE id = 3"),
    (Alike, "UPDATE goods SET id = 602, twice = 3 WHERE id = 3"),
    (Alike, "UPDATE goods SET id = 602, id = 603 WHERE id = 3"),
    (Alike, "UPDATE goods SET id = 602, nope = 3 WHERE id = 3"),
    (Alike, "UPDATE goods SET id = 602 WHERE nope = 3"),
    (Alike, "UPDATE goods SET id = 602 WHERE id = 3 RETURNING nope"),
    (Alike, "UPDATE goods SET id = true WHERE id = 3"),
    (Alike, "UPDATE nowhere_at_all SET id = 602 WHERE id = 3"),
    // Whatever else a table has.
    (Alike, "INSERT INTO t (id, a) VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)"),
    (Alike, "INSERT INTO kin VALUES (1, 1), (1, 2), (2, 1), (3, 1)"),
    (Alike, "UPDATE kin SET id = 4 WHERE id = 1 RETURNING *"),
    (Alike, "UPDATE kin SET id = 700 WHERE id = 4"),
    (Alike, "UPDATE kin SET id = id + 3, n = n + 100 WHERE id < 4 RETURNING n, id"),
    (Alike, "UPDATE kin SET id = id + 3 WHERE id = 5"),
    (Alike, "UPDATE later SET id = 2 WHERE id = 1; INSERT INTO later VALUES (1, 1), (2, 2)"),
    (Alike, "BEGIN; UPDATE later SET id = 800 WHERE id = 1; UPDATE later SET id = 5 WHERE id = 800; COMMIT"),
    (Alike, "UPDATE later SET id = 801 WHERE id = 2"),
    (Alike, "UPDATE later SET id = id + 2"),
    (Alike, "INSERT INTO items (id, no, what, price) VALUES (1, 1, 'a', 1), (1, 2, 'b', 2), (2, 1, 'c', 3), (3, 1, 'd', 4)"),
    (Alike, "UPDATE items SET id = 9 WHERE id = 1 RETURNING no, id"),
    (Alike, "UPDATE items SET id = 9, no = no + 5 WHERE id IN (2, 3)"),
    (Alike, "UPDATE items SET id = 9, no = id + 10 WHERE id IN (2, 3) RETURNING *"),
    (Alike, "UPDATE items SET id = id + no, price = price + 0.005"),
    (Alike, "INSERT INTO loose (id, x) VALUES (1, 'a'), (1, 'b'), (2, 'c'), (3, 'd'), (4, 'e')"),
    (Alike, "UPDATE loose SET id = id + 1 RETURNING *"),
    (Alike, "UPDATE loose SET id = 5 - id, x = x || n"),
    (Alike, "INSERT INTO fruits VALUES ('apple', 1), ('Birne', 2), ('päron', 3), ('', 4), ('a''b', 5), (E'x\\ny', 6)"),
    (Alike, "UPDATE fruits SET name = name || '~' RETURNING name, n"),
    (Alike, "UPDATE fruits SET name = upper(name) WHERE n < 4"),
    (Alike, "UPDATE fruits SET name = 'x\\\\\"y' WHERE n = 5 RETURNING *"),
    (Alike, "INSERT INTO ident (id, n) VALUES (1, 10), (2, 20), (3, 30)"),
    (Alike, "UPDATE ident SET id = id + 50, n = n + 1 RETURNING *"),
    (Alike, "UPDATE ident SET id = CASE id WHEN 51 THEN 52 WHEN 52 THEN 51 ELSE id END, n = 7"),
    (Alike, "INSERT INTO logs (id, made, what) VALUES (1, '2020-01-01', 'a'), (2, NULL, 'b'), (3, now(), 'c')"),
    (Alike, "UPDATE logs SET id = id + 500, what = 'moved' WHERE day = CURRENT_DATE RETURNING id, day = CURRENT_DATE"),
    (Alike, "INSERT INTO \"Odd Ones\" VALUES (1, 5, 'a'), (2, 6, 'b'), (3, 7, '')"),
    (Alike, "UPDATE \"Odd Ones\" AS \"set\" SET \"Key;\" = \"Key;\" * 100, \"values\" = 0 RETURNING \"set\".\"Key;\""),
    (
        Alike,
        "INSERT INTO boxes VALUES (1, '(1,\"a,b\")', ARRAY['(2,)'::size, NULL, '(,\"\\\\\"\"\")']), (2, NULL, '{}'), (3, '(,)', NULL), (4, ROW(NULL, ''), '{NULL}')",
    ),
    (Alike, "UPDATE boxes SET id = id + 70 RETURNING id, size::text, sizes::text"),
    (Alike, "UPDATE boxes SET id = 9 WHERE id = 71 RETURNING id, (size).h"),
    (Alike, "DELETE FROM slots"),
    (Alike, "INSERT INTO slots VALUES (1, '[1,5)'), (2, '[5,9)'), (3, '[20,30)')"),
    (Alike, "UPDATE slots SET id = 60, during = '[40,50)' WHERE id = 1 RETURNING *"),
    (Alike, "UPDATE slots SET id = 1 WHERE id = 60"),
    (Refused, "UPDATE slots SET id = id + 10, during = '[1,2)' WHERE id < 3"),
    // A key that may be NULL.
    (Alike, "INSERT INTO bare VALUES (1, 1), (2, 2), (3, 3)"),
    (Alike, "UPDATE bare SET id = n + 7"),
    // In a transaction.
    (Alike, "BEGIN; UPDATE goods SET id = 901 WHERE id = 1; SELECT id, a FROM goods WHERE id IN (1, 901); ROLLBACK"),
    (
        Alike,
        "BEGIN; UPDATE goods SET id = id + 1000; SAVEPOINT s; UPDATE goods SET id = id + 5000; ROLLBACK TO s; UPDATE goods SET a = 70 WHERE id > 1000; COMMIT",
    ),
    (
        Alike,
        "BEGIN; SAVEPOINT s; UPDATE goods SET id = id - 1000, note = 'bad'; ROLLBACK TO s; UPDATE goods SET id = id - 1000 RETURNING id; COMMIT",
    ),
    (Alike, "BEGIN; UPDATE goods SET id = id + 100; UPDATE goods SET id = 103 WHERE id = 102; COMMIT"),
    (Alike, "UPDATE goods SET id = id + 100; UPDATE goods SET id = id - 100 RETURNING id, note"),
    (Alike, "UPDATE goods SET id = id + 100; SELECT count(*) FROM goods; SELECT 1 / 0"),
    (Alike, "BEGIN; UPDATE goods SET id = 910 WHERE id = 4; DELETE FROM goods WHERE id = 910; INSERT INTO goods (id) VALUES (4), (910); COMMIT"),
    (
        Alike,
        "PREPARE p (bigint, text) AS UPDATE goods SET id = id + $1, note = $2 WHERE id < $1 RETURNING id, note, $2; EXECUTE p (950, 'y'); EXECUTE p (5, 'z'); DEALLOCATE p",
    ),
    (Alike, "UPDATE goods SET id = id - 950 WHERE id BETWEEN 950 AND 1500"),
    (Alike, "BEGIN ISOLATION LEVEL REPEATABLE READ; UPDATE goods SET id = id + 100 RETURNING id; COMMIT"),
    (Alike, "BEGIN READ ONLY; UPDATE goods SET id = 911 WHERE id = 2; ROLLBACK"),
    // Values come over exactly, or do not.
    (Refused, "BEGIN; SET LOCAL extra_float_digits = 0; UPDATE goods SET id = id + 100; COMMIT"),
    (Refused, "BEGIN; SET LOCAL DateStyle = 'German'; UPDATE goods SET id = id + 100; COMMIT"),
    (Refused, "BEGIN; SET LOCAL array_nulls = off; UPDATE goods SET id = id + 100; COMMIT"),
    (Alike, "BEGIN; SET LOCAL DateStyle = 'ISO, DMY'; SET LOCAL TimeZone = 'America/Caracas'; SET LOCAL bytea_output = escape; UPDATE goods SET id = id + 9000 RETURNING at, raw; ROLLBACK"),
    (
        Alike,
        "BEGIN; SET LOCAL TimeZone = 'America/Caracas'; SET LOCAL bytea_output = escape; SET LOCAL IntervalStyle = iso_8601; UPDATE goods SET id = id + 9000; COMMIT",
    ),
    // What one server does in the order in which rows lie, and what is not done by moving.
    (Refused, "UPDATE goods SET id = id + 1"),
    (Refused, "UPDATE t SET id = id + 1000"),
    (Refused, "UPDATE boxes SET id = id + 1, size = ROW(1, 'x')"),
    (Refused, "UPDATE goods SET id = id + 1, tags[1] = 'x'"),
    (Refused, "UPDATE boxes SET id = id + 1, size.w = 1"),
    (Refused, "UPDATE goods SET (id, a) = (SELECT 1, 2)"),
    (Refused, "UPDATE goods SET id = t.id FROM t WHERE t.a = goods.a"),
    (Refused, "UPDATE goods SET id = id + 1 WHERE a IN (SELECT a FROM t)"),
    (Refused, "UPDATE goods SET id = id + 1 WHERE id < 5 RETURNING (SELECT count(*) FROM t)"),
    (Refused, "UPDATE goods SET id = (random() * 100)::bigint"),
    (Refused, "UPDATE goods SET id = id + 1 RETURNING ctid"),
    (Refused, "WITH u AS (UPDATE goods SET id = id + 1 RETURNING id) SELECT * FROM u"),
    (Refused, "EXPLAIN UPDATE goods SET id = id + 1"),
    (Refused, "UPDATE logs SET id = id + 1, made = DEFAULT"),
    (Refused, "UPDATE logs SET id = id + 1, made = 'now'"),
    (Refused, "INSERT INTO goods (id) VALUES (1), (2), (3), (4) ON CONFLICT (id) DO UPDATE SET id = 7"),
    (Refused, "MERGE INTO goods g USING (VALUES (1)) v(n) ON g.id = v.n WHEN MATCHED THEN UPDATE SET id = 7"),
];

const WITH_VALUES: &[Valued] = &[
    (
        Alike,
        "INSERT INTO goods (id, a, note) VALUES ($1, 1, 'a'), ($2, 2, 'b'), ($3, 3, 'c')",
        &[(20, Some("20001")), (20, Some("20002")), (20, Some("20003"))],
    ),
    (Alike, "UPDATE goods SET id = $1 WHERE id = $2", &[(20, Some("20101")), (20, Some("20001"))]),
    (Alike, "UPDATE goods SET id = $1 WHERE id = $2 RETURNING *", &[(0, Some("20001")), (0, Some("20101"))]),
    (
        Alike,
        "UPDATE goods SET id = $1, a = $2 WHERE id = $3",
        &[(0, Some("20002")), (0, Some("9")), (0, Some("20002"))],
    ),
    (Alike, "UPDATE goods SET id = $1, a = $2 WHERE id = $1", &[(0, Some("20002")), (0, Some("2"))]),
    (
        Alike,
        "UPDATE goods g SET id = id + $1, note = $2, mood = $5 WHERE id > $3 RETURNING id + $4, mood, note || $2",
        &[(20, Some("1000")), (0, Some("z")), (0, Some("20000")), (20, Some("5")), (0, Some("glad"))],
    ),
    (
        Alike,
        "UPDATE goods SET (a, id) = ($1, id - $2) WHERE id > $2 + 20000 AND note = $3 RETURNING $1 + 1, $4::text",
        &[(23, Some("77")), (20, Some("1000")), (0, Some("z")), (25, None)],
    ),
    (Alike, "UPDATE goods SET id = $1 WHERE id > $2", &[(0, None), (0, Some("20000"))]),
    (Alike, "UPDATE goods SET id = $1 WHERE id = $2", &[(0, Some("x")), (0, Some("20001"))]),
    (Alike, "UPDATE goods SET id = $1 WHERE id = $2", &[(0, Some("20002")), (0, Some("20001"))]),
    (
        Alike,
        "UPDATE goods SET id = $1, note = $2 WHERE id = $3",
        &[(0, Some("20500")), (0, Some("bad")), (0, Some("20001"))],
    ),
    (
        Alike,
        "UPDATE goods SET id = $1, tags = $2, at = date_trunc('century', now()) WHERE id = $3 RETURNING id, at, tags, f",
        &[(0, Some("20500")), (0, Some("{a,b}")), (0, Some("20001"))],
    ),
    (Alike, "UPDATE goods SET id = $1::int WHERE id = $2", &[(0, Some("20001")), (0, Some("20500"))]),
    (Alike, "UPDATE fruits SET name = $1 WHERE name = $2 RETURNING n", &[(0, Some("grün")), (0, Some("Birne"))]),
    (Alike, "UPDATE fruits SET name = $1 || name", &[(25, Some("~"))]),
];

#[tokio::test(flavor = "multi_thread")]
async fn rows_move_with_their_keys_as_on_one_server() -> Outcome {
    let house = House::build().await?;
    run_all(&house, CASES, WITH_VALUES)?;
    for width in WIDTHS.into_iter().filter(|it| *it > 1) {
        let mut pair = house.pair(width)?;
        pair.empty();
        for client in [&mut pair.ours, &mut pair.plain] {
            assert_eq!(client.simple("INSERT INTO bare VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)").error, None);
        }
        // A row without a key belongs to no shard.
        for sql in [
            "UPDATE bare SET id = NULL",
            "UPDATE bare SET id = NULL WHERE id = 2",
            "UPDATE bare SET id = nullif(id, 4)",
        ] {
            let answer = pair.ours.simple(sql);
            assert_eq!(answer.error.map(|it| it.sqlstate).as_deref(), Some("22004"), "{sql} on {width} shards");
            assert_eq!(pair.difference(), None, "{sql} on {width} shards");
        }
    }
    house.nothing_is_prepared().await
}

/// Who may not UPDATE moves nothing, though a move is a DELETE and an INSERT.
#[tokio::test(flavor = "multi_thread")]
async fn rights_are_those_to_update() -> Outcome {
    let house = House::build().await?;
    house.role("clerk").await?;
    for width in WIDTHS.into_iter().filter(|it| *it > 1) {
        let mut pair = house.pair(width)?;
        let mut same = |sql: &str| {
            let (ours, theirs) = (pair.ours.simple(sql), pair.plain.simple(sql));
            assert_eq!(told(&ours, false), told(&theirs, false), "{sql} on {width} shards");
        };
        same("INSERT INTO bare VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)");
        for grants in [
            "GRANT SELECT, INSERT, DELETE ON bare TO clerk",
            "GRANT UPDATE (n) ON bare TO clerk",
            "GRANT UPDATE (id) ON bare TO clerk",
        ] {
            same(grants);
            for sql in [
                "UPDATE bare SET id = id + 7",
                "UPDATE bare SET id = 7 WHERE id = 1",
                "UPDATE bare SET id = 7 WHERE id = 70",
                "UPDATE bare SET id = 7, n = n + 1 WHERE id = 2 RETURNING *",
            ] {
                same(&format!("BEGIN; SET LOCAL ROLE clerk; {sql}; ROLLBACK"));
                same("ROLLBACK");
            }
        }
    }
    house.nothing_is_prepared().await
}

/// Rows are found by their keys wherever they have come to, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_where_their_keys_say() -> Outcome {
    let house = House::build().await?;
    for width in WIDTHS {
        let mut client = house.pair(width)?.ours;
        let rows: Vec<String> = (1..=30).map(|it| format!("({it})")).collect();
        assert_eq!(client.simple(&format!("INSERT INTO boxes (id) VALUES {}", rows.join(", "))).error, None);
        for (set, back) in [("id + 700", "id - 700"), ("-id", "abs(id)"), ("id * 1000003", "id / 1000003")] {
            for sql in [format!("UPDATE boxes SET id = {set}"), format!("UPDATE boxes SET id = {back} WHERE id <> 0")] {
                assert_eq!(client.simple(&sql).tags, ["UPDATE 30"], "{sql}");
                for row in client.simple("SELECT id FROM boxes").rows {
                    let id = String::from_utf8(row[0].clone().ok_or("a key")?)?;
                    let found = client.simple(&format!("SELECT count(*) FROM boxes WHERE id = {id}")).rows;
                    assert_eq!(found, [[Some(b"1".to_vec())]], "{id} after {sql} on {width} shards");
                }
            }
        }
    }
    house.nothing_is_prepared().await
}

/// Who moves the same rows waits, and no row is lost or there twice.
#[tokio::test(flavor = "multi_thread")]
async fn many_move_the_same_rows() -> Outcome {
    let house = House::build().await?;
    let rows: Vec<String> = (1..=40).map(|it| format!("({it}, {it})")).collect();
    let made = house.pair(3)?.ours.simple(&format!("INSERT INTO bare VALUES {}", rows.join(", ")));
    assert_eq!(made.error, None);
    let writers: Vec<_> = (0..4_usize)
        .map(|writer| {
            let mut client = house.pair(3).map(|it| it.ours).map_err(|it| it.to_string())?;
            Ok(std::thread::spawn(move || {
                let mut moved = 0;
                client.simple("SET statement_timeout = '30s'");
                for turn in 0..25_usize {
                    let sql = match (writer + turn) % 4 {
                        0 => format!("UPDATE bare SET id = id + {} WHERE n % 3 = {}", turn + 1, turn % 3),
                        1 => format!("UPDATE bare SET id = {turn} WHERE n BETWEEN {writer} AND {}", writer + 9),
                        2 => "UPDATE bare SET id = n".to_owned(),
                        _ => format!("BEGIN; UPDATE bare SET id = n * 7 WHERE id = {turn}; ROLLBACK"),
                    };
                    let answer = client.simple(&sql);
                    // One server ends those that lock its rows in two orders.
                    let error = answer.error.filter(|it| it.sqlstate != "40P01");
                    assert_eq!(error.map(|it| it.to_string()), None, "{sql}");
                    moved +=
                        usize::from(answer.tags.first().is_some_and(|it| it.starts_with("UPDATE") && it != "UPDATE 0"));
                }
                moved
            }))
        })
        .collect::<Result<_, String>>()?;
    let moved: usize = writers.into_iter().map(|it| it.join().unwrap_or_default()).sum();
    assert!(moved > 20, "only {moved} of 75 UPDATEs came to move rows");
    let mut client = house.pair(3)?.ours;
    let rows = client.simple("SELECT count(*), count(DISTINCT n), sum(n) FROM bare").rows;
    assert_eq!(rows, [["40", "40", "820"].map(|it| Some(it.as_bytes().to_vec()))]);
    house.nothing_is_prepared().await
}
