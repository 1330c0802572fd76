//! COPY out of tables whose rows are on several shards.

use crate::bytes::Answer;
use crate::bytes::Client;
use crate::bytes::How;
use crate::house::House;
use crate::house::Pair;
use crate::house::WIDTHS;
use crate::house::is_refused;
use crate::house::shown;
use crate::proxy::Outcome;

const ROWS: &str = "
INSERT INTO t SELECT n, n % 7, CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN 'a,b' WHEN 2 THEN E'x\\ty\\n' ELSE 'sö \"q\"' END, 'calm'
    FROM generate_series(1, 40) n;
INSERT INTO items (id, no) VALUES (1, 1), (1, 2), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1);
INSERT INTO fruits VALUES ('apple', 1), ('Birne', 2), ('päron', 3), ('', 4), ('\\.', 5), ('a|b', 6);
INSERT INTO \"Odd Ones\" VALUES (1, 1, 'a'), (2, 2, NULL), (3, 3, 'nil');
INSERT INTO loose (id, x) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, NULL);
INSERT INTO moods VALUES (1, '{sad,glad}'), (2, '{calm}'), (3, NULL);
INSERT INTO refs (code, n, made) VALUES ('a', 1, NULL), ('b', 2, NULL);
";

/// With how many lines they begin that are no rows.
const CASES: &[(usize, &str)] = &[
    (0, "COPY t TO STDOUT"),
    (0, "COPY t (note, id) TO STDOUT"),
    (0, "COPY public.t TO stdin;"),
    (0, "COPY t TO STDOUT WITH DELIMITER '|' NULL 'nil'"),
    (1, "COPY t TO STDOUT (HEADER)"),
    (1, "COPY t TO STDOUT CSV HEADER FORCE QUOTE note"),
    (1, "COPY t TO STDOUT (FORMAT csv, HEADER true, FORCE_QUOTE *)"),
    (0, "COPY t TO STDOUT (FORMAT csv, HEADER off, FORCE_QUOTE (id, note), NULL 'NIL')"),
    (0, "COPY t TO STDOUT (FORMAT csv, HEADER 0)"),
    (1, "COPY t TO STDOUT (FORMAT csv, HEADER 1)"),
    (1, "COPY t (id, note) TO STDOUT (FORMAT csv, HEADER, QUOTE '''', ESCAPE '\\', DELIMITER ';', NULL 'NIL')"),
    (1, "COPY items TO STDOUT (FORMAT csv, HEADER)"),
    (0, "COPY fruits TO STDOUT"),
    (0, "COPY fruits (n, name) TO STDOUT (FORMAT csv, ENCODING 'LATIN1')"),
    (1, "COPY \"Odd Ones\" TO STDOUT (FORMAT csv, HEADER, NULL 'nil')"),
    (1, "COPY loose TO STDOUT (HEADER)"),
    (0, "COPY loose (x, id) TO STDOUT"),
    (0, "COPY moods TO STDOUT"),
    (0, "COPY refs TO STDOUT"),
    // Nothing is there.
    (0, "COPY later TO STDOUT"),
    (1, "COPY later TO STDOUT (FORMAT csv, HEADER)"),
    // Of a query.
    (0, "COPY (SELECT id, a, mood FROM t) TO STDOUT"),
    (1, "COPY (SELECT a, note FROM t WHERE id > 3) TO STDOUT CSV HEADER"),
    (0, "COPY (SELECT t.id, i.no FROM t JOIN items i ON i.id = t.id) TO STDOUT"),
    (0, "COPY (SELECT all_of FROM moods) TO STDOUT"),
    (0, "COPY (SELECT id FROM t WHERE id = 5) TO STDOUT"),
    (0, "COPY (SELECT count(*), max(note) FROM t) TO STDOUT"),
    (1, "COPY (SELECT id FROM t ORDER BY id LIMIT 5) TO STDOUT (HEADER)"),
    // What is wrong is told as the server tells it.
    (0, "COPY t (nope) TO STDOUT"),
    (0, "COPY t (id, id) TO STDOUT"),
    (0, "COPY loose (n) TO STDOUT"),
    (0, "COPY t TO STDOUT (FORMAT csv, HEADER match)"),
    (0, "COPY t TO STDOUT (FORCE_QUOTE *)"),
    (0, "COPY t TO STDOUT (FORMAT csv, ENCODING 'nonsense')"),
    (0, "COPY seen TO STDOUT"),
    (0, "COPY (SELECT 1 / (id - 33) FROM t) TO STDOUT"),
];

