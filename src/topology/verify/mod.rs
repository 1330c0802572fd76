//! `shardway verify`: whether the rows are where the map says, and reference tables the same everywhere.
//!
//! It asks the primaries, in transactions that only read. Where rows belong is computed by the servers (`placed`), what
//! copies hold is compared by digests (`copies`): no table comes here, only counts, and the rows that are named.

pub(super) mod copies;
mod placed;
pub(super) mod words;

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use sqlx::postgres::PgRow;
use tokio::time::timeout;

use super::connect_check;
use super::control;
use super::control::Control;
use super::control::ControlError;
use super::control::Purpose;
use super::fit;
use super::fit::Finding;
use super::fit::Refuses;
use super::fit::Severity;
use super::health::Heard;
use super::mysql;
use super::placement;
use super::schema_reader;
use crate::ident::ShardId;
use crate::ident::TableName;
use crate::schema::Relation;
use crate::schema::Schema;
use crate::shard_map::Database;
use crate::shard_map::Engine;
use crate::shard_map::Placement;
use crate::shard_map::ShardMap;

/// What to look at, and how long and how much of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// These tables alone, as the map spells them; empty: all.
    pub tables: Vec<String>,
    /// How long one statement on one shard may take.
    pub statement: Duration,
    /// How many rows of a table are named.
    pub rows: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
}

/// Looks at every table of the map that is asked for. `tell` is told of each.
pub async fn verify(map: &ShardMap, request: &Request, tell: &mut dyn FnMut(String)) -> Verified {
    let mut all = Verified::default();
    for table in &request.tables {
        if !map.databases.values().any(|it| it.tables.contains_key(&named(it, table))) {
            all.unseen.push(format!("the map has no table \"{table}\""));
        }
    }
    for database in map.databases.values() {
        let looked = match database.engine {
            Engine::Postgres => of_database(map, database, request, tell, &mut all).await,
            Engine::Mysql => mysql::verify::of_database(map, database, request, tell, &mut all).await,
        };
        if let Err(why) = looked {
            all.unseen.push(format!("database \"{}\": {why}", database.name));
        }
    }
    all
}

async fn of_database(
    map: &ShardMap,
    database: &Database,
    request: &Request,
    tell: &mut dyn FnMut(String),
    all: &mut Verified,
) -> Result<(), String> {
    let login = control::login(map, database).ok_or("nobody may log in to it")?;
    let control = Control::new(database, login, map.timeouts.connect);
    let mut shards = Vec::new();
    let mut schemas: Vec<Arc<Schema>> = Vec::new();
    // Buckets that the map does not place are where the shards have recorded them.
    let mut map = map.clone();
    for (place, shard) in (0_u16..).zip(&database.shards) {
        let mut connection = connect_check::primary(database, &control, ShardId(place), Purpose::Verify).await?;
        let failed = |error: ControlError| format!("shard \"{}\": {error}", shard.name);
        let recorded = control::bounded(placement::recorded(&mut connection, &database.name)).await.map_err(failed)?;
        for (group, recorded) in &recorded {
            map = map.with_recorded(&database.name, group, recorded).map_err(|refusal| {
                format!(
                    "shard \"{}\" has recorded its rows elsewhere than the map says: {}",
                    shard.name, refusal.message
                )
            })?;
        }
        schemas.push(schema_reader::read(&mut connection).await.map_err(failed)?.schema);
        let said = format!("{SETTINGS}; SET statement_timeout = {}", request.statement.as_millis());
        control::bounded(sqlx::raw_sql(AssertSqlSafe(said)).execute(&mut connection)).await.map_err(failed)?;
        let answer = request.statement.saturating_add(GRACE);
        shards.push(Asked { id: ShardId(place), name: Arc::clone(&shard.name), connection, answer });
    }
    let database = map.databases.get(&database.name).ok_or("the map lost it")?;
    let tables = chosen(database, &schemas, request, tell, all);
    let mut left = tables.len();
    for (name, placement) in tables {
        let on: Vec<Option<&Relation>> = schemas.iter().map(|it| it.relation(name).map(AsRef::as_ref)).collect();
        let table = Table { name, on: &on, rows: request.rows };
        let outcome = match placement {
            Placement::Reference => copies::compare(&mut shards, &table, &mut all.findings).await,
            Placement::Sharded { group, key } => match database.groups.get(*group) {
                Some(group) => match placed::by_directory(&mut shards, group, &mut all.findings).await {
                    Ok(group) => placed::look(&mut shards, &table, &group, key, &mut all.findings).await,
                    Err(unseen) => Err(unseen),
                },
                None => Ok("in no group".to_owned()),
            },
            Placement::Unsharded { home } => placed::strays(&mut shards, &table, *home, &mut all.findings).await,
        };
        let lost = match outcome {
            Ok(said) => {
                tell(format!("{name}: {said}"));
                None
            }
            Err(unseen) => {
                tell(format!("{name}: {unseen}"));
                all.unseen.push(format!("table \"{name}\": {unseen}"));
                reset(&mut shards).await.err()
            }
        };
        left -= 1;
        if let Some(lost) = lost {
            return Err(format!("{lost}; {left} more tables were not looked at"));
        }
    }
    for shard in shards {
        // The server ends a session that just goes away, too.
        let _ = timeout(GRACE, shard.connection.close()).await;
    }
    Ok(())
}

