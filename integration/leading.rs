//! Failovers that shardway leads, on real servers, under clients that keep a ledger: what was acknowledged is there once,
//! whatever the primary suffers.
//!
//! `SHARDWAY_FAILOVERS` says how many are led one after the other (3).

mod ledger;
mod network;
mod proxy;

use std::sync::Arc;
use std::time::Duration;

use ledger::Ledger;
use network::Cut;
use network::Network;
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

const CLIENTS: usize = 6;
/// Between two steps, so many writes are acknowledged.
const WRITES_BETWEEN: usize = 100;

const REST: &str = "    groups: {ledger: {key: bigint, tables: {ledger: id}}}
    control: {user: postgres}
    failover: {by: shardway, wait: 60s, fence: [FENCE]}
users: {demo: {auth: trust}}
";

/// What the proxy says once it would lead, when it has begun, and when it is done.
const READY: &str = "a failure of the primary will be led";
const BEGUN: &str = "the primary is gone: a failover begins";
const UNDONE: &str = "the primary is back: the failover is undone";
const OPENED: &str = "the failover is over: writes go on";
const LOSS: &str = "may lack acknowledged writes";

/// Three servers of one shard, and a proxy that leads.
struct House {
    cluster: Cluster,
    port: u16,
    map: String,
    proxy: Option<Proxy>,
    primary: usize,
}

impl House {
    /// Its commits wait for `names`; `fence` stops machines.
    async fn build(names: &str, fence: &str) -> Outcome<Self> {
        let named = |node: &str| (node.to_owned(), vec![("cluster_name".to_owned(), node.to_owned())]);
        let cluster = Cluster::start(ClusterSpec {
            shards: 1,
            replicas: 2,
            settings: vec![("wal_receiver_timeout".to_owned(), "2s".to_owned())],
            node_settings: ["s1-a", "s1-b", "s1-c"].map(named).into_iter().collect(),
            ..ClusterSpec::default()
        })
        .await?;
        Client::connect(cluster.nodes()[0].port(), "demo", "shop").await?.query(ledger::TABLE).await?;
        let port = free_port()?;
        let map = map_of(&cluster, port, |_| true, &REST.replace("FENCE", fence));
        let house = Self { cluster, port, map, proxy: None, primary: 0 };
        house.confirm(names).await?;
        Ok(house)
    }

    async fn serve(&mut self) -> Outcome {
        self.proxy = None;
        self.proxy = Some(Proxy::start(&self.cluster, self.port, &self.map, &[]).await?);
        Ok(())
    }

    fn at(&self, place: usize) -> &Node {
        &self.cluster.nodes()[place]
    }

    fn log(&self) -> String {
        self.proxy.as_ref().map(Proxy::log).unwrap_or_default()
    }

    /// Has the primary's commits wait for these.
    async fn confirm(&self, names: &str) -> Outcome {
        let primary = self.at(self.primary);
        primary.value("shop", &format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'")).await?;
        primary.value("shop", "SELECT pg_reload_conf()").await?;
        Ok(())
    }

    /// How often the proxy has said something.
    fn told(&self, what: &str) -> usize {
        self.log().matches(what).count()
    }

    async fn until_told(&self, what: &str, count: usize) -> Outcome {
        let waited = until(what, async || Ok(self.told(what) >= count)).await;
        waited.map_err(|error| format!("{error}\n{}", self.log()).into())
    }

    async fn role(&self, place: usize) -> Outcome<String> {
        let proxy = self.proxy.as_ref().ok_or("it runs")?;
        let rows = proxy.console().await?.query("SHOW NODES").await?;
        let row = rows.iter().find(|row| text(row, 2).is_ok_and(|it| it == self.at(place).name()));
        Ok(text(row.ok_or("no such node")?, 4)?.to_owned())
    }

    async fn until_role(&self, place: usize, role: &str) -> Outcome {
        let waited = until(role, async || Ok(self.role(place).await? == role)).await;
        waited.map_err(|error| format!("{} is not: {error}\n{}", self.at(place).name(), self.log()).into())
    }

    async fn find_primary(&mut self) -> Outcome {
        for place in 0..self.cluster.nodes().len() {
            if self.role(place).await? == "primary" {
                self.primary = place;
                return Ok(());
            }
        }
        Err("no primary".into())
    }

    async fn until_written(&self, ledger: &Ledger) -> Outcome {
        let before = ledger.done();
        let waited = until("writes", async || Ok(ledger.done() >= before + WRITES_BETWEEN)).await;
        waited.map_err(|error| format!("{error}; {}\n{}", ledger.told(), self.log()).into())
    }

    /// As an operator does: the former primary is copied from the new one, which waits for it again.
    async fn rebuild(&self, former: usize) -> Outcome {
        let ready = self.told(READY);
        self.at(former).rebuild(self.at(self.primary)).await?;
        let others = (0..3).filter(|it| *it != self.primary).map(|it| format!("\"{}\"", self.at(it).name()));
        self.confirm(&format!("ANY 1 ({})", others.collect::<Vec<_>>().join(", "))).await?;
        self.until_told(READY, ready + 1).await?;
        self.until_role(former, "replica").await
    }
}

/// What the primary suffers.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// It is killed with all its sessions, and comes back when it has been succeeded.
    Kill,
    /// It is frozen, and wakes when it has been succeeded.
    Freeze,
    /// The network drops what goes to it, or comes from it, until it has been succeeded.
    Cut(Cut),
}

