//! The map as written → what routing means, or every mistake with its place.
//!
//! Nothing here stops at a mistake: what could not be read is left out and what is built from the rest is thrown away
//! at the end. What refers to something that could not be read is not blamed for it.

mod database;
mod group;
mod mysql;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::Limits;
use super::Listen;
use super::ListenTls;
use super::Log;
use super::PoolLimits;
use super::Secret;
use super::ServerLogin;
use super::ShardMap;
use super::Timeouts;
use super::User;
use super::UserAuth;
use super::file;
use super::file::SecretSource;
use super::mistake::Mistake;
use super::mistake::Mistakes;
use super::mistake::Place;
use super::mistake::Warning;
use super::read::At;
use super::read::Field;
use super::read::Named;
use super::read::Number;
use super::read::Read;
use super::read::Text;
use super::read::did_you_mean;
use super::read::missing_key;
use super::tree;
use super::tree::Node;
use super::tree::Tree;

/// The version of the format that this program reads.
const FORMAT: &str = "1";

/// The database name that the console answers to.
const CONSOLE: &str = "shardway";

/// The longest name that a Postgres server keeps, in bytes.
const NAME_MAX: usize = 63;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// What a map may ask of the machine it is read on.
pub trait Environment {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of a file.
    ///
    /// # Errors
    /// Why it cannot be read, in a few words.
    fn file(&self, path: &Path) -> Result<String, String>;
}

/// A machine without variables and files, for maps that name neither.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEnvironment;

impl Environment for NoEnvironment {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn file(&self, _: &Path) -> Result<String, String> {
        Err("no such file".to_owned())
    }
}

impl ShardMap {
    /// Reads the text of a map; `name` is what mistakes call the file.
    ///
    /// # Errors
    /// Every mistake in it (and every warning), in the order of the text.
    pub fn parse(name: &str, text: &str, environment: &dyn Environment) -> Result<(Self, Vec<Warning>), Vec<Mistake>> {
        let mut mistakes = Mistakes::new(name, text);
        let file = tree::parse(text, &mut mistakes)
            .filter(|tree| has_known_version(tree, &mut mistakes))
            .and_then(|tree| file::Map::read(&tree, &mut mistakes));
        let map = file.map(|file| Validator::new(&file, &mut mistakes, environment).map(&file));
        let failed = mistakes.any_error();
        let found = mistakes.into_list();
        match map {
            Some(map) if !failed => Ok((map, found)),
            Some(_) | None => Err(found),
        }
    }
}

/// Of a map in another version, no other mistake would mean anything.
fn has_known_version(tree: &Tree, mistakes: &mut Mistakes<'_>) -> bool {
    let Node::Map(entries) = &tree.node else { return true };
    let Some((_, version)) = entries.iter().find(|(word, _)| word.scalar.text == "version") else { return true };
    match &version.node {
        Node::Scalar(scalar) if scalar.text == FORMAT => true,
        Node::Scalar(scalar) => {
            mistakes.error(
                "map-version",
                version.place,
                format!("this program does not read version {} of the format", scalar.text),
                format!("Write `version: {FORMAT}`, or use a shardway that reads this one."),
            );
            false
        }
        Node::List(_) | Node::Map(_) | Node::Broken => true,
    }
}

struct Validator<'v, 'a> {
    mistakes: &'v mut Mistakes<'a>,
    environment: &'v dyn Environment,
    /// Whether only this machine can reach the proxy.
    loopback: bool,
    /// What the proxy itself listens on.
    listeners: Vec<(&'static str, At<SocketAddr>)>,
    /// Databases of servers that a shard of any database of the map holds its rows in.
    servers: HashMap<Server, (Place, String)>,
}

/// A database on a server: host, port, name.
type Server = (String, u16, String);

/// Whether zero is a duration here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Zero {
    Allowed,
    Refused,
}

impl<'v, 'a> Validator<'v, 'a> {
    fn new(file: &file::Map, mistakes: &'v mut Mistakes<'a>, environment: &'v dyn Environment) -> Self {
        let listeners = file.listen.given().map(listeners).unwrap_or_default();
        let loopback = listeners.iter().all(|(_, at)| at.value.ip().is_loopback());
        Self { mistakes, environment, loopback, listeners, servers: HashMap::new() }
    }

