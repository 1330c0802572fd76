//! The monitor against real servers: what it says must be true of them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests may fail as tests do"
)]

#[path = "topology/catalogs.rs"]
mod catalogs;
#[path = "topology/servers.rs"]
mod servers;

use std::sync::Arc;
use std::time::Duration;

use shardway::clock;
use shardway::clock::Tick;
use shardway::ident::NodeId;
use shardway::ident::ShardId;
use shardway::shard_map::Consistency;
use shardway::tasks;
use shardway::topology::Choice;
use shardway::topology::Floor;
use shardway::topology::Health;
use shardway::topology::Role;
use shardway::topology::Topology;
use tokio::sync::watch;

use servers::Server;
use servers::database;
use servers::login;
use servers::timeouts;

const SHARD: ShardId = ShardId(0);
const PRIMARY: NodeId = NodeId { shard: SHARD, node: 0 };
const REPLICA: NodeId = NodeId { shard: SHARD, node: 1 };

/// A running monitor; the sender keeps it so.
async fn watching(nodes: &[&Server]) -> (Arc<Topology>, watch::Sender<bool>) {
    let database = database(vec![nodes.iter().map(|it| it.node()).collect()]);
    let topology = Topology::new(Arc::new(database), login(), &timeouts());
    let (stop, stopped) = watch::channel(false);
    tasks::shared("topology", Arc::clone(&topology).run(stopped));
    assert!(topology.heard(soon(10)).await, "{}", show(&topology));
    (topology, stop)
}

fn soon(seconds: u64) -> Tick {
    clock::now().plus(Duration::from_secs(seconds))
}

fn show(topology: &Topology) -> String {
    let line = |(id, it): (NodeId, &Arc<shardway::topology::NodeState>)| {
        format!(
            "{id:?} {} {} fresh {:?} generation {} at {} timeline {} {:?}\n",
            it.role().name(),
            it.health().name(),
            it.fresh_as_of(),
            it.generation(),
            it.position_text(),
            it.timeline(),
            it.trouble()
        )
    };
    topology.nodes().map(line).collect()
}

/// Waits for something to become true of the topology; returns how long that took.
async fn until(topology: &Topology, limit: u64, what: &str, holds: impl Fn(&Topology) -> bool) -> Duration {
    let began = clock::now();
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    while !holds(topology) {
        assert!(clock::now() < began.plus(Duration::from_secs(limit)), "{what}:\n{}", show(topology));
        tick.tick().await;
    }
    clock::now().since(began)
}

async fn session_read(topology: &Topology, floor: Floor, wait: Duration) -> Choice {
    let demand = topology.demand(Consistency::Session, floor);
    topology.wait_read(SHARD, &demand, None, 0, clock::now().plus(wait)).await
}

/// Whether others write at the same time, so that samples are always on their way.
#[derive(Clone, Copy, PartialEq)]
enum Company {
    None,
    Others,
}

/// Writes on the primary and reads each on a replica said to be fresh: what was missing there, and how long it took.
async fn missing_reads(settings: &str, rounds: i32, company: Company) -> (i32, Duration) {
    let primary = Server::primary(settings).await;
    let replica = Server::replica_of(&primary).await;
    let (topology, _stop) = watching(&[&primary, &replica]).await;
    let writer = primary.connect().await;
    let reader = replica.connect().await;
    let opened = clock::now();
    writer.batch_execute("create table counter (n int); insert into counter values (0)").await.unwrap();
    writer.batch_execute("create table other (n int); insert into other values (0)").await.unwrap();
    until(&topology, 5, "fresh", |it| it.node(REPLICA).fresh_as_of() > opened).await;
    let others = primary.connect().await;
    let crowd = (company == Company::Others).then(|| {
        tasks::shared("others", async move {
            let mut tick = tokio::time::interval(Duration::from_millis(2));
            while others.batch_execute("update other set n = n + 1").await.is_ok() {
                tick.tick().await;
            }
        })
    });
    let mut took = Vec::new();
    let mut missing = 0;
    for n in 1..=rounds {
        let began = clock::now();
        writer.execute("update counter set n = $1", &[&n]).await.unwrap();
        let mut floor = Floor::default();
        floor.wrote(clock::now());
        let choice = session_read(&topology, floor, Duration::from_secs(5)).await;
        let Choice::Node(chosen) = choice else { panic!("no replica in 5 s:\n{}", show(&topology)) };
        assert_eq!(chosen.node, REPLICA);
        assert!(topology.node(REPLICA).vouches_for(opened));
        let seen: i32 = reader.query_one("select n from counter", &[]).await.unwrap().get(0);
        missing += i32::from(seen != n);
        took.push(clock::now().since(began));
    }
    if let Some(crowd) = crowd {
        crowd.abort();
    }
    took.sort_unstable();
    println!("{settings}: write and read it on the replica: median {:?}", took[took.len() / 2]);
    (missing, took[took.len() * 99 / 100])
}

