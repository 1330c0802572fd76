//! What SHOW WARNINGS shows: read from the server that has them, before another session gets its connection.

use std::fmt::Write as _;
use std::ops::Range;

use crate::error::ClientError;
use crate::exec::mysql::Link;
use crate::exec::mysql::relay;
use crate::exec::mysql::relay::Broken;
use crate::plan::mysql_command::Diagnostics;
use crate::session::mysql::Session;
use crate::session::mysql::Trouble;
use crate::session::mysql::assign;
use crate::session::mysql::say;
use crate::wire::mysql::kind;
use crate::wire::mysql::result::Column;
use crate::wire::mysql::result::Done;
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
    /// The error among them, and its SQLSTATE, which no row tells.
    failed: Option<(u16, String)>,
}

/// What one shard told of a statement that it has done to its own rows.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Which of the warnings are its.
    pub(super) told: Range<usize>,
    /// How many rows it has found or changed.
    pub(super) rows: u64,
}

/// What is held of the warnings of one server, in bytes. Servers keep `max_error_count` of them, usually 64.
pub(super) const WARNINGS_MAX: usize = 1 << 20;

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
        self.rows = vec![row_of_failure(level, failure)];
        self.told = 1;
        self.is_by(failure);
    }

    /// Forgets those of the statement before.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.told = 0;
        self.failed = None;
    }

    /// The error that the statement failed with is one of them.
    pub(super) fn is_by(&mut self, failure: &Failure) {
        self.failed = Some((failure.number, failure.sqlstate.clone()));
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

    /// Forgets those from `first` on that are of the statement, not of a row, and were told by another shard. How many.
    pub(super) fn drop_repeated(&mut self, first: usize) -> u16 {
        let Some((known, _)) = self.rows.split_at_checked(first) else { return 0 };
        let known: Vec<Vec<u8>> = known.iter().filter(|it| is_of_statement(it)).cloned().collect();
        let all = self.rows.len();
        let mut place = 0;
        self.rows.retain(|row| {
            place += 1;
            place <= first || !known.contains(row)
        });
        let dropped = all - self.rows.len();
        self.told = self.told.saturating_sub(u64::try_from(dropped).unwrap_or(u64::MAX));
        u16::try_from(dropped).unwrap_or(u16::MAX)
    }

    /// Tells those of a statement that each shard has done to its own rows as one server would: rows are counted on from
    /// shard to shard, and what a server says once, however many rows it looks at, is told once. How many were left out.
    ///
    /// A constant that does not fit the column that it is compared with is such a thing: servers convert it when they plan
    /// or with the first row, and keep what comes of it. Where a shard that has changed several rows tells of it once, that
    /// is proven; otherwise it is taken for one if each shard tells of it as often as its value is `compared` with something.
    pub(super) fn of_own_rows(&mut self, parts: &[Part], compared: impl Fn(&str) -> usize) -> u16 {
        let mut rows_before = 0;
        for part in parts {
            self.count_rows_of(part.told.clone(), rows_before);
            rows_before += part.rows;
        }
        let Some(first) = parts.iter().find(|it| !it.told.is_empty()) else { return 0 };
        let told_once = |row: &Vec<u8>| {
            let times = |part: &Part| {
                self.rows.get(part.told.clone()).unwrap_or_default().iter().filter(|it| *it == row).count()
            };
            let tell: Vec<&Part> = parts.iter().filter(|it| times(it) > 0).collect();
            let often = tell.first().map_or(0, |it| times(it));
            row_of(row).is_none()
                && tell.len() > 1
                && tell.iter().all(|it| times(it) == often)
                && (often == 1 && tell.iter().any(|it| it.rows > 1)
                    || message_of(row).is_some_and(|it| compared(quoted(it)) == often))
        };
        let mut kept = Vec::with_capacity(self.rows.len());
        for (place, row) in self.rows.iter().enumerate() {
            let by_first = |row: &Vec<u8>| {
                let tells = |it: &&Part| self.rows.get(it.told.clone()).unwrap_or_default().contains(row);
                parts.iter().find(tells).is_none_or(|it| it.told.contains(&place))
            };
            if place < first.told.start || by_first(row) || !told_once(row) {
                kept.push(row.clone());
            }
        }
        let dropped = self.rows.len() - kept.len();
        kept.truncate(KEPT_MAX);
        self.rows = kept;
        self.told = self.told.saturating_sub(u64::try_from(dropped).unwrap_or(u64::MAX));
        u16::try_from(dropped).unwrap_or(u16::MAX)
    }

    /// Counts the rows that these name on from those before.
    fn count_rows_of(&mut self, told: Range<usize>, before: u64) {
        for row in self.rows.get_mut(told).into_iter().flatten() {
            let Some(own) = row_of(row) else { continue };
            let Ok(cells) = text_row(row, COLUMNS) else { continue };
            let [level, number, Some(message)] = cells.as_slice() else { continue };
            let message = String::from_utf8_lossy(message);
            let Some((text, _)) = message.rsplit_once(AT_ROW) else { continue };
            let message = format!("{text}{AT_ROW}{}", before.saturating_add(u64::try_from(own).unwrap_or(u64::MAX)));
            let mut renumbered = Vec::new();
            put_text_row(&mut renumbered, [*level, *number, Some(message.as_bytes())]);
            *row = renumbered;
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

    /// These are the only ones: level, number, message; there were so many.
    pub(super) fn are<'a>(&mut self, told: u64, all: impl Iterator<Item = (&'a str, &'a str, &'a str)>) {
        self.clear();
        for (level, number, message) in all {
            let mut row = Vec::new();
            put_text_row(&mut row, [level, number, message].map(|it| Some(it.as_bytes())));
            self.rows.push(row);
        }
        self.told = told;
    }

    /// Reads those of a server that has some. The client has heard how many there are: those that are too much to hold are
    /// no reason to break with the server.
    pub(super) async fn read(&mut self, link: &mut Link) -> Result<(), Broken> {
        link.say_query("SHOW WARNINGS").await?;
        if let Ok(collected) = relay::collect_first(link, WARNINGS_MAX).await? {
            self.rows.extend(collected.rows);
        }
        Ok(())
    }
}

