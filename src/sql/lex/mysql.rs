//! The same for MySQL and MariaDB: text → lexemes as their scanner cuts them.
//!
//! What two servers, or two readings of the manual, could cut in two ways is [`Invalid`]: where a statement ends, and
//! what is a literal, must be certain.

use std::ops::Range;

use super::Invalid;
use super::Kind;
use super::Lexed;
use super::Lexeme;
use super::MARK_BITS;
use super::MARK_INTEGER;
use super::MARK_NUMBER;
use super::MARK_STRING;
use super::Open;
use super::Rows;
use super::SPACE;
use super::WORD_MORE;
use super::WORD_START;
use super::at;
use super::class;

/// What of a session changes how its texts are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mode {
    /// `"…"` is an identifier.
    pub ansi_quotes: bool,
    /// A backslash in a string is a backslash.
    pub no_backslash_escapes: bool,
    /// `||` joins strings; otherwise it is OR.
    pub pipes_as_concat: bool,
    /// Blanks may stand between a function's name and its parenthesis.
    pub ignore_space: bool,
    /// The client's bytes are not UTF-8: what is beyond ASCII may stand in strings only.
    pub ascii_names: bool,
}

impl Mode {
    /// By `sql_mode` and `character_set_client`, as the server shows them.
    #[must_use]
    pub fn of(sql_mode: &str, character_set: &str) -> Self {
        let mut mode = Self { ascii_names: !is_utf8(character_set), ..Self::default() };
        for word in sql_mode.split(',') {
            let is = |name: &str| word.trim().eq_ignore_ascii_case(name);
            let ansi = ["ANSI", "ORACLE", "MSSQL", "DB2", "POSTGRESQL", "MAXDB"].iter().any(|it| is(it));
            mode.ansi_quotes |= ansi || is("ANSI_QUOTES");
            mode.pipes_as_concat |= ansi || is("PIPES_AS_CONCAT");
            mode.ignore_space |= ansi || is("IGNORE_SPACE");
            mode.no_backslash_escapes |= is("NO_BACKSLASH_ESCAPES");
        }
        mode
    }
}

/// Whether text of that character set is UTF-8.
fn is_utf8(character_set: &str) -> bool {
    ["utf8mb4", "utf8mb3", "utf8", "utf-8"].iter().any(|it| character_set.eq_ignore_ascii_case(it))
}

fn is_space(byte: u8) -> bool {
    class(byte) & SPACE != 0
}

/// What an identifier without quotes may hold.
fn is_word(byte: u8) -> bool {
    class(byte) & WORD_MORE != 0
}

fn run(text: &[u8], from: usize, fits: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !fits(*byte)).unwrap_or(rest.len())
}

/// Behind the next occurrence of `mark`.
fn behind(text: &[u8], from: usize, mark: &[u8]) -> Option<usize> {
    memchr::memmem::find(text.get(from..)?, mark).map(|found| from + found + mark.len())
}

/// The lexeme that begins at or after `from`. Comments and blanks are skipped, but for those that servers read.
///
/// # Errors
/// What the scanner does not accept, and what it may cut otherwise than this.
#[inline]
pub fn next(text: &[u8], from: usize, mode: Mode) -> Result<Lexeme, Invalid> {
    let mut start = from;
    loop {
        let Some(&byte) = text.get(start) else { return Ok(Lexeme { kind: Kind::End, start, end: start }) };
        if is_space(byte) {
            start += 1;
            continue;
        }
        // Most lexemes; what a letter says of the quote behind it is another matter.
        if class(byte) & WORD_START != 0 && at(text, start + 1) != b'\'' {
            return word(text, start, mode);
        }
        let invalid = Err(Invalid { at: start });
        match (byte, at(text, start + 1)) {
            (b'#', _) => start = line_end(text, start)?,
            (b'-', b'-') if text.get(start + 2).is_none_or(|it| is_space(*it)) => start = line_end(text, start)?,
            // Before another control character it is a comment as well.
            (b'-', b'-') if at(text, start + 2) < b' ' => return invalid,
            (b'/', b'*') => {
                let Some(end) = behind(text, start + 2, b"*/") else { return invalid };
                let body = text.get(start + 2..end - 2).unwrap_or_default();
                match comment(body, start + 2, mode)? {
                    None => start = end,
                    Some(kind) => return Ok(Lexeme { kind, start, end }),
                }
            }
            _ => return lexeme(text, start, byte, mode),
        }
    }
}

