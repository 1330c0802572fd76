//! Two shards behind a proxy, and a third server that holds the same rows alone: what it says is right.

use std::collections::BTreeMap;
use std::env;
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
use tokio::runtime::Runtime;

use super::compare::Order;
use super::compare::Verdict;
use super::compare::compare;
use super::compare::differ;
use super::compare::sorted;
use super::wire::Client;
use super::wire::How;
use super::wire::Row;
use super::wire::Value;

pub(crate) const USER: &str = "demo";
pub(crate) const DATABASE: &str = "shop";
const START_MAX: Duration = Duration::from_secs(60);

/// Every table, and how its rows lie on the shards.
pub(crate) const TABLES: [(&str, Lies); 10] = [
    ("users", Lies::Spread),
    ("users2", Lies::Spread),
    ("orders", Lies::Spread),
    ("loose", Lies::Spread),
    ("moods", Lies::Spread),
    ("pages", Lies::Spread),
    ("devices", Lies::Spread),
    ("days", Lies::Spread),
    ("countries", Lies::Everywhere),
    ("settings", Lies::First),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lies {
    Spread,
    Everywhere,
    First,
}

/// The same on every server. `mood` gets another OID on each: tables made before it shift them.
const SCHEMA: &str = "
CREATE TYPE mood AS ENUM ('sad', 'calm', 'glad');
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, age integer, country text, score numeric(8,2),
    born date, ts timestamptz, ok boolean);
CREATE TABLE users2 (id bigint PRIMARY KEY, name text NOT NULL, age integer);
CREATE TABLE orders (user_id bigint, no integer, total numeric(10,2), note text, PRIMARY KEY (user_id, no));
CREATE TABLE loose (id bigint, n integer);
CREATE TABLE moods (id bigint PRIMARY KEY, mood mood);
CREATE TABLE pages (slug text PRIMARY KEY, body text, n integer);
CREATE TABLE devices (id uuid PRIMARY KEY, label text, n integer);
CREATE TABLE days (day date PRIMARY KEY, what text);
CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL, people integer);
CREATE TABLE settings (name text PRIMARY KEY, value text);
CREATE INDEX orders_note ON orders (note);
CREATE VIEW adults AS SELECT id, name, age, country FROM users WHERE age >= 18;
CREATE VIEW sales AS SELECT u.id, u.name, o.no, o.total FROM users u JOIN orders o ON o.user_id = u.id;
CREATE VIEW countries_of AS SELECT u.id, c.name AS country FROM users u LEFT JOIN countries c ON c.code = u.country;
CREATE FUNCTION twice(n bigint) RETURNS bigint IMMUTABLE LANGUAGE sql AS 'SELECT n * 2';
CREATE FUNCTION peek() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM users';
CREATE PROCEDURE clear_loose() LANGUAGE sql AS 'DELETE FROM loose';
COMMENT ON TABLE users IS 'who buys';
COMMENT ON COLUMN users.id IS 'the shard key';
CREATE TABLE unmapped (id bigint);
";

pub(crate) struct Rig {
    // Ends before the servers do.
    proxy: Proxy,
    cluster: Cluster,
    _runtime: Runtime,
    pub(crate) port: u16,
}

struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Rig {
    /// Starts everything and loads the rows through the proxy, one statement a row.
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let spec = ClusterSpec { shards: 3, replicas: 0, ..ClusterSpec::default() };
        let cluster = runtime.block_on(Cluster::start(spec)).expect("servers start");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        for (place, node) in cluster.primaries().enumerate() {
            let mut client = Client::connect(node.port(), USER, DATABASE).expect("a node answers");
            let pad: String = (0..place).map(|it| format!("CREATE TABLE pad{it} (); DROP TABLE pad{it};")).collect();
            assert_eq!(client.simple(&(pad + SCHEMA)).error, None);
        }
        let ports: Vec<u16> = cluster.primaries().map(|it| it.port()).collect();
        let map = format!(
            "version: 1
listen: {{postgres: 127.0.0.1:{port}}}
databases:
  {DATABASE}:
    functions: {{safe: [public.twice]}}
    shards: {{s1: [127.0.0.1:{}], s2: [127.0.0.1:{}]}}
    groups:
      user: {{key: bigint, tables: {{users: id, users2: id, orders: user_id, loose: id, moods: id}}}}
      page: {{key: text, tables: {{pages: slug}}}}
      device: {{key: uuid, tables: {{devices: id}}}}
      day: {{key: date, tables: {{days: day}}}}
    reference: [countries]
    unsharded: {{s1: [settings]}}
users: {{{USER}: {{auth: trust}}}}
",
            ports[0], ports[1]
        );
        let path = cluster.dir().join("oracle-map.yaml");
        fs::write(&path, map).expect("the map is written");
        let log = fs::File::create(cluster.dir().join("proxy.log")).expect("a log");
        let proxy = Command::new(env!("CARGO_BIN_EXE_shardway"))
            .arg("serve")
            .arg("--map")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the proxy starts");
        let rig = Self { proxy: Proxy(proxy), cluster, _runtime: runtime, port };
        let mut both = rig.both();
        for statement in rows() {
            let verdict = both.check(How::Simple, &statement, &[], false, Order::Any);
            assert!(matches!(verdict, Verdict::Same), "{statement}: {verdict:?}");
        }
        // The proxy does not write reference tables on every shard yet: they are filled past it.
        let countries = "INSERT INTO countries VALUES ('DE', 'Germany', 84), ('FR', 'France', 68), ('NL', 'Netherlands', 18), \
                         ('ES', 'Spain', 48), ('XX', 'Nowhere', NULL)";
        for place in 0..3 {
            assert_eq!(rig.node(place).simple(countries).error, None);
        }
        rig.same_rows();
        let moved = rig.node(1).simple("SELECT count(*) FROM users").rows;
        assert_ne!(moved, [[Some(b"0".to_vec())]], "no user is on the second shard");
        rig
    }

    /// A connection to a server: the two shards are 0 and 1, the plain one 2.
    pub(crate) fn node(&self, place: usize) -> Client {
        let node = self.cluster.primaries().nth(place).expect("three servers");
        Client::connect(node.port(), USER, DATABASE).expect("a node answers")
    }

    pub(crate) fn node_port(&self, place: usize) -> u16 {
        self.cluster.primaries().nth(place).expect("three servers").port()
    }

    /// A session of the proxy and one of the plain server.
    pub(crate) fn both(&self) -> Both {
        Both { proxy: self.proxy_client(), plain: self.node(2) }
    }

    fn proxy_client(&self) -> Client {
        let until = Instant::now() + START_MAX;
        loop {
            match Client::connect(self.port, USER, DATABASE) {
                Ok(client) => return client,
                Err(error) if Instant::now() > until => {
                    let log = fs::read_to_string(self.cluster.dir().join("proxy.log")).unwrap_or_default();
                    panic!("the proxy {} does not answer: {error}\n{log}", self.proxy.0.id());
                }
                // Nobody listens yet.
                Err(_) => thread::yield_now(),
            }
        }
    }

    /// The shards together hold what the plain server holds, each row where it can be found.
    pub(crate) fn same_rows(&self) {
        let mut nodes = [self.node(0), self.node(1), self.node(2)];
        for (table, lies) in TABLES {
            let mut read = |place: usize| {
                let answer = nodes[place].simple(&format!("SELECT t::text FROM {table} t"));
                assert_eq!(answer.error, None, "{table}");
                sorted(answer.rows)
            };
            let (first, second, plain) = (read(0), read(1), read(2));
            match lies {
                Lies::Spread => assert_eq!(differ(&sorted([first, second].concat()), &plain), "", "{table}"),
                Lies::Everywhere => {
                    assert_eq!(differ(&first, &plain), "", "{table} on s1");
                    assert_eq!(differ(&second, &plain), "", "{table} on s2");
                }
                Lies::First => {
                    assert_eq!(differ(&first, &plain), "", "{table}");
                    assert_eq!(second, Vec::<Row>::new(), "{table} on s2");
                }
            }
        }
        // Each row is on the shard of its key: bucket by Postgres's own arithmetic.
        for (table, key, hash) in [
            ("users", "id", "hashint8extended"),
            ("users2", "id", "hashint8extended"),
            ("orders", "user_id", "hashint8extended"),
            ("loose", "id", "hashint8extended"),
            ("moods", "id", "hashint8extended"),
            ("pages", "slug", "hashtextextended"),
            ("devices", "id", "uuid_hash_extended"),
        ] {
            for (place, compare) in [(0, ">="), (1, "<")] {
                let sql = format!(
                    "SELECT count(*) FROM {table} WHERE \
                     mod(({hash}({key}, 8816678312871386365) & 16383) + 10467, 16384) {compare} 8192"
                );
                let astray = nodes[place].simple(&sql);
                assert_eq!(
                    (astray.error, astray.rows),
                    (None, vec![vec![Some(b"0".to_vec())]]),
                    "{table} on s{}",
                    place + 1
                );
            }
        }
    }
}

pub(crate) struct Both {
    pub(crate) proxy: Client,
    pub(crate) plain: Client,
}

impl Both {
    /// Runs a statement on both. What the proxy declines is not run on the plain server.
    pub(crate) fn check(&mut self, how: How, sql: &str, values: &[Value], binary: bool, order: Order) -> Verdict {
        let proxy = self.proxy.run(how, sql, values, binary);
        if let Some(failure) = proxy.error.as_ref().filter(|it| !it.by_server) {
            return match failure.sqlstate.as_str() {
                "0A000" | "22004" => Verdict::Refused(reason(&failure.message)),
                // Its own words for what the server would say too.
                _ => match self.plain.run(how, sql, values, binary).error {
                    Some(theirs) if theirs.sqlstate == failure.sqlstate => Verdict::SameError(theirs.sqlstate),
                    theirs => Verdict::Mismatch(format!("proxy's own {failure}, plain {theirs:?}")),
                },
            };
        }
        let plain = self.plain.run(how, sql, values, binary);
        compare(&proxy, &plain, order)
    }
}

