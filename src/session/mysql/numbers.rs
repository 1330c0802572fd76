//! Numbers for AUTO_INCREMENT columns of tables whose rows are on several shards: a row of `shardway.numbers` on one shard
//! counts for all, and each proxy takes blocks of it, which its sessions share.
//!
//! A block is taken by one statement of the control user's, on a connection of its own: a rollback of the client's gives
//! nothing back, as on one server. What is left of a block when the process ends is a gap. A number that a client gives by
//! itself, beyond those that were handed out, moves the count up before its row is written.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::error::ClientError;
use crate::error::Code;
use crate::exec;
use crate::exec::mysql::Access;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::ident::ShardId;
use crate::ident::TableName;
use crate::plan::Gets;
use crate::plan::Numbering;
use crate::plan::Parameters;
use crate::plan::Planned;
use crate::plan::World;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::say;
use crate::session::mysql::text::Saying;
use crate::shard_map::Database;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::result::text_row;

/// How long numbers are waited for, whatever the limit of statements.
const TAKE_MAX: Duration = Duration::from_secs(10);
/// Numbers that are taken at once where the map does not say.
const BLOCK: u64 = 1000;
/// How often a server that breaks off is asked.
const ATTEMPTS: usize = 3;
/// The longest answer to what is asked here, in bytes.
const ANSWER_MAX: usize = 1 << 10;

/// Which column counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owner {
    database: Arc<str>,
    shard: Arc<str>,
    table: TableName,
}

/// The counts of all tables, for all sessions.
#[derive(Debug)]
pub struct Counters {
    known: Mutex<HashMap<Owner, Arc<Counter>>>,
    /// This process, as the table of counts knows it.
    token: String,
}

impl Default for Counters {
    fn default() -> Self {
        Self { known: Mutex::default(), token: format!("{:016x}", rand::random::<u64>()) }
    }
}

type Counter = tokio::sync::Mutex<Block>;

/// Numbers that have been taken and not handed out yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Block {
    next: u64,
    end: u64,
}

/// What a statement has reserved: InnoDB reserves for all its rows when the first one wants a number, and anew where one that
/// has a number of its own leads out of what was reserved. What is left over is a gap.
#[derive(Debug, Default)]
struct Reserved {
    /// The next number, and the end of those that were reserved; 0: none were.
    next: u64,
    end: u64,
    /// So many rows more were reserved for.
    rows: u64,
    times: u32,
}

impl Reserved {
    /// How many numbers are reserved next, in a statement of so many rows.
    fn count(&mut self, rows: usize) -> u64 {
        if self.rows == 0 {
            self.rows = if self.times == 0 { u64::try_from(rows).unwrap_or(u64::MAX) } else { 1 << self.times.min(15) };
        }
        self.times += 1;
        self.rows
    }
}

impl Counters {
    fn of(&self, owner: &Owner) -> Arc<Counter> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(owner.clone()).or_default())
    }
}

/// Hands out numbers for a session.
pub(super) struct Counting<'a> {
    pub(super) access: &'a Access,
    pub(super) counters: &'a Counters,
    /// How long a statement may take.
    pub(super) limit: Duration,
}

