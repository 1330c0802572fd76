//! The same for MySQL and MariaDB, whose comparisons convert freely and whose assignments may clamp, cut and round.
//!
//! Only what means the same in every sql_mode is a key: an integer, or a string that spells one as the server would
//! print it; a string of bytes for a text under a binary collation. All else narrows nothing and is not written.

use crate::plan::Gets;
use crate::plan::key::Column;
use crate::plan::key::Found;
use crate::plan::key::Stored;
use crate::plan::key::Values;
use crate::plan::key::date;
use crate::plan::key::uuid;
use crate::schema;
use crate::shard_map::Key;
use crate::shard_map::KeyType;
use crate::sql::lex::mysql as lex;
use crate::sql::lex::mysql::Mode;
use crate::sql::model::Value;

/// Strings of more digits are compared with integers as doubles, for which others are equal, too.
const DIGITS_MAX: usize = 15;
/// The first integer of more digits than that.
const EXACT_MAX: i64 = 1_000_000_000_000_000;

/// Stands for each byte of a client's text that is not of its character set: what holds it is no value that is known.
/// (Written as `\Z` in a string it is itself.)
pub const MASK: char = '\x1a';

/// What a column of MySQL can hold as it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limits {
    /// An integer.
    Whole {
        least: i64,
        most: i64,
        /// AUTO_INCREMENT: 0 means the next number.
        counts: bool,
    },
    /// A text: so many characters, and whether they may be others than ASCII.
    Text {
        most: usize,
        unicode: bool,
    },
    /// Bytes; `fixed`: shorter ones are filled up.
    Bytes {
        most: usize,
        fixed: bool,
    },
    Uuid,
    Date,
}

impl Limits {
    /// By what the schema says of a key's column; `None`: not a type whose values are computed here.
    pub(crate) fn of(column: &schema::Column, key_type: KeyType) -> Option<Self> {
        let full = column.type_name.to_ascii_lowercase();
        let name = full.split(['(', ' ']).next().unwrap_or_default();
        let length = || -> Option<usize> { full.split_once('(')?.1.split_once(')')?.0.trim().parse().ok() };
        let unsigned = full.contains("unsigned") || full.contains("zerofill");
        let whole = |bits: u32| {
            let most = if unsigned && bits < 64 { (1_i64 << bits) - 1 } else { i64::MAX >> (64 - bits) };
            let least = if unsigned { 0 } else { i64::MIN >> (64 - bits) };
            Some(Self::Whole { least, most, counts: column.uses_sequence })
        };
        let text = |most: usize| column.deterministic.then_some(Self::Text { most, unicode: column.default_collation });
        match (key_type, name) {
            (KeyType::BigInt | KeyType::Int | KeyType::SmallInt, _) => match name {
                "tinyint" => whole(8),
                "smallint" => whole(16),
                "mediumint" => whole(24),
                "int" | "integer" => whole(32),
                "bigint" => whole(64),
                _ => None,
            },
            (KeyType::Text, "varchar" | "char") => text(length()?),
            (KeyType::Text, "tinytext") => text(63),
            (KeyType::Text, "text" | "mediumtext" | "longtext") => text(16_383),
            (KeyType::Bytea, "varbinary") => Some(Self::Bytes { most: length()?, fixed: false }),
            (KeyType::Bytea, "binary") => Some(Self::Bytes { most: length().unwrap_or(1), fixed: true }),
            (KeyType::Bytea, "blob" | "mediumblob" | "longblob") => Some(Self::Bytes { most: 65_535, fixed: false }),
            (KeyType::Uuid, "uuid") => Some(Self::Uuid),
            (KeyType::Date, "date") => Some(Self::Date),
            _ => None,
        }
    }

    /// Where only the map is known.
    pub(crate) fn assumed(key_type: KeyType) -> Option<Self> {
        let whole = |most: i64| Some(Self::Whole { least: -most - 1, most, counts: false });
        match key_type {
            KeyType::BigInt => whole(i64::MAX),
            KeyType::Int => whole(i64::from(i32::MAX)),
            KeyType::SmallInt => whole(i64::from(i16::MAX)),
            KeyType::Text => Some(Self::Text { most: usize::MAX, unicode: true }),
            KeyType::Bytea => Some(Self::Bytes { most: usize::MAX, fixed: false }),
            KeyType::Uuid => Some(Self::Uuid),
            KeyType::Date => Some(Self::Date),
            KeyType::TimestampTz => None,
        }
    }
}

impl Values<'_> {
    /// The integer that the value is; `None`: it is not certain to be one, `Some(None)`: NULL.
    pub(crate) fn mysql_whole(&self, value: &Value) -> Option<Option<i64>> {
        match given(self, value, self.mysql?) {
            Given::Int(value) => Some(Some(value)),
            Given::Null => Some(None),
            Given::Double(_) | Given::Text(_) | Given::Bytes(_) | Given::Unknown => None,
        }
    }
}

