//! A load after TPC-C through the proxy over three shards, with a shard that is killed and one that is stopped meanwhile:
//! what TPC-C says of the tables at the end (clause 3.3.2) holds, and what was acknowledged is there, no more and no less.
//!
//! `SHARDWAY_TPCC_SECONDS=600` runs longer, `SHARDWAY_TPCC_RESTARTS=12` with more restarts, `SHARDWAY_TPCC_CLIENTS` with more
//! clients, `SHARDWAY_TPCC_SEED` with other choices.

#[path = "tpcc/conditions.rs"]
mod conditions;
mod proxy;
#[path = "tpcc/tables.rs"]
mod tables;
#[path = "tpcc/terminal.rs"]
mod terminal;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use proxy::Failure;
use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::map_of;
use proxy::prepare;
use proxy::quantile;
use proxy::until;
use shardway::clock;
use shardway::clock::Tick;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::Stop;
use shardway::local_cluster::client::Client;
use shardway::shard_map::Key;
use shardway::shard_map::function::BUCKETS;
use shardway::tasks;
use terminal::Kind;
use terminal::Ledger;
use terminal::Run;
use terminal::Terminal;

const SHARDS: u16 = 3;
/// Warehouses of each shard.
const WAREHOUSES: usize = 3;

const REST: &str =
    "    groups: {warehouse: {key: int, tables: {warehouse: w_id, district: d_w_id, customer: c_w_id, history: h_w_id,
      new_order: no_w_id, orders: o_w_id, order_line: ol_w_id, stock: s_w_id}}}
    reference: [item]
    failover: {wait: 20s}
users: {demo: {auth: trust}}
";

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// Where the map, which gives each shard an equal share of the buckets, places a warehouse.
fn shard(warehouse: i32) -> u16 {
    let bucket = u32::from(Key::Int(warehouse.into()).bucket());
    let begins = |shard: &u16| u32::from(*shard) * u32::from(BUCKETS) / u32::from(SHARDS);
    (1..SHARDS).filter(|it| bucket >= begins(it)).map(|_| 1).sum()
}

