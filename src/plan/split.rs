//! Writes that each shard is told in words of its own: the rows of an INSERT that belong to it, and one shard's
//! `now()` written out, for every shard's own would be another.
//!
//! The texts are cut from the client's, lexeme by lexeme; nothing is printed from a syntax tree.

use std::ops::Deref;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::plan::Gather;
use crate::plan::Planned;
use crate::plan::route::Route;
use crate::plan::words::Words;
use crate::sql::is_reserved_word;
use crate::sql::lex;
use crate::sql::lex::Kind;
use crate::sql::lex::Lexeme;
use crate::sql::model::Write;

/// How a statement may be split, values left open.
#[derive(Debug, Default)]
pub(crate) struct Splitting {
    /// now() or one of its family is in it, or in a default that it takes.
    pub(crate) uses_now: bool,
    /// INSERT: columns that it may leave to a default that uses now(), with whether it names them, and the default.
    pub(crate) defaults: Vec<(Arc<str>, Option<usize>, Arc<str>)>,
    /// INSERT … VALUES.
    pub(crate) rows: bool,
    /// INSERT … SELECT.
    pub(crate) selects: bool,
    /// INSERT … RETURNING: each row of VALUES gives a row of the answer.
    pub(crate) returning: bool,
    /// All shards do the same to a reference table's copies.
    pub(crate) copies: bool,
    /// INSERT: a row that is there may be changed instead.
    pub(crate) updates: bool,
    /// INSERT: a row may be passed over.
    pub(crate) may_skip: bool,
}

impl Splitting {
    /// Of a statement that every shard is told whole.
    pub(crate) fn whole(uses_now: bool, copies: bool) -> Self {
        Self { uses_now, copies, ..Self::default() }
    }

    /// Of an INSERT, as far as its ON CONFLICT (or IGNORE, or ON DUPLICATE KEY UPDATE) says.
    pub(crate) fn of_rows(uses_now: bool, write: &Write) -> Self {
        let conflict = write.conflict.as_ref();
        let (updates, may_skip) = conflict.map_or((false, false), |it| (it.updates, it.may_skip));
        Self { uses_now, updates, may_skip, ..Self::default() }
    }
}

/// What each shard is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// The shards, in the order of their first row.
    pub shards: SmallVec<[ShardId; 4]>,
    /// INSERT: the shard of each row, as a place in `shards`. None: every shard is told the whole statement.
    pub rows: Vec<u8>,
    /// What now() says has to be written out.
    pub now: bool,
    /// INSERT … RETURNING: the answer's rows are in the order of VALUES.
    pub in_order: bool,
    /// A write of a reference table: all shards do the same, and one of them answers.
    pub everywhere: bool,
    /// UPDATE of a shard key: rows leave these shards, and come to any of `shards`.
    pub leave: Option<ShardSet>,
    /// Every shard is told the whole statement, with these copies in the place of tables that are elsewhere.
    pub beside: Option<Box<Gather>>,
    /// INSERT … ON DUPLICATE KEY UPDATE, and the like: a row that is there may be changed instead.
    pub updates: bool,
    /// INSERT IGNORE, and the like: a row may be passed over.
    pub may_skip: bool,
}

impl Split {
    /// The shards as a set.
    #[must_use]
    pub fn shard_set(&self) -> ShardSet {
        self.shards.iter().copied().collect()
    }
}

/// What one shard is told.
#[derive(Clone, Debug)]
pub struct Share {
    /// The text.
    pub text: String,
    /// Which of the client's parameters stand in it, from `$1` on.
    pub parameters: Vec<bool>,
}

