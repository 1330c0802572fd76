//! INSERT … SELECT whose rows come from elsewhere: the SELECT is a read like any other, in the transaction and before
//! anything is written, and the INSERT is told anew with VALUES in its place.
//!
//! So each row gets to its shard, sequences are drawn from in the order of the rows, and copies of a reference table get
//! the same. Texts are cut from the client's, lexeme by lexeme; a value is a literal of the type that the SELECT gave it,
//! for what an assignment converts depends on that.

use std::ops::Range;
use std::sync::Arc;

use crate::error::ClientError;
use crate::error::Code;
use crate::ident::ShardId;
use crate::plan::Planned;
use crate::plan::World;
use crate::plan::gather::identifier;
use crate::plan::gather::is_settled;
use crate::plan::route::Around;
use crate::plan::route::Route;
use crate::plan::route::is_object;
use crate::plan::words::Words;
use crate::shard_map::Placement;
use crate::sql::lex;
use crate::sql::lex::Kind;
use crate::sql::model::Query;
use crate::sql::model::Rows;
use crate::sql::model::Source;
use crate::sql::model::WriteKind;

/// More bytes of rows than this are not carried: they are literals of a text that is read here and by servers.
const CARRIED_MAX: usize = 16 << 20;

/// An INSERT … SELECT whose rows may come from elsewhere.
#[derive(Debug)]
pub(crate) struct Carrying {
    /// Where all tables are known that it names, if not everywhere.
    pub(crate) home: Option<ShardId>,
    /// Unsharded tables of several shards are in it: no server knows all of them for certain.
    scattered: bool,
    /// The columns that rows are for, and their types (0: not known).
    columns: Vec<(Arc<str>, u32)>,
    /// Where among them the shard key stands.
    key: Option<usize>,
    /// It has ON CONFLICT.
    conflict: bool,
    /// It has RETURNING.
    returns: bool,
}

/// The parts of its text.
#[derive(Debug)]
pub struct Carried<'a> {
    /// Up to the SELECT.
    head: String,
    /// The SELECT.
    pub source: String,
    /// What stands behind it.
    tail: String,
    /// Literals without a type of their own, by their places from the start.
    untyped: Vec<Place>,
    carrying: &'a Carrying,
}

/// A place in a select list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    FromStart(usize),
    FromEnd(usize),
}

/// How the values of one column are written.
enum Form {
    /// As a string that takes the column's type.
    Bare,
    /// As a string that is cast.
    Cast(&'static str),
    /// The only element of an array, cast: a form that NULL has too.
    Element(&'static str, Option<&'static str>),
}

/// What an INSERT … SELECT needs to be carried; `None`: it is another statement, or none that could be.
pub(crate) fn compile(query: &Query, world: &World, around: Around<'_>) -> Option<Carrying> {
    let [write] = query.writes.as_slice() else { return None };
    let Rows::Query { .. } = write.rows else { return None };
    if write.kind != WriteKind::Insert || !query.only_writes || around != Around::Nothing || query.notes.locks {
        return None;
    }
    let Source::Table(relation) = &query.leaves.get(write.target)?.source else { return None };
    let key = match world.database.placement(&relation.name)? {
        Placement::Sharded { key, .. } => Some(key),
        Placement::Reference | Placement::Unsharded { .. } => None,
    };
    let mut homes: Vec<ShardId> = Vec::new();
    for name in query.leaves.iter().filter_map(|it| it.table()) {
        if let Some(Placement::Unsharded { home }) = world.database.placement(name)
            && !homes.contains(&home)
        {
            homes.push(home);
        }
    }
    let of = |name: &Arc<str>| relation.columns.iter().find(|it| it.name == *name).map_or(0, |it| it.type_oid);
    Some(Carrying {
        home: homes.first().copied(),
        scattered: homes.len() > 1,
        columns: write.columns.iter().map(|it| (Arc::clone(it), of(it))).collect(),
        key: key.and_then(|key| write.columns.iter().position(|it| *it == key)),
        conflict: write.conflict.is_some(),
        returns: query.returns,
    })
}

impl Planned {
    /// Whether it always reads its rows first.
    #[must_use]
    pub fn carries(&self) -> bool {
        matches!(self.template.route, Route::Carry(_))
    }

