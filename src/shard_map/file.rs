//! The map as written: every key, its type, and what it is for. What the values mean together is `validate`'s.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;

use crate::shard_map::mistake::Mistakes;
use crate::shard_map::mistake::Place;
use crate::shard_map::read::At;
use crate::shard_map::read::Field;
use crate::shard_map::read::Flag;
use crate::shard_map::read::Keys;
use crate::shard_map::read::List;
use crate::shard_map::read::Named;
use crate::shard_map::read::Number;
use crate::shard_map::read::Read;
use crate::shard_map::read::Text;
use crate::shard_map::read::choice;
use crate::shard_map::read::described;
use crate::shard_map::read::did_you_mean;
use crate::shard_map::read::is_null;
use crate::shard_map::read::paragraph;
use crate::shard_map::read::record;
use crate::shard_map::read::scalar_of;
use crate::shard_map::read::schema;
use crate::shard_map::read::wrong_type;
use crate::shard_map::tree::Node as TreeNode;
use crate::shard_map::tree::Tree;

record! {
    /// A shard map of shardway: where everything is.
    Map = "the map" {
        /// The version of this format: 1.
        version: At<Number>, required;
        /// Where to listen.
        listen: Listen, required;
        /// The databases, by the name that clients connect to.
        databases: Named<Database>, required;
        /// Bounds of every pool: per node, database and user.
        pool: Pool;
        /// How long things may take.
        timeouts: Timeouts;
        /// How much of everything.
        limits: Limits;
        /// Who may log in, by name.
        users: Named<User>, required;
        /// Who may use the console, database shardway.
        admin: Admin;
        /// What is logged.
        log: Log;
    }

    /// Where to listen.
    Listen = "`listen`" {
        /// Address and port for Postgres clients.
        postgres: At<Address>;
        /// Address and port for clients of MySQL and MariaDB.
        mysql: At<Address>;
        /// Address and port for /healthz, /readyz and /metrics.
        http: Http;
        /// TLS toward clients.
        tls: ListenTls;
    }

    /// The HTTP listener, with a token.
    HttpListener = "`http`" {
        /// Address and port.
        address: At<Address>, required;
        /// The bearer token that is asked for beyond loopback.
        token: At<SecretSource>;
    }

    /// TLS toward clients.
    ListenTls = "`listen.tls`" {
        /// A PEM file with the certificate chain.
        cert: At<Text>;
        /// A PEM file with its key.
        key: At<Text>;
        /// Whether clients without TLS are turned away. Default false.
        require: At<Flag>;
    }

    /// One database.
    Database = "a database" {
        /// The protocol of its servers. Default postgres; mysql is for MySQL and MariaDB.
        engine: At<Engine>;
        /// Its name on the servers, when it differs.
        database: At<Text>;
        /// Who probes, reads the schema and recovers. Default: the first user allowed here.
        control: Control;
        /// TLS toward the servers.
        tls: ServerTls;
        /// The shard that serves catalogs, statements without tables, LISTEN and advisory locks. Default: the first.
        catalog: At<Text>;
        /// What the map vouches for about functions.
        functions: Functions;
        /// The shards by name, each a list of nodes; which node is the primary is discovered.
        shards: Named<List<Node>>, required;
        /// Tables that live together and are joined on their key.
        groups: Named<Group>;
        /// Tables with the same rows on every shard.
        reference: List<Text>;
        /// Tables that are whole on one shard, by shard.
        unsharded: Named<List<Text>>;
        /// A shard for tables that are named nowhere, while moving in. Default: they are refused.
        unlisted: At<Text>;
        /// Numbers handed out in blocks: gaps, never repeats.
        sequences: Named<Sequence>;
        /// Where reads go and how new they are.
        reads: Reads;
        /// What a transaction may do across shards.
        transactions: Transactions;
        /// Where statements run that need rows of several shards in one place.
        gather: Gather;
        /// Who leads when a primary fails.
        failover: Failover;
        /// When a write counts as done. Default server. `replicated` is not built.
        durability: At<Durability>;
        /// With engine mysql: whether LOAD DATA LOCAL may ask clients for files of theirs. Default reject.
        local_files: At<LocalFiles>;
    }

