//! Transactions of MySQL clients that write on several shards: all of them or none, whoever dies between any two messages.
//!
//! `SHARDWAY_TWO_PHASE=all` strikes at every message in every way; without it every third is tried.

#[path = "mysql/client.rs"]
mod client;
#[path = "mysql_two_phase/deadlocks.rs"]
mod deadlocks;
mod proxy;
#[path = "sessions/relay.rs"]
mod relay;

use std::thread;
use std::time::Duration;

use client::Answer;
use client::Client;
use client::LOST;
use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::prepare_at;
use proxy::until;
use relay::Relay;
use relay::Way;
use shardway::clock;
use shardway::local_cluster::mariadb::CONTROL_PASSWORD;
use shardway::local_cluster::mariadb::CONTROL_USER;
use shardway::local_cluster::mariadb::MariaCluster;
use shardway::local_cluster::mariadb::MariaSpec;
use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;
use shardway::wire::mysql::status;

/// How long after a blow something may still be prepared.
const PREPARED_MAX: Duration = Duration::from_secs(10);

/// Three shards, relays before them, and a proxy behind those.
struct House {
    // Ends before the servers do.
    proxy: Option<Proxy>,
    cluster: MariaCluster,
    relays: Vec<Relay>,
    map: String,
    port: u16,
    /// Keys of each shard that nobody has used.
    keys: Vec<Vec<i64>>,
}

impl House {
    async fn build() -> Outcome<Self> {
        let spec = MariaSpec { shards: 3, replicas: 0, ..MariaSpec::default() };
        let cluster = MariaCluster::start(spec).await?;
        for node in cluster.nodes() {
            let table = "CREATE TABLE t (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, note varchar(20),
                at datetime(6), CHECK (note <> 'bad'));
                CREATE TABLE accounts (id bigint PRIMARY KEY, amount int NOT NULL, CHECK (amount >= 0))";
            node.value("shop", table).await?;
        }
        let relays: Vec<Relay> = cluster.nodes().iter().map(|node| Relay::of_mysql(node.port())).collect();
        let port = free_port()?;
        let mut map = format!(
            "version: 1\nlisten: {{mysql: 127.0.0.1:{port}}}\nusers: {{{USER}: {{password: {PASSWORD}}}}}\ndatabases:\n  shop:\n    \
             engine: mysql\n    control: {{user: {CONTROL_USER}, password: {CONTROL_PASSWORD}}}\n    shards:\n"
        );
        for (place, relay) in relays.iter().enumerate() {
            map += &format!("      s{}: ['127.0.0.1:{}']\n", place + 1, relay.port);
        }
        map += "    groups: {key: {key: bigint, tables: {t: id, accounts: id}}}\n    failover: {wait: 20s}\n";
        let mut house = Self { proxy: None, cluster, relays, map, port, keys: vec![Vec::new(); 3] };
        house.serve().await?;
        let mut client = house.client()?;
        for key in 1..=1200_i64 {
            client.done(&format!("INSERT INTO t (id) VALUES ({key})"))?;
        }
        for shard in 0..3 {
            let mut direct = Client::connect(house.cluster.nodes()[shard].port(), USER, PASSWORD, "shop")?;
            for row in direct.done("SELECT id FROM t ORDER BY id DESC")?.rows {
                let key = row.first().cloned().flatten().ok_or("a key")?;
                house.keys[shard].push(String::from_utf8(key)?.parse()?);
            }
            direct.done("DELETE FROM t")?;
        }
        // Where nobody has set up anything, the second shard is refused, and says what to do.
        let [a, b, c] = house.next();
        client.done("BEGIN")?;
        client.done(&format!("INSERT INTO t (id) VALUES ({a})"))?;
        let refused = client.done(&format!("INSERT INTO t (id) VALUES ({b})")).err().ok_or("refused")?;
        assert_eq!((refused.errno, refused.message.contains("--prepare")), (1235, true), "{refused}");
        client.done("ROLLBACK")?;
        // As often as one likes.
        for _ in 0..2 {
            prepare_at(house.cluster.dir(), &house.map)?;
        }
        until("the proxy to know", async || {
            client.done("BEGIN")?;
            client.done(&format!("INSERT INTO t (id) VALUES ({a})"))?;
            let all = [b, c].map(|key| client.done(&format!("INSERT INTO t (id) VALUES ({key})")).is_ok());
            client.done("ROLLBACK")?;
            Ok(all == [true, true])
        })
        .await?;
        Ok(house)
    }

    async fn serve(&mut self) -> Outcome {
        self.proxy = None;
        let port = self.port;
        let answers = async || {
            let client = Client::connect(port, USER, PASSWORD, "shop");
            client.is_ok_and(|mut it| it.done("SELECT id FROM t WHERE id = 1").is_ok())
        };
        self.proxy = Some(Proxy::start_when(self.cluster.dir(), port, &self.map, &[], answers).await?);
        Ok(())
    }

    fn client(&self) -> Outcome<Client> {
        Ok(Client::connect(self.port, USER, PASSWORD, "shop")?)
    }

    fn log(&self) -> String {
        self.proxy.as_ref().map(Proxy::log).unwrap_or_default()
    }

    /// A new key of each shard.
    fn next(&mut self) -> [i64; 3] {
        std::array::from_fn(|shard| self.keys[shard].pop().expect("keys enough"))
    }

    /// Waits until nothing is prepared any more on any server.
    async fn settled(&self) -> Outcome {
        let begun = clock::now();
        for node in self.cluster.nodes() {
            let mut left = None;
            until("the end of what was prepared", async || {
                left = node.value("shop", "XA RECOVER").await?;
                Ok(left.is_none() || clock::now().since(begun) > PREPARED_MAX)
            })
            .await?;
            if let Some(left) = left {
                let all = node.value("shop", "XA RECOVER FORMAT='SQL'").await?;
                return Err(
                    format!("{} holds {left} {all:?} after {PREPARED_MAX:?}:\n{}", node.name(), self.log()).into()
                );
            }
        }
        Ok(())
    }

    /// On how many shards a transaction's row is, once nothing is in doubt any more.
    async fn found(&self, keys: &[i64]) -> Outcome<usize> {
        self.settled().await?;
        let mut found = 0;
        for (node, key) in self.cluster.nodes().iter().zip(keys) {
            let there = node.value("shop", &format!("SELECT count(*) FROM t WHERE id = {key}")).await?;
            found += usize::from(there.as_deref() == Some("1"));
        }
        Ok(found)
    }
}