    fn carrying(&self) -> Option<&Carrying> {
        match &self.template.route {
            Route::Keys(keys) => keys.carry.as_deref(),
            Route::Carry(carrying) => Some(carrying),
            Route::Fixed(..) | Route::Copies(_) | Route::Copy(_) | Route::Draw(_) => None,
        }
    }

    /// The parts of an INSERT … SELECT whose rows come from elsewhere.
    ///
    /// # Errors
    /// Its text is written in a form that is not understood.
    pub fn carried(&self, text: &str) -> Result<Carried<'_>, ClientError> {
        let carrying = self.carrying().ok_or_else(unreadable)?;
        let lexemes = lex::lexemes(text, self.range.clone(), None).map_err(|_| unreadable())?;
        cut(&Words { text, lexemes }, carrying)
    }
}

fn cut<'a>(words: &Words<'_>, carrying: &'a Carrying) -> Result<Carried<'a>, ClientError> {
    let mut depth = 0_usize;
    let mut start = None;
    let (mut conflict, mut returning) = (None, None);
    for at in 0..words.lexemes.len() {
        match words.kind(at) {
            Kind::Open | Kind::OpenBracket => depth += 1,
            Kind::Close | Kind::CloseBracket => depth = depth.saturating_sub(1),
            Kind::Word if depth == 0 => {
                let labelled = at.checked_sub(1).is_some_and(|it| words.is(it, "as") || words.kind(it) == Kind::Dot);
                let begins = ["select", "with", "table", "values"].iter().any(|it| words.is(at, it));
                if labelled {
                } else if start.is_none() && begins {
                    start = Some(at);
                } else if start.is_some() && words.is(at, "on") && words.is(at + 1, "conflict") {
                    let target = words.kind(at + 2) == Kind::Open || words.is(at + 2, "do") || words.is(at + 2, "on");
                    conflict = target.then_some(at).or(conflict);
                } else if start.is_some() && words.is(at, "returning") {
                    returning = Some(at);
                }
            }
            _ => {}
        }
    }
    let start = start.filter(|it| *it > 0 && !words.is(*it, "values")).ok_or_else(unreadable)?;
    let tails = [conflict.filter(|_| carrying.conflict), returning.filter(|_| carrying.returns)];
    let given = [carrying.conflict, carrying.returns];
    if tails.iter().zip(given).any(|(found, given)| found.is_some() != given) {
        return Err(unreadable());
    }
    let all = words.lexemes.len();
    let end = tails.iter().flatten().copied().min().unwrap_or(all);
    Ok(Carried {
        head: words.slice(&(0..start)).to_owned(),
        source: words.slice(&(start..end)).to_owned(),
        tail: if end < all { words.slice(&(end..all)).to_owned() } else { String::new() },
        untyped: untyped(words, &(start..end))?,
        carrying,
    })
}

