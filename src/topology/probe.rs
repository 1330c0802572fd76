//! One node's monitor: asks, and hands what it hears to the shard. All it decides is when to ask.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use sqlx::postgres::PgRow;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio::time::timeout;

use super::control::ControlError;
use super::control::Purpose;
use super::freshness::Lsn;
use super::freshness::WalShape;
use super::health::Heard;
use super::monitor::Advice;
use super::monitor::Event;
use super::monitor::Identity;
use super::monitor::Report;
use super::pace;
use super::shard::Shard;
use crate::clock;
use crate::clock::Tick;

/// Watches node `place` for as long as somebody else holds the shard.
pub(super) async fn watch(shard: Weak<Shard>, place: usize, wake: Arc<Notify>) {
    let fault = Fault::from_environment();
    let mut failures = 0;
    while let Some(it) = interested(&shard) {
        let began = clock::now();
        match open(&it, place).await {
            Ok((connection, identity)) => {
                if it.observe(place, Event::Connected(identity, LIVES.fetch_add(1, Ordering::Relaxed))) == Advice::GoOn
                {
                    drop(it);
                    failures = if follow(&shard, place, &wake, connection, fault).await { 0 } else { failures + 1 };
                }
                if failures > 0 {
                    sleep(pace::retry(failures)).await;
                }
            }
            Err(error) => {
                let _ = it.observe(place, Event::Failed(error.heard, began, error.text));
                drop(it);
                failures += 1;
                sleep(pace::retry(failures)).await;
            }
        }
    }
}

/// The shard, while anybody wants to know of it.
fn interested(shard: &Weak<Shard>) -> Option<Arc<Shard>> {
    shard.upgrade().filter(|it| !it.has_ended())
}

async fn open(shard: &Shard, place: usize) -> Result<(PgConnection, Identity), ControlError> {
    let state = shard.nodes().get(place).ok_or_else(|| ControlError {
        heard: Heard::Failure,
        text: "no such node".to_owned(),
        sqlstate: None,
    })?;
    let mut connection = shard.control().connect(state.node(), Purpose::Monitor).await?;
    let row = within(ANSWER_MAX, sqlx::query(IDENTITY).fetch_one(&mut connection)).await?;
    let identity = identity(&row).map_err(|error| ControlError::from(&error))?;
    Ok((connection, identity))
}

/// Probes until the connection is lost or nobody is interested any more. Returns whether it was ever answered.
async fn follow(shard: &Weak<Shard>, place: usize, wake: &Notify, mut connection: PgConnection, fault: Fault) -> bool {
    let mut before = 0;
    let mut answered = false;
    loop {
        let asked = clock::now();
        let answer = ask(shard, place, &mut connection, asked, fault).await;
        let Some(it) = interested(shard) else { return answered };
        let report = match answer {
            Ok(report) => report,
            Err(error) => {
                let _ = it.observe(place, Event::Failed(Heard::Loss, clock::now(), error.text));
                return answered;
            }
        };
        let position = report.sampled.or(report.replayed).unwrap_or(0);
        if it.observe(place, Event::Answered(report)) == Advice::Reconnect {
            return answered;
        }
        answered = true;
        let moved = position != before;
        before = position;
        rest(it, place, wake, asked, moved).await;
    }
}

/// Sends one probe and waits for its answer, however slow, telling of the silence meanwhile.
async fn ask(
    shard: &Weak<Shard>,
    place: usize,
    connection: &mut PgConnection,
    asked: Tick,
    fault: Fault,
) -> Result<Report, ControlError> {
    let answer = sqlx::query(PROBE).fetch_one(connection);
    tokio::pin!(answer);
    loop {
        match timeout(SILENCE_STEP, answer.as_mut()).await {
            Ok(row) => {
                let row = row.map_err(|error| ControlError::from(&error))?;
                let mut report = report(&row, asked, fault).map_err(|error| ControlError::from(&error))?;
                if fault == Fault::ClockAfter && !report.in_recovery {
                    // As if the answer had been long on its way: what lies between is what the mistake lets through.
                    sleep(FAULT_DELAY).await;
                    report.asked = clock::now();
                }
                return Ok(report);
            }
            Err(_) => {
                let text = || format!("no answer for {:?}", clock::now().since(asked));
                let gone = || ControlError { heard: Heard::Failure, text: text(), sqlstate: None };
                if clock::now().since(asked) >= ANSWER_MAX {
                    return Err(gone());
                }
                let it = interested(shard).ok_or_else(gone)?;
                let _ = it.observe(place, Event::Silent(asked));
            }
        }
    }
}

/// Waits until it is time for the next probe; a wake may bring it forward.
async fn rest(shard: Arc<Shard>, place: usize, wake: &Notify, asked: Tick, moved: bool) {
    let mut situation = shard.situation(place, moved);
    let interest = Arc::downgrade(&shard);
    drop(shard);
    loop {
        let left = asked.plus(pace::gap(&situation)).since(clock::now());
        if left.is_zero() || timeout(left, wake.notified()).await.is_err() {
            return;
        }
        let Some(it) = interested(&interest) else { return };
        situation = it.situation(place, situation.writing);
    }
}

