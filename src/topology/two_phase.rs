//! Transactions that span shards, as their servers know them: whether a shard can take part, and what becomes of parts
//! whose coordinator is gone.
//!
//! The decision of each is a row of `shardway.txlog` on one of its shards, its home, written by the transaction that
//! commits there. Whoever wants to know how it ended inserts `abort` in its place: that waits for a home that is still
//! at it, and whichever row is there first holds. So nobody needs a lease, a clock or a leader, and any proxy can do it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use tokio::sync::watch;

use super::Topology;
use super::control;
use super::control::ControlError;
use super::control::Purpose;
use super::gid::Gid;
use super::gid::PREFIX;
use super::health::Heard;
use super::mysql;
use super::txlog;
use crate::clock;
use crate::clock::Tick;
use crate::ident::NodeId;
use crate::ident::ShardId;
use crate::shard_map::Engine;

/// What `shardway check --connect --prepare` runs on every shard where there is no schema `shardway` yet.
pub const SCHEMA: &str = "create schema shardway";

/// What it runs on every shard. All of it may be run again.
///
/// `decide` is what a coordinator calls in the home's transaction, as whatever role its client has: it takes the
/// decision only there, only with the secret whose digest the name carries, and never with less durability than the
/// server's own default.
pub const SETUP: &str = "\
create table if not exists shardway.cluster (id text primary key);
create table if not exists shardway.txlog (
    gid      text        primary key,
    decision text        not null check (decision in ('commit', 'abort')),
    parts    text,
    at       timestamptz not null default clock_timestamp());
create or replace function shardway.decide(gid text, secret text, home xid8, parts text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $decide$
begin
    if pg_current_xact_id_if_assigned() is distinct from $3 or split_part($1, ':', 5) is distinct from $3::text then
        raise exception 'this is not the transaction that is to be decided' using errcode = '40001';
    end if;
    if encode(sha256(convert_to($2, 'UTF8')), 'hex') is distinct from split_part($1, ':', 7) then
        raise exception 'this transaction is somebody else''s to decide' using errcode = '42501';
    end if;
    if current_setting('synchronous_commit') in ('off', 'local', 'remote_write') then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    insert into shardway.txlog (gid, decision, parts) values ($1, 'commit', $4);
    return 'commit';
end $decide$;
revoke all on shardway.cluster, shardway.txlog from public;
revoke all on function shardway.decide(text, text, xid8, text) from public;
grant usage on schema shardway to public;
grant execute on function shardway.decide(text, text, xid8, text) to public";

/// Writers of reference tables take turns, on each shard until the write is committed there: a prepared transaction keeps
/// the lock. Else one shard could show what another does not show yet, and a copy come to differ. The numbers spell SHRD.
pub const TURN: &str = "SELECT pg_catalog.pg_advisory_xact_lock(1397248580, 1)";

/// Keeps writers of reference tables out, by the same lock, until [`TURN_OVER`].
pub(super) const TURN_OF_READERS: &str = "SELECT pg_catalog.pg_advisory_lock_shared(1397248580, 1)";

/// Ends [`TURN_OF_READERS`].
pub(super) const TURN_OVER: &str = "SELECT pg_catalog.pg_advisory_unlock_shared(1397248580, 1)";

/// Whether a shard can take part in transactions that span shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fitness {
    /// Nobody has been able to ask it.
    #[default]
    Unknown,
    /// `max_prepared_transactions` is 0 there.
    NoPrepared,
    /// [`SETUP`] has not been run there.
    NotSetUp,
    /// It can: the cluster that it says it belongs to.
    Ready(Arc<str>),
}

/// A part that waits for the decision.
#[derive(Clone, Debug, PartialEq)]
pub struct InDoubt {
    /// The shard.
    pub shard: Arc<str>,
    /// The transaction.
    pub gid: String,
    /// For how long it has been prepared, in seconds.
    pub age: f64,
    /// Why it could not be ended the last time that this was tried.
    pub trouble: Option<String>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// All of it is done.
    Commit,
    /// Nothing of it is.
    Abort,
}

impl Decision {
    pub(super) fn read(word: &str) -> Result<Self, ControlError> {
        match word {
            "commit" => Ok(Self::Commit),
            "abort" => Ok(Self::Abort),
            other => Err(failure(format!("the home says \"{other}\""))),
        }
    }
}

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It has been ended as it was to be.
    Now,
    /// It is not there: somebody else has ended it, or it is lost.
    NotThere,
}