/// The items of the select list that are literals and nothing else: they take the type of the column that they are for.
fn untyped(words: &Words<'_>, source: &Range<usize>) -> Result<Vec<Place>, ClientError> {
    const ENDS: [&str; 12] = [
        "from",
        "where",
        "group",
        "having",
        "window",
        "union",
        "intersect",
        "except",
        "order",
        "limit",
        "offset",
        "fetch",
    ];
    let mut found = Vec::new();
    if !words.is(source.start, "select") {
        // Behind WITH stands a SELECT as well; TABLE has no literals.
        if words.is(source.start, "table") {
            return Ok(found);
        }
        let mut depth = 0_usize;
        for at in source.clone() {
            match words.kind(at) {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                Kind::Word if depth == 0 && at > source.start && words.is(at, "select") => {
                    return untyped(words, &(at..source.end));
                }
                _ => {}
            }
        }
        return Err(unreadable());
    }
    // Under these a literal has the type that the arms have in common.
    let mut depth = 0_usize;
    for at in source.clone() {
        match words.kind(at) {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Word if depth == 0 && ["union", "intersect", "except"].iter().any(|it| words.is(at, it)) => {
                let label = at.checked_sub(1).is_some_and(|it| words.is(it, "as") || words.kind(it) == Kind::Dot);
                if !label {
                    return Ok(found);
                }
            }
            _ => {}
        }
    }
    let mut at = source.start + 1;
    if words.is(at, "all") || words.is(at, "distinct") {
        at += 1;
        if words.is(at, "on") && words.kind(at + 1) == Kind::Open {
            at = words.closed(at + 1).ok_or_else(unreadable)?;
        }
    }
    let mut items: Vec<Range<usize>> = Vec::new();
    let (mut depth, mut begin) = (0_usize, at);
    while at < source.end {
        match words.kind(at) {
            Kind::Open | Kind::OpenBracket => depth += 1,
            Kind::Close | Kind::CloseBracket => depth = depth.saturating_sub(1),
            Kind::Comma if depth == 0 => {
                items.push(begin..at);
                begin = at + 1;
            }
            Kind::Word if depth == 0 && ENDS.iter().any(|it| words.is(at, it)) => {
                let label = at.checked_sub(1).is_some_and(|it| words.is(it, "as") || words.kind(it) == Kind::Dot);
                // … IS DISTINCT FROM …
                let distinct = at > begin && words.is(at, "from") && words.is(at - 1, "distinct");
                if !label && !distinct {
                    break;
                }
            }
            _ => {}
        }
        at += 1;
    }
    items.push(begin..at);
    let stars: Vec<usize> = items
        .iter()
        .enumerate()
        .filter(|(_, it)| it.end.checked_sub(1).is_some_and(|last| words.raw(last) == "*"))
        .map(|(place, _)| place)
        .collect();
    for (place, _) in items.iter().enumerate().filter(|(_, it)| is_literal(words, it)) {
        let behind = stars.iter().filter(|it| **it < place).count();
        match (behind, stars.len() - behind) {
            (0, _) => found.push(Place::FromStart(place)),
            (_, 0) => found.push(Place::FromEnd(items.len() - 1 - place)),
            _ => {
                return Err(ClientError::unsupported(
                    "INSERT … SELECT of a literal between two * across shards is not supported",
                    "Cast it to the column's type.",
                ));
            }
        }
    }
    Ok(found)
}

/// Whether an item is a string or NULL, in whatever parentheses and with a name or not.
fn is_literal(words: &Words<'_>, item: &Range<usize>) -> bool {
    let mut at = item.start;
    while at < item.end && words.kind(at) == Kind::Open {
        at += 1;
    }
    let opened = at - item.start;
    let literal = matches!(words.kind(at), Kind::String | Kind::UnicodeString) || words.is(at, "null");
    if !literal || at >= item.end {
        return false;
    }
    at += 1;
    for _ in 0..opened {
        if words.kind(at) != Kind::Close {
            return false;
        }
        at += 1;
    }
    let name = |at: usize| matches!(words.kind(at), Kind::Word | Kind::Quoted | Kind::UnicodeQuoted);
    match item.end.saturating_sub(at) {
        0 => true,
        1 => name(at) && !words.is(at, "isnull") && !words.is(at, "notnull"),
        2 => words.is(at, "as") && name(at + 1),
        _ => false,
    }
}

