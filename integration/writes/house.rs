//! The servers, the proxy, and what is compared.

use std::fs;
use std::process::Command;

use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;

use crate::bytes::Answer;
use crate::bytes::Client;
use crate::bytes::Row;
use crate::proxy::Outcome;
use crate::proxy::Proxy;
use crate::proxy::free_port;
use crate::proxy::until;

/// On how many shards everything is tried.
pub(crate) const WIDTHS: [usize; 4] = [1, 2, 3, 5];

/// `mood` has another number on each server.
const SCHEMA: &str = "
CREATE TYPE mood AS ENUM ('sad', 'calm', 'glad');
CREATE TABLE t (id bigint PRIMARY KEY, a integer, note text CHECK (note <> 'bad'), mood mood);
CREATE TABLE items (id bigint, no integer, what text DEFAULT 'thing', price numeric(6,2) NOT NULL DEFAULT 1.5,
    PRIMARY KEY (id, no));
CREATE TABLE logs (id bigint, made timestamptz DEFAULT now(), day date NOT NULL DEFAULT CURRENT_DATE,
    local timestamp DEFAULT (now() AT TIME ZONE 'utc'::text) + '1 day'::interval, what text);
CREATE TABLE fruits (name text PRIMARY KEY, n integer CHECK (n >= 0));
CREATE TABLE \"Odd Ones\" (\"values\" bigint, \"Key;\" bigint PRIMARY KEY, note text);
CREATE TABLE refs (code text PRIMARY KEY, n integer CHECK (n < 100), made timestamptz DEFAULT now(), mood mood);
CREATE TABLE refs2 (code text REFERENCES refs, n integer, PRIMARY KEY (code, n));
CREATE TABLE loose (id bigint NOT NULL, n integer GENERATED ALWAYS AS (id * 2) STORED, x text);
";

pub(crate) const TABLES: [&str; 8] = ["t", "items", "logs", "fruits", "\"Odd Ones\"", "loose", "refs2", "refs"];

/// Columns of each table that two servers have in common; times of their own are compared by their number.
const COLUMNS: [&str; 8] = [
    "id, a, note, mood",
    "id, no, what, price",
    "id, day, what, made IS NULL, local > made AT TIME ZONE 'utc'",
    "name, n",
    "\"values\", \"Key;\", note",
    "id, n, x",
    "code, n",
    "code, n, made IS NULL, mood",
];

pub(crate) struct House {
    // Ends before the servers do.
    _proxy: Proxy,
    cluster: Cluster,
    port: u16,
}

/// A session through the proxy and one of the plain database beside it.
pub(crate) struct Pair {
    pub(crate) ours: Client,
    pub(crate) plain: Client,
}

impl House {
    pub(crate) async fn build() -> Outcome<Self> {
        let spec = ClusterSpec { shards: 5, replicas: 0, ..ClusterSpec::default() };
        let cluster = Cluster::start(spec).await?;
        let port = free_port()?;
        let mut map = format!(
            "version: 1\nlisten: {{postgres: 127.0.0.1:{port}}}\nusers: {{demo: {{auth: trust}}}}\ndatabases:\n"
        );
        let groups = "    groups:
      number: {key: bigint, tables: {t: id, items: id, logs: id, 'Odd Ones': 'Key;', loose: id}}
      name: {key: text, tables: {fruits: name}}
    reference: [refs, refs2]\n";
        for width in WIDTHS {
            let shards: String = cluster
                .primaries()
                .take(width)
                .enumerate()
                .map(|(at, node)| format!("      s{}: ['127.0.0.1:{}']\n", at + 1, node.port()))
                .collect();
            map += &format!("  d{width}:\n    shards:\n{shards}{groups}");
        }
        // The one that tells whether the proxy is up.
        map += &format!("  shop:\n    shards: {{s1: ['127.0.0.1:{}']}}\n", cluster.nodes()[0].port());
        for (place, node) in cluster.primaries().enumerate() {
            for width in WIDTHS.into_iter().filter(|it| *it > place) {
                node.value("shop", &format!("CREATE DATABASE d{width} OWNER demo")).await?;
                let mut client = Client::connect(node.port(), "demo", &format!("d{width}"))?;
                let pad: String =
                    (0..place).map(|it| format!("CREATE TABLE pad{it} (); DROP TABLE pad{it};")).collect();
                assert_eq!(client.simple(&(pad + SCHEMA)).error, None);
            }
        }
        for width in WIDTHS {
            let node = &cluster.nodes()[0];
            node.value("shop", &format!("CREATE DATABASE plain{width} OWNER demo")).await?;
            assert_eq!(Client::connect(node.port(), "demo", &format!("plain{width}"))?.simple(SCHEMA).error, None);
        }
        let file = cluster.dir().join("to-prepare.yaml");
        fs::write(&file, &map)?;
        let set_up = Command::new(env!("CARGO_BIN_EXE_shardway"))
            .arg("check")
            .arg(&file)
            .args(["--connect", "--prepare"])
            .output()?;
        assert!(set_up.status.success(), "{}", String::from_utf8_lossy(&set_up.stderr));
        let proxy = Proxy::start(&cluster, port, &map, &[]).await?;
        let house = Self { _proxy: proxy, cluster, port };
        for width in WIDTHS {
            let mut client = Client::connect(port, "demo", &format!("d{width}"))?;
            until("the proxy to know what is set up", async || {
                let done = client
                    .simple("BEGIN; INSERT INTO t (id) SELECT 1; INSERT INTO t (id) VALUES (2), (3), (4), (5), (6)");
                client.simple("ROLLBACK");
                Ok(done.error.is_none())
            })
            .await?;
        }
        Ok(house)
    }