/// What a client hears: the error's number, or that it is done.
fn state(answer: &Answer) -> String {
    answer.error.as_ref().map_or_else(|| "done".to_owned(), |it| it.errno.to_string())
}

fn insert(key: i64, note: &str) -> String {
    format!("INSERT INTO t (id, note) VALUES ({key}, '{note}')")
}

const WITHIN: u16 = status::IN_TRANSACTION;

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_over_shards_is_one() -> Outcome {
    let mut house = House::build().await?;
    let mut client = house.client()?;
    for begin in [
        "BEGIN",
        "START TRANSACTION READ WRITE",
        "SET autocommit = 0",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; BEGIN",
        "SET SESSION TRANSACTION READ ONLY; START TRANSACTION READ WRITE",
    ] {
        // Servers refuse to prepare what writes while nothing has begun.
        for prepared in if begin.contains("READ ONLY") { vec![false] } else { vec![false, true] } {
            for (end, count) in [("COMMIT", 3), ("ROLLBACK", 0)] {
                let keys = house.next();
                for text in begin.split("; ") {
                    client.done(text)?;
                }
                for key in keys {
                    let answer = match prepared {
                        false => client.one(&insert(key, "one")),
                        true => client.run(&insert(key, "one"), &[]).pop().ok_or("an answer")?,
                    };
                    assert_eq!((state(&answer), answer.status & WITHIN), ("done".to_owned(), WITHIN), "{begin}");
                }
                let ended = client.one(end);
                assert_eq!((state(&ended), ended.status & WITHIN), ("done".to_owned(), 0), "{begin} {end}");
                assert_eq!(house.found(&keys).await?, count, "{begin} {end}");
                client.done("SET autocommit = 1")?;
                client.done("SET SESSION TRANSACTION READ WRITE")?;
            }
        }
    }
    // Savepoints are on all shards, those that join later included.
    let keys = house.next();
    let [a, b, c] = keys;
    client.done("BEGIN")?;
    client.done(&insert(a, ""))?;
    client.done("SAVEPOINT s")?;
    client.done(&insert(b, ""))?;
    client.done(&insert(c, ""))?;
    client.done("ROLLBACK TO s")?;
    client.done(&insert(c, ""))?;
    client.done("COMMIT")?;
    assert_eq!(house.found(&keys).await?, 2);
    // Several have joined, and one alone has written: the home, or another.
    for writes in 0..3 {
        let keys = house.next();
        client.done("BEGIN")?;
        for (shard, key) in keys.into_iter().enumerate() {
            client.done(&format!("SELECT * FROM t WHERE id = {key}"))?;
            if shard == writes {
                client.done(&insert(key, ""))?;
            }
        }
        client.done("COMMIT")?;
        assert_eq!(house.found(&keys).await?, 1);
    }
    let decisions = "SELECT count(*) FROM shardway.txlog WHERE decision = 'commit'";
    let mut decided = 0;
    for node in house.cluster.nodes() {
        decided += node.value("shop", decisions).await?.ok_or("a count")?.parse::<usize>()?;
    }
    // Of what one shard alone has written nothing needs to be decided.
    assert_eq!(decided, 4 * 2 + 1 + 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_writes_everywhere_is_one_statement() -> Outcome {
    let mut house = House::build().await?;
    let mut client = house.client()?;
    let keys = house.next();
    let all = keys.map(|it| it.to_string()).join(", ");
    for key in keys {
        client.done(&insert(key, "old"))?;
    }
    let notes = |client: &mut Client| -> Outcome<Vec<String>> {
        let mut notes = Vec::new();
        for key in keys {
            let row = client.done(&format!("SELECT note FROM t WHERE id = {key}"))?.rows;
            let note = row.first().and_then(|it| it.first().cloned().flatten()).unwrap_or_default();
            notes.push(String::from_utf8(note)?);
        }
        Ok(notes)
    };
    // Without a transaction, it is one of its own.
    let done = client.done(&format!("UPDATE t SET note = 'new', at = NOW(6) WHERE id IN ({all})"))?;
    assert_eq!((done.affected, &*done.info, done.status & WITHIN), (3, "Rows matched: 3  Changed: 3  Warnings: 0", 0));
    assert_eq!(notes(&mut client)?, ["new"; 3]);
    let mut times = Vec::new();
    for node in house.cluster.nodes() {
        times.push(node.value("shop", "SELECT at FROM t").await?.ok_or("a time")?);
    }
    times.dedup();
    assert_eq!(times.len(), 1, "all shards have one time: {times:?}");
    // What was set for it is not left behind.
    let now = "SELECT UNIX_TIMESTAMP(at) - UNIX_TIMESTAMP(SYSDATE(6)) > -30 FROM t WHERE id = ";
    for key in keys {
        client.done(&format!("UPDATE t SET at = NOW(6) WHERE id = {key}"))?;
        assert_eq!(client.done(&format!("{now}{key}"))?.rows, [[Some(b"1".to_vec())]]);
    }
    // One shard fails: nothing is left anywhere, and a transaction goes on.
    let bad = format!("UPDATE t SET note = IF(id = {}, 'bad', 'worse') WHERE id IN ({all})", keys[2]);
    assert_eq!(state(&client.one(&bad)), "4025");
    assert_eq!(notes(&mut client)?, ["new"; 3]);
    client.done("BEGIN")?;
    client.done(&format!("UPDATE t SET note = 'first' WHERE id = {}", keys[0]))?;
    let failed = client.one(&bad);
    assert_eq!(state(&failed), "4025");
    client.done(&format!("UPDATE t SET note = 'third' WHERE id = {}", keys[2]))?;
    client.done("COMMIT")?;
    house.settled().await?;
    assert_eq!(notes(&mut client)?, ["first", "new", "third"]);
    let gone = client.done(&format!("DELETE FROM t WHERE id IN ({all})"))?;
    assert_eq!((gone.affected, gone.info), (3, String::new()));
    assert_eq!(house.found(&keys).await?, 0);
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
    client.done("BEGIN")?;
    for (shard, key) in keys.iter().enumerate() {
        client.done(&insert(*key, if shard == at { "MARK" } else { "" }))?;
    }
    match blow {
        Blow::Cut => house.relays[at].arm(way, count),
        _ => house.relays[at].arm_to_hold(way, count),
    }
    let committing = thread::spawn(move || client.one("COMMIT"));
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
        Blow::Server if has_struck => {
            until("the server's start", async || Ok(house.cluster.nodes()[at].start().await.is_ok())).await?;
        }
        Blow::Proxy if has_struck => house.serve().await?,
        _ => {}
    }
    let answer = committing.join().map_err(|_| "the client's thread panicked")?;
    let said = state(&answer);
    let found = house.found(&keys).await?;
    let is_unknown = answer.error.as_ref().is_some_and(|it| it.errno == LOST || it.sqlstate == "08007");
    let fits = match said.as_str() {
        "done" => found == 3,
        // It says itself that it is not known: it is whole or absent.
        _ if is_unknown => found == 0 || found == 3,
        _ => found == 0,
    };
    let case = format!("{blow:?} at shard {at}, {way:?} {count}");
    assert!(fits, "{case}: the client heard {answer:?}, and {found} of 3 rows are there\n{}", house.log());
    if has_struck {
        println!("{case}: {said}, {found} rows");
    }
    Ok(has_struck.then_some(said))
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
            let step = if all || blow == Blow::Cut { 1 } else { 2 };
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
    assert!(cases >= 4, "only {cases} cases");
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
