//! Text → lexemes, as Postgres's own scanner cuts them; and text → normalized bytes, by which templates are found.
//!
//! One pass, no allocation besides the buffers that the caller keeps. Nothing is judged here: what Postgres's scanner
//! would refuse is an [`Invalid`], and the server words the error.

use std::ops::Range;

use smallvec::SmallVec;

pub mod executable;
pub mod mysql;

/// What a lexeme is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or identifier without quotes.
    Word,
    /// `"…"`.
    Quoted,
    /// `U&"…"`.
    UnicodeQuoted,
    /// Digits only (also with `_`).
    Integer,
    /// Any other number: a fraction, an exponent, `0x…`.
    Number,
    /// `'…'`, `E'…'`, `N'…'`, `$$…$$`.
    String,
    /// `U&'…'`: its escape character may follow, so its value is not known.
    UnicodeString,
    /// `B'…'`, `X'…'`.
    Bits,
    /// `$1`.
    Parameter,
    /// One or more operator characters, cut as Postgres cuts them.
    Operator,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `[`
    OpenBracket,
    /// `]`
    CloseBracket,
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// `:`
    Colon,
    /// `::`
    Cast,
    /// `:=`
    Assign,
    /// A comment that starts with `/* shardway:`; MySQL's hints for the optimizer.
    Hint,
    /// MySQL: `@x`.
    UserVariable,
    /// MySQL: `@@x`, `@@global.x`.
    SystemVariable,
    /// MySQL: a comment that servers execute (`/*! … */`), or a hint that sets a variable.
    Executable,
    /// Nothing is left.
    End,
}

/// One lexeme: what it is and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lexeme {
    /// What.
    pub kind: Kind,
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

/// Something that Postgres's scanner does not accept, at a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Where, in bytes.
    pub at: usize,
}

/// Rows of a VALUES list that look alike but for their literals, kept as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// How many literals of the statement stand before the first row.
    pub first: u32,
    /// How many literals one row has.
    pub width: u32,
    /// Bytes of the text from behind the first row to behind the last: what a reader may skip.
    pub skip: (usize, usize),
}

/// One statement of a text.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Its bytes in the text, without the semicolon and the blanks around.
    pub range: Range<usize>,
    /// Its normalized bytes in [`Lexed::normalized`].
    pub normalized: Range<usize>,
    /// Its literals in [`Lexed::literals`].
    pub literals: Range<usize>,
    /// Rows that were folded into one.
    pub repeat: Option<Repeat>,
    /// The highest `$n`.
    pub parameters: u16,
}

/// A text cut into statements. Keep it and use it again: its buffers grow to what is needed.
#[derive(Debug, Default)]
pub struct Lexed {
    /// Lexemes with one blank between, literals replaced by a byte for their kind.
    pub normalized: Vec<u8>,
    /// Where every literal stands in the text.
    pub literals: Vec<Range<u32>>,
    /// The statements; one empty piece for a text without any.
    pub pieces: SmallVec<[Piece; 1]>,
}

const WORD_START: u8 = 1;
const DIGIT: u8 = 2;
const SPACE: u8 = 4;
const OPERATOR: u8 = 8;
const WORD_MORE: u8 = 16;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0_u8; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 255")]
        let b = byte as u8;
        let mut class = 0;
        if b.is_ascii_alphabetic() || b == b'_' || b >= 0x80 {
            class |= WORD_START | WORD_MORE;
        }
        if b.is_ascii_digit() {
            class |= DIGIT | WORD_MORE;
        }
        if b == b'$' {
            class |= WORD_MORE;
        }
        if matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c) {
            class |= SPACE;
        }
        if matches!(
            b,
            b'+' | b'-'
                | b'*'
                | b'/'
                | b'<'
                | b'>'
                | b'='
                | b'~'
                | b'!'
                | b'@'
                | b'#'
                | b'%'
                | b'^'
                | b'&'
                | b'|'
                | b'`'
                | b'?'
        ) {
            class |= OPERATOR;
        }
        #[expect(clippy::indexing_slicing, reason = "a constant table, computed at compile time")]
        {
            table[byte] = class;
        }
        byte += 1;
    }
    table
}

#[inline]
fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(0)
}

#[inline]
fn at(text: &[u8], place: usize) -> u8 {
    text.get(place).copied().unwrap_or(0)
}

