//! Statements that change the schema, and other utility statements: which relations they are about.
//!
//! Read by keywords, without a syntax tree: only names, constraints and a few options decide where they go.

use std::ops::Range;
use std::sync::Arc;

use crate::error::ClientError;
use crate::sql::cursor::Cursor;
use crate::sql::cursor::Parts;
use crate::sql::functions;
use crate::sql::lex;
use crate::sql::lex::Kind;
use crate::sql::lex::Lexeme;
use crate::sql::session::unreadable;
use crate::sql::statement::CopyDirection;

/// What a utility statement is about.
#[derive(Debug)]
pub enum Utility {
    /// CREATE TABLE
    CreateTable(CreateTable),
    /// `CREATE [UNIQUE] INDEX`
    CreateIndex {
        /// On which table.
        table: Vec<Arc<str>>,
        /// The columns of a unique one; `None` inside: an expression.
        unique: Option<Vec<Option<Arc<str>>>>,
    },
    /// CREATE VIEW, CREATE MATERIALIZED VIEW: where its query begins.
    CreateView {
        /// Its name.
        name: Vec<Arc<str>>,
        /// Its rows are stored.
        stored: bool,
        /// Its query.
        query: Range<usize>,
        /// TEMPORARY, by this name.
        temporary: Option<Arc<str>>,
    },
    /// ALTER TABLE, with the constraints that it adds.
    AlterTable {
        /// Which.
        table: Vec<Arc<str>>,
        /// What it adds.
        adds: Constraints,
        /// ATTACH PARTITION, INHERIT: other relations that it names.
        others: Vec<Vec<Arc<str>>>,
        /// What it does to columns and to rows that are there.
        changes: Changes,
    },
    /// Something about these relations (DROP TABLE, COMMENT ON TABLE, VACUUM t, …).
    About(Vec<Vec<Arc<str>>>),
    /// The same, for relations that may be missing (DROP … IF EXISTS).
    Drop(Vec<Vec<Arc<str>>>),
    /// Something on every shard alike (roles, casts, languages, …).
    Everywhere,
    /// Something about schemas, or all that is in them.
    Schemas {
        /// Which.
        names: Vec<Arc<str>>,
        /// ALTER SCHEMA … RENAME TO.
        renamed: Option<Arc<str>>,
    },
    /// Something about what stands in a schema and is no relation: types, functions, sequences, …
    Objects {
        /// Their names, qualified or not.
        names: Vec<Vec<Arc<str>>>,
        /// It makes them: a name that is not qualified is one of the schema in which CREATE makes things.
        creates: bool,
    },
    /// ALTER … SET SCHEMA: what else it is.
    Moves(Box<Self>),
    /// TRUNCATE
    Truncate {
        /// Which tables.
        tables: Vec<Vec<Arc<str>>>,
        /// RESTART IDENTITY.
        restarts: bool,
    },
    /// LOCK
    Lock {
        /// Which tables.
        tables: Vec<Vec<Arc<str>>>,
        /// IN ACCESS SHARE MODE: whoever writes does not mind.
        shared: bool,
    },
    /// COPY t FROM or TO.
    Copy {
        /// Which.
        table: Vec<Arc<str>>,
        /// Where its name ends, in bytes of the text.
        behind: usize,
        /// FROM STDIN, TO STDOUT; `None`: a file or program on the server.
        direction: Option<CopyDirection>,
        /// FROM.
        writes: bool,
        /// The columns that it names.
        columns: Vec<Arc<str>>,
        /// How the data is written; `None`: with options that are not understood here.
        format: Option<CopyFormat>,
    },
    /// COPY (query) TO STDOUT.
    CopyQuery {
        /// The query.
        query: Range<usize>,
        /// TO STDOUT.
        direction: Option<CopyDirection>,
        /// How the data is written; `None`: with options that are not understood here.
        format: Option<CopyFormat>,
    },
    /// Code that may do anything: DO, CALL.
    Code(&'static str),
}

/// CREATE TABLE, as far as placing goes.
#[derive(Debug, Default)]
pub struct CreateTable {
    /// Its name.
    pub name: Vec<Arc<str>>,
    /// TEMPORARY.
    pub temporary: bool,
    /// Its constraints.
    pub constraints: Constraints,
    /// CREATE TABLE … AS: the query.
    pub query: Option<Range<usize>>,
    /// PARTITION OF, INHERITS.
    pub parents: Vec<Vec<Arc<str>>>,
}

/// What ALTER TABLE does to columns and to the rows that are there.
#[derive(Debug, Default)]
pub struct Changes {
    /// Columns that it adds, drops, renames, or computes anew.
    pub columns: Vec<Arc<str>>,
    /// What it fills rows with is the time.
    pub time: bool,
    /// What it fills rows with may be another thing on each server: the function.
    pub chance: Option<String>,
    /// It numbers rows.
    pub numbers: bool,
}

/// Keys of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// PRIMARY KEY, UNIQUE: the columns.
    pub unique: Vec<Vec<Arc<str>>>,
    /// EXCLUDE.
    pub exclude: bool,
    /// FOREIGN KEY.
    pub foreign: Vec<Foreign>,
}

/// A foreign key as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Own columns.
    pub columns: Vec<Arc<str>>,
    /// The other table.
    pub table: Vec<Arc<str>>,
    /// Its columns; none: its primary key.
    pub referenced: Vec<Arc<str>>,
}

/// A utility statement with what the session must know.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) utility: Utility,
    pub(crate) tag: &'static str,
    pub(crate) outside_transaction: bool,
    pub(crate) changes_schema: bool,
}

type Outcome = Option<Result<Read, ClientError>>;

fn ddl(utility: Utility, tag: &'static str) -> Outcome {
    Some(Ok(Read { utility, tag, outside_transaction: false, changes_schema: true }))
}