/// A refusal's message without the names in it.
pub(crate) fn reason(message: &str) -> String {
    let mut out = String::new();
    for (place, piece) in message.split('"').enumerate() {
        out.push_str(if place % 2 == 0 { piece } else { "…" });
    }
    out.split('(').next().unwrap_or_default().trim().to_owned()
}

/// Refusals, counted by reason.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) answered: usize,
    pub(crate) failed_alike: BTreeMap<String, usize>,
    pub(crate) refused: BTreeMap<String, usize>,
    pub(crate) mismatches: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, what: &str, verdict: Verdict) {
        match verdict {
            Verdict::Same => self.answered += 1,
            Verdict::SameError(code) => *self.failed_alike.entry(code).or_default() += 1,
            Verdict::Refused(reason) => *self.refused.entry(reason).or_default() += 1,
            Verdict::Mismatch(text) => {
                println!("MISMATCH {what}\n    {text}");
                self.mismatches.push(what.to_owned());
            }
        }
    }

    pub(crate) fn print(&self, title: &str) {
        let alike: usize = self.failed_alike.values().sum();
        let refused: usize = self.refused.values().sum();
        let total = (self.answered + alike + refused + self.mismatches.len()).max(1);
        println!(
            "oracle: {title}: {total} statements: {} answered alike ({} %), {alike} failed alike, {refused} refused, {} MISMATCHES",
            self.answered,
            self.answered * 100 / total,
            self.mismatches.len()
        );
        println!("oracle:   errors {:?}", self.failed_alike);
        let mut reasons: Vec<_> = self.refused.iter().collect();
        reasons.sort_by_key(|it| std::cmp::Reverse(it.1));
        for (reason, count) in reasons.iter().take(12) {
            println!("oracle:   {count:5} {reason}");
        }
    }
}

/// Rows for every table but the reference ones, one INSERT each.
fn rows() -> Vec<String> {
    let mut all = Vec::new();
    let ids = (1..=60_i64).chain([0, -1, -5, 123, 1000, 2_147_483_648, i64::MAX, i64::MIN]);
    for (n, id) in ids.enumerate() {
        let age = if n % 11 == 10 { "NULL".to_owned() } else { ((n * 7) % 60).to_string() };
        let country = ["'DE'", "'FR'", "'NL'", "'ZZ'", "NULL"][n % 5];
        let score = if n % 7 == 6 { "NULL".to_owned() } else { format!("{}.{:02}", n * 3, n % 100) };
        let ok = ["true", "false", "NULL"][n % 3];
        all.push(format!(
            "INSERT INTO users VALUES ({id}, 'name{}', {age}, {country}, {score}, date '2020-01-01' + {n}, \
             timestamptz '2021-01-01 00:00:00+00' + interval '{n} hours', {ok})",
            n % 9
        ));
        if n % 3 != 2 {
            all.push(format!("INSERT INTO users2 (name, id, age) VALUES ('name{}', {id}, {age})", n % 4));
        }
        for no in 1..=(n % 4) {
            all.push(format!(
                "INSERT INTO orders (user_id, no, total, note) VALUES ({id}, {no}, {}.50, 'note{}')",
                n * no,
                (n + no) % 5
            ));
        }
        if n % 4 == 0 {
            all.push(format!("INSERT INTO moods VALUES ({id}, '{}')", ["sad", "calm", "glad"][n % 3]));
            all.push(format!("INSERT INTO loose (n, id) VALUES ({n}, {id})"));
        }
    }
    all.push("INSERT INTO orders VALUES (7777, 1, 1, 'an order of nobody')".to_owned());
    for slug in
        ["5", "05", " 5", "5 ", "5.0", "a", "A", "abc", "abc ", "é", "e\u{301}", "", "it''s", "x_y", "100%", "123"]
    {
        all.push(format!("INSERT INTO pages (slug, body, n) VALUES ('{slug}', 'body of {slug}', {})", slug.len()));
    }
    for n in 0..16 {
        all.push(format!("INSERT INTO devices VALUES ('{}', 'label{}', {n})", uuid(n), n % 3));
        let day = if n < 10 { format!("2024-02-{}", 20 + n) } else { format!("2024-03-{:02}", n - 9) };
        all.push(format!("INSERT INTO days VALUES ('{day}', 'what{}')", n % 4));
    }
    all.extend(["'infinity'", "'-infinity'"].map(|it| format!("INSERT INTO days VALUES ({it}, 'far')")));
    for n in 0..6 {
        all.push(format!("INSERT INTO settings VALUES ('setting{n}', '{n}')"));
    }
    all
}

/// The `n`th device's id.
pub(crate) fn uuid(n: usize) -> String {
    format!("{:08x}-0000-4000-8000-{:012x}", n * 0x1357_9bd, n)
}
