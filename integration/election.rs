//! Three proxies that share a map by etcd, of which one leads failovers: whichever of them, of etcd's members and of the servers
//! dies, freezes or is cut off, what was acknowledged is there once, and nobody promotes beside another.
//!
//! `SHARDWAY_ELECTIONS` says how many failovers are led one after the other (3).

mod etcd;
mod ledger;
mod network;
mod proxy;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use etcd::EtcdNode;
use etcd::etcds;
use etcd::shardway;
use ledger::Ledger;
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

const PROXIES: usize = 3;
const CLIENTS: usize = 6;
/// Between two steps, so many writes are acknowledged.
const WRITES_BETWEEN: usize = 50;

const REST: &str = "    groups: {ledger: {key: bigint, tables: {ledger: id}}}
    control: {user: postgres}
    failover: {by: shardway, wait: 60s}
users: {demo: {auth: trust}}
";

const READY: &str = "a failure of the primary will be led";
const BEGUN: &str = "the primary is gone: a failover begins";
const CHOSEN: &str = "chosen to be the primary: it has most";
/// What a proxy says of every step that it has taken.
const ACTS: [&str; 3] = ["cut off from the former primary", "\"promoted\"", "told to follow the primary"];

/// The address by which one proxy reaches etcd, and nobody else.
fn etcd_host(proxy: usize) -> String {
    format!("127.0.0.{}", 11 + proxy)
}

/// A shard of three servers, an etcd of three members, and three proxies.
struct House {
    cluster: Cluster,
    network: Network,
    etcds: Vec<EtcdNode>,
    place: String,
    ports: Vec<u16>,
    proxies: Vec<Option<Proxy>>,
    /// Does not answer for a while.
    frozen: Option<usize>,
    primary: usize,
}

impl House {
    async fn build(network: Network) -> Outcome<Self> {
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
        let ports = (0..PROXIES).map(|_| free_port()).collect::<Outcome<Vec<_>>>()?;
        let hosts: Vec<String> = (0..PROXIES).map(etcd_host).collect();
        let (etcds, place) = etcds(cluster.dir(), 3, "http", &hosts, &[])?;
        let map = cluster.dir().join("map.yaml");
        fs::write(&map, map_of(&cluster, ports[0], |_| true, REST))?;
        let proxies = (0..PROXIES).map(|_| None).collect();
        let mut house = Self { cluster, network, etcds, place, ports, proxies, frozen: None, primary: 0 };
        house.confirm().await?;
        let push = ["map", "push", &map.to_string_lossy(), "--map", &house.place, "--wait", "0"];
        until("etcd to take the map", async || {
            let (done, said) = shardway(&push, &[]).await?;
            Ok(done || said.contains("is in force"))
        })
        .await?;
        for place in 0..PROXIES {
            house.serve(place).await?;
        }
        Ok(house)
    }

    async fn serve(&mut self, place: usize) -> Outcome {
        let (port, dir) = (self.ports[place], self.cluster.dir().join(format!("proxy-{place}")));
        let map = PathBuf::from(self.place.replace("127.0.0.1:", &format!("{}:", etcd_host(place))));
        let mut proxy = Proxy::spawn(&dir, port, map, &["--listen-postgres", &format!("127.0.0.1:{port}")], &[])?;
        proxy.serves().await?;
        self.proxies[place] = Some(proxy);
        Ok(())
    }

    fn at(&self, place: usize) -> &Node {
        &self.cluster.nodes()[place]
    }

    /// The proxies that answer.
    fn living(&self) -> impl Iterator<Item = (usize, &Proxy)> {
        let frozen = self.frozen;
        let living = (0..).zip(&self.proxies).filter_map(|(place, it)| Some((place, it.as_ref()?)));
        living.filter(move |(place, _)| Some(*place) != frozen)
    }

    fn proxy(&self, place: usize) -> Outcome<&Proxy> {
        Ok(self.proxies[place].as_ref().ok_or("it does not run")?)
    }

    fn logs(&self) -> String {
        self.proxies.iter().flatten().map(Proxy::log).collect::<Vec<_>>().join("\n--\n")
    }

