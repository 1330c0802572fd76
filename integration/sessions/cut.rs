//! A server connection cut at every message boundary: a right answer or a right error, and no hang.

use std::time::Instant;

use crate::house::House;
use crate::relay::Way;
use crate::wire::HANG;
use crate::wire::Trouble;
use crate::wire::Wire;
use crate::wire::about;
use crate::wire::bind;
use crate::wire::execute;
use crate::wire::message;
use crate::wire::parse;
use crate::wire::query;
use crate::wire::sync;

/// What is said, and how many ReadyForQuery (or which other message) end the answer.
struct Step(Vec<u8>, u8);

struct Scenario {
    name: &'static str,
    /// Said before the connection is marked.
    before: &'static [&'static str],
    steps: Vec<Step>,
    /// How many rows the table has when it was done.
    rows: usize,
    /// Whether it runs on the server that has `settings`; otherwise where the key is.
    table: &'static str,
}

fn scenarios(key: i64) -> Vec<Scenario> {
    let insert = format!("INSERT INTO customers VALUES ({key}, 'cut')");
    let prepared = "INSERT INTO customers VALUES ($1, 'cut')";
    let key_text = key.to_string();
    let one = |sql: &str| Step(query(sql), b'Z');
    let unnamed = |sql: &str, values: &[&str]| {
        [parse("", sql), bind("", "", values), about(b'D', b'P', ""), execute("", 0)].concat()
    };
    let copy = "COPY settings FROM STDIN";
    let data = |last: u8| [message(b'd', b"cut\t1\n"), message(b'd', b"cut2\t2\n"), message(last, &[])].concat();
    let plain = |name, steps, rows, table| Scenario { name, before: &[], steps, rows, table };
    vec![
        plain("simple insert", vec![one(&insert)], 1, "customers"),
        Scenario {
            name: "simple insert behind a setting",
            before: &["SET work_mem = '3MB'"],
            steps: vec![one(&insert)],
            rows: 1,
            table: "customers",
        },
        plain(
            "two in one query",
            vec![one(&format!("{insert}; UPDATE customers SET name = 'x' WHERE id = {key}"))],
            1,
            "customers",
        ),
        plain(
            "two in one query that go one by one",
            vec![one(&format!(
                "{insert}; SET LOCAL work_mem = '3MB'; UPDATE customers SET name = 'x' WHERE id = {key}"
            ))],
            1,
            "customers",
        ),
        plain(
            "transaction",
            vec![
                one("BEGIN"),
                one(&insert),
                one(&format!("UPDATE customers SET name = 'x' WHERE id = {key}")),
                one("COMMIT"),
            ],
            1,
            "customers",
        ),
        plain(
            "transaction with a savepoint",
            vec![
                one("BEGIN"),
                one(&insert),
                one("SAVEPOINT s"),
                one(&format!("DELETE FROM customers WHERE id = {key}")),
                one("ROLLBACK TO s"),
                one("COMMIT"),
            ],
            1,
            "customers",
        ),
        plain("rolled back", vec![one("BEGIN"), one(&insert), one("ROLLBACK")], 0, "customers"),
        plain("extended insert", vec![Step([unnamed(prepared, &[&key_text]), sync()].concat(), b'Z')], 1, "customers"),
        plain(
            "named statement",
            vec![
                Step([parse("n", prepared), about(b'D', b'S', "n"), sync()].concat(), b'Z'),
                Step([bind("", "n", &[&key_text]), execute("", 0), sync()].concat(), b'Z'),
            ],
            1,
            "customers",
        ),
        plain(
            "extended transaction",
            vec![
                Step([unnamed("BEGIN", &[]), unnamed(prepared, &[&key_text]), sync()].concat(), b'Z'),
                Step([unnamed("UPDATE customers SET name = 'x' WHERE id = $1", &[&key_text]), sync()].concat(), b'Z'),
                Step([unnamed("COMMIT", &[]), sync()].concat(), b'Z'),
            ],
            1,
            "customers",
        ),
        plain(
            "a batch of two",
            vec![Step(
                [
                    unnamed(prepared, &[&key_text]),
                    unnamed("UPDATE customers SET name = 'x' WHERE id = $1", &[&key_text]),
                    sync(),
                ]
                .concat(),
                b'Z',
            )],
            1,
            "customers",
        ),
        plain("copy", vec![Step(query(copy), b'G'), Step(data(b'c'), b'Z')], 2, "settings"),
        plain(
            "copy in a transaction",
            vec![one("BEGIN"), Step(query(copy), b'G'), Step(data(b'c'), b'Z'), one("COMMIT")],
            2,
            "settings",
        ),
        plain(
            "extended copy",
            vec![Step([unnamed(copy, &[]), sync()].concat(), b'G'), Step([data(b'c'), sync()].concat(), b'Z')],
            2,
            "settings",
        ),
        plain("read", vec![one(&format!("SELECT count(*) FROM customers WHERE id = {key}"))], 0, "customers"),
    ]
}

