//! What one session did is not there for the next one, and what it left to itself is still its own.

use crate::client::Answer;
use crate::client::Client;
use crate::house::BOTH;
use crate::house::House;
use crate::house::ONE;
use crate::house::until;

/// No connection is free (ER_CON_COUNT_ERROR).
const NONE_FREE: u16 = 1040;

/// What a session of one shard does; what begins with a backslash is a command of its own.
const DEEDS: [&str; 60] = [
    "SET sort_buffer_size = 300000",
    "SET SESSION lock_wait_timeout = 55",
    "SET @@session.max_statement_time = 50",
    "SET sql_mode = 'ANSI_QUOTES'",
    "SET sql_mode = DEFAULT",
    "SET time_zone = '+05:00'",
    "SET NAMES latin1",
    "SET NAMES utf8mb4",
    "SET group_concat_max_len = 99",
    "SET sql_select_limit = 5",
    "SET foreign_key_checks = 0",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET TRANSACTION READ ONLY",
    "SET autocommit = 0",
    "SET autocommit = 1",
    "SET @a = 1",
    "SET @b = 'x', @c = NULL",
    "SET @a = NULL",
    "SET @b = 1 + 1",
    "SET lock_wait_timeout = 'nonsense'",
    "SET last_insert_id = 77",
    "SET insert_id = 88",
    "SET timestamp = 1000000000",
    "SET rand_seed1 = 5",
    "BEGIN",
    "BEGIN",
    "START TRANSACTION READ ONLY",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE SAVEPOINT s",
    "SELECT nonsense",
    "INSERT INTO t VALUES (1, 1, 'x')",
    "UPDATE t SET a = a + 1 WHERE id = 1",
    "DELETE FROM t WHERE id = 1",
    "SELECT a FROM t WHERE id = 1 FOR UPDATE",
    "SELECT @a := 7",
    "SELECT 8 INTO @c",
    "SELECT LAST_INSERT_ID(99)",
    "CREATE TEMPORARY TABLE IF NOT EXISTS tt (i int)",
    "DROP TEMPORARY TABLE IF EXISTS tt",
    "DROP TABLE IF EXISTS tt",
    "INSERT INTO tt VALUES (1)",
    "SELECT GET_LOCK('l1', 0)",
    "SELECT RELEASE_LOCK('l1')",
    "DO GET_LOCK('l2', 0)",
    "SELECT RELEASE_ALL_LOCKS()",
    "LOCK TABLES t READ, refs READ",
    "LOCK TABLES t WRITE",
    "UNLOCK TABLES",
    "HANDLER t OPEN",
    "HANDLER t CLOSE",
    "SELECT SQL_CALC_FOUND_ROWS 1 LIMIT 0",
    "XA START 'x'",
    "XA END 'x'",
    "XA ROLLBACK 'x'",
    "\\reset",
    "\\db",
];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

fn text(answer: &Answer) -> Vec<String> {
    let cell = |it: &Option<Vec<u8>>| String::from_utf8_lossy(it.as_deref().unwrap_or(b"NULL")).into_owned();
    answer.rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(" = ")).collect()
}

/// What must be as on a fresh connection, as a session sees it; `None`: it gets no connection.
fn looks(client: &mut Client) -> Option<Vec<String>> {
    // These change by themselves, or are a connection's own.
    const MOVE: &str = "'timestamp', 'pseudo_thread_id', 'rand_seed1', 'rand_seed2', 'error_count', 'warning_count', \
                        'last_gtid', 'in_transaction', 'gtid_seq_no', 'gtid_binlog_state', 'gtid_binlog_pos', \
                        'gtid_current_pos', 'proxy_user'";
    let mut all = Vec::new();
    for sql in [
        &format!("SHOW SESSION VARIABLES WHERE variable_name NOT IN ({MOVE})"),
        "SELECT DATABASE()",
        "SELECT UNIX_TIMESTAMP() > 1700000000",
        "SELECT @a, @b, @c",
    ] {
        let answer = client.one(sql);
        if answer.error.as_ref().is_some_and(|it| it.errno == NONE_FREE) {
            return None;
        }
        assert_eq!(answer.error, None, "{sql}");
        all.extend(text(&answer));
    }
    // A table that is only there for whoever made it.
    let dropped = client.one("DROP TEMPORARY TABLE tt");
    match dropped.error.map(|it| it.errno) {
        Some(NONE_FREE) => return None,
        Some(1051) => {}
        other => panic!("a temporary table is another session's: {other:?}"),
    }
    Some(all)
}

