//! Statement × ShardMap × SessionView → Plan. Pure: no I/O, no clock.
//!
//! A text is compiled once per *world* (map, schema, settings that change what a text means) into [`Template`]s, one a
//! statement; a template and the values of one execution give a [`Plan`]. [`Planner`] caches templates by normalized
//! text.

mod altered;
mod bring;
mod cache;
mod carry;
mod copy;
mod draw;
mod explain;
mod gather;
mod inserted;
mod key;
mod load;
mod lookup;
mod merge;
mod moves;
mod numbers;
mod route;
mod shadow;
mod shares;
mod split;
mod unite;
mod utility;
mod words;

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::error::ClientError;
use crate::error::Code;
use crate::ident::ShardId;
use crate::ident::ShardSet;
use crate::ident::TableName;
use crate::schema::Relation;
use crate::schema::RelationKind;
use crate::schema::Schema;
use crate::shard_map::Database;
use crate::shard_map::Engine;
use crate::sql;
use crate::sql::Body;
use crate::sql::Names;
use crate::sql::Source;
use crate::sql::lex;
use crate::sql::lex::executable;
use crate::sql::lex::mysql::Mode;
use crate::sql::model::ParameterUse;
use crate::sql::model::Query;
use crate::sql::mysql::MysqlNames;

pub use crate::sql::Access;
pub use crate::sql::Command;
pub use crate::sql::CopyDirection;
pub use crate::sql::Effects;
pub use crate::sql::Isolation;
pub use crate::sql::Modes;
pub use crate::sql::Pin;
pub use crate::sql::SetConfig;
pub use crate::sql::mysql::Total;
pub use crate::sql::mysql::command as mysql_command;
pub use crate::sql::mysql::given as mysql_given;
pub use crate::sql::mysql::set_statement as mysql_set_statement;
pub use crate::sql::mysql::state as mysql_state;
pub use altered::Altered;
pub use cache::Planner;
pub use carry::Carried;
pub use copy::CopyIn;
pub use copy::Splitter;
pub use draw::Number;
pub use draw::Told;
pub use gather::Copy;
pub use gather::Gather;
pub use gather::as_parameter;
pub use gather::as_table;
pub use gather::put_element;
pub use key::MASK;
pub use load::Dealer as LineDealer;
pub use load::Loading;
pub use lookup::Known;
pub use lookup::LookUp;
pub use merge::Bound;
pub use merge::Described;
pub use merge::Pushed;
pub use merge::Settings;
pub use merge::Sorting;
pub use moves::Arrivals;
pub use moves::Moves;
pub use numbers::Gets;
pub use numbers::Numbered;
pub use numbers::Numbering;
pub use numbers::Slot;
pub use shadow::Column as CopiedColumn;
pub use shadow::Copy as Shade;
pub use shadow::Form;
pub use shadow::Shadow;
pub use shadow::Whence;
pub use shares::Chunk;
pub use split::Share;
pub use split::Split;
pub use unite::At;
pub use unite::By;
pub use unite::Groups;
pub use unite::Hidden;
pub use unite::How;
pub use unite::Key;
pub use unite::Put;
pub use unite::SortKey;
pub use unite::Unite;

use self::key::Values;
use self::route::Around;
use self::route::Route;

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
    /// `shardway.strategy = gather`: what spans shards is gathered, even where a better way is proven.
    pub gather: bool,
    /// MySQL: `sql_mode` as the server shows it; empty for Postgres. There `search_path` is the current database as the
    /// servers call it (empty: none), and `client_encoding` is `character_set_client`, which `character_set_connection`
    /// must equal.
    pub sql_mode: Arc<str>,
}

impl SessionView {
    /// What a session has that has said nothing yet, on a server with its usual settings.
    #[must_use]
    pub fn plain(user: &str) -> Self {
        Self {
            user: user.into(),
            role: None,
            search_path: "\"$user\", public".into(),
            time_zone: "UTC".into(),
            date_style: "ISO, MDY".into(),
            client_encoding: "UTF8".into(),
            temporary: None,
            hint: None,
            gather: false,
            sql_mode: "".into(),
        }
    }

