//! PostgreSQL's own regression files, their tables sharded: what the proxy answers is what one plain server answers.
//!
//! Of every file the figures are printed, and of all together; what was refused, and what differs, is in a file each
//! below `target/tmp/regress`. `SHARDWAY_REGRESS=join,with` picks files.

#[path = "oracle/compare.rs"]
#[allow(dead_code, reason = "the oracle uses more of it")]
mod compare;
#[path = "regress/map.rs"]
mod map;
#[allow(dead_code, reason = "the oracle uses the rest")]
#[path = "oracle/rig.rs"]
mod rig;
#[path = "regress/rows.rs"]
mod rows;
#[path = "regress/run.rs"]
mod run;
#[path = "regress/sides.rs"]
mod sides;
#[path = "regress/text.rs"]
mod text;
#[allow(dead_code, reason = "the oracle uses the rest")]
#[path = "oracle/wire.rs"]
mod wire;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use shardway::local_cluster::Cluster;
use shardway::local_cluster::ClusterSpec;
use tokio::runtime::Runtime;

use map::Map;
use run::Others;
use run::Report;
use run::Run;
use run::details;
use sides::Copier;
use sides::Session;
use sides::Side;
use sides::USER;
use text::Kind;
use text::Statement;

/// The files, and before them those whose tables they read.
const FILES: &[(&str, &[&str])] = &[
    ("aggregates", &[]),
    ("arrays", &[]),
    ("bit", &[]),
    ("boolean", &[]),
    ("case", &[]),
    ("char", &[]),
    ("date", &[]),
    ("expressions", &[]),
    ("float4", &[]),
    ("float8", &[]),
    ("groupingsets", &[]),
    ("inet", &[]),
    ("int2", &[]),
    ("int4", &[]),
    ("int8", &[]),
    ("interval", &[]),
    ("join", &[]),
    ("json", &[]),
    ("jsonb", &[]),
    ("jsonb_jsonpath", &[]),
    ("limit", &[]),
    ("misc", &[]),
    ("multirangetypes", &[]),
    ("numeric", &[]),
    ("numerology", &[]),
    ("random", &[]),
    ("rangefuncs", &[]),
    ("rangetypes", &[]),
    ("regex", &[]),
    ("rowtypes", &[]),
    ("select", &[]),
    ("select_distinct", &[]),
    ("select_distinct_on", &[]),
    ("select_having", &[]),
    ("select_implicit", &[]),
    ("strings", &[]),
    ("subselect", &[]),
    ("text", &[]),
    ("time", &[]),
    ("timestamp", &[]),
    ("timestamptz", &[]),
    ("timetz", &[]),
    ("tsrf", &[]),
    ("union", &[]),
    ("uuid", &[]),
    ("varchar", &[]),
    ("window", &[]),
    ("with", &[]),
];
const LONG: [&str; 4] = ["join", "aggregates", "rowtypes", "subselect"];
/// At least so much of what the plain server answers is answered, in percent.
const ANSWERED_MIN: f64 = 95.0;
const BASE: &str = "regress_base";
/// The same without rows.
const EMPTY: &str = "regress_empty";
/// Of create_index.sql, for without them some statements take very long.
const INDEXES: &str = "CREATE INDEX onek_unique1 ON onek (unique1); CREATE INDEX onek_unique2 ON onek (unique2); \
    CREATE INDEX onek_hundred ON onek (hundred); CREATE INDEX onek_stringu1 ON onek (stringu1); \
    CREATE INDEX tenk1_unique1 ON tenk1 (unique1); CREATE INDEX tenk1_unique2 ON tenk1 (unique2); \
    CREATE INDEX tenk1_hundred ON tenk1 (hundred); CREATE INDEX tenk1_thous_tenthous ON tenk1 (thousand, tenthous); \
    CREATE INDEX tenk2_unique1 ON tenk2 (unique1); CREATE INDEX tenk2_unique2 ON tenk2 (unique2); \
    CREATE INDEX tenk2_hundred ON tenk2 (hundred); ANALYZE";
