//! One database: its shards and nodes, its tables, how it is read.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::ident::ShardId;
use crate::ident::TableName;

use super::super::AcrossShards;
use super::super::Consistency;
use super::super::Database;
use super::super::Engine;
use super::super::Failover;
use super::super::Gathers;
use super::super::Node;
use super::super::Placement;
use super::super::Reads;
use super::super::Sequence;
use super::super::ServerTls;
use super::super::Shard;
use super::super::TlsMode;
use super::super::User;
use super::super::WantedRole;
use super::super::file;
use super::super::mistake::Mistakes;
use super::super::mistake::Place;
use super::super::read::At;
use super::super::read::Field;
use super::super::read::List;
use super::super::read::Named;
use super::super::read::Text;
use super::CONSOLE;
use super::HOUR;
use super::SECOND;
use super::Shards;
use super::Validator;
use super::Zero;
use super::allowed;
use super::engine;
use super::not_built;
use super::server_login;

/// How many shards a database may have.
const SHARDS_MAX: usize = 1024;

/// How many numbers a proxy may take from a sequence at once: one statement takes them.
const BLOCK_MAX: u64 = 100_000;

/// Words that stand where a shard's name may.
const SHARD_WORDS: [&str; 3] = ["reject", "ring", "modulus"];

/// Schemas whose tables are not the user's to place.
const OWN_SCHEMAS: [&str; 4] = ["shardway", "pg_catalog", "information_schema", "pg_toast"];

/// Where every table of a database lives, and where the map says so.
pub(super) struct Tables {
    pub(super) placed: HashMap<TableName, Placement>,
    written: HashMap<TableName, (Place, String)>,
    pub(super) naming: Naming,
}

/// How a database's tables are called in the map.
pub(super) struct Naming {
    pub(super) engine: Engine,
    /// What the servers call the database: of MySQL, the schema of all its tables.
    server_name: Arc<str>,
}

impl Naming {
    pub(super) fn table(&self, text: &str) -> TableName {
        match self.engine {
            Engine::Mysql if !text.contains('.') => TableName::new(&self.server_name, text),
            Engine::Mysql | Engine::Postgres => TableName::parse(text),
        }
    }
}

impl Tables {
    fn new(naming: Naming) -> Self {
        Self { placed: HashMap::new(), written: HashMap::new(), naming }
    }

    /// Places a table, unless it has a place already.
    pub(super) fn place(
        &mut self,
        name: &At<String>,
        class: String,
        placement: Placement,
        mistakes: &mut Mistakes<'_>,
    ) {
        if name.value.is_empty() {
            // It could not be read, which has been reported.
            return;
        }
        if !is_table_name(&name.value) {
            mistakes.error(
                "map-name",
                name.place,
                format!("`{}` is not the name of a table", name.value),
                "Write table or schema.table, spelled as the server's catalog does, without its quotes.",
            );
            return;
        }
        let table = self.naming.table(&name.value);
        if self.naming.engine == Engine::Mysql && table.schema != self.naming.server_name {
            mistakes.error(
                "map-table-elsewhere",
                name.place,
                format!("table `{table}` is in another database than `{}`", self.naming.server_name),
                "A MySQL database of the map is one database of its servers: list the table under the one that it is in.",
            );
            return;
        }
        if OWN_SCHEMAS.contains(&&*table.schema) {
            mistakes.error(
                "map-reserved-name",
                name.place,
                format!("tables of schema `{}` are not placed by a map", table.schema),
                "Remove it.",
            );
        }
        if let Some((first, other)) = self.written.get(&table) {
            let line = mistakes.line(*first);
            mistakes.error(
                "map-table-twice",
                name.place,
                format!("table `{table}` stands in {class} and in {other}"),
                format!("It can be in one of them: the first is on line {line} (`orders` and `public.orders` are one table)."),
            );
            return;
        }
        self.written.insert(table.clone(), (name.place, class));
        self.placed.insert(table, placement);
    }
}