    /// The same for MySQL, with this database selected (as the servers call it).
    #[must_use]
    pub fn plain_mysql(user: &str, database: &str) -> Self {
        Self { search_path: database.into(), client_encoding: "utf8mb4".into(), ..Self::plain(user) }
    }
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
    /// Whether times without an offset are UTC.
    utc: bool,
    /// Whether the client's bytes are the database's bytes.
    utf8: bool,
    /// It is MySQL, and how it cuts texts.
    mysql: Option<Mode>,
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
    /// Its literals are values that a server gave: what is spelled as a time such as 'now' is none.
    pub read: bool,
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
    /// An INSERT without a column list, into a sharded table: the list that it means by the schema, such as
    /// ` ("id", "name")`, and the byte of the statement behind which the session puts it.
    pub splice_columns: Option<(usize, String)>,
    /// EXPLAIN: where the explained statement begins, in bytes of the statement.
    pub explained_at: Option<usize>,
    /// How it finds its shards.
    route: Route,
    /// The write that is the whole statement has RETURNING.
    returns: bool,
    /// How many literals it has, rows that were folded into one left out.
    literals: u32,
    /// The folded row: its first literal and how many it has.
    rows: Option<(u32, u32)>,
    /// How its `$n` are used.
    uses: Vec<ParameterUse>,
    /// The text up to `splice_columns`: another text's offset may differ.
    prefix: Option<Box<str>>,
    /// COPY … TO STDOUT in binary format of several shards: its columns and their types, by the catalog shard's numbers.
    pub packed: Vec<(Arc<str>, u32)>,
    /// MySQL: an INSERT into a table with a column that counts.
    counted: Option<Box<numbers::Counted>>,
    /// MySQL: tables that it makes, changes or removes on all shards.
    pub altered: Option<Box<Altered>>,
    /// MySQL: LOAD DATA LOCAL, where the shards are several.
    pub loading: Option<Box<Loading>>,
}

/// One execution's `$n`, as Bind brought them or as EXECUTE wrote them.
///
/// MySQL's `?` come as text with the number of the Postgres type that behaves alike: integers as 20, strings as 25 (in
/// `character_set_client`), strings of bytes as 17. What comes as 0 (floats, decimals, dates) narrows nothing and is no key.
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
    /// On one server, with copies of what is elsewhere.
    Gather(Box<Gather>),
    /// The same for MySQL: there the copies hide what they are copies of.
    Shadow(Box<Shadow>),
    /// Each shard is told a part of a write.
    Split(Box<Split>),
    /// COPY FROM STDIN: each row goes to its shard.
    Copy(Box<CopyIn>),
    /// Directories have to be asked first where keys are (`Planned::plan_knowing`).
    LookUp(Box<LookUp>),
    /// Numbers of sequences have to be taken first (`Planned::told`); with them, the statement is planned anew.
    Draw,
    /// The rows of its SELECT have to be read first (`Planned::carried`); with them, the statement is planned anew.
    Carry,
    /// All shards, in order (DDL).
    Everywhere,
    /// The session answers by itself or knows where (cursors, transactions, settings).
    Session,
}

impl World {
    fn new(id: u32, database: Arc<Database>, schema: Arc<Schema>, view: SessionView) -> Self {
        let (utc, utf8) = (is_utc(&view.time_zone), is_utf8(&view.client_encoding));
        let mysql = (database.engine == Engine::Mysql).then(|| Mode::of(&view.sql_mode, &view.client_encoding));
        Self { id, database, schema, view, utc, utf8, mysql }
    }

