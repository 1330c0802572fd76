//! INSERT and REPLACE of rows for several shards: each shard is told its own, and the client hears one server's answer.
//!
//! Usually each shard is told all its rows at once. Where that does not tell what one server would have said (which of two
//! errors comes first, in which order warnings come), it is undone, and said again in the order of the rows.
//!
//! A shard that gets one row is harder on it than a server that gets several: what that one would only warn of is refused.

use std::collections::BTreeMap;

use crate::error::ClientError;
use crate::exec::mysql::relay::Ended;
use crate::exec::mysql::relay::Taken;
use crate::ident::ShardId;
use crate::plan::Chunk;
use crate::plan::Gets;
use crate::plan::Parameters;
use crate::plan::Planned;
use crate::plan::Split;
use crate::plan::World;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::text::OF_OPEN_TABLES;
use crate::session::mysql::text::Saying;
use crate::wire::mysql::capability;
use crate::wire::mysql::result::Column;
use crate::wire::mysql::result::Done;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::status;

/// In how many parts a statement is said again at most.
const PARTS_MAX: usize = 1000;

/// What is inserted.
pub(super) struct Inserting<'a> {
    pub(super) text: &'a str,
    pub(super) split: &'a Split,
    pub(super) saying: Saying<'a>,
    pub(super) planned: &'a Planned,
    pub(super) parameters: Option<&'a Parameters<'a>>,
    pub(super) world: &'a World,
}

/// The answer of all.
#[derive(Default)]
struct Whole {
    done: Done,
    /// Rows, but those that a constraint has passed over.
    records: u64,
    duplicates: u64,
    columns: Option<Vec<Column>>,
    rows: BTreeMap<usize, Vec<u8>>,
}

impl Session {
    pub(super) async fn insert_on_several(&mut self, inserting: Inserting<'_>, more: bool) -> Result<(), Trouble> {
        let Inserting { text, split, planned, world, .. } = inserting;
        let mut groups: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
        for (row, place) in split.rows.iter().enumerate() {
            if let Some(shard) = split.shards.get(usize::from(*place)) {
                groups.entry(*shard).or_default().push(row);
            }
        }
        // A row that was found and left as it is counts like one that came.
        let found_rows = self.client.capabilities & capability::FOUND_ROWS != 0;
        if found_rows && split.updates && groups.values().any(|it| it.len() == 1) {
            return Err(ClientError::unsupported(
                "ON DUPLICATE KEY UPDATE of rows of several shards, with rows that are found counted (CLIENT_FOUND_ROWS), is \
                 not supported",
                "Insert rows of one shard key at a time, or connect without CLIENT_FOUND_ROWS.",
            )
            .into());
        }
        let (shards, groups): (Vec<ShardId>, Vec<Vec<usize>>) = groups.into_iter().unzip();
        let chunks = planned.chunks(text, groups, world)?;
        let parts: Vec<(usize, Chunk)> = chunks.into_iter().enumerate().collect();
        let whole = match self.insert_parts(&inserting, &shards, &parts, false).await? {
            Some(whole) => whole,
            None => {
                let parts = in_order(&inserting, &shards)?;
                let whole = self.insert_parts(&inserting, &shards, &parts, true).await?;
                whole.ok_or_else(unclear)?
            }
        };
        self.tell_whole(whole, more);
        Ok(())
    }

