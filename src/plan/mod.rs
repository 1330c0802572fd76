//! Statement × ShardMap × SessionView → Plan. Pure: no I/O, no clock.
//!
//! A text is compiled once per *world* (map, schema, settings that change what a text means) into [`Template`]s, one a
//! statement; a template and the values of one execution give a [`Plan`]. [`Planner`] caches templates by normalized
//! text.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::schema::Schema;
use crate::shard_map::Database;

/// What a session said that changes what its texts mean.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionView {
    /// The name it logged in with.
    pub user: Arc<str>,
    /// Its current role (`$user` in the search_path), when it did SET ROLE.
    pub role: Option<Arc<str>>,
    /// The setting `search_path` as the server shows it, such as `"$user", public`.
    pub search_path: Arc<str>,
    /// `TimeZone`.
    pub time_zone: Arc<str>,
    /// `DateStyle`.
    pub date_style: Arc<str>,
    /// `client_encoding`, such as `UTF8`.
    pub client_encoding: Arc<str>,
    /// Where the session's temporary relations live, and their names. They shadow all others.
    pub temporary: Option<(ShardId, Vec<Arc<str>>)>,
    /// `shardway.shard`, for users with `hints: true`: go there, whatever the statement says.
    pub hint: Option<ShardId>,
}

/// Everything that a template depends on besides its text.
#[derive(Debug)]
pub struct World {
    /// Equal worlds of one [`Planner`] have equal numbers.
    pub id: u32,
    /// The database of the map.
    pub database: Arc<Database>,
    /// What the catalog shard says exists.
    pub schema: Arc<Schema>,
    /// What the session said.
    pub view: SessionView,
}

/// One statement of a text, ready to be planned with values.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Where it stands in the text, in bytes, without the semicolon.
    pub range: Range<usize>,
    /// What was compiled.
    pub template: Rc<Template>,
    /// The literals of this very text, in the template's order: byte ranges in the text.
    pub literals: SmallVec<[Range<u32>; 6]>,
}

/// One statement, compiled: what it is, what it does, and how to find its shards.
#[derive(Debug)]
pub struct Template {
    /// What the session has to do about it.
    pub command: Command,
    /// What it does to data.
    pub access: Access,
    /// What else it does.
    pub effects: Effects,
    /// The first keyword(s), as a command tag would have it: `SELECT`, `INSERT`, `CREATE TABLE`.
    pub tag: &'static str,
    /// How many `$n` it has (the highest n).
    pub parameters: u16,
    /// A column list to write out (INSERT without one on a sharded table): the place in the statement in bytes, and the
    /// text, such as ` ("a", "b")`.
    pub splice_columns: Option<(usize, String)>,
    // the route follows, private to this folder
}

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
    /// It is COPY … FROM STDIN or COPY … TO STDOUT.
    pub copy: Option<CopyDirection>,
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
    /// A change of schema: on all shards in order, or on the planned one.
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

/// One execution's `$n`, as Bind brought them or as EXECUTE wrote them.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    /// The types given at Parse (0: left to the server); may be shorter than the values.
    pub types: &'a [u32],
    /// The values.
    pub values: &'a [Parameter<'a>],
}

/// One value of Bind.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// Binary format, else text.
    pub binary: bool,
    /// Its bytes; `None`: NULL.
    pub bytes: Option<&'a [u8]>,
}

/// Where one execution goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// One shard, proven.
    One(ShardId),
    /// Any shard gives the same answer (reference tables only, no tables at all, or a contradiction).
    Any,
    /// All of these, and the answer is the union of theirs.
    Concat(ShardSet),
    /// All shards, in order (DDL).
    Everywhere,
    /// The session answers by itself or knows where (cursors, transactions, settings).
    Session,
}

/// Compiles texts and keeps what it compiled. One per runtime thread.
#[derive(Debug)]
pub struct Planner {
    _todo: (),
}

impl Planner {
    /// A planner that keeps at most `templates_max` templates.
    #[must_use]
    pub fn new(_templates_max: usize) -> Self {
        Self { _todo: () }
    }

    /// The world of these, interned: the same `Rc` as long as nothing changed.
    pub fn world(&mut self, _database: &Arc<Database>, _schema: &Arc<Schema>, _view: &SessionView) -> Rc<World> {
        unimplemented!()
    }

    /// Splits and compiles a whole text (one simple Query, or one Parse). Templates are cached by normalized text, so
    /// that texts that differ only in literals share one.
    ///
    /// # Errors
    /// The refusal of the first statement that can have no plan, whatever its values.
    pub fn compile(&mut self, _text: &str, _world: &Rc<World>) -> Result<SmallVec<[Planned; 1]>, ClientError> {
        unimplemented!()
    }
}

impl Planned {
    /// Where one execution goes.
    ///
    /// # Errors
    /// A refusal that depends on the values: rows for several shards, a NULL key, a value that is not of the key's type.
    pub fn plan(&self, _text: &str, _parameters: Option<&Parameters<'_>>, _world: &World) -> Result<Plan, ClientError> {
        unimplemented!()
    }

    /// The only shard on which the statement can be described (its tables are nowhere else); `None`: any will do.
    #[must_use]
    pub fn described_on(&self, _world: &World) -> Option<ShardId> {
        None
    }

    /// The plan as `shardway explain` shows it.
    #[must_use]
    pub fn explain(&self, _plan: &Plan, _world: &World) -> String {
        String::new()
    }
}

/// What can be planned with by the map alone: its tables exist, of their columns only the keys are known.
#[must_use]
pub fn assumed_schema(_database: &Database) -> Schema {
    Schema { assumed: true, ..Schema::default() }
}
