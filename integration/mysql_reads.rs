//! Reads of MySQL sessions from replicas: never older than what a session has seen, and from replicas all the same; what
//! must not go there does not; and what becomes of them when servers die and others are promoted.

#![expect(clippy::cast_precision_loss, reason = "tests may fail, and figures are small")]

#[path = "mysql/client.rs"]
mod client;
mod proxy;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use client::Client;
use proxy::Failure;
use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::until;
use shardway::clock;
use shardway::local_cluster::Durability;
use shardway::local_cluster::client::Client as Console;
use shardway::local_cluster::mariadb::CONTROL_PASSWORD;
use shardway::local_cluster::mariadb::CONTROL_USER;
use shardway::local_cluster::mariadb::MariaCluster;
use shardway::local_cluster::mariadb::MariaNode;
use shardway::local_cluster::mariadb::MariaSpec;
use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;

const SCHEMA: &str = "CREATE TABLE counters (id BIGINT PRIMARY KEY, value BIGINT NOT NULL);
CREATE TABLE node (one INT PRIMARY KEY, name VARCHAR(20) NOT NULL);";
const KEYS: u64 = 16;
const SESSIONS: u64 = 4;
const READERS: usize = 3;
const ROUNDS: u64 = 150;
/// The least part of a load's reads that replicas serve.
const FROM_REPLICAS: f64 = 0.5;

struct House {
    // Ends before the servers do.
    proxy: Proxy,
    cluster: MariaCluster,
    /// Where the console is.
    console: u16,
}

impl House {
    /// Two shards with a replica each. `node` holds on every server another row, which is in nobody's log.
    async fn build() -> Outcome<Self> {
        Self::waiting("20s").await
    }

    /// The same; `wait` is how long a shard without a primary is waited for.
    async fn waiting(wait: &str) -> Outcome<Self> {
        let spec = MariaSpec { shards: 2, replicas: 1, durability: Durability::Volatile, ..MariaSpec::default() };
        let cluster = MariaCluster::start(spec).await?;
        for primary in cluster.primaries() {
            primary.value("shop", SCHEMA).await?;
            primary.value("shop", "INSERT INTO node VALUES (1, 'primary')").await?;
        }
        for replica in replicas(&cluster) {
            let of_shard = |it: &&MariaNode| it.shard() == replica.shard();
            replica.until_replayed(cluster.primaries().find(of_shard).ok_or("no primary")?).await?;
            replica.value("shop", "SET sql_log_bin = 0; UPDATE node SET name = 'replica'").await?;
        }
        let (port, console) = (free_port()?, free_port()?);
        let map = map_of(&cluster, port, console, wait);
        let answers = async || {
            let Ok(mut client) = Client::connect(port, USER, PASSWORD, "shop") else { return false };
            client.query("SELECT COUNT(*) FROM node").iter().all(|it| it.error.is_none())
        };
        let proxy = Proxy::start_when(cluster.dir(), port, &map, &[], answers).await?;
        let house = Self { proxy, cluster, console };
        let mut client = house.client()?;
        for id in 0..KEYS {
            client.done(&format!("INSERT INTO counters (id, value) VALUES ({id}, 0)"))?;
        }
        Ok(house)
    }

    fn client(&self) -> Outcome<Client> {
        Ok(Client::connect(self.proxy.port(), USER, PASSWORD, "shop")?)
    }

    fn node(&self, name: &str) -> Outcome<&MariaNode> {
        Ok(self.cluster.node(name)?)
    }

    async fn stop(self) -> Outcome {
        self.proxy.stop().await?;
        Ok(self.cluster.stop().await?)
    }
}

fn replicas(cluster: &MariaCluster) -> impl Iterator<Item = &MariaNode> {
    cluster.nodes().iter().filter(|it| !cluster.primaries().any(|primary| primary.name() == it.name()))
}

