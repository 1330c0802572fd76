//! The one place where the engines of servers part ways: a connection of the proxy's own, and what is asked over it.
//!
//! Whoever watches roles or reads schemas holds a [`Line`] and does not know what is behind it. What only Postgres has
//! (placement records, two-phase commit) opens `PgConnection`s and leaves databases of other engines alone.

use sqlx::postgres::PgConnection;

use super::control::Control;
use super::control::ControlError;
use super::control::Purpose;
use super::monitor::Identity;
use super::monitor::Report;
use super::mysql;
use super::postgres_probe;
use super::probe::Fault;
use super::schema_reader;
use super::schema_reader::Catalog;
use crate::clock::Tick;
use crate::shard_map::Engine;
use crate::shard_map::Node;

/// A connection to a server.
pub(super) enum Line {
    /// To a Postgres server.
    Postgres(PgConnection),
    /// To a MySQL or MariaDB server.
    Mysql(mysql::Connection),
}

impl Line {
    /// Opens one.
    pub(super) async fn open(control: &Control, node: &Node, purpose: Purpose) -> Result<Self, ControlError> {
        match control.engine() {
            Engine::Postgres => control.connect(node, purpose).await.map(Self::Postgres),
            Engine::Mysql => mysql::Connection::open(control, node).await.map(Self::Mysql),
        }
    }

    /// What does not change while it is open.
    pub(super) async fn identity(&mut self) -> Result<Identity, ControlError> {
        match self {
            Self::Postgres(connection) => postgres_probe::identity(connection).await,
            Self::Mysql(connection) => Ok(connection.identity()),
        }
    }

    /// Probes once; `asked` was noted before.
    pub(super) async fn report(&mut self, asked: Tick, fault: Fault) -> Result<Report, ControlError> {
        match self {
            Self::Postgres(connection) => postgres_probe::report(connection, asked, fault).await,
            Self::Mysql(connection) => connection.report(asked).await,
        }
    }

    /// Asks whether the catalogs changed: equal answers mean equal catalogs, as far as [`Line::catalog`] looks.
    pub(super) async fn watermark(&mut self) -> Result<String, ControlError> {
        match self {
            Self::Postgres(connection) => schema_reader::watermark(connection).await,
            Self::Mysql(connection) => mysql::reader::watermark(connection).await,
        }
    }

    /// Reads the catalogs, at one moment.
    pub(super) async fn catalog(&mut self) -> Result<Catalog, ControlError> {
        match self {
            Self::Postgres(connection) => schema_reader::read(connection).await,
            Self::Mysql(connection) => mysql::reader::read(connection).await,
        }
    }
}
