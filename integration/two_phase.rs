//! Transactions that write on several shards: all of them or none, whoever dies between any two messages.
//!
//! `SHARDWAY_TWO_PHASE=all` strikes at every message in every way; without it every third is tried.

#[path = "oracle/wire.rs"]
#[allow(dead_code, reason = "the oracle uses the rest of it")]
mod bytes;
mod proxy;
#[path = "sessions/relay.rs"]
mod relay;

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Answer;
use bytes::Client;
use bytes::How;
use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of;
use proxy::prepare;
use proxy::until;
use relay::Relay;
use relay::Way;
use shardway::clock;
use shardway::ident::ShardId;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::shard_map::Environment;
use shardway::shard_map::ShardMap;
use shardway::tasks;
use shardway::topology::Topology;
use shardway::topology::control;
use shardway::topology::txlog;
use tokio::sync::watch;

const TABLES: &str = "    groups: {key: {key: bigint, tables: {t: id, child: id, lone: id}}}
    failover: {wait: 20s}
users: {demo: {auth: trust}, other: {auth: trust}}
";

/// Three shards, relays before them, and a proxy behind those.
struct House {
    cluster: Cluster,
    relays: Vec<Relay>,
    map: String,
    port: u16,
    proxy: Option<Proxy>,
    /// Keys of each shard that nobody has used.
    keys: Vec<Vec<i64>>,
}

impl House {
    async fn build() -> Outcome<Self> {
        let cluster = Cluster::start(ClusterSpec { shards: 3, replicas: 0, ..ClusterSpec::default() }).await?;
        for node in cluster.primaries() {
            for text in [
                "CREATE ROLE other LOGIN",
                "GRANT other TO demo",
                "GRANT ALL ON SCHEMA public TO other",
                "CREATE TABLE t (id bigint PRIMARY KEY, note text CHECK (note <> 'bad'))",
                "CREATE TABLE child (id bigint, no bigint REFERENCES t DEFERRABLE INITIALLY DEFERRED, PRIMARY KEY (id, no))",
                "CREATE TABLE lone (id bigint PRIMARY KEY, note text)",
                "GRANT ALL ON t, child, lone TO other",
                "ALTER TABLE lone OWNER TO demo",
                "ALTER TABLE t OWNER TO demo",
                "ALTER TABLE child OWNER TO demo",
            ] {
                node.value("shop", text).await?;
            }
        }
        let relays: Vec<Relay> = cluster.nodes().iter().map(|node| Relay::start(node.port())).collect();
        let port = free_port()?;
        let mut map = map_of(&cluster, port, |_| true, TABLES);
        for (node, relay) in cluster.nodes().iter().zip(&relays) {
            map = map.replace(&format!("port: {}}}", node.port()), &format!("port: {}}}", relay.port));
        }
        let mut house = Self { cluster, relays, map, port, proxy: None, keys: Vec::new() };
        house.serve().await?;
        let mut client = house.client()?;
        // Where nobody has set up anything, the second shard is refused, and says what to do.
        house.keys = vec![Vec::new(); 3];
        for key in 1..=1500_i64 {
            let found = client.simple(&format!("INSERT INTO t VALUES ({key}, '') RETURNING inet_server_port()"));
            let at = String::from_utf8(found.rows[0][0].clone().ok_or("a port")?)?;
            let shard = house.cluster.nodes().iter().position(|node| node.port().to_string() == at);
            house.keys[shard.ok_or("a shard")?].push(key);
        }
        for shard in 0..3 {
            house.cluster.nodes()[shard].value("shop", "TRUNCATE t, child").await?;
        }
        let [a, b, c] = house.next();
        client.simple("BEGIN");
        assert_eq!(client.simple(&format!("INSERT INTO t VALUES ({a}, '')")).error, None);
        let refused = client.simple(&format!("INSERT INTO t VALUES ({b}, '')")).error.ok_or("refused")?;
        assert_eq!((&*refused.sqlstate, refused.hint.contains("--prepare")), ("0A000", true), "{refused}");
        client.simple("ROLLBACK");
        // As often as one likes.
        for _ in 0..2 {
            prepare(&house.cluster, &house.map)?;
        }
        until("the proxy to know", async || {
            client.simple("BEGIN");
            client.simple(&format!("INSERT INTO t VALUES ({a}, '')"));
            let all = [b, c].map(|key| client.simple(&format!("INSERT INTO t VALUES ({key}, '')")).error.is_none());
            client.simple("ROLLBACK");
            Ok(all == [true, true])
        })
        .await?;
        Ok(house)
    }

