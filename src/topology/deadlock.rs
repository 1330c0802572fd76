//! Deadlocks that no server can see: transactions that hold rows on one server and wait for each other on another.
//!
//! A transaction over several shards has a process on each of their servers. Every server tells which of its processes wait
//! for which; the proxy knows which processes, of several servers, are one transaction. Proxies tell each other by
//! advisory locks on connections of their own, which go when they do (where there are none that others can see, by rows that
//! are never committed: `mysql::deadlock`). Whoever waits in a circle stays in it until one of them is ended: the one that
//! began to wait last, as a server would do.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Topology;
use super::control;
use super::control::ControlError;
use super::control::Purpose;
use super::engine::Line;
use super::mysql;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::shard_map::Engine;

/// A server's process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// The server's host, as the map names it.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// The number that the server gives the process.
    pub pid: u32,
}

/// A session whose transaction is on several servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Its number.
    pub session: u32,
    /// Its processes.
    pub processes: Vec<Process>,
}

/// The sessions of this proxy.
pub trait Sessions: Debug + Send + Sync {
    /// Those that have held two or more connections, the same ones, for at least `age`.
    fn spread(&self, age: Duration) -> Vec<Spread>;

    /// Ends what a session waits for on these servers, and has its client told of a deadlock.
    fn end(&self, session: u32, waiting: &[Process]);
}

/// One process: the number of its server here, and its own.
type At = (usize, u32);

/// One process that waits for a lock.
#[derive(Clone, Debug, PartialEq)]
struct Wait {
    who: At,
    /// The processes on the same server that it waits for.
    by: Vec<At>,
    /// What it waits for and since when: tells this wait from any other of the process.
    what: String,
    /// When it began, in seconds since 1970 on the server's clock; 0 where the server does not tell.
    since: f64,
}

/// Looks for circles until `shutdown` is true.
pub async fn run(topology: Arc<Topology>, sessions: Arc<dyn Sessions>, mut shutdown: watch::Receiver<bool>) {
    let mut watch = Watch::new(&topology);
    loop {
        if timeout(watch.pace, shutdown.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return,
            () = watch.round(&*sessions) => {}
        }
    }
}

struct Watch<'a> {
    topology: &'a Topology,
    /// Transactions that are shorter wait for nobody for long.
    age: Duration,
    pace: Duration,
    /// Who waited when it was looked last.
    waited: Vec<Wait>,
    servers: Vec<Server>,
}

/// One shard's primary.
struct Server {
    shard: ShardId,
    open: Option<Open>,
}

struct Open {
    node: NodeId,
    line: Line,
    host: Arc<str>,
    port: u16,
    /// The server's name among proxies, whatever their maps call it.
    mark: u64,
    /// What this proxy has told the others there.
    told: BTreeSet<Pair>,
}

/// What the servers said at one time.
#[derive(Default)]
struct Seen {
    waits: Vec<Wait>,
    /// Processes that are one transaction, as proxies tell.
    pairs: Vec<(At, At)>,
}

impl<'a> Watch<'a> {
    fn new(topology: &'a Topology) -> Self {
        let age = match topology.database().engine {
            Engine::Postgres => AGE,
            Engine::Mysql => mysql::deadlock::AGE,
        };
        let count = u16::try_from(topology.database().shards.len()).unwrap_or(u16::MAX);
        let servers = (0..count).map(|shard| Server { shard: ShardId(shard), open: None }).collect();
        Self { topology, age, pace: PACE, waited: Vec::new(), servers }
    }

