//! Rows are where the map says, proven by the servers: by their own hash functions, by what a statement says of the
//! server that it runs on, and by what the servers hold after the map was edited.

mod proxy;

use std::collections::BTreeMap;
use std::process::Command;

use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of;
use proxy::text;
use proxy::until;
use shardway::ident::ShardId;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::MadeAs;
use shardway::local_cluster::client::Client;
use shardway::local_cluster::client::SqlError;
use shardway::local_cluster::client::literal;
use shardway::shard_map::Key;
use shardway::shard_map::KeyType;
use shardway::shard_map::ShardFunction;

const BUCKETS: u16 = 16384;
/// Keys of each type that are asked of a server.
const KEYS: usize = 10_000;
/// Keys of each type that are written through the proxy.
const WRITTEN: usize = 100;
const USERS: &str = "users: {demo: {auth: trust}}\n";

/// A key of the type, as SQL and as the proxy holds it.
fn key(key_type: KeyType, number: usize) -> (String, Key) {
    let bytes = |length: usize| (0..length).map(|_| rand::random::<u8>()).collect::<Vec<u8>>();
    let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match key_type {
        KeyType::BigInt => {
            let value = match number {
                0 => i64::MIN,
                1 => i64::MAX,
                2..1000 => i64::try_from(number).unwrap_or(0) - 500,
                _ => rand::random(),
            };
            (format!("'{value}'"), Key::Int(value))
        }
        KeyType::Int => {
            let value: i32 = if number == 0 { i32::MIN } else { rand::random() };
            (format!("'{value}'"), Key::Int(value.into()))
        }
        KeyType::SmallInt => {
            let value: i16 = if number == 0 { i16::MIN } else { rand::random() };
            (format!("'{value}'"), Key::Int(value.into()))
        }
        KeyType::Text => {
            let letters = ['a', 'Z', '0', ' ', '\'', '"', 'ß', 'é', '€', '漢', '😀'];
            let letter = |_| letters.get(rand::random_range(0..letters.len())).copied();
            let value: String = (0..number % 40).filter_map(letter).collect();
            (literal(&value), Key::Text(value.into_bytes()))
        }
        KeyType::Uuid => {
            let value: [u8; 16] = rand::random();
            (format!("'{}'", hexadecimal(&value)), Key::Uuid(value))
        }
        KeyType::Date => match number {
            0 => ("'infinity'".to_owned(), Key::Date(i32::MAX)),
            1 => ("'-infinity'".to_owned(), Key::Date(i32::MIN)),
            _ => {
                let (year, month, day) =
                    (rand::random_range(1..=9999), rand::random_range(1..=12), rand::random_range(1..=28));
                let days = days_from_civil(year, month, day);
                (format!("'{year:04}-{month:02}-{day:02}'"), Key::Date(i32::try_from(days).unwrap_or(0)))
            }
        },
        KeyType::TimestampTz => match number {
            0 => ("'infinity'".to_owned(), Key::TimestampTz(i64::MAX)),
            1 => ("'-infinity'".to_owned(), Key::TimestampTz(i64::MIN)),
            _ => {
                let (year, month, day) =
                    (rand::random_range(1..=9999), rand::random_range(1..=12), rand::random_range(1..=28));
                let (second, micro) = (rand::random_range(0..86_400_i64), rand::random_range(0..1_000_000_i64));
                let moment = (days_from_civil(year, month, day) * 86_400 + second) * 1_000_000 + micro;
                let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
                let date = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micro:06}+00");
                (format!("'{date}'"), Key::TimestampTz(moment))
            }
        },
        KeyType::Bytea => {
            let value = bytes(number % 60);
            (format!("'\\x{}'", hexadecimal(&value)), Key::Bytea(value))
        }
    }
}

/// Days from 2000-01-01 to a date of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 730_425
}