fn other(utility: Utility, tag: &'static str) -> Outcome {
    Some(Ok(Read { utility, tag, outside_transaction: false, changes_schema: false }))
}

fn refuse(what: &str, hint: &str) -> Outcome {
    Some(Err(ClientError::unsupported(format!("{what} is not supported"), hint)))
}

const DIRECT: &str = "Run it on each server itself.";

/// Reads a utility statement; `None`: it is none of these.
pub(crate) fn read(cursor: &mut Cursor<'_>) -> Outcome {
    let first = cursor.peek()?;
    let word = cursor.raw(first).to_ascii_lowercase();
    let start = cursor.place();
    cursor.bump();
    match word.as_str() {
        "create" => create(cursor),
        "alter" => alter(cursor),
        "drop" => drop_statement(cursor),
        "comment" => comment(cursor),
        "grant" | "revoke" => grant(cursor, if word == "grant" { "GRANT" } else { "REVOKE" }),
        "truncate" => {
            cursor.take("table");
            match cursor.relations() {
                Some(tables) => {
                    let restarts = cursor.take_all(&["restart", "identity"]);
                    other(Utility::Truncate { tables, restarts }, "TRUNCATE TABLE")
                }
                None => Some(Err(unreadable("TRUNCATE"))),
            }
        }
        "lock" => {
            cursor.take("table");
            match cursor.relations() {
                Some(tables) => {
                    let shared = cursor.take_all(&["in", "access", "share", "mode"]);
                    other(Utility::Lock { tables, shared }, "LOCK TABLE")
                }
                None => Some(Err(unreadable("LOCK"))),
            }
        }
        "copy" => copy(cursor),
        "vacuum" => maintain(cursor, "VACUUM", true),
        "analyze" | "analyse" => maintain(cursor, "ANALYZE", false),
        "cluster" => maintain(cursor, "CLUSTER", true),
        "reindex" => reindex(cursor),
        "refresh" => {
            if !cursor.take_all(&["materialized", "view"]) {
                return Some(Err(unreadable("REFRESH")));
            }
            cursor.take("concurrently");
            match cursor.qualified() {
                Some(name) => other(Utility::About(vec![name]), "REFRESH MATERIALIZED VIEW"),
                None => Some(Err(unreadable("REFRESH"))),
            }
        }
        "do" => other(Utility::Code("DO"), "DO"),
        "call" => other(Utility::Code("CALL"), "CALL"),
        "load" => {
            refuse("LOAD", "Put the library into shared_preload_libraries or session_preload_libraries of the servers.")
        }
        "checkpoint" => refuse("CHECKPOINT", DIRECT),
        "import" => refuse("IMPORT FOREIGN SCHEMA", DIRECT),
        "reassign" => ddl(Utility::Everywhere, "REASSIGN OWNED"),
        "security" => ddl(Utility::Everywhere, "SECURITY LABEL"),
        _ => {
            cursor.rewind(start);
            None
        }
    }
}

fn create(cursor: &mut Cursor<'_>) -> Outcome {
    cursor.take_all(&["or", "replace"]);
    let temporary = cursor.take_any(&["temporary", "temp"])
        || cursor.take_all(&["local", "temporary"])
        || cursor.take_all(&["local", "temp"])
        || cursor.take_all(&["global", "temporary"])
        || cursor.take_all(&["global", "temp"]);
    cursor.take("unlogged");
    if cursor.take("table") {
        return match create_table(cursor, temporary) {
            Some(table) => {
                let tag = if table.query.is_some() { "CREATE TABLE AS" } else { "CREATE TABLE" };
                ddl(Utility::CreateTable(table), tag)
            }
            None => Some(Err(unreadable("CREATE TABLE"))),
        };
    }
    let unique = cursor.is("unique") && cursor.is_at(1, "index");
    if unique {
        cursor.bump();
    }
    if cursor.take("index") {
        let concurrently = cursor.take("concurrently");
        return match create_index(cursor, unique) {
            Some(utility) => {
                Some(Ok(Read { utility, tag: "CREATE INDEX", outside_transaction: concurrently, changes_schema: true }))
            }
            None => Some(Err(unreadable("CREATE INDEX"))),
        };
    }
    cursor.take("recursive");
    let stored = cursor.is("materialized");
    if cursor.take_all(&["materialized", "view"]) || cursor.take("view") {
        cursor.take_all(&["if", "not", "exists"]);
        let name = cursor.qualified();
        if !cursor.seek(&["as"]) {
            return Some(Err(unreadable("CREATE VIEW")));
        }
        cursor.bump();
        let query = cursor.rest();
        let Some(name) = name else { return Some(Err(unreadable("CREATE VIEW"))) };
        let temporary = name.last().filter(|_| temporary).cloned();
        let tag = if stored { "CREATE MATERIALIZED VIEW" } else { "CREATE VIEW" };
        return ddl(Utility::CreateView { name, stored, query, temporary }, tag);
    }
    if cursor.take("sequence") {
        if temporary {
            return refuse("CREATE TEMPORARY SEQUENCE", "Number rows in the application.");
        }
        return ddl(objects(cursor, true), "CREATE SEQUENCE");
    }
    if cursor.is("trigger") || cursor.is_at(1, "trigger") {
        cursor.take("constraint");
        cursor.bump();
        return about_on(cursor, "CREATE TRIGGER");
    }
    for (word, tag) in [("rule", "CREATE RULE"), ("policy", "CREATE POLICY")] {
        if cursor.take(word) {
            if word == "rule" {
                // ON event TO table
                return if cursor.seek(&["to"]) {
                    cursor.bump();
                    match cursor.relation() {
                        Some(name) => ddl(Utility::About(vec![name]), tag),
                        None => Some(Err(unreadable(tag))),
                    }
                } else {
                    Some(Err(unreadable(tag)))
                };
            }
            return about_on(cursor, tag);
        }
    }
    if cursor.take("statistics") {
        return if cursor.seek(&["from"]) {
            cursor.bump();
            match cursor.relation() {
                Some(name) => ddl(Utility::About(vec![name]), "CREATE STATISTICS"),
                None => Some(Err(unreadable("CREATE STATISTICS"))),
            }
        } else {
            Some(Err(unreadable("CREATE STATISTICS")))
        };
    }
    if cursor.take("foreign") && cursor.is("table") {
        return refuse("CREATE FOREIGN TABLE", DIRECT);
    }
    for (words, what) in [
        (&["database"][..], "CREATE DATABASE"),
        (&["tablespace"], "CREATE TABLESPACE"),
        (&["publication"], "CREATE PUBLICATION"),
        (&["subscription"], "CREATE SUBSCRIPTION"),
        (&["event"], "CREATE EVENT TRIGGER"),
        (&["server"], "CREATE SERVER"),
    ] {
        if cursor.take_all(words) {
            return refuse(what, DIRECT);
        }
    }
    everywhere(cursor, CREATED, "CREATE")
}