    async fn round(&mut self, sessions: &dyn Sessions) {
        let spread = sessions.spread(self.age);
        if spread.is_empty() && self.servers.iter().all(|it| it.open.as_ref().is_none_or(|it| it.told.is_empty())) {
            self.pace = PACE.min(self.age);
            self.waited.clear();
            return;
        }
        for server in &mut self.servers {
            if let Err(error) = server.prepare(self.topology).await {
                server.open = None;
                tracing::debug!(shard = server.shard.0, %error, "not asked who waits for whom");
            }
        }
        let own: Vec<(u32, Vec<At>)> = spread.iter().map(|it| (it.session, self.places(&it.processes))).collect();
        let first = self.look(&own).await;
        // Where something happens, the next circle is not far; what stays as it is, is looked at less and less.
        self.pace = if first.waits == self.waited { (self.pace * 2).min(PACE) } else { PACE.min(self.age) };
        self.waited.clone_from(&first.waits);
        if circles(&first, &own).is_empty() {
            return;
        }
        // The servers were not asked at one moment. What is there in both looks was there between them, all at once; and
        // so were the sessions.
        if self.topology.database().engine == Engine::Mysql {
            tokio::time::sleep(mysql::deadlock::NEWS).await;
        }
        let still = sessions.spread(self.age);
        let own: Vec<(u32, Vec<At>)> =
            own.into_iter().zip(&spread).filter(|(_, it)| still.contains(it)).map(|(it, _)| it).collect();
        let mut second = self.look(&own).await;
        second.waits.retain(|it| first.waits.contains(it));
        for circle in circles(&second, &own) {
            let Some(session) = circle.session else { continue };
            let Some(its) = spread.iter().find(|it| it.session == session) else { continue };
            let waits = |it: &&Process| self.place(it).is_some_and(|at| circle.waiting.contains(&at));
            let processes: Vec<Process> = its.processes.iter().filter(waits).cloned().collect();
            tracing::warn!(?processes, "transactions over several shards waited for each other; one is ended");
            sessions.end(session, &processes);
        }
    }

    /// Tells the other proxies what this one knows, and asks who waits for whom.
    async fn look(&mut self, own: &[(u32, Vec<At>)]) -> Seen {
        let marks: Vec<Option<u64>> = self.servers.iter().map(|it| it.open.as_ref().map(|it| it.mark)).collect();
        let mut seen = Seen::default();
        for (place, server) in self.servers.iter_mut().enumerate() {
            // Several shards may be on one server, which is asked once.
            let Some(open) = &mut server.open else { continue };
            if marks.iter().take(place).any(|it| *it == Some(open.mark)) {
                continue;
            }
            let tell: BTreeSet<Pair> = own
                .iter()
                .filter_map(|(_, all)| all.split_first().filter(|(first, _)| first.0 == place))
                .flat_map(|(first, rest)| rest.iter().map(|it| (first.1, *it)).collect::<Vec<_>>())
                .filter_map(|(pid, (other, its))| Some((pid, marks.get(other).copied().flatten()?, its)))
                .take(TOLD_MAX)
                .collect();
            match timeout(ANSWER, open.ask(tell)).await {
                Ok(Ok((waits, pairs))) => {
                    seen.waits.extend(waits.into_iter().map(|(pid, by, what, since)| Wait {
                        who: (place, pid),
                        by: by.into_iter().filter(|it| *it != 0).map(|it| (place, it)).collect(),
                        what,
                        since,
                    }));
                    seen.pairs.extend(pairs.into_iter().filter_map(|(pid, mark, its)| {
                        let other = marks.iter().position(|it| it.is_some_and(|it| it & MARK == mark & MARK))?;
                        Some(((place, pid), (other, its)))
                    }));
                }
                Ok(Err(error)) => {
                    tracing::debug!(shard = server.shard.0, %error, "not asked who waits for whom");
                    server.open = None;
                }
                Err(_) => server.open = None,
            }
        }
        seen
    }

    /// A session's processes, on the servers that can be asked.
    fn places(&self, processes: &[Process]) -> Vec<At> {
        let mut all: Vec<At> = processes.iter().filter_map(|it| self.place(it)).collect();
        all.sort_unstable();
        all
    }

    /// Where a process is, by the first shard that is on its server.
    fn place(&self, process: &Process) -> Option<At> {
        let open = || self.servers.iter().map(|it| it.open.as_ref());
        let mark = open().flatten().find(|it| it.host == process.host && it.port == process.port)?.mark;
        let first = open().position(|it| it.is_some_and(|it| it.mark == mark))?;
        Some((first, process.pid))
    }
}

