//! Three shards behind a proxy and a fourth server that holds all rows alone, filled past the proxy.

use std::borrow::Cow;
use std::thread;
use std::time::Duration;

use shardway::clock;
use shardway::ident::TableName;
use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::SUPERUSER;
use shardway::shard_map::Database;
use shardway::shard_map::Key;
use shardway::shard_map::NoEnvironment;
use shardway::shard_map::Placement;
use shardway::shard_map::ShardMap;

use super::compare::Order;
use super::compare::Verdict;
use super::compare::compare;
use super::proxy::Outcome;
use super::proxy::Proxy;
use super::proxy::free_port;
use super::proxy::map_of;
use super::wire::Answer;
use super::wire::Client;
use super::wire::How;

const SHARDS: usize = 3;
const USER: &str = "demo";
/// The name that clients of the proxy connect to.
const DATABASE: &str = "shop";
/// How long a query may take that takes too long.
const USERS: &str = "users: {demo: {auth: trust}}\n";

/// A table and its rows.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// Names and types.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    /// As COPY reads them. No cell holds a tab.
    pub(crate) rows: String,
}

impl Table {
    fn create(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|(name, kind)| format!("{name} {kind} NOT NULL")).collect();
        format!("CREATE TABLE {} ({})", self.name, columns.join(", "))
    }

    /// The rows that belong on one of the shards.
    fn share(&self, database: &Database, shard: usize) -> Outcome<Cow<'_, str>> {
        let name = TableName::new("public", self.name);
        let (group, key) = match database.tables.get(&name).ok_or("a table is not in the map")? {
            Placement::Sharded { group, key } => (group, key),
            Placement::Reference => return Ok(Cow::Borrowed(&self.rows)),
            Placement::Unsharded { .. } => return Err("no table is unsharded".into()),
        };
        let function = &database.groups.get(*group).ok_or("no such group")?.function;
        let column = self.columns.iter().position(|(name, _)| name.eq_ignore_ascii_case(key)).ok_or("no key column")?;
        let mut share = String::new();
        for row in self.rows.split_inclusive('\n') {
            let key = Key::Int(row.split('\t').nth(column).ok_or("a short row")?.trim_end().parse()?);
            if usize::from(function.shard(&key).ok_or("no shard takes this key")?.0) == shard {
                share.push_str(row);
            }
        }
        if share.is_empty() {
            return Err(format!("no row of {} is on shard {shard}", self.name).into());
        }
        Ok(Cow::Owned(share))
    }
}

pub(crate) struct Query {
    /// Such as "Q4 order priority checking".
    name: String,
    sql: String,
}

impl Query {
    fn number(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }
}

/// The queries of a file, each below a line that begins with `-- Q`.
pub(crate) fn queries(file: &str) -> Vec<Query> {
    let sections = file.split("\n-- ").filter(|it| it.starts_with('Q'));
    let query = |(title, sql): (&str, &str)| Query {
        name: title.to_owned(),
        sql: sql.trim_end().trim_end_matches(';').to_owned(),
    };
    sections.filter_map(|it| it.split_once('\n')).map(query).collect()
}

pub(crate) struct Rig {
    cluster: Cluster,
}

