//! Planned switchovers under load: clients notice nothing but a wait, nothing is lost or doubled, and one that cannot be done
//! changes nothing. `SHARDWAY_SWITCHOVERS` says how many (3).

mod ledger;
mod proxy;

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use ledger::Ledger;
use proxy::Failure;
use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of;
use proxy::text;
use proxy::until;
use shardway::clock;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::client::Client;
use shardway::tasks;

const REST: &str = "
    groups: {ledger: {key: bigint, tables: {ledger: id}}}
    failover: {wait: 40s}
    control: {user: postgres}
users: {demo: {auth: trust}}
";

async fn house(replicas: usize, rest: &str) -> Outcome<(Cluster, Proxy)> {
    let cluster = Cluster::start(ClusterSpec { shards: 1, replicas, ..ClusterSpec::default() }).await?;
    let mut owner = Client::connect(cluster.nodes()[0].port(), "demo", "shop").await?;
    owner.query(ledger::TABLE).await?;
    let port = free_port()?;
    let proxy = Proxy::start(&cluster, port, &map_of(&cluster, port, |_| true, rest), &[]).await?;
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

async fn until_standing(proxy: &Proxy, node: &str, role: &str) -> Outcome {
    until(&format!("{node} to be {role}"), async || {
        Ok(standing(proxy).await?.get(node).is_some_and(|(is, health)| is == role && health == "up"))
    })
    .await
    .map_err(|error| format!("{error}\n{}", proxy.log()).into())
}

/// `shardway switchover`, as an operator runs it.
async fn switchover(cluster: &Cluster, arguments: &[&str]) -> Outcome<Output> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shardway"));
    command.arg("switchover").args(arguments).arg("--map").arg(cluster.dir().join("proxy").join("map.yaml"));
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[derive(Default)]
struct Readers {
    reads: AtomicU64,
    ended: AtomicBool,
}

async fn read(mut client: Client, consistency: &'static str, run: Arc<Readers>) -> Outcome {
    client.query(&format!("SET shardway.consistency = '{consistency}'")).await?;
    while !run.ended.load(Ordering::Relaxed) {
        client.query("SELECT count(*) FROM ledger").await?;
        client.query("SELECT id FROM ledger WHERE id = 1").await?;
        run.reads.fetch_add(2, Ordering::Relaxed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_notice_no_planned_switchover() -> Outcome {
    let count: usize = std::env::var("SHARDWAY_SWITCHOVERS").map_or(Ok(3), |it| it.parse())?;
    let (cluster, proxy) = house(2, REST).await?;
    let ledger = Arc::new(Ledger::default());
    let writers = ledger::start(&ledger, proxy.port(), 6);
    let readers = Arc::new(Readers::default());
    let mut reading = Vec::new();
    // Those that replicas may serve, and those that must see everything.
    for consistency in ["session", "strong"] {
        reading.push(tasks::shared("reader", read(proxy.client().await?, consistency, Arc::clone(&readers))));
    }
    let mut primary = "s1-a".to_owned();
    let mut took = Vec::new();
    for number in 0..count {
        for node in cluster.nodes() {
            until_standing(&proxy, node.name(), if node.name() == primary { "primary" } else { "replica" }).await?;
        }
        let next = cluster.nodes().iter().map(|it| it.name()).filter(|it| *it != primary).nth(number % 2);
        let next = next.ok_or("no other node")?;
        let before = (ledger.done(), readers.reads.load(Ordering::Relaxed));
        until("clients at work", async || {
            Ok(ledger.done() > before.0 + 30 && readers.reads.load(Ordering::Relaxed) > before.1 + 10)
        })
        .await?;
        let begun = clock::now();
        let done = switchover(&cluster, &["shop.s1", "--to", next]).await?;
        took.push(clock::now().since(begun));
        assert!(done.status.success(), "{}\n{}", said(&done), proxy.log());
        for step in ["paused:", "fenced", "has everything", "promoted", "follows", "takes writes", "resumed:"] {
            assert!(said(&done).contains(step), "{step}: {}", said(&done));
        }
        // The former one takes nothing from anybody, and is made a replica again.
        let (former, next) = (cluster.node(&primary)?, cluster.node(next)?);
        let refused =
            Client::connect(former.port(), "demo", "shop").await?.query("INSERT INTO ledger VALUES (0, 0)").await;
        assert!(refused.is_err(), "the former primary takes writes");
        former.rebuild(next).await?;
        next.name().clone_into(&mut primary);
    }
    let events = proxy.console().await?.query("SHOW EVENTS").await?;
    let told = |kind: &str, what: &str| {
        events
            .iter()
            .filter(|it| text(it, 4).is_ok_and(|it| it == kind) && text(it, 5).is_ok_and(|it| it == what))
            .count()
    };
    // The latest 200 are kept, and each switchover is told of by some.
    let kept = count.min(20);
    assert!(told("switchover", "done") >= kept && told("paused", "by a switchover") >= kept, "{events:?}");
    ledger.end();
    readers.ended.store(true, Ordering::Relaxed);
    for it in writers {
        it.await?;
    }
    for it in reading {
        it.await?.map_err(|error| format!("a reader: {error}\n{}", proxy.log()))?;
    }
    let rows = cluster.node(&primary)?.connect("shop").await?.query("SELECT id, part FROM ledger").await?;
    ledger.compare(&rows)?;
    took.sort_unstable();
    println!(
        "figure: {count} switchovers, each within {:.2?} (median, command included); {}; {} reads; no error",
        took[took.len() / 2],
        ledger.told(),
        readers.reads.load(Ordering::Relaxed)
    );
    assert_eq!(ledger.not_done(), 0, "{}\n{}", ledger.told(), proxy.log());
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_that_cannot_be_done_changes_nothing() -> Outcome {
    let (cluster, proxy) = house(1, &REST.replace("40s", "2s")).await?;
    until_standing(&proxy, "s1-b", "replica").await?;
    let mut client = proxy.client().await?;
    let mut refused = async |arguments: &[&str], why: &str| {
        let done = switchover(&cluster, arguments).await?;
        assert_eq!(done.status.code(), Some(1), "{}", said(&done));
        assert!(said(&done).contains(why), "{why}: {}\n{}", said(&done), proxy.log());
        client.query("INSERT INTO ledger VALUES (1, 0)").await?;
        Ok::<(), Failure>(())
    };
    refused(&["s9"], "no shard").await?;
    refused(&["s1", "--to", "s1-c"], "no node").await?;
    refused(&["s1", "--to", "s1-a"], "there is no other node").await?;
    // A transaction that stays open is told with who has it.
    let mut open = proxy.client().await?;
    open.query("BEGIN").await?;
    open.query("INSERT INTO ledger VALUES (2, 0)").await?;
    refused(&["s1"], "idle in transaction").await?;
    open.query("COMMIT").await?;
    let mut console = proxy.console().await?;
    console.query("PAUSE").await?;
    let done = switchover(&cluster, &["s1"]).await?;
    assert!(!done.status.success() && said(&done).contains("it is paused (PAUSE) already"), "{}", said(&done));
    console.query("RESUME").await?;
    cluster.node("s1-b")?.pause_replay().await?;
    refused(&["s1"], "its replay is paused").await?;
    cluster.node("s1-b")?.resume_replay().await?;
    cluster.node("s1-b")?.delay_replay(std::time::Duration::from_secs(60)).await?;
    // All is held back and fenced by then, and let go again.
    refused(&["s1"], "does not get what the primary has").await?;
    assert_eq!(standing(&proxy).await?["s1-a"].0, "primary");
    let events = console.query("SHOW EVENTS").await?;
    let failed =
        |it: &Vec<Option<String>>| text(it, 5).is_ok_and(|it| it.contains("does not get what the primary has"));
    assert!(events.iter().any(failed), "{events:?}");
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}