type Kinds = &'static [(&'static [&'static str], &'static str)];

const CREATED: Kinds = &[
    (&["access", "method"], "CREATE ACCESS METHOD"),
    (&["aggregate"], "CREATE AGGREGATE"),
    (&["cast"], "CREATE CAST"),
    (&["collation"], "CREATE COLLATION"),
    (&["conversion"], "CREATE CONVERSION"),
    (&["default", "conversion"], "CREATE CONVERSION"),
    (&["domain"], "CREATE DOMAIN"),
    (&["extension"], "CREATE EXTENSION"),
    (&["function"], "CREATE FUNCTION"),
    (&["group"], "CREATE ROLE"),
    (&["language"], "CREATE LANGUAGE"),
    (&["operator"], "CREATE OPERATOR"),
    (&["procedure"], "CREATE PROCEDURE"),
    (&["role"], "CREATE ROLE"),
    (&["schema"], "CREATE SCHEMA"),
    (&["text", "search"], "CREATE TEXT SEARCH CONFIGURATION"),
    (&["transform"], "CREATE TRANSFORM"),
    (&["type"], "CREATE TYPE"),
    (&["user"], "CREATE ROLE"),
];

const ALTERED: Kinds = &[
    (&["aggregate"], "ALTER AGGREGATE"),
    (&["collation"], "ALTER COLLATION"),
    (&["conversion"], "ALTER CONVERSION"),
    (&["default", "privileges"], "ALTER DEFAULT PRIVILEGES"),
    (&["domain"], "ALTER DOMAIN"),
    (&["extension"], "ALTER EXTENSION"),
    (&["function"], "ALTER FUNCTION"),
    (&["group"], "ALTER ROLE"),
    (&["language"], "ALTER LANGUAGE"),
    (&["operator"], "ALTER OPERATOR"),
    (&["procedure"], "ALTER PROCEDURE"),
    (&["role"], "ALTER ROLE"),
    (&["routine"], "ALTER ROUTINE"),
    (&["schema"], "ALTER SCHEMA"),
    (&["sequence"], "ALTER SEQUENCE"),
    (&["statistics"], "ALTER STATISTICS"),
    (&["text", "search"], "ALTER TEXT SEARCH CONFIGURATION"),
    (&["type"], "ALTER TYPE"),
    (&["user"], "ALTER ROLE"),
];

const DROPPED: Kinds = &[
    (&["access", "method"], "DROP ACCESS METHOD"),
    (&["aggregate"], "DROP AGGREGATE"),
    (&["cast"], "DROP CAST"),
    (&["collation"], "DROP COLLATION"),
    (&["conversion"], "DROP CONVERSION"),
    (&["domain"], "DROP DOMAIN"),
    (&["extension"], "DROP EXTENSION"),
    (&["function"], "DROP FUNCTION"),
    (&["group"], "DROP ROLE"),
    (&["language"], "DROP LANGUAGE"),
    (&["operator"], "DROP OPERATOR"),
    (&["owned"], "DROP OWNED"),
    (&["procedure"], "DROP PROCEDURE"),
    (&["role"], "DROP ROLE"),
    (&["routine"], "DROP ROUTINE"),
    (&["schema"], "DROP SCHEMA"),
    (&["sequence"], "DROP SEQUENCE"),
    (&["statistics"], "DROP STATISTICS"),
    (&["text", "search"], "DROP TEXT SEARCH CONFIGURATION"),
    (&["transform"], "DROP TRANSFORM"),
    (&["type"], "DROP TYPE"),
    (&["user"], "DROP ROLE"),
];

/// Kinds of things that stand in schemas, by a word of theirs.
const IN_SCHEMAS: &[&str] = &[
    "aggregate",
    "collation",
    "conversion",
    "domain",
    "extension",
    "function",
    "operator",
    "procedure",
    "routine",
    "search",
    "sequence",
    "statistics",
    "type",
];

/// A list of schemas behind the word.
fn schemas(cursor: &mut Cursor<'_>) -> Utility {
    if !cursor.take_all(&["if", "not", "exists"]) {
        cursor.take_all(&["if", "exists"]);
    }
    let mut names = Vec::new();
    if cursor.take("authorization") {
        // The schema is called as the role is.
        names.extend(cursor.name());
    } else {
        names.extend(cursor.name());
        while cursor.take_kind(Kind::Comma).is_some() {
            names.extend(cursor.name());
        }
    }
    let renamed = if cursor.take_all(&["rename", "to"]) { cursor.name() } else { None };
    Utility::Schemas { names, renamed }
}

