//! Two servers with relays before them, a proxy in this process, and two databases: one on both, one on the first alone.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use shardway::local_cluster::Durability;
use shardway::local_cluster::mariadb::CONTROL_PASSWORD;
use shardway::local_cluster::mariadb::CONTROL_USER;
use shardway::local_cluster::mariadb::MariaCluster;
use shardway::local_cluster::mariadb::MariaNode;
use shardway::local_cluster::mariadb::MariaSpec;
use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;
use shardway::server;

use crate::client::Client;
use crate::relay::Relay;

/// How long anything may take.
pub(crate) const HANG: Duration = Duration::from_secs(20);

/// On both servers, and on the first alone.
pub(crate) const BOTH: &str = "d2";
pub(crate) const ONE: &str = "d1";

pub(crate) const SCHEMA: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, a int, note varchar(20));
CREATE TABLE items (id bigint, no int, PRIMARY KEY (id, no));
CREATE TABLE refs (code varchar(10) PRIMARY KEY, n int)";

/// Everything a test stands on.
pub(crate) struct House {
    cluster: Option<MariaCluster>,
    pub(crate) proxy: u16,
    /// Between proxy and servers, one a shard.
    pub(crate) relays: Vec<Relay>,
    stop: server::Stop,
    server: Option<JoinHandle<Result<(), server::StartError>>>,
    runtime: tokio::runtime::Runtime,
}

impl House {
    /// Builds it; `pool` is what the map says of pools, `more` what else it says.
    pub(crate) fn build(pool: &str, more: &str) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let spec = MariaSpec { shards: 2, replicas: 0, durability: Durability::Volatile, ..MariaSpec::default() };
        let cluster = runtime.block_on(MariaCluster::start(spec)).expect("MariaDB starts");
        for node in cluster.nodes() {
            for database in [BOTH, ONE] {
                runtime.block_on(node.create_database(database)).expect("a database");
                let mut direct = Client::connect(node.port(), USER, PASSWORD, database).expect("a login");
                direct.done(SCHEMA).expect("tables");
            }
        }
        let relays: Vec<Relay> = cluster.nodes().iter().map(|node| Relay::of_mysql(node.port())).collect();
        let proxy = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let database = |name: &str, shards: usize| {
            let shards = relays.iter().take(shards).enumerate();
            let shards: String =
                shards.map(|(at, relay)| format!("      s{}: ['127.0.0.1:{}']\n", at + 1, relay.port)).collect();
            format!(
                "  {name}:\n    engine: mysql\n    local_files: allow\n    control: {{user: {CONTROL_USER}, password: {CONTROL_PASSWORD}}}\n    \
                 shards:\n{shards}    groups:\n      number: {{key: bigint, tables: {{t: id, items: id}}}}\n    \
                 reference: [refs]\n"
            )
        };
        let map = format!(
            "version: 1\nlisten: {{mysql: 127.0.0.1:{proxy}}}\nusers: {{{USER}: {{password: {PASSWORD}}}, \
             {CONTROL_USER}: {{password: {CONTROL_PASSWORD}}}}}\npool: {{{pool}}}\n{more}databases:\n{}{}",
            database(ONE, 1),
            database(BOTH, 2)
        );
        let path = cluster.dir().join("shard-map.yaml");
        fs::write(&path, map).expect("the map is written");
        let stop = server::Stop::default();
        let settings = server::Settings { map: path, workers: Some(1), ..server::Settings::default() };
        let stopper = stop.clone();
        let server = thread::spawn(move || server::run(&settings, &stopper));
        let house = Self { cluster: Some(cluster), proxy, relays, stop, server: Some(server), runtime };
        for database in [ONE, BOTH] {
            let knows = || {
                let client = Client::connect(proxy, USER, PASSWORD, database);
                client.is_ok_and(|mut client| client.one("SELECT a FROM t WHERE id = 1").error.is_none())
            };
            until("the proxy to answer", knows);
        }
        house
    }

    /// A client of the proxy.
    pub(crate) fn client(&self, database: &str) -> Client {
        Client::connect(self.proxy, USER, PASSWORD, database).expect("the proxy lets in")
    }

    /// A client of a shard's own server.
    pub(crate) fn direct(&self, shard: usize, database: &str) -> Client {
        Client::connect(self.node(shard).port(), USER, PASSWORD, database).expect("the server lets in")
    }

    /// A folder that goes with the servers.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.cluster.as_ref().expect("it runs").dir()
    }

    /// One that sees all of a server's transactions.
    pub(crate) fn control(&self, shard: usize) -> Client {
        let port = self.node(shard).port();
        Client::connect(port, CONTROL_USER, CONTROL_PASSWORD, "").expect("the server lets in")
    }

    pub(crate) fn node(&self, shard: usize) -> &MariaNode {
        &self.cluster.as_ref().expect("it runs").nodes()[shard]
    }

    /// Does something that waits.
    pub(crate) fn wait<T>(&self, deed: impl Future<Output = T>) -> T {
        self.runtime.block_on(deed)
    }

    /// A key of each shard.
    pub(crate) fn keys(&self) -> [i64; 2] {
        let mut client = self.client(BOTH);
        let mut direct = self.direct(0, BOTH);
        let mut keys = [None, None];
        for key in 1..100_i64 {
            client.done(&format!("INSERT INTO t (id) VALUES ({key})")).expect("a row");
            let there = direct.done(&format!("SELECT id FROM t WHERE id = {key}")).expect("an answer").rows.len();
            keys[1 - there].get_or_insert(key);
            client.done(&format!("DELETE FROM t WHERE id = {key}")).expect("no row");
            if let [Some(one), Some(two)] = keys {
                return [one, two];
            }
        }
        panic!("all keys are on one shard");
    }
}

/// Looks until it is so.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < HANG, "waited {HANG:?} for {what}");
        thread::yield_now();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
        if let Some(cluster) = self.cluster.take() {
            let _ = self.runtime.block_on(cluster.stop());
        }
    }
}
