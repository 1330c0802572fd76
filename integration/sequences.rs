//! Sequences that count for all shards: what a client sees is what one server does, and no number is handed out twice,
//! whoever asks and whoever dies.

#[path = "oracle/wire.rs"]
#[allow(dead_code, reason = "the oracle uses the rest of it")]
mod bytes;
mod proxy;

use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;

use bytes::Answer;
use bytes::Client;
use bytes::How;
use bytes::Value;
use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of_widths;
use proxy::prepare;
use proxy::until;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;

const WIDTHS: [usize; 4] = [1, 2, 3, 5];
const HOWS: [How; 3] = [How::Simple, How::Unnamed, How::Named];

const SCHEMA: &str = "
CREATE TABLE accounts (id bigserial PRIMARY KEY, name text CHECK (name <> 'bad'));
CREATE TABLE orders (account_id bigint, id bigint GENERATED ALWAYS AS IDENTITY, note text,
    made timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (account_id, id));
CREATE TABLE lines (account_id bigint, no serial, small smallserial, what text, PRIMARY KEY (account_id, no));
CREATE SEQUENCE invoice_no INCREMENT 5 START 100;
CREATE SEQUENCE tiny MAXVALUE 40;
CREATE SEQUENCE round MAXVALUE 3 CYCLE;
CREATE SEQUENCE down INCREMENT -2 START 9 MAXVALUE 100;
CREATE SEQUENCE \"Odd; 'name\" CACHE 7;
CREATE TABLE bills (account_id bigint PRIMARY KEY, no text DEFAULT 'B-' || nextval('invoice_no'));
CREATE TABLE kinds (id serial PRIMARY KEY, name text);
CREATE TABLE notes (id bigserial PRIMARY KEY, note text);
CREATE TABLE unserved (account_id bigint, n serial, PRIMARY KEY (account_id, n));
";

const SEQUENCES: [&str; 10] = [
    "accounts_id_seq: {shard: s1, block: 10}",
    "orders_id_seq: {shard: S, block: 3}",
    "lines_no_seq: {shard: S}",
    "lines_small_seq: {shard: s1}",
    "invoice_no: {shard: S, block: 4}",
    "tiny: {shard: S}",
    "round: {shard: s1, block: 5}",
    "down: {shard: S, block: 2}",
    "kinds_id_seq: {shard: S}",
    // The table is on the first shard.
    "notes_id_seq: {shard: S, block: 3}",
];