/// A list of things behind their kind's word.
fn objects(cursor: &mut Cursor<'_>, creates: bool) -> Utility {
    if !cursor.take_all(&["if", "not", "exists"]) {
        cursor.take_all(&["if", "exists"]);
    }
    // TEXT SEARCH CONFIGURATION, OPERATOR CLASS
    for kind in ["configuration", "dictionary", "parser", "template", "class", "family"] {
        if cursor.is(kind) && cursor.peek_at(1).is_some_and(|it| matches!(it.kind, Kind::Word | Kind::Quoted)) {
            cursor.bump();
        }
    }
    let mut names = Vec::new();
    loop {
        let mut name: Parts = Vec::new();
        while let Some(part) = cursor.name() {
            name.push(part);
            if cursor.take_kind(Kind::Dot).is_none() {
                break;
            }
        }
        if name.is_empty() || cursor.peek().is_some_and(|it| it.kind == Kind::Operator) {
            // An operator's symbol.
            cursor.bump();
            name.push("".into());
        }
        names.push(name);
        if cursor.is_kind(Kind::Open) && !creates {
            cursor.parenthesized();
        }
        if creates || cursor.take_kind(Kind::Comma).is_none() {
            return Utility::Objects { names, creates };
        }
    }
}

fn everywhere(cursor: &mut Cursor<'_>, kinds: Kinds, verb: &str) -> Outcome {
    for (words, tag) in kinds {
        if cursor.take_all(words) {
            let start = cursor.place();
            if *tag == "CREATE SCHEMA" && (cursor.seek(&["create", "grant"])) {
                return refuse("CREATE SCHEMA with elements", "Create the schema first, then what is in it.");
            }
            cursor.rewind(start);
            let utility = match *words {
                ["schema"] => schemas(cursor),
                words if words.iter().any(|it| IN_SCHEMAS.contains(it)) => objects(cursor, verb == "CREATE"),
                _ => Utility::Everywhere,
            };
            return ddl(utility, tag);
        }
    }
    let what = cursor.peek().map(|it| cursor.raw(it).to_ascii_uppercase()).unwrap_or_default();
    refuse(format!("{verb} {what}").trim_end(), DIRECT)
}

/// What stands behind ON.
fn about_on(cursor: &mut Cursor<'_>, tag: &'static str) -> Outcome {
    if cursor.seek(&["on"]) {
        cursor.bump();
        if let Some(name) = cursor.relation() {
            return ddl(Utility::About(vec![name]), tag);
        }
    }
    Some(Err(unreadable(tag)))
}

/// A list of column names in parentheses.
fn columns(cursor: &mut Cursor<'_>) -> Option<Vec<Arc<str>>> {
    cursor.take_kind(Kind::Open)?;
    let mut names = vec![cursor.name()?];
    while cursor.take_kind(Kind::Comma).is_some() {
        names.push(cursor.name()?);
    }
    cursor.take_kind(Kind::Close)?;
    Some(names)
}

fn create_table(cursor: &mut Cursor<'_>, temporary: bool) -> Option<CreateTable> {
    cursor.take_all(&["if", "not", "exists"]);
    let name = cursor.qualified()?;
    let mut table = CreateTable { name, temporary, ..CreateTable::default() };
    if table.name.first().is_some_and(|it| &**it == "pg_temp") && table.name.len() == 2 {
        table.temporary = true;
    }
    if cursor.take_all(&["partition", "of"]) {
        table.parents.push(cursor.qualified()?);
    } else if cursor.take("of") {
        cursor.qualified()?;
    }
    if cursor.is_kind(Kind::Open) {
        // Either definitions, or the column names of CREATE TABLE … AS.
        let place = cursor.place();
        if elements(cursor, &mut table).is_none() {
            cursor.rewind(place);
            cursor.parenthesized()?;
        }
    }
    if cursor.take("inherits") {
        cursor.take_kind(Kind::Open)?;
        table.parents.extend(cursor.relations()?);
        cursor.take_kind(Kind::Close)?;
    }
    if cursor.seek(&["as"]) {
        cursor.bump();
        if cursor.is("execute") {
            return None;
        }
        let mut query = cursor.rest();
        // WITH [NO] DATA belongs to CREATE, not to the query.
        let mut end = cursor.clone();
        while end.seek(&["with"]) {
            let start = end.peek()?.start;
            end.bump();
            let data = end.take_all(&["no", "data"]) || end.take("data");
            if data && end.at_end() {
                query.end = start;
            }
        }
        table.query = Some(query);
    }
    Some(table)
}

fn elements(cursor: &mut Cursor<'_>, table: &mut CreateTable) -> Option<()> {
    cursor.take_kind(Kind::Open)?;
    if cursor.take_kind(Kind::Close).is_some() {
        return Some(());
    }
    loop {
        element(cursor, &mut table.constraints)?;
        if cursor.take_kind(Kind::Comma).is_some() {
            continue;
        }
        cursor.take_kind(Kind::Close)?;
        return Some(());
    }
}

/// One column or table constraint; stops before the comma or parenthesis behind it.
fn element(cursor: &mut Cursor<'_>, constraints: &mut Constraints) -> Option<()> {
    if cursor.take("constraint") {
        cursor.name()?;
    }
    if cursor.take("like") {
        cursor.qualified()?;
    } else if cursor.take_all(&["primary", "key"]) || cursor.is("unique") {
        cursor.take("unique");
        if cursor.take("nulls") {
            cursor.take("not");
            cursor.take("distinct");
        }
        if cursor.take_all(&["using", "index"]) {
            cursor.name()?;
        } else {
            constraints.unique.push(columns(cursor)?);
        }
    } else if cursor.is("exclude")
        && (cursor.is_at(1, "using") || cursor.peek_at(1).is_some_and(|it| it.kind == Kind::Open))
    {
        constraints.exclude = true;
    } else if cursor.take_all(&["foreign", "key"]) {
        let own = columns(cursor)?;
        if !cursor.take("references") {
            return None;
        }
        references(cursor, own, constraints)?;
    } else if cursor.is("check") && cursor.peek_at(1).is_some_and(|it| it.kind == Kind::Open) {
    } else {
        let name = cursor.name()?;
        column(cursor, &name, constraints)?;
    }
    // The rest of the element.
    skip(cursor, |_| false);
    Some(())
}

