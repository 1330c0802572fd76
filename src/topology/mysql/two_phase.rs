//! The same for MySQL and MariaDB, by XA: whether a shard can take part in transactions that span shards, and what becomes
//! of parts whose coordinator is gone.
//!
//! The decision of each is a row of `shardway.txlog` on its home, written by the transaction that commits there, and each
//! other part writes a row of its own with what it is about, so that it can be told whether that was committed: that a
//! server does not know an XA transaction says nothing. Whoever wants to know how it ended inserts `abort` in the
//! decision's place: that waits for a home that is still at it, and whichever row is there first holds.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Row;
use tokio::sync::watch;

use super::super::Topology;
use super::super::control::ControlError;
use super::super::control::Purpose;
use super::super::control::bounded;
use super::super::engine::Line;
use super::super::two_phase::AGE_MIN;
use super::super::two_phase::Decision;
use super::super::two_phase::Ended;
use super::super::two_phase::Fitness;
use super::super::two_phase::InDoubt;
use super::super::two_phase::PACE;
use super::super::two_phase::failure;
use super::super::two_phase::no_primary;
use super::super::txlog::KEPT;
use super::Connection;
use super::own;
use super::unreadable;
use super::xid::Branch;
use super::xid::Gid;
use crate::clock;
use crate::clock::Tick;
use crate::ident::NodeId;
use crate::ident::ShardId;

/// The statement that takes the decision, within the home's transaction. `parts`: the servers of the others.
#[must_use]
pub fn decision(gid: &Gid, parts: &[Arc<str>]) -> String {
    format!("INSERT INTO shardway.txlog (gid, decision, parts) VALUES ('{gid}', 'commit', '{}')", parts.join(" "))
}

/// The statement that has a part tell that it was committed.
#[must_use]
pub fn mark(gid: &Gid) -> String {
    format!("INSERT INTO shardway.txlog (gid, decision) VALUES ('{gid}', 'part')")
}

/// Looks at every shard again and again, and ends what was left behind, until `shutdown` is true.
pub(in super::super) async fn run(topology: &Topology, mut shutdown: watch::Receiver<bool>) {
    let mut sweeper = Sweeper::new(topology);
    let mut tidied = clock::now();
    loop {
        let work = async {
            sweeper.round().await;
            if clock::now().since(tidied) > TIDY_PACE {
                tidied = clock::now();
                sweeper.tidy().await;
            }
        };
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return,
            () = work => {}
        }
        if tokio::time::timeout(PACE, shutdown.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}

/// Looks at every shard once, so that it is known who can take part.
pub(in super::super) async fn look(topology: &Topology) {
    Sweeper::new(topology).round().await;
}

struct Sweeper<'a> {
    topology: &'a Topology,
    connections: Vec<Option<(NodeId, Connection)>>,
    /// When each part was first seen: servers do not tell.
    seen: HashMap<(ShardId, Branch), Tick>,
    /// What shards can do by their settings, said once.
    warned: HashSet<ShardId>,
}

impl<'a> Sweeper<'a> {
    fn new(topology: &'a Topology) -> Self {
        let connections = topology.database().shards.iter().map(|_| None).collect();
        Self { topology, connections, seen: HashMap::new(), warned: HashSet::new() }
    }

