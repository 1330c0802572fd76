//! Gather: rows of tables that are spread are copied to one server, where the statement itself runs.
//!
//! The statement's text stays the client's own, but for the names of the copied tables: each is replaced, where it
//! stands, by the copy. A [`Gathering`] is compiled once a template; a [`Gather`] is what it comes to with the values
//! of one execution.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::ident::TableName;
use crate::plan::World;
use crate::plan::key::Values;
use crate::plan::route::Part;
use crate::schema::Relation;
use crate::schema::RelationKind;
use crate::sql::lex;
use crate::sql::lex::Kind;
use crate::sql::lex::Lexed;
use crate::sql::lex::Lexeme;
use crate::sql::model::Comparison;
use crate::sql::model::Place;
use crate::sql::model::Value;

/// More values than this in one condition are not sent along with a fetch.
const VALUES_MAX: usize = 1000;
/// User-defined types are numbered from here.
const FIRST_USER_TYPE: u32 = 16_384;

/// How a statement is gathered, values left open.
#[derive(Debug)]
pub(crate) struct Gathering {
    /// Where it must run; `None`: on any primary.
    pub(crate) at: Option<ShardId>,
    /// The tables to copy.
    pub(crate) tables: Vec<Table>,
    /// What is to be replaced in the texts.
    pub(crate) spots: Vec<Spot>,
    /// The definitions of views among the texts, numbered from 1.
    pub(crate) definitions: Vec<Arc<str>>,
    /// The copies must be tables: arrays have no keys, and some statements have no parameters.
    pub(crate) staged: bool,
    /// The copies must not be tables: the statement would see them.
    pub(crate) arrays_only: bool,
}

/// A table to copy.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) relation: Arc<Relation>,
    pub(crate) from: From,
    /// The columns that matter, by their places; `None`: all.
    pub(crate) columns: Option<BTreeSet<usize>>,
    /// A row matters if it satisfies all terms of one of these; none: every row may.
    pub(crate) wanted: Vec<Vec<Term>>,
    /// The statement relies on its primary key.
    pub(crate) keyed: bool,
}

/// Where a table's rows are.
#[derive(Debug)]
pub(crate) enum From {
    /// Wherever one of these parts may have rows.
    Parts(Vec<usize>),
    /// On one shard.
    Home(ShardId),
}

/// A condition on one column that the server may be asked beforehand: it cannot fail.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    /// The column's place.
    pub(crate) column: usize,
    pub(crate) kind: TermKind,
    /// The literals are compared with a column of this very type, so that strings may be among them.
    pub(crate) strings: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TermKind {
    Is(Vec<Value>),
    Range(Comparison, Value),
}

/// Something to be replaced.
#[derive(Debug)]
pub(crate) struct Spot {
    pub(crate) place: Place,
    pub(crate) by: By,
    /// The row itself is a value there, so that its type counts.
    pub(crate) whole: bool,
    /// The name that the relation goes by without an alias; `None`: it has one.
    pub(crate) alias: Option<Arc<str>>,
}

#[derive(Debug)]
pub(crate) enum By {
    /// A table to copy, by its place.
    Copy(usize),
    /// A view: its definition, by its number.
    Definition(usize),
    /// Nothing.
    Nothing,
}

/// What one execution copies, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gather {
    /// Where the statement must run; `None`: on any primary.
    pub at: Option<ShardId>,
    /// What is copied there.
    pub copies: Vec<Copy>,
    /// The copies must be tables.
    pub staged: bool,
    /// The copies must not be tables: the statement would see them.
    pub arrays_only: bool,
    /// Shards whose own answers come to the answer when they are put together there (`plan::merge`); `None`: none do.
    pub merge: Option<ShardSet>,
}

/// A table of which rows are copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The table.
    pub table: TableName,
    /// Where its rows are asked for.
    pub shards: ShardSet,
    /// The columns that are copied; `None`: all.
    pub columns: Option<Vec<Arc<str>>>,
    /// What is sent to each shard: one column, the text form of a row of the table's type. It lacks a LIMIT.
    pub fetch: String,
    /// What the rows must satisfy, as SQL; empty: nothing.
    pub condition: String,
    /// The same rows as columns, at least one.
    pub select: String,
    /// The columns of `select`, as SQL.
    pub list: String,
    /// What takes the other columns from a table like it: `DROP COLUMN "a", DROP COLUMN "b"`.
    pub dropped: String,
    /// Whether the text form of some column depends on settings.
    pub unsettled: bool,
    /// Whether some column is xml.
    pub xml: bool,
    /// Whether the table's indexes hold for all its rows together: what is unique on each shard may not be among all.
    pub indexed: bool,
    /// The columns of the primary key, as SQL, where the statement relies on it.
    pub key: Option<String>,
}

