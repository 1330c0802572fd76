//! A valid map → its databases, live: monitors run, schemas are read, placement is what the shards recorded.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::backend::connection::login;
use crate::clock;
use crate::exec::Deployment;
use crate::exec::Service;
use crate::exec::gate::Gate;
use crate::session::cancel::Cancels;
use crate::session::mysql::kill::Kills;
use crate::shard_map::Engine;
use crate::shard_map::ShardMap;
use crate::shard_map::diff;
use crate::tasks;
use crate::topology::Fence;
use crate::topology::SchemaHandle;
use crate::topology::Topology;
use crate::topology::control;
use crate::topology::deadlock;
use crate::topology::lead;
use crate::topology::lead::mandate::Mandate;
use crate::topology::placement;
use crate::topology::placement::PlacementError;
use crate::topology::two_phase;
use crate::topology::txlog;

/// The databases of a deployment by name.
pub(super) type Services = BTreeMap<Arc<str>, Arc<Service>>;

/// How long nodes may take to be heard, beyond the time to connect.
const HEARD: Duration = Duration::from_secs(2);

/// How long the replicas' freshness may take to be known; a replica that is far behind takes longer.
const MEASURED: Duration = Duration::from_millis(500);

/// How long a start waits for a shard of which no server answers.
const START_MAX: Duration = Duration::from_secs(10);
/// How often it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Rounds of taking in what shards recorded.
const ROUNDS_MAX: usize = 64;

/// What databases need of the process around them.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// Sessions of Postgres that can be cancelled.
    pub cancels: &'a Arc<Cancels>,
    /// Sessions of MySQL that can be killed.
    pub kills: &'a Arc<Kills>,
    /// The connections to their servers.
    pub fence: &'a Arc<dyn Fence>,
    /// Whether this process is the one that leads failovers: another may be about to take over, or not to have done so yet.
    pub leads: &'a watch::Receiver<bool>,
    /// Whether it may, of all that share a map.
    pub mandate: &'a Arc<Mandate>,
}

/// Makes the databases of `map` live. What did not change since `before` goes on as it is.
///
/// # Errors
/// Why the map cannot be served, for people.
pub(super) async fn start(
    map: &ShardMap,
    before: Option<&Deployment>,
    around: Around<'_>,
) -> Result<(ShardMap, Services), String> {
    let mut map = map.clone();
    let names: Vec<Arc<str>> = map.databases.keys().cloned().collect();
    let mut settled: BTreeMap<Arc<str>, Arc<Topology>> = BTreeMap::new();
    for name in &names {
        let (taken, topology) = settle_placement(map, name, before, around).await?;
        map = taken;
        settled.extend(topology.map(|it| (Arc::clone(name), it)));
    }
    let mut services = Services::new();
    for (name, database) in &map.databases {
        let former = before.and_then(|deployment| deployment.services.get(name));
        if let Some(former) = former
            && former.database == *database
        {
            services.insert(Arc::clone(name), Arc::clone(former));
            continue;
        }
        let tls = login::tls(&database.tls).map_err(|error| format!("databases.{name}.tls: {error}"))?;
        let login = control::login(&map, database)
            .ok_or_else(|| format!("nobody may log in to database \"{name}\": give it `control:` or a user"))?;
        // The monitors that placement was settled with go on.
        let past = settled.get(name).or_else(|| former.map(|it| &it.topology)).map(Arc::as_ref);
        let topology = Topology::after(past, Arc::clone(database), login.clone(), &map.timeouts);
        topology.fence_by(around.fence);
        let ended = watch::Sender::new(false);
        tasks::shared("topology", Arc::clone(&topology).run(ended.subscribe()));
        let deadline = clock::now().plus(map.timeouts.connect + HEARD);
        if !topology.heard(deadline).await {
            tracing::warn!(database = %name, "not every node has answered yet");
        }
        if database.failover.lead && database.engine == Engine::Postgres {
            let mandate = Arc::clone(around.mandate);
            let led = lead::run(Arc::clone(&topology), mandate, ended.subscribe(), around.leads.clone());
            tasks::shared("lead", led);
        }
        if two_phase::is_wanted(&topology) {
            // Or the first transaction over several shards would be refused.
            if tokio::time::timeout(map.timeouts.connect + HEARD, two_phase::look(&topology)).await.is_err() {
                tracing::warn!(database = %name, "not every shard has told whether it can prepare transactions");
            }
            tasks::shared("two-phase", two_phase::run(Arc::clone(&topology), ended.subscribe()));
            if database.engine == Engine::Postgres {
                tasks::shared("txlog", txlog::run(Arc::clone(&topology), ended.subscribe()));
            }
            let sessions: Arc<dyn deadlock::Sessions> = match database.engine {
                Engine::Postgres => Arc::<Cancels>::clone(around.cancels),
                Engine::Mysql => Arc::<Kills>::clone(around.kills),
            };
            tasks::shared("deadlock", deadlock::run(Arc::clone(&topology), sessions, ended.subscribe()));
        }
        let schema = SchemaHandle::after(former.map(|it| &*it.schema), Arc::clone(&topology));
        tasks::shared("schema", Arc::clone(&schema).run(ended.subscribe()));
        if !schema.ready(deadline.plus(HEARD)).await {
            tracing::warn!(database = %name, "the schema cannot be read yet; statements wait for it");
        }
        // Or the first reads under this map would all go to the primaries.
        topology.measured(clock::now().plus(MEASURED)).await;
        let service = Service { database: Arc::clone(database), topology, schema, tls, gate: Gate::default(), ended };
        services.insert(Arc::clone(name), Arc::new(service));
    }
    Ok((map, services))
}