impl Planned {
    /// What each shard of a split is told, in their order; `now` is what now() says, as a literal without quotes.
    ///
    /// # Errors
    /// A function of the time that is not written out.
    pub fn shares(&self, text: &str, split: &Split, now: Option<&str>) -> Result<Vec<Share>, ClientError> {
        let splitting = match &self.template.route {
            Route::Keys(keys) => keys.split.as_ref().map_err(|_| unreadable())?,
            Route::Copies(splitting) => splitting,
            Route::Fixed(..) | Route::Copy(_) | Route::Draw(_) | Route::Carry(_) => return Err(unreadable()),
        };
        let lexemes = lex::lexemes(text, self.range.clone(), None).map_err(|_| unreadable())?;
        let cut = Cut { words: Words { text, lexemes }, now, splitting };
        let count = usize::from(self.template.parameters);
        if split.everywhere && splitting.rows {
            let share = cut.insert(&[], 1, self, count)?.pop().ok_or_else(unreadable)?;
            return Ok(split.shards.iter().map(|_| share.clone()).collect());
        }
        if split.now && splitting.selects && !splitting.defaults.is_empty() {
            let share = cut.select(self, count)?;
            return Ok(split.shards.iter().map(|_| share.clone()).collect());
        }
        if split.rows.is_empty() {
            let all = 0..cut.lexemes.len();
            if cut.has_default(&all) && !splitting.defaults.is_empty() {
                return Err(default_beside());
            }
            let share = Share { text: cut.said(&all)?, parameters: cut.parameters(std::iter::once(&all), count) };
            return Ok(split.shards.iter().map(|_| share.clone()).collect());
        }
        cut.insert(&split.rows, split.shards.len(), self, count)
    }
}

impl Planned {
    /// What each shard is told of a write beside copies: `text` with these in the place of tables, as
    /// [`Planned::rewritten`] gives it.
    ///
    /// # Errors
    /// A function of the time that is not written out.
    pub fn beside(&self, text: &str, now: Option<&str>) -> Result<String, ClientError> {
        let Route::Keys(keys) = &self.template.route else { return Err(unreadable()) };
        let splitting = keys.split.as_ref().map_err(Clone::clone)?;
        let lexemes = lex::lexemes(text, 0..text.len(), None).map_err(|_| unreadable())?;
        let cut = Cut { words: Words { text, lexemes }, now, splitting };
        let all = 0..cut.lexemes.len();
        if cut.has_default(&all) && !splitting.defaults.is_empty() {
            return Err(default_beside());
        }
        cut.said(&all)
    }
}

struct Cut<'t> {
    words: Words<'t>,
    now: Option<&'t str>,
    splitting: &'t Splitting,
}

impl<'t> Deref for Cut<'t> {
    type Target = Words<'t>;

    fn deref(&self) -> &Words<'t> {
        &self.words
    }
}