impl Copy {
    /// The table's name as SQL.
    #[must_use]
    pub fn quoted(&self) -> String {
        quoted(&self.table)
    }
}

impl Gathering {
    /// What it comes to with these values.
    pub(crate) fn with(&self, parts: &[Part], values: &Values<'_>, world: &World) -> Gather {
        let copies = self.tables.iter().map(|table| table.copy(parts, values, world)).collect();
        // Copies by COPY have an encoding of their own; arrays have the client's, which may lack characters.
        Gather { at: self.at, copies, staged: self.staged || !world.utf8, arrays_only: self.arrays_only, merge: None }
    }

    /// The statement with copies in the place of tables: `copy` gives what stands for the one of that number, where
    /// its rows are values (true) or not. `None`: the text cannot be cut as it was when it was compiled.
    pub(crate) fn rewritten(&self, statement: &str, copy: &dyn Fn(usize, bool) -> String) -> Option<String> {
        self.rewrite(0, statement, copy, 0)
    }

    fn is_partitioned(&self, place: usize) -> bool {
        self.tables.get(place).is_some_and(|it| it.relation.kind == RelationKind::Partitioned)
    }

    fn rewrite(&self, number: usize, text: &str, copy: &dyn Fn(usize, bool) -> String, depth: usize) -> Option<String> {
        if depth > 50 {
            return None;
        }
        let mut lexed = Lexed::default();
        lexed.read(text).ok()?;
        let piece = lexed.pieces.first()?;
        // A definition is analysed with all its rows.
        let skip = piece.repeat.map(|it| it.skip).filter(|_| number == 0);
        let lexemes = lex::lexemes(text, piece.range.clone(), skip).ok()?;
        let mut spots: Vec<&Spot> = self.spots.iter().filter(|it| it.place.text == number).collect();
        spots.sort_by_key(|it| it.place.lexemes.start);
        let mut out = String::with_capacity(text.len() + spots.len() * 80);
        let mut done = 0;
        for spot in spots {
            let bytes = bytes(&lexemes, &spot.place.lexemes)?;
            let word = spot.place.lexemes.start.checked_sub(1).and_then(|it| lexemes.get(it));
            let word = word.filter(|it| it.kind == Kind::Word && it.start >= done);
            let before = word.and_then(|it| text.get(it.start..it.end)).unwrap_or_default();
            let is_relation = !matches!(spot.by, By::Nothing);
            let (start, lead) = match word {
                // TABLE t is SELECT * FROM t.
                Some(word) if is_relation && before.eq_ignore_ascii_case("table") => (word.start, "SELECT * FROM "),
                Some(word) if is_relation && before.eq_ignore_ascii_case("only") => (word.start, ""),
                _ => (bytes.start, ""),
            };
            out.push_str(text.get(done..start)?);
            out.push_str(lead);
            match spot.by {
                // A partitioned table itself has no rows.
                By::Copy(place) if before.eq_ignore_ascii_case("only") && self.is_partitioned(place) => {
                    let _ = write!(out, "(SELECT * FROM {} t WHERE false)", copy(place, spot.whole));
                }
                By::Copy(place) => out.push_str(&copy(place, spot.whole)),
                By::Definition(number) => {
                    let definition = self.definitions.get(number.checked_sub(1)?)?;
                    let _ = write!(out, "({})", self.rewrite(number, definition, copy, depth + 1)?);
                }
                By::Nothing => {}
            }
            if let Some(alias) = &spot.alias {
                let _ = write!(out, " AS {}", identifier(alias));
            }
            done = bytes.end;
        }
        out.push_str(text.get(done..)?);
        Some(out)
    }
}

/// What stands for a copy that is a table. A table's rows are of a type of their own: where they are values (`whole`),
/// they are made rows of the table that was copied.
#[must_use]
pub fn as_table(copy: &Copy, name: &str, whole: bool) -> String {
    let table = format!("pg_temp.{}", identifier(name));
    if !whole {
        return table;
    }
    format!("pg_catalog.unnest(ARRAY(SELECT ROW(t.*)::{} FROM {table} t))", copy.quoted())
}

/// What stands for a copy that is the parameter `$number`.
#[must_use]
pub fn as_parameter(copy: &Copy, number: usize) -> String {
    let rows = format!("pg_catalog.unnest(${number}::{}[])", copy.quoted());
    match &copy.columns {
        None => rows,
        Some(columns) => format!("(SELECT {} FROM {rows} t)", list(columns.iter())),
    }
}

fn list<'a>(columns: impl Iterator<Item = &'a Arc<str>>) -> String {
    columns.map(|it| format!("t.{}", identifier(it))).collect::<Vec<_>>().join(", ")
}

