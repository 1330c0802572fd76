//! COPY into tables whose rows are on several shards.

use std::fmt::Write as _;

use crate::bytes::Answer;
use crate::house::House;
use crate::house::Pair;
use crate::house::WIDTHS;
use crate::house::is_refused;
use crate::proxy::Outcome;

/// Statements with their data.
const CASES: &[(&str, &str)] = &[
    // W5: text.
    ("COPY t FROM STDIN", "1\t1\ta\tsad\n2\t2\tb\tglad\n3\t\\N\t\\N\t\\N\n4\t4\tö\tcalm\n"),
    ("COPY t (id, a, note) FROM STDIN", "11\t1\ta\n12\t2\t\n13\t\\N\tx\n"),
    ("COPY t (note, id) FROM STDIN", "a\\tb\t21\nline\\nbreak\t22\nback\\\\slash\t23\nod\\\nd\t24\nend\t25"),
    ("COPY fruits FROM STDIN", "apple\t1\nb\\ta\t2\n\\x41b\t3\n\\101c\t4\n\\\\N\t5\nx\\qy\t6\n\t7\n"),
    ("COPY t (id, note) FROM STDIN", "31\ta\n32\tb\n\\.\n33\tnot this\n"),
    ("COPY t (id, note) FROM STDIN", "41\ta\r\n42\tb\r\n43\tc\r\n"),
    ("COPY t (id, note) FROM STDIN", "51\ta\r52\tb\r53\tc"),
    ("COPY t (id, note) FROM STDIN WITH (DELIMITER '|', NULL 'nil')", "61|a\n62|nil\n63|c\n"),
    ("COPY t (id, note) FROM STDIN WITH DELIMITER AS E'\\t' NULL AS ''", "71\ta\n72\t\n"),
    ("COPY t (id, note) FROM STDIN (HEADER)", "what\tever\n81\ta\n82\tb\n83\tc\n"),
    ("COPY t (id, note) FROM STDIN (HEADER MATCH)", "id\tnote\n84\ta\n85\tb\n"),
    ("COPY t (id, note) FROM STDIN (HEADER MATCH)", "id\tnot\n86\ta\n87\tb\n"),
    ("COPY t FROM STDIN", ""),
    ("COPY items FROM STDIN", "1\t1\tx\t1.5\n1\t2\ty\t2\n2\t1\tz\t3.999\n3\t1\t\\N\t0\n"),
    ("COPY items (id, no) FROM STDIN", "4\t1\n5\t1\n6\t1\n"),
    ("COPY \"Odd Ones\" (note, \"Key;\", \"values\") FROM STDIN", "a\t1\t2\nb\t2\t3\nc\t3\t4\n"),
    ("COPY loose (x, id) FROM STDIN", "a\t1\nb\t2\nc\t3\n"),
    ("COPY loose FROM STDIN", "5\ta\n6\tb\n"),
    ("COPY public.t (id) FROM stdin;", " 91 \n92\n+93\n0094\n"),
    // CSV with each option.
    (
        "COPY t (id, note) FROM STDIN WITH (FORMAT csv)",
        "101,a\n102,\"b,c\"\n103,\"two\nlines\"\n104,\"say \"\"hi\"\"\"\n105,\n106,\"\"\n",
    ),
    ("COPY t (id, note) FROM STDIN CSV HEADER", "id,note\n111,a\n112,b\n"),
    (
        "COPY t (id, note) FROM STDIN WITH (FORMAT csv, HEADER, QUOTE '''', ESCAPE '\\', DELIMITER ';', NULL 'NIL')",
        "'he\nader';x\n121;'it\\'s'\n122;NIL\n123;'NIL'\n124;'a;b'\n",
    ),
    ("COPY t (note, id) FROM STDIN (FORMAT csv)", "\"a\nb\",131\n\"c\"\"\",132\nd\"e,f\"g,133\n"),
    ("COPY fruits FROM STDIN (FORMAT csv, FORCE_NOT_NULL (n))", "kiwi,1\nfig,2\n"),
    ("COPY fruits (n, name) FROM STDIN (FORMAT csv)", "1,\"qu\"\"ote\"\n2,a b\n3, c \n4,\"\"\n"),
    ("COPY t (id, note) FROM STDIN (FORMAT csv)", "141,a\n\\.\n142,b\n"),
    ("COPY t (id, note) FROM STDIN (FORMAT csv)", "151,a\r\n152,\"x\r\ny\"\r\n153,c\r\n"),
    ("COPY t (id, note) FROM STDIN (FORMAT csv)", "161,a\n\n162,b\n"),
    ("COPY t (id, note) FROM STDIN (FORMAT csv, FREEZE off)", "\"171\",a\n\"1\"72,b\n"),
    // One time for all rows, in columns that the client leaves out.
    ("COPY logs (id, what) FROM STDIN", "1\ta\n2\tb\n3\tc\n4\t\\N\n"),
    ("COPY logs (what, id) FROM STDIN (FORMAT csv, HEADER MATCH)", "what,id\n\"a\nb\",1\nb,2\n,3\n\"\"\"\",4"),
    ("COPY logs (id, day) FROM STDIN DELIMITER ',' NULL 'x'", "1,2020-01-01\n2,2020-01-02\n3,x\n"),
    ("COPY logs (id, day) FROM STDIN DELIMITER ',' NULL 'x'", "1,2020-01-01\n2,2020-01-02\r\n3,2020-01-03\n"),
    ("COPY logs (id, what) FROM STDIN", "1\ta\n2\n3\tc\n"),
    ("COPY logs (id, what) FROM STDIN", "1\ta\n2\tb\tc\n3\tc\n"),
    ("COPY logs (id, made) FROM STDIN (FORMAT csv)", "1,2020-01-01\n2,nonsense\n3,\n"),
    // Where the parts that the client sends end does not matter.
    (
        "COPY t (id, note) FROM STDIN (FORMAT csv, ESCAPE '\\')",
        "601,\"a\\b\"\n602,\"c\"\n603,\"\\\"d\"\n604,\"\\\\\"\n605,e\n",
    ),
    ("COPY t (note, id) FROM STDIN", "a\t611\nb\t612\nc\t613\\"),
    ("COPY t (id, note) FROM STDIN", "621\ta\r\n622\tb\r\n\\.\r\n"),
    // What a row has wrong, and nothing stays.
    ("COPY t (id, note) FROM STDIN", "201\ta\n202\tb\n203\tbad\n204\tc\n205\td\n"),
    ("COPY t (id, note) FROM STDIN", "211\ta\n212\tb\n1\tc\n213\td\n214\te\n"),
    ("COPY t (id, a) FROM STDIN", "221\t1\n222\t2\n223\tx\n224\t4\n"),
    ("COPY t (id, a) FROM STDIN", "231\t1\nabc\t2\n232\t3\n"),
    ("COPY t (id, a) FROM STDIN", "241\t1\n\\N\t2\n242\t3\n"),
    ("COPY t (id, a) FROM STDIN", "251\t1\n252\n253\t3\n"),
    ("COPY t (a, id) FROM STDIN", "1\t261\n2\n3\t263\n"),
    ("COPY t (id, a) FROM STDIN", "271\t1\n272\t2\t3\n273\t3\n"),
    ("COPY t (id, a) FROM STDIN", "281\t1\n\n283\t3\n"),
    ("COPY t (id, note) FROM STDIN (FORMAT csv)", "291,a\n292,\"b\n293,c\n"),
    ("COPY t (id, note) FROM STDIN (FORMAT csv)", "301,\"a\nb\nc\"\n302,\"d\n\"\n303,bad\n"),
    ("COPY t (id, note) FROM STDIN", "311\ta\r\n312\tb\n313\tc\r\n"),
    ("COPY t (id, note) FROM STDIN (FORMAT csv)", "501,a\n502,\"b\nc\"\n503,\"d\ne\"\n504,\"f\ng\"\n505,\"bad\"\n"),
    ("COPY t (id, note) FROM STDIN (FORMAT csv)", "511,a\r\n512,\"b\r\nc\"\r\n513,\"d\r\ne\"\r\n514,x\r\n515,bad\r\n"),
    ("COPY t (id, note) FROM STDIN (FORMAT csv, HEADER)", "i,\"n\no\"\n521,\"b\nc\"\n522,\"d\ne\"\n523,x\n524,bad\n"),
    ("COPY t (id, note) FROM STDIN", "321\ta\n322\tb\r\n323\tc\n"),
    ("COPY t (id, a) FROM STDIN", "99999999999999999999\t1\n"),
    ("COPY t (id, nope) FROM STDIN", "1\t2\n"),
    ("COPY items (id, no, price) FROM STDIN", "401\t1\t1\n402\t1\t99999\n403\t1\t1\n"),
    // Reference tables: the same rows on every shard.
    ("COPY refs FROM STDIN", "a\t1\t2020-01-01 00:00:00+00\tsad\nb\t2\t\\N\tglad\n"),
    ("COPY refs (code, n, made) FROM STDIN CSV HEADER", "code,n,made\nc,3,\n\"d\"\"\n\",4,2020-01-01\n"),
    ("COPY refs (n, code) FROM STDIN", "5\te\n6\tf\n"),
    ("COPY refs (code) FROM STDIN CSV", "g\n\"h\"\n\\.\ni\n"),
    ("COPY refs2 FROM STDIN", "a\t1\nb\t2\na\t3\r\n"),
    ("COPY refs2 FROM STDIN", "a\t1\nb\t2\na\t3\n"),
    ("COPY refs2 FROM STDIN", ""),
    ("COPY refs2 FROM STDIN", "a\t4\nnobody\t5\n"),
    ("COPY refs2 FROM STDIN", "a\t4\na\tx\n"),
    ("COPY refs (code, n) FROM STDIN", "j\t1\nk\t100\nl\t2\n"),
    ("COPY refs (code, n) FROM STDIN", "j\t1\na\t2\nl\t2\n"),
    ("COPY refs (code, n) FROM STDIN", "j\t1\nk\nl\t2\n"),
    ("COPY refs (code, n) FROM STDIN", "j\t1\nk\t1\t1\nl\t2\n"),
    (
        "COPY refs (code, n) FROM STDIN",
        "j\t1\na line that is so long that with what stands behind it an error would show a part of it\nl\t2\n",
    ),
    ("COPY refs (code, nope) FROM STDIN", "j\t1\n"),
];

