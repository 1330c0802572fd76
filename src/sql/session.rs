//! Statements about the session and the transaction: SET, BEGIN, PREPARE, FETCH, LISTEN, …

use std::sync::Arc;

use crate::error::ClientError;
use crate::error::Code;
use crate::sql::cursor::Cursor;
use crate::sql::lex;
use crate::sql::lex::Kind;
use crate::sql::statement::Access;
use crate::sql::statement::Command;
use crate::sql::statement::Effects;
use crate::sql::statement::Isolation;
use crate::sql::statement::Modes;
use crate::sql::statement::Pin;

/// A statement that the session carries out or sends where it knows.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) command: Command,
    pub(crate) tag: &'static str,
    pub(crate) access: Access,
    pub(crate) effects: Effects,
    /// DECLARE: where the query begins.
    pub(crate) query: Option<std::ops::Range<usize>>,
}

/// What a statement that cannot be read is told; the server's own syntax error goes first if it has one.
pub(crate) fn unreadable(what: &str) -> ClientError {
    ClientError::new(
        Code::Unreadable,
        format!("shardway cannot read this {what} statement"),
        "Write it in a plainer form; the server may accept what shardway's reader does not know.",
    )
}

/// Reads a statement of this kind; `None`: it is of another kind.
pub(crate) fn read(cursor: &mut Cursor<'_>) -> Option<Result<Session, ClientError>> {
    let first = cursor.peek()?;
    if first.kind != Kind::Word {
        return None;
    }
    let word = cursor.raw(first).to_ascii_lowercase();
    let read: fn(&mut Cursor<'_>) -> Option<Session> = match word.as_str() {
        "begin" | "start" => begin,
        "commit" | "end" => commit,
        "rollback" | "abort" => rollback,
        "savepoint" => savepoint,
        "release" => release,
        "set" => set,
        "reset" => reset,
        "show" => show,
        "discard" => discard,
        "prepare" => prepare,
        "execute" => execute,
        "deallocate" => deallocate,
        "declare" => declare,
        "fetch" | "move" => fetch,
        "close" => close,
        "listen" => listen,
        "unlisten" => unlisten,
        "notify" => notify,
        _ => return None,
    };
    for (start, name) in [
        (["prepare", "transaction"], "PREPARE TRANSACTION"),
        (["commit", "prepared"], "COMMIT PREPARED"),
        (["rollback", "prepared"], "ROLLBACK PREPARED"),
    ] {
        if cursor.is_at(0, start[0]) && cursor.is_at(1, start[1]) {
            return Some(Err(ClientError::unsupported(
                format!("{name} is not supported"),
                "Use a plain transaction: the proxy prepares it where it has to.",
            )));
        }
    }
    cursor.bump();
    Some(read(cursor).ok_or_else(|| unreadable(&word.to_ascii_uppercase())))
}

fn plain(command: Command, tag: &'static str) -> Option<Session> {
    Some(Session { command, tag, access: Access::Read, effects: Effects::default(), query: None })
}

/// The same, if nothing is left to read.
fn whole(cursor: &Cursor<'_>, command: Command, tag: &'static str) -> Option<Session> {
    if cursor.at_end() { plain(command, tag) } else { None }
}

fn modes(cursor: &mut Cursor<'_>) -> Option<Modes> {
    let mut modes = Modes::default();
    loop {
        if cursor.take_all(&["isolation", "level"]) {
            modes.isolation = Some(if cursor.take("serializable") {
                Isolation::Serializable
            } else if cursor.take_all(&["repeatable", "read"]) {
                Isolation::RepeatableRead
            } else if cursor.take_all(&["read", "committed"]) || cursor.take_all(&["read", "uncommitted"]) {
                Isolation::ReadCommitted
            } else {
                return None;
            });
        } else if cursor.take_all(&["read", "only"]) {
            modes.read_only = Some(true);
        } else if cursor.take_all(&["read", "write"]) {
            modes.read_only = Some(false);
        } else if cursor.take_all(&["not", "deferrable"]) {
            modes.deferrable = Some(false);
        } else if cursor.take("deferrable") {
            modes.deferrable = Some(true);
        } else {
            return cursor.at_end().then_some(modes);
        }
        if cursor.take_kind(Kind::Comma).is_some() && cursor.at_end() {
            return None;
        }
    }
}