impl Table {
    fn copy(&self, parts: &[Part], values: &Values<'_>, world: &World) -> Copy {
        let database = &*world.database;
        let shards = match &self.from {
            From::Home(shard) => ShardSet::one(*shard),
            From::Parts(places) => {
                let mut all = ShardSet::none();
                for part in places.iter().filter_map(|it| parts.get(*it)) {
                    all.union(&part.shards(values, database));
                }
                if crate::mistakes::makes("shard-forgotten") {
                    all = all.iter().take(all.len().saturating_sub(1).max(1)).collect();
                }
                all
            }
        };
        let relation = &self.relation;
        let table = quoted(&relation.name);
        let is_copied = |place: usize| self.columns.as_ref().is_none_or(|it| it.contains(&place));
        let cells: Vec<String> = relation
            .columns
            .iter()
            .enumerate()
            .map(|(place, it)| if is_copied(place) { format!("t.{}", identifier(&it.name)) } else { "NULL".into() })
            .collect();
        let mut fetch = format!("SELECT ROW({})::{table}::pg_catalog.text FROM {table} t", cells.join(", "));
        let condition = self.condition(values);
        if !condition.is_empty() {
            let _ = write!(fetch, " WHERE {condition}");
        }
        let names = |places: &mut dyn Iterator<Item = usize>| {
            let columns = places.filter_map(|it| relation.columns.get(it));
            columns.map(|it| identifier(&it.name)).collect::<Vec<_>>().join(", ")
        };
        let list = match &self.columns {
            None => names(&mut (0..relation.columns.len())),
            Some(places) if places.is_empty() => names(&mut std::iter::once(0)),
            Some(places) => names(&mut places.iter().copied()),
        };
        let mut select = format!("SELECT {list} FROM {table} t");
        if !condition.is_empty() {
            let _ = write!(select, " WHERE {condition}");
        }
        let kept =
            |place: usize| is_copied(place) || self.columns.as_ref().is_some_and(|it| it.is_empty() && place == 0);
        let others = relation.columns.iter().enumerate().filter(|(place, _)| !kept(*place));
        let dropped: Vec<String> = others.map(|(_, it)| format!("DROP COLUMN {}", identifier(&it.name))).collect();
        let dropped = dropped.join(", ");
        let copied = || relation.columns.iter().enumerate().filter(|(place, _)| is_copied(*place)).map(|(_, it)| it);
        let iso = world.view.date_style.get(..3).is_some_and(|it| it.eq_ignore_ascii_case("iso"));
        Copy {
            table: relation.name.clone(),
            shards,
            columns: self.columns.is_some().then(|| copied().map(|it| Arc::clone(&it.name)).collect()),
            fetch,
            select,
            list,
            dropped,
            condition,
            unsettled: copied().any(|it| !is_settled(it.type_oid, iso)),
            xml: copied().any(|it| matches!(it.type_oid, 142 | 143)),
            indexed: self.is_unique_everywhere(parts),
            key: relation.primary_key.as_ref().filter(|_| self.keyed).map(|places| names(&mut places.iter().copied())),
        }
    }

    /// Whether what is unique on each shard is unique among all: it has the shard key.
    fn is_unique_everywhere(&self, parts: &[Part]) -> bool {
        let From::Parts(places) = &self.from else { return true };
        let Some(part) = places.first().and_then(|it| parts.get(*it)) else { return true };
        let key = self.relation.column(&part.key);
        self.relation.unique.iter().all(|it| key.is_some() && it.columns.contains(&key))
    }

    fn condition(&self, values: &Values<'_>) -> String {
        let mut alternatives = Vec::with_capacity(self.wanted.len());
        for terms in &self.wanted {
            let terms: Vec<String> = terms.iter().filter_map(|it| it.sql(&self.relation, values)).collect();
            if terms.is_empty() {
                return String::new();
            }
            alternatives.push(terms.join(" AND "));
        }
        match alternatives.as_slice() {
            [] => String::new(),
            [only] => only.clone(),
            _ => alternatives.iter().map(|it| format!("({it})")).collect::<Vec<_>>().join(" OR "),
        }
    }
}

impl Term {
    fn sql(&self, relation: &Relation, values: &Values<'_>) -> Option<String> {
        let column = format!("t.{}", identifier(&relation.columns.get(self.column)?.name));
        match &self.kind {
            TermKind::Is(wanted) if wanted.len() <= VALUES_MAX => {
                let mut equal = Vec::with_capacity(wanted.len());
                for value in wanted.iter().filter(|it| !matches!(it, Value::Null)) {
                    equal.push(format!("{column} OPERATOR(pg_catalog.=) {}", self.constant(value, relation, values)?));
                }
                Some(match equal.as_slice() {
                    [] => "false".to_owned(),
                    [only] => only.clone(),
                    _ => format!("({})", equal.join(" OR ")),
                })
            }
            TermKind::Is(_) => None,
            TermKind::Range(comparison, value) => {
                let symbol = match comparison {
                    Comparison::Less => "<",
                    Comparison::LessOrEqual => "<=",
                    Comparison::Greater => ">",
                    Comparison::GreaterOrEqual => ">=",
                };
                Some(format!("{column} OPERATOR(pg_catalog.{symbol}) {}", self.constant(value, relation, values)?))
            }
        }
    }