impl Server {
    /// Sees to a connection to the primary.
    async fn prepare(&mut self, topology: &Topology) -> Result<(), ControlError> {
        let Some(node) = topology.primary(self.shard) else {
            self.open = None;
            return Ok(());
        };
        if self.open.as_ref().is_some_and(|it| it.node == node) {
            return Ok(());
        }
        let at = topology.node(node).node();
        let mut line = topology.line(node, Purpose::Deadlock).await?;
        let mark = match &mut line {
            Line::Postgres(connection) => {
                let system = sqlx::query_scalar::<_, i64>(SYSTEM).fetch_one(connection);
                control::bounded(system).await?.cast_unsigned()
            }
            Line::Mysql(connection) => mysql::deadlock::begin(connection, at).await?,
        };
        self.open = Some(Open { node, line, host: Arc::clone(&at.host), port: at.port, mark, told: BTreeSet::new() });
        Ok(())
    }
}

/// A process that waits, whom it waits for, what for, since when.
pub(super) type Row = (u32, Vec<u32>, String, f64);

/// What a proxy tells on the server of the first process: it and the other one, of the server with that mark, are one
/// transaction.
pub(super) type Pair = (u32, u64, u32);

impl Open {
    async fn ask(&mut self, tell: BTreeSet<Pair>) -> Result<(Vec<Row>, Vec<Pair>), ControlError> {
        let news = tell != self.told;
        if news {
            self.told = tell;
        }
        match &mut self.line {
            Line::Postgres(connection) => {
                let tell = news.then_some(&self.told);
                ask(connection, tell).await
            }
            Line::Mysql(connection) => {
                if news {
                    mysql::deadlock::tell(connection, &self.told).await?;
                }
                Ok((mysql::deadlock::waits(connection).await?, mysql::deadlock::pairs(connection).await?))
            }
        }
    }
}

/// Asks a server of Postgres; `tell`: what it is to be told first.
async fn ask(
    connection: &mut PgConnection,
    tell: Option<&BTreeSet<Pair>>,
) -> Result<(Vec<Row>, Vec<Pair>), ControlError> {
    if let Some(tell) = tell {
        let keys: Vec<i64> = tell.iter().map(|(pid, mark, its)| key(*pid, *mark, *its)).collect();
        control::bounded(sqlx::query(UNTELL).execute(&mut *connection)).await?;
        control::bounded(sqlx::query(TELL).bind(keys).execute(&mut *connection)).await?;
    }
    let waits = sqlx::query_as::<_, (i32, Vec<i32>, String, f64)>(WAITS).fetch_all(&mut *connection);
    let waits = control::bounded(waits).await?;
    let number = |it: i32| u32::try_from(it).unwrap_or(0);
    let waits = waits
        .into_iter()
        .map(|(pid, by, what, since)| (number(pid), by.into_iter().map(number).collect(), what, since))
        .collect();
    let keys = control::bounded(sqlx::query_scalar::<_, i64>(PAIRS).fetch_all(connection)).await?;
    Ok((waits, keys.into_iter().map(unkey).collect()))
}

/// A [`Pair`] as an advisory lock.
fn key(pid: u32, mark: u64, its: u32) -> i64 {
    ((u64::from(pid) & PID) << 42 | (mark & MARK) << 22 | u64::from(its) & PID).cast_signed()
}

fn unkey(key: i64) -> (u32, u64, u32) {
    let key = key.cast_unsigned();
    let pid = |it: u64| u32::try_from(it & PID).unwrap_or(0);
    (pid(key >> 42), key >> 22 & MARK, pid(key))
}

/// Transactions that wait for each other: the one of them that is to be ended.
#[derive(Debug, PartialEq, Eq)]
struct Circle {
    /// Whose it is; `None`: another proxy's.
    session: Option<u32>,
    /// Its processes that wait.
    waiting: Vec<At>,
}