    fn map(mut self, file: &file::Map) -> ShardMap {
        let listen = self.listen(file);
        let users = file.users.given();
        let mut logins = Vec::new();
        for (name, user) in users.into_iter().flat_map(Named::iter) {
            logins.push(self.user(file, name, user));
        }
        let admins = file.admin.given().and_then(|admin| admin.users.given());
        let admins = admins.into_iter().flat_map(Named::iter).map(|(name, user)| self.admin(name, user)).collect();
        let databases = file.databases.given();
        if let Some(Named { place, entries }) = databases
            && entries.is_empty()
        {
            self.mistakes.error("map-database-missing", *place, "the map has no database", "Name one under databases.");
        }
        let databases = databases.into_iter().flat_map(Named::iter).map(|(name, database)| {
            let built = self.database(name, database, &logins, file);
            (Arc::clone(&built.name), Arc::new(built))
        });
        let databases = databases.collect();
        self.without_effect(file);
        ShardMap {
            version: 1,
            listen,
            databases,
            users: logins.into_iter().map(|user| (Arc::clone(&user.name), Arc::new(user))).collect(),
            admins,
            pool: self.pool(file.pool.given()),
            timeouts: self.timeouts(file.timeouts.given()),
            limits: self.limits(file.limits.given()),
            log: self.log(file.log.given()),
        }
    }

    fn listen(&mut self, file: &file::Map) -> Listen {
        self.listener_clashes();
        self.listener_engines(file);
        let address =
            |wanted: &str| self.listeners.iter().find(|(name, _)| *name == wanted).map(|(_, address)| address.value);
        let (postgres, mysql, http) = (address("postgres"), address("mysql"), address("http"));
        let given = file.listen.given();
        let http_token = given.and_then(|listen| listen.http.given()).and_then(|http| match http {
            file::Http::Address(address) => {
                self.token_beyond_loopback(address);
                None
            }
            file::Http::Listener(listener) => {
                if let (Some(address), true) = (listener.address.given(), listener.token.is_absent()) {
                    self.token_beyond_loopback(address);
                }
                self.secret(listener.token.given()?)
            }
        });
        let tls = given.and_then(|listen| listen.tls.given()).and_then(|tls| self.listen_tls(tls));
        Listen { postgres, mysql, http, http_token, tls }
    }

    fn listener_clashes(&mut self) {
        for (index, (name, at)) in self.listeners.iter().enumerate() {
            let clash = self.listeners.iter().take(index).find(|(_, other)| {
                let (a, b) = (at.value, other.value);
                a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
            });
            if let Some((other, address)) = clash {
                self.mistakes.error(
                    "map-listener-clash",
                    at.place,
                    format!("`{name}` and `{other}` would listen on the same address"),
                    format!("`{other}` has {}: give `{name}` another port.", address.value),
                );
            }
        }
    }

    fn listener_engines(&mut self, file: &file::Map) {
        let Some(databases) = file.databases.given() else { return };
        let engine = |database: &file::Database| match &database.engine {
            Field::Absent => Some(file::Engine::Postgres),
            Field::Broken => None,
            Field::Given(engine) => Some(engine.value),
        };
        // A database that could not be read may have any engine.
        let unknown = databases.entries.iter().any(|(_, it)| it.as_ref().is_none_or(|it| engine(it).is_none()));
        let has = |wanted| unknown || databases.iter().any(|(_, database)| engine(database) == Some(wanted));
        let (has_postgres, has_mysql) = (has(file::Engine::Postgres), has(file::Engine::Mysql));
        for (name, at) in &self.listeners {
            let used = match *name {
                // psql reaches the console there, whatever the databases are.
                "postgres" => has_postgres || file.admin.given().is_some(),
                "mysql" => has_mysql,
                _ => true,
            };
            if !used {
                self.mistakes.error(
                    "map-listener-unused",
                    at.place,
                    format!("no database has engine {name}"),
                    format!("Remove `{name}:` from listen, or give a database `engine: {name}`."),
                );
            }
        }
        let listen = file.listen.given();
        let Some(listen) = listen else { return };
        if let Some(admin) = file.admin.given().filter(|_| listen.postgres.is_absent() && !has_postgres) {
            self.mistakes.warning(
                "map-console-unreachable",
                admin.place,
                "`admin` lets users into the console, but no listener leads to it",
                "Give listen a `postgres:` address: psql reaches the console there, as database shardway.",
            );
        }
        for (wanted, name, absent) in [
            (file::Engine::Postgres, "postgres", listen.postgres.is_absent()),
            (file::Engine::Mysql, "mysql", listen.mysql.is_absent()),
        ] {
            if absent && databases.iter().any(|(_, database)| engine(database) == Some(wanted)) {
                missing_key("`listen`", name, listen.place, self.mistakes);
            }
        }
    }