impl Carried<'_> {
    /// Where the client's text can be read, if not everywhere.
    #[must_use]
    pub fn home(&self) -> Option<ShardId> {
        self.carrying.home
    }

    /// Whether no server may know all tables that it names.
    #[must_use]
    pub fn is_scattered(&self) -> bool {
        self.carrying.scattered
    }

    /// Whether values of these types read the same whatever the settings.
    #[must_use]
    pub fn is_settled(&self, types: &[u32]) -> bool {
        types.iter().all(|it| is_settled(*it, false))
    }

    /// The INSERT with no rows, which has so many columns.
    #[must_use]
    pub fn empty(&self, count: usize) -> String {
        let nulls = vec!["NULL"; count].join(", ");
        format!("{} SELECT {nulls} WHERE false {}", self.head, self.tail)
    }

    /// The INSERT with these rows; `types` are those of the SELECT's columns.
    ///
    /// # Errors
    /// A type whose values cannot be told as literals, or too many rows.
    pub fn told(&self, types: &[u32], rows: &[Vec<Option<&[u8]>>]) -> Result<String, ClientError> {
        let count = types.len();
        let is_untyped = |place: usize| {
            self.untyped.iter().any(|it| match it {
                Place::FromStart(it) => *it == place,
                Place::FromEnd(it) => place + it + 1 == count,
            })
        };
        let mut forms = Vec::with_capacity(count);
        for (place, oid) in types.iter().enumerate() {
            let nulls = rows.iter().any(|it| matches!(it.get(place), Some(None)));
            forms.push(self.form(place, *oid, is_untyped(place), nulls)?);
        }
        let mut text = self.head.clone();
        text.push_str(" VALUES ");
        let begun = text.len();
        for (number, row) in rows.iter().enumerate() {
            text.push_str(if number == 0 { "(" } else { ", (" });
            for (place, (form, value)) in forms.iter().zip(row).enumerate() {
                if place > 0 {
                    text.push_str(", ");
                }
                let value = value.map(std::str::from_utf8).transpose().map_err(|_| not_utf8())?;
                match (form, value) {
                    (Form::Bare, Some(value)) => put_string(&mut text, value),
                    (Form::Cast(name), Some(value)) => {
                        put_string(&mut text, value);
                        text.push_str("::");
                        text.push_str(name);
                    }
                    (Form::Element(element, cast), value) => {
                        text.push('(');
                        put_string(&mut text, &element_of(value));
                        text.push_str("::pg_catalog.");
                        text.push_str(element);
                        text.push_str("[])[1]");
                        if let Some(name) = cast {
                            text.push_str("::");
                            text.push_str(name);
                        }
                    }
                    (Form::Bare | Form::Cast(_), None) => text.push_str("NULL"),
                }
            }
            text.push(')');
            if text.len() - begun > CARRIED_MAX {
                return Err(ClientError::new(
                    Code::TooLarge,
                    format!("INSERT … SELECT whose rows come from other shards carries at most {CARRIED_MAX} bytes"),
                    "Insert fewer rows at once, such as by a condition on a range; or COPY them out and in again.",
                ));
            }
        }
        text.push(' ');
        text.push_str(&self.tail);
        Ok(text)
    }

    fn form(&self, place: usize, oid: u32, untyped: bool, nulls: bool) -> Result<Form, ClientError> {
        let (name, wanted) = self.carrying.columns.get(place).map_or((None, 0), |(name, oid)| (Some(name), *oid));
        let is_key = self.carrying.key == Some(place);
        let refuse = || {
            Err(ClientError::unsupported(
                format!(
                    "INSERT … SELECT of rows from other shards into column {} from a type such as this is not supported",
                    name.map_or_else(|| (place + 1).to_string(), |it| identifier(it))
                ),
                "Cast the value to the column's own type, or to text and back.",
            ))
        };
        // What names rows of catalogs by number, records, and what settings decide of that cannot be looked at.
        if is_object(oid) || matches!(oid, 142 | 143 | 790 | 791 | 2249 | 2287) {
            return refuse();
        }
        if untyped {
            return Ok(Form::Bare);
        }
        let known = builtin(oid);
        if nulls && !is_key {
            match known {
                Some((name, false)) => {
                    return Ok(Form::Element(name, None));
                }
                Some((_, true)) => return Ok(Form::Element("text", cast_name(oid))),
                None => {}
            }
        }
        if oid == wanted && wanted != 0 {
            return Ok(Form::Bare);
        }
        match (is_key, known) {
            // As the key's value is read.
            (true, Some((name, false))) => Ok(Form::Cast(name)),
            (_, Some(_)) => cast_name(oid).map_or_else(refuse, |it| Ok(Form::Cast(it))),
            (_, None) => refuse(),
        }
    }
}