/// The line feed that ends a comment (a carriage return does not).
fn line_end(text: &[u8], start: usize) -> Result<usize, Invalid> {
    let end = run(text, start, |byte| byte != b'\n');
    // The scanner stops at a NUL.
    if text.get(start..end).is_some_and(|it| it.contains(&0)) { Err(Invalid { at: start }) } else { Ok(end) }
}

/// What a comment with this body is; `None`: nothing but a comment.
fn comment(body: &[u8], start: usize, mode: Mode) -> Result<Option<Kind>, Invalid> {
    if body.trim_ascii_start().starts_with(b"shardway:") {
        return Ok(Some(Kind::Hint));
    }
    if body.starts_with(b"+") {
        // A quote might hide the end.
        if body.iter().any(|it| matches!(it, b'\'' | b'"' | b'`')) {
            return Err(Invalid { at: start });
        }
        let sets = body.to_ascii_lowercase().windows(7).any(|it| it == b"set_var");
        return Ok(Some(if sets { Kind::Executable } else { Kind::Hint }));
    }
    let Some(code) = body.strip_prefix(b"!").or_else(|| body.strip_prefix(b"M!")) else { return Ok(None) };
    // Servers that read it must find its end where those that skip it do.
    let mut place = 0;
    loop {
        let blanks = run(code, place, is_space);
        let begins = (at(code, blanks), at(code, blanks + 1));
        if begins.0 == b'#' || begins == (b'-', b'-') || begins == (b'/', b'*') {
            return Err(Invalid { at: start });
        }
        let found = next(code, blanks, mode).map_err(|_| Invalid { at: start })?;
        match found.kind {
            Kind::End => return Ok(Some(Kind::Executable)),
            Kind::Semicolon | Kind::Parameter => return Err(Invalid { at: start }),
            _ => place = found.end,
        }
    }
}

fn lexeme(text: &[u8], start: usize, byte: u8, mode: Mode) -> Result<Lexeme, Invalid> {
    let to = |kind, end| Ok(Lexeme { kind, start, end });
    let one = |kind| to(kind, start + 1);
    let invalid = Err(Invalid { at: start });
    let next = at(text, start + 1);
    match byte {
        b'0'..=b'9' => number(text, start, mode),
        b'.' if next.is_ascii_digit() => {
            // Behind a name it is that of a column that begins with a digit.
            let behind_name =
                start.checked_sub(1).is_some_and(|it| is_word(at(text, it)) || matches!(at(text, it), b'`' | b'"'));
            if behind_name { invalid } else { number(text, start, mode) }
        }
        b'\'' => string(text, start, start, mode, Kind::String),
        b'"' if mode.ansi_quotes => quoted(text, start, mode),
        b'"' => string(text, start, start, mode, Kind::String),
        b'`' => quoted(text, start, mode),
        b'x' | b'X' | b'b' | b'B' | b'n' | b'N' if next == b'\'' => {
            if start.checked_sub(1).is_some_and(|it| at(text, it) == b'.') {
                return invalid;
            }
            if matches!(byte, b'n' | b'N') {
                return string(text, start, start + 1, mode, Kind::String);
            }
            let hex = matches!(byte, b'x' | b'X');
            let end = run(text, start + 2, |it| if hex { it.is_ascii_hexdigit() } else { matches!(it, b'0' | b'1') });
            let odd = hex && (end - start) % 2 == 1;
            if odd || at(text, end) != b'\'' { invalid } else { to(Kind::Bits, end + 1) }
        }
        b'(' => one(Kind::Open),
        b')' => one(Kind::Close),
        b'{' => one(Kind::OpenBracket),
        b'}' => one(Kind::CloseBracket),
        b',' => one(Kind::Comma),
        b';' => one(Kind::Semicolon),
        b'.' => one(Kind::Dot),
        b'?' if is_word(next) => invalid,
        b'?' => one(Kind::Parameter),
        b':' if next == b'=' => to(Kind::Assign, start + 2),
        b'@' => variable(text, start, mode),
        b'<' | b'>' | b'=' | b'!' => {
            let end = run(text, start, |it| matches!(it, b'<' | b'>' | b'=' | b'!'));
            match text.get(start..end).unwrap_or_default() {
                b"<" | b">" | b"=" | b"!" | b"<=" | b">=" | b"<>" | b"!=" | b"<=>" | b"<<" | b">>" => {
                    to(Kind::Operator, end)
                }
                _ => invalid,
            }
        }
        b'&' | b'|' => to(Kind::Operator, start + 1 + usize::from(next == byte)),
        b'-' if next == b'>' => to(Kind::Operator, start + 2 + usize::from(at(text, start + 2) == b'>')),
        b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'~' => one(Kind::Operator),
        _ if is_word(byte) => word(text, start, mode),
        _ => invalid,
    }
}

