//! One probe of a MySQL or MariaDB server: whether it takes writes, where it is, and how its replication does.
//!
//! A primary's position is everything that its log or its replication has told it of: at least what was acknowledged before
//! it was asked. A replica's is what has been applied there (`gtid_slave_pos`, `gtid_executed`), and it counts only while
//! the replica is connected to a primary: the number of a transaction that a primary lost in a crash may come again.

use std::sync::Arc;

use sqlx::Row;
use sqlx::mysql::MySqlRow;

use super::super::control::ControlError;
use super::super::freshness::Position;
use super::super::gtid::Gtids;
use super::super::monitor::Report;
use super::Connection;
use super::ER_ACCESS_DENIED;
use super::TIMELINE;
use super::Texts;
use super::first;
use super::is_mariadb;
use super::number;
use super::replica_status;
use super::rows;
use super::takes_writes;
use super::unreadable;
use crate::clock::Tick;

/// Probes once. A server that takes writes claims to be the primary, whether it replicates or not: two that do are
/// not one database.
pub(super) async fn report(connection: &mut Connection, asked: Tick) -> Result<Report, ControlError> {
    let mariadb = is_mariadb(&connection.version);
    let said = first(&mut connection.line, if mariadb { OF_MARIADB } else { OF_MYSQL }).await?;
    let [Some(read_only), log, rest @ ..] = said.as_slice() else { return Err(unreadable("read_only")) };
    let in_recovery = !takes_writes(read_only);
    // Without a log, nobody can be known to have what was written.
    let logs = matches!(log.as_deref(), Some("1" | "ON"));
    let place = if mariadb { of_mariadb(in_recovery, logs, rest)? } else { of_mysql(in_recovery, logs, rest)? };
    let replication = if in_recovery { replication(connection).await? } else { Replication::fine() };
    Ok(Report {
        asked,
        in_recovery,
        sampled: place.sampled,
        flushed: place.flushed,
        replayed: place.replayed,
        received: place.received,
        timeline: replication.receives.then_some(TIMELINE),
        hidden: false,
        trouble: replication.trouble,
        semi_sync: semi_sync(connection, asked, in_recovery).await?,
        started: connection.started,
        mark: None,
    })
}

/// Where a server is, in the terms of [`Report`].
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    sampled: Option<Position>,
    flushed: Option<Position>,
    replayed: Option<Position>,
    received: Option<Position>,
}

fn of_mariadb(in_recovery: bool, logs: bool, said: &[Option<String>]) -> Result<Place, ControlError> {
    let [Some(logged), Some(applied), Some(server)] = said else { return Err(unreadable("its GTIDs")) };
    let read = |text: &str| Gtids::of_mariadb(text).ok_or_else(|| unreadable(text));
    let (logged, applied) = (read(logged)?, read(applied)?);
    let server: u32 = server.parse().map_err(|_| unreadable("its server_id"))?;
    let replayed = Some(position(applied.clone()));
    let wrote = match (in_recovery, logs) {
        // What it applied need not be in its log.
        (false, true) => Some(position(logged.united(&applied))),
        (true, true) => Some(position(logged.written_by(server))),
        (_, false) => None,
    };
    Ok(Place { sampled: wrote.clone().filter(|_| !in_recovery), flushed: wrote, received: replayed.clone(), replayed })
}

fn of_mysql(in_recovery: bool, logs: bool, said: &[Option<String>]) -> Result<Place, ControlError> {
    let [Some(executed), Some(mode), Some(server)] = said else { return Err(unreadable("its GTIDs")) };
    // Where transactions may be without a name, names do not tell what is there.
    if mode != "ON" {
        return Ok(Place::default());
    }
    let executed = Gtids::of_mysql(executed).ok_or_else(|| unreadable(executed))?;
    let (own, others) = executed.split_by(server);
    let executed = position(executed);
    let wrote = if in_recovery { position(own) } else { executed.clone() };
    let wrote = Some(wrote).filter(|_| logs);
    Ok(Place {
        sampled: wrote.clone().filter(|_| !in_recovery),
        flushed: wrote,
        replayed: Some(executed),
        received: Some(position(others)),
    })
}

fn position(gtids: Gtids) -> Position {
    Position::Gtids(Arc::new(gtids))
}

/// What a server says of its replication.
struct Replication {
    /// Whether it receives what a primary writes.
    receives: bool,
    trouble: Option<Arc<str>>,
}

impl Replication {
    fn fine() -> Self {
        Self { receives: true, trouble: None }
    }
}

