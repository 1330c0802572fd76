//! Numbers that a statement takes from sequences of the map: a column of an INSERT that is left to one, and calls of
//! `nextval` and its family. The statement is told anew with numbers in their places, and then planned like any other: a
//! number may say which shard a row belongs to.
//!
//! The text is cut from the client's, lexeme by lexeme; nothing is printed from a syntax tree.

use std::ops::Range;
use std::sync::Arc;

use crate::error::ClientError;
use crate::error::Code;
use crate::ident::TableName;
use crate::plan::Planned;
use crate::plan::World;
use crate::plan::route::Around;
use crate::plan::route::Route;
use crate::plan::words::Words;
use crate::schema::Column;
use crate::schema::Relation;
use crate::shard_map::Database;
use crate::shard_map::Placement;
use crate::sql;
use crate::sql::lex;
use crate::sql::lex::Kind;
use crate::sql::model::Cell;
use crate::sql::model::Query;
use crate::sql::model::Rows;
use crate::sql::model::Source;
use crate::sql::model::Write;
use crate::sql::model::WriteKind;

/// What a statement leaves to sequences.
#[derive(Debug)]
pub(crate) struct Drawing {
    /// An INSERT; else it is a SELECT without tables.
    insert: Option<Inserted>,
}

/// An INSERT with numbers.
#[derive(Debug)]
struct Inserted {
    /// Without a list of columns: those that it means.
    meant: Option<Vec<Arc<str>>>,
    /// DEFAULT VALUES.
    defaults: bool,
    /// Columns that it leaves to sequences.
    columns: Vec<Drawn>,
    /// One of them is GENERATED ALWAYS.
    always: bool,
    /// A column that is GENERATED ALWAYS is given a value: without OVERRIDING SYSTEM VALUE that is a mistake.
    given: bool,
}

/// A column that is left to a sequence.
#[derive(Debug)]
struct Drawn {
    name: Arc<str>,
    /// Where it stands in rows; `None`: it is left out.
    place: Option<usize>,
    sequence: TableName,
    /// Its default, where that is more than the next number.
    default: Option<Arc<str>>,
    identity: bool,
}

/// What a statement needs to be told a number for, in the order of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Number {
    /// The next one of that sequence.
    Next(TableName),
    /// The same for an identity column: no right on the sequence is asked for.
    Identity(TableName),
    /// The last one of that sequence in this session.
    Current(TableName),
    /// The last one of any sequence in this session.
    Last,
    /// `setval`.
    Set {
        /// The sequence.
        name: TableName,
        /// What it is set to.
        value: i64,
        /// Whether that number counts as taken.
        called: bool,
    },
}

/// A statement with gaps for numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What stands before each number, and behind the last one.
    pieces: Vec<String>,
    /// What the numbers are.
    pub numbers: Vec<Number>,
}

impl Told {
    /// The text with these numbers.
    #[must_use]
    pub fn text(&self, number: impl Fn(usize) -> String) -> String {
        let mut text = String::new();
        for (place, piece) in self.pieces.iter().enumerate() {
            text.push_str(piece);
            if place < self.numbers.len() {
                text.push_str(&number(place));
            }
        }
        text
    }

    fn push(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(last) => last.push_str(text),
            None => self.pieces.push(text.to_owned()),
        }
    }

    fn number(&mut self, number: Number) {
        self.push("");
        self.numbers.push(number);
        self.pieces.push(String::new());
    }
}