    async fn round(&mut self) {
        let now = clock::now();
        let mut found = Vec::new();
        let count = self.connections.len();
        for place in 0..count {
            let Ok(number) = u16::try_from(place) else { return };
            let shard = ShardId(number);
            match self.ask(shard).await {
                Ok((standing, branches)) => {
                    let (fitness, server) = match &standing {
                        Some((cluster, server)) => (Fitness::Ready(Arc::clone(cluster)), Some(Arc::clone(server))),
                        None => (Fitness::NotSetUp, None),
                    };
                    self.topology.two_phase.note(shard, count, fitness, server);
                    found.extend(branches.into_iter().map(|it| (shard, standing.clone(), it)));
                }
                // What was known of it holds.
                Err(error) => tracing::debug!(shard = number, %error, "not asked for prepared transactions"),
            }
        }
        self.seen.retain(|(shard, branch), _| found.iter().any(|(at, _, it)| at == shard && it == branch));
        let mut in_doubt = Vec::new();
        // A home that does not answer is asked once a round.
        let mut silent: Vec<Box<str>> = Vec::new();
        for (shard, standing, branch) in found {
            let name = Arc::clone(&self.topology.database().shard(shard).name);
            let since = *self.seen.entry((shard, branch.clone())).or_insert(now);
            let may_end = now.since(since) >= AGE_MIN || self.topology.two_phase.is_let_go(&branch.gid.to_string());
            let trouble = match may_end {
                false => None,
                true => self.sweep(shard, standing.as_ref(), &branch, &mut silent).await.err(),
            };
            if let Some(trouble) = &trouble {
                tracing::warn!(shard = %name, gid = %branch.gid, trouble, "a prepared transaction stays");
            }
            let age = now.since(since).as_secs_f64();
            in_doubt.push(InDoubt { shard: name, gid: branch.gid.to_string(), age, trouble });
        }
        self.topology.two_phase.note_in_doubt(in_doubt);
    }

    /// What a shard is part of, and which of our parts are prepared there.
    async fn ask(&mut self, shard: ShardId) -> Result<(Option<Identity>, Vec<Branch>), ControlError> {
        let node = self.topology.primary(shard).ok_or_else(|| no_primary(self.topology, shard))?;
        let slot = self.connections.get_mut(shard.index()).and_then(Option::take);
        let mut connection = match slot {
            Some((at, connection)) if at == node => connection,
            _ => {
                let mut connection = open(self.topology, node).await?;
                if self.warned.insert(shard) {
                    warn_of_settings(&mut connection, &self.topology.database().shard(shard).name).await?;
                }
                connection
            }
        };
        let standing = standing(&mut connection).await?;
        let branches = prepared(&mut connection).await?;
        if let Some(slot) = self.connections.get_mut(shard.index()) {
            *slot = Some((node, connection));
        }
        Ok((standing, branches))
    }

    /// Ends a part whose coordinator has had time enough.
    async fn sweep(
        &self,
        shard: ShardId,
        standing: Option<&Identity>,
        branch: &Branch,
        silent: &mut Vec<Box<str>>,
    ) -> Result<(), String> {
        let gid = &branch.gid;
        if !matches!(standing, Some((cluster, _)) if **cluster == *gid.cluster) {
            return Err("it belongs to another cluster".to_owned());
        }
        if silent.contains(&gid.home) {
            return Err("its home does not answer".to_owned());
        }
        // What is so old may have been decided so long ago that the log does not know of it any more.
        let age = clock::unix_now().as_secs().saturating_sub(u64::from(gid.begun));
        let asked = match Duration::from_secs(age) > KEPT / 2 {
            true => known(self.topology, gid).await,
            false => resolve(self.topology, gid, branch.home_thread).await.map(Some),
        };
        let decision = asked.map_err(|error| {
            silent.push(gid.home.clone());
            error.text
        })?;
        let decision =
            decision.ok_or("it is very old, and no log tells how it ended: compare the shards, and end it by hand")?;
        let ended = end(self.topology, shard, branch, decision).await.map_err(|error| error.text)?;
        tracing::info!(%gid, ?decision, ?ended, "a transaction over several shards was left behind");
        Ok(())
    }