/// The lexeme that begins at or after `from`. Comments and blanks are skipped.
///
/// # Errors
/// What Postgres's scanner does not accept.
#[inline]
pub fn next(text: &[u8], from: usize) -> Result<Lexeme, Invalid> {
    let mut start = from;
    loop {
        let Some(&byte) = text.get(start) else { return Ok(Lexeme { kind: Kind::End, start, end: start }) };
        if class(byte) & SPACE != 0 {
            start += 1;
            continue;
        }
        if byte == b'-' && at(text, start + 1) == b'-' {
            start = line_end(text, start);
            continue;
        }
        if byte == b'/' && at(text, start + 1) == b'*' {
            let end = comment_end(text, start)?;
            if is_hint(text.get(start..end).unwrap_or_default()) {
                return Ok(Lexeme { kind: Kind::Hint, start, end });
            }
            start = end;
            continue;
        }
        return lexeme(text, start, byte);
    }
}

#[inline]
fn lexeme(text: &[u8], start: usize, byte: u8) -> Result<Lexeme, Invalid> {
    let one = |kind| Ok(Lexeme { kind, start, end: start + 1 });
    let classed = class(byte);
    if classed & WORD_START != 0 {
        let next = at(text, start + 1);
        if next == b'\'' {
            let kind = match byte {
                b'e' | b'E' => return string(text, start, start + 1, true, Kind::String),
                b'n' | b'N' => Kind::String,
                b'b' | b'B' | b'x' | b'X' => Kind::Bits,
                _ => return Ok(word(text, start)),
            };
            return string(text, start, start + 1, false, kind);
        }
        if next == b'&' && matches!(byte, b'u' | b'U') {
            match at(text, start + 2) {
                b'\'' => return string(text, start, start + 2, false, Kind::UnicodeString),
                b'"' => return quoted(text, start, start + 2, Kind::UnicodeQuoted),
                _ => {}
            }
        }
        return Ok(word(text, start));
    }
    if classed & DIGIT != 0 {
        return number(text, start);
    }
    match byte {
        b'\'' => string(text, start, start, false, Kind::String),
        b'"' => quoted(text, start, start, Kind::Quoted),
        b'$' => dollar(text, start),
        b'(' => one(Kind::Open),
        b')' => one(Kind::Close),
        b'[' => one(Kind::OpenBracket),
        b']' => one(Kind::CloseBracket),
        b',' => one(Kind::Comma),
        b';' => one(Kind::Semicolon),
        b'.' if at(text, start + 1) == b'.' => Ok(Lexeme { kind: Kind::DotDot, start, end: start + 2 }),
        b'.' if at(text, start + 1).is_ascii_digit() => number(text, start),
        b'.' => one(Kind::Dot),
        b':' => match at(text, start + 1) {
            b':' => Ok(Lexeme { kind: Kind::Cast, start, end: start + 2 }),
            b'=' => Ok(Lexeme { kind: Kind::Assign, start, end: start + 2 }),
            _ => one(Kind::Colon),
        },
        _ if classed & OPERATOR != 0 => Ok(operator(text, start)),
        _ => Err(Invalid { at: start }),
    }
}

#[inline]
fn word(text: &[u8], start: usize) -> Lexeme {
    let rest = text.get(start..).unwrap_or_default();
    let length = rest.iter().position(|byte| class(*byte) & WORD_MORE == 0).unwrap_or(rest.len());
    Lexeme { kind: Kind::Word, start, end: start + length }
}

fn line_end(text: &[u8], start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    start + rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len())
}

fn comment_end(text: &[u8], start: usize) -> Result<usize, Invalid> {
    let mut depth = 0_usize;
    let mut place = start;
    while place < text.len() {
        match (at(text, place), at(text, place + 1)) {
            (b'/', b'*') => {
                depth += 1;
                place += 2;
            }
            (b'*', b'/') => {
                depth -= 1;
                place += 2;
                if depth == 0 {
                    return Ok(place);
                }
            }
            _ => place += 1,
        }
    }
    Err(Invalid { at: start })
}

fn is_hint(comment: &[u8]) -> bool {
    comment.strip_prefix(b"/*").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"shardway:"))
}

/// A string whose opening quote is at `quote`; text continues after blanks with a newline between quotes.
fn string(text: &[u8], start: usize, quote: usize, escapes: bool, kind: Kind) -> Result<Lexeme, Invalid> {
    let mut place = quote + 1;
    loop {
        let rest = text.get(place..).unwrap_or_default();
        let found = if escapes { memchr::memchr2(b'\'', b'\\', rest) } else { memchr::memchr(b'\'', rest) };
        let Some(found) = found else { return Err(Invalid { at: start }) };
        place += found;
        if at(text, place) == b'\\' || at(text, place + 1) == b'\'' {
            place += 2;
        } else {
            let end = place + 1;
            match continued(text, end) {
                Some(again) => place = again + 1,
                None => return Ok(Lexeme { kind, start, end }),
            }
        }
    }
}