fn row_of_failure(level: &str, failure: &Failure) -> Vec<u8> {
    let mut row = Vec::new();
    let cells = [level.to_owned(), failure.number.to_string(), failure.message.clone()];
    put_text_row(&mut row, cells.iter().map(|it| Some(it.as_bytes())));
    row
}

/// The row that a warning names.
fn row_of(row: &[u8]) -> Option<usize> {
    message_of(row)?.rsplit_once(AT_ROW)?.1.parse().ok()
}

fn message_of(row: &[u8]) -> Option<&str> {
    std::str::from_utf8(text_row(row, COLUMNS).ok()?.last().copied().flatten()?).ok()
}

/// The value that a message tells: behind `Truncated incorrect DECIMAL value: `.
fn quoted(message: &str) -> &str {
    let from = message.split_once('\'').map_or("", |it| it.1);
    from.rsplit_once('\'').map_or("", |it| it.0)
}

const AT_ROW: &str = " at row ";

/// How many servers keep, unless they are told otherwise (`max_error_count`).
const KEPT_MAX: usize = 64;

/// A column without a default is told of once, however many rows leave it out (ER_NO_DEFAULT_FOR_FIELD).
fn is_of_statement(row: &[u8]) -> bool {
    text_row(row, COLUMNS).is_ok_and(|cells| cells.get(1) == Some(&Some(b"1364")))
}

fn is_error(row: &[u8]) -> bool {
    text_row(row, COLUMNS).is_ok_and(|cells| cells.first() == Some(&Some(b"Error")))
}

/// Level, number, message.
pub(super) const COLUMNS: usize = 3;

impl Session {
    /// GET DIAGNOSTICS: what the latest statement left, into user variables. It leaves the warnings as they are.
    pub(super) fn get_diagnostics(&mut self, asked: &Diagnostics, more: bool) -> Result<(), Trouble> {
        let row = match asked.condition {
            None => None,
            Some(number) => {
                let place = number.checked_sub(1).and_then(|it| usize::try_from(it).ok());
                let Some(row) = place.and_then(|it| self.warnings.rows.get(it)) else {
                    // Servers say that it is done, and add to what they would have told of, as far as they keep that.
                    if self.warnings.rows.len() < KEPT_MAX {
                        self.warnings.rows.push(row_of_failure("Error", &say::no_condition()));
                    }
                    self.warnings.told += 1;
                    let status = self.face(more).status(self.usual_status());
                    self.client.put_done(&Done { status, warnings: 1, ..Done::default() });
                    return Ok(());
                };
                Some(row.clone())
            }
        };
        let mut values = Vec::with_capacity(asked.items.len());
        for (variable, item) in &asked.items {
            values.push((assign::variable(variable), self.diagnostic(row.as_deref(), item)?));
        }
        for (variable, value) in values {
            self.state.set(&variable, Some(&value));
        }
        self.forget_world();
        self.put_done(more);
        Ok(())
    }

    /// One item as a constant of SQL.
    fn diagnostic(&self, row: Option<&[u8]>, item: &str) -> Result<String, ClientError> {
        let refused = || {
            ClientError::unsupported(
                format!("{item} in GET DIAGNOSTICS is not supported here"),
                "Ask for NUMBER and ROW_COUNT, or of a condition for MYSQL_ERRNO, MESSAGE_TEXT, and of an error for \
                 RETURNED_SQLSTATE.",
            )
        };
        let Some(row) = row else {
            return match item {
                "number" => Ok(format!("CAST({} AS UNSIGNED)", self.warnings.rows.len())),
                "row_count" => Ok(self.last.row_count().to_string()),
                _ => Err(refused()),
            };
        };
        let cells = text_row(row, COLUMNS).map_err(|_| refused())?;
        let [Some(level), Some(number), Some(message)] = cells.as_slice() else { return Err(refused()) };
        match item {
            "mysql_errno" => Ok(format!("CAST({} AS UNSIGNED)", String::from_utf8_lossy(number))),
            "message_text" => Ok(utf8(message)),
            "returned_sqlstate" => match &self.warnings.failed {
                Some((known, state)) if *level == b"Error" && known.to_string().as_bytes() == *number => {
                    Ok(utf8(state.as_bytes()))
                }
                _ => Err(refused()),
            },
            _ => Err(refused()),
        }
    }

    /// SHOW WARNINGS, SHOW ERRORS, and their counts; `binary`: it was prepared.
    pub(super) async fn show_warnings(
        &mut self,
        (errors, count): (bool, bool),
        limit: Option<(u64, u64)>,
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
        let (left_out, shown) = limit.unwrap_or((0, u64::MAX));
        let [left_out, shown] = [left_out, shown].map(|it| usize::try_from(it).unwrap_or(usize::MAX));
        for row in rows.iter().filter(|it| count || !errors || is_error(it)).skip(left_out).take(shown) {
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

/// A text of the server's own as a constant of SQL.
fn utf8(text: &[u8]) -> String {
    let mut out = "_utf8mb3 x'".to_owned();
    for byte in text {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02X}");
    }
    out + "' COLLATE utf8mb3_general_ci"
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