fn map_of(cluster: &MariaCluster, port: u16, console: u16, wait: &str) -> String {
    let shards: Vec<String> = cluster
        .nodes()
        .chunk_by(|a, b| a.shard() == b.shard())
        .map(|nodes| {
            let listed: Vec<String> = nodes
                .iter()
                .map(|it| format!("{{name: {}, host: 127.0.0.1, port: {}}}", it.name(), it.port()))
                .collect();
            format!("      {}: [{}]\n", nodes[0].shard(), listed.join(", "))
        })
        .collect();
    format!(
        "version: 1\nlisten: {{mysql: 127.0.0.1:{port}, postgres: 127.0.0.1:{console}}}\nadmin: {{users: {{demo: {{auth: trust}}}}}}\nusers: {{{USER}: {{password: {PASSWORD}}}}}\ndatabases:\n  \
         shop:\n    engine: mysql\n    control: {{user: {CONTROL_USER}, password: {CONTROL_PASSWORD}}}\n    failover: \
         {{wait: {wait}}}\n    shards:\n{}    groups:\n      counter: {{key: bigint, tables: {{counters: id}}}}\n    \
         reference: [node]\n",
        shards.concat()
    )
}

/// What a statement answers with: the first row's cells, or the error's number.
fn asked(client: &mut Client, sql: &str) -> Outcome<Vec<String>> {
    let answers = client.query(sql);
    let answer = answers.first().ok_or("no answer")?;
    if let Some(error) = &answer.error {
        return Ok(vec![format!("error {}", error.errno)]);
    }
    let row = answer.rows.first().ok_or_else(|| format!("{sql}: no rows"))?;
    Ok(row.iter().map(|it| String::from_utf8_lossy(it.as_deref().unwrap_or_default()).into_owned()).collect())
}

/// The value of a counter, and who told it.
fn counter(client: &mut Client, id: u64) -> Outcome<(u64, bool)> {
    let sql = format!("SELECT c.value, n.name FROM counters c JOIN node n ON n.one = 1 WHERE c.id = {id}");
    match asked(client, &sql)?.as_slice() {
        [value, name] => Ok((value.parse()?, name == "replica")),
        other => Err(format!("{sql}: {other:?}").into()),
    }
}

