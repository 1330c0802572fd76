//! What a shard's clients notice while it has no primary, or is paused: they wait in order, as many as may, and go on; a read
//! whose server dies is served by another; other shards are not touched.

mod proxy;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of;
use proxy::text;
use proxy::until;
use shardway::clock;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::Stop;
use shardway::local_cluster::client::Client;
use shardway::local_cluster::client::SqlError;
use shardway::tasks;
use tokio_postgres::NoTls;

/// Key 1 is on s1, key 2 on s2.
const PLACED: &str =
    "    groups: {thing: {key: bigint, scheme: list, values: {s1: [1], s2: [2]}, tables: {things: id}}}\n";
const QUEUE_MAX: usize = 6;

/// `pool`: how many connections a server gets.
fn map(cluster: &Cluster, port: u16, pool: usize) -> String {
    let rest = format!(
        "{PLACED}    catalog: s2\n    reads: {{consistency: eventual, staleness_max: 1h}}\n    failover: {{wait: 30s, queue_max: \
         {QUEUE_MAX}}}\n    control: {{user: postgres}}\npool: {{size: {pool}}}\nusers: {{demo: {{auth: trust}}}}\n"
    );
    map_of(cluster, port, |_| true, &rest)
}

async fn start(replicas: usize, pool: usize) -> Outcome<(Cluster, Proxy)> {
    let cluster = Cluster::start(ClusterSpec { replicas, ..ClusterSpec::default() }).await?;
    for primary in cluster.primaries() {
        let mut client = Client::connect(primary.port(), "demo", "shop").await?;
        client.query("CREATE TABLE things (id bigint, n bigint, at timestamptz DEFAULT clock_timestamp())").await?;
        let key = &primary.shard()[1..];
        client.query(&format!("INSERT INTO things VALUES ({key}, 0)")).await?;
    }
    for node in cluster.nodes().iter().filter(|it| !it.name().ends_with("-a")) {
        node.until_replayed(cluster.node(&format!("{}-a", node.shard()))?).await?;
    }
    let port = free_port()?;
    let proxy = Proxy::start(&cluster, port, &map(&cluster, port, pool), &[]).await?;
    Ok((cluster, proxy))
}

/// How many wait for a shard.
async fn waiting(console: &mut Client, shard: &str) -> Outcome<usize> {
    let rows = console.query("SHOW QUEUES").await?;
    let row = rows.iter().find(|row| text(row, 1).is_ok_and(|it| it == shard)).ok_or("no such shard")?;
    Ok(text(row, 3)?.parse()?)
}

/// Fills the queue of s1 with inserts whose order is known, and sees that no more may wait and that s2 is not touched.
async fn fill(proxy: &Proxy) -> Outcome<Vec<tokio::task::JoinHandle<Outcome>>> {
    let mut console = proxy.console().await?;
    let mut inserting = Vec::new();
    for n in 1..=QUEUE_MAX {
        let mut client = proxy.client().await?;
        inserting.push(tasks::shared("inserting", async move {
            client.query(&format!("INSERT INTO things VALUES (1, {n})")).await?;
            Ok(())
        }));
        until("the next in the queue", async || Ok(waiting(&mut console, "s1").await? == n)).await?;
    }
    let mut other = proxy.client().await?;
    let refused = other.query("INSERT INTO things VALUES (1, -1)").await;
    let Err(SqlError::Server { sqlstate, message, hint }) = refused else { panic!("{refused:?}") };
    assert_eq!(sqlstate, "57P03");
    assert!(message.contains("6 statements wait for shard \"s1\"") && hint.contains("queue_max"), "{message}: {hint}");
    other.query("INSERT INTO things VALUES (2, 1)").await?;
    Ok(inserting)
}