    async fn serve(&mut self) -> Outcome {
        self.proxy = None;
        self.proxy = Some(Proxy::start(&self.cluster, self.port, &self.map, &[]).await?);
        Ok(())
    }

    fn client(&self) -> Outcome<Client> {
        self.client_as("demo")
    }

    fn client_as(&self, user: &str) -> Outcome<Client> {
        Ok(Client::connect(self.port, user, "shop")?)
    }

    /// A new key of each shard.
    fn next(&mut self) -> [i64; 3] {
        std::array::from_fn(|shard| self.keys[shard].pop().expect("keys enough"))
    }

    /// On how many shards a transaction's row is, once nothing is in doubt any more.
    async fn found(&self, keys: &[i64]) -> Outcome<usize> {
        for node in self.cluster.nodes() {
            until("the end of what was prepared", async || {
                let left = node.value("shop", "SELECT count(*) FROM pg_prepared_xacts").await;
                Ok(matches!(left, Ok(Some(count)) if count == "0"))
            })
            .await?;
        }
        let mut found = 0;
        for (node, key) in self.cluster.nodes().iter().zip(keys) {
            let there = node.value("shop", &format!("SELECT count(*) FROM t WHERE id = {key}")).await?;
            found += usize::from(there.as_deref() == Some("1"));
        }
        Ok(found)
    }
}

