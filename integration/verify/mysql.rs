//! The same of MariaDB servers.

use std::fs;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

use shardway::local_cluster::mariadb::CONTROL_PASSWORD;
use shardway::local_cluster::mariadb::CONTROL_USER;
use shardway::local_cluster::mariadb::MariaCluster;
use shardway::local_cluster::mariadb::MariaSpec;
use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;

use crate::client::Client;
use crate::proxy::Outcome;
use crate::proxy::Proxy;
use crate::proxy::free_port;
use crate::proxy::prepare_at;
use crate::proxy::until;
use crate::said;

const TABLES: &str = "
CREATE TABLE h_big (k bigint NOT NULL, note text);
CREATE TABLE h_int (k int PRIMARY KEY);
CREATE TABLE r_small (k smallint);
CREATE TABLE h_text (k varchar(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL);
CREATE TABLE h_bytes (k varbinary(50) NOT NULL);
CREATE TABLE h_uuid (k uuid NOT NULL);
CREATE TABLE r_date (k date NOT NULL);
CREATE TABLE named (a int, b varchar(20), weight float, exact double, at timestamp NULL, bits bit(9), bytes blob, word text CHARACTER SET latin1,
    PRIMARY KEY (a, b));
CREATE TABLE bag (word varchar(10), n decimal(10, 2));
CREATE TABLE settings (id int);";

/// `groups:` and the rest of the map.
const REST: &str = "    groups:
      big: {key: bigint, tables: {h_big: k}}
      int: {key: int, tables: {h_int: k}}
      small: {key: smallint, scheme: range, ranges: [{from: 0, to: 10, shard: s1}, {from: 10, to: 20, shard: s2}], tables: {r_small: k}}
      text: {key: text, tables: {h_text: k}}
      bytes: {key: bytea, tables: {h_bytes: k}}
      uuid: {key: uuid, tables: {h_uuid: k}}
      date: {key: date, scheme: range, ranges: [{to: '1999-12-31', shard: s1}, {from: '1999-12-31', to: '2003-01-01', shard: s2}, {from: '2003-01-01', shard: s3}],
        tables: {r_date: k}}
    reference: [named, bag]
    unsharded: {s1: [settings]}
";

struct House {
    // Ends before the servers do.
    proxy: Proxy,
    cluster: MariaCluster,
    map: std::path::PathBuf,
    port: u16,
}

impl House {
    async fn build() -> Outcome<Self> {
        let cluster = MariaCluster::start(MariaSpec { shards: 3, replicas: 0, ..MariaSpec::default() }).await?;
        for node in cluster.nodes() {
            node.value("shop", TABLES).await?;
        }
        let port = free_port()?;
        let shards: Vec<String> = (1..)
            .zip(cluster.nodes())
            .map(|(place, node)| format!("      s{place}: ['127.0.0.1:{}']\n", node.port()))
            .collect();
        let text = format!(
            "version: 1\nlisten: {{mysql: 127.0.0.1:{port}}}\nusers: {{{USER}: {{password: {PASSWORD}}}}}\ndatabases:\n  shop:\n    \
             engine: mysql\n    control: {{user: {CONTROL_USER}, password: {CONTROL_PASSWORD}}}\n    shards:\n{}{REST}",
            shards.concat()
        );
        let map = cluster.dir().join("map.yaml");
        fs::write(&map, &text)?;
        prepare_at(cluster.dir(), &text)?;
        let answers = async || {
            let client = Client::connect(port, USER, PASSWORD, "shop");
            client.is_ok_and(|mut it| it.done("INSERT INTO named (a, b) VALUES (0, '')").is_ok())
        };
        let proxy = Proxy::start_when(cluster.dir(), port, &text, &[], answers).await?;
        Ok(Self { proxy, cluster, map, port })
    }

    fn client(&self) -> Outcome<Client> {
        Ok(Client::connect(self.port, USER, PASSWORD, "shop")?)
    }

    async fn on(&self, shard: usize, sql: &str) -> Outcome<Option<String>> {
        Ok(self.cluster.nodes().get(shard).ok_or("no such shard")?.value("shop", sql).await?)
    }

    /// Exit code, the findings without what to do about them, progress.
    fn verify(&self, arguments: &[&str]) -> Outcome<(i32, Vec<String>, String)> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardway"));
        command.arg("verify").arg(&self.map).args(arguments).stdin(Stdio::null());
        said(&command.output()?)
    }

    /// The shard that has a row.
    async fn home(&self, table: &str, key: &str) -> Outcome<usize> {
        for shard in 0..3 {
            if self.on(shard, &format!("SELECT 1 FROM {table} WHERE k = {key}")).await?.is_some() {
                return Ok(shard);
            }
        }
        Err("nowhere".into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_mariadb_what_is_planted_is_named_and_nothing_else() -> Outcome {
    let house = House::build().await?;
    let mut client = house.client()?;
    let list = |of: fn(i64) -> String| (0..200).map(|it| format!("({})", of(it))).collect::<Vec<_>>().join(", ");
    // Of each kind of key: its table, its values, one of them as SQL and as it is shown.
    let kinds: [(&str, String, &str, &str); 6] = [
        (
            "h_big",
            list(|it| (it * 46_116_860_184_273 - 9_000_000_000_000_000).to_string()),
            "-9000000000000000",
            "-9000000000000000",
        ),
        ("h_int", list(|it| (it * 20_000_000 - 2_000_000_000).to_string()), "2000000", "2000000"),
        (
            "h_text",
            list(|it| format!("'{}é€\\'{it}'", ["a", "Z", "ß"][usize::try_from(it % 3).unwrap_or_default()])),
            "'Zé€\\'7'",
            "Zé€'7",
        ),
        ("h_bytes", list(|it| format!("X'00ff{it:04}'")), "X'00ff0033'", "\\x00ff0033"),
        (
            "h_uuid",
            list(|it| format!("'{it:08}-aaaa-4bbb-8ccc-{it:012}'")),
            "'00000031-aaaa-4bbb-8ccc-000000000031'",
            "00000031-aaaa-4bbb-8ccc-000000000031",
        ),
        ("r_date", list(|it| format!("'{}-0{}-2{}'", 1950 + it % 90, 1 + it % 9, it % 9)), "'1957-08-27'", "-15467"),
    ];
    for (table, values, key, _) in &kinds {
        let key = if *table == "h_int" { format!(", ({key})") } else { String::new() };
        let column = if *table == "h_big" { " (k)" } else { "" };
        client.done(&format!("INSERT INTO {table}{column} VALUES {values}{key}"))?;
    }
    client.done("INSERT INTO r_small VALUES (0), (9), (10), (19)")?;
    client.done("INSERT INTO named VALUES (1, 'one', 0.1, 1e-300, '2026-01-01 12:00:00', b'1', X'00ff', 'é'), (2, 'two', NULL, NULL, NULL, NULL, NULL, NULL)")?;
    client.done("INSERT INTO bag VALUES ('a', 1), ('a', 1), ('a', 1), (NULL, NULL), ('', NULL)")?;
    client.done("INSERT INTO settings VALUES (1)")?;
    house.on(1, "SET GLOBAL time_zone = '+09:00'; SET GLOBAL div_precision_increment = 7").await?;
    let (code, findings, progress) = house.verify(&[])?;
    assert_eq!((code, findings), (0, Vec::new()), "{progress}");
    for line in [
        "database \"shop\": 3 shards, 10 tables",
        "shop.bag: reference, 5 rows, the same on 3 shards",
        "shop.named: reference, 3 rows, the same on 3 shards",
        "shop.settings: unsharded, at home",
        "shop.h_big: sharded, 200 rows, each on the shard of its key",
        "shop.h_int: sharded, 201 rows, each on the shard of its key",
        "shop.r_small: sharded, 4 rows, each on the shard of its key",
    ] {
        assert!(progress.lines().any(|it| it == line), "{line}\n{progress}");
    }

    for (table, _, key, shown) in &kinds {
        let home = house.home(table, key).await?;
        let away = (home + 1) % 3;
        let column = if *table == "h_big" { " (k)" } else { "" };
        house.on(away, &format!("INSERT INTO {table}{column} VALUES ({key})")).await?;
        let (code, findings, _) = house.verify(&["--table", table])?;
        let (home, away) = (home + 1, away + 1);
        let expected = [
            format!(
                "error[rows-misplaced]: sharded table \"shop.{table}\": 1 row on shard \"s{away}\" that belong elsewhere"
            ),
            format!(
                "error[row-misplaced]: sharded table \"shop.{table}\": key {shown} is on shard \"s{away}\" and belongs to \"s{home}\", \
                 where there are rows of this key as well"
            ),
        ];
        assert_eq!((code, findings), (1, expected.to_vec()));
        house.on(away - 1, &format!("DELETE FROM {table} WHERE k = {key}")).await?;
    }
    house.on(1, "INSERT INTO r_small VALUES (20), (-1), (NULL)").await?;
    house.on(2, "SET sql_mode = ''; INSERT INTO r_date VALUES ('0000-00-00')").await?;
    house.on(1, "DELETE FROM named WHERE a = 2").await?;
    // Beyond the digits that a FLOAT is printed with.
    house.on(2, "UPDATE named SET weight = 0.10000002 WHERE a = 1").await?;
    house.on(0, "INSERT INTO named (a, b) VALUES (9, 'nine\\n9')").await?;
    house.on(1, "UPDATE bag SET n = 1.01 WHERE n = 1 LIMIT 1").await?;
    house.on(1, "INSERT INTO settings VALUES (1)").await?;
    let (code, findings, progress) = house.verify(&["--rows", "3"])?;
    let (mut bag, mut rest): (Vec<String>, Vec<String>) =
        findings.into_iter().partition(|it| it.starts_with("error[row-differs]: reference table \"shop.bag\""));
    rest.sort();
    bag.sort();
    let mut expected = [
        "error[copies-differ]: the copies of reference table \"shop.bag\" differ: 5 rows on \"s1\", 5 rows on \"s2\", 5 rows on \"s3\"",
        "error[copies-differ]: the copies of reference table \"shop.named\" differ: 4 rows on \"s1\", 2 rows on \"s2\", 3 rows on \"s3\"",
        "error[row-differs]: reference table \"shop.named\": row (a, b) = 1, one is version 1 on \"s1\", \"s2\", version 2 on \"s3\"",
        "error[row-differs]: reference table \"shop.named\": row (a, b) = 2, two is there on \"s1\", \"s3\", missing on \"s2\"",
        "error[row-differs]: reference table \"shop.named\": row (a, b) = 9, nine\\n9 is there on \"s1\", missing on \"s2\", \"s3\"",
        "error[rows-misplaced]: sharded table \"shop.r_small\": 2 rows on shard \"s2\" that belong elsewhere",
        "error[row-nowhere]: sharded table \"shop.r_small\": key -1 is on shard \"s2\", and no shard takes it",
        "error[row-nowhere]: sharded table \"shop.r_small\": key 20 is on shard \"s2\", and no shard takes it",
        "error[key-null]: sharded table \"shop.r_small\": 1 row on shard \"s2\" without a key (k is NULL)",
        "error[rows-misplaced]: sharded table \"shop.r_date\": 1 row on shard \"s3\" that belong elsewhere",
        "error[row-nowhere]: sharded table \"shop.r_date\": key none is on shard \"s3\", and no shard takes it",
        "warning[rows-astray]: unsharded table \"shop.settings\" has rows on shard \"s2\", which is not its home",
    ];
    expected.sort_unstable();
    assert_eq!((code, rest), (1, expected.map(str::to_owned).to_vec()), "{progress}");
    assert_eq!(
        bag,
        [
            "error[row-differs]: reference table \"shop.bag\": row = a, 1.00 is 3 times on \"s1\", \"s3\", 2 times on \"s2\"",
            "error[row-differs]: reference table \"shop.bag\": row = a, 1.01 is missing on \"s1\", \"s3\", once on \"s2\"",
        ]
    );

    // What cannot be looked at is no success.
    house.on(1, &format!("REVOKE LOCK TABLES ON *.* FROM '{CONTROL_USER}'@'%'")).await?;
    let (code, _, progress) = house.verify(&["--table", "bag"])?;
    assert_eq!((code, progress.contains("Access denied")), (2, true), "{progress}");
    house.proxy.stop().await?;
    Ok(house.cluster.stop().await?)
}

/// Whatever is half done while it looks is no difference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_mariadb_writers_of_reference_tables_raise_no_alarm() -> Outcome {
    let house = House::build().await?;
    let (over, mut first) = (AtomicBool::new(false), house.client()?);
    first.done("INSERT INTO bag VALUES ('a', 0)")?;
    let written = thread::scope(|scope| -> Outcome<u32> {
        let writers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| -> Result<u32, String> {
                    let mut client = house.client().map_err(|it| it.to_string())?;
                    let mut written = 0;
                    while !over.load(Ordering::Relaxed) {
                        // A deadlock or a wait that took too long is the servers' own; it is begun anew.
                        written += u32::from(client.done("UPDATE bag SET n = n + 1 WHERE word = 'a'").is_ok());
                    }
                    Ok(written)
                })
            })
            .collect();
        let mut verified = Vec::new();
        for _ in 0..8 {
            verified.push(house.verify(&["--table", "bag"])?);
        }
        over.store(true, Ordering::Relaxed);
        for (code, findings, progress) in verified {
            assert_eq!((code, findings), (0, Vec::new()), "{progress}");
        }
        let mut all = 0;
        for writer in writers {
            all += writer.join().map_err(|_| "a writer panicked")??;
        }
        Ok(all)
    })?;
    assert!(written > 20, "only {written} writes beside it");
    until("all to be the same", async || Ok(house.verify(&["--table", "bag"])?.0 == 0)).await?;
    house.proxy.stop().await?;
    Ok(house.cluster.stop().await?)
}
