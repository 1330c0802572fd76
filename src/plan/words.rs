//! A statement's text as lexemes: the parts of an INSERT, to be cut out as they stand.

use std::ops::Range;

use crate::sql::lex::Kind;
use crate::sql::lex::Lexeme;

/// A text and its lexemes; places are those of lexemes.
#[derive(Debug)]
pub(crate) struct Words<'t> {
    pub(crate) text: &'t str,
    pub(crate) lexemes: Vec<Lexeme>,
}

impl<'t> Words<'t> {
    pub(crate) fn kind(&self, at: usize) -> Kind {
        self.lexemes.get(at).map_or(Kind::End, |it| it.kind)
    }

    pub(crate) fn raw(&self, at: usize) -> &'t str {
        self.lexemes.get(at).and_then(|it| self.text.get(it.start..it.end)).unwrap_or_default()
    }

    pub(crate) fn is(&self, at: usize, word: &str) -> bool {
        self.kind(at) == Kind::Word && self.raw(at).eq_ignore_ascii_case(word)
    }

    pub(crate) fn slice(&self, range: &Range<usize>) -> &'t str {
        let bytes = || {
            let first = self.lexemes.get(range.start)?;
            let last = self.lexemes.get(range.end.checked_sub(1)?)?;
            self.text.get(first.start..last.end)
        };
        bytes().unwrap_or_default()
    }

    /// Behind the parenthesis that closes the one at `open`.
    pub(crate) fn closed(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for at in open..self.lexemes.len() {
            match self.kind(at) {
                Kind::Open => depth += 1,
                Kind::Close => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Whether it is DEFAULT, in whatever parentheses.
    pub(crate) fn is_default(&self, cell: &Range<usize>) -> bool {
        let marks = |at: &usize| matches!(self.kind(*at), Kind::Open | Kind::Close);
        let mut words = cell.clone().filter(|at| !marks(at));
        words.next().is_some_and(|at| self.is(at, "default")) && words.next().is_none()
    }

    /// The VALUES of an INSERT, and its rows with their parentheses.
    pub(crate) fn values(&self) -> Option<(usize, Vec<Range<usize>>)> {
        // A table may be called so as well.
        let is_list = |at: &usize| {
            self.is(*at, "values")
                && self.kind(at + 1) == Kind::Open
                && at
                    .checked_sub(1)
                    .is_some_and(|it| self.kind(it) != Kind::Dot && !self.is(it, "into") && !self.is(it, "as"))
        };
        let values = (0..self.lexemes.len()).find(is_list)?;
        let mut rows: Vec<Range<usize>> = Vec::new();
        let mut at = values + 1;
        loop {
            let end = self.closed(at)?;
            rows.push(at..end);
            at = end + 1;
            if self.kind(end) != Kind::Comma {
                return Some((values, rows));
            }
        }
    }

    /// The cells of one row of VALUES.
    pub(crate) fn cells(&self, row: &Range<usize>) -> Vec<Range<usize>> {
        let mut cells = Vec::new();
        let (mut depth, mut start) = (0_usize, row.start + 1);
        for at in row.start + 1..row.end {
            match self.kind(at) {
                Kind::Open | Kind::OpenBracket => depth += 1,
                Kind::Close | Kind::CloseBracket if depth > 0 => depth -= 1,
                Kind::Comma | Kind::Close if depth == 0 => {
                    cells.push(start..at);
                    start = at + 1;
                }
                _ => {}
            }
        }
        cells
    }
}
