//! What a monitor asks a Postgres server, and how it reads the answers.

use sqlx::Row;
use sqlx::postgres::PgConnection;
use sqlx::postgres::PgRow;

use super::control::ControlError;
use super::freshness::Lsn;
use super::freshness::Position;
use super::freshness::WalShape;
use super::lead::mark::Mark;
use super::monitor::Identity;
use super::monitor::Report;
use super::probe::Fault;
use crate::clock::Tick;

/// Asks what does not change while the connection is open.
pub(super) async fn identity(connection: &mut PgConnection) -> Result<Identity, ControlError> {
    let row = sqlx::query(IDENTITY).fetch_one(connection).await.map_err(|error| ControlError::from(&error))?;
    identity_of(&row).map_err(|error| ControlError::from(&error))
}

/// Probes once; `asked` was noted before.
pub(super) async fn report(connection: &mut PgConnection, asked: Tick, fault: Fault) -> Result<Report, ControlError> {
    let row = sqlx::query(PROBE).fetch_one(connection).await.map_err(|error| ControlError::from(&error))?;
    report_of(&row, asked, fault).map_err(|error| ControlError::from(&error))
}

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
       case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_receive_lsn()
            else pg_catalog.pg_current_wal_lsn() end::pg_catalog.text,
       case when pg_catalog.pg_is_in_recovery() then null
            else pg_catalog.pg_current_wal_flush_lsn() end::pg_catalog.text,
       pg_catalog.pg_last_wal_replay_lsn()::pg_catalog.text,
       case when pg_catalog.pg_is_in_recovery() then null
            else pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()) end,
       (select r.received_tli from pg_catalog.pg_stat_wal_receiver r),
       exists (select from pg_catalog.pg_stat_wal_receiver r where r.received_tli is null),
       (extract(epoch from pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8,
       pg_catalog.current_setting('recovery_end_command')";

fn identity_of(row: &PgRow) -> Result<Identity, sqlx::Error> {
    let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(Identity {
        system: row.try_get::<i64, _>(0)?.cast_unsigned(),
        started: row.try_get(1)?,
        wal: WalShape { page: bytes(row.try_get(2)?), segment: bytes(row.try_get(3)?) },
    })
}

fn report_of(row: &PgRow, asked: Tick, fault: Fault) -> Result<Report, sqlx::Error> {
    let lsn = |place: usize| -> Result<Option<Position>, sqlx::Error> {
        let read = |text| parse_lsn(text).map(Position::Wal).ok_or_else(|| unreadable(text));
        row.try_get::<Option<&str>, _>(place)?.map(read).transpose()
    };
    let sampled = lsn(if fault == Fault::WritePosition { 2 } else { 1 })?;
    // Promoted while it answered: what it says of positions then is of neither state.
    let in_recovery = row.try_get::<bool, _>(0)? || sampled.is_none();
    let replayed = lsn(if fault == Fault::ReceivedPosition && in_recovery { 2 } else { 4 })?;
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
        replayed,
        timeline,
        received: None,
        hidden: row.try_get(7)?,
        trouble: None,
        semi_sync: None,
        started: row.try_get(8)?,
        mark: Mark::read(row.try_get(9)?),
    })
}

/// Reads `16/B374D848`.
pub(super) fn parse_lsn(text: &str) -> Option<Lsn> {
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