fn references(cursor: &mut Cursor<'_>, own: Vec<Arc<str>>, constraints: &mut Constraints) -> Option<()> {
    let table = cursor.qualified()?;
    let theirs = if cursor.is_kind(Kind::Open) { columns(cursor)? } else { Vec::new() };
    constraints.foreign.push(Foreign { columns: own, table, referenced: theirs });
    Some(())
}

/// A column's definition behind its name.
fn column(cursor: &mut Cursor<'_>, name: &Arc<str>, constraints: &mut Constraints) -> Option<()> {
    loop {
        skip(cursor, |it| it.is("primary") || it.is("unique") || it.is("references"));
        if cursor.take_all(&["primary", "key"]) || cursor.take("unique") {
            constraints.unique.push(vec![name.clone()]);
        } else if cursor.take("references") {
            references(cursor, vec![name.clone()], constraints)?;
        } else if cursor.take("primary") {
        } else {
            return Some(());
        }
    }
}

/// Moves to a comma or closing parenthesis outside parentheses, or to where `stop` says so.
pub(super) fn skip(cursor: &mut Cursor<'_>, stop: impl Fn(&Cursor<'_>) -> bool) {
    let mut depth = 0_usize;
    while let Some(lexeme) = cursor.peek() {
        match lexeme.kind {
            Kind::Open | Kind::OpenBracket => depth += 1,
            Kind::Comma if depth == 0 => return,
            Kind::Close | Kind::CloseBracket => {
                if depth == 0 {
                    return;
                }
                depth -= 1;
            }
            _ if depth == 0 && stop(cursor) => return,
            _ => {}
        }
        cursor.bump();
    }
}

fn create_index(cursor: &mut Cursor<'_>, unique: bool) -> Option<Utility> {
    if !cursor.seek(&["on"]) {
        return None;
    }
    cursor.bump();
    let table = cursor.relation()?;
    if cursor.take("using") {
        cursor.name()?;
    }
    if !unique {
        return Some(Utility::CreateIndex { table, unique: None });
    }
    cursor.take_kind(Kind::Open)?;
    let mut columns = Vec::new();
    loop {
        let name = if cursor.is_kind(Kind::Open) { None } else { cursor.name() };
        let call = cursor.is_kind(Kind::Open);
        columns.push(name.filter(|_| !call));
        skip(cursor, |_| false);
        if cursor.take_kind(Kind::Comma).is_some() {
            continue;
        }
        cursor.take_kind(Kind::Close)?;
        return Some(Utility::CreateIndex { table, unique: Some(columns) });
    }
}

fn alter(cursor: &mut Cursor<'_>) -> Outcome {
    let start = cursor.place();
    let mut moves = false;
    while cursor.seek(&["set"]) {
        cursor.bump();
        moves |= cursor.take("schema");
    }
    cursor.rewind(start);
    let read = alter_what(cursor)?;
    Some(read.map(|it| match moves {
        true => Read { utility: Utility::Moves(Box::new(it.utility)), ..it },
        false => it,
    }))
}

fn alter_what(cursor: &mut Cursor<'_>) -> Outcome {
    if cursor.take("table") || cursor.take_all(&["foreign", "table"]) {
        if cursor.take_all(&["all", "in", "tablespace"]) {
            return refuse("ALTER TABLE ALL IN TABLESPACE", DIRECT);
        }
        return match alter_table(cursor) {
            Some(utility) => ddl(utility, "ALTER TABLE"),
            None => Some(Err(unreadable("ALTER TABLE"))),
        };
    }
    for (words, tag) in [(&["materialized", "view"][..], "ALTER MATERIALIZED VIEW"), (&["view"], "ALTER VIEW")] {
        if cursor.take_all(words) {
            cursor.take_all(&["if", "exists"]);
            return match cursor.qualified() {
                Some(name) => ddl(Utility::About(vec![name]), tag),
                None => Some(Err(unreadable(tag))),
            };
        }
    }
    if cursor.take("index") {
        cursor.take_all(&["if", "exists"]);
        return match cursor.qualified() {
            Some(name) => ddl(Utility::Drop(vec![name]), "ALTER INDEX"),
            None => Some(Err(unreadable("ALTER INDEX"))),
        };
    }
    for (words, tag) in [(&["trigger"][..], "ALTER TRIGGER"), (&["rule"], "ALTER RULE"), (&["policy"], "ALTER POLICY")]
    {
        if cursor.take_all(words) {
            return about_on(cursor, tag);
        }
    }
    everywhere(cursor, ALTERED, "ALTER")
}

fn alter_table(cursor: &mut Cursor<'_>) -> Option<Utility> {
    cursor.take_all(&["if", "exists"]);
    let table = cursor.relation()?;
    let mut adds = Constraints::default();
    let mut others = Vec::new();
    let mut changes = Changes::default();
    loop {
        let start = cursor.place();
        if cursor.take("add") {
            let constraint =
                ["constraint", "primary", "unique", "foreign", "exclude", "check"].iter().any(|it| cursor.is(it));
            if !constraint {
                cursor.take("column");
                cursor.take_all(&["if", "not", "exists"]);
            }
            element(cursor, &mut adds)?;
        } else if cursor.take_all(&["attach", "partition"])
            || cursor.take_all(&["detach", "partition"])
            || cursor.take("inherit")
            || cursor.take_all(&["no", "inherit"])
        {
            others.push(cursor.qualified()?);
        }
        skip(cursor, |_| false);
        let end = cursor.place();
        cursor.rewind(start);
        let action: Vec<Lexeme> = std::iter::from_fn(|| cursor.bump()).take(end - start).collect();
        changes.note(cursor, &action);
        if cursor.take_kind(Kind::Comma).is_none() {
            return Some(Utility::AlterTable { table, adds, others, changes });
        }
    }
}

