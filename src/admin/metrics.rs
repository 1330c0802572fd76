//! The numbers of a running proxy in Prometheus's text format, for `/metrics`.
//!
//! They live where they are counted, and are only written down here: a registry would hold copies. Labels are names of the
//! map, and words of the proxy's own: nothing that clients say.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::admin::Operated;
use crate::admin::show;
use crate::clock;
use crate::clock::Tick;
use crate::exec::Service;
use crate::exec::clients;
use crate::exec::clients::Counts;
use crate::exec::clients::Doing;
use crate::ident::ShardId;
use crate::topology::Health;
use crate::topology::NodeState;
use crate::topology::Role;
use crate::topology::events::Kind;

/// The name by which the console is a database.
const CONSOLE: &str = "shardway";

/// All of them, as a scraper wants them.
pub(super) fn render(process: &dyn Operated) -> String {
    let mut page = Page::default();
    of_process(process, &mut page);
    of_clients(process, &mut page);
    of_shards(process, &mut page);
    of_pools(process, &mut page);
    page.0
}

#[derive(Debug, Default)]
struct Page(String);

#[derive(Clone, Copy, Debug)]
enum Form {
    Gauge,
    Counter,
    Histogram,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// Begins a metric; its samples follow.
    fn metric(&mut self, name: &str, form: Form, help: &str) {
        let form = match form {
            Form::Gauge => "gauge",
            Form::Counter => "counter",
            Form::Histogram => "histogram",
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {form}");
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if place == 0 { '{' } else { ',' });
            for letter in text.chars() {
                match letter {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A metric of one sample.
    fn one(&mut self, name: &str, form: Form, help: &str, value: impl Display) {
        self.metric(name, form, help);
        self.sample(name, &[], value);
    }
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

fn of_process(process: &dyn Operated, page: &mut Page) {
    page.metric("shardway_build_info", Form::Gauge, "The version of the program.");
    page.sample("shardway_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.one("shardway_serving", Form::Gauge, "1 while clients are let in.", u8::from(process.serving()));
    let version = process.deployment().map.version;
    page.one(
        "shardway_map_version",
        Form::Gauge,
        "Which edition of the map is in force, counted from the start.",
        version,
    );
    let rejected = u8::from(process.live().rejected().is_some());
    page.one("shardway_map_rejected", Form::Gauge, "1 while the map's file says what was not taken.", rejected);
    let name = "shardway_events_total";
    page.metric(name, Form::Counter, "What happened to servers and to the map; shard events first.");
    for (database, service) in &process.deployment().services {
        for (id, shard) in (0_u16..).map(ShardId).zip(&service.database.shards) {
            for kind in Kind::ALL.iter().filter(|it| it.is_of_shard()) {
                let labels = [("database", &**database), ("shard", &*shard.name), ("event", kind.label())];
                page.sample(name, &labels, service.topology.events(id).count(*kind));
            }
        }
    }
    for kind in Kind::ALL.iter().filter(|it| !it.is_of_shard()) {
        page.sample(name, &[("database", ""), ("shard", ""), ("event", kind.label())], process.events().count(*kind));
    }
}

fn of_clients(process: &dyn Operated, page: &mut Page) {
    let help = "Connections of clients, logged in or not.";
    page.one("shardway_client_connections", Form::Gauge, help, process.connected());
    let deployment = process.deployment();
    let mut doing: BTreeMap<(Arc<str>, &str), usize> = BTreeMap::new();
    let mut done = process.clients().by_database();
    for name in deployment.services.keys() {
        done.entry(Arc::clone(name)).or_default();
        for state in ["idle", "active", "waiting"] {
            doing.insert((Arc::clone(name), state), 0);
        }
    }
    for client in process.clients().here() {
        let database = client.who().database;
        // Until it has been let in it may name any.
        let known = deployment.services.contains_key(&database) || &*database == CONSOLE;
        let state = match client.doing() {
            Doing::Nothing => "idle",
            Doing::Something => "active",
            Doing::Waiting(_) => "waiting",
        };
        *doing.entry((if known { database } else { "".into() }, state)).or_default() += 1;
    }
    page.metric("shardway_clients", Form::Gauge, "Clients that have logged in, by what they do.");
    for ((database, state), count) in &doing {
        page.sample("shardway_clients", &[("database", database), ("state", state)], count);
    }
    type Value = fn(&Counts) -> f64;
    #[expect(clippy::cast_precision_loss, reason = "a scraper reads it as a float anyway")]
    let counters: [(&str, &str, Value); 7] = [
        ("shardway_queries_total", "Commands that were answered.", |it| it.queries as f64),
        ("shardway_transactions_total", "Transactions that ended, single statements among them.", |it| {
            it.transactions as f64
        }),
        ("shardway_server_assignments_total", "Server connections given to clients.", |it| it.assignments as f64),
        ("shardway_received_bytes_total", "Bytes that came from clients.", |it| it.received as f64),
        ("shardway_sent_bytes_total", "Bytes that went to clients.", |it| it.sent as f64),
        ("shardway_transaction_seconds_total", "Time in transactions, pauses included.", |it| {
            seconds(it.transaction_time)
        }),
        ("shardway_wait_seconds_total", "Time without a server connection or primary.", |it| seconds(it.wait_time)),
    ];
    for (name, help, value) in counters {
        page.metric(name, Form::Counter, help);
        for (database, counts) in &done {
            page.sample(name, &[("database", database)], value(counts));
        }
    }
    page.metric("shardway_query_seconds", Form::Histogram, "Time from a command's arrival to the end of its answer.");
    for (database, counts) in &done {
        histogram(page, database, counts);
    }
    page.metric("shardway_refused_total", Form::Counter, "Errors of the proxy's own that clients were told.");
    for (code, count) in process.clients().refusals() {
        page.sample("shardway_refused_total", &[("code", code.label())], count);
    }
}

fn histogram(page: &mut Page, database: &str, counts: &Counts) {
    let mut sum = 0;
    for (place, count) in counts.spans.iter().enumerate() {
        sum += count;
        let bound = match place {
            clients::SPANS => "+Inf".to_owned(),
            _ => clients::span_max(place).as_secs_f64().to_string(),
        };
        page.sample("shardway_query_seconds_bucket", &[("database", database), ("le", &bound)], sum);
    }
    page.sample("shardway_query_seconds_sum", &[("database", database)], seconds(counts.query_time));
    page.sample("shardway_query_seconds_count", &[("database", database)], sum);
}

fn of_shards(process: &dyn Operated, page: &mut Page) {
    let deployment = process.deployment();
    let shards: Vec<(&str, &Service, ShardId, &str)> = deployment
        .services
        .iter()
        .flat_map(|(name, service)| {
            let shards = (0_u16..).map(ShardId).zip(&service.database.shards);
            shards.map(move |(id, shard)| (&**name, &**service, id, &*shard.name))
        })
        .collect();
    page.metric("shardway_shard_writable", Form::Gauge, "1 while the shard has a primary that answers.");
    for (database, service, id, shard) in &shards {
        let is = u8::from(service.topology.primary(*id).is_some());
        page.sample("shardway_shard_writable", &[("database", database), ("shard", shard)], is);
    }
    page.metric("shardway_shard_in_rotation", Form::Gauge, "Replicas of the shard that serve reads.");
    for (database, service, id, shard) in &shards {
        let labels = [("database", *database), ("shard", *shard)];
        page.sample("shardway_shard_in_rotation", &labels, service.topology.in_rotation(*id));
    }
    let help = "Parts of transactions over several shards that are prepared on the shard and not decided.";
    page.metric("shardway_two_phase_prepared", Form::Gauge, help);
    let mut oldest = Vec::new();
    for (database, service, _, shard) in &shards {
        let labels = [("database", *database), ("shard", *shard)];
        let all = service.topology.two_phase.in_doubt();
        let parts: Vec<_> = all.iter().filter(|it| *it.shard == **shard).collect();
        page.sample("shardway_two_phase_prepared", &labels, parts.len());
        oldest.push((labels, parts.iter().map(|it| it.age).fold(0.0, f64::max)));
    }
    page.metric("shardway_two_phase_oldest_seconds", Form::Gauge, "How old the oldest of them is; 0: there is none.");
    for (labels, age) in &oldest {
        page.sample("shardway_two_phase_oldest_seconds", labels, age);
    }
    let help = "Attempts to read all shards at one moment: found, tries, shut (with writers made to wait), given_up.";
    page.metric("shardway_snapshots_total", Form::Counter, help);
    for (database, service) in &deployment.services {
        let counts = &service.gate.counts;
        let all = [
            ("found", &counts.found),
            ("tries", &counts.tries),
            ("shut", &counts.shut),
            ("given_up", &counts.given_up),
        ];
        for (what, count) in all {
            let labels = [("database", &**database), ("what", what)];
            page.sample("shardway_snapshots_total", &labels, count.load(Ordering::Relaxed));
        }
    }
    of_nodes(page, &shards);
}

fn of_nodes(page: &mut Page, shards: &[(&str, &Service, ShardId, &str)]) {
    let now = clock::now();
    let mut each = |name: &str, form, help, values: &dyn Fn(&NodeState) -> Vec<Sample>| {
        page.metric(name, form, help);
        for (database, service, id, shard) in shards {
            for (_, state) in service.topology.nodes().filter(|(node, _)| node.shard == *id) {
                for (more, value) in values(state) {
                    let mut labels = vec![("database", *database), ("shard", *shard), ("node", &*state.node().name)];
                    labels.extend(more);
                    page.sample(name, &labels, value);
                }
            }
        }
    };
    let is = |it: bool| f64::from(u8::from(it));
    each("shardway_node_role", Form::Gauge, "1 for what the node is.", &|it| {
        let roles = [Role::Unknown, Role::Primary, Role::Replica, Role::Fenced];
        roles.map(|role| (Some(("role", role.name())), is(it.role() == role))).into()
    });
    each("shardway_node_health", Form::Gauge, "1 for whether the node answers.", &|it| {
        let states = [Health::Unknown, Health::Up, Health::Suspect, Health::Down];
        states.map(|health| (Some(("health", health.name())), is(it.health() == health))).into()
    });
    let help = "How long ago a replica is known to have had everything that was acknowledged; none: not known.";
    each("shardway_node_fresh_seconds_ago", Form::Gauge, help, &|it| {
        let fresh = it.fresh_as_of();
        let known = it.role() == Role::Replica && fresh != Tick::NEVER;
        known.then(|| (None, now.since(fresh).as_secs_f64())).into_iter().collect()
    });
    each("shardway_node_in_use", Form::Gauge, "Server connections to the node that clients have.", &|it| {
        vec![(None, f64::from(it.in_use()))]
    });
    each(
        "shardway_node_served_total",
        Form::Counter,
        "How often a connection to the node was given to a client.",
        &|it| {
            #[expect(clippy::cast_precision_loss, reason = "a scraper reads it as a float anyway")]
            let served = it.served() as f64;
            vec![(None, served)]
        },
    );
}

/// One number of several, and the label that tells it from the others.
type Sample = (Option<(&'static str, &'static str)>, f64);

/// What is told of pools that differ only in what their connections ask for at login is one thing.
#[derive(Debug, Default)]
struct PoolNumbers {
    size: usize,
    active: usize,
    idle: usize,
    opening: usize,
    waiting: usize,
    wait: Duration,
    lent: u64,
}

type Number = fn(&PoolNumbers) -> f64;

fn of_pools(process: &dyn Operated, page: &mut Page) {
    let mut pools: BTreeMap<(String, String, String), PoolNumbers> = BTreeMap::new();
    for pool in show::all_pools(process) {
        let address = format!("{}:{}", pool.key.host, pool.key.port);
        let (active, idle) = (pool.active(), pool.idle());
        let key = (address, pool.key.database.to_string(), pool.key.user.to_string());
        let sum = pools.entry(key).or_default();
        sum.size += pool.counts.size;
        sum.active += active;
        sum.idle += idle;
        sum.opening += pool.counts.opening;
        sum.waiting += pool.counts.waiting;
        sum.wait = sum.wait.max(pool.counts.wait);
        sum.lent += pool.counts.lent;
    }
    let labels = |key: &(String, String, String)| {
        [("address", key.0.clone()), ("server_database", key.1.clone()), ("user", key.2.clone())]
    };
    let mut each = |name: &str, form, help: &str, more: &[(&str, Number)]| {
        page.metric(name, form, help);
        for (key, numbers) in &pools {
            for (state, value) in more {
                let own = labels(key);
                let mut labels: Vec<(&str, &str)> = own.iter().map(|(label, text)| (*label, &**text)).collect();
                if !state.is_empty() {
                    labels.push(("state", state));
                }
                page.sample(name, &labels, value(numbers));
            }
        }
    };
    #[expect(clippy::cast_precision_loss, reason = "a scraper reads it as a float anyway")]
    {
        each(
            "shardway_pool_size",
            Form::Gauge,
            "How many connections the pool may have.",
            &[("", |it| it.size as f64)],
        );
        each(
            "shardway_pool_connections",
            Form::Gauge,
            "Connections of the pool.",
            &[("active", |it| it.active as f64), ("idle", |it| it.idle as f64), ("opening", |it| it.opening as f64)],
        );
        each("shardway_pool_waiting", Form::Gauge, "Clients that wait for one.", &[("", |it| it.waiting as f64)]);
        let help = "How long the first of them has waited.";
        each("shardway_pool_wait_seconds", Form::Gauge, help, &[("", |it| it.wait.as_secs_f64())]);
        each("shardway_pool_lent_total", Form::Counter, "How often one was lent.", &[("", |it| it.lent as f64)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_scrapers_read_them() {
        let mut page = Page::default();
        page.one("a_total", Form::Counter, "What it is.", 7);
        page.metric("b", Form::Gauge, "Another.");
        page.sample("b", &[("x", "plain"), ("y", "a \"b\"\\c\nd")], 0.25);
        assert_eq!(
            page.0,
            "# HELP a_total What it is.\n# TYPE a_total counter\na_total 7\n# HELP b Another.\n# TYPE b gauge\n\
             b{x=\"plain\",y=\"a \\\"b\\\"\\\\c\\nd\"} 0.25\n"
        );
    }

    #[test]
    fn a_histogram_adds_up_from_bound_to_bound() {
        let mut counts = Counts { query_time: 1_500_000_000, ..Counts::default() };
        counts.spans[0] = 2;
        counts.spans[3] = 1;
        counts.spans[clients::SPANS] = 4;
        let mut page = Page::default();
        histogram(&mut page, "shop", &counts);
        let lines: Vec<&str> = page.0.lines().collect();
        assert_eq!(lines.len(), clients::SPANS + 3);
        assert_eq!(lines[0], "shardway_query_seconds_bucket{database=\"shop\",le=\"0.000128\"} 2");
        assert_eq!(lines[3], "shardway_query_seconds_bucket{database=\"shop\",le=\"0.001024\"} 3");
        assert_eq!(lines[clients::SPANS], "shardway_query_seconds_bucket{database=\"shop\",le=\"+Inf\"} 7");
        assert_eq!(lines[clients::SPANS + 1], "shardway_query_seconds_sum{database=\"shop\"} 1.5");
        assert_eq!(lines[clients::SPANS + 2], "shardway_query_seconds_count{database=\"shop\"} 7");
    }
}