async fn ports(cluster: &Cluster) -> BTreeMap<String, u16> {
    cluster.nodes().iter().map(|node| (node.name().to_owned(), node.port())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_of_key_is_hashed_as_postgres_hashes_it() -> Outcome {
    let cluster = Cluster::start(ClusterSpec { replicas: 0, ..ClusterSpec::default() }).await?;
    let ports = ports(&cluster).await;
    let mut rest = "    groups:\n".to_owned();
    for key_type in KeyType::ALL {
        let name = key_type.name();
        rest.push_str(&format!("      g_{name}: {{key: {name}, tables: {{t_{name}: k}}}}\n"));
        for primary in cluster.primaries() {
            let mut client = Client::connect(primary.port(), "demo", "shop").await?;
            client.query(&format!("CREATE TABLE t_{name} (k {name} NOT NULL)")).await?;
            client.query(&format!("CREATE TABLE p_{name} (k {name}) PARTITION BY HASH (k)")).await?;
        }
    }
    rest.push_str(USERS);
    let port = free_port()?;
    // Tables that only the servers know are refused, and none is asked for.
    let proxy = Proxy::start(&cluster, port, &map_of(&cluster, port, |_| true, &rest), &[]).await?;
    let mut client = proxy.client().await?;
    let mut server = Client::connect(cluster.node("s1-a")?.port(), "demo", "shop").await?;
    for key_type in KeyType::ALL {
        let name = key_type.name();
        let function = ShardFunction::hash(key_type, vec![ShardId(0); BUCKETS.into()], Vec::new()).ok_or("no hash")?;
        let keys: Vec<(String, Key)> = (0..KEYS).map(|number| key(key_type, number)).collect();
        let rows: Vec<String> = keys
            .iter()
            .map(|(sql, key)| Ok(format!("({sql}::{name}, {})", function.bucket(key).ok_or("no bucket")?)))
            .collect::<Outcome<_>>()?;
        let sql = format!(
            "SELECT count(*), count(*) FILTER (WHERE satisfies_hash_partition('p_{name}'::regclass, {BUCKETS}, bucket, k)), \
             min(k::text) FILTER (WHERE NOT satisfies_hash_partition('p_{name}'::regclass, {BUCKETS}, bucket, k)) \
             FROM (VALUES {}) AS keys (k, bucket)",
            rows.join(", ")
        );
        let answer = server.query(&sql).await?;
        let row = answer.first().ok_or("no row")?;
        assert_eq!((text(row, 0)?, text(row, 1)?), ("10000", "10000"), "{name}: not {:?}", row.get(2));

        // And that is where the proxy puts them, from their text alone.
        for (sql, key) in keys.iter().take(WRITTEN) {
            let shard = if function.bucket(key) < Some(BUCKETS / 2) { "s1-a" } else { "s2-a" };
            let insert = format!("INSERT INTO t_{name} (k) VALUES ({sql}) RETURNING inet_server_port()");
            assert_eq!(client.value(&insert).await?, ports.get(shard).map(u16::to_string), "{name} {sql}");
            let read = format!("SELECT inet_server_port() FROM t_{name} WHERE k = {sql} LIMIT 1");
            assert_eq!(client.value(&read).await?, ports.get(shard).map(u16::to_string), "{name} {sql}");
        }
    }
    println!(
        "figure: {} types of key, {KEYS} keys each hashed alike, {WRITTEN} each found in place",
        KeyType::ALL.len()
    );
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}

/// Statements that each node was sent so far, by its port.
async fn served(console: &mut Client) -> Outcome<BTreeMap<u16, u64>> {
    let mut served = BTreeMap::new();
    for row in console.query("SHOW NODES").await? {
        let port = text(&row, 3)?.rsplit(':').next().unwrap_or_default().parse()?;
        served.insert(port, text(&row, 9)?.parse()?);
    }
    Ok(served)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_run_where_the_proxy_says_they_do() -> Outcome {
    let cluster = Cluster::start(ClusterSpec { replicas: 2, ..ClusterSpec::default() }).await?;
    for primary in cluster.primaries() {
        let mut client = Client::connect(primary.port(), "demo", "shop").await?;
        client.query("CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL)").await?;
    }
    let port = free_port()?;
    let rest = format!("    groups: {{account: {{key: bigint, tables: {{accounts: id}}}}}}\n{USERS}");
    let proxy = Proxy::start(&cluster, port, &map_of(&cluster, port, |_| true, &rest), &[]).await?;
    let shard_of = |id: i64| if Key::Int(id).bucket() < BUCKETS / 2 { "s1" } else { "s2" };
    let nodes: BTreeMap<u16, (&str, bool)> =
        cluster.nodes().iter().map(|node| (node.port(), (node.shard(), node.made_as() == MadeAs::Replica))).collect();
    let mut client = proxy.client().await?;
    let mut console = proxy.console().await?;
    let mut counted: BTreeMap<u16, u64> = BTreeMap::new();
    let mut before = BTreeMap::new();
    let (mut writes, mut reads, mut at_replicas) = (0, 0, 0);
    for id in 0..600_i64 {
        // The first ones open connections, which nodes are asked about once more.
        if id == 100 {
            (counted, before) = (BTreeMap::new(), served(&mut console).await?);
            (writes, reads, at_replicas) = (0, 0, 0);
        }
        let place = "inet_server_port(), pg_is_in_recovery()";
        let mut run = async |sql: String, write: bool| -> Outcome {
            let rows = client.query(&sql).await?;
            let row = rows.first().ok_or_else(|| format!("no row: {sql}"))?;
            let at: u16 = text(row, 0)?.parse()?;
            let (shard, replica) = nodes.get(&at).copied().ok_or("an unknown port")?;
            assert_eq!(shard, shard_of(id), "{sql}");
            assert_eq!(text(row, 1)? == "t", replica, "{sql}");
            assert!(!(write && replica), "{sql}");
            *counted.entry(at).or_default() += 1;
            (writes, reads) = if write { (writes + 1, reads) } else { (writes, reads + 1) };
            at_replicas += u64::from(replica);
            Ok(())
        };
        run(format!("INSERT INTO accounts VALUES ({id}, 0) RETURNING {place}"), true).await?;
        run(format!("SELECT {place}, balance FROM accounts WHERE id = {id}"), false).await?;
        run(format!("UPDATE accounts SET balance = 1 WHERE id = {id} RETURNING {place}"), true).await?;
        run(format!("SELECT {place}, balance FROM accounts WHERE id = {id} AND balance = 1"), false).await?;
        run(format!("SELECT {place} FROM accounts WHERE id = {id} FOR UPDATE"), true).await?;
    }
    let after = served(&mut console).await?;
    let differences: BTreeMap<u16, u64> = after
        .iter()
        .map(|(port, count)| (*port, count - before.get(port).copied().unwrap_or_default()))
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(differences, counted);
    println!(
        "figure: {writes} writes and {reads} reads, {at_replicas} of these at replicas, where SHOW NODES counts them"
    );
    assert!(at_replicas * 2 > reads);
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serializable_reads_go_to_the_primary() -> Outcome {
    let cluster = Cluster::start(ClusterSpec { replicas: 1, ..ClusterSpec::default() }).await?;
    for primary in cluster.primaries() {
        let mut client = Client::connect(primary.port(), "demo", "shop").await?;
        client.query("CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL)").await?;
    }
    let port = free_port()?;
    let map = map_of(
        &cluster,
        port,
        |_| true,
        &format!("    groups: {{account: {{key: bigint, tables: {{accounts: id}}}}}}\n{USERS}"),
    );
    let proxy = Proxy::start(&cluster, port, &map, &[]).await?;
    let mut client = proxy.client().await?;
    client.query("INSERT INTO accounts VALUES (1, 7)").await?;
    let read = "SELECT pg_is_in_recovery(), balance FROM accounts WHERE id = 1";
    let recovering = async |client: &mut Client| -> Outcome<bool> {
        let rows = client.query(read).await?;
        let row = rows.first().ok_or("no row")?;
        assert_eq!(text(row, 1)?, "7");
        Ok(text(row, 0)? == "t")
    };
    // A plain read and a read-only transaction are served by a replica, as soon as it has the row.
    until("a read from a replica", async || {
        let rows = proxy.client().await?.query(read).await?;
        rows.first().map_or(Ok(false), |row| Ok(text(row, 0)? == "t"))
    })
    .await?;
    until("a read-only transaction on a replica", async || {
        let mut client = proxy.client().await?;
        client.query("BEGIN READ ONLY").await?;
        recovering(&mut client).await
    })
    .await?;
    for begin in [
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
        "BEGIN READ ONLY; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    ] {
        let mut client = proxy.client().await?;
        client.query(begin).await?;
        assert!(!recovering(&mut client).await?, "{begin}");
        client.query("COMMIT").await?;
    }
    for set in [
        "SET default_transaction_isolation = 'serializable'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    ] {
        let mut client = proxy.client().await?;
        client.query(set).await?;
        assert!(!recovering(&mut client).await?, "{set}");
        client.query("BEGIN READ ONLY").await?;
        assert!(!recovering(&mut client).await?, "{set}, in a transaction");
        client.query("COMMIT").await?;
        client.query("RESET default_transaction_isolation").await?;
        until("a read from a replica again", async || recovering(&mut client).await).await?;
    }
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_servers_isolate_by_default_counts() -> Outcome {
    let cluster = Cluster::start(ClusterSpec { replicas: 1, ..ClusterSpec::default() }).await?;
    for primary in cluster.primaries() {
        let mut client = Client::connect(primary.port(), "demo", "shop").await?;
        client.query("CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL)").await?;
        client.query("ALTER DATABASE shop SET default_transaction_isolation = 'serializable'").await?;
    }
    let port = free_port()?;
    let rest = format!("    groups: {{account: {{key: bigint, tables: {{accounts: id}}}}}}\n{USERS}");
    let proxy = Proxy::start(&cluster, port, &map_of(&cluster, port, |_| true, &rest), &[]).await?;
    let mut client = proxy.client().await?;
    let mut one_of = [None, None];
    for id in 1..20_i64 {
        client.query(&format!("INSERT INTO accounts VALUES ({id}, 0)")).await?;
        one_of[usize::from(Key::Int(id).bucket() < BUCKETS / 2)] = Some(id);
    }
    let [Some(one), Some(other)] = one_of else { return Err("all keys are on one shard".into()) };
    let place = |id: i64| format!("SELECT pg_is_in_recovery() FROM accounts WHERE id = {id}");
    // A replica would refuse it.
    for id in 1..20_i64 {
        assert_eq!(client.value(&place(id)).await?.as_deref(), Some("f"), "account {id}");
    }
    client.query("BEGIN READ ONLY").await?;
    assert_eq!(client.value(&place(one)).await?.as_deref(), Some("f"));
    let refused = client.query(&place(other)).await.expect_err("a second shard has a second snapshot").to_string();
    assert!(refused.contains("SERIALIZABLE across shards"), "{refused}");
    client.query("ROLLBACK").await?;
    client.query("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    for id in [one, other] {
        assert_eq!(client.query(&place(id)).await?.len(), 1, "account {id}");
    }
    client.query("COMMIT").await?;
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_stay_when_a_shard_is_added_and_placement_is_not_changed_by_hand() -> Outcome {
    const ROWS: i64 = 500;
    let cluster = Cluster::start(ClusterSpec { shards: 3, replicas: 0, ..ClusterSpec::default() }).await?;
    for primary in cluster.primaries() {
        let mut client = Client::connect(primary.port(), "demo", "shop").await?;
        client.query("CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL)").await?;
    }
    let port = free_port()?;
    let group = |placement: &str| {
        format!("    groups: {{account: {{key: bigint{placement}, tables: {{accounts: id}}}}}}\n{USERS}")
    };
    let two = map_of(&cluster, port, |name| !name.starts_with("s3"), &group(""));
    let three = map_of(&cluster, port, |_| true, &group(""));
    let by_hand =
        map_of(&cluster, port, |_| true, &group(", placement: {s1: 0-5000, s2: 5001-10000, s3: 10001-16383}"));

    let proxy = Proxy::start(&cluster, port, &two, &[]).await?;
    let mut client = proxy.client().await?;
    let mut found = BTreeMap::new();
    for id in 0..ROWS {
        let sql = format!("INSERT INTO accounts VALUES ({id}, {id}) RETURNING inet_server_port()");
        found.insert(id, client.value(&sql).await?);
    }
    let all_where_they_were = async |client: &mut Client| -> Outcome {
        for (id, at) in &found {
            let sql = format!("SELECT inet_server_port() FROM accounts WHERE id = {id} AND balance = {id}");
            assert_eq!(client.value(&sql).await?, *at, "account {id}");
        }
        assert_eq!(client.value("SELECT id FROM accounts WHERE id = -1").await?, None);
        Ok(())
    };
    all_where_they_were(&mut client).await?;
    proxy.stop().await?;

    // Stopped, a shard added, started.
    let proxy = Proxy::start(&cluster, port, &three, &[]).await?;
    let mut client = proxy.client().await?;
    all_where_they_were(&mut client).await?;

    // The placement that is in force, written down, moves nothing and may be written; another may not.
    let mut console = proxy.console().await?;
    proxy.replace_map(&by_hand)?;
    let Err(SqlError::Server { message, .. }) = console.query("RELOAD").await else {
        return Err("a placement by hand was taken".into());
    };
    assert!(message.contains("rejected"), "{message}");
    let shown = console.query("SHOW MAP").await?;
    let rejected = shown.iter().find(|row| row.first() == Some(&Some("rejected".to_owned()))).ok_or("no such line")?;
    assert!(text(rejected, 1)?.contains("Put the map back"), "{rejected:?}");
    all_where_they_were(&mut client).await?;
    proxy.stop().await?;

    let (status, said) = Proxy::refused(&cluster, port, &by_hand).await?;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("account") && said.contains("placement"), "{said}");
    let (status, said) = check_connect(&cluster, &by_hand)?;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("error[placement-differs]") && said.contains("`account`"), "{said}");

    // Written out as it is, it is taken, at start and on reload.
    let as_it_is = map_of(&cluster, port, |_| true, &group(", placement: {s1: 0-8191, s2: 8192-16383}"));
    let proxy = Proxy::start(&cluster, port, &as_it_is, &[]).await?;
    let mut client = proxy.client().await?;
    all_where_they_were(&mut client).await?;
    proxy.replace_map(&three)?;
    let mut console = proxy.console().await?;
    until("the reload", async || Ok(console.query("RELOAD").await.is_ok())).await?;
    all_where_they_were(&mut client).await?;
    println!(
        "figure: {ROWS} rows where they were after a start and a reload with one more shard; by hand: refused twice"
    );
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}

/// What `check --connect` says of a map, and how it exits.
fn check_connect(cluster: &Cluster, map: &str) -> Outcome<(Option<i32>, String)> {
    let file = cluster.dir().join("checked.yaml");
    std::fs::write(&file, map)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardway"));
    let output = command.arg("check").arg(&file).arg("--connect").output()?;
    Ok((output.status.code(), String::from_utf8(output.stdout)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_tables_are_not_moved_by_hand() -> Outcome {
    let cluster = Cluster::start(ClusterSpec { replicas: 0, ..ClusterSpec::default() }).await?;
    for primary in cluster.primaries() {
        let mut client = Client::connect(primary.port(), "demo", "shop").await?;
        let tables = ["settings", "log", "countries"].map(|it| format!("CREATE TABLE {it} (id bigint PRIMARY KEY)"));
        client.query(&tables.join("; ")).await?;
    }
    let port = free_port()?;
    let map = |whole: &str| map_of(&cluster, port, |_| true, &format!("{whole}{USERS}"));
    let right = map("    unsharded: {s1: [settings]}\n    reference: [countries]\n");

    let proxy = Proxy::start(&cluster, port, &right, &[]).await?;
    let mut client = proxy.client().await?;
    client.query("INSERT INTO settings VALUES (7)").await?;
    proxy.stop().await?;

    // Another home, another class, and the home of what is not named.
    let elsewhere = [
        map("    unsharded: {s2: [settings]}\n    reference: [countries]\n"),
        map("    reference: [countries, settings]\n"),
        map("    groups: {g: {key: bigint, tables: {settings: id}}}\n    reference: [countries]\n"),
        map("    reference: [countries]\n    unlisted: s2\n"),
    ];
    for wrong in &elsewhere {
        let (status, said) = Proxy::refused(&cluster, port, wrong).await?;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("`settings`") && said.contains("whole on shard `s1`"), "{said}");
        let (status, said) = check_connect(&cluster, wrong)?;
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("error[placement-differs]") && said.contains("whole on shard `s1`"), "{said}");
    }
    let (_, said) = check_connect(&cluster, &right)?;
    assert!(!said.contains("placement"), "{said}");

    // What moves nothing is taken, at start and on reload.
    let more = map("    unsharded: {s1: [settings], s2: [log]}\n    reference: [countries]\n");
    let proxy = Proxy::start(&cluster, port, &more, &[]).await?;
    let mut client = proxy.client().await?;
    assert_eq!(client.value("SELECT id FROM settings").await?.as_deref(), Some("7"));
    let mut console = proxy.console().await?;
    for wrong in &elsewhere {
        proxy.replace_map(wrong)?;
        assert!(console.query("RELOAD").await.is_err(), "{wrong}");
    }
    proxy.replace_map(&right)?;
    until("the reload", async || Ok(console.query("RELOAD").await.is_ok())).await?;
    assert_eq!(client.value("SELECT id FROM settings").await?.as_deref(), Some("7"));
    proxy.stop().await?;

    // A table that the map does not name any more is nobody's, and may be placed anew.
    let proxy = Proxy::start(&cluster, port, &map("    unsharded: {s1: [log, settings]}\n"), &[]).await?;
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}