/// A value as it was given.
#[derive(Clone, Debug, PartialEq)]
enum Given {
    Null,
    Int(i64),
    /// A floating point number without a fraction, as some drivers send every number.
    Double(i64),
    /// A string in the client's character set.
    Text(Vec<u8>),
    /// A string of bytes.
    Bytes(Vec<u8>),
    Unknown,
}

/// What follows the sign of the least integer of 64 bits.
const LEAST: &str = "9223372036854775808";

fn given(values: &Values<'_>, value: &Value, mode: Mode) -> Given {
    match value {
        Value::Literal(number) => values.raw(*number).map_or(Given::Unknown, |raw| literal(raw, mode)),
        Value::Fixed(raw) => literal(raw, mode),
        Value::Null => Given::Null,
        Value::Negate(inner) => match given(values, inner, mode) {
            Given::Int(value) => value.checked_neg().map_or(Given::Unknown, Given::Int),
            // The least one: the number behind its sign is one too many for an integer.
            _ if raw_literal(values, inner) == Some(LEAST) => Given::Int(i64::MIN),
            _ => Given::Unknown,
        },
        Value::Parameter(number) => parameter(values, *number),
        Value::Bool(_) | Value::Cast(..) | Value::Arithmetic(..) | Value::Array(_) => Given::Unknown,
    }
}

fn raw_literal<'a>(values: &'a Values<'_>, value: &'a Value) -> Option<&'a str> {
    match value {
        Value::Literal(number) => values.raw(*number),
        Value::Fixed(raw) => Some(raw),
        _ => None,
    }
}

fn literal(raw: &str, mode: Mode) -> Given {
    // What was not text in the client's bytes stands as this; see `session::mysql`.
    if raw.contains(MASK) {
        return Given::Unknown;
    }
    if raw.starts_with(['\'', '"']) {
        return lex::string_value(raw, mode).map_or(Given::Unknown, Given::Text);
    }
    if let Some(bytes) = lex::hex_value(raw) {
        return Given::Bytes(bytes);
    }
    let digits = !raw.is_empty() && raw.bytes().all(|it| it.is_ascii_digit());
    raw.parse().ok().filter(|_| digits).map_or(Given::Unknown, Given::Int)
}

/// Parameters come with the number of the Postgres type that behaves alike: integers in text form, strings as they are.
fn parameter(values: &Values<'_>, number: u16) -> Given {
    let place = usize::from(number);
    let Some(parameters) = values.parameters else { return Given::Unknown };
    let Some(value) = parameters.values.get(place) else { return Given::Unknown };
    let Some(bytes) = value.bytes else { return Given::Null };
    match (parameters.types.get(place), value.binary) {
        (Some(20 | 21 | 23), false) => canonical(bytes).map_or(Given::Unknown, Given::Int),
        (Some(701), false) => canonical(bytes).map_or(Given::Unknown, Given::Double),
        (Some(25 | 1043), _) => Given::Text(bytes.to_vec()),
        (Some(17), _) => Given::Bytes(bytes.to_vec()),
        _ => Given::Unknown,
    }
}