impl Changes {
    /// Takes in one action.
    fn note(&mut self, cursor: &Cursor<'_>, action: &[Lexeme]) {
        let is = |it: &Lexeme, word: &str| it.kind == Kind::Word && cursor.raw(*it).eq_ignore_ascii_case(word);
        let name = |it: &Lexeme| match it.kind {
            Kind::Word => Some(Arc::from(lex::fold(cursor.raw(*it)))),
            Kind::Quoted => Some(Arc::from(cursor.raw(*it).trim_matches('"').replace("\"\"", "\""))),
            _ => None,
        };
        let Some((first, rest)) = action.split_first() else { return };
        let constraint = ["constraint", "primary", "unique", "foreign", "exclude", "check"];
        if rest.first().is_some_and(|it| constraint.iter().any(|word| is(it, word))) {
            return;
        }
        let filler = ["column", "if", "not", "exists", "to"];
        let mut names = rest.iter().filter(|it| !filler.iter().any(|word| is(it, word)));
        let fills = |word: &str| rest.iter().position(|it| is(it, word)).and_then(|at| rest.get(at + 1..));
        if is(first, "rename") && rest.first().is_some_and(|it| is(it, "to")) {
            // The table.
        } else if is(first, "rename") {
            self.columns.extend(names.filter_map(name));
        } else if is(first, "drop") {
            self.columns.extend(names.next().and_then(name));
        } else if is(first, "add") {
            self.columns.extend(names.next().and_then(name));
            let serial = ["serial", "bigserial", "smallserial", "serial2", "serial4", "serial8", "identity"];
            self.numbers |= rest.iter().any(|it| serial.iter().any(|word| is(it, word)));
            self.fill(cursor, fills("default").unwrap_or_default());
        } else if is(first, "alter")
            && let Some(using) = fills("using")
        {
            self.columns.extend(names.next().and_then(name));
            self.fill(cursor, using);
        }
    }

    /// Takes in an expression that is computed for rows that are there.
    fn fill(&mut self, cursor: &Cursor<'_>, expression: &[Lexeme]) {
        for (at, lexeme) in expression.iter().enumerate() {
            let raw = cursor.raw(*lexeme);
            let kind = |at: Option<usize>| at.and_then(|it| expression.get(it)).map(|it| it.kind);
            let calls = kind(Some(at + 1)) == Some(Kind::Open) && kind(at.checked_sub(1)) != Some(Kind::Cast);
            match lexeme.kind {
                Kind::Word => match functions::class(&lex::fold(raw)) {
                    Some(functions::Class::Now) => self.time = true,
                    Some(functions::Class::Pure | functions::Class::Aggregate) => {}
                    _ if calls => self.chance = Some(raw.to_owned()),
                    _ => {}
                },
                Kind::Quoted if calls => self.chance = Some(raw.to_owned()),
                Kind::String | Kind::UnicodeString => self.time |= lex::names_a_time(raw),
                _ => {}
            }
        }
    }
}

fn drop_statement(cursor: &mut Cursor<'_>) -> Outcome {
    for (words, tag) in [
        (&["table"][..], "DROP TABLE"),
        (&["view"], "DROP VIEW"),
        (&["materialized", "view"], "DROP MATERIALIZED VIEW"),
        (&["foreign", "table"], "DROP FOREIGN TABLE"),
        (&["index"], "DROP INDEX"),
    ] {
        if cursor.take_all(words) {
            let concurrently = cursor.take("concurrently");
            cursor.take_all(&["if", "exists"]);
            return match cursor.relations() {
                Some(names) => Some(Ok(Read {
                    utility: Utility::Drop(names),
                    tag,
                    outside_transaction: concurrently,
                    changes_schema: true,
                })),
                None => Some(Err(unreadable(tag))),
            };
        }
    }
    for (words, tag) in [(&["trigger"][..], "DROP TRIGGER"), (&["rule"], "DROP RULE"), (&["policy"], "DROP POLICY")] {
        if cursor.take_all(words) {
            return about_on(cursor, tag);
        }
    }
    everywhere(cursor, DROPPED, "DROP")
}

fn comment(cursor: &mut Cursor<'_>) -> Outcome {
    if !cursor.take("on") {
        return Some(Err(unreadable("COMMENT")));
    }
    for words in [&["table"][..], &["view"], &["materialized", "view"]] {
        if cursor.take_all(words) {
            return match cursor.qualified() {
                Some(name) => ddl(Utility::About(vec![name]), "COMMENT"),
                None => Some(Err(unreadable("COMMENT"))),
            };
        }
    }
    if cursor.take("column") {
        return match cursor.qualified() {
            Some(mut name) if name.len() > 1 => {
                name.pop();
                ddl(Utility::About(vec![name]), "COMMENT")
            }
            _ => Some(Err(unreadable("COMMENT"))),
        };
    }
    for word in ["constraint", "trigger", "rule", "policy"] {
        if cursor.take(word) {
            if cursor.seek(&["on"]) && !cursor.is_at(1, "domain") {
                return about_on(cursor, "COMMENT");
            }
            return ddl(Utility::Everywhere, "COMMENT");
        }
    }
    if cursor.take("index") {
        return match cursor.qualified() {
            Some(name) => ddl(Utility::Drop(vec![name]), "COMMENT"),
            None => Some(Err(unreadable("COMMENT"))),
        };
    }
    if cursor.is("database") || cursor.is("tablespace") {
        return refuse("COMMENT ON DATABASE", DIRECT);
    }
    if cursor.take("schema") {
        return ddl(schemas(cursor), "COMMENT");
    }
    for word in ["aggregate", "collation", "domain", "function", "procedure", "routine", "sequence", "type"] {
        if cursor.take(word) {
            return ddl(objects(cursor, false), "COMMENT");
        }
    }
    ddl(Utility::Everywhere, "COMMENT")
}