    /// How texts of MySQL are cut.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mysql.unwrap_or_default()
    }

    /// A text of MySQL without the comments that its servers execute: see [`executable::bare`].
    #[must_use]
    pub fn bare(&self, text: &str) -> Option<String> {
        let is_mariadb = self.schema.mysql.as_ref()?.is_mariadb;
        executable::bare(text, self.mode(), executable::Reader { is_mariadb, version: self.schema.server_version })
    }

    /// Whether texts travel as UTF-8.
    #[must_use]
    pub fn has_utf8(&self) -> bool {
        self.utf8
    }

    /// The shard other than `than` on which alone there is a relation or schema that servers call so.
    #[must_use]
    pub fn lives_elsewhere(&self, name: &str, than: ShardId) -> Option<ShardId> {
        let elsewhere = |home: Option<ShardId>| home.filter(|it| *it != than);
        let parts: Vec<Arc<str>> = name.split('.').map(Arc::from).collect();
        let found = match self.names().find(&parts) {
            sql::Relation::Known(relation) => match self.database.placement(&relation.name) {
                Some(crate::shard_map::Placement::Unsharded { home }) => Some(home),
                _ => None,
            },
            sql::Relation::Temporary(_) | sql::Relation::System(_) | sql::Relation::Missing(_) => None,
        };
        let schema = || self.database.schema_home(name).filter(|_| parts.len() == 1);
        elsewhere(found).or_else(|| elsewhere(schema()))
    }

    /// Reads one statement.
    fn statement(&self, source: &Source<'_>) -> Result<sql::Statement, ClientError> {
        let Some(mode) = self.mysql else { return sql::statement(source, self.names()) };
        let temporary = self.view.temporary.as_ref().map_or(&[][..], |(_, names)| names.as_slice());
        let names = MysqlNames { schema: &self.schema, database: &self.view.search_path, temporary };
        sql::mysql::statement(source, &names, mode)
    }

    /// Whether two names are one column's: on MySQL whatever their case.
    fn is_same_column(&self, one: &str, other: &str) -> bool {
        one == other || (self.mysql.is_some() && one.to_lowercase() == other.to_lowercase())
    }

    /// What names mean to this session.
    fn names(&self) -> Names<'_> {
        let role = self.view.role.as_ref().unwrap_or(&self.view.user);
        let temporary = self.view.temporary.as_ref().map_or(&[][..], |(_, names)| names.as_slice());
        Names::new(&self.schema, &self.view.search_path, role, temporary, &self.database.safe_functions)
    }
}

/// Whether a TimeZone is UTC by another name.
fn is_utc(zone: &str) -> bool {
    ["utc", "gmt", "etc/utc", "etc/gmt", "uct", "etc/uct", "zulu", "etc/zulu", "universal", "etc/universal", "z"]
        .iter()
        .any(|it| zone.eq_ignore_ascii_case(it))
}

/// Whether text of that client_encoding has the bytes that hash functions see.
fn is_utf8(encoding: &str) -> bool {
    ["utf8", "utf-8", "unicode", "sql_ascii", "utf8mb4", "utf8mb3"].iter().any(|it| encoding.eq_ignore_ascii_case(it))
}

impl Template {
    /// Whether a write that is the whole statement gives rows.
    #[must_use]
    pub fn returns(&self) -> bool {
        self.returns
    }