    fn token_beyond_loopback(&mut self, address: &At<file::Address>) {
        if !address.value.0.ip().is_loopback() {
            self.mistakes.error(
                "map-http-token",
                address.place,
                "HTTP beyond loopback needs a token",
                format!(
                    "Write `http: {{address: \"{}\", token: {{env: OPS_TOKEN}}}}`, or listen on 127.0.0.1.",
                    address.value.0
                ),
            );
        }
    }

    fn listen_tls(&mut self, tls: &file::ListenTls) -> Option<ListenTls> {
        let cert = tls.cert.given().map(|path| self.existing(path));
        let key = tls.key.given().map(|path| self.existing(path));
        let require = tls.require.given().is_some_and(|flag| flag.value.0);
        match (cert, key) {
            (Some(cert), Some(key)) => Some(ListenTls { cert, key, require }),
            _ => {
                if tls.cert.is_absent() || tls.key.is_absent() {
                    let place = tls.require.given().map_or(tls.place, |flag| flag.place);
                    self.mistakes.error(
                        "map-tls-cert",
                        place,
                        "TLS toward clients needs a certificate and its key",
                        "Add `cert: FILE` and `key: FILE`, both PEM.",
                    );
                }
                None
            }
        }
    }

    /// The path of a file that must be there.
    fn existing(&mut self, path: &At<Text>) -> PathBuf {
        if let Err(reason) = self.environment.file(Path::new(&path.value.0)) {
            self.file_missing(path.place, &path.value.0, &reason);
        }
        PathBuf::from(&path.value.0)
    }

    fn file_missing(&mut self, place: Place, path: &str, reason: &str) {
        self.mistakes.error(
            "map-file-missing",
            place,
            format!("the file `{path}` cannot be read: {reason}"),
            "Create it, or let the user that runs shardway read it.",
        );
    }