fn grant(cursor: &mut Cursor<'_>, tag: &'static str) -> Outcome {
    if !cursor.seek(&["on"]) {
        return ddl(Utility::Everywhere, tag); // membership in roles
    }
    cursor.bump();
    let start = cursor.place();
    if cursor.is("all") && cursor.seek(&["schema"]) {
        cursor.bump();
        return ddl(schemas(cursor), tag);
    }
    cursor.rewind(start);
    if cursor.is("all")
        || cursor.is("database")
        || cursor.is("tablespace")
        || cursor.is("foreign")
        || cursor.is("parameter")
        || cursor.is("large")
    {
        return if cursor.is("all") || cursor.is("database") {
            ddl(Utility::Everywhere, tag)
        } else {
            refuse(tag, DIRECT)
        };
    }
    for word in ["schema", "function", "procedure", "routine", "sequence", "type", "domain", "language"] {
        if cursor.is(word) && !cursor.is_at(1, "to") && !cursor.is_at(1, "from") {
            cursor.bump();
            let utility = match word {
                "schema" => schemas(cursor),
                "language" => Utility::Everywhere,
                _ => objects(cursor, false),
            };
            return ddl(utility, tag);
        }
    }
    cursor.take("table");
    match cursor.relations() {
        Some(names) => ddl(Utility::About(names), tag),
        None => Some(Err(unreadable(tag))),
    }
}

fn maintain(cursor: &mut Cursor<'_>, tag: &'static str, outside: bool) -> Outcome {
    if cursor.is_kind(Kind::Open) {
        cursor.parenthesized();
    }
    while cursor.take_any(&["full", "freeze", "verbose", "analyze", "analyse"]) {}
    if tag == "CLUSTER" && cursor.is_at(1, "on") {
        return Some(Err(unreadable(tag)));
    }
    let mut names: Vec<Parts> = Vec::new();
    while !cursor.at_end() {
        let Some(name) = cursor.relation() else { return Some(Err(unreadable(tag))) };
        names.push(name);
        if cursor.is_kind(Kind::Open) {
            cursor.parenthesized();
        }
        if tag == "CLUSTER" && cursor.take("using") {
            cursor.name();
        }
        if cursor.take_kind(Kind::Comma).is_none() {
            break;
        }
    }
    let utility = if names.is_empty() { Utility::Everywhere } else { Utility::About(names) };
    Some(Ok(Read { utility, tag, outside_transaction: outside, changes_schema: false }))
}

fn reindex(cursor: &mut Cursor<'_>) -> Outcome {
    if cursor.is_kind(Kind::Open) {
        cursor.parenthesized();
    }
    let table = cursor.is("table");
    let index = cursor.is("index");
    cursor.bump();
    let concurrently = cursor.take("concurrently");
    let utility = match (table, index, cursor.qualified()) {
        (true, _, Some(name)) => Utility::About(vec![name]),
        (_, true, Some(name)) => Utility::Drop(vec![name]),
        (false, false, _) => Utility::Everywhere,
        _ => return Some(Err(unreadable("REINDEX"))),
    };
    let outside = concurrently || (!table && !index);
    Some(Ok(Read { utility, tag: "REINDEX", outside_transaction: outside, changes_schema: false }))
}

/// How the data of a COPY is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFormat {
    /// Which of the formats.
    pub kind: CopyKind,
    /// Between fields.
    pub delimiter: u8,
    /// CSV: around fields.
    pub quote: u8,
    /// CSV: before a quote within quotes.
    pub escape: u8,
    /// What NULL is written as.
    pub null: Vec<u8>,
    /// The first line has the columns' names.
    pub header: bool,
    /// Columns of which NULL is read otherwise (FORCE_NULL, FORCE_NOT_NULL).
    pub forced: Vec<Arc<str>>,
    /// It is in an encoding of its own.
    pub encoded: bool,
}

/// The formats of COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyKind {
    /// text
    Text,
    /// csv
    Csv,
    /// binary
    Binary,
}

/// Options of COPY as they are written, before the format's defaults.
#[derive(Default)]
struct CopyOptions {
    kind: Option<CopyKind>,
    delimiter: Option<Vec<u8>>,
    quote: Option<Vec<u8>>,
    escape: Option<Vec<u8>>,
    null: Option<Vec<u8>>,
    header: bool,
    forced: Vec<Arc<str>>,
    encoded: bool,
}

impl CopyOptions {
    /// `(name value, …)`
    fn list(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        cursor.take_kind(Kind::Open)?;
        loop {
            let name = cursor.name()?;
            match &*name {
                "format" => {
                    let value = match cursor.name() {
                        Some(name) => name.to_string(),
                        None => String::from_utf8(string(cursor)?).ok()?,
                    };
                    self.kind = Some(match value.as_str() {
                        "text" => CopyKind::Text,
                        "csv" => CopyKind::Csv,
                        "binary" => CopyKind::Binary,
                        _ => return None,
                    });
                }
                "delimiter" => self.delimiter = Some(string(cursor)?),
                "quote" => self.quote = Some(string(cursor)?),
                "escape" => self.escape = Some(string(cursor)?),
                "null" => self.null = Some(string(cursor)?),
                "header" => {
                    if cursor.take_any(&["true", "on", "match"]) {
                        self.header = true;
                    } else if cursor.take_any(&["false", "off"]) {
                        self.header = false;
                    } else if let Some(number) = cursor.take_kind(Kind::Integer) {
                        self.header = match cursor.raw(number) {
                            "0" => false,
                            "1" => true,
                            _ => return None,
                        };
                    } else if cursor.is_kind(Kind::Comma) || cursor.is_kind(Kind::Close) {
                        self.header = true;
                    } else {
                        return None;
                    }
                }
                // It says how fields are written, not what they are.
                "force_quote" => {
                    if !cursor.take_operator("*") {
                        cursor.take_kind(Kind::Open)?;
                        Self::named(cursor)?;
                        cursor.take_kind(Kind::Close)?;
                    }
                }
                "encoding" => {
                    string(cursor)?;
                    self.encoded = true;
                }
                "force_not_null" | "force_null" => {
                    cursor.take_kind(Kind::Open)?;
                    self.names(cursor)?;
                    cursor.take_kind(Kind::Close)?;
                }
                "freeze" => {
                    cursor.take_any(&["true", "on", "false", "off"]);
                }
                _ => return None,
            }
            if cursor.take_kind(Kind::Comma).is_none() {
                break;
            }
        }
        cursor.take_kind(Kind::Close).map(|_| ())
    }