    /// The proxy's own login at the servers.
    Control = "`control`" {
        /// Its name there.
        user: At<Text>, required;
        /// Its password; none where the servers trust.
        password: At<SecretSource>;
    }

    /// TLS toward the servers.
    ServerTls = "`tls`" {
        /// How much is asked for. Default prefer, off on loopback.
        mode: At<TlsMode>;
        /// A PEM file of authorities. Default: the system's.
        ca: At<Text>;
    }

    /// What the map vouches for about functions.
    Functions = "`functions`" {
        /// User-defined functions that read no tables.
        safe: List<Text>;
    }

    /// A node with more than an address.
    NodeRecord = "a node" {
        /// Its name. Default host:port.
        name: At<Text>;
        /// Host name or address.
        host: At<Text>, required;
        /// TCP port. Default 5432, of MySQL 3306.
        port: At<Number>;
        /// Where it stands. No effect yet.
        zone: At<Text>;
        /// Its share of reads among equals. Default 1.
        weight: At<Number>;
        /// What the map insists that it is. Default auto.
        role: At<Role>;
    }

    /// Tables that live together and are joined on their key.
    Group = "a group" {
        /// The type of the key.
        key: At<KeyName>;
        /// How keys find their shard. Default hash.
        scheme: At<Scheme>;
        /// Where the buckets of a hash lie. Default: equal shares, fixed at first use.
        placement: At<Placement>;
        /// Single keys and the shard they are on, asked first.
        pinned: Named<List<Literal>>;
        /// Whether a statement that names no key is refused. Default false.
        require_key: At<Flag>;
        /// Its tables and the column that holds the key.
        tables: Named<Table>;
        /// For scheme list: the values of each shard.
        values: Named<List<Literal>>;
        /// For schemes list and schema: a shard for the rest, or reject (default). The rest of the schemas is without public
        /// and those of which the map lists tables.
        other: At<Text>;
        /// For scheme range: pieces of the order, each from ≤ key < to.
        ranges: List<Range>;
        /// For scheme directory: the table that knows.
        directory: Directory;
        /// For scheme schema: the shard of each schema. Everything in it is there; such a group lists no tables.
        schemas: Named<At<Text>>;
    }

    /// A table with more than a key column.
    TableRecord = "a table" {
        /// The column that holds the key.
        key: At<Text>, required;
        /// safe: its triggers are vouched for.
        triggers: At<Triggers>;
    }

    /// One piece of a range.
    Range = "a range" {
        /// It begins with this key. Default: below every key.
        from: At<Literal>;
        /// It ends before this key. Default: above every key.
        to: At<Literal>;
        /// Where it lies.
        shard: At<Text>, required;
    }

    /// A table that maps keys to shards.
    Directory = "`directory`" {
        /// The shard that holds the table.
        shard: At<Text>, required;
        /// The table. It need not be listed under unsharded as well. Its key needs a primary key or unique constraint.
        table: At<Text>, required;
        /// Its column with the key.
        key: At<Text>, required;
        /// Its column with the shard's name as the map has it: text.
        target: At<Text>, required;
        /// How long an answer is kept for reads. Default 30s. 0s: not at all.
        cache: At<Span>;
        /// A shard for keys that it does not hold, or reject (default): reads find nothing, and rows are refused.
        missing: At<Text>;
    }

    /// Numbers handed out in blocks.
    Sequence = "a sequence" {
        /// The shard whose sequence of that name counts for all.
        shard: At<Text>, required;
        /// Numbers that a proxy takes at once. Default 1000.
        block: At<Number>;
    }

    /// Where reads go and how new they are.
    Reads = "`reads`" {
        /// Default replicas.
        from: At<ReadsFrom>;
        /// How new a read is. Default session.
        consistency: At<Consistency>;
        /// For bounded, and beyond it a replica is out of rotation. Default 2s.
        staleness_max: At<Span>;
        /// How long a read waits for a replica to catch up before it goes to the primary. Default 20ms.
        wait: At<Span>;
        /// Which replicas come first. Default [zone, any]. No effect yet: the proxy has no zone of its own.
        prefer: List<Prefer>;
    }

