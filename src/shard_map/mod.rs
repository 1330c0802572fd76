//! The shard map: where everything is. Valid, immutable, versioned.
//!
//! `file` holds the YAML as written, `validate` turns it into a [`ShardMap`] or into every mistake with its place,
//! `function` places keys, `diff` says what a new map would change, `live` watches the file and swaps.

pub mod cli;
pub mod diff;
mod file;
pub mod function;
mod hash;
mod literal;
pub mod live;
pub mod mistake;
mod placement;
mod read;
mod redact;
mod tree;
pub mod validate;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::ident::TableName;

pub use function::Directory;
pub use function::Key;
pub use function::KeyType;
pub use function::ShardFunction;
pub use mistake::Mistake;
pub use mistake::Warning;
pub use validate::Environment;
pub use validate::NoEnvironment;

/// A whole, valid map.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardMap {
    /// Which edition: 1 at start, one more with every accepted reload.
    pub version: u64,
    /// Where to listen.
    pub listen: Listen,
    /// The databases, by the name that clients connect to.
    pub databases: BTreeMap<Arc<str>, Arc<Database>>,
    /// Who may log in.
    pub users: BTreeMap<Arc<str>, Arc<User>>,
    /// Who may use the console.
    pub admins: BTreeMap<Arc<str>, Arc<User>>,
    /// Bounds of every pool.
    pub pool: PoolLimits,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How much of everything.
    pub limits: Limits,
    /// What is logged.
    pub log: Log,
}

/// `listen:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The Postgres port.
    pub postgres: Option<SocketAddr>,
    /// The MySQL port.
    pub mysql: Option<SocketAddr>,
    /// `/healthz`, `/readyz`, `/metrics`.
    pub http: Option<SocketAddr>,
    /// The bearer token that HTTP asks for beyond loopback.
    pub http_token: Option<Secret>,
    /// TLS toward clients.
    pub tls: Option<ListenTls>,
}

/// `listen.tls:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenTls {
    /// A PEM file with the certificate chain.
    pub cert: PathBuf,
    /// A PEM file with its key.
    pub key: PathBuf,
    /// Whether clients without TLS are turned away.
    pub require: bool,
}

/// One database of the map.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// The name that clients connect to.
    pub name: Arc<str>,
    /// Its name on the servers.
    pub server_name: Arc<str>,
    /// Which protocol its servers speak.
    pub engine: Engine,
    /// Who probes, reads the schema, recovers. `None`: the first user that is allowed here.
    pub control: Option<ServerLogin>,
    /// TLS toward the servers.
    pub tls: ServerTls,
    /// The shard that serves catalogs.
    pub catalog: ShardId,
    /// User-defined functions declared to read no tables: schema-qualified names as written.
    pub safe_functions: Vec<TableName>,
    /// The shards, in the order of the file.
    pub shards: Vec<Shard>,
    /// The groups, in the order of the file.
    pub groups: Vec<Group>,
    /// Where the rows of every listed table live.
    pub tables: HashMap<TableName, Placement>,
    /// Tables whose triggers the map vouches for (`{key: …, triggers: safe}`).
    pub trusted_triggers: Vec<TableName>,
    /// Where tables that are not listed live, if the map says so.
    pub unlisted: Option<ShardId>,
    /// Schemas that are whole on one shard.
    pub schemas: Schemas,
    /// Sequences that count for all shards.
    pub sequences: BTreeMap<TableName, Sequence>,
    /// Defaults for reads.
    pub reads: Reads,
    /// Where and how much is gathered.
    pub gather: Gathers,
    /// What a transaction may do across shards.
    pub across_shards: AcrossShards,
    /// LOAD DATA LOCAL may ask clients for files.
    pub local_files: bool,
    /// How long a failover may be waited for.
    pub failover: Failover,
}

/// Schemas that are whole on one shard: groups of scheme `schema`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schemas {
    /// By name.
    pub homes: BTreeMap<Arc<str>, ShardId>,
    /// All others, but for `public`, the servers' own, and those of which the map lists tables.
    pub other: Option<ShardId>,
}

/// A sequence that counts for all shards: numbers are taken from it in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The shard whose sequence of that name it is.
    pub shard: ShardId,
    /// Numbers taken at once.
    pub block: usize,
}

/// Where statements run that need rows of several shards in one place, and how much they may collect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathers {
    /// The shard. `None`: the catalog shard.
    pub on: Option<ShardId>,
    /// Bytes of rows at most.
    pub bytes_max: usize,
    /// Rows at most.
    pub rows_max: usize,
}

/// A slice of the rows and the nodes that hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its name in the map.
    pub name: Arc<str>,
    /// Its servers.
    pub nodes: Vec<Node>,
}

/// One database server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name in the map; `host:port` when it has none.
    pub name: Arc<str>,
    /// Host name or address.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// Where it stands, for `reads.prefer: [zone]`.
    pub zone: Option<Arc<str>>,
    /// Its share of reads among equals; default 1.
    pub weight: u32,
    /// What the map insists that it is.
    pub role: WantedRole,
}

/// `role:` of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedRole {
    /// Whatever it says it is.
    Auto,
    /// Must be the primary.
    Primary,
    /// Must be a replica; never gets a write even if it is promoted.
    Replica,
}

/// Tables that live together and are joined on their key.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name in the map.
    pub name: Arc<str>,
    /// The type of the key.
    pub key_type: KeyType,
    /// key → shard.
    pub function: ShardFunction,
    /// Whether a statement that names no key is refused.
    pub require_key: bool,
    /// Whether the map gives the placement of hash buckets (otherwise it is fixed at first use, see `placement`).
    pub explicit_placement: bool,
}