/// What a server holds for sessions: named locks, locks of tables, open transactions.
fn held(direct: &mut Client, control: &mut Client) -> Vec<String> {
    let mut held = Vec::new();
    for lock in ["l1", "l2"] {
        if direct.one(&format!("SELECT IS_FREE_LOCK('{lock}')")).value().as_deref() != Some("1") {
            held.push(format!("lock {lock}"));
        }
    }
    match direct.one("LOCK TABLES t WRITE NOWAIT").error {
        Some(error) => held.push(format!("table t: {error}")),
        None => assert_eq!(direct.one("UNLOCK TABLES").error, None),
    }
    let open = control.one("SELECT trx_mysql_thread_id, trx_query FROM information_schema.innodb_trx");
    held.extend(text(&open).into_iter().map(|it| format!("transaction {it}")));
    held
}

#[test]
fn nothing_of_one_session_is_there_for_the_next() {
    let house = House::build("size: 1, wait: 100ms", "");
    let mut direct = house.direct(0, ONE);
    let mut control = house.control(0);
    let fresh = looks(&mut house.client(ONE)).expect("a fresh connection");
    let number = |name: &str, usual: u64| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(usual);
    let seed = number("MYSQL_FAULTS_SEED", 7);
    println!("MYSQL_FAULTS_SEED={seed}");
    let mut random = Random(seed);
    let (mut shared, mut tied) = (0, 0);
    for round in 0..number("MYSQL_FAULTS_ROUNDS", 60) {
        let mut client = house.client(ONE);
        let mut done = Vec::new();
        for _ in 0..random.below(5) + 1 {
            let deed = DEEDS[random.below(DEEDS.len())];
            done.push(deed);
            let answer = match deed {
                "\\reset" => client.reset_connection(),
                "\\db" => client.init_db(ONE),
                _ if random.below(3) == 0 => client.run(deed, &[]).pop().unwrap_or_default(),
                _ => client.one(deed),
            };
            let lost = answer
                .error
                .as_ref()
                .is_some_and(|it| [crate::client::LOST, crate::client::MALFORMED].contains(&it.errno));
            assert!(!lost, "round {round}: {done:?}: {answer:?}");
        }
        // While it is there the connection is another's too, unless something ties it.
        let mut other = house.client(ONE);
        match looks(&mut other) {
            Some(found) => {
                shared += 1;
                same(&found, &fresh, round, &done);
                let held = held(&mut direct, &mut control);
                assert!(held.is_empty(), "round {round}: {done:?}: let go of with {held:?}");
            }
            None => tied += 1,
        }
        // And what it had set is its own, whoever came between.
        let asked = "SELECT @@lock_wait_timeout, @@sql_mode, @@time_zone, @@autocommit, @@group_concat_max_len";
        let before = text(&client.one(asked));
        assert_eq!(before, text(&client.one(asked)), "round {round}: {done:?}");
        drop(client);
        let mut found = None;
        until("the connection to be free", || {
            found = looks(&mut other);
            found.is_some()
        });
        same(&found.unwrap_or_default(), &fresh, round, &done);
        until("all to be let go of", || held(&mut direct, &mut control).is_empty());
    }
    println!("figure: {shared} connections were looked at while the session was there, {tied} were tied to it");
    assert!(shared > 5 && tied > 5, "{shared} {tied}");
}

fn same(found: &[String], fresh: &[String], round: u64, done: &[&str]) {
    let more: Vec<&String> = found.iter().filter(|it| !fresh.contains(it)).collect();
    let less: Vec<&String> = fresh.iter().filter(|it| !found.contains(it)).collect();
    assert!(more.is_empty() && less.is_empty(), "round {round}: {done:?} left behind: {more:?}, not {less:?}");
}