    /// Overrides for one user's reads.
    UserReads = "`reads` of a user" {
        /// How new a read is.
        consistency: At<Consistency>;
    }

    /// What a transaction may do across shards.
    Transactions = "`transactions`" {
        /// Default two_phase. What one transaction wrote on several shards is committed on all of them or on none; this takes `shardway check --connect --prepare`, and of Postgres `max_prepared_transactions`. With reject, the second shard that it would write is refused.
        across_shards: At<AcrossShards>;
    }

    /// Where statements run that need rows of several shards in one place.
    Gather = "`gather`" {
        /// A shard to run them on. Default: the catalog shard.
        on: At<Text>;
        /// A server of its own. No effect yet: statements are gathered on a shard.
        url: At<SecretSource>;
        /// Bytes collected at most. Default 256MiB.
        bytes_max: At<Size>;
        /// Rows collected at most. Default 5000000.
        rows_max: At<Number>;
    }

    /// Who leads when a primary fails.
    Failover = "`failover`" {
        /// others (default): follow who is promoted. shardway: promote a replica when the primary is gone; one proxy only.
        by: At<FailoverBy>;
        /// A program and its arguments, by which shardway stops a primary's machine: node, host and port come behind them.
        fence: List<Text>;
        /// How long writes wait for a primary. Default 10s.
        wait: At<Span>;
        /// How many statements and transactions may wait for one shard's primary. Default 2000; 0: none.
        queue_max: At<Number>;
    }

    /// Bounds of every pool: per node, database and user.
    Pool = "`pool`" {
        /// Connections at most. Default 20.
        size: At<Number>;
        /// Idle connections kept at least. Default 1. No effect yet.
        idle_min: At<Number>;
        /// How long a client may wait for one. Default 5s.
        wait: At<Span>;
        /// How old one may grow. Default 1h; 0s: no limit.
        lifetime: At<Span>;
    }

    /// How long things may take.
    Timeouts = "`timeouts`" {
        /// Opening a server connection, login included. Default 3s.
        connect: At<Span>;
        /// A client's login. Default 15s.
        login: At<Span>;
        /// One statement. Default 0s: no limit of the proxy's own.
        statement: At<Span>;
        /// Between statements of a transaction. Default 0s: no limit of the proxy's own.
        idle_in_transaction: At<Span>;
        /// What runs when the proxy stops. Default 30s.
        drain: At<Span>;
    }

    /// How much of everything.
    Limits = "`limits`" {
        /// Client connections. Default 10000.
        clients: At<Number>;
        /// One message. Default 64MiB.
        message: At<Size>;
        /// What may wait for one client. Default 1MiB. No effect yet: 64 KiB are gathered.
        client_buffer: At<Size>;
        /// Everything together. Default 2GiB. No effect yet.
        memory: At<Size>;
    }

    /// Somebody who may log in.
    User = "a user" {
        /// trust: no password is asked, while every listener is on loopback.
        auth: At<Auth>;
        /// Their password.
        password: At<SecretSource>;
        /// The databases they may use. Default: all.
        databases: List<Text>;
        /// What the proxy gives the servers for them. Default: the same name and password.
        server: Control;
        /// Overrides for their reads.
        reads: UserReads;
        /// Whether they may set shardway.shard. Default false.
        hints: At<Flag>;
    }

    /// Who may use the console.
    Admin = "`admin`" {
        /// By name.
        users: Named<AdminUser>;
    }

    /// Somebody who may use the console.
    AdminUser = "an admin user" {
        /// trust: no password is asked, while every listener is on loopback.
        auth: At<Auth>;
        /// Their password.
        password: At<SecretSource>;
    }

    /// What is logged.
    Log = "`log`" {
        /// Default info.
        level: At<Level>;
        /// Default auto: text on a terminal, json otherwise.
        format: At<Format>;
        /// Statements slower than this are logged. Default: none; 0s: all. No effect yet.
        slow_query: At<Span>;
    }
}