    /// A value that means the same beside this column.
    fn constant(&self, value: &Value, relation: &Relation, values: &Values<'_>) -> Option<String> {
        let Value::Parameter(number) = value else { return self.literal(value, values).map(str::to_owned) };
        let oid = relation.columns.get(self.column)?.type_oid;
        let name = type_name(oid).filter(|_| self.strings)?;
        let text = values.parameter_text(*number, oid)?;
        // Each shard has a clock of its own for 'now', 'today' and their kind.
        let dated = matches!(oid, 1082 | 1114 | 1184);
        let timeless = text.trim_start().starts_with(|first: char| first.is_ascii_digit());
        (!dated || timeless).then(|| format!("'{}'::pg_catalog.{name}", text.replace('\'', "''")))
    }

    /// A literal as the text has it, where it means the same beside this column.
    fn literal<'a>(&self, value: &'a Value, values: &Values<'a>) -> Option<&'a str> {
        let raw = match value {
            Value::Literal(number) => values.raw(*number)?,
            Value::Fixed(raw) => raw,
            _ => return None,
        };
        if raw.starts_with(|first: char| first.is_ascii_digit()) {
            return Some(raw);
        }
        let inner = raw.strip_prefix('\'')?.strip_suffix('\'')?;
        // Each shard has a clock of its own for 'now', 'today' and their kind.
        let timeless = inner.trim_start().starts_with(|first: char| first.is_ascii_digit());
        (self.strings && timeless && !inner.contains(['\'', '\n', '\r'])).then_some(raw)
    }
}

/// The bytes of these lexemes.
fn bytes(lexemes: &[Lexeme], range: &Range<usize>) -> Option<Range<usize>> {
    let first = lexemes.get(range.start)?;
    let last = lexemes.get(range.end.checked_sub(1)?)?;
    Some(first.start..last.end)
}

/// Whether a condition on a column of that type can be asked of every row without an error: built-in types whose
/// comparison never fails.
pub(crate) fn compares_safely(oid: u32, ordered: bool) -> bool {
    match oid {
        20 | 21 | 23 | 1700 | 1082 | 1114 | 1184 | 2950 => true,
        // Their order is a collation's affair.
        16 | 25 | 1043 => !ordered,
        _ => false,
    }
}

/// The type's name as SQL, of those that [`compares_safely`] knows.
fn type_name(oid: u32) -> Option<&'static str> {
    Some(match oid {
        16 => "bool",
        20 => "int8",
        21 => "int2",
        23 => "int4",
        25 => "text",
        1043 => "varchar",
        1082 => "date",
        1114 => "timestamp",
        1184 => "timestamptz",
        1700 => "numeric",
        2950 => "uuid",
        _ => return None,
    })
}

/// Whether a value of that type reads the same whatever the settings.
pub(crate) fn is_settled(oid: u32, iso: bool) -> bool {
    match oid {
        // bool bytea "char" name int8 int2 int4 text oid json jsonb uuid numeric bpchar varchar bit varbit inet cidr
        16 | 17 | 18 | 19 | 20 | 21 | 23 | 25 | 26 | 114 | 3802 | 2950 | 1700 | 1042 | 1043 | 1560 | 1562 | 869
        | 650 => true,
        // Arrays of some of them.
        1000 | 1005 | 1007 | 1009 | 1015 | 1016 | 1231 | 2951 => true,
        // date time timestamp timestamptz timetz
        1082 | 1083 | 1114 | 1184 | 1266 => iso,
        _ => false,
    }
}

/// Whether a column must be copied whether it is mentioned or not: a domain may not take the NULL in its place.
pub(crate) fn is_indispensable(oid: u32) -> bool {
    oid >= FIRST_USER_TYPE
}

fn quoted(table: &TableName) -> String {
    format!("{}.{}", identifier(&table.schema), identifier(&table.name))
}

pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
/// Appends an element to an array's text form: the row's text form, quoted.
pub fn put_element(array: &mut Vec<u8>, row: &[u8]) {
    if array.len() > 1 {
        array.push(b',');
    }
    array.push(b'"');
    for byte in row {
        if matches!(byte, b'"' | b'\\') {
            array.push(b'\\');
        }
        array.push(*byte);
    }
    array.push(b'"');
}
