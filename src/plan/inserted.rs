//! The text of an INSERT of MySQL as its parts: the list of columns, the rows, and what stands behind them.

use std::ops::Range;

use crate::plan::words::Words;
use crate::sql::lex::Kind;
use crate::sql::lex::mysql as lex;
use crate::sql::lex::mysql::Mode;

/// An INSERT's text; places are those of lexemes.
#[derive(Debug)]
pub(crate) struct Inserted<'t> {
    pub(crate) words: Words<'t>,
    /// The list of columns, with its parentheses.
    pub(crate) list: Option<Range<usize>>,
    /// VALUES, or SET.
    pub(crate) body: usize,
    pub(crate) rows: Given,
    /// Behind the rows.
    pub(crate) tail: usize,
}

/// What is inserted.
#[derive(Debug)]
pub(crate) enum Given {
    /// Rows with their parentheses.
    Values(Vec<Range<usize>>),
    /// What stands behind each `column =`.
    Set(Vec<Range<usize>>),
}

impl<'t> Inserted<'t> {
    /// Cuts a statement; `None`: it is none of that form.
    pub(crate) fn of(text: &'t str, range: Range<usize>, mode: Mode) -> Option<Self> {
        let lexemes = lex::lexemes(text, range, None, mode).ok()?;
        let words = Words { text, lexemes };
        if !["insert", "replace"].iter().any(|it| words.is(0, it)) {
            return None;
        }
        let mut at = 1;
        while ["low_priority", "high_priority", "delayed", "ignore"].iter().any(|it| words.is(at, it)) {
            at += 1;
        }
        if words.is(at, "into") {
            at += 1;
        }
        let is_name = |at: usize| matches!(words.kind(at), Kind::Word | Kind::Quoted);
        if !is_name(at) {
            return None;
        }
        at += 1;
        if words.kind(at) == Kind::Dot && is_name(at + 1) {
            at += 2;
        }
        let list = if words.kind(at) == Kind::Open { Some(at..words.closed(at)?) } else { None };
        let body = list.as_ref().map_or(at, |it| it.end);
        if words.is(body, "set") && list.is_none() {
            let (rows, tail) = assignments(&words, body + 1)?;
            return Some(Self { words, list, body, rows: Given::Set(rows), tail });
        }
        if !(words.is(body, "values") || words.is(body, "value")) {
            return None;
        }
        let mut rows = Vec::new();
        let mut at = body + 1;
        loop {
            if words.kind(at) != Kind::Open {
                return None;
            }
            // Not [`Words::closed`]: of a long text each row is looked at once.
            let end = words.closed(at)?;
            rows.push(at..end);
            at = end;
            if words.kind(at) != Kind::Comma {
                return Some(Self { words, list, body, rows: Given::Values(rows), tail: at });
            }
            at += 1;
        }
    }

    /// The bytes of lexemes.
    pub(crate) fn bytes(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.words.lexemes.get(range.start).map_or(self.words.text.len(), |it| it.start);
        let last = range.end.checked_sub(1).and_then(|it| self.words.lexemes.get(it));
        start..last.map_or(start, |it| it.end).max(start)
    }

    /// How many parameters stand there.
    pub(crate) fn parameters_in(&self, range: &Range<usize>) -> usize {
        let lexemes = self.words.lexemes.get(range.clone()).unwrap_or_default();
        lexemes.iter().filter(|it| it.kind == Kind::Parameter).count()
    }
}

/// The values of `column = value, …`, and where they end.
fn assignments(words: &Words<'_>, from: usize) -> Option<(Vec<Range<usize>>, usize)> {
    let mut found = Vec::new();
    let mut at = from;
    loop {
        // A column, maybe with its table.
        while matches!(words.kind(at), Kind::Word | Kind::Quoted | Kind::Dot) {
            at += 1;
        }
        if !(words.kind(at) == Kind::Assign || words.raw(at) == "=") {
            return None;
        }
        let start = at + 1;
        let mut depth = 0_usize;
        at = start;
        while at < words.lexemes.len() {
            match words.kind(at) {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.checked_sub(1)?,
                Kind::Comma if depth == 0 => break,
                Kind::Word if depth == 0 && (words.is(at, "on") || words.is(at, "returning") || words.is(at, "as")) => {
                    break;
                }
                _ => {}
            }
            at += 1;
        }
        found.push(start..at);
        if words.kind(at) != Kind::Comma {
            return Some((found, at));
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(Option<&str>, Vec<&str>, &str)> {
        let it = Inserted::of(text, 0..text.len(), Mode::default())?;
        let slice = |range: &Range<usize>| text.get(it.bytes(range)).unwrap();
        let (Given::Values(rows) | Given::Set(rows)) = &it.rows;
        let tail = it.tail..it.words.lexemes.len();
        Some((it.list.as_ref().map(slice), rows.iter().map(slice).collect(), slice(&tail)))
    }

    #[test]
    fn an_insert_is_cut_at_its_rows() {
        let text = "INSERT IGNORE INTO `d`.values (a, `b`) VALUE (1, ')'), ((2), f(3, 4)) ON DUPLICATE KEY UPDATE a = VALUES(a)";
        let (list, rows, tail) = parts(text).unwrap();
        assert_eq!(list, Some("(a, `b`)"));
        assert_eq!(rows, ["(1, ')')", "((2), f(3, 4))"]);
        assert_eq!(tail, "ON DUPLICATE KEY UPDATE a = VALUES(a)");
        assert_eq!(parts("replace t values ()").unwrap(), (None, vec!["()"], ""));
        let (list, rows, tail) = parts("INSERT t SET a = 1, t.b := IF(a, 2, 3) RETURNING a").unwrap();
        assert_eq!((list, rows, tail), (None, vec!["1", "IF(a, 2, 3)"], "RETURNING a"));
        assert!(parts("INSERT INTO t SELECT 1").is_none() && parts("UPDATE t SET a = 1").is_none());
    }
}
