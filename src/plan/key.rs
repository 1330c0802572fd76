//! Values → shard keys, computed as the server computes them, or not at all.
//!
//! Reads convert as the comparison does, writes as the assignment does. What is not certain is [`Scalar::Unknown`]: it
//! narrows nothing and is not written.

mod mysql;

pub use mysql::MASK;

use std::ops::Range;

use crate::plan::Parameters;
use crate::plan::World;
use crate::plan::lookup::Known;
use crate::shard_map::Key;
use crate::shard_map::KeyType;
use crate::sql::ARRAY_OF;
use crate::sql::lex;
use crate::sql::lex::mysql::Mode;
use crate::sql::model::Arithmetic;
use crate::sql::model::ParameterUse;
use crate::sql::model::Type;
use crate::sql::model::Value;

pub(crate) use self::mysql::Limits;
pub(crate) use self::mysql::loaded;
pub(crate) use self::mysql::loaded_number;

/// A value at execution.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    /// NULL
    Null,
    /// Not computed here.
    Unknown,
    /// The server refuses it wherever it runs.
    Invalid,
    /// smallint, integer, bigint
    Int(i64, Type),
    /// numeric, as written: sign, digits before the point, digits behind.
    Numeric(Decimal),
    /// A string literal without a type; true: its type is not quite certain.
    Untyped(Vec<u8>, bool),
    /// text, varchar
    Text(Vec<u8>),
    /// uuid
    Uuid([u8; 16]),
    /// date
    Date(i32),
    /// timestamptz
    TimestampTz(i64),
    /// bytea
    Bytea(Vec<u8>),
}

/// A number in decimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    whole: i128,
    /// What follows the point: 0 none, 1 less than half, 2 half, 3 more.
    rest: u8,
}

/// The column that places rows, as far as conversion goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) key_type: KeyType,
    /// 0: not known, take the key's own type.
    pub(crate) oid: u32,
    pub(crate) modifier: i32,
    /// MySQL: what it holds as it is given.
    pub(crate) limits: Option<Limits>,
}

/// What a comparison with the key finds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    Key(Key),
    /// No row can satisfy it.
    Nothing,
    /// It may be any.
    Unknown,
}

/// What an assignment to the key stores.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stored {
    Key(Key),
    Null,
    /// The server's own error comes, wherever it runs.
    Invalid,
    /// Not computed here.
    Unknown,
}

/// One execution's values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    pub(crate) text: &'a str,
    pub(crate) literals: &'a [Range<u32>],
    /// Literals from this number on stand `shift` later (rows that were folded).
    pub(crate) from: u32,
    pub(crate) shift: u32,
    pub(crate) parameters: Option<&'a Parameters<'a>>,
    pub(crate) uses: &'a [ParameterUse],
    /// TimeZone is UTC.
    pub(crate) utc: bool,
    /// Bytes of strings are those that the database stores (UTF-8), or ASCII alone counts.
    pub(crate) utf8: bool,
    pub(crate) server_version: u32,
    /// What directories have said; `None`: nobody asks them.
    pub(crate) known: Option<&'a Known>,
    /// It is MySQL, and how it reads literals.
    pub(crate) mysql: Option<Mode>,
}

impl<'a> Values<'a> {
    /// Those of no text: for values that stand in rows.
    pub(crate) fn of_none(world: &World, known: Option<&'a Known>) -> Self {
        Self {
            text: "",
            literals: &[],
            from: u32::MAX,
            shift: 0,
            parameters: None,
            uses: &[],
            utc: world.utc,
            utf8: world.utf8,
            server_version: world.schema.server_version,
            known,
            mysql: world.mysql,
        }
    }

