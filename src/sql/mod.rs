//! Text → [`Statement`]: what it touches, never where that lives.
//!
//! `lex` cuts the text, `session` and `ddl` read what needs no syntax tree, `read` asks sqlparser for one, and
//! `analyze` turns it into a [`model::Query`]. The tree does not leave this folder.

mod analyze;
mod catalogs;
mod cursor;
mod ddl;
pub mod facts;
pub(crate) mod functions;
pub mod lex;
pub mod model;
pub mod mysql;
mod names;
mod read;
mod session;
mod statement;

use std::ops::Range;
use std::sync::Arc;

use crate::error::ClientError;
use crate::error::Code;

pub use analyze::ARRAY_OF;
pub(crate) use analyze::is_reserved_word;
pub use analyze::not_mapped;
pub use ddl::Changes;
pub use ddl::Constraints;
pub use ddl::CopyFormat;
pub use ddl::CopyKind;
pub use ddl::CreateTable;
pub use ddl::Foreign;
pub use ddl::Utility;
pub use names::Names;
pub use statement::Access;
pub use statement::Command;
pub use statement::CopyDirection;
pub use statement::Effects;
pub use statement::Isolation;
pub use statement::Modes;
pub use statement::Pin;
pub use statement::SetConfig;

use self::cursor::Cursor;
use self::lex::Lexeme;
use self::model::Query;

/// One statement, read.
#[derive(Debug)]
pub struct Statement {
    /// What the session has to do about it.
    pub command: Command,
    /// The command tag's words.
    pub tag: &'static str,
    /// What is known of its effects from its form alone.
    pub effects: Effects,
    /// What it does to data, from its form alone.
    pub access: Access,
    /// What it is about.
    pub body: Body,
}

/// What a statement is about.
#[derive(Debug)]
pub enum Body {
    /// Nothing that is placed.
    Session,
    /// Rows.
    Query(Box<Query>),
    /// A schema, or rows wholesale.
    Utility(Utility, Option<Box<Query>>),
    /// MySQL: what only a server with all the data may carry out.
    Whole(Whole),
}

/// What goes to the only shard of a database as it stands, and is refused where there are more.
#[derive(Clone, Debug)]
pub struct Whole {
    /// What it is called.
    pub what: &'static str,
    /// What to do instead.
    pub hint: &'static str,
    /// MySQL: the tables that it makes, changes or removes, which several shards can do.
    pub changed: Option<Box<mysql::ddl::Changed>>,
    /// MySQL: LOAD DATA LOCAL, which asks the client for a file.
    pub loads: Option<Box<mysql::load::Load>>,
}

/// One statement of a text, as the lexer cut it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The whole text.
    pub text: &'a str,
    /// Which statement of it.
    pub piece: &'a lex::Piece,
    /// Its literals.
    pub literals: &'a [Range<u32>],
}

