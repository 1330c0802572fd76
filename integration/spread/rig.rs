//! Five servers behind a proxy that has a database over one, two, three and five of them, and a sixth server that holds
//! the same rows alone: what it says is right.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use shardway::local_cluster::Stop;
use tokio::runtime::Runtime;

use super::cases;
use super::compare::Types;
use super::wire::Answer;
use super::wire::Client;
use super::wire::How;
use super::wire::Value;
use super::world::Lies;
use super::world::TYPES_DDL;
use super::world::World;

const USER: &str = "demo";
const START_MAX: Duration = Duration::from_secs(60);
/// The databases and on how many shards each is.
pub(crate) const DATABASES: [(&str, usize); 4] = [("one", 1), ("two", 2), ("three", 3), ("five", 5)];
const PLAIN: &str = "plain";
/// The server that is no shard.
const PLAIN_PLACE: usize = 5;

/// Settings that sessions have from the start; the first: none.
pub(crate) const PROFILES: [&[&str]; 3] = [
    &[],
    &[
        "SET DateStyle = 'German, DMY'",
        "SET IntervalStyle = 'iso_8601'",
        "SET TimeZone = 'Asia/Kathmandu'",
        "SET extra_float_digits = 0",
        "SET bytea_output = 'escape'",
    ],
    &["SET DateStyle = 'SQL, MDY'", "SET IntervalStyle = 'sql_standard'", "SET TimeZone = 'America/New_York'"],
];

/// How a statement is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// Which of [`DATABASES`]; `None`: the plain server.
    pub(crate) database: Option<usize>,
    pub(crate) how: How,
    pub(crate) binary: bool,
    /// Under `shardway.strategy = 'gather'`.
    pub(crate) gather: bool,
    /// Which of [`PROFILES`].
    pub(crate) profile: usize,
    /// Within BEGIN and ROLLBACK.
    pub(crate) in_transaction: bool,
}

impl Way {
    pub(crate) fn plain(self) -> Self {
        Self { database: None, gather: false, ..self }
    }
}

pub(crate) struct Rig {
    // Ends before the servers do.
    #[cfg_attr(not(feature = "mistakes"), expect(dead_code, reason = "it is there to be ended"))]
    proxy: Proxy,
    pub(crate) cluster: Cluster,
    runtime: Runtime,
    port: u16,
    pub(crate) worlds: Vec<World>,
    sessions: BTreeMap<(Option<usize>, bool, usize), (Client, String)>,
    /// User-defined types on the plain server, and on the catalog shard of each database.
    plain_types: Types,
    types: Vec<Types>,
}

/// Tables beside those of the worlds and of the fixed cases.
#[derive(Default)]
pub(crate) struct More {
    pub(crate) ddl: String,
    pub(crate) rows: String,
    /// Their names, where they lie and their keys.
    pub(crate) tables: Vec<(String, Lies, String)>,
}

struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Proxy {
    /// Starts one that makes a mistake, or none.
    fn start(cluster: &Cluster, mistake: Option<&str>) -> Self {
        let log = fs::File::create(cluster.dir().join("proxy.log")).expect("a log");
        let proxy = Command::new(env!("CARGO_BIN_EXE_shardway"))
            .arg("serve")
            .arg("--map")
            .arg(cluster.dir().join("spread-map.yaml"))
            .envs(mistake.map(|it| ("SHARDWAY_MISTAKE", it)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the proxy starts");
        Self(proxy)
    }
}

impl Rig {
    /// Starts everything, with a world for each seed and the tables of the fixed cases.
    pub(crate) fn start(seeds: &[u64]) -> Self {
        Self::start_with(seeds, |_| More::default())
    }

    /// Starts everything, and makes of what a server says more tables.
    pub(crate) fn start_with(seeds: &[u64], more: impl FnOnce(&mut Client) -> More) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let spec = ClusterSpec { shards: 6, replicas: 0, ..ClusterSpec::default() };
        let cluster = runtime.block_on(Cluster::start(spec)).expect("servers start");
        let ports: Vec<u16> = cluster.primaries().map(|it| it.port()).collect();
        let worlds: Vec<World> = seeds.iter().enumerate().map(|(at, seed)| World::new(*seed, at)).collect();
        let more = more(&mut Client::connect(ports[PLAIN_PLACE], "postgres", "postgres").expect("a node answers"));
        for (place, port) in ports.iter().enumerate() {
            for (database, shards) in DATABASES.iter().filter(|it| place < it.1).copied().chain([(PLAIN, 0)]) {
                if (database == PLAIN) == (place == PLAIN_PLACE) {
                    make(*port, database, place, shards, &worlds, &more);
                }
            }
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let path = cluster.dir().join("spread-map.yaml");
        fs::write(&path, map(port, &ports, &worlds, &more)).expect("the map is written");
        let proxy = Proxy::start(&cluster, None);
        let types = |port: u16, database: &str| {
            let mut client = Client::connect(port, USER, database).expect("a node answers");
            let answer = client.simple("SELECT oid, typname FROM pg_type WHERE oid >= 16384");
            let text = |it: &Option<Vec<u8>>| String::from_utf8_lossy(it.as_deref().unwrap_or_default()).into_owned();
            answer.rows.iter().map(|it| (text(&it[0]).parse().expect("a number"), text(&it[1]))).collect::<Types>()
        };
        let plain_types = types(ports[PLAIN_PLACE], PLAIN);
        let types = DATABASES.iter().map(|it| types(ports[0], it.0)).collect();
        let sessions = BTreeMap::new();
        let mut rig = Self { proxy, cluster, runtime, port, worlds, sessions, plain_types, types };
        rig.until_open();
        rig
    }

    /// Puts another proxy in the place of this one.
    #[cfg(feature = "mistakes")]
    pub(crate) fn make(&mut self, mistake: &str) {
        self.sessions.clear();
        let _ = self.proxy.0.kill();
        let _ = self.proxy.0.wait();
        self.proxy = Proxy::start(&self.cluster, Some(mistake));
        self.until_open();
    }

    fn until_open(&mut self) {
        let until = Instant::now() + START_MAX;
        while let Err(error) = Client::connect(self.port, USER, DATABASES[0].0) {
            // Nobody listens yet.
            if Instant::now() > until {
                panic!("the proxy does not answer: {error}\n{}", self.log());
            }
            thread::yield_now();
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.cluster.dir().join("proxy.log")).unwrap_or_default()
    }

    /// The names of types that this database tells, and those that the plain server tells.
    pub(crate) fn types(&self, database: usize) -> [&Types; 2] {
        [&self.types[database], &self.plain_types]
    }

    /// Where the plain server listens.
    pub(crate) fn plain_port(&self) -> u16 {
        self.cluster.primaries().nth(PLAIN_PLACE).map_or(0, |it| it.port())
    }

    /// A session of its own, past the proxy or through it.
    pub(crate) fn client(&self, database: Option<usize>) -> Client {
        let (port, name) = database.map_or_else(|| (self.plain_port(), PLAIN), |it| (self.port, DATABASES[it].0));
        Client::connect(port, USER, name).unwrap_or_else(|error| panic!("{name}: {error}\n{}", self.log()))
    }

    /// Ends a server at once.
    pub(crate) fn kill(&self, place: usize) {
        let node = self.cluster.primaries().nth(place).expect("a server");
        self.runtime.block_on(node.stop(Stop::Immediate)).expect("it stops");
    }

    /// Runs a statement in a session that has these settings and this search_path.
    pub(crate) fn run(&mut self, way: Way, path: &str, sql: &str, values: &[Value]) -> Answer {
        let key = (way.database, way.gather, way.profile);
        if !self.sessions.contains_key(&key) {
            let mut client = self.client(way.database);
            let gather = way.gather.then_some("SET shardway.strategy = 'gather'");
            // A join of everything with everything is nobody's interest.
            let patience =
                if way.database.is_none() { "SET statement_timeout = '3s'" } else { "SET statement_timeout = '20s'" };
            for setting in PROFILES[way.profile].iter().copied().chain(gather).chain([patience]) {
                assert_eq!(client.simple(setting).error, None, "{setting}");
            }
            self.sessions.insert(key, (client, String::new()));
        }
        let (client, current) = self.sessions.get_mut(&key).expect("it is there");
        if current != path {
            // The patience is for statements, and the machine may be busy.
            let set = format!("SET search_path = {path}");
            let tries: Vec<_> = (0..3).map_while(|_| client.simple(&set).error).collect();
            assert!(tries.len() < 3, "{path}: {tries:?}");
            path.clone_into(current);
        }
        if way.in_transaction {
            assert_eq!(client.simple("BEGIN").error, None);
        }
        // The same text under another search_path is a case of its own.
        let text = if way.how == How::Named { format!("{sql} /* {path} */") } else { sql.to_owned() };
        let answer = client.run(way.how, &text, values, way.binary);
        if way.in_transaction || !matches!(answer.status, b'I' | 0) {
            assert_eq!(client.simple("ROLLBACK").error, None, "after {sql}");
        }
        if answer.error.as_ref().is_some_and(|it| it.sqlstate == "-----" || it.sqlstate.starts_with("08")) {
            self.sessions.remove(&key);
        }
        answer
    }
}

/// Makes a database with all tables, and of the rows those that are its own.
fn make(port: u16, database: &str, place: usize, shards: usize, worlds: &[World], more: &More) {
    let mut admin = Client::connect(port, "postgres", "postgres").expect("a node answers");
    // By bytes texts would be in the same order however they are put together.
    let linguistic = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8' ENCODING UTF8";
    assert_eq!(admin.simple(&format!("CREATE DATABASE {database} OWNER {USER} {linguistic}")).error, None);
    // What is made up looks dear to the planner and is not: compiling it takes longer than running it.
    assert_eq!(admin.simple(&format!("ALTER DATABASE {database} SET jit = off")).error, None);
    let mut client = Client::connect(port, USER, database).expect("a node answers");
    let run = |client: &mut Client, sql: &str| {
        let error = client.simple(sql).error;
        assert!(error.is_none(), "{database}: {error:?}\n{sql}");
    };
    // User-defined types get other numbers on each server.
    let pads: String = (0..=place).map(|it| format!("CREATE TABLE pad{it} (); DROP TABLE pad{it};")).collect();
    run(&mut client, &pads);
    run(&mut client, TYPES_DDL);
    run(&mut client, cases::DDL);
    let mut rows = cases::rows().concat();
    for world in worlds {
        run(&mut client, &world.ddl);
        rows.push_str(&world.rows.concat());
    }
    run(&mut client, &more.ddl);
    rows.push_str(&more.rows);
    let made = worlds
        .iter()
        .flat_map(|it| &it.tables)
        .map(|it| (format!("{}.{}", it.schema, it.name), it.lies, it.columns[0].name.clone()));
    let fixed = cases::TABLES.iter().map(|(name, lies, key)| ((*name).to_owned(), *lies, (*key).to_owned()));
    for (table, lies, key) in fixed.chain(made).chain(more.tables.iter().cloned()).filter(|_| database != PLAIN) {
        let hash = match lies {
            Lies::Everywhere => continue,
            Lies::Home if place == 0 => continue,
            Lies::Home => {
                let _ = write!(rows, "DELETE FROM {table};");
                continue;
            }
            Lies::Band => {
                let bounds = band(place, shards).map(|it| it.map_or("NULL".to_owned(), |it| it.to_string()));
                let _ = write!(rows, "DELETE FROM {table} WHERE NOT {key} <@ int4range({}, {});", bounds[0], bounds[1]);
                continue;
            }
            Lies::Big => "hashint8extended",
            Lies::Word => "hashtextextended",
            Lies::Id => "uuid_hash_extended",
        };
        // As docs/decisions/hashing.md has it.
        let (from, to) = (place * 16_384 / shards, (place + 1) * 16_384 / shards);
        let _ = write!(
            rows,
            "DELETE FROM {table} WHERE mod(({hash}({key}, 8816678312871386365) & 16383) + 10467, 16384) \
             NOT BETWEEN {from} AND {};",
            to - 1
        );
    }
    run(&mut client, &rows);
}

/// The keys that a shard has of a group with ranges: from, to.
fn band(place: usize, shards: usize) -> [Option<usize>; 2] {
    [(place > 0).then_some(place * 40), (place + 1 < shards).then_some((place + 1) * 40)]
}

fn map(port: u16, ports: &[u16], worlds: &[World], more: &More) -> String {
    let mut out = format!("version: 1\nlisten: {{postgres: 127.0.0.1:{port}}}\ndatabases:\n");
    let all: Vec<(String, Lies, String)> = cases::TABLES
        .iter()
        .map(|(name, lies, key)| ((*name).to_owned(), *lies, (*key).to_owned()))
        .chain(worlds.iter().flat_map(|it| &it.tables).map(|it| {
            let bare = |name: &str| name.trim_matches('"').to_owned();
            (format!("{}.{}", it.schema, bare(&it.name)), it.lies, bare(&it.columns[0].name))
        }))
        .chain(more.tables.iter().cloned())
        .collect();
    let of = |lies: Lies| {
        let these: Vec<String> =
            all.iter().filter(|it| it.1 == lies).map(|(name, _, key)| format!("\"{name}\": \"{key}\"")).collect();
        these.join(", ")
    };
    let group = |name: &str, scheme: &str, lies: Lies| match of(lies) {
        tables if tables.is_empty() => String::new(),
        tables => format!("      {name}: {{key: {scheme}, tables: {{{tables}}}}}\n"),
    };
    let names = |lies: Lies| {
        let these: Vec<String> = all.iter().filter(|it| it.1 == lies).map(|it| format!("\"{}\"", it.0)).collect();
        these.join(", ")
    };
    for (database, shards) in DATABASES {
        let nodes: Vec<String> = (0..shards).map(|it| format!("s{}: [127.0.0.1:{}]", it + 1, ports[it])).collect();
        let ranges: Vec<String> = (0..shards)
            .map(|it| {
                let [from, to] = band(it, shards);
                let from = from.map_or(String::new(), |it| format!("from: {it}, "));
                let to = to.map_or(String::new(), |it| format!("to: {it}, "));
                format!("{{{from}{to}shard: s{}}}", it + 1)
            })
            .collect();
        let _ = write!(
            out,
            "  {database}:
    functions: {{safe: [public.twice, public.shout]}}
    shards: {{{}}}
    groups:
{}{}{}{}    reference: [{}]
    unsharded: {{s1: [{}]}}
",
            nodes.join(", "),
            group("big", "bigint", Lies::Big),
            group("word", "text", Lies::Word),
            group("id", "uuid", Lies::Id),
            group("band", &format!("int, scheme: range, ranges: [{}]", ranges.join(", ")), Lies::Band),
            names(Lies::Everywhere),
            names(Lies::Home),
        );
    }
    let _ = writeln!(out, "users: {{{USER}: {{auth: trust}}}}");
    out
}
