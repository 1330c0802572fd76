//! The record of where rows were put: `shardway.placement`, a small table on every shard.
//!
//! What existing rows are found by must not change because somebody edited a file: at start and on reload every
//! group's fingerprint, and where whole tables are, is compared with what was recorded at first use, and a difference
//! is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::time::timeout;

use super::Topology;
use super::control::ControlError;
use super::control::Purpose;
use super::mysql;
use crate::ident::ShardId;
use crate::shard_map::Engine;

/// A fingerprint that was recorded for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// On which shard.
    pub shard: Arc<str>,
    /// Of which group.
    pub group: Arc<str>,
}

/// A group that is not placed as its rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The shard whose record says otherwise.
    pub shard: Arc<str>,
    /// The group.
    pub group: Arc<str>,
    /// What the record says.
    pub recorded: String,
    /// What the map says; `None`: it has no such group.
    pub now: Option<String>,
}

/// Why a map cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Rows would not be found where they are.
    #[error("{}", list(.0))]
    Differs(Vec<Difference>),
    /// The record cannot be made or read.
    #[error("\"{user}\" may not keep the record of placements on shard \"{shard}\": {why}")]
    Rights {
        /// The shard.
        shard: Arc<str>,
        /// Who may not.
        user: String,
        /// The server's words.
        why: String,
        /// What a superuser, or the database's owner, runs there.
        remedy: String,
    },
    /// The record cannot be changed now.
    #[error("shard \"{0}\" has no node that takes writes")]
    NoPrimary(Arc<str>),
    /// A shard cannot be asked now.
    #[error("the record of placements on shard \"{shard}\" cannot be read: {why}")]
    Unreachable {
        /// The shard.
        shard: Arc<str>,
        /// Why.
        why: String,
    },
}

impl PlacementError {
    /// What to do about it: whole sentences.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Differs(all) if all.iter().all(|it| it.now.is_none()) => {
                let forget = all.iter().map(|it| format!("'{}'", it.group.replace('\'', "''")));
                let forget: std::collections::BTreeSet<String> = forget.collect();
                let forget: Vec<String> = forget.into_iter().collect();
                format!(
                    "Put the group back under its name; or, if its tables are gone, run on every shard: DELETE FROM \
                     shardway.placement WHERE grp IN ({});",
                    forget.join(", ")
                )
            }
            Self::Differs(_) => {
                "Put the placement back as it was: shardway does not move rows that exist yet.".to_owned()
            }
            Self::Rights { remedy, .. } => format!("Run there as its owner or a superuser: {remedy}"),
            Self::NoPrimary(_) => "Start its primary, or promote a replica; then try again.".to_owned(),
            Self::Unreachable { .. } => {
                "Nothing is served that is not known to be where the map says: start the shard's servers, or try again."
                    .to_owned()
            }
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, group, recorded, now } = self;
        match now {
            Some(now) => write!(
                f,
                "group \"{group}\" is placed by {now}, but the rows on shard \"{shard}\" were placed by {recorded}"
            ),
            None => write!(f, "shard \"{shard}\" holds rows of group \"{group}\", which the map does not have"),
        }
    }
}

/// Compares the map's `fingerprints` (group, fingerprint) with what every shard recorded, and records what is new.
/// Nothing is recorded when anything differs. Needs a topology whose monitors run. MySQL servers keep a record once they have
/// been prepared for it.
///
/// # Errors
/// [`PlacementError`]: the map is not to be served.
pub async fn reconcile(
    topology: &Topology,
    fingerprints: &[(Arc<str>, String)],
) -> Result<Vec<Recorded>, PlacementError> {
    let settled = async {
        match topology.database().engine {
            Engine::Mysql => mysql::placement::reconcile(topology, fingerprints).await,
            Engine::Postgres => compare_and_record(topology, fingerprints).await,
        }
    };
    timeout(RECONCILE_MAX, settled).await.unwrap_or_else(|_| {
        let shard = topology.database().shards.first().map_or_else(|| Arc::from(""), |it| Arc::clone(&it.name));
        Err(PlacementError::Unreachable { shard, why: format!("no answer from all shards within {RECONCILE_MAX:?}") })
    })
}