#[test]
fn what_is_tied_comes_loose() {
    let house = House::build("size: 1, wait: 200ms", "");
    let mut other = house.client(ONE);
    let ask = "SELECT COUNT(*) FROM t WHERE id = 5";
    let is_tied = |other: &mut Client| match other.one(ask).error {
        None => false,
        Some(error) if error.errno == NONE_FREE => true,
        Some(error) => panic!("{error}"),
    };
    // What is only asked ties nothing.
    let mut client = house.client(ONE);
    for asked in [
        "SELECT @@version, @@version_comment, @@session.sql_mode",
        "SELECT @@tx_isolation, @@max_allowed_packet, @@autocommit",
        "SHOW VARIABLES LIKE 'sql_mode'",
        "SELECT @a",
        "SELECT IS_FREE_LOCK('tie')",
        "SELECT DATABASE(), USER()",
        "SET @a = 5",
        "SELECT @a",
    ] {
        client.one(asked);
        assert!(!is_tied(&mut other), "{asked}");
    }
    // Each of these ties the one connection, and the next lets go of it.
    for (tie, loose) in [
        ("SELECT GET_LOCK('tie', 0)", "SELECT RELEASE_LOCK('tie')"),
        ("SELECT GET_LOCK('tie', 0)", "DO RELEASE_LOCK('tie')"),
        ("SELECT GET_LOCK('tie', 0)", "SELECT RELEASE_ALL_LOCKS()"),
        ("SELECT GET_LOCK('tie', 0), GET_LOCK('tie2', 0)", "SELECT RELEASE_LOCK('tie'), RELEASE_LOCK('tie2')"),
        ("SELECT GET_LOCK(CONCAT('t', 'ie'), 0)", "SELECT RELEASE_ALL_LOCKS()"),
        ("DO GET_LOCK('tie', 0)", "SELECT RELEASE_LOCK('tie')"),
        ("CREATE TEMPORARY TABLE tt (i int)", "DROP TEMPORARY TABLE tt"),
        ("CREATE TEMPORARY TABLE tt (i int)", "DROP TABLE IF EXISTS nothing, tt"),
        ("LOCK TABLES t WRITE", "UNLOCK TABLES"),
        ("LOCK TABLES t READ", "UNLOCK TABLES"),
        ("BEGIN; INSERT INTO t (id) VALUES (6)", "ROLLBACK"),
        ("SET autocommit = 0; INSERT INTO t (id) VALUES (6)", "ROLLBACK; SET autocommit = 1"),
        ("SELECT GET_LOCK('tie', 0)", "\\reset"),
        ("CREATE TEMPORARY TABLE tt (i int)", "\\reset"),
        ("LOCK TABLES t WRITE", "\\reset"),
        ("BEGIN; INSERT INTO t (id) VALUES (6)", "\\reset"),
    ] {
        let mut client = house.client(ONE);
        for answer in client.query(tie) {
            assert_eq!(answer.error, None, "{tie}");
        }
        if !tie.starts_with("LOCK") {
            assert!(is_tied(&mut other), "{tie} does not tie");
        }
        if loose == "\\reset" {
            assert_eq!(client.reset_connection().error, None, "{tie}");
        } else {
            for answer in client.query(loose) {
                assert_eq!(answer.error, None, "{loose}");
            }
        }
        until(&format!("{tie} to be undone by {loose}"), || !is_tied(&mut other));
        let mut direct = house.direct(0, ONE);
        assert_eq!(held(&mut direct, &mut house.control(0)), [] as [String; 0], "{loose}");
        // Two locks, and one let go of.
        assert_eq!(client.one("SELECT 1").error, None);
    }
    let mut client = house.client(ONE);
    client.done("SELECT GET_LOCK('one', 0), GET_LOCK('two', 0)").expect("two locks");
    client.done("SELECT RELEASE_LOCK('one')").expect("one of them");
    assert!(is_tied(&mut other), "a lock is forgotten");
    assert_eq!(client.one("SELECT RELEASE_LOCK('two')").value().as_deref(), Some("1"));
    assert!(!is_tied(&mut other));
    // The same lock twice is let go of twice.
    client.done("SELECT GET_LOCK('one', 0)").expect("a lock");
    client.done("SELECT GET_LOCK('one', 0)").expect("a lock");
    assert_eq!(client.one("SELECT RELEASE_LOCK('one')").value().as_deref(), Some("1"));
    assert!(is_tied(&mut other), "a lock is forgotten");
    assert_eq!(client.one("SELECT RELEASE_LOCK('one')").value().as_deref(), Some("1"));
    assert!(!is_tied(&mut other));

    // Over several shards nobody could say where it is.
    let mut both = house.client(BOTH);
    for refused in
        ["SELECT GET_LOCK('x', 0)", "LOCK TABLES t WRITE", "CREATE TEMPORARY TABLE tt (i int)", "HANDLER t OPEN"]
    {
        assert_eq!(both.one(refused).error.map(|it| it.errno), Some(1235), "{refused}");
    }
}