impl Cut<'_> {
    fn has_default(&self, range: &Range<usize>) -> bool {
        range.clone().any(|at| self.is(at, "default"))
    }

    fn parameters<'r>(&self, ranges: impl Iterator<Item = &'r Range<usize>>, count: usize) -> Vec<bool> {
        used_parameters(&self.words, ranges, count)
    }

    /// That part of the text with the time written out.
    fn said(&self, range: &Range<usize>) -> Result<String, ClientError> {
        match self.now {
            None => Ok(self.slice(range).to_owned()),
            Some(now) => timed(self.text, self.lexemes.get(range.clone()).unwrap_or_default(), now, false),
        }
    }

    /// The shares of an INSERT; without places of rows, all of them go to the first.
    fn insert(&self, places: &[u8], shards: usize, planned: &Planned, count: usize) -> Result<Vec<Share>, ClientError> {
        let (values, rows) = self.values().ok_or_else(unreadable)?;
        if !places.is_empty() && rows.len() != places.len() {
            return Err(unreadable());
        }
        let head = 0..values + 1;
        let tail = rows.last().map_or(0, |it| it.end)..self.lexemes.len();
        if self.has_default(&tail) && !self.splitting.defaults.is_empty() {
            return Err(default_beside());
        }
        let head_text = self.head(&head, planned)?;
        let tail_text = self.said(&tail)?;
        let mut shares: Vec<Share> = (0..shards)
            .map(|_| Share { text: head_text.clone(), parameters: self.parameters([&head, &tail].into_iter(), count) })
            .collect();
        let mut begun = vec![false; shares.len()];
        for (at, row) in rows.iter().enumerate() {
            let place = places.get(at).map_or(0, |it| usize::from(*it));
            let (Some(share), Some(begun)) = (shares.get_mut(place), begun.get_mut(place)) else { continue };
            share.text.push_str(if std::mem::replace(begun, true) { ", " } else { " " });
            share.text.push_str(&self.row(row)?);
            for (slot, used) in share.parameters.iter_mut().zip(self.parameters(std::iter::once(row), count)) {
                *slot |= used;
            }
        }
        for share in &mut shares {
            share.text.push(' ');
            share.text.push_str(&tail_text);
        }
        Ok(shares)
    }

    /// INSERT … SELECT, whose select list gets what its columns would take from defaults.
    fn select(&self, planned: &Planned, count: usize) -> Result<Share, ClientError> {
        let mut depth = 0_usize;
        let (mut select, mut from) = (None, None);
        for at in 0..self.lexemes.len() {
            match self.kind(at) {
                Kind::Open | Kind::OpenBracket => depth += 1,
                Kind::Close | Kind::CloseBracket => depth = depth.saturating_sub(1),
                Kind::Word if depth == 0 && select.is_none() && self.is(at, "select") => select = Some(at),
                Kind::Word if depth == 0 && select.is_some() && from.is_none() && self.is(at, "from") => {
                    let label = at.checked_sub(1).is_some_and(|it| self.is(it, "as") || self.is(it, "distinct"));
                    from = (!label).then_some(at);
                }
                _ => {}
            }
        }
        let (select, from) = select.zip(from).ok_or_else(unreadable)?;
        let (head, items, rest) = (0..select + 1, select + 1..from, from..self.lexemes.len());
        if self.has_default(&rest) {
            return Err(default_beside());
        }
        let now = self.now.ok_or_else(unreadable)?;
        let mut text = self.head(&head, planned)?;
        text.push(' ');
        text.push_str(&self.said(&items)?);
        for (.., default) in &self.splitting.defaults {
            text.push_str(", ");
            text.push_str(&default_at(default, now)?);
        }
        text.push(' ');
        text.push_str(&self.said(&rest)?);
        Ok(Share { text, parameters: self.parameters(std::iter::once(&(0..self.lexemes.len())), count) })
    }

    /// Everything up to VALUES or SELECT, with all columns that get a value.
    fn head(&self, head: &Range<usize>, planned: &Planned) -> Result<String, ClientError> {
        let text = self.slice(head);
        let left_out = self.splitting.defaults.iter().filter(|(_, place, _)| self.now.is_some() && place.is_none());
        let more: String = left_out.map(|(name, ..)| format!(", \"{}\"", name.replace('"', "\"\""))).collect();
        if let Some((at, columns)) = &planned.template.splice_columns {
            let (before, after) = text.split_at_checked(*at).ok_or_else(unreadable)?;
            let columns = columns.strip_suffix(')').ok_or_else(unreadable)?;
            return Ok(format!("{before}{columns}{more}){after}"));
        }
        if more.is_empty() {
            return Ok(text.to_owned());
        }
        let mut close = head.end.checked_sub(2).ok_or_else(unreadable)?;
        if self.is(close, "value") {
            // OVERRIDING SYSTEM VALUE
            close = close.checked_sub(3).ok_or_else(unreadable)?;
        }
        if self.kind(close) != Kind::Close {
            return Err(unreadable());
        }
        Ok(format!("{}{more}{}", self.slice(&(head.start..close)), self.slice(&(close..head.end))))
    }

    /// One row of VALUES.
    fn row(&self, row: &Range<usize>) -> Result<String, ClientError> {
        let Some(now) = self.now else { return Ok(self.slice(row).to_owned()) };
        let mut cells: Vec<String> = Vec::new();
        for cell in self.cells(row) {
            let default = self.splitting.defaults.iter().find(|(_, place, _)| *place == Some(cells.len()));
            cells.push(match default {
                Some((.., default)) if self.is_default(&cell) => default_at(default, now)?,
                _ => self.said(&cell)?,
            });
        }
        for (.., default) in self.splitting.defaults.iter().filter(|(_, place, _)| place.is_none()) {
            cells.push(default_at(default, now)?);
        }
        Ok(format!("({})", cells.join(", ")))
    }
}

