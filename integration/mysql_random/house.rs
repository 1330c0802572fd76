//! Servers, a proxy before them, and for each number of shards a database `dN` and a plain one of the same tables.

use std::env;

use shardway::local_cluster::Durability;
use shardway::local_cluster::mariadb::CONTROL_PASSWORD;
use shardway::local_cluster::mariadb::CONTROL_USER;
use shardway::local_cluster::mariadb::MariaCluster;
use shardway::local_cluster::mariadb::MariaSpec;
use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;

use crate::choices::Choices;
use crate::client::Client;
use crate::client::MODERN;
use crate::client::OLD;
use crate::compare::shown;
use crate::proxy::Outcome;
use crate::proxy::Proxy;
use crate::proxy::free_port;
use crate::proxy::prepare_at;
use crate::proxy::until;
use crate::schema::Counts;
use crate::schema::Placed;
use crate::schema::Table;
use crate::schema::tables;

/// How many rows a table begins with, at most.
const ROWS: usize = 26;

/// Joins of joins can have hundreds of millions of rows: an answer of more than this is not read to its end …
const ROWS_MAX: usize = 50_000;
/// … and one that takes the plain server longer is not waited for.
const TIME_MAX: &str = "SET max_statement_time = 20";

/// A number of the environment's.
pub(crate) fn number(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |it| it.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// On how many shards everything is tried.
pub(crate) fn widths() -> Vec<usize> {
    let text = env::var("MYSQL_RANDOM_WIDTHS").unwrap_or_else(|_| "1,2,3".to_owned());
    text.split(',').map(|it| it.trim().parse().expect("MYSQL_RANDOM_WIDTHS are numbers")).collect()
}

pub(crate) fn mix(seed: u64, place: u64) -> u64 {
    (seed ^ 0x9e37_79b9_7f4a_7c15)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .wrapping_add(place.wrapping_mul(0x94d0_49bb_1331_11eb))
}

pub(crate) struct House {
    // Ends before the servers do.
    proxy: Proxy,
    cluster: MariaCluster,
    port: u16,
    pub(crate) tables: Vec<Table>,
    pub(crate) widths: Vec<usize>,
}

/// A session of ours, one of the plain database beside it, and one of each server.
pub(crate) struct Ring {
    pub(crate) width: usize,
    pub(crate) ours: Client,
    pub(crate) plain: Client,
    shards: Vec<Client>,
    /// Another one of the plain server's, and of ours: what is open in the first is not their matter.
    beside: Client,
    through: Client,
    /// Sessions of the plain server's, with the names of their databases: its own, and those of the same rows that were
    /// brought in another order or are counted otherwise.
    pub(crate) otherwise: Vec<(Client, String)>,
    /// The same where a part of the rows is: some, none, and what each shard holds.
    pub(crate) fewer: Vec<(Client, String)>,
}

/// How a server is made to plan otherwise, with the same answers but for what is a matter of its plans.
pub(crate) const OTHER_PLANS: [&str; 6] = [
    "DO 0",
    "SET optimizer_switch = 'derived_merge=off,semijoin=off,materialization=off'",
    "SET optimizer_switch = 'join_cache_hashed=off,join_cache_bka=off,mrr=off,index_merge=off,derived_with_keys=off'",
    "SET join_cache_level = 0, optimizer_search_depth = 1, optimizer_use_condition_selectivity = 1",
    "SET big_tables = 1, join_cache_level = 4",
    "SET optimizer_switch = 'exists_to_in=off,in_to_exists=off,condition_pushdown_for_derived=off,split_materialized=off'",
];
/// And as it does by itself.
pub(crate) const USUAL_PLANS: &str = "SET optimizer_switch = DEFAULT, join_cache_level = DEFAULT, big_tables = DEFAULT, \
     optimizer_search_depth = DEFAULT, optimizer_use_condition_selectivity = DEFAULT";

/// Databases of the plain server with the same rows, in another order, and how many rows a table there is said to have, by
/// its place among the tables: by that a server decides which one it begins with, and whether it needs a temporary table.
const COPIES: [(&str, &str, Option<&str>); 5] = [
    ("back", "k DESC, n DESC", None),
    ("up", "k, n", Some("POW(6, @place)")),
    ("down", "k, n", Some("POW(6, 8 - @place)")),
    ("vast", "k, n", Some("1000000")),
    ("tiny", "k, n", Some("1")),
];

impl House {
    pub(crate) async fn build(seed: u64) -> Outcome<Self> {
        let widths = widths();
        let shards = widths.iter().copied().max().unwrap_or(1);
        let spec = MariaSpec { shards, replicas: 0, durability: Durability::Volatile, ..MariaSpec::default() };
        let cluster = MariaCluster::start(spec).await?;
        let tables = tables(seed);
        let ddl: Vec<String> = tables.iter().map(Table::ddl).collect();
        for width in &widths {
            let places = cluster.nodes().iter().take(*width).map(|node| (node, format!("d{width}")));
            let own = ["plain", "few", "none"].into_iter().chain(COPIES.map(|it| it.0));
            let own = own.map(|it| (&cluster.nodes()[0], format!("{it}{width}")));
            for (node, database) in places.chain(own) {
                node.create_database(&database).await?;
                Client::connect(node.port(), USER, PASSWORD, &database)?.done(&ddl.join(";"))?;
            }
        }
        let port = free_port()?;
        let mut map = format!(
            "version: 1\nlisten: {{mysql: 127.0.0.1:{port}}}\nusers: {{{USER}: {{password: {PASSWORD}}}}}\ndatabases:\n"
        );
        for width in &widths {
            let shards: String = cluster
                .nodes()
                .iter()
                .take(*width)
                .enumerate()
                .map(|(at, node)| format!("      s{}: ['127.0.0.1:{}']\n", at + 1, node.port()))
                .collect();
            map += &format!(
                "  d{width}:\n    engine: mysql\n    control: {{user: {CONTROL_USER}, password: {CONTROL_PASSWORD}}}\n    \
                 shards:\n{shards}    groups:\n      number: {{key: bigint, tables: {{a1: k, a2: k, s1: k, s2: k, s3: k}}}}\n      name: \
                 {{key: text, tables: {{f1: k}}}}\n    reference: [r1]\n    unsharded: {{s1: [u1]}}\n"
            );
        }
        prepare_at(cluster.dir(), &map)?;
        let answers = async || Client::connect(port, USER, PASSWORD, &format!("d{}", widths[0])).is_ok();
        let proxy = Proxy::start_when(cluster.dir(), port, &map, &[], answers).await?;
        for width in &widths {
            until("tables to be known", async || {
                let client = Client::connect(port, USER, PASSWORD, &format!("d{width}"));
                Ok(client.is_ok_and(|mut client| client.one("SELECT n FROM s1 WHERE k = 1").error.is_none()))
            })
            .await
            .map_err(|error| format!("{error}\n{}", proxy.log()))?;
        }
        Ok(Self { proxy, cluster, port, tables, widths })
    }

    pub(crate) fn ring(&self, width: usize, old: bool) -> Outcome<Ring> {
        let (ours, plain) = (format!("d{width}"), format!("plain{width}"));
        let own = self.cluster.nodes()[0].port();
        let capabilities = if old { OLD } else { MODERN };
        let shards = self.cluster.nodes().iter().take(width);
        let bounded = |port, database: &str| {
            let mut client = Client::connect_with(port, USER, PASSWORD, database, capabilities)?;
            client.rows_max = ROWS_MAX;
            Outcome::Ok(client)
        };
        let of_server = |port, database: &str| {
            let mut client = bounded(port, database)?;
            client.done(TIME_MAX)?;
            Outcome::Ok(client)
        };
        let named = |port, database: String| Outcome::Ok((of_server(port, &database)?, database));
        // Its rows are in temporary tables, as ours are that are gathered.
        let mut temporary = named(own, plain.clone())?;
        for table in &self.tables {
            let name = &table.name;
            temporary.0.done(&format!("CREATE TEMPORARY TABLE copy LIKE {name}"))?;
            temporary.0.done(&format!("INSERT INTO copy SELECT * FROM {name}"))?;
            temporary.0.done(&format!("ALTER TABLE copy RENAME TO {name}"))?;
        }
        let copies = ["plain"].into_iter().chain(COPIES.map(|it| it.0));
        let fewer = ["few", "none"].into_iter().map(|it| named(own, format!("{it}{width}")));
        Ok(Ring {
            otherwise: copies
                .map(|it| named(own, format!("{it}{width}")))
                .chain([Ok(temporary)])
                .collect::<Outcome<_>>()?,
            fewer: fewer.chain(shards.clone().map(|node| named(node.port(), ours.clone()))).collect::<Outcome<_>>()?,
            width,
            ours: bounded(self.port, &ours)?,
            plain: of_server(own, &plain)?,
            shards: shards.map(|node| Client::connect(node.port(), USER, PASSWORD, &ours)).collect::<Result<_, _>>()?,
            beside: Client::connect(own, USER, PASSWORD, &plain)?,
            through: Client::connect(self.port, USER, PASSWORD, &ours)?,
        })
    }

    /// Brings the plain server's rows to its copies, and has all servers count what they hold, or take it for more or less.
    pub(crate) async fn copy(&self, ring: &mut Ring) -> Outcome {
        let (width, node) = (ring.width, &self.cluster.nodes()[0]);
        for (place, table) in self.tables.iter().enumerate() {
            let mut columns = vec!["k".to_owned(), "n".to_owned()];
            columns.extend(table.columns.iter().map(|it| it.name.clone()));
            let (name, list) = (&table.name, columns.join(", "));
            ring.beside.done(&format!("ANALYZE TABLE {name}"))?;
            for shard in &mut ring.shards {
                shard.done(&format!("ANALYZE TABLE {name}"))?;
            }
            for (copy, order, rows) in COPIES {
                let copy = format!("{copy}{width}");
                ring.beside.done(&format!("DELETE FROM {copy}.{name}"))?;
                let insert = format!("INSERT INTO {copy}.{name} ({list}) SELECT {list} FROM {name} ORDER BY {order}");
                ring.beside.done(&insert)?;
                ring.beside.done(&format!("ANALYZE TABLE {copy}.{name}"))?;
                if let Some(rows) = rows {
                    let there = format!("WHERE database_name = '{copy}' AND table_name = '{name}'");
                    let sql = format!(
                        "SET @place = {place}; UPDATE mysql.innodb_table_stats SET n_rows = {rows}, \
                         clustered_index_size = GREATEST(1, n_rows DIV 50) {there}; UPDATE mysql.innodb_index_stats SET \
                         stat_value = {rows} {there} AND stat_name LIKE 'n_diff%'; FLUSH TABLES {copy}.{name}"
                    );
                    node.value("", &sql).await?;
                }
            }
        }
        Ok(())
    }

    /// What the proxy has said so far.
    pub(crate) fn log(&self) -> String {
        self.proxy.log()
    }

    pub(crate) async fn stop(self) -> Outcome {
        self.proxy.stop().await?;
        Ok(self.cluster.stop().await?)
    }
}

impl Ring {
    /// Fills all tables anew, with rows of a seed. What is spread goes through the proxy a row at a time, so that it lies
    /// where the proxy looks for it.
    pub(crate) fn fill(&mut self, tables: &[Table], seed: u64) -> Outcome {
        let mut choices = Choices::random(seed);
        for table in tables {
            let delete = format!("DELETE FROM {}", table.name);
            for client in self.shards.iter_mut().chain([&mut self.beside]) {
                client.done(&delete)?;
            }
            // What is counted begins with the same number on both sides.
            if table.counts != Counts::Nothing {
                let truncate = format!("TRUNCATE TABLE {}", table.name);
                self.beside.done(&truncate)?;
                self.through.done(&truncate)?;
            }
            for _ in 0..ROWS {
                let insert = format!("INSERT INTO {} VALUES {}", table.name, table.row(&mut choices));
                // One that is there already is left out on both sides.
                let plain = self.beside.one(&insert);
                if plain.error.as_ref().is_some_and(|it| it.errno == 1062) {
                    continue;
                }
                if let Some(error) = plain.error {
                    return Err(format!("{insert}: {error}").into());
                }
                match table.placed {
                    Placed::Spread => drop(self.through.done(&insert)?),
                    Placed::Everywhere => {
                        for shard in &mut self.shards {
                            shard.done(&insert)?;
                        }
                    }
                    Placed::First => drop(self.shards[0].done(&insert)?),
                }
            }
        }
        match self.difference(tables)? {
            None => Ok(()),
            Some(difference) => Err(format!("rows are not as they were brought: {difference}").into()),
        }
    }

    /// The first table that is not the same on both sides.
    pub(crate) fn difference(&mut self, tables: &[Table]) -> Outcome<Option<String>> {
        for table in tables {
            let sql = format!("SELECT * FROM {} ORDER BY k, n", table.name);
            let theirs = self.beside.done(&sql)?.rows;
            let mut ours = Vec::new();
            for (place, shard) in self.shards.iter_mut().enumerate() {
                let held = shard.done(&sql)?.rows;
                match table.placed {
                    Placed::Spread => ours.extend(held),
                    Placed::Everywhere if held == theirs => ours = held,
                    Placed::First if place == 0 => ours = held,
                    Placed::First if held.is_empty() => {}
                    Placed::Everywhere | Placed::First => {
                        let (held, theirs) = (shown(&held), shown(&theirs));
                        let place = place + 1;
                        return Ok(Some(format!(
                            "{} on shard {place}: {held} where one server has {theirs}",
                            table.name
                        )));
                    }
                }
            }
            let mut sorted = theirs.clone();
            ours.sort();
            sorted.sort();
            if ours != sorted {
                let only = |one: &[crate::client::Row], other: &[crate::client::Row]| {
                    let rows: Vec<_> = one.iter().filter(|it| !other.contains(it)).cloned().collect();
                    shown(&rows)
                };
                return Ok(Some(format!(
                    "table {}: only ours {}, only one server's {}",
                    table.name,
                    only(&ours, &sorted),
                    only(&sorted, &ours)
                )));
            }
        }
        Ok(None)
    }
}