#[inline]
fn word(text: &[u8], start: usize, mode: Mode) -> Result<Lexeme, Invalid> {
    let end = run(text, start, is_word);
    let foreign = mode.ascii_names && !text.get(start..end).unwrap_or_default().is_ascii();
    if foreign { Err(Invalid { at: start }) } else { Ok(Lexeme { kind: Kind::Word, start, end }) }
}

fn number(text: &[u8], start: usize, mode: Mode) -> Result<Lexeme, Invalid> {
    let digits = |from| run(text, from, |it| it.is_ascii_digit());
    let whole = digits(start);
    if whole == start + 1 && at(text, start) == b'0' && matches!(at(text, whole), b'x' | b'b') {
        let hex = at(text, whole) == b'x';
        let end = run(text, start + 2, |it| if hex { it.is_ascii_hexdigit() } else { matches!(it, b'0' | b'1') });
        if end > start + 2 && !is_word(at(text, end)) {
            return Ok(Lexeme { kind: Kind::Bits, start, end });
        }
        return word(text, start, mode);
    }
    let (mut kind, mut end) = (Kind::Integer, whole);
    if at(text, whole) == b'.' {
        (kind, end) = (Kind::Number, digits(whole + 1));
    }
    if matches!(at(text, end), b'e' | b'E') {
        let sign = usize::from(matches!(at(text, end + 1), b'+' | b'-'));
        if at(text, end + 1 + sign).is_ascii_digit() {
            (kind, end) = (Kind::Number, digits(end + 1 + sign));
        }
    }
    match (is_word(at(text, end)), kind) {
        (false, _) => Ok(Lexeme { kind, start, end }),
        // A name may begin with digits.
        (true, Kind::Integer) => word(text, start, mode),
        (true, _) => Err(Invalid { at: start }),
    }
}

/// A string whose opening quote is at `quote`.
fn string(text: &[u8], start: usize, quote: usize, mode: Mode, kind: Kind) -> Result<Lexeme, Invalid> {
    let mark = at(text, quote);
    let mut place = quote + 1;
    loop {
        let rest = text.get(place..).unwrap_or_default();
        let found = match mode.no_backslash_escapes {
            true => memchr::memchr(mark, rest),
            false => memchr::memchr2(mark, b'\\', rest),
        };
        let Some(found) = found else { return Err(Invalid { at: start }) };
        place += found;
        let escape = at(text, place) == b'\\' && !mode.no_backslash_escapes;
        if escape || at(text, place + 1) == mark {
            place += 2;
        } else {
            return Ok(Lexeme { kind, start, end: place + 1 });
        }
    }
}

fn quoted(text: &[u8], start: usize, mode: Mode) -> Result<Lexeme, Invalid> {
    let plain = Mode { no_backslash_escapes: true, ..mode };
    let found = string(text, start, start, plain, Kind::Quoted)?;
    let name = text.get(start + 1..found.end - 1).unwrap_or_default();
    let bad = name.is_empty() || name.contains(&0) || (mode.ascii_names && !name.is_ascii());
    if bad { Err(Invalid { at: start }) } else { Ok(found) }
}

