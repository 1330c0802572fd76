//! What a statement asks of the one before it (`LAST_INSERT_ID()`, `ROW_COUNT()`, `@@warning_count` …), written out: no
//! connection of the session's need know it.
//!
//! Only the text changes: a value stands where a call stood, in a form that servers describe as they describe the call,
//! and an item of the select list keeps its name.

use std::ops::Range;

use crate::error::ClientError;
use crate::sql::lex::Kind;
use crate::sql::lex::Lexeme;
use crate::sql::lex::mysql as lex;
use crate::sql::lex::mysql::Mode;

/// What the statements of a session have left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// `LAST_INSERT_ID()`
    pub insert_id: u64,
    /// `ROW_COUNT()`
    pub row_count: i64,
    /// `FOUND_ROWS()`
    pub found_rows: u64,
    /// `@@warning_count`
    pub warnings: u64,
    /// `@@error_count`
    pub errors: u64,
    /// `CONNECTION_ID()`: that of the client's connection.
    pub connection: u32,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    InsertId,
    Identity,
    RowCount,
    FoundRows,
    Warnings,
    Errors,
    Connection,
}

impl Asked {
    /// A form that servers describe as they describe the call.
    fn described(self, left: &Left) -> String {
        match self {
            Self::InsertId => format!("({}|0)", left.insert_id),
            Self::RowCount => format!("CAST({}|0 AS SIGNED)", left.row_count),
            Self::FoundRows => format!("CAST({}|0 AS SIGNED)", left.found_rows),
            Self::Identity => format!("NULLIF({}|0, NULL)", left.insert_id),
            Self::Warnings => format!("NULLIF({}|0, NULL)", left.warnings),
            Self::Errors => format!("NULLIF({}|0, NULL)", left.errors),
            // The zeros make it as long as servers say that the call is.
            Self::Connection => format!("CAST({:010} AS UNSIGNED)", left.connection),
        }
    }

    /// The number alone.
    fn plain(self, left: &Left) -> String {
        match self {
            Self::InsertId | Self::Identity => left.insert_id.to_string(),
            Self::RowCount => left.row_count.to_string(),
            Self::FoundRows => left.found_rows.to_string(),
            Self::Warnings => left.warnings.to_string(),
            Self::Errors => left.errors.to_string(),
            Self::Connection => left.connection.to_string(),
        }
    }
}

/// Whether LAST_INSERT_ID with an argument stands in a statement, which sets what it says next.
#[must_use]
pub fn sets_insert_id(text: &str, range: Range<usize>, mode: Mode) -> bool {
    let Ok(lexemes) = lex::lexemes(text, range, None, mode) else { return false };
    let words = Words { text, lexemes: &lexemes };
    (0..lexemes.len()).any(|at| {
        words.is(at, "last_insert_id") && words.kind(at + 1) == Kind::Open && words.kind(at + 2) != Kind::Close
    })
}

/// The statement with what it asks for written out; `None`: it asks for nothing of the kind.
///
/// # Errors
/// It asks where the name of a column would change.
pub fn written_out(text: &str, range: Range<usize>, mode: Mode, left: &Left) -> Result<Option<String>, ClientError> {
    let statement = text.get(range.clone()).unwrap_or_default();
    let Ok(lexemes) = lex::lexemes(text, range.clone(), None, mode) else { return Ok(None) };
    let words = Words { text, lexemes: &lexemes };
    let places: Vec<(Range<usize>, Asked)> =
        (0..lexemes.len()).filter_map(|at| words.asked(at).map(|(count, asked)| (at..at + count, asked))).collect();
    if places.is_empty() {
        return Ok(None);
    }
    let items = words.items();
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for (place, asked) in &places {
        let item = items.iter().find(|it| it.contains(&place.start));
        if words.is_beneath(place.start) {
            return Err(ClientError::unsupported(
                format!("{} in a subquery is not supported", words.slice(place)),
                "Ask for it by a statement of its own.",
            ));
        }
        // A variable becomes what its value is.
        let alone = item.is_none() && words.stands_alone(place) && !words.is(0, "set");
        let value = if alone { asked.plain(left) } else { asked.described(left) };
        edits.push((words.bytes(place), value));
    }
    for item in &items {
        let holds = places.iter().any(|(place, _)| item.contains(&place.start));
        if holds && let Some(name) = words.name_of(item)? {
            let end = words.bytes(item).end;
            edits.push((end..end, format!(" AS `{}`", name.replace('`', "``"))));
        }
    }
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let mut out = String::with_capacity(statement.len() + 64);
    let mut copied = range.start;
    for (at, value) in edits {
        out.push_str(text.get(copied..at.start).unwrap_or_default());
        out.push_str(&value);
        copied = at.end;
    }
    out.push_str(text.get(copied..range.end).unwrap_or_default());
    Ok(Some(out))
}

struct Words<'t> {
    text: &'t str,
    lexemes: &'t [Lexeme],
}