/// Refused on five shards.
const REFUSED: &[&str] = &[
    "COPY nowhere TO STDOUT",
    "COPY t TO STDOUT (FORMAT csv, DELIMITER 'ab')",
    "COPY t TO STDOUT (FORMAT nonsense)",
    "COPY t TO STDOUT (COMPRESSION 'zip')",
    "COPY moods TO STDOUT BINARY",
    "COPY (DELETE FROM t RETURNING id) TO STDOUT",
    "COPY t TO '/tmp/shardway-never'",
    "COPY t TO PROGRAM 'cat'",
];

/// What a client can tell, lines and rows in an order of their own.
fn told(answer: &Answer, heads: usize) -> String {
    let error = answer.error.as_ref().map(|it| (&it.sqlstate, &it.message));
    let state = format!("{:?} {} {error:?} {:?}", answer.tags, char::from(answer.status), answer.columns);
    if error.is_some() {
        return state;
    }
    let mut rows = answer.rows.clone();
    rows.get_mut(heads.min(answer.rows.len())..).into_iter().for_each(<[_]>::sort);
    format!("{state} {}", shown(&rows))
}

/// The tuples of binary data, in an order of their own.
fn tuples(answer: &Answer) -> Vec<Vec<u8>> {
    let data: Vec<u8> = answer.rows.iter().flatten().flatten().flatten().copied().collect();
    let head = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    let mut rest = data.strip_prefix(&head[..]).expect("it begins as binary data does");
    let mut tuples = Vec::new();
    loop {
        let fields = i16::from_be_bytes(rest[..2].try_into().expect("two bytes"));
        if fields == -1 {
            assert_eq!(rest.len(), 2, "nothing stands behind the end");
            tuples.sort();
            return tuples;
        }
        let mut at = 2;
        for _ in 0..fields {
            let length = i32::from_be_bytes(rest[at..at + 4].try_into().expect("four bytes"));
            at += 4 + usize::try_from(length).unwrap_or(0);
        }
        tuples.push(rest[..at].to_vec());
        rest = &rest[at..];
    }
}

