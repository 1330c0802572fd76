//! What MySQL and MariaDB servers tell of who waits for whom, and how proxies tell each other there which connections are
//! one transaction.
//!
//! Locks by name cannot be listed, so what proxies tell are rows of `shardway.txlog` in a transaction that is never committed:
//! who reads uncommitted rows sees them, no replica does, and they go when the connection goes.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::time::Duration;

use super::super::control::ControlError;
use super::super::deadlock::Pair;
use super::super::deadlock::Row;
use super::Connection;
use super::is_mariadb;
use super::two_phase::is_missing;
use super::two_phase::standing;
use super::version_number;
use crate::shard_map::Node;

/// Statements that take less time wait for nobody for long. A deadlock within one server is found there, at once.
pub(in super::super) const AGE: Duration = Duration::from_millis(120);

/// Servers tell the same of their transactions for a tenth of a second.
pub(in super::super) const NEWS: Duration = Duration::from_millis(150);

/// Makes a connection ready for it. The server's name among proxies.
pub(in super::super) async fn begin(connection: &mut Connection, node: &Node) -> Result<u64, ControlError> {
    connection.ask("SET SESSION autocommit = 1, innodb_lock_wait_timeout = 3").await?;
    connection.ask("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED, READ WRITE").await?;
    let known = standing(connection).await?.and_then(|(_, server)| u64::from_str_radix(&server, 16).ok());
    Ok(known.unwrap_or_else(|| {
        // Nobody writes on two shards where they are not set up.
        let mut hasher = DefaultHasher::new();
        (&node.host, node.port).hash(&mut hasher);
        hasher.finish()
    }))
}

/// Tells other proxies what this one knows, instead of what it told before.
pub(in super::super) async fn tell(connection: &mut Connection, all: &BTreeSet<Pair>) -> Result<(), ControlError> {
    connection.ask("ROLLBACK").await?;
    if all.is_empty() {
        return Ok(());
    }
    let teller = rand::random::<u64>();
    let mut rows = String::new();
    for (place, (thread, mark, its)) in all.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        // A String takes whatever is written.
        let _ = write!(rows, "{comma}('{TOLD}{teller:016x}:{place}', 'told', '{thread} {mark:016x} {its}')");
    }
    connection.ask("START TRANSACTION").await?;
    match connection.ask(&format!("INSERT INTO shardway.txlog (gid, decision, parts) VALUES {rows}")).await {
        Err(error) if is_missing(&error) => Ok(()),
        said => said.map(|_| ()),
    }
}

/// What proxies tell.
pub(in super::super) async fn pairs(connection: &mut Connection) -> Result<Vec<Pair>, ControlError> {
    let question = format!("SELECT parts FROM shardway.txlog WHERE gid > '{TOLD}' AND gid < '{TOLD}g'");
    let rows = match connection.ask(&question).await {
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        said => said?,
    };
    let told = rows.iter().filter_map(|row| read(row.first()?.as_deref()?));
    Ok(told.take(HEARD_MAX).collect())
}

fn read(told: &str) -> Option<Pair> {
    let mut words = told.split(' ');
    let pair = (words.next()?.parse().ok()?, u64::from_str_radix(words.next()?, 16).ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(pair)
}

/// Who waits for whom.
pub(in super::super) async fn waits(connection: &mut Connection) -> Result<Vec<Row>, ControlError> {
    let has_tables = is_mariadb(&connection.version) || version_number(&connection.version) < 80_000;
    let rows = connection.ask(if has_tables { WAITS } else { WAITS_OF_8 }).await?;
    let mut all: Vec<Row> = Vec::new();
    for row in &rows {
        let [Some(who), Some(by), Some(what), since] = row.as_slice() else { continue };
        let (Ok(who), Ok(by)) = (who.parse::<u32>(), by.parse::<u32>()) else { continue };
        match all.last_mut().filter(|it| it.0 == who) {
            Some(same) => same.1.push(by),
            None => {
                let since = since.as_deref().unwrap_or("0");
                all.push((who, vec![by], format!("{what} {since}"), since.parse().unwrap_or(0.0)));
            }
        }
    }
    Ok(all)
}

/// How the keys of rows begin that tell of what is going on: no transaction's name is like that.
const TOLD: &str = "going on:";

/// The most that is listened to.
const HEARD_MAX: usize = 10_000;

// Whoever waits, waits for all that stand before it.
const WAITS: &str = "
SELECT r.trx_mysql_thread_id, b.trx_mysql_thread_id, w.requested_lock_id, UNIX_TIMESTAMP(r.trx_wait_started)
  FROM information_schema.INNODB_LOCK_WAITS w
  JOIN information_schema.INNODB_TRX r ON r.trx_id = w.requesting_trx_id
  JOIN information_schema.INNODB_TRX b ON b.trx_id = w.blocking_trx_id
 ORDER BY 1, 2";

const WAITS_OF_8: &str = "
SELECT r.trx_mysql_thread_id, b.trx_mysql_thread_id, w.REQUESTING_ENGINE_LOCK_ID, UNIX_TIMESTAMP(r.trx_wait_started)
  FROM performance_schema.data_lock_waits w
  JOIN information_schema.INNODB_TRX r ON r.trx_id = w.REQUESTING_ENGINE_TRANSACTION_ID
  JOIN information_schema.INNODB_TRX b ON b.trx_id = w.BLOCKING_ENGINE_TRANSACTION_ID
 ORDER BY 1, 2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_again() {
        assert_eq!(read("17 00000000000000ff 4294967295"), Some((17, 255, u32::MAX)));
        for other in ["", "17", "17 ff", "17 ff x", "17 ff 1 1", "x ff 1"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