/// Every circle that goes over several servers, each without the victims of those before.
fn circles(seen: &Seen, own: &[(u32, Vec<At>)]) -> Vec<Circle> {
    let mut one = Groups::default();
    for (_, all) in own {
        if let Some((first, rest)) = all.split_first() {
            rest.iter().for_each(|it| one.join(*first, *it));
        }
    }
    seen.pairs.iter().for_each(|(a, b)| one.join(*a, *b));
    let mut edges: BTreeMap<At, Vec<&Wait>> = BTreeMap::new();
    for wait in &seen.waits {
        edges.entry(one.of(wait.who)).or_default().push(wait);
    }
    let mut found = Vec::new();
    // Each turn takes a transaction out, or a way that is no circle of ours.
    while let Some(circle) = circle(&edges, &one) {
        let is_ours = circle.iter().any(|(wait, next)| wait.by.iter().all(|it| it != next));
        let spread = circle.iter().map(|(wait, _)| *wait).filter(|it| one.is_spread(it.who));
        let victim = spread.max_by(|a, b| a.since.total_cmp(&b.since).then(a.who.cmp(&b.who)));
        match (victim, circle.first()) {
            (Some(victim), _) if is_ours => {
                let group = one.of(victim.who);
                let waiting = edges.remove(&group).unwrap_or_default().iter().map(|it| it.who).collect();
                let session = own.iter().find(|(_, all)| all.iter().any(|it| one.of(*it) == group));
                found.push(Circle { session: session.map(|(session, _)| *session), waiting });
            }
            (_, Some((wait, _))) => {
                edges.remove(&one.of(wait.who));
            }
            _ => break,
        }
    }
    found
}

/// A circle, if there is one: each wait in it, and the process that waits next.
fn circle<'a>(edges: &BTreeMap<At, Vec<&'a Wait>>, one: &Groups) -> Option<Vec<(&'a Wait, At)>> {
    let mut done: BTreeSet<At> = BTreeSet::new();
    for start in edges.keys() {
        // The way so far: a transaction, and which of its ways on is tried next.
        let mut way: Vec<(At, usize)> = vec![(*start, 0)];
        let mut taken: Vec<&Wait> = Vec::new();
        while let Some((at, next)) = way.last_mut() {
            let all = edges.get(at).map(Vec::as_slice).unwrap_or_default();
            let on = all.iter().flat_map(|wait| wait.by.iter().map(move |by| (*wait, one.of(*by)))).nth(*next);
            *next += 1;
            let Some((wait, to)) = on else {
                done.insert(*at);
                way.pop();
                taken.pop();
                continue;
            };
            if let Some(from) = way.iter().position(|(it, _)| *it == to) {
                taken.push(wait);
                let waits = taken.split_off(from);
                let mut nexts: Vec<At> = waits.iter().map(|it| it.who).collect();
                nexts.rotate_left(1);
                return Some(waits.into_iter().zip(nexts).collect());
            }
            if !done.contains(&to) && edges.contains_key(&to) {
                taken.push(wait);
                way.push((to, 0));
            }
        }
    }
    None
}

/// Which processes are one transaction.
#[derive(Default)]
struct Groups {
    parent: BTreeMap<At, At>,
}

impl Groups {
    fn of(&self, mut it: At) -> At {
        while let Some(parent) = self.parent.get(&it) {
            it = *parent;
        }
        it
    }

    fn join(&mut self, a: At, b: At) {
        let (a, b) = (self.of(a), self.of(b));
        if a != b {
            self.parent.insert(a.max(b), a.min(b));
        }
    }

    fn is_spread(&self, it: At) -> bool {
        let group = self.of(it);
        self.parent.keys().any(|other| self.of(*other) == group)
    }
}

/// How often it is looked whether anybody may wait, at least.
const PACE: Duration = Duration::from_millis(500);
/// Transactions that are shorter wait for nobody for long. A deadlock within one server is found by that server before.
const AGE: Duration = Duration::from_millis(1200);
/// Servers that take longer to answer are not waited for.
const ANSWER: Duration = Duration::from_secs(2);
/// How many pairs of processes are told on one server: each is a lock of its lock table.
const TOLD_MAX: usize = 200;
/// Bits of a process's number.
const PID: u64 = (1 << 22) - 1;
/// Bits of a server's mark that proxies tell.
const MARK: u64 = (1 << 20) - 1;

const SYSTEM: &str = "select system_identifier from pg_catalog.pg_control_system()";

// Servers before 14 do not tell since when.
const WAITS: &str = "
select pid, pg_blocking_pids(pid), string_agg(to_jsonb(l)::text, ' ' order by to_jsonb(l)::text),
       coalesce(max(extract(epoch from (to_jsonb(l)->>'waitstart')::timestamptz)), 0)::float8
  from pg_catalog.pg_locks l where not granted and pid is not null group by pid";

const UNTELL: &str = "select pg_advisory_unlock_all()";

const TELL: &str = "select count(pg_try_advisory_lock_shared(key)) from unnest($1::int8[]) key";