/// Brings the record of groups up to date where something was added that moves no row (a table, a pinned key's name):
/// the caller has made sure of that.
///
/// # Errors
/// When a shard cannot be asked, or may not be written to.
pub async fn record(topology: &Topology, fingerprints: &[(Arc<str>, String)]) -> Result<(), PlacementError> {
    if topology.database().engine == Engine::Mysql {
        return mysql::placement::record(topology, fingerprints).await;
    }
    for (place, _) in (0_u16..).zip(&topology.database().shards) {
        let mut keeper = Keeper::open(topology, ShardId(place)).await?;
        for (group, fingerprint) in fingerprints {
            let query = sqlx::query(UPDATE).bind(&*keeper.database).bind(&**group).bind(fingerprint);
            let result = query.execute(&mut keeper.connection).await;
            result.map_err(|error| keeper.failed(Step::Table, &error))?;
        }
    }
    Ok(())
}

async fn compare_and_record(
    topology: &Topology,
    fingerprints: &[(Arc<str>, String)],
) -> Result<Vec<Recorded>, PlacementError> {
    let mut keepers = Vec::new();
    let mut differences = Vec::new();
    for (place, _) in (0_u16..).zip(&topology.database().shards) {
        let mut keeper = Keeper::open(topology, ShardId(place)).await?;
        let recorded = keeper.read().await?;
        differences.extend(self::differences(&keeper.shard, &recorded, fingerprints));
        keepers.push((keeper, recorded));
    }
    if !differences.is_empty() {
        return Err(PlacementError::Differs(differences));
    }
    let mut new = Vec::new();
    for (keeper, recorded) in &mut keepers {
        let missing: Vec<_> = fingerprints.iter().filter(|(group, _)| !recorded.contains_key(&**group)).collect();
        if missing.is_empty() {
            continue;
        }
        keeper.create().await?;
        for (group, fingerprint) in missing {
            keeper.record(group, fingerprint).await?;
            new.push(Recorded { shard: Arc::clone(&keeper.shard), group: Arc::clone(group) });
        }
        // Another proxy may have been first, with another map.
        let recorded = keeper.read().await?;
        differences.extend(self::differences(&keeper.shard, &recorded, fingerprints));
    }
    if differences.is_empty() { Ok(new) } else { Err(PlacementError::Differs(differences)) }
}