fn begin(cursor: &mut Cursor<'_>) -> Option<Session> {
    cursor.rewind(0);
    if cursor.take("start") {
        if !cursor.take("transaction") {
            return None;
        }
        return plain(Command::Begin(modes(cursor)?), "START TRANSACTION");
    }
    cursor.bump();
    cursor.take_any(&["work", "transaction"]);
    plain(Command::Begin(modes(cursor)?), "BEGIN")
}

fn chain(cursor: &mut Cursor<'_>) -> Option<bool> {
    if cursor.take_all(&["and", "chain"]) {
        return Some(true);
    }
    if cursor.take("and") && !cursor.take_all(&["no", "chain"]) {
        return None;
    }
    Some(false)
}

fn commit(cursor: &mut Cursor<'_>) -> Option<Session> {
    cursor.take_any(&["work", "transaction"]);
    let chain = chain(cursor)?;
    whole(cursor, Command::Commit(chain), "COMMIT")
}

fn rollback(cursor: &mut Cursor<'_>) -> Option<Session> {
    cursor.take_any(&["work", "transaction"]);
    if cursor.take("to") {
        cursor.take("savepoint");
        let name = cursor.name()?;
        return whole(cursor, Command::RollbackTo(name), "ROLLBACK");
    }
    let chain = chain(cursor)?;
    whole(cursor, Command::Rollback(chain), "ROLLBACK")
}

fn savepoint(cursor: &mut Cursor<'_>) -> Option<Session> {
    let name = cursor.name()?;
    whole(cursor, Command::Savepoint(name), "SAVEPOINT")
}

fn release(cursor: &mut Cursor<'_>) -> Option<Session> {
    cursor.take("savepoint");
    let name = cursor.name()?;
    whole(cursor, Command::Release(name), "RELEASE")
}

/// The name of a setting: `a.b.c`, lower case.
fn setting(cursor: &mut Cursor<'_>) -> Option<Arc<str>> {
    let parts = cursor.qualified()?;
    Some(parts.join(".").to_ascii_lowercase().into())
}

fn assign(name: &str, local: bool, value: Option<Arc<str>>) -> Option<Session> {
    plain(Command::Set { name: name.into(), local, value }, "SET")
}

/// A single constant as a setting's value, without quotes.
fn constant(cursor: &mut Cursor<'_>) -> Option<Arc<str>> {
    let sign = if cursor.take_operator("-") {
        "-"
    } else {
        cursor.take_operator("+");
        ""
    };
    let lexeme = cursor.bump()?;
    let raw = cursor.raw(lexeme);
    match lexeme.kind {
        Kind::Integer | Kind::Number => Some(format!("{sign}{raw}").into()),
        _ if !sign.is_empty() => None,
        Kind::String => String::from_utf8(lex::string_value(raw)?).ok().map(Into::into),
        Kind::Word => Some(lex::fold(raw).into()),
        Kind::Quoted => Some(lex::unquote(raw).into()),
        _ => None,
    }
}

/// What follows TO or =: DEFAULT, one constant, or a list.
fn value(cursor: &mut Cursor<'_>) -> Option<Option<Arc<str>>> {
    if cursor.take("default") {
        return cursor.at_end().then_some(None);
    }
    let first = constant(cursor)?;
    if cursor.at_end() {
        return Some(Some(first));
    }
    while cursor.take_kind(Kind::Comma).is_some() {
        constant(cursor)?;
    }
    cursor.at_end().then_some(None)
}

