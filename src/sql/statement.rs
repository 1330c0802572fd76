//! What a statement is and does, as the session sees it.

use std::ops::Range;
use std::sync::Arc;

use crate::sql::mysql::command::MysqlCommand;

/// What a statement does to data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Proven free of effects: any fresh replica may serve it.
    Read,
    /// Reads, but only the primary may serve it (system views, sequences, functions not known to be harmless, …).
    ReadPrimary,
    /// Changes or locks rows, or might.
    Write,
}

/// What a statement does besides data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// It refers to now() or its family (also through a column default), whose value is one per transaction.
    pub uses_now: bool,
    /// It takes numbers from sequences by the server's own count.
    pub draws: bool,
    /// And does so whatever rows there are.
    pub draws_surely: bool,
    /// It asks what numbers the session has taken (currval, lastval).
    pub asks_drawn: bool,
    /// It takes something that stays on its server connection.
    pub pins: Option<Pin>,
    /// It may end what pinned (`pg_advisory_unlock…`, DROP of a temporary table, CLOSE, UNLISTEN): look again.
    pub unpins: bool,
    /// Settings that it changes by `set_config(name, …, is_local)`: the name where it is a literal.
    pub set_config: Vec<SetConfig>,
    /// It cannot run inside a transaction block (VACUUM, CREATE DATABASE, CREATE INDEX CONCURRENTLY, …).
    pub outside_transaction: bool,
    /// The schema must be read again after it.
    pub changes_schema: bool,
    /// It writes (or locks) a table that says where keys are.
    pub changes_directory: bool,
    /// It is COPY … FROM STDIN or COPY … TO STDOUT.
    pub copy: Option<CopyDirection>,
    /// It is LOCK TABLE: on a server it takes no snapshot.
    pub locks_tables: bool,
    /// It reads no tables but catalogs, if any.
    pub asks_catalogs: bool,
    /// It is COPY … TO STDOUT whose first line says what the columns are called.
    pub headed: bool,
    /// MySQL: what of the session's state it asks for or leaves, the first found: a variable (`@x`, `@@x`),
    /// `last_insert_id()`, `SQL_CALC_FOUND_ROWS`. A server connection that is not the session's own does not have it.
    pub asks_session: Option<Arc<str>>,
    /// MySQL: the user variables that it gives values.
    pub assigns: Vec<Arc<str>>,
}

/// A `set_config(name, value, is_local)` in a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetConfig {
    /// The setting, lower case.
    pub name: Arc<str>,
    /// Until the end of the transaction only.
    pub local: bool,
}

/// Which way COPY goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyDirection {
    /// FROM STDIN.
    In,
    /// TO STDOUT.
    Out,
}

/// Why a session stays on one server connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// It made a temporary relation of this name.
    Temporary(Arc<str>),
    /// It took, or tried to take, session advisory locks.
    AdvisoryLock,
    /// It declared a cursor WITH HOLD.
    HeldCursor(Arc<str>),
    /// LISTEN.
    Listen,
    /// Something whose state the proxy does not follow (LOAD, SET SESSION AUTHORIZATION, …).
    Other(&'static str),
}

/// What the session has to do about a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// An empty statement.
    Empty,
    /// SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES, COPY, EXPLAIN, CALL, LOCK, …: plan and send.
    Data,
    /// EXPLAIN (SHARDS): how the statement in this part of the text would be carried out.
    ExplainShards(Range<usize>),
    /// A change of schema: on all shards in order, or on the planned one. MySQL, for which administration counts as such,
    /// commits what is open before it and behind it.
    Ddl,
    /// BEGIN or START TRANSACTION.
    Begin(Modes),
    /// COMMIT or END; true: AND CHAIN.
    Commit(bool),
    /// ROLLBACK or ABORT; true: AND CHAIN.
    Rollback(bool),
    /// SAVEPOINT name (folded as the server folds it).
    Savepoint(Arc<str>),
    /// RELEASE name.
    Release(Arc<str>),
    /// ROLLBACK TO name.
    RollbackTo(Arc<str>),
    /// SET TRANSACTION …
    SetTransaction(Modes),
    /// SET CONSTRAINTS …
    SetConstraints,
    /// SET [SESSION | LOCAL] name = value, SET TIME ZONE, SET NAMES, SET ROLE, SET SESSION CHARACTERISTICS (name
    /// `session characteristics`), … The name is lower case, as `SHOW` takes it (`timezone`, `client_encoding`, `role`).
    Set {
        /// Which setting.
        name: Arc<str>,
        /// SET LOCAL.
        local: bool,
        /// The value where it is a single constant (unquoted); `None` for DEFAULT and lists.
        value: Option<Arc<str>>,
    },
    /// RESET name; `None`: ALL.
    Reset(Option<Arc<str>>),
    /// SHOW name, lower case (`all` too).
    Show(Arc<str>),
    /// DISCARD ALL.
    DiscardAll,
    /// DISCARD PLANS, SEQUENCES or TEMP.
    Discard,
    /// PREPARE name [(types)] AS body.
    Prepare {
        /// Folded as the server folds it.
        name: Arc<str>,
        /// The types as written, in bytes of the statement.
        types: Option<Range<usize>>,
        /// The body, in bytes of the statement.
        body: Range<usize>,
    },
    /// EXECUTE name [(arguments)].
    Execute {
        /// Folded.
        name: Arc<str>,
        /// Where the name stands, in bytes of the statement.
        name_at: Range<usize>,
        /// Every argument as written, in bytes of the statement.
        arguments: Vec<Range<usize>>,
    },
    /// DEALLOCATE name; `None`: ALL.
    Deallocate(Option<Arc<str>>),
    /// DECLARE name … CURSOR: plan and send; inside a transaction unless WITH HOLD.
    Declare {
        /// Folded.
        name: Arc<str>,
        /// WITH HOLD.
        hold: bool,
    },
    /// FETCH or MOVE: goes where the cursor is.
    Fetch(Arc<str>),
    /// CLOSE name; `None`: ALL.
    Close(Option<Arc<str>>),
    /// LISTEN channel: goes to the catalog shard and pins.
    Listen,
    /// UNLISTEN: goes where LISTEN went.
    Unlisten,
    /// NOTIFY: goes to the catalog shard's primary.
    Notify,
    /// What sessions of MySQL carry out or follow by themselves.
    Mysql(Box<MysqlCommand>),
}

/// Modes of a transaction, as far as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
    /// READ ONLY (true) or READ WRITE (false).
    pub read_only: Option<bool>,
    /// DEFERRABLE (true) or NOT DEFERRABLE (false).
    pub deferrable: Option<bool>,
}

impl Modes {
    /// They as BEGIN and SET TRANSACTION take them; none: nothing was given.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let isolation = self.isolation.map(|level| match level {
            Isolation::ReadCommitted => "ISOLATION LEVEL READ COMMITTED",
            Isolation::RepeatableRead => "ISOLATION LEVEL REPEATABLE READ",
            Isolation::Serializable => "ISOLATION LEVEL SERIALIZABLE",
        });
        let read_only = self.read_only.map(|only| if only { "READ ONLY" } else { "READ WRITE" });
        let deferrable = self.deferrable.map(|may| if may { "DEFERRABLE" } else { "NOT DEFERRABLE" });
        let given: Vec<&str> = [isolation, read_only, deferrable].into_iter().flatten().collect();
        (!given.is_empty()).then(|| given.join(", "))
    }
}

/// Isolation levels, as Postgres tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed before it (also READ UNCOMMITTED).
    ReadCommitted,
    /// The transaction sees one moment.
    RepeatableRead,
    /// As if one after the other.
    Serializable,
}