/// Both with the same rows.
pub(crate) fn filled(house: &House, width: usize) -> Outcome<Pair> {
    let mut pair = house.pair(width)?;
    pair.empty();
    for client in [&mut pair.ours, &mut pair.plain] {
        client.simple("DELETE FROM moods");
        for sql in ROWS.split(";\n").filter(|it| !it.trim().is_empty()) {
            // Rows of a SELECT are the server's to make, which then sends them here.
            let (sql, values) = match sql.trim().strip_prefix("INSERT INTO t ") {
                None => (sql.to_owned(), Vec::new()),
                Some(select) => ("INSERT INTO t VALUES ".to_owned(), client.simple(select).rows),
            };
            let quoted = |it: &Option<Vec<u8>>| match it {
                None => "NULL".to_owned(),
                Some(it) => format!("'{}'", String::from_utf8_lossy(it).replace('\'', "''")),
            };
            let row = |it: &Vec<Option<Vec<u8>>>| format!("({})", it.iter().map(quoted).collect::<Vec<_>>().join(", "));
            let sql = sql + &values.iter().map(row).collect::<Vec<_>>().join(", ");
            assert_eq!(client.simple(&sql).error, None, "{sql}");
        }
    }
    Ok(pair)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_copied_out_of_all_shards() -> Outcome {
    let house = House::build().await?;
    let mut wrong = Vec::new();
    for width in WIDTHS {
        let mut pair = filled(&house, width)?;
        let mut both = |how: How, sql: &str, heads: usize| {
            let (ours, theirs) = (pair.ours.run(how, sql, &[], false), pair.plain.run(how, sql, &[], false));
            if told(&ours, heads) != told(&theirs, heads) {
                let (ours, theirs) = (told(&ours, heads), told(&theirs, heads));
                wrong.push(format!("{sql} ({width} shards, {how:?}): {ours}\n  where one server says {theirs}"));
            }
        };
        for how in [How::Simple, How::Unnamed, How::Named] {
            for (heads, sql) in CASES {
                both(how, sql, *heads);
            }
            // In a transaction, and beside others.
            both(How::Simple, "BEGIN", 0);
            both(how, "INSERT INTO t (id) VALUES (101), (102), (103), (104)", 0);
            both(how, "COPY t (id) TO STDOUT (HEADER)", 1);
            both(how, "COPY t (nope) TO STDOUT", 0);
            both(how, "COPY t (id) TO STDOUT", 0);
            both(How::Simple, "ROLLBACK", 0);
            both(How::Simple, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", 0);
            both(how, "COPY t TO STDOUT", 0);
            both(how, "COPY items TO STDOUT", 0);
            both(How::Simple, "COMMIT", 0);
            // What is locked first is locked when all shards are seen at one moment.
            both(How::Simple, "BEGIN ISOLATION LEVEL REPEATABLE READ", 0);
            both(how, "LOCK TABLE t, refs IN ACCESS SHARE MODE", 0);
            both(how, "COPY t TO STDOUT", 0);
            both(how, "SELECT count(*) FROM items", 0);
            both(How::Simple, "COMMIT", 0);
        }
        both(How::Simple, "COPY t (id) TO STDOUT; SELECT 1; COPY items TO STDOUT CSV HEADER; COPY fruits TO STDOUT", 0);
        both(How::Simple, "COPY t (id) TO STDOUT; COPY t (nope) TO STDOUT; COPY fruits TO STDOUT", 0);
        both(How::Simple, "BEGIN; DELETE FROM t WHERE id > 5; COPY t TO STDOUT; ROLLBACK", 0);
        let all =
            ["COPY t (id) TO STDOUT (HEADER)", "COPY items TO STDOUT", "SELECT 1", "COPY later TO STDOUT CSV HEADER"];
        let all = all.map(|it| (it.to_owned(), Vec::new()));
        let (ours, theirs) = (pair.ours.pipeline(&all, false), pair.plain.pipeline(&all, false));
        assert_eq!(told(&ours, 0), told(&theirs, 0), "{width} shards");
        for how in [How::Simple, How::Unnamed, How::Named] {
            for sql in [
                "COPY t TO STDOUT BINARY",
                "COPY items (no, id) TO STDOUT (FORMAT binary)",
                "COPY later TO STDOUT BINARY",
            ] {
                let (ours, theirs) = (pair.ours.run(how, sql, &[], false), pair.plain.run(how, sql, &[], false));
                assert_eq!(tuples(&ours), tuples(&theirs), "{sql} on {width} shards");
                assert_eq!((ours.tags, ours.status), (theirs.tags, theirs.status), "{sql} on {width} shards");
            }
        }
        // What was copied out can be copied in.
        for (sql, options) in [("t", "BINARY"), ("t", "CSV HEADER"), ("fruits", ""), ("loose", "(HEADER)")] {
            let out = |client: &mut Client| {
                let answer = client.simple(&format!("COPY {sql} TO STDOUT {options}"));
                answer.rows.into_iter().flatten().flatten().flatten().collect::<Vec<u8>>()
            };
            let data = out(&mut pair.ours);
            for client in [&mut pair.ours, &mut pair.plain] {
                client.simple(&format!("DELETE FROM {sql}"));
                let done = client.copy(&format!("COPY {sql} FROM STDIN {options}"), &data);
                assert_eq!(done.error, None, "{sql} {options}");
            }
            assert_eq!(pair.difference(), None, "{sql} {options} on {width} shards");
        }
    }
    let mut pair = filled(&house, 5)?;
    for sql in REFUSED {
        for how in [How::Simple, How::Unnamed] {
            let answer = pair.ours.run(how, sql, &[], false);
            assert!(is_refused(&answer), "{sql}: {answer:?}");
        }
    }
    assert_eq!(pair.difference(), None);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}