/// What one server does, in each protocol; `;` between statements of one case, which are said one by one.
const ALIKE: &[&str] = &[
    "INSERT INTO accounts (name) VALUES ('a') RETURNING id",
    "INSERT INTO accounts (name) VALUES ('b'), ('c'), ('d'), ('e'), ('f') RETURNING id, name",
    "INSERT INTO accounts VALUES (DEFAULT, 'g'), ((DEFAULT), 'h') RETURNING *",
    "INSERT INTO accounts AS x VALUES (DEFAULT) RETURNING x.*",
    "INSERT INTO accounts DEFAULT VALUES RETURNING id",
    "SELECT lastval(), currval('accounts_id_seq'), currval('public.accounts_id_seq'::regclass) AS c",
    "INSERT INTO orders (account_id, note) VALUES (currval('accounts_id_seq'), 'x') RETURNING account_id, id",
    "INSERT INTO orders (account_id, note) VALUES (1, 'x'), (2, 'y'), (3, 'z'), (4, 'w') RETURNING id, account_id, note",
    "INSERT INTO orders VALUES (5, DEFAULT, 'q') RETURNING id",
    "INSERT INTO orders (note, account_id, made) VALUES ('values (', 6, now()), ('r', 7, DEFAULT) RETURNING id",
    "INSERT INTO orders OVERRIDING SYSTEM VALUE VALUES (5, -1, 'q'), (6, DEFAULT, 'r') RETURNING id",
    "DELETE FROM orders WHERE id = -1",
    "INSERT INTO orders VALUES (5, 1001, 'q')",
    "INSERT INTO orders VALUES (5, 1001, 'q'), (6, DEFAULT, 'r')",
    "INSERT INTO lines (account_id, what) VALUES (1, 'a'), (2, 'b'), (3, 'c') RETURNING no, small",
    "INSERT INTO lines VALUES (4), (5), (6) RETURNING *",
    "INSERT INTO bills (account_id) VALUES (1), (2), (3) RETURNING no; DELETE FROM bills WHERE account_id > 0",
    "SELECT nextval('invoice_no')",
    "SELECT nextval('invoice_no')::text || 'x' AS t, currval('invoice_no') + 1, 'nextval(''invoice_no'')'",
    "SELECT pg_catalog.nextval('PUBLIC.Invoice_No') n, nextval('\"invoice_no\"'::regclass)::int, lastval() * 2",
    "SELECT nextval('down'); SELECT nextval('down'); SELECT nextval('down')",
    "SELECT nextval('tiny'); SELECT nextval('round'); SELECT nextval('round')",
    "INSERT INTO kinds (name) VALUES ('a'), ('b') RETURNING id",
    "INSERT INTO kinds (id, name) VALUES (nextval('kinds_id_seq'), 'c') RETURNING id",
    // As many as there are rows, in their order.
    "INSERT INTO accounts (name) SELECT 'x' RETURNING id",
    "INSERT INTO accounts (name) SELECT 'n' || g FROM generate_series(1, 12) g ORDER BY g DESC RETURNING id, name",
    "INSERT INTO orders (account_id, note) SELECT id, name FROM accounts WHERE id < 5 ORDER BY id RETURNING account_id, id, note",
    "INSERT INTO lines (account_id, what) SELECT id + 1, name FROM accounts ORDER BY id LIMIT 3 RETURNING no, small, what",
    "INSERT INTO accounts (name) SELECT name FROM accounts WHERE id < 0; SELECT lastval()",
    "INSERT INTO kinds (name) SELECT name FROM accounts ORDER BY id LIMIT 2 RETURNING id, name",
    // One shard has the table, and another one counts for it.
    "INSERT INTO notes (note) VALUES ('a'), ('b') RETURNING id",
    "INSERT INTO notes (note) SELECT note FROM notes ORDER BY id DESC RETURNING id, note",
    "INSERT INTO notes (note) SELECT name FROM kinds ORDER BY id LIMIT 2 RETURNING id, note",
    "INSERT INTO notes (note) SELECT name FROM accounts ORDER BY id LIMIT 2 RETURNING id, note",
    "INSERT INTO notes (id, note) SELECT id + 9000, note FROM notes WHERE id < 3; SELECT nextval('notes_id_seq')",
    "INSERT INTO notes (note) VALUES ('c') RETURNING id",
    "DELETE FROM lines WHERE account_id > 0",
    // Never taken back.
    "BEGIN; INSERT INTO accounts (name) VALUES ('lost'), ('too') RETURNING id; ROLLBACK; INSERT INTO accounts (name) VALUES ('kept') RETURNING id",
    "INSERT INTO accounts (name) VALUES ('ok'), ('ok'), ('bad'); SELECT lastval()",
    "BEGIN; SAVEPOINT a; INSERT INTO accounts (name) VALUES ('x'); ROLLBACK TO a; SELECT nextval('accounts_id_seq'); COMMIT",
    "INSERT INTO accounts (id, name) VALUES (-5, 'given') ON CONFLICT (id) DO UPDATE SET name = 'again' RETURNING id",
    "INSERT INTO accounts (id, name) VALUES (-6, 'given'), (-7, 'given'); DELETE FROM accounts WHERE id < 0",
    "BEGIN READ ONLY; SELECT nextval('invoice_no'); ROLLBACK",
    "BEGIN READ ONLY; SELECT currval('invoice_no'); ROLLBACK",
    "BEGIN; SELECT 1 / 0; SELECT nextval('invoice_no'); ROLLBACK",
    "SELECT setval('invoice_no', 1000); SELECT nextval('invoice_no'); SELECT lastval()",
    "SELECT setval('invoice_no', 2000, false); SELECT currval('invoice_no'); SELECT nextval('invoice_no')",
    "SELECT setval('invoice_no', -1)",
    "SELECT nextval('nobody')",
    "INSERT INTO lines (account_id, small) VALUES (1, 40000)",
    "SELECT setval('lines_no_seq', 2147483647); INSERT INTO lines (account_id) VALUES (1)",
    "SELECT setval('lines_no_seq', 50); INSERT INTO lines (account_id) VALUES (1) RETURNING no; DELETE FROM lines WHERE account_id > 0",
    "DISCARD SEQUENCES; SELECT lastval(); SELECT currval('invoice_no')",
    "SELECT nextval('tiny'); DISCARD ALL; SELECT lastval()",
];