fn state(answer: &Answer) -> String {
    match &answer.error {
        Some(error) => error.sqlstate.clone(),
        None => answer.tags.join(" "),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_over_shards_is_one() -> Outcome {
    let mut house = House::build().await?;
    let mut client = house.client()?;

    // In every protocol, with and without what a session may have set.
    for how in [How::Simple, How::Unnamed, How::Named] {
        for set in [
            "SELECT 1",
            "SET LOCAL ROLE other",
            "SET ROLE other",
            "SET LOCAL statement_timeout = '200ms'",
            "SET synchronous_commit = off",
            "SET CONSTRAINTS ALL DEFERRED",
            "SAVEPOINT a",
        ] {
            let keys = house.next();
            assert_eq!(state(&client.run(how, "BEGIN", &[], false)), "BEGIN");
            assert_eq!(client.run(how, set, &[], false).error, None, "{set}");
            for key in keys {
                let said = format!("INSERT INTO t VALUES ({key}, 'one')");
                assert_eq!(state(&client.run(how, &said, &[], false)), "INSERT 0 1", "{set}");
            }
            let done = client.run(how, "COMMIT", &[], false);
            assert_eq!((state(&done), done.status, done.notices), ("COMMIT".to_owned(), b'I', Vec::new()), "{set}");
            assert_eq!(house.found(&keys).await?, 3, "{set}");
            // Nothing of how it was done is to be seen.
            for (name, value) in [("statement_timeout", "0"), ("lock_timeout", "0")] {
                assert_eq!(client.simple(&format!("SHOW {name}")).rows, [[Some(value.as_bytes().to_vec())]]);
            }
            let role = if set == "SET ROLE other" { "other" } else { "none" };
            for key in keys {
                let seen = client.simple(&format!("SELECT current_setting('role') FROM t WHERE id = {key}"));
                assert_eq!(seen.rows, [[Some(role.as_bytes().to_vec())]]);
            }
            client.simple("RESET ROLE; RESET synchronous_commit");
        }
    }
    // Another login's parts are that login's to end.
    let keys = house.next();
    let mut other = house.client_as("other")?;
    other.simple("BEGIN");
    for key in keys {
        other.simple(&format!("INSERT INTO t VALUES ({key}, 'other')"));
    }
    assert_eq!(state(&other.simple("COMMIT")), "COMMIT");
    assert_eq!(house.found(&keys).await?, 3);
    // Several statements of one Query are one transaction.
    let keys = house.next();
    let said = keys.map(|key| format!("INSERT INTO t VALUES ({key}, 'query')")).join("; ");
    assert_eq!(client.simple(&said).error, None);
    assert_eq!(house.found(&keys).await?, 3);
    let keys = house.next();
    let said = keys.map(|key| format!("INSERT INTO t VALUES ({key}, 'query')")).join("; ");
    assert_eq!(state(&client.simple(&format!("{said}; SELECT 1/0"))), "22012");
    assert_eq!(house.found(&keys).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_anywhere_is_nowhere() -> Outcome {
    let mut house = House::build().await?;
    let mut client = house.client()?;
    for (what, sqlstate) in [
        // A statement's error, on the last shard.
        ("INSERT INTO t VALUES ({}, 'bad')", "23514"),
        // One that is found at COMMIT, at home and elsewhere.
        ("INSERT INTO child VALUES ({0}, -1)", "23503"),
        ("INSERT INTO child VALUES ({2}, -1)", "23503"),
    ] {
        let keys = house.next();
        client.simple("BEGIN");
        for key in keys {
            client.simple(&format!("INSERT INTO t VALUES ({key}, '')"));
        }
        let mut said = what.replace("{}", &house.next()[2].to_string());
        for (place, key) in keys.iter().enumerate() {
            said = said.replace(&format!("{{{place}}}"), &key.to_string());
        }
        let failed = client.simple(&said);
        let ended = client.simple("COMMIT");
        match &failed.error {
            Some(error) => assert_eq!((&*error.sqlstate, state(&ended)), (sqlstate, "ROLLBACK".to_owned()), "{what}"),
            None => assert_eq!(state(&ended), sqlstate, "{what}"),
        }
        assert_eq!(ended.status, b'I');
        assert_eq!(house.found(&keys).await?, 0, "{what}");
        // The session goes on, in a new transaction.
        assert_eq!(state(&client.simple("SELECT 1")), "SELECT 1");
    }
    // What was written since a savepoint and rolled back to it takes no part.
    let [a, b, c] = house.next();
    client.simple("BEGIN");
    client.simple(&format!("INSERT INTO t VALUES ({a}, '')"));
    client.simple("SAVEPOINT s");
    client.simple(&format!("INSERT INTO t VALUES ({b}, '')"));
    client.simple(&format!("INSERT INTO t VALUES ({c}, 'bad')"));
    client.simple("ROLLBACK TO s");
    client.simple(&format!("INSERT INTO t VALUES ({c}, 'good')"));
    assert_eq!(state(&client.simple("COMMIT")), "COMMIT");
    assert_eq!(house.found(&[a, b, c]).await?, 2);
    // ROLLBACK leaves nothing.
    let keys = house.next();
    client.simple("BEGIN");
    for key in keys {
        client.simple(&format!("INSERT INTO t VALUES ({key}, '')"));
    }
    assert_eq!(state(&client.simple("ROLLBACK")), "ROLLBACK");
    assert_eq!(house.found(&keys).await?, 0);
    // What cannot be prepared is at home; twice it is refused, and nothing is done.
    let keys = house.next();
    client.simple("BEGIN; CREATE TEMP TABLE scratch (n int)");
    for key in keys {
        client.simple(&format!("INSERT INTO t VALUES ({key}, '')"));
    }
    assert_eq!(state(&client.simple("COMMIT")), "COMMIT");
    assert_eq!(house.found(&keys).await?, 3);
    client.simple("DROP TABLE scratch");
    let [a, b, c] = house.next();
    client.simple("BEGIN");
    for key in [a, b] {
        let held = format!("DECLARE held{key} CURSOR WITH HOLD FOR SELECT id FROM t WHERE id = {key}");
        assert_eq!(state(&client.simple(&held)), "DECLARE CURSOR");
    }
    assert_eq!(state(&client.simple(&format!("INSERT INTO t VALUES ({a}, '')"))), "INSERT 0 1");
    assert_eq!(state(&client.simple(&format!("INSERT INTO t VALUES ({c}, '')"))), "INSERT 0 1");
    let refused = client.simple(&format!("INSERT INTO t VALUES ({b}, '')"));
    assert_eq!((state(&refused), refused.status), ("0A000".to_owned(), b'E'));
    assert_eq!(state(&client.simple("COMMIT")), "ROLLBACK");
    assert_eq!(house.found(&[a, b, c]).await?, 0);
    Ok(())
}

/// A number that looks like chance and is the same each time.
fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One statement that writes, made of chance.
fn made(seed: u64) -> String {
    let pick = |place: u64, of: &[&str]| {
        let at = mixed(seed.wrapping_mul(31).wrapping_add(place)) % u64::try_from(of.len()).expect("few");
        of[usize::try_from(at).expect("few")].to_owned()
    };
    let filter = pick(
        1,
        &[
            "",
            " WHERE length(note) < 3",
            " WHERE id % 3 = 0",
            " WHERE id IN (3, 5, 8, 13, 21)",
            " WHERE id = 7",
            " WHERE note IS NULL OR note > 'm'",
            " WHERE EXISTS (SELECT FROM child c WHERE c.id = t.id AND c.no > 4)",
            " WHERE id NOT IN (SELECT c.id FROM child c WHERE c.id = t.id)",
            " WHERE id BETWEEN 5 AND 30 AND note <> 'x'",
            " WHERE (SELECT count(*) FROM child) > 3",
            " WHERE id = 4 AND id = 5",
            " WHERE ctid IS NOT NULL AND id > 10",
            " WHERE id > (random() * 0)::int",
        ],
    );
    let back =
        pick(2, &["", "", " RETURNING id", " RETURNING id, upper(note) AS n, 1", " RETURNING *", " RETURNING t"]);
    match mixed(seed ^ 0xabcd) % 10 {
        0..5 => {
            let set = pick(
                3,
                &[
                    "note = note || 'a'",
                    "note = 'x'",
                    "note = NULL",
                    "note = id::text",
                    "note = left(coalesce(note, 'zzz'), 2)",
                    "note = CASE WHEN id % 7 = 0 THEN 'bad' ELSE 'ok' END",
                    "note = (SELECT max(c.no)::text FROM child c WHERE c.id = t.id)",
                    "note = (SELECT max(c.no)::text FROM child c)",
                    "id = id + 1000",
                    "note = date_trunc('century', now())::text",
                    "note = 1 / (id - 12)::int",
                ],
            );
            let from = pick(4, &["", "", "", " FROM child c"]);
            let (join, filter) = match (from.is_empty(), filter.is_empty()) {
                (true, _) => (String::new(), filter),
                (false, true) => (" WHERE c.id = t.id AND c.no = 1".to_owned(), filter),
                (false, false) => (filter.clone() + " AND c.id = t.id AND c.no = 1", String::new()),
            };
            let (join, back) =
                if from.is_empty() { (join, back) } else { (join.replace("c WHERE", "k WHERE"), String::new()) };
            if from.is_empty() {
                format!("UPDATE t SET {set}{filter}{back}")
            } else {
                // Of several rows that fit one server takes any.
                format!(
                    "UPDATE t SET note = coalesce(left(t.note, 3), '') || 'c'{from}{}",
                    join.replace("note", "t.note").replace(" id", " t.id").replace("(id", "(t.id")
                )
            }
        }
        5 | 6 if !filter.is_empty() => format!("DELETE FROM t{filter}{back}"),
        _ => {
            let key = mixed(seed ^ 0x77) % 60;
            format!(
                "INSERT INTO t VALUES ({key}, 'new{}') ON CONFLICT (id) DO UPDATE SET note = excluded.note{back}",
                key % 5
            )
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_writes_everywhere_does_what_it_does_on_one_server() -> Outcome {
    let house = House::build().await?;
    let node = &house.cluster.nodes()[0];
    node.value("shop", "CREATE DATABASE plain OWNER demo").await?;
    let mut client = house.client()?;
    let mut plain = Client::connect(node.port(), "demo", "plain")?;
    for text in [
        "CREATE TABLE t (id bigint PRIMARY KEY, note text CHECK (note <> 'bad'))",
        "CREATE TABLE child (id bigint, no bigint, PRIMARY KEY (id, no))",
    ] {
        assert_eq!(plain.simple(text).error, None);
    }
    for node in house.cluster.nodes() {
        node.value("shop", "ALTER TABLE child DROP CONSTRAINT child_no_fkey").await?;
    }
    let refill = |ours: &mut Client, theirs: &mut Client| {
        for each in [ours, theirs] {
            for sql in ["DELETE FROM t WHERE id > -1", "DELETE FROM child WHERE id > -1"] {
                assert_eq!(each.simple(sql).error, None, "{sql}");
            }
            for id in 0..40 {
                let note =
                    if id % 6 == 0 { "NULL".to_owned() } else { format!("'{}'", ["a", "nn", "ccc", "ö"][id % 4]) };
                assert_eq!(each.simple(&format!("INSERT INTO t VALUES ({id}, {note})")).error, None);
                if id % 3 == 0 {
                    assert_eq!(each.simple(&format!("INSERT INTO child VALUES ({id}, {})", id % 10)).error, None);
                    assert_eq!(each.simple(&format!("INSERT INTO child VALUES ({id}, {})", 1 + id % 10)).error, None);
                }
            }
        }
    };
    refill(&mut client, &mut plain);
    let (mut same, mut refused) = (0, std::collections::BTreeMap::<String, usize>::new());
    for seed in 0..1200_u64 {
        if seed % 60 == 59 {
            refill(&mut client, &mut plain);
        }
        // Some stand in a transaction, which commits or does not.
        let (begin, end) = match mixed(seed ^ 0x5151) % 6 {
            0 => ("BEGIN", "COMMIT"),
            1 => ("BEGIN", "ROLLBACK"),
            _ => ("", ""),
        };
        let how = [How::Simple, How::Unnamed, How::Named][usize::try_from(seed % 3)?];
        let count = if begin.is_empty() { 1 } else { 1 + mixed(seed ^ 0x99) % 3 };
        // What the proxy declines is declined in a transaction of its own, so that both go on alike.
        let statements: Vec<String> = (0..count)
            .map(|it| made(seed * 7 + it))
            .filter(|sql| {
                client.simple("BEGIN");
                let answer = client.simple(sql);
                client.simple("ROLLBACK");
                let declined = answer.error.as_ref().filter(|it| !it.by_server && it.sqlstate == "0A000");
                if let Some(failure) = declined {
                    *refused.entry(failure.message.clone()).or_default() += 1;
                }
                declined.is_none()
            })
            .collect();
        for sql in
            [begin].into_iter().chain(statements.iter().map(String::as_str)).chain([end]).filter(|it| !it.is_empty())
        {
            let (ours, theirs) = (client.run(how, sql, &[], false), plain.run(how, sql, &[], false));
            let told = |answer: &Answer| {
                // What came before an error counts for nothing.
                if answer.error.is_some() {
                    return (state(answer), answer.status, Vec::new(), None);
                }
                let mut rows = answer.rows.clone();
                rows.sort();
                (
                    state(answer),
                    answer.status,
                    rows,
                    answer.columns.clone().map(|it| it.into_iter().map(|(name, _)| name).collect::<Vec<_>>()),
                )
            };
            assert_eq!(told(&ours), told(&theirs), "{sql} of {statements:?}");
            same += 1;
        }
        let all = "SELECT id, note FROM t ORDER BY id";
        assert_eq!(client.simple(all).rows, plain.simple(all).rows, "after {statements:?}");
    }
    println!("{same} alike; refused: {refused:#?}");
    assert!(same > 1000);
    for node in house.cluster.nodes() {
        assert_eq!(node.value("shop", "SELECT count(*) FROM pg_prepared_xacts").await?.as_deref(), Some("0"));
    }
    Ok(())
}

/// What befalls a transaction in the midst of its COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// The connection to one server is cut.
    Cut,
    /// The server is killed, and started again.
    Server,
    /// The proxy is killed, and another one started.
    Proxy,
    /// The server hears and says nothing for a while.
    Silence,
}

/// Runs a transaction to its COMMIT, and strikes there. `None`: it was over before.
async fn struck(house: &mut House, blow: Blow, at: usize, way: Way, count: usize) -> Outcome<Option<String>> {
    let keys = house.next();
    let mut client = house.client()?;
    client.simple("BEGIN");
    for (shard, key) in keys.iter().enumerate() {
        let mark = if shard == at { "MARK" } else { "" };
        let done = client.simple(&format!("INSERT INTO t VALUES ({key}, '{mark}')"));
        assert_eq!(done.error, None);
    }
    let (has_struck, said) = strike(house, blow, at, way, count, (client, "COMMIT".to_owned())).await?;
    let found = house.found(&keys).await?;
    let fits = match said.as_str() {
        "COMMIT" => found == 3,
        // It says itself that it is not known: it is whole or absent.
        "08007" | "gone" | "-----" => found == 0 || found == 3,
        _ => found == 0,
    };
    assert!(
        fits,
        "{blow:?} at shard {at}, {way:?} {count}: the client heard {said:?}, and {found} of 3 rows are there"
    );
    if has_struck {
        println!("{blow:?} at shard {at}, {way:?} {count}: {said}, {found} rows");
    }
    Ok(has_struck.then_some(said))
}

/// A row moves from the first shard to the last, and one of them is struck meanwhile. `None`: it was over before.
async fn struck_moving(house: &mut House, blow: Blow, at: usize, way: Way, count: usize) -> Outcome<Option<String>> {
    let [from, _, to] = house.next();
    let mut client = house.client()?;
    assert_eq!(state(&client.simple(&format!("INSERT INTO lone VALUES ({from}, '')"))), "INSERT 0 1");
    let key = if at == 0 { from } else { to };
    assert_eq!(client.simple(&format!("BEGIN; SELECT 'MARK' FROM lone WHERE id = {key}")).error, None);
    let update = format!("UPDATE lone SET id = {to}, note = note || '!' WHERE id = {from}; COMMIT");
    let (has_struck, said) = strike(house, blow, at, way, count, (client, update)).await?;
    // Nothing is in doubt any more.
    house.found(&[]).await?;
    let mut places = Vec::new();
    for (node, key) in [(0, from), (2, to)] {
        let sql = format!("SELECT count(*) FROM lone WHERE id = {key}");
        places.push(house.cluster.nodes()[node].value("shop", &sql).await?.ok_or("a count")?);
    }
    let (before, after) = (places == ["1", "0"], places == ["0", "1"]);
    let fits = match said.as_str() {
        "UPDATE 1 COMMIT" => after,
        "08007" | "gone" | "-----" => before || after,
        _ => before,
    };
    assert!(fits, "{blow:?} at shard {at}, {way:?} {count}: the client heard {said:?}, and rows are {places:?}");
    if has_struck {
        println!("{blow:?} at shard {at}, {way:?} {count}: {said}, rows {places:?}");
    }
    Ok(has_struck.then_some(said))
}

/// Has a client say something, and strikes meanwhile. Whether that came to it, and what the client heard.
async fn strike(
    house: &mut House,
    blow: Blow,
    at: usize,
    way: Way,
    count: usize,
    (mut client, sql): (Client, String),
) -> Outcome<(bool, String)> {
    match blow {
        Blow::Cut => house.relays[at].arm(way, count),
        _ => house.relays[at].arm_to_hold(way, count),
    }
    let committing = thread::spawn(move || client.simple(&sql));
    until("the blow, or the end", async || Ok(committing.is_finished() || house.relays[at].has_struck())).await?;
    let has_struck = house.relays[at].has_struck();
    if has_struck {
        match blow {
            Blow::Cut => {}
            Blow::Server => house.cluster.nodes()[at].kill9().await?,
            Blow::Proxy => house.proxy = None,
            // Longer than whoever sweeps waits.
            Blow::Silence => tokio::time::sleep(Duration::from_secs(7)).await,
        }
    }
    house.relays[at].disarm();
    match blow {
        // What the server that was killed has left running ends a moment later.
        Blow::Server if has_struck => {
            until("the server's start", async || Ok(house.cluster.nodes()[at].start().await.is_ok())).await?;
        }
        Blow::Proxy if has_struck => house.serve().await?,
        _ => {}
    }
    let said = committing.join().map_or_else(|_| "gone".to_owned(), |answer| state(&answer));
    Ok((has_struck, said))
}

/// Strikes at each message between one server and the proxy, or at every third.
async fn struck_everywhere(blow: Blow) -> Outcome {
    let all = std::env::var("SHARDWAY_TWO_PHASE").is_ok_and(|it| it == "all");
    let mut house = House::build().await?;
    let mut cases = 0;
    let mut heard: Vec<String> = Vec::new();
    // The home is the first; the last is as good as any other.
    for at in [0, 2] {
        for way in [Way::ToServer, Way::ToProxy] {
            let step = if all || blow == Blow::Cut { 1 } else { 3 };
            for count in (0..).map(|it| it * step + usize::from(step > 1 && at == 0)) {
                let Some(said) = struck(&mut house, blow, at, way, count).await? else { break };
                cases += 1;
                heard.push(said);
            }
        }
    }
    heard.sort();
    heard.dedup();
    println!("{blow:?}: {cases} cases, clients heard {heard:?}");
    assert!(cases >= 8, "only {cases} cases");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_moves_is_there_once_whoever_dies() -> Outcome {
    let mut house = House::build().await?;
    let mut cases = 0;
    for (blow, step) in [(Blow::Cut, 2), (Blow::Server, 4), (Blow::Proxy, 5)] {
        for at in [0, 2] {
            for way in [Way::ToServer, Way::ToProxy] {
                for count in (0..).map(|it| it * step + usize::from(at == 0)) {
                    if struck_moving(&mut house, blow, at, way, count).await?.is_none() {
                        break;
                    }
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} cases");
    assert!(cases >= 20, "only {cases} cases");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_leaves_all_or_nothing() -> Outcome {
    struck_everywhere(Blow::Cut).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_leaves_all_or_nothing() -> Outcome {
    struck_everywhere(Blow::Server).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_killed_leaves_all_or_nothing() -> Outcome {
    struck_everywhere(Blow::Proxy).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_silent_leaves_all_or_nothing() -> Outcome {
    struck_everywhere(Blow::Silence).await
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_wait_for_a_server_that_restarts() -> Outcome {
    let mut house = House::build().await?;
    for _ in 0..3 {
        let [a, b, c] = house.next();
        let node = &house.cluster.nodes()[1];
        node.kill9().await?;
        let said = [
            format!("INSERT INTO t VALUES ({b}, 'alone')"),
            format!("BEGIN; INSERT INTO t VALUES ({a}, ''); INSERT INTO t VALUES ({c}, '')"),
            "SELECT count(*) >= 0 FROM t".to_owned(),
        ];
        let clients: Vec<_> = said
            .into_iter()
            .map(|sql| {
                let mut client = house.client()?;
                Ok(thread::spawn(move || {
                    let answer = client.simple(&sql);
                    answer.error.as_ref().map_or_else(|| state(&answer), |it| format!("{it:?}"))
                }))
            })
            .collect::<Outcome<_>>()?;
        node.start().await?;
        let said: Vec<String> = clients.into_iter().filter_map(|it| it.join().ok()).collect();
        assert_eq!(said, ["INSERT 0 1", "BEGIN INSERT 0 1 INSERT 0 1", "SELECT 1"]);
    }
    Ok(())
}

/// Nothing but the map itself.
struct Nowhere;

impl Environment for Nowhere {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn file(&self, _path: &Path) -> Result<String, String> {
        Err("there are no files here".to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_stay_until_nobody_can_ask() -> Outcome {
    let mut house = House::build().await?;
    let mut client = house.client()?;
    let mut write = |house: &mut House| {
        let said = house.next().map(|key| format!("INSERT INTO t VALUES ({key}, 'log')")).join("; ");
        assert_eq!(client.simple(&said).error, None);
    };
    // Two that are done, and one whose part is held by a shard, with nobody there to end it.
    (0..3).for_each(|_| write(&mut house));
    house.found(&[]).await?;
    house.proxy = None;
    let (mut homes, mut all) = (Vec::new(), Vec::new());
    for (at, node) in house.cluster.nodes().iter().enumerate() {
        let gids = "SELECT string_agg(gid, ' ' ORDER BY at) FROM shardway.txlog WHERE decision = 'commit'";
        let gids = node.value("shop", gids).await?.unwrap_or_default();
        all.extend(gids.split_whitespace().map(|gid| (at, gid.to_owned())));
        homes.push(node);
    }
    assert!(all.len() >= 3, "{all:?}");
    let (held, young) = (all[0].clone(), all[1].clone());
    let other = homes[(held.0 + 1) % 3];
    let part = format!("BEGIN; CREATE TABLE held (); PREPARE TRANSACTION '{}'", held.1);
    other.value("shop", &part).await?;
    for node in &homes {
        let aged = format!("UPDATE shardway.txlog SET at = at - interval '8 days' WHERE gid <> '{}'", young.1);
        node.value("shop", &aged).await?;
    }
    // A fence before a transaction that is still open, one of a transaction that is over, and what nobody understands.
    let mut open = homes[0].connect("shop").await?;
    open.query("BEGIN").await?;
    let xid = open.value("SELECT pg_current_xact_id()").await?.ok_or("a number")?;
    let timeline = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int";
    let timeline = open.value(timeline).await?.ok_or("a timeline")?;
    let over = homes[0].value("shop", "SELECT pg_current_xact_id()").await?.ok_or("a number")?;
    let name = |xid: &str| format!("shardway:1:c:s1:{xid}:{timeline}:d:1");
    for (gid, decision) in [(name(&xid), "abort"), (name(&over), "abort"), ("odd".to_owned(), "commit")] {
        let row = format!("INSERT INTO shardway.txlog VALUES ('{gid}', '{decision}', NULL, now() - interval '8 days')");
        homes[0].value("shop", &row).await?;
    }

    let map = ShardMap::parse("map", &house.map, &Nowhere);
    let (map, _) = map.map_err(|it| it.iter().map(ToString::to_string).collect::<String>())?;
    let database = Arc::clone(&map.databases["shop"]);
    let login = control::login(&map, &database).ok_or("a login")?;
    let topology = Topology::new(database, login, &map.timeouts);
    let (_stop, stopped) = watch::channel(false);
    tasks::shared("topology", Arc::clone(&topology).run(stopped));
    assert!(topology.heard(clock::now().plus(Duration::from_secs(10))).await, "the shards are heard");
    let tidy = async || -> Outcome<u64> {
        let mut count = 0;
        for shard in 0..3 {
            count += txlog::tidy(&topology, ShardId(shard), txlog::KEPT).await?;
        }
        Ok(count)
    };
    let left = async || -> Outcome<Vec<String>> {
        let mut left = Vec::new();
        for node in &homes {
            let gids = node.value("shop", "SELECT string_agg(gid, ' ') FROM shardway.txlog").await?;
            left.extend(gids.unwrap_or_default().split_whitespace().map(str::to_owned));
        }
        left.sort();
        Ok(left)
    };
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let aborts = 1;
    assert_eq!(tidy().await?, u64::try_from(all.len())? - 2 + aborts);
    assert_eq!(left().await?, sorted(vec![held.1.clone(), young.1.clone(), name(&xid), "odd".to_owned()]));
    // Once they are over, those may go, too.
    open.query("ROLLBACK").await?;
    other.value("shop", &format!("ROLLBACK PREPARED '{}'", held.1)).await?;
    assert_eq!(tidy().await?, 2);
    assert_eq!(left().await?, sorted(vec![young.1, "odd".to_owned()]));
    Ok(())
}