    /// Says the parts one after the other; `None`: all of it is undone, for it has to be said in the order of the rows.
    async fn insert_parts(
        &mut self,
        inserting: &Inserting<'_>,
        shards: &[ShardId],
        parts: &[(usize, Chunk)],
        ordered: bool,
    ) -> Result<Option<Whole>, Trouble> {
        let mut span = self.open_span(shards, true).await?;
        let mut whole = Whole::default();
        let mut failed: Option<Failure> = None;
        let mut warned = 0_usize;
        let mut unclear = false;
        for (place, chunk) in parts {
            let before = self.warnings.len();
            let said = match inserting.saying {
                Saying::Text(_) | Saying::Raw(_) => {
                    self.ask_in_span(&mut span, *place, Saying::Text(&chunk.text)).await?
                }
                Saying::Bound(bound) => {
                    let renumbered = bound.renumbered(chunk.parameters.clone());
                    let key = self.state.key_of(&chunk.text);
                    let bound = bound.with(&renumbered, &chunk.text, key);
                    self.ask_in_span(&mut span, *place, Saying::Bound(&bound)).await?
                }
            };
            let mut taken = match said {
                Ok(taken) => taken,
                Err(failure) => {
                    let failure = Failure { message: at_row(&failure.message, &chunk.rows).0, ..failure };
                    if chunk.rows.len() == 1
                        && let Some(what) = self.is_passed_among_others(&failure, inserting.split)
                    {
                        self.refuse_span(span).await?;
                        return Err(alone(what, &failure).into());
                    }
                    let ends = ends_all(&failure);
                    // A server finds these before it comes to any row.
                    let of_all = OF_OPEN_TABLES.contains(&failure.number);
                    if ordered || ends || of_all {
                        self.undo_span(span, Some(&failure)).await?;
                        return Err(failure.into());
                    }
                    unclear |= failed.is_some();
                    failed.get_or_insert(failure);
                    continue;
                }
            };
            // Of one row of several a server fails, of a row by itself it has told before it came to that.
            let returns_none = taken.collected.as_ref().is_some_and(|it| it.rows.is_empty());
            if chunk.rows.len() == 1 && !inserting.split.may_skip && returns_none {
                self.refuse_span(span).await?;
                return Err(returns_nothing().into());
            }
            self.warnings.count_rows_from(before, |message| at_row(message, &chunk.rows).0);
            taken.done.warnings = taken.done.warnings.saturating_sub(self.warnings.drop_repeated(before));
            if self.warnings.len() > before {
                warned += 1;
                unclear |= warned > 1 && !ordered && !self.warnings.are_numbered();
            }
            unclear |= !whole.add(taken, chunk, inserting.split, ordered);
        }
        match failed {
            _ if unclear => {
                self.undo_span(span, None).await?;
                Ok(None)
            }
            Some(failure) => {
                self.undo_span(span, Some(&failure)).await?;
                Err(failure.into())
            }
            None => {
                if let Err(error) = whole.tell_last_number(inserting) {
                    self.undo_span(span, None).await?;
                    return Err(error.into());
                }
                self.keep_span(span).await?;
                self.warnings.sort();
                Ok(Some(whole))
            }
        }
    }

    /// What an error is about that servers have for the only row of an INSERT, and at most a warning for one of several.
    fn is_passed_among_others(&self, failure: &Failure, split: &Split) -> Option<&'static str> {
        match failure.number {
            CONSTRAINT_FAILED | VIEW_CHECK_FAILED if split.may_skip => Some("IGNORE of a row that fails a CHECK"),
            BAD_NULL if !split.may_skip && !self.state.is_strict() => Some("NULL for a column that is NOT NULL"),
            _ => None,
        }
    }

    fn tell_whole(&mut self, whole: Whole, more: bool) {
        let Whole { mut done, records, duplicates, columns, rows: told } = whole;
        done.status = self.face(more).status(done.status & !status::IN_TRANSACTION);
        if let Some(columns) = columns {
            self.client.put_columns(&columns, done.status);
            for row in told.values() {
                self.client.put(row);
            }
            self.client.end_rows(done.warnings, done.status);
            let count = u64::try_from(told.len()).unwrap_or(u64::MAX);
            self.last.heard(&Ended::Rows { count, status: done.status, warnings: done.warnings });
            if count > 0 && self.last.first.is_some() {
                self.last.gave();
            }
            return;
        }
        done.info = format!("Records: {records}  Duplicates: {duplicates}  Warnings: {}", done.warnings).into_bytes();
        if let Some(first) = self.last.first.filter(|_| done.affected > 0) {
            done.insert_id = first;
            self.last.gave();
        }
        self.client.put_done(&done);
        self.last.heard(&Ended::Done(done));
    }
}

impl Whole {
    /// A server tells the number of the last row that it came to, whether or not that one was written, if any was: where
    /// that row's shard has written none, it has told nothing.
    ///
    /// # Errors
    /// The number is not known here.
    fn tell_last_number(&mut self, inserting: &Inserting<'_>) -> Result<(), ClientError> {
        if self.done.insert_id != 0 || self.done.affected == 0 || self.columns.is_some() {
            return Ok(());
        }
        let Inserting { text, planned, parameters, world, .. } = *inserting;
        let Some(numbering) = planned.numbering(text, parameters, world) else { return Ok(()) };
        // The row that is found in the place of one that is there has that one's key, and may have another number.
        match numbering.rows.last() {
            Some(Gets::Own(number)) if numbering.is_key || !numbering.updates => {
                self.done.insert_id = number.cast_unsigned();
                Ok(())
            }
            Some(Gets::Next) | None => Ok(()),
            Some(Gets::Own(_) | Gets::Unknown) => Err(ClientError::unsupported(
                format!(
                    "an INSERT over several shards whose last row, which nothing came of, may have any value of \"{}\" is not \
                     supported",
                    numbering.column
                ),
                "Insert rows of one shard key at a time.",
            )),
        }
    }