choice! {
    /// The protocol of a database's servers.
    Engine { "postgres" => Postgres, "mysql" => Mysql, }
    /// How much TLS is asked for.
    TlsMode {
        "disable" => Disable,
        "prefer" => Prefer,
        "require" => Require,
        "verify-full" => VerifyFull,
    }
    /// What the map insists that a node is.
    Role { "auto" => Auto, "primary" => Primary, "replica" => Replica, }
    /// How keys find their shard.
    Scheme {
        "hash" => Hash,
        "range" => Range,
        "list" => List,
        "directory" => Directory,
        "schema" => Schema,
    }
    /// Which triggers are vouched for.
    Triggers { "safe" => Safe, }
    /// Who serves reads.
    ReadsFrom { "replicas" => Replicas, "primary" => Primary, }
    /// Which replicas come first.
    Prefer { "zone" => Zone, "any" => Any, }
    /// How a transaction commits on several shards.
    AcrossShards { "two_phase" => TwoPhase, "reject" => Reject, }
    /// Who promotes.
    FailoverBy { "others" => Others, "shardway" => Shardway, }
    /// When a write counts as done.
    Durability { "server" => Server, "replicated" => Replicated, }
    /// Whether clients are asked for files.
    LocalFiles { "allow" => Allow, "reject" => Reject, }
    /// How a user proves who they are.
    Auth { "trust" => Trust, }
    /// How much is logged.
    Level { "error" => Error, "warn" => Warn, "info" => Info, "debug" => Debug, }
    /// How it is logged.
    Format { "auto" => Auto, "text" => Text, "json" => Json, }
}

impl Level {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl Format {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// `127.0.0.1:6432`
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub(super) SocketAddr);

impl Read for Address {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        let scalar = scalar_of(tree, "an address and port, such as 127.0.0.1:6432", mistakes)?;
        match scalar.text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Some(Self(address)),
            Ok(_) | Err(_) => {
                mistakes.error(
                    "map-address",
                    tree.place,
                    format!("`{}` is not an address to listen on", scalar.text),
                    "Write an IP address and a port: 127.0.0.1:6432, 0.0.0.0:6432, \"[::1]:6432\".",
                );
                None
            }
        }
    }
}

schema!(Address, "Address", { "type": "string", "pattern": ":[0-9]+$" });

/// A duration: a whole number and its unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) Duration);

/// Units of a duration, in milliseconds.
const SPAN_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Read for Span {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        let units = "ms, s, m, h or d";
        let milliseconds = measure(tree, "a duration, such as 5s", units, &SPAN_UNITS, mistakes)?;
        Some(Self(Duration::from_millis(milliseconds)))
    }
}

schema!(Span, "Duration", { "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" });

/// A size: a whole number and its unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size(pub(super) u64);

/// Units of a size, in bytes.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

impl Read for Size {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        let units = "B, KiB, MiB, GiB, KB, MB or GB";
        measure(tree, "a size, such as 64MiB", units, &SIZE_UNITS, mistakes).map(Self)
    }
}

schema!(Size, "Size", { "type": "string", "pattern": "^[0-9]+(B|KB|MB|GB|KiB|MiB|GiB)$" });

/// A whole number with one of `units` behind it, in the smallest.
fn measure(tree: &Tree, wanted: &str, units: &str, values: &[(&str, u64)], mistakes: &mut Mistakes<'_>) -> Option<u64> {
    let text = &scalar_of(tree, wanted, mistakes)?.text;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    if number.is_empty() {
        mistakes.error(
            "map-type",
            tree.place,
            format!("`{text}` is not {wanted}"),
            format!("Write a whole number and its unit: {units}."),
        );
        return None;
    }
    if unit.is_empty() {
        mistakes.error(
            "map-unit-missing",
            tree.place,
            format!("`{text}` has no unit"),
            format!("Write its unit right behind it: {units}."),
        );
        return None;
    }
    let Some((_, value)) = values.iter().find(|(name, _)| *name == unit) else {
        let near = values.iter().map(|(name, _)| *name).find(|name| name.eq_ignore_ascii_case(unit));
        mistakes.error(
            "map-unit-unknown",
            tree.place,
            format!("`{unit}` is not a unit here"),
            near.map_or_else(|| format!("Units are {units}."), |near| format!("Write `{number}{near}`.")),
        );
        return None;
    };
    let product = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*value));
    if product.is_none() {
        mistakes.error("map-out-of-range", tree.place, format!("`{text}` is too much"), "Write a smaller number.");
    }
    product
}

