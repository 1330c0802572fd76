//! The record of placements on MySQL servers: read, compared and added to where `check --connect --prepare` has made its table.
//!
//! The proxy makes no table by itself here: without rights of its own on a database `shardway`, it could not tell whether
//! another proxy has. A server without that table is served as the map says.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::Topology;
use super::super::control::ControlError;
use super::super::placement::Difference;
use super::super::placement::PlacementError;
use super::super::placement::Recorded;
use super::super::placement::differences;
use super::Connection;
use super::own;
use super::reader::literal;
use crate::ident::ShardId;

type Fingerprints = [(Arc<str>, String)];

/// Compares, and records what is new. Nothing is recorded when anything differs.
pub(in super::super) async fn reconcile(
    topology: &Topology,
    fingerprints: &Fingerprints,
) -> Result<Vec<Recorded>, PlacementError> {
    let database = topology.database();
    let mut keepers = Vec::new();
    let mut unasked = None;
    let mut found: Vec<Difference> = Vec::new();
    for (place, shard) in (0_u16..).zip(&database.shards) {
        match read(topology, ShardId(place)).await {
            Ok(Some((connection, recorded))) => {
                found.extend(differences(&shard.name, &recorded, fingerprints));
                keepers.push((ShardId(place), connection, recorded));
            }
            Ok(None) => {}
            Err(why) => unasked = Some(PlacementError::Unreachable { shard: Arc::clone(&shard.name), why }),
        }
    }
    if !found.is_empty() {
        return Err(PlacementError::Differs(found));
    }
    // Where records are kept, all are heard before anything is served.
    if let (Some(unasked), false) = (unasked, keepers.is_empty()) {
        return Err(unasked);
    }
    let mut new = Vec::new();
    for (shard, connection, recorded) in &mut keepers {
        let missing: Vec<_> = fingerprints.iter().filter(|(group, _)| !recorded.contains_key(&**group)).collect();
        // Only a primary can be told.
        if missing.is_empty() || topology.primary(*shard).is_none() {
            continue;
        }
        let name = &database.shard(*shard).name;
        let failed = |error: ControlError| PlacementError::Unreachable { shard: Arc::clone(name), why: error.text };
        for (group, fingerprint) in missing {
            let row = [&*database.name, group, fingerprint].map(literal).join(", ");
            connection.ask(&format!("{} ({row})", own::RECORD)).await.map_err(failed)?;
            new.push(Recorded { shard: Arc::clone(name), group: Arc::clone(group) });
        }
        // Another proxy may have been first, with another map.
        let recorded = recorded_by(connection, &database.name).await.map_err(failed)?;
        found.extend(differences(name, &recorded, fingerprints));
    }
    if found.is_empty() { Ok(new) } else { Err(PlacementError::Differs(found)) }
}

/// Brings the record up to date, of changes that move no row.
pub(in super::super) async fn record(topology: &Topology, fingerprints: &Fingerprints) -> Result<(), PlacementError> {
    let database = topology.database();
    for (place, shard) in (0_u16..).zip(&database.shards) {
        let unreachable = |why: String| PlacementError::Unreachable { shard: Arc::clone(&shard.name), why };
        let Some((mut connection, _)) = read(topology, ShardId(place)).await.map_err(unreachable)? else { continue };
        if topology.primary(ShardId(place)).is_none() {
            return Err(PlacementError::NoPrimary(Arc::clone(&shard.name)));
        }
        for (group, fingerprint) in fingerprints {
            let [database, group, fingerprint] = [&*database.name, group, fingerprint].map(literal);
            let update = format!(
                "UPDATE shardway.placement SET fingerprint = {fingerprint}, recorded = current_timestamp(6) WHERE db = \
                 {database} AND grp = {group}"
            );
            connection.ask(&update).await.map_err(|error| unreachable(error.text))?;
        }
    }
    Ok(())
}

/// A shard's record and the connection to it; `None`: it keeps none, or this user may not see it.
async fn read(topology: &Topology, shard: ShardId) -> Result<Option<(Connection, BTreeMap<String, String>)>, String> {
    let node = topology.any(shard).ok_or_else(|| "no server can be reached".to_owned())?;
    let control = topology.shard(shard).control();
    let mut connection = Connection::open(control, topology.node(node).node()).await.map_err(|error| error.text)?;
    match recorded_by(&mut connection, &topology.database().name).await {
        Ok(recorded) => Ok(Some((connection, recorded))),
        Err(error) if error.sqlstate.as_deref().is_some_and(|it| NOT_KEPT.contains(&it)) => Ok(None),
        Err(error) => Err(error.text),
    }
}

/// The record of a database on a shard; nothing where none is kept, or this user may not see it.
pub(super) async fn kept(
    connection: &mut Connection,
    database: &str,
) -> Result<BTreeMap<String, String>, ControlError> {
    match recorded_by(connection, database).await {
        Err(error) if error.sqlstate.as_deref().is_some_and(|it| NOT_KEPT.contains(&it)) => Ok(BTreeMap::new()),
        other => other,
    }
}

async fn recorded_by(connection: &mut Connection, database: &str) -> Result<BTreeMap<String, String>, ControlError> {
    let rows = connection.ask(&format!("{} {}", own::RECORDED, literal(database))).await?;
    let pair = |row: Vec<Option<String>>| match <[Option<String>; 2]>::try_from(row) {
        Ok([Some(group), Some(fingerprint)]) => Some((group, fingerprint)),
        _ => None,
    };
    Ok(rows.into_iter().filter_map(pair).collect())
}

/// There is no such table; there is no such database, or it is not for this user.
const NOT_KEPT: [&str; 2] = ["42S02", "42000"];
