//! A reader over lexemes, for statements that need no syntax tree.

use std::ops::Range;
use std::sync::Arc;

use crate::sql::lex;
use crate::sql::lex::Kind;
use crate::sql::lex::Lexeme;

/// A name as written: up to three parts, each folded or unquoted.
pub(crate) type Parts = Vec<Arc<str>>;

/// Walks the lexemes of one statement.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    lexemes: &'a [Lexeme],
    place: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str, lexemes: &'a [Lexeme]) -> Self {
        Self { text, lexemes, place: 0 }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(crate) fn place(&self) -> usize {
        self.place
    }

    pub(crate) fn rewind(&mut self, place: usize) {
        self.place = place;
    }

    pub(crate) fn peek(&self) -> Option<Lexeme> {
        self.lexemes.get(self.place).copied()
    }

    pub(crate) fn peek_at(&self, ahead: usize) -> Option<Lexeme> {
        self.lexemes.get(self.place + ahead).copied()
    }

    /// The lexeme that was taken last.
    pub(crate) fn last(&self) -> Option<Lexeme> {
        self.lexemes.get(self.place.checked_sub(1)?).copied()
    }

    pub(crate) fn bump(&mut self) -> Option<Lexeme> {
        let lexeme = self.peek()?;
        self.place += 1;
        Some(lexeme)
    }

    pub(crate) fn at_end(&self) -> bool {
        self.place >= self.lexemes.len()
    }

    pub(crate) fn raw(&self, lexeme: Lexeme) -> &'a str {
        self.text.get(lexeme.start..lexeme.end).unwrap_or_default()
    }

    /// Whether the next lexeme is this keyword (lower case), without taking it.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.is_at(0, word)
    }

    pub(crate) fn is_at(&self, ahead: usize, word: &str) -> bool {
        self.peek_at(ahead).is_some_and(|it| it.kind == Kind::Word && self.raw(it).eq_ignore_ascii_case(word))
    }

    pub(crate) fn is_kind(&self, kind: Kind) -> bool {
        self.peek().is_some_and(|it| it.kind == kind)
    }

    /// Takes the keyword if it is next.
    pub(crate) fn take(&mut self, word: &str) -> bool {
        let found = self.is(word);
        self.place += usize::from(found);
        found
    }

    /// Takes all these keywords if they are next, in this order.
    pub(crate) fn take_all(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(ahead, word)| self.is_at(ahead, word));
        self.place += if found { words.len() } else { 0 };
        found
    }

    /// Takes one of these keywords.
    pub(crate) fn take_any(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.take(word))
    }

    pub(crate) fn take_kind(&mut self, kind: Kind) -> Option<Lexeme> {
        if self.is_kind(kind) { self.bump() } else { None }
    }

    pub(crate) fn take_operator(&mut self, symbol: &str) -> bool {
        let found = self.peek().is_some_and(|it| it.kind == Kind::Operator && self.raw(it) == symbol);
        self.place += usize::from(found);
        found
    }

    /// Takes an identifier: folded, or as quoted.
    pub(crate) fn name(&mut self) -> Option<Arc<str>> {
        let lexeme = self.peek()?;
        let name = match lexeme.kind {
            Kind::Word => lex::fold(self.raw(lexeme)),
            Kind::Quoted => lex::unquote(self.raw(lexeme)),
            _ => return None,
        };
        self.place += 1;
        Some(name.into())
    }

    /// Takes a name that may be qualified.
    pub(crate) fn qualified(&mut self) -> Option<Parts> {
        let mut parts = vec![self.name()?];
        while self.take_kind(Kind::Dot).is_some() {
            parts.push(self.name()?);
        }
        Some(parts)
    }

    /// Takes `t [*]`, `ONLY t` or `ONLY (t)`.
    pub(crate) fn relation(&mut self) -> Option<Parts> {
        let only = self.take("only");
        let open = only && self.take_kind(Kind::Open).is_some();
        let name = self.qualified()?;
        if open {
            self.take_kind(Kind::Close)?;
        }
        self.take_operator("*");
        Some(name)
    }

    /// Takes a list of relations.
    pub(crate) fn relations(&mut self) -> Option<Vec<Parts>> {
        let mut names = vec![self.relation()?];
        while self.take_kind(Kind::Comma).is_some() {
            names.push(self.relation()?);
        }
        Some(names)
    }

    /// Takes everything between `(` and its `)`, both included: the byte range inside.
    pub(crate) fn parenthesized(&mut self) -> Option<Range<usize>> {
        let open = self.take_kind(Kind::Open)?;
        let mut depth = 1_usize;
        while let Some(lexeme) = self.bump() {
            match lexeme.kind {
                Kind::Open => depth += 1,
                Kind::Close => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(open.end..lexeme.start);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Moves to the next of these keywords outside parentheses; false: none is left.
    pub(crate) fn seek(&mut self, words: &[&str]) -> bool {
        let mut depth = 0_usize;
        while let Some(lexeme) = self.peek() {
            match lexeme.kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                Kind::Word if depth == 0 && words.iter().any(|word| self.is(word)) => return true,
                _ => {}
            }
            self.place += 1;
        }
        false
    }

    /// From the next lexeme to the end, in bytes.
    pub(crate) fn rest(&self) -> Range<usize> {
        let start = self.peek().map_or(self.text.len(), |it| it.start);
        let end = self.lexemes.last().map_or(start, |it| it.end);
        start..end.max(start)
    }
}