/// What a statement leaves to sequences of the map; `None`: nothing, or to others.
pub(crate) fn compile(query: &Query, world: &World, around: Around<'_>) -> Result<Option<Drawing>, ClientError> {
    let database = &*world.database;
    if database.sequences.is_empty() {
        return Ok(None);
    }
    let mut left: Vec<(&Write, &Relation, Vec<Drawn>)> = Vec::new();
    for write in query.writes.iter().filter(|it| it.kind == WriteKind::Insert) {
        let Some(Source::Table(relation)) = query.leaves.get(write.target).map(|it| &it.source) else { continue };
        match columns_of(write, relation, database) {
            Some(columns) if !columns.is_empty() => left.push((write, relation, columns)),
            Some(_) => {}
            None => return Ok(None),
        }
    }
    let calls = !query.notes.sequences.is_empty();
    if left.is_empty() && !calls {
        return Ok(None);
    }
    let name = left.iter().find_map(|(_, relation, columns)| Some((&relation.name, &columns.first()?.name)));
    let refuse = |what: &str| {
        let message = match (name, query.notes.sequences.first()) {
            (Some((table, column)), _) => {
                format!("{what} that leaves \"{column}\" of \"{table}\" to a sequence is not supported")
            }
            (None, Some(called)) => format!("{called} in {what} is not supported"),
            (None, None) => format!("{what} with a sequence is not supported"),
        };
        Err(ClientError::unsupported(message, PLAIN))
    };
    if around != Around::Nothing {
        return refuse("EXPLAIN, a cursor, COPY or CREATE TABLE AS");
    }
    match query.writes.as_slice() {
        [] if query.leaves.is_empty() && !query.notes.locks => Ok(Some(Drawing { insert: None })),
        [write] if write.kind == WriteKind::Insert && query.only_writes => {
            let defaults = match &write.rows {
                Rows::Values(_) | Rows::Folded { .. } => false,
                Rows::Defaults => true,
                Rows::Query { .. } | Rows::None => return refuse("INSERT … SELECT"),
            };
            let Some(Source::Table(relation)) = query.leaves.get(write.target).map(|it| &it.source) else {
                return refuse("INSERT into what is no table of the map");
            };
            let columns = columns_of(write, relation, database).unwrap_or_default();
            let always = |it: &Drawn| {
                relation.columns.iter().any(|column| column.name == it.name && column.identity == Some('a'))
            };
            let inserted = Inserted {
                meant: write.splice_at.map(|_| meant(write)),
                defaults,
                always: columns.iter().any(always),
                given: relation.columns.iter().any(|it| it.identity == Some('a') && is_given(write, it)),
                columns,
            };
            Ok(Some(Drawing { insert: Some(inserted) }))
        }
        [] => refuse("a query over tables"),
        _ => refuse("UPDATE, DELETE, MERGE or WITH"),
    }
}

/// How wide the rows are.
fn width(write: &Write) -> usize {
    match &write.rows {
        Rows::Values(rows) => rows.first().map_or(0, Vec::len),
        Rows::Folded { row, .. } => row.len(),
        Rows::Defaults | Rows::Query { .. } | Rows::None => 0,
    }
}

/// The columns that rows give where the statement has no list.
fn meant(write: &Write) -> Vec<Arc<str>> {
    write.columns.iter().take(width(write)).cloned().collect()
}

/// Whether some row gives the column a value of its own.
fn is_given(write: &Write, column: &Column) -> bool {
    let Some(place) = write.columns.iter().position(|it| *it == column.name) else { return false };
    let own = |row: &Vec<Cell>| row.get(place).is_some_and(|it| !matches!(it, Cell::Default));
    match &write.rows {
        Rows::Values(rows) => rows.iter().any(own),
        Rows::Folded { row, .. } => own(row),
        Rows::Defaults | Rows::Query { .. } | Rows::None => false,
    }
}

/// The columns that an INSERT leaves to sequences of the map; `None`: some are left to others, or cannot be told.
fn columns_of(write: &Write, relation: &Relation, database: &Database) -> Option<Vec<Drawn>> {
    let home = match database.placement(&relation.name)? {
        Placement::Sharded { .. } | Placement::Reference => None,
        Placement::Unsharded { home } => Some(home),
    };
    let width = width(write);
    let mut columns = Vec::new();
    for column in relation.columns.iter().filter(|it| it.uses_sequence || it.identity.is_some()) {
        if write.overriding && column.identity.is_some() {
            return None;
        }
        let place = write.columns.iter().position(|it| *it == column.name);
        let is_left = |row: &Vec<Cell>, place| matches!(row.get(place), Some(Cell::Default) | None);
        let left = match (&write.rows, place) {
            (Rows::Defaults, _) | (_, None) => true,
            (Rows::Values(rows), Some(place)) => rows.iter().any(|row| is_left(row, place)),
            (Rows::Folded { row, .. }, Some(place)) => is_left(row, place),
            (Rows::Query { outputs, .. }, Some(place)) => write.splice_at.is_some() && place >= outputs.len(),
            (Rows::None, Some(_)) => false,
        };
        if !left {
            continue;
        }
        let known = column.sequence.as_ref().and_then(|it| Some((it, database.sequences.get(it)?)));
        match (known, home) {
            // The table's own server counts for it.
            (Some((_, sequence)), Some(home)) if sequence.shard == home => {}
            (None, Some(_)) => {}
            (None, None) => return None,
            (Some((sequence, _)), _) => columns.push(Drawn {
                name: Arc::clone(&column.name),
                place: place.filter(|it| *it < width),
                sequence: sequence.clone(),
                identity: column.identity.is_some(),
                default: column.default.clone().filter(|it| column.identity.is_none() && !is_plain(it)),
            }),
        }
    }
    Some(columns)
}