/// The first warehouses of each shard, as many on each.
fn warehouses() -> Vec<i32> {
    let mut of_shard: BTreeMap<u16, usize> = BTreeMap::new();
    let wanted = |id: &i32| {
        let count = of_shard.entry(shard(*id)).or_default();
        *count += 1;
        *count <= WAREHOUSES
    };
    (1..).filter(wanted).take(WAREHOUSES * usize::from(SHARDS)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_and_payments_stay_whole_while_a_shard_is_restarted() -> Outcome {
    let seconds = setting("SHARDWAY_TPCC_SECONDS", 15);
    let (clients, seed) =
        (setting("SHARDWAY_TPCC_CLIENTS", 16), setting("SHARDWAY_TPCC_SEED", rand::random::<u32>().into()));
    println!("figure: {seconds} s, {clients} clients, SHARDWAY_TPCC_SEED={seed}");
    let warehouses = warehouses();
    let cluster = Cluster::start(ClusterSpec { shards: SHARDS.into(), replicas: 0, ..ClusterSpec::default() }).await?;
    for node in cluster.primaries() {
        node.value("shop", &format!("SET ROLE demo; {}", tables::SCHEMA)).await?;
    }
    let port = free_port()?;
    let text = map_of(&cluster, port, |_| true, REST);
    let map = cluster.dir().join("map.yaml");
    fs::write(&map, &text)?;
    prepare(&cluster, &text)?;
    let proxy = Proxy::start(&cluster, port, &text, &[]).await?;
    let mut client = proxy.client().await?;
    tables::load(&mut client, &warehouses).await?;
    for (place, node) in cluster.primaries().enumerate() {
        let mine: Vec<String> =
            warehouses.iter().filter(|it| usize::from(shard(**it)) == place).map(ToString::to_string).collect();
        let held = node.value("shop", "SELECT string_agg(w_id::text, ' ' ORDER BY w_id) FROM warehouse").await?;
        assert_eq!(held, Some(mine.join(" ")));
    }
    // The conditions themselves, on rows that are known to be right.
    conditions::hold(&cluster, &mut client, &Ledger::default()).await?;

    let begun = clock::now();
    let run = Arc::new(Run::new(port, warehouses, begun.plus(Duration::from_secs(seconds))));
    let terminals: Vec<_> = (0..clients)
        .map(|id| {
            let terminal = Terminal::new(Arc::clone(&run), id, seed.wrapping_add(id));
            tasks::shared("terminal", terminal.work())
        })
        .collect();
    let shaken = shake(&cluster, begun, seconds, setting("SHARDWAY_TPCC_RESTARTS", 2)).await;
    let mut ledger = Ledger::default();
    for terminal in terminals {
        ledger.add(terminal.await?);
    }
    shaken?;
    for node in cluster.primaries() {
        until("the end of what was prepared", async || {
            Ok(node.value("shop", "SELECT count(*) FROM pg_prepared_xacts").await?.as_deref() == Some("0"))
        })
        .await?;
    }
    tell(&mut ledger, seconds);
    assert_eq!(ledger.wrong, Vec::<String>::new(), "{:#?}", ledger.errors);
    let mut client = proxy.client().await?;
    conditions::hold(&cluster, &mut client, &ledger).await?;
    let verified = Command::new(env!("CARGO_BIN_EXE_shardway")).arg("verify").arg(&map).output()?;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    assert!(ledger.crossing > 0 && Kind::ALL.iter().all(|it| ledger.done(*it) > 0), "{:?}", ledger.counts);
    assert!(ledger.lost > 0, "nobody noticed that a shard was restarted");
    broken_is_noticed(&cluster, &mut client, &ledger).await?;
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}

/// Kills a server and stops it in turn, at equal distances: the second shard's first, then others'.
async fn shake(cluster: &Cluster, begun: Tick, seconds: u64, restarts: u64) -> Outcome {
    for turn in 0..restarts {
        let at = Duration::from_secs(seconds * (turn + 1)) / u32::try_from(restarts + 1)?;
        tokio::time::sleep(at.saturating_sub(clock::now().since(begun))).await;
        let node = cluster.node(&format!("s{}-a", (turn / 2 + 1) % u64::from(SHARDS) + 1))?;
        let down = clock::now();
        if turn % 2 == 0 {
            node.kill9().await?
        } else {
            node.stop(Stop::Fast).await?
        };
        node.start().await?;
        let how = if turn % 2 == 0 { "killed" } else { "stopped" };
        println!("figure: {} {how}, and back after {:?}", node.name(), clock::now().since(down));
    }
    Ok(())
}

/// Breaks the tables in ways that single conditions must notice.
async fn broken_is_noticed(cluster: &Cluster, client: &mut Client, ledger: &Ledger) -> Outcome {
    for (sql, names) in [
        (
            "DELETE FROM history WHERE h_mark = (SELECT min(h_mark) FROM history WHERE h_mark <> 0)",
            ["8: ", "9: ", "10: ", "payment 0x"].as_slice(),
        ),
        (
            "UPDATE stock SET s_ytd = s_ytd + 1 WHERE s_i_id = (SELECT min(s_i_id) FROM stock WHERE s_order_cnt > 0)",
            &["what a warehouse", "what warehouses"],
        ),
        ("UPDATE orders SET o_carrier_id = NULL WHERE o_id = 1", &["5: ", "7: "]),
        ("UPDATE orders SET o_ol_cnt = o_ol_cnt + 1 WHERE o_id = 1", &["4: ", "6: "]),
        ("UPDATE district SET d_next_o_id = d_next_o_id + 1 WHERE d_id = 1", &["2: "]),
        ("UPDATE warehouse SET w_ytd = w_ytd + 1", &["1: "]),
        ("UPDATE customer SET c_balance = c_balance + 1 WHERE c_id = 1", &["12: "]),
        ("INSERT INTO new_order SELECT d_w_id, 1, -5 FROM district WHERE d_id = 1", &["3: ", "11: "]),
    ] {
        let node = cluster.primaries().nth(2).ok_or("a third shard")?;
        node.value("shop", sql).await?;
        let noticed = conditions::hold(cluster, client, ledger).await.err().ok_or("nothing was noticed")?.to_string();
        for name in names {
            assert!(noticed.lines().any(|it| it.starts_with(name)), "{sql}: no {name:?} in\n{noticed}");
        }
    }
    Ok(())
}

fn tell(ledger: &mut Ledger, seconds: u64) {
    for kind in Kind::ALL {
        let done = ledger.done(kind);
        let spans = ledger.spans.entry(kind).or_default();
        println!(
            "figure: {kind:?}: {done} done ({:.1}/s), {} not done, {} unknown; p50 {:?}, p99 {:?}",
            done as f64 / seconds as f64,
            ledger.counts.get(&(kind, terminal::Fate::NotDone)).copied().unwrap_or_default(),
            ledger.counts.get(&(kind, terminal::Fate::Unknown)).copied().unwrap_or_default(),
            quantile(spans, 0.5),
            quantile(spans, 0.99),
        );
    }
    println!(
        "figure: {} transactions wrote several shards, {} rolled back on purpose",
        ledger.crossing, ledger.rolled_back
    );
    for (error, count) in &ledger.errors {
        println!("figure: {count} × {error}");
    }
}

/// For the modules of this test.
fn wrong(what: impl Into<String>) -> Failure {
    what.into().into()
}
