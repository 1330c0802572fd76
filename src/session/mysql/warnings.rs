//! What SHOW WARNINGS shows: read from the server that has them, before another session gets its connection.

use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::wire::mysql::kind;
use crate::wire::mysql::result::Column;
use crate::wire::mysql::result::Failure;
use crate::wire::mysql::result::put_binary_row;
use crate::wire::mysql::result::put_text_row;
use crate::wire::mysql::result::text_row;

/// The warnings of the latest statement that could have any.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    /// Rows as servers send them: level, number, message.
    rows: Vec<Vec<u8>>,
    /// How many there were; servers keep no more than so many.
    told: u64,
}

/// What the warnings of one server may come to, in bytes. Servers keep `max_error_count` of them, usually 64.
const WARNINGS_MAX: usize = 1 << 20;

impl Warnings {
    /// An error of the proxy's own is the only one.
    pub(super) fn of_failure(&mut self, failure: &Failure) {
        self.only("Error", failure);
    }

    /// What would have been an error is the only one.
    pub(super) fn of_note(&mut self, failure: &Failure) {
        self.only("Note", failure);
    }

    fn only(&mut self, level: &str, failure: &Failure) {
        let mut row = Vec::new();
        let cells = [level.to_owned(), failure.number.to_string(), failure.message.clone()];
        put_text_row(&mut row, cells.iter().map(|it| Some(it.as_bytes())));
        self.rows = vec![row];
        self.told = 1;
    }

    /// Forgets those of the statement before.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.told = 0;
    }

    /// So many more were told of.
    pub(super) fn count(&mut self, more: u16) {
        self.told += u64::from(more);
    }

    /// How many there were, and how many of them were errors.
    pub(super) fn counts(&self) -> (u64, u64) {
        let all = u64::try_from(self.rows.len()).unwrap_or(u64::MAX);
        let errors = self.rows.iter().filter(|it| is_error(it)).count();
        (all.max(self.told), u64::try_from(errors).unwrap_or(u64::MAX))
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Has the messages of those from `first` on name the rows that the client counts.
    pub(super) fn count_rows_from(&mut self, first: usize, named: impl Fn(&str) -> String) {
        for row in self.rows.iter_mut().skip(first) {
            let Ok(cells) = text_row(row, COLUMNS) else { continue };
            let [level, number, Some(message)] = cells.as_slice() else { continue };
            let message = named(&String::from_utf8_lossy(message));
            let mut renamed = Vec::new();
            put_text_row(&mut renamed, [*level, *number, Some(message.as_bytes())]);
            *row = renamed;
        }
    }

    /// Whether each of them names a row.
    pub(super) fn are_numbered(&self) -> bool {
        self.rows.iter().all(|it| row_of(it).is_some())
    }

    /// Puts those of several shards in the order of the rows that they name, and keeps as many as one server would.
    pub(super) fn sort(&mut self) {
        if self.are_numbered() {
            self.rows.sort_by_key(|it| row_of(it));
        }
        self.rows.truncate(KEPT_MAX);
    }

    /// Reads those of a server that has some.
    pub(super) async fn read(&mut self, link: &mut Link) -> Result<(), Broken> {
        link.say_query("SHOW WARNINGS").await?;
        if let Ok(collected) = relay::collect(link, WARNINGS_MAX).await? {
            self.rows.extend(collected.rows);
        }
        Ok(())
    }
}

/// The row that a warning names.
fn row_of(row: &[u8]) -> Option<usize> {
    let cells = text_row(row, COLUMNS).ok()?;
    let message = std::str::from_utf8(cells.last().copied().flatten()?).ok()?;
    message.rsplit_once(" at row ")?.1.parse().ok()
}

/// How many servers keep, unless they are told otherwise (`max_error_count`).
const KEPT_MAX: usize = 64;

fn is_error(row: &[u8]) -> bool {
    text_row(row, COLUMNS).is_ok_and(|cells| cells.first() == Some(&Some(b"Error")))
}

/// Level, number, message.
const COLUMNS: usize = 3;

impl Session {
    /// SHOW WARNINGS, SHOW ERRORS, and their counts; `binary`: it was prepared.
    pub(super) async fn show_warnings(
        &mut self,
        errors: bool,
        count: bool,
        binary: bool,
        more: bool,
    ) -> Result<(), Trouble> {
        // What its columns are is the server's to say; its own warnings may be another session's.
        let question = match (count, errors) {
            (true, false) => "SHOW COUNT(*) WARNINGS",
            (true, true) => "SHOW COUNT(*) ERRORS",
            (false, false) => "SHOW WARNINGS LIMIT 0",
            (false, true) => "SHOW ERRORS LIMIT 0",
        };
        let mut link = self.any_link().await?;
        let collected = async {
            link.say_query(question).await?;
            relay::collect(&mut link, WARNINGS_MAX).await
        };
        let collected = match collected.await {
            Ok(Ok(collected)) => collected,
            Ok(Err(failure)) => {
                self.keep(link);
                return Err(failure.into());
            }
            Err(broken) => return Err(self.lost_all(broken, &link).await),
        };
        self.keep(link);
        let flags = self.face(more).status(self.usual_status());
        self.client.put_columns(&collected.columns, flags);
        let (all, of_errors) = self.warnings.counts();
        let counted = {
            let mut row = Vec::new();
            let number = if errors { of_errors } else { all }.to_string();
            put_text_row(&mut row, [Some(number.as_bytes())]);
            row
        };
        let counted = [counted];
        let rows: &[Vec<u8>] = if count { &counted } else { &self.warnings.rows };
        for row in rows.iter().filter(|it| count || !errors || is_error(it)) {
            match binary {
                true => self.client.put(&as_binary(row, &collected.columns)),
                false => self.client.put(row),
            }
        }
        self.client.end_rows(0, flags);
        if count {
            self.last.counted_rows(1);
        } else {
            self.last.no_count();
        }
        Ok(())
    }
}

/// A row of texts and whole numbers in binary.
fn as_binary(row: &[u8], columns: &[Column]) -> Vec<u8> {
    let cells = text_row(row, columns.len()).unwrap_or_default();
    let numbers: Vec<Option<[u8; 8]>> = cells
        .iter()
        .map(|cell| cell.and_then(|it| std::str::from_utf8(it).ok()?.parse::<u64>().ok()).map(u64::to_le_bytes))
        .collect();
    let kinds: Vec<u8> = columns.iter().map(|it| it.kind).collect();
    let values: Vec<Option<&[u8]>> = cells
        .iter()
        .zip(&numbers)
        .zip(&kinds)
        .map(|((cell, number), kind)| match *kind {
            kind::LONG => number.as_ref().and_then(|it| it.get(..4)),
            kind::LONGLONG => number.as_ref().map(|it| &it[..]),
            _ => *cell,
        })
        .collect();
    let mut out = Vec::new();
    put_binary_row(&mut out, &kinds, &values);
    out
}