fn put_string(text: &mut String, value: &str) {
    text.push('\'');
    for (place, piece) in value.split('\'').enumerate() {
        if place > 0 {
            text.push_str("''");
        }
        text.push_str(piece);
    }
    text.push('\'');
}

/// An array of one element, as text.
fn element_of(value: Option<&str>) -> String {
    let Some(value) = value else { return "{NULL}".to_owned() };
    let mut out = String::with_capacity(value.len() + 4);
    out.push_str("{\"");
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push_str("\"}");
    out
}

macro_rules! types {
    ($($oid:literal $name:literal $is_array:literal)*) => {
        /// The name of a type of the system whose values are told by their text, and whether it is an array.
        fn builtin(oid: u32) -> Option<(&'static str, bool)> {
            match oid {
                $($oid => Some(($name, $is_array)),)*
                _ => None,
            }
        }

        /// The same, so that no search_path makes another of it.
        fn cast_name(oid: u32) -> Option<&'static str> {
            match oid {
                $($oid => Some(concat!("pg_catalog.", $name)),)*
                _ => None,
            }
        }
    };
}

types! {
    16 "bool" false 17 "bytea" false 18 "\"char\"" false 19 "name" false 20 "int8" false 21 "int2" false
    23 "int4" false 25 "text" false 26 "oid" false 114 "json" false 600 "point" false 601 "lseg" false
    602 "path" false 604 "polygon" false 628 "line" false 650 "cidr" false 700 "float4" false 701 "float8" false
    718 "circle" false 774 "macaddr8" false 829 "macaddr" false 869 "inet" false 1042 "bpchar" false
    1043 "varchar" false 1082 "date" false 1083 "time" false 1114 "timestamp" false 1184 "timestamptz" false
    1186 "interval" false 1266 "timetz" false 1560 "bit" false 1562 "varbit" false 1700 "numeric" false
    2950 "uuid" false 3220 "pg_lsn" false 3614 "tsvector" false 3615 "tsquery" false 3802 "jsonb" false
    3904 "int4range" false 3906 "numrange" false 3908 "tsrange" false 3910 "tstzrange" false 3912 "daterange" false
    3926 "int8range" false
    199 "json[]" true 1000 "bool[]" true 1001 "bytea[]" true 1005 "int2[]" true 1007 "int4[]" true
    1009 "text[]" true 1014 "bpchar[]" true 1015 "varchar[]" true 1016 "int8[]" true 1021 "float4[]" true
    1022 "float8[]" true 1041 "inet[]" true 1115 "timestamp[]" true 1182 "date[]" true 1183 "time[]" true
    1185 "timestamptz[]" true 1187 "interval[]" true 1231 "numeric[]" true 2951 "uuid[]" true 3807 "jsonb[]" true
}

fn not_utf8() -> ClientError {
    ClientError::unsupported(
        "INSERT … SELECT of rows from other shards whose text is not UTF-8 is not supported",
        "Use client_encoding = UTF8.",
    )
}