/// What is known of the shards of one database. Written by [`run`], read by all threads.
#[derive(Debug, Default)]
pub struct TwoPhase {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    fitness: Vec<Fitness>,
    servers: Vec<Option<Arc<str>>>,
    in_doubt: Vec<InDoubt>,
    /// Transactions that nobody here works on any more, and since when.
    let_go: HashMap<String, Tick>,
}

impl TwoPhase {
    /// Whether a shard can take part.
    #[must_use]
    pub fn fitness(&self, shard: ShardId) -> Fitness {
        self.known().fitness.get(shard.index()).cloned().unwrap_or_default()
    }

    /// What tells a shard's servers from those of all other shards: of MySQL, which has no identifier of its own.
    #[must_use]
    pub fn server(&self, shard: ShardId) -> Option<Arc<str>> {
        self.known().servers.get(shard.index()).cloned().flatten()
    }

    /// Takes in what the `count` shards were found to be.
    pub(super) fn note(&self, shard: ShardId, count: usize, fitness: Fitness, server: Option<Arc<str>>) {
        let mut known = self.known();
        known.fitness.resize(count, Fitness::Unknown);
        known.servers.resize(count, None);
        if let Some(slot) = known.fitness.get_mut(shard.index()) {
            *slot = fitness;
        }
        if let Some(slot) = known.servers.get_mut(shard.index()) {
            *slot = server;
        }
    }

    /// Takes in which parts wait.
    pub(super) fn note_in_doubt(&self, parts: Vec<InDoubt>) {
        self.known().in_doubt = parts;
    }

    /// The parts that waited for a decision when the shards were last asked.
    #[must_use]
    pub fn in_doubt(&self) -> Vec<InDoubt> {
        self.known().in_doubt.clone()
    }

    /// Whoever committed a transaction here has done what it could: parts of it that are still prepared need no more time.
    pub fn let_go(&self, gid: &str) {
        let mut known = self.known();
        let now = clock::now();
        known.let_go.retain(|_, since| now.since(*since) < LET_GO_KEPT);
        if known.let_go.len() < LET_GO_MAX {
            known.let_go.insert(gid.to_owned(), now);
        }
    }