async fn replication(connection: &mut Connection) -> Result<Replication, ControlError> {
    let asked = sqlx::raw_sql(replica_status(&connection.version)).fetch_all(&mut connection.line).await;
    match asked {
        Ok(rows) => Ok(judged(&rows.iter().map(channel).collect::<Vec<_>>())),
        Err(error) if number(&error) == Some(ER_ACCESS_DENIED) => {
            if let Err(error) = connection.log_in_again().await {
                // It has answered all the same: whether the old connection still does is seen by the next probe.
                tracing::debug!(%error, "the monitor cannot log in again");
            }
            Ok(Replication { receives: false, trouble: Some(HIDDEN.into()) })
        }
        Err(error) => Err(ControlError::from(&error)),
    }
}

/// One line of `SHOW REPLICA STATUS`: a source that is replicated from.
#[derive(Debug, Default)]
struct Channel {
    receives: bool,
    applies: bool,
    receiving_error: String,
    applying_error: String,
}

fn channel(row: &MySqlRow) -> Channel {
    let text = |names: [&str; 2]| {
        names
            .iter()
            .find_map(|name| row.try_get_unchecked::<Option<String>, _>(*name).ok().flatten())
            .unwrap_or_default()
    };
    Channel {
        receives: text(["Slave_IO_Running", "Replica_IO_Running"]) == "Yes",
        applies: text(["Slave_SQL_Running", "Replica_SQL_Running"]) == "Yes",
        receiving_error: text(["Last_IO_Error", "Last_IO_Error"]),
        applying_error: text(["Last_SQL_Error", "Last_SQL_Error"]),
    }
}

fn judged(channels: &[Channel]) -> Replication {
    let receives = channels.iter().any(|it| it.receives);
    let because = |what: &str, error: &str| match error {
        "" => Some(what.into()),
        error => Some(format!("{what}: {error}").into()),
    };
    let error = |of: fn(&Channel) -> &str| channels.iter().map(of).find(|it| !it.is_empty()).unwrap_or_default();
    let trouble = if !receives {
        because("it receives nothing from a primary", error(|it| &it.receiving_error))
    } else if channels.iter().any(|it| !it.applies) {
        because("it applies nothing of what it receives", error(|it| &it.applying_error))
    } else {
        None
    };
    Replication { receives, trouble }
}