fn set(cursor: &mut Cursor<'_>) -> Option<Session> {
    if cursor.take("constraints") {
        return plain(Command::SetConstraints, "SET CONSTRAINTS");
    }
    if cursor.take("transaction") {
        if cursor.take("snapshot") {
            let value = constant(cursor)?;
            return assign("transaction snapshot", true, Some(value));
        }
        return plain(Command::SetTransaction(modes(cursor)?), "SET");
    }
    if cursor.take_all(&["session", "characteristics", "as", "transaction"]) {
        let rest = cursor.rest();
        let value = cursor.text().get(rest).map(Arc::from);
        modes(cursor)?;
        return assign("session characteristics", false, value);
    }
    let scoped = cursor.place();
    let local = cursor.take("local");
    if !local && cursor.is("session") {
        // SET SESSION name …, but also SET SESSION AUTHORIZATION …
        cursor.take("session");
    }
    if cursor.take("authorization") {
        if cursor.place() == scoped + 1 {
            return None;
        }
        let value = if cursor.take("default") { None } else { Some(constant(cursor)?) };
        let mut session = assign("session_authorization", local, value)?;
        session.effects.pins = Some(Pin::Other("SET SESSION AUTHORIZATION"));
        return cursor.at_end().then_some(session);
    }
    if cursor.take_all(&["time", "zone"]) {
        if cursor.take_any(&["local", "default"]) {
            return if cursor.at_end() { assign("timezone", local, None) } else { None };
        }
        if cursor.is("interval") {
            return assign("timezone", local, None);
        }
        let value = constant(cursor)?;
        return if cursor.at_end() { assign("timezone", local, Some(value)) } else { None };
    }
    if cursor.take("names") {
        let value = if cursor.at_end() || cursor.take("default") { None } else { Some(constant(cursor)?) };
        return if cursor.at_end() { assign("client_encoding", local, value) } else { None };
    }
    if cursor.is("role") && !cursor.is_at(1, "to") && !operator_at(cursor, 1, "=") {
        cursor.bump();
        let value = constant(cursor)?;
        return if cursor.at_end() { assign("role", local, Some(value)) } else { None };
    }
    if cursor.take_all(&["schema"]) {
        let value = constant(cursor)?;
        return if cursor.at_end() { assign("search_path", local, Some(value)) } else { None };
    }
    if cursor.take("catalog") {
        return None;
    }
    if cursor.take_all(&["xml", "option"]) {
        let value = constant(cursor)?;
        return if cursor.at_end() { assign("xmloption", local, Some(value)) } else { None };
    }
    let name = setting(cursor)?;
    if cursor.take_all(&["from", "current"]) {
        return if cursor.at_end() { plain(Command::Show(name), "SET") } else { None };
    }
    if !cursor.take("to") && !cursor.take_operator("=") {
        return None;
    }
    let value = value(cursor)?;
    assign(&name, local, value)
}

fn operator_at(cursor: &Cursor<'_>, ahead: usize, symbol: &str) -> bool {
    cursor.peek_at(ahead).is_some_and(|it| it.kind == Kind::Operator && cursor.raw(it) == symbol)
}

/// The special names that SHOW and RESET know.
fn special(cursor: &mut Cursor<'_>) -> Option<Arc<str>> {
    if cursor.take_all(&["time", "zone"]) {
        return Some("timezone".into());
    }
    if cursor.take_all(&["transaction", "isolation", "level"]) {
        return Some("transaction_isolation".into());
    }
    if cursor.take_all(&["session", "authorization"]) {
        return Some("session_authorization".into());
    }
    setting(cursor)
}

fn reset(cursor: &mut Cursor<'_>) -> Option<Session> {
    if cursor.is("all") && cursor.peek_at(1).is_none() {
        return plain(Command::Reset(None), "RESET");
    }
    let name = special(cursor)?;
    whole(cursor, Command::Reset(Some(name)), "RESET")
}

fn show(cursor: &mut Cursor<'_>) -> Option<Session> {
    let name = special(cursor)?;
    whole(cursor, Command::Show(name), "SHOW")
}

fn discard(cursor: &mut Cursor<'_>) -> Option<Session> {
    if cursor.take("all") {
        return whole(cursor, Command::DiscardAll, "DISCARD ALL");
    }
    let temporary = cursor.is("temp") || cursor.is("temporary");
    let tag = if cursor.take("plans") {
        "DISCARD PLANS"
    } else if cursor.take("sequences") {
        "DISCARD SEQUENCES"
    } else if cursor.take_any(&["temp", "temporary"]) {
        "DISCARD TEMP"
    } else {
        return None;
    };
    let mut session = whole(cursor, Command::Discard, tag)?;
    session.effects.unpins = temporary;
    Some(session)
}

fn prepare(cursor: &mut Cursor<'_>) -> Option<Session> {
    let name = cursor.name()?;
    let types = if cursor.is_kind(Kind::Open) { Some(cursor.parenthesized()?) } else { None };
    if !cursor.take("as") || cursor.at_end() {
        return None;
    }
    plain(Command::Prepare { name, types, body: cursor.rest() }, "PREPARE")
}