impl Counting<'_> {
    fn patience(&self) -> Duration {
        exec::limit(self.limit).map_or(TAKE_MAX, |it| it.min(TAKE_MAX))
    }

    fn database(&self) -> &Database {
        &self.access.service.database
    }

    /// Which shard counts for a table, and how many numbers are taken at once.
    fn rule(&self, table: &TableName) -> (ShardId, u64) {
        let database = self.database();
        match database.sequences.get(table) {
            Some(it) => (it.shard, u64::try_from(it.block).unwrap_or(BLOCK)),
            None => (database.catalog, BLOCK),
        }
    }

    fn owner(&self, table: &TableName) -> (Owner, ShardId, u64) {
        let (shard, block) = self.rule(table);
        let database = self.database();
        let owner = Owner {
            database: Arc::clone(&database.name),
            shard: Arc::clone(&database.shard(shard).name),
            table: table.clone(),
        };
        (owner, shard, block)
    }

    /// Numbers for the rows that want one, in their order; those that rows have count as one server would count them.
    ///
    /// # Errors
    /// The server that counts cannot be asked.
    pub(super) async fn number(&self, numbering: &Numbering) -> Result<Vec<u64>, ClientError> {
        let limit = self.patience();
        match Box::pin(tokio::time::timeout(limit, self.number_rows(numbering))).await {
            Ok(numbers) => numbers,
            Err(_) => Err(ClientError::new(
                Code::TimedOut,
                format_args!("no number for \"{}\" of \"{}\" came within {limit:?}", numbering.column, numbering.table),
                "Look at the shard that counts for it: SHOW NODES in the console.",
            )),
        }
    }

    async fn number_rows(&self, numbering: &Numbering) -> Result<Vec<u64>, ClientError> {
        let (owner, shard, size) = self.owner(&numbering.table);
        let counter = self.counters.of(&owner);
        let mut block = counter.lock().await;
        let wants = numbering.rows.iter().filter(|it| **it == Gets::Next).count();
        let mut numbers = Vec::with_capacity(wants);
        let mut reserved = Reserved::default();
        for gets in &numbering.rows {
            match *gets {
                Gets::Next => {
                    if reserved.next >= reserved.end {
                        let count = reserved.count(numbering.rows.len());
                        if block.end - block.next < count {
                            *block = self.more(numbering, shard, *block, 0, size.max(count)).await?;
                        }
                        (reserved.next, reserved.end) = (block.next, block.next + count);
                        block.next = reserved.end;
                    }
                    numbers.push(reserved.next);
                    reserved.next += 1;
                }
                Gets::Own(value) => {
                    let value = u64::try_from(value).unwrap_or(0);
                    if reserved.next > 0 && value >= reserved.next {
                        reserved.next = value + 1;
                    }
                    if value > 0 && value >= block.end {
                        match self.more(numbering, shard, Block::default(), value + 1, size).await {
                            Ok(moved) => *block = moved,
                            // Where nobody counts, whoever begins to begins behind it.
                            Err(error) if error.code == Code::NotAuthorized && wants == 0 => return Ok(numbers),
                            Err(error) => return Err(error),
                        }
                    } else if value >= block.next {
                        block.next = value + 1;
                    }
                }
                Gets::Unknown => {}
            }
            reserved.rows = reserved.rows.saturating_sub(1);
        }
        Ok(numbers)
    }

    /// Takes `count` numbers that are not below `floor`; those that `held` has left go before where they follow each other.
    async fn more(
        &self,
        numbering: &Numbering,
        shard: ShardId,
        held: Block,
        floor: u64,
        count: u64,
    ) -> Result<Block, ClientError> {
        let name = key_of(&numbering.table);
        let question = format!(
            "UPDATE shardway.numbers SET next = LAST_INSERT_ID(GREATEST(next, {floor})) + {count}, \
             taker = IF(taker = '{token}', taker, '') WHERE name = {name}",
            token = self.counters.token
        );
        for _ in 0..ATTEMPTS {
            let done = match self.ask(shard, &question).await? {
                Ok(done) => done,
                Err(failure) if matches!(failure.number, NO_SUCH_TABLE | UNKNOWN_DATABASE) => {
                    self.make(shard).await?;
                    continue;
                }
                Err(failure) => return Err(refused(numbering, &failure)),
            };
            if done.affected == 0 {
                self.begin(numbering, shard).await?;
                continue;
            }
            let first = done.insert_id;
            let next = if held.end == first && held.next < held.end { held.next } else { first };
            return Ok(Block { next, end: first.saturating_add(count) });
        }
        Err(ClientError::new(
            Code::ShardUnavailable,
            format_args!("no number for \"{}\" of \"{}\" could be taken", numbering.column, numbering.table),
            "Try again: numbers that may have been taken are left out.",
        ))
    }

    /// Makes the table of counts.
    async fn make(&self, shard: ShardId) -> Result<(), ClientError> {
        for text in [
            "CREATE DATABASE IF NOT EXISTS shardway",
            "CREATE TABLE IF NOT EXISTS shardway.numbers (name varbinary(400) NOT NULL PRIMARY KEY, \
             next bigint unsigned NOT NULL, taker varbinary(16) NOT NULL) ENGINE=InnoDB",
        ] {
            if let Err(failure) = self.ask(shard, text).await? {
                return Err(ClientError::new(
                    Code::NotAuthorized,
                    format_args!(
                        "numbers of AUTO_INCREMENT cannot be counted on shard \"{}\": {failure}",
                        self.name(shard)
                    ),
                    "GRANT ALL ON shardway.* TO the control user of the map on that shard's servers.",
                ));
            }
        }
        Ok(())
    }

    /// Begins to count for a table, above what any shard has.
    async fn begin(&self, numbering: &Numbering, counts: ShardId) -> Result<(), ClientError> {
        let (table, column) = (&numbering.table, quoted(&numbering.column));
        let of = format!("{}.{}", quoted(&table.schema), quoted(&table.name));
        let question = format!(
            "SELECT GREATEST(COALESCE((SELECT MAX({column}) FROM {of}), 0) + 1, COALESCE((SELECT AUTO_INCREMENT FROM \
             information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}), 1), 1)",
            literal(&table.schema),
            literal(&table.name),
        );
        let mut next = 1_u64;
        for place in 0..self.database().shards.len() {
            let shard = ShardId(u16::try_from(place).unwrap_or(u16::MAX));
            let said = self.tell(shard, &question).await?.map_err(|failure| refused(numbering, &failure))?;
            next = next.max(said);
        }
        let text = format!(
            "INSERT IGNORE INTO shardway.numbers (name, next, taker) VALUES ({}, {next}, '{}')",
            key_of(table),
            self.counters.token
        );
        match self.ask(counts, &text).await? {
            Ok(_) => Ok(()),
            Err(failure) => Err(refused(numbering, &failure)),
        }
    }

    /// The count of a table begins anew, behind what its shards have then. Where another process has taken numbers, too, it
    /// goes on: what that one still holds would come twice.
    ///
    /// # Errors
    /// The server that counts cannot be asked.
    pub(super) async fn restart(&self, table: &TableName) -> Result<(), ClientError> {
        let limit = self.patience();
        match tokio::time::timeout(limit, self.forget_count(table)).await {
            Ok(done) => done,
            Err(_) => Err(ClientError::new(
                Code::TimedOut,
                format_args!("the count of \"{table}\" could not be begun anew within {limit:?}"),
                "Look at the shard that counts for it: SHOW NODES in the console.",
            )),
        }
    }

    async fn forget_count(&self, table: &TableName) -> Result<(), ClientError> {
        let (owner, shard, _) = self.owner(table);
        let counter = self.counters.of(&owner);
        let mut block = counter.lock().await;
        *block = Block::default();
        let token = &self.counters.token;
        let text = format!("DELETE FROM shardway.numbers WHERE name = {} AND taker = '{token}'", key_of(table));
        match self.ask(shard, &text).await? {
            Ok(_) => Ok(()),
            // Nobody has counted.
            Err(failure) if matches!(failure.number, NO_SUCH_TABLE | UNKNOWN_DATABASE) => Ok(()),
            Err(failure) if matches!(failure.number, DATABASE_DENIED | TABLE_DENIED) => Ok(()),
            Err(failure) => Err(ClientError::new(
                Code::ShardUnavailable,
                format_args!("the count of \"{table}\" could not be begun anew: {failure}"),
                "Look at the shard that counts for it.",
            )),
        }
    }

    fn name(&self, shard: ShardId) -> &str {
        &self.database().shard(shard).name
    }

    /// Has the control user do something on a shard's primary.
    async fn ask(&self, shard: ShardId, text: &str) -> Result<Result<Done, Failure>, ClientError> {
        for _ in 0..ATTEMPTS {
            let mut link = self.access.control(shard).await?;
            // A connection that rested may have broken since. What it may have taken is a gap.
            let Ok(said) = link.run(text).await else { continue };
            self.release(link);
            return Ok(said);
        }
        Err(self.broke_off(shard))
    }

    /// Asks for one number.
    async fn tell(&self, shard: ShardId, question: &str) -> Result<Result<u64, Failure>, ClientError> {
        for _ in 0..ATTEMPTS {
            let mut link = self.access.control(shard).await?;
            let Ok(said) = one_number(&mut link, question).await else { continue };
            self.release(link);
            return Ok(said);
        }
        Err(self.broke_off(shard))
    }

    fn release(&self, mut link: Link) {
        // What LAST_INSERT_ID says there is nobody's.
        link.doubtful = false;
        self.access.release_control(link);
    }

    fn broke_off(&self, shard: ShardId) -> ClientError {
        ClientError::new(
            Code::ShardUnavailable,
            format_args!("shard \"{}\" broke off when it was asked for numbers", self.name(shard)),
            "Try again: numbers that it may have given are left out.",
        )
    }
}