/// Refused on five shards.
const REFUSED: &[&str] = &[
    "COPY t (a) FROM STDIN",
    "COPY logs (id, what) FROM STDIN BINARY",
    "COPY t (id) FROM STDIN WHERE id > 5",
    "COPY t (id) FROM STDIN (ENCODING 'LATIN1')",
    "COPY refd (code) FROM STDIN",
    "COPY refs (code) FROM STDIN BINARY",
    "COPY refs (code) FROM STDIN WHERE n > 5",
    "COPY fruits FROM STDIN (FORMAT csv, FORCE_NULL (name))",
];

fn told(answer: &Answer) -> (Vec<String>, u8, Option<(String, String, String)>) {
    let error = answer.error.as_ref().map(|it| (it.sqlstate.clone(), it.message.clone(), it.context.clone()));
    (answer.tags.clone(), answer.status, error)
}

fn both(pair: &mut Pair, sql: &str, data: &[u8], part: usize, extended: bool, wrong: &mut Vec<String>, what: &str) {
    let ours = told(&pair.ours.copy_in_parts(sql, data, part, extended));
    let theirs = told(&pair.plain.copy_in_parts(sql, data, part, extended));
    let difference = match ours == theirs {
        true => pair.difference(),
        false => Some(format!("{ours:?} where one server says {theirs:?}")),
    };
    if let Some(difference) = difference {
        wrong.push(format!("{sql} {:?} ({what}): {difference}", String::from_utf8_lossy(data)));
        pair.empty();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copied_rows_go_each_to_its_shard() -> Outcome {
    let house = House::build().await?;
    let mut wrong = Vec::new();
    for width in WIDTHS {
        for extended in [false, true] {
            for part in [1, 7, 10_000] {
                let mut pair = house.pair(width)?;
                pair.empty();
                let what = format!("{width} shards, extended {extended}, parts of {part}");
                for (sql, data) in CASES {
                    both(&mut pair, sql, data.as_bytes(), part, extended, &mut wrong, &what);
                }
                // Binary, as one server writes it.
                let tables = [
                    ("t", "id, a, note"),
                    ("fruits", "name, n"),
                    ("items", "no, id, price"),
                    ("refs", "code, n, made, mood"),
                ];
                for (name, columns) in tables {
                    let data: Vec<u8> = {
                        let made = match name {
                            "t" => "SELECT n::bigint, n, 'note ' || n FROM generate_series(-20, 20) n",
                            "refs" => {
                                "SELECT 'c' || n, n, timestamptz '2020-01-01', 'sad'::mood FROM generate_series(1, 30) n"
                            }
                            "fruits" => "SELECT 'f' || n, n FROM generate_series(1, 30) n",
                            _ => "SELECT n, (n % 7)::bigint, 1.25::numeric(6,2) FROM generate_series(1, 30) n",
                        };
                        let written = pair.plain.simple(&format!("COPY ({made}) TO STDOUT (FORMAT binary)"));
                        written.rows.into_iter().flatten().flatten().flatten().collect()
                    };
                    assert!(data.len() > 300);
                    pair.empty();
                    let sql = format!("COPY {name} ({columns}) FROM STDIN BINARY");
                    let twice = [&data[..], &data].concat();
                    for data in [&data[..], &twice, &data[..data.len() - 30], b"no binary at all"] {
                        pair.empty();
                        both(&mut pair, &sql, data, part, extended, &mut wrong, &what);
                    }
                }
                // In a transaction, beside other writes.
                for end in ["COMMIT", "ROLLBACK"] {
                    for client in [&mut pair.ours, &mut pair.plain] {
                        client.simple("BEGIN");
                        client.simple("INSERT INTO t (id) VALUES (901), (902), (903)");
                        let done =
                            client.copy_in_parts("COPY t (id) FROM STDIN", b"904\n905\n906\n907\n", part, extended);
                        client.simple(end);
                        if end == "COMMIT" {
                            assert_eq!(done.tags, ["COPY 4"], "{what}");
                        }
                    }
                    assert_eq!(pair.difference(), None);
                }
            }
        }
    }
    let mut pair = house.pair(5)?;
    pair.empty();
    for data in ["1\\.\n", "1\n\\.\r\n"] {
        assert!(
            is_refused(&pair.ours.copy_in_parts("COPY t (id) FROM STDIN", data.as_bytes(), 100, false)),
            "{data:?}"
        );
    }
    for sql in REFUSED {
        for extended in [false, true] {
            let answer = pair.ours.copy_in_parts(sql, b"1\n", 100, extended);
            assert!(is_refused(&answer), "{sql}: {answer:?}");
        }
    }
    assert_eq!(pair.difference(), None);
    // Copies are the same, times too.
    for width in WIDTHS {
        let mut pair = house.pair(width)?;
        pair.empty();
        for client in [&mut pair.ours, &mut pair.plain] {
            let done = client.copy("COPY refs (code, n) FROM STDIN", b"a\t1\nb\t2\nc\t3\n");
            assert_eq!((done.error, done.tags), (None, vec!["COPY 3".to_owned()]));
        }
        assert_eq!(pair.difference(), None);
    }
    house.copies_are_alike().await?;
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    house.nothing_is_prepared().await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_are_copied_and_one_that_fails_leaves_nothing() -> Outcome {
    let house = House::build().await?;
    let mut pair = house.pair(3)?;
    let mut data = String::new();
    for id in 0..200_000 {
        writeln!(data, "{id}\t{}\tnote {id}", id % 1000)?;
    }
    let sql = "COPY t (id, a, note) FROM STDIN";
    let failing = data.replace("\tnote 150000\n", "\tbad\n");
    for (data, part) in [(&failing, 8192), (&data, 8192), (&failing, 10_000_000), (&data, 10_000_000)] {
        for client in [&mut pair.ours, &mut pair.plain] {
            client.simple("DELETE FROM t");
        }
        let ours = told(&pair.ours.copy_in_parts(sql, data.as_bytes(), part, false));
        let theirs = told(&pair.plain.copy_in_parts(sql, data.as_bytes(), part, false));
        assert_eq!(ours, theirs);
        let count = "SELECT count(*), sum(id), sum(a), min(note), max(note) FROM t";
        assert_eq!(pair.ours.simple(count).rows, pair.plain.simple(count).rows);
    }
    house.nothing_is_prepared().await
}