#[test]
fn savepoints_hold_for_shards_that_join_late() {
    let house = House::build("size: 2", "");
    let [one, two] = house.keys();
    let count = |key: i64, shard: usize| {
        let sql = format!("SELECT COUNT(*) FROM items WHERE id = {key}");
        house.direct(shard, BOTH).done(&sql).expect("an answer").value().expect("a row")
    };
    let row = |key: i64, no: i64| format!("INSERT INTO items VALUES ({key}, {no})");
    for begin in ["BEGIN", "SET autocommit = 0"] {
        let mut client = house.client(BOTH);
        let mut say = |sql: &str| {
            let answer = client.one(sql);
            assert_eq!(answer.error, None, "{begin}: {sql}");
        };
        say(begin);
        say("SAVEPOINT before_all");
        say(&row(one, 1));
        say("SAVEPOINT a");
        say(&row(one, 2));
        // It joins here, and has none of the savepoints.
        say(&format!("SELECT no FROM items WHERE id = {two}"));
        say("SAVEPOINT b");
        say(&row(one, 3));
        say("ROLLBACK TO b");
        say("ROLLBACK TO SAVEPOINT A");
        say("RELEASE SAVEPOINT `a`");
        say(&format!("SELECT no FROM items WHERE id = {two}"));
        say("COMMIT");
        assert_eq!((count(one, 0), count(two, 1)), ("1".to_owned(), "0".to_owned()), "{begin}");
        say(&format!("DELETE FROM items WHERE id = {one}"));
        say("COMMIT");
        // Gone with the transaction.
        let gone = client.one("ROLLBACK TO b");
        assert_eq!(gone.error.map(|it| it.errno), Some(1305), "{begin}");
        // Those behind it are gone, of all shards.
        client.done("BEGIN").expect("it begins");
        client.done("SAVEPOINT a").expect("a savepoint");
        client.done(&row(one, 1)).expect("a row");
        client.done("SAVEPOINT b").expect("a savepoint");
        client.done(&format!("SELECT no FROM items WHERE id = {two}")).expect("rows");
        client.done("ROLLBACK TO a").expect("back");
        assert_eq!(client.one("ROLLBACK TO b").error.map(|it| it.errno), Some(1305), "{begin}");
        client.done("ROLLBACK TO a").expect("back once more");
        client.done("COMMIT").expect("it commits");
        assert_eq!(count(one, 0), "0", "{begin}");
        // Without autocommit a savepoint may come before all statements; with BEGIN as well.
        client.done("BEGIN").expect("it begins");
        for first in ["SELECT nonsense", "SELECT 1"] {
            if begin == "BEGIN" {
                client.done("BEGIN").expect("it begins");
            } else {
                client.done("COMMIT").expect("nothing is open");
            }
            client.query(first);
            client.done("SAVEPOINT a").expect("a savepoint");
            client.query(first);
            client.done("ROLLBACK TO a").expect("back");
            client.done(&row(one, 1)).expect("a row");
            client.done("ROLLBACK TO a").expect("back");
            client.done("COMMIT").expect("it commits");
            assert_eq!(count(one, 0), "0", "{begin}, {first}");
            assert_eq!(client.one("ROLLBACK TO a").error.map(|it| it.errno), Some(1305), "{begin}, {first}");
        }
        // Where both write, if they may.
        client.done("BEGIN").expect("it begins");
        client.done(&row(one, 1)).expect("a row");
        client.done("SAVEPOINT a").expect("a savepoint");
        let wrote = client.one(&row(two, 1)).error.is_none();
        client.done(&row(one, 2)).expect("a row");
        client.done("SAVEPOINT b").expect("a savepoint");
        if wrote {
            client.done(&row(two, 2)).expect("a row");
        }
        client.done("ROLLBACK TO a").expect("back");
        client.done("COMMIT").expect("it commits");
        assert_eq!((count(one, 0), count(two, 1)), ("1".to_owned(), "0".to_owned()), "{begin}");
        client.done(&format!("DELETE FROM items WHERE id = {one}")).expect("it goes");
        client.done("COMMIT").expect("it commits");
    }
}