impl Session {
    /// Runs an INSERT whose rows are numbered by the proxy with numbers for those that want one; `None`: none does.
    #[expect(clippy::too_many_arguments, reason = "a statement as it was said")]
    pub(super) async fn data_numbered(
        &mut self,
        numbering: &Numbering,
        text: &str,
        saying: Saying<'_>,
        planned: &Planned,
        parameters: Option<&Parameters<'_>>,
        world: &Rc<World>,
        more: bool,
    ) -> Result<Option<()>, Trouble> {
        let wants = numbering.rows.contains(&Gets::Next);
        if !wants && !numbering.rows.iter().any(|it| matches!(it, Gets::Own(1..))) {
            return Ok(None);
        }
        // Which rows were passed over, or changed instead, is not told.
        let unclear = (numbering.ignores && numbering.rows.len() > 1)
            || (!numbering.is_key && (numbering.ignores || numbering.updates));
        if wants && unclear {
            return Err(ClientError::unsupported(
                format!(
                    "IGNORE or ON DUPLICATE KEY UPDATE that leaves \"{}\" of sharded table \"{}\" to AUTO_INCREMENT is not \
                     supported",
                    numbering.column, numbering.table
                ),
                format!("Give \"{}\" from the application, or insert row by row.", numbering.column),
            )
            .into());
        }
        let (access, worker) = (Rc::clone(&self.used()?.access), Rc::clone(&self.worker));
        let limit = self.map.timeouts.statement;
        let counting = Counting { access: &access, counters: &worker.counters, limit };
        let numbers = counting.number(numbering).await?;
        let Some(first) = numbers.first() else { return Ok(None) };
        let prepared = matches!(saying, Saying::Bound(_));
        let numbered = planned.numbered(text, numbering, &numbers, world, prepared)?;
        let renumbered = match saying {
            // Its bytes are not those of the text.
            Saying::Raw(_) => return Err(say::not_utf8().into()),
            Saying::Text(_) => None,
            Saying::Bound(bound) => Some(bound.renumbered(numbered.parameters)),
        };
        self.last.first = Some(*first);
        let told = self.data_renumbered(&numbered.text, saying, parameters, renumbered.as_ref(), world, more).await;
        self.last.first = None;
        told.map(Some)
    }

