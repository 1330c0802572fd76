//! Two shards, a proxy before them, and a plain database with the same tables.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::server;

use crate::relay::Relay;
use crate::wire::Wire;

/// Everything a test stands on.
pub struct House {
    cluster: Option<Cluster>,
    /// The proxy's port.
    pub proxy: u16,
    /// Between proxy and servers, one a shard.
    pub relays: Vec<Relay>,
    stop: server::Stop,
    server: Option<JoinHandle<Result<(), server::StartError>>>,
    runtime: tokio::runtime::Runtime,
}

/// The tables, as the shop's map has them.
const TABLES: [&str; 3] = [
    "CREATE TABLE customers (id bigint PRIMARY KEY, name text)",
    "CREATE TABLE settings (name text PRIMARY KEY, value text)",
    "CREATE TABLE orders (customer_id bigint REFERENCES customers DEFERRABLE, id bigint, PRIMARY KEY (customer_id, id))",
];

impl House {
    /// Builds it; `pool` is what the map says of pools, `more` what else it says.
    pub fn build(pool: &str, more: &str) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let cluster = runtime
            .block_on(Cluster::start(ClusterSpec { replicas: 0, ..ClusterSpec::default() }))
            .expect("Postgres starts");
        let relays: Vec<Relay> = cluster.nodes().iter().map(|node| Relay::start(node.port())).collect();
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let mut map = cluster.map_yaml(port, None);
        for (node, relay) in cluster.nodes().iter().zip(&relays) {
            map = map.replace(&format!("port: {}}}", node.port()), &format!("port: {}}}", relay.port));
        }
        map.push_str(&format!("pool: {{{pool}}}\n{more}"));
        let path = cluster.dir().join("shard-map.yaml");
        fs::write(&path, map).expect("the map is written");
        let stop = server::Stop::default();
        let settings = server::Settings { map: path, workers: Some(1), ..server::Settings::default() };
        let stopper = stop.clone();
        let server = thread::spawn(move || server::run(&settings, &stopper));
        let house = Self { cluster: Some(cluster), proxy: port, relays, stop, server: Some(server), runtime };
        let began = Instant::now();
        while Wire::connect(house.proxy, "shop").is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "the proxy does not answer");
            thread::yield_now();
        }
        let mut client = house.client();
        house.runtime.block_on(async {
            let node = &house.cluster.as_ref().expect("it runs").nodes()[0];
            node.value("shop", "CREATE DATABASE plain OWNER demo").await.expect("a plain database");
        });
        let mut plain = house.plain();
        for table in TABLES {
            client.rows(table);
            plain.rows(table);
        }
        house
    }

    /// A client of the proxy.
    pub fn client(&self) -> Wire {
        Wire::connect(self.proxy, "shop").expect("the proxy lets in")
    }

    fn port(&self, shard: usize) -> u16 {
        self.cluster.as_ref().expect("it runs").nodes()[shard].port()
    }

    /// A client of a shard's own server.
    pub fn node(&self, shard: usize) -> Wire {
        Wire::connect(self.port(shard), "shop").expect("the server lets in")
    }

    /// A client of the plain database.
    pub fn plain(&self) -> Wire {
        Wire::connect(self.port(0), "plain").expect("the server lets in")
    }

    /// Two keys of the first shard, and one of the second.
    pub fn keys(&self) -> [i64; 3] {
        let mut client = self.client();
        let mut at = [Vec::new(), Vec::new()];
        for key in 1..50_i64 {
            let sql = format!("INSERT INTO customers VALUES ({key}, 'probe') RETURNING inet_server_port()");
            let port = client.rows(&sql)[0].clone();
            at[usize::from(port != self.port(0).to_string())].push(key);
            client.rows(&format!("DELETE FROM customers WHERE id = {key}"));
        }
        [at[0][0], at[0][1], at[1][0]]
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