fn execute(cursor: &mut Cursor<'_>) -> Option<Session> {
    let at = cursor.peek()?;
    let name = cursor.name()?;
    let mut arguments = Vec::new();
    if cursor.take_kind(Kind::Open).is_some() {
        let mut depth = 0_usize;
        let mut argument: Option<std::ops::Range<usize>> = None;
        loop {
            let lexeme = cursor.bump()?;
            match lexeme.kind {
                Kind::Comma | Kind::Close if depth == 0 => {
                    arguments.push(argument.take()?);
                    if lexeme.kind == Kind::Close {
                        break;
                    }
                    continue;
                }
                Kind::Open | Kind::OpenBracket => depth += 1,
                Kind::Close | Kind::CloseBracket => depth = depth.checked_sub(1)?,
                _ => {}
            }
            let start = argument.map_or(lexeme.start, |it| it.start);
            argument = Some(start..lexeme.end);
        }
    }
    whole(cursor, Command::Execute { name, name_at: at.start..at.end, arguments }, "EXECUTE")
}

fn deallocate(cursor: &mut Cursor<'_>) -> Option<Session> {
    if cursor.is("prepare") && cursor.peek_at(1).is_some() {
        cursor.bump();
    }
    if cursor.take("all") {
        return whole(cursor, Command::Deallocate(None), "DEALLOCATE ALL");
    }
    let name = cursor.name()?;
    whole(cursor, Command::Deallocate(Some(name)), "DEALLOCATE")
}

fn declare(cursor: &mut Cursor<'_>) -> Option<Session> {
    let name = cursor.name()?;
    while cursor.take_any(&["binary", "asensitive", "insensitive", "scroll"]) || cursor.take_all(&["no", "scroll"]) {}
    if !cursor.take("cursor") {
        return None;
    }
    let hold = cursor.take_all(&["with", "hold"]);
    cursor.take_all(&["without", "hold"]);
    if !cursor.take("for") || cursor.at_end() {
        return None;
    }
    let mut session = plain(Command::Declare { name: name.clone(), hold }, "DECLARE CURSOR")?;
    if hold {
        session.effects.pins = Some(Pin::HeldCursor(name));
    }
    session.query = Some(cursor.rest());
    Some(session)
}

/// What may stand before the name of a cursor that is read.
const DIRECTIONS: [&str; 11] =
    ["absolute", "all", "backward", "first", "forward", "from", "in", "last", "next", "prior", "relative"];

fn fetch(cursor: &mut Cursor<'_>) -> Option<Session> {
    cursor.rewind(0);
    let tag = if cursor.take("move") { "MOVE" } else { "FETCH" };
    cursor.take("fetch");
    // The cursor's name is the last word; before it stand a direction, a count, FROM or IN.
    let mut name = None;
    while !cursor.at_end() {
        if name.take().is_some_and(|it: Arc<str>| !DIRECTIONS.contains(&&*it)) {
            return None;
        }
        if cursor.take_operator("-") || cursor.take_operator("+") || cursor.take_kind(Kind::Integer).is_some() {
            continue;
        }
        name = Some(cursor.name()?);
    }
    plain(Command::Fetch(name?), tag)
}

fn close(cursor: &mut Cursor<'_>) -> Option<Session> {
    let command = if cursor.take("all") { Command::Close(None) } else { Command::Close(Some(cursor.name()?)) };
    let mut session = whole(cursor, command, "CLOSE CURSOR")?;
    session.effects.unpins = true;
    Some(session)
}

fn listen(cursor: &mut Cursor<'_>) -> Option<Session> {
    cursor.name()?;
    let mut session = whole(cursor, Command::Listen, "LISTEN")?;
    session.access = Access::Write;
    session.effects.pins = Some(Pin::Listen);
    Some(session)
}

fn unlisten(cursor: &mut Cursor<'_>) -> Option<Session> {
    if !cursor.take_operator("*") {
        cursor.name()?;
    }
    let mut session = whole(cursor, Command::Unlisten, "UNLISTEN")?;
    session.access = Access::Write;
    session.effects.unpins = true;
    Some(session)
}

fn notify(cursor: &mut Cursor<'_>) -> Option<Session> {
    cursor.name()?;
    if cursor.take_kind(Kind::Comma).is_some() {
        cursor.take_kind(Kind::String)?;
    }
    let mut session = whole(cursor, Command::Notify, "NOTIFY")?;
    session.access = Access::Write;
    Some(session)
}