    /// Has the count of a table begin anew.
    pub(super) async fn restart_count(&self, table: &TableName) -> Result<(), Trouble> {
        let (access, worker) = (Rc::clone(&self.used()?.access), Rc::clone(&self.worker));
        let limit = self.map.timeouts.statement;
        Ok(Counting { access: &access, counters: &worker.counters, limit }.restart(table).await?)
    }
}

async fn one_number(link: &mut Link, question: &str) -> Result<Result<u64, Failure>, Broken> {
    link.say_query(question).await?;
    let answer = match relay::collect(link, ANSWER_MAX).await? {
        Ok(answer) => answer,
        Err(failure) => return Ok(Err(failure)),
    };
    let row = answer.rows.first().and_then(|it| text_row(it, 1).ok()?.first().copied().flatten());
    let number = row.and_then(|it| std::str::from_utf8(it).ok()?.split('.').next()?.parse().ok());
    number.map(Ok).ok_or_else(|| Broken::Server("tells no number".to_owned()))
}

fn refused(numbering: &Numbering, failure: &Failure) -> ClientError {
    let code = match failure.number {
        DATABASE_DENIED | TABLE_DENIED => Code::NotAuthorized,
        _ => Code::ShardUnavailable,
    };
    ClientError::new(
        code,
        format_args!("no number for \"{}\" of \"{}\" could be taken: {failure}", numbering.column, numbering.table),
        "The control user of the map needs all rights on database shardway, and SELECT on the table.",
    )
}

/// What a table is counted under.
fn key_of(table: &TableName) -> String {
    literal(&format!("{}.{}", table.schema, table.name))
}

/// A text in hexadecimal means the same in every mode.
fn literal(text: &str) -> String {
    let digits: String = text.bytes().map(|it| format!("{it:02x}")).collect();
    if digits.is_empty() { "''".to_owned() } else { format!("x'{digits}'") }
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

// As in MySQL's list of errors.
const DATABASE_DENIED: u16 = 1044;
const UNKNOWN_DATABASE: u16 = 1049;
const TABLE_DENIED: u16 = 1142;
const NO_SUCH_TABLE: u16 = 1146;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_the_same_in_every_mode() {
        assert_eq!(key_of(&TableName::new("d", "it's")), "x'642e69742773'");
        assert_eq!(quoted("a`b"), "`a``b`");
    }
}