/// Which of the client's parameters stand in parts of a text.
pub(crate) fn used_parameters<'r>(
    words: &Words<'_>,
    ranges: impl Iterator<Item = &'r Range<usize>>,
    count: usize,
) -> Vec<bool> {
    let mut used = vec![false; count];
    for at in ranges.flat_map(Clone::clone).filter(|at| words.kind(*at) == Kind::Parameter) {
        let number = words.raw(at).get(1..).and_then(|it| it.parse::<usize>().ok());
        if let Some(slot) = number.and_then(|it| used.get_mut(it.checked_sub(1)?)) {
            *slot = true;
        }
    }
    used
}

/// A default's expression with the time written out.
fn default_at(default: &str, now: &str) -> Result<String, ClientError> {
    let lexemes = lex::lexemes(default, 0..default.len(), None).map_err(|_| unreadable())?;
    Ok(format!("({})", timed(default, &lexemes, now, true)?))
}

/// Whether an expression of a default asks for the time.
pub(crate) fn asks_time(text: &str) -> bool {
    let Ok(lexemes) = lex::lexemes(text, 0..text.len(), None) else { return true };
    lexemes.iter().any(|it| {
        let word = text.get(it.start..it.end).unwrap_or_default();
        match it.kind {
            Kind::Word | Kind::Quoted => is_of_time(&word.trim_matches('"').to_ascii_lowercase()),
            Kind::String | Kind::UnicodeString => lex::names_a_time(word),
            _ => false,
        }
    })
}

fn is_of_time(word: &str) -> bool {
    matches!(
        word,
        "now"
            | "transaction_timestamp"
            | "current_timestamp"
            | "localtimestamp"
            | "current_date"
            | "statement_timestamp"
            | "current_time"
            | "localtime"
            | "age"
    )
}

/// Lexemes of a text as they stand there, but for now() and its family, for which a literal stands; in a default, `'now'`
/// cannot be written out.
pub(crate) fn timed(text: &str, lexemes: &[Lexeme], now: &str, defaults: bool) -> Result<String, ClientError> {
    let Some((first, last)) = lexemes.first().zip(lexemes.last()) else { return Ok(String::new()) };
    let raw = |at: usize| lexemes.get(at).and_then(|it| text.get(it.start..it.end)).unwrap_or_default();
    let kind = |at: usize| lexemes.get(at).map_or(Kind::End, |it| it.kind);
    let mut out = String::new();
    let mut copied = first.start;
    let mut at = 0;
    // Whether SELECT stands in each of the parentheses around.
    let mut selects: Vec<bool> = vec![false];
    while at < lexemes.len() {
        match kind(at) {
            Kind::Open => selects.push(false),
            Kind::Close => {
                selects.pop();
            }
            Kind::Word if raw(at).eq_ignore_ascii_case("select") && selects.len() > 1 => {
                if let Some(last) = selects.last_mut() {
                    *last = true;
                }
            }
            _ => {}
        }
        if matches!(kind(at), Kind::String | Kind::UnicodeString) && defaults && lex::names_a_time(raw(at)) {
            return Err(other_time(raw(at)));
        }
        let word = match kind(at) {
            Kind::Word => raw(at).to_ascii_lowercase(),
            // Written so, it is none of the grammar's own words.
            Kind::Quoted => raw(at).trim_matches('"').to_owned(),
            _ => String::new(),
        };
        if !is_of_time(&word) {
            at += 1;
            continue;
        }
        let called = kind(at + 1) == Kind::Open;
        let quoted = kind(at) == Kind::Quoted;
        let qualified = at > 0 && kind(at - 1) == Kind::Dot;
        let function = matches!(&*word, "now" | "transaction_timestamp" | "statement_timestamp" | "age");
        let before = at.checked_sub(1).map_or((Kind::End, ""), |it| (kind(it), raw(it)));
        // Behind an operand only its name can stand.
        let label = match before.0 {
            Kind::Word => !is_reserved_word(&before.1.to_ascii_lowercase()) || before.1.eq_ignore_ascii_case("as"),
            Kind::Quoted | Kind::Close | Kind::CloseBracket | Kind::Integer | Kind::Number | Kind::String => true,
            Kind::Parameter => true,
            _ => false,
        };
        // A column, or a name of one.
        if (function && !called) || (!function && (quoted || qualified)) || label {
            at += 1;
            continue;
        }
        // There it would have another name, or be no table.
        if selects.iter().any(|it| *it) || (before.1.eq_ignore_ascii_case("from") && selects.len() == 1) {
            return Err(other_time(&format!("{word} in a subquery")));
        }
        let start = match qualified {
            true if at >= 2 && raw(at - 2).trim_matches('"').eq_ignore_ascii_case("pg_catalog") => at - 2,
            true => {
                at += 1;
                continue;
            }
            false => at,
        };
        let empty = called && kind(at + 2) == Kind::Close;
        let (cast, end) = match &*word {
            "now" | "transaction_timestamp" if empty => ("", at + 3),
            "current_timestamp" if !called => ("", at + 1),
            "localtimestamp" if !called => ("::pg_catalog.timestamp", at + 1),
            "current_date" => ("::pg_catalog.date", at + 1),
            _ => return Err(other_time(&word)),
        };
        let begins = lexemes.get(start).map_or(0, |it| it.start);
        out.push_str(text.get(copied..begins).unwrap_or_default());
        out.push_str(&format!("('{now}'::pg_catalog.timestamptz{cast})"));
        copied = lexemes.get(end - 1).map_or(begins, |it| it.end);
        at = end;
    }
    out.push_str(text.get(copied..last.end).unwrap_or_default());
    Ok(out)
}

