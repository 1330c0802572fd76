//! Primaries fail, and somebody else promotes another: clients are carried over, a primary that was succeeded acknowledges
//! nothing more, and nothing that was acknowledged is lost.

mod ledger;
mod network;
mod proxy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ledger::Ledger;
use network::Cut;
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
use shardway::local_cluster::Node;
use shardway::local_cluster::client::Client;
use shardway::local_cluster::client::SqlError;
use shardway::tasks;

const REST: &str = "
    groups: {ledger: {key: bigint, tables: {ledger: id}}}
    failover: {wait: 60s}
users: {demo: {auth: trust}}
";

/// Longer than a promotion is noticed within, and shorter than the write waits.
const PROMPTLY: Duration = Duration::from_secs(60);

/// A shard of that many replicas behind a proxy, and the table of the ledger on it.
async fn house(replicas: usize) -> Outcome<(Cluster, Proxy)> {
    let cluster = Cluster::start(ClusterSpec { shards: 1, replicas, ..ClusterSpec::default() }).await?;
    let mut owner = Client::connect(cluster.nodes()[0].port(), "demo", "shop").await?;
    owner.query(ledger::TABLE).await?;
    let port = free_port()?;
    let proxy = Proxy::start(&cluster, port, &map_of(&cluster, port, |_| true, REST), &[]).await?;
    until("the table to be known", async || {
        Ok(proxy.client().await?.query("SELECT id FROM ledger WHERE id = 1").await.is_ok())
    })
    .await?;
    Ok((cluster, proxy))
}

/// What the console says of each node: role and health.
async fn standing(proxy: &Proxy) -> Outcome<BTreeMap<String, (String, String)>> {
    let rows = proxy.console().await?.query("SHOW NODES").await?;
    rows.iter().map(|it| Ok((text(it, 2)?.to_owned(), (text(it, 4)?.to_owned(), text(it, 5)?.to_owned())))).collect()
}

async fn until_role(proxy: &Proxy, node: &Node, role: &str) -> Outcome {
    until(&format!("{} to be {role}", node.name()), async || {
        Ok(standing(proxy).await?.get(node.name()).is_some_and(|(is, _)| is == role))
    })
    .await
    .map_err(|error| format!("{error}\n{}", proxy.log()).into())
}

fn sqlstate(answer: &Result<Vec<Vec<Option<String>>>, SqlError>) -> &str {
    match answer {
        Ok(_) => "",
        Err(SqlError::Server { sqlstate, .. }) => sqlstate,
        Err(SqlError::Connection(_)) => "no answer",
    }
}

async fn rows(node: &Node) -> Outcome<u64> {
    Ok(node.value("shop", "SELECT count(*) FROM ledger").await?.unwrap_or_default().parse()?)
}

/// How the primary is out of the way while another is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is there, and takes writes.
    Alive,
    /// Its connections stay open, and nothing answers.
    Frozen,
}