/// Writes and reads; how many reads there were, and how many of them were from replicas.
fn work(mut client: Client, number: u64) -> Outcome<(u64, u64)> {
    let mut newest = vec![0; usize::try_from(KEYS)?];
    let (mut reads, mut from_replicas) = (0, 0);
    for round in 0..ROUNDS {
        let own = number * (KEYS / SESSIONS) + round % (KEYS / SESSIONS);
        match round % 3 {
            0 => drop(client.done(&format!("UPDATE counters SET value = value + 1 WHERE id = {own}"))?),
            1 => {
                for sql in ["BEGIN", &format!("UPDATE counters SET value = value + 1 WHERE id = {own}"), "COMMIT"] {
                    client.done(sql)?;
                }
            }
            _ => {
                client.done("SET autocommit = 0")?;
                client.done(&format!("UPDATE counters SET value = value + 1 WHERE id = {own}"))?;
                client.done("SET autocommit = 1")?;
            }
        }
        newest[usize::try_from(own)?] += 1;
        for id in [own, (round * 7) % KEYS, (round * 5 + number) % KEYS, own] {
            let (value, replica) = counter(&mut client, id)?;
            (reads, from_replicas) = (reads + 1, from_replicas + u64::from(replica));
            let newest = &mut newest[usize::try_from(id)?];
            if value < *newest {
                return Err(format!("counter {id} was {newest} and is {value}, from a replica: {replica}").into());
            }
            *newest = value;
        }
    }
    Ok((reads, from_replicas))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_never_see_an_older_value_and_still_read_from_replicas() -> Outcome {
    let house = House::build().await?;
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let client = house.client()?;
        sessions.push(tokio::task::spawn_blocking(move || work(client, number)));
    }
    // Replays stand and go on meanwhile.
    let mut paused = 0;
    while !sessions.iter().all(tokio::task::JoinHandle::is_finished) {
        for replica in replicas(&house.cluster) {
            replica.pause_replay().await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            replica.resume_replay().await?;
        }
        paused += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (mut reads, mut from_replicas) = (0, 0);
    for session in sessions {
        let (all, replicas) = session.await??;
        (reads, from_replicas) = (reads + all, from_replicas + replicas);
    }
    println!("figure: {from_replicas} of {reads} reads from replicas, replays paused {paused} times");
    assert!(from_replicas as f64 >= reads as f64 * FROM_REPLICAS, "{from_replicas} of {reads} reads from replicas");
    house.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_every_shard_can_answer_waits_for_none_that_is_down() -> Outcome {
    let house = House::waiting("1s").await?;
    let id = house.node("s2-a")?.value("shop", "SELECT MIN(id) FROM counters").await?.ok_or("no counter on s2")?;
    for name in ["s2-a", "s2-b"] {
        house.node(name)?.kill9().await?;
    }
    let mut client = house.client()?;
    let reads = format!("SELECT value FROM counters WHERE id = {id}");
    until("s2 is known to be down", async || {
        let answers = client.query(&reads);
        let mut errors = answers.iter().filter_map(|it| it.error.as_ref());
        Ok(errors.any(|it| it.message.contains("no reachable primary")))
    })
    .await?;
    for _ in 0..6 {
        let mut client = house.client()?;
        for sql in ["SELECT COUNT(*) FROM node", "SELECT COUNT(*) FROM node WHERE one = 1", "SELECT 1"] {
            assert_eq!(asked(&mut client, sql)?, ["1"], "{sql}");
        }
    }
    house.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_of_mysql_alone_have_a_console_that_shows_their_connections() -> Outcome {
    let house = House::build().await?;
    let mut client = house.client()?;
    asked(&mut client, "SELECT COUNT(*) FROM counters")?;
    let mut console = Console::connect(house.console, "demo", "shardway").await?;
    let pools = console.query("SHOW POOLS").await?;
    for node in house.cluster.primaries() {
        let address = format!("127.0.0.1:{}", node.port());
        let is_of = |row: &&Vec<Option<String>>| row.get(17).is_some_and(|it| it.as_deref() == Some(&*address));
        let pool = pools.iter().find(is_of).ok_or_else(|| format!("no pool of {address} in {pools:?}"))?;
        assert_eq!(pool.last(), Some(&Some(node.name().to_owned())), "{pool:?}");
    }

    // Who has which server connection: by their numbers, as KILL on either side would have them.
    let own = asked(&mut client, "SELECT CONNECTION_ID()")?;
    client.done("BEGIN")?;
    client.done("UPDATE counters SET value = 3 WHERE id = 1")?;
    let of = |rows: &[Vec<Option<String>>], column: usize, value: &str| -> Outcome<Vec<String>> {
        let found = rows.iter().find(|row| row.get(column).is_some_and(|it| it.as_deref() == Some(value)));
        let found = found.ok_or_else(|| format!("no {value} in {rows:?}"))?;
        Ok(found.iter().map(|it| it.clone().unwrap_or_default()).collect())
    };
    let clients = of(&console.query("SHOW CLIENTS").await?, 16, own.first().ok_or("no number")?)?;
    let told = [0, 1, 2, 4, 21].map(|at| &*clients[at]);
    assert_eq!(told, ["C", USER, "shop", "idle", "mysql"], "{clients:?}");
    let servers = of(&console.query("SHOW SERVERS").await?, 14, &clients[15])?;
    let told = [0, 1, 2, 4, 15, 21].map(|at| &*servers[at]);
    assert_eq!(told, ["S", USER, "shop", "active", &*clients[14], "mysql"], "{servers:?}");
    assert_eq!(servers[23], clients[22], "the node");
    let writers = "SELECT GROUP_CONCAT(trx_mysql_thread_id) FROM information_schema.innodb_trx";
    let node = house.node(&clients[22])?;
    until("the server to tell of the writer", async || {
        Ok(node.value("", writers).await?.is_some_and(|it| it.split(',').any(|it| it == servers[16])))
    })
    .await?;
    client.done("ROLLBACK")?;
    // A client may know its answer a little earlier than the console does.
    until("the connection to be given back", async || {
        let servers = of(&console.query("SHOW SERVERS").await?, 14, &clients[15])?;
        Ok((&*servers[4], &*servers[15]) == ("idle", ""))
    })
    .await?;
    let queries =
        |rows: Vec<Vec<Option<String>>>| of(&rows, 20, &clients[20]).and_then(|row| Ok(row[24].parse::<u64>()?));
    let before = queries(console.query("SHOW CLIENTS").await?)?;
    for _ in 0..5 {
        asked(&mut client, "SELECT value FROM counters WHERE id = 1")?;
    }
    until("all of it to be counted", async || Ok(queries(console.query("SHOW CLIENTS").await?)? == before + 5)).await?;
    let stats = of(&console.query("SHOW STATS").await?, 0, "shop")?;
    assert!(stats[3].parse::<u64>()? >= before + 5, "{stats:?}");
    house.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_level_shows_what_it_says() -> Outcome {
    let house = House::build().await?;
    let replica = replicas(&house.cluster).next().ok_or("no replica")?;
    let mut client = house.client()?;
    // A row of the shard whose replay is stopped.
    let on_first = async |id: u64| -> Outcome<bool> {
        let count =
            house.node("s1-a")?.value("shop", &format!("SELECT COUNT(*) FROM counters WHERE id = {id}")).await?;
        Ok(count.as_deref() == Some("1"))
    };
    let mut id = 0;
    while !on_first(id).await? {
        id += 1;
    }
    until("the replica to be fresh", async || Ok(counter(&mut client, id)? == (0, true))).await?;
    // A connection that is younger than what is known of its node shows nothing that must be fresh.
    let mut other = house.client()?;
    until("the other one's, too", async || Ok(counter(&mut other, id)? == (0, true))).await?;
    replica.pause_replay().await?;
    client.done(&format!("UPDATE counters SET value = 7 WHERE id = {id}"))?;
    assert_eq!(counter(&mut client, id)?, (7, false), "its own write");
    client.done("SET shardway.consistency = 'eventual'")?;
    assert_eq!(counter(&mut client, id)?, (0, true));
    client.done("SET shardway.consistency = 'strong'")?;
    assert_eq!(counter(&mut client, id)?, (7, false));
    client.done("SET shardway.consistency = DEFAULT")?;
    assert_eq!(counter(&mut client, id)?, (7, false));
    // Who has seen nothing may be shown what is old, until it is older than the bound.
    assert_eq!(counter(&mut other, id)?, (0, true));
    other.done("SET shardway.consistency = 'bounded:100ms'")?;
    until("the bound to pass", async || Ok(counter(&mut other, id)? == (7, false))).await?;
    // What is too far behind is out of rotation, whatever the level.
    client.done("SET shardway.consistency = eventual")?;
    until("staleness_max to pass", async || Ok(counter(&mut client, id)? == (7, false))).await?;
    assert_eq!(asked(&mut client, "SET shardway.consistency = 'none'")?, ["error 1231"]);
    replica.resume_replay().await?;
    client.done("SET shardway.consistency = DEFAULT")?;
    until("the replica to serve again", async || Ok(counter(&mut client, id)? == (7, true))).await?;
    house.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_plain_read_stays_with_the_primary() -> Outcome {
    let house = House::build().await?;
    let mut client = house.client()?;
    let id = 3;
    let read = format!("SELECT n.name FROM counters c JOIN node n ON n.one = 1 WHERE c.id = {id}");
    until("the replicas to be fresh", async || Ok(asked(&mut client, &read)? == ["replica"])).await?;
    let of = |client: &mut Client, sql: &str| asked(client, sql);
    assert_eq!(of(&mut client, &format!("{read} FOR UPDATE"))?, ["primary"]);
    assert_eq!(of(&mut client, &format!("{read} LOCK IN SHARE MODE"))?, ["primary"]);
    let prepared =
        client.run(&format!("SELECT n.name FROM counters c JOIN node n ON n.one = 1 WHERE c.id = {id}"), &[]);
    assert_eq!(prepared[0].error, None);
    assert_eq!(prepared[0].rows.len(), 1);

    client.done("BEGIN")?;
    assert_eq!(of(&mut client, &read)?, ["primary"]);
    client.done("COMMIT")?;
    client.done("SET autocommit = 0")?;
    assert_eq!(of(&mut client, &read)?, ["primary"]);
    client.done("COMMIT")?;
    client.done("SET autocommit = 1")?;

    // One that only reads stays where it began, and sees one moment of that shard.
    until("a replica again", async || Ok(asked(&mut client, &read)? == ["replica"])).await?;
    let value = format!("SELECT value FROM counters WHERE id = {id}");
    client.done("START TRANSACTION READ ONLY")?;
    assert_eq!(of(&mut client, &read)?, ["replica"]);
    let before = of(&mut client, &value)?;
    house.client()?.done(&format!("UPDATE counters SET value = value + 1 WHERE id = {id}"))?;
    for node in replicas(&house.cluster) {
        let primary = house.cluster.primaries().find(|it| it.shard() == node.shard()).ok_or("no primary")?;
        node.until_replayed(primary).await?;
    }
    assert_eq!(of(&mut client, &value)?, before);
    assert_eq!(of(&mut client, &format!("UPDATE counters SET value = 0 WHERE id = {id}"))?, ["error 1792"]);
    assert_eq!(of(&mut client, &format!("{value} FOR UPDATE"))?, ["error 1235"]);
    client.done("COMMIT")?;
    assert_ne!(of(&mut client, &value)?, before);
    // The whole table, of replicas alone.
    let all = client.query("SELECT c.id, n.name FROM counters c JOIN node n ON n.one = 1");
    let names: Vec<&[u8]> = all[0].rows.iter().filter_map(|it| it[1].as_deref()).collect();
    assert_eq!(names.len() as u64, KEYS, "{all:?}");
    assert!(names.iter().all(|it| *it == names[0]), "{names:?}");
    house.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_dies_costs_no_reads_and_a_promoted_one_takes_the_writes() -> Outcome {
    let house = House::build().await?;
    let mut client = house.client()?;
    let ids: Vec<u64> = (0..KEYS).collect();
    let (old, new) = (house.node("s1-a")?, house.node("s1-b")?);
    until("replicas", async || Ok(counter(&mut client, 1)?.1)).await?;
    // A read whose server dies is asked again: of these readers none hears of it.
    let ended = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let (mut client, ended) = (house.client()?, Arc::clone(&ended));
        readers.push(tokio::task::spawn_blocking(move || {
            let mut reads = 0_u64;
            while !ended.load(Ordering::Relaxed) {
                for id in 0..KEYS {
                    counter(&mut client, id)?;
                    reads += 1;
                }
            }
            Ok::<u64, Failure>(reads)
        }));
    }
    for replica in replicas(&house.cluster) {
        replica.kill9().await?;
    }
    let begun = clock::now();
    until("the primaries to serve", async || Ok(ids.iter().all(|id| counter(&mut client, *id).is_ok_and(|it| !it.1))))
        .await?;
    assert!(clock::now().since(begun) < Duration::from_secs(10));
    for replica in replicas(&house.cluster) {
        replica.start().await?;
    }
    until("the replicas to serve again", async || {
        Ok(ids.iter().all(|id| counter(&mut client, *id).is_ok_and(|it| it.1)))
    })
    .await?;
    ended.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await?? > 0);
    }

    for id in &ids {
        client.done(&format!("UPDATE counters SET value = value + 1 WHERE id = {id}"))?;
    }
    new.until_replayed(old).await?;
    until("the last sample", async || Ok(ids.iter().all(|id| counter(&mut client, *id).is_ok_and(|it| it.1)))).await?;
    old.kill9().await?;
    new.promote().await?;
    for id in &ids {
        client.done(&format!("UPDATE counters SET value = value + 1 WHERE id = {id}"))?;
        assert_eq!(counter(&mut client, *id)?.0, 2, "counter {id}");
    }
    // The old one comes back as one that takes writes: until that is settled, nobody does.
    old.start().await?;
    let on_first = async |id: u64| -> Outcome<bool> {
        let count = new.value("shop", &format!("SELECT COUNT(*) FROM counters WHERE id = {id}")).await?;
        Ok(count.as_deref() == Some("1"))
    };
    let mut id = 0;
    while !on_first(id).await? {
        id += 1;
    }
    until("the shard to be fenced", async || {
        let said = house.proxy.log();
        Ok(said.matches("node fenced").count() >= 2)
    })
    .await?;
    old.value("", "SET GLOBAL read_only = ON").await?;
    client.done(&format!("UPDATE counters SET value = value + 1 WHERE id = {id}"))?;
    assert_eq!(counter(&mut client, id)?.0, 3);
    let stale = old.value("shop", &format!("SELECT value FROM counters WHERE id = {id}")).await?;
    assert_eq!(stale.as_deref(), Some("1"), "nothing was written there since");
    house.stop().await
}