fn other_time(word: &str) -> ClientError {
    ClientError::unsupported(
        format!("{word} in a write that spans shards is not supported: every shard has its own clock"),
        "Use now() or CURRENT_TIMESTAMP without a precision, or give the time from the application.",
    )
}

fn default_beside() -> ClientError {
    ClientError::unsupported(
        "SET … = DEFAULT in a write that spans shards is not supported where a default of the table asks for the time",
        "Write the time out, such as now().",
    )
}

fn unreadable() -> ClientError {
    ClientError::unsupported(
        "this INSERT of rows of several shards is not supported: its rows could not be told apart",
        "Insert rows of one shard key at a time.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<String, ClientError> {
        let lexemes = lex::lexemes(text, 0..text.len(), None).unwrap();
        timed(text, &lexemes, "T", false)
    }

    #[test]
    fn the_time_is_written_out_wherever_it_is_asked_for() {
        const T: &str = "('T'::pg_catalog.timestamptz)";
        assert_eq!(at("(1, now() , 2)").unwrap(), format!("(1, {T} , 2)"));
        assert_eq!(at("pg_catalog.now( ) + x.now").unwrap(), format!("{T} + x.now"));
        assert_eq!(at("\"now\"()").unwrap(), T);
        assert_eq!(at("Current_Timestamp::date").unwrap(), format!("{T}::date"));
        assert_eq!(at("CURRENT_DATE").unwrap(), "('T'::pg_catalog.timestamptz::pg_catalog.date)");
        assert_eq!(at("timezone('utc'::text, now())").unwrap(), format!("timezone('utc'::text, {T})"));
        // Columns and names.
        assert_eq!(
            at("now + t.now, 1 AS current_date, \"localtime\"").unwrap(),
            "now + t.now, 1 AS current_date, \"localtime\""
        );
        assert_eq!(at("'now()' || age").unwrap(), "'now()' || age");
        for text in ["current_timestamp(3)", "LOCALTIME", "statement_timestamp()", "age(x)", "current_time"] {
            assert!(at(text).is_err(), "{text}");
        }
    }
}