/// What the statement is called when it cannot be read: its first word in upper case, where it is a usual one.
#[must_use]
pub fn leading_tag(source: &Source<'_>) -> &'static str {
    let text = source.text.get(source.piece.range.clone()).unwrap_or_default();
    let first = lex::next(text.as_bytes(), 0).ok().and_then(|it| text.get(it.start..it.end)).unwrap_or_default();
    for (word, tag) in
        [("insert", "INSERT"), ("update", "UPDATE"), ("delete", "DELETE"), ("merge", "MERGE"), ("select", "SELECT")]
    {
        if first.eq_ignore_ascii_case(word) {
            return tag;
        }
    }
    "SELECT"
}

/// Reads one statement under `names`.
///
/// # Errors
/// A refusal; where the server itself objects to the text, its error goes first.
pub fn statement(source: &Source<'_>, names: Names<'_>) -> Result<Statement, ClientError> {
    let piece = source.piece;
    if piece.range.is_empty() {
        return Ok(Statement {
            command: Command::Empty,
            tag: "",
            effects: Effects::default(),
            access: Access::Read,
            body: Body::Session,
        });
    }
    let skip = piece.repeat.map(|it| it.skip);
    let lexemes = lex::lexemes(source.text, piece.range.clone(), skip).map_err(|_| session::unreadable("SQL"))?;
    let mut cursor = Cursor::new(source.text, &lexemes);
    if let Some(found) = session::read(&mut cursor) {
        let found = found?;
        let mut body = Body::Session;
        if let Some(range) = found.query {
            body = Body::Query(Box::new(query(source, &lexemes, &range, names)?));
        }
        return Ok(Statement {
            command: relative(found.command, piece.range.start),
            tag: found.tag,
            effects: found.effects,
            access: found.access,
            body,
        });
    }
    let mut cursor = Cursor::new(source.text, &lexemes);
    if let Some(found) = ddl::read(&mut cursor) {
        let found = found?;
        return utility(source, &lexemes, found, names);
    }
    let mut cursor = Cursor::new(source.text, &lexemes);
    if cursor.take("explain") {
        return explain(source, &lexemes, cursor, names);
    }
    data(source, &lexemes, &piece.range, names)
}

fn data(
    source: &Source<'_>,
    lexemes: &[Lexeme],
    range: &Range<usize>,
    names: Names<'_>,
) -> Result<Statement, ClientError> {
    let query = query(source, lexemes, range, names)?;
    let tag =
        match query.writes.iter().rfind(|write| query.blocks.get(write.block).is_some_and(|it| it.parent.is_none())) {
            Some(write) if query.top.is_none() => match write.kind {
                model::WriteKind::Insert => "INSERT",
                model::WriteKind::Update => "UPDATE",
                model::WriteKind::Delete => "DELETE",
                model::WriteKind::Merge => "MERGE",
            },
            _ => "SELECT",
        };
    Ok(Statement {
        command: Command::Data,
        tag,
        effects: Effects::default(),
        access: Access::Read,
        body: Body::Query(Box::new(query)),
    })
}

/// Parses and analyses the statement in `range`, which is a part of the source.
fn query(
    source: &Source<'_>,
    lexemes: &[Lexeme],
    range: &Range<usize>,
    names: Names<'_>,
) -> Result<Query, ClientError> {
    let before = lexemes.partition_point(|it| it.start < range.start);
    let lexemes: Vec<Lexeme> =
        lexemes.iter().copied().filter(|it| it.start >= range.start && it.end <= range.end).collect();
    read::check(&lexemes)?;
    // Numbers of literals are those of the statement without its folded rows.
    let skip = source.piece.repeat.map(|it| it.skip);
    let folded = |start: u32| {
        skip.is_some_and(|(from, to)| usize::try_from(start).is_ok_and(|start| start >= from && start < to))
    };
    let starts: Vec<u32> = source.literals.iter().map(|it| it.start).filter(|it| !folded(*it)).collect();
    let work = |inline: bool, names: Names<'_>| -> Result<Query, ClientError> {
        let Some((statement, removed)) = read::parse(source.text, &lexemes) else {
            if catalogs::only(source.text, &lexemes, &names) {
                return Ok(catalogs::query());
            }
            return Err(session::unreadable(first_word(source.text, &lexemes)));
        };
        let input = analyze::Input {
            text: source.text,
            lexemes: &lexemes,
            before,
            starts: &starts,
            repeat: source.piece.repeat.map(|it| (it.first, it.width)),
            conflict_removed: removed.conflict,
            overriding: removed.overriding,
            inline,
        };
        analyze::analyze(&statement, names, &input)
    };
    if read::is_small(&lexemes) {
        match work(true, names.clone()) {
            Err(error) if analyze::wants_stack(&error) => {}
            done => return done,
        }
    }
    read::on_a_big_stack(|| work(false, names)).unwrap_or_else(|| {
        Err(ClientError::new(Code::Internal, "the statement could not be analysed", "Report this; the log has more."))
    })
}

fn first_word(text: &str, lexemes: &[Lexeme]) -> &'static str {
    let word = lexemes.first().and_then(|it| text.get(it.start..it.end)).unwrap_or_default();
    for (known, name) in [
        ("select", "SELECT"),
        ("with", "WITH"),
        ("insert", "INSERT"),
        ("update", "UPDATE"),
        ("delete", "DELETE"),
        ("merge", "MERGE"),
        ("values", "VALUES"),
        ("table", "TABLE"),
    ] {
        if word.eq_ignore_ascii_case(known) {
            return name;
        }
    }
    "SQL"
}

/// Byte ranges are told relative to the statement.
fn relative(command: Command, base: usize) -> Command {
    let shift = |range: Range<usize>| range.start.saturating_sub(base)..range.end.saturating_sub(base);
    match command {
        Command::ExplainShards(range) => Command::ExplainShards(shift(range)),
        Command::Prepare { name, types, body } => Command::Prepare { name, types: types.map(shift), body: shift(body) },
        Command::Execute { name, name_at, arguments } => {
            Command::Execute { name, name_at: shift(name_at), arguments: arguments.into_iter().map(shift).collect() }
        }
        other => other,
    }
}