    /// A literal as the text has it.
    pub(crate) fn raw(&self, number: u32) -> Option<&'a str> {
        let number = if number >= self.from { number + self.shift } else { number };
        let range = self.literals.get(usize::try_from(number).ok()?)?;
        self.text.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
    }

    /// The text form of a parameter that is of that type for certain; `None`: it is not, or NULL, or in a binary form that
    /// is not read here.
    pub(crate) fn parameter_text(&self, number: u16, oid: u32) -> Option<String> {
        let number = usize::from(number);
        let parameters = self.parameters?;
        let declared = parameters.types.get(number).copied().filter(|it| *it != 0);
        let known = declared.or_else(|| self.uses.get(number)?.inferred())?;
        let value = parameters.values.get(number).filter(|_| known == oid)?;
        let bytes = value.bytes?;
        if !value.binary {
            return std::str::from_utf8(bytes).ok().map(str::to_owned);
        }
        Some(match oid {
            20 => i64::from_be_bytes(bytes.try_into().ok()?).to_string(),
            23 => i32::from_be_bytes(bytes.try_into().ok()?).to_string(),
            21 => i16::from_be_bytes(bytes.try_into().ok()?).to_string(),
            25 | 1043 => std::str::from_utf8(bytes).ok()?.to_owned(),
            _ => return None,
        })
    }

    /// The value, read for comparison with or assignment to a column of that type.
    pub(crate) fn scalar(&self, value: &Value) -> Scalar {
        match value {
            Value::Literal(number) => self.raw(*number).map_or(Scalar::Unknown, literal),
            Value::Fixed(raw) => literal(raw),
            Value::Null => Scalar::Null,
            Value::Bool(_) | Value::Array(_) => Scalar::Unknown,
            Value::Parameter(number) => self.parameter(*number, None),
            Value::Cast(inner, wanted) => {
                let inner = match &**inner {
                    Value::Parameter(number) => self.parameter(*number, Some(wanted.oid())),
                    other => self.scalar(other),
                };
                self.cast(inner, *wanted)
            }
            Value::Negate(inner) => match self.scalar(inner) {
                Scalar::Int(value, width) => match value.checked_neg().filter(|it| fits(*it, width)) {
                    Some(value) if !matches!(**inner, Value::Parameter(_)) || self.declared(inner) => {
                        Scalar::Int(value, width)
                    }
                    _ => Scalar::Unknown,
                },
                Scalar::Numeric(value) => Scalar::Numeric(Decimal { negative: !value.negative, ..value }),
                Scalar::Null => Scalar::Null,
                _ => Scalar::Unknown,
            },
            Value::Arithmetic(op, left, right) => {
                // A bare parameter takes its type from its neighbour, which only the server knows for certain.
                for side in [left, right] {
                    if matches!(**side, Value::Parameter(_)) && !self.declared(side) {
                        return Scalar::Unknown;
                    }
                }
                match (self.scalar(left), self.scalar(right)) {
                    (Scalar::Int(a, x), Scalar::Int(b, y)) => {
                        let width = wider(x, y);
                        let result = match op {
                            Arithmetic::Add => a.checked_add(b),
                            Arithmetic::Subtract => a.checked_sub(b),
                            Arithmetic::Multiply => a.checked_mul(b),
                        };
                        match result.filter(|it| fits(*it, width)) {
                            Some(it) => Scalar::Int(it, width),
                            None => Scalar::Unknown,
                        }
                    }
                    _ => Scalar::Unknown,
                }
            }
        }
    }

    fn declared(&self, value: &Value) -> bool {
        let Value::Parameter(number) = value else { return true };
        self.declared_type(*number).is_some()
    }

    fn declared_type(&self, number: u16) -> Option<u32> {
        let types = self.parameters?.types;
        types.get(usize::from(number)).copied().filter(|it| *it != 0 && *it != 705)
    }

    /// The type of `$n`: declared, or as the server infers it.
    fn parameter_type(&self, number: u16) -> Option<u32> {
        self.declared_type(number).or_else(|| self.uses.get(usize::from(number)).and_then(ParameterUse::inferred))
    }

    fn parameter(&self, number: u16, under_cast: Option<u32>) -> Scalar {
        let Some(parameters) = self.parameters else { return Scalar::Unknown };
        let Some(value) = parameters.values.get(usize::from(number)) else { return Scalar::Unknown };
        let Some(bytes) = value.bytes else { return Scalar::Null };
        let known = self.parameter_type(number);
        let known = match (known, under_cast) {
            // `$1::int` makes it an int, unless it was declared otherwise.
            (None, Some(oid)) if self.uses.get(usize::from(number)).is_some_and(|it| it.mentions == 1) => Some(oid),
            _ => known,
        };
        if value.binary { binary(bytes, known) } else { self.textual(bytes, known) }
    }

    fn textual(&self, bytes: &[u8], oid: Option<u32>) -> Scalar {
        let Some(oid) = oid.filter(|it| *it != 0) else { return Scalar::Untyped(bytes.to_vec(), true) };
        match Type::of(oid) {
            Some(wanted) => self.input(bytes, wanted, false),
            None => Scalar::Unknown,
        }
    }

    /// What a type's input function makes of a string.
    fn input(&self, bytes: &[u8], wanted: Type, lenient: bool) -> Scalar {
        let failed = |certain: bool| if certain && !lenient { Scalar::Invalid } else { Scalar::Unknown };
        match wanted {
            Type::Int2 | Type::Int4 | Type::Int8 => match integer(bytes, self.server_version) {
                Integer::Value(value) => match i64::try_from(value).ok().filter(|it| fits(*it, wanted)) {
                    Some(value) => Scalar::Int(value, wanted),
                    None => failed(true),
                },
                Integer::Invalid => failed(true),
                Integer::Unknown => Scalar::Unknown,
            },
            Type::Numeric => match std::str::from_utf8(bytes).ok().and_then(|it| decimal(it.trim_matches(is_blank))) {
                Some(it) => Scalar::Numeric(it),
                None => Scalar::Unknown,
            },
            Type::Text | Type::Varchar => Scalar::Text(bytes.to_vec()),
            Type::Uuid => uuid(bytes).map_or_else(|| failed(true), Scalar::Uuid),
            Type::Date => match date(bytes) {
                Some(Some(days)) => Scalar::Date(days),
                Some(None) => failed(true),
                None => Scalar::Unknown,
            },
            Type::TimestampTz => match timestamp(bytes, self.utc) {
                Some(Some(micros)) => Scalar::TimestampTz(micros),
                Some(None) => failed(true),
                None => Scalar::Unknown,
            },
            Type::Bytea => match bytea(bytes) {
                Some(it) => Scalar::Bytea(it),
                None => Scalar::Unknown,
            },
        }
    }

    fn cast(&self, value: Scalar, wanted: Type) -> Scalar {
        match (value, wanted) {
            (Scalar::Null, _) => Scalar::Null,
            (Scalar::Invalid, _) => Scalar::Invalid,
            (Scalar::Untyped(bytes, lenient), _) => self.input(&bytes, wanted, lenient),
            (Scalar::Text(bytes), Type::Text | Type::Varchar) => Scalar::Text(bytes),
            (Scalar::Text(bytes), Type::Int2 | Type::Int4 | Type::Int8 | Type::Uuid) => {
                self.input(&bytes, wanted, true)
            }
            (Scalar::Int(value, _), Type::Int2 | Type::Int4 | Type::Int8) => {
                if fits(value, wanted) {
                    Scalar::Int(value, wanted)
                } else {
                    Scalar::Unknown
                }
            }
            (Scalar::Int(value, _), Type::Numeric) => {
                Scalar::Numeric(Decimal { negative: value < 0, whole: i128::from(value.unsigned_abs()), rest: 0 })
            }
            (Scalar::Int(value, _), Type::Text | Type::Varchar) => Scalar::Text(value.to_string().into_bytes()),
            (Scalar::Numeric(value), Type::Int2 | Type::Int4 | Type::Int8) => {
                match i64::try_from(value.rounded()).ok().filter(|it| fits(*it, wanted)) {
                    Some(value) => Scalar::Int(value, wanted),
                    None => Scalar::Unknown,
                }
            }
            (Scalar::Numeric(value), Type::Numeric) => Scalar::Numeric(value),
            (it @ Scalar::Uuid(_), Type::Uuid)
            | (it @ Scalar::Date(_), Type::Date)
            | (it @ Scalar::TimestampTz(_), Type::TimestampTz)
            | (it @ Scalar::Bytea(_), Type::Bytea) => it,
            _ => Scalar::Unknown,
        }
    }

    /// What `column = value` finds.
    pub(crate) fn compared(&self, value: &Value, column: Column) -> Found {
        if let Some(mode) = self.mysql {
            return self.mysql_compared(value, column, mode);
        }
        self.found(self.scalar(value), column)
    }

    fn found(&self, scalar: Scalar, column: Column) -> Found {
        let Some(own) = column.own_type() else { return Found::Unknown };
        match (scalar, own) {
            (Scalar::Null | Scalar::Invalid, _) => Found::Nothing,
            (Scalar::Int(value, _), Type::Int2 | Type::Int4 | Type::Int8) => {
                if fits(value, own) {
                    Found::Key(Key::Int(value))
                } else {
                    Found::Nothing
                }
            }
            (Scalar::Numeric(value), Type::Int2 | Type::Int4 | Type::Int8) => match value.integral() {
                Some(value) => match i64::try_from(value).ok().filter(|it| fits(*it, own)) {
                    Some(value) => Found::Key(Key::Int(value)),
                    None => Found::Nothing,
                },
                None => Found::Nothing,
            },
            (Scalar::Untyped(_, true), Type::Text | Type::Varchar) => Found::Unknown,
            (Scalar::Untyped(bytes, lenient), _) => match self.input(&bytes, own, lenient) {
                Scalar::Untyped(..) => Found::Unknown,
                typed => self.found(typed, column),
            },
            (Scalar::Text(bytes), Type::Text | Type::Varchar) => {
                if self.utf8 || bytes.is_ascii() {
                    Found::Key(Key::Text(bytes))
                } else {
                    Found::Unknown
                }
            }
            (Scalar::Uuid(it), Type::Uuid) => Found::Key(Key::Uuid(it)),
            (Scalar::Date(it), Type::Date) => Found::Key(Key::Date(it)),
            (Scalar::TimestampTz(it), Type::TimestampTz) => Found::Key(Key::TimestampTz(it)),
            (Scalar::Bytea(it), Type::Bytea) => Found::Key(Key::Bytea(it)),
            _ => Found::Unknown,
        }
    }

    /// What `column = ANY (value)` finds: every key, or `None` when one of them is not known.
    pub(crate) fn any_of(&self, value: &Value, column: Column) -> Option<Vec<Key>> {
        let own = column.own_type()?;
        let mut keys = Vec::new();
        let mut add = |found: Found| match found {
            Found::Key(key) => {
                keys.push(key);
                true
            }
            Found::Nothing => true,
            Found::Unknown => false,
        };
        let (inner, element) = match value {
            Value::Array(items) => {
                for item in items {
                    if !add(self.compared(item, column)) {
                        return None;
                    }
                }
                return Some(keys);
            }
            Value::Cast(inner, element) => (&**inner, Some(*element)),
            other => (other, None),
        };
        let items: Vec<Option<Scalar>> = match inner {
            Value::Null => return Some(keys),
            Value::Literal(_) | Value::Fixed(_) => match self.scalar(inner) {
                Scalar::Untyped(bytes, _) => {
                    let element = element.unwrap_or(own);
                    elements(&bytes)?.into_iter().map(|it| it.map(|it| self.input(&it, element, false))).collect()
                }
                _ => return None,
            },
            Value::Parameter(number) => {
                let parameters = self.parameters?;
                let given = parameters.values.get(usize::from(*number))?;
                let Some(bytes) = given.bytes else { return Some(keys) };
                let declared = self.declared_type(*number).map(element_of);
                let inferred = self.uses.get(usize::from(*number)).and_then(ParameterUse::inferred);
                let inferred = inferred.filter(|it| it & ARRAY_OF != 0).map(|it| it & !ARRAY_OF);
                let oid = match (declared, inferred) {
                    (Some(declared), _) => declared,
                    (None, inferred) => inferred.or_else(|| element.map(Type::oid)),
                };
                if given.binary {
                    binary_array(bytes)?
                } else {
                    let lenient = oid.is_none();
                    let element = match oid.filter(|it| *it != 0) {
                        Some(oid) => Type::of(oid)?,
                        None if matches!(own, Type::Text | Type::Varchar) => return None,
                        None => own,
                    };
                    elements(bytes)?.into_iter().map(|it| it.map(|it| self.input(&it, element, lenient))).collect()
                }
            }
            _ => return None,
        };
        for item in items.into_iter().flatten() {
            let item = match element {
                Some(element) => self.cast(item, element),
                None => item,
            };
            if !add(self.found(item, column)) {
                return None;
            }
        }
        Some(keys)
    }

    /// What a field of COPY makes the key.
    pub(crate) fn copied(&self, bytes: &[u8], is_binary: bool, column: Column) -> Stored {
        if !is_binary {
            return self.assigned(Scalar::Untyped(bytes.to_vec(), false), column);
        }
        let Some(own) = column.own_type() else { return Stored::Unknown };
        match binary(bytes, Some(own.oid())) {
            // Another length than the type's: the server refuses it.
            Scalar::Unknown if own != Type::Numeric => Stored::Invalid,
            scalar => self.assigned(scalar, column),
        }
    }

    /// What storing the value in the column makes the key.
    pub(crate) fn stored(&self, value: &Value, column: Column) -> Stored {
        if let Some(mode) = self.mysql {
            return self.mysql_stored(value, column, mode);
        }
        self.assigned(self.scalar(value), column)
    }

    fn assigned(&self, scalar: Scalar, column: Column) -> Stored {
        let Some(own) = column.own_type() else { return Stored::Unknown };
        match (scalar, own) {
            (Scalar::Null, _) => Stored::Null,
            (Scalar::Invalid, _) => Stored::Invalid,
            (Scalar::Int(value, _), Type::Int2 | Type::Int4 | Type::Int8) => {
                if fits(value, own) {
                    Stored::Key(Key::Int(value))
                } else {
                    Stored::Invalid
                }
            }
            (Scalar::Numeric(value), Type::Int2 | Type::Int4 | Type::Int8) => {
                match i64::try_from(value.rounded()).ok().filter(|it| fits(*it, own)) {
                    Some(value) => Stored::Key(Key::Int(value)),
                    None => Stored::Invalid,
                }
            }
            (Scalar::Untyped(bytes, lenient), _) => {
                if lenient && matches!(own, Type::Text | Type::Varchar) {
                    return Stored::Unknown;
                }
                match self.input(&bytes, own, lenient) {
                    Scalar::Untyped(..) => Stored::Unknown,
                    typed => self.assigned(typed, column),
                }
            }
            (Scalar::Text(bytes), Type::Text | Type::Varchar) => {
                if !self.utf8 && !bytes.is_ascii() {
                    return Stored::Unknown;
                }
                limited(bytes, column.modifier)
            }
            (Scalar::Int(value, _), Type::Text | Type::Varchar) => {
                limited(value.to_string().into_bytes(), column.modifier)
            }
            (Scalar::Uuid(it), Type::Uuid) => Stored::Key(Key::Uuid(it)),
            (Scalar::Date(it), Type::Date) => Stored::Key(Key::Date(it)),
            (Scalar::TimestampTz(it), Type::TimestampTz) => match rounded_time(it, column.modifier) {
                Some(it) => Stored::Key(Key::TimestampTz(it)),
                None => Stored::Unknown,
            },
            (Scalar::Bytea(it), Type::Bytea) => Stored::Key(Key::Bytea(it)),
            _ => Stored::Unknown,
        }
    }
}

