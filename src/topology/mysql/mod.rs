//! MySQL and MariaDB servers: what monitors ask them, and how their `information_schema` becomes a schema.
//!
//! There is no cluster's identifier and no timeline here. What a server has is told by the names of its transactions
//! (GTIDs): a replica is fresh once it has those of its primary, and one that was made writable is accepted when it has
//! all that the one before it was known to have. Servers that name none prove nothing: their primary serves all reads.

mod catalog;
pub(super) mod check;
pub(super) mod deadlock;
pub(super) mod fit;
pub mod own;
pub(super) mod placement;
mod probe;
pub(super) mod reader;
pub mod two_phase;
pub(super) mod verify;
pub mod xid;

use std::sync::Arc;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::ConnectOptions;
use sqlx::Row;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::mysql::MySqlConnection;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::mysql::MySqlRow;
use sqlx::mysql::MySqlSslMode;

use super::control::Control;
use super::control::ControlError;
use super::control::bounded;
use super::freshness::WalShape;
use super::health::Heard;
use super::monitor::Identity;
use super::monitor::Report;
use crate::clock;
use crate::clock::Tick;
use crate::shard_map::Node;
use crate::shard_map::TlsMode;

/// One row of an answer, every value as its text.
type Texts = Vec<Option<String>>;

/// How often one that lacks a right logs in again, to see whether it has got it.
const LOGIN_EVERY: Duration = Duration::from_secs(5);

/// A connection of the proxy's own.
pub(super) struct Connection {
    line: MySqlConnection,
    /// What it was opened by, and when it last logged in.
    opened_by: Box<(Control, Node)>,
    logged_in: Tick,
    /// What the map says that the servers call the database.
    database: String,
    version: String,
    started: i64,
    /// When it was asked last whether commits wait for replicas, as what, and what it said.
    semi_sync: Option<(Tick, bool, Option<Arc<str>>)>,
}

impl Connection {
    /// Opens one, on which every statement is bounded in time.
    pub(super) async fn open(control: &Control, node: &Node) -> Result<Self, ControlError> {
        control.opened(Self::begin(control, node)).await
    }

    async fn begin(control: &Control, node: &Node) -> Result<Self, ControlError> {
        let mut line = options(control, node).connect().await.map_err(|error| ControlError::from(&error))?;
        let said = first(&mut line, "SELECT @@version, UNIX_TIMESTAMP()").await?;
        let [Some(version), Some(now)] = said.as_slice() else { return Err(unreadable("its version")) };
        let limit = if is_mariadb(version) { "max_statement_time = 10" } else { "max_execution_time = 10000" };
        let settings = format!("SET SESSION sql_mode = '', sql_quote_show_create = 1, lock_wait_timeout = 1, {limit}");
        rows(&mut line, &settings).await?;
        let up = first(&mut line, "SHOW GLOBAL STATUS LIKE 'Uptime'").await?;
        let up = up.get(1).and_then(Option::as_deref).and_then(|it| it.parse::<i64>().ok());
        let started = now.parse::<i64>().ok().zip(up).map(|(now, up)| (now - up) * 1_000_000);
        let started = started.ok_or_else(|| unreadable("its uptime"))?;
        Ok(Self {
            line,
            opened_by: Box::new((control.clone(), node.clone())),
            logged_in: clock::now(),
            database: control.database().to_string(),
            version: version.clone(),
            started,
            semi_sync: None,
        })
    }

    /// Logs in again, unless it has done so not long ago: rights that were granted since count for new logins only.
    async fn log_in_again(&mut self) -> Result<(), ControlError> {
        if clock::now().since(self.logged_in) < LOGIN_EVERY {
            return Ok(());
        }
        self.logged_in = clock::now();
        let mut fresh = Self::open(&self.opened_by.0, &self.opened_by.1).await?;
        // It is the same process, if the old connection is still there.
        rows(&mut self.line, "DO 0").await?;
        std::mem::swap(&mut self.line, &mut fresh.line);
        Ok(())
    }

    /// Of a server there is nothing that its copies share; an open connection is to the same process for good.
    pub(super) fn identity(&self) -> Identity {
        Identity { system: SYSTEM, started: self.started, wal: WalShape { page: 0, segment: 0 } }
    }

    /// Probes once.
    pub(super) async fn report(&mut self, asked: Tick) -> Result<Report, ControlError> {
        probe::report(self, asked).await
    }

    /// The rows of an answer.
    async fn ask(&mut self, question: &str) -> Result<Vec<Texts>, ControlError> {
        rows(&mut self.line, question).await
    }

    /// The same of `information_schema`, which leaves out a table that it could not lock in time and only warns of it.
    async fn ask_for_all(&mut self, question: &str) -> Result<Vec<Texts>, ControlError> {
        let answer = self.ask(question).await?;
        let left_out = |row: &Texts| row.get(1).and_then(Option::as_deref) == Some(ER_LOCK_WAIT_TIMEOUT);
        if self.ask("SHOW WARNINGS").await?.iter().any(left_out) {
            let text = "a table is locked, and cannot be looked at".to_owned();
            return Err(ControlError { heard: Heard::Answer, text, sqlstate: None });
        }
        Ok(answer)
    }
}