    /// Compiles one statement; true: for texts that are equal byte for byte only.
    fn compile(source: &Source<'_>, world: &World) -> Result<(Self, bool), ClientError> {
        let piece = source.piece;
        // Without a database in use, whose server it is for is not known either.
        let nowhere = world.mysql.is_some() && world.view.search_path.is_empty();
        let one_shard = (world.database.shards.len() == 1 || world.view.hint.is_some()) && !nowhere;
        let statement = match world.statement(source) {
            Ok(statement) => statement,
            // With all the data in one place nothing can go wrong: the server judges.
            Err(error) if one_shard && !matches!(error.code, Code::TooLarge | Code::LocalFiles) => {
                return Ok((Self::blind(source, world), false));
            }
            Err(error) => return Err(error),
        };
        let mut effects = statement.effects;
        let mut access = statement.access;
        let mut command = statement.command;
        let mut exact_only = matches!(command, Command::Prepare { .. } | Command::Execute { .. });
        let mut splice_columns = None;
        let mut uses = Vec::new();
        let mut explained_at = None;
        let mut packed = Vec::new();
        let mut counted = None;
        let mut tables = None;
        let mut loading = None;
        let route = match &statement.body {
            Body::Session => {
                // SET, SHOW and savepoints carry what the text says.
                exact_only |=
                    !matches!(command, Command::Empty | Command::Begin(_) | Command::Commit(_) | Command::Rollback(_));
                Route::Fixed(Plan::Session, String::new())
            }
            Body::Query(query) => {
                let around = match (&command, query.notes.explained) {
                    (Command::Declare { .. }, _) => Around::Gathers("a cursor"),
                    (_, Some(_)) => Around::One("EXPLAIN"),
                    _ => Around::Nothing,
                };
                let compiled = route::compile(query, world, around)?;
                access = match (compiled.writes, compiled.primary) {
                    (true, _) if query.notes.explained == Some(false) => Access::ReadPrimary,
                    (true, _) => Access::Write,
                    (false, true) => Access::ReadPrimary,
                    (false, false) => Access::Read,
                };
                exact_only |= query.notes.exact_only;
                explained_at = query.notes.explained.map(|_| query.notes.explained_at);
                self::effects_of(query, &world.database, &mut effects);
                if let Command::Declare { .. } = command {
                    exact_only = true;
                }
                splice_columns = compiled.splice.map(|(at, list)| (at.saturating_sub(piece.range.start), list));
                uses.clone_from(&query.parameters);
                counted = world.mysql.and_then(|_| numbers::compile(query, world));
                compiled.route
            }
            Body::Whole(whole) => {
                exact_only = true;
                if whole.loads.is_some() && !world.database.local_files {
                    return Err(local_files());
                }
                let placed = whole.changed.as_ref().filter(|_| !one_shard);
                if let Some(changed) = placed {
                    let (plan, changed) = altered::compile(changed, world)?;
                    tables = (plan == Plan::Everywhere).then(|| Box::new(changed));
                    Route::Fixed(plan, "where the map has its tables".to_owned())
                } else if let Some(load) = whole.loads.as_ref().filter(|_| !one_shard) {
                    // Nothing stays on a connection: variables that it sets are read back.
                    effects.pins = None;
                    let loaded = load::compile(load, world)?;
                    let plan = loaded.plan();
                    loading = Some(Box::new(loaded));
                    Route::Fixed(plan, "each line where its table has it".to_owned())
                } else {
                    if !one_shard {
                        let what = format!("{} in a database of several shards is not supported", whole.what);
                        return Err(ClientError::unsupported(what, whole.hint));
                    }
                    let shard = world.view.hint.unwrap_or(ShardId(0));
                    Route::Fixed(Plan::One(shard), "the database has one shard".to_owned())
                }
            }
            Body::Utility(utility, query) => {
                let compiled = utility::compile(utility, query.as_deref(), world, &world.names())?;
                effects.changes_directory |= utility::changes_directory(utility, world, &world.names());
                if let Some(query) = query {
                    self::effects_of(query, &world.database, &mut effects);
                    uses.clone_from(&query.parameters);
                    exact_only |= query.notes.exact_only;
                    if access == Access::Read && (query.notes.locks || !query.writes.is_empty()) {
                        access = Access::Write;
                    }
                    if access == Access::Read && route::needs_primary(query) {
                        access = Access::ReadPrimary;
                    }
                }
                if compiled.temporary {
                    command = Command::Data;
                    effects.changes_schema = false;
                    effects.unpins = true;
                }
                // How the data is written stands in literals.
                exact_only |= matches!(compiled.route, Route::Copy(_)) || effects.copy == Some(CopyDirection::Out);
                splice_columns = compiled.splice.map(|(at, list)| (at.saturating_sub(piece.range.start), list));
                packed = compiled.packed;
                compiled.route
            }
        };
        let folded = piece.repeat.map_or(0, |it| {
            // Literals of the rows behind the first.
            source
                .literals
                .iter()
                .filter(|at| usize::try_from(at.start).is_ok_and(|at| at >= it.skip.0 && at < it.skip.1))
                .count()
        });
        let literals = u32::try_from(source.literals.len().saturating_sub(folded)).unwrap_or(u32::MAX);
        let prefix = splice_columns
            .as_ref()
            .and_then(|(at, _)| source.text.get(piece.range.start..piece.range.start + at).map(Box::from));
        // The `$n` of PREPARE are those of its body.
        let parameters = if matches!(command, Command::Prepare { .. }) { 0 } else { piece.parameters };
        let locks = |query: &Query| query.notes.locks && query.writes.is_empty();
        let returns = matches!(&statement.body, Body::Query(query) if query.returns || locks(query));
        let template = Self {
            command,
            access,
            effects,
            tag: statement.tag,
            parameters,
            splice_columns,
            explained_at,
            route,
            returns,
            literals,
            rows: piece.repeat.map(|it| (it.first, it.width)),
            uses,
            prefix,
            packed,
            counted,
            altered: tables,
            loading,
        };
        Ok((template, exact_only))
    }