impl Column {
    /// The column's own type; `None`: not one that the key's type stands for.
    pub(crate) fn own_type(self) -> Option<Type> {
        let own = match self.key_type {
            KeyType::BigInt => Type::Int8,
            KeyType::Int => Type::Int4,
            KeyType::SmallInt => Type::Int2,
            KeyType::Text => Type::Text,
            KeyType::Uuid => Type::Uuid,
            KeyType::Date => Type::Date,
            KeyType::TimestampTz => Type::TimestampTz,
            KeyType::Bytea => Type::Bytea,
        };
        if self.oid == 0 {
            return Some(own);
        }
        let actual = Type::of(self.oid)?;
        match (own, actual) {
            // The hash of an integer does not depend on its width.
            (Type::Int2 | Type::Int4 | Type::Int8, Type::Int2 | Type::Int4 | Type::Int8)
            | (Type::Text, Type::Text | Type::Varchar) => Some(actual),
            (own, actual) if own == actual => Some(own),
            _ => None,
        }
    }
}

fn fits(value: i64, width: Type) -> bool {
    match width {
        Type::Int2 => i16::try_from(value).is_ok(),
        Type::Int4 => i32::try_from(value).is_ok(),
        _ => true,
    }
}

fn wider(a: Type, b: Type) -> Type {
    match (a, b) {
        (Type::Int8, _) | (_, Type::Int8) => Type::Int8,
        (Type::Int4, _) | (_, Type::Int4) => Type::Int4,
        _ => Type::Int2,
    }
}