/// Whether a default is `nextval('…'::regclass)` and nothing else.
pub(crate) fn is_plain(default: &str) -> bool {
    let Ok(lexemes) = lex::lexemes(default, 0..default.len(), None) else { return false };
    let words = Words { text: default, lexemes };
    call(&words, 0).is_some_and(|it| it.function == Function::Next && it.end == words.lexemes.len())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Next,
    Current,
    Last,
    Set,
}

/// A call of one of the four.
#[derive(Debug)]
struct Call {
    function: Function,
    /// Its first argument, as a string lexeme.
    name: usize,
    /// Behind the first argument.
    behind: usize,
    /// Behind its parentheses.
    end: usize,
}

/// The call that begins at a word, in a form that is understood.
fn call(words: &Words<'_>, at: usize) -> Option<Call> {
    let at = if words.is(at, "pg_catalog") && words.kind(at + 1) == Kind::Dot { at + 2 } else { at };
    let function = function_at(words, at)?;
    let end = words.closed(at + 1)?;
    let name = at + 2;
    if function == Function::Last {
        return (end == name + 1).then_some(Call { function, name, behind: name, end });
    }
    if words.kind(name) != Kind::String {
        return None;
    }
    let mut behind = name + 1;
    while words.kind(behind) == Kind::Cast {
        behind += if words.is(behind + 1, "pg_catalog") && words.kind(behind + 2) == Kind::Dot { 3 } else { 1 };
        if !["regclass", "text", "varchar"].iter().any(|it| words.is(behind, it)) {
            return None;
        }
        behind += 1;
    }
    (function == Function::Set || behind + 1 == end).then_some(Call { function, name, behind, end })
}

/// The function that is called at this word.
fn function_at(words: &Words<'_>, at: usize) -> Option<Function> {
    if words.kind(at + 1) != Kind::Open {
        return None;
    }
    let known = [
        ("nextval", Function::Next),
        ("currval", Function::Current),
        ("lastval", Function::Last),
        ("setval", Function::Set),
    ];
    known.into_iter().find(|(name, _)| words.is(at, name)).map(|(_, function)| function)
}

fn label(function: Function) -> &'static str {
    match function {
        Function::Next => "nextval",
        Function::Current => "currval",
        Function::Last => "lastval",
        Function::Set => "setval",
    }
}

impl Planned {
    /// Whether numbers of sequences have to be taken before it can be planned.
    #[must_use]
    pub fn draws(&self) -> bool {
        matches!(self.template.route, Route::Draw(_))
    }

    /// The statement with gaps for numbers, which are then written as they are (`typed`: as values whose type is known).
    ///
    /// # Errors
    /// A sequence that the map does not list; a call in a form that is not understood.
    pub fn told(&self, text: &str, world: &World, typed: bool) -> Result<Told, ClientError> {
        let Route::Draw(drawing) = &self.template.route else { return Err(unreadable()) };
        let lexemes = lex::lexemes(text, self.range.clone(), None).map_err(|_| unreadable())?;
        let writer = Writer { words: Words { text, lexemes }, world, typed };
        let mut told = Told { pieces: Vec::new(), numbers: Vec::new() };
        match &drawing.insert {
            None => writer.select(&mut told)?,
            Some(inserted) => writer.insert(inserted, &mut told)?,
        }
        Ok(told)
    }
}