/// The type of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyName(pub(super) super::KeyType);

impl Read for KeyName {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        let scalar = scalar_of(tree, "the type of a key, such as bigint", mistakes)?;
        let name = scalar.text.to_lowercase();
        if let Some(key_type) = super::KeyType::ALL.into_iter().find(|key_type| key_type.name() == scalar.text) {
            return Some(Self(key_type));
        }
        let (message, hint) = match key_synonym(&name) {
            Some(Ok(spelled)) => {
                (format!("`{}` is spelled otherwise here", scalar.text), format!("Write `{spelled}`."))
            }
            Some(Err(reason)) => (
                format!("`{}` cannot be a shard key: {reason}", scalar.text),
                "Choose a column of type bigint, int, smallint, text, uuid, date, timestamptz or bytea.".to_owned(),
            ),
            None => (
                format!("`{}` is not a type that a shard key can have", scalar.text),
                did_you_mean(&scalar.text, super::KeyType::ALL.map(super::KeyType::name)),
            ),
        };
        mistakes.error("map-key-type", tree.place, message, hint);
        None
    }
}

impl JsonSchema for KeyName {
    fn schema_name() -> Cow<'static, str> {
        "KeyType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": super::KeyType::ALL.map(super::KeyType::name) })
    }
}

/// Another name of a key type, or why a type cannot be one.
fn key_synonym(name: &str) -> Option<Result<&'static str, &'static str>> {
    let base = name.split(['(', '[']).next().unwrap_or(name).trim();
    if name.contains('[') {
        return Some(Err("arrays that are equal may differ in their bounds"));
    }
    Some(match base {
        "int8" | "bigserial" | "serial8" => Ok("bigint"),
        "integer" | "int4" | "serial" | "serial4" => Ok("int"),
        "int2" | "smallserial" | "serial2" => Ok("smallint"),
        "varchar" | "character varying" => Ok("text"),
        "timestamp with time zone" => Ok("timestamptz"),
        "float" | "float4" | "float8" | "real" | "double precision" | "double" => {
            Err("its equality is not stable (0 and -0, rounding on the way)")
        }
        "numeric" | "decimal" => Err("1.0 and 1.00 are equal and look different"),
        "json" | "jsonb" | "xml" => Err("it has no stable equality"),
        "citext" => Err("it ignores case as the server's locale does, which the proxy cannot repeat"),
        "char" | "character" | "bpchar" => Err("it ignores trailing spaces"),
        "timestamp" | "timestamp without time zone" => Err("what moment it names depends on who reads it"),
        "array" => Err("arrays that are equal may differ in their bounds"),
        "boolean" | "bool" => Err("two values are too few to spread rows by"),
        _ => return None,
    })
}

/// `session`, or `bounded:500ms`
#[derive(Clone, Copy, Debug)]
pub(super) struct Consistency(pub(super) super::Consistency);

impl Read for Consistency {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        const WORDS: [&str; 4] = ["strong", "session", "bounded", "eventual"];
        let scalar = scalar_of(tree, "strong, session, bounded or eventual", mistakes)?;
        let level = match scalar.text.as_str() {
            "strong" => super::Consistency::Strong,
            "session" => super::Consistency::Session,
            "bounded" => super::Consistency::Bounded(None),
            "eventual" => super::Consistency::Eventual,
            other => match other.strip_prefix("bounded:") {
                Some(bound) => {
                    let scalar = crate::shard_map::tree::Scalar { text: bound.to_owned(), plain: true };
                    let tree = Tree { place: tree.place, node: TreeNode::Scalar(scalar) };
                    let Span(bound) = Span::read(&tree, mistakes)?;
                    super::Consistency::Bounded(Some(bound))
                }
                None => {
                    mistakes.error(
                        "map-choice",
                        tree.place,
                        format!("`{other}` is not one of {}", WORDS.join(", ")),
                        did_you_mean(other, WORDS),
                    );
                    return None;
                }
            },
        };
        Some(Self(level))
    }
}

schema!(Consistency, "Consistency", {
    "type": "string",
    "pattern": "^(strong|session|bounded|bounded:[0-9]+(ms|s|m|h|d)|eventual)$"
});