    /// Waits until a proxy other than `not` says that it leads: that one.
    async fn leader(&self, not: Option<usize>) -> Outcome<usize> {
        let mut found = None;
        until("a leader", async || {
            for (place, proxy) in self.living().filter(|(place, _)| Some(*place) != not) {
                let rows = proxy.console().await?.query("SHOW MAP").await?;
                let leads = |row: &Vec<Option<String>>| {
                    text(row, 1).is_ok_and(|it| it.contains(", this one") && it.contains(", leads"))
                };
                if rows.iter().any(leads) {
                    found = Some(place);
                }
            }
            Ok(found.is_some())
        })
        .await
        .map_err(|error| format!("{error}\n{}", self.logs()))?;
        found.ok_or_else(|| "nobody leads".into())
    }

    /// What some proxy that answers takes each server for.
    async fn roles(&self) -> Outcome<Vec<String>> {
        let (_, proxy) = self.living().next().ok_or("no proxy answers")?;
        let rows = proxy.console().await?.query("SHOW NODES").await?;
        let role = |node: &Node| {
            let row = rows.iter().find(|row| text(row, 2).is_ok_and(|it| it == node.name()));
            Ok(text(row.ok_or("no such node")?, 4)?.to_owned())
        };
        self.cluster.nodes().iter().map(role).collect()
    }