    fn names(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        self.forced.extend(Self::named(cursor)?);
        Some(())
    }

    fn named(cursor: &mut Cursor<'_>) -> Option<Vec<Arc<str>>> {
        let mut names = Vec::new();
        loop {
            names.push(cursor.name()?);
            if cursor.take_kind(Kind::Comma).is_none() {
                return Some(names);
            }
        }
    }

    /// As they were written before version 9.0.
    fn words(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        while !cursor.at_end() {
            if cursor.take("binary") {
                self.kind = Some(CopyKind::Binary);
            } else if cursor.take("csv") {
                self.kind = Some(CopyKind::Csv);
            } else if cursor.take("header") {
                self.header = true;
            } else if cursor.take("freeze") {
            } else if cursor.take("delimiter") || cursor.take("delimiters") {
                cursor.take("as");
                self.delimiter = Some(string(cursor)?);
            } else if cursor.take("null") {
                cursor.take("as");
                self.null = Some(string(cursor)?);
            } else if cursor.take("quote") {
                cursor.take("as");
                self.quote = Some(string(cursor)?);
            } else if cursor.take("escape") {
                cursor.take("as");
                self.escape = Some(string(cursor)?);
            } else if cursor.take("encoding") {
                string(cursor)?;
                self.encoded = true;
            } else if cursor.take_all(&["force", "quote"]) {
                if !cursor.take_operator("*") {
                    Self::named(cursor)?;
                }
            } else if cursor.take_all(&["force", "not", "null"]) || cursor.take_all(&["force", "null"]) {
                self.names(cursor)?;
            } else {
                return None;
            }
        }
        Some(())
    }

    /// With what the format has by itself. `None`: the server refuses them, or they are not understood here.
    fn format(self) -> Option<CopyFormat> {
        let kind = self.kind.unwrap_or(CopyKind::Text);
        let csv = kind == CopyKind::Csv;
        let one = |bytes: Option<Vec<u8>>, usual: u8| match bytes {
            None => Some(usual),
            Some(bytes) => match bytes.as_slice() {
                [one] => Some(*one),
                _ => None,
            },
        };
        let quote = one(self.quote, b'"')?;
        Some(CopyFormat {
            kind,
            delimiter: one(self.delimiter, if csv { b',' } else { b'\t' })?,
            quote,
            escape: one(self.escape, quote)?,
            null: self.null.unwrap_or_else(|| if csv { Vec::new() } else { b"\\N".to_vec() }),
            header: self.header && kind != CopyKind::Binary,
            forced: self.forced,
            encoded: self.encoded,
        })
    }
}

fn string(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let lexeme = cursor.take_kind(Kind::String)?;
    crate::sql::lex::string_value(cursor.raw(lexeme))
}

fn copy(cursor: &mut Cursor<'_>) -> Outcome {
    let binary = cursor.take("binary");
    if cursor.is_kind(Kind::Open) {
        let Some(query) = cursor.parenthesized() else { return Some(Err(unreadable("COPY"))) };
        if !cursor.take("to") {
            return Some(Err(unreadable("COPY")));
        }
        // The server takes either word for either way.
        let direction = cursor.take_any(&["stdout", "stdin"]).then_some(CopyDirection::Out);
        let format = format(cursor, binary);
        return other(Utility::CopyQuery { query, direction, format }, "COPY");
    }
    let Some(table) = cursor.qualified() else { return Some(Err(unreadable("COPY"))) };
    let behind = cursor.last().map_or(0, |it| it.end);
    let mut columns = Vec::new();
    if cursor.take_kind(Kind::Open).is_some() {
        loop {
            let Some(name) = cursor.name() else { return Some(Err(unreadable("COPY"))) };
            columns.push(name);
            if cursor.take_kind(Kind::Comma).is_none() {
                break;
            }
        }
        if cursor.take_kind(Kind::Close).is_none() {
            return Some(Err(unreadable("COPY")));
        }
    }
    let writes = cursor.is("from");
    if !cursor.take_any(&["from", "to"]) {
        return Some(Err(unreadable("COPY")));
    }
    let direction = match (writes, cursor.take("stdin"), cursor.take("stdout")) {
        (true, true, false) => Some(CopyDirection::In),
        (false, false, true) => Some(CopyDirection::Out),
        // The server takes either word for either way.
        (true, false, true) => Some(CopyDirection::In),
        (false, true, false) => Some(CopyDirection::Out),
        _ => None,
    };
    let format = format(cursor, binary);
    other(Utility::Copy { table, behind, direction, writes, columns, format }, "COPY")
}

/// How the data is written; `None`: what is left is WHERE, or an option that is not known here.
fn format(cursor: &mut Cursor<'_>, binary: bool) -> Option<CopyFormat> {
    let mut options = CopyOptions { kind: binary.then_some(CopyKind::Binary), ..CopyOptions::default() };
    // Before version 7.3 delimiters stood here.
    cursor.take("using");
    cursor.take("with");
    let read = if cursor.is_kind(Kind::Open) { options.list(cursor) } else { options.words(cursor) };
    read.filter(|()| cursor.at_end()).and_then(|()| options.format())
}