struct Writer<'t> {
    words: Words<'t>,
    world: &'t World,
    /// The type of numbers is known: they are parameters.
    typed: bool,
}

impl Writer<'_> {
    /// A SELECT without tables.
    fn select(&self, told: &mut Told) -> Result<(), ClientError> {
        let words = &self.words;
        let all = 0..words.lexemes.len();
        if !words.is(0, "select") {
            return Err(refused("a sequence's number outside of SELECT and VALUES"));
        }
        for at in 1..all.end {
            let word = words.raw(at).to_ascii_lowercase();
            let calls = words.kind(at + 1) == Kind::Open && function_at(words, at).is_none() && word != "cast";
            if words.kind(at) == Kind::Word && (calls || CLAUSES.contains(&word.as_str())) {
                return Err(refused(&format!("a sequence's number beside \"{word}\"")));
            }
            if words.kind(at) == Kind::Quoted && words.kind(at + 1) == Kind::Open {
                return Err(refused("a sequence's number beside another function"));
            }
        }
        self.calls(&all, true, told)
    }

    /// A part of the text with numbers in the place of calls; in a SELECT, outputs are called as they were.
    fn calls(&self, range: &Range<usize>, selects: bool, told: &mut Told) -> Result<(), ClientError> {
        let words = &self.words;
        let (mut at, mut copied) = (range.start, range.start);
        let before = |from: usize, to: usize, told: &mut Told| {
            let start = words.lexemes.get(from).map(|it| it.start);
            let end = match words.lexemes.get(to).filter(|_| to < range.end) {
                Some(next) => Some(next.start),
                None => words.lexemes.get(range.end - 1).map(|it| it.end),
            };
            if let Some(text) = start.zip(end).and_then(|(start, end)| words.text.get(start..end)) {
                told.push(text);
            }
        };
        while at < range.end {
            let Some(call) = call(words, at) else {
                if let Some(function) = function_at(words, at) {
                    return Err(refused(&format!("{} of a sequence that is not named by a literal", label(function))));
                }
                at += 1;
                continue;
            };
            if at > copied {
                before(copied, at, told);
            }
            let number = self.number(&call)?;
            // A cell that is the number and nothing else may be a shard key.
            let alone = at == range.start && call.end == range.end && !selects;
            let (open, close) = match (selects, self.typed || alone) {
                (true, true) => ("(SELECT ", format!(" AS {})", label(call.function))),
                (true, false) => ("(SELECT (", format!(")::pg_catalog.int8 AS {})", label(call.function))),
                (false, true) => ("", String::new()),
                (false, false) => ("(", ")::pg_catalog.int8".to_owned()),
            };
            told.push(open);
            told.number(number);
            told.push(&close);
            at = call.end;
            copied = at;
            // What stood between is kept apart.
            if let (Some(last), Some(next)) = (words.lexemes.get(at - 1), words.lexemes.get(at))
                && at < range.end
            {
                told.push(words.text.get(last.end..next.start).unwrap_or(" "));
            }
        }
        if copied < range.end {
            before(copied, range.end, told);
        }
        Ok(())
    }

    fn insert(&self, inserted: &Inserted, told: &mut Told) -> Result<(), ClientError> {
        let words = &self.words;
        let (values, rows) = if inserted.defaults {
            let all = 1..words.lexemes.len();
            let at = all.clone().find(|at| words.is(*at, "default") && words.is(at + 1, "values"));
            (at.ok_or_else(unreadable)?, Vec::new())
        } else {
            words.values().ok_or_else(unreadable)?
        };
        let overrides = values.checked_sub(3).filter(|it| words.is(*it, "overriding") && words.is(values - 1, "value"));
        if inserted.given && overrides.is_none() {
            // The server words the error.
            return Err(refused("a value for a column that is GENERATED ALWAYS, without OVERRIDING SYSTEM VALUE,"));
        }
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let head = overrides.unwrap_or(values);
        let more = inserted.columns.iter().filter(|it| it.place.is_none()).map(|it| quoted(&it.name));
        match &inserted.meant {
            Some(meant) => {
                let names: Vec<String> = meant.iter().map(|it| quoted(it)).chain(more).collect();
                told.push(words.slice(&(0..head)));
                told.push(&format!(" ({})", names.join(", ")));
            }
            None => {
                let close = head.checked_sub(1).filter(|it| words.kind(*it) == Kind::Close).ok_or_else(unreadable)?;
                told.push(words.slice(&(0..close)));
                more.for_each(|name| told.push(&format!(", {name}")));
                told.push(")");
            }
        }
        if let Some(at) = overrides {
            told.push(" ");
            told.push(words.slice(&(at..values)));
        } else if inserted.always {
            told.push(" OVERRIDING SYSTEM VALUE");
        }
        told.push(" VALUES ");
        for (at, row) in rows.iter().enumerate() {
            told.push(if at > 0 { ", (" } else { "(" });
            self.row(inserted, row, told)?;
            told.push(")");
        }
        let tail = rows.last().map_or(values + 2, |it| it.end)..words.lexemes.len();
        if inserted.defaults {
            told.push("(");
            self.left_out(inserted, true, told)?;
            told.push(")");
        }
        if let Some(at) = tail.clone().find(|at| function_at(words, *at).is_some()) {
            return Err(refused(&format!("{} in ON CONFLICT or RETURNING", words.raw(at))));
        }
        if !tail.is_empty() {
            told.push(" ");
            told.push(words.slice(&tail));
        }
        Ok(())
    }

    fn row(&self, inserted: &Inserted, row: &Range<usize>, told: &mut Told) -> Result<(), ClientError> {
        let words = &self.words;
        let cells = words.cells(row);
        for (place, cell) in cells.iter().enumerate() {
            if place > 0 {
                told.push(", ");
            }
            match inserted.columns.iter().find(|it| it.place == Some(place)) {
                Some(column) if words.is_default(cell) => self.next(column, told)?,
                _ => {
                    let conditional = |at: usize| {
                        words.kind(at) == Kind::Word
                            && CONDITIONAL.contains(&words.raw(at).to_ascii_lowercase().as_str())
                    };
                    if cell.clone().any(|at| function_at(words, at).is_some()) && cell.clone().any(conditional) {
                        return Err(refused("a sequence's number in a subquery or a condition"));
                    }
                    self.calls(cell, false, told)?;
                }
            }
        }
        self.left_out(inserted, cells.is_empty(), told)
    }

    /// The numbers of columns that rows leave out.
    fn left_out(&self, inserted: &Inserted, first: bool, told: &mut Told) -> Result<(), ClientError> {
        let mut first = first;
        for column in inserted.columns.iter().filter(|it| it.place.is_none()) {
            if !std::mem::replace(&mut first, false) {
                told.push(", ");
            }
            self.next(column, told)?;
        }
        Ok(())
    }

    /// What a column's default comes to.
    fn next(&self, column: &Drawn, told: &mut Told) -> Result<(), ClientError> {
        let name = column.sequence.clone();
        let number = if column.identity { Number::Identity(name) } else { Number::Next(name) };
        let Some(default) = &column.default else {
            told.number(number);
            return Ok(());
        };
        let lexemes = lex::lexemes(default, 0..default.len(), None).map_err(|_| unreadable())?;
        let words = Words { text: default, lexemes };
        let found = (0..words.lexemes.len()).find_map(|at| Some((at, call(&words, at)?)));
        let called = (0..words.lexemes.len()).filter(|at| function_at(&words, *at).is_some()).count();
        let conditional = |at: &usize| CONDITIONAL.iter().any(|it| words.is(*at, it));
        let (at, call) = found
            .filter(|(_, it)| it.function == Function::Next && called == 1)
            .filter(|_| !(0..words.lexemes.len()).any(|at| conditional(&at)))
            .ok_or_else(|| refused(&format!("the default {default}")))?;
        told.push("(");
        told.push(words.slice(&(0..at)));
        told.push(if self.typed { "" } else { "(" });
        told.number(number);
        told.push(if self.typed { "" } else { ")::pg_catalog.int8" });
        told.push(words.slice(&(call.end..words.lexemes.len())));
        told.push(")");
        Ok(())
    }

    fn number(&self, call: &Call) -> Result<Number, ClientError> {
        if call.function == Function::Last {
            return Ok(Number::Last);
        }
        let raw = self.words.raw(call.name);
        let value = lex::string_value(raw).and_then(|it| String::from_utf8(it).ok()).ok_or_else(unreadable)?;
        let name = self.named(&value, call.function)?;
        Ok(match call.function {
            Function::Next => Number::Next(name),
            Function::Current | Function::Last => Number::Current(name),
            Function::Set => {
                let (value, called) = self.set_to(call).ok_or_else(|| refused("setval of what is no literal"))?;
                Number::Set { name, value, called }
            }
        })
    }

    /// The other arguments of setval.
    fn set_to(&self, call: &Call) -> Option<(i64, bool)> {
        let words = &self.words;
        let mut at = call.behind + 1;
        if words.kind(call.behind) != Kind::Comma {
            return None;
        }
        let minus = words.kind(at) == Kind::Operator && words.raw(at) == "-";
        at += usize::from(minus);
        let digits = words.raw(at);
        let value = if minus { format!("-{digits}") } else { digits.to_owned() };
        let value = value.parse().ok().filter(|_| words.kind(at) == Kind::Integer)?;
        let called = match words.kind(at + 1) {
            Kind::Comma if words.is(at + 2, "true") => Some((true, at + 3)),
            Kind::Comma if words.is(at + 2, "false") => Some((false, at + 3)),
            Kind::Close => Some((true, at + 1)),
            _ => None,
        };
        called.filter(|(_, at)| at + 1 == call.end).map(|(called, _)| (value, called))
    }

    /// The sequence of the map that a regclass names.
    fn named(&self, text: &str, function: Function) -> Result<TableName, ClientError> {
        let lexemes = lex::lexemes(text, 0..text.len(), None).map_err(|_| unreadable())?;
        let words = Words { text, lexemes };
        let mut parts: Vec<Arc<str>> = Vec::new();
        for at in 0..words.lexemes.len() {
            match words.kind(at) {
                Kind::Word if at % 2 == 0 => parts.push(lex::fold(words.raw(at)).into()),
                Kind::Quoted if at % 2 == 0 => parts.push(lex::unquote(words.raw(at)).into()),
                Kind::Dot if at % 2 == 1 => {}
                _ => return Err(refused(&format!("{} of '{text}'", label(function)))),
            }
        }
        let database = &self.world.database;
        let name = match self.world.names().find(&parts) {
            sql::Relation::Known(relation) => Some(relation.name.clone()),
            sql::Relation::Missing(name) => Some(name).filter(|_| self.world.schema.assumed),
            sql::Relation::Temporary(_) | sql::Relation::System(_) => None,
        };
        name.filter(|it| database.sequences.contains_key(it)).ok_or_else(|| {
            ClientError::unsupported(
                format!("{} of \"{text}\" is not supported: every shard counts by itself", label(function)),
                "List it in the map, under sequences: {NAME: {shard: …}}.",
            )
        })
    }
}

/// Words behind which a SELECT's rows are none or several, or its parts not always computed.
const CLAUSES: [&str; 27] = [
    "all",
    "and",
    "array",
    "between",
    "case",
    "coalesce",
    "distinct",
    "except",
    "exists",
    "fetch",
    "for",
    "from",
    "group",
    "having",
    "in",
    "intersect",
    "into",
    "limit",
    "offset",
    "or",
    "order",
    "select",
    "some",
    "union",
    "values",
    "where",
    "window",
];

/// Words behind which a part of an expression is not always computed, or more than once.
const CONDITIONAL: [&str; 7] = ["and", "case", "coalesce", "or", "select", "values", "nullif"];

const PLAIN: &str = "Take numbers by INSERT … VALUES, or by SELECT nextval('…') before.";

fn refused(what: &str) -> ClientError {
    ClientError::unsupported(format!("{what} is not supported"), PLAIN)
}

fn unreadable() -> ClientError {
    ClientError::new(Code::Unreadable, "the statement's text cannot be cut into its parts", "Write it more plainly.")
}