    /// Adds what one part has done; false: in which order its rows belong is not certain.
    fn add(&mut self, taken: Taken, chunk: &Chunk, split: &Split, ordered: bool) -> bool {
        let Taken { done, collected } = taken;
        let count = u64::try_from(chunk.rows.len()).unwrap_or(u64::MAX);
        self.records += of_info(&done.info, "Records: ").unwrap_or(count);
        self.duplicates += match of_info(&done.info, "Duplicates: ") {
            Some(told) => told,
            // Of one row nothing is told: one that was passed over, or what it took away.
            None if done.affected == 0 => u64::from(split.may_skip),
            None => done.affected.saturating_sub(count),
        };
        self.done.affected += done.affected;
        self.done.warnings = self.done.warnings.saturating_add(done.warnings);
        self.done.status |= done.status;
        if chunk.rows.contains(&split.rows.len().saturating_sub(1)) {
            self.done.insert_id = done.insert_id;
        }
        let Some(collected) = collected else { return true };
        let certain = collected.rows.len() == chunk.rows.len();
        for (place, row) in collected.rows.into_iter().enumerate() {
            let at = match certain {
                true => chunk.rows.get(place).copied(),
                false => chunk.rows.first().copied().map(|it| it + place),
            };
            self.rows.insert(at.unwrap_or(place), row);
        }
        self.columns.get_or_insert(collected.columns);
        certain || ordered
    }
}

/// Rows that follow each other and belong to one shard, in the order of the text.
fn in_order(inserting: &Inserting<'_>, shards: &[ShardId]) -> Result<Vec<(usize, Chunk)>, ClientError> {
    let split = inserting.split;
    let mut places: Vec<usize> = Vec::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (row, place) in split.rows.iter().enumerate() {
        let shard = split.shards.get(usize::from(*place));
        let place = shards.iter().position(|it| Some(it) == shard).ok_or_else(unclear)?;
        match groups.last_mut().filter(|_| places.last() == Some(&place)) {
            Some(group) => group.push(row),
            None => {
                places.push(place);
                groups.push(vec![row]);
            }
        }
    }
    if groups.len() > PARTS_MAX {
        return Err(unclear());
    }
    let chunks = inserting.planned.chunks(inserting.text, groups, inserting.world)?;
    Ok(places.into_iter().zip(chunks).collect())
}

fn unclear() -> ClientError {
    ClientError::unsupported(
        "an INSERT of so many rows of several shards, of which some raise errors or warnings, is not supported",
        "Insert fewer rows at once, or rows of one shard key at a time.",
    )
}

/// A message with the client's number of the row in the place of the server's; whether it tells one.
fn at_row(message: &str, rows: &[usize]) -> (String, Option<usize>) {
    let Some((before, number)) = message.rsplit_once(" at row ") else { return (message.to_owned(), None) };
    let row = number.parse::<usize>().ok().and_then(|it| rows.get(it.checked_sub(1)?));
    match row {
        Some(row) => (format!("{before} at row {}", row + 1), Some(*row)),
        None => (message.to_owned(), None),
    }
}

fn alone(what: &str, failure: &Failure) -> ClientError {
    ClientError::unsupported(
        format!(
            "{what}, in an INSERT over several shards of which one gets no other row, is not supported ({})",
            failure.message
        ),
        "Mend or leave out that row, or insert rows of one shard key at a time.",
    )
}

fn returns_nothing() -> ClientError {
    ClientError::unsupported(
        "RETURNING of what raises an error, in an INSERT over several shards of which one gets no other row, is not supported",
        "Name columns alone, or insert rows of one shard key at a time.",
    )
}

/// A number of `Records: 2  Duplicates: 0  Warnings: 0`.
fn of_info(info: &[u8], what: &str) -> Option<u64> {
    std::str::from_utf8(info).ok()?.split_once(what)?.1.split(' ').next()?.parse().ok()
}

/// Whether it ends the transaction, or the statement: nothing can be asked any more.
pub(super) fn ends_all(failure: &Failure) -> bool {
    matches!(failure.number, LOCK_WAIT_TIMEOUT | LOCK_DEADLOCK | INTERRUPTED)
}

// As in MySQL's list of errors.
const LOCK_WAIT_TIMEOUT: u16 = 1205;
const LOCK_DEADLOCK: u16 = 1213;
const INTERRUPTED: u16 = 1317;
const BAD_NULL: u16 = 1048;
const VIEW_CHECK_FAILED: u16 = 1369;
/// MariaDB's.
const CONSTRAINT_FAILED: u16 = 4025;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_as_the_client_counts_them() {
        let rows = [1, 4];
        assert_eq!(at_row("Data too long for column 'c' at row 2", &rows).0, "Data too long for column 'c' at row 5");
        assert_eq!(at_row("Duplicate entry '1' for key 'PRIMARY'", &rows).1, None);
        assert_eq!(at_row("x at row 3", &rows), ("x at row 3".to_owned(), None));
    }

    #[test]
    fn what_a_server_counts_is_read() {
        let info = b"Records: 2  Duplicates: 11  Warnings: 0";
        assert_eq!((of_info(info, "Records: "), of_info(info, "Duplicates: ")), (Some(2), Some(11)));
        assert_eq!(of_info(b"", "Duplicates: "), None);
    }
}