#[test]
fn a_cut_at_every_message_is_told_as_it_is() {
    let house = House::build("size: 1", "");
    let [_, _, key] = house.keys();
    let mut cuts = 0;
    let mut unknown = 0;
    for scenario in scenarios(key) {
        for way in [Way::ToServer, Way::ToProxy] {
            for count in 0.. {
                let began = Instant::now();
                let (cut, said) = once(&house, &scenario, key, way, count);
                assert!(began.elapsed() < HANG, "{} hangs, cut {way:?} after {count}: {said:?}", scenario.name);
                if !cut {
                    break;
                }
                cuts += 1;
                unknown += usize::from(said.iter().any(|it| it.starts_with("E ERROR 08007")));
                assert!(count < 200, "{} never ends", scenario.name);
            }
        }
    }
    println!("{cuts} cuts, {unknown} of them with an unknown outcome");
    assert!(cuts > 100, "only {cuts} cuts");
    assert!(unknown > 10, "only {unknown} of unknown outcome");
}

/// A client that says Sync behind Execute, as libpq does, says another behind the data, and waits for one answer.
#[test]
fn a_copy_that_breaks_before_its_data_has_one_ready_for_query() {
    let house = House::build("size: 1", "");
    let mut client = house.client();
    let began =
        [parse("", "COPY settings FROM STDIN"), bind("", "", &[]), about(b'D', b'P', ""), execute("", 0), sync()];
    client.say(&began.concat()).expect("it is said");
    let heard = client.hear(b'G', 1).expect("the server wants data");
    assert!(!heard.iter().any(|it| it.starts_with("Z ")), "{heard:?}");
    let killed = house
        .node(0)
        .rows("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'COPY settings%'");
    assert_eq!(killed, ["1"]);
    client.hear(b'E', 1).expect("an error");
    client.say(&[message(b'd', b"cut\t1\n"), message(b'c', &[]), sync()].concat()).expect("it is said");
    assert_eq!(client.hear(b'Z', 1).expect("an answer"), ["Z I"]);
    assert_eq!(client.rows("SELECT 7"), ["7"]);
}