/// A key's value, whose type is the group's.
#[derive(Clone, Debug)]
pub(super) struct Literal {
    pub(super) text: String,
    /// Whether it stands without quotes.
    pub(super) plain: bool,
}

impl Read for Literal {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        let scalar = scalar_of(tree, "a key's value", mistakes)?;
        Some(Self { text: scalar.text.clone(), plain: scalar.plain })
    }
}

schema!(Literal, "Literal", { "type": ["string", "integer"] });

/// Where a password comes from.
#[derive(Clone, Debug)]
pub(super) enum SecretSource {
    /// `{env: NAME}`
    Env(String),
    /// `{file: PATH}`
    File(String),
    /// Written in the map itself.
    Inline(super::Secret),
}

record! {
    /// A secret from a variable or a file.
    SecretRecord = "a secret" {
        /// The environment variable that holds it.
        env: At<Text>;
        /// The file that holds it.
        file: At<Text>;
    }
}

impl Read for SecretSource {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        match &tree.node {
            TreeNode::Scalar(scalar) if !is_null(scalar) => Some(Self::Inline(super::Secret::new(&scalar.text))),
            // Keys that are none may be the secret itself: they are not named.
            TreeNode::Map(map) if !map.iter().all(|(word, _)| matches!(word.scalar.text.as_str(), "env" | "file")) => {
                mistakes.hide(tree.place);
                mistakes.error(
                    "map-secret",
                    tree.place,
                    "a secret has other keys than `env` or `file`",
                    "Write either {env: NAME} or {file: PATH}.",
                );
                None
            }
            TreeNode::Map(_) => {
                let record = SecretRecord::read(tree, mistakes)?;
                match (record.env, record.file) {
                    (Field::Given(env), Field::Absent) => Some(Self::Env(env.value.0)),
                    (Field::Absent, Field::Given(file)) => Some(Self::File(file.value.0)),
                    (Field::Broken, _) | (_, Field::Broken) => None,
                    (Field::Absent, Field::Absent) | (Field::Given(_), Field::Given(_)) => {
                        mistakes.error(
                            "map-secret",
                            tree.place,
                            "a secret comes from one place",
                            "Write either {env: NAME} or {file: PATH}.",
                        );
                        None
                    }
                }
            }
            TreeNode::Scalar(_) | TreeNode::List(_) | TreeNode::Broken => {
                wrong_type(tree, "{env: NAME} or {file: PATH}", mistakes);
                None
            }
        }
    }
}

/// An address, or a record.
#[derive(Clone, Debug)]
pub(super) enum Http {
    Address(At<Address>),
    Listener(HttpListener),
}

impl Read for Http {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        match &tree.node {
            TreeNode::Map(_) => HttpListener::read(tree, mistakes).map(Self::Listener),
            TreeNode::Scalar(_) | TreeNode::List(_) | TreeNode::Broken => At::read(tree, mistakes).map(Self::Address),
        }
    }
}

/// A node: an address, or a record.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// Host and port, as written; without a port the engine's own.
    Address(String, Option<u16>),
    Record(Box<NodeRecord>),
}

impl Read for Node {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        if let TreeNode::Map(_) = &tree.node {
            return NodeRecord::read(tree, mistakes).map(|record| Self::Record(Box::new(record)));
        }
        let wanted = "a node: host:port, or a map with host";
        let text = &scalar_of(tree, wanted, mistakes)?.text;
        let (host, port) = match text.rsplit_once(':') {
            // An IPv6 address stands in brackets, or has no port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse::<u16>().ok().map(Some))
            }
            Some(_) | None => (text.as_str(), Some(None)),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match port {
            Some(port) if port != Some(0) && is_host(host) => Some(Self::Address(host.to_owned(), port)),
            _ => {
                mistakes.error(
                    "map-address",
                    tree.place,
                    format!("`{text}` is not the address of a node"),
                    "Write host:port, such as 10.0.0.11:5432 or, of MySQL, db-a.internal:3306.",
                );
                None
            }
        }
    }
}

/// A server's own.
pub(super) fn default_port(engine: Engine) -> u16 {
    match engine {
        Engine::Postgres => 5432,
        Engine::Mysql => 3306,
    }
}