/// As in PostgreSQL's own runs.
const SETTINGS: [(&str, &str); 6] = [
    ("timezone", "PST8PDT"),
    ("datestyle", "Postgres, MDY"),
    ("intervalstyle", "postgres_verbose"),
    ("statement_timeout", "30s"),
    ("autovacuum", "off"),
    // What it compiles here is run once.
    ("jit", "off"),
];
const START_MAX: Duration = Duration::from_secs(60);
/// Files at a time.
const WORKERS: usize = 2;
/// Tables that are read by their parents' names.
const KIN: [&str; 7] = ["person", "emp", "student", "stud_emp", "road", "ihighway", "shighway"];

#[test]
fn regression_files_have_one_answer() {
    let rig = Rig::start();
    let picked = env::var("SHARDWAY_REGRESS").unwrap_or_default();
    let picked: Vec<&str> = picked.split(',').filter(|it| !it.is_empty()).collect();
    let wanted = FILES.iter().filter(|it| picked.is_empty() || picked.contains(&it.0));
    // Those that take long come first.
    let (long, short): (Vec<&(&str, &[&str])>, Vec<_>) = wanted.partition(|it| LONG.contains(&it.0));
    let queue = Mutex::new(long.into_iter().chain(short).rev().collect::<Vec<_>>());
    let reports = Mutex::new(Vec::<(&str, Report, Duration)>::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("nobody panics with it").pop();
                    let Some((name, before)) = next else { return };
                    let begun = Instant::now();
                    let report = rig.file(name, before);
                    fs::write(rig.results().join(format!("{name}.txt")), details(&report))
                        .expect("the results are written");
                    reports.lock().expect("nobody panics with it").push((*name, report, begun.elapsed()));
                }
            });
        }
    });
    let mut reports = reports.into_inner().expect("nobody panicked");
    reports.sort_by_key(|it| it.0);
    let mut all = Report::default();
    for (name, report, took) in reports {
        println!("oracle: {name}: {}, {:.1} s", report.line(), took.as_secs_f64());
        all.add(report);
    }
    println!("oracle: ALL: {}", all.line());
    let mut reasons: Vec<_> = all.refused.iter().collect();
    reasons.sort_by_key(|it| std::cmp::Reverse(it.1.0));
    for (reason, (count, example)) in reasons.iter().take(40) {
        println!("oracle:   {count:5} {reason}: {example}");
    }
    println!("oracle:   skipped {:?}; refused when all is gathered: {}", all.skipped, all.gather_refused);
    fs::write(rig.results().join("ALL.txt"), details(&all)).expect("the results are written");
    assert!(all.mismatches.is_empty(), "{} mismatches:\n{}", all.mismatches.len(), all.mismatches.join("\n"));
    let share = all.answered as f64 * 100.0 / all.asked().max(1) as f64;
    assert!(!picked.is_empty() || share >= ANSWERED_MIN, "{share:.1} % are answered");
}

/// Three servers: two shards and a plain one, which holds the twin too.
struct Rig {
    cluster: Cluster,
    _runtime: Runtime,
    ports: [u16; 3],
    text: std::path::PathBuf,
    /// The tables that every file finds.
    base: BTreeSet<String>,
}

impl Rig {
    fn start() -> Self {
        let text = text::folder();
        let runtime = Runtime::new().expect("a runtime");
        let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let spec = ClusterSpec { shards: 3, replicas: 0, settings, ..ClusterSpec::default() };
        let cluster = runtime.block_on(Cluster::start(spec)).expect("servers start");
        let ports: Vec<u16> = cluster.primaries().map(|it| it.port()).collect();
        let ports = <[u16; 3]>::try_from(ports).expect("three servers");
        let mut rig = Self { cluster, _runtime: runtime, ports, text, base: BTreeSet::new() };
        fs::create_dir_all(rig.results()).expect("a folder below target");
        let setup = rig.statements("test_setup");
        let [first, second, plain] = ports;
        for (port, database) in [(first, EMPTY), (second, EMPTY), (plain, EMPTY), (plain, BASE)] {
            make_database(port, database, "template0");
            let mut run = Run::new(Side::open(port, database), None);
            // The others get rows when a file is known.
            let rows = |it: &&Statement| database == BASE || !matches!(it.kind, Kind::Write | Kind::Skip(_));
            let setup: Vec<Statement> = setup.iter().filter(rows).cloned().collect();
            run.all(&setup, &|_| false);
            assert_eq!(run.plain.session.run(INDEXES).error, None);
            if database == BASE {
                let sql = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
                rig.base = run.plain.control.table(sql).into_iter().flatten().collect();
                assert!(rig.base.contains("tenk2"), "test_setup is done");
            }
        }
        rig
    }