impl Decimal {
    fn integral(&self) -> Option<i128> {
        (self.rest == 0).then_some(if self.negative { -self.whole } else { self.whole })
    }

    /// Half away from zero, as numeric → integer rounds.
    fn rounded(&self) -> i128 {
        let whole = self.whole + i128::from(self.rest >= 2);
        if self.negative { -whole } else { whole }
    }
}

/// A literal as written.
fn literal(raw: &str) -> Scalar {
    if !raw.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return match lex::string_value(raw) {
            Some(bytes) => Scalar::Untyped(bytes, false),
            None => Scalar::Unknown,
        };
    }
    if raw.bytes().all(|byte| byte.is_ascii_digit()) {
        return match raw.parse::<i64>() {
            Ok(value) if fits(value, Type::Int4) => Scalar::Int(value, Type::Int4),
            Ok(value) => Scalar::Int(value, Type::Int8),
            Err(_) => decimal(raw).map_or(Scalar::Unknown, Scalar::Numeric),
        };
    }
    decimal(raw).map_or(Scalar::Unknown, Scalar::Numeric)
}

/// Digits with a point, without exponent; `None`: something else, or too long.
fn decimal(text: &str) -> Option<Decimal> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, behind) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + behind.len() == 0 || whole.len() > 30 {
        return None;
    }
    if !whole.bytes().chain(behind.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let behind = behind.trim_end_matches('0');
    let rest = match behind.as_bytes() {
        [] => 0,
        [b'0'..=b'4', ..] => 1,
        [b'5'] => 2,
        _ => 3,
    };
    Some(Decimal { negative, whole, rest })
}

