//! What operators see is so: the console and `/metrics` are compared with servers, and with what was done to them.

mod proxy;

use std::collections::BTreeMap;

use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of;
use proxy::until;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::tasks;
use shardway::topology::events::Kind;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_postgres::Client;
use tokio_postgres::NoTls;
use tokio_postgres::SimpleQueryMessage;

const TOKEN: &str = "scrape-me";
/// Server connections that the proxy may have, of each user to each node.
const POOL: usize = 2;

struct House {
    // Ends before the servers do.
    proxy: Proxy,
    cluster: Cluster,
    http: u16,
    map: String,
}

/// A row of the console by its columns' names; NULLs are left out.
type Named = BTreeMap<String, String>;

impl House {
    /// Two shards with a replica each; reads stay on the primaries unless a session asks for less.
    async fn build() -> Outcome<Self> {
        let cluster = Cluster::start(ClusterSpec::default()).await?;
        for primary in cluster.primaries() {
            let mut client = shardway::local_cluster::client::Client::connect(primary.port(), "demo", "shop").await?;
            client.query("CREATE TABLE items (id bigint PRIMARY KEY, n int NOT NULL)").await?;
        }
        let (port, http) = (free_port()?, free_port()?);
        let rest = format!(
            "    groups: {{item: {{key: bigint, tables: {{items: id}}}}}}\n    reads: {{consistency: strong}}\n\
             pool: {{size: {POOL}, wait: 60s}}\nusers: {{demo: {{auth: trust}}}}\n"
        );
        let map = map_of(&cluster, port, |_| true, &rest).replace(
            &format!("listen: {{postgres: 127.0.0.1:{port}}}"),
            &format!("listen: {{postgres: 127.0.0.1:{port}, http: {{address: 127.0.0.1:{http}, token: {TOKEN}}}}}"),
        );
        let proxy = Proxy::start(&cluster, port, &map, &[]).await?;
        let house = Self { proxy, cluster, http, map };
        let client = house.client("loader").await?;
        for id in 0..20 {
            client.simple_query(&format!("INSERT INTO items VALUES ({id}, 0)")).await?;
        }
        Ok(house)
    }

    async fn connect(&self, database: &str, application: &str) -> Outcome<Client> {
        let port = self.proxy.port();
        let login = format!("host=127.0.0.1 port={port} user=demo dbname={database} application_name={application}");
        let (client, connection) = tokio_postgres::connect(&login, NoTls).await?;
        tasks::shared("tokio-postgres", connection);
        Ok(client)
    }

    async fn client(&self, application: &str) -> Outcome<Client> {
        self.connect("shop", application).await
    }

    async fn console(&self) -> Outcome<Client> {
        self.connect("shardway", "console").await
    }

    /// What HTTP answers: its status and its body.
    async fn get(&self, path: &str, token: &str) -> Outcome<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).await?;
        let asked = format!(
            "GET {path} HTTP/1.1\r\nHost: shardway\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        let status = said.split(' ').nth(1).ok_or("no status")?.parse()?;
        let (_, body) = said.split_once("\r\n\r\n").ok_or("no body")?;
        Ok((status, body.to_owned()))
    }

    /// The value of one sample of `/metrics`, by its whole name.
    async fn metric(&self, name: &str) -> Outcome<f64> {
        let (_, page) = self.get("/metrics", TOKEN).await?;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.ok_or_else(|| format!("no sample {name} in\n{page}"))?.parse()?)
    }

    async fn stop(self) -> Outcome {
        self.proxy.stop().await?;
        Ok(self.cluster.stop().await?)
    }
}

async fn rows(client: &Client, sql: &str) -> Outcome<Vec<Named>> {
    let said = client.simple_query(sql).await?;
    let row = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let cell = |(at, column): (usize, &tokio_postgres::SimpleColumn)| {
                Some((column.name().to_owned(), row.get(at)?.to_owned()))
            };
            Some(row.columns().iter().enumerate().filter_map(cell).collect())
        }
        _ => None,
    };
    Ok(said.into_iter().filter_map(row).collect())
}

/// The only row for which these columns have these values.
async fn only(console: &Client, command: &str, wanted: &[(&str, &str)]) -> Outcome<Named> {
    let all = rows(console, command).await?;
    let is = |row: &&Named| wanted.iter().all(|(column, value)| row.get(*column).is_some_and(|it| it == value));
    let found: Vec<&Named> = all.iter().filter(is).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        other => Err(format!("{command}: {} rows with {wanted:?} in {all:#?}", other.len()).into()),
    }
}

/// A client's row when it has been answered so often. It may know its answer a little earlier than the console does.
async fn when_answered(console: &Client, application: &str, queries: u64) -> Outcome<Named> {
    let mut row = Named::new();
    until("an answer to be counted", async || {
        row = only(console, "SHOW CLIENTS", &[("application_name", application)]).await?;
        Ok(row["state"] == "idle" && number(&row, "queries")? == queries)
    })
    .await?;
    Ok(row)
}