/// Where the next part of a string opens, when blanks with a newline and then a quote follow.
fn continued(text: &[u8], end: usize) -> Option<usize> {
    let mut place = end;
    let mut newline = false;
    loop {
        match at(text, place) {
            b'\n' | b'\r' => {
                newline = true;
                place += 1;
            }
            byte if class(byte) & SPACE != 0 => place += 1,
            b'-' if at(text, place + 1) == b'-' => place = line_end(text, place),
            b'\'' if newline => return Some(place),
            _ => return None,
        }
    }
}

fn quoted(text: &[u8], start: usize, quote: usize, kind: Kind) -> Result<Lexeme, Invalid> {
    let mut place = quote + 1;
    loop {
        let Some(found) = memchr::memchr(b'"', text.get(place..).unwrap_or_default()) else {
            return Err(Invalid { at: start });
        };
        place += found;
        if at(text, place + 1) == b'"' {
            place += 2;
        } else if place == quote + 1 {
            return Err(Invalid { at: start }); // a zero-length identifier
        } else {
            return Ok(Lexeme { kind, start, end: place + 1 });
        }
    }
}

fn dollar(text: &[u8], start: usize) -> Result<Lexeme, Invalid> {
    let next = at(text, start + 1);
    if next.is_ascii_digit() {
        let rest = text.get(start + 1..).unwrap_or_default();
        let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        let end = start + 1 + length;
        if length > 5 || class(at(text, end)) & WORD_START != 0 {
            return Err(Invalid { at: start });
        }
        return Ok(Lexeme { kind: Kind::Parameter, start, end });
    }
    let mut place = start + 1;
    if class(next) & WORD_START != 0 {
        while class(at(text, place)) & (WORD_START | DIGIT) != 0 {
            place += 1;
        }
    }
    if at(text, place) != b'$' {
        return Err(Invalid { at: start });
    }
    let tag = text.get(start..=place).unwrap_or_default();
    let body = place + 1;
    match memchr::memmem::find(text.get(body..).unwrap_or_default(), tag) {
        Some(found) => Ok(Lexeme { kind: Kind::String, start, end: body + found + tag.len() }),
        None => Err(Invalid { at: start }),
    }
}

#[inline]
fn number(text: &[u8], start: usize) -> Result<Lexeme, Invalid> {
    let mut kind = Kind::Integer;
    let mut place = start;
    let digits = |mut place: usize| {
        while at(text, place).is_ascii_digit() || (at(text, place) == b'_' && at(text, place + 1).is_ascii_digit()) {
            place += 1;
        }
        place
    };
    if at(text, start) == b'0' && matches!(at(text, start + 1), b'x' | b'X' | b'o' | b'O' | b'b' | b'B') {
        kind = Kind::Number;
        place = start + 2;
        while at(text, place).is_ascii_hexdigit() || at(text, place) == b'_' {
            place += 1;
        }
        if place == start + 2 {
            return Err(Invalid { at: start });
        }
    } else {
        place = digits(place);
        if at(text, place) == b'.' && at(text, place + 1) != b'.' {
            kind = Kind::Number;
            place = digits(place + 1);
        }
        if matches!(at(text, place), b'e' | b'E') {
            let sign = usize::from(matches!(at(text, place + 1), b'+' | b'-'));
            if at(text, place + 1 + sign).is_ascii_digit() {
                kind = Kind::Number;
                place = digits(place + 1 + sign);
            }
        }
    }
    if class(at(text, place)) & WORD_START != 0 {
        return Err(Invalid { at: start }); // trailing junk
    }
    Ok(Lexeme { kind, start, end: place })
}

#[inline]
fn operator(text: &[u8], start: usize) -> Lexeme {
    let mut end = start + 1;
    while class(at(text, end)) & OPERATOR != 0 {
        let pair = (at(text, end), at(text, end + 1));
        if pair == (b'-', b'-') || pair == (b'/', b'*') {
            break;
        }
        end += 1;
    }
    // A longer operator ends in + or - only if it has a character that SQL's own operators have not.
    while end > start + 1 && matches!(at(text, end - 1), b'+' | b'-') {
        let body = text.get(start..end - 1).unwrap_or_default();
        if body.iter().any(|b| matches!(b, b'~' | b'!' | b'@' | b'#' | b'%' | b'^' | b'&' | b'|' | b'`' | b'?')) {
            break;
        }
        end -= 1;
    }
    Lexeme { kind: Kind::Operator, start, end }
}