const BLOWS: [Blow; 5] = [Blow::Kill, Blow::Cut(Cut::Both), Blow::Freeze, Blow::Cut(Cut::Toward), Blow::Cut(Cut::From)];
/// Those that need no network of the test's own.
const ANYWHERE: [Blow; 2] = [Blow::Kill, Blow::Freeze];

/// One failover, and the former primary's return. How long it took until a write was acknowledged.
async fn fail_over(house: &mut House, network: &Network, ledger: &Ledger, blow: Blow) -> Outcome<Duration> {
    house.until_written(ledger).await?;
    let (former, opened) = (house.primary, house.told(OPENED));
    let struck = clock::now();
    match blow {
        Blow::Kill => house.at(former).kill9().await?,
        Blow::Freeze => house.at(former).freeze().await?,
        Blow::Cut(cut) => network.cut(house.at(former).port(), cut)?,
    }
    ledger.mark();
    house.until_told(OPENED, opened + 1).await?;
    until("a write to be acknowledged", async || Ok(ledger.first_since_mark().is_some()))
        .await
        .map_err(|error| format!("{error}; {}\n{}", ledger.told(), house.log()))?;
    let gap = ledger.first_since_mark().map(|it| it.since(struck)).unwrap_or_default();
    house.find_primary().await?;
    assert_ne!(house.primary, former);
    // It comes back as if nothing had happened.
    match blow {
        Blow::Kill => house.at(former).start().await?,
        Blow::Freeze => house.at(former).thaw().await?,
        Blow::Cut(_) => network.heal()?,
    }
    house.until_role(former, "fenced").await?;
    house.until_written(ledger).await?;
    println!("{blow:?}: {} to {}, {gap:?}", house.at(former).name(), house.at(house.primary).name());
    Ok(gap)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_once_whatever_the_primary_suffers() -> Outcome {
    let Some(network) = network::enter("what_was_acknowledged_is_there_once_whatever_the_primary_suffers")? else {
        return Ok(());
    };
    let blows = if network.can_cut() { &BLOWS[..] } else { &ANYWHERE };
    let count = std::env::var("SHARDWAY_FAILOVERS").map_or(3, |it| it.parse().expect("a number"));
    let mut house = House::build(r#"ANY 1 ("s1-b", "s1-c")"#, "").await?;
    house.serve().await?;
    house.until_told(READY, 1).await?;
    let ledger = Arc::new(Ledger::default());
    let clients = ledger::start(&ledger, house.port, CLIENTS);
    let mut gaps = Vec::new();
    for round in 0..count {
        let former = house.primary;
        gaps.push(fail_over(&mut house, &network, &ledger, blows[round % blows.len()]).await?);
        if round + 1 < count {
            house.rebuild(former).await?;
        }
    }
    ledger.end();
    for client in clients {
        client.await?;
    }
    let held = house.at(house.primary).connect("shop").await?.query("SELECT id, part FROM ledger").await?;
    let (p50, p99) = (quantile(&mut gaps, 0.5), quantile(&mut gaps, 0.99));
    println!("oracle: failovers led: {count}; {}; without writes {p50:?} (p50), {p99:?} (p99)", ledger.told());
    ledger.compare(&held).map_err(|error| format!("{error}\n{}", house.log()))?;
    // Nothing was lost, and nobody is told that something may be.
    assert_eq!(house.told(LOSS), 0, "{}", house.log());
    Ok(house.cluster.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_another_process_has_left_is_finished() -> Outcome {
    let mut house = House::build(r#"ANY 1 ("s1-b", "s1-c")"#, "").await?;
    house.serve().await?;
    house.until_told(READY, 1).await?;
    // One standby cannot be cut off, so that it cannot be finished.
    house.at(2).freeze().await?;
    house.at(0).kill9().await?;
    house.until_told("the failover cannot go on", 1).await?;
    assert_eq!(house.told(BEGUN), 0, "{}", house.log());
    house.proxy = None;
    // What that process had done when it died: both were cut off, and none was chosen.
    house.at(2).thaw().await?;
    for place in [1, 2] {
        let node = house.at(place);
        let before = node.value("postgres", "SHOW primary_conninfo").await?.unwrap_or_default();
        let mark =
            ": shardway epoch 7 recruited - after s1=2Da timeline 1 names ANY=201=20=28=22s1=2Db=22=2C=22s1=2Dc=22=29";
        node.value("postgres", &format!("ALTER SYSTEM SET recovery_end_command = '{mark}'")).await?;
        let severed = format!("{before} hostaddr='' host='/shardway/recruited' port='1'").replace('\'', "''");
        node.value("postgres", &format!("ALTER SYSTEM SET primary_conninfo = '{severed}'")).await?;
        node.value("postgres", "SELECT pg_reload_conf()").await?;
    }
    house.serve().await?;
    house.until_told(OPENED, 1).await?;
    house.proxy.as_ref().ok_or("it runs")?.client().await?.query("INSERT INTO ledger VALUES (1, 0)").await?;
    house.find_primary().await?;
    let mark = house.at(house.primary).value("postgres", "SHOW recovery_end_command").await?.unwrap_or_default();
    assert!(mark.starts_with(": shardway epoch 8 chosen"), "{mark}");
    // The former one is known when it comes back, by a process that has never seen it, too.
    house.at(0).start().await?;
    house.until_role(0, "fenced").await?;
    house.serve().await?;
    house.until_role(0, "fenced").await?;
    Ok(house.cluster.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_back_before_another_was_chosen_stays() -> Outcome {
    let mut house = House::build("", "'false'").await?;
    house.serve().await?;
    house.until_told(READY, 1).await?;
    house.at(0).kill9().await?;
    // Its commits waited for nobody: without the command's success it may still take writes.
    house.until_told("has not stopped the former primary", 1).await?;
    house.at(0).start().await?;
    house.until_told(UNDONE, 1).await?;
    house.until_role(0, "primary").await?;
    house.proxy.as_ref().ok_or("it runs")?.client().await?.query("INSERT INTO ledger VALUES (1, 0)").await?;
    for place in [1, 2] {
        house.at(place).until_streaming().await?;
        house.at(place).until_replayed(house.at(0)).await?;
    }
    assert_eq!(house.told(OPENED), 0, "{}", house.log());
    Ok(house.cluster.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_nobody_is_succeeded_once_it_has_been_fenced() -> Outcome {
    let mut house = House::build("", "/bin/sh, -c, 'echo \"$@\" > PLACE', sh").await?;
    let fenced = house.cluster.dir().join("fenced");
    house.map = house.map.replace("PLACE", &fenced.to_string_lossy());
    house.serve().await?;
    house.until_told(READY, 1).await?;
    house.at(0).kill9().await?;
    house.until_told(OPENED, 1).await?;
    let said = std::fs::read_to_string(fenced)?;
    assert_eq!(said, format!("s1-a 127.0.0.1 {}\n", house.at(0).port()));
    house.proxy.as_ref().ok_or("it runs")?.client().await?.query("INSERT INTO ledger VALUES (1, 0)").await?;
    Ok(house.cluster.stop().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_from_a_proxy_leads_from_then_on() -> Outcome {
    let mut house = House::build(r#"ANY 1 ("s1-b", "s1-c")"#, "").await?;
    house.serve().await?;
    house.until_told(READY, 1).await?;
    let former = house.proxy.take().ok_or("it runs")?;
    // A transaction keeps the former process there, which leads no more.
    let mut within = former.client().await?;
    within.query("BEGIN").await?;
    within.query("INSERT INTO ledger VALUES (1, 0)").await?;
    house.proxy = Some(former.taken_over().await?);
    house.until_told(READY, 1).await?;
    house.at(0).kill9().await?;
    house.until_told(OPENED, 1).await?;
    house.proxy.as_ref().ok_or("it runs")?.client().await?.query("INSERT INTO ledger VALUES (2, 0)").await?;
    assert!(within.query("COMMIT").await.is_err(), "a transaction outlives its server");
    let events = house.proxy.as_ref().ok_or("it runs")?.console().await?.query("SHOW EVENTS").await?;
    for what in ["a failure of this primary will be led", "failover 1 begins", "it has most", "writes go on"] {
        let is = |it: &Vec<Option<String>>| {
            text(it, 4).is_ok_and(|it| it == "failover") && text(it, 5).is_ok_and(|it| it.contains(what))
        };
        assert!(events.iter().any(is), "{what}: {events:?}");
    }
    assert_eq!(former.log().matches(BEGUN).count(), 0, "{}", former.log());
    Ok(house.cluster.stop().await?)
}