    /// Deletes decisions that nobody can ask for any more: old ones of which no part is prepared anywhere.
    async fn tidy(&mut self) {
        let mut held: HashSet<String> = HashSet::new();
        let count = self.connections.len();
        for place in 0..count {
            let Ok(number) = u16::try_from(place) else { return };
            match self.ask(ShardId(number)).await {
                Ok((_, branches)) => held.extend(branches.iter().map(|it| it.gid.to_string())),
                // Who cannot be asked may hold any.
                Err(error) => return tracing::debug!(shard = number, %error, "old decisions stay"),
            }
        }
        for (place, slot) in self.connections.iter_mut().enumerate() {
            let Some((_, connection)) = slot else { continue };
            match delete_old(connection, &held, KEPT).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(shard = place, count, "old decisions were deleted"),
                Err(error) => tracing::debug!(shard = place, %error, "old decisions stay"),
            }
        }
    }
}

/// A cluster, and the name of a shard's servers within it.
type Identity = (Arc<str>, Arc<str>);

/// A connection to a node on which waiting for locks is bounded, and nothing is left to a server's defaults.
async fn open(topology: &Topology, node: NodeId) -> Result<Connection, ControlError> {
    let Line::Mysql(mut connection) = topology.line(node, Purpose::TwoPhase).await? else {
        return Err(failure("this is asked of MySQL servers only".to_owned()));
    };
    connection.ask("SET SESSION autocommit = 1, innodb_lock_wait_timeout = 3").await?;
    connection.ask("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE").await?;
    Ok(connection)
}

async fn primary(topology: &Topology, shard: ShardId) -> Result<Connection, ControlError> {
    let node = topology.primary(shard).ok_or_else(|| no_primary(topology, shard))?;
    open(topology, node).await
}

