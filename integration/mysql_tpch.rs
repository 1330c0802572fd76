//! TPC-H on MariaDB: the proxy over three shards answers all of its 22 queries as one plain server does, row for row.
//!
//! `SHARDWAY_TPCH_SCALE` is the scale factor, here 0.002 by default: some 12,000 lines of orders.

#[path = "mysql/client.rs"]
mod client;
#[path = "mysql/compare.rs"]
#[allow(dead_code, reason = "others use more of it")]
mod compare;
mod proxy;
#[path = "analytics/tpch.rs"]
mod tpch;

use std::env;
use std::time::Instant;

use shardway::ident::TableName;
use shardway::local_cluster::Durability;
use shardway::local_cluster::mariadb::CONTROL_PASSWORD;
use shardway::local_cluster::mariadb::CONTROL_USER;
use shardway::local_cluster::mariadb::MariaCluster;
use shardway::local_cluster::mariadb::MariaSpec;
use shardway::local_cluster::mariadb::PASSWORD;
use shardway::local_cluster::mariadb::USER;
use shardway::shard_map::Database;
use shardway::shard_map::Key;
use shardway::shard_map::NoEnvironment;
use shardway::shard_map::Placement;
use shardway::shard_map::ShardMap;

use client::Client;
use compare::difference;
use compare::is_refused;
use proxy::Outcome;
use proxy::Proxy;
use proxy::free_port;
use proxy::until;

/// What the generator of rows knows a table by.
mod rig {
    pub(crate) struct Table {
        pub(crate) name: &'static str,
        /// Names and types.
        pub(crate) columns: &'static [(&'static str, &'static str)],
        /// A line each, cells parted by tabs.
        pub(crate) rows: String,
    }
}

use rig::Table;

const SHARDS: usize = 3;
const SCALE: f64 = 0.002;
/// How many rows one INSERT brings.
const AT_ONCE: usize = 500;
/// The placements, and the database of each; the plain one is beside them on the first server.
const PLACEMENTS: [(&str, &str); 2] = [("by_customer", tpch::BY_CUSTOMER), ("by_order", tpch::BY_ORDER)];
const PLAIN: &str = "plain";

/// The shards that a row belongs on: one, or all.
fn place(database: &Database, server_name: &str, table: &Table, row: &str) -> Outcome<Option<usize>> {
    let name = TableName::new(server_name, table.name);
    let (group, key) = match database.tables.get(&name).ok_or("a table is not in the map")? {
        Placement::Sharded { group, key } => (group, key),
        Placement::Reference => return Ok(None),
        Placement::Unsharded { .. } => return Err("no table is unsharded".into()),
    };
    let function = &database.groups.get(*group).ok_or("no such group")?.function;
    let column = table.columns.iter().position(|(name, _)| name.eq_ignore_ascii_case(key)).ok_or("no key column")?;
    let key = Key::Int(row.split('\t').nth(column).ok_or("a short row")?.trim_end().parse()?);
    Ok(Some(usize::from(function.shard(&key).ok_or("no shard takes this key")?.0)))
}

fn fill(client: &mut Client, tables: &[Table], belongs: impl Fn(&Table, &str) -> Outcome<bool>) -> Outcome {
    for table in tables {
        let columns: Vec<String> = table.columns.iter().map(|(name, kind)| format!("{name} {kind} NOT NULL")).collect();
        client.done(&format!("CREATE TABLE {} ({})", table.name, columns.join(", ")))?;
        let mut rows = Vec::new();
        for row in table.rows.lines() {
            if belongs(table, row)? {
                let cells: Vec<String> = row.split('\t').map(|it| format!("'{}'", it.replace('\'', "''"))).collect();
                rows.push(format!("({})", cells.join(",")));
            }
        }
        if rows.is_empty() {
            return Err(format!("no row of {} is on a shard", table.name).into());
        }
        for some in rows.chunks(AT_ONCE) {
            client.done(&format!("INSERT INTO {} VALUES {}", table.name, some.join(",")))?;
        }
    }
    for (at, index) in tpch::INDEXES.split(';').map(str::trim).filter(|it| !it.is_empty()).enumerate() {
        client.done(&index.replace("CREATE INDEX ON", &format!("CREATE INDEX i{at} ON")))?;
    }
    Ok(())
}

/// The queries, each with its name, in MariaDB's words: a derived table names its columns within.
fn queries() -> Vec<(String, String)> {
    let text = include_str!("analytics/tpch.sql")
        .replace("count(o_orderkey)", "count(o_orderkey) AS c_count")
        .replace(" AS c_orders (c_custkey, c_count)", " AS c_orders");
    let sections = text.split("\n-- ").filter(|it| it.starts_with('Q')).filter_map(|it| it.split_once('\n'));
    sections.map(|(name, sql)| (name.to_owned(), sql.trim_end().trim_end_matches(';').to_owned())).collect()
}

