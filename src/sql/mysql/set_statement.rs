//! MariaDB's `SET STATEMENT variable = value, … FOR statement`.

use std::ops::Range;

use crate::sql::lex::Kind;
use crate::sql::lex::mysql as lex;
use crate::sql::lex::mysql::Mode;

/// What is set for one statement, and that statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetStatement {
    /// Variables in lower case, and the values as they stand in the text: constants all.
    pub settings: Vec<(String, Range<usize>)>,
    /// Where the statement begins in the text.
    pub statement: usize,
}

/// Reads a text that begins so. `None`: it does not, or sets something else than constants.
#[must_use]
pub fn read(text: &str, mode: Mode) -> Option<SetStatement> {
    let bytes = text.as_bytes();
    let mut place = 0;
    let mut take = || {
        let found = lex::next(bytes, place, mode).ok()?;
        place = found.end;
        Some((found.kind, found.start..found.end, text.get(found.start..found.end)?))
    };
    let is = |raw: &str, word: &str| raw.eq_ignore_ascii_case(word);
    for word in ["set", "statement"] {
        if !take().is_some_and(|(kind, _, raw)| kind == Kind::Word && is(raw, word)) {
            return None;
        }
    }
    let mut settings = Vec::new();
    loop {
        let (Kind::Word, _, name) = take()? else { return None };
        let name = name.to_ascii_lowercase();
        match take()? {
            (Kind::Assign, ..) | (Kind::Operator, _, "=") => {}
            _ => return None,
        }
        let (mut kind, mut value, mut raw) = take()?;
        if kind == Kind::Operator && raw == "-" {
            let begun = value.start;
            (kind, value, raw) = take()?;
            value.start = begun;
            if !matches!(kind, Kind::Integer | Kind::Number) {
                return None;
            }
        }
        match kind {
            Kind::Integer | Kind::Number | Kind::String => {}
            // ON, OFF, DEFAULT, names of engines and the like.
            Kind::Word if !is(raw, "for") => {}
            _ => return None,
        }
        settings.push((name, value));
        match take()? {
            (Kind::Comma, ..) => {}
            (Kind::Word, at, raw) if is(raw, "for") => return Some(SetStatement { settings, statement: at.end }),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Option<String> {
        let found = read(text, Mode::default())?;
        let set = found.settings.iter().map(|(name, at)| format!("{name}={}", &text[at.clone()]));
        Some(format!("{} |{}", set.collect::<Vec<_>>().join(" "), &text[found.statement..]))
    }

    #[test]
    fn constants_are_read_and_nothing_else() {
        for (text, expected) in [
            ("SET STATEMENT max_statement_time=1 FOR SELECT 1", Some("max_statement_time=1 | SELECT 1")),
            (
                "set statement A = -1.5, b := 'x', c = ON for UPDATE t SET a = 1",
                Some("a=-1.5 b='x' c=ON | UPDATE t SET a = 1"),
            ),
            ("SET STATEMENT a = 1 + 1 FOR SELECT 1", None),
            ("SET STATEMENT a = @b FOR SELECT 1", None),
            ("SET STATEMENT a = FOR SELECT 1", None),
            ("SET STATEMENT a = 1", None),
            ("SET a = 1", None),
        ] {
            assert_eq!(told(text).as_deref(), expected, "{text}");
        }
    }
}