/// `None`: nobody has set it up, or we may not see it.
pub(super) async fn standing(connection: &mut Connection) -> Result<Option<Identity>, ControlError> {
    let cells = match connection.ask(own::CLUSTER).await {
        Ok(mut rows) => rows.pop(),
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some([Some(cluster), Some(server)]) = cells.as_deref() else { return Ok(None) };
    match connection.ask(own::LOG).await {
        Ok(_) => Ok(Some((cluster.as_str().into(), server.as_str().into()))),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether something is not there, or may not be seen: a table, a database.
pub(super) fn is_missing(error: &ControlError) -> bool {
    matches!(error.sqlstate.as_deref(), Some("42S02" | "42000" | "28000"))
}

/// Our parts that are prepared on a server.
pub(super) async fn prepared(connection: &mut Connection) -> Result<Vec<Branch>, ControlError> {
    // Names of others may be of any bytes.
    let rows = bounded(sqlx::raw_sql("XA RECOVER").fetch_all(&mut connection.line)).await?;
    let read = |row: &sqlx::mysql::MySqlRow| {
        let number = |place| row.try_get_unchecked::<String, _>(place).ok()?.parse::<i64>().ok();
        let (format, gtrid, bqual): (i64, i64, i64) = (number(0)?, number(1)?, number(2)?);
        let name = row.try_get_unchecked::<Vec<u8>, _>(3).ok()?;
        let (gtrid, rest) = name.split_at_checked(usize::try_from(gtrid).ok()?)?;
        Branch::read(format, gtrid, rest.get(..usize::try_from(bqual).ok()?)?)
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// Says it where what a server acknowledges may be lost when it falls.
async fn warn_of_settings(connection: &mut Connection, shard: &str) -> Result<(), ControlError> {
    let said = connection
        .ask("SELECT @@global.innodb_flush_log_at_trx_commit, @@global.log_bin, @@global.sync_binlog")
        .await?;
    let Some([Some(flush), Some(log), Some(sync)]) = said.first().map(Vec::as_slice) else {
        return Err(unreadable("how durable it is"));
    };
    if flush != "1" || (matches!(&**log, "1" | "ON") && sync != "1") {
        tracing::warn!(
            shard,
            innodb_flush_log_at_trx_commit = flush,
            sync_binlog = sync,
            "a crash of this server's machine may lose parts of transactions over several shards: both should be 1"
        );
    }
    Ok(())
}

/// How a transaction ended; if it has not, it is aborted by the asking. Waits a little for a home that is committing, then
/// has its connection closed: `home_thread`.
///
/// # Errors
/// The home cannot be asked: ask again.
pub async fn resolve(topology: &Topology, gid: &Gid, home_thread: u32) -> Result<Decision, ControlError> {
    let mut connection = home_of(topology, gid).await?;
    // The update writes, and so waits for what durability asks for.
    let abort = format!(
        "INSERT INTO shardway.txlog (gid, decision) VALUES ('{gid}', 'abort') ON DUPLICATE KEY UPDATE asked = asked + 1"
    );
    if let Err(error) = connection.ask(&abort).await {
        // Whoever holds the row has left its connection open: no later one has the same number while the server lives, and
        // when it has died, the row is nobody's.
        if error.text.contains("Lock wait timeout") {
            kill(&mut connection, home_thread).await;
        }
        return Err(error);
    }
    known_to(&mut connection, gid).await?.ok_or_else(|| failure("the home forgets what it is told".to_owned()))
}

/// How a transaction ended, as far as its home's log knows.
async fn known(topology: &Topology, gid: &Gid) -> Result<Option<Decision>, ControlError> {
    known_to(&mut home_of(topology, gid).await?, gid).await
}

async fn known_to(connection: &mut Connection, gid: &Gid) -> Result<Option<Decision>, ControlError> {
    let rows = connection.ask(&format!("SELECT decision FROM shardway.txlog WHERE gid = '{gid}'")).await?;
    match rows.first().map(Vec::as_slice) {
        None => Ok(None),
        Some([Some(word)]) => Decision::read(word).map(Some),
        Some(_) => Err(unreadable("a decision")),
    }
}

/// A connection to the server that has the decision.
async fn home_of(topology: &Topology, gid: &Gid) -> Result<Connection, ControlError> {
    let shards = (0_u16..).zip(&topology.database().shards).map(|(place, _)| ShardId(place));
    let home = shards.into_iter().find(|it| topology.two_phase.server(*it).is_some_and(|it| *it == *gid.home));
    let home = home.ok_or_else(|| failure("its home is no shard of the map, or has not been asked yet".to_owned()))?;
    let mut connection = primary(topology, home).await?;
    // Another server's log would tell of nothing, and have everything aborted.
    match standing(&mut connection).await? {
        Some((cluster, server)) if *cluster == *gid.cluster && *server == *gid.home => Ok(connection),
        _ => Err(failure(format!("shard \"{}\" is not what was its home", topology.database().shard(home).name))),
    }
}

/// Ends a part as it was decided.
///
/// # Errors
/// It could not be ended now: try again.
pub async fn end(
    topology: &Topology,
    shard: ShardId,
    branch: &Branch,
    decision: Decision,
) -> Result<Ended, ControlError> {
    let mut connection = primary(topology, shard).await?;
    let word = match decision {
        Decision::Commit => "COMMIT",
        Decision::Abort => "ROLLBACK",
    };
    match connection.ask(&format!("XA {word} {branch}")).await {
        Ok(_) => return Ok(Ended::Now),
        Err(error) if error.sqlstate.as_deref() == Some(NOT_KNOWN) => {}
        Err(error) => return Err(error),
    }
    // While the connection that prepared it lives, nobody else knows it.
    if prepared(&mut connection).await?.contains(branch) {
        kill(&mut connection, branch.thread).await;
        return Err(failure("the connection that prepared it is still open, and is being closed".to_owned()));
    }
    Ok(Ended::NotThere)
}

/// Whether a part was committed; `None`: it has not been ended yet.
///
/// # Errors
/// The shard cannot be asked now.
pub async fn has_committed(topology: &Topology, shard: ShardId, branch: &Branch) -> Result<Option<bool>, ControlError> {
    let mut connection = primary(topology, shard).await?;
    // In this order: between the two it can only be ended.
    let waits = prepared(&mut connection).await?.contains(branch);
    let rows = connection.ask(&format!("SELECT decision FROM shardway.txlog WHERE gid = '{}'", branch.gid)).await?;
    match rows.first().map(Vec::as_slice) {
        Some([Some(word)]) if word == "part" => Ok(Some(true)),
        _ if waits => Ok(None),
        _ => Ok(Some(false)),
    }
}

/// Has a server close a connection: what it had open is rolled back, what it had prepared can be ended by others.
async fn kill(connection: &mut Connection, thread: u32) {
    if let Err(error) = connection.ask(&format!("KILL {thread}")).await {
        tracing::debug!(%error, "a connection that keeps a transaction open could not be closed");
    }
}

/// Deletes rows older than `kept`, but for those of `held`; how many.
async fn delete_old(
    connection: &mut Connection,
    held: &HashSet<String>,
    kept: Duration,
) -> Result<usize, ControlError> {
    let mut count = 0;
    let mut after = String::new();
    loop {
        let old = connection
            .ask(&format!(
                "SELECT gid FROM shardway.txlog WHERE at < NOW(6) - INTERVAL {} SECOND AND gid > '{after}' \
                 ORDER BY gid LIMIT {BATCH}",
                kept.as_secs()
            ))
            .await?;
        let all: Vec<&str> = old.iter().filter_map(|row| row.first()?.as_deref()).collect();
        let Some(last) = all.last() else { return Ok(count) };
        after = last.replace('\'', "");
        let gone: Vec<String> = all
            .iter()
            .filter(|it| Gid::read(it).is_some() && !held.contains(**it))
            .map(|it| format!("'{it}'"))
            .collect();
        if !gone.is_empty() {
            connection.ask(&format!("DELETE FROM shardway.txlog WHERE gid IN ({})", gone.join(", "))).await?;
            count += gone.len();
        }
    }
}

/// Makes a shard able to take part. `cluster` is the id that it gets if it has none; the id that it has.
///
/// # Errors
/// In the server's own words.
pub(in super::super) async fn set_up(
    connection: &mut Connection,
    cluster: &str,
    server: &str,
) -> Result<Arc<str>, ControlError> {
    for statement in own::SETUP {
        connection.ask(statement).await?;
    }
    if let Some((known, _)) = standing(connection).await? {
        return Ok(known);
    }
    connection.ask(&format!("INSERT INTO shardway.cluster (id, server) VALUES ('{cluster}', '{server}')")).await?;
    Ok(cluster.into())
}

/// The accounts by which these users log in, as GRANT names them.
///
/// # Errors
/// In the server's own words: we may not look.
pub(in super::super) async fn accounts(
    connection: &mut Connection,
    users: &[String],
) -> Result<Vec<String>, ControlError> {
    let names: Vec<String> = users.iter().map(|it| quoted(it)).collect();
    let question = format!("SELECT User, Host FROM mysql.user WHERE User IN ({})", names.join(", "));
    let rows = connection.ask(&question).await?;
    let account = |row: &Vec<Option<String>>| match row.as_slice() {
        [Some(user), Some(host)] => Some(format!("{}@{}", quoted(user), quoted(host))),
        _ => None,
    };
    Ok(rows.iter().filter_map(account).collect())
}

/// A string as SQL writes it; connections of the proxy's own have no modes that change how it is read.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The cluster that a shard belongs to, if it was ever set up.
///
/// # Errors
/// In the server's own words.
pub(in super::super) async fn cluster_of(connection: &mut Connection) -> Result<Option<Arc<str>>, ControlError> {
    Ok(standing(connection).await?.map(|(cluster, _)| cluster))
}

/// XAER_NOTA: no such transaction that may be ended here.
const NOT_KNOWN: &str = "XAE04";

/// How often the logs are looked through for what nobody needs any more.
const TIDY_PACE: Duration = Duration::from_secs(3600);
/// Rows that are looked at together.
const BATCH: usize = 500;