/// Runs a scenario with one cut. Whether it came to the cut, and what was said.
fn once(house: &House, scenario: &Scenario, key: i64, way: Way, count: usize) -> (bool, Vec<String>) {
    let on_settings = scenario.table == "settings";
    let (shard, found) = if on_settings {
        (0, "SELECT count(*) FROM settings WHERE name LIKE 'cut%'".to_owned())
    } else {
        (1, format!("SELECT count(*) FROM customers WHERE id = {key}"))
    };
    let context = format!("{}, cut {way:?} after {count}", scenario.name);
    let mut direct = house.node(shard);
    direct.rows(&format!("DELETE FROM {}", scenario.table));
    let mark = if on_settings {
        "SELECT pg_backend_pid(), 'MARK' FROM settings WHERE name = 'nobody'".to_owned()
    } else {
        format!("SELECT pg_backend_pid(), 'MARK' FROM customers WHERE id = {key}")
    };
    // The pool has one connection: what marks it is what the scenario gets.
    house.client().rows(&mark);
    let mut client = house.client();
    for sql in scenario.before {
        client.rows(sql);
    }
    let relay = &house.relays[shard];
    relay.arm(way, count);
    let mut said = Vec::new();
    let mut failed = false;
    for Step(bytes, until) in &scenario.steps {
        if client.say(bytes).is_err() {
            panic!("{context}: the client was thrown out: {said:?}");
        }
        let heard = match until {
            b'Z' => client.hear(b'Z', 1),
            other => until_or_ready(&mut client, *other),
        };
        match heard {
            Ok(heard) => {
                failed |= heard.iter().any(|it| it.starts_with("E "));
                said.extend(heard);
            }
            Err(Trouble::Hang(heard)) => panic!("{context}: a hang after {said:?} {heard:?}"),
            Err(Trouble::Closed(heard)) => panic!("{context}: closed after {said:?} {heard:?}"),
        }
        if failed && *until != b'Z' {
            break;
        }
    }
    let cut = relay.disarm();
    // An extended COPY that was broken off still waits for its Sync.
    let status = said.iter().rev().find(|it| it.starts_with("Z ")).cloned().unwrap_or_default();
    assert!(status == "Z I" || status == "Z E", "{context}: {said:?}");
    if status == "Z E" {
        client.rows("ROLLBACK");
    }
    // The session goes on.
    assert_eq!(client.rows("SELECT 7"), ["7"], "{context}: {said:?}");
    drop(client);
    // What a server was told before the cut is over when nobody else is connected as this application.
    let others = "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid() \
                  AND backend_type = 'client backend' AND (query LIKE '%cut%' OR query LIKE 'COPY%')";
    let began = Instant::now();
    while direct.rows(others) != ["0"] {
        assert!(began.elapsed() < HANG, "{context}: a server never ends");
    }
    let rows: usize = direct.rows(&found)[0].parse().expect("a number");
    let errors: Vec<&str> = said.iter().filter(|it| it.starts_with("E ")).map(|it| &it[8..13]).collect();
    let last = errors.first().copied().unwrap_or_default();
    match last {
        "" => {
            let told = said
                .iter()
                .filter(|it| *it == "C COMMIT" || it.starts_with("C INSERT") || it.starts_with("C COPY"))
                .count();
            assert!(scenario.rows == 0 || told > 0, "{context}: nothing was said to be done: {said:?}");
            assert_eq!(rows, scenario.rows, "{context}: said to be done: {said:?}");
        }
        "08007" => assert!(rows == 0 || rows == scenario.rows, "{context}: half done: {rows}"),
        "40001" | "08006" | "57P03" => assert_eq!(rows, 0, "{context}: said not to be done: {said:?}"),
        "25P02" => panic!("{context}: the first error is of a failed transaction: {said:?}"),
        other => panic!("{context}: {other} is no answer to a cut: {said:?}"),
    }
    assert!(cut || errors.is_empty(), "{context}: an error without a cut: {said:?}");
    (cut, said)
}

fn until_or_ready(client: &mut Wire, until: u8) -> Result<Vec<String>, Trouble> {
    let mut heard = Vec::new();
    loop {
        let mut one = match client.message() {
            Ok((kind, body)) => (kind, crate::wire::describe(kind, &body)),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return Err(Trouble::Hang(heard));
            }
            Err(_) => return Err(Trouble::Closed(heard)),
        };
        heard.push(std::mem::take(&mut one.1));
        if one.0 == until || one.0 == b'Z' {
            return Ok(heard);
        }
    }
}