/// Words at which a select list is over.
const BEHIND_ITEMS: [&str; 15] = [
    "from",
    "into",
    "where",
    "group",
    "having",
    "order",
    "limit",
    "union",
    "except",
    "intersect",
    "for",
    "lock",
    "procedure",
    "window",
    "offset",
];

/// Words between SELECT and its first item.
const MODIFIERS: [&str; 12] = [
    "all",
    "distinct",
    "distinctrow",
    "high_priority",
    "straight_join",
    "sql_small_result",
    "sql_big_result",
    "sql_buffer_result",
    "sql_cache",
    "sql_no_cache",
    "sql_calc_found_rows",
    "select",
];

impl<'t> Words<'t> {
    fn kind(&self, at: usize) -> Kind {
        self.lexemes.get(at).map_or(Kind::End, |it| it.kind)
    }

    fn raw(&self, at: usize) -> &'t str {
        self.lexemes.get(at).and_then(|it| self.text.get(it.start..it.end)).unwrap_or_default()
    }

    fn is(&self, at: usize, word: &str) -> bool {
        self.kind(at) == Kind::Word && self.raw(at).eq_ignore_ascii_case(word)
    }

    fn is_any(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|it| self.is(at, it))
    }

    fn bytes(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.lexemes.get(range.start).map_or(0, |it| it.start);
        let end = range.end.checked_sub(1).and_then(|it| self.lexemes.get(it)).map_or(start, |it| it.end);
        start..end
    }

    fn slice(&self, range: &Range<usize>) -> &'t str {
        self.text.get(self.bytes(range)).unwrap_or_default()
    }

    /// What is asked for at a lexeme, and how many lexemes that is.
    fn asked(&self, at: usize) -> Option<(usize, Asked)> {
        match self.kind(at) {
            Kind::SystemVariable => {
                let name = self.raw(at).trim_start_matches('@').to_ascii_lowercase();
                let name = ["session.", "local."].iter().find_map(|it| name.strip_prefix(it)).unwrap_or(&name);
                let asked = match name {
                    "identity" | "last_insert_id" => Asked::Identity,
                    "warning_count" => Asked::Warnings,
                    "error_count" => Asked::Errors,
                    _ => return None,
                };
                Some((1, asked))
            }
            Kind::Word if self.kind(at + 1) == Kind::Open && self.kind(at + 2) == Kind::Close => {
                if at.checked_sub(1).is_some_and(|it| self.kind(it) == Kind::Dot) {
                    return None;
                }
                let asked = match self.raw(at).to_ascii_lowercase().as_str() {
                    "last_insert_id" => Asked::InsertId,
                    "row_count" => Asked::RowCount,
                    "found_rows" => Asked::FoundRows,
                    "connection_id" => Asked::Connection,
                    _ => return None,
                };
                Some((3, asked))
            }
            _ => None,
        }
    }

    /// Where the items of the outermost select list stand.
    fn items(&self) -> Vec<Range<usize>> {
        if !self.is(0, "select") {
            return Vec::new();
        }
        let first = (1..self.lexemes.len()).find(|at| !self.is_any(*at, &MODIFIERS)).unwrap_or(1);
        let (mut depth, mut start) = (0_usize, first);
        let mut items = Vec::new();
        for at in first..self.lexemes.len() {
            match self.kind(at) {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                Kind::Comma if depth == 0 => {
                    items.push(start..at);
                    start = at + 1;
                }
                Kind::Word if depth == 0 && self.is_any(at, &BEHIND_ITEMS) => {
                    items.push(start..at);
                    return items;
                }
                _ => {}
            }
        }
        items.push(start..self.lexemes.len());
        items
    }

    /// The lexemes that open the parentheses around one.
    fn around(&self, place: usize) -> Vec<usize> {
        let mut open = Vec::new();
        for at in 0..place {
            match self.kind(at) {
                Kind::Open => open.push(at),
                Kind::Close => drop(open.pop()),
                _ => {}
            }
        }
        open
    }

    /// Whether a select list that is not the outermost may hold it: its name may be asked for.
    fn is_beneath(&self, place: usize) -> bool {
        let within = self.around(place).iter().any(|at| self.is_any(at + 1, &["select", "with", "values"]));
        within || self.is(0, "with")
    }

    /// Whether a number may stand there as it is: a value of VALUES or IN, a side of a comparison, what is assigned.
    fn stands_alone(&self, place: &Range<usize>) -> bool {
        let before = place.start.checked_sub(1).map_or(Kind::End, |it| self.kind(it));
        let is_equal = |at: usize| matches!(self.raw(at), "=" | "<=>");
        let begins = match before {
            Kind::Operator => place.start.checked_sub(1).is_some_and(is_equal),
            Kind::Open | Kind::Comma => self.around(place.start).last().is_none_or(|open| {
                // What a function is called with has a type.
                let before = open.checked_sub(1);
                before.is_none_or(|it| {
                    self.kind(it) != Kind::Word
                        || self.is_any(it, &["values", "value", "in", "and", "or", "where", "on"])
                })
            }),
            _ => false,
        };
        let ends = match self.kind(place.end) {
            Kind::End | Kind::Close | Kind::Comma | Kind::Semicolon => true,
            Kind::Word => self.is_any(
                place.end,
                &["and", "or", "where", "order", "limit", "on", "group", "having", "for", "lock", "returning", "union"],
            ),
            _ => false,
        };
        begins && ends
    }

    /// The name that a server gives an item; `None`: it has one of its own.
    fn name_of(&self, item: &Range<usize>) -> Result<Option<&'t str>, ClientError> {
        let unclear = || {
            Err(ClientError::unsupported(
                format!("the column \"{}\" without a name of its own is not supported", self.slice(item)),
                "Give it a name: AS ….",
            ))
        };
        let last = item.end.saturating_sub(1);
        let before = last.checked_sub(1).filter(|it| item.contains(it));
        if before.is_some_and(|it| self.is(it, "as")) {
            return Ok(None);
        }
        let ends_operand = |at: usize| {
            matches!(self.kind(at), Kind::Close | Kind::SystemVariable | Kind::UserVariable | Kind::Parameter)
        };
        match self.kind(last) {
            Kind::Close | Kind::Integer | Kind::Number | Kind::SystemVariable | Kind::UserVariable => {}
            Kind::Word | Kind::Quoted | Kind::String if before.is_some_and(ends_operand) => return Ok(None),
            _ => return unclear(),
        }
        // What it is called where a comment stands in it is not certain.
        let whole = self.bytes(item);
        let mut end = whole.start;
        for lexeme in self.lexemes.get(item.clone()).unwrap_or_default() {
            if !self.text.get(end..lexeme.start).is_some_and(|it| it.trim().is_empty()) {
                return unclear();
            }
            end = lexeme.end;
        }
        Ok(self.text.get(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Left = Left { insert_id: 7, row_count: -1, found_rows: 3, warnings: 2, errors: 1, connection: 9 };

    fn told(text: &str) -> Option<String> {
        written_out(text, 0..text.len(), Mode::default(), &LEFT).unwrap()
    }

    #[test]
    fn what_is_asked_for_is_written_out_under_its_own_name() {
        for (text, out) in [
            ("SELECT LAST_INSERT_ID()", "SELECT (7|0) AS `LAST_INSERT_ID()`"),
            ("select last_insert_id( ) as x", "select (7|0) as x"),
            ("SELECT @@identity x, 1", "SELECT NULLIF(7|0, NULL) x, 1"),
            ("SELECT ROW_COUNT() + 1, 'a' FROM t", "SELECT CAST(-1|0 AS SIGNED) + 1 AS `ROW_COUNT() + 1`, 'a' FROM t"),
            (
                "SELECT FOUND_ROWS(), @@session.warning_count LIMIT 1",
                "SELECT CAST(3|0 AS SIGNED) AS `FOUND_ROWS()`, NULLIF(2|0, NULL) AS `@@session.warning_count` LIMIT 1",
            ),
            ("SELECT * FROM t WHERE id = LAST_INSERT_ID()", "SELECT * FROM t WHERE id = 7"),
            (
                "INSERT INTO t VALUES (LAST_INSERT_ID(), f(LAST_INSERT_ID()), 1)",
                "INSERT INTO t VALUES (7, f((7|0)), 1)",
            ),
            ("UPDATE t SET a = @@error_count WHERE b = 1", "UPDATE t SET a = 1 WHERE b = 1"),
            ("SELECT ABS(LAST_INSERT_ID() - 9)", "SELECT ABS((7|0) - 9) AS `ABS(LAST_INSERT_ID() - 9)`"),
        ] {
            assert_eq!(told(text).as_deref(), Some(out), "{text}");
        }
        for text in ["SELECT LAST_INSERT_ID(5)", "SELECT x.row_count()", "SELECT row_count FROM t", "SELECT @@version"]
        {
            assert_eq!(told(text), None, "{text}");
        }
    }

    #[test]
    fn names_that_are_not_certain_are_refused() {
        for text in [
            "SELECT * FROM (SELECT LAST_INSERT_ID()) AS x",
            "SELECT LAST_INSERT_ID(/* a */) /* b */ + 1",
            "SELECT CASE ROW_COUNT() WHEN 1 THEN 2 END",
        ] {
            let told = written_out(text, 0..text.len(), Mode::default(), &LEFT);
            assert!(told.is_err(), "{text}");
        }
    }

    #[test]
    fn an_argument_sets_what_is_said_next() {
        let sets = |text: &str| sets_insert_id(text, 0..text.len(), Mode::default());
        assert!(sets("UPDATE t SET n = LAST_INSERT_ID (n + 1)"));
        assert!(!sets("SELECT LAST_INSERT_ID(/**/), last_insert_id FROM t"));
    }
}