/// A number as the server prints it: no blanks, no zeros in front, no plus.
fn canonical(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let value: i64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

/// The key that the value is, where comparison and assignment agree; `None`: not certain.
fn key(given: &Given, limits: Limits, utf8: bool) -> Option<Key> {
    let plain = |bytes: &[u8]| bytes.is_ascii() || (utf8 && std::str::from_utf8(bytes).is_ok());
    match (limits, given) {
        (Limits::Whole { least, most, .. }, Given::Int(value)) => {
            (*value >= least && *value <= most).then_some(Key::Int(*value))
        }
        // Compared as doubles, which tell integers of so many digits apart.
        (Limits::Whole { least, most, .. }, Given::Double(value)) => {
            let exact = value.unsigned_abs() < EXACT_MAX.unsigned_abs();
            (exact && *value >= least && *value <= most).then_some(Key::Int(*value))
        }
        (Limits::Whole { least, most, .. }, Given::Text(bytes)) => {
            let short = bytes.iter().filter(|it| it.is_ascii_digit()).count() <= DIGITS_MAX;
            canonical(bytes).filter(|it| short && *it >= least && *it <= most).map(Key::Int)
        }
        (Limits::Text { unicode, .. }, Given::Text(bytes)) => {
            // Blanks at the end may be cut off when it is stored; nothing at all may be NULL (EMPTY_STRING_IS_NULL).
            let fits =
                !bytes.is_empty() && plain(bytes) && (unicode || bytes.is_ascii()) && bytes.last() != Some(&b' ');
            fits.then(|| Key::Text(bytes.clone()))
        }
        (Limits::Bytes { most, fixed }, Given::Text(bytes) | Given::Bytes(bytes)) => {
            let read = matches!(given, Given::Bytes(_)) || plain(bytes);
            (read && !bytes.is_empty() && (!fixed || bytes.len() == most)).then(|| Key::Bytea(bytes.clone()))
        }
        (Limits::Uuid, Given::Text(bytes)) => {
            let hyphens = bytes.len() == 36 && [8, 13, 18, 23].iter().all(|it| bytes.get(*it) == Some(&b'-'));
            uuid(bytes).filter(|_| hyphens).map(Key::Uuid)
        }
        (Limits::Date, Given::Text(bytes)) => {
            let digit = |at: &usize| bytes.get(*at).is_some_and(u8::is_ascii_digit);
            let spelled = bytes.len() == 10
                && bytes.first() != Some(&b'0')
                && [0, 1, 2, 3, 5, 6, 8, 9].iter().all(digit)
                && bytes.get(4) == Some(&b'-')
                && bytes.get(7) == Some(&b'-');
            date(bytes).filter(|_| spelled).flatten().map(Key::Date)
        }
        _ => None,
    }
}

impl Values<'_> {
    /// What `column = value` finds.
    pub(super) fn mysql_compared(&self, value: &Value, column: Column, mode: Mode) -> Found {
        let given = given(self, value, mode);
        if given == Given::Null {
            return Found::Nothing;
        }
        column.limits.and_then(|it| key(&given, it, self.utf8)).map_or(Found::Unknown, Found::Key)
    }

    /// What storing the value in the column makes the key.
    pub(super) fn mysql_stored(&self, value: &Value, column: Column, mode: Mode) -> Stored {
        stored(given(self, value, mode), column, self.utf8)
    }

    /// What `column IN (…)` finds: every key, or `None` when one of them is not known.
    pub(crate) fn listed(&self, wanted: &[Value], column: Column) -> Option<Vec<Key>> {
        let mode = self.mysql?;
        let all: Vec<Given> = wanted.iter().map(|it| given(self, it, mode)).collect();
        // Beside a string or a double, integers are compared as doubles.
        let inexact = |it: &Given| matches!(it, Given::Int(value) if value.unsigned_abs() >= EXACT_MAX.unsigned_abs());
        if all.iter().any(|it| matches!(it, Given::Text(_) | Given::Double(_))) && all.iter().any(inexact) {
            return None;
        }
        let limits = column.limits?;
        all.iter().filter(|it| **it != Given::Null).map(|it| key(it, limits, self.utf8)).collect()
    }

    /// What a value means to an AUTO_INCREMENT column; `zero`: 0 is no number of its own.
    pub(crate) fn mysql_counted(&self, value: &Value, zero: bool) -> Gets {
        let Some(mode) = self.mysql else { return Gets::Unknown };
        let number = match given(self, value, mode) {
            Given::Null => return Gets::Next,
            Given::Int(value) | Given::Double(value) => Some(value),
            Given::Text(bytes) => canonical(&bytes),
            Given::Bytes(_) | Given::Unknown => None,
        };
        match number {
            Some(0) if zero => Gets::Next,
            Some(number) => Gets::Own(number),
            None => Gets::Unknown,
        }
    }

    /// Whether a value for an AUTO_INCREMENT column is surely a number of its own.
    pub(crate) fn numbers_itself(&self, value: &Value) -> bool {
        let Some(mode) = self.mysql else { return false };
        let number = match given(self, value, mode) {
            Given::Int(value) | Given::Double(value) => Some(value),
            Given::Text(bytes) => canonical(&bytes),
            Given::Null | Given::Bytes(_) | Given::Unknown => None,
        };
        number.is_some_and(|it| it != 0)
    }
}

/// What storing a value in the column makes the key.
fn stored(mut given: Given, column: Column, utf8: bool) -> Stored {
    let Some(limits) = column.limits else { return Stored::Unknown };
    if let (Given::Int(value), Limits::Text { .. }) = (&given, limits) {
        given = Given::Text(value.to_string().into_bytes());
    }
    if given == Given::Null {
        // An AUTO_INCREMENT column would take its next number.
        return if matches!(limits, Limits::Whole { counts: true, .. }) { Stored::Unknown } else { Stored::Null };
    }
    let fits = match (&given, limits) {
        (Given::Text(bytes), Limits::Text { most, .. }) => {
            std::str::from_utf8(bytes).is_ok_and(|it| it.chars().count() <= most)
        }
        (Given::Text(bytes) | Given::Bytes(bytes), Limits::Bytes { most, .. }) => bytes.len() <= most,
        _ => true,
    };
    match key(&given, limits, utf8).filter(|_| fits) {
        Some(Key::Int(0)) if matches!(limits, Limits::Whole { counts: true, .. }) => Stored::Unknown,
        Some(key) => Stored::Key(key),
        None => Stored::Unknown,
    }
}

/// The integer that a field of a file spells: blanks around it, zeros before it and a sign are passed over without a
/// warning.
pub(crate) fn loaded_number(field: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(|it: char| matches!(it, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r'));
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    text.parse().ok().filter(|_| whole)
}

/// What a field of a file makes the key, as LOAD DATA stores it; `utf8`: the file is.
pub(crate) fn loaded(field: Option<&[u8]>, column: Column, utf8: bool) -> Stored {
    let given = match (field, column.limits) {
        (None, _) => Given::Null,
        (Some(bytes), Some(Limits::Whole { .. })) => loaded_number(bytes).map_or(Given::Unknown, Given::Int),
        (Some(bytes), _) => Given::Text(bytes.to_vec()),
    };
    stored(given, column, utf8)
}