/// `@x`, `@'x'`, `@@x.y`.
fn variable(text: &[u8], start: usize, mode: Mode) -> Result<Lexeme, Invalid> {
    let invalid = Err(Invalid { at: start });
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.');
    let (kind, from) = match at(text, start + 1) {
        b'@' => (Kind::SystemVariable, start + 2),
        b'\'' | b'"' | b'`' => {
            // Either way the quote ends where it ends, if it holds no backslash.
            let found = string(text, start, start + 1, mode, Kind::UserVariable)?;
            let escaped = text.get(start..found.end).is_some_and(|it| it.contains(&b'\\'));
            return if escaped { invalid } else { Ok(found) };
        }
        _ => (Kind::UserVariable, start + 1),
    };
    let end = run(text, from, named);
    if end == from || is_word(at(text, end)) || matches!(at(text, end), b'`') {
        return invalid;
    }
    Ok(Lexeme { kind, start, end })
}

/// The lexemes of `range`, without the end, without hints, and without the bytes of `skip`.
///
/// # Errors
/// As [`next`].
pub fn lexemes(
    text: &str,
    range: Range<usize>,
    skip: Option<(usize, usize)>,
    mode: Mode,
) -> Result<Vec<Lexeme>, Invalid> {
    let bytes = text.as_bytes().get(..range.end).unwrap_or_default();
    let mut found = Vec::new();
    let mut place = range.start;
    loop {
        let lexeme = next(bytes, place, mode)?;
        match skip {
            Some((from, to)) if lexeme.start >= from && lexeme.start < to => {
                place = to;
                continue;
            }
            _ => {}
        }
        match lexeme.kind {
            Kind::End => return Ok(found),
            Kind::Hint => {}
            _ => found.push(lexeme),
        }
        place = lexeme.end;
    }
}

/// The value of a string lexeme without prefix; `None`: not known here.
#[must_use]
pub fn string_value(raw: &str, mode: Mode) -> Option<Vec<u8>> {
    let bytes = raw.as_bytes();
    let mark = *bytes.first().filter(|it| matches!(it, b'\'' | b'"'))?;
    let inner = bytes.get(1..bytes.len().checked_sub(1)?)?;
    let mut value = Vec::with_capacity(inner.len());
    let mut place = 0;
    while let Some(&byte) = inner.get(place) {
        place += 1;
        if byte == mark {
            // Doubled.
            place += 1;
            value.push(mark);
        } else if byte == b'\\' && !mode.no_backslash_escapes {
            let escaped = *inner.get(place)?;
            place += 1;
            match escaped {
                b'0' => value.push(0),
                b'b' => value.push(8),
                b'n' => value.push(b'\n'),
                b'r' => value.push(b'\r'),
                b't' => value.push(b'\t'),
                b'Z' => value.push(26),
                b'%' | b'_' => value.extend([b'\\', escaped]),
                other => value.push(other),
            }
        } else {
            value.push(byte);
        }
    }
    Some(value)
}

/// The bytes of `x'…'` and `0x…`; `None`: bits.
#[must_use]
pub fn hex_value(raw: &str) -> Option<Vec<u8>> {
    let quoted = raw.strip_prefix(['x', 'X']).and_then(|it| it.strip_prefix('\'')?.strip_suffix('\''));
    let digits = quoted.or_else(|| raw.strip_prefix("0x"))?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    // 0xF is 0x0F.
    let (odd, pairs) = digits.split_at(digits.len() % 2);
    let mut value: Vec<u8> = odd.iter().filter_map(|it| digit(*it)).collect();
    for pair in pairs.chunks_exact(2) {
        let [high, low] = pair else { return None };
        value.push(digit(*high)? * 16 + digit(*low)?);
    }
    Some(value)
}

/// A quoted identifier's name: doubled quotes undone.
#[must_use]
pub fn unquote(raw: &str) -> String {
    let mut chars = raw.chars();
    let Some(mark) = chars.next() else { return String::new() };
    let inner = raw.strip_prefix(mark).and_then(|it| it.strip_suffix(mark)).unwrap_or(raw);
    inner.replace(&format!("{mark}{mark}"), &mark.to_string())
}

