//! What SHOW tells of shards, connections and clients. Columns of PgBouncer's come first where it has the command, under its
//! names and in its order, and the proxy's own behind them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::Operated;
use crate::admin::console::Answer;
use crate::backend::PoolKey;
use crate::backend::Seat;
use crate::backend::pool::PoolCounts;
use crate::clock;
use crate::clock::Tick;
use crate::exec::Deployment;
use crate::exec::clients::Counts;
use crate::exec::clients::Doing;
use crate::exec::clients::Presence;
use crate::ident::ShardId;
use crate::shard_map::Engine;
use crate::topology::Health;
use crate::topology::Role;
use crate::topology::events::Event;

type Row = Vec<Option<String>>;

fn answer<const N: usize>(columns: [&'static str; N], rows: impl IntoIterator<Item = [Option<String>; N]>) -> Answer {
    Answer { columns: columns.into(), rows: rows.into_iter().map(Row::from).collect(), tag: "SHOW".to_owned() }
}

fn told(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

/// When that was, for people.
fn moment(at: Tick) -> Option<String> {
    (at != Tick::NEVER).then(|| clock::utc(clock::unix_now().saturating_sub(clock::now().since(at))))
}

fn ip(address: Option<SocketAddr>) -> Option<String> {
    told(address.map_or_else(|| "unix".to_owned(), |it| it.ip().to_canonical().to_string()))
}

fn port(address: Option<SocketAddr>) -> Option<String> {
    told(address.map_or(0, |it| it.port()))
}

fn tls(is_on: bool) -> Option<String> {
    told(if is_on { "TLS" } else { "" })
}

fn engine(of: Engine) -> Option<String> {
    told(match of {
        Engine::Postgres => "postgres",
        Engine::Mysql => "mysql",
    })
}

fn client_name(id: u64) -> String {
    format!("c{id}")
}

fn server_name(id: u64) -> String {
    format!("s{id}")
}

/// A pool of either engine.
pub(super) struct PoolSeen {
    pub(super) key: PoolKey,
    pub(super) engine: Engine,
    pub(super) counts: PoolCounts,
    pub(super) seats: Vec<Arc<Seat>>,
    /// The shard and node of the map that it leads to; `None`: the map no longer has it.
    pub(super) node: Option<(String, String)>,
}

impl PoolSeen {
    /// Connections that somebody has.
    pub(super) fn active(&self) -> usize {
        self.counts.active.saturating_sub(self.counts.opening)
    }

    pub(super) fn idle(&self) -> usize {
        self.counts.open.saturating_sub(self.counts.active)
    }
}

/// All pools, those of Postgres first.
pub(super) fn all_pools(process: &dyn Operated) -> Vec<PoolSeen> {
    let deployment = process.deployment();
    let seen = |key: &PoolKey, engine, counts, seats| PoolSeen {
        node: node_of(&deployment, key, engine),
        key: key.clone(),
        engine,
        counts,
        seats,
    };
    let (postgres, mysql) = (process.pools().all(), process.mysql_pools().all());
    let postgres = postgres.iter().map(|it| seen(&it.key, Engine::Postgres, it.counts(), it.seats()));
    postgres.chain(mysql.iter().map(|it| seen(&it.key, Engine::Mysql, it.counts(), it.seats()))).collect()
}

/// The shard and node of the map that a pool leads to.
fn node_of(deployment: &Deployment, key: &PoolKey, engine: Engine) -> Option<(String, String)> {
    let of_engine = deployment.services.values().filter(|it| it.database.engine == engine);
    let nodes = of_engine.flat_map(|service| service.database.nodes().map(move |(id, node)| (service, id, node)));
    let mut found = nodes.filter(|(service, _, node)| {
        // A connection that has selected no database is one to any of that server.
        let is_same = key.database.is_empty() || service.database.server_name == key.database;
        is_same && node.host == key.host && node.port == key.port
    });
    let (service, id, node) = found.next()?;
    Some((service.database.shard(id.shard).name.to_string(), node.name.to_string()))
}

/// A row a shard.
pub(super) fn shards(process: &dyn Operated) -> Answer {
    let deployment = process.deployment();
    let mut rows = Vec::new();
    for (name, service) in &deployment.services {
        for (id, shard) in (0_u16..).map(ShardId).zip(&service.database.shards) {
            let topology = &service.topology;
            let nodes: Vec<_> = topology.nodes().filter(|(node, _)| node.shard == id).map(|(_, it)| it).collect();
            let count = |holds: &dyn Fn(Role, Health) -> bool| {
                told(nodes.iter().filter(|it| holds(it.role(), it.health())).count())
            };
            let primary = topology.primary(id);
            let trouble = primary.is_none().then(|| {
                let of_node = |it: &&Arc<crate::topology::NodeState>| {
                    let why = it.trouble().map(|it| format!(": {it}")).unwrap_or_default();
                    format!("{} is {}, {}{why}", it.node().name, it.role().name(), it.health().name())
                };
                nodes.iter().map(of_node).collect::<Vec<_>>().join("; ")
            });
            rows.push([
                told(name),
                told(&shard.name),
                primary.map(|it| topology.node(it).node().name.to_string()),
                told(if primary.is_some() { "yes" } else { "no" }),
                told(nodes.len()),
                count(&|_, health| health == Health::Up),
                count(&|role, _| role == Role::Replica),
                told(topology.in_rotation(id)),
                count(&|role, _| role == Role::Fenced),
                told(nodes.iter().map(|it| it.in_use()).sum::<u32>()),
                told(nodes.iter().map(|it| it.served()).sum::<u64>()),
                trouble,
            ]);
        }
    }
    answer(
        [
            "database",
            "shard",
            "primary",
            "writable",
            "nodes",
            "nodes_up",
            "replicas",
            "in_rotation",
            "fenced",
            "in_use",
            "served",
            "trouble",
        ],
        rows,
    )
}

/// A row a pool: a node, a database there, and a user.
pub(super) fn pools(process: &dyn Operated) -> Answer {
    let row = |pool: &PoolSeen| {
        let (key, counts) = (&pool.key, &pool.counts);
        let clients = pool.seats.iter().filter(|it| it.holder().is_some()).count();
        let none = || told(0);
        [
            told(&key.database),
            told(&key.user),
            told(clients),
            told(counts.waiting),
            none(),
            none(),
            told(pool.active()),
            none(),
            none(),
            told(pool.idle()),
            none(),
            none(),
            told(counts.opening),
            told(counts.wait.as_secs()),
            told(counts.wait.subsec_micros()),
            told("transaction"),
            None,
            told(format_args!("{}:{}", key.host, key.port)),
            told(counts.size),
            told(counts.open),
            told(counts.active),
            told(counts.waiting),
            told(counts.lent),
            pool.node.as_ref().map(|it| it.0.clone()),
            pool.node.as_ref().map(|it| it.1.clone()),
        ]
    };
    answer(
        [
            "database",
            "user",
            "cl_active",
            "cl_waiting",
            "cl_active_cancel_req",
            "cl_waiting_cancel_req",
            "sv_active",
            "sv_active_cancel",
            "sv_being_canceled",
            "sv_idle",
            "sv_used",
            "sv_tested",
            "sv_login",
            "maxwait",
            "maxwait_us",
            "pool_mode",
            "load_balance_hosts",
            "address",
            "size",
            "open",
            "active",
            "waiting",
            "lent",
            "shard",
            "node",
        ],
        all_pools(process).iter().map(row),
    )
}

/// The columns that PgBouncer has for clients and for servers alike.
struct Common {
    kind: &'static str,
    user: String,
    database: String,
    state: &'static str,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
    connected: Tick,
    asked: Tick,
    wait: Duration,
    own: String,
    link: String,
    process: u32,
    tls: bool,
    application: String,
    prepared: Option<u64>,
    id: u64,
}

const COMMON: [&str; 20] = [
    "type",
    "user",
    "database",
    "replication",
    "state",
    "addr",
    "port",
    "local_addr",
    "local_port",
    "connect_time",
    "request_time",
    "wait",
    "wait_us",
    "close_needed",
    "ptr",
    "link",
    "remote_pid",
    "tls",
    "application_name",
    "prepared_statements",
];

impl Common {
    /// Its columns, `id` among them, and those of the proxy's own.
    fn with(self, more: impl IntoIterator<Item = Option<String>>) -> Row {
        let own = [
            told(self.kind),
            told(self.user),
            told(self.database),
            told("none"),
            told(self.state),
            ip(self.peer),
            port(self.peer),
            ip(self.local),
            port(self.local),
            moment(self.connected),
            moment(self.asked),
            told(self.wait.as_secs()),
            told(self.wait.subsec_micros()),
            told(0),
            told(self.own),
            told(self.link),
            told(self.process),
            tls(self.tls),
            told(self.application),
            self.prepared.map(|it| it.to_string()),
            told(self.id),
        ];
        own.into_iter().chain(more).collect()
    }

    fn columns(more: &[&'static str]) -> Vec<&'static str> {
        COMMON.iter().chain(&["id"]).chain(more).copied().collect()
    }
}

fn state(of: &Presence) -> &'static str {
    match of.doing() {
        Doing::Nothing => "idle",
        Doing::Something => "active",
        Doing::Waiting(_) => "waiting",
    }
}

/// A row a client.
pub(super) fn clients(process: &dyn Operated) -> Answer {
    let mut held: BTreeMap<u64, Vec<(u64, String)>> = BTreeMap::new();
    for pool in all_pools(process) {
        let node = pool.node.map_or_else(|| format!("{}:{}", pool.key.host, pool.key.port), |(_, node)| node);
        for seat in &pool.seats {
            if let Some(holder) = seat.holder() {
                held.entry(holder).or_default().push((seat.id, node.clone()));
            }
        }
    }
    let now = clock::now();
    let row = |of: &Arc<Presence>| {
        let (who, counts) = (of.who(), of.counts());
        let held = held.get(&of.id).map(Vec::as_slice).unwrap_or_default();
        let wait = match of.doing() {
            Doing::Waiting(since) => now.since(since),
            Doing::Nothing | Doing::Something => Duration::ZERO,
        };
        let names = |of: &dyn Fn(&(u64, String)) -> String| held.iter().map(of).collect::<Vec<_>>().join(",");
        let common = Common {
            kind: "C",
            user: who.user.to_string(),
            database: who.database.to_string(),
            state: state(of),
            peer: of.peer,
            local: of.local,
            connected: of.connected,
            asked: of.since(),
            wait,
            own: client_name(of.id),
            link: names(&|it| server_name(it.0)),
            process: of.process,
            tls: of.tls,
            application: who.application.to_string(),
            prepared: Some(of.prepared()),
            id: of.id,
        };
        let begun = of.begun();
        common.with([
            engine(of.engine),
            told(names(&|it| it.1.clone())),
            (begun != Tick::NEVER).then(|| now.since(begun).as_millis().to_string()),
            told(counts.queries),
            told(counts.transactions),
            told(counts.received),
            told(counts.sent),
        ])
    };
    Answer {
        columns: Common::columns(&["engine", "nodes", "transaction_ms", "queries", "transactions", "received", "sent"]),
        rows: process.clients().here().iter().map(row).collect(),
        tag: "SHOW".to_owned(),
    }
}

/// A row a server connection.
pub(super) fn servers(process: &dyn Operated) -> Answer {
    let clients: BTreeMap<u64, Arc<Presence>> = process.clients().here().into_iter().map(|it| (it.id, it)).collect();
    let mut rows = Vec::new();
    for pool in all_pools(process) {
        for seat in &pool.seats {
            let holder = seat.holder();
            let client = holder.and_then(|it| clients.get(&it));
            let common = Common {
                kind: "S",
                user: pool.key.user.to_string(),
                database: pool.key.database.to_string(),
                state: if holder.is_some() { "active" } else { "idle" },
                peer: seat.peer,
                local: seat.local,
                connected: seat.opened,
                asked: client.map_or(Tick::NEVER, |it| it.since()),
                wait: Duration::ZERO,
                own: server_name(seat.id),
                link: holder.map(client_name).unwrap_or_default(),
                process: seat.process,
                tls: seat.tls,
                application: client.map(|it| it.who().application.to_string()).unwrap_or_default(),
                prepared: None,
                id: seat.id,
            };
            let (shard, node) = pool.node.clone().unzip();
            rows.push(common.with([engine(pool.engine), shard, node]));
        }
    }
    Answer { columns: Common::columns(&["engine", "shard", "node"]), rows, tag: "SHOW".to_owned() }
}

/// A row a database.
pub(super) fn stats(process: &dyn Operated) -> Answer {
    let (period, took) = process.clients().latest_period();
    let mut totals = process.clients().by_database();
    for name in process.deployment().services.keys() {
        totals.entry(Arc::clone(name)).or_default();
    }
    let micros = |nanos: u64| nanos / 1000;
    let row = |(name, total): (&Arc<str>, &Counts)| {
        let latest = period.get(name).copied().unwrap_or_default();
        let second = |count: u64| {
            let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            told((count.saturating_mul(1000)).checked_div(millis).unwrap_or(0))
        };
        let each = |nanos: u64, count: u64| told(micros(nanos).checked_div(count).unwrap_or(0));
        [
            told(name),
            told(total.assignments),
            told(total.transactions),
            told(total.queries),
            told(total.received),
            told(total.sent),
            told(micros(total.transaction_time)),
            told(micros(total.query_time)),
            told(micros(total.wait_time)),
            second(latest.assignments),
            second(latest.transactions),
            second(latest.queries),
            second(latest.received),
            second(latest.sent),
            each(latest.transaction_time, latest.transactions),
            each(latest.query_time, latest.queries),
            each(latest.wait_time, latest.assignments),
        ]
    };
    answer(
        [
            "database",
            "total_server_assignment_count",
            "total_xact_count",
            "total_query_count",
            "total_received",
            "total_sent",
            "total_xact_time",
            "total_query_time",
            "total_wait_time",
            "avg_server_assignment_count",
            "avg_xact_count",
            "avg_query_count",
            "avg_recv",
            "avg_sent",
            "avg_xact_time",
            "avg_query_time",
            "avg_wait_time",
        ],
        totals.iter().map(row),
    )
}

/// A row an event, the latest last.
pub(super) fn events(process: &dyn Operated) -> Answer {
    let deployment = process.deployment();
    let mut all: Vec<(Event, Option<(String, String)>)> =
        process.events().latest().into_iter().map(|it| (it, None)).collect();
    for (name, service) in &deployment.services {
        for (id, shard) in (0_u16..).map(ShardId).zip(&service.database.shards) {
            let place = || Some((name.to_string(), shard.name.to_string()));
            all.extend(service.topology.events(id).latest().into_iter().map(|it| (it, place())));
        }
    }
    all.sort_by_key(|(event, _)| event.at);
    let row = |(event, place): (Event, Option<(String, String)>)| {
        let (database, shard) = place.unzip();
        [
            told(clock::utc(event.time)),
            database,
            shard,
            event.node.map(|it| it.to_string()),
            told(event.kind.label()),
            told(event.what),
        ]
    };
    answer(["time", "database", "shard", "node", "event", "what"], all.into_iter().map(row))
}