    /// Whether its text is sent as it stands and leaves nothing behind but rows.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let effects = &self.effects;
        self.command == Command::Data
            && self.splice_columns.is_none()
            && !matches!(self.route, Route::Draw(_) | Route::Carry(_))
            && !effects.outside_transaction
            && !effects.changes_schema
            && !effects.unpins
            && effects.pins.is_none()
            && effects.copy.is_none()
            && effects.set_config.is_empty()
    }

    /// What cannot be read goes to the only shard there is.
    fn blind(source: &Source<'_>, world: &World) -> Self {
        let shard = world.view.hint.unwrap_or(ShardId(0));
        Self {
            command: Command::Data,
            access: Access::Write,
            effects: Effects {
                changes_schema: true,
                // Whatever it leaves behind is not known.
                pins: world.mysql.map(|_| Pin::Other("a statement that is not read")),
                ..Effects::default()
            },
            tag: sql::leading_tag(source),
            parameters: source.piece.parameters,
            splice_columns: None,
            explained_at: None,
            route: Route::Fixed(Plan::One(shard), "the database has one shard".to_owned()),
            returns: false,
            literals: u32::try_from(source.literals.len()).unwrap_or(u32::MAX),
            rows: None,
            uses: Vec::new(),
            prefix: None,
            packed: Vec::new(),
            counted: None,
            altered: None,
            loading: None,
        }
    }
}

/// LOAD DATA LOCAL where the map does not allow it.
fn local_files() -> ClientError {
    ClientError::new(
        Code::LocalFiles,
        "loading local data is disabled",
        "The map's word for it is `local_files: allow`, in the database.",
    )
}

fn effects_of(query: &Query, database: &Database, effects: &mut Effects) {
    let notes = &query.notes;
    effects.uses_now |= notes.now;
    effects.changes_directory |= query.writes.iter().any(|write| {
        let target = query.leaves.get(write.target).and_then(sql::model::Leaf::table);
        target.is_some_and(|it| database.directory_of(it).is_some())
    });
    if notes.advisory {
        effects.pins = Some(Pin::AdvisoryLock);
    }
    // What a function of one's own leaves on its connection is not told.
    if database.engine == Engine::Mysql && notes.unreviewed.is_some() && effects.asks_session.is_none() {
        effects.pins = Some(Pin::Other("a function that is not known"));
    }
    effects.unpins |= notes.unlocks;
    let is_asked = |name: &String| matches!(name.as_str(), "currval" | "lastval");
    effects.asks_drawn |= !notes.sequences.is_empty() && notes.sequences.iter().all(is_asked);
    effects.draws |= notes.sequences.iter().any(|it| !is_asked(it)) || query.writes.iter().any(|it| draws(query, it));
    // A SELECT may give no row, and then takes no number.
    let selects = |it: &sql::model::Write| matches!(it.rows, sql::model::Rows::Query { .. });
    let inserts = query.only_writes && !query.writes.iter().any(selects);
    effects.draws_surely |= effects.draws && (inserts || query.leaves.is_empty());
    let is_table =
        |it: &sql::model::Leaf| matches!(it.source, sql::model::Source::Table(_) | sql::model::Source::Temporary(_));
    effects.asks_catalogs = query.writes.is_empty() && !query.leaves.iter().any(is_table);
    effects.set_config =
        notes.set_config.iter().map(|(name, local)| SetConfig { name: name.clone(), local: *local }).collect();
}