/// What the first words of a statement say about where it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// No word yet.
    Start,
    /// CREATE or ALTER: what, is still to come.
    Creates,
    /// BEGIN.
    Begins,
    /// Statements stand in it, which only a parser tells from those behind it: it takes all the rest.
    Compound,
    /// It ends at the next semicolon.
    Plain,
}

impl Body {
    fn after(self, kind: Kind, raw: &[u8]) -> Self {
        let is = |words: &[&str]| kind == Kind::Word && words.iter().any(|it| raw.eq_ignore_ascii_case(it.as_bytes()));
        match self {
            Self::Start if is(&["create", "alter"]) => Self::Creates,
            Self::Start if is(&["begin"]) => Self::Begins,
            Self::Start if is(&["if", "case", "loop", "repeat", "while", "for", "declare"]) => Self::Compound,
            // What it hides might begin so.
            Self::Start if kind == Kind::Executable => Self::Creates,
            Self::Creates if is(&["procedure", "function", "trigger", "event", "package"]) => Self::Compound,
            Self::Creates if kind != Kind::Open => Self::Creates,
            Self::Begins if is(&["not"]) => Self::Compound,
            Self::Compound => Self::Compound,
            Self::Start | Self::Creates | Self::Begins | Self::Plain => Self::Plain,
        }
    }
}

impl Lexed {
    /// Cuts `text` into statements and normalizes them, as MySQL reads it.
    ///
    /// # Errors
    /// What the scanner does not accept, or may cut otherwise; the buffers hold nothing useful then.
    pub fn read_mysql(&mut self, text: &str, mode: Mode) -> Result<(), Invalid> {
        if self.try_mysql(text, mode, true)? {
            return Ok(());
        }
        // Rows that look alike were followed by one that does not: read again without folding.
        self.try_mysql(text, mode, false).map(|_| ())
    }

