//! Three shards that can commit together, relays before them, and a proxy behind those.

use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;

use crate::bytes::Answer;
use crate::bytes::Client;
use crate::proxy::Outcome;
use crate::proxy::Proxy;
use crate::proxy::free_port;
use crate::proxy::map_of;
use crate::proxy::prepare;
use crate::proxy::until;
use crate::relay::Relay;

const TABLES: &str = "    groups: {key: {key: bigint, tables: {accounts: id, lists: id}}}
    failover: {wait: 20s}
users: {demo: {auth: trust}}
";

pub(crate) const SHARDS: usize = 3;

pub(crate) struct House {
    // Ends before the servers do.
    proxy: Option<Proxy>,
    pub(crate) cluster: Cluster,
    pub(crate) relays: Vec<Relay>,
    map: String,
    port: u16,
    environment: Vec<(String, String)>,
}

impl House {
    /// A house with these tables on every shard.
    pub(crate) async fn build(tables: &[&str], environment: &[(&str, &str)]) -> Outcome<Self> {
        let cluster = Cluster::start(ClusterSpec { shards: SHARDS, replicas: 0, ..ClusterSpec::default() }).await?;
        for node in cluster.primaries() {
            for text in tables {
                node.value("shop", text).await?;
            }
            let owned = "SELECT string_agg(format('ALTER TABLE %s OWNER TO demo', oid::regclass), ';') FROM pg_class \
                 WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";
            let owned = node.value("shop", owned).await?.ok_or("a table")?;
            node.value("shop", &owned).await?;
        }
        let relays: Vec<Relay> = cluster.nodes().iter().map(|node| Relay::start(node.port())).collect();
        let port = free_port()?;
        let mut map = map_of(&cluster, port, |_| true, TABLES);
        for (node, relay) in cluster.nodes().iter().zip(&relays) {
            map = map.replace(&format!("port: {}}}", node.port()), &format!("port: {}}}", relay.port));
        }
        prepare(&cluster, &map)?;
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut house = Self { proxy: None, cluster, relays, map, port, environment };
        house.serve().await?;
        Ok(house)
    }

    /// Starts the proxy, in the place of one that runs.
    pub(crate) async fn serve(&mut self) -> Outcome {
        self.proxy = None;
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.proxy = Some(Proxy::start(&self.cluster, self.port, &self.map, &environment).await?);
        let mut console = self.console()?;
        until("the proxy to know who can prepare", async || {
            let rows = console.simple("SHOW TWO_PHASE").rows;
            Ok(rows.len() >= SHARDS
                && rows.iter().all(|row| row[2].as_deref().is_some_and(|it| it.starts_with(b"yes"))))
        })
        .await
    }

    /// Kills the proxy.
    pub(crate) fn kill_proxy(&mut self) {
        self.proxy = None;
    }

    pub(crate) fn client(&self) -> Outcome<Client> {
        Ok(Client::connect(self.port, "demo", "shop")?)
    }

    pub(crate) fn console(&self) -> Outcome<Client> {
        Ok(Client::connect(self.port, "demo", "shardway")?)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The keys that are in a table, by shard.
    pub(crate) async fn keys_of_shards(&self, table: &str) -> Outcome<Vec<Vec<i64>>> {
        let mut all = Vec::new();
        for node in self.cluster.nodes() {
            let sql = format!("SELECT string_agg(id::text, ' ' ORDER BY id) FROM {table}");
            let keys = node.value("shop", &sql).await?.unwrap_or_default();
            all.push(keys.split_whitespace().map(str::parse).collect::<Result<_, _>>()?);
        }
        Ok(all)
    }

    /// Waits until no shard has anything prepared.
    pub(crate) async fn settled(&self) -> Outcome {
        for node in self.cluster.nodes() {
            until("the end of what was prepared", async || {
                let left = node.value("shop", "SELECT count(*) FROM pg_prepared_xacts").await;
                Ok(matches!(left, Ok(Some(count)) if count == "0"))
            })
            .await?;
        }
        Ok(())
    }
}

/// A number that looks like chance and is the same each time.
pub(crate) fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The one number that an answer gives.
pub(crate) fn number(answer: &Answer) -> Option<i64> {
    let cell = answer.rows.first()?.first()?.as_deref()?;
    std::str::from_utf8(cell).ok()?.parse().ok()
}