/// What the proxy declines where there is more than one shard.
const REFUSED: &[&str] = &[
    "INSERT INTO unserved (account_id) SELECT 5",
    "INSERT INTO accounts (name) SELECT nextval('invoice_no')::text",
    "INSERT INTO unserved (account_id) VALUES (5)",
    "SELECT nextval('unserved_n_seq')",
    "SELECT nextval('accounts')",
    "SELECT nextval('\"Odd; ''name\"')",
    "SELECT nextval('invoice_no') FROM generate_series(1, 3)",
    "SELECT nextval('invoice_no'), unnest(ARRAY[1, 2])",
    "UPDATE lines SET no = DEFAULT WHERE account_id = 1",
    "UPDATE lines SET no = nextval('lines_no_seq') WHERE account_id = 1",
    "INSERT INTO orders OVERRIDING USER VALUE VALUES (5, 5)",
    "MERGE INTO notes USING (SELECT 1 AS n) s ON notes.id = -s.n WHEN NOT MATCHED THEN INSERT (note) VALUES ('x')",
    "INSERT INTO orders (account_id, note, made) SELECT id, name, 'today' FROM accounts ORDER BY id LIMIT 4",
    "INSERT INTO orders (account_id, made) SELECT id, 'now' FROM kinds ORDER BY id LIMIT 2",
    "COPY unserved (account_id) FROM STDIN",
    "COPY bills (account_id) FROM STDIN",
    "INSERT INTO accounts (name) VALUES ('x') RETURNING nextval('invoice_no')",
];

