//! The servers, the proxy, and what is compared.

use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;

use crate::bytes::Answer;
use crate::bytes::Client;
use crate::bytes::How;
use crate::bytes::Row;
use crate::bytes::Value;
use crate::proxy::Outcome;
use crate::proxy::Proxy;
use crate::proxy::free_port;
use crate::proxy::map_of_widths;
use crate::proxy::prepare;
use crate::proxy::until;

/// On how many shards everything is tried.
pub(crate) const WIDTHS: [usize; 3] = [2, 3, 5];

/// What is to come of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Is {
    /// What one server does.
    Alike,
    /// The proxy's own error of this SQLSTATE; the plain server does not hear of it.
    Refused(&'static str),
}

pub(crate) struct House {
    // Ends before the servers do.
    pub(crate) proxy: Proxy,
    pub(crate) cluster: Cluster,
    pub(crate) map: String,
}

/// A session through the proxy and one of the plain database beside it.
pub(crate) struct Pair {
    pub(crate) ours: Client,
    pub(crate) plain: Client,
    width: usize,
}

impl House {
    /// `groups` are the lines of the map behind the shards of a database of that width; `on_one` is made on the first shard.
    pub(crate) async fn build(groups: &dyn Fn(usize) -> String) -> Outcome<Self> {
        let cluster = Cluster::start(ClusterSpec { shards: 5, replicas: 0, ..ClusterSpec::default() }).await?;
        let port = free_port()?;
        let map = map_of_widths(&cluster, port, &WIDTHS, groups);
        for (place, node) in cluster.primaries().enumerate() {
            for width in WIDTHS.into_iter().filter(|it| *it > place) {
                node.value("shop", &format!("CREATE DATABASE d{width} OWNER demo")).await?;
            }
        }
        for width in WIDTHS {
            cluster.nodes()[0].value("shop", &format!("CREATE DATABASE plain{width} OWNER demo")).await?;
        }
        prepare(&cluster, &map)?;
        let proxy = Proxy::start(&cluster, port, &map, &[]).await?;
        let house = Self { proxy, cluster, map };
        for width in WIDTHS {
            let mut client = Client::connect(port, "demo", &format!("d{width}"))?;
            until("the proxy to know what is set up", async || {
                let done = client.simple("BEGIN; CREATE TABLE countries (code text); ROLLBACK");
                client.simple("ROLLBACK");
                Ok(done.error.is_none())
            })
            .await?;
        }
        Ok(house)
    }

    pub(crate) fn pair(&self, width: usize) -> Outcome<Pair> {
        let ours = Client::connect(self.proxy.port(), "demo", &format!("d{width}"))?;
        let plain = Client::connect(self.cluster.nodes()[0].port(), "demo", &format!("plain{width}"))?;
        Ok(Pair { ours, plain, width })
    }

    /// A session of one shard's own server.
    pub(crate) fn shard(&self, shard: usize, width: usize) -> Outcome<Client> {
        let node = self.cluster.primaries().nth(shard).ok_or("no such shard")?;
        Ok(Client::connect(node.port(), "demo", &format!("d{width}"))?)
    }

    /// Another proxy before the same servers.
    pub(crate) async fn another_proxy(&self) -> Outcome<Proxy> {
        let port = free_port()?;
        let map = self.map.replace(&format!("127.0.0.1:{}}}", self.proxy.port()), &format!("127.0.0.1:{port}}}"));
        Proxy::start(&self.cluster, port, &map, &[]).await
    }

    /// No transaction waits anywhere for its end.
    pub(crate) async fn nothing_is_prepared(&self) -> Outcome {
        for node in self.cluster.nodes() {
            let left = node.value("shop", "SELECT count(*) FROM pg_prepared_xacts").await?;
            assert_eq!(left.as_deref(), Some("0"));
        }
        Ok(())
    }

    pub(crate) async fn stop(self) -> Outcome {
        self.proxy.stop().await?;
        Ok(self.cluster.stop().await?)
    }
}

impl Pair {
    /// Both hear it by a Query, and answer alike.
    pub(crate) fn same(&mut self, sql: &str) -> Answer {
        self.same_by(How::Simple, sql, &[])
    }

    /// Both hear it, and answer alike.
    pub(crate) fn same_by(&mut self, how: How, sql: &str, values: &[Value]) -> Answer {
        let theirs = self.plain.run(how, sql, values, false);
        let ours = self.ours.run(how, sql, values, false);
        assert_eq!(told(&ours), told(&theirs), "{} shards, {how:?}: {sql}\n{:?}", self.width, ours.error);
        ours
    }

    /// The proxy declines.
    pub(crate) fn refused(&mut self, how: How, sqlstate: &str, sql: &str) -> String {
        let answer = self.ours.run(how, sql, &[], false);
        let failure = answer.error.unwrap_or_else(|| panic!("{} shards, {how:?}: done: {sql}", self.width));
        assert!(!failure.by_server, "{} shards, {how:?}: {sql}: {failure}", self.width);
        assert_eq!(failure.sqlstate, sqlstate, "{} shards, {how:?}: {sql}: {failure}", self.width);
        assert!(!failure.hint.is_empty());
        failure.message
    }

    /// COPY FROM STDIN on both.
    pub(crate) fn same_copy(&mut self, sql: &str, data: &[u8], part: usize, extended: bool) -> Answer {
        let theirs = self.plain.copy_in_parts(sql, data, part, extended);
        let ours = self.ours.copy_in_parts(sql, data, part, extended);
        assert_eq!(told(&ours), told(&theirs), "{} shards: {sql}\n{:?}", self.width, ours.error);
        ours
    }

    /// Every statement, in one protocol.
    pub(crate) fn cases(&mut self, how: How, cases: &[(Is, &str)]) {
        for (is, sql) in cases {
            match is {
                Is::Alike => {
                    // One statement a Parse.
                    let how = if sql.contains(';') { How::Simple } else { how };
                    self.same_by(how, sql, &[]);
                }
                Is::Refused(sqlstate) => {
                    self.refused(how, sqlstate, sql);
                }
            }
        }
    }
}

/// Rows as text.
pub(crate) fn shown(rows: &[Row]) -> String {
    let cell = |it: &Option<Vec<u8>>| it.as_ref().map_or("NULL".into(), |it| String::from_utf8_lossy(it).into_owned());
    let rows: Vec<String> = rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(",")).collect();
    format!("[{}]", rows.join(" | "))
}

/// What a client can tell of an answer, but for rows that came before an error, their order, and the numbers of types.
fn told(answer: &Answer) -> (String, u8, String, Option<Vec<String>>) {
    let state = match &answer.error {
        Some(failure) => format!("{} {}", failure.sqlstate, failure.message),
        None => answer.tags.join(";"),
    };
    if answer.error.is_some() {
        return (state, answer.status, String::new(), None);
    }
    let mut rows = answer.rows.clone();
    rows.sort();
    let columns = answer.columns.clone().map(|it| it.into_iter().map(|(name, _)| name).collect());
    (state, answer.status, shown(&rows), columns)
}

/// A value of text format whose type the server finds.
pub(crate) fn value(text: &str) -> Value {
    Value { oid: 0, binary: false, bytes: Some(text.as_bytes().to_vec()) }
}
