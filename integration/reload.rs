//! The map is replaced again and again under load: nobody sees an error, nobody has to connect again, and statements
//! follow the new map from the next transaction on.

mod proxy;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of;
use proxy::quantile;
use proxy::text;
use proxy::until;
use shardway::clock;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::MadeAs;
use shardway::local_cluster::client::Client;
use shardway::tasks;
use tokio_postgres::NoTls;

const CLIENTS: u64 = 64;
const VERSIONS: u64 = 200;
/// Every so many versions, one is broken.
const BROKEN_EVERY: u64 = 5;
/// Rows, all of them there from the beginning.
const KEYS: i64 = 1000;

/// Where reads may be served while a version is in force.
#[derive(Clone, Debug, Default)]
struct Rule {
    /// Changes with every version; what ran while it changed is not judged.
    version: u64,
    /// The ports; nothing while it changes.
    ports: Option<Vec<i32>>,
    /// Of these, the ones that serve only what no replica can; nothing where reads go to primaries anyway.
    spare: Vec<i32>,
}

#[derive(Default)]
struct Run {
    rule: Mutex<Rule>,
    statements: AtomicU64,
    judged: AtomicU64,
    /// Reads that replicas could serve, and those that none did.
    for_replicas: AtomicU64,
    by_primaries: AtomicU64,
    ended: AtomicBool,
}

impl Run {
    fn rule(&self) -> Rule {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, rule: Rule) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = rule;
    }

    /// Judges where a read was served that began while `before` held.
    fn judge(&self, before: &Rule, port: i32) -> Outcome {
        self.statements.fetch_add(1, Ordering::Relaxed);
        let Some(ports) = &before.ports else { return Ok(()) };
        if self.rule().version != before.version {
            return Ok(());
        }
        self.judged.fetch_add(1, Ordering::Relaxed);
        if ports.contains(&port) {
            self.for_replicas.fetch_add(u64::from(!before.spare.is_empty()), Ordering::Relaxed);
            self.by_primaries.fetch_add(u64::from(before.spare.contains(&port)), Ordering::Relaxed);
            return Ok(());
        }
        Err(format!("version {}: a read was served at {port}, not at one of {ports:?}", before.version).into())
    }
}

fn broken(number: u64, text: &str) -> String {
    match number % 4 {
        0 => text.replace("groups:", "gruops:"),
        1 => text.replace("key: bigint", "key: bigint, placement: {s1: 0-99, s2: 100-16383}"),
        2 => text.replace("users: {demo", "users: {{demo"),
        _ => text.replace("listen: {postgres: 127.0.0.1:", "listen: {postgres: 127.0.0.2:"),
    }
}

const GROUP: &str = "    groups: {account: {key: bigint, tables: {accounts: id}}}\n";

/// Simple protocol: single statements and transactions.
async fn simple(mut client: Client, run: Arc<Run>) -> Outcome {
    while !run.ended.load(Ordering::Relaxed) {
        let key = rand::random_range(1..=KEYS);
        let rule = run.rule();
        let rows = client.query(&format!("SELECT inet_server_port(), id FROM accounts WHERE id = {key}")).await?;
        let row = rows.first().ok_or("a row is gone")?;
        run.judge(&rule, text(row, 0)?.parse()?)?;
        client.query("BEGIN").await?;
        client.query(&format!("UPDATE accounts SET balance = balance + 1 WHERE id = {key}")).await?;
        let rows = client.query(&format!("SELECT balance FROM accounts WHERE id = {key}")).await?;
        rows.first().ok_or("a row is gone in a transaction")?;
        client.query("COMMIT").await?;
        run.statements.fetch_add(4, Ordering::Relaxed);
    }
    Ok(())
}