enum Integer {
    Value(i128),
    Invalid,
    Unknown,
}

fn is_blank(ch: char) -> bool {
    matches!(ch, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

/// What int8in and its kin read: blanks, a sign, digits, blanks.
fn integer(bytes: &[u8], server_version: u32) -> Integer {
    let Ok(text) = std::str::from_utf8(bytes) else { return Integer::Invalid };
    let text = text.trim_matches(is_blank);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.strip_prefix('+').unwrap_or(text).parse() {
            Ok(value) => Integer::Value(value),
            Err(_) => Integer::Invalid,
        };
    }
    // From 16 on 0x1F, 0o7, 0b1 and 1_000 are read too.
    let modern = digits.starts_with('0') && digits.len() > 1 || digits.contains('_');
    if modern && (server_version == 0 || server_version >= 160_000) { Integer::Unknown } else { Integer::Invalid }
}

/// 32 hexadecimal digits, a hyphen allowed behind every four, braces around.
fn uuid(bytes: &[u8]) -> Option<[u8; 16]> {
    let bytes = match bytes {
        [b'{', inner @ .., b'}'] => inner,
        other => other,
    };
    let mut value = [0_u8; 16];
    let mut place = 0_usize;
    for slot in &mut value {
        let high = hex(*bytes.get(place)?)?;
        let low = hex(*bytes.get(place + 1)?)?;
        *slot = high << 4 | low;
        place += 2;
        if bytes.get(place) == Some(&b'-') {
            let read = bytes.get(..place)?.iter().filter(|byte| **byte != b'-').count();
            if read % 4 != 0 || read == 32 {
                return None;
            }
            place += 1;
        }
    }
    (place == bytes.len()).then_some(value)
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The hex form, or bytes without a backslash.
fn bytea(bytes: &[u8]) -> Option<Vec<u8>> {
    if let Some(digits) = bytes.strip_prefix(b"\\x") {
        if digits.len() % 2 != 0 {
            return None;
        }
        return digits
            .chunks_exact(2)
            .map(|pair| match pair {
                [high, low] => Some(hex(*high)? << 4 | hex(*low)?),
                _ => None,
            })
            .collect();
    }
    (!bytes.contains(&b'\\')).then(|| bytes.to_vec())
}

/// `YYYY-MM-DD`, whatever DateStyle says. Outer `None`: another form; inner: no such day.
fn date(bytes: &[u8]) -> Option<Option<i32>> {
    let text = std::str::from_utf8(bytes).ok()?.trim_matches(is_blank);
    match text {
        "infinity" => return Some(Some(i32::MAX)),
        "-infinity" => return Some(Some(i32::MIN)),
        _ => {}
    }
    if text.len() != 10 {
        return None;
    }
    day(text).map(|it| it.and_then(|days| i32::try_from(days).ok()))
}

/// Days since 2000-01-01 of `YYYY-MM-DD`.
fn day(text: &str) -> Option<Option<i64>> {
    let number = |range: Range<usize>| -> Option<i64> {
        let part = text.get(range)?;
        if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok() } else { None }
    };
    if text.as_bytes().get(4) != Some(&b'-') || text.as_bytes().get(7) != Some(&b'-') {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return Some(None),
    };
    if day < 1 || day > length || year < 1 {
        return Some(None);
    }
    // Days from 0000-03-01 by the usual count of eras.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1;
    Some(Some(days - 730_425))
}

/// `YYYY-MM-DD[ T]HH:MM[:SS[.ffffff]](Z|±HH[:MM])`; without an offset only under UTC.
fn timestamp(bytes: &[u8], utc: bool) -> Option<Option<i64>> {
    let text = std::str::from_utf8(bytes).ok()?.trim_matches(is_blank);
    match text {
        "infinity" => return Some(Some(i64::MAX)),
        "-infinity" => return Some(Some(i64::MIN)),
        _ => {}
    }
    let days = day(text.get(..10)?)?;
    let rest = text.get(10..)?;
    let (micros, zone) = if rest.is_empty() {
        (0, "")
    } else {
        let rest = rest.strip_prefix([' ', 'T'])?;
        clock(rest)?
    };
    let offset = match zone.trim_start_matches(' ') {
        "" if utc => 0,
        "Z" | "z" | "UTC" | "GMT" => 0,
        zone => offset(zone)?,
    };
    let Some(days) = days else { return Some(None) };
    Some(Some(days * 86_400_000_000 + micros - offset * 1_000_000))
}

/// `HH:MM[:SS[.f…]]` in microseconds, and what follows.
fn clock(text: &str) -> Option<(i64, &str)> {
    let two = |at: usize| -> Option<i64> {
        let part = text.get(at..at + 2)?;
        if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok() } else { None }
    };
    let (hours, minutes) = (two(0)?, two(3)?);
    if text.as_bytes().get(2) != Some(&b':') || hours > 23 || minutes > 59 {
        return None;
    }
    let mut seconds = 0;
    let mut fraction = 0;
    let mut place = 5;
    if text.as_bytes().get(5) == Some(&b':') {
        seconds = two(6)?;
        if seconds > 59 {
            return None;
        }
        place = 8;
        if text.as_bytes().get(8) == Some(&b'.') {
            let digits = text.get(9..)?;
            let length = digits.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
            if length == 0 || length > 6 {
                return None;
            }
            let scale = 10_i64.pow(u32::try_from(6 - length).ok()?);
            fraction = digits.get(..length)?.parse::<i64>().ok()? * scale;
            place = 9 + length;
        }
    }
    let micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction;
    Some((micros, text.get(place..)?))
}