/// Whether it can be a host name or an IP address.
pub(super) fn is_host(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%'))
}

/// A table: its key column, or a record.
#[derive(Clone, Debug)]
pub(super) enum Table {
    Key(At<Text>),
    Record(TableRecord),
}

impl Read for Table {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        match &tree.node {
            TreeNode::Map(_) => TableRecord::read(tree, mistakes).map(Self::Record),
            TreeNode::Scalar(_) | TreeNode::List(_) | TreeNode::Broken => At::read(tree, mistakes).map(Self::Key),
        }
    }
}

/// Where the buckets of a hash lie.
#[derive(Clone, Debug)]
pub(super) enum Placement {
    /// `{s1: 0-8191, s2: 8192-16383}`
    Ranges(Named<Buckets>),
    /// `{ring: {s1: 1, s2: 2}}`
    Ring(Named<At<Number>>),
    /// `{modulus: 4, shards: [s1, s2, s1, s2]}`
    Modulus(ModulusPlacement),
}

record! {
    /// A consistent-hash ring.
    RingPlacement = "`placement`" {
        /// The weight of each shard.
        ring: Named<At<Number>>, required;
    }

    /// Buckets by remainder.
    ModulusPlacement = "`placement`" {
        /// A power of two up to 16384.
        modulus: At<Number>, required;
        /// The shard of each remainder.
        shards: List<Text>, required;
    }
}

impl Read for Placement {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        let TreeNode::Map(map) = &tree.node else {
            wrong_type(tree, "where the buckets lie, such as {s1: 0-8191, s2: 8192-16383}", mistakes);
            return None;
        };
        let has = |key: &str| map.iter().any(|(word, _)| word.scalar.text == key);
        let ring = map.iter().any(|(word, value)| word.scalar.text == "ring" && matches!(value.node, TreeNode::Map(_)));
        if ring {
            match RingPlacement::read(tree, mistakes)?.ring {
                Field::Given(ring) => Some(Self::Ring(ring)),
                Field::Absent | Field::Broken => None,
            }
        } else if has("modulus") {
            ModulusPlacement::read(tree, mistakes).map(Self::Modulus)
        } else {
            Named::read(tree, mistakes).map(Self::Ranges)
        }
    }
}

/// Ranges of buckets: `0-8191`, `17`, or a list of them; first and last, with their places.
#[derive(Clone, Debug)]
pub(super) struct Buckets(pub(super) Vec<At<(u64, u64)>>);

impl Read for Buckets {
    fn read(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<Self> {
        match &tree.node {
            TreeNode::List(items) => {
                let ranges: Vec<_> = items.iter().map(|item| bucket_range(item, mistakes)).collect();
                ranges.into_iter().collect::<Option<Vec<_>>>().map(Self)
            }
            TreeNode::Scalar(_) | TreeNode::Map(_) | TreeNode::Broken => {
                bucket_range(tree, mistakes).map(|range| Self(vec![range]))
            }
        }
    }
}

fn bucket_range(tree: &Tree, mistakes: &mut Mistakes<'_>) -> Option<At<(u64, u64)>> {
    let text = &scalar_of(tree, "a range of buckets, such as 0-8191", mistakes)?.text;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => Some(At { place: tree.place, value: (first, last) }),
        _ => {
            mistakes.error(
                "map-bucket-syntax",
                tree.place,
                format!("`{text}` is not a range of buckets"),
                "Write the first and the last bucket, such as 0-8191; several ranges as a list.",
            );
            None
        }
    }
}

macro_rules! any_of {
    ($($name:ty as $spelled:literal: $($kind:ty),*;)*) => {$(
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                $spelled.into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                json_schema!({ "anyOf": [$(generator.subschema_for::<$kind>()),*] })
            }
        }
    )*};
}

any_of! {
    SecretSource as "Secret": Text, SecretRecord;
    Http as "Http": Address, HttpListener;
    Node as "Node": Text, NodeRecord;
    Table as "Table": Text, TableRecord;
    Placement as "Placement": RingPlacement, ModulusPlacement, Named<Buckets>;
    Buckets as "Buckets": Text, Number, List<Literal>;
}
