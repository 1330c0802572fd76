//! Statements about the session, the transaction and the server, and those that are told apart by their first words.

use std::sync::Arc;

use crate::error::ClientError;
use crate::sql::cursor::Cursor;
use crate::sql::lex::Kind;
use crate::sql::lex::mysql as lex;
use crate::sql::lex::mysql::Mode;
use crate::sql::mysql::command::Constant;
use crate::sql::mysql::command::Diagnostics;
use crate::sql::mysql::command::Ending;
use crate::sql::mysql::command::Level;
use crate::sql::mysql::command::MysqlCommand;
use crate::sql::mysql::command::Prepared;
use crate::sql::mysql::command::Scope;
use crate::sql::mysql::command::Setting;
use crate::sql::mysql::command::Target;
use crate::sql::mysql::load;
use crate::sql::mysql::load::Load;
use crate::sql::statement::Pin;

/// What the first words tell.
#[derive(Debug)]
pub(crate) enum Found {
    /// The session's own affair.
    Session(MysqlCommand, &'static str),
    /// It goes whole to a server, where that has all the data.
    Whole(Whole),
    /// What any server of the database tells: the catalog shard.
    Catalog(&'static str),
    /// EXPLAIN of what begins at the cursor; true: ANALYZE.
    Explain(bool),
    /// Of no such kind.
    Other,
}

/// A statement that only a server with all the data may carry out.
#[derive(Debug)]
pub(crate) struct Whole {
    /// The command's name, and what it is called in a refusal.
    pub(crate) tag: &'static str,
    /// What to do instead.
    pub(crate) hint: &'static str,
    /// It may change the schema, and commits what is open.
    pub(crate) ddl: bool,
    /// What stays on the connection.
    pub(crate) pins: Option<Pin>,
    /// It may end that.
    pub(crate) unpins: bool,
    /// It only reads.
    pub(crate) reads: bool,
    /// LOAD DATA LOCAL.
    pub(crate) loads: Option<Box<Load>>,
}

const EACH_SERVER: &str = "Run it on each shard's own server.";
const ONE_SHARD: &str = "It is for databases of one shard.";
const DUMPS: &str = "It is for databases of one shard. mariadb-dump and mysqldump do without by --skip-lock-tables, and leave it out of \
                     what they write by --skip-add-locks.";

fn whole(tag: &'static str, hint: &'static str) -> Whole {
    Whole { tag, hint, ddl: false, pins: None, unpins: false, reads: false, loads: None }
}

fn ddl(tag: &'static str) -> Option<Found> {
    Some(Found::Whole(Whole { ddl: true, ..whole(tag, EACH_SERVER) }))
}

fn pinning(tag: &'static str, unpins: bool) -> Option<Found> {
    let pins = (!unpins).then_some(Pin::Other(tag));
    Some(Found::Whole(Whole { pins, unpins, ..whole(tag, ONE_SHARD) }))
}

/// Reads a statement by its first words; what has them and cannot be read on is refused.
pub(crate) fn read(cursor: &mut Cursor<'_>, mode: Mode) -> Result<Found, ClientError> {
    let Some(first) = cursor.peek().filter(|it| it.kind == Kind::Word) else { return Ok(Found::Other) };
    let word = cursor.raw(first).to_ascii_lowercase();
    let (tag, found) = match word.as_str() {
        "begin" | "start" => ("BEGIN", begin(cursor)),
        "commit" => ("COMMIT", ending(cursor).map(|it| Found::Session(MysqlCommand::Commit(it), "COMMIT"))),
        "rollback" => ("ROLLBACK", rollback(cursor)),
        "savepoint" => ("SAVEPOINT", savepoint(cursor)),
        "release" => ("RELEASE", release(cursor)),
        "set" => ("SET", set(cursor, mode)),
        "use" => ("USE", use_database(cursor)),
        "show" => ("SHOW", show(cursor)),
        "desc" | "describe" | "explain" => ("EXPLAIN", explain(cursor)),
        "kill" => ("KILL", kill(cursor)),
        "prepare" => ("PREPARE", prepare(cursor, mode)),
        "execute" => ("EXECUTE", execute(cursor, mode)),
        "deallocate" => ("DEALLOCATE", deallocate(cursor)),
        "create" => ("CREATE", create(cursor)),
        "drop" if cursor.is_at(1, "prepare") => ("DROP PREPARE", deallocate(cursor)),
        "drop" => ("DROP", Some(Found::Whole(Whole { unpins: true, ddl: true, ..whole("DROP", EACH_SERVER) }))),
        "alter" => ("ALTER", ddl("ALTER")),
        "rename" => ("RENAME", ddl("RENAME")),
        "truncate" => ("TRUNCATE", ddl("TRUNCATE")),
        "grant" => ("GRANT", ddl("GRANT")),
        "revoke" => ("REVOKE", ddl("REVOKE")),
        // MariaDB's way to run a statement and tell how.
        "analyze" if !["table", "local", "no_write_to_binlog"].iter().any(|it| cursor.is_at(1, it)) => (
            "ANALYZE",
            explain(cursor).map(|it| if matches!(it, Found::Explain(_)) { Found::Explain(true) } else { it }),
        ),
        "analyze" | "check" | "checksum" | "optimize" | "repair" => {
            ("ANALYZE, CHECK, OPTIMIZE and REPAIR", ddl("ANALYZE, CHECK, OPTIMIZE and REPAIR"))
        }
        // FLUSH TABLES WITH READ LOCK stays with its connection.
        "flush" | "backup" => ("FLUSH", pinning("FLUSH and BACKUP", false)),
        "reset" | "purge" | "change" | "stop" | "shutdown" | "install" | "uninstall" | "cache" | "restart"
        | "clone" | "binlog" => ("administration", ddl("administration")),
        "lock" => (
            "LOCK TABLES",
            Some(Found::Whole(Whole { pins: Some(Pin::Other("LOCK TABLES")), ..whole("LOCK TABLES", DUMPS) })),
        ),
        "unlock" => ("UNLOCK TABLES", pinning("UNLOCK TABLES", true)),
        "handler" => ("HANDLER", pinning("HANDLER", false)),
        "xa" => ("XA", pinning("XA", false)),
        // Whatever it does stays hidden.
        "call" => ("CALL", pinning("CALL", false)),
        "do" => ("DO", pinning("DO", false)),
        "load" => ("LOAD DATA", Some(loading(cursor, mode))),
        "if" | "case" | "loop" | "repeat" | "while" | "for" | "declare" => {
            ("compound statements", pinning("compound statements", false))
        }
        "get" => ("GET DIAGNOSTICS", diagnostics(cursor)),
        "signal" | "resignal" => ("SIGNAL", pinning("SIGNAL", false)),
        "help" => ("HELP", Some(Found::Catalog("HELP"))),
        _ => return Ok(Found::Other),
    };
    found.ok_or_else(|| crate::sql::session::unreadable(tag))
}

fn loading(cursor: &mut Cursor<'_>, mode: Mode) -> Found {
    let loads = load::read(cursor, mode).map(Box::new);
    // A server's file is that server's alone.
    let hint = "Load a file of the client's (LOAD DATA LOCAL INFILE): its rows are dealt out to the shards.";
    Found::Whole(Whole { pins: Some(Pin::Other("LOAD DATA")), loads, ..whole("LOAD DATA", hint) })
}

fn done(cursor: &Cursor<'_>, command: MysqlCommand, tag: &'static str) -> Option<Found> {
    cursor.at_end().then_some(Found::Session(command, tag))
}

/// An identifier as written, without its quotes.
fn name(cursor: &mut Cursor<'_>) -> Option<Arc<str>> {
    let lexeme = cursor.peek()?;
    let name: Arc<str> = match lexeme.kind {
        Kind::Word => cursor.raw(lexeme).into(),
        Kind::Quoted => lex::unquote(cursor.raw(lexeme)).into(),
        _ => return None,
    };
    cursor.bump();
    Some(name)
}

/// `@x`, `@'x'`.
pub(super) fn user_variable(raw: &str) -> Arc<str> {
    let inner = raw.strip_prefix('@').unwrap_or(raw);
    if inner.starts_with(['\'', '"', '`']) { lex::unquote(inner).into() } else { inner.into() }
}

fn begin(cursor: &mut Cursor<'_>) -> Option<Found> {
    let (mut read_only, mut snapshot) = (None, false);
    if cursor.take("begin") {
        if cursor.is("not") {
            return pinning("compound statements", false);
        }
        cursor.take("work");
    } else if cursor.take_all(&["start", "transaction"]) {
        let mut more = !cursor.at_end();
        while more {
            if cursor.take_all(&["with", "consistent", "snapshot"]) {
                snapshot = true;
            } else if read_only.is_none() && cursor.take_all(&["read", "only"]) {
                read_only = Some(true);
            } else if read_only.is_none() && cursor.take_all(&["read", "write"]) {
                read_only = Some(false);
            } else {
                return None;
            }
            more = cursor.take_kind(Kind::Comma).is_some();
        }
    } else {
        // START REPLICA.
        return ddl("administration");
    }
    done(cursor, MysqlCommand::Begin { read_only, snapshot }, "BEGIN")
}

fn ending(cursor: &mut Cursor<'_>) -> Option<Ending> {
    cursor.bump();
    cursor.take("work");
    let mut ending = Ending::default();
    if cursor.take("and") {
        ending.chain = Some(!cursor.take("no"));
        if !cursor.take("chain") {
            return None;
        }
    }
    if cursor.take_all(&["no", "release"]) {
        ending.release = Some(false);
    } else if cursor.take("release") {
        ending.release = Some(true);
    }
    let both = ending.chain == Some(true) && ending.release == Some(true);
    (cursor.at_end() && !both).then_some(ending)
}

fn rollback(cursor: &mut Cursor<'_>) -> Option<Found> {
    if ["to", "work"].iter().any(|it| cursor.is_at(1, it)) {
        let mut ahead = cursor.clone();
        ahead.bump();
        ahead.take("work");
        if ahead.take("to") {
            ahead.take("savepoint");
            let name = name(&mut ahead)?;
            return done(&ahead, MysqlCommand::RollbackTo(name), "ROLLBACK");
        }
    }
    ending(cursor).map(|it| Found::Session(MysqlCommand::Rollback(it), "ROLLBACK"))
}

fn savepoint(cursor: &mut Cursor<'_>) -> Option<Found> {
    cursor.bump();
    let name = name(cursor)?;
    done(cursor, MysqlCommand::Savepoint(name), "SAVEPOINT")
}

fn release(cursor: &mut Cursor<'_>) -> Option<Found> {
    if !cursor.take_all(&["release", "savepoint"]) {
        return None;
    }
    let name = name(cursor)?;
    done(cursor, MysqlCommand::Release(name), "RELEASE")
}

fn use_database(cursor: &mut Cursor<'_>) -> Option<Found> {
    cursor.bump();
    let name = name(cursor)?;
    done(cursor, MysqlCommand::Use(name), "USE")
}

fn scope(cursor: &mut Cursor<'_>) -> Option<Scope> {
    if cursor.take_any(&["session", "local"]) {
        Some(Scope::Session)
    } else if cursor.take("global") {
        Some(Scope::Global)
    } else if cursor.take_any(&["persist", "persist_only"]) {
        Some(Scope::Persist)
    } else {
        None
    }
}

fn set(cursor: &mut Cursor<'_>, mode: Mode) -> Option<Found> {
    cursor.bump();
    if cursor.is("names") && !assigns(cursor, 1) {
        let mut ahead = cursor.clone();
        ahead.bump();
        let (character_set, collation) = character_set(&mut ahead, mode)?;
        // With more behind it, it is one of several settings.
        if ahead.at_end() {
            return done(&ahead, MysqlCommand::SetNames { character_set, collation }, "SET");
        }
    }
    if cursor.take("charset") || cursor.take_all(&["character", "set"]) {
        let (set, collation) = character_set(cursor, mode)?;
        return if collation.is_none() { done(cursor, MysqlCommand::SetCharacterSet(set), "SET") } else { None };
    }
    if ["password", "role", "default", "statement", "resource"].iter().any(|it| cursor.is(it)) {
        return match cursor.is("statement") {
            true => Some(Found::Whole(whole("SET STATEMENT", "Set the variable by a statement of its own."))),
            false => pinning("SET PASSWORD, ROLE and their kind", false),
        };
    }
    let mut ahead = cursor.clone();
    let said = scope(&mut ahead);
    if ahead.take("transaction") {
        return transaction(&mut ahead, said);
    }
    let mut settings = Vec::new();
    loop {
        settings.push(setting(cursor, mode)?);
        if cursor.at_end() {
            return Some(Found::Session(MysqlCommand::Set(settings), "SET"));
        }
        cursor.take_kind(Kind::Comma)?;
    }
}

/// Whether `=` or `:=` stands there.
fn assigns(cursor: &Cursor<'_>, ahead: usize) -> bool {
    cursor
        .peek_at(ahead)
        .is_some_and(|it| it.kind == Kind::Assign || (it.kind == Kind::Operator && cursor.raw(it) == "="))
}

/// `utf8mb4`, `'utf8mb4' COLLATE 'x'`, DEFAULT.
#[expect(clippy::type_complexity, reason = "two names")]
fn character_set(cursor: &mut Cursor<'_>, mode: Mode) -> Option<(Option<Arc<str>>, Option<Arc<str>>)> {
    if cursor.is("default") {
        cursor.bump();
        return Some((None, None));
    }
    let set = word_or_text(cursor, mode)?;
    let collation = if cursor.take("collate") { Some(word_or_text(cursor, mode)?) } else { None };
    Some((Some(set), collation))
}

fn word_or_text(cursor: &mut Cursor<'_>, mode: Mode) -> Option<Arc<str>> {
    match cursor.take_kind(Kind::String) {
        Some(it) => text(cursor.raw(it), mode),
        None => name(cursor),
    }
}

fn text(raw: &str, mode: Mode) -> Option<Arc<str>> {
    lex::string_value(raw, mode).and_then(|it| String::from_utf8(it).ok()).map(Into::into)
}

fn transaction(cursor: &mut Cursor<'_>, scope: Option<Scope>) -> Option<Found> {
    if scope == Some(Scope::Global) || scope == Some(Scope::Persist) {
        return Some(Found::Whole(whole("SET GLOBAL", EACH_SERVER)));
    }
    let (mut level, mut read_only) = (None, None);
    loop {
        if cursor.take_all(&["isolation", "level"]) {
            level = Some(if cursor.take_all(&["read", "uncommitted"]) {
                Level::ReadUncommitted
            } else if cursor.take_all(&["read", "committed"]) {
                Level::ReadCommitted
            } else if cursor.take_all(&["repeatable", "read"]) {
                Level::RepeatableRead
            } else if cursor.take("serializable") {
                Level::Serializable
            } else {
                return None;
            });
        } else if cursor.take_all(&["read", "only"]) {
            read_only = Some(true);
        } else if cursor.take_all(&["read", "write"]) {
            read_only = Some(false);
        } else {
            return None;
        }
        if cursor.take_kind(Kind::Comma).is_none() {
            return done(cursor, MysqlCommand::SetTransaction { scope, level, read_only }, "SET");
        }
    }
}

fn setting(cursor: &mut Cursor<'_>, mode: Mode) -> Option<Setting> {
    let first = cursor.peek()?;
    if cursor.is("names") && !assigns(cursor, 1) {
        cursor.bump();
        let start = cursor.peek()?.start;
        let (set, collation) = character_set(cursor, mode)?;
        let set = set?;
        let told = collation.map_or_else(|| Arc::clone(&set), |it| format!("{set} COLLATE {it}").into());
        let value = start..cursor.last()?.end;
        return Some(Setting { target: Target::Names, value, constant: Constant::Plain(told) });
    }
    let raw = cursor.raw(first);
    let target = match first.kind {
        Kind::UserVariable => {
            cursor.bump();
            Target::User(user_variable(raw))
        }
        Kind::SystemVariable => {
            cursor.bump();
            let path = raw.trim_start_matches('@').to_ascii_lowercase();
            let (scope, name) = match path.split_once('.') {
                None => (Scope::Unsaid, path.as_str()),
                Some(("session" | "local", name)) => (Scope::Session, name),
                Some(("global", name)) => (Scope::Global, name),
                Some(("persist" | "persist_only", name)) => (Scope::Persist, name),
                // A structured variable (hot_cache.key_buffer_size) is the server's.
                Some(_) => (Scope::Global, path.as_str()),
            };
            Target::System(scope, name.into())
        }
        Kind::Word | Kind::Quoted => {
            let scope = if assigns(cursor, 1) { None } else { scope(cursor) };
            let mut path = name(cursor)?.to_ascii_lowercase();
            let mut scope = scope.unwrap_or(Scope::Session);
            while cursor.take_kind(Kind::Dot).is_some() {
                path = format!("{path}.{}", name(cursor)?.to_ascii_lowercase());
                scope = Scope::Global;
            }
            Target::System(scope, path.into())
        }
        _ => return None,
    };
    if !assigns(cursor, 0) {
        return None;
    }
    cursor.bump();
    let (start, at) = (cursor.peek()?, cursor.place());
    let (mut depth, mut end) = (0_usize, start.start);
    while let Some(lexeme) = cursor.peek() {
        match lexeme.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.checked_sub(1)?,
            Kind::Comma if depth == 0 => break,
            _ => {}
        }
        end = lexeme.end;
        cursor.bump();
    }
    let raw = cursor.raw(start);
    let constant = match (start.kind, cursor.place() - at) {
        (Kind::Word, 1) if raw.eq_ignore_ascii_case("default") => Constant::Default,
        (Kind::Word | Kind::Integer | Kind::Number, 1) => Constant::Plain(raw.into()),
        (Kind::String, 1) => text(raw, mode).map_or(Constant::Expression, Constant::Text),
        (Kind::Operator, 2) if raw == "-" => {
            let text = cursor.text().get(start.start..end)?;
            let number = text.strip_prefix('-')?;
            match number.bytes().all(|it| it.is_ascii_digit()) {
                true => Constant::Plain(text.into()),
                false => Constant::Expression,
            }
        }
        _ => Constant::Expression,
    };
    (end > start.start).then_some(Setting { target, value: start.start..end, constant })
}

fn show(cursor: &mut Cursor<'_>) -> Option<Found> {
    cursor.bump();
    let processes = cursor.is("processlist") || (cursor.is("full") && cursor.is_at(1, "processlist"));
    if processes {
        cursor.take("full");
        cursor.bump();
        return done(cursor, MysqlCommand::ShowProcesses, "SHOW");
    }
    let counted = cursor.is("count");
    if counted {
        cursor.bump();
        cursor.parenthesized()?;
    }
    for (word, errors) in [("warnings", false), ("errors", true)] {
        if cursor.take(word) {
            let limit = if cursor.at_end() || counted { None } else { Some(limit(cursor)?) };
            return done(cursor, MysqlCommand::ShowWarnings { errors, count: counted, limit }, "SHOW");
        }
    }
    if counted {
        return None;
    }
    cursor.take_any(&["full", "extended", "global", "session", "local"]);
    cursor.take("full");
    const CATALOG: [&str; 20] = [
        "databases",
        "schemas",
        "tables",
        "columns",
        "fields",
        "index",
        "indexes",
        "keys",
        "variables",
        "engines",
        "collation",
        "character",
        "charset",
        "plugins",
        "privileges",
        "grants",
        "storage",
        "triggers",
        "procedure",
        "function",
    ];
    let of_schema = CATALOG.iter().any(|it| cursor.is(it))
        || (cursor.is("create") && !["user", "event"].iter().any(|it| cursor.is_at(1, it)));
    if of_schema {
        return Some(Found::Catalog("SHOW"));
    }
    Some(Found::Whole(Whole { reads: true, ..whole("this SHOW", "Ask each shard's own server.") }))
}

/// LIMIT n, LIMIT offset, n, and LIMIT n OFFSET offset: how many are left out, and how many follow.
fn limit(cursor: &mut Cursor<'_>) -> Option<(u64, u64)> {
    let number = |cursor: &mut Cursor<'_>| {
        let it = cursor.take_kind(Kind::Integer)?;
        cursor.raw(it).parse::<u64>().ok()
    };
    cursor.take("limit").then_some(())?;
    let first = number(cursor)?;
    if cursor.take_kind(Kind::Comma).is_some() {
        return Some((first, number(cursor)?));
    }
    if cursor.take("offset") {
        return Some((number(cursor)?, first));
    }
    Some((0, first))
}