/// `±HH`, `±HH:MM`, `±HHMM` in seconds.
fn offset(zone: &str) -> Option<i64> {
    let (sign, digits) = match zone.as_bytes().first()? {
        b'+' => (1, zone.get(1..)?),
        b'-' => (-1, zone.get(1..)?),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        2 => (digits, "00"),
        4 => (digits.get(..2)?, digits.get(2..)?),
        5 if digits.as_bytes().get(2) == Some(&b':') => (digits.get(..2)?, digits.get(3..)?),
        _ => return None,
    };
    if !hours.bytes().chain(minutes.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 15 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// `timestamptz(p)` rounds to the nearest, half away from zero.
fn rounded_time(micros: i64, modifier: i32) -> Option<i64> {
    if !(0..6).contains(&modifier) || micros == i64::MAX || micros == i64::MIN {
        return Some(micros);
    }
    let scale = 10_i64.pow(u32::try_from(6 - modifier).ok()?);
    let half = scale / 2;
    if micros >= 0 {
        Some(micros.checked_add(half)? / scale * scale)
    } else {
        Some(-((-micros).checked_add(half)? / scale * scale))
    }
}

/// `varchar(n)`: blanks beyond are cut off, anything else is the server's error.
fn limited(bytes: Vec<u8>, modifier: i32) -> Stored {
    let Ok(length) = usize::try_from(modifier - 4) else { return Stored::Key(Key::Text(bytes)) };
    let Ok(text) = std::str::from_utf8(&bytes) else { return Stored::Invalid };
    match text.char_indices().nth(length) {
        None => Stored::Key(Key::Text(bytes)),
        Some((end, _)) => {
            let (kept, over) = text.split_at(end);
            if over.bytes().all(|byte| byte == b' ') {
                Stored::Key(Key::Text(kept.as_bytes().to_vec()))
            } else {
                Stored::Invalid
            }
        }
    }
}

/// A value in binary format.
fn binary(bytes: &[u8], oid: Option<u32>) -> Scalar {
    let Some(oid) = oid else { return Scalar::Unknown };
    let number = || -> Option<i64> {
        Some(match bytes.len() {
            2 => i64::from(i16::from_be_bytes(bytes.try_into().ok()?)),
            4 => i64::from(i32::from_be_bytes(bytes.try_into().ok()?)),
            8 => i64::from_be_bytes(bytes.try_into().ok()?),
            _ => return None,
        })
    };
    match Type::of(oid) {
        Some(width @ (Type::Int2 | Type::Int4 | Type::Int8)) => match number() {
            Some(value) if fits(value, width) => Scalar::Int(value, width),
            _ => Scalar::Unknown,
        },
        Some(Type::Text | Type::Varchar) => Scalar::Text(bytes.to_vec()),
        Some(Type::Uuid) => bytes.try_into().map_or(Scalar::Unknown, Scalar::Uuid),
        Some(Type::Date) => bytes.try_into().map_or(Scalar::Unknown, |it| Scalar::Date(i32::from_be_bytes(it))),
        Some(Type::TimestampTz) => {
            bytes.try_into().map_or(Scalar::Unknown, |it| Scalar::TimestampTz(i64::from_be_bytes(it)))
        }
        Some(Type::Bytea) => Scalar::Bytea(bytes.to_vec()),
        Some(Type::Numeric) | None => Scalar::Unknown,
    }
}

/// The element type of the array types that keys may come in.
fn element_of(array: u32) -> Option<u32> {
    Some(match array {
        1005 => 21,
        1007 => 23,
        1016 => 20,
        1231 => 1700,
        1009 => 25,
        1015 => 1043,
        2951 => 2950,
        1182 => 1082,
        1185 => 1184,
        1001 => 17,
        _ => return Some(u32::MAX),
    })
}

/// The elements of a one-dimensional array in binary format.
fn binary_array(bytes: &[u8]) -> Option<Vec<Option<Scalar>>> {
    let word = |at: usize| -> Option<i32> { Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
    let oid = u32::try_from(word(8)?).ok()?;
    match word(0)? {
        0 => return Some(Vec::new()),
        1 => {}
        _ => return None,
    }
    let count = usize::try_from(word(12)?).ok()?;
    let mut items = Vec::with_capacity(count.min(1024));
    let mut place = 20;
    for _ in 0..count {
        let length = word(place)?;
        place += 4;
        if length == -1 {
            items.push(None);
            continue;
        }
        let length = usize::try_from(length).ok()?;
        let item = binary(bytes.get(place..place.checked_add(length)?)?, Some(oid));
        if item == Scalar::Unknown {
            return None;
        }
        items.push(Some(item));
        place += length;
    }
    Some(items)
}

/// The elements of a one-dimensional array in text format.
fn elements(bytes: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let inner = bytes.trim_ascii().strip_prefix(b"{")?.strip_suffix(b"}")?;
    let mut items = Vec::new();
    if inner.trim_ascii().is_empty() {
        return Some(items);
    }
    let mut place = 0;
    loop {
        while inner.get(place).is_some_and(u8::is_ascii_whitespace) {
            place += 1;
        }
        let mut item = Vec::new();
        let quoted = inner.get(place) == Some(&b'"');
        if quoted {
            place += 1;
            loop {
                match *inner.get(place)? {
                    b'"' => break,
                    b'\\' => {
                        item.push(*inner.get(place + 1)?);
                        place += 2;
                    }
                    byte => {
                        item.push(byte);
                        place += 1;
                    }
                }
            }
            place += 1;
        } else {
            while let Some(byte) = inner.get(place).filter(|byte| **byte != b',') {
                if matches!(byte, b'{' | b'}' | b'"' | b'\\') {
                    return None;
                }
                item.push(*byte);
                place += 1;
            }
            item.truncate(item.trim_ascii_end().len());
            if item.is_empty() {
                return None;
            }
        }
        while inner.get(place).is_some_and(u8::is_ascii_whitespace) {
            place += 1;
        }
        items.push(if !quoted && item.eq_ignore_ascii_case(b"null") { None } else { Some(item) });
        match inner.get(place) {
            None => return Some(items),
            Some(b',') => place += 1,
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(utc: bool) -> Values<'static> {
        Values {
            text: "",
            literals: &[],
            from: u32::MAX,
            shift: 0,
            parameters: None,
            uses: &[],
            utc,
            utf8: true,
            server_version: 150_000,
            known: None,
            mysql: None,
        }
    }

    const fn column(key_type: KeyType, oid: u32, modifier: i32) -> Column {
        Column { key_type, oid, modifier, limits: None }
    }

    fn fixed(raw: &str) -> Value {
        Value::Fixed(raw.into())
    }

    #[test]
    fn literals_have_the_types_that_the_server_gives_them() {
        let scalar = |raw: &str| bench(true).scalar(&fixed(raw));
        assert_eq!(scalar("5"), Scalar::Int(5, Type::Int4));
        assert_eq!(scalar("2147483648"), Scalar::Int(2_147_483_648, Type::Int8));
        assert!(matches!(scalar("9223372036854775808"), Scalar::Numeric(_)));
        assert_eq!(scalar("1e3"), Scalar::Unknown);
        let most_negative = Value::Negate(Box::new(fixed("9223372036854775808")));
        let found = bench(true).compared(&most_negative, column(KeyType::BigInt, 20, -1));
        assert_eq!(found, Found::Key(Key::Int(i64::MIN)));
    }

    #[test]
    fn integers_beyond_the_column_match_nothing() {
        let small = column(KeyType::SmallInt, 21, -1);
        assert_eq!(bench(true).compared(&fixed("40000"), small), Found::Nothing);
        assert_eq!(bench(true).stored(&fixed("40000"), small), Stored::Invalid);
        assert_eq!(bench(true).compared(&fixed("'-7'"), small), Found::Key(Key::Int(-7)));
    }

    #[test]
    fn fractions_are_rounded_when_stored_and_match_nothing_when_read() {
        let big = column(KeyType::BigInt, 20, -1);
        for (raw, stored) in [("1.5", 2), ("2.5", 3), ("1.49", 1), ("0.5", 1), ("7.000", 7)] {
            assert_eq!(bench(true).stored(&fixed(raw), big), Stored::Key(Key::Int(stored)), "{raw}");
        }
        let negative = Value::Negate(Box::new(fixed("2.5")));
        assert_eq!(bench(true).stored(&negative, big), Stored::Key(Key::Int(-3)));
        assert_eq!(bench(true).compared(&fixed("2.5"), big), Found::Nothing);
        assert_eq!(bench(true).compared(&fixed("7.000"), big), Found::Key(Key::Int(7)));
    }

    #[test]
    fn dates_are_days_since_2000() {
        let day = column(KeyType::Date, 1082, -1);
        for (raw, days) in [("'2000-01-01'", 0), ("'2000-03-01'", 60), ("'1999-12-31'", -1), ("'2026-01-01'", 9497)] {
            assert_eq!(bench(false).compared(&fixed(raw), day), Found::Key(Key::Date(days)), "{raw}");
        }
        assert_eq!(bench(false).compared(&fixed("'2026-02-29'"), day), Found::Nothing);
        for raw in ["'01/02/2026'", "'today'", "'2026-1-2'", "'20260102'", "'Jan 2 2026'"] {
            assert_eq!(bench(false).compared(&fixed(raw), day), Found::Unknown, "{raw}");
        }
    }

    #[test]
    fn times_need_an_offset_unless_the_session_is_in_utc() {
        let moment = column(KeyType::TimestampTz, 1184, -1);
        let hour = 3_600_000_000;
        for (raw, micros) in [
            ("'2000-01-01 00:00:00+00'", 0),
            ("'2000-01-01T01:30:00.5Z'", hour + hour / 2 + 500_000),
            ("'2000-01-01 00:00+02'", -2 * hour),
            ("'2000-01-01 00:00:00-05:30'", 5 * hour + hour / 2),
        ] {
            assert_eq!(bench(false).compared(&fixed(raw), moment), Found::Key(Key::TimestampTz(micros)), "{raw}");
        }
        assert_eq!(bench(false).compared(&fixed("'2000-01-01 00:00'"), moment), Found::Unknown);
        assert_eq!(bench(true).compared(&fixed("'2000-01-01'"), moment), Found::Key(Key::TimestampTz(0)));
        // timestamptz(0) rounds to the nearest second.
        let seconds = column(KeyType::TimestampTz, 1184, 0);
        let stored = bench(true).stored(&fixed("'2000-01-01 00:00:00.5'"), seconds);
        assert_eq!(stored, Stored::Key(Key::TimestampTz(1_000_000)));
    }

    #[test]
    fn varchar_cuts_blanks_and_nothing_else() {
        let short = column(KeyType::Text, 1043, 3 + 4);
        assert_eq!(bench(true).stored(&fixed("'abc  '"), short), Stored::Key(Key::Text(b"abc".to_vec())));
        assert_eq!(bench(true).stored(&fixed("'abcd'"), short), Stored::Invalid);
        assert_eq!(bench(true).stored(&fixed("'ééé'"), short), Stored::Key(Key::Text("ééé".into())));
    }

    #[test]
    fn arrays_are_read_as_the_server_reads_them() {
        let big = column(KeyType::BigInt, 20, -1);
        let wanted = vec![Key::Int(1), Key::Int(2)];
        assert_eq!(bench(true).any_of(&fixed(r#"'{1, "2" ,NULL}'"#), big), Some(wanted));
        assert_eq!(bench(true).any_of(&fixed("'{}'"), big), Some(Vec::new()));
        assert_eq!(bench(true).any_of(&fixed("'[0:1]={1,2}'"), big), None);
        assert_eq!(bench(true).any_of(&fixed("'{{1},{2}}'"), big), None);
        let text = column(KeyType::Text, 25, -1);
        let wanted = vec![Key::Text(b"a,b".to_vec()), Key::Text(b"null".to_vec())];
        assert_eq!(bench(true).any_of(&fixed(r#"'{"a,b","null"}'"#), text), Some(wanted));
    }

    #[test]
    fn a_key_of_another_type_than_the_map_says_is_not_read() {
        assert_eq!(column(KeyType::BigInt, 25, -1).own_type(), None);
        assert_eq!(column(KeyType::BigInt, 23, -1).own_type(), Some(Type::Int4));
        assert_eq!(column(KeyType::Text, 1042, -1).own_type(), None);
    }
}
