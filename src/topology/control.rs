//! Connections of the proxy's own: probes, catalogs, checks. Never on the path of a client's statement.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgConnection;
use sqlx::postgres::PgSslMode;
use tokio::time::timeout;

use super::health::Heard;
use super::mysql;
use crate::shard_map::Database;
use crate::shard_map::Engine;
use crate::shard_map::Node;
use crate::shard_map::ServerLogin;
use crate::shard_map::ServerTls;
use crate::shard_map::ShardMap;
use crate::shard_map::TlsMode;
use crate::shard_map::UserAuth;

/// How the proxy itself logs in to the servers of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    engine: Engine,
    login: ServerLogin,
    tls: ServerTls,
    database: Arc<str>,
    connect: Duration,
}

/// What a connection is for: its `application_name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Probes.
    Monitor,
    /// Catalogs.
    Schema,
    /// `check --connect`.
    Check,
    /// The record of placements.
    Placement,
    /// Transactions that span shards.
    TwoPhase,
    /// Who waits for whom.
    Deadlock,
    /// `verify`.
    Verify,
    /// A switchover.
    Switchover,
    /// Failovers.
    Lead,
}

/// Why a server could not be reached or did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ControlError {
    /// What it says of the server's health.
    pub heard: Heard,
    /// For people; no secrets.
    pub text: String,
    /// The SQLSTATE, when the server itself said so.
    pub sqlstate: Option<String>,
}

/// The login for the proxy's own connections: `control:`, else the first user who may use the database.
#[must_use]
pub fn login(map: &ShardMap, database: &Database) -> Option<ServerLogin> {
    if let Some(control) = &database.control {
        return Some(control.clone());
    }
    let allowed = |names: &Option<Vec<Arc<str>>>| names.as_ref().is_none_or(|it| it.contains(&database.name));
    let user = map.users.values().find(|user| allowed(&user.databases))?;
    Some(user.server.clone().unwrap_or_else(|| ServerLogin {
        user: Arc::clone(&user.name),
        password: match &user.auth {
            UserAuth::Trust => None,
            UserAuth::Password(secret) => Some(secret.clone()),
        },
    }))
}

impl Control {
    /// Logs in to `database` as `login`; a connection must stand within `connect`.
    #[must_use]
    pub fn new(database: &Database, login: ServerLogin, connect: Duration) -> Self {
        let (tls, name) = (database.tls.clone(), Arc::clone(&database.server_name));
        Self { engine: database.engine, login, tls, database: name, connect }
    }

    /// The engine of the servers.
    pub(super) fn engine(&self) -> Engine {
        self.engine
    }

    pub(super) fn login(&self) -> &ServerLogin {
        &self.login
    }

    pub(super) fn tls(&self) -> &ServerTls {
        &self.tls
    }

    /// What the servers call the database.
    pub(super) fn database(&self) -> &Arc<str> {
        &self.database
    }

    /// The role that it logs in as.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.login.user
    }

    /// Opens a connection to a Postgres server, with names resolved in `pg_catalog` only and every statement bounded in
    /// time.
    ///
    /// # Errors
    /// What the server, or the way to it, said.
    pub async fn connect(&self, node: &Node, purpose: Purpose) -> Result<PgConnection, ControlError> {
        if self.engine != Engine::Postgres {
            let text = "this is asked of Postgres servers only".to_owned();
            return Err(ControlError { heard: Heard::Failure, text, sqlstate: None });
        }
        let options = self.options(node, purpose);
        self.opened(async { options.connect().await.map_err(|error| ControlError::from(&error)) }).await
    }

    /// What comes of opening a connection, within the time that it may take.
    pub(super) async fn opened<T>(
        &self,
        opening: impl Future<Output = Result<T, ControlError>>,
    ) -> Result<T, ControlError> {
        let text = || format!("no connection within {:?}", self.connect);
        let late = || ControlError { heard: Heard::Failure, text: text(), sqlstate: None };
        timeout(self.connect, opening).await.unwrap_or_else(|_| Err(late()))
    }

    fn options(&self, node: &Node, purpose: Purpose) -> PgConnectOptions {
        let name = match purpose {
            Purpose::Monitor => "shardway monitor",
            Purpose::Schema => "shardway schema",
            Purpose::Check => "shardway check",
            Purpose::Placement => "shardway placement",
            Purpose::TwoPhase => "shardway two-phase",
            Purpose::Deadlock => "shardway deadlock",
            Purpose::Verify => "shardway verify",
            Purpose::Switchover => "shardway switchover",
            Purpose::Lead => "shardway lead",
        };
        // An empty password keeps PGPASSWORD of the environment out; it is sent only to a server that asks for one.
        let password = self.login.password.as_ref().map_or("", |it| it.reveal());
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&node.host)
            .port(node.port)
            .username(&self.login.user)
            .password(password)
            .database(&self.database)
            .application_name(name)
            .ssl_mode(self.ssl_mode(node))
            .options([
                ("search_path", "pg_catalog"),
                ("statement_timeout", "10s"),
                ("lock_timeout", "5s"),
                ("jit", "off"),
                ("default_transaction_isolation", "read committed"),
            ])
            .disable_statement_logging();
        if let Some(ca) = &self.tls.ca {
            options = options.ssl_root_cert(ca);
        }
        options
    }

    fn ssl_mode(&self, node: &Node) -> PgSslMode {
        match self.tls.mode {
            TlsMode::Disable => PgSslMode::Disable,
            TlsMode::Prefer if is_loopback(&node.host) => PgSslMode::Disable,
            TlsMode::Prefer => PgSslMode::Prefer,
            TlsMode::Require => PgSslMode::Require,
            TlsMode::VerifyFull => PgSslMode::VerifyFull,
        }
    }
}

/// Waits for an answer, but not for ever: a server that hangs says nothing at all.
pub(super) async fn bounded<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, ControlError> {
    match timeout(ANSWER_MAX, answer).await {
        Ok(result) => result.map_err(|error| ControlError::from(&error)),
        Err(_) => {
            Err(ControlError { heard: Heard::Loss, text: format!("no answer within {ANSWER_MAX:?}"), sqlstate: None })
        }
    }
}

/// A little more than the statement_timeout of these connections, which ends a slow query in order.
const ANSWER_MAX: Duration = Duration::from_secs(12);

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.starts_with('/') || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

impl From<&sqlx::Error> for ControlError {
    fn from(error: &sqlx::Error) -> Self {
        let sqlstate = error.as_database_error().and_then(|it| it.code()).map(|it| it.into_owned());
        let heard = match (error, sqlstate.as_deref()) {
            _ if let Some(heard) = mysql::heard(error) => heard,
            (_, Some(code)) => match code {
                _ if code.starts_with("53") => Heard::Saturation,
                // Starting, stopping, crashed: there is nobody to talk to, whatever the port says.
                "57P01" | "57P02" | "57P03" => Heard::Refusal,
                _ => Heard::Failure,
            },
            (sqlx::Error::Io(it), None) => match it.kind() {
                std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound => Heard::Refusal,
                _ => Heard::Failure,
            },
            _ => Heard::Failure,
        };
        let text = match error.as_database_error() {
            Some(it) => it.message().to_owned(),
            None => error.to_string(),
        };
        Self { heard, text, sqlstate }
    }
}