    fn secret(&mut self, source: &At<SecretSource>) -> Option<Secret> {
        let text = match &source.value {
            SecretSource::Inline(secret) => {
                if !self.loopback {
                    self.mistakes.error(
                        "map-inline-secret",
                        source.place,
                        "a secret stands in the map itself",
                        "Write {env: NAME} or {file: PATH}; a secret may stand here only while every listener is on loopback.",
                    );
                }
                return Some(secret.clone());
            }
            SecretSource::Env(name) => {
                let Some(text) = self.environment.variable(name) else {
                    self.mistakes.error(
                        "map-env-missing",
                        source.place,
                        format!("the environment variable `{name}` is not set"),
                        format!("Set {name} where shardway is started."),
                    );
                    return None;
                };
                text
            }
            SecretSource::File(path) => match self.environment.file(Path::new(path)) {
                Ok(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
                Err(reason) => {
                    self.file_missing(source.place, path, &reason);
                    return None;
                }
            },
        };
        if text.is_empty() {
            self.mistakes.error(
                "map-secret-empty",
                source.place,
                "the secret is empty",
                "Put the password there; where none is asked, write `auth: trust` (loopback only).",
            );
            return None;
        }
        Some(Secret::new(&text))
    }

    fn user(&mut self, file: &file::Map, name: &At<String>, user: &file::User) -> User {
        self.role_name(name, "a user");
        let auth = self.auth(name, &user.auth, &user.password);
        let databases = file.databases.given();
        let known: Vec<&str> =
            databases.iter().flat_map(|named| &named.entries).map(|(name, _)| name.value.as_str()).collect();
        let allowed = user.databases.given().map(|list| {
            for wanted in list.iter().filter(|_| databases.is_some()) {
                if !known.contains(&wanted.value.0.as_str()) {
                    self.mistakes.error(
                        "map-unknown-database",
                        wanted.place,
                        format!("there is no database `{}`", wanted.value.0),
                        did_you_mean(&wanted.value.0, known.iter().copied()),
                    );
                }
            }
            list.iter().map(|wanted| wanted.value.0.as_str().into()).collect()
        });
        User {
            name: name.value.as_str().into(),
            auth,
            databases: allowed,
            server: user.server.given().map(|server| self.login(server)),
            consistency: user.reads.given().and_then(|it| it.consistency.given()).map(|level| level.value.0),
            hints: user.hints.given().is_some_and(|flag| flag.value.0),
        }
    }

    fn admin(&mut self, name: &At<String>, user: &file::AdminUser) -> (Arc<str>, Arc<User>) {
        self.role_name(name, "an admin user");
        let auth = self.auth(name, &user.auth, &user.password);
        let name: Arc<str> = name.value.as_str().into();
        let user =
            User { name: Arc::clone(&name), auth, databases: None, server: None, consistency: None, hints: false };
        (name, Arc::new(user))
    }

    fn auth(
        &mut self,
        name: &At<String>,
        auth: &Field<At<file::Auth>>,
        password: &Field<At<SecretSource>>,
    ) -> UserAuth {
        match (auth, password) {
            (Field::Given(auth), Field::Absent) => {
                if !self.loopback {
                    self.mistakes.error(
                        "map-trust",
                        auth.place,
                        format!("`{}` would log in without a password from other machines", name.value),
                        "Write `password: {env: NAME}`; auth: trust is for listeners on loopback only.",
                    );
                }
                UserAuth::Trust
            }
            (Field::Absent, Field::Given(password)) => {
                self.secret(password).map_or(UserAuth::Trust, UserAuth::Password)
            }
            (Field::Absent, Field::Absent) => {
                self.mistakes.error(
                    "map-user-auth",
                    name.place,
                    format!("nothing says how `{}` logs in", name.value),
                    "Write `password: {env: NAME}`, or `auth: trust` while every listener is on loopback.",
                );
                UserAuth::Trust
            }
            (Field::Given(_), Field::Given(password)) => {
                self.mistakes.error(
                    "map-user-auth",
                    password.place,
                    format!("`{}` has a password and would be trusted without it", name.value),
                    "Keep `password`, or `auth: trust`.",
                );
                UserAuth::Trust
            }
            (Field::Broken, _) | (_, Field::Broken) => UserAuth::Trust,
        }
    }

    fn login(&mut self, control: &file::Control) -> ServerLogin {
        let user = control.user.given().map_or("", |user| user.value.0.as_str());
        let password = control.password.given().and_then(|source| self.secret(source));
        ServerLogin { user: user.into(), password }
    }

    /// Names that a server or a startup packet can carry.
    fn role_name(&mut self, name: &At<String>, what: &str) {
        if name.value.len() > NAME_MAX || name.value.contains('\0') {
            self.mistakes.error(
                "map-name",
                name.place,
                format!("the name of {what} is longer than a server keeps"),
                format!("Use at most {NAME_MAX} bytes."),
            );
        }
    }

    fn pool(&mut self, pool: Option<&file::Pool>) -> PoolLimits {
        let size = self.number("pool.size", pool.map(|it| &it.size), 20, 1..=10_000);
        let idle_min = self.number("pool.idle_min", pool.map(|it| &it.idle_min), 1, 0..=10_000);
        if let Some(idle) = pool.and_then(|it| it.idle_min.given())
            && idle_min > size
        {
            self.contradiction(
                idle.place,
                format!("idle_min keeps {idle_min} connections of a pool that holds {size}"),
                format!("Write at most {size}, or raise `size`."),
            );
        }
        PoolLimits {
            size,
            idle_min,
            wait: self.span("pool.wait", pool.map(|it| &it.wait), 5 * SECOND, Zero::Refused, HOUR),
            lifetime: self.span("pool.lifetime", pool.map(|it| &it.lifetime), HOUR, Zero::Allowed, 30 * DAY),
        }
    }

    fn timeouts(&mut self, it: Option<&file::Timeouts>) -> Timeouts {
        let none = Duration::ZERO;
        let transaction = it.map(|it| &it.idle_in_transaction);
        Timeouts {
            connect: self.span("timeouts.connect", it.map(|it| &it.connect), 3 * SECOND, Zero::Refused, HOUR),
            login: self.span("timeouts.login", it.map(|it| &it.login), 15 * SECOND, Zero::Refused, HOUR),
            statement: self.span("timeouts.statement", it.map(|it| &it.statement), none, Zero::Allowed, 7 * DAY),
            idle_in_transaction: self.span("timeouts.idle_in_transaction", transaction, none, Zero::Allowed, 7 * DAY),
            drain: self.span("timeouts.drain", it.map(|it| &it.drain), 30 * SECOND, Zero::Allowed, DAY),
        }
    }

    fn limits(&mut self, it: Option<&file::Limits>) -> Limits {
        const KIB: u64 = 1 << 10;
        const MIB: u64 = 1 << 20;
        const GIB: u64 = 1 << 30;
        let limits = Limits {
            clients: self.number("limits.clients", it.map(|it| &it.clients), 10_000, 1..=1_000_000),
            message: self.size("limits.message", it.map(|it| &it.message), 64 * MIB, KIB..=GIB),
            client_buffer: self.size("limits.client_buffer", it.map(|it| &it.client_buffer), MIB, 4 * KIB..=GIB),
            memory: self.size("limits.memory", it.map(|it| &it.memory), 2 * GIB, 16 * MIB..=1024 * GIB),
        };
        let memory = limits.memory;
        let Some(it) = it else { return limits };
        for (key, field, value) in
            [("message", &it.message, limits.message), ("client_buffer", &it.client_buffer, limits.client_buffer)]
        {
            let place = field.given().or_else(|| it.memory.given()).map(|at| at.place);
            if let Some(place) = place.filter(|_| value > memory) {
                self.contradiction(
                    place,
                    format!("{key} allows one client {value} bytes, and memory allows all together {memory}"),
                    format!("Lower `{key}`, or raise `memory`."),
                );
            }
        }
        limits
    }

    fn log(&mut self, it: Option<&file::Log>) -> Log {
        let slow = it.map(|it| &it.slow_query);
        let level = it.and_then(|it| it.level.given()).map_or("info", |level| level.value.word());
        let format = it.and_then(|it| it.format.given()).map_or("auto", |format| format.value.word());
        Log {
            level: level.into(),
            format: format.into(),
            slow_query: slow
                .filter(|field| field.given().is_some())
                .map(|_| self.span("log.slow_query", slow, SECOND, Zero::Allowed, DAY)),
        }
    }

    /// Tells of keys that say something about what is not built.
    fn without_effect(&mut self, file: &file::Map) {
        fn place<T>(field: &Field<At<T>>) -> Option<Place> {
            field.given().map(|at| at.place)
        }
        let mut found = Vec::new();
        let mut tell = |place: Option<Place>, key: &'static str, instead: &'static str| {
            found.extend(place.map(|place| (place, key, instead)));
        };
        if let Some(pool) = file.pool.given() {
            tell(place(&pool.idle_min), "pool.idle_min", "connections are opened when they are needed");
        }
        if let Some(limits) = file.limits.given() {
            tell(place(&limits.client_buffer), "limits.client_buffer", "64 KiB are gathered for a client");
            tell(place(&limits.memory), "limits.memory", "`clients` and `message` bound each by itself");
        }
        if let Some(log) = file.log.given() {
            tell(place(&log.slow_query), "log.slow_query", "the servers' own log_min_duration_statement tells");
        }
        for (_, database) in file.databases.given().into_iter().flat_map(Named::iter) {
            if let Some(gather) = database.gather.given() {
                tell(gather.url.given().map(|url| url.place), "gather.url", "statements are gathered on a shard");
            }
            if let Some(prefer) = database.reads.given().and_then(|reads| reads.prefer.given()) {
                tell(Some(prefer.place), "reads.prefer", "the proxy has no zone of its own");
            }
            let shards = database.shards.given().into_iter().flat_map(Named::iter);
            for node in shards.flat_map(|(_, nodes)| nodes.iter()) {
                if let file::Node::Record(record) = &node.value {
                    tell(place(&record.zone), "zone", "the proxy has no zone of its own");
                }
            }
        }
        for (place, key, instead) in found {
            self.mistakes.warning(
                "map-no-effect",
                place,
                format!("`{key}` has no effect yet: {instead}"),
                "Nothing reads it so far: remove it, or keep it for later.",
            );
        }
    }

    fn contradiction(&mut self, place: Place, message: String, hint: String) {
        self.mistakes.error("map-limits-contradict", place, message, hint);
    }

    fn span(
        &mut self,
        key: &str,
        field: Option<&Field<At<file::Span>>>,
        default: Duration,
        zero: Zero,
        max: Duration,
    ) -> Duration {
        let Some(At { place, value: file::Span(value) }) = field.and_then(Field::given) else { return default };
        if value.is_zero() && zero == Zero::Refused {
            self.mistakes.error(
                "map-duration-zero",
                *place,
                format!("`{key}` cannot be 0: everything would fail at once"),
                "Write how long it may take at most, such as `5s`.",
            );
        } else if *value > max {
            let longest = max.as_secs();
            let longest =
                if longest >= 86_400 { format!("{}d", longest / 86_400) } else { format!("{}h", longest / 3600) };
            self.mistakes.error(
                "map-out-of-range",
                *place,
                format!("`{key}` is longer than shardway allows"),
                match zero {
                    Zero::Allowed => format!("Write at most `{longest}`."),
                    Zero::Refused => format!("Write at most `{longest}`, and more than 0."),
                },
            );
        }
        *value
    }

    fn number(
        &mut self,
        key: &str,
        field: Option<&Field<At<Number>>>,
        default: usize,
        allowed: RangeInclusive<u64>,
    ) -> usize {
        let Some(At { place, value: Number(value) }) = field.and_then(Field::given) else { return default };
        self.in_range(key, *place, *value, &allowed, |bound| bound.to_string());
        usize::try_from(*value).unwrap_or(usize::MAX)
    }

    fn size(
        &mut self,
        key: &str,
        field: Option<&Field<At<file::Size>>>,
        default: u64,
        allowed: RangeInclusive<u64>,
    ) -> usize {
        let value = match field.and_then(Field::given) {
            None => default,
            Some(At { place, value: file::Size(value) }) => {
                self.in_range(key, *place, *value, &allowed, bytes);
                *value
            }
        };
        usize::try_from(value).unwrap_or(usize::MAX)
    }

    fn in_range(
        &mut self,
        key: &str,
        place: Place,
        value: u64,
        allowed: &RangeInclusive<u64>,
        show: impl Fn(u64) -> String,
    ) {
        if !allowed.contains(&value) {
            self.mistakes.error(
                "map-out-of-range",
                place,
                format!("`{key}` is out of range"),
                format!("Write {} to {}.", show(*allowed.start()), show(*allowed.end())),
            );
        }
    }
}

/// A size as one would write it.
fn bytes(value: u64) -> String {
    match value {
        0..0x10_0000 => format!("{}KiB", value >> 10),
        0x10_0000..0x4000_0000 => format!("{}MiB", value >> 20),
        _ => format!("{}GiB", value >> 30),
    }
}

/// The addresses to listen on, with the key of each.
fn listeners(listen: &file::Listen) -> Vec<(&'static str, At<SocketAddr>)> {
    let http = listen.http.given().and_then(|http| match http {
        file::Http::Address(address) => Some(address),
        file::Http::Listener(listener) => listener.address.given(),
    });
    [("postgres", listen.postgres.given()), ("mysql", listen.mysql.given()), ("http", http)]
        .into_iter()
        .filter_map(|(name, address)| address.map(|at| (name, At { place: at.place, value: at.value.0 })))
        .collect()
}

/// Reports what the format has and the program has not.
fn not_built(mistakes: &mut Mistakes<'_>, place: Place, what: &str, hint: &str) {
    mistakes.error("map-not-built", place, format!("{what} is not built yet"), hint);
}

/// Which logins may use a database, in the order of the file.
fn allowed<'u>(users: &'u [User], database: &str) -> impl Iterator<Item = &'u User> {
    users.iter().filter(move |user| user.databases.as_ref().is_none_or(|list| list.iter().any(|it| &**it == database)))
}

