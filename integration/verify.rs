//! `shardway verify`: nothing is wrong with what the proxy wrote, and whatever is planted beside it is named.

#[path = "mysql/client.rs"]
mod client;
#[path = "verify/mysql.rs"]
mod mysql;
mod proxy;

use std::fs;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of;
use proxy::prepare;
use proxy::until;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::client::literal;
use shardway::shard_map::KeyType;
use shardway::tasks;

/// Keys of each type.
const KEYS: usize = 200;

/// Three shards, a proxy before them, and the map's file.
struct House {
    cluster: Cluster,
    proxy: Proxy,
    map: std::path::PathBuf,
}

impl House {
    async fn build(rest: &str, tables: &[String]) -> Outcome<Self> {
        let cluster = Cluster::start(ClusterSpec { shards: 3, replicas: 0, ..ClusterSpec::default() }).await?;
        for node in cluster.primaries() {
            node.value("shop", &format!("SET ROLE demo; {}", tables.join("; "))).await?;
        }
        let port = free_port()?;
        let text = map_of(&cluster, port, |_| true, rest);
        let map = cluster.dir().join("map.yaml");
        fs::write(&map, &text)?;
        prepare(&cluster, &text)?;
        let proxy = Proxy::start(&cluster, port, &text, &[]).await?;
        Ok(Self { cluster, proxy, map })
    }

    async fn on(&self, shard: usize, sql: &str) -> Outcome<Option<String>> {
        let node = self.cluster.primaries().nth(shard).ok_or("no such shard")?;
        Ok(node.value("shop", sql).await?)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardway"));
        command.arg("verify").arg(&self.map).args(arguments).stdin(Stdio::null());
        command
    }

    /// Exit code, the findings without what to do about them, progress.
    fn verify(&self, arguments: &[&str]) -> Outcome<(i32, Vec<String>, String)> {
        said(&self.command(arguments).output()?)
    }

    async fn stop(self) -> Outcome {
        self.proxy.stop().await?;
        Ok(self.cluster.stop().await?)
    }
}

fn said(output: &Output) -> Outcome<(i32, Vec<String>, String)> {
    let text = String::from_utf8(output.stdout.clone())?;
    let findings = text.lines().filter(|it| !it.starts_with("  help: ")).map(str::to_owned).collect();
    Ok((output.status.code().unwrap_or(-1), findings, String::from_utf8(output.stderr.clone())?))
}