/// GET [CURRENT] DIAGNOSTICS of the statement or of one condition, into user variables.
fn diagnostics(cursor: &mut Cursor<'_>) -> Option<Found> {
    cursor.bump();
    cursor.take("current");
    cursor.take("diagnostics").then_some(())?;
    let condition = if cursor.take("condition") {
        let number = cursor.take_kind(Kind::Integer)?;
        Some(cursor.raw(number).parse().ok()?)
    } else {
        None
    };
    let mut items = Vec::new();
    loop {
        let variable = cursor.take_kind(Kind::UserVariable)?;
        let variable = user_variable(cursor.raw(variable));
        cursor.take_operator("=").then_some(())?;
        let item = cursor.take_kind(Kind::Word)?;
        items.push((variable, cursor.raw(item).to_ascii_lowercase()));
        if cursor.take_kind(Kind::Comma).is_none() {
            break;
        }
    }
    done(cursor, MysqlCommand::Diagnostics(Diagnostics { condition, items }), "GET DIAGNOSTICS")
}

fn explain(cursor: &mut Cursor<'_>) -> Option<Found> {
    cursor.bump();
    let mut analyze = false;
    while cursor.is("extended") || cursor.is("partitions") || cursor.is("analyze") || cursor.is("format") {
        analyze |= cursor.is("analyze");
        if cursor.take("format") {
            cursor.take_operator("=").then_some(())?;
        }
        cursor.bump();
    }
    if ["select", "insert", "replace", "update", "delete", "with", "table", "values"].iter().any(|it| cursor.is(it))
        || cursor.is_kind(Kind::Open)
    {
        return Some(Found::Explain(analyze));
    }
    if cursor.is("for") {
        return Some(Found::Whole(Whole {
            reads: true,
            ..whole("EXPLAIN FOR CONNECTION", "Explain the statement itself.")
        }));
    }
    // DESCRIBE t.
    name(cursor)?;
    Some(Found::Catalog("DESCRIBE"))
}