/// A table as the map spells it: MySQL's schemas are its databases.
fn named(database: &Database, table: &str) -> TableName {
    match database.engine {
        Engine::Mysql if !table.contains('.') => TableName::new(&database.server_name, table),
        Engine::Mysql | Engine::Postgres => TableName::parse(table),
    }
}

/// The tables to look at, in order, but for those that are not as the map says, which are told.
pub(super) fn chosen<'a>(
    database: &'a Database,
    schemas: &[Arc<Schema>],
    request: &Request,
    tell: &mut dyn FnMut(String),
    all: &mut Verified,
) -> Vec<(&'a TableName, &'a Placement)> {
    let asked: Vec<TableName> = request.tables.iter().map(|it| named(database, it)).collect();
    let wanted = |table: &TableName| asked.is_empty() || asked.contains(table);
    let unfit = fit::compare(database, &schemas.iter().map(|it| Some(&**it)).collect::<Vec<_>>());
    let unfit: Vec<Finding> = unfit
        .into_iter()
        .filter(|it| it.severity == Severity::Error && it.refuses == Refuses::Everything)
        .filter(|it| it.table.as_ref().is_some_and(wanted))
        .collect();
    let mut tables: Vec<(&TableName, &Placement)> = database.tables.iter().filter(|(name, _)| wanted(name)).collect();
    tables.sort_by_key(|(name, _)| *name);
    tell(format!("database \"{}\": {} shards, {} tables", database.name, schemas.len(), tables.len()));
    tables.retain(|(name, _)| unfit.iter().all(|it| it.table.as_ref() != Some(name)));
    all.findings.extend(unfit);
    tables
}

/// One table as the shards have it.
struct Table<'a> {
    name: &'a TableName,
    /// Its relation on each shard, in the map's order.
    on: &'a [Option<&'a Relation>],
    /// How many rows are named.
    rows: usize,
}

impl Table<'_> {
    /// As SQL.
    fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.name.schema), quoted(&self.name.name))
    }
}

/// A shard that is asked, and how long an answer may take.
struct Asked {
    id: ShardId,
    name: Arc<str>,
    connection: PgConnection,
    answer: Duration,
}

/// What a shard, or the way to it, said instead of an answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("shard \"{shard}\": {error}")]
pub(super) struct Unseen {
    pub(super) shard: Arc<str>,
    pub(super) error: ControlError,
}

impl Asked {
    async fn run(&mut self, sql: &'static str) -> Result<(), Unseen> {
        let said = timeout(self.answer, sqlx::raw_sql(sql).execute(&mut self.connection)).await;
        self.answered(said.map(|it| it.map(drop)))
    }

    async fn rows<T>(&mut self, sql: &str) -> Result<Vec<T>, Unseen>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let query = sqlx::query_as(AssertSqlSafe(sql)).persistent(false);
        let said = timeout(self.answer, query.fetch_all(&mut self.connection)).await;
        self.answered(said)
    }

    fn answered<T>(&self, said: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>) -> Result<T, Unseen> {
        let late = |_| ControlError {
            heard: Heard::Loss,
            text: format!("no answer within {:?}", self.answer),
            sqlstate: None,
        };
        said.map_err(late)
            .and_then(|it| it.map_err(|error| ControlError::from(&error)))
            .map_err(|error| Unseen { shard: Arc::clone(&self.name), error })
    }
}

/// Runs one piece of work a shard, all at once; the first failure, or what all said.
pub(super) async fn together<'a, T>(
    work: impl Iterator<Item = Pin<Box<dyn Future<Output = Result<T, Unseen>> + 'a>>>,
) -> Result<Vec<T>, Unseen> {
    let mut all: Vec<_> = work.map(|it| (it, None)).collect();
    std::future::poll_fn(|context| {
        let mut waiting = false;
        for (work, said) in &mut all {
            if said.is_none() {
                match work.as_mut().poll(context) {
                    Poll::Ready(it) => *said = Some(it),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    all.into_iter().filter_map(|(_, said)| said).collect()
}

async fn everywhere(shards: &mut [Asked], sql: &'static str) -> Result<(), Unseen> {
    together(shards.iter_mut().map(|shard| Box::pin(shard.run(sql)) as Pin<Box<_>>)).await.map(drop)
}

/// After a failure: no transaction, no lock. What cannot be asked any more is an error.
async fn reset(shards: &mut [Asked]) -> Result<(), Unseen> {
    everywhere(shards, "ROLLBACK").await?;
    everywhere(shards, "SELECT pg_advisory_unlock_all()").await
}

/// An identifier as SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Begins a transaction whose statements all see one moment, and write nothing.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1";

/// What an answer may take beyond the server's own bound.
const GRACE: Duration = Duration::from_secs(10);

/// Values have one text, whatever server, database or role says otherwise. A table some of whose rows are hidden is an
/// error. One shard's transaction is idle while another's statement runs.
const SETTINGS: &str = "
SET search_path = pg_catalog;
SET standard_conforming_strings = on;
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET timezone = 'UTC';
SET extra_float_digits = 3;
SET bytea_output = 'hex';
SET xmlbinary = 'base64';
SET xmloption = 'content';
SET lc_monetary = 'C';
SET quote_all_identifiers = off;
SET row_security = off;
SET default_transaction_deferrable = off;
SET idle_in_transaction_session_timeout = 0";