/// Whether commits wait for replicas, in words; asked now and then only.
async fn semi_sync(
    connection: &mut Connection,
    asked: Tick,
    in_recovery: bool,
) -> Result<Option<Arc<str>>, ControlError> {
    let due = connection
        .semi_sync
        .as_ref()
        .is_none_or(|(at, of, _)| asked.since(*at).as_nanos() >= SEMI_SYNC_EVERY.as_nanos() || *of != in_recovery);
    if due {
        let said = rows(&mut connection.line, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync%'").await?;
        connection.semi_sync = Some((asked, in_recovery, in_words(&said, in_recovery)));
    }
    Ok(connection.semi_sync.as_ref().and_then(|(_, _, it)| it.clone()))
}

/// The status variables of semi-synchronous replication; none: the server cannot do it.
fn in_words(said: &[Texts], in_recovery: bool) -> Option<Arc<str>> {
    let value = |names: [&str; 2]| {
        let named = |row: &&Texts| {
            row.first()
                .and_then(Option::as_deref)
                .is_some_and(|it| names.iter().any(|name| it.eq_ignore_ascii_case(name)))
        };
        said.iter().find(named).and_then(|row| row.get(1)).and_then(Option::as_deref)
    };
    let is_on = |it: &str| it.eq_ignore_ascii_case("on");
    if in_recovery {
        let status = value(["Rpl_semi_sync_slave_status", "Rpl_semi_sync_replica_status"])?;
        return Some(if is_on(status) { "semi-sync" } else { "async" }.into());
    }
    let status = value(["Rpl_semi_sync_master_status", "Rpl_semi_sync_source_status"])?;
    let clients = value(["Rpl_semi_sync_master_clients", "Rpl_semi_sync_source_clients"]).unwrap_or("0");
    Some(match (is_on(status), clients) {
        (true, "1") => "semi-sync, 1 replica".into(),
        (true, clients) => format!("semi-sync, {clients} replicas").into(),
        // It is off, or was given up because nobody answered in time.
        (false, "0") => "async".into(),
        (false, clients) => format!("async, though {clients} could answer").into(),
    })
}

const OF_MARIADB: &str = "SELECT @@global.read_only, @@global.log_bin, @@global.gtid_binlog_pos, \
                          @@global.gtid_slave_pos, @@global.server_id";

const OF_MYSQL: &str = "SELECT @@global.read_only, @@global.log_bin, @@global.gtid_executed, @@global.gtid_mode, \
                        @@global.server_uuid";

/// Shown for a replica whose replication this user may not see.
const HIDDEN: &str = "the monitor's user may not see its replication, so it serves no reads: GRANT SLAVE MONITOR (MySQL: \
                      REPLICATION CLIENT) ON *.* to that user on the primary";

/// How often it is asked whether commits wait for replicas.
const SEMI_SYNC_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn said(values: [&str; 3]) -> Vec<Option<String>> {
        values.iter().map(|it| Some((*it).to_owned())).collect()
    }

    fn maria(text: &str) -> Option<Position> {
        Some(position(Gtids::of_mariadb(text).unwrap()))
    }

    #[test]
    fn a_primary_of_mariadb_is_where_its_log_and_its_replication_are() {
        let place = of_mariadb(false, true, &said(["0-2-105", "0-1-100,3-1-7", "2"])).unwrap();
        assert_eq!(place.sampled, maria("0-2-105,3-1-7"));
        assert_eq!(place.flushed, place.sampled);
        assert_eq!(place.replayed, maria("0-1-100,3-1-7"));
        // Just promoted, and without what it applied in its log.
        assert_eq!(of_mariadb(false, true, &said(["", "0-1-100", "2"])).unwrap().sampled, maria("0-1-100"));
        assert_eq!(of_mariadb(false, false, &said(["", "0-1-100", "2"])).unwrap().sampled, None);
    }

    #[test]
    fn a_replica_of_mariadb_tells_what_it_applied_and_what_it_wrote_itself() {
        let place = of_mariadb(true, true, &said(["0-1-100,7-2-3", "0-1-100", "2"])).unwrap();
        assert_eq!((place.sampled, place.flushed), (None, maria("7-2-3")));
        assert_eq!((place.replayed, place.received), (maria("0-1-100"), maria("0-1-100")));
    }

    #[test]
    fn mysql_tells_sets_and_only_where_every_transaction_has_a_name() {
        const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";
        let set = |text: &str| Some(position(Gtids::of_mysql(text).unwrap()));
        let all = format!("{A}:1-9,{B}:1-2");
        let primary = of_mysql(false, true, &said([&all, "ON", B])).unwrap();
        assert_eq!((primary.sampled, primary.flushed, primary.replayed), (set(&all), set(&all), set(&all)));
        let replica = of_mysql(true, true, &said([&all, "ON", B])).unwrap();
        assert_eq!((replica.sampled, replica.replayed), (None, set(&all)));
        assert_eq!((replica.flushed, replica.received), (set(&format!("{B}:1-2")), set(&format!("{A}:1-9"))));
        assert_eq!(of_mysql(true, true, &said([&all, "ON_PERMISSIVE", B])).unwrap(), Place::default());
    }

    #[test]
    fn what_is_wrong_with_replication_is_told() {
        let fine = || Channel { receives: true, applies: true, ..Channel::default() };
        let told = |channels: &[Channel]| {
            let it = judged(channels);
            (it.receives, it.trouble.map(|it| it.to_string()).unwrap_or_default())
        };
        assert_eq!(told(&[fine()]), (true, String::new()));
        assert_eq!(told(&[]), (false, "it receives nothing from a primary".to_owned()));
        let stopped = Channel { applies: false, applying_error: "Duplicate entry".to_owned(), ..fine() };
        assert_eq!(told(&[stopped]), (true, "it applies nothing of what it receives: Duplicate entry".to_owned()));
    }

    #[test]
    fn semi_sync_is_told_as_it_is_and_not_as_it_is_wished() {
        let said = |pairs: &[(&str, &str)]| -> Vec<Texts> {
            pairs.iter().map(|(name, value)| vec![Some((*name).to_owned()), Some((*value).to_owned())]).collect()
        };
        let master = |status, clients| {
            let said = said(&[("Rpl_semi_sync_master_status", status), ("Rpl_semi_sync_master_clients", clients)]);
            in_words(&said, false).map(|it| it.to_string()).unwrap_or_default()
        };
        assert_eq!(master("ON", "2"), "semi-sync, 2 replicas");
        assert_eq!(master("OFF", "0"), "async");
        assert_eq!(master("OFF", "1"), "async, though 1 could answer");
        assert_eq!(in_words(&said(&[("Rpl_semi_sync_replica_status", "ON")]), true).as_deref(), Some("semi-sync"));
        assert_eq!(in_words(&[], false), None);
    }
}