fn utility(
    source: &Source<'_>,
    lexemes: &[Lexeme],
    found: ddl::Read,
    names: Names<'_>,
) -> Result<Statement, ClientError> {
    let mut effects = Effects {
        outside_transaction: found.outside_transaction,
        changes_schema: found.changes_schema,
        ..Effects::default()
    };
    let mut command = Command::Ddl;
    let mut access = Access::Write;
    let mut inner = None;
    match &found.utility {
        Utility::Truncate { .. } | Utility::Code(_) => command = Command::Data,
        Utility::Lock { .. } => {
            command = Command::Data;
            access = Access::ReadPrimary;
            effects.locks_tables = true;
        }
        Utility::Copy { direction, writes, format, .. } => {
            command = Command::Data;
            effects.copy = *direction;
            effects.headed = !*writes && format.as_ref().is_some_and(|it| it.header);
            access = if *writes { Access::Write } else { Access::Read };
        }
        Utility::CopyQuery { query: range, direction, format } => {
            command = Command::Data;
            effects.copy = *direction;
            effects.headed = format.as_ref().is_some_and(|it| it.header);
            access = Access::Read;
            inner = Some(range.clone());
        }
        Utility::CreateTable(table) => {
            if table.temporary {
                command = Command::Data;
                effects.pins = table.name.last().cloned().map(Pin::Temporary);
                effects.changes_schema = false;
            }
            inner = table.query.clone();
        }
        Utility::CreateView { query: range, temporary, .. } => {
            if let Some(name) = temporary {
                command = Command::Data;
                effects.pins = Some(Pin::Temporary(name.clone()));
                effects.changes_schema = false;
            }
            inner = Some(range.clone());
        }
        Utility::CreateIndex { .. }
        | Utility::AlterTable { .. }
        | Utility::About(_)
        | Utility::Drop(_)
        | Utility::Schemas { .. }
        | Utility::Objects { .. }
        | Utility::Moves(_)
        | Utility::Everywhere => {}
    }
    let inner = match inner {
        Some(range) => Some(Box::new(query(source, lexemes, &range, names)?)),
        None => None,
    };
    Ok(Statement { command, tag: found.tag, effects, access, body: Body::Utility(found.utility, inner) })
}

fn explain(
    source: &Source<'_>,
    lexemes: &[Lexeme],
    mut cursor: Cursor<'_>,
    names: Names<'_>,
) -> Result<Statement, ClientError> {
    let mut analyze = false;
    let mut shards = false;
    if cursor.is_kind(lex::Kind::Open) {
        let mut options = cursor.clone();
        let Some(_) = cursor.parenthesized() else { return Err(session::unreadable("EXPLAIN")) };
        let end = cursor.place();
        while options.place() < end {
            shards |= options.is("shards");
            if options.is("analyze") || options.is("analyse") {
                let off = ["off", "false", "0"].iter().any(|it| options.is_at(1, it))
                    || options.peek_at(1).is_some_and(|it| it.kind == lex::Kind::Integer && options.raw(it) == "0");
                analyze = !off;
            }
            options.bump();
        }
    } else {
        while cursor.is("analyze") || cursor.is("analyse") || cursor.is("verbose") {
            analyze |= !cursor.is("verbose");
            cursor.bump();
        }
    }
    let range = cursor.rest();
    if shards {
        return Ok(Statement {
            command: relative(Command::ExplainShards(range), source.piece.range.start),
            tag: "EXPLAIN",
            effects: Effects::default(),
            access: Access::Read,
            body: Body::Session,
        });
    }
    for (word, what) in [("execute", "EXPLAIN EXECUTE"), ("declare", "EXPLAIN DECLARE")] {
        if cursor.is(word) {
            return Err(ClientError::unsupported(format!("{what} is not supported"), "Explain the query itself."));
        }
    }
    if cursor.is("create") || cursor.is("refresh") {
        return Err(ClientError::unsupported("EXPLAIN of a utility statement is not supported", "Explain its query."));
    }
    let mut statement = data(source, lexemes, &range, names)?;
    statement.tag = "EXPLAIN";
    if let Body::Query(query) = &mut statement.body {
        // The plan is shown by one shard, whatever the statement itself may do.
        query.notes.explained = Some(analyze);
        query.notes.explained_at = range.start.saturating_sub(source.piece.range.start);
        query.notes.exact_only = true;
    }
    Ok(statement)
}

/// The name of a relation as the session's names resolve it, for statements without a syntax tree.
#[derive(Clone, Debug)]
pub enum Relation {
    /// A temporary relation.
    Temporary(Arc<str>),
    /// A catalog.
    System(Arc<str>),
    /// A table, view, ….
    Known(Arc<crate::schema::Relation>),
    /// Nothing known has this name.
    Missing(crate::ident::TableName),
}

impl Names<'_> {
    /// What a name means.
    #[must_use]
    pub fn find(&self, parts: &[Arc<str>]) -> Relation {
        match self.relation(parts) {
            names::Found::Temporary(name) => Relation::Temporary(name),
            names::Found::System(name) => Relation::System(name),
            names::Found::Table(relation) => Relation::Known(relation),
            names::Found::Missing(name) => Relation::Missing(name),
        }
    }

    /// The schema in which CREATE makes things.
    #[must_use]
    pub fn creation_schema_name(&self) -> Option<Arc<str>> {
        self.creation_schema().cloned()
    }
}

/// Analyses a view's definition.
///
/// # Errors
/// A refusal.
pub fn view_query(definition: &str, names: Names<'_>) -> Result<Query, ClientError> {
    let definition = definition.trim_end_matches([';', ' ', '\n']);
    let mut lexed = lex::Lexed::default();
    lexed.read(definition).map_err(|_| session::unreadable("view"))?;
    let Some(piece) = lexed.pieces.first() else { return Err(session::unreadable("view")) };
    let literals = lexed.literals.get(piece.literals.clone()).unwrap_or_default();
    let source = Source { text: definition, piece, literals };
    let lexemes = lex::lexemes(definition, piece.range.clone(), None).map_err(|_| session::unreadable("view"))?;
    query(&source, &lexemes, &piece.range, names)
}