/// COPY, whose rows take numbers one after the other.
const COPIES: &[(&str, &str)] = &[
    ("COPY accounts (name) FROM STDIN", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n"),
    ("COPY accounts (name) FROM STDIN (FORMAT csv, HEADER)", "name\n\"a\nb\"\nc\n\"\"\n,\n"),
    ("COPY accounts (name) FROM STDIN (FORMAT csv, HEADER)", "name\n\"a\nb\"\nc\n\"\"\n"),
    ("COPY accounts (name) FROM STDIN CSV", "\"a\r\nb\"\r\nc\r\nd"),
    ("COPY accounts (name) FROM STDIN", "a\rb\rc\r"),
    ("COPY accounts (name) FROM STDIN", "a\\\nb\n\\.\n"),
    ("COPY accounts (name) FROM STDIN", ""),
    ("COPY accounts FROM STDIN", "500001\tgiven\n"),
    ("COPY orders (account_id, note) FROM STDIN", "1\tx\n2\ty\n3\t\\N\n4\tz"),
    ("COPY orders (note, account_id, made) FROM STDIN CSV", "a,1,2020-01-01\n\"b,\",2,2020-01-01\n"),
    ("COPY lines (what, account_id) FROM STDIN", "a\t1\nb\t2\nc\t3\n"),
    ("COPY lines (small, account_id) FROM STDIN DELIMITER ','", "-1,1\n-2,2\n-3,3\n"),
    ("COPY kinds (name) FROM STDIN", "x\ny\nz\n"),
    ("COPY kinds FROM STDIN", "7001\tx\n7002\ty\n"),
    // What is wrong, and where.
    ("COPY accounts (name) FROM STDIN", "ok\nok\nbad\nok\n"),
    ("COPY accounts (name) FROM STDIN", "ok\nok\tmore\nok\n"),
    ("COPY accounts (name) FROM STDIN CSV", "ok\n\"ok\nok\n"),
    ("COPY orders (account_id, note) FROM STDIN", "1\tx\n2\n3\tz\n"),
    ("COPY orders (account_id, note) FROM STDIN", "1\tx\ny\tx\n3\tz\n"),
    ("COPY lines (account_id, no) FROM STDIN", "1\t5000\n1\t5000\n"),
    ("COPY kinds (name, nope) FROM STDIN", "x\n"),
];

struct House {
    proxy: Option<Proxy>,
    cluster: Cluster,
    port: u16,
    map: String,
}

impl House {
    async fn build() -> Outcome<Self> {
        let cluster = Cluster::start(ClusterSpec { shards: 5, replicas: 0, ..ClusterSpec::default() }).await?;
        let port = free_port()?;
        let map = map_of_widths(&cluster, port, &WIDTHS, &|width| {
            let sequences = SEQUENCES.join(", ").replace("shard: S", &format!("shard: s{width}"));
            format!(
                "    groups:\n      account: {{key: bigint, tables: {{accounts: id, \
                 orders: account_id, lines: account_id, bills: account_id, unserved: account_id}}}}\n    reference: \
                 [kinds]\n    unsharded: {{s1: [notes]}}\n    failover: {{wait: 20s}}\n    sequences: {{{sequences}}}\n"
            )
        });
        let mut databases: Vec<(u16, String)> = Vec::new();
        for (place, node) in cluster.primaries().enumerate() {
            databases.extend(WIDTHS.iter().filter(|it| **it > place).map(|it| (node.port(), format!("d{it}"))));
        }
        databases.extend(WIDTHS.iter().map(|it| (cluster.nodes()[0].port(), format!("plain{it}"))));
        for (port, name) in databases {
            let node = cluster.primaries().find(|it| it.port() == port).ok_or("a node")?;
            node.value("shop", &format!("CREATE DATABASE {name} OWNER demo")).await?;
            assert_eq!(Client::connect(port, "demo", &name)?.simple(SCHEMA).error, None);
        }
        prepare(&cluster, &map)?;
        let proxy = Proxy::start(&cluster, port, &map, &[]).await?;
        let house = Self { proxy: Some(proxy), cluster, port, map };
        for width in WIDTHS {
            let mut client = house.client(width)?;
            until("the proxy to know what is set up", async || {
                let done = client.simple(
                    "BEGIN; INSERT INTO bills VALUES (1, ''), (2, ''), (3, ''), (4, ''), (5, ''), (6, ''), (7, ''), (8, '')",
                );
                client.simple("ROLLBACK");
                Ok(done.error.is_none())
            })
            .await?;
        }
        Ok(house)
    }

    fn client(&self, width: usize) -> Outcome<Client> {
        Ok(Client::connect(self.port, "demo", &format!("d{width}"))?)
    }

    fn plain(&self, width: usize) -> Outcome<Client> {
        Ok(Client::connect(self.cluster.nodes()[0].port(), "demo", &format!("plain{width}"))?)
    }
}

/// What a client can tell of an answer, but for the numbers of types, and hints.
fn told(answer: &Answer) -> (String, u8, Vec<String>, Option<Vec<String>>) {
    let state = match &answer.error {
        Some(error) => format!("{} {}", error.sqlstate, error.message),
        None => answer.tags.join(";"),
    };
    if answer.error.is_some() {
        return (state, answer.status, Vec::new(), None);
    }
    let cell = |it: &Option<Vec<u8>>| it.as_ref().map_or("NULL".into(), |it| String::from_utf8_lossy(it).into_owned());
    let rows = answer.rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(",")).collect();
    // Times are compared elsewhere.
    let columns = answer.columns.clone().map(|it| it.into_iter().map(|(name, oid)| format!("{name} {oid}")).collect());
    (state, answer.status, rows, columns)
}