const PAIRS: &str = "
select (l.classid::int8 << 32) | l.objid::int8
  from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
  join pg_catalog.pg_roles r on r.oid = a.usesysid and r.rolname = current_user
 where l.locktype = 'advisory' and l.objsubid = 1 and a.application_name = 'shardway deadlock'";

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(who: At, by: &[At], since: f64) -> Wait {
        Wait { who, by: by.to_vec(), what: String::new(), since }
    }

    fn found(waits: &[Wait], own: &[(u32, Vec<At>)]) -> Vec<Circle> {
        circles(&Seen { waits: waits.to_vec(), pairs: Vec::new() }, own)
    }

    #[test]
    fn two_that_wait_for_each_other_on_two_servers() {
        let own = [(7, vec![(0, 1), (1, 1)]), (8, vec![(0, 2), (1, 2)])];
        let waits = [wait((0, 1), &[(0, 2)], 5.0), wait((1, 2), &[(1, 1)], 4.0)];
        assert_eq!(found(&waits, &own), [Circle { session: Some(7), waiting: vec![(0, 1)] }]);
        // One of them alone waits for nobody who waits.
        assert_eq!(found(&waits[..1], &own), []);
        // If only one of them were on both servers, there were no circle.
        assert_eq!(found(&waits, &own[..1]), []);
    }

    #[test]
    fn others_stand_between() {
        // 7 waits for a client of its own at server 0, which waits for 8, which waits for 7 at server 2.
        let own = [(7, vec![(0, 1), (2, 1)]), (8, vec![(0, 3), (2, 3)])];
        let waits = [wait((0, 1), &[(0, 9)], 1.0), wait((0, 9), &[(0, 3)], 9.0), wait((2, 3), &[(2, 1)], 2.0)];
        assert_eq!(found(&waits, &own), [Circle { session: Some(8), waiting: vec![(2, 3)] }]);
    }

    #[test]
    fn what_a_server_sees_is_left_to_it() {
        let own = [(7, vec![(0, 1), (1, 1)]), (8, vec![(0, 2), (1, 2)])];
        let waits = [wait((0, 1), &[(0, 2)], 5.0), wait((0, 2), &[(0, 1)], 4.0)];
        assert_eq!(found(&waits, &own), []);
        // Beside it, another circle is found all the same.
        let own = [(7, vec![(0, 1), (1, 1)]), (8, vec![(0, 2), (1, 2)])];
        let waits = [
            wait((0, 5), &[(0, 6)], 5.0),
            wait((0, 6), &[(0, 5)], 4.0),
            wait((0, 1), &[(0, 2), (0, 5)], 5.0),
            wait((1, 2), &[(1, 1)], 4.0),
        ];
        assert_eq!(found(&waits, &own), [Circle { session: Some(7), waiting: vec![(0, 1)] }]);
    }

    #[test]
    fn two_circles_have_two_ends() {
        let own = [
            (1, vec![(0, 1), (1, 1)]),
            (2, vec![(0, 2), (1, 2)]),
            (3, vec![(0, 3), (1, 3)]),
            (4, vec![(0, 4), (1, 4)]),
        ];
        let waits = [
            wait((0, 1), &[(0, 2)], 1.0),
            wait((1, 2), &[(1, 1)], 2.0),
            wait((0, 3), &[(0, 4)], 3.0),
            wait((1, 4), &[(1, 3)], 4.0),
        ];
        let sessions: Vec<_> = found(&waits, &own).into_iter().map(|it| it.session).collect();
        assert_eq!(sessions, [Some(2), Some(4)]);
    }

    #[test]
    fn another_proxy_s_transaction_is_known_by_what_it_tells() {
        let own = [(7, vec![(0, 1), (1, 1)])];
        let waits = vec![wait((0, 1), &[(0, 2)], 5.0), wait((1, 2), &[(1, 1)], 6.0)];
        let (pid, _, its) = unkey(key(2, 0xabc_def0_1234_5678, 2));
        let pairs = vec![((0, pid), (1, its))];
        let circles = circles(&Seen { waits, pairs }, &own);
        assert_eq!(circles, [Circle { session: None, waiting: vec![(1, 2)] }]);
        assert_eq!(unkey(key(4_194_303, u64::MAX, 1)), (4_194_303, MARK, 1));
    }
}
