//! Decisions that nobody can ask for any more are taken out of `shardway.txlog`.
//!
//! A row is kept for [`KEPT`] at least, so that a server which comes back as it was before (restored, or promoted late) finds
//! how its parts ended. Then a commit's goes when no shard holds a part of it any longer, and an abort's, which keeps
//! its transaction from committing, when that transaction is over. What cannot be shown to be so stays.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::sync::watch;

use super::Topology;
use super::control;
use super::control::ControlError;
use super::control::Purpose;
use super::gid::Gid;
use crate::ident::ShardId;

/// How long a decision is kept at least. A part that has been prepared for half as long is not presumed to be aborted.
pub const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Looks through the logs of all shards now and then, until `shutdown` is true.
pub async fn run(topology: Arc<Topology>, mut shutdown: watch::Receiver<bool>) {
    let mut pause = FIRST;
    loop {
        if tokio::time::timeout(pause, shutdown.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
        pause = PACE;
        for (place, shard) in (0_u16..).zip(&topology.database().shards) {
            let tidied = tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return,
                tidied = tidy(&topology, ShardId(place), KEPT) => tidied,
            };
            match tidied {
                Ok(0) => {}
                Ok(count) => tracing::info!(shard = %shard.name, count, "old decisions were deleted"),
                Err(error) => tracing::debug!(shard = %shard.name, %error, "old decisions stay"),
            }
        }
    }
}

/// Deletes what is older than `kept` and needed no more from one shard's log; how many rows.
///
/// # Errors
/// A shard cannot be asked now, or has no log.
pub async fn tidy(topology: &Topology, home: ShardId, kept: Duration) -> Result<u64, ControlError> {
    let mut connection = connect(topology, home).await?;
    let (mut after, mut count) = ((0.0, String::new()), 0);
    loop {
        let asked = sqlx::query_as::<_, (String, String, Option<String>, f64)>(OLD);
        let asked = asked.bind(kept.as_secs_f64()).bind(after.0).bind(&after.1).bind(BATCH).fetch_all(&mut connection);
        let rows = control::bounded(asked).await?;
        let Some((gid, _, _, at)) = rows.last() else { return Ok(count) };
        after = (*at, gid.clone());
        let decisions: Vec<Row> = rows.iter().filter_map(|it| Row::read(topology, home, it)).collect();
        let over = over(topology, &decisions).await?;
        if !over.is_empty() {
            let deleted = sqlx::query(DELETE).bind(&over).execute(&mut connection);
            count += control::bounded(deleted).await?.rows_affected();
        }
    }
}

/// A decision, and the transactions that must be over before it may go.
#[derive(Debug, PartialEq)]
struct Row {
    gid: String,
    has_committed: bool,
    parts: Vec<(ShardId, u64, u32)>,
}

impl Row {
    /// `None`: it is not to be understood, or about shards that the map does not have.
    fn read(topology: &Topology, home: ShardId, row: &(String, String, Option<String>, f64)) -> Option<Self> {
        let (gid, decision, parts, _) = row;
        let shards = &topology.database().shards;
        let place = |name: &str| (0_u16..).zip(shards).find(|(_, it)| &*it.name == name).map(|(at, _)| ShardId(at));
        let has_committed = decision == "commit";
        let parts = match parts {
            Some(parts) if has_committed => {
                let each = |part: &str| {
                    // The shard's name, its transaction, timeline and position.
                    let mut words = part.rsplitn(4, ' ');
                    let (_, timeline, xid, name) = (words.next()?, words.next()?, words.next()?, words.next()?);
                    Some((place(name)?, xid.parse().ok()?, timeline.parse().ok()?))
                };
                parts.split("; ").map(each).collect::<Option<Vec<_>>>()?
            }
            Some(_) => return None,
            None if has_committed => return None,
            None => {
                let gid = Gid::read(gid)?;
                vec![(home, gid.xid, gid.timeline)]
            }
        };
        Some(Self { gid: gid.clone(), has_committed, parts })
    }
}

/// The names of those that nobody can ask for any more.
async fn over(topology: &Topology, rows: &[Row]) -> Result<Vec<String>, ControlError> {
    let mut asked: BTreeMap<ShardId, BTreeSet<(u64, u32)>> = BTreeMap::new();
    for (shard, xid, timeline) in rows.iter().flat_map(|it| &it.parts) {
        asked.entry(*shard).or_default().insert((*xid, *timeline));
    }
    let mut states = BTreeMap::new();
    let mut prepared = BTreeSet::new();
    for (shard, xids) in asked {
        let mut connection = connect(topology, shard).await?;
        let held = control::bounded(sqlx::query_scalar::<_, String>(PREPARED).fetch_all(&mut connection)).await?;
        prepared.extend(held);
        let texts: Vec<String> = xids.iter().map(|it| it.0.to_string()).collect();
        let timeline = control::bounded(sqlx::query_scalar::<_, i32>(TIMELINE).fetch_one(&mut connection)).await?;
        let said = sqlx::query_as::<_, (String, String)>(STATES).bind(&texts).fetch_all(&mut connection);
        for (xid, state) in control::bounded(said).await? {
            let Ok(xid) = xid.parse::<u64>() else { continue };
            for (_, since) in xids.iter().filter(|it| it.0 == xid) {
                // Behind a failover the number is another transaction's, and this one is over.
                let state = if i64::from(*since) == i64::from(timeline) { state.clone() } else { String::new() };
                states.insert((shard, xid, *since), state);
            }
        }
    }
    let is_over = |row: &&Row| {
        !prepared.contains(&row.gid)
            && row.parts.iter().all(|part| match states.get(part).map(String::as_str) {
                Some("committed" | "") => true,
                Some("aborted") if row.has_committed => {
                    tracing::error!(gid = row.gid, shard = part.0.0, "a part of a committed transaction is lost");
                    false
                }
                Some("aborted") => true,
                _ => false,
            })
    };
    Ok(rows.iter().filter(is_over).map(|it| it.gid.clone()).collect())
}

async fn connect(topology: &Topology, shard: ShardId) -> Result<PgConnection, ControlError> {
    let node = topology.primary(shard).ok_or_else(|| ControlError {
        heard: super::health::Heard::Failure,
        text: format!("shard \"{}\" has no reachable primary", topology.database().shard(shard).name),
        sqlstate: None,
    })?;
    topology.connect(node, Purpose::TwoPhase).await
}

/// How long after the start the logs are looked through first.
const FIRST: Duration = Duration::from_secs(60);
/// And how often then.
const PACE: Duration = Duration::from_secs(3600);
/// Rows that are looked at together.
const BATCH: i64 = 500;

const OLD: &str = "
select gid, decision, parts, extract(epoch from at)::float8 from shardway.txlog
 where at < clock_timestamp() - make_interval(secs => $1) and (extract(epoch from at)::float8, gid) > ($2, $3)
 order by extract(epoch from at)::float8, gid limit $4";

const DELETE: &str = "delete from shardway.txlog where gid = any($1)";

const PREPARED: &str = "select gid from pg_catalog.pg_prepared_xacts where database = current_database()";

// '': too old for the server to tell, and so over. What it has not handed out yet is in progress, if anything.
const STATES: &str = "
select xid, case when xid::xid8 >= pg_snapshot_xmax(pg_current_snapshot()) then 'in progress'
                 else coalesce(pg_xact_status(xid::xid8), '') end
  from unnest($1::text[]) as xid";

const TIMELINE: &str = "
select ('x' || lpad(left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), 8, '0'))::bit(32)::int4";
