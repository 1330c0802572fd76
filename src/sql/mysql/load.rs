//! LOAD DATA LOCAL: where its rows go, and how a file is cut into them.

use std::ops::Range;
use std::sync::Arc;

use crate::sql::cursor::Cursor;
use crate::sql::functions::mysql as functions;
use crate::sql::functions::mysql::Class;
use crate::sql::lex::Kind;
use crate::sql::lex::mysql as lex;
use crate::sql::lex::mysql::Mode;

/// LOAD DATA LOCAL, as far as it is understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The table's database, where it is named.
    pub database: Option<Arc<str>>,
    /// The table.
    pub table: Arc<str>,
    /// What the file is written in, where that is said.
    pub character_set: Option<Arc<str>>,
    /// How the file is cut.
    pub format: Format,
    /// So many lines at the beginning are none of the rows.
    pub skips: u64,
    /// What fields are given to, in order; none: the table's columns.
    pub fields: Vec<Field>,
    /// Columns that are given computed values.
    pub assigned: Vec<Arc<str>>,
    /// Where CHARACTER SET could stand, in bytes of the statement.
    pub character_set_at: usize,
    /// Where IGNORE … LINES stands.
    pub skips_at: Option<Range<usize>>,
    /// Where a list of columns could stand.
    pub fields_at: usize,
    /// Why it is not dealt out to several shards, and what to do instead.
    pub refused: Option<(&'static str, &'static str)>,
}

/// What a field is given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A column.
    Column(Arc<str>),
    /// A user variable.
    Variable(Arc<str>),
}

/// How a file is cut into lines and fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// FIELDS TERMINATED BY
    pub field_end: Vec<u8>,
    /// ENCLOSED BY
    pub quote: Option<u8>,
    /// ESCAPED BY
    pub escape: Option<u8>,
    /// LINES STARTING BY
    pub line_start: Vec<u8>,
    /// LINES TERMINATED BY
    pub line_end: Vec<u8>,
}

impl Default for Format {
    fn default() -> Self {
        Self {
            field_end: b"\t".to_vec(),
            quote: None,
            escape: Some(b'\\'),
            line_start: Vec::new(),
            line_end: b"\n".to_vec(),
        }
    }
}

const ONE_SHARD: &str = "Load the rows by INSERT, or give the file in this form to each shard's own server.";

/// Reads a statement that begins with LOAD; `None`: it asks no client for a file.
pub(crate) fn read(cursor: &mut Cursor<'_>, mode: Mode) -> Option<Load> {
    cursor.bump();
    let rows = cursor.take("data");
    if !rows && !cursor.take("xml") {
        return None;
    }
    cursor.take_any(&["low_priority", "concurrent"]);
    cursor.take("local").then_some(())?;
    let mut load = Load::default();
    match rows && body(cursor, mode, &mut load).is_some() && cursor.at_end() {
        true => Some(load),
        false => {
            load.refused = Some(("LOAD in this form, in a database of several shards,", ONE_SHARD));
            Some(load)
        }
    }
}

fn body(cursor: &mut Cursor<'_>, mode: Mode, load: &mut Load) -> Option<()> {
    cursor.take("infile").then_some(())?;
    cursor.take_kind(Kind::String)?;
    cursor.take_any(&["replace", "ignore"]);
    cursor.take_all(&["into", "table"]).then_some(())?;
    load.table = name(cursor)?;
    if cursor.take_kind(Kind::Dot).is_some() {
        load.database = Some(std::mem::replace(&mut load.table, name(cursor)?));
    }
    load.character_set_at = cursor.last()?.end;
    if cursor.take("charset") || cursor.take_all(&["character", "set"]) {
        load.character_set = Some(match cursor.take_kind(Kind::String) {
            Some(it) => String::from_utf8(lex::string_value(cursor.raw(it), mode)?).ok()?.into(),
            None => name(cursor)?,
        });
    }
    if mode.no_backslash_escapes {
        load.format.escape = None;
    }
    if cursor.take_any(&["fields", "columns"]) {
        fields(cursor, mode, load)?;
    }
    if cursor.take("lines") {
        let mut any = false;
        loop {
            if cursor.take_all(&["terminated", "by"]) {
                load.format.line_end = text(cursor, mode)?;
            } else if cursor.take_all(&["starting", "by"]) {
                load.format.line_start = text(cursor, mode)?;
            } else {
                break;
            }
            any = true;
        }
        any.then_some(())?;
    }
    let before = cursor.last()?.end;
    if cursor.take("ignore") {
        let number = cursor.take_kind(Kind::Integer)?;
        load.skips = cursor.raw(number).parse().ok()?;
        cursor.take_any(&["lines", "rows"]).then_some(())?;
        load.skips_at = Some(before..cursor.last()?.end);
    }
    load.fields_at = cursor.last()?.end;
    if cursor.take_kind(Kind::Open).is_some() && cursor.take_kind(Kind::Close).is_none() {
        loop {
            load.fields.push(match cursor.take_kind(Kind::UserVariable) {
                Some(it) => Field::Variable(super::session::user_variable(cursor.raw(it))),
                None => Field::Column(name(cursor)?),
            });
            if cursor.take_kind(Kind::Comma).is_none() {
                break;
            }
        }
        cursor.take_kind(Kind::Close)?;
    }
    if cursor.take("set") {
        assignments(cursor, load)?;
    }
    load.refused = unsafe_format(load);
    Some(())
}

