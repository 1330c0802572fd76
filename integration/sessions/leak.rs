//! What one session did is not there for the next one, and what it left to itself is still its own.

use std::time::Duration;
use std::time::Instant;

use crate::house::House;
use crate::wire::HANG;
use crate::wire::Wire;
use crate::wire::about;
use crate::wire::bind;
use crate::wire::execute;
use crate::wire::flush;
use crate::wire::parse;
use crate::wire::query;
use crate::wire::sync;

/// What must be as on a fresh connection. The proxy's own statements are named sw_….
const LOOKS: [&str; 6] = [
    "SELECT name, setting FROM pg_settings WHERE name NOT IN ('transaction_isolation', 'in_hot_standby') ORDER BY name",
    "SELECT name FROM pg_prepared_statements WHERE name NOT LIKE 'sw\\_%'",
    "SELECT pg_listening_channels()",
    "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()",
    "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    "SELECT name FROM pg_cursors WHERE is_holdable",
];

const DEEDS: [&str; 40] = [
    "SET work_mem = '3MB'",
    "SET search_path = pg_catalog, public",
    "SET statement_timeout = '50s'",
    "SET a.b = 'c'",
    "SET LOCAL work_mem = '9MB'",
    "RESET work_mem",
    "RESET ALL",
    "DISCARD ALL",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET datestyle = 'German'",
    "BEGIN",
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "SELECT 1/0",
    "CREATE TEMP TABLE IF NOT EXISTS tt (i int)",
    "DROP TABLE IF EXISTS tt",
    "INSERT INTO tt VALUES (1)",
    "DISCARD TEMP",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE ALL",
    "LISTEN ears",
    "UNLISTEN *",
    "SELECT pg_advisory_lock(5)",
    "SELECT pg_advisory_unlock(5)",
    "SELECT pg_advisory_unlock_all()",
    "SELECT pg_advisory_xact_lock(6)",
    "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 3)",
    "CLOSE ALL",
    "SELECT set_config('work_mem', '5MB', false)",
    "SELECT set_config('work_mem', '6MB', true)",
    "SET work_mem = 'nonsense'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

fn looks(wire: &mut Wire) -> Result<Vec<Vec<String>>, String> {
    LOOKS
        .iter()
        .map(|sql| {
            let heard = wire.ask(sql).map_err(|trouble| format!("{trouble:?}"))?;
            match heard.iter().find(|it| it.starts_with("E ")) {
                Some(error) => Err(format!("{sql}: {error}")),
                None => Ok(heard.into_iter().filter(|it| it.starts_with("D ")).collect()),
            }
        })
        .collect()
}

#[test]
fn nothing_of_one_session_is_there_for_the_next() {
    let house = House::build("size: 1, wait: 100ms", "");
    let fresh = looks(&mut house.node(0)).expect("a fresh connection");
    let seed = std::env::var("SESSIONS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("SESSIONS_SEED={seed}");
    let mut random = Random(seed);
    let mut alone = 0;
    let mut shared = 0;
    for round in 0..120 {
        let mut client = house.client();
        let mut done = Vec::new();
        for _ in 0..random.below(12) + 1 {
            let deed = DEEDS[random.below(DEEDS.len())];
            done.push(deed);
            if random.below(3) == 0 {
                let said = [parse("", deed), bind("", "", &[]), execute("", 0), sync()].concat();
                client.say(&said).expect("it is taken");
                client.hear(b'Z', 1).unwrap_or_else(|trouble| panic!("round {round}: {done:?}: {trouble:?}"));
            } else {
                client.ask(deed).unwrap_or_else(|trouble| panic!("round {round}: {done:?}: {trouble:?}"));
            }
        }
        // While it is connected the connection is another's too, unless something ties it.
        let mut other = house.client();
        match looks(&mut other) {
            Ok(found) => {
                shared += 1;
                same(&found, &fresh, round, &done);
            }
            Err(error) => assert!(error.contains("53300"), "round {round}: {done:?}: {error}"),
        }
        // And what it had set is its own, whoever came between.
        let timeout = "SELECT current_setting('work_mem'), current_setting('search_path')";
        let before = client.ask(timeout).expect("an answer");
        let after = client.ask(timeout).expect("an answer");
        assert_eq!(before, after, "round {round}: {done:?}");
        drop(client);
        let began = Instant::now();
        let found = loop {
            match looks(&mut other) {
                Ok(found) => break found,
                Err(error) => {
                    assert!(error.contains("53300") && began.elapsed() < HANG, "round {round}: {done:?}: {error}")
                }
            }
        };
        alone += 1;
        same(&found, &fresh, round, &done);
    }
    println!("{alone} hand-outs looked at after the session had left, {shared} while it was there");
    assert!(shared > 20, "{shared}");
}

fn same(found: &[Vec<String>], fresh: &[Vec<String>], round: usize, done: &[&str]) {
    for ((found, fresh), sql) in found.iter().zip(fresh).zip(LOOKS) {
        let more: Vec<&String> = found.iter().filter(|it| !fresh.contains(it)).collect();
        let less: Vec<&String> = fresh.iter().filter(|it| !found.contains(it)).collect();
        assert!(
            more.is_empty() && less.is_empty(),
            "round {round}: {done:?} left behind: {more:?}, not {less:?} ({sql})"
        );
    }
}

#[test]
fn what_is_tied_comes_loose_and_notifications_reach_who_waits() {
    let house = House::build("size: 1, wait: 1s", "timeouts: {idle_in_transaction: 2s}\n");
    let [a, _, c] = house.keys();
    // Each of these ties the one connection, and the next lets go of it.
    for (tie, loose) in [
        ("CREATE TEMP TABLE tt (i int)", "DROP TABLE tt"),
        ("CREATE TEMP TABLE tt (i int)", "DISCARD ALL"),
        ("SELECT pg_advisory_lock(5)", "SELECT pg_advisory_unlock(5)"),
        ("LISTEN ears", "UNLISTEN ears"),
        ("DECLARE h CURSOR WITH HOLD FOR SELECT relname FROM pg_class", "CLOSE h"),
        ("BEGIN; CREATE TEMP TABLE tt (i int)", "ROLLBACK"),
    ] {
        let (mut client, mut other) = (house.client(), house.client());
        assert!(!client.ask(tie).expect("an answer").iter().any(|it| it.starts_with("E ")), "{tie}");
        let both = [a, c].map(|key| format!("SELECT count(*) FROM customers WHERE id = {key}"));
        let refused = both.iter().any(|sql| other.ask(sql).expect("an answer").iter().any(|it| it.contains("53300")));
        assert!(refused, "{tie} does not tie");
        client.rows(loose);
        for sql in &both {
            assert_eq!(other.rows(sql), ["0"], "{loose}");
        }
    }

    // A notification reaches a client that says nothing.
    let mut ears = house.client();
    ears.rows("LISTEN ears");
    house.node(0).rows("NOTIFY ears, 'psst'");
    assert_eq!(ears.hear(b'A', 1).expect("it is told"), ["A ears=psst"]);
    drop(ears);

    // A client that leaves within a transaction has done nothing, and its connection serves the next one.
    let mut client = house.client();
    client.rows("BEGIN");
    client.rows(&format!("INSERT INTO customers VALUES ({a}, 'left')"));
    client.say(b"X\0\0\0\x04").expect("it is taken");
    drop(client);
    assert_eq!(house.client().rows(&format!("SELECT count(*) FROM customers WHERE id = {a}")), ["0"]);

    // One that waits too long within a transaction is told, and holds nothing any more.
    let mut idle = house.client();
    idle.rows("BEGIN");
    idle.rows(&format!("INSERT INTO customers VALUES ({a}, 'idle')"));
    let told = idle.hear(b'E', 1).expect("it is told");
    assert!(told[0].starts_with("E FATAL 25P03"), "{told:?}");
    assert_eq!(house.client().rows(&format!("SELECT count(*) FROM customers WHERE id = {a}")), ["0"]);

    // A cancel request strikes the statement that runs, and no other session's.
    let mut sleeper = house.client();
    sleeper.say(&query("SELECT pg_sleep(60)")).expect("it is taken");
    let began = Instant::now();
    let mut direct = house.node(0);
    while direct.rows("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'")
        != ["1"]
    {
        assert!(began.elapsed() < HANG, "it does not begin");
    }
    let mut cancel = std::net::TcpStream::connect(("127.0.0.1", house.proxy)).expect("the proxy listens");
    let request = [&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &sleeper.key].concat();
    std::io::Write::write_all(&mut cancel, &request).expect("it is taken");
    let cancelled = sleeper.hear(b'Z', 1).expect("an answer");
    assert!(cancelled.iter().any(|it| it.starts_with("E ERROR 57014")), "{cancelled:?}");
    for _ in 0..20 {
        assert_eq!(house.client().rows("SELECT 1 FROM pg_class LIMIT 1"), ["1"]);
    }
    assert!(began.elapsed() < Duration::from_secs(30));

    // A batch and a query that would write two shards leave nothing.
    let mut client = house.client();
    let two = "INSERT INTO customers VALUES ($1, 'two')";
    let both: Vec<u8> = [a, c]
        .iter()
        .flat_map(|key| [parse("", two), bind("", "", &[&key.to_string()]), execute("", 0)].concat())
        .collect();
    client.say(&[both, sync()].concat()).expect("it is taken");
    let heard = client.hear(b'Z', 1).expect("an answer");
    assert!(
        heard.iter().any(|it| it.starts_with("E ERROR 0A000")) && heard.last().is_some_and(|it| it == "Z I"),
        "{heard:?}"
    );
    let heard = client
        .ask(&format!("INSERT INTO customers VALUES ({a}, 'two'); INSERT INTO customers VALUES ({c}, 'two')"))
        .expect("an answer");
    assert!(heard.iter().any(|it| it.starts_with("E ERROR 0A000")), "{heard:?}");
    for key in [a, c] {
        assert_eq!(client.rows(&format!("SELECT count(*) FROM customers WHERE id = {key}")), ["0"]);
    }
}

#[test]
fn a_setting_that_a_shard_refuses_costs_the_statement_and_not_the_connection() {
    let house = House::build("size: 1, wait: 1s", "");
    let [a, _, c] = house.keys();
    house.node(0).rows("CREATE TEXT SEARCH CONFIGURATION only_here (COPY = simple)");
    let mut client = house.client();
    for (key, held) in [(a, "ha"), (c, "hc")] {
        client.rows(&format!("INSERT INTO customers VALUES ({key}, 'x')"));
        client.rows(&format!("DECLARE {held} CURSOR WITH HOLD FOR SELECT name FROM customers WHERE id = {key}"));
    }
    let there = format!("SELECT pg_backend_pid() FROM customers WHERE id = {c}");
    let pid = client.rows(&there);
    // The first shard takes it, and the second one is told when it is next used.
    client.rows("SET default_text_search_config = 'public.only_here'");
    let is_refused = |heard: Vec<String>, status: &str| {
        assert!(heard.iter().any(|it| it.starts_with("E ERROR 22023")), "{heard:?}");
        assert_eq!(heard.last().map(String::as_str), Some(status), "{heard:?}");
    };
    for _ in 0..2 {
        is_refused(client.ask(&there).expect("an answer"), "Z I");
        let said = [parse("", &there), bind("", "", &[]), execute("", 0), sync()].concat();
        client.say(&said).expect("it is taken");
        is_refused(client.hear(b'Z', 1).expect("an answer"), "Z I");
    }
    client.rows("BEGIN");
    client.rows(&format!("SELECT 1 FROM customers WHERE id = {a}"));
    is_refused(client.ask(&there).expect("an answer"), "Z E");
    client.rows("ROLLBACK");
    client.rows("RESET default_text_search_config");
    // It is the same connection, with all that it holds.
    assert_eq!(client.rows(&there), pid);
    assert_eq!(client.rows("FETCH 1 FROM hc"), ["x"]);
    client.rows("CLOSE hc");
    client.rows("CLOSE ha");

    // Within a transaction that has done something there, a savepoint leads back.
    client.rows("BEGIN");
    client.rows(&format!("SELECT 1 FROM customers WHERE id = {a}"));
    client.rows(&format!("UPDATE customers SET name = 'kept' WHERE id = {c}"));
    client.rows("SAVEPOINT s");
    client.rows("SET default_text_search_config = 'public.only_here'");
    is_refused(client.ask(&there).expect("an answer"), "Z E");
    client.rows("ROLLBACK TO s");
    client.rows("COMMIT");
    assert_eq!(client.rows(&format!("SELECT name FROM customers WHERE id = {c}")), ["kept"]);
}

/// What the proxy cannot do within a pipeline's transaction is refused before anything of it is done.
#[test]
fn what_no_pipeline_can_take_back_is_refused() {
    let house = House::build("size: 2", "");
    let [a, ..] = house.keys();
    let mut client = house.client();
    let run = |sql: &str| [parse("", sql), bind("", "", &[]), execute("", 0)].concat();
    let insert = run(&format!("INSERT INTO customers VALUES ({a}, 'x')"));
    let (alter, select) = (run("ALTER TABLE customers ADD COLUMN piped int"), run("SELECT 1"));
    let modes = run("SET TRANSACTION READ ONLY");
    for (script, answers) in [
        ([&insert[..], &alter, &sync()].concat(), 1),
        ([&alter[..], &insert, &sync()].concat(), 1),
        ([&alter[..], &select, &sync()].concat(), 1),
        ([&alter[..], &query("SELECT 1"), &sync()].concat(), 2),
        ([&insert[..], &query("ALTER TABLE customers ADD COLUMN piped int"), &sync()].concat(), 2),
        ([&insert[..], &modes, &sync()].concat(), 1),
        ([&modes[..], &insert, &sync()].concat(), 1),
        ([&modes[..], &query("SELECT 1"), &sync()].concat(), 2),
    ] {
        client.say(&script).expect("it is taken");
        let heard = client.hear(b'Z', answers).expect("an answer");
        assert_eq!(heard.iter().filter(|it| it.starts_with("E ERROR 0A000")).count(), 1, "{heard:?}");
        assert_eq!(heard.last().map(String::as_str), Some("Z I"), "{heard:?}");
        assert_eq!(client.rows(&format!("SELECT count(*) FROM customers WHERE id = {a}")), ["0"], "{heard:?}");
        for shard in [0, 1] {
            let there = house.node(shard).rows("SELECT count(*) FROM pg_attribute WHERE attname = 'piped'");
            assert_eq!(there, ["0"], "{heard:?}");
        }
    }
    // Alone, whatever is told of it, it is done.
    for ending in [sync(), [about(b'C', b'S', ""), flush(), sync()].concat()] {
        client.say(&[alter.clone(), ending].concat()).expect("it is taken");
        let heard = client.hear(b'Z', 1).expect("an answer");
        assert!(heard.iter().any(|it| it == "C ALTER TABLE"), "{heard:?}");
        client.rows("ALTER TABLE customers DROP COLUMN piped");
    }
}
