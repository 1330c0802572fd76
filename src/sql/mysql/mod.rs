//! The same for MySQL and MariaDB: text → [`Statement`].

mod analyze;
pub mod command;
pub(crate) mod ddl;
pub mod given;
pub(crate) mod keys;
pub mod load;
mod read;
mod session;
pub mod set_statement;
pub mod state;

use std::ops::Range;
use std::sync::Arc;

use crate::error::ClientError;
use crate::error::Code;
use crate::ident::TableName;
use crate::schema::Relation;
use crate::schema::Schema;
use crate::sql::Access;
use crate::sql::Body;
use crate::sql::Command;
use crate::sql::Effects;
use crate::sql::Source;
use crate::sql::Statement;
use crate::sql::Whole;
use crate::sql::cursor::Cursor;
use crate::sql::lex::Kind;
use crate::sql::lex::Lexeme;
use crate::sql::lex::mysql as lex;
use crate::sql::lex::mysql::Mode;
use crate::sql::model;
use crate::sql::model::Notes;
use crate::sql::model::Query;
use crate::sql::read as reading;
use crate::sql::session::unreadable;

pub use self::analyze::shape::Item;
pub use self::analyze::shape::Ordered;
pub use self::analyze::shape::Path;
pub use self::analyze::shape::Shape;
pub use self::analyze::shape::Total;

use self::command::MysqlCommand;
use self::session::Found as First;

/// Everything that decides what a relation's name means.
#[derive(Clone, Debug)]
pub struct MysqlNames<'a> {
    /// What exists.
    pub schema: &'a Schema,
    /// The current database, as the servers call it; empty: none is.
    pub database: &'a str,
    /// The session's temporary tables.
    pub temporary: &'a [Arc<str>],
}

/// What a relation's name means.
pub(crate) enum Found {
    Table(Arc<Relation>),
    /// Of a database of the server's own.
    System(Arc<str>),
    Temporary(Arc<str>),
    Missing(TableName),
}

impl MysqlNames<'_> {
    fn find(&self, database: Option<&str>, table: &str) -> Result<Found, ClientError> {
        let database = database.unwrap_or(self.database);
        if database.is_empty() {
            return Err(ClientError::unsupported(
                format!("\"{table}\" is named without a database, and none is selected"),
                "USE a database, or name it: database.table.",
            ));
        }
        let system = ["information_schema", "performance_schema", "mysql", "sys"];
        if system.iter().any(|it| it.eq_ignore_ascii_case(database)) {
            return Ok(Found::System(format!("{database}.{table}").into()));
        }
        if database == self.database && self.temporary.iter().any(|it| **it == *table) {
            return Ok(Found::Temporary(table.into()));
        }
        // Tables are told apart by case (lower_case_table_names = 0).
        let name = TableName::new(database, table);
        Ok(match self.schema.relation(&name) {
            Some(relation) => Found::Table(Arc::clone(relation)),
            None => Found::Missing(name),
        })
    }
}