    /// Whether [`Self::let_go`] was said of it lately.
    pub(super) fn is_let_go(&self, gid: &str) -> bool {
        self.known().let_go.contains_key(gid)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at every shard again and again, and ends what was left behind, until `shutdown` is true.
pub async fn run(topology: Arc<Topology>, mut shutdown: watch::Receiver<bool>) {
    if topology.database().engine == Engine::Mysql {
        return mysql::two_phase::run(&topology, shutdown).await;
    }
    let mut sweeper = Sweeper::new(&topology);
    loop {
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return,
            () = sweeper.round() => {}
        }
        if tokio::time::timeout(PACE, shutdown.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}

/// Looks at every shard once, so that it is known who can take part.
pub async fn look(topology: &Topology) {
    if topology.database().engine == Engine::Mysql {
        return mysql::two_phase::look(topology).await;
    }
    Sweeper::new(topology).round().await;
}

/// Whether a database has transactions that span shards at all.
#[must_use]
pub fn is_wanted(topology: &Topology) -> bool {
    let database = topology.database();
    // Whatever the map says by now: what was prepared before has to be ended.
    database.shards.len() > 1
}

struct Sweeper<'a> {
    topology: &'a Topology,
    connections: Vec<Option<(NodeId, PgConnection)>>,
}

/// A part as its server tells of it.
struct Part {
    gid: String,
    owner: String,
    age: f64,
}

impl<'a> Sweeper<'a> {
    fn new(topology: &'a Topology) -> Self {
        Self { topology, connections: topology.database().shards.iter().map(|_| None).collect() }
    }

    async fn round(&mut self) {
        let mut found = Vec::new();
        for place in 0..self.connections.len() {
            let Ok(number) = u16::try_from(place) else { return };
            let shard = ShardId(number);
            match self.ask(shard).await {
                Ok((fitness, parts)) => {
                    self.topology.two_phase.note(shard, self.connections.len(), fitness.clone(), None);
                    found.extend(parts.into_iter().map(|part| (shard, fitness.clone(), part)));
                }
                // What was known of it holds, but for whether it is there.
                Err(error) => tracing::debug!(shard = number, %error, "not asked for prepared transactions"),
            }
        }
        let mut in_doubt = Vec::new();
        // A home that does not answer is asked once a round.
        let mut silent: Vec<String> = Vec::new();
        for (shard, fitness, part) in found {
            let name = Arc::clone(&self.topology.database().shard(shard).name);
            let trouble = self.sweep(shard, &fitness, &part, &mut silent).await.err();
            if let Some(trouble) = &trouble {
                tracing::warn!(shard = %name, gid = part.gid, trouble, "a prepared transaction stays");
            }
            in_doubt.push(InDoubt { shard: name, gid: part.gid, age: part.age, trouble });
        }
        self.topology.two_phase.note_in_doubt(in_doubt);
    }

    async fn ask(&mut self, shard: ShardId) -> Result<(Fitness, Vec<Part>), ControlError> {
        let node = self.topology.primary(shard).ok_or_else(|| no_primary(self.topology, shard))?;
        let Some(slot) = self.connections.get_mut(shard.index()) else { return Ok((Fitness::Unknown, Vec::new())) };
        let mut connection = match slot.take() {
            Some((at, connection)) if at == node => connection,
            _ => self.topology.connect(node, Purpose::TwoPhase).await?,
        };
        let found = ask(&mut connection).await?;
        *slot = Some((node, connection));
        Ok(found)
    }

    /// Ends a part whose coordinator has had time enough.
    async fn sweep(
        &self,
        shard: ShardId,
        fitness: &Fitness,
        part: &Part,
        silent: &mut Vec<String>,
    ) -> Result<(), String> {
        if part.age < AGE_MIN.as_secs_f64() && !self.topology.two_phase.is_let_go(&part.gid) {
            return Ok(());
        }
        let gid = Gid::read(&part.gid).ok_or("its name is not one that shardway gives")?;
        if !matches!(fitness, Fitness::Ready(cluster) if **cluster == *gid.cluster) {
            return Err("it belongs to another cluster".to_owned());
        }
        if silent.contains(&gid.home) {
            return Err(format!("its home \"{}\" does not answer", gid.home));
        }
        // What is so old may have been decided so long ago that the log does not know of it any more.
        let is_old = part.age > (txlog::KEPT / 2).as_secs_f64();
        let asked =
            if is_old { known(self.topology, &gid).await } else { resolve(self.topology, &gid).await.map(Some) };
        let decision = asked.map_err(|error| {
            silent.push(gid.home.clone());
            error.text
        })?;
        let decision =
            decision.ok_or("it is very old, and no log tells how it ended: compare the shards, and end it by hand")?;
        let ended = end(self.topology, shard, &part.gid, Some(&part.owner), decision);
        let ended = ended.await.map_err(|error| error.text)?;
        tracing::info!(gid = part.gid, ?decision, ?ended, "a transaction over several shards was left behind");
        Ok(())
    }
}

async fn ask(connection: &mut PgConnection) -> Result<(Fitness, Vec<Part>), ControlError> {
    let (prepared, set_up) =
        control::bounded(sqlx::query_as::<_, (i64, bool)>(STANDING).fetch_one(&mut *connection)).await?;
    let fitness = match (prepared, set_up) {
        (0, _) => return Ok((Fitness::NoPrepared, Vec::new())),
        (_, false) => Fitness::NotSetUp,
        (_, true) => {
            match control::bounded(sqlx::query_scalar::<_, String>(CLUSTER).fetch_optional(&mut *connection)).await? {
                Some(cluster) => Fitness::Ready(cluster.into()),
                None => Fitness::NotSetUp,
            }
        }
    };
    let parts = sqlx::query_as::<_, (String, String, f64)>(PARTS).bind(PREFIX).fetch_all(connection);
    let parts = control::bounded(parts).await?;
    Ok((fitness, parts.into_iter().map(|(gid, owner, age)| Part { gid, owner, age }).collect()))
}

/// How a transaction ended; if it has not, it is aborted by the asking. Waits for a home that is committing.
///
/// # Errors
/// The home cannot be asked, or has not made the answer durable: ask again.
pub async fn resolve(topology: &Topology, gid: &Gid) -> Result<Decision, ControlError> {
    let mut connection = home_of(topology, gid).await?;
    let asked = sqlx::query_scalar::<_, String>(RESOLVE).bind(gid.to_string()).fetch_one(&mut connection);
    Decision::read(&control::bounded(asked).await?)
}

/// How a transaction ended, as far as its home's log knows.
async fn known(topology: &Topology, gid: &Gid) -> Result<Option<Decision>, ControlError> {
    let mut connection = home_of(topology, gid).await?;
    let asked = sqlx::query_scalar::<_, String>(KNOWN).bind(gid.to_string()).fetch_optional(&mut connection);
    control::bounded(asked).await?.map(|it| Decision::read(&it)).transpose()
}

/// A connection to the server that has the decision.
async fn home_of(topology: &Topology, gid: &Gid) -> Result<PgConnection, ControlError> {
    let shards = &topology.database().shards;
    let home = (0_u16..).zip(shards).find(|(_, shard)| *shard.name == *gid.home).map(|(place, _)| ShardId(place));
    let home = home.ok_or_else(|| failure(format!("its home \"{}\" is no shard of the map", gid.home)))?;
    let mut connection = durable(topology, home).await?;
    // Another server's log would tell of nothing, and have everything aborted.
    let system = control::bounded(sqlx::query_scalar::<_, i64>(SYSTEM).fetch_one(&mut connection)).await?;
    if system.cast_unsigned() != gid.system {
        return Err(failure(format!("shard \"{}\" is not the server that was its home", gid.home)));
    }
    Ok(connection)
}

/// Ends a part as it was decided. `owner`: the role that prepared it, where that is known.
///
/// # Errors
/// It could not be ended now: try again.
pub async fn end(
    topology: &Topology,
    shard: ShardId,
    gid: &str,
    owner: Option<&str>,
    decision: Decision,
) -> Result<Ended, ControlError> {
    let mut connection = durable(topology, shard).await?;
    let owner = match owner {
        Some(owner) => Some(owner.to_owned()),
        None => {
            control::bounded(sqlx::query_scalar::<_, String>(OWNER).bind(gid).fetch_optional(&mut connection)).await?
        }
    };
    // Only its own role may end it, or a superuser.
    let Some(owner) = owner else { return Ok(Ended::NotThere) };
    // A role that is gone has left it to superusers.
    if !owner.is_empty() {
        let role = format!("set role {}", quoted(&owner, '"'));
        control::bounded(sqlx::raw_sql(AssertSqlSafe(role)).execute(&mut connection)).await?;
    }
    let word = match decision {
        Decision::Commit => "commit",
        Decision::Abort => "rollback",
    };
    let said = format!("{word} prepared {}", quoted(gid, '\''));
    match control::bounded(sqlx::raw_sql(AssertSqlSafe(said)).execute(&mut connection)).await {
        Ok(_) => Ok(Ended::Now),
        Err(error) if error.sqlstate.as_deref() == Some("42704") => Ok(Ended::NotThere),
        Err(error) => Err(error),
    }
}

/// Whether a shard's transaction committed, where its server can tell on the timeline that handed out its number.
///
/// # Errors
/// The shard cannot be asked now.
pub async fn has_committed(
    topology: &Topology,
    shard: ShardId,
    xid: u64,
    timeline: u32,
) -> Result<Option<bool>, ControlError> {
    let mut connection = durable(topology, shard).await?;
    let asked = sqlx::query_as::<_, (Option<String>, String)>(STATUS).bind(xid.to_string()).fetch_one(&mut connection);
    let (status, now) = control::bounded(asked).await?;
    // Numbers are handed out again after a failover.
    if u32::from_str_radix(&now, 16) != Ok(timeline) {
        return Ok(None);
    }
    Ok(match status.as_deref() {
        Some("committed") => Some(true),
        Some("aborted") => Some(false),
        _ => None,
    })
}

/// A connection to the shard's primary on which what is acknowledged is as durable as the server makes it, and which
/// waits no longer for locks than usual, but never gives up a commit halfway.
async fn durable(topology: &Topology, shard: ShardId) -> Result<PgConnection, ControlError> {
    let node = topology.primary(shard).ok_or_else(|| no_primary(topology, shard))?;
    let mut connection = topology.connect(node, Purpose::TwoPhase).await?;
    control::bounded(sqlx::query(DURABLE).execute(&mut connection)).await?;
    Ok(connection)
}

/// Makes a shard of `database` able to take part. `cluster` is the id that it gets if it has none; the id that it has.
///
/// # Errors
/// In the server's own words.
pub async fn set_up(connection: &mut PgConnection, cluster: &str) -> Result<String, ControlError> {
    // Whoever owns what stands there already could have it do anything in our name.
    let foreign = control::bounded(sqlx::query_scalar::<_, bool>(FOREIGN).fetch_one(&mut *connection)).await?;
    if foreign {
        return Err(failure("something in schema shardway belongs to a role that is not this one".to_owned()));
    }
    // IF NOT EXISTS asks for the right to create even where nothing is to be created.
    if !control::bounded(sqlx::query_scalar::<_, bool>(HAS_SCHEMA).fetch_one(&mut *connection)).await? {
        control::bounded(sqlx::raw_sql(SCHEMA).execute(&mut *connection)).await?;
    }
    control::bounded(sqlx::raw_sql(SETUP).execute(&mut *connection)).await?;
    let known = sqlx::query_scalar::<_, String>(CLUSTER).fetch_optional(&mut *connection);
    if let Some(known) = control::bounded(known).await? {
        return Ok(known);
    }
    control::bounded(sqlx::query(JOIN).bind(cluster).execute(connection)).await?;
    Ok(cluster.to_owned())
}

/// The roles among these whose parts the connection's own role could not end.
///
/// # Errors
/// In the server's own words.
pub async fn not_member_of(connection: &mut PgConnection, logins: &[String]) -> Result<Vec<String>, ControlError> {
    control::bounded(sqlx::query_scalar::<_, String>(STRANGERS).bind(logins).fetch_all(connection)).await
}

/// The cluster that a shard belongs to, if it was ever set up.
///
/// # Errors
/// In the server's own words.
pub async fn cluster_of(connection: &mut PgConnection) -> Result<Option<String>, ControlError> {
    let (_, set_up) = control::bounded(sqlx::query_as::<_, (i64, bool)>(STANDING).fetch_one(&mut *connection)).await?;
    if !set_up {
        return Ok(None);
    }
    control::bounded(sqlx::query_scalar::<_, String>(CLUSTER).fetch_optional(connection)).await
}

fn quoted(text: &str, quote: char) -> String {
    let doubled = text.replace(quote, &format!("{quote}{quote}"));
    format!("{quote}{doubled}{quote}")
}

pub(super) fn no_primary(topology: &Topology, shard: ShardId) -> ControlError {
    failure(format!("shard \"{}\" has no reachable primary", topology.database().shard(shard).name))
}

pub(super) fn failure(text: String) -> ControlError {
    ControlError { heard: Heard::Failure, text, sqlstate: None }
}

/// How often shards are asked.
pub(super) const PACE: Duration = Duration::from_secs(1);
/// Younger parts are left to their coordinator. Ending them sooner would be safe, and would abort what is under way.
pub(super) const AGE_MIN: Duration = Duration::from_secs(5);
/// How long it is remembered that a coordinator is through with a transaction: a server that is away may show a part of it later.
const LET_GO_KEPT: Duration = Duration::from_secs(600);
/// How many of them are remembered; the parts of others wait for [`AGE_MIN`].
const LET_GO_MAX: usize = 4096;

const STANDING: &str = "
select current_setting('max_prepared_transactions')::int8,
       to_regclass('shardway.cluster') is not null and to_regclass('shardway.txlog') is not null
       and to_regprocedure('shardway.decide(text, text, xid8, text)') is not null";

const FOREIGN: &str = "
select exists (
    select from (select nspowner from pg_catalog.pg_namespace where nspname = 'shardway'
                 union all select relowner from pg_catalog.pg_class where relnamespace = to_regnamespace('shardway')
                 union all select proowner from pg_catalog.pg_proc where pronamespace = to_regnamespace('shardway')) o (owner)
     where owner <> (select oid from pg_catalog.pg_roles where rolname = current_user)
       and not (select rolsuper from pg_catalog.pg_roles r where r.oid = owner))";

const STRANGERS: &str = "
select login from unnest($1::text[]) as login
 where exists (select from pg_catalog.pg_roles where rolname = login) and not pg_has_role(current_user, login, 'member')";

const HAS_SCHEMA: &str = "select to_regnamespace('shardway') is not null";

const CLUSTER: &str = "select id from shardway.cluster order by id limit 1";

const JOIN: &str = "insert into shardway.cluster (id) values ($1)";

const PARTS: &str = "
select gid, coalesce(owner::text, ''), extract(epoch from clock_timestamp() - prepared)::float8
  from pg_catalog.pg_prepared_xacts
 where starts_with(gid, $1) and database = current_database()";

const OWNER: &str = "
select coalesce(owner::text, '') from pg_catalog.pg_prepared_xacts where gid = $1 and database = current_database()";

const KNOWN: &str = "select decision from shardway.txlog where gid = $1";

// DO UPDATE rather than DO NOTHING: it writes, and so waits for what durability asks for.
const RESOLVE: &str = "
insert into shardway.txlog as t (gid, decision) values ($1, 'abort')
on conflict (gid) do update set at = t.at returning decision";

const SYSTEM: &str = "select system_identifier from pg_catalog.pg_control_system()";

const STATUS: &str = "
select pg_xact_status($1::text::xid8), substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)";

// A statement that ran into a timeout while it waits for replicas would be acknowledged all the same, with a warning.
const DURABLE: &str = "
select set_config('statement_timeout', '0', false), set_config('default_transaction_read_only', 'off', false),
       set_config('synchronous_commit',
                  case when current_setting('synchronous_commit') in ('off', 'local', 'remote_write') then 'on'
                       else current_setting('synchronous_commit') end, false)";