fn kill(cursor: &mut Cursor<'_>) -> Option<Found> {
    cursor.bump();
    let soft = cursor.take_any(&["hard", "soft"]);
    let query = cursor.take("query");
    let _ = !query && cursor.take("connection");
    let id = cursor.peek().filter(|it| it.kind == Kind::Integer && !soft).and_then(|it| cursor.raw(it).parse().ok());
    let alone = cursor.peek_at(1).is_none();
    let id = id.filter(|_| alone);
    Some(Found::Session(MysqlCommand::Kill { query, id }, "KILL"))
}

fn prepare(cursor: &mut Cursor<'_>, mode: Mode) -> Option<Found> {
    cursor.bump();
    let name = name(cursor)?;
    cursor.take("from").then_some(())?;
    let from = prepared(cursor, mode)?;
    done(cursor, MysqlCommand::Prepare { name, from }, "PREPARE")
}

/// A string, or a user variable.
fn prepared(cursor: &mut Cursor<'_>, mode: Mode) -> Option<Prepared> {
    let found = cursor.bump()?;
    let raw = cursor.raw(found);
    match found.kind {
        Kind::String => Some(Prepared::Text(text(raw, mode)?)),
        Kind::UserVariable => Some(Prepared::Variable(user_variable(raw))),
        _ => None,
    }
}