/// They went on in the order in which they came. What runs at once servers may hear in any order: the pool has one connection.
async fn in_order(port: u16, inserting: Vec<tokio::task::JoinHandle<Outcome>>) -> Outcome {
    for it in inserting {
        it.await??;
    }
    let rows =
        Client::connect(port, "demo", "shop").await?.query("SELECT n FROM things WHERE id = 1 ORDER BY at").await?;
    let order: Vec<&str> = rows.iter().map(|row| text(row, 0)).collect::<Outcome<_>>()?;
    let came: Vec<String> = (0..=QUEUE_MAX).map(|n| n.to_string()).collect();
    assert_eq!(order, came);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_wait_in_order_for_a_primary_that_restarts() -> Outcome {
    let (cluster, proxy) = start(0, 1).await?;
    let primary = cluster.node("s1-a")?;
    primary.stop(Stop::Immediate).await?;
    let mut console = proxy.console().await?;
    until("no primary", async || {
        let rows = console.query("SHOW NODES").await?;
        Ok(rows
            .iter()
            .any(|row| text(row, 2).is_ok_and(|it| it == "s1-a") && text(row, 5).is_ok_and(|it| it == "down")))
    })
    .await?;
    let inserting = fill(&proxy).await?;
    primary.start().await?;
    in_order(primary.port(), inserting).await?;
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_shard_lets_transactions_end_and_holds_back_the_rest() -> Outcome {
    let (cluster, proxy) = start(0, 1).await?;
    let mut open = proxy.client().await?;
    open.query("BEGIN").await?;
    open.query("INSERT INTO things VALUES (1, 100)").await?;
    let mut console = proxy.console().await?;
    let pausing = tasks::shared("pausing", async move {
        console.query("PAUSE shop.s1").await?;
        Ok::<_, SqlError>(console)
    });
    // Held back at once, though the pause is not complete.
    let mut watch = proxy.console().await?;
    until("a pause that drains", async || {
        let rows = watch.query("SHOW QUEUES").await?;
        Ok(rows
            .iter()
            .any(|row| text(row, 1).is_ok_and(|it| it == "s1") && text(row, 2).is_ok_and(|it| it == "draining")))
    })
    .await?;
    // The open one goes on to its end.
    open.query("INSERT INTO things VALUES (1, 101)").await?;
    assert!(!pausing.is_finished());
    open.query("ROLLBACK").await?;
    let mut console = pausing.await??;
    let inserting = fill(&proxy).await?;
    // Reads are held back, too: one more than may wait.
    let read = proxy.client().await?.query("SELECT n FROM things WHERE id = 1").await;
    assert!(matches!(&read, Err(SqlError::Server { sqlstate, .. }) if sqlstate == "57P03"), "{read:?}");
    // Once more changes nothing.
    console.query("PAUSE shop.s1").await?;
    console.query("RESUME shop").await?;
    in_order(cluster.node("s1-a")?.port(), inserting).await?;
    // One that stays open keeps it from being paused, which is told, and everything goes on.
    open.query("BEGIN").await?;
    open.query("INSERT INTO things VALUES (1, 102)").await?;
    proxy.replace_map(&map(&cluster, proxy.port(), 1).replace("wait: 30s", "wait: 200ms"))?;
    console.query("RELOAD").await?;
    let refused = console.query("PAUSE").await;
    let Err(SqlError::Server { sqlstate, message, .. }) = refused else { panic!("{refused:?}") };
    assert!(sqlstate == "57014" && message.contains("1 on \"s1\""), "{sqlstate} {message}");
    open.query("ROLLBACK").await?;
    proxy.client().await?.query("INSERT INTO things VALUES (1, 7)").await?;
    for wrong in ["PAUSE nowhere", "PAUSE shop.s9", "RESUME a b"] {
        assert!(console.query(wrong).await.is_err(), "{wrong}");
    }
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}

/// Of which node the console says what.
async fn said_of(console: &mut Client, node: &str) -> Outcome<(String, Option<String>)> {
    let rows = console.query("SHOW NODES").await?;
    let row = rows.iter().find(|row| text(row, 2).is_ok_and(|it| it == node)).ok_or("no such node")?;
    Ok((text(row, 4)?.to_owned(), row[10].clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_drains_a_replica_and_fences_a_server() -> Outcome {
    let (cluster, proxy) = start(1, 4).await?;
    let (primary, replica) = (cluster.node("s1-a")?, cluster.node("s1-b")?);
    let mut console = proxy.console().await?;
    let mut client = proxy.client().await?;
    let port = "SELECT inet_server_port() FROM things WHERE id = 1";
    let served_by = async |client: &mut Client, port_is: u16| {
        Ok(client.value(port).await?.as_deref() == Some(port_is.to_string().as_str()))
    };
    until("the replica to serve", async || served_by(&mut client, replica.port()).await).await?;

    // What runs there goes on to its end, and nothing new comes.
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo' AND state = 'active'";
    let mut watcher = replica.connect("shop").await?;
    let reading = loop {
        let mut slow = proxy.client().await?;
        let reading =
            tasks::shared("reading", async move { slow.value("SELECT n, pg_sleep(3) FROM things WHERE id = 1").await });
        let mut is_there = false;
        until("a read", async || {
            is_there = watcher.value(busy).await?.as_deref() == Some("1");
            Ok(is_there || reading.is_finished())
        })
        .await?;
        // A replica that was not fresh enough just then left it to the primary.
        if is_there {
            break reading;
        }
        reading.await??;
    };
    let draining = tasks::shared("draining", async move {
        console.query("DRAIN shop.s1.s1-b").await?;
        Ok::<_, SqlError>(console)
    });
    until("no more reads", async || served_by(&mut client, primary.port()).await).await?;
    let mut console = draining.await??;
    assert_eq!(reading.await??.as_deref(), Some("0"));
    let there = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo'";
    until("no connection", async || Ok(replica.value("shop", there).await?.as_deref() == Some("0"))).await?;
    assert!(said_of(&mut console, "s1-b").await?.1.is_some_and(|it| it.contains("DRAIN")));
    // Another map changes nothing of it.
    proxy.replace_map(&map(&cluster, proxy.port(), 4).replace("wait: 30s", "wait: 29s"))?;
    console.query("RELOAD").await?;
    assert!(said_of(&mut console, "s1-b").await?.1.is_some_and(|it| it.contains("DRAIN")));
    assert!(served_by(&mut client, primary.port()).await?);
    console.query("RESUME shop.s1.s1-b").await?;
    until("the replica to serve again", async || served_by(&mut client, replica.port()).await).await?;

    // A primary is not drained. Fenced, it hears nothing; what was open there ends, and who writes waits.
    let refused = console.query("DRAIN shop.s1.s1-a").await;
    assert!(matches!(&refused, Err(SqlError::Server { message, .. }) if message.contains("primary")), "{refused:?}");
    let mut open = proxy.client().await?;
    open.query("BEGIN").await?;
    open.query("INSERT INTO things VALUES (1, 1)").await?;
    console.query("FENCE shop.s1.s1-a").await?;
    assert!(open.query("COMMIT").await.is_err());
    until("no connection", async || Ok(primary.value("shop", there).await?.as_deref() == Some("0"))).await?;
    let (role, why) = said_of(&mut console, "s1-a").await?;
    assert!(role == "fenced" && why.as_ref().is_some_and(|it| it.contains("FENCE")), "{role} {why:?}");
    let mut writer = proxy.client().await?;
    let writing = tasks::shared("writing", async move { writer.query("INSERT INTO things VALUES (1, 2)").await });
    until("a write that waits", async || Ok(waiting(&mut console, "s1").await? == 1)).await?;
    client.query("INSERT INTO things VALUES (2, 3)").await?;
    assert!(served_by(&mut client, replica.port()).await?);
    console.query("RESUME shop.s1.s1-a").await?;
    writing.await??;
    assert_eq!(primary.value("shop", "SELECT sum(n) FROM things").await?.as_deref(), Some("2"));
    for wrong in ["DRAIN", "FENCE shop.s1", "FENCE shop.s1.s1-z", "RESUME shop.s1.s1-z", "DRAIN shop.s1.s1-b now"] {
        assert!(console.query(wrong).await.is_err(), "{wrong}");
    }
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}

#[derive(Default)]
struct Run {
    reads: AtomicU64,
    ended: AtomicBool,
}

async fn simple(mut client: Client, run: Arc<Run>) -> Outcome {
    while !run.ended.load(Ordering::Relaxed) {
        // None is given what another has asked.
        for (sql, answer) in [("SELECT n FROM things WHERE id = 1", "0"), ("SELECT count(*) FROM things", "2")] {
            assert_eq!(client.query(sql).await?, [[Some(answer.to_owned())]], "{sql}");
        }
        run.reads.fetch_add(2, Ordering::Relaxed);
    }
    Ok(())
}

async fn prepared(port: u16, run: Arc<Run>) -> Outcome {
    let login = format!("host=127.0.0.1 port={port} user=demo dbname=shop");
    let (client, connection) = tokio_postgres::connect(&login, NoTls).await?;
    tasks::shared("tokio-postgres", connection);
    let read = client.prepare("SELECT n FROM things WHERE id = $1").await?;
    while !run.ended.load(Ordering::Relaxed) {
        for key in [1_i64, 2] {
            client.query_one(&read, &[&key]).await?;
        }
        // With Parse and Describe, and nothing kept.
        client.query_one("SELECT sum(n)::bigint FROM things WHERE id = 1", &[]).await?;
        run.reads.fetch_add(3, Ordering::Relaxed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_notice_no_server_that_dies_while_another_lives() -> Outcome {
    let (cluster, proxy) = start(2, 4).await?;
    let run = Arc::new(Run::default());
    let mut clients = Vec::new();
    for number in 0..8 {
        clients.push(match number % 2 {
            0 => tasks::shared("client", simple(proxy.client().await?, Arc::clone(&run))),
            _ => tasks::shared("client", prepared(proxy.port(), Arc::clone(&run))),
        });
    }
    let mut kills = 0;
    let begun = clock::now();
    for name in ["s1-b", "s1-c", "s1-a", "s1-b", "s1-a"] {
        let goes_on = async |what: &str| {
            let reads = run.reads.load(Ordering::Relaxed);
            until(what, async || {
                Ok(run.reads.load(Ordering::Relaxed) > reads + 200 || clients.iter().any(|it| it.is_finished()))
            })
            .await
        };
        goes_on("reads before").await?;
        let node = cluster.node(name)?;
        node.kill9().await?;
        kills += 1;
        goes_on("reads while it is dead").await?;
        node.start().await?;
        let mut console = proxy.console().await?;
        until("all nodes up", async || {
            let rows = console.query("SHOW NODES").await?;
            Ok(rows.iter().all(|row| text(row, 5).is_ok_and(|it| it == "up")))
        })
        .await?;
    }
    run.ended.store(true, Ordering::Relaxed);
    for client in clients {
        client.await?.map_err(|error| format!("{error:?}\n{}", proxy.log()))?;
    }
    println!(
        "figure: {kills} servers killed under {} reads of 8 clients in {:.1?}; no error",
        run.reads.load(Ordering::Relaxed),
        clock::now().since(begun)
    );
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}