fn fields(cursor: &mut Cursor<'_>, mode: Mode, load: &mut Load) -> Option<()> {
    let mut any = false;
    loop {
        if cursor.take_all(&["terminated", "by"]) {
            load.format.field_end = text(cursor, mode)?;
        } else if cursor.take_all(&["optionally", "enclosed", "by"]) || cursor.take_all(&["enclosed", "by"]) {
            load.format.quote = one(&text(cursor, mode)?)?;
        } else if cursor.take_all(&["escaped", "by"]) {
            load.format.escape = one(&text(cursor, mode)?)?;
        } else {
            return any.then_some(());
        }
        any = true;
    }
}

/// One byte or none.
fn one(text: &[u8]) -> Option<Option<u8>> {
    (text.len() <= 1).then(|| text.first().copied())
}

/// A string, or bytes in hexadecimal.
fn text(cursor: &mut Cursor<'_>, mode: Mode) -> Option<Vec<u8>> {
    let found = cursor.bump()?;
    match found.kind {
        Kind::String => lex::string_value(cursor.raw(found), mode),
        Kind::Bits => lex::hex_value(cursor.raw(found)),
        _ => None,
    }
}

fn name(cursor: &mut Cursor<'_>) -> Option<Arc<str>> {
    let found = cursor.bump()?;
    match found.kind {
        Kind::Word => Some(cursor.raw(found).into()),
        Kind::Quoted => Some(lex::unquote(cursor.raw(found)).into()),
        _ => None,
    }
}

/// Words of expressions that are neither names nor calls.
const WORDS: [&str; 31] = [
    "and", "as", "between", "binary", "case", "char", "collate", "date", "datetime", "day", "decimal", "div", "else",
    "end", "false", "hour", "in", "interval", "is", "like", "minute", "mod", "month", "not", "null", "or", "second",
    "signed", "then", "true", "when",
];

/// `column = expression, …`. What could come out differently on another shard is not taken.
fn assignments(cursor: &mut Cursor<'_>, load: &mut Load) -> Option<()> {
    loop {
        load.assigned.push(name(cursor)?);
        cursor.take_operator("=").then_some(())?;
        let mut depth = 0_usize;
        let mut any = false;
        while let Some(it) = cursor.peek() {
            let next = cursor.peek_at(1);
            match it.kind {
                Kind::Comma if depth == 0 => break,
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.checked_sub(1)?,
                Kind::Word => {
                    let word = cursor.raw(it).to_ascii_lowercase();
                    let called = next.is_some_and(|it| it.kind == Kind::Open);
                    let known = match functions::class(&word) {
                        Some(Class::Pure | Class::Now) if called => true,
                        _ => !called || WORDS.contains(&word.as_str()),
                    };
                    let is_column = || load.fields.contains(&Field::Column(cursor.raw(it).into()));
                    let is_word = WORDS.contains(&word.as_str())
                        || (functions::is_called_bare(&word) && functions::class(&word) == Some(Class::Now));
                    (known && (called || is_word || is_column())).then_some(())?;
                }
                Kind::Comma
                | Kind::String
                | Kind::Integer
                | Kind::Number
                | Kind::Bits
                | Kind::Operator
                | Kind::UserVariable => {}
                _ => return None,
            }
            any = true;
            cursor.bump();
        }
        any.then_some(())?;
        if cursor.take_kind(Kind::Comma).is_none() {
            return Some(());
        }
    }
}