async fn within<T>(span: Duration, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, ControlError> {
    match timeout(span, answer).await {
        Ok(result) => result.map_err(|error| ControlError::from(&error)),
        Err(_) => {
            Err(ControlError { heard: Heard::Failure, text: format!("no answer within {span:?}"), sqlstate: None })
        }
    }
}

/// Mistakes that tests plant to see that they are found. Release builds have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Samples are made of the write position, which an asynchronous commit may be beyond.
    WritePosition,
    /// The moment of a sample is noted after the answer.
    ClockAfter,
}

impl Fault {
    fn from_environment() -> Self {
        if !cfg!(debug_assertions) {
            return Self::None;
        }
        match std::env::var("SHARDWAY_FAULT").as_deref() {
            Ok("write_position") => Self::WritePosition,
            Ok("clock_after") => Self::ClockAfter,
            _ => Self::None,
        }
    }
}

/// Numbers for lives of servers, one for every monitor connection of this process.
static LIVES: AtomicU64 = AtomicU64::new(1);

/// After that a connection is given up; the node is down long before.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Of `Fault::ClockAfter` only.
const FAULT_DELAY: Duration = Duration::from_millis(10);
/// How often silence is told of.
const SILENCE_STEP: Duration = Duration::from_millis(250);

const IDENTITY: &str = "
select c.system_identifier,
       (extract(epoch from pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8,
       (select s.setting::pg_catalog.int8 from pg_catalog.pg_settings s where s.name = 'wal_block_size'),
       (select s.setting::pg_catalog.int8 from pg_catalog.pg_settings s where s.name = 'wal_segment_size')
  from pg_catalog.pg_control_system() c";

const PROBE: &str = "
select pg_catalog.pg_is_in_recovery(),
       case when pg_catalog.pg_is_in_recovery() then null
            else pg_catalog.pg_current_wal_insert_lsn() end::pg_catalog.text,
       case when pg_catalog.pg_is_in_recovery() then null
            else pg_catalog.pg_current_wal_lsn() end::pg_catalog.text,
       case when pg_catalog.pg_is_in_recovery() then null
            else pg_catalog.pg_current_wal_flush_lsn() end::pg_catalog.text,
       pg_catalog.pg_last_wal_replay_lsn()::pg_catalog.text,
       case when pg_catalog.pg_is_in_recovery() then null
            else pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()) end,
       (select r.received_tli from pg_catalog.pg_stat_wal_receiver r),
       exists (select from pg_catalog.pg_stat_wal_receiver r where r.received_tli is null),
       (extract(epoch from pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8";

fn identity(row: &PgRow) -> Result<Identity, sqlx::Error> {
    let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(Identity {
        system: row.try_get::<i64, _>(0)?.cast_unsigned(),
        started: row.try_get(1)?,
        wal: WalShape { page: bytes(row.try_get(2)?), segment: bytes(row.try_get(3)?) },
    })
}

fn report(row: &PgRow, asked: Tick, fault: Fault) -> Result<Report, sqlx::Error> {
    let lsn = |place: usize| -> Result<Option<Lsn>, sqlx::Error> {
        row.try_get::<Option<&str>, _>(place)?.map(|text| parse_lsn(text).ok_or_else(|| unreadable(text))).transpose()
    };
    let sampled = lsn(if fault == Fault::WritePosition { 2 } else { 1 })?;
    // Promoted while it answered: what it says of positions then is of neither state.
    let in_recovery = row.try_get::<bool, _>(0)? || sampled.is_none();
    let written = row.try_get::<Option<&str>, _>(5)?;
    let timeline = match written {
        Some(file) if !in_recovery => {
            let first = file.get(..8).ok_or_else(|| unreadable(file))?;
            Some(u32::from_str_radix(first, 16).map_err(|_| unreadable(file))?)
        }
        _ => row.try_get::<Option<i32>, _>(6)?.and_then(|it| u32::try_from(it).ok()),
    };
    Ok(Report {
        asked,
        in_recovery,
        sampled: sampled.filter(|_| !in_recovery),
        flushed: lsn(3)?,
        replayed: lsn(4)?,
        timeline,
        hidden: row.try_get(7)?,
        started: row.try_get(8)?,
    })
}

/// Reads `16/B374D848`.
fn parse_lsn(text: &str) -> Option<Lsn> {
    let (high, low) = text.split_once('/')?;
    let part = |text| u32::from_str_radix(text, 16).ok().map(u64::from);
    Some((part(high)? << 32) | part(low)?)
}

fn unreadable(text: &str) -> sqlx::Error {
    sqlx::Error::Protocol(format!("the server's answer {text:?} is not understood"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_servers_print_them() {
        assert_eq!(parse_lsn("16/B374D848"), Some(0x16_B374_D848));
        assert_eq!(parse_lsn("0/0"), Some(0));
        assert_eq!(parse_lsn("0"), None);
        assert_eq!(parse_lsn("0/1FFFFFFFF"), None);
    }
}