    fn results(&self) -> std::path::PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("regress")
    }

    fn statements(&self, file: &str) -> Vec<Statement> {
        let path = self.text.join(format!("{file}.sql"));
        let text = fs::read(&path).unwrap_or_else(|it| panic!("{file}.sql: {it}"));
        text::statements(&String::from_utf8_lossy(&text))
    }

    /// Runs one file, twice.
    fn file(&self, name: &str, before: &[&str]) -> Report {
        let mut statements = Vec::new();
        for earlier in before {
            statements.extend(self.statements(earlier).into_iter().filter(|it| it.kind != Kind::Read));
        }
        statements.extend(self.statements(name));
        let mut words: BTreeSet<String> = statements.iter().flat_map(Statement::words).collect();
        if KIN.iter().any(|it| words.contains(*it)) {
            words.extend(KIN.map(str::to_owned));
        }
        let named = |table: &str| !self.base.contains(table) || words.contains(table);
        let [first, second, plain] = self.ports;
        let database = format!("regress_{name}");
        let (scratch, twin) = (format!("{database}_scratch"), format!("{database}_twin"));
        make_database(plain, &scratch, BASE);
        let mut alone = Run::new(Side::open(plain, &scratch), None);
        alone.all(&statements, &named);
        let map = alone.seen.map();
        drop(alone);
        Session::open(plain, "postgres", "postgres").run(&format!("DROP DATABASE \"{scratch}\" WITH (FORCE)"));

        make_database(plain, &database, BASE);
        for (port, database) in [(plain, &twin), (first, &database), (second, &database)] {
            make_database(port, database, EMPTY);
        }
        let proxy = Proxy::start(&self.cluster, &database, &map, [first, second]);
        let mut told = proxy.session(&database);
        assert_eq!(told.set("SET shardway.strategy = gather").error, None);
        let [by_key, everywhere, on_one] = map.counts();
        let others = Others {
            twin: Side::open(plain, &twin),
            shards: [Side::open(first, &database), Side::open(second, &database)],
            proxy: [proxy.session(&database), told],
            map,
            copier: Copier::default(),
        };
        let mut run = Run::new(Side::open(plain, &database), Some(others));
        run.all(&statements, &named);
        let mut report = std::mem::take(&mut run.report);
        report.complaints.push(format!("tables: {by_key} by key, {everywhere} everywhere, {on_one} on one shard"));
        drop(run);
        drop(proxy);
        for (port, database) in [(plain, &database), (plain, &twin), (first, &database), (second, &database)] {
            Session::open(port, "postgres", "postgres").run(&format!("DROP DATABASE \"{database}\" WITH (FORCE)"));
        }
        report
    }
}

fn make_database(port: u16, name: &str, template: &str) {
    let mut control = Session::open(port, "postgres", "postgres");
    let answer = control.run(&format!("CREATE DATABASE \"{name}\" OWNER {USER} TEMPLATE {template}"));
    assert_eq!(answer.error, None, "{name}");
}

/// A proxy of its own for a file.
struct Proxy {
    child: Child,
    port: u16,
}

impl Proxy {
    fn start(cluster: &Cluster, database: &str, map: &Map, shards: [u16; 2]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let path = cluster.dir().join(format!("{database}.yaml"));
        fs::write(&path, map.text(database, port, shards)).expect("the map is written");
        let log_path = cluster.dir().join(format!("{database}.log"));
        let log = fs::File::create(&log_path).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardway"));
        command.arg("serve").arg("--map").arg(&path).args(["--workers", "1"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("the proxy starts");
        let mut proxy = Self { child, port };
        let until = Instant::now() + START_MAX;
        while let Err(error) = wire::Client::connect(port, USER, database) {
            let ended = proxy.child.try_wait().expect("its state").is_some();
            assert!(
                !ended && Instant::now() < until,
                "the proxy does not answer: {error}\n{}",
                fs::read_to_string(&log_path).unwrap_or_default()
            );
            thread::yield_now();
        }
        proxy
    }

    fn session(&self, database: &str) -> Session {
        Session::open(self.port, USER, database)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