/// Reads one statement of MySQL.
///
/// # Errors
/// A refusal.
pub fn statement(source: &Source<'_>, names: &MysqlNames<'_>, mode: Mode) -> Result<Statement, ClientError> {
    let piece = source.piece;
    let base = piece.range.start;
    let plain = |command, tag| Statement {
        command,
        tag,
        effects: Effects::default(),
        access: Access::Read,
        body: Body::Session,
    };
    if piece.range.is_empty() {
        return Ok(plain(Command::Empty, ""));
    }
    let skip = piece.repeat.map(|it| it.skip);
    let lexemes = lex::lexemes(source.text, piece.range.clone(), skip, mode).map_err(|_| unreadable("SQL"))?;
    // Those that can be read in one way are not in the text any more ([`super::lex::executable`]).
    if lexemes.iter().any(|it| it.kind == Kind::Executable) {
        return Err(ClientError::unsupported(
            "a comment that servers execute (/*! … */), or a hint that sets a variable, is not supported",
            "Write it without the comment; databases of one shard take it as it is.",
        ));
    }
    let mut cursor = Cursor::new(source.text, &lexemes);
    match session::read(&mut cursor, mode)? {
        First::Session(command, tag) => Ok(plain(Command::Mysql(Box::new(relative(command, base))), tag)),
        First::Whole(found) => {
            let effects =
                Effects { changes_schema: found.ddl, pins: found.pins, unpins: found.unpins, ..Effects::default() };
            let command = if found.ddl { Command::Ddl } else { Command::Data };
            let access = if found.reads { Access::ReadPrimary } else { Access::Write };
            let changed = if found.ddl { ddl::read(&mut Cursor::new(source.text, &lexemes)) } else { None };
            let loads = found.loads.map(|it| Box::new(it.relative(base)));
            let changed = changed.map(Box::new);
            let body = Body::Whole(Whole { what: found.tag, hint: found.hint, changed, loads });
            Ok(Statement { command, tag: found.tag, effects, access, body })
        }
        First::Catalog(tag) => {
            let notes = Notes { catalog: Some(tag.to_owned()), exact_only: true, ..Notes::default() };
            let body = Body::Query(Box::new(Query { notes, ..Query::default() }));
            Ok(Statement { body, ..plain(Command::Data, tag) })
        }
        First::Explain(analyze) => {
            let range = cursor.rest();
            let mut statement = data(source, &lexemes, &range, names, mode)?;
            statement.tag = "EXPLAIN";
            if let Body::Query(query) = &mut statement.body {
                query.notes.explained = Some(analyze);
                query.notes.explained_at = range.start.saturating_sub(base);
                query.notes.exact_only = true;
            }
            Ok(statement)
        }
        First::Other => data(source, &lexemes, &piece.range, names, mode),
    }
}

fn data(
    source: &Source<'_>,
    lexemes: &[Lexeme],
    range: &Range<usize>,
    names: &MysqlNames<'_>,
    mode: Mode,
) -> Result<Statement, ClientError> {
    let parameters: Vec<usize> = lexemes.iter().filter(|it| it.kind == Kind::Parameter).map(|it| it.start).collect();
    let lexemes: Vec<Lexeme> = lexemes.iter().copied().filter(|it| it.start >= range.start).collect();
    reading::check(&lexemes)?;
    let replaces = lexemes
        .first()
        .and_then(|it| source.text.get(it.start..it.end))
        .is_some_and(|it| it.eq_ignore_ascii_case("replace"));
    let skip = source.piece.repeat.map(|it| it.skip);
    let folded = |start: u32| {
        skip.is_some_and(|(from, to)| usize::try_from(start).is_ok_and(|start| start >= from && start < to))
    };
    let starts: Vec<u32> = source.literals.iter().map(|it| it.start).filter(|it| !folded(*it)).collect();
    let input = analyze::Input {
        starts: &starts,
        parameters: &parameters,
        repeat: source.piece.repeat.map(|it| (it.first, it.width)),
        base: source.piece.range.start,
    };
    let work = || -> Result<_, ClientError> {
        let (statement, seen) = read::parse(source.text, &lexemes, mode).ok_or_else(|| unreadable("SQL"))?;
        let (query, asks) = analyze::analyze(&statement, names, &seen, &input)?;
        Ok((query, asks, seen.assigned))
    };
    let done = if reading::is_small(&lexemes) { Some(work()) } else { reading::on_a_big_stack(work) };
    let (query, asks, assigns) = done.unwrap_or_else(|| {
        Err(ClientError::new(Code::Internal, "the statement could not be analysed", "Report this; the log has more."))
    })?;
    let tag = match query.writes.first().map(|it| it.kind) {
        None => "SELECT",
        Some(model::WriteKind::Insert) if replaces => "REPLACE",
        Some(model::WriteKind::Insert) => "INSERT",
        Some(model::WriteKind::Update) => "UPDATE",
        Some(model::WriteKind::Delete | model::WriteKind::Merge) => "DELETE",
    };
    let effects = Effects { asks_session: asks.map(Into::into), assigns, ..Effects::default() };
    let body = Body::Query(Box::new(query));
    Ok(Statement { command: Command::Data, tag, effects, access: Access::Read, body })
}

/// Byte ranges are told relative to the statement.
fn relative(command: MysqlCommand, base: usize) -> MysqlCommand {
    match command {
        MysqlCommand::Set(mut settings) => {
            for it in &mut settings {
                it.value = it.value.start.saturating_sub(base)..it.value.end.saturating_sub(base);
            }
            MysqlCommand::Set(settings)
        }
        other => other,
    }
}