/// What a file is not cut by.
fn unsafe_format(load: &Load) -> Option<(&'static str, &'static str)> {
    let Format { field_end, quote, escape, line_start, line_end } = &load.format;
    let texts = [field_end, line_start, line_end].into_iter().flatten().chain(quote).chain(escape);
    if texts.into_iter().any(|it| !it.is_ascii()) {
        return Some((
            "LOAD DATA of several shards by separators that are not ASCII",
            "Separate fields and lines by others.",
        ));
    }
    if field_end.is_empty() && quote.is_none() {
        return Some((
            "LOAD DATA of several shards with fields of fixed lengths (FIELDS TERMINATED BY '' ENCLOSED BY '')",
            "Separate fields by something.",
        ));
    }
    if line_end.is_empty() && load.skips > 0 {
        return Some((
            "LOAD DATA of several shards with IGNORE … LINES where nothing ends lines",
            "Leave the first rows out of the file.",
        ));
    }
    None
}

impl Load {
    /// Byte ranges are told relative to the statement.
    pub(crate) fn relative(mut self, base: usize) -> Self {
        self.character_set_at = self.character_set_at.saturating_sub(base);
        self.fields_at = self.fields_at.saturating_sub(base);
        self.skips_at = self.skips_at.map(|it| it.start.saturating_sub(base)..it.end.saturating_sub(base));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Option<Load> {
        let mode = Mode::default();
        let lexemes = lex::lexemes(text, 0..text.len(), None, mode).unwrap();
        read(&mut Cursor::new(text, &lexemes), mode)
    }

    #[test]
    fn options_are_read() {
        let text = "LOAD DATA LOCAL INFILE 'x' IGNORE INTO TABLE d.`t` CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' \
                    OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' LINES STARTING BY '>' TERMINATED BY '\\r\\n' IGNORE 2 LINES \
                    (id, @x, `n`) SET v = CONCAT(@x, n), w = NULLIF(@x, '')";
        let load = load(text).unwrap();
        assert_eq!((load.database.as_deref(), &*load.table), (Some("d"), "t"));
        assert_eq!(load.character_set.as_deref(), Some("utf8mb4"));
        let format = Format {
            field_end: b",".to_vec(),
            quote: Some(b'"'),
            escape: None,
            line_start: b">".to_vec(),
            line_end: b"\r\n".to_vec(),
        };
        assert_eq!((load.format, load.skips), (format, 2));
        assert_eq!(load.skips_at.map(|it| &text[it]), Some(" IGNORE 2 LINES"));
        assert_eq!(load.fields[1], Field::Variable("x".into()));
        assert_eq!(load.assigned, ["v".into(), "w".into()]);
        assert_eq!(load.refused, None);
        assert!(text[load.fields_at..].starts_with(" (id") && text[load.character_set_at..].starts_with(" CHARACTER"));
    }

    #[test]
    fn what_is_not_the_client_s_file_is_none_of_it() {
        assert_eq!(load("LOAD DATA INFILE 'x' INTO TABLE t"), None);
        assert!(load("LOAD XML LOCAL INFILE 'x' INTO TABLE t").unwrap().refused.is_some());
    }

    #[test]
    fn what_is_not_dealt_out_is_refused() {
        for tail in [
            "FIELDS TERMINATED BY ''",
            "FIELDS TERMINATED BY 'ü'",
            "LINES TERMINATED BY '' IGNORE 1 LINES",
            "(id) SET n = (SELECT 1)",
            "(id) SET n = RAND()",
            "(id) SET n = @a := 1",
            "(id) SET n = other",
            "(id) SET n = LAST_INSERT_ID()",
            "PARTITION (p)",
        ] {
            assert!(
                load(&format!("LOAD DATA LOCAL INFILE 'x' INTO TABLE t {tail}")).unwrap().refused.is_some(),
                "{tail}"
            );
        }
        assert_eq!(load("LOAD DATA LOCAL INFILE 'x' INTO TABLE t (id) SET n = id + 1").unwrap().refused, None);
    }
}