/// Compares where the map says that rows are with what the shards recorded; groups without a placement of their own take
/// the recorded one.
async fn settle_placement(
    map: ShardMap,
    name: &str,
    before: Option<&Deployment>,
    around: Around<'_>,
) -> Result<(ShardMap, Option<Arc<Topology>>), String> {
    let mut map = map;
    let mut settled: Option<Arc<Topology>> = None;
    for _ in 0..ROUNDS_MAX {
        let Some(database) = map.databases.get(name).cloned() else { return Ok((map, settled)) };
        let unchanged = before
            .and_then(|deployment| deployment.services.get(name))
            .is_some_and(|former| former.database == database);
        if unchanged {
            return Ok((map, settled));
        }
        let login = control::login(&map, &database)
            .ok_or_else(|| format!("nobody may log in to database \"{name}\": give it `control:` or a user"))?;
        let stopping = watch::channel(false);
        let former = before.and_then(|deployment| deployment.services.get(name));
        let past = settled.as_ref().or_else(|| former.map(|it| &it.topology)).map(Arc::as_ref);
        let topology = Topology::after(past, Arc::clone(&database), login, &map.timeouts);
        topology.fence_by(around.fence);
        tasks::shared("topology", Arc::clone(&topology).run(stopping.1));
        settled = Some(Arc::clone(&topology));
        topology.heard(clock::now().plus(map.timeouts.connect + HEARD)).await;
        let fingerprints = diff::records(&database);
        match reconcile(&topology, &fingerprints, before.is_none()).await {
            Ok(recorded) => {
                for it in recorded {
                    tracing::info!(database = name, shard = %it.shard, group = %it.group, "placement recorded");
                }
                return Ok((map, settled));
            }
            Err(PlacementError::Differs(differences)) => {
                let refused = || {
                    let error = PlacementError::Differs(differences.clone());
                    format!("{error}\n{}", error.hint())
                };
                let mut moved = false;
                let mut added: Vec<(Arc<str>, String)> = Vec::new();
                for difference in &differences {
                    if difference.now.is_none() {
                        return Err(refused());
                    }
                    let taken = map
                        .with_recorded(name, &difference.group, &difference.recorded)
                        .map_err(|refusal| refusal.to_string())?;
                    moved |= taken.fingerprint(name, &difference.group) != map.fingerprint(name, &difference.group);
                    map = taken;
                    added.push((
                        Arc::clone(&difference.group),
                        map.fingerprint(name, &difference.group).unwrap_or_default(),
                    ));
                }
                if !moved {
                    // What differs was added since, and moves no row: the record is brought up to date.
                    placement::record(&topology, &added).await.map_err(|error| format!("{error}\n{}", error.hint()))?;
                }
            }
            Err(error) => return Err(format!("{error}\n{}", error.hint())),
        }
    }
    Err("the shards' records of placement do not settle".to_owned())
}

/// [`placement::reconcile`]; at a start, servers that do not answer yet are waited for: they may be starting, too.
async fn reconcile(
    topology: &Topology,
    fingerprints: &[(Arc<str>, String)],
    starts: bool,
) -> Result<Vec<placement::Recorded>, PlacementError> {
    let deadline = clock::now().plus(if starts { START_MAX } else { Duration::ZERO });
    let mut told = false;
    loop {
        match placement::reconcile(topology, fingerprints).await {
            Err(error @ PlacementError::Unreachable { .. }) if clock::now() < deadline => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "waiting for the shard's servers, {START_MAX:?} at most");
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            done => return done,
        }
    }
}

/// Host, port and database of every pool that may be kept.
pub(super) fn pool_keys(services: &Services) -> BTreeSet<(Arc<str>, u16, Arc<str>)> {
    services
        .values()
        .flat_map(|service| {
            let database = Arc::clone(&service.database.server_name);
            service
                .database
                .nodes()
                .map(move |(_, node)| (Arc::clone(&node.host), node.port, Arc::clone(&database)))
                .collect::<Vec<_>>()
        })
        .collect()
}