impl Validator<'_, '_> {
    pub(super) fn database(
        &mut self,
        name: &At<String>,
        file: &file::Database,
        users: &[User],
        map: &file::Map,
    ) -> Database {
        self.role_name(name, "a database");
        if name.value == CONSOLE {
            self.mistakes.error(
                "map-reserved-name",
                name.place,
                format!("`{CONSOLE}` is the console's database"),
                "Give the database another name; `database:` inside it says what it is called on the servers.",
            );
        }
        let engine = file.engine.given().map_or(Engine::Postgres, |at| engine(at.value));
        if engine == Engine::Mysql {
            self.not_for_mysql(file);
        }
        let server_name = file.database.given().map_or(name.value.as_str(), |at| at.value.0.as_str());
        let control = match &file.control {
            Field::Given(control) => Some(self.login(control)),
            Field::Absent | Field::Broken => allowed(users, &name.value).next().map(server_login),
        };
        if control.is_none() && file.control.is_absent() && users_are_whole(map) {
            self.mistakes.error(
                "map-control-missing",
                name.place,
                format!("nobody may use database `{}`, so nobody can probe its servers", name.value),
                "Add a user, or `control: {user: NAME, password: {file: PATH}}` to the database.",
            );
        }
        let (shards, ids) = self.shards(file, &name.value, server_name);
        let mut tables = Tables::new(Naming { engine, server_name: server_name.into() });
        let mut trusted_triggers = Vec::new();
        let mut groups = Vec::new();
        for (group_name, group) in file.groups.given().into_iter().flat_map(Named::iter) {
            self.plain_name(group_name, "a group");
            let index = groups.len();
            groups.push(self.group(group_name, group, &ids));
            self.group_tables(index, group_name, group, &mut tables, &mut trusted_triggers);
        }
        self.other_tables(file, &ids, &mut tables);
        self.directories(file, &mut tables, &ids);
        let schemas = self.all_schemas(file, &tables, &ids);
        let sequences = self.sequences(file, &ids, &tables.naming);
        let gather = self.gather(file, &ids);
        let find = |field: &Field<At<Text>>, mistakes: &mut Mistakes<'_>| {
            field.given().and_then(|at| ids.find(&at.value.0, at.place, mistakes))
        };
        let catalog = find(&file.catalog, self.mistakes).unwrap_or(ShardId(0));
        let unlisted = find(&file.unlisted, self.mistakes);
        let safe = file.functions.given().and_then(|functions| functions.safe.given());
        Database {
            name: name.value.as_str().into(),
            server_name: server_name.into(),
            engine,
            control,
            tls: self.server_tls(file.tls.given()),
            catalog,
            safe_functions: safe.into_iter().flat_map(List::iter).map(|at| tables.naming.table(&at.value.0)).collect(),
            shards,
            groups,
            tables: tables.placed,
            trusted_triggers,
            unlisted,
            schemas,
            sequences,
            reads: self.reads(file),
            gather,
            across_shards: self.across_shards(file),
            local_files: self.local_files(file, engine),
            failover: self.failover(file, engine),
        }
    }

    fn shards(&mut self, file: &file::Database, database: &str, server_name: &str) -> (Vec<Shard>, Shards) {
        let Some(named) = file.shards.given() else { return Default::default() };
        if named.entries.is_empty() {
            self.mistakes.error(
                "map-shard-missing",
                named.place,
                "the database has no shard",
                "Name one with its nodes.",
            );
        }
        if named.entries.len() > SHARDS_MAX {
            self.mistakes.error(
                "map-out-of-range",
                named.place,
                format!("the database has {} shards", named.entries.len()),
                format!("shardway handles at most {SHARDS_MAX}."),
            );
        }
        let mut ids = Shards::default();
        let mut shards = Vec::new();
        let engine = file.engine.given().map_or(file::Engine::Postgres, |at| at.value);
        let port = file::default_port(engine);
        let mut seen = Seen { database, server_name, port, names: HashMap::new() };
        for (number, (name, nodes)) in (0_u16..).zip(&named.entries) {
            self.plain_name(name, "a shard");
            if SHARD_WORDS.contains(&name.value.as_str()) {
                self.mistakes.error(
                    "map-reserved-name",
                    name.place,
                    format!("a shard cannot be called `{}`", name.value),
                    "Where shards are named, this word means something else: choose another.",
                );
            }
            ids.numbers.insert(name.value.clone(), ShardId(number));
            ids.names.push(name.value.clone());
            let nodes = nodes.as_ref().map(|nodes| self.nodes(name, nodes, &mut seen)).unwrap_or_default();
            shards.push(Shard { name: name.value.as_str().into(), nodes });
        }
        (shards, ids)
    }

    fn nodes(&mut self, shard: &At<String>, list: &List<file::Node>, seen: &mut Seen<'_>) -> Vec<Node> {
        if list.items.is_empty() {
            self.mistakes.error(
                "map-shard-empty",
                shard.place,
                format!("shard `{}` has no node", shard.value),
                "List its servers, such as [10.0.0.11:5432, 10.0.0.12:5432].",
            );
        }
        let mut nodes = Vec::new();
        let mut primary: Option<Place> = None;
        for at in list.iter() {
            let (node, places) = self.node(at, seen.port);
            if node.role == WantedRole::Primary {
                if let Some(first) = primary {
                    let line = self.mistakes.line(first);
                    self.mistakes.error(
                        "map-two-primaries",
                        places.role,
                        format!("shard `{}` has two nodes that insist on being the primary", shard.value),
                        format!("The other is on line {line}: leave `role` out, and the primary is discovered."),
                    );
                }
                primary.get_or_insert(places.role);
            }
            self.not_the_proxy(&node, places.host);
            // Host names do not heed case.
            let server = (node.host.to_lowercase(), node.port, seen.server_name.to_owned());
            let owner = format!("{}.{}", seen.database, shard.value);
            if let Some((first, other)) = self.servers.get(&server) {
                let line = self.mistakes.line(*first);
                self.mistakes.error(
                    "map-node-twice",
                    places.host,
                    format!("{}:{} holds the rows of shard `{other}` already", node.host, node.port),
                    format!("One database of one server is one shard's; the first is on line {line}."),
                );
            } else {
                self.servers.insert(server, (places.host, owner));
            }
            if let Some(first) = seen.names.get(&node.name).filter(|_| places.name.is_some()) {
                let line = self.mistakes.line(*first);
                self.mistakes.error(
                    "map-name-twice",
                    places.name.unwrap_or(at.place),
                    format!("another node of this database is called `{}`", node.name),
                    format!("It is on line {line}: give one of them another name."),
                );
            }
            let named_at = places.name.unwrap_or(places.host);
            seen.names.entry(Arc::clone(&node.name)).or_insert(named_at);
            nodes.push(node);
        }
        let all_read = list.items.iter().all(Option::is_some);
        if all_read && !nodes.is_empty() && nodes.iter().all(|node| node.role == WantedRole::Replica) {
            self.mistakes.warning(
                "map-no-primary",
                shard.place,
                format!("every node of shard `{}` is held to be a replica: nothing can be written there", shard.value),
                "Leave `role` out where a node may become the primary.",
            );
        }
        nodes
    }

    fn node(&mut self, at: &At<file::Node>, default_port: u16) -> (Node, NodePlaces) {
        let record = match &at.value {
            file::Node::Address(host, port) => {
                let port = port.unwrap_or(default_port);
                let node = Node {
                    name: address(host, port).into(),
                    host: host.as_str().into(),
                    port,
                    zone: None,
                    weight: 1,
                    role: WantedRole::Auto,
                };
                return (node, NodePlaces { host: at.place, name: None, role: at.place });
            }
            file::Node::Record(record) => record,
        };
        let host = record.host.given();
        if let Some(host) = host.filter(|host| !file::is_host(&host.value.0)) {
            self.mistakes.error(
                "map-address",
                host.place,
                format!("`{}` is not a host name or address", host.value.0),
                "Write the host alone; the port stands behind `port:`.",
            );
        }
        let port = self.number("port", Some(&record.port), usize::from(default_port), 1..=65_535);
        let port = u16::try_from(port).unwrap_or_default();
        let weight = self.number("weight", Some(&record.weight), 1, 1..=1000);
        if let Some(name) = record.name.given() {
            self.plain_name(&At { place: name.place, value: name.value.0.clone() }, "a node");
        }
        let written = host.map_or("", |host| host.value.0.as_str());
        let node = Node {
            name: record
                .name
                .given()
                .map_or_else(|| address(written, port).into(), |name| name.value.0.as_str().into()),
            host: written.into(),
            port,
            zone: record.zone.given().map(|zone| zone.value.0.as_str().into()),
            weight: u32::try_from(weight).unwrap_or(1),
            role: match record.role.given().map(|role| role.value) {
                Some(file::Role::Primary) => WantedRole::Primary,
                Some(file::Role::Replica) => WantedRole::Replica,
                Some(file::Role::Auto) | None => WantedRole::Auto,
            },
        };
        let places = NodePlaces {
            host: host.map_or(at.place, |host| host.place),
            name: record.name.given().map(|name| name.place),
            role: record.role.given().map_or(at.place, |role| role.place),
        };
        (node, places)
    }

    /// A node that is one of the proxy's own listeners would call itself without end.
    fn not_the_proxy(&mut self, node: &Node, place: Place) {
        let local = &*node.host == "localhost";
        let ip = node.host.parse::<IpAddr>().ok();
        let own = self.listeners.iter().find(|(_, listener)| {
            let listening = listener.value.ip();
            let reached = ip.is_some_and(|ip| {
                ip == listening || (listening.is_unspecified() && ip.is_loopback()) || ip.is_unspecified()
            });
            let reached = reached || (local && (listening.is_loopback() || listening.is_unspecified()));
            listener.value.port() == node.port && reached
        });
        if let Some((name, _)) = own {
            self.mistakes.error(
                "map-node-is-proxy",
                place,
                format!("{}:{} is the proxy itself: `listen.{name}`", node.host, node.port),
                "Write the address of the database server.",
            );
        }
    }

    /// Names that the console, logs and commands show as one word.
    fn plain_name(&mut self, name: &At<String>, what: &str) {
        let plain = name.value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'));
        let begins = name.value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        // A name that could not be read has been reported.
        let fits = plain && begins && name.value.len() <= NAME_LENGTH;
        if !name.value.is_empty() && !fits {
            self.mistakes.error(
                "map-name",
                name.place,
                format!("`{}` cannot be the name of {what}", name.value),
                "Use ASCII letters, digits, _, - and ., at most 63 of them, the first a letter, digit or _.",
            );
        }
    }

    fn other_tables(&mut self, file: &file::Database, ids: &Shards, tables: &mut Tables) {
        for at in file.reference.given().into_iter().flat_map(List::iter) {
            let name = At { place: at.place, value: at.value.0.clone() };
            tables.place(&name, "`reference`".to_owned(), Placement::Reference, self.mistakes);
        }
        for (shard, list) in file.unsharded.given().into_iter().flat_map(Named::iter) {
            let home = ids.find(&shard.value, shard.place, self.mistakes).unwrap_or(ShardId(0));
            for at in list.iter() {
                let name = At { place: at.place, value: at.value.0.clone() };
                tables.place(&name, "`unsharded`".to_owned(), Placement::Unsharded { home }, self.mistakes);
            }
        }
    }

    /// A directory that is itself spread would have to be asked where it is. One that is not listed is on its shard.
    fn directories(&mut self, file: &file::Database, tables: &mut Tables, ids: &Shards) {
        let mut known: HashMap<TableName, Place> = HashMap::new();
        for (_, group) in file.groups.given().into_iter().flat_map(Named::iter) {
            let Some(directory) = group.directory.given() else { continue };
            let Some(table) = directory.table.given() else { continue };
            let name = tables.naming.table(&table.value.0);
            let shard = directory.shard.given().and_then(|at| ids.numbers.get(&at.value.0).copied());
            if let Some(first) = known.insert(name.clone(), table.place) {
                let line = self.mistakes.line(first);
                self.mistakes.error(
                    "map-directory-twice",
                    table.place,
                    format!("table `{name}` is the directory of a second group"),
                    format!("The first is on line {line}: put the tables of both into one group."),
                );
            }
            match (tables.placed.get(&name), shard) {
                (Some(Placement::Sharded { .. }), _) => self.mistakes.error(
                    "map-directory-sharded",
                    table.place,
                    format!("the directory `{name}` is itself a sharded table"),
                    "A directory is whole on one shard: list it under `unsharded`.",
                ),
                (Some(Placement::Reference), _) => self.mistakes.error(
                    "map-directory-elsewhere",
                    table.place,
                    format!("the directory `{name}` is a reference table"),
                    "A directory is whole on one shard: list it under `unsharded`.",
                ),
                (Some(Placement::Unsharded { home }), Some(shard)) if *home != shard => self.mistakes.error(
                    "map-directory-elsewhere",
                    table.place,
                    format!("the directory `{name}` is listed as whole on another shard"),
                    "Name the same shard in both places.",
                ),
                (Some(Placement::Unsharded { .. }), _) | (None, None) => {}
                (None, Some(home)) => {
                    let at = At { place: table.place, value: table.value.0.clone() };
                    tables.place(&at, "`directory`".to_owned(), Placement::Unsharded { home }, self.mistakes);
                }
            }
        }
    }

    fn sequences(&mut self, file: &file::Database, ids: &Shards, naming: &Naming) -> BTreeMap<TableName, Sequence> {
        let mut known = BTreeMap::new();
        for (name, sequence) in file.sequences.given().into_iter().flat_map(Named::iter) {
            let shard = sequence.shard.given().and_then(|it| ids.find(&it.value.0, it.place, self.mistakes));
            let block = self.number("block", Some(&sequence.block), 1000, 1..=BLOCK_MAX);
            let sequence = Sequence { shard: shard.unwrap_or(ShardId(0)), block };
            if known.insert(naming.table(&name.value), sequence).is_some() {
                self.mistakes.error(
                    "map-sequence-twice",
                    name.place,
                    format!("the sequence `{}` is listed twice", name.value),
                    "Keep one: a name without a schema is one of `public`.",
                );
            }
        }
        known
    }

    fn gather(&mut self, file: &file::Database, ids: &Shards) -> Gathers {
        let Some(gather) = file.gather.given() else {
            return Gathers { on: None, bytes_max: 256 << 20, rows_max: 5_000_000 };
        };
        let on = gather.on.given().and_then(|on| ids.find(&on.value.0, on.place, self.mistakes));
        if let Some(url) = gather.url.given() {
            self.secret(url);
            if let Some(on) = gather.on.given() {
                self.mistakes.error(
                    "map-gather",
                    on.place,
                    "statements are gathered in one place",
                    "Keep `on` (a shard), or `url` (a server of its own).",
                );
            }
        }
        Gathers {
            on,
            bytes_max: self.size("gather.bytes_max", Some(&gather.bytes_max), 256 << 20, 1 << 20..=1 << 40),
            rows_max: self.number("gather.rows_max", Some(&gather.rows_max), 5_000_000, 1..=1_000_000_000_000),
        }
    }

    fn server_tls(&mut self, tls: Option<&file::ServerTls>) -> ServerTls {
        let mode = tls.and_then(|tls| tls.mode.given()).map_or(TlsMode::Prefer, |mode| match mode.value {
            file::TlsMode::Disable => TlsMode::Disable,
            file::TlsMode::Prefer => TlsMode::Prefer,
            file::TlsMode::Require => TlsMode::Require,
            file::TlsMode::VerifyFull => TlsMode::VerifyFull,
        });
        let ca = tls.and_then(|tls| tls.ca.given());
        if let Some(ca) = ca.filter(|_| mode != TlsMode::VerifyFull) {
            self.mistakes.warning(
                "map-ca-unused",
                ca.place,
                "without `mode: verify-full` no certificate is checked against `ca`",
                "Add `mode: verify-full`, or remove `ca`.",
            );
        }
        ServerTls { mode, ca: ca.map(|ca| self.existing(ca)) }
    }

    fn reads(&mut self, file: &file::Database) -> Reads {
        let it = file.reads.given();
        let from = it.and_then(|it| it.from.given());
        let prefer = it.and_then(|it| it.prefer.given());
        let minute = 60 * SECOND;
        let reads = Reads {
            from_replicas: from.is_none_or(|from| from.value == file::ReadsFrom::Replicas),
            consistency: it.and_then(|it| it.consistency.given()).map_or(Consistency::Session, |level| level.value.0),
            staleness_max: self.span("staleness_max", it.map(|it| &it.staleness_max), 2 * SECOND, Zero::Refused, HOUR),
            wait: self.span("reads.wait", it.map(|it| &it.wait), Duration::from_millis(20), Zero::Allowed, minute),
            prefer_zone: prefer.is_none_or(|list| list.iter().next().is_some_and(|at| at.value == file::Prefer::Zone)),
        };
        if let (Consistency::Bounded(Some(bound)), Some(level)) =
            (reads.consistency, it.and_then(|it| it.consistency.given()))
            && bound > reads.staleness_max
        {
            self.contradiction(
                level.place,
                "reads may be older than `staleness_max`, beyond which a replica is out of rotation".to_owned(),
                "Lower the bound, or raise `staleness_max`.".to_owned(),
            );
        }
        reads
    }

    fn across_shards(&mut self, file: &file::Database) -> AcrossShards {
        if let Some(durability) = file.durability.given()
            && durability.value == file::Durability::Replicated
        {
            not_built(
                self.mistakes,
                durability.place,
                "durability replicated",
                "Remove it; the servers' own synchronous_standby_names decides when a write counts as done.",
            );
        }
        let written = file.transactions.given().and_then(|it| it.across_shards.given());
        match written.map(|at| at.value) {
            Some(file::AcrossShards::TwoPhase) => AcrossShards::TwoPhase,
            Some(file::AcrossShards::Reject) => AcrossShards::Reject,
            None => AcrossShards::TwoPhase,
        }
    }

    fn local_files(&mut self, file: &file::Database, engine: Engine) -> bool {
        let Some(written) = file.local_files.given() else { return false };
        let is_known = file.engine.is_absent() || file.engine.given().is_some();
        if engine != Engine::Mysql && is_known {
            self.mistakes.error(
                "map-local-files-engine",
                written.place,
                "`local_files` is for databases of engine mysql: no other asks clients for files",
                "Remove it.",
            );
        }
        written.value == file::LocalFiles::Allow
    }

    fn failover(&mut self, file: &file::Database, engine: Engine) -> Failover {
        let it = file.failover.given();
        let by = it.and_then(|it| it.by.given());
        let lead = by.is_some_and(|by| by.value == file::FailoverBy::Shardway);
        if let Some(by) = by.filter(|_| lead) {
            if engine == Engine::Mysql {
                not_built(self.mistakes, by.place, "leading failovers of MySQL", "Write `by: others`.");
            } else {
                self.mistakes.warning(
                    "map-leads-alone",
                    by.place,
                    "this proxy promotes: no other one, and nothing else, may do so",
                    "With several proxies before these servers, keep the map in etcd (`--map etcd://…`), and they elect \
                     one; else write `by: shardway` in the map of one of them and `by: others` in the rest.",
                );
            }
        }
        let command = it.and_then(|it| it.fence.given());
        let fence: Vec<String> = command.into_iter().flat_map(List::iter).map(|at| at.value.0.clone()).collect();
        let program = command.and_then(|it| it.iter().next());
        if let Some(program) = program.filter(|_| !lead) {
            self.mistakes.warning(
                "map-no-effect",
                program.place,
                "`failover.fence` has no effect without `by: shardway`: who promotes has to fence",
                "Remove it, or write `by: shardway`.",
            );
        }
        Failover {
            lead,
            fence,
            wait: self.span("failover.wait", it.map(|it| &it.wait), 10 * SECOND, Zero::Refused, HOUR),
            queue_max: self.number("failover.queue_max", it.map(|it| &it.queue_max), 2000, 0..=1_000_000),
        }
    }
}

/// Whether every user could be read and names databases that there are: otherwise one may have been meant for any.
fn users_are_whole(map: &file::Map) -> bool {
    let (Some(users), Some(databases)) = (map.users.given(), map.databases.given()) else { return false };
    let known = |name: &str| databases.entries.iter().any(|(database, _)| database.value == name);
    users.entries.iter().all(|(_, user)| {
        user.as_ref().is_some_and(|user| match &user.databases {
            Field::Absent => true,
            Field::Broken => false,
            Field::Given(list) => list.iter().all(|at| known(&at.value.0)),
        })
    })
}

/// The longest name of a shard, group or node.
const NAME_LENGTH: usize = 63;

/// Nodes of a database so far.
struct Seen<'d> {
    database: &'d str,
    server_name: &'d str,
    port: u16,
    names: HashMap<Arc<str>, Place>,
}

/// Where parts of a node stand.
struct NodePlaces {
    host: Place,
    name: Option<Place>,
    role: Place,
}

/// `host:port`, an IPv6 host in brackets.
fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn is_table_name(name: &str) -> bool {
    let mut parts = name.split('.');
    let part = |part: &str| !part.is_empty() && !part.contains(['"', '\0']);
    parts.clone().count() <= 2 && parts.all(part)
}