fn execute(cursor: &mut Cursor<'_>, mode: Mode) -> Option<Found> {
    cursor.bump();
    if cursor.take("immediate") {
        let from = prepared(cursor, mode)?;
        let using = using(cursor)?;
        return done(cursor, MysqlCommand::ExecuteNow { from, using }, "EXECUTE IMMEDIATE");
    }
    let name = name(cursor)?;
    let using = using(cursor)?;
    done(cursor, MysqlCommand::Execute { name, using }, "EXECUTE")
}

/// USING, and user variables behind it.
fn using(cursor: &mut Cursor<'_>) -> Option<Vec<Arc<str>>> {
    let mut using = Vec::new();
    if cursor.take("using") {
        loop {
            let it = cursor.take_kind(Kind::UserVariable)?;
            using.push(user_variable(cursor.raw(it)));
            if cursor.take_kind(Kind::Comma).is_none() {
                break;
            }
        }
    }
    Some(using)
}

fn deallocate(cursor: &mut Cursor<'_>) -> Option<Found> {
    cursor.bump();
    cursor.take("prepare").then_some(())?;
    let name = name(cursor)?;
    done(cursor, MysqlCommand::Deallocate(name), "DEALLOCATE")
}

fn create(cursor: &mut Cursor<'_>) -> Option<Found> {
    cursor.bump();
    cursor.take_all(&["or", "replace"]);
    if cursor.take("temporary") {
        cursor.take("table");
        cursor.take_all(&["if", "not", "exists"]);
        let mut found = name(cursor)?;
        while cursor.take_kind(Kind::Dot).is_some() {
            found = name(cursor)?;
        }
        let pins = Some(Pin::Temporary(found));
        return Some(Found::Whole(Whole { pins, ..whole("CREATE TEMPORARY TABLE", ONE_SHARD) }));
    }
    let kinds = ["event", "function", "index", "procedure", "table", "trigger", "view"];
    let kind = (0..)
        .map_while(|at| cursor.peek_at(at).map(|_| at))
        .find_map(|at| kinds.iter().find(|it| cursor.is_at(at, it)));
    let (tag, hint) = match kind {
        Some(&"event") => ("CREATE EVENT", EACH_SERVER),
        Some(&"function") => {
            ("CREATE FUNCTION", "Stored functions are for databases of one shard: compute it in the application.")
        }
        Some(&"procedure") => {
            ("CREATE PROCEDURE", "CALL is for databases of one shard: say its statements themselves.")
        }
        Some(&"trigger") => ("CREATE TRIGGER", EACH_SERVER),
        Some(&"view") => ("CREATE VIEW", "Views are for databases of one shard: say its SELECT itself."),
        _ => ("CREATE", EACH_SERVER),
    };
    Some(Found::Whole(Whole { ddl: true, ..whole(tag, hint) }))
}
