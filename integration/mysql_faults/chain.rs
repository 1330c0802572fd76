//! shardway before shardway: a proxy whose shard is another proxy's port answers as the server behind both.

use std::fs;
use std::net::TcpListener;
use std::thread;

use shardway::local_cluster::mariadb::CONTROL_PASSWORD;
use shardway::local_cluster::mariadb::CONTROL_USER;
use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;
use shardway::server;

use crate::client::Client;
use crate::client::MODERN;
use crate::client::OLD;
use crate::client::Types;
use crate::client::Value;
use crate::compare::difference;
use crate::house::House;
use crate::house::ONE;
use crate::house::until;

const SAID: [&str; 49] = [
    "SELECT 1 AS one, 'x', NULL, 1.50",
    "INSERT INTO t VALUES (1, 1, 'one'), (2, 2, NULL)",
    "SELECT * FROM t ORDER BY id",
    "SELECT note FROM t WHERE id = 1",
    "SELECT a / 0 FROM t WHERE id = 1",
    "SHOW WARNINGS",
    "SELECT nonsense FROM t",
    "INSERT INTO t VALUES (1, 1, 'again')",
    "BEGIN",
    "UPDATE t SET a = a + 1 WHERE id = 1",
    "SAVEPOINT s",
    "DELETE FROM t",
    "ROLLBACK TO s",
    "SELECT COUNT(*), SUM(a) FROM t",
    "COMMIT",
    "SET autocommit = 0",
    "INSERT INTO items VALUES (1, 1)",
    "ROLLBACK",
    "SET autocommit = 1",
    "SELECT COUNT(*) FROM items",
    "SET time_zone = '+03:00', @x = 5",
    "SELECT @@time_zone, @x",
    "SELECT 1; SELECT 2 FROM t WHERE id = 1; INSERT INTO refs VALUES ('a', 1)",
    "SELECT REPEAT('x', 300000), id FROM t ORDER BY id",
    "REPLACE INTO refs VALUES ('a', 2), ('b', 3)",
    "DELETE FROM refs",
    // Of several keys, and by transactions.
    "INSERT INTO t VALUES (3, 3, 'c'), (4, 4, 'd'), (5, 5, 'e'), (6, 6, NULL)",
    "SELECT COUNT(*), SUM(a), MIN(note) FROM t",
    "SELECT a % 2 AS odd, COUNT(*) FROM t GROUP BY odd ORDER BY odd",
    "SELECT t.id, other.note FROM t JOIN t AS other ON other.a = t.a + 1 ORDER BY t.id",
    "UPDATE t SET a = a + 10 WHERE id > 2",
    "START TRANSACTION",
    "INSERT INTO items VALUES (1, 1), (2, 1), (3, 1), (4, 1)",
    "UPDATE items SET no = no + 1",
    "SAVEPOINT s",
    "DELETE FROM items WHERE id IN (2, 3)",
    "SELECT COUNT(*) FROM items",
    "ROLLBACK TO s",
    "INSERT INTO items VALUES (9, 9), (1, 2)",
    "COMMIT",
    "SELECT id, no FROM items ORDER BY id, no",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "BEGIN",
    "DELETE FROM items",
    "ROLLBACK",
    "SELECT COUNT(*) FROM items",
    "DELETE FROM items",
    "REPLACE INTO t VALUES (3, 30, 'z'), (7, 7, 'new')",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
];

#[test]
fn a_proxy_before_a_proxy_answers_as_the_server_behind_both() {
    let house = House::build("size: 4", "");
    // A second database of the same tables, which hears the same past both.
    house.wait(house.node(0).create_database("beside")).expect("a database");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
    let map = format!(
        "version: 1\nlisten: {{mysql: 127.0.0.1:{port}}}\nusers: {{{USER}: {{password: {PASSWORD}}}}}\ndatabases:\n  \
         {ONE}:\n    engine: mysql\n    control: {{user: {CONTROL_USER}, password: {CONTROL_PASSWORD}}}\n    shards: {{s1: \
         ['127.0.0.1:{}']}}\n    groups:\n      number: {{key: bigint, tables: {{t: id, items: id}}}}\n    reference: \
         [refs]\n",
        house.proxy
    );
    let path = house.dir().join("outer.yaml");
    fs::write(&path, map).expect("the map is written");
    let stop = server::Stop::default();
    let stopper = stop.clone();
    let settings = server::Settings { map: path, workers: Some(1), ..server::Settings::default() };
    let outer = thread::spawn(move || server::run(&settings, &stopper));
    let mut last = String::new();
    let mut knows = || {
        let client = Client::connect(port, USER, PASSWORD, ONE);
        let answer = client.and_then(|mut client| client.done("SELECT a FROM t WHERE id = 1"));
        last = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
        answer.is_ok()
    };
    let began = std::time::Instant::now();
    while !knows() {
        assert!(began.elapsed() < crate::house::HANG, "the outer proxy does not answer: {last}");
        thread::yield_now();
    }
    let mut direct = house.direct(0, "beside");
    for sql in crate::house::SCHEMA.split(';') {
        direct.done(sql).expect("a table");
    }
    for capabilities in [MODERN, OLD] {
        let mut ours = Client::connect_with(port, USER, PASSWORD, ONE, capabilities).expect("a login");
        let mut plain =
            Client::connect_with(house.node(0).port(), USER, PASSWORD, "beside", capabilities).expect("a login");
        for sql in SAID {
            let theirs = crate::compare::renamed_from(plain.query(sql), "beside", ONE);
            if let Some(what) = difference(&ours.query(sql), &theirs, true) {
                panic!("{sql}: {what}");
            }
            assert_eq!(difference(&[ours.ping()], &[plain.ping()], true), None, "{sql}");
        }
        let sql = "SELECT id, note FROM t WHERE id = ?";
        let statements = (ours.prepare(sql).expect("prepared"), plain.prepare(sql).expect("prepared"));
        for (place, key) in [1_i64, 2, 99].into_iter().enumerate() {
            let types = if place == 0 { Types::Told } else { Types::AsBefore };
            let theirs = plain.execute(&statements.1, &[Value::Long(key)], types);
            let theirs = crate::compare::renamed_from(theirs, "beside", ONE);
            assert_eq!(difference(&ours.execute(&statements.0, &[Value::Long(key)], types), &theirs, true), None);
        }
        for client in [&mut ours, &mut plain] {
            client.done("DELETE FROM t").expect("no rows");
        }
    }
    // A server that dies behind both is told of as behind one.
    let mut client = Client::connect(port, USER, PASSWORD, ONE).expect("a login");
    client.done("BEGIN").expect("it begins");
    client.done("INSERT INTO t VALUES (7, 1, 'lost')").expect("a row");
    house.wait(house.node(0).kill9()).expect("it is killed");
    house.wait(house.node(0).start()).expect("it starts again");
    let lost = client.one("INSERT INTO t VALUES (8, 1, 'lost')");
    assert_eq!(lost.error.map(|it| it.errno), Some(1213));
    client.done("ROLLBACK").expect("it is over");
    until("the server to be back", || client.one("SELECT * FROM t").error.is_none());
    assert_eq!(client.done("SELECT * FROM t").expect("rows").rows.len(), 0);
    drop(client);
    stop.stop();
    let _ = outer.join();
}