/// Where the rows of a table live: spread by a key, copied to every shard, or whole on one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Spread.
    Sharded {
        /// The place of its group in `Database::groups`.
        group: usize,
        /// The column that places a row.
        key: Arc<str>,
    },
    /// The same rows on every shard.
    Reference,
    /// Whole on one shard.
    Unsharded {
        /// That shard.
        home: ShardId,
    },
}

/// Which protocol a database's servers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Postgres.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
}

/// A name and password that the proxy gives to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLogin {
    /// The role.
    pub user: Arc<str>,
    /// Its password; `None` where the server trusts.
    pub password: Option<Secret>,
}

/// TLS toward servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// How much is asked for.
    pub mode: TlsMode,
    /// A PEM file of authorities; `None`: the system's.
    pub ca: Option<PathBuf>,
}

/// `tls.mode:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// If the server can; off on loopback.
    Prefer,
    /// Always, whoever it is.
    Require,
    /// Always, and the certificate must be that host's.
    VerifyFull,
}

/// Somebody who may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: Arc<str>,
    /// How they prove it.
    pub auth: UserAuth,
    /// The databases they may use; `None`: all.
    pub databases: Option<Vec<Arc<str>>>,
    /// What the proxy gives the servers for them; `None`: the same name and password.
    pub server: Option<ServerLogin>,
    /// Overrides of `Database::reads`.
    pub consistency: Option<Consistency>,
    /// Whether `shardway.shard` may be set.
    pub hints: bool,
}

/// How a user proves who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserAuth {
    /// Not at all (loopback only).
    Trust,
    /// By SCRAM-SHA-256 with this password.
    Password(Secret),
}

/// A password: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Gives it out, for login only.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `reads:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// Whether replicas serve reads at all.
    pub from_replicas: bool,
    /// How new a read must be.
    pub consistency: Consistency,
    /// For `bounded`, and beyond it a replica is out of rotation.
    pub staleness_max: Duration,
    /// How long a read waits for a replica before it goes to the primary.
    pub wait: Duration,
    /// Whether nodes of the proxy's own zone come first.
    pub prefer_zone: bool,
}

/// How new a read must be (design §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// The primary serves.
    Strong,
    /// Nothing older than this session has seen.
    Session,
    /// Not older than this; `None`: the map's `staleness_max`.
    Bounded(Option<Duration>),
    /// Any healthy replica.
    Eventual,
}

/// `transactions.across_shards:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcrossShards {
    /// Two-phase commit.
    TwoPhase,
    /// One writing shard only.
    Reject,
}

/// `failover:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// Whether shardway leads.
    pub lead: bool,
    /// The command that stops a machine; empty: there is none.
    pub fence: Vec<String>,
    /// How long writes wait for a primary.
    pub wait: Duration,
    /// How many may wait.
    pub queue_max: usize,
}

/// `pool:`, per node, database and user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections at most.
    pub size: usize,
    /// Idle ones kept at least.
    pub idle_min: usize,
    /// How long a client may wait for one.
    pub wait: Duration,
    /// How old one may grow; zero: no limit.
    pub lifetime: Duration,
}

/// `timeouts:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Opening a server connection, login included.
    pub connect: Duration,
    /// From accept to the end of a client's login.
    pub login: Duration,
    /// One statement; zero: no limit.
    pub statement: Duration,
    /// Between statements of a transaction; zero: no limit.
    pub idle_in_transaction: Duration,
    /// What runs when the proxy stops.
    pub drain: Duration,
}

/// `limits:` in bytes, where not said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections.
    pub clients: usize,
    /// One message.
    pub message: usize,
    /// What may wait for one client.
    pub client_buffer: usize,
    /// Everything together.
    pub memory: usize,
}

/// `log:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`.
    pub level: Arc<str>,
    /// `auto`, `text`, `json`.
    pub format: Arc<str>,
    /// Statements slower than this are logged; `None`: none.
    pub slow_query: Option<Duration>,
}

impl Database {
    /// Where the rows of `table` live. `None`: the map does not say.
    #[must_use]
    pub fn placement(&self, table: &TableName) -> Option<Placement> {
        match self.tables.get(table) {
            Some(placement) => Some(placement.clone()),
            None => self.schema_home(&table.schema).or(self.unlisted).map(|home| Placement::Unsharded { home }),
        }
    }

    /// The shard on which everything in a schema is; `None`: the map does not say so of it as a whole.
    #[must_use]
    pub fn schema_home(&self, schema: &str) -> Option<ShardId> {
        if let Some(home) = self.schemas.homes.get(schema) {
            return Some(*home);
        }
        let other = self.schemas.other?;
        let is_own = matches!(schema, "public" | "shardway" | "information_schema") || schema.starts_with("pg_");
        (!is_own && self.tables.keys().all(|it| *it.schema != *schema)).then_some(other)
    }

    /// The group whose directory this table is.
    #[must_use]
    pub fn directory_of(&self, table: &TableName) -> Option<usize> {
        self.groups.iter().position(|it| it.function.as_directory().is_some_and(|it| it.table == *table))
    }

    /// A shard by its number.
    ///
    /// # Panics
    /// When the number is of another map.
    #[must_use]
    pub fn shard(&self, id: ShardId) -> &Shard {
        self.shards.get(id.index()).expect("a shard id is only used with the map that made it")
    }

    /// A node by its number.
    ///
    /// # Panics
    /// When the number is of another map.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        self.shard(id.shard).nodes.get(usize::from(id.node)).expect("a node id is only used with the map that made it")
    }

    /// Every node with its number.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0_u16..).zip(&self.shards).flat_map(|(shard, it)| {
            (0_u16..).zip(&it.nodes).map(move |(node, n)| (NodeId { shard: ShardId(shard), node }, n))
        })
    }
}