impl Rig {
    /// Starts the servers; each has these databases, empty.
    pub(crate) async fn start(databases: &[&str]) -> Outcome<Self> {
        // Compiling a query takes longer here than running it.
        let settings = [("jit", "off"), ("shared_buffers", "128MB"), ("work_mem", "64MB")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let spec = ClusterSpec { shards: SHARDS + 1, replicas: 0, settings, ..ClusterSpec::default() };
        let rig = Self { cluster: Cluster::start(spec).await? };
        for node in rig.cluster.primaries() {
            let mut client = Client::connect(node.port(), SUPERUSER, DATABASE)?;
            for database in databases {
                done(client.simple(&format!("CREATE DATABASE {database} OWNER {USER}")))?;
            }
        }
        Ok(rig)
    }

    fn node(&self, place: usize, database: &str) -> Outcome<Client> {
        let node = self.cluster.primaries().nth(place).ok_or("no such server")?;
        Ok(Client::connect(node.port(), USER, database)?)
    }

    /// The server that holds everything.
    pub(crate) fn plain(&self, database: &str) -> Outcome<Client> {
        self.node(SHARDS, database)
    }

    /// Fills the plain server's database.
    pub(crate) fn fill_plain(&self, database: &str, (tables, indexes): (&[Table], &str)) -> Outcome {
        fill(&mut self.plain(database)?, tables, indexes, |table| Ok(Cow::Borrowed(&table.rows)))
    }

    /// Fills the shards' databases as these lines of a map say, and starts a proxy for them.
    pub(crate) async fn serve(
        &self,
        database: &str,
        (tables, indexes): (&[Table], &str),
        placement: &str,
    ) -> Outcome<Proxy> {
        let port = free_port()?;
        let rest = format!("    database: {database}\n{placement}{USERS}");
        let plain = format!("s{}-", SHARDS + 1);
        let map = map_of(&self.cluster, port, |node| !node.starts_with(&plain), &rest);
        let (parsed, _) = ShardMap::parse("map.yaml", &map, &NoEnvironment).map_err(|it| format!("{it:?}"))?;
        let parsed = parsed.databases.get(DATABASE).ok_or("the map lacks its database")?;
        thread::scope(|scope| {
            let fill_shard = |shard: usize| {
                let mut client = self.node(shard, database)?;
                fill(&mut client, tables, indexes, |table| table.share(parsed, shard))
            };
            let tasks: Vec<_> = (0..SHARDS).map(|shard| scope.spawn(move || fill_shard(shard))).collect();
            tasks.into_iter().try_for_each(|it| it.join().map_err(|_| "a thread panicked")?)
        })?;
        Proxy::start(&self.cluster, port, &map, &[]).await
    }
}

/// Makes the tables with the rows that `share` says.
fn fill<'a>(
    client: &mut Client,
    tables: &'a [Table],
    indexes: &str,
    share: impl Fn(&'a Table) -> Outcome<Cow<'a, str>>,
) -> Outcome {
    for table in tables {
        done(client.simple(&table.create()))?;
        done(client.copy(&format!("COPY {} FROM STDIN", table.name), share(table)?.as_bytes()))?;
    }
    done(client.simple(indexes))?;
    done(client.simple("ANALYZE"))
}

fn done(answer: Answer) -> Outcome {
    answer.error.map_or(Ok(()), |it| Err(it.to_string().into()))
}

/// Asks the plain server everything.
pub(crate) fn ask(client: &mut Client, queries: &[Query], how: (How, bool)) -> Outcome<Vec<(Answer, Duration)>> {
    let mut answers = Vec::with_capacity(queries.len());
    for query in queries {
        let (answer, took) = timed(client, query, how);
        if let Some(failure) = &answer.error {
            return Err(format!("{}: {failure}", query.name).into());
        }
        answers.push((answer, took));
    }
    Ok(answers)
}

/// Those whose answers tell nothing: no row, or nothing in the rows. Little would be compared.
pub(crate) fn idle<'a>(queries: &'a [Query], answers: &[(Answer, Duration)]) -> Vec<&'a str> {
    let says = |answer: &Answer| answer.rows.iter().flatten().any(Option::is_some);
    queries.iter().zip(answers).filter(|(_, (answer, _))| !says(answer)).map(|(query, _)| query.number()).collect()
}

/// Asks the proxy what the plain server was asked in the same way: the names of those that it answers otherwise.
pub(crate) fn compare_all(
    title: &str,
    proxy: &Proxy,
    queries: &[Query],
    answers: &[(Answer, Duration)],
    how: (How, bool),
) -> Outcome<Vec<String>> {
    let connect = || Client::connect(proxy.port(), USER, DATABASE);
    let mut client = connect()?;
    let mut otherwise = Vec::new();
    let mut alike = 0;
    let mut total = Duration::ZERO;
    for (query, (plain, plain_took)) in queries.iter().zip(answers) {
        let (answer, took) = timed(&mut client, query, how);
        total += took;
        let verdict = match (&answer.error, compare(&answer, plain, Order::Total)) {
            (Some(failure), _) => {
                otherwise.push(query.name.clone());
                failure.to_string()
            }
            (None, Verdict::Same) => {
                alike += 1;
                format!("alike, {} rows", answer.rows.len())
            }
            (None, other) => {
                otherwise.push(query.name.clone());
                format!("{other:?}")
            }
        };
        println!("{title} {}: {verdict} ({took:.2?}, plain {plain_took:.2?})", query.name);
        // After what was not answered in time the connection would be behind.
        if answer.error.is_some() {
            client = connect()?;
        }
    }
    println!("oracle: {title}: {alike} of {} alike in {total:.1?}", queries.len());
    Ok(otherwise)
}

/// `how`: the protocol, and whether cells are binary.
fn timed(client: &mut Client, query: &Query, (how, binary): (How, bool)) -> (Answer, Duration) {
    let begun = clock::now();
    let answer = client.run(how, &query.sql, &[], binary);
    (answer, clock::now().since(begun))
}