fn number(row: &Named, column: &str) -> Outcome<u64> {
    Ok(row.get(column).ok_or_else(|| format!("no {column} in {row:?}"))?.parse()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_tells_who_has_which_server_connection_and_who_waits() -> Outcome {
    let house = House::build().await?;
    let console = house.console().await?;
    let till = house.client("till").await?;
    let before = only(&console, "SHOW STATS", &[("database", "shop")]).await?;

    // A transaction on one shard.
    till.simple_query("BEGIN").await?;
    let said =
        rows(&till, "SELECT pg_backend_pid() AS pid, inet_server_port() AS port FROM items WHERE id = 1").await?;
    let (pid, port) = (said[0]["pid"].clone(), said[0]["port"].clone());
    let node = house.cluster.nodes().iter().find(|it| it.port().to_string() == port).ok_or("no such node")?;
    let client = when_answered(&console, "till", 2).await?;
    let told = |column: &str| client.get(column).map_or("NULL", String::as_str);
    assert_eq!(
        ["type", "user", "database", "state", "addr", "tls", "engine", "nodes"].map(told),
        ["C", "demo", "shop", "idle", "127.0.0.1", "", "postgres", node.name()]
    );
    assert!(client.contains_key("transaction_ms"), "{client:?}");
    let server = only(&console, "SHOW SERVERS", &[("ptr", told("link"))]).await?;
    let told = |column: &str| server.get(column).map_or("NULL", String::as_str);
    assert_eq!(
        ["type", "state", "remote_pid", "port", "link", "application_name", "shard", "node"].map(told),
        ["S", "active", &pid, &port, &client["ptr"], "till", node.shard(), node.name()]
    );
    till.simple_query("COMMIT").await?;
    let client = when_answered(&console, "till", 3).await?;
    assert_eq!((&*client["link"], client.get("transaction_ms")), ("", None));
    let server = only(&console, "SHOW SERVERS", &[("ptr", &server["ptr"])]).await?;
    assert_eq!((&*server["state"], &*server["link"]), ("idle", ""));

    // What it calls itself may change.
    till.simple_query("SET application_name = 'desk'").await?;
    only(&console, "SHOW CLIENTS", &[("application_name", "desk")]).await?;
    till.simple_query("RESET application_name").await?;

    // Prepared and not, alone and in a pipeline: each Sync is a command, as it is to PgBouncer.
    let read = till.prepare("SELECT n FROM items WHERE id = $1").await?;
    for id in 0..5_i64 {
        till.query_one(&read, &[&id]).await?;
    }
    assert!(till.simple_query("SELECT * FROM no_such_table").await.is_err());
    // Three of the transaction, two settings, Parse, five executions, one error.
    let client = when_answered(&console, "till", 12).await?;
    let after = only(&console, "SHOW STATS", &[("database", "shop")]).await?;
    let more = |column: &str| Outcome::Ok(number(&after, column)? - number(&before, column)?);
    assert_eq!((more("total_query_count")?, more("total_xact_count")?), (12, 10));
    assert_eq!(number(&client, "transactions")?, 10);
    assert!(more("total_received")? > 100 && more("total_sent")? > 100, "{after:?}");
    assert!(more("total_xact_time")? >= more("total_query_time")? && more("total_query_time")? > 0, "{after:?}");
    assert!(more("total_server_assignment_count")? >= 7, "{after:?}");

    // All connections to a node are taken: the next client waits, and is seen to.
    let mut holders = Vec::new();
    for place in 0..POOL {
        let holder = house.client(&format!("holder{place}")).await?;
        holder.simple_query("BEGIN").await?;
        holder.simple_query("SELECT n FROM items WHERE id = 1").await?;
        holders.push(holder);
    }
    let late = house.client("late").await?;
    let waits =
        tasks::shared("late", async move { late.simple_query("SELECT n FROM items WHERE id = 1").await.map(drop) });
    until("a client to wait", async || {
        let client = only(&console, "SHOW CLIENTS", &[("application_name", "late")]).await?;
        Ok(client["state"] == "waiting" && number(&client, "wait")? * 1_000_000 + number(&client, "wait_us")? > 0)
    })
    .await?;
    let pool = only(&console, "SHOW POOLS", &[("node", node.name()), ("user", "demo")]).await?;
    let full = POOL as u64;
    let told = ["cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_login", "size", "open"]
        .map(|it| number(&pool, it).unwrap_or(99));
    assert_eq!(told, [full, 1, full, 0, 0, full, full], "{pool:?}");
    let labels = format!("{{address=\"127.0.0.1:{port}\",server_database=\"shop\",user=\"demo\"}}");
    assert_eq!(house.metric(&format!("shardway_pool_waiting{labels}")).await?, 1.0);
    assert!(house.metric(&format!("shardway_pool_wait_seconds{labels}")).await? > 0.0);
    assert_eq!(house.metric("shardway_clients{database=\"shop\",state=\"waiting\"}").await?, 1.0);
    holders[0].simple_query("COMMIT").await?;
    waits.await??;
    let waited = only(&console, "SHOW STATS", &[("database", "shop")]).await?;
    assert!(number(&waited, "total_wait_time")? > number(&after, "total_wait_time")?, "{waited:?}");

    // Who leaves is gone, and what they did is not.
    let there = number(&waited, "total_query_count")?;
    drop((till, holders));
    until("clients to be gone", async || Ok(rows(&console, "SHOW CLIENTS").await?.len() == 1)).await?;
    let left = only(&console, "SHOW STATS", &[("database", "shop")]).await?;
    assert!(number(&left, "total_query_count")? >= there, "{left:?}");
    house.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_servers_and_of_the_map_is_seen() -> Outcome {
    let house = House::build().await?;
    let console = house.console().await?;
    let replica = house.cluster.nodes().iter().find(|it| it.name() == "s1-b").ok_or("no s1-b")?;
    let shard = async || only(&console, "SHOW SHARDS", &[("shard", "s1")]).await;
    until("the replica to be in rotation", async || Ok(shard().await?["in_rotation"] == "1")).await?;
    let told = shard().await?;
    assert_eq!(
        ["database", "primary", "writable", "nodes", "nodes_up", "replicas", "fenced"].map(|it| &*told[it]),
        ["shop", "s1-a", "yes", "2", "2", "1", "0"]
    );
    assert!(!told.contains_key("trouble"), "{told:?}");
    let of = |name: &str, more: &str| format!("shardway_{name}{{database=\"shop\",shard=\"s1\"{more}}}");
    assert_eq!(house.metric(&of("shard_writable", "")).await?, 1.0);
    assert_eq!(house.metric(&of("node_role", ",node=\"s1-a\",role=\"primary\"")).await?, 1.0);
    assert_eq!(house.metric(&of("node_role", ",node=\"s1-b\",role=\"replica\"")).await?, 1.0);
    assert!(house.metric(&of("node_fresh_seconds_ago", ",node=\"s1-b\"")).await? < 60.0);

    // A replica dies and comes back.
    let event = async |wanted: &[(&str, &str)]| -> Outcome<bool> {
        let all = rows(&console, "SHOW EVENTS").await?;
        assert!(all.is_sorted_by_key(|it| it["time"].clone()), "{all:?}");
        let is = |row: &Named| wanted.iter().all(|(column, value)| row.get(*column).is_some_and(|it| it == value));
        Ok(all.iter().any(is))
    };
    assert!(event(&[("shard", "s1"), ("node", "s1-a"), ("event", "primary")]).await?);
    assert!(event(&[("event", "serving")]).await?);
    console.simple_query("PAUSE shop.s1").await?;
    assert!(event(&[("shard", "s1"), ("event", "paused"), ("what", "by PAUSE")]).await?);
    for _ in 0..2 {
        console.simple_query("RESUME").await?;
    }
    assert!(event(&[("shard", "s1"), ("event", "resumed")]).await?);
    // Who lets go on what goes on already does nothing.
    assert_eq!(house.metric(&of("events_total", ",event=\"resumed\"")).await?, 1.0);
    replica.kill9().await?;
    until("the death to be told", async || {
        event(&[("database", "shop"), ("shard", "s1"), ("node", "s1-b"), ("event", "down")]).await
    })
    .await?;
    assert_eq!(shard().await?["in_rotation"], "0");
    assert_eq!(house.metric(&of("node_health", ",node=\"s1-b\",health=\"down\"")).await?, 1.0);
    assert_eq!(house.metric(&of("events_total", ",event=\"down\"")).await?, 1.0);
    replica.start().await?;
    until("the replica to be back", async || Ok(shard().await?["in_rotation"] == "1")).await?;

    // So does a primary: its shard takes no writes for a while, and says why.
    let primary = house.cluster.node("s1-a")?;
    primary.kill9().await?;
    until("the shard to be read only", async || {
        let told = shard().await?;
        Ok(told["writable"] == "no" && told.get("trouble").is_some_and(|it| it.contains("s1-a is ")))
    })
    .await?;
    assert_eq!(house.metric(&of("shard_writable", "")).await?, 0.0);
    let (status, ready) = house.get("/readyz", TOKEN).await?;
    assert_eq!(status, 200, "reads go on: {ready}");
    primary.start().await?;
    until("the shard to be writable", async || Ok(shard().await?["writable"] == "yes")).await?;

    // A map that is refused, and one that is not.
    assert_eq!(house.metric("shardway_map_rejected").await?, 0.0);
    let version = house.metric("shardway_map_version").await?;
    house.proxy.replace_map(&house.map.replace("groups:", "gruops:"))?;
    until("the bad map to be told", async || {
        Ok(house.metric("shardway_map_rejected").await? == 1.0 && event(&[("event", "rejected")]).await?)
    })
    .await?;
    house.proxy.replace_map(&house.map.replace("size: 2", "size: 3"))?;
    until("the good map to be told", async || event(&[("event", "reloaded")]).await).await?;
    assert_eq!(house.metric("shardway_map_rejected").await?, 0.0);
    assert_eq!(house.metric("shardway_map_version").await?, version + 1.0);
    // What its nodes went through is still known.
    assert!(event(&[("shard", "s1"), ("node", "s1-b"), ("event", "down")]).await?);
    house.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_is_for_those_who_have_the_token_and_tells_that_it_stops_while_transactions_end() -> Outcome {
    let house = House::build().await?;
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(house.get(path, "guess").await?, (401, "unauthorized\n".to_owned()), "{path}");
    }
    let client = house.client("refused").await?;
    assert!(client.simple_query("SELECT nextval('nothing')").await.is_err());
    let refused = client.simple_query("CREATE TABLE t AS SELECT id FROM items").await;
    assert!(refused.is_err());
    well_formed(&house).await?;
    stops_in_order(house).await
}

/// Every sample has a type that was told before, no sample stands twice, and all are in the manual.
async fn well_formed(house: &House) -> Outcome {
    let (status, page) = house.get("/metrics", TOKEN).await?;
    assert_eq!(status, 200);
    let mut forms: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for line in page.lines() {
        if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, form) = told.split_once(' ').ok_or("no type")?;
            assert_eq!(forms.insert(name, form), None, "{name} twice");
            assert_eq!(form == "counter", name.ends_with("_total"), "{name}");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').ok_or("no value")?;
        value.parse::<f64>()?;
        assert!(seen.insert(sample), "{sample} twice");
        let name = sample.split('{').next().unwrap_or_default();
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|it| name.strip_suffix(it));
        let known = forms.contains_key(name) || of_histogram.is_some_and(|it| forms.get(it) == Some(&"histogram"));
        assert!(known, "{name} has no type");
    }
    assert!(seen.len() > 150, "{page}");
    let manual = include_str!("../docs/operations.md");
    for name in forms.keys() {
        assert!(manual.contains(&format!("`{name}`")), "docs/operations.md does not tell of {name}");
    }
    for kind in Kind::ALL {
        assert!(manual.contains(&format!("`{}`", kind.label())), "docs/operations.md does not tell of {kind:?}");
    }
    for row in rows(&house.console().await?, "SHOW HELP").await? {
        let line = format!("\n{}|{}\n", row["command"], row["meaning"]);
        assert!(manual.contains(&line), "docs/operations.md has no line {line}");
    }
    assert!(house.metric("shardway_queries_total{database=\"shop\"}").await? >= 20.0);
    let count = house.metric("shardway_query_seconds_count{database=\"shop\"}").await?;
    assert_eq!(count, house.metric("shardway_queries_total{database=\"shop\"}").await?);
    assert!(house.metric("shardway_refused_total{code=\"TableNotMapped\"}").await? >= 1.0, "{page}");
    Ok(())
}

async fn stops_in_order(house: House) -> Outcome {
    let client = house.client("till").await?;
    assert_eq!(house.get("/readyz", TOKEN).await?.0, 200);
    client.simple_query("BEGIN").await?;
    client.simple_query("UPDATE items SET n = 1 WHERE id = 1").await?;
    house.proxy.signal("TERM")?;
    until(
        "it to be ready no longer",
        async || Ok(house.get("/readyz", TOKEN).await? == (503, "stopping\n".to_owned())),
    )
    .await?;
    assert_eq!(house.get("/healthz", TOKEN).await?.0, 200);
    assert_eq!(house.metric("shardway_serving").await?, 0.0);
    // Its port still takes connections: a balancer that has not asked yet is not refused by the system.
    TcpStream::connect(("127.0.0.1", house.proxy.port())).await?;
    client.simple_query("UPDATE items SET n = n + 1 WHERE id = 1").await?;
    client.simple_query("COMMIT").await?;
    let House { proxy, cluster, .. } = house;
    proxy.has_stopped().await?;
    let mut kept = 0;
    for primary in cluster.primaries() {
        kept += usize::from(primary.value("shop", "SELECT n FROM items WHERE id = 1").await?.as_deref() == Some("2"));
    }
    assert_eq!(kept, 1);
    Ok(cluster.stop().await?)
}