/// Extended protocol: statements prepared once, before the first change.
async fn prepared(port: u16, run: Arc<Run>) -> Outcome {
    let login = format!("host=127.0.0.1 port={port} user=demo dbname=shop");
    let (mut client, connection) = tokio_postgres::connect(&login, NoTls).await?;
    tasks::shared("tokio-postgres", connection);
    let read = client.prepare("SELECT inet_server_port(), id FROM accounts WHERE id = $1").await?;
    let write = client.prepare("UPDATE accounts SET balance = balance + 1 WHERE id = $1").await?;
    while !run.ended.load(Ordering::Relaxed) {
        let key = rand::random_range(1..=KEYS);
        let rule = run.rule();
        run.judge(&rule, client.query_one(&read, &[&key]).await?.get(0))?;
        let transaction = client.transaction().await?;
        transaction.execute(&write, &[&key]).await?;
        transaction.query_one(&read, &[&key]).await?;
        transaction.commit().await?;
        run.statements.fetch_add(4, Ordering::Relaxed);
    }
    Ok(())
}

async fn version(console: &mut Client) -> Outcome<(u64, bool)> {
    let rows = console.query("SHOW MAP").await?;
    let value = |item: &str| rows.iter().find(|row| row.first() == Some(&Some(item.to_owned())));
    let version = text(value("version").ok_or("no version")?, 1)?.parse()?;
    let rejected = value("rejected").and_then(|row| row.get(1)).is_some_and(Option::is_some);
    Ok((version, rejected))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_clients_do_not_notice_two_hundred_maps() -> Outcome {
    let settings = vec![("synchronous_commit".to_owned(), "off".to_owned())];
    let cluster = Cluster::start(ClusterSpec { replicas: 2, settings, ..ClusterSpec::default() }).await?;
    for primary in cluster.primaries() {
        let mut client = Client::connect(primary.port(), "demo", "shop").await?;
        client.query("CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL)").await?;
    }
    let port = free_port()?;
    // What a version says: which nodes it has, where reads go, how many server connections, and who may log in.
    let map = |number: u64| {
        let spare = !number.is_multiple_of(3);
        let from_replicas = number.is_multiple_of(2);
        let reads = if from_replicas { "{consistency: eventual, staleness_max: 1h}" } else { "{from: primary}" };
        let user = if number % 4 < 2 { "" } else { ", guest: {auth: trust, server: {user: demo}}" };
        let rest = format!(
            "{GROUP}    reads: {reads}\npool: {{size: {}}}\nusers: {{demo: {{auth: trust}}{user}}}\n# {number}\n",
            8 + number % 5
        );
        let text = map_of(&cluster, port, |name| spare || !name.ends_with("-c"), &rest);
        let served = |made_as| {
            let nodes = cluster.nodes().iter().filter(move |node| node.made_as() == made_as);
            nodes.filter(|node| spare || !node.name().ends_with("-c")).map(|node| i32::from(node.port())).collect()
        };
        let primaries: Vec<i32> = served(MadeAs::Primary);
        // A replica that is not to be had, because its connection is not there yet, say, is no reason to wait.
        let (ports, spare) = match from_replicas {
            true => ([served(MadeAs::Replica), primaries.clone()].concat(), primaries),
            false => (primaries, Vec::new()),
        };
        (text, Rule { version: number, ports: Some(ports), spare })
    };
    let (first, _) = map(1);
    let proxy = Proxy::start(&cluster, port, &first, &[]).await?;
    let mut client = proxy.client().await?;
    for key in 1..=KEYS {
        client.query(&format!("INSERT INTO accounts VALUES ({key}, 0)")).await?;
    }
    for node in cluster.nodes().iter().filter(|node| node.made_as() == MadeAs::Replica) {
        node.until_replayed(cluster.node(&format!("{}-a", node.shard()))?).await?;
    }

    let run = Arc::new(Run::default());
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(match number % 2 {
            0 => tasks::shared("client", simple(proxy.client().await?, Arc::clone(&run))),
            _ => tasks::shared("client", prepared(port, Arc::clone(&run))),
        });
    }
    let mut console = proxy.console().await?;
    // A guest who logged in while the map had one stays when it has none.
    let mut guest: Option<Client> = None;
    let (mut expected, mut took, mut rejections) = (version(&mut console).await?.0, Vec::new(), 0);
    let begun = clock::now();
    for number in 2..VERSIONS + 2 {
        let (text, rule) = map(number);
        let is_broken = number % BROKEN_EVERY == 0;
        let before = run.rule();
        let text = if is_broken {
            broken(number / BROKEN_EVERY, &text)
        } else {
            run.set(Rule { version: number, ..Rule::default() });
            expected += 1;
            text
        };
        let at = clock::now();
        proxy.replace_map(&text)?;
        if number % 8 == 0 {
            // Somebody is faster than the file's watch. What it answers is seen in SHOW MAP below.
            let outcome = console.query("RELOAD").await;
            assert_eq!(outcome.is_err(), is_broken, "{outcome:?}");
        }
        let result = until(&format!("version {expected} (map {number})"), async || {
            if let Some(stopped) = clients.iter().position(|client| client.is_finished()) {
                return Err(format!("client {stopped} has stopped").into());
            }
            Ok(version(&mut console).await? == (expected, is_broken))
        })
        .await;
        if let Err(error) = result {
            for client in clients.into_iter().filter(|client| client.is_finished()) {
                client.await??;
            }
            return Err(format!("{error}\n{}", proxy.log()).into());
        }
        took.push(clock::now().since(at));
        if is_broken {
            rejections += 1;
            assert_eq!(run.rule().version, before.version);
            continue;
        }
        run.set(rule);
        let may_enter = number % 4 >= 2;
        let entered = Client::connect(port, "guest", "shop").await;
        assert_eq!(entered.is_ok(), may_enter, "map {number}: {:?}", entered.err());
        guest = guest.or_else(|| entered.ok());
        if let Some(guest) = &mut guest {
            let value = guest.value("SELECT id FROM accounts WHERE id = 1").await?;
            assert_eq!(value.as_deref(), Some("1"), "map {number}");
        }
        // Every client begins a transaction under this version, and is judged.
        let judged = run.judged.load(Ordering::Relaxed);
        until("reads under the new version", async || {
            let enough = run.judged.load(Ordering::Relaxed) >= judged + CLIENTS;
            Ok(enough || clients.iter().any(|client| client.is_finished()))
        })
        .await?;
        let pools = console.query("SHOW POOLS").await?;
        let sizes: Vec<&str> = pools.iter().map(|row| text_of(row, 18)).collect();
        let size = (8 + number % 5).to_string();
        assert!(sizes.iter().filter(|it| **it == size).count() >= 2, "map {number}: pools of {sizes:?}, not {size}");
    }
    let span = clock::now().since(begun);
    run.ended.store(true, Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    let statements = run.statements.load(Ordering::Relaxed);
    let (by_primaries, of) = (run.by_primaries.load(Ordering::Relaxed), run.for_replicas.load(Ordering::Relaxed));
    #[expect(clippy::cast_precision_loss, reason = "a share of some ten thousand")]
    let by_primaries = by_primaries as f64 / of.max(1) as f64;
    println!(
        "figure: {VERSIONS} maps, {rejections} of them broken, in {span:.1?}; {statements} statements of {CLIENTS} \
         clients, {} judged by where they ran, {:.1} % of \
         reads for replicas served by a primary; in force after p50 {:.0?}, p99 {:.0?}; no error, nobody reconnected",
        run.judged.load(Ordering::Relaxed),
        100.0 * by_primaries,
        quantile(&mut took, 0.5),
        quantile(&mut took, 0.99),
    );
    assert!(by_primaries <= 0.1, "{:.1} % of the reads for replicas", 100.0 * by_primaries);
    assert_eq!(rejections, VERSIONS / BROKEN_EVERY);
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}

fn text_of(row: &[Option<String>], column: usize) -> &str {
    text(row, column).unwrap_or_default()
}