    pub(crate) fn pair(&self, width: usize) -> Outcome<Pair> {
        let ours = Client::connect(self.port, "demo", &format!("d{width}"))?;
        let plain = Client::connect(self.cluster.nodes()[0].port(), "demo", &format!("plain{width}"))?;
        Ok(Pair { ours, plain })
    }

    /// All copies of reference tables are the same, times too.
    pub(crate) async fn copies_are_alike(&self) -> Outcome {
        for width in WIDTHS {
            let mut known: Option<Vec<Row>> = None;
            for node in self.cluster.primaries().take(width) {
                let mut client = Client::connect(node.port(), "demo", &format!("d{width}"))?;
                let rows = client
                    .simple("SELECT r::text, s::text FROM refs r FULL JOIN refs2 s USING (code) ORDER BY 1, 2")
                    .rows;
                match &known {
                    None => known = Some(rows),
                    Some(known) => assert_eq!(shown(known), shown(&rows), "{width} shards, {}", node.name()),
                }
            }
            assert!(known.is_some_and(|it| !it.is_empty()));
        }
        Ok(())
    }

    /// No transaction waits anywhere for its end.
    pub(crate) async fn nothing_is_prepared(&self) -> Outcome {
        for node in self.cluster.nodes() {
            let left = node.value("shop", "SELECT count(*) FROM pg_prepared_xacts").await?;
            assert_eq!(left.as_deref(), Some("0"));
        }
        Ok(())
    }
}

impl Pair {
    /// Leaves no row in any table of both.
    pub(crate) fn empty(&mut self) {
        for table in TABLES {
            for client in [&mut self.ours, &mut self.plain] {
                assert_eq!(client.simple(&format!("DELETE FROM {table}")).error, None);
            }
        }
    }

    /// The first table that is not the same on both.
    pub(crate) fn difference(&mut self) -> Option<String> {
        for (table, columns) in TABLES.iter().zip(COLUMNS) {
            let sql = format!("SELECT {columns} FROM {table}");
            let rows = |client: &mut Client| {
                let answer = client.simple(&sql);
                assert_eq!(answer.error, None, "{sql}");
                let mut rows: Vec<Row> = answer.rows;
                rows.sort();
                rows
            };
            let (ours, theirs) = (rows(&mut self.ours), rows(&mut self.plain));
            if ours != theirs {
                return Some(format!("{table}: {} where one server has {}", shown(&ours), shown(&theirs)));
            }
        }
        // All that was made at one time was made at one time.
        let times = "SELECT count(DISTINCT made), count(DISTINCT local) FROM logs";
        let (ours, theirs) = (self.ours.simple(times).rows, self.plain.simple(times).rows);
        (ours != theirs).then(|| format!("logs: times {} where one server has {}", shown(&ours), shown(&theirs)))
    }
}

/// Rows as text.
pub(crate) fn shown(rows: &[Row]) -> String {
    let cell = |it: &Option<Vec<u8>>| it.as_ref().map_or("NULL".into(), |it| String::from_utf8_lossy(it).into_owned());
    let rows: Vec<String> = rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(",")).collect();
    format!("[{}]", rows.join(" | "))
}

/// What a client can tell of an answer, but for rows that came before an error and the numbers of types.
pub(crate) fn told(answer: &Answer, in_order: bool) -> (String, u8, String, Option<Vec<String>>) {
    let state = match &answer.error {
        Some(failure) => format!("{} {}", failure.sqlstate, failure.message),
        None => answer.tags.join(";"),
    };
    if answer.error.is_some() {
        return (state, answer.status, String::new(), None);
    }
    let mut rows = answer.rows.clone();
    if !in_order {
        rows.sort();
    }
    let columns = answer.columns.clone().map(|it| it.into_iter().map(|(name, _)| name).collect());
    (state, answer.status, shown(&rows), columns)
}

/// Whether the proxy itself declined.
pub(crate) fn is_refused(answer: &Answer) -> bool {
    answer.error.as_ref().is_some_and(|it| !it.by_server && it.sqlstate == "0A000")
}
