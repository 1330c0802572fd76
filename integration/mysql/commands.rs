//! Logins, commands beside statements, and payloads that no single packet holds.

use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;
use shardway::wire::mysql::capability;
use shardway::wire::mysql::status;

use crate::client::Answer;
use crate::client::Client;
use crate::client::MODERN;
use crate::client::OLD;
use crate::client::Types;
use crate::client::Value;
use crate::compare::difference;
use crate::compare::is_refused;
use crate::compare::renamed;
use crate::house::Against;
use crate::house::House;
use crate::house::WIDTHS;
use crate::kills;
use crate::parameters::Is;
use crate::proxy::Outcome;

/// A value that takes two packets, and one that takes several reads.
const LONG: usize = (1 << 24) + 5;
const MIDDLING: usize = 3 << 20;

/// What a client does, and what it is about.
type Deed = (Is, &'static str, u32, fn(&mut Client) -> Vec<Answer>);

const DEEDS: &[Deed] = &[
    (
        Is::Alike,
        "rows that are found and not changed count, if the client says so",
        MODERN | capability::FOUND_ROWS,
        |client| {
            let texts = [
                "UPDATE t SET a = a WHERE id = 1",
                "UPDATE t SET a = 1 WHERE id = 1",
                "UPDATE t SET a = 1 WHERE id = 99",
                "INSERT INTO t (id, a) VALUES (1, 1) ON DUPLICATE KEY UPDATE a = 1",
            ];
            texts.iter().flat_map(|sql| client.query(sql)).collect()
        },
    ),
    (
        Is::Alike,
        "what a string says is no ON DUPLICATE KEY UPDATE, whether or not rows that are found count",
        MODERN | capability::FOUND_ROWS,
        |client| {
            let texts = [
                "INSERT INTO t (id, note) VALUES (901, 'duplicate'), (902, 'x')",
                "INSERT INTO t (id, note) VALUES (903, 'duplicate'), (904, 'x'), (905, 'ignore')",
                "DELETE FROM t WHERE id > 900",
            ];
            texts.iter().flat_map(|sql| client.query(sql)).collect()
        },
    ),
    (Is::Alike, "without leave only one statement may come", MODERN & !capability::MULTI_STATEMENTS, |client| {
        client.query("SELECT 1; SELECT 2")
    }),
    (Is::Alike, "leave for several statements is given and taken", MODERN, |client| {
        let mut answers = vec![client.multi_statements(false)];
        answers.extend(client.query("SELECT 1; SELECT 2"));
        answers.push(client.multi_statements(true));
        answers.extend(client.query("SELECT 1; SELECT 2"));
        answers
    }),
    (Is::Alike, "long data comes in pieces, and goes with a reset", OLD, |client| {
        let statement = match client.prepare("UPDATE fruits SET raw = ? WHERE name = ?") {
            Ok(statement) => statement,
            Err(error) => return vec![Answer { error: Some(error), ..Answer::default() }],
        };
        client.long_data(&statement, 0, b"ab");
        client.long_data(&statement, 0, b"\0c");
        let mut answers = client.execute(&statement, &[Value::Sent, Value::Text("pear")], Types::Told);
        client.long_data(&statement, 0, b"gone");
        answers.push(client.reset(&statement));
        answers.extend(client.execute(&statement, &[Value::Null, Value::Text("apple")], Types::Told));
        client.long_data(&statement, 1, b"ap");
        client.long_data(&statement, 1, b"ple");
        answers.extend(client.execute(&statement, &[Value::Text("x"), Value::Sent], Types::Told));
        client.close(&statement);
        answers.extend(client.query("SELECT name, raw FROM fruits WHERE name = 'pear'"));
        answers.extend(client.query("SELECT name, raw FROM fruits WHERE name = 'apple'"));
        answers
    }),
    (Is::Alike, "long data of a statement whose text has been run with a number before", MODERN, |client| {
        let mut answers = Vec::new();
        for sql in [
            "SELECT id FROM t WHERE a = ? ORDER BY id",
            "UPDATE t SET note = note WHERE a = ?",
            "DELETE FROM t WHERE a = ?",
        ] {
            let before =
                [Value::Long(10), Value::Unsigned(10), Value::Decimal("10"), Value::Double(10.0), Value::Text("10")];
            for value in before.into_iter().flat_map(|it| [it, Value::Sent]) {
                let Ok(statement) = client.prepare(sql) else { return Vec::new() };
                if matches!(value, Value::Sent) {
                    client.long_data(&statement, 0, b"1");
                    client.long_data(&statement, 0, b"0");
                }
                answers.extend(client.execute(&statement, &[value], Types::Told));
                client.close(&statement);
            }
        }
        answers
    }),
    (Is::Alike, "bytes that are no text stand in strings", MODERN, |client| {
        let texts: [&[u8]; 5] = [
            b"UPDATE fruits SET raw = 'a\xff\xfe\\0\\'\xc3' WHERE name = 'apple'",
            b"INSERT INTO fruits (name, n, raw) VALUES ('kiwi', 1, _binary'\xf0(\xe2\x82')",
            b"/* \xe9 */ UPDATE fruits SET raw = _binary'\xe9' WHERE name = 'pear'",
            b"DELETE FROM fruits WHERE raw = _binary'\xf0(\xe2\x82' AND name = 'kiwi'",
            b"UPDATE fruits SET raw = _binary'\xe9 WHERE name = 'pear'",
        ];
        let mut answers: Vec<Answer> = texts.iter().map(|it| client.raw(3, it)).collect();
        answers.extend(client.query("SELECT name, HEX(raw) FROM fruits WHERE name = 'apple'"));
        answers.extend(client.query("SELECT name, HEX(raw) FROM fruits WHERE name = 'pear'"));
        answers
    }),
    (Is::Either, "bytes that are no text are no key", MODERN, |client| {
        vec![client.raw(3, b"DELETE FROM fruits WHERE name = 'app\xffle'"), client.ping()]
    }),
    (Is::Alike, "statements that nobody prepared", MODERN, |client| {
        let unknown = 4711_u32.to_le_bytes();
        let mut execute = unknown.to_vec();
        execute.extend([0, 1, 0, 0, 0]);
        let mut fetch = unknown.to_vec();
        fetch.extend([1, 0, 0, 0]);
        vec![client.raw(0x17, &execute), client.raw(0x1a, &unknown), client.raw(0x1c, &fetch), client.ping()]
    }),
    (Is::Alike, "a statement is prepared twice, and closed once", MODERN, |client| {
        let sql = "SELECT a FROM t WHERE id = ?";
        let (Ok(one), Ok(two)) = (client.prepare(sql), client.prepare(sql)) else { return Vec::new() };
        let mut answers = client.execute(&one, &[Value::Long(1)], Types::Told);
        client.close(&one);
        answers.extend(client.execute(&two, &[Value::Long(2)], Types::Told));
        answers.extend(client.query("BEGIN"));
        answers.extend(client.execute(&two, &[Value::Long(3)], Types::AsBefore));
        answers.extend(client.query("COMMIT"));
        answers.push(client.reset_connection());
        answers
    }),
    (Is::Alike, "commands that do not exist", MODERN, |client| {
        vec![client.raw(0x77, b"x"), client.raw(0x1d, &[]), client.ping()]
    }),
    (Is::Alike, "commands beside statements", MODERN, |client| {
        // How many questions there were is another number on every server.
        let words = |line: &[u8]| {
            let text = String::from_utf8_lossy(line).into_owned();
            text.chars().filter(|it| !it.is_ascii_digit()).collect::<String>()
        };
        let status = client.payload(0x09, &[]).map(|it| words(&it));
        let rows = vec![vec![status.ok().map(String::into_bytes)]];
        vec![
            Answer { rows, ..Answer::default() },
            client.raw(0x1b, &[7, 0]),
            client.raw(0x00, &[]),
            client.raw(0x05, b"x"),
            client.raw(0x0f, &[]),
            client.raw(0x1f, &[]),
            client.raw(0x1f, &[]),
            client.ping(),
        ]
    }),
    (Is::Alike, "values of several packets come whole", MODERN, |client| {
        let half = LONG / 2;
        let sql =
            format!("SELECT a, REPEAT('x', {MIDDLING}), REPEAT('y', {half}), REPEAT('z', {half}) FROM t WHERE id = 1");
        client.query(&sql)
    }),
    (Is::Alike, "a statement of several packets is read", MODERN, |client| {
        let sql = format!("SELECT LENGTH('{}') FROM t WHERE id = 1", "x".repeat(MIDDLING));
        client.query(&sql)
    }),
    (Is::Alike, "what commands leave of warnings", MODERN, left),
    (Is::Alike, "what is said is compressed", MODERN | capability::COMPRESS, compressed),
    (Is::Alike, "what is said is compressed, with EOF packets", OLD | capability::COMPRESS, compressed),
    // MariaDB has no Zstandard: its side of the comparison is in clear.
    (Is::Alike, "what is said is compressed by Zstandard", MODERN | capability::ZSTD, compressed),
    (Is::Alike, "a file is loaded that the client has", MODERN | capability::LOCAL_FILES, |client| {
        let mut answers = loaded(client);
        answers.extend(client.query("SELECT COUNT(*), SUM(a), MAX(note) FROM t WHERE id > 1000"));
        answers.extend(client.query("DELETE FROM t WHERE id > 1000"));
        answers
    }),
    (Is::Alike, "a file is loaded, compressed", MODERN | capability::LOCAL_FILES | capability::COMPRESS, |client| {
        let answers = loaded(client);
        client.query("DELETE FROM t WHERE id > 1000");
        answers
    }),
    (Is::Alike, "a file is not asked for where the client has not said that it has any", MODERN, |client| {
        client.file = b"1001\t1\tx\n".to_vec();
        let mut answers = client.query("LOAD DATA LOCAL INFILE 'rows.csv' INTO TABLE t (id, a, note)");
        answers.extend(client.query("SHOW WARNINGS"));
        answers.push(client.ping());
        answers
    }),
    (Is::Alike, "rows come by a cursor", OLD, fetched),
    (Is::Alike, "rows come by a cursor, and nothing behind columns", MODERN, fetched),
    (Is::Alike, "cursors are open beside other statements", MODERN, |client| {
        let sql = ["SELECT no, what FROM items WHERE id = 1 ORDER BY no", "SELECT id, a FROM t WHERE id = 2"];
        let (Ok(one), Ok(two)) = (client.prepare(sql[0]), client.prepare(sql[1])) else { return Vec::new() };
        let mut answers = client.query("BEGIN");
        answers.extend([client.open_cursor(&one), client.fetch(&one, 1), client.open_cursor(&two)]);
        answers.extend(client.query("DELETE FROM items WHERE id = 1"));
        answers.extend(client.query("UPDATE t SET a = 77 WHERE id = 2"));
        answers.extend([client.fetch(&two, 9), client.fetch(&one, 1)]);
        answers.extend(client.query("ROLLBACK"));
        answers.push(client.fetch(&one, 9));
        answers.extend(client.query("SELECT a FROM t WHERE id = 2"));
        answers.extend([client.open_cursor(&one), client.open_cursor(&two), client.reset(&one)]);
        answers.push(client.fetch(&one, 1));
        client.close(&two);
        answers.extend([client.fetch(&two, 1), client.reset_connection(), client.fetch(&one, 1)]);
        answers
    }),
    (Is::Alike, "a cursor over several shards", MODERN, |client| {
        let mut answers = Vec::new();
        for sql in ["SELECT id, no, what FROM items", "SELECT id FROM t WHERE id > 1"] {
            let Ok(statement) = client.prepare(sql) else { return Vec::new() };
            let mut whole = client.open_cursor(&statement);
            while whole.status & status::CURSOR_EXISTS != 0 && whole.error.is_none() {
                let mut more = client.fetch(&statement, 2);
                whole.rows.append(&mut more.rows);
                (whole.status, whole.error) = (more.status, more.error);
            }
            // Servers come one after the other.
            whole.rows.sort();
            answers.push(whole);
            client.close(&statement);
        }
        answers
    }),
    (Is::Alike, "a cursor over rows that were gathered", MODERN, |client| {
        let mut answers = Vec::new();
        for (sql, count) in [
            ("SELECT id, what FROM items ORDER BY id, no", 3),
            ("SELECT COUNT(*), MAX(a) FROM t", 1),
            ("SELECT id FROM t WHERE a > 100000 ORDER BY id", 1),
        ] {
            let Ok(statement) = client.prepare(sql) else { return Vec::new() };
            // How its columns are described is the server's own affair, where it puts rows aside.
            answers.push(Answer { columns: None, ..client.open_cursor(&statement) });
            for _ in 0..3 {
                answers.push(client.fetch(&statement, count));
            }
            answers.push(client.reset(&statement));
            client.close(&statement);
        }
        answers
    }),
    (Is::Alike, "what opens no cursor", MODERN, |client| {
        let mut answers = Vec::new();
        for sql in [
            "SHOW WARNINGS",
            "UPDATE t SET note = 'x' WHERE id = 2",
            "INSERT INTO t (id, a) VALUES (351, 1) RETURNING id, a",
            "SET @a = 1",
            "SELECT 1 FROM t WHERE id = 1 AND a = (SELECT a FROM t WHERE id = 1 UNION ALL SELECT 1)",
        ] {
            let Ok(statement) = client.prepare(sql) else { continue };
            answers.extend([client.open_cursor(&statement), client.fetch(&statement, 1)]);
            client.close(&statement);
        }
        answers.extend(client.query("DELETE FROM t WHERE id = 351"));
        answers
    }),
];

/// What commands leave of the warnings of a statement.
fn left(client: &mut Client) -> Vec<Answer> {
    let database = client.one("SELECT DATABASE()").value().expect("one is in use");
    let mut answers = Vec::new();
    for place in 0..8 {
        answers.extend(client.query("INSERT IGNORE INTO t (id, a) VALUES (1, 1)"));
        match place {
            0 => answers.push(client.ping()),
            1 => {
                answers.push(client.init_db(&database));
            }
            2 => {
                let Ok(statement) = client.prepare("SELECT 1") else { continue };
                answers.push(client.reset(&statement));
                client.close(&statement);
            }
            3..6 => {
                let sql = ["SET @x = 1", "SELECT a FROM t WHERE id = 1", "SELECT nope"][place - 3];
                let Ok(statement) = client.prepare(sql) else { continue };
                client.close(&statement);
            }
            6 => answers.push(client.reset_connection()),
            _ => {
                let Ok(statement) = client.prepare("SET @x = 1") else { continue };
                answers.extend(client.execute(&statement, &[], Types::Told));
            }
        }
        answers.extend(client.query("SELECT @@warning_count, @@error_count"));
    }
    answers
}

/// Short and long answers, and several.
fn compressed(client: &mut Client) -> Vec<Answer> {
    let mut answers = client.query("SELECT id, a, note FROM t WHERE id = 1");
    let sql =
        format!("SELECT REPEAT('x', {MIDDLING}), LENGTH('{}'), MD5(id) FROM t WHERE id = 2", "y".repeat(MIDDLING));
    answers.extend(client.query(&sql));
    answers.extend(client.query("SELECT 1; SELECT 2; SELECT nope FROM t WHERE id = 1"));
    answers.extend(client.run("SELECT id, no, what FROM items WHERE id = 1 ORDER BY no", &[]));
    answers.push(client.ping());
    let half = LONG / 2;
    answers.extend(client.query(&format!("SELECT a, REPEAT('y', {half}), REPEAT('z', {half}) FROM t WHERE id = 1")));
    answers.push(client.reset_connection());
    answers.extend(client.query("SELECT COUNT(*) FROM t"));
    answers
}

/// Loads rows, some of which are not as they should be.
fn loaded(client: &mut Client) -> Vec<Answer> {
    let mut answers = Vec::new();
    let file: String = (1001..1400).map(|id| format!("{id},{},\"text {id}\"\n", id * 2)).collect();
    let file = format!("id,a,note\n{file}1400,x,short\n1401\n1001,1,twice\n");
    for sql in [
        "LOAD DATA LOCAL INFILE 'rows.csv' INTO TABLE t FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' \
         IGNORE 1 LINES (id, a, note)",
        "LOAD DATA LOCAL INFILE 'none.csv' INTO TABLE t (id, a, note)",
        "LOAD DATA LOCAL INFILE 'rows.csv' INTO TABLE nowhere (id, a, note)",
    ] {
        client.file = if sql.contains("rows.csv") { file.clone().into_bytes() } else { Vec::new() };
        answers.extend(client.query(sql));
        answers.extend(client.query("SHOW WARNINGS"));
    }
    answers.push(client.ping());
    answers
}

/// Opens a cursor, and fetches more than there is.
fn fetched(client: &mut Client) -> Vec<Answer> {
    let mut answers = Vec::new();
    for sql in [
        "SELECT no, what FROM items WHERE id = 1 ORDER BY no",
        "SELECT id, note AS n FROM t AS u WHERE id = 99",
        "SELECT 1, DATABASE()",
        "SELECT nope FROM t WHERE id = 1",
    ] {
        let statement = match client.prepare(sql) {
            Ok(statement) => statement,
            Err(error) => {
                answers.push(Answer { error: Some(error), ..Answer::default() });
                continue;
            }
        };
        answers.push(client.open_cursor(&statement));
        answers.extend([0, 1, 5, 5].map(|count| client.fetch(&statement, count)));
        answers.push(client.reset(&statement));
        answers.push(client.open_cursor(&statement));
        // Once more closes the one before.
        answers.push(client.open_cursor(&statement));
        answers.push(client.fetch(&statement, 1));
        answers.extend(client.execute(&statement, &[], Types::Told));
        answers.push(client.fetch(&statement, 1));
        client.close(&statement);
    }
    answers.push(client.ping());
    answers
}

/// Who logs in: a name, a password, whether a database is named at once, and the capabilities.
const LOGINS: &[(&str, &str, bool, u32)] = &[
    (USER, PASSWORD, true, MODERN),
    (USER, PASSWORD, true, OLD),
    (USER, PASSWORD, false, MODERN),
    (USER, PASSWORD, false, OLD),
    (USER, "wrong", true, MODERN),
    (USER, "", true, MODERN),
    ("nobody", PASSWORD, true, MODERN),
    ("nobody", "", false, OLD),
    ("", "", true, MODERN),
];

/// What is said where no database was selected.
const NOWHERE: &[&str] = &[
    "SELECT DATABASE()",
    "SELECT 1",
    "SELECT @@version, @@sql_mode",
    "SET NAMES utf8mb4",
    "SET autocommit = 1",
    "SHOW WARNINGS",
    "SHOW VARIABLES LIKE 'sql_mode'",
    "INSERT INTO t (id) VALUES (1)",
    "UPDATE t SET a = 1 WHERE id = 1",
    "DESCRIBE t",
    "BEGIN",
    "COMMIT",
    "SELECT COUNT(*) FROM t",
];

/// Becomes another user on both sides, rightly and wrongly; what differs.
fn other_users(house: &House, width: usize) -> Vec<String> {
    let turned = |port: u16, database: &str| {
        let mut client = match Client::connect(port, USER, PASSWORD, database) {
            Ok(client) => client,
            Err(error) => return vec![Answer { error: Some(error), ..Answer::default() }],
        };
        let mut answers = Vec::new();
        for sql in ["SET @a = 1, sql_mode = 'ANSI_QUOTES'", "BEGIN", "UPDATE t SET a = 77 WHERE id = 1"] {
            answers.extend(client.query(sql));
        }
        answers.push(client.change_user(USER, PASSWORD, database));
        answers.extend(client.query("SELECT @a, DATABASE(), @@sql_mode"));
        answers.extend(client.query("SELECT a FROM t WHERE id = 1"));
        answers.push(client.change_user(USER, PASSWORD, ""));
        answers.extend(client.query("SELECT DATABASE()"));
        answers.extend(client.query("SELECT a FROM t WHERE id = 1"));
        answers.push(client.init_db(database));
        answers.extend(client.query("SELECT a FROM t WHERE id = 1"));
        answers.push(client.change_user(USER, "wrong", database));
        answers.push(client.ping());
        answers
    };
    let [ours, plain] = house.ports();
    let (ours, theirs) = (turned(ours, &format!("d{width}")), turned(plain, &format!("plain{width}")));
    let told = difference(&ours, &renamed(theirs, width), true);
    told.map(|it| format!("{width} shards, COM_CHANGE_USER: {it}")).into_iter().collect()
}

/// Logs in on both sides, and looks what holds then; what differs.
fn logins(house: &House, width: usize) -> Vec<String> {
    let failed = |error| vec![Answer { error: Some(error), ..Answer::default() }];
    let mut problems = Vec::new();
    for (user, password, named, capabilities) in LOGINS {
        let arrive = |port: u16, database: &str| {
            let named = if *named { database } else { "" };
            let mut client = match Client::connect_with(port, user, password, named, *capabilities) {
                Ok(client) => client,
                Err(error) => return (String::new(), failed(error)),
            };
            let mut answers = vec![client.welcome.clone()];
            if named.is_empty() {
                let texts = NOWHERE.iter().map(|sql| sql.replace("{db}", database));
                answers.extend(texts.flat_map(|sql| client.query(&sql)));
                answers.extend(client.run("SELECT DATABASE(), @@autocommit", &[]));
                answers.extend(client.run("SELECT a FROM t WHERE id = 1", &[]));
            } else {
                answers.extend(client.query("SELECT DATABASE()"));
            }
            answers.extend(client.query("SELECT a FROM t WHERE id = 1"));
            answers.push(client.init_db(database));
            answers.extend(client.query("SELECT a FROM t WHERE id = 1"));
            let version = client.greeting().version.clone();
            if let Err(error) = client.quit() {
                answers.extend(failed(error));
            }
            (version, answers)
        };
        let [ours, plain] = house.ports();
        let (our_version, ours) = arrive(ours, &format!("d{width}"));
        let (version, theirs) = arrive(plain, &format!("plain{width}"));
        let place = format!("{width} shards, login as {user:?} with {password:?}, database named: {named}");
        problems.extend(difference(&ours, &renamed(theirs, width), true).map(|it| format!("{place}: {it}")));
        if our_version != version {
            problems.push(format!("{place}: version {our_version:?} where one server says {version:?}"));
        }
    }
    problems
}

/// Does those whose title holds `wanted` on both sides; what differs.
pub(crate) fn differences(house: &House, against: Against, wanted: &str) -> Outcome<Vec<String>> {
    let mut problems = Vec::new();
    for width in WIDTHS {
        let mut direct = house.direct(width)?;
        for (is, title, capabilities, deed) in DEEDS.iter().filter(|(_, title, ..)| title.contains(wanted)) {
            direct.fill()?;
            let mut pair = house.pair(width, *capabilities)?;
            let ours = deed(&mut pair.ours);
            let place = format!("{width} shards, {title}");
            let refused = is_refused(&ours);
            if *is == Is::Refused && width > 1 && against != Against::Plain {
                problems.extend((!refused).then(|| format!("{place}: not refused")));
                continue;
            }
            if refused && *is == Is::Either {
                continue;
            }
            let theirs = renamed(deed(&mut pair.plain), width);
            problems.extend(difference(&ours, &theirs, true).map(|it| format!("{place}: {it}")));
            drop(pair);
            problems.extend(direct.difference()?.map(|it| format!("{place}: behind it, {it}")));
        }
        direct.fill()?;
        problems.extend(logins(house, width));
        problems.extend(other_users(house, width));
        if "killed".contains(wanted) {
            direct.fill()?;
            problems.extend(kills::differences(house, width)?);
            direct.fill()?;
        }
    }
    Ok(problems)
}