/// SQL for keys of a type from numbers `i`, and bounds between which they lie, as the map writes them.
fn keys_of(key_type: KeyType) -> (&'static str, [&'static str; 2]) {
    match key_type {
        KeyType::BigInt => ("hashint8extended(i, 7)", ["-3000000000000000000", "3000000000000000000"]),
        KeyType::Int => ("hashint4(i)", ["-700000000", "700000000"]),
        KeyType::SmallInt => ("(i - 100) * 300", ["-10000", "10000"]),
        KeyType::Text => ("(ARRAY['', 'é', '€ ''', 'Z', 'a'])[1 + i % 5] || i", ["\"Z\"", "\"b\""]),
        KeyType::Uuid => (
            "md5(i::text)::uuid",
            ["\"55555555-5555-5555-5555-555555555555\"", "\"aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa\""],
        ),
        KeyType::Date => (
            "CASE i WHEN 1 THEN date 'infinity' WHEN 2 THEN '-infinity' ELSE date '1990-01-01' + i * 37 END",
            ["\"1995-01-01\"", "\"2003-01-01\""],
        ),
        KeyType::TimestampTz => (
            "CASE i WHEN 1 THEN timestamptz 'infinity' WHEN 2 THEN '-infinity' \
             ELSE timestamptz '1990-01-01 00:00:00.123456+00' + i * interval '37 days' END",
            ["\"1995-01-01T00:00:00Z\"", "\"2003-01-01T00:00:00Z\""],
        ),
        KeyType::Bytea => ("substr(decode(md5(i::text), 'hex'), 1, 2 + i % 15)", ["\"\\\\x55\"", "\"\\\\xaa00\""]),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_place_every_key_where_the_proxy_does() -> Outcome {
    let mut rest = "    groups:\n".to_owned();
    let mut tables = Vec::new();
    for key_type in KeyType::ALL {
        let (_, [low, high]) = keys_of(key_type);
        let name = key_type.name();
        rest.push_str(&format!(
            "      h_{name}: {{key: {name}, pinned: {{s3: [{low}]}}, tables: {{h_{name}: k}}}}
      r_{name}: {{key: {name}, scheme: range, pinned: {{s1: [{high}]}}, tables: {{r_{name}: k}},
        ranges: [{{to: {low}, shard: s2}}, {{from: {low}, to: {high}, shard: s1}}, {{from: {high}, shard: s3}}]}}
      l_{name}: {{key: {name}, scheme: list, values: {{s1: [{low}], s3: [{high}]}}, other: s2, tables: {{l_{name}: k}}}}\n"
        ));
        tables.extend(["h", "r", "l"].map(|scheme| format!("CREATE TABLE {scheme}_{name} (k {name} NOT NULL)")));
    }
    rest.push_str("      bounded: {key: int, scheme: range, ranges: [{from: 0, to: 10, shard: s1}, {from: 10, to: 20, shard: s2}], tables: {bounded: k}}\n");
    tables.push("CREATE TABLE bounded (k int NOT NULL)".to_owned());
    rest.push_str("users: {demo: {auth: trust}}\n");
    let house = House::build(&rest, &tables).await?;
    let mut client = house.proxy.client().await?;
    for key_type in KeyType::ALL {
        let (sql, bounds) = keys_of(key_type);
        let name = key_type.name();
        let keys = format!("SELECT string_agg(({sql})::text, '|') FROM generate_series(1, {KEYS}) AS i");
        let keys = house.on(0, &keys).await?.ok_or("keys")?;
        // The map's words for bytes are the server's own but for YAML's escape.
        let bounds = bounds.map(|it| it.trim_matches('"').replace("\\\\", "\\"));
        let keys: Vec<String> = keys.split('|').map(literal).chain(bounds.iter().map(|it| literal(it))).collect();
        assert_eq!(keys.len(), KEYS + 2);
        for scheme in ["h", "r", "l"] {
            client.query(&format!("INSERT INTO {scheme}_{name} (k) VALUES ({})", keys.join("), ("))).await?;
        }
    }
    client.query("INSERT INTO bounded VALUES (0), (9), (10), (19)").await?;
    let (code, findings, progress) = house.verify(&[])?;
    assert_eq!((code, findings), (0, Vec::new()), "{progress}");
    for key_type in KeyType::ALL {
        for scheme in ["h", "r", "l"] {
            let line =
                format!("{scheme}_{}: sharded, {} rows, each on the shard of its key", key_type.name(), KEYS + 2);
            assert!(progress.lines().any(|it| it == line), "{line}\n{progress}");
        }
    }

    // A row of each table on each other shard than its own: all are found, and nothing else.
    let mut planted = 0;
    for key_type in KeyType::ALL {
        for scheme in ["h", "r", "l"] {
            let table = format!("{scheme}_{}", key_type.name());
            for (from, to) in [(0, 1), (1, 2), (2, 0)] {
                let key =
                    house.on(from, &format!("SELECT k FROM {table} ORDER BY k::text LIMIT 1")).await?.ok_or("a key")?;
                house.on(to, &format!("INSERT INTO {table} VALUES ({})", literal(&key))).await?;
                planted += 1;
                let (code, findings, _) = house.verify(&["--table", &table])?;
                let (from, to) = (from + 1, to + 1);
                let expected = format!(
                    "error[row-misplaced]: sharded table \"{table}\": key {key} is on shard \"s{to}\" and belongs to \"s{from}\", \
                     where there are rows of this key as well"
                );
                assert_eq!((code, findings.contains(&expected)), (1, true), "{expected}\n{findings:#?}");
                assert_eq!(findings.len(), 2, "{findings:#?}");
                house.on(to - 1, &format!("DELETE FROM {table} WHERE k = {}", literal(&key))).await?;
            }
        }
    }
    house.on(1, "INSERT INTO bounded VALUES (20), (-1)").await?;
    let (code, findings, _) = house.verify(&["--table", "bounded"])?;
    assert_eq!(code, 1);
    assert_eq!(
        findings,
        [
            "error[rows-misplaced]: sharded table \"bounded\": 2 rows on shard \"s2\" that belong elsewhere",
            "error[row-nowhere]: sharded table \"bounded\": key -1 is on shard \"s2\", and no shard takes it",
            "error[row-nowhere]: sharded table \"bounded\": key 20 is on shard \"s2\", and no shard takes it",
        ]
    );
    assert_eq!(planted, 72);
    house.stop().await
}

const REST: &str = "    groups: {key: {key: bigint, tables: {t: id, u: id, gone: id}}}
    reference: [named, bag, sales.far]
    unsharded: {s1: [settings]}
users: {demo: {auth: trust}}
";

fn shop() -> Vec<String> {
    [
        "CREATE TABLE t (id bigint, note text)",
        "CREATE TABLE u (id bigint PRIMARY KEY)",
        "CREATE TABLE gone (id bigint PRIMARY KEY)",
        "CREATE TABLE named (a int, b text, weight float8, at timestamptz, span interval, bytes bytea, PRIMARY KEY (a, b))",
        "CREATE TABLE bag (word text, n numeric)",
        "CREATE SCHEMA sales; CREATE TABLE sales.far (id int PRIMARY KEY, word text)",
        "CREATE TABLE settings (id int)",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_planted_is_named_and_nothing_else() -> Outcome {
    let house = House::build(REST, &shop()).await?;
    let mut client = house.proxy.client().await?;
    let keys: Vec<String> = (1..=300).map(|it| format!("({it}, 'x')")).collect();
    client.query(&format!("INSERT INTO t VALUES {}", keys.join(", "))).await?;
    client.query("INSERT INTO u VALUES (1), (2), (3), (4), (5), (6)").await?;
    client
        .query(
            "INSERT INTO named VALUES (1, 'one', 0.1, '2026-01-01 12:00:00.5+02', '1 day', '\\x00ff'), (2, 'two', 1e-300, NULL, NULL, NULL), \
             (3, 'three', 'NaN', 'infinity', '-1 year 3 days', ''), (4, '', NULL, NULL, NULL, NULL)",
        )
        .await?;
    client.query("INSERT INTO bag VALUES ('a', 1.0), ('a', 1.0), ('a', 1), (NULL, NULL), ('', NULL)").await?;
    let far: Vec<String> = (0..1300).map(|it| format!("({it}, 'w')")).collect();
    client.query(&format!("INSERT INTO sales.far VALUES {}", far.join(", "))).await?;
    client.query("INSERT INTO settings VALUES (1)").await?;
    // What servers say of their own about how values look is no difference.
    house.on(1, "ALTER ROLE demo SET extra_float_digits = -8; ALTER ROLE demo SET timezone = 'Asia/Tokyo'").await?;
    house
        .on(
            2,
            "ALTER DATABASE shop SET datestyle = 'German'; ALTER ROLE demo SET bytea_output = 'escape'; \
                 ALTER ROLE demo SET intervalstyle = 'sql_standard'; ALTER ROLE demo SET search_path = 'sales'",
        )
        .await?;
    let (code, findings, progress) = house.verify(&[])?;
    assert_eq!((code, findings), (0, Vec::new()), "{progress}");
    for line in [
        "database \"shop\": 3 shards, 7 tables",
        "bag: reference, 5 rows, the same on 3 shards",
        "named: reference, 4 rows, the same on 3 shards",
        "settings: unsharded, at home",
        "t: sharded, 300 rows, each on the shard of its key",
    ] {
        assert!(progress.lines().any(|it| it == line), "{line}\n{progress}");
    }

    // Copies.
    house.on(1, "DELETE FROM named WHERE a = 2").await?;
    house.on(2, "UPDATE named SET weight = 0.30000000000000004 WHERE a = 1").await?;
    house.on(1, "UPDATE named SET weight = 0.3 WHERE a = 1").await?;
    house.on(0, "INSERT INTO named VALUES (9, E'nine,\\n\"9\"')").await?;
    house.on(1, "UPDATE bag SET n = 1.00 WHERE ctid = (SELECT min(ctid) FROM bag WHERE n = 1)").await?;
    house.on(2, "UPDATE sales.far SET word = 'v' WHERE id % 100 = 7").await?;
    // Places.
    let home = async |key: &str| -> Outcome<usize> {
        for shard in 0..3 {
            if house.on(shard, &format!("SELECT id FROM t WHERE id = {key}")).await?.is_some() {
                return Ok(shard);
            }
        }
        Err("nowhere".into())
    };
    let (both, moved) = (home("17").await?, home("18").await?);
    let (away, gone) = ((both + 1) % 3, (moved + 2) % 3);
    house.on(away, "INSERT INTO t VALUES (17, 'again')").await?;
    house.on(moved, "DELETE FROM t WHERE id = 18").await?;
    house.on(gone, "INSERT INTO t VALUES (18, 'moved')").await?;
    house.on(2, "INSERT INTO t VALUES (NULL, 'a'), (NULL, 'b')").await?;
    house.on(1, "INSERT INTO settings VALUES (1)").await?;
    house.on(1, "DROP TABLE gone").await?;
    let (code, findings, progress) = house.verify(&["--rows", "3"])?;
    assert_eq!(code, 1, "{progress}");
    let shard = |place: usize| format!("\"s{}\"", place + 1);
    let mut expected = vec![
        "error[table-missing]: table \"gone\" is missing on shard \"s2\"".to_owned(),
        "error[copies-differ]: the copies of reference table \"bag\" differ: 5 rows on \"s1\", 5 rows on \"s2\", 5 rows on \"s3\"".to_owned(),
        "error[copies-differ]: the copies of reference table \"named\" differ: 5 rows on \"s1\", 3 rows on \"s2\", 4 rows on \"s3\"".to_owned(),
        "error[row-differs]: reference table \"named\": row (a, b) = (1,one) is version 1 on \"s1\", version 2 on \"s2\", version 3 on \"s3\"".to_owned(),
        "error[row-differs]: reference table \"named\": row (a, b) = (2,two) is there on \"s1\", \"s3\", missing on \"s2\"".to_owned(),
        "error[row-differs]: reference table \"named\": row (a, b) = (9,\"nine,\\n\"\"9\"\"\") is there on \"s1\", missing on \"s2\", \"s3\"".to_owned(),
        "error[copies-differ]: the copies of reference table \"sales.far\" differ: 1300 rows on \"s1\", 1300 rows on \"s2\", 1300 rows on \"s3\"".to_owned(),
        "error[row-differs]: reference table \"sales.far\": row (id) = (1007) is version 1 on \"s1\", \"s2\", version 2 on \"s3\"".to_owned(),
        "error[row-differs]: reference table \"sales.far\": row (id) = (107) is version 1 on \"s1\", \"s2\", version 2 on \"s3\"".to_owned(),
        "error[row-differs]: reference table \"sales.far\": row (id) = (1107) is version 1 on \"s1\", \"s2\", version 2 on \"s3\"".to_owned(),
        "error[row-differs]: reference table \"sales.far\": more rows differ, which are not named".to_owned(),
        "error[key-null]: sharded table \"t\": 2 rows on shard \"s3\" without a key (\"id\" is NULL)".to_owned(),
        "warning[rows-astray]: unsharded table \"settings\" has rows on shard \"s2\", which is not its home".to_owned(),
        format!(
            "error[row-misplaced]: sharded table \"t\": key 17 is on shard {} and belongs to {}, where there are rows of this key as well",
            shard(away),
            shard(both)
        ),
        format!("error[row-misplaced]: sharded table \"t\": key 18 is on shard {} and belongs to {}", shard(gone), shard(moved)),
    ];
    for place in 0..3 {
        let rows = usize::from(place == away) + usize::from(place == gone);
        if rows > 0 {
            let rows = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
            expected.push(format!(
                "error[rows-misplaced]: sharded table \"t\": {rows} on shard {} that belong elsewhere",
                shard(place)
            ));
        }
    }
    // Rows without a primary key come in the order of their digests.
    let (bag, mut rest): (Vec<String>, Vec<String>) =
        findings.into_iter().partition(|it| it.starts_with("error[row-differs]: reference table \"bag\""));
    rest.sort();
    expected.sort();
    assert_eq!(rest, expected, "{progress}");
    let mut bag: Vec<&str> = bag.iter().filter_map(|it| it.split("row = ").nth(1)).collect();
    bag.sort_unstable();
    assert_eq!(
        bag,
        [
            "(a,1.0) is 2 times on \"s1\", \"s3\", once on \"s2\"",
            "(a,1.00) is missing on \"s1\", \"s3\", once on \"s2\""
        ]
    );

    // One table alone, for machines.
    let output = house.command(&["--table", "named", "--format", "json"]).output()?;
    let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    assert_eq!((output.status.code(), all.len()), (Some(1), 4), "{all:?}");
    assert_eq!(all[0]["code"].as_str(), Some("copies-differ"));
    let (code, findings, _) = house.verify(&["--table", "u"])?;
    assert_eq!((code, findings), (0, Vec::new()));

    // What cannot be looked at is no success.
    let (code, _, progress) = house.verify(&["--table", "nobody"])?;
    assert_eq!((code, progress.contains("the map has no table \"nobody\"")), (2, true), "{progress}");
    house.on(1, "REVOKE SELECT ON u FROM demo").await?;
    let (code, _, progress) = house.verify(&["--table", "u"])?;
    assert_eq!((code, progress.contains("permission denied for table u")), (2, true), "{progress}");
    house.on(1, "GRANT SELECT ON u TO demo; ALTER TABLE u ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY").await?;
    let (code, _, progress) = house.verify(&["--table", "u"])?;
    assert_eq!((code, progress.contains("row-level security")), (2, true), "{progress}");
    house.cluster.node("s3-a")?.kill9().await?;
    let (code, _, progress) = house.verify(&["--table", "named"])?;
    assert_eq!((code, progress.contains("the primary of shard \"s3\" does not answer")), (2, true), "{progress}");
    house.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_meanwhile_raises_no_alarm() -> Outcome {
    let house = House::build(REST, &shop()).await?;
    let mut client = house.proxy.client().await?;
    let far: Vec<String> = (0..2000).map(|it| format!("({it}, 'w')")).collect();
    client.query(&format!("INSERT INTO sales.far VALUES {}", far.join(", "))).await?;
    let (ended, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = Vec::new();
    for writer in 0..4 {
        let mut client = house.proxy.client().await?;
        let (ended, written) = (Arc::clone(&ended), Arc::clone(&written));
        writers.push(tasks::shared("writer", async move {
            while !ended.load(Ordering::Relaxed) {
                let turn = written.fetch_add(1, Ordering::Relaxed);
                let sql = format!("UPDATE sales.far SET word = '{writer} {turn}' WHERE id % 50 = {}", turn % 50);
                client.query(&sql).await?;
                let sql = format!("INSERT INTO t VALUES ({turn}, 'x'), ({}, 'y')", turn + 1);
                client.query(&sql).await?;
            }
            Outcome::Ok(())
        }));
    }
    for _ in 0..8 {
        let before = written.load(Ordering::Relaxed);
        let command = house.command(&[]).output()?;
        let (code, findings, progress) = said(&command)?;
        assert_eq!((code, findings), (0, Vec::new()), "{progress}");
        let most = written.load(Ordering::Relaxed);
        assert!(most > before + 4, "nobody wrote meanwhile");
    }
    ended.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await??;
    }
    println!("figure: 8 verifications during {} writes of reference tables", written.load(Ordering::Relaxed));

    // A writer that is not done is waited for, and no other writer while rows are compared.
    client.query("BEGIN; UPDATE named SET weight = 1; INSERT INTO named VALUES (7, 'seven')").await?;
    let verifying = house.command(&["--table", "named"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    until("it to wait for its turn", async || {
        let waits = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                     WHERE locktype = 'advisory' AND NOT granted AND application_name = 'shardway verify'";
        Ok(house.on(0, waits).await?.as_deref() == Some("1"))
    })
    .await?;
    client.query("COMMIT").await?;
    let (code, findings, progress) = said(&verifying.wait_with_output()?)?;
    assert_eq!((code, findings), (0, Vec::new()), "{progress}");
    assert!(progress.contains("named: reference, 1 row, the same on 3 shards"), "{progress}");
    house.stop().await
}