    fn try_mysql(&mut self, text: &str, mode: Mode, fold: bool) -> Result<bool, Invalid> {
        self.normalized.clear();
        self.literals.clear();
        self.pieces.clear();
        if u32::try_from(text.len()).is_err() {
            return Err(Invalid { at: 0 });
        }
        let bytes = text.as_bytes();
        self.normalized.reserve(2 * bytes.len());
        let mut place = 0;
        let (mut open, mut body) = (Open::new(0, 0), Body::Start);
        // Where a word ended behind which a parenthesis makes a call, and a blank may make another one.
        let mut called = None;
        loop {
            let lexeme = next(bytes, place, mode)?;
            place = lexeme.end;
            match lexeme.kind {
                Kind::End => {
                    self.finish(&mut open);
                    self.or_empty();
                    return Ok(true);
                }
                Kind::Semicolon if body != Body::Compound => {
                    self.finish(&mut open);
                    (open, body) = (Open::new(self.normalized.len(), self.literals.len()), Body::Start);
                    continue;
                }
                _ => {}
            }
            let raw = bytes.get(lexeme.start..lexeme.end).unwrap_or_default();
            if body == Body::Start && lexeme.kind == Kind::Word {
                open.begins_with_insert = raw.eq_ignore_ascii_case(b"insert") || raw.eq_ignore_ascii_case(b"replace");
            }
            if lexeme.kind != Kind::Hint {
                body = body.after(lexeme.kind, raw);
            }
            match &mut open.range {
                Some(range) => {
                    range.end = lexeme.end;
                    if lexeme.kind != Kind::Open || called != Some(lexeme.start) {
                        self.normalized.push(b' ');
                    }
                }
                None => open.range = Some(lexeme.start..lexeme.end),
            }
            // Rows of VALUES look alike with and without.
            let lists = ["values", "value"].iter().any(|it| raw.eq_ignore_ascii_case(it.as_bytes()));
            called = (lexeme.kind == Kind::Word && !lists).then_some(lexeme.end);
            match lexeme.kind {
                Kind::Integer => self.literal(MARK_INTEGER, lexeme.start, lexeme.end),
                Kind::Number => self.literal(MARK_NUMBER, lexeme.start, lexeme.end),
                Kind::Bits => self.literal(MARK_BITS, lexeme.start, lexeme.end),
                // N'…' is another kind of text: it stays as it is beside its mark.
                Kind::String => {
                    if raw.first().is_some_and(u8::is_ascii_alphabetic) {
                        self.normalized.push(b'N');
                    }
                    self.literal(MARK_STRING, lexeme.start, lexeme.end);
                }
                kind => {
                    self.normalized.extend_from_slice(raw);
                    match kind {
                        Kind::Open | Kind::OpenBracket => open.depth += 1,
                        Kind::Close | Kind::CloseBracket => open.depth = open.depth.saturating_sub(1),
                        Kind::Parameter => {
                            // The protocol counts them in two bytes.
                            open.parameters = open.parameters.checked_add(1).ok_or(Invalid { at: lexeme.start })?;
                            // They have no number of their own, by which rows could be told apart.
                            if fold && matches!(open.rows, Rows::Row { .. }) {
                                return Ok(false);
                            }
                        }
                        _ => {}
                    }
                }
            }
            if fold && open.begins_with_insert && !self.fold(bytes, &lexeme, &mut open) {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Mode = Mode {
        ansi_quotes: false,
        no_backslash_escapes: false,
        pipes_as_concat: false,
        ignore_space: false,
        ascii_names: false,
    };
    const ANSI: Mode = Mode { ansi_quotes: true, ..PLAIN };
    const STRAIGHT: Mode = Mode { no_backslash_escapes: true, ..PLAIN };

    /// The lexemes as `kind:text`.
    fn cut(text: &str, mode: Mode) -> Option<String> {
        let found = lexemes(text, 0..text.len(), None, mode).ok()?;
        let shown = found.iter().map(|it| {
            let raw = &text[it.start..it.end];
            match it.kind {
                Kind::Word => raw.to_owned(),
                kind => format!("{kind:?}:{raw}"),
            }
        });
        Some(shown.collect::<Vec<_>>().join(" "))
    }

    fn pieces(text: &str, mode: Mode) -> Option<Vec<&str>> {
        let mut lexed = Lexed::default();
        lexed.read_mysql(text, mode).ok()?;
        Some(lexed.pieces.iter().map(|it| &text[it.range.clone()]).collect())
    }

    #[test]
    fn hard_cases_are_cut_as_servers_cut_them() {
        for (mode, text, expected) in [
            (PLAIN, r"'a\'b'", Some(r"String:'a\'b'")),
            (PLAIN, r"'a\\' OR 'b'", Some(r"String:'a\\' OR String:'b'")),
            (STRAIGHT, r"'a\' OR 1", Some(r"String:'a\' OR Integer:1")),
            (PLAIN, r"'a\' OR 1", None),
            (PLAIN, "'a''b' \"c\"\"d\"", Some("String:'a''b' String:\"c\"\"d\"")),
            (ANSI, "\"c\"\"d\" \"e\\\"", Some("Quoted:\"c\"\"d\" Quoted:\"e\\\"")),
            (PLAIN, "`a``b\\` x", Some("Quoted:`a``b\\` x")),
            (PLAIN, "``", None),
            (PLAIN, "1--1", Some("Integer:1 Operator:- Operator:- Integer:1")),
            (PLAIN, "1-- 1", Some("Integer:1")),
            (PLAIN, "1--\t1\n2", Some("Integer:1 Integer:2")),
            (PLAIN, "1--", Some("Integer:1")),
            (PLAIN, "1--\u{1}", None),
            (PLAIN, "1 # 2 ' \n 3", Some("Integer:1 Integer:3")),
            // A carriage return ends no comment.
            (PLAIN, "1 # 2\r3", Some("Integer:1")),
            (PLAIN, "1 /* /* */ 2", Some("Integer:1 Integer:2")),
            (PLAIN, "1 /* ", None),
            (PLAIN, "/*! 1 */ 2", Some("Executable:/*! 1 */ Integer:2")),
            (PLAIN, "/*!50000 'a*/' */ 2", None),
            (PLAIN, "/*M!100100 'a' */", Some("Executable:/*M!100100 'a' */")),
            (PLAIN, "/*! 1; 2 */", None),
            (PLAIN, "/*! 1 # */", None),
            (PLAIN, "/*! 1 /* 2 */", None),
            (PLAIN, "/*+ a */ 1", Some("Integer:1")),
            (PLAIN, "/*+ 'a' */ 1", None),
            (PLAIN, "/*+ set_VAR(x=1) */", Some("Executable:/*+ set_VAR(x=1) */")),
            (PLAIN, "0x1F x'1f' X'1' 1", None),
            (PLAIN, "0x1F x'1f' 0b01 b'01' 0xG 0X1", Some("Bits:0x1F Bits:x'1f' Bits:0b01 Bits:b'01' 0xG 0X1")),
            (PLAIN, "b'2'", None),
            (
                PLAIN,
                "1e5 1e 1e+5 1.5 .5 1. 2fa 1.e3",
                Some("Number:1e5 1e Number:1e+5 Number:1.5 Number:.5 Number:1. 2fa Number:1.e3"),
            ),
            (PLAIN, "1.5x", None),
            (PLAIN, "1e5x", None),
            (PLAIN, "t.a t .5", Some("t Dot:. a t Number:.5")),
            (PLAIN, "t.5a", None),
            (PLAIN, "`t`.5", None),
            (PLAIN, "_utf8mb4'a' N'b' n'c'", Some("_utf8mb4 String:'a' String:N'b' String:n'c'")),
            (
                PLAIN,
                "@a @'b c' @@x @@global.y @`z`",
                Some(
                    "UserVariable:@a UserVariable:@'b c' SystemVariable:@@x SystemVariable:@@global.y UserVariable:@`z`",
                ),
            ),
            (PLAIN, "@ a", None),
            (PLAIN, "@@ a", None),
            (PLAIN, "@'a\\'b'", None),
            (PLAIN, "a:=1", Some("a Assign::= Integer:1")),
            (PLAIN, "a:b", None),
            (PLAIN, "a<=>b<>c!=d>>e", Some("a Operator:<=> b Operator:<> c Operator:!= d Operator:>> e")),
            (PLAIN, "a=!b", None),
            (PLAIN, "a= !b>-1", Some("a Operator:= Operator:! b Operator:> Operator:- Integer:1")),
            (PLAIN, "a->'$'->>'$'", Some("a Operator:-> String:'$' Operator:->> String:'$'")),
            (PLAIN, "a||b|c&&d&e", Some("a Operator:|| b Operator:| c Operator:&& d Operator:& e")),
            (PLAIN, "?,?a", None),
            (PLAIN, "?,?", Some("Parameter:? Comma:, Parameter:?")),
            (PLAIN, "\\N", None),
            (PLAIN, "a\0b", None),
            (PLAIN, "a[1]", None),
            (PLAIN, "é$ü", Some("é$ü")),
            (Mode { ascii_names: true, ..PLAIN }, "é", None),
            (Mode { ascii_names: true, ..PLAIN }, "'é'", Some("String:'é'")),
        ] {
            assert_eq!(cut(text, mode).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn statements_end_where_servers_end_them() {
        assert_eq!(pieces("select 1; select ';' ;; # x;\n", PLAIN).unwrap(), ["select 1", "select ';'"]);
        assert_eq!(pieces("select 'a\\'; x'; select 2", PLAIN).unwrap().len(), 2);
        assert_eq!(pieces("select 'a\\'; x'; select 2", STRAIGHT), None);
        let routine = "create definer=`a`@`b` procedure p() begin select 1; select 2; end; select 3";
        assert_eq!(pieces(routine, PLAIN).unwrap(), [routine]);
        assert_eq!(pieces("begin not atomic select 1; end; select 2", PLAIN).unwrap().len(), 1);
        assert_eq!(pieces("begin; select 2", PLAIN).unwrap().len(), 2);
        assert_eq!(pieces("create table t (event int); select 2", PLAIN).unwrap().len(), 2);
        assert_eq!(pieces("", PLAIN).unwrap(), [""]);
        assert_eq!(pieces("/* a */ ;", PLAIN).unwrap(), [""]);
    }

    #[test]
    fn rows_are_folded_unless_they_hold_parameters() {
        let folds = |text: &str| {
            let mut lexed = Lexed::default();
            lexed.read_mysql(text, PLAIN).unwrap();
            let piece = &lexed.pieces[0];
            (piece.repeat.is_some(), piece.parameters, lexed.literals.len())
        };
        assert_eq!(folds("insert into t values (1, 'a'), (2, 'b'), (3, 'c')"), (true, 0, 6));
        assert_eq!(folds("replace into t values(1, 'a'), (2, 'b') "), (true, 0, 4));
        assert_eq!(folds("insert into t values (1, ?), (2, ?)"), (false, 2, 2));
        assert_eq!(folds("insert into t values (1, 'a'), (2, 'b') on duplicate key update a = ?"), (true, 1, 4));
        assert_eq!(folds("insert into t values (1, 'a'), (2, 3)"), (false, 0, 4));
    }

    #[test]
    fn texts_that_mean_something_else_are_normalized_otherwise() {
        let normalized = |text: &str, mode: Mode| {
            let mut lexed = Lexed::default();
            lexed.read_mysql(text, mode).unwrap();
            lexed.normalized
        };
        let same = |a: &str, b: &str| normalized(a, PLAIN) == normalized(b, PLAIN);
        assert!(same("select  1", "select /* x */ 2"));
        assert!(!same("select count(*)", "select count (*)"));
        assert!(!same("select 1", "select '1'"));
        assert!(!same("select N'1'", "select '1'"));
        assert!(!same("select x'11'", "select '1'"));
        assert!(!same("select 1", "select /*! 1 + */ 1"));
        assert!(!same("select `a`", "select a"));
    }

    #[test]
    fn values_are_those_that_servers_see() {
        for (mode, raw, value) in [
            (PLAIN, r"'a\'b'", &b"a'b"[..]),
            (PLAIN, r"'\0\b\n\r\t\Z\\\%\_\x\''", b"\0\x08\n\r\t\x1a\\\\%\\_x'"),
            (PLAIN, "'a''b\"c'", b"a'b\"c"),
            (PLAIN, "\"a\"\"b'c\"", b"a\"b'c"),
            (STRAIGHT, r"'a\n'", b"a\\n"),
        ] {
            assert_eq!(string_value(raw, mode).unwrap(), value, "{raw}");
        }
        assert_eq!(string_value("N'a'", PLAIN), None);
        assert_eq!(hex_value("x'0aFF'").unwrap(), [10, 255]);
        assert_eq!(hex_value("0xF0A").unwrap(), [15, 10]);
        assert_eq!(hex_value("b'01'"), None);
        assert_eq!(unquote("`a``b`"), "a`b");
        assert_eq!(unquote("\"a\"\"b\""), "a\"b");
    }

    #[test]
    fn modes_are_read_from_their_names() {
        let mode = Mode::of("STRICT_TRANS_TABLES,ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "utf8mb4");
        assert_eq!(mode, Mode { ansi_quotes: true, no_backslash_escapes: true, ..PLAIN });
        assert_eq!(Mode::of("", "latin1"), Mode { ascii_names: true, ..PLAIN });
        let mode = Mode::of("REAL_AS_FLOAT,PIPES_AS_CONCAT,ANSI_QUOTES,IGNORE_SPACE,ANSI", "utf8mb3");
        assert_eq!(mode, Mode { ansi_quotes: true, pipes_as_concat: true, ignore_space: true, ..PLAIN });
    }

    #[test]
    fn any_text_is_cut_or_refused_without_harm() {
        let parts = [
            "'", "\"", "`", "\\", "/*", "*/", "/*!", "#", "-- ", "\n", ";", "(", ")", "a", "0x", "1", "é", "@", "?",
            ".",
        ];
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap() % below
        };
        for _ in 0..5000 {
            let text: String = (0..random(12)).map(|_| parts[random(parts.len())]).collect();
            for mode in [PLAIN, ANSI, STRAIGHT] {
                let mut lexed = Lexed::default();
                if lexed.read_mysql(&text, mode).is_ok() {
                    for piece in &lexed.pieces {
                        assert!(text.get(piece.range.clone()).is_some());
                        assert!(lexemes(&text, piece.range.clone(), None, mode).is_ok(), "{text}");
                    }
                }
            }
        }
    }
}