/// Whether an INSERT leaves a column to its sequence.
fn draws(query: &Query, write: &sql::model::Write) -> bool {
    let target = query.leaves.get(write.target).map(|it| &it.source);
    let Some(sql::model::Source::Table(relation)) = target.filter(|_| write.kind == sql::model::WriteKind::Insert)
    else {
        return false;
    };
    relation.columns.iter().any(|it| it.uses_sequence && !write.columns.contains(&it.name))
}

impl Planned {
    /// Where one execution goes.
    ///
    /// # Errors
    /// A refusal that depends on the values: rows for several shards, a NULL key, a value that is not of the key's type.
    pub fn plan(&self, text: &str, parameters: Option<&Parameters<'_>>, world: &World) -> Result<Plan, ClientError> {
        self.plan_knowing(text, parameters, world, &Known::default())
    }

    /// The same with what directories have said.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn plan_knowing(
        &self,
        text: &str,
        parameters: Option<&Parameters<'_>>,
        world: &World,
        known: &Known,
    ) -> Result<Plan, ClientError> {
        match &self.template.route {
            Route::Fixed(plan, _) => Ok(plan.clone()),
            Route::Copy(copy) => Ok(Plan::Copy(copy.clone())),
            Route::Draw(_) => self.told(text, world, true).map(|_| Plan::Draw),
            Route::Carry(_) => self.carry(text, parameters),
            Route::Copies(splitting) => {
                // MySQL has no such words.
                if world.mysql.is_none() {
                    self.times(text, parameters)?;
                }
                let shards = ShardSet::all(world.database.shards.len()).iter().collect();
                let (now, everywhere) = (splitting.uses_now, splitting.copies);
                Ok(Plan::Split(Box::new(Split { shards, now, everywhere, ..Split::default() })))
            }
            Route::Keys(keys) => {
                let values = Values { known: Some(known), ..self.values(text, parameters, world) };
                let plan = keys.plan(&values, world);
                if let Some(wanted) = known.wanted() {
                    return Ok(Plan::LookUp(Box::new(wanted)));
                }
                let mut plan = match plan {
                    Err(error) if error.code == Code::Unsupported && keys.carry.is_some() => {
                        return self.carry(text, parameters);
                    }
                    Err(_) if self.wants_numbers(text, parameters, world) => return Ok(Plan::Draw),
                    plan => plan?,
                };
                if let Plan::Concat(_) = plan
                    && let Err(error) = self.times(text, parameters)
                {
                    return keys.gathered(&values, world).ok_or(error);
                }
                // What rows give to variables is one server's, where all the rows are.
                if let Plan::Concat(_) = plan
                    && !self.template.effects.assigns.is_empty()
                    && let Some(gathered) = keys.gathered(&values, world)
                {
                    return Ok(gathered);
                }
                // Of MySQL no string means the time.
                if let Plan::Split(split) = &plan
                    && world.mysql.is_none()
                {
                    self.times(text, parameters)?;
                    if split.leave.is_some() {
                        self.moves(text, 0, None)?;
                    }
                }
                if let Plan::Gather(gather) = &mut plan
                    && gather.merge.is_some()
                    && self.times(text, parameters).is_err()
                {
                    gather.merge = None;
                }
                Ok(plan)
            }
        }
    }

    /// An INSERT … SELECT whose rows come from elsewhere.
    fn carry(&self, text: &str, parameters: Option<&Parameters<'_>>) -> Result<Plan, ClientError> {
        self.times(text, parameters)?;
        self.carried(text).map(|_| Plan::Carry)
    }

    /// A statement that goes to one shard as it stands, in the place of another one.
    #[must_use]
    pub fn on_shard(&self, text: &str, shard: ShardId) -> Self {
        let template = Template {
            command: Command::Data,
            access: self.template.access,
            effects: Effects::default(),
            tag: self.template.tag,
            parameters: self.template.parameters,
            splice_columns: None,
            explained_at: None,
            route: Route::Fixed(Plan::One(shard), String::new()),
            returns: self.template.returns,
            literals: 0,
            rows: None,
            uses: Vec::new(),
            prefix: None,
            packed: Vec::new(),
            counted: None,
            altered: None,
            loading: None,
        };
        Self { range: 0..text.len(), template: Rc::new(template), literals: SmallVec::new(), read: false }
    }

    /// The statement with copies in the place of tables: `copy` gives what stands for the one of that number, where its
    /// rows are values (true) or not. `None`: it has no such form.
    #[must_use]
    pub fn rewritten(&self, text: &str, copy: &dyn Fn(usize, bool) -> String) -> Option<String> {
        match &self.template.route {
            Route::Keys(keys) => {
                let brought = keys.bring.as_ref().map(|it| &*it.gathering);
                keys.gather.as_deref().or(brought)?.rewritten(text.get(self.range.clone())?, copy)
            }
            Route::Fixed(..) | Route::Copies(_) | Route::Copy(_) | Route::Draw(_) | Route::Carry(_) => None,
        }
    }

    fn values<'a>(&'a self, text: &'a str, parameters: Option<&'a Parameters<'a>>, world: &World) -> Values<'a> {
        let template = &*self.template;
        let count = u32::try_from(self.literals.len()).unwrap_or(u32::MAX);
        Values {
            text,
            literals: &self.literals,
            from: template.rows.map_or(u32::MAX, |(first, width)| first.saturating_add(width)),
            shift: if template.rows.is_some() { count.saturating_sub(template.literals) } else { 0 },
            parameters,
            uses: &template.uses,
            utc: world.utc,
            utf8: world.utf8,
            server_version: world.schema.server_version,
            known: None,
            mysql: world.mysql,
        }
    }

    /// `'now'`, `'today'` and their kind are read by each shard's own clock.
    fn times(&self, text: &str, parameters: Option<&Parameters<'_>>) -> Result<(), ClientError> {
        if self.read {
            return Ok(());
        }
        let literals = self
            .literals
            .iter()
            .filter_map(|range| text.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?));
        let quoted = |raw: &str| raw.contains(['\'', '$']);
        let values = parameters.map_or(&[][..], |it| it.values);
        let mut values = values.iter().filter_map(|it| it.bytes);
        if literals.filter(|it| quoted(it)).any(lex::names_a_time) || values.any(lex::is_named_time) {
            return Err(ClientError::unsupported(
                "a time such as 'now' or 'today' across shards is not supported",
                "Write the time out, or add a condition on the shard key.",
            ));
        }
        Ok(())
    }
}