    /// Has the primary's commits wait for one of the others.
    async fn confirm(&self) -> Outcome {
        let others = (0..3).filter(|it| *it != self.primary).map(|it| format!("\"{}\"", self.at(it).name()));
        let names = format!("ANY 1 ({})", others.collect::<Vec<_>>().join(", "));
        let primary = self.at(self.primary);
        primary.value("shop", &format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'")).await?;
        primary.value("shop", "SELECT pg_reload_conf()").await?;
        Ok(())
    }

    /// Waits until every proxy has said that often that it would lead.
    async fn until_ready(&self, counts: &[usize]) -> Outcome {
        until("all to be ready", async || {
            Ok(self.proxies.iter().zip(counts).all(|(it, count)| told(it.as_ref(), READY) >= *count))
        })
        .await
        .map_err(|error| format!("{error}\n{}", self.logs()).into())
    }

    async fn until_written(&self, ledger: &Ledger) -> Outcome {
        let before = ledger.done();
        let waited = until("writes", async || Ok(ledger.done() >= before + WRITES_BETWEEN)).await;
        waited.map_err(|error| format!("{error}; {}\n{}", ledger.told(), self.logs()).into())
    }

    /// Waits until a proxy has said it, or another one leads.
    async fn until_told(&self, place: usize, what: &str) -> Outcome {
        let waited = until(what, async || Ok(told(self.proxies[place].as_ref(), what) > 0)).await;
        waited.map_err(|error| format!("{error}\n{}", self.logs()).into())
    }
}

/// How often a proxy has said something.
fn told(proxy: Option<&Proxy>, what: &str) -> usize {
    proxy.map_or(0, |it| it.log().matches(what).count())
}

fn acts(proxy: Option<&Proxy>) -> usize {
    ACTS.iter().map(|it| told(proxy, it)).sum()
}

/// Who fails besides the primary.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// The leading proxy is killed as soon as it has said that.
    Within(&'static str),
    /// It is frozen as soon as it has said that, and wakes when another one has finished.
    Frozen(&'static str),
    /// It is cut off from etcd, but not from the servers, until another one has finished.
    CutOff,
    /// It is killed before.
    Before,
    /// A member of etcd is killed before.
    Etcd,
}

const BLOWS: [Blow; 8] = [
    Blow::Within(BEGUN),
    Blow::CutOff,
    Blow::Frozen(CHOSEN),
    Blow::Etcd,
    Blow::Within(CHOSEN),
    Blow::Before,
    Blow::Frozen(BEGUN),
    Blow::Within("\"promoted\""),
];

/// One failover, and the return of all who were gone. How long it took until a write was acknowledged.
async fn fail_over(house: &mut House, ledger: &Ledger, round: usize, blow: Blow) -> Outcome<Duration> {
    house.until_written(ledger).await?;
    let (leader, former) = (house.leader(None).await?, house.primary);
    let etcd = round % house.etcds.len();
    match blow {
        Blow::Before => {
            house.proxies[leader] = None;
            house.leader(None).await?;
        }
        Blow::CutOff => {
            house.network.cut_address(&etcd_host(leader))?;
            house.leader(Some(leader)).await?;
        }
        Blow::Etcd => house.etcds[etcd].kill(),
        Blow::Within(_) | Blow::Frozen(_) => {}
    }
    let acted = acts(house.proxies[leader].as_ref());
    house.at(former).kill9().await?;
    let struck = ledger.mark();
    match blow {
        Blow::Within(what) => {
            house.until_told(leader, what).await?;
            house.proxies[leader] = None;
        }
        Blow::Frozen(what) => {
            house.until_told(leader, what).await?;
            house.proxy(leader)?.signal("STOP")?;
            house.frozen = Some(leader);
        }
        Blow::CutOff | Blow::Before | Blow::Etcd => {}
    }
    until("a write to be acknowledged", async || Ok(ledger.first_since_mark().is_some()))
        .await
        .map_err(|error| format!("{blow:?}: {error}; {}\n{}", ledger.told(), house.logs()))?;
    let gap = ledger.first_since_mark().map(|it| it.since(struck)).unwrap_or_default();
    let mut roles = Vec::new();
    until("one primary", async || {
        roles = house.roles().await?;
        Ok(roles.iter().filter(|it| *it == "primary").count() == 1 && roles[former] != "primary")
    })
    .await
    .map_err(|error| format!("{blow:?}: {error}: {roles:?}\n{}", house.logs()))?;
    house.primary = roles.iter().position(|it| it == "primary").ok_or("no primary")?;
    if matches!(blow, Blow::CutOff) {
        assert_eq!(acts(house.proxies[leader].as_ref()), acted, "who was cut off from etcd led:\n{}", house.logs());
    }
    match blow {
        Blow::Frozen(_) => {
            let acted = acts(house.proxies[leader].as_ref());
            house.proxy(leader)?.signal("CONT")?;
            house.frozen = None;
            house.proxy(leader)?.client().await?.query("SELECT id FROM ledger WHERE id = 1").await?;
            house.until_written(ledger).await?;
            assert_eq!(acts(house.proxies[leader].as_ref()), acted, "who was frozen led on:\n{}", house.logs());
        }
        Blow::CutOff => house.network.heal()?,
        Blow::Etcd => house.etcds[etcd].start()?,
        Blow::Before | Blow::Within(_) => {}
    }
    let leads = house.leader(None).await?;
    println!(
        "{blow:?}: {} to {}, proxy {leader} to {leads}, {gap:?}",
        house.at(former).name(),
        house.at(house.primary).name()
    );
    if house.proxies[leader].is_none() {
        house.serve(leader).await?;
    }
    // The former primary comes back as if nothing had happened, and is copied from the new one, as an operator does.
    house.until_ready(&[1; PROXIES]).await?;
    house.at(former).start().await?;
    until("the former primary to be fenced", async || Ok(house.roles().await?[former] == "fenced"))
        .await
        .map_err(|error| format!("{blow:?}: {error}\n{}", house.logs()))?;
    house.at(former).rebuild(house.at(house.primary)).await?;
    let counts: Vec<usize> = house.proxies.iter().map(|it| told(it.as_ref(), READY) + 1).collect();
    house.confirm().await?;
    house.until_ready(&counts).await?;
    until("the former primary to be a replica", async || Ok(house.roles().await?[former] == "replica")).await?;
    Ok(gap)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_once_whoever_else_fails() -> Outcome {
    let Some(network) = network::enter("what_was_acknowledged_is_there_once_whoever_else_fails")? else {
        return Ok(());
    };
    let can_cut = network.can_cut();
    let blows: Vec<Blow> = BLOWS.into_iter().filter(|it| can_cut || !matches!(it, Blow::CutOff)).collect();
    let count = std::env::var("SHARDWAY_ELECTIONS").map_or(3, |it| it.parse().expect("a number"));
    let mut house = House::build(network).await?;
    house.until_ready(&[1; PROXIES]).await?;
    let ledger = Arc::new(Ledger::default());
    let clients = ledger::start_among(&ledger, &house.ports, CLIENTS);
    let begun = clock::now();
    let mut gaps = Vec::new();
    for round in 0..count {
        gaps.push(fail_over(&mut house, &ledger, round, blows[round % blows.len()]).await?);
    }
    ledger.end();
    for client in clients {
        client.await?;
    }
    let held = house.at(house.primary).connect("shop").await?.query("SELECT id, part FROM ledger").await?;
    let (p50, p99) = (quantile(&mut gaps, 0.5), quantile(&mut gaps, 0.99));
    println!(
        "oracle: failovers led by one of three in {:?}: {count}; {}; without writes {p50:?} (p50), {p99:?} (p99)",
        clock::now().since(begun),
        ledger.told()
    );
    ledger.compare(&held).map_err(|error| format!("{error}\n{}", house.logs()))?;
    Ok(house.cluster.stop().await?)
}