fn unreadable() -> ClientError {
    ClientError::unsupported(
        "this INSERT … SELECT of rows from other shards is not supported: its SELECT could not be told apart",
        "Write INSERT INTO table (columns) SELECT …, without parentheses around the SELECT.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carrying(conflict: bool, returns: bool) -> Carrying {
        let columns = vec![("id".into(), 20), ("a".into(), 23), ("note".into(), 1043)];
        Carrying { home: None, scattered: false, columns, key: Some(0), conflict, returns }
    }

    fn parts(text: &str, conflict: bool, returns: bool) -> Option<(String, String, String, Vec<Place>)> {
        let lexemes = lex::lexemes(text, 0..text.len(), None).unwrap();
        let carrying = carrying(conflict, returns);
        let carried = cut(&Words { text, lexemes }, &carrying).ok()?;
        Some((carried.head, carried.source, carried.tail, carried.untyped))
    }

    #[test]
    fn a_statement_is_cut_where_its_select_begins_and_ends() {
        let text = "INSERT INTO t AS x (id, a) SELECT b.id, 'x' FROM b JOIN c ON conflict ON CONFLICT (id) DO NOTHING RETURNING id";
        let (head, source, tail, untyped) = parts(text, true, true).unwrap();
        assert_eq!(head, "INSERT INTO t AS x (id, a)");
        assert_eq!(source, "SELECT b.id, 'x' FROM b JOIN c ON conflict");
        assert_eq!(tail, "ON CONFLICT (id) DO NOTHING RETURNING id");
        assert_eq!(untyped, [Place::FromStart(1)]);
        // What is in parentheses is another's.
        let text = "INSERT INTO t WITH w AS (SELECT 1 RETURNING) SELECT w.*, NULL AS n, ('y') z FROM w";
        let (_, source, tail, untyped) = parts(text, false, false).unwrap();
        assert!(source.starts_with("WITH w") && tail.is_empty());
        assert_eq!(untyped, [Place::FromEnd(1), Place::FromEnd(0)]);
        for text in ["INSERT INTO t (SELECT 1)", "INSERT INTO t VALUES (1) LIMIT 1"] {
            assert_eq!(parts(text, false, false), None, "{text}");
        }
    }

    #[test]
    fn literals_are_told_from_what_has_a_type() {
        let text = "INSERT INTO t SELECT DISTINCT 'a'::text, NULL IS NULL, date '2020-01-01', 'x' || 'y', NULL, 'q' isnull, \
                    a IS DISTINCT FROM 'r' FROM b";
        assert_eq!(parts(text, false, false).unwrap().3, [Place::FromStart(4)]);
    }

    #[test]
    fn values_keep_the_type_that_the_select_gave_them() {
        let carrying = carrying(false, true);
        let text = "INSERT INTO t (id, a, note) SELECT x, y, z FROM b RETURNING id";
        let lexemes = lex::lexemes(text, 0..text.len(), None).unwrap();
        let carried = cut(&Words { text, lexemes }, &carrying).unwrap();
        let rows = [vec![Some(&b"1"[..]), Some(b"2.5"), Some(b"it's \\ \"")], vec![Some(b"2"), Some(b"3"), None]];
        assert_eq!(
            carried.told(&[23, 1700, 25], &rows).unwrap(),
            "INSERT INTO t (id, a, note) VALUES ('1'::int4, '2.5'::pg_catalog.numeric, \
             ('{\"it''s \\\\ \\\"\"}'::pg_catalog.text[])[1]), ('2'::int4, '3'::pg_catalog.numeric, \
             ('{NULL}'::pg_catalog.text[])[1]) RETURNING id"
        );
        // The column's own type needs no word.
        assert_eq!(
            carried.told(&[20, 23, 1043], &rows[..1]).unwrap(),
            "INSERT INTO t (id, a, note) VALUES ('1', '2.5', 'it''s \\ \"') RETURNING id"
        );
        // A row of a table, and the number of one.
        for oid in [2249, 2205, 70_000] {
            assert!(carried.told(&[20, oid, 25], &rows).is_err(), "{oid}");
        }
    }
}
