//! Five servers, a proxy before them, and on them a database for each number of shards with a plain one beside it.

use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;

use crate::bytes::Client;
use crate::house::WIDTHS;
use crate::proxy::Outcome;
use crate::proxy::Proxy;
use crate::proxy::free_port;
use crate::proxy::map_of_widths;
use crate::proxy::prepare;
use crate::proxy::until;

/// What the databases are.
pub(crate) struct Plan<'a> {
    /// Settings of the servers.
    pub(crate) settings: &'a [(&'a str, &'a str)],
    /// Run in each database, on each of its shards.
    pub(crate) schema: &'a str,
    /// Said of a database of so many shards in the map, behind its shards.
    pub(crate) placed: &'a dyn Fn(usize) -> String,
    /// A write of several shards, undone later.
    pub(crate) spans: &'a str,
}

pub(crate) struct Rig {
    // Ends before the servers do.
    _proxy: Proxy,
    pub(crate) cluster: Cluster,
    pub(crate) port: u16,
    pub(crate) map: String,
}

impl Rig {
    pub(crate) async fn build(plan: Plan<'_>) -> Outcome<Self> {
        let settings = plan.settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let cluster =
            Cluster::start(ClusterSpec { shards: 5, replicas: 0, settings, ..ClusterSpec::default() }).await?;
        let port = free_port()?;
        let map = map_of_widths(&cluster, port, &WIDTHS, plan.placed);
        for (place, node) in cluster.primaries().enumerate() {
            for width in WIDTHS.into_iter().filter(|it| *it > place) {
                node.value("shop", &format!("CREATE DATABASE d{width} OWNER demo")).await?;
                // So that the same types have other numbers on each server.
                let pad: String =
                    (0..place).map(|it| format!("CREATE TABLE pad{it} (); DROP TABLE pad{it};")).collect();
                let mut client = Client::connect(node.port(), "demo", &format!("d{width}"))?;
                assert_eq!(client.simple(&(pad + plan.schema)).error, None);
            }
        }
        for width in WIDTHS {
            let node = &cluster.nodes()[0];
            node.value("shop", &format!("CREATE DATABASE plain{width} OWNER demo")).await?;
            assert_eq!(Client::connect(node.port(), "demo", &format!("plain{width}"))?.simple(plan.schema).error, None);
        }
        prepare(&cluster, &map)?;
        let proxy = Proxy::start(&cluster, port, &map, &[]).await?;
        let rig = Self { _proxy: proxy, cluster, port, map };
        for width in WIDTHS {
            let mut client = Client::connect(port, "demo", &format!("d{width}"))?;
            until("the proxy to know what is set up", async || {
                let done = client.simple(&format!("BEGIN; {}", plan.spans));
                client.simple("ROLLBACK");
                Ok(done.error.is_none())
            })
            .await?;
        }
        Ok(rig)
    }

    /// Where the proxy listens, and the plain server.
    pub(crate) fn ports(&self) -> [u16; 2] {
        [self.port, self.cluster.nodes()[0].port()]
    }

    /// No transaction waits anywhere for its end.
    pub(crate) async fn nothing_is_prepared(&self) -> Outcome {
        for node in self.cluster.nodes() {
            let left = node.value("shop", "SELECT count(*) FROM pg_prepared_xacts").await?;
            assert_eq!(left.as_deref(), Some("0"));
        }
        Ok(())
    }
}