/// The lexemes of `range`, without the end, and without the bytes of `skip`.
///
/// # Errors
/// What Postgres's scanner does not accept.
pub fn lexemes(text: &str, range: Range<usize>, skip: Option<(usize, usize)>) -> Result<Vec<Lexeme>, Invalid> {
    let bytes = text.as_bytes().get(..range.end).unwrap_or_default();
    let mut found = Vec::new();
    let mut place = range.start;
    loop {
        let lexeme = next(bytes, place)?;
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

/// What stands for a literal in normalized bytes; none of these can begin a lexeme.
const MARK_INTEGER: u8 = 1;
const MARK_NUMBER: u8 = 2;
const MARK_STRING: u8 = 3;
const MARK_UNICODE: u8 = 4;
const MARK_BITS: u8 = 5;
const MARK_ROWS: u8 = 6;

/// What is known about the statement being read.
struct Open {
    range: Option<Range<usize>>,
    normalized: usize,
    literals: usize,
    parameters: u16,
    /// Open parentheses and brackets.
    depth: usize,
    /// `CREATE FUNCTION` or `CREATE PROCEDURE`: words seen so far of that start.
    routine: Routine,
    /// Open BEGIN ATOMIC … END and CASE … END inside a routine.
    blocks: usize,
    begins_with_insert: bool,
    rows: Rows,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Routine {
    Start,
    Create,
    Yes,
    BeginSeen,
    No,
}

/// How far folding the rows of a VALUES list has come.
enum Rows {
    /// No VALUES of an INSERT yet.
    Before,
    /// Behind VALUES or a comma: a row may open here (in normalized bytes, in literals).
    Row { first: Option<First>, opened: (usize, usize) },
    /// Behind a row.
    Behind { first: First },
    /// No further folding.
    Done { folded: Option<Repeat> },
}

#[derive(Clone, Copy)]
struct First {
    normalized: (usize, usize),
    literals: (usize, usize),
    /// Bytes of the text behind the first row and behind the last one.
    ends: (usize, usize),
    count: usize,
}

impl First {
    fn repeat(&self, base: usize) -> Option<Repeat> {
        (self.count > 1).then(|| Repeat {
            first: u32::try_from(self.literals.0 - base).unwrap_or(u32::MAX),
            width: u32::try_from(self.literals.1 - self.literals.0).unwrap_or(u32::MAX),
            skip: self.ends,
        })
    }
}

impl Open {
    fn new(normalized: usize, literals: usize) -> Self {
        Self {
            range: None,
            normalized,
            literals,
            parameters: 0,
            depth: 0,
            routine: Routine::Start,
            blocks: 0,
            begins_with_insert: false,
            rows: Rows::Before,
        }
    }
}

impl Lexed {
    /// Cuts `text` into statements and normalizes them.
    ///
    /// # Errors
    /// What Postgres's scanner does not accept; the buffers hold nothing useful then.
    pub fn read(&mut self, text: &str) -> Result<(), Invalid> {
        if self.try_read(text, true)? {
            return Ok(());
        }
        // Rows that look alike were followed by one that does not: read again without folding.
        self.try_read(text, false).map(|_| ())
    }

    fn try_read(&mut self, text: &str, fold: bool) -> Result<bool, Invalid> {
        self.normalized.clear();
        self.literals.clear();
        self.pieces.clear();
        if u32::try_from(text.len()).is_err() {
            return Err(Invalid { at: 0 });
        }
        let bytes = text.as_bytes();
        // A blank between two lexemes is the most that is added.
        self.normalized.reserve(2 * bytes.len());
        let mut place = 0;
        let mut open = Open::new(0, 0);
        loop {
            if open.routine == Routine::No && !(fold && open.begins_with_insert) {
                place = self.plain(bytes, place, &mut open);
            }
            let lexeme = next(bytes, place)?;
            place = lexeme.end;
            match lexeme.kind {
                Kind::End => {
                    self.finish(&mut open);
                    self.or_empty();
                    return Ok(true);
                }
                Kind::Semicolon if open.depth == 0 && open.blocks == 0 => {
                    self.finish(&mut open);
                    open = Open::new(self.normalized.len(), self.literals.len());
                    continue;
                }
                _ => {}
            }
            match &mut open.range {
                Some(range) => {
                    range.end = lexeme.end;
                    self.normalized.push(b' ');
                }
                None => open.range = Some(lexeme.start..lexeme.end),
            }
            self.put(bytes, &lexeme, &mut open);
            if fold && open.begins_with_insert && !self.fold(bytes, &lexeme, &mut open) {
                return Ok(false);
            }
        }
    }

    /// Takes what most of a statement is: words, integers and operators of one character, each behind one blank. They
    /// stand in the normalized bytes as in the text, so that many are copied at once. Tells where it stopped: at the end
    /// of a lexeme. What decides where a statement ends must have been seen.
    #[inline]
    fn plain(&mut self, bytes: &[u8], from: usize, open: &mut Open) -> usize {
        let mut copied = from;
        let mut place = from;
        while let Some(&[b' ', byte]) = bytes.get(place..).and_then(<[u8]>::first_chunk) {
            let start = place + 1;
            let classed = class(byte);
            if classed & WORD_START != 0 {
                let end = word(bytes, start).end;
                // E'…' and U&"…" are no words.
                if end == start + 1 && matches!(at(bytes, end), b'\'' | b'&') {
                    break;
                }
                place = end;
            } else if classed & DIGIT != 0 {
                let rest = bytes.get(start..).unwrap_or_default();
                let end = start + rest.iter().position(|it| !it.is_ascii_digit()).unwrap_or(rest.len());
                if at(bytes, end) == b'.' || class(at(bytes, end)) & WORD_MORE != 0 {
                    break;
                }
                self.normalized.extend_from_slice(bytes.get(copied..start).unwrap_or_default());
                self.literal(MARK_INTEGER, start, end);
                (copied, place) = (end, end);
            } else if classed & OPERATOR != 0 && at(bytes, start + 1) == b' ' {
                place = start + 1;
            } else {
                break;
            }
        }
        self.normalized.extend_from_slice(bytes.get(copied..place).unwrap_or_default());
        if let Some(range) = &mut open.range {
            range.end = place;
        }
        place
    }

    #[inline]
    fn literal(&mut self, mark: u8, start: usize, end: usize) {
        self.normalized.push(mark);
        self.literals.push(u32::try_from(start).unwrap_or(u32::MAX)..u32::try_from(end).unwrap_or(u32::MAX));
    }

    #[inline]
    fn put(&mut self, bytes: &[u8], lexeme: &Lexeme, open: &mut Open) {
        let mark = match lexeme.kind {
            Kind::Integer => MARK_INTEGER,
            Kind::Number => MARK_NUMBER,
            Kind::String => MARK_STRING,
            Kind::UnicodeString => MARK_UNICODE,
            Kind::Bits => MARK_BITS,
            _ => {
                let raw = bytes.get(lexeme.start..lexeme.end).unwrap_or_default();
                self.normalized.extend_from_slice(raw);
                match lexeme.kind {
                    Kind::Open | Kind::OpenBracket => open.depth += 1,
                    Kind::Close | Kind::CloseBracket => open.depth = open.depth.saturating_sub(1),
                    Kind::Parameter => {
                        let number = raw.iter().skip(1).fold(0_u32, |sum, b| sum * 10 + u32::from(b - b'0'));
                        open.parameters = open.parameters.max(u16::try_from(number).unwrap_or(u16::MAX));
                    }
                    Kind::Word if open.routine == Routine::No => {}
                    Kind::Word => words(raw, open),
                    _ => open.routine = Routine::after(open.routine),
                }
                return;
            }
        };
        self.literal(mark, lexeme.start, lexeme.end);
    }

    /// Folds rows of an INSERT's VALUES list that look like the first one; false: it must be read without.
    fn fold(&mut self, bytes: &[u8], lexeme: &Lexeme, open: &mut Open) -> bool {
        match &mut open.rows {
            Rows::Before => {
                let raw = bytes.get(lexeme.start..lexeme.end).unwrap_or_default();
                if open.depth == 0 && lexeme.kind == Kind::Word && raw.eq_ignore_ascii_case(b"values") {
                    let opened = (self.normalized.len(), self.literals.len());
                    open.rows = Rows::Row { first: None, opened };
                }
            }
            Rows::Row { first, opened } => {
                if open.depth == 0 && lexeme.kind == Kind::Close {
                    let row = self.normalized.get(opened.0..).unwrap_or_default();
                    match first {
                        None => {
                            let it = First {
                                normalized: (opened.0, self.normalized.len()),
                                literals: (opened.1, self.literals.len()),
                                ends: (lexeme.end, lexeme.end),
                                count: 1,
                            };
                            open.rows = Rows::Behind { first: it };
                        }
                        Some(it) => {
                            let like = self.normalized.get(it.normalized.0..it.normalized.1).unwrap_or_default();
                            if row == like && it.literals.1 > it.literals.0 {
                                self.normalized.truncate(it.normalized.1);
                                it.count += 1;
                                it.ends.1 = lexeme.end;
                                open.rows = Rows::Behind { first: *it };
                            } else if it.count > 1 {
                                return false;
                            } else {
                                open.rows = Rows::Done { folded: None };
                            }
                        }
                    }
                } else if open.depth == 0 {
                    open.rows = Rows::Done { folded: None };
                }
            }
            Rows::Behind { first } => {
                if open.depth == 0 && lexeme.kind == Kind::Comma {
                    let opened = (self.normalized.len(), self.literals.len());
                    open.rows = Rows::Row { first: Some(*first), opened };
                } else {
                    let folded = first.repeat(open.literals);
                    let mark = first.normalized.1;
                    open.rows = Rows::Done { folded };
                    if folded.is_some() {
                        self.normalized.insert(mark, MARK_ROWS);
                    }
                }
            }
            Rows::Done { .. } => {}
        }
        true
    }

    /// A text without statements has an empty one.
    fn or_empty(&mut self) {
        if self.pieces.is_empty() {
            self.pieces.push(Piece { range: 0..0, normalized: 0..0, literals: 0..0, repeat: None, parameters: 0 });
        }
    }

    fn finish(&mut self, open: &mut Open) {
        let Some(range) = open.range.take() else { return };
        let repeat = match &open.rows {
            Rows::Behind { first } => {
                let folded = first.repeat(open.literals);
                if folded.is_some() {
                    self.normalized.push(MARK_ROWS);
                }
                folded
            }
            Rows::Done { folded } => *folded,
            Rows::Before | Rows::Row { .. } => None,
        };
        self.pieces.push(Piece {
            range,
            normalized: open.normalized..self.normalized.len(),
            literals: open.literals..self.literals.len(),
            repeat,
            parameters: open.parameters,
        });
    }
}

impl Routine {
    /// After anything that is not a word.
    fn after(self) -> Self {
        match self {
            Self::Start | Self::Create | Self::No => Self::No,
            Self::Yes | Self::BeginSeen => Self::Yes,
        }
    }
}

/// Follows the words that decide where a statement ends.
fn words(raw: &[u8], open: &mut Open) {
    let is = |word: &str| raw.eq_ignore_ascii_case(word.as_bytes());
    match open.routine {
        Routine::No => {}
        Routine::Start => {
            open.routine = if is("create") { Routine::Create } else { Routine::No };
            open.begins_with_insert = is("insert") || is("with");
        }
        Routine::Create => {
            open.routine = if is("function") || is("procedure") {
                Routine::Yes
            } else if is("or") || is("replace") {
                Routine::Create
            } else {
                Routine::No
            };
        }
        Routine::Yes | Routine::BeginSeen => {
            if is("atomic") && open.routine == Routine::BeginSeen {
                open.blocks = 1;
            } else if open.blocks > 0 && is("case") {
                open.blocks += 1;
            } else if open.blocks > 0 && is("end") {
                open.blocks -= 1;
            }
            open.routine = if is("begin") { Routine::BeginSeen } else { Routine::Yes };
        }
    }
}

/// The value of a string lexeme: quotes, doubled quotes, escapes and continuations undone. `None`: not known here.
#[must_use]
pub fn string_value(raw: &str) -> Option<Vec<u8>> {
    let bytes = raw.as_bytes();
    match bytes.first()? {
        b'$' => {
            let tag = memchr::memchr(b'$', bytes.get(1..)?)? + 2;
            Some(bytes.get(tag..bytes.len().checked_sub(tag)?)?.to_vec())
        }
        b'\'' => parts(bytes, false),
        b'n' | b'N' => parts(bytes.get(1..)?, false),
        b'e' | b'E' => parts(bytes.get(1..)?, true),
        _ => None,
    }
}

/// Whether a string lexeme may name a time by the reader's clock, such as `'now'`, `'[today,]'` or `'tomorrow 10:00'`.
#[must_use]
pub fn names_a_time(raw: &str) -> bool {
    match string_value(raw) {
        Some(value) => is_named_time(&value),
        // With Unicode escapes.
        None => true,
    }
}

/// The same for a value.
#[must_use]
pub fn is_named_time(value: &[u8]) -> bool {
    const MARKS: &[u8] = b" \t\r\n\x0b\x0c:+-/._,'\"{}[]()";
    // A time of day and a zone may stand beside it, but no sentence.
    let words = || value.split(|it| !it.is_ascii_alphabetic()).filter(|it| !it.is_empty());
    let named =
        |word: &[u8]| [&b"now"[..], b"today", b"tomorrow", b"yesterday"].iter().any(|it| word.eq_ignore_ascii_case(it));
    words().any(named)
        && value.iter().all(|it| it.is_ascii_alphanumeric() || MARKS.contains(it))
        // Parentheses are those of a range.
        && (value.contains(&b',') || !value.iter().any(|it| b"()".contains(it)))
        && (value.contains(&b'/') || words().all(|it| it.len() <= 5 || named(it)))
}

/// A plain string without quotes inside or continuation: its bytes as they stand.
#[must_use]
pub fn plain_string(raw: &str) -> Option<&str> {
    let inner = raw.strip_prefix('\'')?.strip_suffix('\'')?;
    (!inner.contains('\'')).then_some(inner)
}

fn parts(bytes: &[u8], escapes: bool) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(bytes.len());
    let mut place = 1;
    loop {
        match *bytes.get(place)? {
            b'\'' if bytes.get(place + 1) == Some(&b'\'') => {
                value.push(b'\'');
                place += 2;
            }
            b'\'' => match continued(bytes, place + 1) {
                Some(again) => place = again + 1,
                None => return Some(value),
            },
            b'\\' if escapes => {
                place += 1;
                let byte = *bytes.get(place)?;
                place += 1;
                match byte {
                    b'b' => value.push(8),
                    b'f' => value.push(12),
                    b'n' => value.push(b'\n'),
                    b'r' => value.push(b'\r'),
                    b't' => value.push(b'\t'),
                    b'0'..=b'7' | b'x' | b'u' | b'U' => return None,
                    other => value.push(other),
                }
            }
            other => {
                value.push(other);
                place += 1;
            }
        }
    }
}

/// A word as the server folds it: ASCII letters to lower case, at most 63 bytes.
#[must_use]
pub fn fold(word: &str) -> String {
    let mut folded = word.to_ascii_lowercase();
    truncate(&mut folded);
    folded
}

/// A quoted identifier's name: doubled quotes undone, at most 63 bytes.
#[must_use]
pub fn unquote(raw: &str) -> String {
    let inner = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw);
    let mut name = inner.replace("\"\"", "\"");
    truncate(&mut name);
    name
}

/// Names longer than NAMEDATALEN − 1 bytes are cut at a character.
fn truncate(name: &mut String) {
    if name.len() > 63 {
        let mut end = 63;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(text: &str) -> Vec<String> {
        let mut lexed = Lexed::default();
        lexed.read(text).unwrap();
        lexed
            .pieces
            .iter()
            .map(|piece| String::from_utf8_lossy(&lexed.normalized[piece.normalized.clone()]).into_owned())
            .collect()
    }

    fn literals(text: &str) -> Vec<&str> {
        let mut lexed = Lexed::default();
        lexed.read(text).unwrap();
        lexed.literals.iter().map(|range| &text[range.start as usize..range.end as usize]).collect()
    }

    #[test]
    fn literals_become_marks_and_blanks_collapse() {
        assert_eq!(normalized("select  1,\n'a' -- x\n, 2.5"), ["select \u{1} , \u{3} , \u{2}"]);
        assert_eq!(literals("select E'a\\'b', $x$ ' ; $x$, U&'a', b'1', 1_000, 0x1F, .5, 1e3").len(), 8);
    }

    #[test]
    fn strings_continue_over_a_newline_only() {
        assert_eq!(literals("select 'a'\n 'b'"), ["'a'\n 'b'"]);
        assert_eq!(literals("select 'a' 'b'"), ["'a'", "'b'"]);
        assert_eq!(string_value("'a'\n'b''c'").unwrap(), b"ab'c");
        assert_eq!(string_value("E'a\\nb'").unwrap(), b"a\nb");
        assert_eq!(string_value("$t$a'b$t$").unwrap(), b"a'b");
    }

    #[test]
    fn semicolons_split_only_at_the_top() {
        assert_eq!(normalized("select 1; select ';' ;; ").len(), 2);
        assert_eq!(normalized("create rule r as on insert to t do (select 1; select 2); select 3").len(), 2);
        let body = "create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end; select 3";
        assert_eq!(normalized(body).len(), 2);
        assert_eq!(normalized(" ; ; ").len(), 1);
    }

    #[test]
    fn operators_are_cut_as_the_server_cuts_them() {
        let cut = |text: &str| {
            lexemes(text, 0..text.len(), None)
                .unwrap()
                .iter()
                .map(|l| text[l.start..l.end].to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(cut("a=-1"), ["a", "=", "-", "1"]);
        assert_eq!(cut("a<>-1"), ["a", "<>", "-", "1"]);
        assert_eq!(cut("a@-1"), ["a", "@-", "1"]);
        assert_eq!(cut("a->>'b'::int"), ["a", "->>", "'b'", "::", "int"]);
        assert_eq!(cut("1--2\n+3"), ["1", "+", "3"]);
        assert_eq!(cut("1/*/* x */*/*2"), ["1", "*", "2"]);
    }

    #[test]
    fn rows_that_look_alike_fold_into_one() {
        let one = normalized("insert into t values (1,'a')");
        let two = normalized("insert into t values (1,'a'),(2,'b') returning id");
        let three = normalized("insert into t values (1,'a'),(2,'b'), (3,'c') returning id");
        assert_eq!(two, three);
        assert_ne!(one, two);
        assert_ne!(normalized("insert into t values (1,'a'),(2,'b'),(3,4)"), two);
        assert_eq!(normalized("insert into t values (1),(2),(null)")[0].matches('\u{1}').count(), 2);
        let mut lexed = Lexed::default();
        let text = "insert into t values (1,'a'),(2,'b')";
        lexed.read(text).unwrap();
        let repeat = lexed.pieces[0].repeat.unwrap();
        assert_eq!((repeat.first, repeat.width), (0, 2));
        assert_eq!(&text[repeat.skip.0..repeat.skip.1], ",(2,'b')");
    }

    /// What is copied many lexemes at a time is what its lexemes are one by one.
    #[test]
    fn random_words_are_normalized_lexeme_by_lexeme() {
        let parts = [
            "select", "a", "e", "u", "x", "b1", "a$1", "é", "create", "function", "begin", "1", "42", "1_0", "1.5",
            "1.", ".5", "1e3", "0x1F", "1$", "7a", "'s'", "''", "'", "&", "$1", "$$q$$", "\"i\"", "=", "<", "<>", "-",
            "--c\n", "/", "*", "/*c*/", "(", ")", "[", "]", ",", ".", "..", ":", "::", ":=", "?", ";",
        ];
        let gaps = [" ", " ", " ", " ", "", "  ", "\n", "\t"];
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut lexed = Lexed::default();
        let mut read = 0;
        for _ in 0..100_000 {
            let mut text = String::new();
            for _ in 0..random(12) {
                text.push_str(parts[random(parts.len())]);
                text.push_str(gaps[random(gaps.len())]);
            }
            let (Ok(()), Ok(tokens)) = (lexed.read(&text), lexemes(&text, 0..text.len(), None)) else { continue };
            read += 1;
            let mut literals = Vec::new();
            let mut expected = vec![Vec::new()];
            let mut piece = lexed.pieces.iter().peekable();
            for token in &tokens {
                // Where statements end is for other tests.
                while piece.peek().is_some_and(|it| it.range.end <= token.start) {
                    piece.next();
                    expected.push(Vec::new());
                }
                if !piece.peek().is_some_and(|it| it.range.contains(&token.start)) {
                    assert_eq!(token.kind, Kind::Semicolon, "{text:?}");
                    continue;
                }
                let raw = &text.as_bytes()[token.start..token.end];
                let mark = match token.kind {
                    Kind::Integer => MARK_INTEGER,
                    Kind::Number => MARK_NUMBER,
                    Kind::String => MARK_STRING,
                    Kind::UnicodeString => MARK_UNICODE,
                    Kind::Bits => MARK_BITS,
                    _ => 0,
                };
                let normalized = expected.last_mut().unwrap();
                if !normalized.is_empty() {
                    normalized.push(b' ');
                }
                if mark == 0 {
                    normalized.extend_from_slice(raw);
                } else {
                    normalized.push(mark);
                    literals.push(u32::try_from(token.start).unwrap()..u32::try_from(token.end).unwrap());
                }
            }
            let found: Vec<_> = lexed.pieces.iter().map(|it| &lexed.normalized[it.normalized.clone()]).collect();
            expected.truncate(found.len());
            assert_eq!(found, expected, "{text:?}");
            assert_eq!(lexed.literals, literals, "{text:?}");
        }
        assert!(read > 20_000, "{read}");
    }

    #[test]
    fn random_bytes_never_panic_and_ranges_lie_in_the_text() {
        let alphabet: Vec<char> = "'\"$;()[]-/*eEuUnNbBxX&\\ \n1a_.:=<>é@".chars().collect();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut lexed = Lexed::default();
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..(state >> 59) + 3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push(alphabet[usize::try_from(state >> 33).unwrap() % alphabet.len()]);
            }
            if lexed.read(&text).is_ok() {
                for piece in &lexed.pieces {
                    assert!(text.get(piece.range.clone()).is_some(), "{text:?}");
                    for literal in &lexed.literals[piece.literals.clone()] {
                        assert!(text.get(literal.start as usize..literal.end as usize).is_some(), "{text:?}");
                    }
                    let tokens = lexemes(&text, piece.range.clone(), None).unwrap();
                    assert!(tokens.iter().all(|token| text.get(token.start..token.end).is_some()));
                }
            }
        }
    }
}