fn is_refused(answer: &Answer) -> bool {
    answer.error.as_ref().is_some_and(|it| !it.by_server && it.sqlstate == "0A000")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_sees_what_one_server_does() -> Outcome {
    let house = House::build().await?;
    let mut wrong = Vec::new();
    for width in WIDTHS {
        for how in HOWS {
            let (mut ours, mut plain) = (house.client(width)?, house.plain(width)?);
            // Over one shard the server counts, and says what it has given only where the session is sure to ask the same
            // connection.
            let asks = |it: &str| ["DISCARD", "currval", "lastval"].iter().any(|word| it.contains(word));
            if width == 1 {
                for sql in ["SELECT lastval()", "SELECT currval('invoice_no')", "UPDATE accounts SET id = lastval()"] {
                    assert!(is_refused(&ours.run(how, sql, &[], false)), "{sql}");
                }
                for sql in [
                    "BEGIN",
                    "INSERT INTO accounts (name) VALUES ('seen') RETURNING id",
                    "SELECT lastval(), currval('accounts_id_seq')",
                    "SELECT nextval('invoice_no')",
                    "SELECT lastval(), currval('accounts_id_seq'), currval('invoice_no')",
                    "COMMIT",
                ] {
                    let (here, there) = (ours.run(how, sql, &[], false), plain.run(how, sql, &[], false));
                    assert_eq!(told(&here), told(&there), "{how:?} {sql}");
                }
            }
            for case in ALIKE.iter().filter(|it| width > 1 || !asks(it)) {
                for sql in case.split("; ") {
                    let (here, there) = (ours.run(how, sql, &[], false), plain.run(how, sql, &[], false));
                    if told(&here) != told(&there) || here.parameters != there.parameters {
                        wrong.push(format!("{width} {how:?} {sql}\n  {:?}\n  {:?}", told(&here), told(&there)));
                    }
                }
            }
            // Not a number twice, and of no kind that its column is not of.
            let text = |it: &str| Value { oid: 0, binary: false, bytes: Some(it.as_bytes().to_vec()) };
            if how != How::Simple {
                for binary in [false, true] {
                    for sql in [
                        "INSERT INTO accounts (name) VALUES ($1), ($2), ($1) RETURNING id, name",
                        "INSERT INTO orders (note, account_id) VALUES ($1, 5), ($2, 6) RETURNING id",
                        "SELECT nextval('invoice_no'), $1 || $2",
                    ] {
                        let values = [text("one"), text("two")];
                        let (here, there) = (ours.run(how, sql, &values, binary), plain.run(how, sql, &values, binary));
                        if told(&here) != told(&there) || here.parameters != there.parameters {
                            wrong.push(format!("{width} {how:?} {sql}\n  {:?}\n  {:?}", told(&here), told(&there)));
                        }
                    }
                    let few = ours.run(how, "INSERT INTO accounts (name) VALUES ($1), ($2)", &[text("one")], binary);
                    assert_eq!(few.error.map(|it| it.sqlstate).as_deref(), Some("08P01"));
                }
            }
            for sql in REFUSED.iter().filter(|it| width > 1 && !(how == How::Named && it.starts_with("COPY"))) {
                let here = ours.run(how, sql, &[], false);
                if !is_refused(&here) {
                    wrong.push(format!("{width} {how:?} {sql}: {:?}", told(&here)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
    // At its end a sequence gives what is left, and then an error.
    for width in [2, 5] {
        let (mut ours, mut plain) = (house.client(width)?, house.plain(width)?);
        for _ in 0..45 {
            let sql = "SELECT nextval('tiny')";
            assert_eq!(told(&ours.simple(sql)), told(&plain.simple(sql)));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_copied_take_numbers() -> Outcome {
    let house = House::build().await?;
    let looks = [
        "SELECT id, name FROM accounts ORDER BY id",
        "SELECT account_id, id, note FROM orders ORDER BY 1, 2",
        "SELECT account_id, no, small, what FROM lines ORDER BY 1, 2",
        "SELECT id, name FROM kinds ORDER BY id",
    ];
    let sequences = ["accounts_id_seq", "orders_id_seq", "lines_no_seq", "lines_small_seq", "kinds_id_seq"];
    for width in WIDTHS.into_iter().filter(|it| *it > 1) {
        let (mut ours, mut plain) = (house.client(width)?, house.plain(width)?);
        let mut number = 0;
        for (extended, part) in [(false, 1), (true, 7), (false, 10_000)] {
            for (sql, data) in COPIES {
                let here = ours.copy_in_parts(sql, data.as_bytes(), part, extended);
                let there = plain.copy_in_parts(sql, data.as_bytes(), part, extended);
                let error = |it: &Answer| it.error.as_ref().map(|it| it.context.clone());
                assert_eq!((told(&here), error(&here)), (told(&there), error(&there)), "{sql} {data:?} {width}");
                // What a failure has taken is lost, and may be more than one server takes.
                if here.error.is_some() {
                    number += 1000;
                    for name in sequences {
                        let to = if name == "lines_small_seq" { number / 10 } else { number };
                        let set = format!("SELECT setval('{name}', {to}, false)");
                        assert_eq!(told(&ours.simple(&set)), told(&plain.simple(&set)));
                    }
                } else if sql.contains("(name)") && !data.is_empty() {
                    let last = "SELECT lastval()";
                    assert_eq!(told(&ours.simple(last)), told(&plain.simple(last)), "{sql} {width}");
                }
            }
            let made = "COPY (SELECT 'name ' || n FROM generate_series(1, 500) n) TO STDOUT BINARY";
            let data: Vec<u8> = plain.simple(made).rows.into_iter().flatten().flatten().flatten().collect();
            for sql in ["COPY accounts (name) FROM STDIN BINARY", "COPY kinds (name) FROM STDIN (FORMAT binary)"] {
                let here = ours.copy_in_parts(sql, &data, part, extended);
                assert_eq!(told(&here), told(&plain.copy_in_parts(sql, &data, part, extended)), "{sql} {width}");
                assert_eq!(here.tags, ["COPY 500"]);
            }
            // A sequence that is at its end.
            for (name, last) in [("lines_small_seq", 32_765), ("lines_no_seq", 2_147_483_645)] {
                let set = format!("SELECT setval('{name}', {last})");
                assert_eq!(told(&ours.simple(&set)), told(&plain.simple(&set)));
                let sql = "COPY lines (account_id) FROM STDIN";
                let here = ours.copy_in_parts(sql, b"1\n2\n3\n4\n", part, extended);
                let there = plain.copy_in_parts(sql, b"1\n2\n3\n4\n", part, extended);
                assert_eq!(told(&here), told(&there), "{name} {width}");
                assert!(here.error.is_some());
                number += 1000;
                let to = if name == "lines_small_seq" { number / 10 } else { number };
                let set = format!("SELECT setval('{name}', {to})");
                assert_eq!(told(&ours.simple(&set)), told(&plain.simple(&set)));
            }
            for sql in looks {
                assert_eq!(told(&ours.simple(sql)), told(&plain.simple(sql)), "{sql} {width}");
            }
        }
        let (many, data) = (60_000, (0..60_000).map(|it| format!("row {it}\n")).collect::<String>());
        let before = "SELECT coalesce(max(id), 0) FROM accounts";
        assert_eq!(told(&ours.simple(before)), told(&plain.simple(before)));
        for client in [&mut ours, &mut plain] {
            let done = client.copy_in_parts("COPY accounts (name) FROM STDIN", data.as_bytes(), 8192, false);
            assert_eq!(done.tags, [format!("COPY {many}")], "{:?}", done.error);
        }
        let look =
            "SELECT count(*), count(DISTINCT id), min(id), max(id), sum(id) FROM accounts WHERE name LIKE 'row %'";
        assert_eq!(told(&ours.simple(look)), told(&plain.simple(look)), "{width}");
        for place in 0..width {
            let copies = house.cluster.primaries().nth(place).ok_or("a node")?;
            let mut client = Client::connect(copies.port(), "demo", &format!("d{width}"))?;
            let kinds = "SELECT id, name FROM kinds ORDER BY id";
            assert_eq!(told(&client.simple(kinds)), told(&plain.simple(kinds)), "shard {place} of {width}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_asked_and_check_tells() -> Outcome {
    let house = House::build().await?;
    let node = &house.cluster.nodes()[0];
    for other in house.cluster.nodes() {
        other.value("shop", "CREATE ROLE clerk LOGIN").await?;
        other.value("shop", "GRANT clerk TO demo").await?;
    }
    for node in house.cluster.primaries().take(2) {
        node.value("d2", "GRANT ALL ON accounts, orders TO clerk").await?;
    }
    node.value("plain2", "GRANT ALL ON accounts, orders TO clerk").await?;
    let (mut ours, mut plain) = (house.client(2)?, house.plain(2)?);
    for sql in [
        "SET ROLE clerk",
        "INSERT INTO accounts (name) VALUES ('a') RETURNING id",
        "INSERT INTO orders (account_id) VALUES (1) RETURNING id",
        "SELECT nextval('invoice_no')",
        "RESET ROLE",
        "INSERT INTO accounts (name) VALUES ('a') RETURNING id",
        "BEGIN",
        "SET LOCAL ROLE clerk",
        "SELECT nextval('invoice_no')",
        "ROLLBACK",
        "SELECT nextval('invoice_no')",
    ] {
        assert_eq!(told(&ours.simple(sql)), told(&plain.simple(sql)), "{sql}");
    }
    // A row that came by another way, with a number that is still to come.
    let check = || -> Outcome<String> {
        let file = house.cluster.dir().join("to-prepare.yaml");
        let checked = Command::new(env!("CARGO_BIN_EXE_shardway")).arg("check").arg(&file).arg("--connect").output()?;
        Ok(format!("{}{}", String::from_utf8_lossy(&checked.stderr), String::from_utf8_lossy(&checked.stdout)))
    };
    let before = check()?;
    assert!(before.contains("local-sequence") && before.contains("unserved_n_seq: {shard: s1}"), "{before}");
    assert!(!before.contains("sequence-behind") && !before.contains("sequence-missing"), "{before}");
    house.cluster.nodes()[1].value("d2", "INSERT INTO accounts VALUES (77777, 'by hand')").await?;
    house.cluster.nodes()[2].value("d3", "DROP SEQUENCE tiny").await?;
    let after = check()?;
    assert!(after.contains("sequence-behind") && after.contains("\"accounts\" to 77777"), "{after}");
    assert!(after.contains("sequence \"tiny\" is missing on shard \"s3\""), "{after}");
    assert_eq!(ours.simple("SELECT setval('accounts_id_seq', 77777)").error, None);
    assert!(!check()?.contains("sequence-behind"));
    Ok(())
}

/// A second proxy over the same shards.
struct Other(Child);

impl Other {
    async fn start(house: &House) -> Outcome<(Self, u16)> {
        let port = free_port()?;
        let dir = house.cluster.dir().join("other");
        fs::create_dir_all(&dir)?;
        fs::write(
            dir.join("map.yaml"),
            house.map.replace(&format!("127.0.0.1:{}}}", house.port), &format!("127.0.0.1:{port}}}")),
        )?;
        let child = Command::new(env!("CARGO_BIN_EXE_shardway"))
            .arg("serve")
            .arg("--map")
            .arg(dir.join("map.yaml"))
            .args(["--workers", "2"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("log"))?)
            .spawn()?;
        let other = Self(child);
        until("the other proxy", async || Ok(Client::connect(port, "demo", "d3").is_ok())).await?;
        Ok((other, port))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What clients were told: the numbers of accounts, those of orders, and errors that no death explains.
#[derive(Default)]
struct Heard {
    accounts: Mutex<Vec<i64>>,
    orders: Mutex<Vec<i64>>,
    twice: Mutex<Vec<String>>,
}

fn insert_all_the_time(port: u16, seed: usize, heard: &Arc<Heard>, over: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (heard, over) = (Arc::clone(heard), Arc::clone(over));
    thread::spawn(move || {
        let mut client = Client::connect(port, "demo", "d3").expect("the proxy listens");
        let mut round = seed;
        while !over.load(Ordering::Relaxed) {
            round += 1;
            let (list, sql) = match round % 3 {
                0 => (&heard.accounts, "INSERT INTO accounts (name) VALUES ('a') RETURNING id".to_owned()),
                1 => {
                    (&heard.accounts, "INSERT INTO accounts (name) VALUES ('a'), ('b'), ('c') RETURNING id".to_owned())
                }
                _ => {
                    let account = round * 31 + seed;
                    (&heard.orders, format!("INSERT INTO orders (account_id) VALUES ({account}) RETURNING id"))
                }
            };
            let answer = client.run(HOWS[round / 3 % 3], &sql, &[], false);
            let number = |row: &bytes::Row| {
                String::from_utf8(row[0].clone().unwrap_or_default()).ok().and_then(|it| it.parse::<i64>().ok())
            };
            match &answer.error {
                None => list.lock().expect("nobody panics with it").extend(answer.rows.iter().filter_map(number)),
                Some(error) if error.sqlstate.starts_with("23") => {
                    heard.twice.lock().expect("nobody panics with it").push(error.to_string())
                }
                Some(_) => {}
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_number_comes_twice() -> Outcome {
    let mut house = House::build().await?;
    let (mut other, mut other_port) = Other::start(&house).await?;
    let heard = Arc::new(Heard::default());
    let count = |heard: &Heard| heard.accounts.lock().unwrap().len() + heard.orders.lock().unwrap().len();
    for round in 0..4 {
        let over = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..16)
            .map(|at| {
                let port = if at % 2 == 0 { house.port } else { other_port };
                insert_all_the_time(port, round * 1_000_000 + at * 10_000, &heard, &over)
            })
            .collect();
        let before = count(&heard);
        until("inserts", async || Ok(count(&heard) > before + 400)).await?;
        match round {
            // The proxy dies, with what is left of its blocks.
            0 => drop(other),
            // The server that counts for accounts dies.
            1 => {
                house.cluster.nodes()[0].kill9().await?;
                house.cluster.nodes()[0].start().await?;
                let before = count(&heard);
                until("inserts again", async || Ok(count(&heard) > before + 200)).await?;
                drop(other);
            }
            // The one that counts for orders dies, and the first proxy.
            2 => {
                house.cluster.nodes()[2].kill9().await?;
                house.proxy = None;
                house.cluster.nodes()[2].start().await?;
                drop(other);
            }
            _ => drop(other),
        }
        over.store(true, Ordering::Relaxed);
        // Those whose proxy died have ended in a panic.
        clients.into_iter().for_each(|it| drop(it.join()));
        if house.proxy.is_none() {
            house.proxy = Some(Proxy::start(&house.cluster, house.port, &house.map, &[]).await?);
        }
        (other, other_port) = Other::start(&house).await?;
    }
    drop(other);
    assert_eq!(*heard.twice.lock().unwrap(), Vec::<String>::new());
    for (name, list) in [("accounts", &heard.accounts), ("orders", &heard.orders)] {
        let told = list.lock().unwrap().clone();
        let once: HashSet<i64> = told.iter().copied().collect();
        assert!(told.len() > 300, "{name}: {}", told.len());
        assert_eq!(once.len(), told.len(), "{name}: a number was told twice");
        let mut there = Vec::new();
        for node in house.cluster.primaries().take(3) {
            let all = format!("SELECT string_agg(id::text, ',') FROM {name}");
            let all = node.value("d3", &all).await?.unwrap_or_default();
            there.extend(all.split(',').filter_map(|it| it.parse::<i64>().ok()));
        }
        let rows: HashSet<i64> = there.iter().copied().collect();
        assert_eq!(rows.len(), there.len(), "{name}: a number is in two rows");
        assert!(once.is_subset(&rows), "{name}: a row is lost");
    }
    Ok(())
}