#[tokio::test]
async fn all_of_tpch_is_answered_as_by_one_server() -> Outcome {
    let scale = env::var("SHARDWAY_TPCH_SCALE").ok().map_or(Ok(SCALE), |it| it.parse())?;
    let queries = queries();
    assert_eq!(queries.len(), 22);
    let tables = tpch::tables(scale);
    let spec = MariaSpec { shards: SHARDS, replicas: 0, durability: Durability::Volatile, ..MariaSpec::default() };
    let cluster = MariaCluster::start(spec).await?;
    let port = free_port()?;
    let mut map = format!(
        "version: 1\nlisten: {{mysql: 127.0.0.1:{port}}}\nusers: {{{USER}: {{password: {PASSWORD}}}}}\ndatabases:\n"
    );
    for (database, placement) in PLACEMENTS {
        let shard = |(at, node): (usize, &shardway::local_cluster::mariadb::MariaNode)| {
            format!("      s{}: ['127.0.0.1:{}']\n", at + 1, node.port())
        };
        let shards: String = cluster.nodes().iter().enumerate().map(shard).collect();
        map += &format!(
            "  {database}:\n    engine: mysql\n    control: {{user: {CONTROL_USER}, password: {CONTROL_PASSWORD}}}\n    \
             shards:\n{shards}{}\n",
            placement.trim_end()
        );
    }
    let (parsed, _) = ShardMap::parse("map.yaml", &map, &NoEnvironment).map_err(|it| format!("{it:?}"))?;
    for (database, _) in PLACEMENTS {
        let of_map = parsed.databases.get(database).ok_or("the map lacks its database")?;
        for (shard, node) in cluster.nodes().iter().enumerate() {
            node.create_database(database).await?;
            let mut client = Client::connect(node.port(), USER, PASSWORD, database)?;
            fill(&mut client, &tables, |table, row| {
                Ok(place(of_map, database, table, row)?.is_none_or(|it| it == shard))
            })?;
        }
    }
    let first = &cluster.nodes()[0];
    first.create_database(PLAIN).await?;
    let mut plain = Client::connect(first.port(), USER, PASSWORD, PLAIN)?;
    fill(&mut plain, &tables, |_, _| Ok(true))?;
    let answers = async || Client::connect(port, USER, PASSWORD, PLACEMENTS[0].0).is_ok();
    let proxy = Proxy::start_when(cluster.dir(), port, &map, &[], answers).await?;
    let (mut otherwise, mut accepted) = (Vec::new(), 0);
    for (database, _) in PLACEMENTS {
        until("tables to be known", async || {
            let client = Client::connect(port, USER, PASSWORD, database);
            Ok(client.is_ok_and(|mut client| client.one("SELECT * FROM region").error.is_none()))
        })
        .await
        .map_err(|error| format!("{error}\n{}", proxy.log()))?;
        let mut ours = Client::connect(port, USER, PASSWORD, database)?;
        for prepared in [false, true] {
            let (mut alike, mut refused) = (0, Vec::new());
            for (name, sql) in &queries {
                let say = |client: &mut Client| if prepared { client.run(sql, &[]) } else { client.query(sql) };
                let theirs = say(&mut plain);
                if let Some(error) = &theirs[0].error {
                    return Err(format!("{name}: {error}").into());
                }
                let began = Instant::now();
                let answers = say(&mut ours);
                accepted += 1;
                if is_refused(&answers) {
                    refused.push(name.split(' ').next().unwrap_or_default());
                    otherwise
                        .push(format!("{database}, prepared {prepared}: {name} is refused: {:?}", answers[0].error));
                    continue;
                }
                let theirs = compare::renamed_from(theirs, PLAIN, database);
                match difference(&answers, &theirs, true) {
                    None => alike += 1,
                    Some(what) => otherwise.push(format!("{database}, prepared {prepared}: {name}: {what}")),
                }
                if began.elapsed().as_secs() > 5 {
                    println!("oracle:   {database}: {name} took {:?}", began.elapsed());
                }
            }
            println!("oracle: TPC-H {database}, prepared {prepared}: {alike} alike, refused: {refused:?}");
        }
    }
    // One server answers all of them.
    assert_eq!(accepted, 22 * 2 * PLACEMENTS.len());
    assert!(otherwise.is_empty(), "{otherwise:#?}\n{}", proxy.log());
    proxy.stop().await?;
    cluster.stop().await?;
    Ok(())
}
