//! Three servers, and two proxies before them: the first by way of relays.

use std::path::PathBuf;
use std::time::Duration;

use shardway::clock;
use shardway::local_cluster::mariadb::CONTROL_PASSWORD;
use shardway::local_cluster::mariadb::CONTROL_USER;
use shardway::local_cluster::mariadb::MariaCluster;
use shardway::local_cluster::mariadb::MariaNode;
use shardway::local_cluster::mariadb::MariaSpec;
use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;

use crate::client::Client;
use crate::client::Row;
use crate::proxy::Outcome;
use crate::proxy::Proxy;
use crate::proxy::free_port;
use crate::proxy::prepare_at;
use crate::proxy::until;
use crate::relay::Relay;

pub(crate) const SHARDS: usize = 3;
/// How long something may still be prepared, once nobody strikes any more.
pub(crate) const PREPARED_MAX: Duration = Duration::from_secs(20);

const SCHEMA: &str = "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE moves (account bigint, token bigint, amount bigint NOT NULL, PRIMARY KEY (account, token));
CREATE TABLE orders (id bigint AUTO_INCREMENT PRIMARY KEY, who int NOT NULL);
CREATE TABLE t (id bigint PRIMARY KEY, note varchar(20))";

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    First,
    Second,
}

pub(crate) struct House {
    // End before the servers do.
    proxies: [Option<Proxy>; 2],
    pub(crate) cluster: MariaCluster,
    pub(crate) relays: Vec<Relay>,
    ports: [u16; 2],
    maps: [String; 2],
}

impl House {
    pub(crate) async fn build() -> Outcome<Self> {
        let cluster = MariaCluster::start(MariaSpec { shards: SHARDS, replicas: 0, ..MariaSpec::default() }).await?;
        for node in cluster.nodes() {
            node.value("shop", SCHEMA).await?;
        }
        let relays: Vec<Relay> = cluster.nodes().iter().map(|node| Relay::of_mysql(node.port())).collect();
        let ports = [free_port()?, free_port()?];
        let servers = [
            relays.iter().map(|it| it.port).collect::<Vec<_>>(),
            cluster.nodes().iter().map(MariaNode::port).collect::<Vec<_>>(),
        ];
        let map = |which: usize| {
            let shards: String = (1..)
                .zip(&servers[which])
                .map(|(place, port)| format!("      s{place}: ['127.0.0.1:{port}']\n"))
                .collect();
            format!(
                "version: 1\nlisten: {{mysql: 127.0.0.1:{}}}\nusers: {{{USER}: {{password: {PASSWORD}}}}}\ndatabases:\n  \
                 shop:\n    engine: mysql\n    control: {{user: {CONTROL_USER}, password: {CONTROL_PASSWORD}}}\n    \
                 shards:\n{shards}    groups: {{key: {{key: bigint, tables: {{accounts: id, moves: account, orders: id, t: \
                 id}}}}}}\n    failover: {{wait: 20s}}\n",
                ports[which]
            )
        };
        let maps = [map(0), map(1)];
        prepare_at(cluster.dir(), &maps[1])?;
        let mut house = Self { proxies: [None, None], cluster, relays, ports, maps };
        for which in [Which::First, Which::Second] {
            house.serve(which).await?;
            // Both know by now who can prepare.
            until("a transaction over all shards", async || {
                let mut client = house.client(which)?;
                client.done("BEGIN")?;
                let all = (1..=12).all(|id| client.done(&format!("INSERT INTO t (id) VALUES ({id})")).is_ok());
                client.done("ROLLBACK")?;
                Ok(all)
            })
            .await?;
        }
        Ok(house)
    }

    /// Starts one, in the place of what runs there.
    pub(crate) async fn serve(&mut self, which: Which) -> Outcome {
        self.kill(which);
        let (place, port) = (which as usize, self.ports[which as usize]);
        let dir: PathBuf = self.cluster.dir().join(format!("proxy-{place}"));
        let answers = async || {
            let client = Client::connect(port, USER, PASSWORD, "shop");
            client.is_ok_and(|mut it| it.done("SELECT id FROM t WHERE id = 1").is_ok())
        };
        self.proxies[place] = Some(Proxy::start_when(&dir, port, &self.maps[place], &[], answers).await?);
        Ok(())
    }

    pub(crate) fn kill(&mut self, which: Which) {
        self.proxies[which as usize] = None;
    }

    pub(crate) fn port(&self, which: Which) -> u16 {
        self.ports[which as usize]
    }

    pub(crate) fn client(&self, which: Which) -> Outcome<Client> {
        Ok(Client::connect(self.port(which), USER, PASSWORD, "shop")?)
    }

    pub(crate) fn direct(&self, shard: usize) -> Outcome<Client> {
        Ok(Client::connect(self.cluster.nodes()[shard].port(), USER, PASSWORD, "shop")?)
    }

    /// The rows of all servers, asked of each by itself.
    pub(crate) fn rows(&self, sql: &str) -> Outcome<Vec<Row>> {
        let mut all = Vec::new();
        for shard in 0..SHARDS {
            all.extend(self.direct(shard)?.done(sql)?.rows);
        }
        Ok(all)
    }

    pub(crate) fn log(&self) -> String {
        let said = |it: &Option<Proxy>| it.as_ref().map(Proxy::log).unwrap_or_default();
        self.proxies.iter().map(said).collect::<Vec<_>>().join("\n--\n")
    }

    /// How many transactions are prepared, on all servers.
    pub(crate) async fn prepared(&self) -> Outcome<usize> {
        let mut count = 0;
        for shard in 0..SHARDS {
            count += self.direct(shard)?.done("XA RECOVER")?.rows.len();
        }
        Ok(count)
    }

    /// Waits until nothing is prepared any more on any server.
    pub(crate) async fn settled(&self) -> Outcome {
        let begun = clock::now();
        let mut left = 0;
        until("the end of what was prepared", async || {
            left = self.prepared().await?;
            Ok(left == 0 || clock::now().since(begun) > PREPARED_MAX)
        })
        .await?;
        if left == 0 { Ok(()) } else { Err(format!("{left} prepared after {PREPARED_MAX:?}:\n{}", self.log()).into()) }
    }

    pub(crate) async fn stop(mut self) -> Outcome {
        for proxy in &mut self.proxies {
            if let Some(proxy) = proxy.take() {
                proxy.stop().await?;
            }
        }
        Ok(self.cluster.stop().await?)
    }
}

/// A cell that is a number.
pub(crate) fn number(row: &Row, place: usize) -> i64 {
    let cell = row.get(place).and_then(Option::as_deref).unwrap_or_default();
    std::str::from_utf8(cell).ok().and_then(|it| it.parse().ok()).expect("a number")
}