/// What the proxy gives the servers for a user.
fn server_login(user: &User) -> ServerLogin {
    user.server.clone().unwrap_or_else(|| ServerLogin {
        user: Arc::clone(&user.name),
        password: match &user.auth {
            UserAuth::Trust => None,
            UserAuth::Password(password) => Some(password.clone()),
        },
    })
}

/// Shards by name, those that could not be read included.
#[derive(Default)]
struct Shards {
    numbers: BTreeMap<String, crate::ident::ShardId>,
    /// In the order of the file.
    names: Vec<String>,
}

impl Shards {
    /// The number of a shard, or a report that there is none of this name.
    fn find(&self, name: &str, place: Place, mistakes: &mut Mistakes<'_>) -> Option<crate::ident::ShardId> {
        let found = self.numbers.get(name).copied();
        if found.is_none() && !self.names.is_empty() {
            mistakes.error(
                "map-unknown-shard",
                place,
                format!("there is no shard `{name}`"),
                did_you_mean(name, self.names.iter().map(String::as_str).filter(|name| !name.is_empty())),
            );
        }
        found
    }
}

/// The engine that a database has.
fn engine(written: file::Engine) -> Engine {
    match written {
        file::Engine::Postgres => Engine::Postgres,
        file::Engine::Mysql => Engine::Mysql,
    }
}