/// What a server has recorded of a database: group → fingerprint. Nothing, where nothing was recorded yet.
pub(super) async fn recorded(
    connection: &mut PgConnection,
    database: &str,
) -> Result<BTreeMap<String, String>, sqlx::Error> {
    if !sqlx::query_scalar::<_, bool>(EXISTS).fetch_one(&mut *connection).await? {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query_as::<_, (String, String)>(READ).bind(database).fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

/// What of a shard's record is not as the map says.
pub(super) fn differences(
    shard: &Arc<str>,
    recorded: &BTreeMap<String, String>,
    fingerprints: &[(Arc<str>, String)],
) -> Vec<Difference> {
    let differing = |(group, recorded): (&String, &String)| {
        let now = fingerprints.iter().find(|(it, _)| **it == **group).map(|(_, it)| it.clone());
        (now.as_ref() != Some(recorded)).then(|| Difference {
            shard: Arc::clone(shard),
            group: group.as_str().into(),
            recorded: recorded.clone(),
            now,
        })
    };
    recorded.iter().filter_map(differing).collect()
}

/// One shard's record and the connection to it.
struct Keeper {
    shard: Arc<str>,
    database: Arc<str>,
    user: String,
    connection: PgConnection,
}

impl Keeper {
    async fn open(topology: &Topology, shard: ShardId) -> Result<Self, PlacementError> {
        let name = &topology.database().shard(shard).name;
        let unreachable = |why: String| PlacementError::Unreachable { shard: Arc::clone(name), why };
        // Any node can be compared with; recording on one that is not the primary fails in the server's own words.
        let node = topology.any(shard).ok_or_else(|| unreachable("no server can be reached".to_owned()))?;
        let connection = topology.connect(node, Purpose::Placement).await.map_err(|it| unreachable(it.text))?;
        Ok(Self {
            shard: Arc::clone(name),
            database: Arc::clone(&topology.database().name),
            user: topology.control_user(shard).to_owned(),
            connection,
        })
    }

    async fn read(&mut self) -> Result<BTreeMap<String, String>, PlacementError> {
        recorded(&mut self.connection, &self.database).await.map_err(|error| self.failed(Step::Table, &error))
    }

    async fn create(&mut self) -> Result<(), PlacementError> {
        // IF NOT EXISTS asks for the right to create even where nothing is to be created, hence the look before.
        for (step, exists, create) in [(Step::Schema, SCHEMA_EXISTS, CREATE_SCHEMA), (Step::Create, EXISTS, CREATE)] {
            let there = sqlx::query_scalar::<_, bool>(exists).fetch_one(&mut self.connection).await;
            if there.map_err(|error| self.failed(step, &error))? {
                continue;
            }
            if let Err(error) = sqlx::query(create).execute(&mut self.connection).await {
                let code = error.as_database_error().and_then(|it| it.code()).map(|it| it.into_owned());
                // Another proxy made it in the same moment.
                if !matches!(code.as_deref(), Some("42P06" | "42P07" | "23505" | "42710")) {
                    return Err(self.failed(step, &error));
                }
            }
        }
        Ok(())
    }

    async fn record(&mut self, group: &str, fingerprint: &str) -> Result<(), PlacementError> {
        let query = sqlx::query(RECORD).bind(&*self.database).bind(group).bind(fingerprint);
        let result = query.execute(&mut self.connection).await;
        result.map(drop).map_err(|error| self.failed(Step::Table, &error))
    }

    fn failed(&self, step: Step, error: &sqlx::Error) -> PlacementError {
        let error = ControlError::from(error);
        let shard = Arc::clone(&self.shard);
        if error.sqlstate.as_deref() != Some("42501") {
            return PlacementError::Unreachable { shard, why: error.text };
        }
        let role = format!("\"{}\"", self.user.replace('"', "\"\""));
        let remedy = match step {
            Step::Schema => format!("CREATE SCHEMA shardway AUTHORIZATION {role};"),
            Step::Create => format!("GRANT USAGE, CREATE ON SCHEMA shardway TO {role};"),
            Step::Table => format!(
                "GRANT USAGE ON SCHEMA shardway TO {role}; GRANT SELECT, INSERT, UPDATE ON shardway.placement TO {role};"
            ),
        };
        PlacementError::Rights { shard, user: self.user.clone(), why: error.text, remedy }
    }
}

/// What was being done when a right was lacking.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Making the schema.
    Schema,
    /// Making the table in it.
    Create,
    /// Using the table.
    Table,
}

fn list(differences: &[Difference]) -> String {
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

/// How long all shards together may take.
const RECONCILE_MAX: Duration = Duration::from_secs(30);

const SCHEMA_EXISTS: &str = "select exists (select from pg_catalog.pg_namespace where nspname = 'shardway')";

const EXISTS: &str = "
select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                where n.nspname = 'shardway' and c.relname = 'placement')";

const CREATE_SCHEMA: &str = "create schema shardway";

const CREATE: &str = "
create table shardway.placement (
    database    text        not null,
    grp         text        not null,
    fingerprint text        not null,
    recorded    timestamptz not null default now(),
    primary key (database, grp))";

const READ: &str = "select p.grp, p.fingerprint from shardway.placement p where p.database = $1";

const RECORD: &str = "
insert into shardway.placement (database, grp, fingerprint) values ($1, $2, $3) on conflict do nothing";

const UPDATE: &str = "
update shardway.placement set fingerprint = $3, recorded = now() where database = $1 and grp = $2";