/// No write may be missing, unless a mistake was planted, which must show.
fn assert_missing(missing: i32) {
    let planted = std::env::var_os("SHARDWAY_FAULT").is_some();
    assert_eq!(missing == 0, !planted, "{missing} acknowledged writes were missing on a replica said to have them");
}

const ASYNCHRONOUS: &str = "synchronous_commit = off\nwal_writer_delay = 20ms";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_said_to_be_fresh_has_the_write() {
    let (missing, p99) = missing_reads("", 300, Company::None).await;
    println!("p99 {p99:?}");
    assert_eq!(missing, 0, "an acknowledged write is missing on a replica said to have it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_said_to_be_fresh_has_the_asynchronous_write() {
    let (missing, p99) = missing_reads(ASYNCHRONOUS, 200, Company::None).await;
    println!("p99 {p99:?}");
    assert_missing(missing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_replica_said_to_be_fresh_has_the_write() {
    let (missing, p99) = missing_reads("recovery_min_apply_delay = 40ms", 100, Company::Others).await;
    println!("p99 {p99:?}");
    assert_missing(missing);
}

/// The tests above must see a monitor that is wrong: they run again in a process where one is.
fn notices(test: &str, fault: &str) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("SHARDWAY_FAULT", fault)
        .output()
        .unwrap();
    assert!(output.status.success(), "the mistake was not noticed: {}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_write_position_would_not_do() {
    notices("a_replica_said_to_be_fresh_has_the_asynchronous_write", "write_position");
}

#[test]
fn a_clock_read_after_the_answer_would_not_do() {
    notices("a_delayed_replica_said_to_be_fresh_has_the_write", "clock_after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stopped_replaying_serves_no_newer_floor() {
    let primary = Server::primary("").await;
    let replica = Server::replica_of(&primary).await;
    let (topology, _stop) = watching(&[&primary, &replica]).await;
    until(&topology, 5, "fresh", |it| it.node(REPLICA).fresh_as_of() != Tick::NEVER).await;
    replica.execute("select pg_wal_replay_pause()").await;
    primary.execute("create table t (n int)").await;
    let mut floor = Floor::default();
    floor.wrote(clock::now());
    assert_eq!(session_read(&topology, floor, Duration::from_millis(300)).await, Choice::NoneYet);
    let again = topology.node_for_read(SHARD, &topology.demand(Consistency::Session, floor), None, 0, soon(5)).await;
    assert_eq!(again.map(|it| it.node), Some(PRIMARY));
    // Beyond staleness_max it is out of rotation: nobody waits for it any more.
    until(&topology, 5, "stale", |it| clock::now().since(it.node(REPLICA).fresh_as_of()) > Duration::from_secs(2))
        .await;
    let eventual = topology.demand(Consistency::Eventual, Floor::default());
    assert!(matches!(topology.choose_read(SHARD, &eventual, None, 0), Choice::Node(it) if it.node == PRIMARY));
    replica.execute("select pg_wal_replay_resume()").await;
    let choice = session_read(&topology, floor, Duration::from_secs(5)).await;
    assert!(matches!(choice, Choice::Node(_)), "{}", show(&topology));
    until(&topology, 5, "back", |it| {
        let eventual = it.demand(Consistency::Eventual, Floor::default());
        matches!(it.choose_read(SHARD, &eventual, None, 0), Choice::Node(it) if it.node == REPLICA)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_replica_leaves_within_a_second_or_so_and_comes_back_as_another_life() {
    let primary = Server::primary("").await;
    let mut replica = Server::replica_of(&primary).await;
    let (topology, _stop) = watching(&[&primary, &replica]).await;
    until(&topology, 5, "fresh", |it| it.node(REPLICA).fresh_as_of() != Tick::NEVER).await;
    let before = topology.node(REPLICA).generation();
    let opened = clock::now();
    replica.stop("-QUIT");
    let took = until(&topology, 5, "down", |it| it.node(REPLICA).health() == Health::Down).await;
    assert!(took < Duration::from_millis(1500), "{took:?}");
    let eventual = topology.demand(Consistency::Eventual, Floor::default());
    assert!(matches!(topology.choose_read(SHARD, &eventual, None, 0), Choice::Node(it) if it.node == PRIMARY));
    assert!(!topology.node(REPLICA).vouches_for(opened));
    replica.start().await;
    until(&topology, 5, "fresh again", |it| it.node(REPLICA).fresh_as_of() > opened).await;
    assert_ne!(topology.node(REPLICA).generation(), before);
    assert!(topology.node(REPLICA).vouches_for(opened));
    let later = clock::now();
    assert!(!topology.node(REPLICA).vouches_for(later));
    assert!(topology.vouched(REPLICA, later, soon(5)).await);
    println!("vouched for within {:?}", clock::now().since(later));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_replica_is_suspect_then_down_and_its_old_answers_count_for_nothing() {
    let primary = Server::primary("").await;
    let replica = Server::replica_of(&primary).await;
    let (topology, _stop) = watching(&[&primary, &replica]).await;
    until(&topology, 5, "fresh", |it| it.node(REPLICA).fresh_as_of() != Tick::NEVER).await;
    replica.signal_all("-STOP");
    let took = until(&topology, 5, "suspect", |it| it.node(REPLICA).health() == Health::Suspect).await;
    assert!(took < Duration::from_millis(1600), "{took:?}");
    until(&topology, 6, "down", |it| it.node(REPLICA).health() == Health::Down).await;
    replica.signal_all("-CONT");
    let thawed = clock::now();
    until(&topology, 15, "fresh again", |it| it.node(REPLICA).fresh_as_of() > thawed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_promoted_after_the_primary_died_is_followed() {
    let mut primary = Server::primary("").await;
    let replica = Server::replica_of(&primary).await;
    let other = Server::replica_of(&primary).await;
    let (topology, _stop) = watching(&[&primary, &replica, &other]).await;
    assert_eq!(topology.primary(SHARD), Some(PRIMARY));
    until(&topology, 5, "fresh", |it| it.node(REPLICA).fresh_as_of() != Tick::NEVER).await;
    primary.stop("-INT");
    until(&topology, 5, "no primary", |it| it.primary(SHARD).is_none()).await;
    let eventual = topology.demand(Consistency::Eventual, Floor::default());
    assert!(matches!(topology.choose_read(SHARD, &eventual, None, 0), Choice::Node(_)), "reads go on");
    replica.execute("select pg_promote(true, 30)").await;
    assert_eq!(topology.wait_primary(SHARD, soon(5)).await, Some(REPLICA), "{}", show(&topology));
    assert_eq!(topology.node(REPLICA).timeline(), 2);
    // The other replica still follows the old timeline: it is not fresh until it follows the new primary.
    let third = NodeId { shard: SHARD, node: 2 };
    assert_eq!(topology.node(third).fresh_as_of(), Tick::NEVER);
    let conninfo = format!("host=127.0.0.1 port={} user=postgres", replica.port);
    other.execute(&format!("alter system set primary_conninfo = '{conninfo}'")).await;
    other.execute("select pg_reload_conf()").await;
    until(&topology, 20, "fresh on timeline 2", |it| it.node(third).fresh_as_of() != Tick::NEVER).await;
    assert_eq!(topology.node(third).timeline(), 2);
    // The former primary comes back as it was: nothing goes there.
    primary.start().await;
    until(&topology, 5, "fenced", |it| it.node(PRIMARY).role() == Role::Fenced).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_beside_the_primary_takes_its_place() {
    let primary = Server::primary("").await;
    let mut promoted = Server::replica_of(&primary).await;
    let (topology, _stop) = watching(&[&primary, &promoted]).await;
    promoted.execute("select pg_promote(true, 30)").await;
    until(&topology, 5, "followed", |it| {
        it.node(PRIMARY).role() == Role::Fenced && it.node(REPLICA).role() == Role::Primary
    })
    .await;
    assert_eq!(topology.primary(SHARD), Some(REPLICA));
    assert!(topology.node(PRIMARY).trouble().is_some_and(|it| it.contains("former primary")));
    // The former one does not come into its place again, though it goes on.
    promoted.stop("-INT");
    until(&topology, 5, "no primary", |it| it.primary(SHARD).is_none()).await;
    assert_eq!(topology.node(PRIMARY).role(), Role::Fenced);
    promoted.start().await;
    assert_eq!(topology.wait_primary(SHARD, soon(5)).await, Some(REPLICA));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_is_not_a_dead_one() {
    let primary = Server::primary("max_connections = 12\nsuperuser_reserved_connections = 3").await;
    let (topology, _stop) = watching(&[&primary]).await;
    let admin = primary.connect().await;
    let mut crowd = Vec::new();
    let target = format!("host=127.0.0.1 port={} user=shardway dbname=shop", primary.port);
    while let Ok((client, connection)) = tokio_postgres::connect(&target, tokio_postgres::NoTls).await {
        crowd.push(client);
        tasks::shared("crowd", async move {
            let _ = connection.await;
        });
    }
    // The monitor's connection is cut and its place taken before it is back.
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'shardway monitor'";
    while topology.node(PRIMARY).generation() != 0 {
        admin.batch_execute(cut).await.unwrap();
        if let Ok((client, connection)) = tokio_postgres::connect(&target, tokio_postgres::NoTls).await {
            crowd.push(client);
            tasks::shared("crowd", async move {
                let _ = connection.await;
            });
        }
        tokio::task::yield_now().await;
    }
    until(&topology, 5, "told", |it| it.node(PRIMARY).trouble().is_some_and(|it| it.contains("connection"))).await;
    let began = clock::now();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while clock::now().since(began) < Duration::from_secs(3) {
        let node = topology.node(PRIMARY);
        assert_ne!(node.health(), Health::Down, "{}", show(&topology));
        assert_eq!(topology.primary(SHARD), Some(PRIMARY));
        tick.tick().await;
    }
    drop(crowd);
    until(&topology, 5, "up", |it| it.node(PRIMARY).generation() != 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_the_right_to_see_gets_no_replicas_and_is_told_why() {
    let primary = Server::primary("").await;
    let replica = Server::replica_of(&primary).await;
    primary.execute("revoke pg_monitor from shardway").await;
    let (topology, _stop) = watching(&[&primary, &replica]).await;
    until(&topology, 5, "told", |it| it.node(REPLICA).trouble().is_some_and(|it| it.contains("GRANT pg_monitor")))
        .await;
    assert_eq!((topology.node(REPLICA).role(), topology.primary(SHARD)), (Role::Replica, Some(PRIMARY)));
    let eventual = topology.demand(Consistency::Eventual, Floor::default());
    assert!(matches!(topology.choose_read(SHARD, &eventual, None, 0), Choice::Node(it) if it.node == PRIMARY));
    primary.execute("grant pg_monitor to shardway").await;
    until(&topology, 5, "fresh", |it| it.node(REPLICA).fresh_as_of() != Tick::NEVER).await;
    assert_eq!(topology.node(REPLICA).trouble(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_map_keeps_what_is_known_of_unchanged_shards() {
    let one = Server::primary("").await;
    let two = Server::primary("").await;
    let (first, _stop) = watching(&[&one]).await;
    let generation = first.node(PRIMARY).generation();
    let wider = Arc::new(database(vec![vec![one.node()], vec![two.node()]]));
    let second = Topology::after(Some(&first), Arc::clone(&wider), login(), &timeouts());
    assert_eq!(second.primary(SHARD), Some(PRIMARY));
    assert_eq!(second.node(PRIMARY).generation(), generation);
    assert_eq!(second.primary(ShardId(1)), None);
    let (_stop, stopped) = watch::channel(false);
    tasks::shared("topology", Arc::clone(&second).run(stopped));
    assert!(second.heard(soon(10)).await);
    assert!(second.primary(ShardId(1)).is_some());
    drop(first);
    let served = second.node(PRIMARY).serve(0);
    assert_eq!((second.node(PRIMARY).in_use(), second.node(PRIMARY).served()), (1, 1));
    drop(served);
    assert_eq!(second.node(PRIMARY).in_use(), 0);
}