/// Asks a question in the text protocol, in which every value is one.
async fn rows(line: &mut MySqlConnection, question: &str) -> Result<Vec<Texts>, ControlError> {
    let asked = sqlx::raw_sql(AssertSqlSafe(question)).fetch_all(line);
    let texts = |row: &MySqlRow| (0..row.len()).map(|it| row.try_get_unchecked(it)).collect();
    let rows: Result<Vec<Texts>, sqlx::Error> = bounded(asked).await?.iter().map(texts).collect();
    rows.map_err(|error| ControlError::from(&error))
}

async fn first(line: &mut MySqlConnection, question: &str) -> Result<Texts, ControlError> {
    rows(line, question).await?.into_iter().next().ok_or_else(|| unreadable(question))
}

fn unreadable(what: &str) -> ControlError {
    let text = format!("the server's answer is not understood: {what}");
    ControlError { heard: Heard::Failure, text, sqlstate: None }
}

fn options(control: &Control, node: &Node) -> MySqlConnectOptions {
    // Without TLS, a server that knows no caching_sha2 password yet would have to be believed its key: so TLS is preferred
    // on loopback, too.
    let mode = match control.tls().mode {
        TlsMode::Disable => MySqlSslMode::Disabled,
        TlsMode::Prefer => MySqlSslMode::Preferred,
        TlsMode::Require => MySqlSslMode::Required,
        TlsMode::VerifyFull => MySqlSslMode::VerifyIdentity,
    };
    let mut options = MySqlConnectOptions::new()
        .host(&node.host)
        .port(node.port)
        .username(&control.login().user)
        .database(control.database())
        .charset("utf8mb4")
        .ssl_mode(mode)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .disable_statement_logging();
    if let Some(password) = &control.login().password {
        options = options.password(password.reveal());
    }
    if let Some(ca) = &control.tls().ca {
        options = options.ssl_ca(ca);
    }
    options
}

/// Whether a server's version is one of MariaDB, which says so.
fn is_mariadb(version: &str) -> bool {
    version.to_ascii_lowercase().contains("mariadb")
}

/// Such as 101106 of `10.11.6-MariaDB`; 0 of what is no version.
fn version_number(version: &str) -> u32 {
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let mut parts = version.get(..end).unwrap_or_default().split('.').map(|it| it.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0).min(99);
    next() * 10_000 + next() * 100 + next()
}

fn replica_status(version: &str) -> &'static str {
    if is_mariadb(version) {
        "SHOW ALL SLAVES STATUS"
    } else if version_number(version) >= 80_022 {
        "SHOW REPLICA STATUS"
    } else {
        "SHOW SLAVE STATUS"
    }
}

/// `read_only` is a number or, in later versions, a word.
fn takes_writes(read_only: &str) -> bool {
    matches!(read_only, "0" | "OFF")
}

/// What an error's number says of the server's health; `None`: it is not one of a MySQL server, or says nothing of it.
pub(super) fn heard(error: &sqlx::Error) -> Option<Heard> {
    match number(error)? {
        // Too many connections: of all, of this user, in this hour.
        1040 | 1203 | 1226 => Some(Heard::Saturation),
        // It is stopping.
        1053 => Some(Heard::Refusal),
        _ => Some(Heard::Failure),
    }
}

fn number(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>().map(|it| it.number())
}

/// The right to see the state of replication is missing.
const ER_ACCESS_DENIED: u16 = 1227;

/// Somebody held a lock for too long, as SHOW WARNINGS has it.
const ER_LOCK_WAIT_TIMEOUT: &str = "1205";

/// Servers have no identifier that their copies share.
const SYSTEM: u64 = 0;

/// Servers have no timelines: all that they ever write is held to be one.
const TIMELINE: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_print_them() {
        for (text, number, mariadb) in [
            ("10.11.6-MariaDB-1:10.11.6+maria~deb12", 101_106, true),
            ("11.4.2-MariaDB", 110_402, true),
            ("8.0.36", 80_036, false),
            ("8.4.0-commercial", 80_400, false),
            ("", 0, false),
        ] {
            assert_eq!((version_number(text), is_mariadb(text)), (number, mariadb), "{text}");
        }
        assert_eq!(replica_status("10.11.6-MariaDB"), "SHOW ALL SLAVES STATUS");
        assert_eq!(replica_status("8.0.21"), "SHOW SLAVE STATUS");
        assert_eq!(replica_status("8.4.0"), "SHOW REPLICA STATUS");
    }

    #[test]
    fn only_what_is_known_to_take_writes_does() {
        assert!(takes_writes("0") && takes_writes("OFF"));
        assert!(!takes_writes("1") && !takes_writes("ON") && !takes_writes("NO_LOCK"));
    }
}