/// Sessions on a primary that another takes the place of: one in a transaction, one whose write waits, one that is idle.
async fn depose(fault: Fault) -> Outcome {
    let (cluster, proxy) = house(1).await?;
    let [former, next] = cluster.nodes() else { return Err("two nodes".into()) };
    let mut open = proxy.client().await?;
    open.query("BEGIN").await?;
    open.query("INSERT INTO ledger VALUES (1, 0)").await?;
    let mut idle = proxy.client().await?;
    idle.query("INSERT INTO ledger VALUES (2, 0)").await?;
    next.until_replayed(former).await?;
    let mut busy = proxy.client().await?;
    let waiting =
        tasks::shared("busy", async move { busy.query("INSERT INTO ledger SELECT 3, 0 FROM pg_sleep(600)").await });
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    until("the write to wait", async || Ok(former.value("shop", sleeps).await?.as_deref() == Some("1"))).await?;
    if fault == Fault::Frozen {
        former.freeze().await?;
    }
    next.promote().await?;
    // Nobody ends the write on its server: it is the proxy that ends the wait.
    let answer = tokio::time::timeout(PROMPTLY, waiting).await??;
    assert_eq!(sqlstate(&answer), "08007", "{answer:?}\n{}", proxy.log());
    let answer = open.query("COMMIT").await;
    assert_eq!(sqlstate(&answer), "40001", "{answer:?}");
    open.query("ROLLBACK").await?;
    // The same sessions go on at the new primary.
    open.query("INSERT INTO ledger VALUES (4, 0)").await?;
    idle.query("INSERT INTO ledger VALUES (5, 0)").await?;
    assert_eq!(rows(next).await?, 3);
    if fault == Fault::Frozen {
        former.thaw().await?;
    }
    until_role(&proxy, former, "fenced").await?;
    let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo' AND application_name = ''";
    until("sessions to be gone", async || Ok(former.value("shop", left).await?.as_deref() == Some("0"))).await?;
    assert_eq!(rows(former).await?, 1, "the former primary has taken a write");
    idle.query("INSERT INTO ledger VALUES (6, 0)").await?;
    assert_eq!((rows(former).await?, rows(next).await?), (1, 4));
    proxy.stop().await?;
    Ok(cluster.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_cut_off_from_a_primary_that_was_succeeded() -> Outcome {
    depose(Fault::Alive).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_cut_off_from_a_primary_that_was_succeeded_while_it_was_frozen() -> Outcome {
    depose(Fault::Frozen).await
}

/// How often a primary fails in the run of all faults.
const FAILOVERS: usize = 6;
const CLIENTS: usize = 8;
/// Between two failures, so many writes are acknowledged.
const WRITES_BETWEEN: usize = 200;

/// What happens to the primary.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// Killed with all its sessions.
    Kill,
    /// Frozen, and woken when another has taken its place.
    Freeze,
    /// It runs on, and its replicas leave it.
    Leave,
    /// The network drops what goes to it, or comes from it, until another has taken its place.
    Cut(Cut),
}

const BLOWS: [Blow; 6] =
    [Blow::Kill, Blow::Freeze, Blow::Leave, Blow::Cut(Cut::Both), Blow::Cut(Cut::Toward), Blow::Cut(Cut::From)];
/// Those that need no network of the test's own.
const ANYWHERE: usize = 3;

/// What a manager of failovers does: no replica listens to the old primary any more, the one that has most is promoted, and
/// the other follows it.
async fn succeed(others: [&Node; 2]) -> Outcome<usize> {
    for other in others {
        other.follow(None).await?;
    }
    let received = "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'";
    let mut positions = Vec::new();
    for other in others {
        positions.push(other.value("postgres", received).await?.unwrap_or_default().parse::<u64>()?);
    }
    let first = usize::from(positions[1] > positions[0]);
    others[first].promote().await?;
    others[1 - first].follow(Some(others[first])).await?;
    Ok(first)
}

#[tokio::test(flavor = "multi_thread")]
async fn failovers_lose_nothing_that_was_acknowledged() -> Outcome {
    let Some(network) = network::enter("failovers_lose_nothing_that_was_acknowledged")? else { return Ok(()) };
    let blows = if network.can_cut() { &BLOWS[..] } else { &BLOWS[..ANYWHERE] };
    let count = std::env::var("SHARDWAY_FAILOVERS").map_or(FAILOVERS, |it| it.parse().expect("a number"));
    let (cluster, proxy) = house(2).await?;
    for node in cluster.nodes() {
        let synchronous = r#"ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 ("s1-a", "s1-b", "s1-c")'"#;
        node.value("postgres", synchronous).await?;
        node.value("postgres", "SELECT pg_reload_conf()").await?;
    }
    let mut nodes: Vec<&Node> = cluster.nodes().iter().collect();
    let ledger = Arc::new(Ledger::default());
    let clients = ledger::start(&ledger, proxy.port(), CLIENTS);
    let mut gaps: Vec<Duration> = Vec::new();
    for round in 0..count {
        let done = ledger.done();
        until("writes to go on", async || Ok(ledger.done() >= done + WRITES_BETWEEN))
            .await
            .map_err(|error| format!("{error}; {}\n{}", ledger.told(), proxy.log()))?;
        let (former, others) = (nodes[0], [nodes[1], nodes[2]]);
        let blow = blows[round % blows.len()];
        let failed = clock::now();
        match blow {
            Blow::Kill => former.kill9().await?,
            Blow::Freeze => former.freeze().await?,
            Blow::Leave => {}
            Blow::Cut(cut) => network.cut(former.port(), cut)?,
        }
        let first = succeed(others).await?;
        ledger.mark();
        until("a write to be acknowledged", async || Ok(ledger.first_since_mark().is_some()))
            .await
            .map_err(|error| format!("{blow:?}: {error}; {}\n{}", ledger.told(), proxy.log()))?;
        gaps.extend(ledger.first_since_mark().map(|it| it.since(failed)));
        match blow {
            Blow::Kill | Blow::Leave => {}
            Blow::Freeze => former.thaw().await?,
            Blow::Cut(_) => network.heal()?,
        }
        if !matches!(blow, Blow::Kill) {
            until_role(&proxy, former, "fenced").await?;
        }
        former.rebuild(others[first]).await?;
        until_role(&proxy, former, "replica").await?;
        nodes = vec![others[first], others[1 - first], former];
    }
    ledger.end();
    for client in clients {
        client.await?;
    }
    let held = nodes[0].connect("shop").await?.query("SELECT id, part FROM ledger").await?;
    let (p50, p99) = (quantile(&mut gaps, 0.5), quantile(&mut gaps, 0.99));
    println!("oracle: failovers: {count}; {}; without writes {p50:?} (p50), {p99:?} (p99)", ledger.told());
    ledger.compare(&held).map_err(|error| format!("{error}\n{}", proxy.log()))?;
    proxy.stop().await?;
    Ok(cluster.stop().await?)
}

/// So many reads are timed while all servers run, and again while one is frozen.
const TIMED: usize = 12_000;
/// Between two statements of a client of the shard that will be frozen.
const PACE: Duration = Duration::from_millis(20);

/// Time that each of so many reads took, one after the other by each of the clients, of keys of one shard.
async fn latencies(port: u16, keys: &[i64], clients: usize) -> Outcome<Vec<Duration>> {
    let mut asking = Vec::new();
    for client in 0..clients {
        let keys = keys.to_vec();
        asking.push(tasks::shared("asking", async move {
            let mut session = Client::connect(port, "demo", "shop").await?;
            let mut spans = Vec::new();
            for place in 0..TIMED / clients {
                let begun = clock::now();
                let id = keys[(place * 7 + client) % keys.len()];
                session.query(&format!("SELECT part FROM ledger WHERE id = {id}")).await?;
                spans.push(clock::now().since(begun));
            }
            Ok::<_, SqlError>(spans)
        }));
    }
    let mut spans = Vec::new();
    for it in asking {
        spans.extend(it.await??);
    }
    Ok(spans)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_shard_costs_its_own_clients_only() -> Outcome {
    let cluster = Cluster::start(ClusterSpec { shards: 3, replicas: 0, ..ClusterSpec::default() }).await?;
    for node in cluster.nodes() {
        Client::connect(node.port(), "demo", "shop").await?.query(ledger::TABLE).await?;
    }
    let port = free_port()?;
    let rest = "
    groups: {ledger: {key: bigint, tables: {ledger: id}}}
    failover: {wait: 2s}
pool: {size: 16, wait: 2s}
timeouts: {connect: 1s, statement: 2s}
users: {demo: {auth: trust}}
";
    let map = map_of(&cluster, port, |_| true, rest);
    proxy::prepare(&cluster, &map)?;
    let proxy = Proxy::start(&cluster, port, &map, &[]).await?;
    let mut client = proxy.client().await?;
    until("the table to be known", async || {
        Ok(client.query("INSERT INTO ledger SELECT i, 0 FROM generate_series(1, 300) i").await.is_ok())
    })
    .await?;
    let mut keys: Vec<Vec<i64>> = Vec::new();
    for node in cluster.nodes() {
        let held = node.connect("shop").await?.query("SELECT id FROM ledger").await?;
        keys.push(held.iter().map(|row| Ok(text(row, 0)?.parse()?)).collect::<Outcome<_>>()?);
    }
    let others = [keys[0].clone(), keys[2].clone()].concat();
    // The same clients in both, or it would be they that cost.
    let ended = Arc::new(AtomicBool::new(false));
    let begun = Arc::new(AtomicUsize::new(0));
    let mut crowd = Vec::new();
    for place in 0..24 {
        let (ended, begun, id) = (Arc::clone(&ended), Arc::clone(&begun), keys[1][1 + place % 8]);
        crowd.push(tasks::shared("waiting", async move {
            let mut session = Client::connect(port, "demo", "shop").await?;
            let mut answers = Vec::new();
            while !ended.load(Ordering::SeqCst) {
                let sql = match place % 3 {
                    0 => format!("UPDATE ledger SET part = part WHERE id = {id}"),
                    1 => format!("SELECT part FROM ledger WHERE id = {id}"),
                    _ => "SELECT count(*) FROM ledger".to_owned(),
                };
                let answer = session.query(&sql).await;
                if answers.is_empty() && answer.is_ok() {
                    begun.fetch_add(1, Ordering::SeqCst);
                }
                answers.push(answer);
                tokio::time::sleep(PACE).await;
            }
            Ok::<_, SqlError>(answers)
        }));
    }
    until("clients to have begun", async || Ok(begun.load(Ordering::SeqCst) == crowd.len())).await?;
    let mut calm = latencies(port, &others, 4).await?;
    let frozen = &cluster.nodes()[1];
    // One is in a transaction there, others come and go.
    let mut open = proxy.client().await?;
    open.query("BEGIN").await?;
    open.query(&format!("UPDATE ledger SET part = 1 WHERE id = {}", keys[1][0])).await?;
    frozen.freeze().await?;
    let mut beside = latencies(port, &others, 4).await?;
    let answer = tokio::time::timeout(PROMPTLY, open.query("COMMIT")).await?;
    assert!(["57014", "08007", "40001", "57P03"].contains(&sqlstate(&answer)), "{answer:?}");
    ended.store(true, Ordering::SeqCst);
    for it in crowd {
        let answers = tokio::time::timeout(PROMPTLY, it).await???;
        let failed = answers.iter().filter(|it| it.is_err());
        // At the statement's deadline, or without a connection or a primary in time.
        for answer in failed.clone() {
            assert!(["57014", "53300", "57P03", "08007", "40001"].contains(&sqlstate(answer)), "{answer:?}");
        }
        assert_ne!(failed.count(), 0, "{} answers without an error while its shard was frozen", answers.len());
    }
    let of = |spans: &mut [Duration]| (quantile(spans, 0.5), quantile(spans, 0.99));
    let (calm, beside) = (of(&mut calm), of(&mut beside));
    println!(
        "oracle: reads of two shards, p50 and p99: {calm:?} while all run, {beside:?} while the third is frozen: p99 times {:.2}",
        beside.1.as_secs_f64() / calm.1.as_secs_f64()
    );
    frozen.thaw().await?;
    let mut client = proxy.client().await?;
    until("the frozen shard to answer again", async || Ok(client.query("SELECT count(*) FROM ledger").await.is_ok()))
        .await
        .map_err(|error| format!("{error}\n{}", proxy.log()))?;
    let count = client.value("SELECT count(*) FROM ledger").await?;
    assert_eq!(count.as_deref(), Some("300"));
    proxy.stop().await?;
    Ok(cluster.stop().await?)
}
