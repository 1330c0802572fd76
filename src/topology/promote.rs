//! What is asked of servers of Postgres while the primary's role goes from one to another: SQL, and where a replica follows.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::control::ControlError;
use super::freshness::Lsn;
use super::postgres_probe::parse_lsn;

/// Why something could not be done at a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        Self(error.text)
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::from(ControlError::from(&error))
    }
}

/// How it came out that a replica was asked to become the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// It is no replica any more.
    Done,
    /// It was not asked, or has said no: it is one still.
    Refused(Refusal),
    /// It may become one at any time: nobody else may.
    Unknown(Refusal),
}

/// The first column of the first row, as text.
pub async fn value(connection: &mut PgConnection, sql: &str) -> Result<String, Refusal> {
    let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await?;
    Ok(row.try_get::<Option<String>, _>(0)?.unwrap_or_default())
}

/// The first column of all rows, as text.
pub async fn values(connection: &mut PgConnection, sql: &str) -> Result<Vec<String>, Refusal> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await?;
    rows.iter().map(|row| Ok(row.try_get::<Option<String>, _>(0)?.unwrap_or_default())).collect()
}

/// Does something of which nothing is asked.
pub async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), Refusal> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await?;
    Ok(())
}

/// A position as a number.
pub async fn lsn(connection: &mut PgConnection, sql: &str) -> Result<Lsn, Refusal> {
    let text = value(connection, sql).await?;
    parse_lsn(&text).ok_or_else(|| Refusal(format!("the server's position {text:?} is not understood")))
}

/// A text as a literal.
#[must_use]
pub fn literal(text: &str) -> String {
    let escaped = text.replace('\'', "''");
    // Whatever standard_conforming_strings says.
    if escaped.contains('\\') { format!(" E'{}'", escaped.replace('\\', "\\\\")) } else { format!("'{escaped}'") }
}

/// Asks a replica to become the primary, and waits until it is, at most `patience`. A statement that does not come back
/// says nothing: the replica is asked what it is.
pub async fn promote(connection: &mut PgConnection, patience: Duration) -> Promotion {
    if let Err(refusal) = run(connection, "SET statement_timeout = 0").await {
        return Promotion::Refused(refusal);
    }
    let seconds = patience.as_secs();
    let text = format!("SELECT pg_promote(true, {seconds})::text");
    let asked = value(connection, &text);
    let why = match tokio::time::timeout(patience * 2, asked).await {
        Ok(Ok(answer)) if answer == "true" => return Promotion::Done,
        Ok(Ok(_)) => Refusal(format!("it was not promoted within {seconds} s")),
        Ok(Err(refusal)) => refusal,
        Err(_) => Refusal("it does not answer".to_owned()),
    };
    match value(connection, "SELECT pg_is_in_recovery()::text").await {
        Ok(it) if it == "false" => Promotion::Done,
        _ => Promotion::Unknown(why),
    }
}

/// Shows that a server takes writes, and waits until all that was written before is durable there (and on its synchronous
/// replicas).
pub async fn write_something(connection: &mut PgConnection) -> Result<(), Refusal> {
    run(connection, "BEGIN READ WRITE; SELECT pg_logical_emit_message(true, 'shardway', 'switchover'); COMMIT").await
}

/// Has a replica follow another primary; what else its connection is made with stays as it is. `primary` is a connection to
/// that one, for the slot that the replica uses.
pub async fn follow(
    replica: &mut PgConnection,
    primary: &mut PgConnection,
    (host, port): (&str, u16),
) -> Result<(), Refusal> {
    let before = value(replica, "SHOW primary_conninfo").await?;
    let conninfo = pointed_at(&before, host, port)
        .ok_or_else(|| Refusal("its primary_conninfo is not a list of key = value".to_owned()))?;
    let slot = value(replica, "SHOW primary_slot_name").await?;
    if !slot.is_empty() {
        let slot = literal(&slot);
        let missing = format!(
            "SELECT pg_create_physical_replication_slot({slot})::text WHERE NOT EXISTS \
             (SELECT FROM pg_replication_slots WHERE slot_name = {slot})"
        );
        values(primary, &missing).await?;
    }
    run(replica, &format!("ALTER SYSTEM SET primary_conninfo = {}", literal(&conninfo))).await?;
    values(replica, "SELECT pg_reload_conf()::text").await.map(drop)
}

/// A connection string with another address. `None`: it is a URI, or not to be understood.
#[must_use]
pub fn pointed_at(conninfo: &str, host: &str, port: u16) -> Option<String> {
    let mut kept = String::new();
    let mut rest = conninfo.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_end();
        if key.is_empty() || !key.bytes().all(|it| it.is_ascii_lowercase() || it == b'_') {
            return None;
        }
        let after = after.trim_start();
        let end = value_end(after)?;
        let (value, behind) = after.split_at_checked(end)?;
        if !matches!(key, "host" | "hostaddr" | "port") {
            kept.push_str(&format!("{key}={value} "));
        }
        rest = behind.trim_start();
    }
    let quoted = host.replace('\\', "\\\\").replace('\'', "\\'");
    Some(format!("{kept}host='{quoted}' port={port}"))
}

/// Where a value ends, quotes included.
fn value_end(text: &str) -> Option<usize> {
    let quoted = text.starts_with('\'');
    let mut escaped = false;
    for (at, it) in text.char_indices() {
        match it {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' if quoted && at > 0 => return Some(at + 1),
            _ if !quoted && it.is_whitespace() => return Some(at),
            _ => {}
        }
    }
    (!quoted && !escaped).then_some(text.len())
}

/// Closes a connection in order; what is left of it is nobody's concern.
pub async fn close(connection: PgConnection) {
    let _ = connection.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_address_leaves_the_rest_as_it_is() {
        let given = "user=postgres password='a \\' b' passfile=/x/.pgpass host=10.0.0.1 port = 5432 sslmode=prefer";
        let wanted = "user=postgres password='a \\' b' passfile=/x/.pgpass sslmode=prefer host='10.0.0.2' port=6000";
        assert_eq!(pointed_at(given, "10.0.0.2", 6000).as_deref(), Some(wanted));
        assert_eq!(pointed_at("", "h", 1).as_deref(), Some("host='h' port=1"));
        for bad in ["postgres://me@there/", "host", "host='open", "a b=c"] {
            assert_eq!(pointed_at(bad, "h", 1), None, "{bad}");
        }
    }

    #[test]
    fn literals_are_read_back_as_they_were() {
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }
}