impl Planned {
    /// The only shard on which the statement can be described (its tables are nowhere else); `None`: any will do.
    #[must_use]
    pub fn described_on(&self) -> Option<ShardId> {
        match &self.template.route {
            Route::Fixed(Plan::One(shard), _) => Some(*shard),
            Route::Carry(carrying) => carrying.home,
            // An unsharded table among others.
            Route::Keys(keys) => match (&keys.carry, &keys.bring) {
                (Some(carrying), _) => carrying.home,
                (None, Some(bring)) => bring.gathering.at,
                (None, None) => keys.fixed.as_ref().map(|(shard, _)| *shard),
            },
            Route::Fixed(..) | Route::Copies(_) | Route::Copy(_) | Route::Draw(_) => None,
        }
    }
}

/// What can be planned with by the map alone: its tables exist, and any column that a statement names may be theirs.
#[must_use]
pub fn assumed_schema(database: &Database) -> Schema {
    let relation = |name: &TableName| Relation::bare(name.clone(), RelationKind::Table);
    let listed = database.tables.keys().map(|name| Arc::clone(&name.schema));
    Schema {
        assumed: true,
        relations: database.tables.keys().map(|name| (name.clone(), Arc::new(relation(name)))).collect(),
        namespaces: listed.chain(database.schemas.homes.keys().cloned()).collect(),
        assumed_whole: database.schemas.homes.keys().cloned().collect(),
        ..Schema::default()
    }
}
